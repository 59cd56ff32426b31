"""Scores through `evaluate`, their uncertainty, and paired comparisons."""

import functools
import itertools
import re
import string
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import stats

from . import settings
from .errors import WorkbookError

SCRIPTS = Path(__file__).with_name("metric_scripts")
# What stays of the punctuation is part of a number: a sign before it, a point in it, 3/4 and 9:30.
NUMBER = re.compile(r"(?<!\S)(?:-\.?|\.)(?=\d)|(?<=\d)[./:](?=\d)")
THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
ALIKE = str.maketrans({"−": "-", "’": "'", "‘": "'", "“": '"', "”": '"'})


class Interval(NamedTuple):
    """An estimate with the two ends of its confidence interval."""

    estimate: float
    low: float
    high: float

    def __str__(self):
        return f"{self.estimate:z.2f} [{self.low:z.2f}, {self.high:z.2f}]"


class RunInterval(Interval):
    """An interval that covers other training runs too; `runs` is how many it was made of."""

    def __new__(cls, estimate: float, low: float, high: float, runs: int):
        made = super().__new__(cls, estimate, low, high)
        made.runs = runs
        return made


def compute(name: str, predictions, references, **options) -> dict[str, float]:
    """Return the scores of one metric over all items.

    `name` is accuracy, f1_macro (option `labels`: the classes; default those of the
    references), exact_match or token_f1 (a reference is a text or a list of accepted texts; with
    the option `articles=True`, for other languages than English, "a", "an" and "the" count), rouge,
    bleu or chrf (a reference is a text or a list of good ones; between 0 and 1, where papers write
    0 to 100), or span_f1 (an item is {type: [span, ...]} or a list of (type, span)). Raises
    WorkbookError for an unknown name, no items, or columns of different lengths.
    """
    predictions, references = list(predictions), list(references)
    _check_lengths(predictions, references)
    if name in ("exact_match", "token_f1", "bleu", "chrf"):
        references = [[item] if isinstance(item, str) else list(item) for item in references]
    if name == "span_f1":
        predictions, references = _spans(predictions), _spans(references)
    scores = _metric(name).compute(predictions=predictions, references=references, **options)
    return {key: float(value) for key, value in scores.items()}


def normalise(text, articles=False):
    """Return the text in lower case without punctuation, English articles and extra white space.

    The steps are those of SQuAD (Rajpurkar et al. 2016, arXiv:1606.05250), but that numbers keep
    their signs, points, fraction bars and colons. With `articles` these stay, as they do in a text
    of nothing else.
    """
    text = THOUSANDS.sub("", text.lower().translate(ALIKE))
    text = re.sub(r"(?<=\d),(?=\d)", " ", text)
    kept = {i for match in NUMBER.finditer(text) for i in range(*match.span())}
    letters = (c for i, c in enumerate(text) if i in kept or c not in string.punctuation)
    bare = " ".join("".join(letters).split())
    return bare if articles else " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split()) or bare


def exact_match(answer: str, accepted: Sequence[str], articles: bool = False) -> bool:
    """Tell whether an answer equals an accepted one after `normalise`; an empty one never does."""
    return normalise(answer, articles) in {normalise(text, articles) for text in accepted} - {""}


def token_f1(answer: str, accepted: Sequence[str], articles: bool = False) -> float:
    """Return the F1 of the words that an answer shares with the accepted one that it is nearest to.

    Words as `normalise` leaves them, as often as they stand there (SQuAD: Rajpurkar et al. 2016,
    arXiv:1606.05250). An answer without a word scores 0.
    """
    got = Counter(normalise(answer, articles).split())
    truths = [Counter(normalise(text, articles).split()) for text in accepted]
    return max((micro_f1((got & t).total(), got.total(), t.total()) for t in truths), default=0.0)


def bleu(answer: str, references: Sequence[str]) -> float:
    """Return the BLEU of one answer, between 0 and 1 (Papineni et al. 2002).

    By sacrebleu (Post 2018, arXiv:1804.08771), over as many orders of n-grams as the answer has
    words for. Over many answers take `compute`, which counts n-grams of all before it divides.
    """
    import sacrebleu

    return sacrebleu.sentence_bleu(answer, list(references)).score / 100


def chrf(answer: str, references: Sequence[str]) -> float:
    """Return the chrF of one answer, between 0 and 1: F2 of its n-grams of letters (Popović 2015).

    By sacrebleu (Post 2018, arXiv:1804.08771).
    """
    import sacrebleu

    return sacrebleu.sentence_chrf(answer, list(references)).score / 100


def reference_streams(references: Sequence[Sequence[str]]) -> list[list[str | None]]:
    """Return the items' references as sacrebleu reads them: all first ones, all second ones …"""
    return [list(stream) for stream in itertools.zip_longest(*references)]


def rouge(answer: str, reference: str) -> dict[str, NamedTuple]:
    """Return precision, recall and fmeasure of ROUGE-1, ROUGE-2 and ROUGE-L, without stemming.

    Lin 2004; the tokenizer is ours, since that of `rouge_score` knows only the letters a to z.
    """
    return _rouge_scorer().score(reference, answer)


class _Words:
    """Words of any script in lower case, without underscores, which `rouge_score` drops too."""

    def tokenize(self, text: str) -> list[str]:
        return re.findall(r"[^\W_]+", text.lower())


@functools.cache
def _rouge_scorer():
    from rouge_score import rouge_scorer

    return rouge_scorer.RougeScorer(("rouge1", "rouge2", "rougeL"), tokenizer=_Words())


def macro_f1(references, predictions, labels=None) -> float:
    """Return the same macro F1 as `compute`, fast enough to be resampled thousands of times."""
    references, predictions = np.asarray(references), np.asarray(predictions)
    classes = np.unique(references) if labels is None else labels
    masks = [(predictions == label, references == label) for label in classes]
    return float(np.mean([micro_f1(got & true, got, true) for got, true in masks]))


def span_counts(predictions, references) -> np.ndarray:
    """Return the numbers of right, predicted and expected spans, as an array [items, 3].

    `bootstrap_interval(tuple(span_counts(p, r).T), micro_f1)` gives span F1 its interval.
    """
    pairs = zip(_spans(predictions), _spans(references), strict=True)
    sets = [(set(map(tuple, got)), set(map(tuple, true))) for got, true in pairs]
    return np.array([(len(got & true), len(got), len(true)) for got, true in sets])


def micro_f1(hits, predicted, expected) -> float:
    """Return F1 from counts per item: right, predicted and expected."""
    return float(2 * np.sum(hits) / max(np.sum(predicted) + np.sum(expected), 1))


def bootstrap_interval(
    values, statistic=np.mean, confidence=0.95, seed=0, n_resamples=2000
) -> Interval:
    """Return a statistic over items with its percentile bootstrap interval.

    `values` is one array over the items, or a tuple of arrays that are resampled together and
    given to `statistic` side by side, such as (labels, predictions) for `macro_f1`. The interval
    covers the choice of the items (Efron & Tibshirani 1993). Raises WorkbookError for columns of
    different lengths, fewer than two items, or values that are not numbers (NaN).
    """
    columns = _columns(values)
    _check_finite(*columns)
    items = np.arange(_check_lengths(*columns, least=2))

    def resampled(chosen):
        return statistic(*(column[chosen.astype(int)] for column in columns))

    options = {"confidence_level": confidence, "n_resamples": n_resamples, "vectorized": False}
    rng = np.random.default_rng(seed)
    ends = stats.bootstrap((items,), resampled, method="percentile", rng=rng, **options)
    low, high = ends.confidence_interval
    return Interval(float(statistic(*columns)), float(low), float(high))


def paired_interval(a, b, statistic=np.mean, **options) -> Interval:
    """Return statistic(a) - statistic(b) over the same items, which are resampled together.

    `a` and `b` are what `bootstrap_interval` takes as values; so are the options and the errors.
    """
    first, second = _columns(a), _columns(b)
    _check_lengths(*first, *second)

    def difference(*columns):
        return statistic(*columns[: len(first)]) - statistic(*columns[len(first) :])

    return bootstrap_interval((*first, *second), difference, **options)


def pooled_interval(differences, **options) -> Interval:
    """Return the mean of differences [runs, items] with an interval over the items alone.

    The runs of an item are averaged first, so the interval is about these very runs on other
    items; it says nothing about other runs of the same methods. For those take `run_interval`.
    """
    return bootstrap_interval(_by_run(differences).mean(axis=0), **options)


def run_interval(differences, confidence=0.95) -> RunInterval:
    """Return the mean of differences [runs, items] with an interval over runs and items.

    Student's t on the runs' means, with the variance of the mean over the items added, and the
    degrees of freedom of the sum (Welch 1947): `differences` are two methods' scores of the same
    items, run by run with the same seed. It covers 92 to 97 % for three runs, as simulated in the
    tests; a bootstrap over so few runs covers far less. Raises WorkbookError for fewer than two
    runs or two items, and for values that are not numbers (NaN). Taught in notebook 05.
    """
    values = _by_run(differences)
    _check_finite(values)
    runs, items = values.shape
    if min(runs, items) < 2:
        raise WorkbookError(f"{runs} runs on {items} items tell no scatter: give two or more.")
    by_run, by_item = values.mean(axis=1), values.mean(axis=0)
    parts = np.array([by_run.var(ddof=1) / runs, by_item.var(ddof=1) / items])
    freedom = parts.sum() ** 2 / max((parts**2 / [runs - 1, items - 1]).sum(), 1e-300)
    half = stats.t.ppf(0.5 + confidence / 2, max(freedom, 1)) * np.sqrt(parts.sum())
    estimate = float(values.mean())
    return RunInterval(estimate, estimate - float(half), estimate + float(half), runs)


def _by_run(differences) -> np.ndarray:
    values = np.asarray(differences, dtype=float)
    if values.ndim != 2:
        raise WorkbookError("Differences need two axes: give an array [runs, items].")
    return values


def standard_error(values) -> float | None:
    """Return the standard error of the mean over items, None for a single one.

    As lm-evaluation-harness computes it: the sample's standard deviation divided by √n.
    """
    values = np.asarray(values, dtype=float)
    _check_finite(values)
    items = _check_lengths(values, least=1)
    return float(values.std(ddof=1) / np.sqrt(items)) if items > 1 else None


def wilson(successes: int, n: int, confidence=0.95) -> Interval:
    """Return a share with its Wilson interval, which holds near 0 and 1 too (Wilson 1927)."""
    if not (n > 0 and 0 <= successes <= n):
        raise WorkbookError(f"{successes} of {n} is no share: give 0 <= successes <= n, n > 0.")
    ends = stats.binomtest(int(successes), int(n)).proportion_ci(confidence, method="wilson")
    return Interval(successes / n, float(ends.low), float(ends.high))


def _columns(values):
    several = isinstance(values, tuple) and np.ndim(values[0]) > 0
    return tuple(np.asarray(column) for column in (values if several else (values,)))


def _check_lengths(*columns, least=1):
    lengths = [len(column) for column in columns]
    if len(set(lengths)) > 1:
        raise WorkbookError(f"Lengths differ ({lengths}): give the same items in every column.")
    if lengths[0] < least:
        raise WorkbookError(f"There are {lengths[0]} items to score: give at least {least}.")
    return lengths[0]


def _check_finite(*columns) -> None:
    for column in columns:
        if column.dtype.kind == "f" and not np.isfinite(column).all():
            count = int((~np.isfinite(column)).sum())
            raise WorkbookError(f"{count} values are NaN or infinite: look for what made them.")


def _spans(items):
    return [sorted({(str(kind), str(span)) for kind, span in _pairs(item)}) for item in items]


def _pairs(item):
    if isinstance(item, dict):
        return [(kind, span) for kind, spans in item.items() for span in spans]
    return item


@functools.cache
def _metric(name):
    # Imported here because it takes seconds, and most readers of this module need intervals only.
    import evaluate

    script = SCRIPTS / f"{name}.py"
    if not script.is_file():
        known = ", ".join(sorted(path.stem for path in SCRIPTS.glob("*.py")))
        raise WorkbookError(f"There is no metric {name!r}: choose one of {known}.")
    folder = settings.cache_dir() / "evaluate"
    # `evaluate` imports its copy of the script from one folder per process.
    if "evaluate_modules" not in sys.modules:
        evaluate.config.HF_MODULES_CACHE = folder
    return evaluate.load(str(script), cache_dir=str(folder), keep_in_memory=True)
