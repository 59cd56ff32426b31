"""The metrics of continual learning, against numbers worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from workbook.errors import WorkbookError
from workbook.forgetting import continual

# Row i: the scores on tasks 0, 1, 2 after training on the tasks 0 … i.
MATRIX = [
    [0.90, 0.30, 0.10],
    [0.95, 0.80, 0.25],
    [0.60, 0.70, 0.85],
]
UNTRAINED = [0.50, 0.20, 0.15]


def test_average_accuracy_is_the_mean_of_the_last_row():
    # (0.60 + 0.70 + 0.85) / 3 = 2.15 / 3
    assert continual.average_accuracy(MATRIX) == pytest.approx(2.15 / 3)


def test_backward_transfer_compares_the_last_row_with_the_diagonal():
    # Task 0: 0.60 - 0.90 = -0.30; task 1: 0.70 - 0.80 = -0.10; the last task has no later one.
    assert continual.backward_transfer(MATRIX) == pytest.approx(-0.20)


def test_forward_transfer_compares_each_task_just_before_it_with_no_training():
    # Task 1 after task 0: 0.30 - 0.20 = 0.10; task 2 after task 1: 0.25 - 0.15 = 0.10.
    assert continual.forward_transfer(MATRIX, UNTRAINED) == pytest.approx(0.10)
    # The score before any training of task 0 has no part in it.
    assert continual.forward_transfer(MATRIX, [9, 0.1, 0.2]) == pytest.approx((0.2 + 0.05) / 2)


def test_forgetting_is_measured_from_the_best_score_before_the_last_task():
    # Task 0 was best after task 1: 0.95 - 0.60 = 0.35; task 1: 0.80 - 0.70 = 0.10.
    assert continual.forgetting(MATRIX) == pytest.approx(0.225)


def test_a_gain_on_an_old_task_is_negative_forgetting():
    assert continual.forgetting([[0.5, 0.0], [0.7, 0.9]]) == pytest.approx(-0.2)
    assert continual.backward_transfer([[0.5, 0.0], [0.7, 0.9]]) == pytest.approx(0.2)


SIZES = st.integers(2, 6)
SCORES = st.floats(0, 1)


@given(SIZES.flatmap(lambda n: arrays.arrays(float, n, elements=SCORES)))
def test_a_model_that_never_changes_forgets_nothing(row):
    matrix = np.tile(row, (len(row), 1))
    assert continual.backward_transfer(matrix) == 0
    assert continual.forgetting(matrix) == 0
    assert continual.forward_transfer(matrix, row) == 0
    assert continual.average_accuracy(matrix) == pytest.approx(row.mean())


@given(SIZES.flatmap(lambda n: arrays.arrays(float, (n, n), elements=SCORES)))
def test_forgetting_is_never_less_than_the_loss_since_the_task_was_trained(matrix):
    assert continual.forgetting(matrix) >= -continual.backward_transfer(matrix) - 1e-12


@pytest.mark.parametrize("matrix", [[[0.5]], [[0.5, 0.6]], [[0.5, 0.6]] * 3, [0.5, 0.6], []])
def test_what_is_no_square_of_two_tasks_is_refused(matrix):
    calls = (
        continual.average_accuracy,
        continual.backward_transfer,
        continual.forgetting,
        lambda m: continual.forward_transfer(m, [0.5, 0.5]),
    )
    for call in calls:
        with pytest.raises(WorkbookError, match="one row and one column for each"):
            call(matrix)


def test_forward_transfer_needs_a_score_a_task():
    with pytest.raises(WorkbookError, match="3 tasks need as many"):
        continual.forward_transfer(MATRIX, UNTRAINED[:2])


@pytest.mark.parametrize(
    "remedy, share", [([1, 1, 0, 0], 0.5), ([1, 0, 0, 0], 0), ([1, 1, 1, 1], 1.5), ([0] * 4, -0.5)]
)
def test_the_recovered_share_compares_with_what_plain_tuning_lost(remedy, share):
    before, plain = [1, 1, 1, 0], [1, 0, 0, 0]
    assert continual.recovered_share(before, plain, remedy) == pytest.approx(share)
