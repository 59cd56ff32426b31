"""What several notebooks and sweeps train and measure with, defined once.

The shared runs are the trained models that several notebooks use: the first one that needs a model
trains it. Below them is what the sweeps have in common.
"""

import functools
from collections.abc import Callable, Mapping, Sequence

import torch
from transformers import PreTrainedTokenizerBase

from . import abilities, encoding, models, runcache, settings, tasks
from .errors import WorkbookError
from .training import History

# What tunes each run. Notebook 03 spells out the first one on the page.
RUNS = {
    "sentiment-full": {
        "task": "sentiment",
        "template": "question",
        "examples": {"smoke": 16, "default": 250, "full": 1000},
        "validation": {"smoke": 16, "default": 100, "full": 100},
        "options": {"lr": 5e-5},
    },
}


def load(
    name: str, on_step: Callable[[History], None] | None = None
) -> tuple[torch.nn.Module, PreTrainedTokenizerBase, History]:
    """Return the tuned model of this name, its tokenizer and its training history.

    It comes from the run cache, or is trained now. Raises WorkbookError for an unknown name.
    """
    if name not in RUNS:
        raise WorkbookError(f"There is no shared run {name!r}: choose one of {', '.join(RUNS)}.")
    model, tokenizer = models.load()
    train, validation = (encoded(name, tokenizer, split) for split in ("train", "validation"))
    options = {"seed": settings.seed(), **RUNS[name]["options"]}
    history = runcache.fit(name, model, train, validation=validation, on_step=on_step, **options)
    return model, tokenizer, history


def encoded(name: str, tokenizer: PreTrainedTokenizerBase, split: str) -> list[dict]:
    """Return the encoded examples that a run learns from ("train") or is watched by."""
    run = RUNS[name]
    task = tasks.load_task(run["task"])
    if split == "train":
        count = run["examples"][settings.scale()]
        rows = tasks.draw(task.splits["train"], count, seed=settings.seed())
    else:
        rows = task.splits[split].select(range(run[split][settings.scale()]))
    render = task.template(run["template"]).render
    return encoding.encode_pairs(tokenizer, map(render, rows))


# ------------------------------------------------------------------------------------ for sweeps

SELECTION_SEEDS = (0, 1)  # runs that choose a rate, a strength, a template, on validation rows
TEST_SEEDS = (10, 11, 12, 13, 14)  # runs that are tested, none of which chose anything
CONTESTED_SEEDS = tuple(range(10, 20))  # where a result is contested
load_task = functools.cache(tasks.load_task)


def examples(
    tokenizer, task: str, n: int, seed: int, template: int | str = "question"
) -> list[dict]:
    """Return n encoded training rows of a task, as balanced as they go; seeds are nested draws."""
    data = load_task(task)
    rows = tasks.draw(data.splits["train"], n, seed=seed)
    return encoding.encode_pairs(tokenizer, map(data.template(template).render, rows))


def panel(model, tokenizer, split: str = "test", skip: Sequence[str] = ()) -> dict:
    """Return the recorded panel of the model, packed for a sweep's row."""
    return abilities.pack(abilities.measure(model, tokenizer, "recorded", split, skip))


def graded(row: Mapping) -> dict[str, abilities.Grades]:
    """Return the grades of the panel that a sweep's row holds."""
    return abilities.grade(abilities.unpack(row["panel"]))
