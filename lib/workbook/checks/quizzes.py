"""The quiz of each notebook: every option unfolds and says whether it is right, and why.

The questions are in questions/NN.yaml. They become plain `<details>`, which need no script, no
network and no mouse, take the colours of the page, and open in notebooks that are not trusted.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import yaml
from IPython.display import display

from ..errors import WorkbookError
from .report import markup, remember_quiz

FOLDER = Path(__file__).with_name("questions")
LETTERS = "abcdefghijklmnopqrstuvwxyz"
SEVERAL = "(More than one answer is right.)"
OPEN = "Open an option to see whether it is right, and why."
IN_TEXT = "In JupyterLab each option opens and says whether it is right, and why."


@dataclass(frozen=True)
class Option:
    """An answer to choose, whether it is right, and why."""

    text: str
    is_right: bool
    why: str


@dataclass(frozen=True)
class Question:
    """A question and its options in the order in which they are shown."""

    text: str
    options: tuple[Option, ...]


def quiz(notebook: str, answers: str | None = None) -> None:
    """Display the quiz of a notebook, named by its number, such as "03".

    With `answers`, such as "b a cd c", it says which questions are answered rightly, and notes how
    many. Letters count the options from the top, and each question has a word of them. Raises
    WorkbookError for other letters, or for more or fewer words than questions.
    """
    if answers is not None:
        _grade(notebook, answers)
    display(rendered(notebook), raw=True)


def _grade(notebook, answers):
    asked = questions(notebook)
    words = answers.lower().replace(",", " ").split()
    if len(words) != len(asked):
        raise WorkbookError(
            f"Answer all {len(asked)} questions of the quiz, each with the letters of its right "
            f"options, the first being a: quiz({notebook!r}, {' '.join(['a'] * len(asked))!r})."
        )
    pairs = enumerate(zip(asked, words, strict=True), 1)
    wrong = [str(number) for number, (question, word) in pairs if not _is_right(question, word)]
    right = len(asked) - len(wrong)
    remember_quiz(notebook, right, len(asked))
    again = f"; look again at {', '.join(wrong)}" if wrong else ""
    print(f"{right} of {len(asked)} answered rightly{again}.")


def _is_right(question, word):
    letters = LETTERS[: len(question.options)]
    if not set(word) <= set(letters):
        raise WorkbookError(
            f"{word!r} is no answer to {question.text!r}: use {', '.join(letters)}."
        )
    expected = {a for a, option in zip(letters, question.options, strict=True) if option.is_right}
    return set(word) == expected


def rendered(notebook: str) -> dict[str, str]:
    """Return the quiz of a notebook by MIME type; the plain text does not tell the answers."""
    asked = questions(notebook)
    page = "".join(_html(number, question) for number, question in enumerate(asked, 1))
    texts = [_plain(number, question) for number, question in enumerate(asked, 1)]
    return {
        "text/html": f"<div><p>{OPEN}</p>{page}</div>",
        "text/plain": "\n\n".join([*texts, IN_TEXT]),
    }


def questions(notebook: str) -> list[Question]:
    """Return the questions of a notebook.

    Raises WorkbookError that names file and question where one has fewer than three options, no
    right one, or an option without a reason.
    """
    rows = _read(FOLDER / f"{notebook}.yaml")
    return [_question(row, notebook, number) for number, row in enumerate(rows, 1)]


def _read(path):
    try:
        rows = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = ", ".join(sorted(each.stem for each in path.parent.glob("*.yaml")))
        raise WorkbookError(f"There is no quiz {path.stem!r}: choose from {known}.") from None
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise WorkbookError(f"{path.name} cannot be read as YAML: {reason}.") from error
    if not isinstance(rows, list) or not rows:
        raise WorkbookError(f"{path.name}: write a list of questions, each beginning with a dash.")
    return rows


def _question(row, notebook, number):
    place = f"{notebook}.yaml, question {number}"
    if not isinstance(row, dict) or set(row) != {"question", "right", "wrong"}:
        raise WorkbookError(f"{place}: give it `question`, `right` and `wrong`, and nothing else.")
    text = _text(row["question"], f"{place}: `question`")
    options = [
        _option(option, is_right, place)
        for is_right in (True, False)
        for option in _list(row["right" if is_right else "wrong"], place)
    ]
    if len({option.text for option in options}) < max(3, len(options)):
        raise WorkbookError(f"{place}: give three different options or more.")
    return Question(text, _shuffled(options, f"{notebook}, question {number}"))


def _list(options, place):
    if not isinstance(options, list) or not options:
        raise WorkbookError(f"{place}: `right` and `wrong` are lists of one option or more.")
    return options


def _option(row, is_right, place):
    if not isinstance(row, dict) or set(row) != {"option", "why"}:
        raise WorkbookError(f"{place}: give each option as `option` and `why`, and nothing else.")
    text, why = (_text(row[key], f"{place}: `{key}`") for key in ("option", "why"))
    return Option(text, is_right, why)


def _text(value, place):
    if not isinstance(value, str) or not value.strip():
        raise WorkbookError(f"{place} must be a text: put a number, or yes and no, into quotes.")
    return " ".join(value.split())


def _shuffled(options, place):
    # By the number of the question, not by its words: a translation has the same order.
    def key(numbered):
        return hashlib.sha256(f"{place}, option {numbered[0]}".encode()).digest()

    return tuple(option for _, option in sorted(enumerate(options), key=key))


def _html(number, question):
    options = "".join(map(_details, question.options))
    # Without these styles, which some pages take away, it is as legible.
    head = f'<p style="margin: 16px 0 4px"><b>{number}. {markup(_asked(question))}</b></p>'
    return head + options


def _details(option):
    verdict = "✓ Right." if option.is_right else "✗ Wrong."
    return (
        f'<details style="margin: 4px 0 4px 20px"><summary>{markup(option.text)}</summary>'
        f'<p style="margin: 4px 0 8px 16px"><b>{verdict}</b> {markup(option.why)}</p></details>'
    )


def _plain(number, question):
    options = [f"   {a}) {o.text}" for a, o in zip(LETTERS, question.options, strict=False)]
    return "\n".join([f"{number}. {_asked(question)}", *options])


def _asked(question):
    several = sum(option.is_right for option in question.options) > 1
    return f"{question.text} {SEVERAL}" if several else question.text
