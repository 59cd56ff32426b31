"""LoRA by rank and place: four rates each, chosen on validation, then tested against full tuning.

All start from the default model and learn the same 250 reviews once. Full tuning of the same
reviews and seeds, by the same `fit` and panel, stands in 04_settings and 05_methods (2e-5 and 5e-5;
1e-5 and 1e-4), the untuned model too. A form has four rates, spaced like those of full tuning; the
best two have a second selection seed and decide between them: what keeps most among those that
learn nearly as well as full tuning's best. How many ranks of a full update the task needs is asked
of five updates of full tuning at 5e-5. About 24 points of 4 minutes, 20 of 5 and five of 9: 4 hours
on one slow core in fp32; a fast core takes a third.
"""

import gc

import torch

from workbook import abilities, experiments, models, recording, training
from workbook.adaptation.additions import attached, linear_layers
from workbook.adaptation.lora import LoRA

REVIEWS, ALPHA = 250, 16
PLACES = {"all linear": r"_proj$", "q and v": r"(q|v)_proj$"}
RATES = (2e-4, 5e-4, 1e-3, 2e-3)
GRID = {
    ("LoRA", 1, "all linear"): RATES,
    ("LoRA", 8, "all linear"): RATES,
    ("LoRA", 64, "all linear"): RATES,
    ("LoRA", 8, "q and v"): (5e-4, 1e-3, 2e-3, 5e-3),  # a quarter of the numbers
}
UPDATE_LR = 5e-5  # notebook 03's, of the update whose ranks are counted
PARTS = (1, 4, 16, 64)


def measure(method, rank, place, lr, seed, split):
    """Tune a fresh model by a method and measure what it can do on the split."""
    model, tokenizer = models.load()
    examples = experiments.examples(tokenizer, "sentiment", REVIEWS, seed)
    if method == "truncated":
        return truncated(model, tokenizer, examples, lr, seed)
    with attached(model, LoRA(model, rank, ALPHA, PLACES[place], seed)):
        trained = models.count_parameters(model).trainable
        history = training.fit(model, examples, lr=lr, seed=seed, progress=False)
        panel = experiments.panel(model, tokenizer, split, experiments.skipped(split))
    return {"panel": panel, "trained": trained} | costs(history)


def costs(history):
    """Return what a run took."""
    took = {"steps": len(history.steps), "tokens": history.tokens}
    return took | {"training_seconds": round(history.seconds, 1)}


def truncated(model, tokenizer, examples, lr, seed):
    """Tune all weights, then keep the best low-rank part of each matrix's update and nothing else.

    With "all", the whole update of the matrices stays, and the embeddings and norms are untuned.
    """
    history = training.fit(model, examples, lr=lr, seed=seed, progress=False)
    new = {name: layer.weight.data for name, layer in linear(model).items()}
    del model  # a copy of all weights less
    gc.collect()
    model, _ = models.load()
    layers = linear(model)
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
    return {"sentiment_by_rank": found} | costs(history)


def linear(model):
    """Return the matrices whose update is cut."""
    return linear_layers(model, PLACES["all linear"])


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


def needed():
    """Return the sentiment that is enough: that of full tuning at its best, less the margin."""
    rows = [row for row in recording.load("05_methods").rows if row["split"] == "validation"]
    runs = {}
    for row in rows:
        if row["method"] == "plain":
            sentiment, _ = experiments.learned_and_kept(row)
            runs.setdefault(row["strength"], []).append(sentiment)
    return max(experiments.means(runs).values()) - experiments.SENTIMENT_MARGIN


def points(rows):
    """Return the points of the choice, of its second seed, and then of the test, seed by seed."""
    first, second = experiments.SELECTION_SEEDS
    tried = [point(form, lr, first) for form, rates in GRID.items() for lr in rates]
    if len(rows) < len(tried):
        return tried
    found, enough = told(rows[: len(tried)]), needed()
    leading = {form: experiments.ranked(rates, enough)[:2] for form, rates in found.items()}
    tried += [point(form, lr, second) for form, best in leading.items() for lr in best]
    if len(rows) < len(tried):
        return tried
    found, tests = told(rows[: len(tried)]), []
    for seed in experiments.TEST_SEEDS:
        tests += [
            point(form, experiments.ranked(rates, enough)[0], seed, "test")
            for form, rates in found.items()
        ]
        tests += [point(("truncated", max(PARTS), "all linear"), UPDATE_LR, seed, "test")]
    return tried + tests


SWEEP = recording.Sweep(
    settings={},
    points=points,
    measure=measure,
    source=__file__,
    plan=recording.Plan(
        question="Does LoRA learn as much as full tuning and forget less, each at its own rate?",
        primary="the composite of LoRA of rank 8 on all linear layers, at its chosen rate, minus "
        "that of full tuning at 2e-5 (from 04_settings), paired by seed, on test items; it keeps "
        "more where that interval lies above 0 and that of sentiment above -.05. Secondary: full "
        "tuning at 1e-5, 5e-5 and 1e-4 as a curve; ranks 1 and 64, and q and v, minus rank 8; of a "
        "full update cut to rank r, sentiment minus that of the whole update (margin .04)",
        composite="mean of the free grades of entities and facts",
        margin=abilities.MARGIN,
        selection_seeds=experiments.SELECTION_SEEDS,
        test_seeds=experiments.TEST_SEEDS,
    ),
)

if __name__ == "__main__":
    SWEEP.run()
