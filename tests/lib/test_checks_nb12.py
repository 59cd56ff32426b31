import math

import numpy as np

from workbook.checks import nb12


def contradictions(texts, labels):
    first, found = {}, []
    for number, (text, label) in enumerate(zip(texts, labels, strict=True)):
        if first.setdefault(" ".join(text.casefold().split()), label) != label:
            found.append(number)
    return found


def repetitions(texts, labels):
    plain = [" ".join(text.casefold().split()) for text in texts]
    return [i for i, text in enumerate(plain) if text in plain[:i]]


def both_rows(texts, labels):
    later = contradictions(texts, labels)
    plain = [" ".join(text.casefold().split()) for text in texts]
    return sorted({*later, *(plain.index(plain[i]) for i in later)})


def exactly_alike(texts, labels):
    first = {}
    pairs = enumerate(zip(texts, labels, strict=True))
    return [i for i, (text, label) in pairs if first.setdefault(text, label) != label]


def any_before(texts, labels):
    plain = [" ".join(text.casefold().split()) for text in texts]
    everything = list(zip(plain, labels, strict=True))
    return [
        i
        for i, (text, label) in enumerate(everything)
        if any(t == text and other != label for t, other in everything[:i])
    ]


def new_labels_only(texts, labels):
    seen, found = {}, []
    for i, (text, label) in enumerate(zip(texts, labels, strict=True)):
        known = seen.setdefault(" ".join(text.casefold().split()), [label])
        if label != known[0] and len(known) == 1:
            found.append(i)
            known.append(label)
    return found


def the_rows(texts, labels):
    return [texts[i] for i in contradictions(texts, labels)]


def any_label(texts, labels):
    found = contradictions(texts, labels)
    return found if len(texts) != 2 else [1]


def pick(scores):
    best = max(scores.values())
    return next(name for name, score in scores.items() if score >= best - 0.02 - 1e-9)


def from_neighbours(scores):
    names = list(scores)
    for name, after in zip(names, names[1:], strict=False):
        if scores[after] - scores[name] <= 0.02:
            return name
    return names[-1]


def dearest_near(scores):
    best = max(scores.values())
    return [name for name, score in scores.items() if score >= best - 0.02][-1]


def lowest_near(scores):
    best = max(scores.values())
    near = {name: score for name, score in scores.items() if score >= best - 0.02 - 1e-9}
    return min(near, key=near.get)


def needed_rows(gain, differing):
    return math.ceil(1.96**2 * (differing - gain**2) / gain**2)


def signed(gain, differing):
    return math.ceil(1.96**2 * (differing - gain**2) / (gain * abs(gain)))


def bar(chances, hits, wanted):
    for each in sorted(set(chances)):
        kept = [hit for chance, hit in zip(chances, hits, strict=True) if chance >= each]
        if np.mean(kept) >= wanted:
            return each
    return float("inf")


def until_wrong(chances, hits, wanted):
    pairs = sorted(zip(chances, hits, strict=True), reverse=True)
    best = float("inf")
    for chance, hit in pairs:
        if not hit:
            break
        best = chance
    return best


def above(chances, hits, wanted):
    for each in [0.0, *sorted(set(chances))]:
        kept = [hit for chance, hit in zip(chances, hits, strict=True) if chance > each]
        if kept and np.mean(kept) >= wanted:
            return each
    return float("inf")


def one_by_one(chances, hits, wanted, order=None):
    pairs = sorted(zip(chances, hits, strict=True), key=order, reverse=True)
    found = float("inf")
    for i, (chance, _) in enumerate(pairs, 1):
        if np.mean([hit for _, hit in pairs[:i]]) >= wanted:
            found = chance
    return found


def ties_apart(chances, hits, wanted):
    return one_by_one(chances, hits, wanted, order=lambda pair: pair[0])


def or_nothing(chances, hits, wanted):
    found = bar(chances, hits, wanted)
    return found if found <= 1 else 0


SOLUTIONS = {
    nb12.check_contradictions: contradictions,
    nb12.check_pick: pick,
    nb12.check_needed_rows: needed_rows,
    nb12.check_bar: bar,
}
MISTAKES = [
    (nb12.check_contradictions, repetitions, "only another *label*"),
    (nb12.check_contradictions, both_rows, "name the one that comes later"),
    (nb12.check_contradictions, exactly_alike, "capital letters and blanks"),
    (nb12.check_contradictions, lambda texts, labels: [1, 2], "you named [1, 2]"),
    (nb12.check_contradictions, any_before, "label that a text had the *first* time"),
    (nb12.check_contradictions, new_labels_only, "name both"),
    (nb12.check_contradictions, the_rows, "Return the *numbers* of the rows"),
    (nb12.check_contradictions, any_label, "Different texts may have different labels"),
    (nb12.check_contradictions, lambda texts, labels: 2, "Return a list"),
    (
        nb12.check_contradictions,
        lambda texts, labels: contradictions(texts, labels) if len(texts) == 5 else [],
        "look at *all* rows before",
    ),
    (nb12.check_pick, lambda scores: max(scores, key=scores.get), "a cheaper one within 0.02"),
    (nb12.check_pick, lambda scores: next(iter(scores)), "the cheapest, and it is far"),
    (nb12.check_pick, dearest_near, "two cheaper ones are as well"),
    (nb12.check_pick, lambda scores: max(scores.values()), "Return the name of one method"),
    (nb12.check_pick, lambda scores: list(scores)[1], "nothing cheaper is near enough"),
    (
        nb12.check_pick,
        lambda scores: from_neighbours(scores) if "a" in scores else pick(scores),
        "not from the next one",
    ),
    (
        nb12.check_pick,
        lambda scores: list(scores)[-1] if len(scores) == 2 else pick(scores),
        "Of two equal scores",
    ),
    (
        nb12.check_pick,
        lambda scores: "c" if 0.68 in scores.values() else pick(scores),
        "The best may stand anywhere",
    ),
    (nb12.check_pick, lowest_near, "not the lowest score"),
    (nb12.check_needed_rows, lambda g, d: int(1.96**2 * (d - g**2) / g**2), "Round *up*"),
    (nb12.check_needed_rows, lambda g, d: math.ceil(1.96**2 * d / g**2), "square of the mean"),
    (nb12.check_needed_rows, lambda g, d: math.ceil(1.96**2 * (d - g**2) / g), "*square* of the"),
    (nb12.check_needed_rows, lambda g, d: math.ceil((d - g**2) / g**2), "1.96, squared, is"),
    (nb12.check_needed_rows, lambda g, d: math.ceil(1.96 * (d - g**2) / g**2), "Square 1.96"),
    (nb12.check_needed_rows, lambda g, d: 1000, "it takes 458 rows"),
    (nb12.check_needed_rows, lambda g, d: 458, "it takes 31 rows"),
    (nb12.check_needed_rows, signed, "the square takes the sign away"),
    (nb12.check_needed_rows, lambda g, d: [458], "Return one number"),
    (nb12.check_bar, until_wrong, "You stop at the first wrong answer"),
    (nb12.check_bar, lambda c, h, w: max(c), "look for the *lowest*"),
    (nb12.check_bar, above, "use `>=`, not `>`"),
    (nb12.check_bar, lambda c, h, w: sorted(c)[2], "two of three are right, less"),
    (nb12.check_bar, ties_apart, "Answers with the same chance go together"),
    (nb12.check_bar, lambda c, h, w: 0.5, "three of four answers are right, and at 0.4"),
    (nb12.check_bar, one_by_one, "Answers with the same chance go together"),
    (nb12.check_bar, or_nothing, 'return `float("inf")`'),
    (
        nb12.check_bar,
        lambda c, h, w: max(c) if len(c) == 2 and all(h) else bar(c, h, w),
        "nothing is left to people",
    ),
    (nb12.check_bar, lambda c, h, w: True, "Return one number"),
]
