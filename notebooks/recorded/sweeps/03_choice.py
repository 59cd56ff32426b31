"""Rate, number of steps, prompt and TF-IDF's regularization, chosen on all validation reviews.

Full fine-tuning of the embedded model on 63, 250 or 1,000 balanced reviews (of one seed the fewer
are among the more), 125 steps of eight in all three, so that examples and steps are not one thing.
A run is scored after 16, 32, 63 and 125 steps. Its rate stays where six steps of warm-up bring it:
with a rate that falls to zero at step 125 the earlier scores would be those of half-annealed models
and make short runs look worse than they are. 03_test keeps to this schedule.

The baselines cost no training of the model: prompts without and with shots (five draws), plain and
calibrated, for two labels and for three; logistic regression on TF-IDF by number of reviews.

The rate is chosen at the end of the runs, where test sizes up to 1,000 reviews fit in; the earlier
scores are a curve to look at. Two seeds a cell choose and do not compare methods. Time on two cores
in fp32: 18 runs of 6 minutes, 36 prompts of 40 seconds, TF-IDF a minute in all: 2.2 hours.
"""

import numpy as np

from workbook import experiments, models, recording

SCORED_AT = (16, 32, 63, 125)  # steps of eight: two passes over 63 reviews … one over 1,000
DRAWS = range(5)  # of the solved examples in a prompt
TFIDF = {"sentiment": (50, 63, 100, 250, 500, 1000), "sentiment-3": (600,)}


def measure(method, task, **point):
    """Label all validation reviews of a task by one of the METHODS."""
    rows = list(experiments.load_task(task).splits["validation"])
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
            for n in (63, 250, 1000)
            for lr in (2e-5, 5e-5, 1e-4)
        ),
    ],
    measure=measure,
    source=__file__,
    plan=recording.Plan(
        question="Which rate and which baselines go to the test of 03_test?",
        primary="the validation accuracy of each rate after 125 steps, averaged over the three "
        "sizes and two seeds: the highest goes to the test, together with the prompt (accuracy; "
        "macro F1 with three labels) and the C of TF-IDF that score highest",
        selection_seeds=tuple(DRAWS),  # tuning and TF-IDF have the first two
        test_seeds=experiments.TEST_SEEDS,
    ),
)

if __name__ == "__main__":
    SWEEP.run()
