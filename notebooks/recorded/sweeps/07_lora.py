"""LoRA by rank, place and learning rate on validation rows; then the chosen rates on the test rows.

All start from the embedded model and learn the same 250 reviews once. Full tuning at two rates
above those of notebook 05 is here too. The test has three seeds, and so has the question how many
ranks of a full update the task needs.
"""

import contextlib
import functools

import torch

from workbook import encoding, models, recording, runcache, tasks, training
from workbook.adaptation import lora
from workbook.adaptation.additions import attached, linear_layers
from workbook.adaptation.lora import LoRA
from workbook.forgetting import panel

REVIEWS, TEMPLATE, ALPHA = 250, "question", 16
VALIDATION_REVIEWS = 250
PLACES = {
    "all linear": r"_proj$",
    "q and v": r"(q|v)_proj$",
    "attention": r"[qkvo]_proj$",
    "MLP": r"(gate|up|down)_proj$",
}
FULL_LR = 5e-5  # notebook 03's, of the update whose ranks are counted
PARTS = (1, 4, 16, 64)

load_task = functools.cache(tasks.load_task)


def measure(method, rank, targets, lr, seed, split):
    """Tune a fresh model by a method and measure what it can do.

    On validation only what the choice needs is measured, with 250 reviews; test is the recorded
    panel, less the long answers to instructions.
    """
    model, tokenizer = models.load()
    examples = reviews(tokenizer, seed)
    if method == "truncated":
        return truncated(model, tokenizer, examples, lr, seed)
    made = None
    if method == "LoRA":
        made = LoRA(model, rank=rank, alpha=ALPHA, target_modules=PLACES[targets], seed=seed)
    history, trained = tuned(model, made, examples, lr, seed)
    return {
        "panel": panel.pack(scores(model, tokenizer, split)),
        "trained": trained,
        "training_seconds": round(history.seconds, 1),
    }


def reviews(tokenizer, seed):
    """Return the encoded reviews that all learn."""
    task = load_task("sentiment")
    rows = tasks.draw(task.splits["train"], REVIEWS, seed=seed)
    return encoding.encode_pairs(tokenizer, map(task.template(TEMPLATE).render, rows))


def tuned(model, made, examples, lr, seed):
    """Tune the LoRA and merge it, or all weights; return the history and what number learned."""
    with attached(model, made) if made else contextlib.nullcontext():
        trained = models.count_parameters(model).trainable
        history = training.fit(model, examples, lr=lr, seed=seed, progress=False)
    if made:
        lora.merge(model, made)
    return history, trained


@torch.no_grad()
def truncated(model, tokenizer, examples, lr, seed):
    """Tune all weights, then keep the best low-rank part of each matrix's update and nothing else.

    With "all", the whole update of the matrices stays, and the embeddings and norms are untuned.
    """
    tuned, _ = models.load()
    with torch.enable_grad():
        history = runcache.fit(
            "sentiment-plain", tuned, examples, lr=lr, epochs=1, batch_size=8, seed=seed,
            progress=False,
        )  # fmt: skip
    layers, new = (linear_layers(each, PLACES["all linear"]) for each in (model, tuned))
    old = {name: layer.weight.data for name, layer in layers.items()}
    factors = {name: best_factors(new[name].weight.data - old[name]) for name in layers}
    found = {}
    for rank in PARTS:
        for name, (left, right) in factors.items():
            layers[name].weight.data = old[name] + left[:, :rank] @ right[:rank]
        found[str(rank)] = panel.sentiment(model, tokenizer, "test", 1000)
    for name, layer in layers.items():
        layer.weight.data = new[name].weight.data
    found["all"] = panel.sentiment(model, tokenizer, "test", 1000)
    return {"sentiment_by_rank": panel.pack(found), "training_seconds": round(history.seconds, 1)}


def best_factors(update):
    """Return two factors whose first r columns and rows are the update's best rank-r part."""
    left, sizes, right = torch.linalg.svd(update, full_matrices=False)
    most = max(PARTS)
    return (left * sizes)[:, :most].clone(), right[:most].clone()


def scores(model, tokenizer, split):
    """Return the panel on the split."""
    if split == "test":
        return panel.measure(model, tokenizer, "recorded", skip=["instructions"])
    own = {"sentiment": panel.sentiment(model, tokenizer, split, VALIDATION_REVIEWS)}
    rest = [name for name in panel.ABILITIES if name not in panel.RETAINED]
    return own | panel.measure(model, tokenizer, "recorded", split, skip=rest)


def told(row):
    """Return what the choice goes by: reviews right, then what is kept, then the rate."""
    found = panel.unpack(row["panel"])
    return sum(found["sentiment"]), panel.retained(found).mean(), row["lr"]


def chosen(rows, grid):
    """Return each form's best rate on validation, {} until all are known."""
    found = {}
    for form, rates in grid.items():
        tried = [row for row in rows if row["split"] == "validation" and form == form_of(row)]
        if {row["lr"] for row in tried} != set(rates):
            return {}
        found[form] = max(tried, key=told)["lr"]
    return found


def form_of(row):
    """Return what is tuned: method, rank and place."""
    return row["method"], row["rank"], row["targets"]


def point(form, lr, seed=0, split="validation"):
    """Return one point."""
    method, rank, targets = form
    return dict(method=method, rank=rank, targets=targets, lr=lr, seed=seed, split=split)


def points(rows, grid, tested):
    """Return the points of the choice, and once it is made those of the test.

    `tested` tells which forms, and of each how many rates, in falling order, from the best on.
    """
    choice = [point(form, lr) for form, rates in grid.items() for lr in rates]
    best = chosen(rows, grid)
    if not best:
        return choice
    final = [
        point(form, lr, seed, "test")
        for seed in (0, 1, 2)
        for form, count in tested.items()
        for lr in [lr for lr in sorted(grid[form], reverse=True) if lr <= best[form]][:count]
    ]
    ranks = [point(("truncated", 64, "all linear"), FULL_LR, seed, "test") for seed in (0, 1, 2)]
    return choice + final + ranks


SWEEP = recording.Sweep(
    settings={},
    points=functools.partial(
        points,
        grid={
            ("LoRA", 1, "all linear"): (3e-4, 1e-3, 3e-3, 1e-2),
            ("LoRA", 8, "all linear"): (3e-4, 1e-3, 3e-3),
            ("LoRA", 64, "all linear"): (3e-4, 1e-3, 3e-3),
            ("LoRA", 8, "q and v"): (3e-4, 1e-3, 3e-3, 1e-2),
            ("LoRA", 13, "attention"): (3e-4, 1e-3, 3e-3),  # as large as rank 8 on the MLP
            ("LoRA", 8, "MLP"): (3e-4, 1e-3, 3e-3),
            ("full", 0, "all weights"): (2e-4, 4e-4),
        },
        tested={
            ("LoRA", 8, "all linear"): 2,  # the best rate and the next lower one
            ("LoRA", 1, "all linear"): 1,
            ("LoRA", 64, "all linear"): 1,
            ("LoRA", 8, "q and v"): 1,
        },
    ),
    measure=measure,
    source=__file__,
)

if __name__ == "__main__":
    SWEEP.run()
