"""The ability panel after tuning on sentiment, by learning rate, examples and epochs; three seeds.

Full fine-tuning of the embedded model. A row keeps the score of every item of every ability, so
that models can be compared item by item.
"""

from workbook import encoding, models, recording, runcache, tasks
from workbook.forgetting import panel


def measure(lr, n, epochs, seed, template, batch_size):
    """Tune a fresh model on n balanced reviews and measure the recorded panel."""
    task = tasks.load_task("sentiment")
    model, tokenizer = models.load()
    seconds = 0.0
    if n:
        rows = tasks.draw(task.splits["train"], n, seed=seed)
        pairs = map(task.template(template).render, rows)
        examples = encoding.encode_pairs(tokenizer, pairs)
        history = runcache.fit(
            "sentiment-plain", model, examples, lr=lr, epochs=epochs, batch_size=batch_size,
            seed=seed, progress=False,
        )  # fmt: skip
        seconds = history.seconds
    scores = panel.measure(model, tokenizer, "recorded")
    return {"panel": panel.pack(scores), "training_seconds": round(seconds, 1)}


SWEEP = recording.Sweep(
    settings={"template": "question", "batch_size": 8},
    points=[
        {"lr": 0.0, "n": 0, "epochs": 0, "seed": 0},
        *(
            {"lr": lr, "n": n, "epochs": epochs, "seed": seed}
            for lr, n, epochs in (
                (5e-5, 250, 1),
                (1e-4, 250, 1),
                (2e-5, 250, 1),
                (5e-5, 63, 4),
            )
            for seed in (0, 1, 2)
        ),
    ],
    measure=measure,
    source=__file__,
)

if __name__ == "__main__":
    SWEEP.run()
