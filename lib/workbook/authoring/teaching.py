"""What is made in docs/teaching.md, minutes and plans, and in docs/check_messages.md."""

import ast
import math
import re
from pathlib import Path
from typing import NamedTuple

import yaml

from .. import course, measurements, settings
from ..errors import WorkbookError
from . import build
from .sources import sources

CHECKS = Path(__file__).parents[1] / "checks"
HEADER = re.compile(
    r"\*\*Minutes:?\*\*:? (\d+) to study \(of which (\d+) on exercises\), (\d+)\s+as a\s+talk"
)
MARKED = re.compile(r"(<!-- (\w+):start -->\n).*?(<!-- \2:end -->)", re.DOTALL)
# In a message, for what is known when it is shown.
VALUE = re.compile(r"(?<!\{)\{\w+[^{}]*\}(?!\})")
FOR_READERS = ("What we measured", "Further reading")
EXERCISE = re.compile(r"#{2,3} +Exercise")
HEADING = re.compile(r"^#{1,3} +(?!Exercise)(.+)$", re.MULTILINE)


class Minutes(NamedTuple):
    """What a notebook takes: to study, of which on exercises, as a talk; computing, or None."""

    study: int
    exercises: int
    talk: int
    computing: float | None


class Part(NamedTuple):
    """A notebook, as a whole, by the named sections alone, or without some."""

    number: str
    names: tuple[str, ...] = ()
    without: tuple[str, ...] = ()


class Session(NamedTuple):
    """One meeting: parts of notebooks, exercises done in class, notebooks studied afterwards."""

    name: str
    parts: tuple[Part, ...]
    exercises: tuple[str, ...] = ()
    reading: tuple[str, ...] = ()


TWO_HOURS = (
    Session(
        "Ask",
        (
            Part("00", ("A first hello",)),
            Part(
                "01",
                (
                    "01 In-context learning",
                    "Zero-shot, one-shot, few-shot",
                    "Accuracy against shots",
                ),
            ),
        ),
    ),
    Session(
        "Train and test",
        (
            Part(
                "03",
                (
                    "03 Single-task tuning",
                    "The task and the three splits",
                    "The loss is about a distribution over tokens",
                    "The loop, first in words",
                    "Your run",
                    "The final test, once",
                    "How many examples?",
                ),
            ),
        ),
        exercises=("3.2",),
    ),
    Session(
        "What it costs",
        (
            Part(
                "04",
                (
                    "04 Catastrophic forgetting",
                    "A panel of abilities",
                    "What fell, over several runs",
                    "Read the answers",
                ),
            ),
        ),
    ),
    Session(
        "Fewer weights",
        (Part("07", ("07 LoRA", "LoRA: learn the few ranks alone", "The test")),),
    ),
)
ONE_DAY = (
    Session("Morning: ask", (Part("00"), Part("01"))),
    Session("Before lunch: train", (Part("03"),), exercises=("3.2", "3.4")),
    Session(
        "After lunch: forget",
        (Part("04", without=("A sequence of tasks",)),),
        exercises=("4.2",),
    ),
    Session(
        "Afternoon: fewer weights",
        (Part("07", without=("Variants, one option each",)),),
        exercises=("7.3",),
    ),
)
WEEKLY = (
    Session("Week 1", (Part("00"), Part("01"))),
    Session("Week 2", (Part("02"),)),
    Session("Week 3", (Part("03"),)),
    Session("Week 4", (Part("04"),)),
    Session("Week 5", (Part("05"),)),
    Session("Week 6", (Part("06"),)),
    Session("Week 7", (Part("07"),), reading=("08",)),
    Session("Week 8", (Part("11"),), reading=("12",)),
)
PLANS = {"two-hours": TWO_HOURS, "one-day": ONE_DAY, "weekly": WEEKLY}


def pages() -> list[Path]:
    """Return the instructor's guide and the list of what the checks say."""
    return [settings.repo_root() / "docs" / f"{name}.md" for name in ("teaching", "check_messages")]


def refresh() -> None:
    """Write the present numbers and messages between the marks of these pages."""
    for page in pages():
        old = page.read_text(encoding="utf-8")
        new = MARKED.sub(lambda match: f"{match[1]}\n{PARTS[match[2]]()}\n{match[3]}", old)
        build.write_text(page, new)


# ------------------------------------------------------------------------------------- minutes


def minutes(number: str) -> Minutes:
    """Return the minutes of a notebook: of its header, and of a first run as measured."""
    [source] = sources([number])
    found = HEADER.search(" ".join(source.read_text("utf-8").replace("\n# ", " ").split()))
    if not found:
        raise WorkbookError(f"{source.name} does not say its minutes in its header: add them.")
    costs = [run["cost"] for run in measurements.read(number)["runs"].values() if run["cost"]]
    computing = max((cost["minutes"] for cost in costs), default=None)
    return Minutes(*map(int, found.groups()), computing)


def sections(number: str) -> dict[str, float]:
    """Return the sections of a notebook with their minutes as a talk."""
    found: dict[str, float] = {}
    for name, cell in _in_sections(number):
        found[name] = found.get(name, 0) + build.own(cell).get("minutes", 0)
    return found


def untold(number: str) -> set[int]:
    """Return which cells of a notebook, counted from 1, end its page and are no part of its talk.

    They are in sections for readers, unless the source gives these minutes in the talk.
    """
    told = sections(number)
    cells = enumerate(_in_sections(number), 1)
    return {place for place, (name, _) in cells if name in FOR_READERS and not told[name]}


def _in_sections(number: str) -> list[tuple]:
    """Return the cells of a notebook, each after the name of its section."""
    [source] = sources([number])
    found, name = [], ""
    for cell in build.make(source, "solved").cells:
        if cell.cell_type == "markdown" and (heading := HEADING.match(cell.source)):
            name = heading[1]
        found.append((name, cell))
    return found


def exercise_minutes(number: str) -> int:
    """Return the minutes of an exercise, such as "3.2"; raises WorkbookError for an unknown one."""
    [source] = sources([number.partition(".")[0]])
    known = course.exercise_minutes(build.output_path(source, "learner"))
    if number not in known:
        message = "mend the plans in authoring/teaching.py."
        raise WorkbookError(f"There is no exercise {number}: {message}")
    return known[number]


def shown(part: Part) -> dict[str, float]:
    """Return the sections of a notebook that a part of a plan shows, with their minutes.

    Raises WorkbookError where one that it names does not exist.
    """
    known = sections(part.number)
    for name in (*part.names, *part.without):
        if name not in known:
            message = f"notebook {part.number} has no section {name!r}"
            raise WorkbookError(f"A plan in authoring/teaching.py is out of date: {message}.")
    return {name: known[name] for name in part.names or known if name not in part.without}


def talk_minutes(session: Session) -> float:
    """Return what a session takes in class: its slides and the exercises done there."""
    slides = sum(sum(shown(part).values()) for part in session.parts)
    return slides + sum(map(exercise_minutes, session.exercises))


def _minutes_table() -> str:
    head = "| | notebook | to study | of which exercises | as a talk | computing, first run |"
    rows = [head, "|:---|:---|---:|---:|---:|---:|"]
    for chapter in course.CHAPTERS:
        if chapter.notebook:
            one = minutes(chapter.number)
            cost = "–" if one.computing is None else f"{one.computing:.1f}"
            link = f"[{chapter.title}](../notebooks/{chapter.notebook.name})"
            [source] = sources([chapter.number])
            talk = one.talk if build.is_executed(source) else "–"
            cells = (chapter.number, link, one.study, one.exercises, talk, cost)
            rows.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(rows) + "\n"


# --------------------------------------------------------------------------------------- plans


def _plan(name: str) -> str:
    rows = ["| session | in class | minutes | at home |", "|:---|:---|---:|:---|"]
    for session in PLANS[name]:
        cells = (session.name, _in_class(session), f"{talk_minutes(session):g}", _at_home(session))
        rows.append(f"| {' | '.join(cells)} |")
    total = sum(map(talk_minutes, PLANS[name]))
    numbers = numbers_of(name)
    computing = math.ceil(sum(minutes(number).computing or 0 for number in numbers))
    command = f"`.venv/bin/workbook run {' '.join(numbers)}`"
    below = [
        f"In class: {total:g} minutes, breaks not counted.",
        f"The slides: `.venv/bin/workbook present --plan {name}`.",
        f"The evening before: {command}, about {computing} minutes on two cores.",
    ]
    return "\n".join([*rows, "", " ".join(below)]) + "\n"


def plan(name: str) -> tuple[Session, ...]:
    """Return the sessions of a plan; raises WorkbookError for an unknown one."""
    if name not in PLANS:
        raise WorkbookError(f"There is no plan {name!r}: choose from {', '.join(PLANS)}.")
    return PLANS[name]


def places(part: Part, exercises: tuple[str, ...]) -> set[int]:
    """Return which cells of a notebook, counted from 1, a part of a plan shows.

    Those of its sections, without the exercises that are not done in class.
    """
    cells, names = _in_sections(part.number), shown(part)
    inside = {place for place, (name, _) in enumerate(cells, 1) if name in names}
    return inside - _homework([cell for _, cell in cells], exercises)


def _homework(cells, exercises: tuple[str, ...]) -> set[int]:
    """Return the cells of exercises, from heading to check, that have no minutes in the talk."""
    found: set[int] = set()
    heading = 0
    for place, cell in enumerate(cells, 1):
        if cell.cell_type == "markdown" and EXERCISE.match(cell.source):
            heading = place
        check = build.own(cell).get("check")
        if check and check not in exercises and not _has_minutes(cells[heading - 1]):
            found |= set(range(heading, place + 1))
    return found


def _has_minutes(cell) -> bool:
    return build.own(cell).get("minutes", 0) > 0


def numbers_of(name: str) -> list[str]:
    """Return the numbers of the notebooks in a plan."""
    return sorted({part.number for session in PLANS[name] for part in session.parts})


def _in_class(session: Session) -> str:
    """Return what is shown, a line a notebook, and which exercises are done."""
    parts = [" · ".join((part.number, *_names(part))) for part in session.parts]
    done = [f"exercise {', '.join(session.exercises)}"] if session.exercises else []
    return "<br>".join([*parts, *done])


def _names(part: Part) -> list[str]:
    """Return the sections without the number that stands before a notebook's title."""
    if part.names:
        return [name.removeprefix(f"{part.number} ") for name in part.names]
    return [f"all slides but *{', '.join(part.without)}*" if part.without else "all slides"]


def home(session: Session) -> dict[str, float]:
    """Return the exercises left of a session's whole notebooks, and what is read, in minutes."""
    whole = [part.number for part in session.parts if not part.names]
    left = {number: minutes(number).exercises for number in whole}
    for number in session.exercises:
        if number.partition(".")[0].zfill(2) in left:
            left[number.partition(".")[0].zfill(2)] -= exercise_minutes(number)
    tasks = {f"exercises of {number}": rest for number, rest in left.items() if rest}
    return tasks | {f"{number} to study": minutes(number).study for number in session.reading}


def _at_home(session: Session) -> str:
    return "; ".join(f"{task}, {rest:g}" for task, rest in home(session).items()) or "–"


# ------------------------------------------------------------------------- what the checks know


def mistakes() -> dict[str, tuple[str, list[str]]]:
    """Return for each exercise its title and the messages of its check, from shape to subtle."""
    found = {}
    for path in sorted(CHECKS.glob("nb[0-9][0-9].py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
        for function in functions.values():
            for mark in function.decorator_list:
                if isinstance(mark, ast.Call) and getattr(mark.func, "id", "") == "exercise":
                    number, title = (argument.value for argument in mark.args)
                    found[number] = (title, list(dict.fromkeys(_messages(function, functions))))
    return found


def texts(number: str) -> list[str]:
    """Return what the checks and the quiz of a notebook say, each text once, for translation."""
    told = [text for key, (title, messages) in mistakes().items() if _order(key)[0] == int(number)
            for text in (title, *messages)]  # fmt: skip
    file = CHECKS / "questions" / f"{number}.yaml"
    rows = yaml.safe_load(file.read_text(encoding="utf-8")) if file.exists() else []
    return list(dict.fromkeys([*told, *(text for row in rows for text in _leaves(row))]))


def _leaves(value) -> list[str]:
    """Return the texts of a question in their order, on one line each."""
    if isinstance(value, str):
        return [" ".join(value.split())]
    inside = value.values() if isinstance(value, dict) else value
    return [text for part in inside for text in _leaves(part)]


def _messages(function, functions, seen=()) -> list[str]:
    """Return the messages of `expect` in a function and in those of its module that it calls."""
    texts = []
    for node in ast.walk(function):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "id", "")
        if name == "expect":
            texts += _texts(node.args[1])
        elif name in functions and name not in seen:
            texts += _messages(functions[name], functions, (*seen, name))
    return texts


def _texts(node) -> list[str]:
    """Return the text of a message, with … for what an f-string puts in."""
    if isinstance(node, ast.Constant):
        return [node.value]
    if isinstance(node, ast.JoinedStr):
        parts = (part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
        return ["".join(parts)]
    return []


def _mistakes_list() -> str:
    lines = []
    for number, (title, messages) in sorted(mistakes().items(), key=lambda item: _order(item[0])):
        shown = (VALUE.sub("…", message) for message in messages)
        lines += [f"**{number} {title}**", "", *(f"- {message}" for message in shown), ""]
    return "\n".join(lines)


def _order(number: str) -> list[int]:
    return [int(part) for part in number.split(".")]


PARTS = {
    "minutes": _minutes_table,
    "two_hours": lambda: _plan("two-hours"),
    "one_day": lambda: _plan("one-day"),
    "weekly": lambda: _plan("weekly"),
    "mistakes": _mistakes_list,
}
