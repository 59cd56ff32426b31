"""The ability panel: what a model can do, measured alike before and after tuning (notebook 04).

Every ability gives one number for each item, so that two models are compared item by item.
"""

import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .. import grading, metrics, scoring, settings, tasks
from ..encoding import split_ids, text_ids
from ..errors import WorkbookError
from ..metrics import Interval

Panel = dict[str, list[float]]
load_task = functools.cache(tasks.load_task)


@dataclass(frozen=True)
class Ability:
    """One line of the panel; `live` and `recorded` are its numbers of items in the two sizes.

    `measure(model, tokenizer, split, n)` returns a number for each of n items: a score between
    0 and 1, or a loss in nats per token, which is better when lower.
    """

    title: str
    live: int
    recorded: int
    measure: Callable[..., list[float]]
    is_loss: bool = False


def measure(
    model, tokenizer, size: str = "live", split: str = "test", skip: Sequence[str] = ()
) -> Panel:
    """Return the numbers of each item for each ability that is not skipped.

    `size` is "live" (under half a minute on two cores) or "recorded" (1,000 reviews, and of the
    other kinds about all there are); at smoke scale either is four items. Raises WorkbookError for
    another size.
    """
    if size not in ("live", "recorded"):
        raise WorkbookError(f"The panel has no size {size!r}: choose live or recorded.")
    with scoring.working_copy(model) as working:
        return {
            name: ability.measure(working, tokenizer, split, _count(ability, size))
            for name, ability in ABILITIES.items()
            if name not in skip
        }


def _count(ability: Ability, size: str) -> int:
    n = getattr(ability, size)
    return settings.pick(smoke=min(4, n), default=n, full=n)


def summary(panel: Mapping[str, Sequence[float]]) -> dict[str, Interval]:
    """Return each ability's mean with its 95 % interval over the items."""
    return {name: metrics.bootstrap_interval(values) for name, values in panel.items()}


def changes(before: Panel, after: Panel) -> dict[str, Interval]:
    """Return how each ability's mean changed, with the paired 95 % interval."""
    return {name: metrics.paired_interval(after[name], before[name]) for name in after}


def retained(panel: Panel) -> np.ndarray:
    """Return the scores of what a user would miss first: the written names, then the facts.

    The other lines of the panel tell why: what the model still knows, and how it writes.
    """
    return np.concatenate([panel[name] for name in RETAINED])


def report(name: str, panel: Panel) -> None:
    """Print the sentiment accuracy and the mean score of names and facts, with 95 % intervals."""
    own = metrics.wilson(int(sum(panel["sentiment"])), len(panel["sentiment"]))
    kept = metrics.bootstrap_interval(retained(panel))
    print(f"{name:38} sentiment {own}   names and facts {kept}")


def pack(panel: Panel) -> dict[str, str]:
    """Return the panel with each ability's numbers as one text, short enough to be recorded."""
    return {name: " ".join(f"{value:.4g}" for value in values) for name, values in panel.items()}


def unpack(packed: Mapping[str, str]) -> Panel:
    """Return the panel that `pack` wrote, rounded to four digits."""
    return {name: [float(value) for value in text.split()] for name, text in packed.items()}


def _rows(name: str, split: str, n: int) -> list[dict]:
    """Return the first n rows of a split, all there are if there are fewer."""
    rows = load_task(name).splits[split]
    return list(rows.select(range(min(n, len(rows)))))


def _prompts(name: str, rows: Sequence[dict], template: int | str = 0) -> list[str]:
    template = load_task(name).template(template)
    return [template.render(row).prompt for row in rows]


def _write(model, tokenizer, prompts: Sequence[str], tokens: int) -> list[str]:
    # Reading the weights is what a new token costs, so many rows cost little more than few.
    return scoring.generate(model, tokenizer, prompts, max_new_tokens=tokens, batch_size=64)


def sentiment(model, tokenizer, split: str, n: int) -> list[float]:
    """Return 1 for each review that is labelled correctly, else 0."""
    task = load_task("sentiment")
    rows = tasks.draw(task.splits[split], min(n, len(task.splits[split])))
    return grading.score_task(model, tokenizer, task, rows, "question")


def entities(model, tokenizer, split: str, n: int) -> list[float]:
    """Return the F1 of the names that the model lists, in whatever format it chooses."""
    rows = _rows("entities", split, n)
    found = _write(model, tokenizer, _prompts("entities", rows), 32)
    names = [[name for kind in grading.ENTITY_TYPES for name in row[kind]] for row in rows]
    return [grading.name_f1(text, wanted) for text, wanted in zip(found, names, strict=True)]


def facts(model, tokenizer, split: str, n: int) -> list[float]:
    """Return 1 for each question whose written answer holds an accepted one, else 0."""
    rows = _rows("facts", split, n)
    found = _write(model, tokenizer, _prompts("facts", rows), 16)
    return [
        grading.contains(text, grading.accepted(row)) for text, row in zip(found, rows, strict=True)
    ]


def knowledge(model, tokenizer, split: str, n: int) -> list[float]:
    """Return 1 where the right answer is likelier than three answers to other questions, else 0.

    The others are of the same topic. Nothing is written, so no format is asked for, and the prompt
    is plain text ("Question: … Answer:"), which the pretrained model knows without any tuning.
    """
    every = _rows("facts", split, sys.maxsize)
    rows = every[:n]
    choices = [[row["answer"], *_distractors(row, every)] for row in rows]
    prompts = _prompts("facts", rows, "plain")
    scores = scoring.score_choices(model, tokenizer, prompts, choices, prompt_style="plain")
    # A tie counts against the right answer, which stands first.
    return [float(row[0] > max(row[1:])) for row in scores]


def _distractors(row: dict, rows: Sequence[dict], count: int = 3) -> list[str]:
    """Return the next other answers of the row's topic, then of any topic."""
    start = rows.index(row)
    after = [*rows[start + 1 :], *rows[:start]]
    ranked = sorted(after, key=lambda other: other["topic"] != row["topic"])
    others = dict.fromkeys(other["answer"] for other in ranked)
    right = {text.lower() for text in grading.accepted(row)}
    return [text for text in others if text.lower() not in right][:count]


def instructions(model, tokenizer, split: str, n: int) -> list[float]:
    """Return the ROUGE-L of each written answer to an everyday instruction."""
    rows = _rows("instructions", split, n)
    found = _write(model, tokenizer, _prompts("instructions", rows), 48)
    return [grading.grade("rouge", text, row) for text, row in zip(found, rows, strict=True)]


def instruction_loss(model, tokenizer, split: str, n: int) -> list[float]:
    """Return the loss of a good answer to each everyday instruction, in nats per token."""
    rows = _rows("instructions", split, n)
    prompts, good = _prompts("instructions", rows), [row["output"] for row in rows]
    scores = scoring.score_choices(model, tokenizer, prompts, [[text] for text in good])
    lengths = [len(split_ids(tokenizer, *pair)[1]) for pair in zip(prompts, good, strict=True)]
    return [-score / length for (score,), length in zip(scores, lengths, strict=True)]


def text_loss(model, tokenizer, split: str, n: int) -> list[float]:
    """Return the loss of each newspaper sentence as plain text, in nats per token."""
    rows = load_task("sentiment-3-editorials").splits["test"]
    first = 0 if split == "test" else 1000  # the editorials have no validation split of their own
    texts = [text_ids(tokenizer, rows[i]["text"]) for i in range(first, first + n)]
    texts = [ids for ids in texts if len(ids) > 1]
    starts, rest = [ids[:1] for ids in texts], [[ids[1:]] for ids in texts]
    scores = scoring.score_continuations(model, starts, rest)
    return [-score / len(ids) for (score,), (ids,) in zip(scores, rest, strict=True)]


ABILITIES = {
    "sentiment": Ability("sentiment", 64, 1000, sentiment),
    "entities": Ability("entities", 16, 120, entities),
    "facts": Ability("facts, written", 32, 120, facts),
    "knowledge": Ability("facts, chosen", 32, 120, knowledge),
    "instructions": Ability("instructions", 8, 48, instructions),
    "instruction_loss": Ability("loss on instructions", 24, 140, instruction_loss, is_loss=True),
    "text_loss": Ability("loss on newspaper text", 32, 200, text_loss, is_loss=True),
}
RETAINED = ("entities", "facts")
