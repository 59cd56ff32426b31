"""What several notebooks and sweeps train and measure with, defined once.

The shared runs are the trained models that several notebooks use: the first one that needs a model
trains it. Below them is what the sweeps have in common.
"""

import functools
import random
from collections.abc import Callable, Mapping, Sequence

import datasets
import numpy as np
import torch
import torch.nn.functional as F
from transformers import PreTrainedTokenizerBase

from . import (
    abilities,
    encoding,
    grading,
    metrics,
    models,
    runcache,
    scoring,
    settings,
    tasks,
    training,
)
from .abilities import load_task
from .errors import WorkbookError
from .tasks import mixtures
from .templates import Template, few_shot
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


# What no choice rests on is left out on validation.
NOT_CHOSEN_BY = ("knowledge", "instruction_loss", "text_loss")
SENTIMENT_MARGIN = 0.02  # settings this close to the best one learn the task as well


def skipped(split: str) -> tuple[str, ...]:
    """Return the abilities that are left out of the panel on a split."""
    return NOT_CHOSEN_BY if split == "validation" else ()


def graded(row: Mapping) -> dict[str, abilities.Grades]:
    """Return the grades of the panel that a sweep's row holds."""
    return abilities.grade(abilities.unpack(row["panel"]))


def fit_steps(
    model: torch.nn.Module, examples: Sequence[dict], *, steps: int, batch_size: int = 8,
    warmup: int = 6, **options,
) -> History:  # fmt: skip
    """Tune as `training.fit` does, for so many full steps, at a rate that stays after the warm-up.

    Passes go on for as long as it takes, and the last step of a pass is filled up with its first
    examples: so few examples and many get equal steps. And since the rate does not fall, the model
    after k steps is what a run of k steps would have made: one run tells about all shorter ones.
    """
    rows = [*examples, *examples[: -len(examples) % batch_size]]
    return training.fit(
        model, rows, max_steps=steps, batch_size=batch_size, warmup_ratio=warmup / steps,
        lr_scheduler_type="constant_with_warmup", progress=False, **options,
    )  # fmt: skip


def learned_and_kept(row: Mapping) -> tuple[float, float]:
    """Return sentiment and composite of a row that holds the panel."""
    grades = graded(row)
    return grades["sentiment"].free.mean(), abilities.composite(grades).mean()


def means(runs: Mapping) -> dict:
    """Return {setting: means of its runs' numbers} of those settings that have the most runs."""
    most = max(map(len, runs.values()))
    return {each: np.mean(told, axis=0) for each, told in runs.items() if len(told) == most}


def ranked(found: Mapping, needed: float | None = None) -> list:
    """Return the settings of {setting: (learned, kept)}, the best first.

    Those that learn enough come first, what keeps most in front; the others by what they learn.
    Enough is `needed`, or the best one less SENTIMENT_MARGIN.
    """
    if needed is None:
        needed = max(learned for learned, _ in found.values()) - SENTIMENT_MARGIN

    def rank(setting):
        learned, kept = found[setting]
        return (True, kept) if learned >= needed else (False, learned)

    return sorted(found, key=rank, reverse=True)


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
    data = load_task(task)
    shown = list(tasks.draw(data.splits["train"], shots, seed=draw))
    random.Random(draw).shuffle(shown)
    return after_shots(model, tokenizer, task, rows, shown, data.template(template), prompt_style)


def after_shots(
    model, tokenizer, task: str, rows: Sequence[dict], shown: Sequence[dict], wording: Template,
    prompt_style: str,
) -> dict:  # fmt: skip
    """Return what `prompted` does, after these very solved examples and in any wording."""
    every = [*rows, *({"text": text, "label": 0} for text in NEUTRAL)]
    prompts = [few_shot(wording, shown, row).prompt for row in every]
    with scoring.working_copy(model) as working:
        found = scoring.classify(
            working, tokenizer, prompts, wording.choices(every[0]), prompt_style=prompt_style
        )
    plain, neutral = map(scoring.Classification, np.split(found.scores, [len(rows)]))
    calibrated = judged(task, rows, plain.calibrated(neutral).predictions)
    return judged(task, rows, plain.predictions) | {
        f"{name}_calibrated": value for name, value in calibrated.items()
    }


LABEL_ORDERS = ("alternating", "grouped", "mixed")


def demonstrations(task: str, shots: int, draw: int) -> list[dict]:
    """Return solved examples of train; where there are two labels, in one of the LABEL_ORDERS.

    Draws take these in turn, two draws each, of which one ends in the first label and the other in
    the second. Shots are none, one, or a multiple of four, half of either label.
    """
    data = load_task(task)
    if len(data.labels) != 2:
        return list(tasks.draw(data.splits["train"], shots, seed=draw))
    drawn = list(tasks.draw(data.splits["train"], shots + shots % 2, seed=draw))
    left = {label: iter([row for row in drawn if row["label"] == label]) for label in (0, 1)}
    return [next(left[label]) for label in _label_order(shots, draw)]


def _label_order(shots: int, draw: int) -> list[int]:
    """Return the labels as digits; mixed ones have the same at both ends, and so are no other."""
    last, first, half = draw % 2, 1 - draw % 2, shots // 2
    if shots < 2:
        return [last] * shots
    kind = LABEL_ORDERS[draw // 2 % len(LABEL_ORDERS)]
    if kind == "alternating":
        return [first, last] * half
    if kind == "grouped":
        return [first] * half + [last] * half
    between = [first] * half + [last] * (half - 2)
    random.Random(draw).shuffle(between)
    return [last, *between, last]


def bag_of_words(task: str, rows: Sequence[dict], n: int, seed: int, strength: float) -> dict:
    """Return how logistic regression on TF-IDF labels rows after the n examples of `examples`.

    Single words and pairs count; `strength` is scikit-learn's C, high for little regularization.
    """
    # Imported here because it takes seconds, and most readers of this module do not need it.
    from .tasks import baselines

    train = tasks.draw(load_task(task).splits["train"], n, seed=seed)
    model = baselines.word_model(strength)
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


# ---------------------------------------------------------------------------- many kinds of tasks

# A base model has no chat template; this is the plainest: prompt, line break, answer.
PLAIN = "{{ messages[0]['content'] + '\\n' }}"
TOKENS = {"instructions": 48, "entities": 40}  # most new ones of an answer; 24 of the others
NEXT = "\n\n"  # what stands between solved examples, and so ends an answer after them


@functools.cache
def load_base() -> tuple[torch.nn.Module, PreTrainedTokenizerBase]:
    """Return the base model and its tokenizer with the chat template PLAIN, always the same ones.

    What is attached to it leaves it as it was, so it serves all points of a sweep.
    """
    model, tokenizer = models.load("base")
    tokenizer.chat_template = tokenizer.chat_template or PLAIN
    return model, tokenizer


def pool(kind: str, split: str) -> datasets.Dataset:
    """Return the rows of a kind; where there is an easy tier, that alone: it has headroom."""
    rows = load_task(kind).splits[split]
    if "difficulty" not in rows.column_names:
        return rows
    return rows.select([i for i, tier in enumerate(rows["difficulty"]) if tier == "easy"])


def items(kind: str, split: str = "test") -> list[dict]:
    """Return the rows by which a kind is judged, eighty or all there are."""
    rows, wanted = pool(kind, split), settings.pick(smoke=2, default=80, full=80)
    return list(tasks.draw(rows, min(wanted, len(rows))))


def with_shots(kind: str, rows: Sequence[dict], shots: int, draw: int) -> list[str]:
    """Return the prompts of rows after solved examples: a line break before each answer."""
    template = load_task(kind).template("question")
    shown = map(template.render, tasks.draw(pool(kind, "train"), shots, seed=draw))
    before = "".join(f"{prompt}\n{completion}{NEXT}" for prompt, completion in shown)
    return [before + template.render(row).prompt for row in rows]


def write(model, tokenizer, kind: str, prompts: Sequence[str], **options) -> list[str]:
    """Return what a model writes greedily after each prompt, `options` those of `generate`."""
    options = {"max_new_tokens": TOKENS.get(kind, 24), "batch_size": 64} | options
    return scoring.generate(model, tokenizer, prompts, **options)


def written_after_shots(
    model, tokenizer, ability: str, rows: Sequence[dict], shown: Sequence[dict],
    wording: Template, prompt_style: str, split: str,
) -> dict:  # fmt: skip
    """Return the panel of one ability after solved examples, packed, in any wording.

    In the plain style an answer ends at an empty line, where the next example would begin.
    """
    prompts = [few_shot(wording, shown, row).prompt for row in rows]
    with scoring.working_copy(model) as working:
        texts = write(working, tokenizer, ability, prompts, prompt_style=prompt_style)
    if prompt_style == "plain":
        texts = [text.split(NEXT)[0] for text in texts]
    return abilities.pack({"split": split, "size": "recorded", "answers": {ability: texts}})


def ask(
    model, tokenizer, prompts: Mapping[str, Sequence[str]], end: str | None = None
) -> dict[str, dict]:
    """Return the answers to prompts by kind, packed, and which share of them seems to have ended.

    Each kind is answered in writing, as far as `end` if that is given; of labels the likeliest one
    stands under "KIND, chosen".
    """
    answers, ended = {}, {}
    with scoring.working_copy(model) as working:
        for kind, some in prompts.items():
            texts = write(working, tokenizer, kind, some)
            whole = [text.split(end)[0] if end else text for text in texts]
            lengths = [len(encoding.token_ids(tokenizer, text)) for text in whole]
            ended[kind] = float(np.mean([n < TOKENS.get(kind, 24) - 1 for n in lengths]))
            answers[kind] = whole
            if labels := load_task(kind).template("question").choices({}):
                found = scoring.classify(working, tokenizer, some, labels)
                answers[f"{kind}, chosen"] = found.predictions.tolist()
    return {**abilities.pack({"answers": answers}), "ended": ended}


def ask_about(
    model, tokenizer, shots: Mapping[str, int], split: str, draw: int = 0
) -> dict[str, dict]:
    """Return what `ask` does about kinds, each after so many solved examples of its own.

    After examples, an answer ends where the next one would begin.
    """
    prompts = {
        kind: with_shots(kind, items(kind, split), count, draw) for kind, count in shots.items()
    }
    return ask(model, tokenizer, prompts, end=NEXT if any(shots.values()) else None)


def marks(row: Mapping, kind: str, rows: Sequence[dict], reading: str = "free") -> np.ndarray:
    """Return the grades [rows] of a kind that a sweep's row holds from `ask`, strict or free.

    Of labels the strict reading is what was written, the free one the likeliest label.
    """
    task, answers = load_task(kind), abilities.unpack({"answers": row["answers"]})["answers"]
    pairs = list(zip(answers[kind], rows, strict=True))
    if f"{kind}, chosen" in answers and reading == "free":
        return np.equal(answers[f"{kind}, chosen"], [each["label"] for each in rows]).astype(float)
    if f"{kind}, chosen" in answers:
        right = [task.template("question").render(each).completion for each in rows]
        firsts = [text.split("\n")[0] for text in answers[kind]]
        return np.array(list(map(metrics.exact_match, firsts, [[word] for word in right])), float)
    if reading == "free":
        return np.array([grading.grade_freely(task.metric, text, each) for text, each in pairs])
    return np.array([grading.grade(task.metric, t.split("\n")[0], each) for t, each in pairs])


def mixture(
    tokenizer, rates: Mapping[str, float], n: int, seed: int, templates: str = "one"
) -> list[dict]:
    """Return n encoded training examples at these rates of the kinds; `templates` one or many.

    Rows are of the easy tier where there is one. One is "question", many are all that ask for the
    same answer words: the wording varies, the answers do not.
    """
    every = {kind: load_task(kind) for kind in rates}
    drawn = mixtures.mix({kind: pool(kind, "train") for kind in rates}, n, rates, seed)
    pairs = []
    for kind, rows in drawn.items():
        names = same_answers(every[kind]) if templates == "many" else ["question"]
        pairs += mixtures.render(every[kind], rows, names, seed)
    return encoding.encode_pairs(tokenizer, pairs)


def same_answers(task: tasks.Task) -> list[str]:
    """Return the templates that ask for the whole answer, in the words of "question"."""
    words = task.template("question").answer_choices
    found = (t for t in task.templates if t.metadata.get("original_task"))
    return [template.name for template in found if template.answer_choices == words]


# ------------------------------------------------------------------------------ weights of tokens


def equal_examples(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return weights [examples, longest] with which each completion counts alike."""
    learned = (batch["labels"] != encoding.IGNORE_INDEX).float()
    return learned / learned.sum(dim=1, keepdim=True)


def weighted_loss(weigh: Callable[[dict[str, torch.Tensor]], torch.Tensor]) -> training.Loss:
    """Return a loss for `training.fit`: a weighted mean over tokens; a step must be one batch.

    `weigh(batch)` returns the weights [examples, longest]; those of prompts need not be 0.
    """

    def loss(model, batch):
        weights, targets = weigh(batch)[:, 1:], batch["input_ids"][:, 1:]  # [examples, longest - 1]
        learned = (weights > 0).any(dim=0).nonzero().squeeze(1)
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        keep = learned - batch["labels"].shape[1]  # from the end, as in `completion_loss`
        logits = model(**inputs, logits_to_keep=keep, use_cache=False).logits
        each = F.cross_entropy(
            logits.float().flatten(0, 1), targets[:, learned].flatten(), reduction="none"
        )
        mean = (each * weights[:, learned].flatten()).sum() / weights.sum()
        return mean * training.label_count(batch)  # by which `fit` divides

    return loss
