"""The ability panel: what a model can do, its answers kept as text and graded in two readings.

A sweep keeps what a model wrote, and `grade` makes numbers of it whenever they are wanted: strict
(the first line, in the form that was asked for) and free (in any form, anywhere in the answer).
The composite and what it is made of are fixed here, before anything is measured with them.
"""

import base64
import functools
import json
import random
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import datasets
import numpy as np

from . import grading, scoring, settings, tasks
from .encoding import split_ids, text_ids
from .errors import WorkbookError

# What a user would miss, and what can be told right from wrong. Free reading: the untuned model
# does not know the strict forms, so there would be nothing to lose. Both count alike. Instructions
# are measured beside: the words that an answer shares with a good one tell more of its length.
COMPOSITE = ("entities", "facts")
# A change within this much of the composite counts as none, when its whole interval is within.
MARGIN = 0.05

load_task = functools.cache(tasks.load_task)


@dataclass(frozen=True)
class Ability:
    """One line of the panel.

    kind        "written", "labelled", "chosen" or "loss"
    template    the name of the wording, always in the chat format
    live        number of items in a notebook
    recorded    number of items in a sweep
    tokens      most new tokens of a written answer
    """

    title: str
    kind: str
    task: str
    template: str = "question"
    live: int = 32
    recorded: int = 120
    tokens: int = 0

    def rows(self, split: str, size: str) -> list[dict]:
        """Return the items of a size, at smoke scale four of them."""
        wanted = self.live if size == "live" else self.recorded
        return self.drawn(split, settings.pick(smoke=min(4, wanted), default=wanted, full=wanted))

    def drawn(self, split: str, n: int) -> list[dict]:
        """Return n items, spread over the kinds of questions; all there are, if fewer."""
        pool = _pool(self.task, split)
        spread = next((c for c in ("topic", "category") if c in pool.column_names), "label")
        return list(tasks.draw(pool, min(n, len(pool)), balanced_by=spread))

    def prompts(self, rows: Sequence[dict]) -> list[str]:
        """Return the prompts of the rows."""
        template = load_task(self.task).template(self.template)
        return [template.render(row).prompt for row in rows]


ABILITIES = {
    "sentiment": Ability("sentiment", "labelled", "sentiment", live=64, recorded=400),
    "entities": Ability(
        "names, written", "written", "entities", "instruction_first", live=20, tokens=32
    ),
    "facts": Ability("facts, written", "written", "facts", tokens=16),
    "instructions": Ability(
        "instructions, written", "written", "instructions", live=13, recorded=39, tokens=48
    ),
    "knowledge": Ability("facts, chosen of four", "chosen", "facts"),
    "instruction_loss": Ability(
        "loss on instructions", "loss", "instructions", live=26, recorded=65
    ),
    "text_loss": Ability("loss on newspaper text", "loss", "sentiment-3-editorials", recorded=60),
}


def _pool(task: str, split: str) -> datasets.Dataset:
    """Return the rows of a split; newspaper editorials have only test, so they are parted here."""
    parts = load_task(task).splits
    if any(len(part) for name, part in parts.items() if name != "test"):
        return parts[split]
    every, half = len(parts["test"]), len(parts["test"]) // 2
    return parts["test"].select(range(half) if split == "test" else range(half, every))


# ------------------------------------------------------------------------------------- measuring


def measure(
    model, tokenizer, size: str = "live", split: str = "test", skip: Sequence[str] = ()
) -> dict:
    """Return {"split", "size", "answers": {ability: …}}, which can be kept as JSON.

    model      as it is, with whatever is attached to it
    size       "live" (half a minute on two cores) or "recorded"; at smoke scale four items each
    split      "test" or "validation"
    skip       abilities to leave out

    Answers are texts where the model writes, else numbers: 1 or 0 for a label, nats a token for a
    loss; of a choice the log-likelihoods of all answers, the right one first. Raises WorkbookError
    for another size. Taught in notebook 04.
    """
    if size not in ("live", "recorded"):
        raise WorkbookError(f"The panel has no size {size!r}: choose live or recorded.")
    with scoring.working_copy(model) as working:
        answers = {
            name: MEASURES[ability.kind](working, tokenizer, ability, ability.rows(split, size))
            for name, ability in ABILITIES.items()
            if name not in skip
        }
    return {"split": split, "size": size, "answers": answers}


def _written(model, tokenizer, ability: Ability, rows: Sequence[dict]) -> list[str]:
    # Reading the weights is what a new token costs, so many rows cost little more than few.
    options = {"max_new_tokens": ability.tokens, "batch_size": 64}
    return scoring.generate(model, tokenizer, ability.prompts(rows), **options)


def _labelled(model, tokenizer, ability: Ability, rows: Sequence[dict]) -> list[float]:
    task = load_task(ability.task)
    return grading.score_task(model, tokenizer, task, rows, ability.template)


def _chosen(model, tokenizer, ability: Ability, rows: Sequence[dict]) -> list[list[float]]:
    """Choose after the very prompt after which the model writes."""
    return choose(model, tokenizer, ability.task, rows, ability.prompts(rows))


def choose(
    model, tokenizer, task: str, rows: Sequence[dict], prompts: Sequence[str]
) -> list[list[float]]:
    """Return the log-likelihoods (nats) of each right answer and of three others of its type."""
    every = list(load_task(task).splits["train"])
    choices = [[row["answer"], *distractors(row, every)] for row in rows]
    return scoring.score_choices(model, tokenizer, prompts, choices)


def distractors(row: dict, others: Sequence[dict], count: int = 3) -> list[str]:
    """Return wrong answers of the same type as the row's, always the same ones.

    Raises WorkbookError where there are too few.
    """
    right = {text.casefold() for text in grading.accepted(row)}
    pool = {
        each["answer"]
        for each in others
        if each["answer_type"] == row["answer_type"]
        and not right & {text.casefold() for text in grading.accepted(each)}
    }
    if len(pool) < count:
        raise WorkbookError(f"Too few answers of the type {row['answer_type']!r}: add rows.")
    return random.Random(row["question"]).sample(sorted(pool), count)


def _loss(model, tokenizer, ability: Ability, rows: Sequence[dict]) -> list[float]:
    """Return the loss of each good answer, or of plain text from its second token on."""
    if "output" in rows[0]:
        answers = zip(ability.prompts(rows), rows, strict=True)
        parts = [split_ids(tokenizer, prompt, row["output"]) for prompt, row in answers]
    else:
        texts = [text_ids(tokenizer, row["text"]) for row in rows]
        parts = [(ids[:1], ids[1:]) for ids in texts if len(ids) > 1]
    starts, rest = zip(*parts, strict=True)
    scores = scoring.score_continuations(model, starts, [[ids] for ids in rest])
    return [-score / len(ids) for (score,), ids in zip(scores, rest, strict=True)]


MEASURES = {"written": _written, "labelled": _labelled, "chosen": _chosen, "loss": _loss}


# --------------------------------------------------------------------------------------- grading


@dataclass(frozen=True)
class Grades:
    """The numbers of each item of one ability, as arrays [items].

    A loss, a label and a choice have one reading, which stands in both places.
    """

    strict: np.ndarray
    free: np.ndarray
    words: np.ndarray | None = None


def grade(panel: Mapping) -> dict[str, Grades]:
    """Return the grades of each ability of a measured panel."""
    return {
        name: _grades(ABILITIES[name], answers, panel["split"])
        for name, answers in panel["answers"].items()
    }


def _grades(ability: Ability, answers: Sequence, split: str) -> Grades:
    if ability.kind == "chosen":  # a tie counts against it
        answers = [float(right > max(wrong)) for right, *wrong in answers]
    if ability.kind != "written":
        return Grades(np.array(answers, float), np.array(answers, float))
    # As many as were asked: a recorded panel is graded at every scale.
    rows, metric = ability.drawn(split, len(answers)), load_task(ability.task).metric
    pairs = list(zip(answers, rows, strict=True))
    return Grades(
        np.array([grading.grade(metric, text.split("\n")[0], row) for text, row in pairs]),
        np.array([grading.grade_freely(metric, text, row) for text, row in pairs]),
        np.array([len(text.split()) for text in answers]),
    )


def composite(grades: Mapping[str, Grades], reading: str = "free") -> np.ndarray:
    """Return a number for each item of COMPOSITE, whose mean is the mean of the abilities.

    Items are weighted so that each ability counts alike, whatever its number of items.
    """
    parts = [getattr(grades[name], reading) for name in COMPOSITE]
    total = sum(map(len, parts))
    return np.concatenate([part * total / (len(parts) * len(part)) for part in parts])


def pack(panel: Mapping) -> dict:
    """Return the panel with the answers of each ability as one short text, to be recorded."""
    return dict(panel) | {"answers": {k: _packed(v) for k, v in panel["answers"].items()}}


def unpack(packed: Mapping) -> dict:
    """Return the panel that `pack` wrote."""
    return dict(packed) | {"answers": {k: _unpacked(v) for k, v in packed["answers"].items()}}


def _packed(answers: Sequence) -> str:
    text = json.dumps(_rounded(answers), ensure_ascii=False)
    return base64.b85encode(zlib.compress(text.encode(), 9)).decode()


def _rounded(value):
    """Return floats, also those in lists, with five digits."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return list(map(_rounded, value))
    return float(f"{value:.5g}") if isinstance(value, float) else value


def _unpacked(text: str) -> list:
    return json.loads(zlib.decompress(base64.b85decode(text)))
