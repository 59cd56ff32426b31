"""What a learner has solved so far, and a record of it: one HTML file that needs no network."""

import datetime
import html
import importlib.metadata
from pathlib import Path
from typing import NamedTuple

from IPython.display import display

from .. import course, settings
from ..errors import WorkbookError
from ..files import atomic_path
from . import report

PAGE = """<!DOCTYPE html>
<html lang="{language}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ max-width: 44rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; }}
body {{ font: 1rem/1.5 system-ui, sans-serif; }}
table {{ border-collapse: collapse; }}
th, td {{ padding: 4px 12px; border-bottom: 1px solid #767676; text-align: left; }}
</style>
</head>
<body>
<h1>{title}</h1>
<p>{lead}</p>
{table}
<h2>{head}</h2>
<ul>{solved}</ul>
<p>{end}</p>
</body>
</html>
"""


NAMES = ("notebook", "exercises passed", "quiz, answers right", "minutes of exercises")


class Chapter(NamedTuple):
    """What was done of one notebook: exercises by number, the quiz, minutes of what was passed."""

    number: str
    title: str
    file: str
    passed: list[str]
    exercises: dict[str, int]
    quiz: str

    @property
    def minutes(self) -> int:
        """The minutes that the passed exercises are said to take."""
        return sum(self.exercises[number] for number in self.passed)


def chapters() -> list[Chapter]:
    """Return what was done of each notebook that has exercises."""
    done, quizzes, result = report.progress(), report.quiz_results(), []
    for one in course.CHAPTERS:
        exercises = course.exercise_minutes(one.notebook) if one.notebook else {}
        passed = [number for number in exercises if done.get(number) == "passed"]
        if exercises:
            quiz = quizzes.get(one.number, "–")
            result.append(
                Chapter(one.number, one.title, one.notebook.name, passed, exercises, quiz)
            )
    return result


def summary(found: list[Chapter]) -> str:
    """Return one sentence: exercises passed, quizzes answered, minutes."""
    passed, exercises = (
        sum(map(len, part)) for part in zip(*((c.passed, c.exercises) for c in found), strict=True)
    )
    answered = sum(chapter.quiz != "–" for chapter in found)
    minutes = sum(chapter.minutes for chapter in found)
    whole = sum(sum(chapter.exercises.values()) for chapter in found)
    return report.say(
        "{passed} of {exercises} exercises passed, {answered} of {quizzes} quizzes answered, "
        "{minutes} of the {whole} minutes that the exercises are said to take",
        passed=passed, exercises=exercises, answered=answered, quizzes=len(found),
        minutes=minutes, whole=whole,
    )  # fmt: skip


def table() -> None:
    """Display a row a notebook, with a link to it: exercises passed, the quiz, minutes."""
    found = chapters()
    head = summary(found)
    plain = "\n".join([head, *("  ".join(_cells(chapter)) for chapter in found)])
    display({"text/markdown": f"{head}\n\n{_linked(found)}", "text/plain": plain}, raw=True)


def _linked(found: list[Chapter]) -> str:
    """Return the table as Markdown, whose links the site and the slides know how to treat."""
    rows = [(f"[{name}]({c.file})", *rest) for c in found for name, *rest in [_cells(c)]]
    lines = (
        f"| {' | '.join(cells)} |"
        for cells in (map(report.say, NAMES), [":---"] * len(NAMES), *rows)
    )
    return "\n".join(lines)


def _cells(chapter: Chapter) -> tuple[str, ...]:
    passed = _share(len(chapter.passed), len(chapter.exercises))
    minutes = _share(chapter.minutes, sum(chapter.exercises.values()))
    quiz = _share(*chapter.quiz.split(" of ")) if " of " in chapter.quiz else chapter.quiz
    return f"{chapter.number} {report.say(chapter.title)}", passed, quiz, minutes


def _share(part, whole) -> str:
    return report.say("{part} of {whole}", part=part, whole=whole)


def _table(found: list[Chapter]) -> str:
    head = "".join(f"<th>{report.say(name)}</th>" for name in NAMES)
    rows = ("".join(f"<td>{html.escape(c)}</td>" for c in _cells(one)) for one in found)
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"


def write_record(name: str, path: Path | None = None) -> Path:
    """Write what `name` has solved as one HTML file, by default my/completion.html; return it.

    Raises WorkbookError without a name, and while no exercise is passed.
    """
    found = chapters()
    if not name.strip():
        raise WorkbookError("Write your name, in quotation marks: it stands on the record.")
    if not any(chapter.passed for chapter in found):
        raise WorkbookError("No exercise is passed yet: solve one, run its check, then try again.")
    path = path or settings.repo_root() / "my" / "completion.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as draft:
        draft.write_text(_page(name, found), encoding="utf-8")
    return path


def _page(name: str, found: list[Chapter]) -> str:
    titles = {number: report.told(title) for number, title in report.titles().items()}
    passed = [number for chapter in found for number in chapter.passed]
    return PAGE.format(
        language=settings.language(),
        title=report.say("What I worked through"),
        lead=_lead(f"<b>{html.escape(name.strip())}</b>", found),
        table=_table(found),
        head=report.say("Exercises whose check was passed"),
        solved="".join(f"<li>{number} {html.escape(titles[number])}</li>" for number in passed),
        end=report.say(
            "This is no certificate. It repeats what the checks of the course noted on one "
            "machine, in a file that its owner can change; nobody watched, and nobody graded it."
        ),
    )


def _lead(name: str, found: list[Chapter]) -> str:
    return report.say(
        "{name} worked through the Instruction Fine-Tuning Workbook, version {version}. "
        "State of {date}: {summary}.",
        name=name,
        version=importlib.metadata.version("workbook"),
        date=datetime.date.today().isoformat(),
        summary=summary(found),
    )
