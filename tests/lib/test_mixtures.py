"""Mixtures hit their proportions, and rows are not repeated before they must be."""

from collections import Counter

import datasets
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbook import tasks
from workbook.errors import WorkbookError
from workbook.tasks import mixtures


def rows(n):
    return datasets.Dataset.from_dict({"number": list(range(n))})


def test_shares_are_proportional_capped_or_tempered():
    sizes = {"large": 800, "small": 200}
    assert mixtures.mixing_rates(sizes) == {"large": 0.8, "small": 0.2}
    assert mixtures.mixing_rates(sizes, cap=300) == {"large": 0.6, "small": 0.4}
    tempered = mixtures.mixing_rates(sizes, temperature=2)
    assert tempered["large"] == pytest.approx(2 / 3)  # roots of 4 to 1
    assert mixtures.mixing_rates(sizes, temperature=1e9)["large"] == pytest.approx(0.5)


@pytest.mark.parametrize("options", [{"temperature": 0}, {"cap": 0}, {"sizes": {"a": 0}}])
def test_impossible_mixtures_are_refused(options):
    with pytest.raises(WorkbookError, match="above 0"):
        mixtures.mixing_rates(**{"sizes": {"a": 1}} | options)


@given(
    sizes=st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 40), min_size=1),
    n=st.integers(0, 100),
    seed=st.integers(0, 3),
)
def test_a_mixture_hits_its_shares_and_repeats_late(sizes, n, seed):
    shares = mixtures.mixing_rates(sizes)
    mixed = mixtures.mix({name: rows(size) for name, size in sizes.items()}, n, shares, seed)
    assert sum(map(len, mixed.values())) == n
    for name, drawn in mixed.items():
        assert abs(len(drawn) - n * shares[name]) < 1
        times = Counter(row["number"] for row in drawn)
        assert max(times.values(), default=0) <= -(-len(drawn) // sizes[name])


def test_templates_are_sampled_evenly_by_seed():
    task = tasks.load_task("facts")
    drawn = list(tasks.draw(task.splits["train"], 200))
    pairs = mixtures.render(task, drawn)
    used = Counter(
        next(t.name for t in task.templates if t.render(row) == pair)
        for row, pair in zip(drawn, pairs, strict=True)
    )
    assert len(used) == len(task.templates)
    assert min(used.values()) > 0.6 * len(drawn) / len(used)
    assert mixtures.render(task, drawn) == pairs != mixtures.render(task, drawn, seed=1)
    only = mixtures.render(task, drawn, ["quiz"])
    assert only == [task.template("quiz").render(row) for row in drawn]
