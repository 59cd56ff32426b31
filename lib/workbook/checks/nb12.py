"""The self-checks of notebook 12, the capstone."""

import numpy as np

from .report import call, exercise, expect

TEXTS = ["The box is late.", "Where is it?", "The box is late.", "the  BOX is late.", "Too loud."]


@exercise("12.1", "Rows that contradict")
def check_contradictions(function) -> None:
    """Check a function (texts, labels) -> numbers of rows at odds with a row before."""
    found = _numbers(call(function, list(TEXTS), list("AAABA")))
    expect(
        found != [2, 3],
        "Row 2 repeats row 0 with the same label: only another *label* makes a contradiction.",
    )
    expect(
        found != [0, 3],
        "You named the first of the two rows as well: name the one that comes later.",
    )
    expect(
        found != [],
        "`the  BOX is late.` is the text of row 0 but for capital letters and blanks: compare the "
        'texts after `" ".join(text.casefold().split())`.',
    )
    expect(
        found == [3], "Only row 3 contradicts a row before it, and you named {found}.", found=found
    )
    expect(
        _numbers(call(function, ["a", "b", "a", "b"], ["x", "y", "y", "y"])) == [2],
        "Row 2 contradicts row 0, with another row between them: look at *all* rows before.",
    )
    expect(
        _numbers(call(function, ["a", "a", "a"], ["x", "y", "x"])) == [1],
        "Compare with the label that a text had the *first* time: the third row has that label.",
    )
    expect(
        _numbers(call(function, ["a", "a", "a"], ["x", "y", "y"])) == [1, 2],
        "Rows 1 and 2 both differ from the *first* label of this text: name both.",
    )
    expect(
        _numbers(call(function, ["a", "b"], ["x", "y"])) == [],
        "Different texts may have different labels: they are no contradiction.",
    )


@exercise("12.2", "The rule")
def check_pick(function) -> None:
    """Check a function (scores by method, the cheapest first) -> the method to take."""
    scores = {"zero-shot": 0.41, "few-shot": 0.705, "LoRA": 0.72, "full": 0.715}
    name = call(function, dict(scores))
    expect(isinstance(name, str), "Return the name of one method.")
    expect(name != "LoRA", "That is the best score: a cheaper one within 0.02 of it is enough.")
    expect(name != "zero-shot", "That is the cheapest, and it is far from the best score.")
    expect(name != "full", "Full tuning is within 0.02, and two cheaper ones are as well.")
    expect(name == "few-shot", "0.705 is within 0.02 of 0.72, and cheaper: take few-shot.")
    expect(
        call(function, {"zero-shot": 0.5, "few-shot": 0.66, "LoRA": 0.72}) == "LoRA",
        "0.66 is not within 0.02 of 0.72: nothing cheaper is near enough, so LoRA.",
    )
    expect(
        call(function, {"a": 0.70, "b": 0.715, "c": 0.73}) == "b",
        "Measure the distance from the *best* score, not from the next one.",
    )
    expect(
        call(function, {"a": 0.5, "b": 0.5}) == "a",
        "Of two equal scores take the cheaper one, which stands first.",
    )
    expect(
        call(function, {"a": 0.60, "b": 0.72, "c": 0.68}) == "b",
        "The best may stand anywhere: take the maximum of all scores.",
    )
    expect(
        call(function, {"a": 0.5, "b": 0.715, "c": 0.705, "d": 0.72}) == "b",
        "Within 0.02 the *cheapest* counts, which stands first, not the lowest score.",
    )


@exercise("12.3", "How many test rows?")
def check_needed_rows(function) -> None:
    """Check a function (gain, share of rows that one method alone gets right) -> rows needed."""
    value = _number(call(function, 0.05, 0.3))  # 457.15 before rounding
    expect(round(value) != 457, "Round *up*: with 457 rows the interval still reaches 0.")
    expect(
        round(value) != 461,
        "The variance is `differing - gain ** 2`: subtract the square of the mean, too.",
    )
    expect(round(value) not in (22, 23), "Divide by the *square* of the gain.")
    expect(round(value) != 119, "The factor 1.96, squared, is missing: it makes it 95 %.")
    expect(round(value) not in (233, 234), "Square 1.96 too: it stands before a root.")
    expect(value == 458, "For a gain of 0.05 with 0.3 differing it takes 458 rows.")
    expect(
        _number(call(function, 0.2, 0.36)) == 31,
        "For a gain of 0.2 with 0.36 differing it takes 31 rows.",
    )
    expect(
        _number(call(function, -0.05, 0.3)) == 458,
        "A loss of 0.05 is as hard to see as a gain of 0.05: the square takes the sign away.",
    )


@exercise("12.4", "When to ask a person")
def check_bar(function) -> None:
    """Check a function (chances, hits, wanted) -> the lowest chance that may answer alone."""
    chances = [0.9, 0.4, 0.8, 0.6, 0.7]
    hits = [1, 0, 1, 1, 0]  # from the surest answer on: 1, 1, 0, 1, 0
    value = _number(call(function, list(chances), list(hits), 0.75))
    expect(
        value != 0.8,
        "You stop at the first wrong answer: at 0.6 three of four are right, which is enough.",
    )
    expect(value != 0.9, "That is the highest bar that does: look for the *lowest*.")
    expect(
        value != 0.4,
        "At 0.4 all five answers are kept, and three of them are right: less than was wanted. "
        "An answer *at* the bar is kept: use `>=`, not `>`.",
    )
    expect(value != 0.7, "At 0.7 two of three are right, less than 0.75.")
    expect(value == 0.6, "At 0.6 three of four answers are right, and at 0.4 three of five.")
    for tied in ([0, 1], [1, 0]):
        expect(
            _number(call(function, [0.5, 0.5, 0.9], [*tied, 1], 0.7)) == 0.9,
            "Answers with the same chance go together: at 0.5 all three are kept.",
        )
    expect(
        _number(call(function, [0.5, 0.6], [0, 0], 0.7)) > 1,
        'Where no bar does, return `float("inf")`: then a person answers every row.',
    )
    expect(
        _number(call(function, [0.3, 0.6], [1, 1], 0.9)) == 0.3,
        "If all are right, the lowest chance is the bar, and nothing is left to people.",
    )


def _numbers(value) -> list[int]:
    """Return the answer as a list of whole numbers, or end the check."""
    expect(
        isinstance(value, list | tuple | np.ndarray | set),
        "Return a list with the numbers of the rows, counted from 0.",
    )
    expect(
        all(isinstance(each, int | np.integer) for each in value),
        "Return the *numbers* of the rows, counted from 0, not the rows.",
    )
    return sorted(int(each) for each in value)


def _number(value) -> float:
    """Return the answer as a float, or end the check."""
    is_number = np.ndim(value) == 0 and not isinstance(value, str | bool | type(None))
    expect(is_number, "Return one number.")
    return float(value)
