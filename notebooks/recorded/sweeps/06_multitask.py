"""Many kinds of tasks in one model, against a model a kind and one after another; three seeds.

Full fine-tuning of the embedded model, one pass, every kind in equal shares. A row keeps the score
of each test row by kind, so that models can be compared row by row.
"""

import functools

from workbook import encoding, grading, models, recording, tasks, training
from workbook.tasks import mixtures

KINDS = (
    "sentiment", "entities", "facts", "tense", "grammar", "dialogue", "comprehension",
    "translation", "ordering", "inference", "topic", "arithmetic",
)  # fmt: skip
HELD_OUT = ("inference", "ordering", "grammar")  # where transfer is measured; each its own cluster
SEEN = tuple(kind for kind in KINDS if kind not in HELD_OUT)
PLAIN = "{{ messages[0]['content'] + '\\n' }}"  # for a base model, which has no chat template
load_task = functools.cache(tasks.load_task)


def measure(plan, train, n, epochs, test, seed, lr, batch_size, rows):
    """Tune a fresh model on n examples of the kinds, as the plan says, and score it.

    Where wording is at issue, the last template, which no plan learns from, asks a second time.
    """
    model, tokenizer = models.load()
    tokenizer.chat_template = tokenizer.chat_template or PLAIN
    groups = [[kind] for kind in train] if plan == "in turn" else [train] if train else []
    seconds = 0.0
    for kinds in groups:
        examples = mixture(tokenizer, kinds, n // len(groups), plan, seed)
        options = {"lr": lr, "batch_size": batch_size, "seed": seed, "progress": False}
        seconds += training.fit(model, examples, epochs=epochs, **options).seconds
    result = {"scores": {kind: scores(model, tokenizer, kind, 0, rows) for kind in test}}
    if plan in ("untuned", "many templates") or (plan, n, epochs) == ("together", 480, 1):
        unseen = {kind: scores(model, tokenizer, kind, -1, rows) for kind in test}
        result["scores_unseen_wording"] = unseen
    return result | {"training_seconds": round(seconds, 1)}


def mixture(tokenizer, kinds, n, plan, seed):
    """Return n encoded examples in equal shares of the kinds, through one template or many."""
    every = {kind: load_task(kind) for kind in kinds}
    train = {kind: task.splits["train"] for kind, task in every.items()}
    drawn = mixtures.mix(train, n, dict.fromkeys(kinds, 1 / len(kinds)), seed)
    many = plan == "many templates"
    pairs = [
        pair
        for kind, rows in drawn.items()
        for pair in mixtures.render(
            every[kind], rows, usable(kind)[:-1] if many else usable(kind)[:1], seed
        )
    ]
    return encoding.encode_pairs(tokenizer, pairs)


def usable(kind):
    """Return the names of the templates that ask for the whole answer, in the kind's own terms."""
    return [t.name for t in load_task(kind).templates if t.metadata.get("original_task")]


def scores(model, tokenizer, kind, template, rows):
    """Return the scores of test rows as one text."""
    task = load_task(kind)
    some = tasks.draw(task.splits["test"], min(rows, len(task.splits["test"])))
    found = grading.score_task(model, tokenizer, task, some, usable(kind)[template])
    return " ".join(f"{value:.3g}" for value in found)


def point(plan, train, n, test=KINDS, seed=0, epochs=1):
    """Return one point; the order of the kinds turns with the seed."""
    turned = [*train[4 * seed :], *train[: 4 * seed]]
    test = list(test)
    return {"plan": plan, "train": turned, "n": n, "epochs": epochs, "test": test, "seed": seed}


SWEEP = recording.Sweep(
    settings={"lr": 5e-5, "batch_size": 8, "rows": 80},
    points=[
        point("untuned", (), 0),
        *(
            each
            for seed in (0, 1, 2)
            for each in (
                point("together", KINDS, 480, seed=seed),
                point("in turn", KINDS, 480, seed=seed),
                point("transfer", SEEN, 360, HELD_OUT, seed),
                point("transfer", SEEN[3 * seed : 3 * seed + 3], 360, HELD_OUT, seed),
                point("transfer", SEEN[3 * seed : 3 * seed + 1], 360, HELD_OUT, seed),
                # Forty examples are five steps; in four passes, twenty.
                *(point("alone", (kind,), 40, (kind,), seed, 4) for kind in KINDS),
                point("many templates", KINDS, 480, seed=seed),
            )
        ),
        *(point("together", KINDS, 480, seed=seed, epochs=4) for seed in (0, 1, 2)),
        *(point("together", KINDS, 120, seed=seed) for seed in (0, 1, 2)),
        point("together", KINDS, 1440),
        *(point("together", KINDS, 48, seed=seed) for seed in (0, 1, 2)),
    ],
    measure=measure,
    source=__file__,
)

if __name__ == "__main__":
    SWEEP.run()
