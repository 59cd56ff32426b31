"""Ask a model the questions of a benchmark: the log-likelihood of each choice, and the scores."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from tqdm.auto import tqdm

from .. import metrics, scoring
from ..encoding import continuation_ids
from ..errors import WorkbookError
from .loading import Benchmark
from .questions import Question
from .scores import METRICS


@dataclass(frozen=True)
class Result:
    """A benchmark with the log-likelihoods (nats) of each question's choices."""

    benchmark: Benchmark
    scores: list[list[float]]

    def values(self, metric: str) -> np.ndarray:
        """Return each question's score, an array [questions] of numbers between 0 and 1."""
        pairs = zip(self.scores, self.benchmark.questions, strict=True)
        return np.array([METRICS[metric](*pair) for pair in pairs])

    def summary(self) -> dict[str, dict[str, float | None]]:
        """Return the mean and its standard error over the questions, for each metric."""
        values = {metric: self.values(metric) for metric in self.benchmark.metrics}
        return {
            metric: {"value": float(each.mean()), "stderr": metrics.standard_error(each)}
            for metric, each in values.items()
        }

    def by_group(self, metric: str) -> dict[str, float]:
        """Return the mean of each group of questions, such as the subjects of MMLU."""
        groups = np.array([question.group for question in self.benchmark.questions])
        values = self.values(metric)
        return {
            str(group): float(values[groups == group].mean()) for group in dict.fromkeys(groups)
        }


def evaluate(model, tokenizer, benchmark: Benchmark, *, progress: bool = True) -> Result:
    """Return what a model makes of a benchmark, computed in the working precision.

    A progress bar counts the choices. Raises WorkbookError where a question with its shots is
    longer than the model's context; lm-evaluation-harness would cut its beginning.
    """
    total = sum(len(question.choices) for question in benchmark.questions)
    with (
        scoring.working_copy(model) as working,
        tqdm(total=total, disable=not progress, desc=benchmark.name, leave=False) as bar,
    ):
        return Result(benchmark, log_likelihoods(working, tokenizer, benchmark, bar.update))


def log_likelihoods(
    model, tokenizer, benchmark: Benchmark, on_scored: Callable[[int], object] | None = None
) -> list[list[float]]:
    """Return the log-likelihood (nats) of each choice of each question, in the model's format.

    What the questions of a group begin with, preamble and shots, is computed once, and each
    question once for all its choices, where the model's cache allows that.
    """
    found: dict[int, list[float]] = {}
    for positions in _groups(benchmark.questions):
        asked = [benchmark.questions[i] for i in positions]
        rows = [choice_ids(tokenizer, benchmark.context(q), q.choices) for q in asked]
        prompts, choices = zip(*rows, strict=True)
        scored = scoring.score_continuations(model, prompts, choices, on_scored=on_scored)
        found |= dict(zip(positions, scored, strict=True))
    return [found[i] for i in range(len(benchmark.questions))]


def _groups(questions: Sequence[Question]) -> list[list[int]]:
    """Return the positions of the questions, those of a group together."""
    order = sorted(range(len(questions)), key=lambda i: questions[i].group)
    return [list(g) for _, g in itertools.groupby(order, key=lambda i: questions[i].group)]


def choice_ids(
    tokenizer, context: str, choices: Sequence[str]
) -> tuple[list[int], list[list[int]]]:
    """Return the token ids of a context and of each choice, which follows it after a space.

    As in lm-evaluation-harness: context and choice are read as one text, white space at the end of
    the context is the choice's, and in place of an empty context stands the token that opens a
    text, or the one that ends it. But what looks like a control token is text here.
    """
    pairs = [continuation_ids(tokenizer, context, f" {choice}") for choice in choices]
    start, ends = scoring.with_common_start(pairs)
    return start or [_opening_id(tokenizer)], ends


def _opening_id(tokenizer) -> int:
    """Return the token that stands for an empty context."""
    for found in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if found is not None:
            return found
    raise WorkbookError(
        "This tokenizer has no token for an empty context: give each question a text."
    )
