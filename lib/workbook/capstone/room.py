"""How many rows of a step fit into the memory that is free: asked before hours of tuning."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from .. import encoding, memory, planning, settings
from ..errors import WorkbookError
from .candidates import BATCH, RANK

EVALUATED = 16  # rows whose validation loss `training.fit` computes at once


def rows_at_once(model, method: str, examples: Sequence[dict]) -> int:
    """Return how many rows of a step fit into the memory that is free, at most all.

    Raises WorkbookError where not a single one does.
    """
    free = memory.free_bytes(model.device)
    room = planning.ROOM * free + sum(weight.nbytes for weight in model.parameters())
    longest, learned = lengths(examples)
    setting = planning.Setting(
        method=method.lower(), rank=RANK, precision=settings.precision(), batch_size=BATCH,
        sequence_length=longest, completion_length=learned,
    )  # fmt: skip
    whole, in_parts = _moments(model.config, setting)
    rows = min(planning.largest_batch(whole, setting, room), BATCH)
    if rows < BATCH:
        rows = min(planning.largest_batch(in_parts, setting, room), BATCH - 1)
    if rows < 1:
        less = "--method lora" if method == "full" else "a smaller model with --model"
        raise WorkbookError(
            f"Tuning ({method}) does not fit into the memory, of which {free / 1e9:.1f} GB are "
            f"free, not even with one row of {longest} tokens at once: close other programs, "
            f"shorten the texts, or take {less}."
        )
    return rows


def lengths(examples: Sequence[dict]) -> tuple[int, int]:
    """Return the most tokens of a row, and the most positions from which a batch learns.

    Rows of a batch have about the same length, and end at different places.
    """
    ends = [len(each["labels"]) for each in examples]
    starts = [int(np.argmax(np.not_equal(each["labels"], encoding.IGNORE_INDEX)))
              for each in examples]  # fmt: skip
    rows = sorted(zip(ends, starts, strict=True))
    batches = [rows[i : i + BATCH] for i in range(len(rows))]
    return rows[-1][0], max(batch[-1][0] - min(start for _, start in batch) for batch in batches)


def _moments(config, setting: planning.Setting) -> Iterator[list[planning.Memory]]:
    """Yield what is held at the moments of a run, with whole batches and with batches in parts.

    To a step's come the best weights so far, and the validation, with two numbers a logit.
    """
    shapes = planning.read_shapes(config, setting)
    for batches in (1, 2):  # of parts the gradients add up, as those of several batches
        way = dataclasses.replace(setting, gradient_accumulation_steps=batches)
        best = 4 * shapes.learning
        kept = planning.weight_bytes(shapes, way) + best
        logits = 8 * shapes.logits * EVALUATED / BATCH
        step = [
            dataclasses.replace(one, weights=one.weights + best)
            for one in planning.moments(shapes, way).values()
        ]
        yield [*step, planning.Memory(kept + logits, 0, planning.optimizer_bytes(shapes, way))]
