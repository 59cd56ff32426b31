"""Rate, prompt and TF-IDF's regularization, chosen on 250 validation reviews.

Full fine-tuning of the embedded model on 63 or 500 balanced reviews (of one seed the fewer are
among the more), 63 steps of eight in both, so that examples and steps are not one thing. A run is
scored after 16, 32 and 63 steps. Its rate stays where six steps of warm-up bring it: with a rate
that falls to zero at step 63 the earlier scores would be those of half-annealed models and make
short runs look worse than they are. 03_test keeps to this schedule.

The baselines cost no training of the model: prompts without and with shots (three draws), plain and
calibrated, for two labels and for three; logistic regression on TF-IDF by number of reviews.

The rate is chosen at the end of the runs; the earlier scores are a curve to look at. Two seeds a
cell choose and do not compare methods. Time on one slow core in fp32: 12 runs of 10 minutes, 24
prompts of a minute: 2.5 hours; a fast core takes a third.
"""

import numpy as np

from workbook import experiments, models, recording, tasks

SCORED_AT = (16, 32, 63)  # steps of eight: two to eight passes over 63 reviews, one over 500
DRAWS = range(3)  # of the solved examples in a prompt
ROWS = 250
TFIDF = {"sentiment": (50, 125, 500), "sentiment-3": (504,)}


def measure(method, task, **point):
    """Label validation reviews of a task by one of the METHODS."""
    rows = list(tasks.draw(experiments.load_task(task).splits["validation"], ROWS))
    return METHODS[method](task, rows, **point)


def tuning(task, rows, n, lr, seed):
    """Tune a fresh model on n reviews and score it on the way."""
    model, tokenizer = models.load()
    snapshots = []

    def score(history):
        step, since = len(history.steps), snapshots[-1]["steps"] if snapshots else 0
        if step in SCORED_AT:
            loss = np.mean([row["loss"] for row in history.steps[since:]])
            found = experiments.labelled(model, tokenizer, task, rows)
            snapshots.append({"steps": step, "train_loss": loss, **found})

    examples = experiments.examples(tokenizer, task, n, seed)
    options = {"steps": SCORED_AT[-1], "lr": lr, "seed": seed, "on_step": score}
    history = experiments.fit_steps(model, examples, **options)
    return {"snapshots": snapshots, "tokens": history.tokens, "training_seconds": history.seconds}


def untuned(task, rows):
    """Score the model as it is, with the losses that tuning starts from."""
    return experiments.labelled(*models.load(), task, rows)


def prompt(task, rows, **wording):
    """Score a prompt, plain and calibrated."""
    return experiments.prompted(*models.load(), task, rows, **wording)


METHODS = {
    "tuning": tuning,
    "untuned": untuned,
    "prompt": prompt,
    "TF-IDF": experiments.bag_of_words,
}


def prompts(task, shots):
    """Return the points of the prompts that are tried for a task."""
    plain = [(n, draw) for n in shots for draw in DRAWS]
    tried = [("question", "chat", 0, 0), ("instruction_first", "chat", 0, 0)]
    tried += [("plain", "plain", n, draw) for n, draw in [(0, 0), *plain]]
    tried += [("question", "chat", shots[0], draw) for draw in DRAWS]
    names = ("template", "prompt_style", "shots", "draw")
    return [{"method": "prompt", "task": task, **dict(zip(names, t, strict=True))} for t in tried]


SWEEP = recording.Sweep(
    settings={},
    points=[
        {"method": "untuned", "task": "sentiment"},
        *prompts("sentiment", shots=(4, 16)),
        *prompts("sentiment-3", shots=(6, 15)),  # as many of each label
        *(
            {"method": "TF-IDF", "task": task, "n": n, "seed": seed, "strength": strength}
            for seed in experiments.SELECTION_SEEDS
            for task, sizes in TFIDF.items()
            for n in sizes
            for strength in (1.0, 10.0, 100.0)
        ),
        *(
            {"method": "tuning", "task": "sentiment", "n": n, "lr": lr, "seed": seed}
            for seed in experiments.SELECTION_SEEDS
            for n in (63, 500)
            for lr in (2e-5, 5e-5, 1e-4)
        ),
    ],
    measure=measure,
    source=__file__,
    plan=recording.Plan(
        question="Which rate and which baselines go to the test of 03_test?",
        primary="the validation accuracy of each rate after 63 steps, averaged over the two sizes "
        "and two seeds: the highest goes to the test, together with the prompt (accuracy; "
        "macro F1 with three labels) and the C of TF-IDF that score highest",
        selection_seeds=tuple(DRAWS),  # tuning and TF-IDF have the first two
        test_seeds=experiments.TEST_SEEDS,
    ),
)

if __name__ == "__main__":
    SWEEP.run()
