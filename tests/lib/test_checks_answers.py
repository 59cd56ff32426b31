"""The checks of every notebook: a solution passes, typical mistakes are named, a stub is neither.

Each `test_checks_nbNN.py` beside this file has SOLUTIONS, {check: function}, and MISTAKES,
(check, wrong function, a part of its message).
"""

import functools
import importlib
from pathlib import Path

import pytest

NAMES = sorted(path.stem for path in Path(__file__).parent.glob("test_checks_nb*.py"))
MODULES = [importlib.import_module(name) for name in NAMES]
SOLUTIONS = {check: function for m in MODULES for check, function in m.SOLUTIONS.items()}
MISTAKES = [mistake for m in MODULES for mistake in m.MISTAKES]


@pytest.mark.parametrize("check", SOLUTIONS, ids=lambda check: check.__name__)
def test_the_solution_passes(check):
    result = check(SOLUTIONS[check])
    assert result and result.status == "passed", result.message


@pytest.mark.parametrize("check, function, message", MISTAKES)
def test_a_typical_mistake_is_named(check, function, message):
    result = check(function)
    assert result.status == "tried"
    assert message in result.message


def stub(*arguments):
    """Return the answer."""
    ...  # your code here


@pytest.mark.parametrize("function", [stub, lambda *arguments: ...])
@pytest.mark.parametrize("check", SOLUTIONS, ids=lambda check: check.__name__)
def test_a_stub_is_not_started(check, function):
    assert check(function).status == "not started"


@pytest.mark.parametrize("check", SOLUTIONS, ids=lambda check: check.__name__)
def test_a_forgotten_return_is_named(check):
    @functools.wraps(SOLUTIONS[check])
    def forgetful(*arguments):
        SOLUTIONS[check](*arguments)

    result = check(forgetful)
    assert result.status == "tried"
    assert "returns nothing here: end it with `return`" in result.message
