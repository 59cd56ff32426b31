"""The quiz of each notebook: every option unfolds and says whether it is right, and why.

The questions are in questions/NN.yaml. They become plain `<details>`, which need no script, no
network and no mouse, take the colours of the page, and open in notebooks that are not trusted.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import yaml
from IPython.display import display

from .. import settings
from ..errors import WorkbookError
from .report import markup, remember_quiz, say, told

FOLDER = Path(__file__).with_name("questions")
LETTERS = "abcdefghijklmnopqrstuvwxyz"


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
        phrase = (
            "Answer all {count} questions of the quiz, each with the letters of its right options, "
            "the first being a: {example}."
        )
        example = f"quiz({notebook!r}, {' '.join(['a'] * len(asked))!r})"
        raise WorkbookError(say(phrase, count=len(asked), example=example))
    pairs = enumerate(zip(asked, words, strict=True), 1)
    wrong = [str(number) for number, (question, word) in pairs if not _is_right(question, word)]
    right = len(asked) - len(wrong)
    remember_quiz(notebook, right, len(asked))
    phrase = "{right} of {count} answered rightly; look again at {wrong}."
    phrase = phrase if wrong else "{right} of {count} answered rightly."
    print(say(phrase, right=right, count=len(asked), wrong=", ".join(wrong)))


def _is_right(question, word):
    letters = LETTERS[: len(question.options)]
    if not set(word) <= set(letters):
        phrase = "{word} is no answer to {question}: use {letters}."
        asked = {"word": repr(word), "question": repr(told(question.text))}
        raise WorkbookError(say(phrase, **asked, letters=", ".join(letters)))
    expected = {a for a, option in zip(letters, question.options, strict=True) if option.is_right}
    return set(word) == expected


def rendered(notebook: str, language: str | None = None) -> dict[str, str]:
    """Return the quiz of a notebook by MIME type; the plain text does not tell the answers.

    It is in the given language, or the reader's, and in English where it has no translation.
    """
    language = language or settings.language()
    asked = questions(notebook)
    page = "".join(_html(number, question, language) for number, question in enumerate(asked, 1))
    texts = [_plain(number, question, language) for number, question in enumerate(asked, 1)]
    lead = say("Open an option to see whether it is right, and why.", language)
    end = say("In JupyterLab each option opens and says whether it is right, and why.", language)
    mark = "" if language == "en" else f' lang="{language}"'  # the outputs around it are English
    return {
        "text/html": f"<div{mark}><p>{lead}</p>{page}</div>",
        "text/plain": "\n\n".join([*texts, end]),
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


def _html(number, question, language):
    options = "".join(_details(option, language) for option in question.options)
    asked = markup(_asked(question, language))
    # Without these styles, which some pages take away, it is as legible.
    return f'<p style="margin: 16px 0 4px"><b>{number}. {asked}</b></p>{options}'


def _details(option, language):
    verdict = say("✓ Right." if option.is_right else "✗ Wrong.", language)
    text, why = (markup(told(each, language)) for each in (option.text, option.why))
    return (
        f'<details style="margin: 4px 0 4px 20px"><summary>{text}</summary>'
        f'<p style="margin: 4px 0 8px 16px"><b>{verdict}</b> {why}</p></details>'
    )


def _plain(number, question, language):
    texts = [told(option.text, language) for option in question.options]
    options = [f"   {a}) {text}" for a, text in zip(LETTERS, texts, strict=False)]
    return "\n".join([f"{number}. {_asked(question, language)}", *options])


def _asked(question, language):
    text = told(question.text, language)
    several = sum(option.is_right for option in question.options) > 1
    return f"{text} {say('(More than one answer is right.)', language)}" if several else text
