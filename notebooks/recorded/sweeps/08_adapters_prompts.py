"""Soft prompts by start, rate and length, adapters and P-tuning; the chosen ones on the test rows.

All leave the embedded model as it is and learn the same 250 reviews: an adapter once, vectors
twice. The test has three seeds, with the addition left on, and the adapter at the next lower rate
too. What a pass costs is measured beside full tuning, the upper layers and LoRA, by a few steps,
each in a process of its own.
"""

import contextlib
import functools
import json
import subprocess
import sys

import torch
import torch.nn.functional as F
from peft import PromptEncoderConfig, get_peft_model

from workbook import encoding, models, recording, tasks, training
from workbook.adaptation import soft_prompt
from workbook.adaptation.adapter import Adapter
from workbook.adaptation.additions import attached
from workbook.adaptation.lora import LoRA
from workbook.adaptation.soft_prompt import SoftPrompt
from workbook.forgetting import panel
from workbook.memory import peak_memory

REVIEWS, TEMPLATE = 250, "question"
VALIDATION_REVIEWS = 250
INSTRUCTION = "Is the sentiment of this review positive or negative? Answer with one word."
COST_REVIEWS = 48
SEEDS = (0, 1, 2)
UPPER_LAYERS = 15  # notebook 05's freezing

load_task = functools.cache(tasks.load_task)


def reviews(tokenizer, seed):
    """Return the encoded reviews that all learn."""
    task = load_task("sentiment")
    rows = tasks.draw(task.splits["train"], REVIEWS, seed=seed)
    return encoding.encode_pairs(tokenizer, map(task.template(TEMPLATE).render, rows))


def started(model, tokenizer, start, length, seed):
    """Return a soft prompt before training."""
    if start == "text":
        return soft_prompt.from_text(model, tokenizer, INSTRUCTION, length)
    if start == "vocabulary":
        return soft_prompt.from_vocabulary(model, tokenizer, length, seed)
    prompt = SoftPrompt(model, length, seed)
    if start == "unit":  # a standard normal, as peft draws it by default; the same directions
        with torch.no_grad():
            prompt.vectors.div_(soft_prompt.embeddings(model).std())
    return prompt


def tuned(model, tokenizer, examples, method, lr, passes, seed, start, length, width):
    """Tune by the method; return the addition, if any, the seconds and how many numbers learned."""
    options = dict(lr=lr, epochs=passes, seed=seed, progress=False)
    if method == "P-tuning":
        return p_tuned(model, examples, length, options)
    addition = None
    if method == "adapter":
        addition = Adapter(model, width, seed=seed)
    elif method == "LoRA":
        addition = LoRA(model, rank=8, alpha=16, target_modules=r"_proj$", seed=seed)
    elif method == "soft prompt":
        addition = started(model, tokenizer, start, length, seed)
    elif method == "upper layers":
        count = model.config.num_hidden_layers
        upper = "|".join(map(str, range(count - UPPER_LAYERS, count)))
        training.select_trainable(model, rf"layers\.({upper})\.")
    with attached(model, addition) if addition else contextlib.nullcontext():
        count = models.count_parameters(model).trainable
        return addition, training.fit(model, examples, **options).seconds, count


def p_tuned(model, examples, length, options):
    """Tune vectors through an encoder of `peft`, and return them as a soft prompt of ours.

    Once they are learned, the vectors are all that is needed. The model itself goes to `peft`, and
    not a copy, which would count as memory; a prompt puts no layers into it.
    """
    addition = SoftPrompt(model, length)
    config = PromptEncoderConfig(
        task_type="CAUSAL_LM",
        num_virtual_tokens=length,
        encoder_hidden_size=model.config.hidden_size,
    )
    torch.manual_seed(options["seed"])
    theirs = get_peft_model(model, config)
    count = models.count_parameters(theirs).trainable
    seconds = training.fit(theirs, examples, **options).seconds
    with torch.no_grad():
        addition.vectors.copy_(theirs.get_prompt_embedding_to_save("default"))
    model.requires_grad_(True)
    return addition, seconds, count


def measure(method, lr, passes, seed, split, start=None, length=None, width=None):
    """Tune an addition of a fresh model and measure what the model with it can do.

    On validation that is sentiment alone, with 250 reviews: the addition is taken off for the rest.
    Test is the recorded panel, less the long answers to instructions. Cost is a few steps alone.
    """
    form = dict(method=method, lr=lr, passes=passes, seed=seed, start=start)
    form |= dict(length=length, width=width)
    if split == "cost":
        return in_own_process(form)
    model, tokenizer = models.load()
    addition, seconds, count = tuned(model, tokenizer, reviews(tokenizer, seed), **form)
    result = {"trained": count, "training_seconds": round(seconds, 1)}
    with attached(model, addition):
        result["panel"] = panel.pack(scores(model, tokenizer, split))
    if method == "soft prompt" and split == "validation" and seed == 0:
        result |= in_words(model, tokenizer, addition)
        result |= since_start(model, tokenizer, addition, start, length, seed)
    return result


def in_own_process(form):
    """Return the cost as measured by a process that does nothing else, with its peak memory."""
    command = [sys.executable, __file__, json.dumps(form)]
    with peak_memory() as peak:
        told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(told) | {"peak_gb": round(peak.gb, 2)}


def cost_of(form):
    """Return how many numbers learn and the seconds of a few steps, after a step that warms up."""
    model, tokenizer = models.load()
    examples = reviews(tokenizer, form["seed"])[:COST_REVIEWS]
    tuned(model, tokenizer, examples[:8], **form)
    _, seconds, count = tuned(model, tokenizer, examples, **form)
    return {"trained": count, "training_seconds": round(seconds, 2)}


def scores(model, tokenizer, split):
    """Return the panel on the split."""
    if split == "test":
        return panel.measure(model, tokenizer, "recorded", skip=["instructions"])
    return {"sentiment": panel.sentiment(model, tokenizer, split, VALIDATION_REVIEWS)}


def nearest(model, prompt):
    """Return the token whose embedding is most similar to each vector."""
    table = F.normalize(soft_prompt.embeddings(model), dim=1)
    return (F.normalize(prompt.vectors.detach(), dim=1) @ table.T).argmax(dim=1)


def in_words(model, tokenizer, prompt):
    """Return the nearest word of each vector, and the scores of these words as the prompt."""
    worded = SoftPrompt(model, len(prompt.vectors))
    with torch.no_grad():
        worded.vectors.copy_(soft_prompt.embeddings(model)[nearest(model, prompt)])
    with attached(model, worded):
        found = scores(model, tokenizer, "validation")
    words = soft_prompt.nearest_words(prompt, model, tokenizer, k=1)
    told = [[word, round(cosine, 3)] for [(word, cosine)] in words]
    return {"words": told, "worded": panel.pack(found)["sentiment"]}


def since_start(model, tokenizer, prompt, start, length, seed):
    """Return how far the vectors moved, how many kept their nearest word, and the first scores."""
    begin = started(model, tokenizer, start, length, seed)
    with torch.no_grad():
        moved = (prompt.vectors - begin.vectors).norm() / begin.vectors.norm()
    same = (nearest(model, prompt) == nearest(model, begin)).sum()
    untrained = untrained_scores(start, length, seed)
    return {"moved": round(float(moved), 4), "same_word": int(same), "untrained": untrained}


@functools.cache
def untrained_scores(start, length, seed):
    """Return the scores of a soft prompt before training, which no rate changes."""
    model, tokenizer = models.load()
    with attached(model, started(model, tokenizer, start, length, seed)):
        return panel.pack(scores(model, tokenizer, "validation"))["sentiment"]


def point(method, lr, passes=1, seed=0, split="validation", **form):
    """Return one point; `form` is what the addition looks like."""
    return dict(method=method, **form, lr=lr, passes=passes, seed=seed, split=split)


def chosen(rows, grid):
    """Return the best point of the adapter, of P-tuning and of each start, {} until all are known.

    It is the one with the most reviews right on validation, and of equals the one with the lower
    rate. They come in the order of their best.
    """
    found = []
    for tried in grid:
        matching = [row for row in rows if tried.items() <= row.items()]
        if not matching:
            return {}
        told = sum(panel.unpack(matching[0]["panel"])["sentiment"])
        found.append((told, -tried["lr"], tried))
    found.sort(key=lambda each: each[:2], reverse=True)
    best = {}
    for *_, tried in found:
        best.setdefault(tried.get("start", tried["method"]), tried)
    return best


def points(rows, cost, rates, lengths):
    """Return the points of the cost and the choice, and once it is made those that rest on it.

    Each of `cost` takes a few steps, and `rates` are tried for each form of an addition. The chosen
    go to the test. `lengths` are of the best soft prompt, with seeds that the choice did not see.
    """
    start = [each | {"seed": seed} for seed in SEEDS for each in cost]
    grid = [point(**form, lr=lr) for form, tried in rates for lr in tried]
    best = chosen(rows, grid)
    if not best:
        return start + grid
    # The best start, and peft's default or else the next best.
    first, second, *_ = (name for name in best if best[name]["method"] == "soft prompt")
    second = second if first == "unit" else "unit"
    tested = [best[name] for name in (first, "adapter", "P-tuning", second)]
    adapters = [each for each in grid if each["method"] == "adapter"]
    tested += [each for each in adapters if each["lr"] < best["adapter"]["lr"]][-1:]
    return [
        *start,
        *grid,
        *(each | {"seed": seed, "split": "test"} for each in tested for seed in SEEDS),
        *(best[first] | {"length": n, "seed": seed} for n in lengths for seed in SEEDS[1:]),
    ]


PROMPT = dict(method="soft prompt", length=20, passes=2)

SWEEP = recording.Sweep(
    settings={},
    points=functools.partial(
        points,
        cost=[
            point("soft prompt", 1e-3, split="cost", start="text", length=20),
            point("P-tuning", 1e-4, split="cost", length=20),
            point("adapter", 1e-3, split="cost", width=32),
            point("LoRA", 1e-3, split="cost"),
            point("upper layers", 1e-4, split="cost"),
            point("full", 1e-4, split="cost"),
        ],
        rates=[
            # The farther a start is from words, the longer the steps that it needs.
            (PROMPT | {"start": "unit"}, (3e-3, 3e-2, 1e-1, 3e-1)),
            (PROMPT | {"start": "matched"}, (3e-3, 1e-2, 3e-2, 1e-1)),
            (PROMPT | {"start": "vocabulary"}, (3e-3, 1e-2, 3e-2, 1e-1)),
            (PROMPT | {"start": "text"}, (1e-3, 3e-3, 1e-2)),
            (dict(method="adapter", width=32), (3e-4, 1e-3, 3e-3)),
            (dict(method="P-tuning", length=20, passes=2), (3e-5, 1e-4, 3e-4, 1e-3)),
        ],
        lengths=(1, 5, 20, 50),
    ),
    measure=measure,
    source=__file__,
)

if __name__ == "__main__" and sys.argv[1:]:
    print(json.dumps(cost_of(json.loads(sys.argv[1]))))
elif __name__ == "__main__":
    SWEEP.run()
