"""Metrics of continual learning, from a matrix of scores.

`matrix[i, j]` is the score on task j after training on the tasks 0 … i in turn, higher is better.
The matrix is square; task j was trained in row j. Taught in notebook 04.
"""

import numpy as np

from ..errors import WorkbookError


def average_accuracy(matrix) -> float:
    """Return ACC, the mean score over all tasks after the last one (Lopez-Paz & Ranzato 2017)."""
    return float(_square(matrix)[-1].mean())


def backward_transfer(matrix) -> float:
    """Return BWT: how much later training changed the score of each earlier task, on average.

    Negative is forgetting (Lopez-Paz & Ranzato 2017, arXiv:1706.08840).
    """
    matrix = _square(matrix)
    return float((matrix[-1] - matrix.diagonal())[:-1].mean())


def forward_transfer(matrix, untrained) -> float:
    """Return FWT: the gain on each later task just before it is trained, on average.

    `untrained` holds the scores before any training (Lopez-Paz & Ranzato 2017).
    """
    matrix, untrained = _square(matrix), np.asarray(untrained, dtype=float)
    if untrained.shape != matrix[0].shape:
        raise WorkbookError(f"{len(matrix)} tasks need as many scores before training: give them.")
    # Above the diagonal: the score on task j after training on task j - 1.
    return float((matrix.diagonal(1) - untrained[1:]).mean())


def forgetting(matrix) -> float:
    """Return how far each earlier task fell below its best score so far, on average.

    The best is taken over the rows before the last (Chaudhry et al. 2018, arXiv:1801.10112).
    """
    matrix = _square(matrix)
    return float((matrix[:-1].max(axis=0) - matrix[-1])[:-1].mean())


def recovered_share(before, plain, remedy) -> float:
    """Return the share of plain tuning's loss that a remedy undoes, from scores of the same items.

    0 is no better than plain tuning, 1 as good as before any tuning; it can be below and above.
    """
    before, plain, remedy = map(np.mean, (before, plain, remedy))
    return float((remedy - plain) / (before - plain))


def _square(matrix) -> np.ndarray:
    matrix = np.asarray(matrix, dtype=float)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or len(matrix) < 2:
        raise WorkbookError(
            f"The matrix of scores has the shape {matrix.shape}: give one row and one column for "
            "each of at least two tasks."
        )
    return matrix
