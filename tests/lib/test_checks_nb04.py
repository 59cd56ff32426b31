import re

import numpy as np
import pytest
import torch

from workbook import grading
from workbook.checks import nb04
from workbook.forgetting import continual


def words(text):
    return re.findall(r"\w+", text.lower())


def contains(answer, accepted):
    return any(f" {' '.join(words(text))} " in f" {' '.join(words(answer))} " for text in accepted)


def got_worse(changes, losses):
    return [
        name
        for name, (_, low, high) in changes.items()
        if (low > 0 if name in losses else high < 0)
    ]


def backward_transfer(matrix):
    return (matrix[-1] - matrix.diagonal())[:-1].mean()


def forgetting(matrix):
    return (matrix[:-1].max(axis=0) - matrix[-1])[:-1].mean()


def relative_change(new, old):
    return ((new - old).norm() / old.norm()).item()


SOLUTIONS = {
    nb04.check_contains: contains,
    nb04.check_got_worse: got_worse,
    nb04.check_backward_transfer: backward_transfer,
    nb04.check_forgetting: forgetting,
    nb04.check_relative_change: relative_change,
}

MISTAKES = [
    (nb04.check_contains, lambda answer, accepted: [True], "True or False"),
    (nb04.check_contains, lambda answer, accepted: answer in accepted, "inside"),
    (nb04.check_contains, lambda answer, accepted: any(answer in t for t in accepted), "inside"),
    (nb04.check_contains, lambda answer, accepted: any(t in answer for t in accepted), "case"),
    (
        nb04.check_contains,
        lambda answer, accepted: any(
            answer.lower() in t.lower() or t.lower() in answer.lower() for t in accepted
        ),
        "other way round",
    ),
    (nb04.check_contains, lambda answer, a: a[0].lower() in answer.lower(), "not only the first"),
    (
        nb04.check_contains,
        lambda answer, accepted: any(t.lower() in answer.lower() for t in accepted),
        "whole words",
    ),
    (
        nb04.check_contains,
        lambda answer, accepted: any(t.lower() in answer.lower().split() for t in accepted),
        "punctuation",
    ),
    (
        nb04.check_contains,
        lambda answer, accepted: any(set(words(t)) <= set(words(answer)) for t in accepted),
        "side by side",
    ),
    (
        nb04.check_contains,
        lambda answer, accepted: any(t.lower() in words(answer) for t in accepted),
        "two words",
    ),
    (nb04.check_got_worse, lambda changes, losses: 3, "names"),
    (nb04.check_got_worse, lambda changes, losses: list(changes), "above 0 got better"),
    (
        nb04.check_got_worse,
        lambda changes, losses: [
            n for n, c in changes.items() if (c[0] > 0 if n in losses else c[0] < 0)
        ],
        "includes 0",
    ),
    (
        nb04.check_got_worse,
        lambda changes, losses: [n for n, (_, low, high) in changes.items() if high < 0],
        "A loss that fell",
    ),
    (
        nb04.check_got_worse,
        lambda changes, losses: [
            n for n, (_, low, high) in changes.items() if n not in losses and high < 0
        ],
        "A loss whose interval lies above 0",
    ),
    (nb04.check_got_worse, lambda changes, losses: [], "below 0 got worse"),
    (nb04.check_backward_transfer, lambda m: m[-1] - m.diagonal(), "one number"),
    (nb04.check_backward_transfer, lambda m: (m.diagonal() - m[-1])[:-1].mean(), "minus"),
    (nb04.check_backward_transfer, lambda m: (m[-1] - m.diagonal()).mean(), "tasks but the last"),
    (nb04.check_backward_transfer, lambda m: backward_transfer(m.T), "last *row*"),
    (nb04.check_backward_transfer, lambda m: (m[-1] - m[0])[:-1].mean(), "first row"),
    (nb04.check_backward_transfer, lambda m: (m[-1] - m.diagonal()).sum() / 2, "five tasks"),
    (nb04.check_forgetting, lambda m: -forgetting(m), "minus"),
    (nb04.check_forgetting, lambda m: -backward_transfer(m), "BWT"),
    (nb04.check_forgetting, lambda m: (m.max(axis=0) - m[-1])[:-1].mean(), "before"),
    (
        nb04.check_forgetting,
        lambda m: np.maximum(m[:-1].max(axis=0) - m[-1], 0)[:-1].mean(),
        "cut at 0",
    ),
    (nb04.check_forgetting, lambda m: (m[:-1].max(axis=0) - m[-1]).mean(), "last task"),
    (nb04.check_forgetting, lambda m: forgetting(m.T), "each *column*"),
    (nb04.check_forgetting, lambda m: (m[:-1].max(axis=0) - m[-1])[:-1].sum() / 2, "five tasks"),
    (nb04.check_relative_change, lambda new, old: (new - old) / old.norm(), "one number"),
    (nb04.check_relative_change, lambda new, old: (new - old).norm(), "divide it"),
    (nb04.check_relative_change, lambda new, old: (new - old).norm() / new.norm(), "not of `new`"),
    (
        nb04.check_relative_change,
        lambda new, old: (new.norm() - old.norm()) / old.norm(),
        "subtract the tensors first",
    ),
    (
        nb04.check_relative_change,
        lambda new, old: ((new - old) ** 2).sum() / (old**2).sum(),
        "take the root",
    ),
    (
        nb04.check_relative_change,
        lambda new, old: torch.linalg.norm(new - old, 2) / torch.linalg.norm(old, 2),
        "*all* squared entries",
    ),
]


@pytest.mark.parametrize(
    "check, function",
    [
        (nb04.check_contains, grading.contains),
        (nb04.check_backward_transfer, continual.backward_transfer),
        (nb04.check_forgetting, continual.forgetting),
        (nb04.check_got_worse, lambda changes, losses: set(got_worse(changes, losses))),
    ],
)
def test_the_library_and_other_ways_pass_too(check, function):
    assert check(function).status == "passed"
