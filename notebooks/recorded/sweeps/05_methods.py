"""Twelve ways to tune: strengths chosen on validation, then tested by other seeds.

All start from the default model and read the same 250 reviews at the rate at which plain tuning
forgets, unless the strength is a rate of its own. What else a method reads or how many steps more
it takes stands in its row (`steps`, `old_examples`, `training_seconds`), since budgets differ:
side-tuning, which starts from nothing, passes four times; Reptile has its rounds before. The best
two strengths of each method have a second selection seed. About 60 points of 100 s and 70 of 150.
"""

import time

import numpy as np

from workbook import abilities, encoding, experiments, models, recording, scoring, tasks, training
from workbook.forgetting import progressive, remedies

LR, REVIEWS = 1e-4, 250
OLD_KINDS = ("entities", "facts", "instructions", "tense", "grammar", "comprehension")
GRID = {
    "plain": (2e-5, 5e-5, 1e-4),  # learning rate
    "weight decay": (0.1, 1.0, 10.0),
    "freezing": (2, 6, 15),  # uppermost layers that learn
    "L2-SP": (0.2, 0.6, 2.0),  # lambda
    "L2-SP, decoupled": (0.003, 0.01, 0.03),  # share of the way back a step
    "EWC": (0.002, 0.02, 0.2),  # lambda
    "EWC, decoupled": (0.003, 0.01, 0.03),
    "rehearsal": (0.05, 0.1, 0.25),  # share of old examples
    "self-rehearsal": (0.05, 0.1, 0.25),
    "interpolation": (0.3, 0.5, 0.7),  # share of the tuned model
    "side-tuning": (3e-4, 1e-3, 3e-3),  # learning rate
    "Reptile": (0.1, 0.25, 0.5),  # step size
}
CONTESTED = ("rehearsal", "L2-SP")  # ten seeds: the first edition's three disagreed most


def old_pairs(each, seed):
    """Return so many training pairs of each old kind."""
    pairs = []
    for name in OLD_KINDS:
        data = experiments.load_task(name)
        rows = tasks.draw(data.splits["train"], each, seed=seed)
        pairs += map(data.template(0).render, rows)
    return pairs


def reviews(tokenizer, seed):
    """Return the reviews that all methods learn."""
    return experiments.examples(tokenizer, "sentiment", REVIEWS, seed)


def tuned(model, examples, seed, **options):
    """Tune, and return what it took."""
    history = training.fit(model, examples, seed=seed, progress=False, **{"lr": LR} | options)
    return {"steps": len(history.steps), "training_seconds": round(history.seconds, 1)}


def plain(model, tokenizer, lr, seed):
    """Tune as notebook 03 does."""
    return tuned(model, reviews(tokenizer, seed), seed, lr=lr)


def weight_decay(model, tokenizer, strength, seed):
    """Shrink all weights a little in each step."""
    return tuned(model, reviews(tokenizer, seed), seed, weight_decay=strength)


def freezing(model, tokenizer, layers, seed):
    """Train the uppermost layers only."""
    first = model.config.num_hidden_layers - layers
    upper = "|".join(map(str, range(first, model.config.num_hidden_layers)))
    training.select_trainable(model, rf"layers\.({upper})\.")
    found = tuned(model, reviews(tokenizer, seed), seed)
    model.requires_grad_(True)
    return found


def l2_sp(model, tokenizer, lam, seed):
    """Pull all weights back alike, by the gradient."""
    pull = remedies.l2_sp(models.snapshot(model), lam)
    return tuned(model, reviews(tokenizer, seed), seed, regularizers=[pull])


def l2_sp_decoupled(model, tokenizer, share, seed):
    """Move all weights a share of their way back in each step."""
    pull = remedies.pull_back(models.snapshot(model), share)
    return tuned(model, reviews(tokenizer, seed), seed, regularizers=[pull])


def fisher(model, tokenizer):
    """Return the empirical Fisher information of 48 examples of the old kinds, and its seconds."""
    begin = time.perf_counter()
    examples = encoding.encode_pairs(tokenizer, old_pairs(each=8, seed=0))
    found = remedies.fisher_diagonal(model, examples)
    return found, {"old_examples": len(examples), "seconds_before": time.perf_counter() - begin}


def ewc(model, tokenizer, lam, seed):
    """Pull weights back as they mattered for the old kinds, by the gradient."""
    mattered, took = fisher(model, tokenizer)
    pull = remedies.ewc(models.snapshot(model), mattered, lam)
    return took | tuned(model, reviews(tokenizer, seed), seed, regularizers=[pull])


def ewc_decoupled(model, tokenizer, share, seed):
    """Move weights a share of their way back in each step, as they mattered for the old kinds."""
    mattered, took = fisher(model, tokenizer)
    pull = remedies.pull_back(models.snapshot(model), share, mattered)
    return took | tuned(model, reviews(tokenizer, seed), seed, regularizers=[pull])


def mixed(model, tokenizer, pairs, share, seed):
    """Tune on the reviews with old examples among them, which make up the share."""
    new, old = reviews(tokenizer, seed), encoding.encode_pairs(tokenizer, pairs)
    examples = remedies.rehearse(new, old, share, seed=seed)
    return {"old_examples": len(examples) - len(new)} | tuned(model, examples, seed)


def rehearsal(model, tokenizer, share, seed):
    """Mix old examples in."""
    return mixed(model, tokenizer, old_pairs(each=20, seed=seed), share, seed)


def self_rehearsal(model, tokenizer, share, seed):
    """Mix old questions in, with the answers that the old model gives itself (2403.01244)."""
    begin, prompts = time.perf_counter(), [pair.prompt for pair in old_pairs(each=20, seed=seed)]
    with scoring.working_copy(model) as working:
        answers = scoring.generate(working, tokenizer, prompts, max_new_tokens=48, batch_size=64)
    own = [pair for pair in zip(prompts, answers, strict=True) if pair[1].strip()]
    took = {"seconds_before": time.perf_counter() - begin}
    return took | mixed(model, tokenizer, own, share, seed)


def interpolation(model, tokenizer, share, seed):
    """Go a part of the way from the old weights to the tuned ones."""
    start = models.snapshot(model)
    found = plain(model, tokenizer, LR, seed)
    remedies.interpolate(model, start, share)
    return found


def reptile(model, tokenizer, step_size, seed):
    """Look for a better start with the old kinds first, then tune from there without them."""
    pairs, begin = old_pairs(each=32, seed=seed), time.perf_counter()
    old = {
        name: encoding.encode_pairs(tokenizer, pairs[i * 32 : (i + 1) * 32])
        for i, name in enumerate(OLD_KINDS)
    }
    remedies.reptile(model, old, rounds=12, lr=LR, step_size=step_size, seed=seed)
    took = {"old_examples": 12 * 32, "seconds_before": time.perf_counter() - begin}
    return took | tuned(model, reviews(tokenizer, seed), seed)


METHODS = {
    "plain": plain,
    "weight decay": weight_decay,
    "freezing": freezing,
    "L2-SP": l2_sp,
    "L2-SP, decoupled": l2_sp_decoupled,
    "EWC": ewc,
    "EWC, decoupled": ewc_decoupled,
    "rehearsal": rehearsal,
    "self-rehearsal": self_rehearsal,
    "interpolation": interpolation,
    "Reptile": reptile,
}


def measure(method, strength, seed, split):
    """Apply a method to a fresh model and measure what it can do on the split."""
    model, tokenizer = models.load()
    if method == "untuned":
        return {"panel": experiments.panel(model, tokenizer, split, experiments.skipped(split))}
    if method == "Fisher":
        return correlation(model, tokenizer)
    if method == "side-tuning":
        return side_tuned(model, tokenizer, strength, seed, split)
    took = METHODS[method](model, tokenizer, strength, seed)
    took = {name: round(value, 1) for name, value in took.items()}
    return took | {"panel": experiments.panel(model, tokenizer, split, experiments.skipped(split))}


def side_tuned(model, tokenizer, lr, seed, split):
    """Tune a column beside the model; whoever asks for an old ability leaves it off.

    So `panel` holds sentiment with the column and the rest without; `panel_on` the rest with it.
    """
    column = progressive.column_for(model, seed=seed)
    skip, rest = (
        experiments.skipped(split),
        [name for name in abilities.ABILITIES if name != "sentiment"],
    )
    with progressive.attached(model, column):
        took = tuned(model, reviews(tokenizer, seed), seed, lr=lr, epochs=4)
        on = experiments.panel(model, tokenizer, split, skip)
    off = experiments.panel(model, tokenizer, split, [*skip, "sentiment"])
    off["answers"] |= {k: v for k, v in on["answers"].items() if k not in rest}
    return took | {"panel": off, "panel_on": on}


def correlation(model, tokenizer):
    """Return how the empirical Fisher information and the true one agree, weight by weight.

    Rank correlation of a million weights drawn at random; 48 old examples, tokens drawn once each.
    """
    examples = encoding.encode_pairs(tokenizer, old_pairs(each=8, seed=0))
    training.seed_everything(0)
    both = [
        flat(remedies.fisher_diagonal(model, examples, loss))
        for loss in (remedies.example_loss, remedies.sampled_loss)
    ]
    drawn = np.random.default_rng(0).choice(len(both[0]), 1_000_000, replace=False)
    ranks = [each[drawn].argsort().argsort() for each in both]
    return {"rank_correlation": float(np.corrcoef(*ranks)[0, 1])}


def flat(weights):
    """Return all numbers of the weights in one array."""
    return np.concatenate([weight.flatten().numpy() for weight in weights.values()])


def by_method(rows):
    """Return {method: {strength: (sentiment, composite)}}, means over the selection seeds."""
    found = {}
    for row in rows:
        if row["split"] == "validation" and row["method"] in GRID:
            runs = found.setdefault(row["method"], {}).setdefault(row["strength"], [])
            runs.append(experiments.learned_and_kept(row))
    return {m: {s: np.mean(runs, axis=0) for s, runs in told.items()} for m, told in found.items()}


def ranked(rows):
    """Return each method's strengths, the best first, {} until all that choose are measured.

    Enough is what plain tuning learns at its best, less the margin; it is held to the same rule.
    """
    means = by_method(rows)
    if any(len(means.get(method, {})) < len(grid) for method, grid in GRID.items()):
        return {}
    best = max(sentiment for sentiment, _ in means["plain"].values())
    needed = best - experiments.SENTIMENT_MARGIN
    return {method: experiments.ranked(told, needed) for method, told in means.items()}


def points(rows):
    """Return the points of the choice, then those of the second seed, then those of the test."""
    first, second = experiments.SELECTION_SEEDS
    grid = [(method, strength) for method in GRID for strength in GRID[method]]
    tried = [point(method, strength, first) for method, strength in grid]
    again = [point(method, strength, second) for method, strength in leading(rows)]
    best_ones = ranked(rows) if again and len(rows) >= len(tried) + len(again) else {}
    tests = [
        point(method, strength, seed, "test")
        for seed in experiments.CONTESTED_SEEDS
        for method, (strength, *_) in best_ones.items()
        if seed in experiments.TEST_SEEDS or method in CONTESTED or method == "plain"
    ]
    ends = [point("untuned", 0, 0, split) for split in ("validation", "test")]
    return [*ends, point("Fisher", 0, 0), *tried, *again, *tests]


def point(method, strength, seed, split="validation"):
    """Return one point."""
    return dict(method=method, strength=strength, seed=seed, split=split)


def leading(rows):
    """Return the best two strengths of each method after the first seed, [] before that."""
    first = [row for row in rows if row["seed"] == experiments.SELECTION_SEEDS[0]]
    return [(method, each) for method, best in ranked(first).items() for each in best[:2]]


SWEEP = recording.Sweep(
    settings={},
    points=points,
    measure=measure,
    source=__file__,
    plan=recording.Plan(
        question="Which remedy keeps more of the old abilities than a low rate does, and at what "
        "cost in the new task?",
        primary="the composite of each remedy at its chosen strength minus that of plain tuning at "
        "its own chosen rate, paired by seed, on test items; the cost is sentiment likewise. "
        "Eleven comparisons: said to be many",
        composite="mean of the free grades of entities, facts and instructions, each a third",
        margin=abilities.MARGIN,
        selection_seeds=experiments.SELECTION_SEEDS,
        test_seeds=experiments.CONTESTED_SEEDS,
    ),
)

if __name__ == "__main__":
    SWEEP.run()
