import random
from collections import Counter

import numpy as np
import pytest
import torch

from workbook.checks import nb06
from workbook.tasks import mixtures, splits


def weighted(weights):
    return {name: weight / sum(weights.values()) for name, weight in weights.items()}


def shares(sizes, temperature=1.0, cap=None):
    return weighted({k: min(v, cap or v) ** (1 / temperature) for k, v in sizes.items()})


def counts(shares, n, key=lambda name, exact, found: found[name] - exact[name]):
    exact = {name: share * n for name, share in shares.items()}
    found = {name: int(value) for name, value in exact.items()}
    order = sorted(exact, key=lambda name: key(name, exact, found))
    for name in order[: n - sum(found.values())]:
        found[name] += 1
    return found


def means(scores):
    macro = np.mean([np.mean(values) for values in scores.values()])
    return macro, np.mean(np.concatenate(list(scores.values())))


def transfer(before, after):
    differences = after.mean(axis=0) - before
    return differences.mean(), differences.std(ddof=1) / np.sqrt(len(differences))


def templates(names, count, seed):
    return random.Random(seed).choices(names, k=count)


SOLUTIONS = {
    nb06.check_shares: shares,
    nb06.check_counts: counts,
    nb06.check_means: means,
    nb06.check_transfer: transfer,
    nb06.check_templates: templates,
}


def capped_root(sizes, temperature=1.0, cap=None):
    return weighted({k: min(v ** (1 / temperature), cap or v) for k, v in sizes.items()})


def squared(sizes, temperature=1.0, cap=None):
    return weighted({k: v**temperature for k, v in sizes.items()})


def softmax(sizes, temperature=1.0, cap=None):
    return weighted({k: np.exp(v / temperature) for k, v in sizes.items()})


def divided(sizes, temperature=1.0, cap=None):
    return weighted({k: v / temperature for k, v in sizes.items()})


def uncapped_total(sizes, temperature=1.0, cap=None):
    total = sum(size ** (1 / temperature) for size in sizes.values())
    return {k: min(v, cap or v) ** (1 / temperature) / total for k, v in sizes.items()}


def shares_in_place(sizes, temperature=1.0, cap=None):
    found = shares(sizes, temperature, cap)
    sizes.clear()
    return found


def all_to_one(shares, n):
    found = {name: int(share * n) for name, share in shares.items()}
    remainders = {name: share * n - found[name] for name, share in shares.items()}
    found[max(remainders, key=remainders.get)] += n - sum(found.values())
    return found


def as_floats(shares, n):
    return {name: float(count) for name, count in counts(shares, n).items()}


def every_score(before, after):
    return (after - before).mean(), (after - before).std(ddof=1) / np.sqrt(after.size)


def over_seeds(before, after):
    gains = after.mean(axis=1) - before.mean()
    return gains.mean(), gains.std(ddof=1) / np.sqrt(len(gains))


def unpaired(before, after):
    rows = after.mean(axis=0)
    variance = rows.var(ddof=1) + before.var(ddof=1)
    return (rows - before).mean(), np.sqrt(variance / len(before))


def with_error(change):
    def wrong(before, after):
        differences = after.mean(axis=0) - before
        return differences.mean(), change(differences)

    return wrong


def seeded_globally(names, count, seed):
    random.seed(seed)
    return random.choices(names, k=count)


def seeded_numpy(names, count, seed):
    np.random.seed(seed)
    return list(np.random.choice(names, count))


def seeded_torch(names, count, seed):
    torch.manual_seed(seed)
    return [names[i] for i in torch.randint(len(names), (count,)).tolist()]


def overwritten(shares, n):
    found = counts(shares, n)
    shares.clear()
    return found


def sticky(names, count, seed):
    rng = random.Random(seed)
    return [name for _ in range(count // 5) for name in [rng.choice(names)] * 5]


def shuffled_names(names, count, seed):
    rng = random.Random(seed)
    drawn = rng.choices(sorted(names), k=count)
    names.reverse()
    return drawn


MISTAKES = [
    (nb06.check_shares, lambda s, t=1.0, c=None: list(s.values()), "dictionary"),
    (nb06.check_shares, lambda s, t=1.0, c=None: {"large": 1.0}, "Every task"),
    (nb06.check_shares, lambda s, t=1.0, c=None: dict(s), "add up to 10,"),
    (nb06.check_shares, lambda s, t=1.0, c=None: dict.fromkeys(s, 1 / len(s)), "0.8"),
    (nb06.check_shares, softmax, "That is a softmax"),
    (nb06.check_shares, squared, "1 / temperature"),
    (nb06.check_shares, divided, "a factor cancels"),
    (nb06.check_shares, lambda s, t=1.0, c=None: shares(s, t), "8 counts as 3"),
    (nb06.check_shares, uncapped_total, "after"),
    (nb06.check_shares, capped_root, "cap the size first"),
    (nb06.check_shares, lambda s, t=1.0, c=None: shares(s, t, min(c, 9e9)), "TypeError"),
    (nb06.check_shares, shares_in_place, "itself"),
    (nb06.check_counts, lambda s, n: [n], "dictionary"),
    (nb06.check_counts, lambda s, n: {"a": n}, "Every task"),
    (nb06.check_counts, lambda s, n: dict(s), "multiply"),
    (nb06.check_counts, lambda s, n: {k: v * n for k, v in s.items()}, "whole numbers"),
    (nb06.check_counts, lambda s, n: {k: round(v * n) for k, v in s.items()}, "add up to 9"),
    (nb06.check_counts, lambda s, n: {k: int(v * n) for k, v in s.items()}, "left over"),
    (nb06.check_counts, lambda s, n: {k: -int(-v * n // 1) for k, v in s.items()}, "to 12"),
    (nb06.check_counts, as_floats, "Return ints"),
    (nb06.check_counts, lambda s, n: counts(s, n, lambda k, e, f: -e[k]), "first or the largest"),
    (nb06.check_counts, lambda s, n: counts(s, n, lambda k, e, f: e[k]), "last or the smallest"),
    (nb06.check_counts, all_to_one, "one each"),
    (nb06.check_counts, overwritten, "itself"),
    (nb06.check_means, lambda s: means(s)[0], "two numbers"),
    (nb06.check_means, lambda s: means(s)[::-1], "wrong way round"),
    (nb06.check_means, lambda s: (means(s)[1], means(s)[1]), "average each kind first"),
    (nb06.check_means, lambda s: (means(s)[0], means(s)[0]), "means of means"),
    (nb06.check_means, lambda s: (sum(map(np.mean, s.values())), means(s)[1]), "0.75 and 0.25"),
    (nb06.check_means, lambda s: (means(s)[0], sum(map(sum, s.values()))), "10 rows"),
    (nb06.check_means, lambda s: (sum(map(np.mean, s.values())) / 2, means(s)[1]), "Three kinds"),
    (nb06.check_transfer, lambda b, a: a.mean() - b.mean(), "two numbers"),
    (nb06.check_transfer, lambda b, a: (a.mean(axis=0) - b, 0.1), "two numbers"),
    (nb06.check_transfer, lambda b, a: (-transfer(b, a)[0], 0.1), "after minus before"),
    (nb06.check_transfer, lambda b, a: (a.mean(), 0.1), "over all rows and seeds"),
    (nb06.check_transfer, every_score, "36 scores"),
    (nb06.check_transfer, over_seeds, "seeds scatter"),
    (nb06.check_transfer, unpaired, "unrelated"),
    (nb06.check_transfer, with_error(lambda d: d.std(ddof=1)), "Divide"),
    (nb06.check_transfer, with_error(lambda d: d.std() / np.sqrt(len(d))), "ddof=1"),
    (nb06.check_transfer, with_error(lambda d: d.var(ddof=1) / len(d)), "standard error is"),
    (nb06.check_templates, lambda n, c, s: random.Random(s).choice(n), "for each row"),
    (nb06.check_templates, lambda n, c, s: random.Random(s).choices(n), "for each row"),
    (nb06.check_templates, lambda n, c, s: ["other"] * c, "given names"),
    (nb06.check_templates, lambda n, c, s: [random.Random(s).choice(n)] * c, "the same template"),
    (nb06.check_templates, lambda n, c, s: [n[i % len(n)] for i in range(c)], "rotation"),
    (nb06.check_templates, lambda n, c, s: random.choices(n, k=c), "The same seed"),
    (nb06.check_templates, lambda n, c, s: templates(n, c, 0), "Another seed"),
    (nb06.check_templates, seeded_globally, "of your own"),
    (nb06.check_templates, seeded_numpy, "of your own"),
    (nb06.check_templates, seeded_torch, "of your own"),
    (nb06.check_templates, lambda n, c, s: templates([*n, n[0]], c, s), "equally likely"),
    (nb06.check_templates, sticky, "the one before"),
    (nb06.check_templates, shuffled_names, "list of names itself"),
]


@pytest.mark.parametrize(
    "check, function",
    [
        (nb06.check_shares, mixtures.mixing_rates),
        (nb06.check_counts, lambda shares, n: splits.proportional(Counter(shares), n)),
        (nb06.check_means, lambda scores: np.array(means(scores))),
        (nb06.check_templates, lambda n, c, s: np.random.default_rng(s).choice(n, c)),
    ],
)
def test_the_library_and_other_ways_pass_too(check, function):
    result = check(function)
    assert result.status == "passed", result.message
