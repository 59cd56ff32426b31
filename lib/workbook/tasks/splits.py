"""Splits: near-duplicates dropped, rows dealt out by stratum, the same on every machine."""

import hashlib
import itertools
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

# Share of common words (Jaccard) from which two texts count as near-duplicates.
NEAR_DUPLICATE = 0.8
# Of two near-duplicates in different splits the one nearer to the test is kept.
FROM_TEST_TO_TRAIN = ("test", "validation", "train")
# Against rounding: 0.8 * 5 must count as 4.
_EPSILON = 1e-9


def words(text: str) -> frozenset[str]:
    """Return the set of words of a text, without case and punctuation."""
    return frozenset(re.findall(r"\w+", text.casefold())) or frozenset([text.strip()])


def alike(a: frozenset[str], b: frozenset[str]) -> bool:
    """Tell whether two sets of words belong to near-duplicates."""
    return len(a & b) >= NEAR_DUPLICATE * len(a | b) - _EPSILON


def distinct(texts: Sequence[str], protected: int = 0) -> list[int]:
    """Return the indexes of the texts that are no near-duplicate of an earlier kept one.

    The first `protected` texts are kept whatever they are. Exact, and fast by prefix filtering
    (Chaudhuri, Ganti & Kaushik 2006): alike sets share one of their few rarest words.
    """
    sets = [words(text) for text in texts]
    frequency = Counter(itertools.chain.from_iterable(sets))
    kept_with, kept = defaultdict(list), []
    for position, own in enumerate(sets):
        prefix = len(own) - math.ceil(NEAR_DUPLICATE * len(own) - _EPSILON) + 1
        rare = sorted(own, key=lambda word: (frequency[word], word))[:prefix]
        rivals = {other for word in rare for other in kept_with[word]}
        if position < protected or not any(alike(own, sets[other]) for other in rivals):
            kept.append(position)
            for word in rare:
                kept_with[word].append(position)
    return kept


def key(row: Mapping, fields: Sequence[str]) -> str:
    """Return the text of some fields of a row, lists and objects included."""
    return "\n".join(itertools.chain.from_iterable(_texts(row[field]) for field in fields))


def _texts(value) -> list[str]:
    if isinstance(value, list | dict):
        inner = value.values() if isinstance(value, dict) else value
        return [text for item in inner for text in _texts(item)]
    return [str(value)]


def shuffled(rows: Iterable[dict], fields: Sequence[str]) -> list[dict]:
    """Return the rows ordered by the hash of their text."""
    # Unlike with a random generator, rows keep their order when others come or go.
    return sorted(rows, key=lambda row: hashlib.sha256(key(row, fields).encode()).digest())


def drop_near_duplicates(
    groups: Mapping[str, list[dict]], fields: Sequence[str]
) -> dict[str, list]:
    """Return the splits without near-duplicates by some fields; a given test split stays whole.

    Without fields all splits stay whole.
    """
    if not fields:
        return dict(groups)
    order = [split for split in FROM_TEST_TO_TRAIN if split in groups]
    pool = [(split, row) for split in order for row in groups[split]]
    texts = [key(row, fields) for _, row in pool]
    kept = [pool[index] for index in distinct(texts, protected=len(groups.get("test", ())))]
    return {split: [row for its_split, row in kept if its_split == split] for split in order}


def stratum(row: Mapping, fields: Sequence[str]) -> tuple:
    """Return the values of some fields of a row, None for one that it lacks."""
    return tuple(row.get(field) for field in fields)


def stratified_split(
    rows: Iterable[dict], fields: Sequence[str], quotas: Mapping[str, Mapping]
) -> dict:
    """Deal rows in their order to the splits until each has its quota of every stratum.

    `quotas` is {split: {values of the fields: rows}}; what is left over is train.
    """
    left = {split: Counter(quota) for split, quota in quotas.items()}
    splits = defaultdict(list)
    for row in rows:
        own = stratum(row, fields)
        split = next((name for name, quota in left.items() if quota[own] > 0), "train")
        if split != "train":
            left[split][own] -= 1
        splits[split].append(row)
    # Validation starts when a stratum of the test set is full, so its first rows would all be of
    # that stratum: mix them, since a lesson may take only the first hundred.
    splits["validation"].sort(key=lambda row: hashlib.sha256(repr(row).encode()).digest())
    return splits


def proportional(strata: Counter, total: int) -> dict:
    """Share a total out over strata by their sizes, the largest remainders rounded up."""
    exact = {stratum: total * size / strata.total() for stratum, size in strata.items()}
    floor = {stratum: math.floor(share) for stratum, share in exact.items()}
    by_remainder = sorted(
        exact, key=lambda stratum: (floor[stratum] - exact[stratum], str(stratum))
    )
    rounded_up = by_remainder[: total - sum(floor.values())]
    return {stratum: floor[stratum] + (stratum in rounded_up) for stratum in exact}
