"""What several notebooks and sweeps train and measure with, defined once.

The shared runs are the trained models that several notebooks use: the first one that needs a model
trains it. Below them is what the sweeps have in common.
"""

import contextlib
import functools
import random
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from . import abilities, encoding, metrics, models, runcache, scoring, settings, tasks, training
from .errors import WorkbookError
from .templates import few_shot
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


class _Enough(Exception):
    """As many steps as were asked for are done."""


def fit_steps(
    model: torch.nn.Module,
    examples: Sequence[dict],
    *,
    steps: int,
    lr: float,
    seed: int,
    on_step: Callable[[History], None] | None = None,
    batch_size: int = 8,
    warmup: int = 6,
) -> History:
    """Tune as `training.fit` does, for so many full steps, at a rate that stays after the warm-up.

    Passes go on for as long as it takes, and the last step of a pass is filled up with its first
    examples: so few examples and many get equal steps. And since the rate does not fall, the model
    after k steps is what a run of k steps would have made: one run tells about all shorter ones.
    """
    rows = [*examples, *examples[: -len(examples) % batch_size]]
    epochs = 1_000_000  # `fit` lowers its rate to zero by the end: so far off, it stays
    history = History()

    def watch(now: History) -> None:
        nonlocal history
        history = now
        if on_step:
            on_step(now)
        if len(now.steps) == steps:
            raise _Enough

    with contextlib.suppress(_Enough):
        training.fit(
            model, rows, epochs=epochs, batch_size=batch_size, lr=lr, seed=seed, on_step=watch,
            warmup_ratio=warmup * batch_size / (epochs * len(rows)), progress=False,
        )  # fmt: skip
    training.release_memory()  # the optimizer of a run that was broken off
    model.eval()
    return history


# -------------------------------------------------------------- labels, by a model or without one

NEUTRAL = ("N/A", "[MASK]", "")  # the texts without content of Zhao et al. (2021)


def labelled(
    model, tokenizer, task: str, rows: Sequence[dict], template: int | str = "question"
) -> dict:
    """Return how a model labels rows in the chat format: score, labels as digits, losses in nats.

    `answer_loss` is that of the right label, `end_loss` that of the end token after it, each over
    the whole vocabulary and averaged over the rows.
    """
    wording = load_task(task).template(template)
    parts = [_starts_and_choices(tokenizer, wording, row) for row in rows]
    starts, choices = zip(*parts, strict=True)
    with scoring.working_copy(model) as working:
        scores = np.array(scoring.score_continuations(working, starts, choices))
    right = scores[range(len(rows)), [row["label"] for row in rows]]
    losses = {"answer_loss": -right.mean(), "end_loss": (right - scores[:, -1]).mean()}
    return judged(task, rows, scores[:, :-1].argmax(axis=1)) | losses


def _starts_and_choices(tokenizer, wording, row) -> tuple[list[int], list[list[int]]]:
    """Return the ids of the prompt, and those of each label and of the right one with its end."""
    prompt = wording.render(row).prompt
    encoded = [encoding.encode(tokenizer, prompt, label) for label in wording.choices(row)]
    start = encoded[0]["labels"].count(encoding.IGNORE_INDEX)
    answers = [example["input_ids"][start:] for example in encoded]
    return encoded[0]["input_ids"][:start], [*(ids[:-1] for ids in answers), answers[row["label"]]]


def prompted(
    model, tokenizer, task: str, rows: Sequence[dict], *, template: int | str, prompt_style: str,
    shots: int, draw: int,
) -> dict:  # fmt: skip
    """Return how a model labels rows after so many solved examples, plain and calibrated.

    Calibration is that of `scoring.classify`; the names of its results end in `_calibrated`.
    """
    data, wording = load_task(task), load_task(task).template(template)
    shown = list(tasks.draw(data.splits["train"], shots, seed=draw))
    random.Random(draw).shuffle(shown)
    every = [*rows, *({"text": text, "label": 0} for text in NEUTRAL)]
    prompts = [few_shot(wording, shown, row).prompt for row in every]
    with scoring.working_copy(model) as working:
        found = scoring.classify(
            working, tokenizer, prompts, wording.choices(every[0]), prompt_style=prompt_style
        )
    bias = found.probabilities()[len(rows) :].mean(axis=0)
    calibrated = (found.scores - np.log(bias)).argmax(axis=1)[: len(rows)]
    result = judged(task, rows, calibrated)
    return judged(task, rows, found.predictions[: len(rows)]) | {
        f"{name}_calibrated": value for name, value in result.items()
    }


def bag_of_words(task: str, rows: Sequence[dict], n: int, seed: int, strength: float) -> dict:
    """Return how logistic regression on TF-IDF labels rows after the n examples of `examples`.

    Single words and pairs count; `strength` is scikit-learn's C, high for little regularization.
    """
    # Imported here because it takes seconds, and most readers of this module do not need it.
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    train = tasks.draw(load_task(task).splits["train"], n, seed=seed)
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    model = make_pipeline(words, LogisticRegression(C=strength, max_iter=1000))
    model.fit(train["text"], train["label"])
    return judged(task, rows, model.predict([row["text"] for row in rows]))


def judged(task: str, rows: Sequence[dict], predictions: np.ndarray) -> dict:
    """Return the score of predicted labels by the task's metric, and the labels as digits."""
    truth = np.array([row["label"] for row in rows])
    if load_task(task).metric == "f1_macro":
        score = metrics.macro_f1(truth, predictions)
    else:
        score = float(np.mean(truth == predictions))
    return {"score": score, "predictions": "".join(map(str, predictions))}
