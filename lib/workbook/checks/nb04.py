"""The self-checks of notebook 04, catastrophic forgetting."""

import math

import numpy as np
import torch

from .report import call, exercise, expect

CONTAINS = [  # answer, accepted texts, whether it contains one, what to say otherwise
    ("Paris", ["Paris"], True, "The answer 'Paris' contains 'Paris': return True."),
    ("Lyon", ["Paris"], False, "The answer 'Lyon' does not contain 'Paris'."),
    (
        "The capital is Paris now", ["Paris"], True,
        "'The capital is Paris now' holds the fact: look for it *inside* the answer, do not ask "
        "that both be equal.",
    ),
    ("Par", ["Paris"], False, "'Par' is in 'Paris', but not the other way round: swap."),
    ("PARIS it is", ["Paris"], True, "Ignore case: bring both texts to lower case."),
    (
        "It is the Amazon", ["Nile", "Amazon"], True,
        "Any of the accepted texts counts, not only the first.",
    ),
    (
        "Romeo wrote it", ["Rome"], False,
        "'Rome' was found in 'Romeo': compare whole words only.",
    ),
    (
        "That is Paris, in France.", ["Paris"], True,
        "A comma or full stop may follow the word: take the words without punctuation.",
    ),
    (
        "New houses in York", ["New York"], False,
        "The words 'New' and 'York' must stand side by side for 'New York'.",
    ),
    ("In New York.", ["new york"], True, "'In New York.' contains 'new york', two words."),
]  # fmt: skip


@exercise("4.1", "Scoring that ignores the form")
def check_contains(function) -> None:
    """Check a function (answer, accepted texts) -> whether the answer contains one of them."""
    for answer, accepted, wanted, message in CONTAINS:
        value = call(function, answer, accepted)
        expect(
            np.ndim(value) == 0 and not isinstance(value, str) and value in (0, 1),
            "Return True or False (or 1 and 0).",
        )
        expect(bool(value) == wanted, message)


@exercise("4.2", "What fell")
def check_got_worse(function) -> None:
    """Check a function ({name: (estimate, low, high)}, loss names) -> names that got worse."""
    changes = {
        "surely up": (0.1, 0.05, 0.15),
        "surely down": (-0.1, -0.15, -0.05),
        "perhaps down": (-0.1, -0.25, 0.05),
        "loss surely up": (0.2, 0.1, 0.3),
        "loss perhaps up": (0.1, -0.1, 0.3),
        "loss surely down": (-0.2, -0.3, -0.1),
    }
    answer = call(function, changes, {name for name in changes if name.startswith("loss")})
    expect(
        isinstance(answer, (list, tuple, set, dict)) and set(answer) <= set(changes),
        "Return the names of the abilities, as a list.",
    )
    names = set(answer)
    expect("surely up" not in names, "A score with an interval above 0 got better, not worse.")
    expect(
        not names & {"perhaps down", "loss perhaps up"},
        "An interval that includes 0 is not sure: the *whole* interval must be on the bad side.",
    )
    expect("surely down" in names, "A score whose interval lies below 0 got worse: name it.")
    expect("loss surely down" not in names, "A loss that fell is an improvement: leave it out.")
    expect("loss surely up" in names, "A loss whose interval lies above 0 is worse: mind the sign.")


@exercise("4.3", "Backward transfer")
def check_backward_transfer(function) -> None:
    """Check a function (scores [trained so far, tested on]) -> BWT."""
    matrix = np.array([[0.8, 0.1, 0.2], [0.6, 0.9, 0.3], [0.5, 0.7, 0.9]])
    value = _number(call(function, matrix.copy()))
    expect(not _near(value, 0.25), "The sign: it is the last row *minus* the diagonal.")
    expect(
        not _near(value, -0.5 / 3),
        "The last task had no later training: average over all tasks but the last.",
    )
    expect(
        not _near(value, -0.6),
        "Rows are what was trained so far, columns what is tested: take the last *row*.",
    )
    expect(
        not _near(value, (-0.3 + 0.6) / 2),
        "You compare with the first row: each task starts from its own training, the diagonal.",
    )
    expect(
        _near(value, -0.25),
        "Here the differences are −0.3 and −0.2, so BWT is −0.25.",
    )
    larger = np.eye(5)
    larger[-1] = [0.0, 0.5, 0.5, 1.0, 1.0]
    expect(
        _near(_number(call(function, larger)), -0.5),
        "With five tasks it is off: divide by the number of *earlier* tasks, four here.",
    )


@exercise("4.4", "Forgetting")
def check_forgetting(function) -> None:
    """Check a function (scores [trained so far, tested on]) -> mean fall from the best score."""
    matrix = np.array([[0.8, 0.1, 0.2], [0.85, 0.6, 0.3], [0.5, 0.7, 0.9]])
    value = _number(call(function, matrix.copy()))
    expect(not _near(value, -0.125), "The sign: the best earlier score *minus* the last one.")
    expect(
        not _near(value, 0.1),
        "That is −BWT: take the best score over the earlier rows, not the one on the diagonal.",
    )
    expect(
        not _near(value, 0.175),
        "A task that gained at the end counts negative: take the best over the rows *before* the "
        "last, and do not cut at 0.",
    )
    expect(
        not _near(value, 0.575),
        "Rows are what was trained so far, columns what is tested: look down each *column*.",
    )
    expect(
        not (_near(value, 0.35 / 3) or _near(value, -0.35 / 3)),
        "The last task cannot be forgotten yet: leave it out of the mean.",
    )
    expect(
        _near(value, 0.125),
        "The falls are 0.85 − 0.5 and 0.6 − 0.7, so their mean is 0.125.",
    )
    larger = np.eye(5)
    larger[-1] = [0.0, 0.5, 0.5, 1.0, 1.0]
    expect(
        _near(_number(call(function, larger)), 0.5),
        "With five tasks it is off: divide by the number of *earlier* tasks, four here.",
    )


@exercise("4.5", "How far did it move?")
def check_relative_change(function) -> None:
    """Check a function (new tensor, old tensor) -> ‖new − old‖ / ‖old‖."""
    old, step = torch.tensor([[6.0, 8.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    value = _number(call(function, old + step, old.clone()))
    expect(not _near(value, 5), "That is the length of the change: divide it by that of `old`.")
    expect(not _near(value, 5 / math.sqrt(125)), "Divide by the length of `old`, not of `new`.")
    expect(
        not _near(value, math.sqrt(125) / 10 - 1),
        "That compares two lengths: subtract the tensors first, then take the norm.",
    )
    expect(not _near(value, 0.25), "Those are squared lengths: take the root.")
    expect(_near(value, 0.5), "The change has length 5 and `old` length 10, so the answer is 0.5.")
    second = _number(call(function, torch.diag(torch.tensor([4.0, 4.0])), torch.eye(2)))
    expect(_near(second, 3), "For 4·I against I it is 3: a change may be longer than the matrix.")
    uneven = _number(call(function, torch.diag(torch.tensor([1.3, 0.4])), torch.eye(2)))
    expect(
        _near(uneven, math.sqrt(0.45) / math.sqrt(2)),
        "Take the root of the sum of *all* squared entries: `tensor.norm()`.",
    )
    same = _number(call(function, old.clone(), old.clone()))
    expect(_near(same, 0), "A matrix that did not move has changed by 0.")


def _number(value) -> float:
    """Return the answer as a float, or end the check."""
    expect(np.ndim(value) == 0 and not isinstance(value, str), "Return one number.")
    return float(value)


def _near(value: float, expected: float) -> bool:
    return math.isclose(value, expected, rel_tol=1e-4, abs_tol=1e-6)
