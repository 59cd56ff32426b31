"""Accuracy on 1,000 unseen reviews after tuning on 0 to 1,000 examples, three seeds each.

Full fine-tuning of the embedded model, one pass. A row keeps the predicted label of every test
review as a digit, so that runs can be compared review by review.
"""

import numpy as np

from workbook import encoding, models, recording, scoring, tasks, training


def measure(task, n, seed, template, lr, batch_size):
    """Tune a fresh model on n balanced examples and score it on the whole test set."""
    data = tasks.load_task(task)
    model, tokenizer = models.load()
    render = data.template(template).render
    history = None
    if n:
        rows = tasks.draw(data.splits["train"], n, seed=seed)
        examples = encoding.encode_pairs(tokenizer, map(render, rows))
        history = training.fit(
            model, examples, lr=lr, batch_size=batch_size, seed=seed, progress=False
        )
    test = data.splits["test"]
    prompts = [render(row).prompt for row in test]
    found = scoring.classify(model, tokenizer, prompts, data.labels).predictions
    return {
        "accuracy": float(np.mean(found == np.array(test["label"]))),
        "tokens_per_second": history.tokens_per_second if history else None,
        "predictions": "".join(map(str, found)),
    }


SWEEP = recording.Sweep(
    settings={"template": "question", "lr": 5e-5, "batch_size": 8},
    points=[
        {"task": "sentiment", "n": 0, "seed": 0},
        {"task": "sentiment-3", "n": 0, "seed": 0},
        *(
            {"task": task, "n": n, "seed": seed}
            for seed in (0, 1, 2)
            for task, n in (
                ("sentiment", 1000),
                ("sentiment-3", 600),
                ("sentiment", 50),
                ("sentiment", 100),
                ("sentiment", 250),
            )
        ),
    ],
    measure=measure,
    source=__file__,
)

if __name__ == "__main__":
    SWEEP.run()
