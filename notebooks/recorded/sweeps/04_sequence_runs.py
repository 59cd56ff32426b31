"""Three tasks learned in turn, sentiment first: every score on each after each, five seeds.

Full fine-tuning of the embedded model with `training.fit`, 120 examples a task twice (30 steps), at
the rate of notebook 03's live run. Stage 0 is the model before any training. `matrix` holds each
task's own metric, for sentiment the likelier label; `matrix_written` what the answers say in the
free reading: a model that writes something else may still know the label. Both are [stages,
tasks], and the answers of each stage are kept.

One order only, chosen for nothing: what it tells of forgetting holds for this order.

Time on two cores in fp32: five seeds of 8 minutes, 0.7 hours.
"""

import numpy as np

from workbook import abilities, experiments, grading, models, recording, scoring, tasks, training

TOKENS = {"sentiment": 12, "entities": 48, "tense": 32}  # most new ones in an answer


def measure(seed, sequence, examples, epochs, lr, rows):
    """Tune one model on the tasks in turn and ask it about all of them each time."""
    model, tokenizer = models.load()
    items = {name: drawn(name, rows[name]) for name in sequence}
    stages = [asked(model, tokenizer, items)]
    for name in sequence:
        learned = experiments.examples(tokenizer, name, examples, seed)
        training.fit(model, learned, lr=lr, epochs=epochs, seed=seed, progress=False)
        stages.append(asked(model, tokenizer, items))
    scores = [[means(name, items[name], stage) for name in sequence] for stage in stages]
    own, written = np.moveaxis(scores, -1, 0)
    packed = [abilities.pack({"answers": stage})["answers"] for stage in stages]
    return {"matrix": own, "matrix_written": written, "stages": packed}


def drawn(name, count):
    """Return test rows of a task."""
    return list(tasks.draw(experiments.load_task(name).splits["test"], count))


def asked(model, tokenizer, items):
    """Return what the model writes for each task, and the sentiment that it finds likelier."""
    answers = {}
    with scoring.working_copy(model) as working:
        for name, rows in items.items():
            task = experiments.load_task(name)
            prompts = [task.template("question").render(row).prompt for row in rows]
            options = {"max_new_tokens": TOKENS[name], "batch_size": 64}
            answers[name] = scoring.generate(working, tokenizer, prompts, **options)
            if task.labels:
                found = scoring.classify(working, tokenizer, prompts, task.labels)
                answers[f"{name}, chosen"] = found.predictions.tolist()
    return answers


def says(text, label, labels):
    """Return 1 if a text holds this label and no other: to repeat the question says nothing."""
    return float(
        [grading.contains(text, [each]) for each in labels] == [*np.eye(len(labels))[label]]
    )


def means(name, rows, answers):
    """Return a task's own mean score and that of what is written, in the free reading."""
    task, pairs = experiments.load_task(name), list(zip(answers[name], rows, strict=True))
    if task.labels:
        own = np.equal(answers[f"{name}, chosen"], [row["label"] for row in rows])
        free = [says(text, row["label"], task.labels) for text, row in pairs]
    else:
        own = [grading.grade(task.metric, text.split("\n")[0], row) for text, row in pairs]
        free = [grading.grade_freely(task.metric, text, row) for text, row in pairs]
    return np.mean(own), np.mean(free)


SWEEP = recording.Sweep(
    settings={
        "sequence": ["sentiment", "entities", "tense"],
        "examples": 120,
        "epochs": 2,
        "lr": 5e-5,
        "rows": {"sentiment": 200, "entities": 100, "tense": 100},
    },
    points=[{"seed": seed} for seed in experiments.TEST_SEEDS],
    measure=measure,
    source=__file__,
    plan=recording.Plan(
        question="What becomes of a task when others are learned after it?",
        primary="the likelier label's accuracy on sentiment at the end minus just after its own "
        "training, seed by seed and review by review. Secondary: the same for what is written; "
        "the other tasks; backward transfer and forgetting over all three",
        composite="backward transfer takes each task's own metric; sentiment's is accuracy",
        test_seeds=experiments.TEST_SEEDS,
    ),
)

if __name__ == "__main__":
    SWEEP.run()
