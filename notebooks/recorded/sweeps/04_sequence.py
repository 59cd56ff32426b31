"""Four tasks learned one after another: the score on each after each, three seeds.

Full fine-tuning of the embedded model; row 0 of a matrix is the model before any training.
"""

from workbook import encoding, grading, models, recording, tasks, training


def measure(seed, sequence, examples, rows, lr, batch_size):
    """Tune one model on the tasks in turn and score it on all of them each time."""
    model, tokenizer = models.load()
    every = [tasks.load_task(name) for name in sequence]
    matrix = [scores(model, tokenizer, every, rows)]
    for task in every:
        drawn = tasks.draw(task.splits["train"], examples, seed=seed)
        pairs = encoding.encode_pairs(tokenizer, map(task.template("question").render, drawn))
        training.fit(model, pairs, lr=lr, batch_size=batch_size, seed=seed, progress=False)
        matrix.append(scores(model, tokenizer, every, rows))
    return {"matrix": matrix}


def scores(model, tokenizer, every, rows):
    """Return the mean score on each task's first test rows."""
    drawn = [(task, tasks.draw(task.splits["test"], rows[task.name])) for task in every]
    found = [grading.score_task(model, tokenizer, *pair, "question") for pair in drawn]
    return [sum(values) / len(values) for values in found]


SWEEP = recording.Sweep(
    settings={
        "sequence": ["entities", "facts", "topic", "sentiment"],
        "examples": 120,
        "rows": {"entities": 100, "facts": 100, "topic": 100, "sentiment": 200},
        "lr": 5e-5,
        "batch_size": 8,
    },
    points=[{"seed": seed} for seed in (0, 1, 2)],
    measure=measure,
    source=__file__,
)

if __name__ == "__main__":
    SWEEP.run()
