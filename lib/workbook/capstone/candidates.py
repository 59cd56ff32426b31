"""What is compared: answers that cost no model, prompts, LoRA and full tuning, and the rule.

Notebook 10's order, cheapest first. Rates and rank are those of the course's own runs; they are not
searched here.
"""

import dataclasses
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.checkpoint import checkpoint as computed_again

from .. import encoding, models, training
from ..adaptation import lora
from ..adaptation.additions import attached
from ..errors import WorkbookError
from ..tasks import baselines
from .project import Project
from .recipe import Recipe, with_shots

PROMPTS, TUNED = ("zero-shot", "few-shot"), ("LoRA", "full")
BY_COST = (*PROMPTS, *TUNED)
WANTED = {"auto": BY_COST, "lora": (*PROMPTS, "LoRA"), "full": (*PROMPTS, "full")}
MARGIN = 0.02
RULE = (
    f"Of the methods that are within {MARGIN} of the best score on the validation rows, the "
    "cheapest is taken: first the prompt, then the prompt with solved examples, then LoRA, then "
    "full tuning."
)
OPTIONS = {"LoRA": {"lr": 1e-3}, "full": {"lr": 5e-5}}
RANK, ALPHA = 8, 16
BATCH = 8  # rows a step
MOST_SHOTS = 16
CALIBRATED = ", calibrated"  # what the name of such a recipe ends in


def wanted(method: str, model) -> tuple[str, ...]:
    """Return the ways of a method, the cheapest first; "auto" leaves out a LoRA that has no place.

    Raises WorkbookError for a LoRA that is asked for and has none.
    """
    if "LoRA" in WANTED[method]:
        try:
            lora.LoRA(model, RANK, ALPHA)
        except WorkbookError:
            if method == "lora":
                raise
            return tuple(name for name in WANTED[method] if name != "LoRA")
    return WANTED[method]


def choose(scores: Mapping[str, float]) -> str:
    """Return the method that RULE picks, from validation scores by method."""
    enough = max(scores.values()) - MARGIN - 1e-9
    return next(name for name in BY_COST if scores.get(name, -1.0) >= enough)


def best_prompt(scores: Mapping[str, float]) -> str:
    """Return the better way of prompting, which tuning has to beat; of equals the cheaper one."""
    return max(PROMPTS, key=lambda name: scores[name])


# ------------------------------------------------------------------ what costs no model: yardsticks


def yardsticks(project: Project) -> dict[str, Callable[[Project, Sequence[dict]], list]]:
    """Return what a model should beat, by name: functions of the project and rows to answer.

    What counts words is left out where no text has one, as in emoji or single digits.
    """
    if project.is_labels:
        found = {"constant": _commonest, "TF-IDF": _word_counts}
    else:
        found = {"constant": _most_alike, "copy": _copies, "nearest": _nearest}
    has_words = any(re.search(r"\w\w", text) for text in project.splits["train"]["text"])
    return {n: f for n, f in found.items() if has_words or f not in (_word_counts, _nearest)}


def _commonest(project: Project, rows: Sequence[dict]) -> list[int]:
    [(label, _)] = Counter(project.splits["train"]["label"]).most_common(1)
    return [label] * len(rows)


def _word_counts(project: Project, rows: Sequence[dict]) -> list[int]:
    """Return the labels that logistic regression on TF-IDF gives."""
    train = project.splits["train"]
    model = baselines.word_model(strength=10.0)
    model.fit(train["text"], train["label"])
    return model.predict([row["text"] for row in rows]).tolist()


def _most_alike(project: Project, rows: Sequence[dict]) -> list[str]:
    """Return the training answer that shares most with the others."""
    sample = list(project.splits["train"].select(range(min(40, len(project.splits["train"])))))
    tried = dict.fromkeys(row["output"] for row in sample[:20])
    best = max(tried, key=lambda text: project.values(sample, [text] * len(sample)).mean())
    return [best] * len(rows)


def _copies(project: Project, rows: Sequence[dict]) -> list[str]:
    return [row["text"] for row in rows]


def _nearest(project: Project, rows: Sequence[dict]) -> list[str]:
    """Return the answer to the training input that shares most words, weighted by TF-IDF."""
    train = project.splits["train"]
    vectors = baselines.word_vectors()
    known = vectors.fit_transform(train["text"])
    alike = vectors.transform([row["text"] for row in rows]) @ known.T
    return [train["output"][int(i)] for i in np.asarray(alike.argmax(axis=1)).ravel()]


# ------------------------------------------------------------------------------------------ prompts


def zero_shot(project: Project) -> dict[str, Recipe]:
    """Return the prompts without examples that are tried, by name."""
    return _calibrations({recipe.template.name: recipe for recipe in project.recipes})


def few_shot(project: Project, model, tokenizer, seed: int) -> dict[str, Recipe]:
    """Return the prompts with solved examples that are tried, by name."""
    n = min(MOST_SHOTS, max(4, 2 * len(project.recipes[0].labels))) if project.is_labels else 3
    train = project.splits["train"]
    shown = [with_shots(each, model, tokenizer, train, n, seed) for each in project.recipes]
    return _calibrations({f"{r.template.name}, {len(r.shots)} examples": r for r in shown})


def _calibrations(recipes: Mapping[str, Recipe]) -> dict[str, Recipe]:
    """Return the recipes, and of those for labels the calibrated ones too."""
    calibrated = {
        name + CALIBRATED: dataclasses.replace(recipe, calibrated=True)
        for name, recipe in recipes.items()
        if recipe.kind == "label"
    }
    return {**recipes, **calibrated}


def judge(project: Project, model, tokenizer, recipes: Mapping[str, Recipe]) -> dict:
    """Return the best of some recipes on the validation rows: its name, answers and seconds a row.

    `tried` holds the score of each. A calibrated recipe is judged with its plain one, in one pass.
    """
    rows, found = list(project.splits["validation"]), {}
    for name in (name for name, recipe in recipes.items() if not recipe.calibrated):
        names = [each for each in (name, name + CALIBRATED) if each in recipes]
        start = time.perf_counter()
        every = _readings(recipes[name], model, tokenizer, rows, len(names) > 1)
        seconds = (time.perf_counter() - start) / len(rows)
        for each, answers in zip(names, every, strict=True):
            told = {"recipe": each, "answers": answers.values, "seconds_an_answer": seconds}
            found[each] = told
    tried = {name: project.score(rows, found[name]["answers"]).estimate for name in recipes}
    return {**found[max(tried, key=tried.get)], "tried": tried}


def _readings(recipe: Recipe, model, tokenizer, rows, calibrate: bool) -> list:
    if calibrate:
        return recipe.label_readings(model, tokenizer, rows, calibrate)
    return [recipe.answers(model, tokenizer, rows)]


# ------------------------------------------------------------------------------------------- tuning


def tune(
    model, method: str, train: Sequence[dict], validation: Sequence[dict], *, epochs: int,
    seed: int, checkpoint: Path, rows: int = BATCH, progress: bool = True,
) -> tuple[training.History, int]:  # fmt: skip
    """Tune the model on what `encoded` returns; return the history and how many weights learned.

    The model is the tuned one afterwards: a LoRA is merged into it. A run that the folder
    `checkpoint` holds goes on, a finished one is there at once. `rows` are computed at once, where
    memory is short fewer than a step has.
    """
    options = dict(
        epochs=epochs, seed=seed, validation=validation, patience=1, checkpoint=checkpoint,
        progress=progress, save_steps=25, batch_size=BATCH, loss=InParts(rows), **OPTIONS[method],
    )  # fmt: skip
    if method == "full":
        history = training.fit(model, train, **options)
        return history, models.count_parameters(model).trainable
    addition = lora.LoRA(model, RANK, ALPHA, seed=seed)
    with attached(model, addition):
        count = models.count_parameters(model).trainable
        history = training.fit(model, train, **options)
    lora.merge(model, addition)
    return history, count


def encoded(project: Project, recipe: Recipe, model, tokenizer) -> list[list[dict]]:
    """Return what tuning learns from, and what it is validated on."""
    limit = int(min(1024, models.context_length(model)))
    return [
        [
            encoding.encode(tokenizer, *recipe.pair(row), max_length=limit, truncate=True)
            for row in project.splits[split]
        ]
        for split in ("train", "validation")
    ]


class InParts:
    """The loss of a batch, so many rows at a time, for which there is memory.

    It is `training.completion_loss` of all rows, and its gradients add up to those of all, within
    rounding. The activations of one part are there at a time: all parts but the last, where the
    backward pass begins, are computed again for it (Chen et al. 2016, 1604.06174).
    """

    def __init__(self, rows: int = BATCH):
        self.rows = rows

    def __reduce__(self):
        return InParts, ()  # a run goes on when there is more or less memory than before

    def __call__(self, model, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        parts = zip(*(tensor.split(self.rows) for tensor in batch.values()), strict=True)
        *others, last = [dict(zip(batch, part, strict=True)) for part in parts]
        loss = training.completion_loss
        before = [computed_again(loss, model, part, use_reentrant=False) for part in others]
        return sum(before, loss(model, last))
