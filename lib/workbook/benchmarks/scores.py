"""From the log-likelihoods of a question's choices to its score, as lm-evaluation-harness does."""

from collections.abc import Sequence

import numpy as np

from .questions import Question


def acc(scores: Sequence[float], question: Question) -> float:
    """Return 1.0 if the likeliest choice is the right one, else 0.0; of equals the first counts."""
    return float(np.argmax(scores) in question.right)


def acc_norm(scores: Sequence[float], question: Question) -> float:
    """Return the same for the log-likelihood by character, so that long choices lose nothing."""
    characters = [len(choice) for choice in question.choices]
    return float(np.argmax(np.divide(scores, characters)) in question.right)


def mc1(scores: Sequence[float], question: Question) -> float:
    """Return 1.0 if the right choice is likelier than every other, else 0.0 (TruthfulQA).

    The one difference from the harness: there the right choice stands first, and of equals the
    first counts, so that a model which tells none from another would be right each time.
    """
    [right] = question.right
    others = (score for i, score in enumerate(scores) if i != right)
    return float(scores[right] > max(others))


def mc2(scores: Sequence[float], question: Question) -> float:
    """Return the right choices' share of the probability that all choices have (TruthfulQA)."""
    weights = np.exp(np.subtract(scores, max(scores)))
    return float(weights[list(question.right)].sum() / weights.sum())


METRICS = {"acc": acc, "acc_norm": acc_norm, "mc1": mc1, "mc2": mc2}
