"""The test, opened once: tuning at the rate and steps that 03_choice chose, against its baselines.

Everything was chosen on validation with other seeds; this file chooses nothing. All runs have 63
steps of eight at the same rate, so 50 reviews come round nine times while 500 are seen once.

pairs     full fine-tuning on prompt–completion pairs, scored with the question that it learned
raw       the same reviews and steps without their labels, as plain text to be continued
          (self-supervised; it reads half the tokens but learns from all of them, at the rate that
          was chosen for pairs), scored with the question and with the best prompt
prompt    the untuned model with the prompt that was best on validation, plain or calibrated as it
          was best, and with the question that tuning uses
TF-IDF    logistic regression on the same reviews, of each size and seed

Two labels are scored on 400 test reviews, those of the ability panel; three labels on all 1,061,
since one in seventeen is neutral; they learn from 168 of each label, at the rate chosen with two.

Time on one slow core in fp32: five rounds of 55 minutes, prompts and TF-IDF 10 minutes: 4.8 hours;
a fast core takes a third.
"""

import functools
from collections import defaultdict

import numpy as np

from workbook import abilities, encoding, experiments, models, recording, tasks, training
from workbook.errors import WorkbookError

SIZES = (50, 125, 500)
STEPS, LARGEST, THREE_LABELS = 63, 500, 504
SEEDS = experiments.TEST_SEEDS
PANEL = (50, 500)  # sizes after which old abilities are asked too: notebook 10 wants them
NOT_OLD = ("sentiment", "instruction_loss", "text_loss")
WORDING = ("template", "prompt_style", "shots", "draw")  # what makes a prompt


@functools.cache
def test_rows(task):
    """Return the test reviews of a task."""
    if task == "sentiment":
        return abilities.ABILITIES[task].rows("test", "recorded")
    return list(experiments.load_task(task).splits["test"])


def measure(method, task, **point):
    """Label the test reviews of a task by one of the METHODS."""
    return METHODS[method](task, **point)


def pairs(task, n, lr, seed):
    """Tune a fresh model on n reviews with their labels."""
    model, tokenizer = models.load()
    examples = experiments.examples(tokenizer, task, n, seed)
    history = experiments.fit_steps(model, examples, steps=STEPS, lr=lr, seed=seed)
    found = experiments.labelled(model, tokenizer, task, test_rows(task)) | costs(history)
    if n == LARGEST:
        found |= review_loss(model, tokenizer)
    if task == "sentiment" and n in PANEL:
        found["panel"] = experiments.panel(model, tokenizer, skip=NOT_OLD)
    return found


def raw(task, n, lr, seed, prompt):
    """Let a fresh model go on with its pretraining on the same reviews."""
    model, tokenizer = models.load()
    reviews = tasks.draw(experiments.load_task(task).splits["train"], n, seed=seed)
    examples = as_text(tokenizer, reviews)
    history = experiments.fit_steps(model, examples, steps=STEPS, lr=lr, seed=seed)
    wording = {name: prompt[name] for name in WORDING}
    prompted = experiments.prompted(model, tokenizer, task, test_rows(task), **wording)
    return scored(model, tokenizer, task) | costs(history) | {"with_prompt": prompted}


def scored(model, tokenizer, task):
    """Return labels with their losses, and the loss on reviews."""
    found = experiments.labelled(model, tokenizer, task, test_rows(task))
    return found | review_loss(model, tokenizer)


def review_loss(model, tokenizer):
    """Return the loss on reviews as plain text (nats a token)."""
    texts = as_text(tokenizer, test_rows("sentiment"))
    return {"review_loss": training.evaluate_loss(model, texts)}


def as_text(tokenizer, reviews):
    """Return reviews as examples without a prompt: each token is to be predicted."""
    texts = [("", review["text"]) for review in reviews]
    return encoding.encode_pairs(tokenizer, texts, prompt_style="plain")


def costs(history):
    """Return what a run took."""
    return {"tokens": history.tokens, "training_seconds": history.seconds}


def prompt(task, calibrated, **wording):
    """Score a prompt; `calibrated` tells which of its two results was chosen."""
    return experiments.prompted(*models.load(), task, test_rows(task), **wording)


def untuned(task):
    """Score the model as it is with the question that tuning uses."""
    return scored(*models.load(), task)


def tfidf(task, **point):
    """Score logistic regression on TF-IDF."""
    return experiments.bag_of_words(task, test_rows(task), **point)


METHODS = {"pairs": pairs, "raw": raw, "untuned": untuned, "prompt": prompt, "TF-IDF": tfidf}


# ------------------------------------------------------------------------ what validation chose


def best(rows, *names):
    """Return the values of these settings with the highest mean score, the first of equals."""
    found = defaultdict(list)
    for row in rows:
        found[tuple(row[name] for name in names)].append(row["score"])
    return max(found, key=lambda values: np.mean(found[values]))


def best_rate(rows):
    """Return the rate that is best at the end of the runs."""
    runs = [row for row in rows if row["method"] == "tuning"]
    [lr] = best([{**row, **row["snapshots"][-1]} for row in runs], "lr")
    return lr


def best_prompt(rows, task):
    """Return the prompt, and whether to calibrate it."""
    tried = [row for row in rows if row["method"] == "prompt" and row["task"] == task]
    calibrated = [{**row, "score": row["score_calibrated"]} for row in tried]
    both = [{**row, "calibrated": False} for row in tried]
    both += [{**row, "calibrated": True} for row in calibrated]
    names = (*WORDING, "calibrated")
    return dict(zip(names, best(both, *names), strict=True))


def best_strength(rows, task):
    """Return the C of TF-IDF's logistic regression."""
    tried = [row for row in rows if row["method"] == "TF-IDF" and row["task"] == task]
    return best(tried, "strength")[0]


# ------------------------------------------------------------------------------------ the points


def points(_):
    """Return all points; raise WorkbookError until 03_choice is complete."""
    if not recording.is_current("03_choice"):
        raise WorkbookError("Measure 03_choice first: it chooses what is tested here.")
    choice = recording.load("03_choice").rows
    lr, prompt = best_rate(choice), best_prompt(choice, "sentiment")
    kinds = [{"method": "pairs", "task": "sentiment", "n": n} for n in SIZES]
    kinds += [{"method": "raw", "task": "sentiment", "n": LARGEST, "prompt": prompt}]
    kinds += [{"method": "pairs", "task": "sentiment-3", "n": THREE_LABELS}]
    rounds = [{**kind, "lr": lr, "seed": seed} for seed in SEEDS for kind in kinds]
    return untrained(choice) + rounds


def untrained(choice):
    """Return the points of the baselines."""
    found = []
    for task, sizes in {"sentiment": SIZES, "sentiment-3": (THREE_LABELS,)}.items():
        found += [{"method": "untuned", "task": task}]
        found += [{"method": "prompt", "task": task, **best_prompt(choice, task)}]
        words = {"method": "TF-IDF", "task": task, "strength": best_strength(choice, task)}
        found += [{**words, "n": n, "seed": seed} for seed in SEEDS for n in sizes]
    return found


SWEEP = recording.Sweep(
    settings={},
    points=points,
    measure=measure,
    source=__file__,
    plan=recording.Plan(
        question="What does tuning on so many labelled reviews gain over the best that needs none?",
        primary="test accuracy after tuning on 500 reviews minus that of the best prompt, run by "
        "run and review by review. Secondary, and many: 500 minus 50 reviews at equal steps; "
        "each size minus the prompt, and minus TF-IDF of the same size and seed; pairs minus raw "
        "text (at the rate chosen for pairs) with the best prompt; macro F1 of three labels minus "
        "that of their best prompt",
        margin=0.04,
        selection_seeds=(0, 1, 2),  # those of 03_choice
        test_seeds=SEEDS,
    ),
)

if __name__ == "__main__":
    SWEEP.run()
