"""Every remedy at three or four strengths on validation rows, and the chosen one on the test rows.

All start from the embedded model and learn the same 250 reviews once, at the learning rate chosen
for plain tuning, unless the remedy's strength is a rate of its own. The test has three seeds.
"""

import functools
import time

from workbook import encoding, models, recording, runcache, tasks, training
from workbook.forgetting import panel, progressive, remedies

OLD_KINDS = ("entities", "facts", "instructions", "tense", "grammar", "comprehension")
REVIEWS, TEMPLATE, LR = 250, "question", 1e-4
VALIDATION_REVIEWS = 250
GRID = {
    "plain": (2e-5, 5e-5, 1e-4),  # learning rate
    "weight decay": (0.1, 1.0, 10.0),
    "freezing": (2, 6, 10, 15),  # uppermost layers that learn
    "L2-SP": (0.2, 0.6, 2.0, 20.0),
    "EWC": (0.02, 0.2, 2.0, 20.0),
    "rehearsal": (0.05, 0.1, 0.25),  # share of old examples
    "interpolation": (0.3, 0.5, 0.7),  # share of the tuned model
    "progressive": (3e-4, 1e-3, 3e-3),  # learning rate
    "Reptile": (0.25, 0.5, 1.0),  # step size
}


load_task = functools.cache(tasks.load_task)


def old_examples(tokenizer, each=12, seed=0):
    """Return encoded training rows of the old kinds, so many of each, by kind."""
    examples = {}
    for name in OLD_KINDS:
        task = load_task(name)
        rows = tasks.draw(task.splits["train"], each, seed=seed)
        examples[name] = encoding.encode_pairs(tokenizer, map(task.template(0).render, rows))
    return examples


def every(examples):
    """Return the examples of all kinds in one list."""
    return [example for kind in examples.values() for example in kind]


def reviews(tokenizer, seed):
    """Return the encoded reviews that all remedies learn."""
    task = load_task("sentiment")
    rows = tasks.draw(task.splits["train"], REVIEWS, seed=seed)
    return encoding.encode_pairs(tokenizer, map(task.template(TEMPLATE).render, rows))


def plain(model, tokenizer, lr, seed):
    """Tune as notebook 03 does."""
    examples = reviews(tokenizer, seed)
    return runcache.fit("sentiment-plain", model, examples, lr=lr, epochs=1, batch_size=8,
                        seed=seed, progress=False).seconds  # fmt: skip


def tuned(model, examples, seed, **options):
    """Tune with something added and return the seconds of the training."""
    options = {"lr": LR} | options
    return training.fit(model, examples, seed=seed, progress=False, **options).seconds


def weight_decay(model, tokenizer, strength, seed):
    """Shrink all weights a little in each step."""
    return tuned(model, reviews(tokenizer, seed), seed, weight_decay=strength)


def freezing(model, tokenizer, layers, seed):
    """Train the uppermost layers only."""
    first = model.config.num_hidden_layers - layers
    upper = "|".join(str(i) for i in range(first, model.config.num_hidden_layers))
    training.select_trainable(model, rf"layers\.({upper})\.")
    seconds = tuned(model, reviews(tokenizer, seed), seed)
    model.requires_grad_(True)
    return seconds


def l2_sp(model, tokenizer, strength, seed):
    """Pull all weights back alike."""
    pull = remedies.l2_sp(models.snapshot(model), strength)
    return tuned(model, reviews(tokenizer, seed), seed, regularizers=[pull])


def ewc(model, tokenizer, strength, seed):
    """Pull weights back as they mattered for 48 examples of the old kinds."""
    old, begin = every(old_examples(tokenizer, each=8)), time.perf_counter()
    fisher = remedies.fisher_diagonal(model, old)
    before = time.perf_counter() - begin
    pull = remedies.ewc(models.snapshot(model), fisher, strength)
    return before + tuned(model, reviews(tokenizer, seed), seed, regularizers=[pull])


def rehearsal(model, tokenizer, share, seed):
    """Mix old examples in."""
    old = every(old_examples(tokenizer, each=20, seed=seed))
    mixed = remedies.rehearse(reviews(tokenizer, seed), old, share, seed=seed)
    return tuned(model, mixed, seed)


def interpolation(model, tokenizer, share, seed):
    """Go a part of the way from the old weights to the tuned ones."""
    start = models.snapshot(model)
    seconds = plain(model, tokenizer, LR, seed)
    remedies.interpolate(model, start, share)
    return seconds


def reptile(model, tokenizer, step_size, seed):
    """Look for a better start with the old kinds first, then tune from there without them."""
    old, begin = old_examples(tokenizer, each=32, seed=seed), time.perf_counter()
    remedies.reptile(model, old, rounds=12, lr=LR, step_size=step_size, seed=seed)
    before = time.perf_counter() - begin
    return before + tuned(model, reviews(tokenizer, seed), seed)


METHODS = {
    "plain": plain,
    "weight decay": weight_decay,
    "freezing": freezing,
    "L2-SP": l2_sp,
    "EWC": ewc,
    "rehearsal": rehearsal,
    "interpolation": interpolation,
    "Reptile": reptile,
}


def measure(method, strength, seed, split):
    """Apply a remedy to a fresh model and measure what it can do.

    On validation the losses are left out and 250 reviews are enough; test is the recorded panel,
    less the long answers to instructions.
    """
    model, tokenizer = models.load()
    if method == "progressive":
        column = progressive.column_for(model, seed=seed)
        with progressive.attached(model, column):
            # It starts from nothing, and four passes take no longer than one of the model itself.
            seconds = tuned(model, reviews(tokenizer, seed), seed, lr=strength, epochs=4)
            new = scores(model, tokenizer, split, skip=[*panel.ABILITIES][1:])
        # Whoever asks for an old ability leaves the column off.
        found = new | scores(model, tokenizer, split, skip=["sentiment"])
    else:
        seconds = METHODS[method](model, tokenizer, strength, seed)
        found = scores(model, tokenizer, split)
    return {"panel": panel.pack(found), "training_seconds": round(seconds, 1)}


def scores(model, tokenizer, split, skip=()):
    """Return the panel on the split, less what is to be skipped."""
    skip = [*skip, "instructions"]
    if split == "test":
        return panel.measure(model, tokenizer, "recorded", skip=skip)
    losses = [name for name, ability in panel.ABILITIES.items() if ability.is_loss]
    own = (
        {}
        if "sentiment" in skip
        else {"sentiment": panel.sentiment(model, tokenizer, split, VALIDATION_REVIEWS)}
    )
    rest = [*skip, *losses, "sentiment"]
    return own | panel.measure(model, tokenizer, "recorded", split, skip=rest)


def chosen(rows):
    """Return each method's best strength on validation, {} until all of them are measured.

    Of the strengths that cost no more than two points of the best sentiment the method reaches,
    the one that keeps most; for plain tuning, the one with the best sentiment.
    """
    found = {}
    for row in rows:
        if row["split"] == "validation":
            scores = panel.unpack(row["panel"])
            kept = panel.retained(scores).mean()
            told = (sum(scores["sentiment"]) / len(scores["sentiment"]), kept, row["strength"])
            found.setdefault(row["method"], []).append(told)
    if any(len(found.get(method, [])) < len(grid) for method, grid in GRID.items()):
        return {}
    best = {method: max(told) for method, told in found.items()}
    near = {m: [t for t in told if t[0] >= best[m][0] - 0.02] for m, told in found.items()}
    return {
        method: (best[method] if method == "plain" else max(told, key=lambda t: t[1]))[2]
        for method, told in near.items()
    }


def points(rows):
    """Return the points of the choice, and once it is made those of the test."""
    grid = [(method, strength) for method in GRID for strength in GRID[method]]
    tried = [dict(method=m, strength=s, seed=0, split="validation") for m, s in grid]
    final = [
        dict(method=method, strength=strength, seed=seed, split="test")
        for seed in (0, 1, 2)
        for method, strength in chosen(rows).items()
        if method != "plain"  # 04_forgetting has it at all three rates
    ]
    return tried + final


SWEEP = recording.Sweep(settings={}, points=points, measure=measure, source=__file__)

if __name__ == "__main__":
    SWEEP.run()
