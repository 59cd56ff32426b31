"""The self-checks of notebook 06, multitask tuning."""

import math
import random

import numpy as np
import torch

from .report import call, exercise, expect


@exercise("6.1", "Shares")
def check_shares(function) -> None:
    """Check a function (sizes by name, temperature, cap) -> shares by name."""
    sizes = {"large": 8, "small": 2}
    answer = call(function, dict(sizes))
    expect(isinstance(answer, dict), "Return a dictionary from names to shares.")
    expect(set(answer) == set(sizes), "Every task needs a share: go through `sizes`.")
    _expect_whole(answer, "The shares add up to {:.4g}, not to 1: divide each weight by their sum.")
    expect(
        not _near(answer, large=1 / (1 + math.exp(-6)), small=1 / (1 + math.exp(6))),
        "That is a softmax, which takes the exponential of each size: raise the size itself to "
        "1 / temperature.",
    )
    expect(
        _near(answer, large=0.8, small=0.2),
        "At temperature 1 and without a cap, 8 of 10 rows have a share of 0.8.",
    )
    tempered = call(function, dict(sizes), 2.0)
    expect(
        not _near(tempered, large=16 / 17, small=1 / 17),
        "Temperature 2 makes the large task larger still: the exponent is 1 / temperature.",
    )
    expect(
        not _near(tempered, large=0.8, small=0.2),
        "Temperature 2 changes nothing: it is in the exponent, since a factor cancels out.",
    )
    expect(
        _near(tempered, large=2 / 3, small=1 / 3),
        "At temperature 2 the square roots count: 4 to 1 becomes 2 to 1.",
    )
    capped = call(function, dict(sizes), 1.0, 3)
    _expect_whole(capped, "With a cap the shares add up to {:.4g}: take the sum *after* capping.")
    expect(
        _near(capped, large=0.6, small=0.4),
        "With a cap of 3, 8 counts as 3 and 2 stays 2: the shares are 0.6 and 0.4.",
    )
    both = call(function, {"large": 900, "small": 100}, 2.0, 400)
    expect(
        not _near(both, large=0.75, small=0.25),
        "You cap the root: cap the size first, then take the root.",
    )
    expect(
        _near(both, large=2 / 3, small=1 / 3),
        "900 capped at 400 has the root 20, 100 has 10: the shares are 2/3 and 1/3.",
    )
    kept = dict(sizes)
    call(function, kept, 2.0, 3)
    expect(kept == sizes, "Your function changes `sizes` itself: make a new dictionary.")


def _expect_whole(shares, message):
    """Expect that the shares add up to 1; the message has a place for their sum."""
    total = sum(map(float, shares.values()))
    expect(math.isclose(total, 1, abs_tol=1e-6), message.format(total))


def _near(answer, **wanted):
    return all(
        math.isclose(float(answer[name]), value, abs_tol=1e-4) for name, value in wanted.items()
    )


@exercise("6.2", "From shares to counts")
def check_counts(function) -> None:
    """Check a function (shares by name, n) -> counts by name that add up to n."""
    simple = call(function, {"a": 0.5, "b": 0.25, "c": 0.25}, 8)
    expect(isinstance(simple, dict), "Return a dictionary from names to counts.")
    expect(set(simple) == set("abc"), "Every task needs a count: go through `shares`.")
    expect(
        simple == {"a": 4, "b": 2, "c": 2},
        "Of 8 examples a half is 4 and a quarter is 2: multiply each share by n.",
    )
    thirds = dict.fromkeys("abc", 1 / 3)
    answer = call(function, dict(thirds), 10)
    whole = all(float(value).is_integer() for value in answer.values())
    expect(whole, "There are no parts of examples: the counts are whole numbers.")
    total = sum(answer.values())
    expect(
        total >= 10,
        f"Three thirds of 10 add up to {total:g}: give away the examples that are left over.",
    )
    expect(total == 10, f"Three thirds of 10 add up to {total:g}: start from the whole parts.")
    expect(
        all(isinstance(value, int | np.integer) for value in answer.values()),
        "Return ints, so that they can be used to draw rows.",
    )
    answer = call(function, {"a": 0.62, "b": 0.26, "c": 0.12}, 10)
    expect(
        answer != {"a": 7, "b": 2, "c": 1},
        "The one left over went to the first or the largest share: of 6.2, 2.6 and 1.2 the second "
        "has the largest *remainder*.",
    )
    expect(
        answer != {"a": 6, "b": 2, "c": 2},
        "The one left over went to the last or the smallest share: of 6.2, 2.6 and 1.2 the second "
        "has the largest *remainder*.",
    )
    expect(
        answer == {"a": 6, "b": 3, "c": 1},
        "6.2, 2.6 and 1.2 become 6, 3 and 1: the largest remainder is rounded up.",
    )
    twelve = call(function, dict.fromkeys("abcdefghijkl", 1 / 12), 100)
    expect(
        set(twelve.values()) == {8, 9} and sum(twelve.values()) == 100,
        "A hundred in twelve equal shares leaves four over: one each to four tasks, no task gets "
        "two.",
    )
    expect(
        set(call(function, thirds, 0).values()) == {0},
        "Of no examples each task gets 0.",
    )
    expect(thirds == dict.fromkeys("abc", 1 / 3), "Your function changes `shares` itself.")


@exercise("6.3", "Two means")
def check_means(function) -> None:
    """Check a function {kind: scores} -> (macro mean, micro mean)."""
    scores = {"long": [1.0] * 6 + [0.0] * 2, "short": [0.0, 0.5]}
    answer = call(function, {kind: list(values) for kind, values in scores.items()})
    expect(np.size(answer) == 2, "Return two numbers: the macro mean and the micro mean.")
    macro, micro = (float(value) for value in answer)
    expect(
        not (math.isclose(macro, 0.65) and math.isclose(micro, 0.5)),
        "They are the wrong way round: macro, where kinds count alike, comes first.",
    )
    expect(
        not (math.isclose(macro, 0.65) and math.isclose(micro, 0.65)),
        "Both are means over rows: for the macro mean average each kind first.",
    )
    expect(
        not (math.isclose(macro, 0.5) and math.isclose(micro, 0.5)),
        "Both are means of means: for the micro mean put all rows into one array.",
    )
    expect(
        math.isclose(macro, 0.5, abs_tol=1e-9),
        "The kinds' means are 0.75 and 0.25, so the macro mean is 0.5.",
    )
    expect(
        math.isclose(micro, 0.65, abs_tol=1e-9),
        "6.5 points on 10 rows make a micro mean of 0.65.",
    )
    three = {"a": np.array([1.0]), "b": np.array([0.0, 0.0]), "c": np.array([0.5, 1.0, 0.0])}
    macro, micro = (float(value) for value in call(function, three))
    expect(
        math.isclose(macro, 0.5, abs_tol=1e-9) and math.isclose(micro, 2.5 / 6, abs_tol=1e-9),
        "Three kinds with 1, 2 and 3 rows must work too: divide by the number of kinds or rows.",
    )


@exercise("6.4", "The gain and its standard error")
def check_transfer(function) -> None:
    """Check a function (before [rows], after [seeds, rows]) -> (gain, standard error)."""
    before = np.array([0, 0, 1, 0, 1, 0, 0, 1, 0, 0, 0, 1], float)
    after = np.array([before, before, before])
    after[:, [0, 1, 5, 9]] = 1.0
    after[0, 3] = after[1, 6] = 1.0
    after[2, [2, 9]] = 0.0
    answer = call(function, before.copy(), after.copy())
    is_pair = isinstance(answer, tuple | list | np.ndarray) and len(answer) == 2
    expect(
        is_pair and all(np.ndim(value) == 0 for value in answer),
        "Return two numbers: the gain and its standard error.",
    )
    gain, error = (float(value) for value in answer)
    differences = after.mean(axis=0) - before
    expect(
        not math.isclose(gain, -differences.mean(), abs_tol=1e-9),
        "The gain is after minus before: here it is positive.",
    )
    expect(
        math.isclose(gain, differences.mean(), abs_tol=1e-9),
        f"The mean of after − before over all rows and seeds is {differences.mean():.3f} here.",
    )

    def is_error(value):
        return math.isclose(error, value, rel_tol=0.01)

    rows = len(before)
    expect(
        not any(is_error((after - before).std(ddof=d) / math.sqrt(3 * rows)) for d in (0, 1)),
        "That counts 36 scores as 36 rows: the seeds of a row belong together, so average them "
        "first.",
    )
    seeds = after.mean(axis=1) - before.mean()
    expect(
        not any(is_error(seeds.std(ddof=d) / root) for d in (0, 1) for root in (1, math.sqrt(3))),
        "That is how far the seeds scatter on these rows: average over the seeds, take the error "
        "over the rows.",
    )
    unpaired = after.mean(axis=0).var(ddof=1) + before.var(ddof=1)
    expect(
        not is_error(math.sqrt(unpaired / rows)),
        "That is the error for two unrelated samples: subtract row by row first.",
    )
    deviation = differences.std(ddof=1)
    expect(
        not any(is_error(differences.std(ddof=d)) for d in (0, 1)),
        "Divide the standard deviation by the root of the number of rows.",
    )
    expect(
        not is_error(differences.std() / math.sqrt(rows)),
        "Take `ddof=1`: the mean was estimated from the same rows.",
    )
    expect(
        is_error(deviation / math.sqrt(rows)),
        f"The standard error is {deviation / math.sqrt(rows):.3f} here: one difference a row, then "
        "their standard deviation over the root of their number.",
    )


@exercise("6.5", "A template for each row")
def check_templates(function) -> None:
    """Check a function (names, count, seed) -> list of names drawn at random."""
    names = ["question", "plain", "polite"]
    state, numpy_state = random.getstate(), np.random.get_state()
    torch_state = torch.get_rng_state()
    answer = call(function, list(names), 60, 0)
    is_quiet = random.getstate() == state and torch.equal(torch.get_rng_state(), torch_state)
    is_quiet &= all(map(np.array_equal, np.random.get_state(), numpy_state))
    expect(
        not isinstance(answer, str) and np.size(answer) == 60,
        "Return a list with a name for each row, 60 here.",
    )
    found = [str(name) for name in answer]
    expect(set(found) <= set(names), "Only the given names may come.")
    expect(
        len(set(found)) > 1,
        "All rows got the same template: draw anew for each row.",
    )
    expect(
        any(a != b for a, b in zip(found, found[3:], strict=False)),
        "The templates come in rotation: draw each at random, else row order and wording go "
        "together.",
    )
    expect(
        found == [str(name) for name in call(function, list(names), 60, 0)],
        "The same seed gave other templates: make the generator from the seed.",
    )
    expect(
        found != [str(name) for name in call(function, list(names), 60, 1)],
        "Another seed gave the same templates: use the seed that is passed.",
    )
    expect(
        is_quiet,
        "Your function seeds or uses the generator that the whole program shares: make one of your "
        "own, such as `random.Random(seed)`.",
    )
    many = [str(name) for name in call(function, list(names), 3000, 2)]
    times = [many.count(name) for name in names]
    expect(
        min(times) > 850,
        f"In 3,000 draws the three came {times} times: each must be equally likely.",
    )
    follows = sum(a == b for a, b in zip(many, many[1:], strict=False))
    expect(
        800 < follows < 1200,
        f"The next row got the same template {follows} times in 3,000, and 1,000 are to be "
        "expected: each draw must not depend on the one before.",
    )
    original = list(names)
    call(function, original, 5, 0)
    expect(original == names, "Your function changes the list of names itself: leave it as it is.")
