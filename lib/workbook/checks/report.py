"""What a self-check is made of, how it reports, and the record of what was passed."""

import contextlib
import dis
import functools
import html
import json
import linecache
import os
import re
import traceback
import types
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from IPython.display import display

from .. import settings, translation
from ..errors import WorkbookError
from ..files import atomic_path

TITLES: dict[str, str] = {}
_passed: weakref.WeakSet = weakref.WeakSet()  # functions, of this session
QUIZ = "quiz "
MARKS = {"passed": "✓", "tried": "…", "not started": "○"}
# All that Python makes of a body that holds nothing but a docstring, `...` or `pass`.
IDLE = {"RESUME", "NOP", "LOAD_CONST", "RETURN_CONST", "RETURN_VALUE"}
COLORS = {"passed": "#009E73", "tried": "#C28500", "not started": "#8C8C8C"}


class NotStarted(Exception):
    """The exercise still holds its stub."""


class NotThereYet(Exception):
    """A check found a likely mistake; the message says what to do."""


@dataclass(frozen=True)
class Result:
    """The outcome of a check: true when passed, and silent as the last line of a cell."""

    exercise: str
    status: str
    message: str

    def __bool__(self):
        return self.status == "passed"

    def _ipython_display_(self):
        """Show nothing: the check has displayed itself already."""


def expect(condition, message: str, **values) -> None:
    """End the check with a message, which names the likely mistake, unless the condition holds.

    Values come by the names in the message's braces, so that it has a translation without them.
    """
    if not condition:
        raise NotThereYet(told(message, **values))


def told(text: str, language: str | None = None, /, **values) -> str:
    """Return a text of a check or a quiz in the reader's language, in English where it has none."""
    known = _told(records_dir(language or settings.language()))
    text = known.get(translation.digest(text), text)
    return text.format(**values) if values else text


@functools.cache
def _told(folder: Path) -> dict[str, str]:
    records = (record for file in folder.glob("*.yaml") for record in translation.records(file))
    return {record.english: record.korean for record in records}


def records_dir(language: str) -> Path:
    """Return the folder with what checks and quizzes say in a language: NN.yaml a notebook."""
    return translation.folder(language) / "checks"


def say(phrase: str, language: str | None = None, /, **values) -> str:
    """Return a phrase of the course in the reader's language, with the values put in its braces."""
    return translation.say(phrase, language or settings.language()).format(**values)


def call(function, *args, **kwargs):
    """Return what the reader's function returns; a stub, or a function without return, ends it."""
    name = getattr(function, "__name__", "function")
    try:
        result = function(*args, **kwargs)
    except NotImplementedError as error:
        raise NotStarted(name) from error
    except Exception as error:
        raise NotThereYet(_blame(name, function, error)) from error
    if result is Ellipsis or (result is None and _is_stub(function)):
        raise NotStarted(name)
    if result is None:
        raise NotThereYet(
            say(
                "`{name}` returns nothing here: end it with `return` and the result, in every "
                "branch of an `if` as well.",
                name=name,
            )
        )
    return result


def exercise(number: str, title: str):
    """Make a check out of a function that calls `call` and `expect`, from shape to subtle.

    The check takes what the function takes, displays one short block, remembers the outcome and
    returns a Result. It never raises.
    """
    TITLES[number] = title

    def decorate(body):
        @functools.wraps(body)
        def check(*args, **kwargs) -> Result:
            result = Result(number, *_outcome(body, args, kwargs))
            _remember(result)
            if result:
                _passed.update(value for value in args if isinstance(value, types.FunctionType))
            _show(result)
            return result

        return check

    return decorate


def yours(function: Callable, otherwise: Callable) -> Callable:
    """Return the reader's function if its check has passed in this session, else the library's.

    A line says which. What is kept, in the run cache or as a claim, never rests on it.
    """
    if isinstance(function, types.FunctionType) and function in _passed:
        print(say("This cell uses your `{name}`.", name=function.__name__))
        return function
    name, ours = getattr(function, "__name__", "function"), otherwise.__name__
    phrase = "This cell uses the library's `{ours}`: `{name}` has not passed its check."
    print(say(phrase, ours=ours, name=name))
    return otherwise


def progress() -> dict[str, str]:
    """Return the exercises that were worked on: number to "passed" or "tried".

    The record is progress.json in the cache; `WORKBOOK_PROGRESS` names another file.
    """
    return {key: value for key, value in _noted().items() if not key.startswith(QUIZ)}


def quiz_results() -> dict[str, str]:
    """Return the best result of each quiz that was answered: its number to "4 of 5"."""
    noted = _noted().items()
    return {key.removeprefix(QUIZ): value for key, value in noted if key.startswith(QUIZ)}


def titles() -> dict[str, str]:
    """Return the titles of all exercises by number."""
    return dict(TITLES)


def _noted() -> dict[str, str]:
    try:
        return dict(json.loads(_record().read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def markup(text: str) -> str:
    """Return text as HTML, where `backticks` mark code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


def _is_stub(function) -> bool:
    """Tell whether a function does nothing at all, as the stub does."""
    code = getattr(function, "__code__", None)
    return code is not None and {step.opname for step in dis.get_instructions(code)} <= IDLE


def _outcome(body, args, kwargs):
    try:
        if any(value is Ellipsis for value in args):
            phrase = "Replace the ... in the cell above, run that cell, then this one."
            return "not started", say(phrase)
        body(*args, **kwargs)
    except NotStarted as error:
        phrase = "Replace the ... in `{name}`, run that cell, then this one."
        return "not started", say(phrase, name=error)
    except NotThereYet as error:
        return "tried", str(error)
    except Exception as error:  # noqa: BLE001 - the reader sees a sentence, never a traceback
        phrase = "The check could not work with the answer: {error}."
        return "tried", say(phrase, error=_sentence(error))
    return "passed", ""


def _blame(name, function, error):
    own = getattr(function, "__globals__", None)
    places = [
        (frame.f_code.co_filename, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if frame.f_globals is own
    ]
    error = _sentence(error)
    if not places:
        return say("`{name}` stopped with {error}.", name=name, error=error)
    line = linecache.getline(*places[-1]).strip()
    phrase = "`{name}` stopped with {error} at the line `{line}`."
    return say(phrase, name=name, error=error, line=line)


def _sentence(error):
    text = " ".join(str(error).split()).rstrip(".")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _show(result):
    title = told(TITLES[result.exercise])
    said = "not there yet" if result.status == "tried" else "not started"
    note = _count(result.exercise) if result else say(said)
    head = f"{MARKS[result.status]} {say('Exercise')} {result.exercise} {title}: {note}"
    # Only the edge is coloured, so that the text is legible in dark and light themes.
    css = f"border-left: 6px solid {COLORS[result.status]}; padding: 4px 12px"
    block = f'<div style="{css}"><b>{markup(head)}</b><br>{markup(result.message)}</div>'
    plain = f"{head}\n{result.message}".strip()
    display({"text/html": block, "text/plain": plain}, raw=True)


def _count(exercise: str) -> str:
    """Return how many exercises of a notebook are passed, with the one that passed just now."""
    notebook = exercise.partition(".")[0]
    numbers = [number for number in TITLES if number.partition(".")[0] == notebook]
    done = progress() | {exercise: "passed"}
    passed = sum(done.get(number) == "passed" for number in numbers)
    return say("passed, {passed} of {exercises}", passed=passed, exercises=len(numbers))


def _record():
    chosen = os.environ.get("WORKBOOK_PROGRESS")
    return Path(chosen) if chosen else settings.cache_dir() / "progress.json"


def _remember(result):
    """Note an attempt; what was passed once stays passed."""
    if result.status != "not started":
        _note(result.exercise, lambda old: "passed" if old == "passed" else result.status)


def remember_quiz(notebook: str, right: int, asked: int) -> None:
    """Note how many questions of a quiz were answered rightly; the best result stays."""

    def best(old):
        return f"{max(right, int(old.split()[0]) if old else 0)} of {asked}"

    _note(QUIZ + notebook, best)


def _note(key, value_of):
    """Note a value, made of the old one or None, under a key of the record."""
    path = _record()
    # A check reports even where nothing can be written.
    with contextlib.suppress(OSError, WorkbookError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            done = _noted()
            new = done | {key: value_of(done.get(key))}
            if new != done:
                with atomic_path(path) as draft:
                    draft.write_text(json.dumps(new))
