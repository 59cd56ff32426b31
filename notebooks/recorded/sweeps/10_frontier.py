"""Prompting or tuning, for a judgement and for a form: what LoRA and soft prompts add to 03's runs.

Sentiment is the judgement, names in a sentence the form. Of sentiment, TF-IDF, the best prompt and
full tuning at 50, 125 and 500 reviews stand in 03_choice and 03_test, adapters and prompts after
two passes in 08_methods, many kinds in one model in 06_instruct, seconds and gigabytes in 08_costs.
All runs here follow 03's recipe, so that one curve has one recipe: 63 steps of eight, whatever the
number of examples, at a rate that stays after six steps of warm-up.

LoRA       of rank 8 on all linear layers, sentiment at 50 and 500 reviews, names at 20 and 280
full       names at 20 and 280
prompt     a soft prompt of 20 vectors that starts as text, names at 280
shots      names without tuning: two wordings, none or 4 solved examples, the best on validation

Rates are chosen on validation at the largest size, by what is learned: the strict score of names,
the accuracy of sentiment. The decision chart of notebook 10 is computed from validation rows of
this file and of the others, and judged on test rows.

About 30 points of 8 minutes for the choice, then a seed takes seven of 11: 10 hours on one slow
core in fp32; a fast core takes a third.
"""

import contextlib

from workbook import abilities, encoding, experiments, models, recording, tasks
from workbook.adaptation import soft_prompt
from workbook.adaptation.additions import attached
from workbook.adaptation.lora import LoRA
from workbook.templates import few_shot

STEPS, RANK, ALPHA, LENGTH = 63, 8, 16, 20
WORDINGS, DRAWS = ("question", "instruction_first"), (0, 1)
SIZES = {"sentiment": (50, 500), "entities": (20, 280)}
RATES = {
    ("full", "entities"): (2e-5, 5e-5, 1e-4),
    ("LoRA", "entities"): (5e-4, 1e-3, 2e-3),
    ("prompt", "entities"): (3e-3, 1e-2, 3e-2),
    ("LoRA", "sentiment"): (5e-4, 1e-3, 2e-3),
}
SKIPPED = ("instructions", "instruction_loss", "text_loss")


def measure(method, task, n, lr, seed, split, **wording):
    """Ask after shots, or tune a fresh model on n examples and ask with the panel."""
    model, tokenizer = models.load()
    if method == "shots":
        return shown(model, tokenizer, task, n, seed, split, **wording)
    template = abilities.ABILITIES[task].template
    examples = experiments.examples(tokenizer, task, n, seed, template)
    made = addition(model, tokenizer, method, task, seed)
    with attached(model, made) if made else contextlib.nullcontext():
        trained = models.count_parameters(model).trainable
        history = experiments.fit_steps(model, examples, steps=STEPS, lr=lr, seed=seed)
        panel = experiments.panel(model, tokenizer, split, asked_not(task, split))
    took = {"tokens": history.tokens, "training_seconds": round(history.seconds, 1)}
    return {"panel": panel, "trained": trained, **took}


def asked_not(task, split):
    """Return what is left out: on validation all but the task."""
    others = [name for name in abilities.ABILITIES if name != task]
    return others if split == "validation" else SKIPPED


def addition(model, tokenizer, method, task, seed):
    """Return what a method adds to the model, None for full tuning."""
    if method == "LoRA":
        return LoRA(model, RANK, ALPHA, seed=seed)
    if method == "prompt":
        row = experiments.load_task(task).splits["train"][0]
        asked = experiments.load_task(task).template("instruction_first").render(row).prompt
        return soft_prompt.from_text(model, tokenizer, asked.split("\n")[0], LENGTH)
    return None


def shown(model, tokenizer, task, shots, draw, split, wording):
    """Return answers after solved examples, and the tokens of a prompt."""
    data = experiments.load_task(task)
    rows = abilities.ABILITIES[task].rows(split, "recorded")
    examples = list(tasks.draw(data.splits["train"], shots, seed=draw))
    asked = task, rows, examples, data.template(wording), "chat", split
    panel = experiments.written_after_shots(model, tokenizer, *asked)
    prompt = few_shot(data.template(wording), examples, rows[0]).prompt
    return {"panel": panel, "tokens_of_a_prompt": len(encoding.prompt_ids(tokenizer, prompt))}


# ------------------------------------------------------------------------------------ the points


def learned(row):
    """Return how well the row's task is done: strict, which for labels is all there is."""
    return experiments.graded(row)[row["task"]].strict.mean()


def best(rows, name, **wanted):
    """Return the value of a setting with the highest mean score among the rows that are wanted."""
    found = {}
    for row in rows:
        if wanted.items() <= row.items():
            found.setdefault(row[name], []).append(learned(row))
    means = experiments.means(found)
    return max(means, key=means.get)


def point(method, task, n, lr, seed, split="test", **wording):
    """Return one point."""
    return dict(method=method, task=task, n=n, lr=lr, seed=seed, split=split, **wording)


def choice():
    """Return the points on validation."""
    found = [
        point("shots", "entities", n, 0.0, draw, "validation", wording=wording)
        for wording in WORDINGS
        for n in (0, 4)
        for draw in (DRAWS if n else DRAWS[:1])
    ]
    return found + [
        point(method, task, SIZES[task][-1], lr, seed, "validation")
        for seed in experiments.SELECTION_SEEDS
        for (method, task), rates in RATES.items()
        for lr in rates
    ]


def points(rows):
    """Return the points of the choice, and once it is made those of the test, seed by seed."""
    tried = choice()
    if len(rows) < len(tried):
        return tried
    rows = rows[: len(tried)]
    wording = best(rows, "wording", method="shots")
    shots = best(rows, "n", method="shots", wording=wording)
    tests = []
    for seed in experiments.TEST_SEEDS:
        tests += [point("shots", "entities", shots, 0.0, seed, wording=wording)]
        for (method, task), _ in RATES.items():
            lr = best(rows, "lr", method=method, task=task)
            sizes = SIZES[task][-1:] if method == "prompt" else SIZES[task]
            tests += [point(method, task, n, lr, seed) for n in sizes]
    return tried + tests


SWEEP = recording.Sweep(
    settings={},
    points=points,
    measure=measure,
    source=__file__,
    plan=recording.Plan(
        question="When is a prompt enough, and when does tuning pay?",
        primary="for names, the strict score of LoRA at 280 sentences minus that of the best "
        "prompt, run by run and item by item; for sentiment the same at 500 reviews, against the "
        "best prompt of 03_test. Secondary, and many: full tuning and the soft prompt minus LoRA; "
        "the small sizes minus the prompt; what is left of the other abilities",
        composite="for names: sentiment and facts (free), each a half; for sentiment: names and "
        "facts",
        margin=0.05,
        selection_seeds=experiments.SELECTION_SEEDS,
        test_seeds=experiments.TEST_SEEDS,
    ),
)

if __name__ == "__main__":
    SWEEP.run()
