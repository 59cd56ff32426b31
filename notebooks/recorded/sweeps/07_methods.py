"""LoRA by rank and place against full tuning: four rates each, chosen on validation, then tested.

All start from the default model and learn the same 250 reviews once. Each form has as many rates
to choose from as any other, and the best two of each have a second selection seed. On the test the
unchanged rule of the choice decides: the best sentiment, and of nearly equal ones what keeps more.
How many ranks of a full update the task needs is asked of five more updates. About 42 points of
65 s and 35 of 90 to 150 s.
"""

import contextlib

import torch

from workbook import abilities, experiments, models, recording, training
from workbook.adaptation.additions import attached, linear_layers
from workbook.adaptation.lora import LoRA

REVIEWS, ALPHA = 250, 16
PLACES = {
    "all linear": r"_proj$",
    "q and v": r"(q|v)_proj$",
    "attention": r"[qkvo]_proj$",
    "MLP": r"(gate|up|down)_proj$",
}
LORA_RATES, FULL_RATES = (3e-4, 1e-3, 3e-3, 1e-2), (2e-5, 5e-5, 1e-4, 2e-4)
GRID = {
    ("LoRA", 1, "all linear"): LORA_RATES,
    ("LoRA", 8, "all linear"): LORA_RATES,
    ("LoRA", 64, "all linear"): LORA_RATES,
    ("LoRA", 8, "q and v"): LORA_RATES,
    ("LoRA", 13, "attention"): LORA_RATES,  # as many numbers as rank 8 on the MLP
    ("LoRA", 8, "MLP"): LORA_RATES,
    ("full", 0, "all weights"): FULL_RATES,
}
TESTED = [form for form in GRID if form[2] not in ("attention", "MLP")]
UPDATE_LR = 5e-5  # notebook 03's, of the update whose ranks are counted
PARTS = (1, 4, 16, 64)


def measure(method, rank, place, lr, seed, split):
    """Tune a fresh model by a method and measure what it can do on the split."""
    model, tokenizer = models.load()
    examples = experiments.examples(tokenizer, "sentiment", REVIEWS, seed)
    if method == "truncated":
        return truncated(model, tokenizer, examples, lr, seed)
    made = LoRA(model, rank, ALPHA, PLACES[place], seed) if method == "LoRA" else None
    with attached(model, made) if made else contextlib.nullcontext():
        trained = models.count_parameters(model).trainable
        history = training.fit(model, examples, lr=lr, seed=seed, progress=False)
        panel = experiments.panel(model, tokenizer, split, experiments.skipped(split))
    seconds = round(history.seconds, 1)
    return {"panel": panel, "trained": trained, "training_seconds": seconds}


def truncated(model, tokenizer, examples, lr, seed):
    """Tune all weights, then keep the best low-rank part of each matrix's update and nothing else.

    With "all", the whole update of the matrices stays, and the embeddings and norms are untuned.
    """
    start = models.snapshot(model)
    history = training.fit(model, examples, lr=lr, seed=seed, progress=False)
    layers = linear_layers(model, PLACES["all linear"])
    new = {name: layer.weight.data.clone() for name, layer in layers.items()}
    models.restore(model, start)
    old = {name: layer.weight.data for name, layer in layers.items()}
    factors = {name: best_factors(new[name] - old[name]) for name in layers}
    found = {}
    for rank in PARTS:
        for name, (left, right) in factors.items():
            layers[name].weight.data = old[name] + left[:, :rank] @ right[:rank]
        found[str(rank)] = sentiment(model, tokenizer)
    for name, layer in layers.items():
        layer.weight.data = new[name]
    found["all"] = sentiment(model, tokenizer)
    return {"sentiment_by_rank": found, "training_seconds": round(history.seconds, 1)}


def best_factors(update):
    """Return two factors whose first r columns and rows are the update's best rank-r part."""
    left, sizes, right = torch.linalg.svd(update, full_matrices=False)
    most = max(PARTS)
    return (left * sizes)[:, :most].clone(), right[:most].clone()


def sentiment(model, tokenizer):
    """Return the panel with sentiment alone."""
    rest = [name for name in abilities.ABILITIES if name != "sentiment"]
    return experiments.panel(model, tokenizer, skip=rest)


def told(rows):
    """Return {form: {rate: (sentiment, composite)}}, means over the selection seeds measured."""
    found = {}
    for row in rows:
        if row["split"] == "validation":
            form = row["method"], row["rank"], row["place"]
            runs = found.setdefault(form, {}).setdefault(row["lr"], [])
            runs.append(experiments.learned_and_kept(row))
    return {form: experiments.means(rates) for form, rates in found.items()}


def point(form, lr, seed, split="validation"):
    """Return one point."""
    method, rank, place = form
    return dict(method=method, rank=rank, place=place, lr=lr, seed=seed, split=split)


def points(rows):
    """Return the points of the choice, of its second seed, and then of the test, seed by seed."""
    first, second = experiments.SELECTION_SEEDS
    tried = [point(form, lr, first) for form, rates in GRID.items() for lr in rates]
    if len(rows) < len(tried):
        return tried
    by_first = told(rows[: len(tried)])
    again = [
        point(form, lr, second) for form in GRID for lr in experiments.ranked(by_first[form])[:2]
    ]
    if len(rows) < len(tried) + len(again):
        return tried + again
    found = told(rows[: len(tried) + len(again)])
    tests = []
    for seed in experiments.TEST_SEEDS:
        tests += [point(form, experiments.ranked(found[form])[0], seed, "test") for form in TESTED]
        tests += [point(("full", 0, "all weights"), UPDATE_LR, seed, "test")]
        tests += [point(("truncated", max(PARTS), "all linear"), UPDATE_LR, seed, "test")]
    return tried + again + [each for i, each in enumerate(tests) if each not in tests[:i]]


SWEEP = recording.Sweep(
    settings={},
    points=points,
    measure=measure,
    source=__file__,
    plan=recording.Plan(
        question="Does LoRA learn as much as full tuning and forget less, each at its own rate?",
        primary="composite, and sentiment, of LoRA of rank 8 on all linear layers minus full "
        "tuning, each at the rate that the same rule chose among four, paired by seed, on test "
        "items",
        composite="mean of the free grades of entities and facts",
        margin=abilities.MARGIN,
        selection_seeds=experiments.SELECTION_SEEDS,
        test_seeds=experiments.TEST_SEEDS,
    ),
)

if __name__ == "__main__":
    SWEEP.run()
