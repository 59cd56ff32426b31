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

from .. import settings
from ..errors import WorkbookError
from ..files import atomic_path

TITLES: dict[str, str] = {}
_passed: weakref.WeakSet = weakref.WeakSet()  # functions, of this session
QUIZ = "quiz "
MARKS = {"passed": "✓", "tried": "…", "not started": "○"}
NOTES = {"tried": "not there yet", "not started": "not started"}
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


def expect(condition, message: str) -> None:
    """End the check with a message, which names the likely mistake, unless the condition holds."""
    if not condition:
        raise NotThereYet(message)


def call(function, *args, **kwargs):
    """Return what the reader's function returns; a stub, or a function without return, ends it."""
    name = getattr(function, "__name__", "the exercise")
    try:
        result = function(*args, **kwargs)
    except NotImplementedError as error:
        raise NotStarted(f"`{name}`") from error
    except Exception as error:
        raise NotThereYet(_blame(name, function, error)) from error
    if result is Ellipsis or (result is None and _is_stub(function)):
        raise NotStarted(f"`{name}`")
    expect(
        result is not None,
        f"`{name}` returns nothing here: end it with `return` and the result, in every branch of "
        "an `if` as well.",
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
        print(f"This cell uses your `{function.__name__}`.")
        return function
    name = getattr(function, "__name__", "function")
    print(
        f"This cell uses the library's `{otherwise.__name__}`: `{name}` has not passed its check."
    )
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
            raise NotStarted("the cell above")
        body(*args, **kwargs)
    except NotStarted as error:
        return "not started", f"Replace the ... in {error}, run that cell, then this one."
    except NotThereYet as error:
        return "tried", str(error)
    except Exception as error:  # noqa: BLE001 - the reader sees a sentence, never a traceback
        return "tried", f"The check could not work with the answer: {_sentence(error)}."
    return "passed", ""


def _blame(name, function, error):
    own = getattr(function, "__globals__", None)
    places = [
        (frame.f_code.co_filename, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if frame.f_globals is own
    ]
    where = f" at the line `{linecache.getline(*places[-1]).strip()}`" if places else ""
    return f"`{name}` stopped with {_sentence(error)}{where}."


def _sentence(error):
    text = " ".join(str(error).split()).rstrip(".")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _show(result):
    title = f"Exercise {result.exercise} {TITLES[result.exercise]}"
    note = _count(result.exercise) if result else NOTES[result.status]
    head = f"{MARKS[result.status]} {title}: {note}"
    # Only the edge is coloured, so that the text is legible in dark and light themes.
    css = f"border-left: 6px solid {COLORS[result.status]}; padding: 4px 12px"
    block = f'<div style="{css}"><b>{markup(head)}</b><br>{markup(result.message)}</div>'
    plain = f"{head}\n{result.message}".strip()
    display({"text/html": block, "text/plain": plain}, raw=True)


def _count(passed: str) -> str:
    """Return how many exercises of a notebook are passed, with the one that passed just now."""
    notebook = passed.partition(".")[0]
    numbers = [number for number in TITLES if number.partition(".")[0] == notebook]
    done = progress() | {passed: "passed"}
    return f"passed, {sum(done.get(n) == 'passed' for n in numbers)} of {len(numbers)}"


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
