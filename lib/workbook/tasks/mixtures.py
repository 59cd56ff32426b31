"""Mixtures of tasks: how much of each a model learns from. Taught in notebook 06."""

import itertools
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import datasets

from ..errors import WorkbookError
from ..templates import Pair
from . import Task, draw, splits


def mixing_rates(
    sizes: Mapping[str, int], temperature: float = 1.0, cap: int | None = None
) -> dict[str, float]:
    """Return each task's share of a mixture, proportional to min(size, cap) ** (1 / temperature).

    Temperature 1 is proportional to the examples, a high one nearly even; the cap keeps large
    tasks from crowding out small ones (Raffel et al. 2020, arXiv:1910.10683). Raises WorkbookError
    for an empty task and a temperature or cap that is not positive.
    """
    if temperature <= 0 or (cap is not None and cap <= 0) or min(sizes.values(), default=0) <= 0:
        raise WorkbookError("A mixture needs tasks with rows, and temperature and cap above 0.")
    weights = {name: min(size, cap or size) ** (1 / temperature) for name, size in sizes.items()}
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def mix(
    rows: Mapping[str, datasets.Dataset], n: int, rates: Mapping[str, float], seed: int = 0
) -> dict[str, list[dict]]:
    """Return n rows at the given rates, by task.

    The counts are the rates times n, rounded so that they add up. No row of a task comes a second
    time before all of them came once; each task is drawn as `tasks.draw` does.
    """
    counts = splits.proportional(Counter(rates), n)
    return {name: _cycled(rows[name], count, seed) for name, count in counts.items()}


def _cycled(rows: datasets.Dataset, count: int, seed: int) -> list[dict]:
    whole, rest = divmod(count, len(rows))
    passes = [*[len(rows)] * whole, rest]
    drawn = (draw(rows, size, seed=seed + number) for number, size in enumerate(passes) if size)
    return list(itertools.chain.from_iterable(drawn))


def render(
    task: Task, rows: Iterable[dict], templates: Sequence[str] = (), seed: int = 0
) -> list[Pair]:
    """Return the rows as prompt–completion pairs, each through one of the templates at random.

    Without names every template of the task takes part. Sampling templates is what FLAN does
    (Wei et al. 2022, arXiv:2109.01652).
    """
    chosen = [task.template(name) for name in templates] or task.templates
    rng = random.Random(f"{seed} {task.name}")
    return [rng.choice(chosen).render(row) for row in rows]
