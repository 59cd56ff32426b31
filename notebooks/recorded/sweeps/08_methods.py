"""Adapter, soft prompts, P-tuning and LoRA of rank 1: rates chosen on validation, then tested.

All leave the default model as it is and read the same 250 reviews twice. Each start of a soft
prompt, and each other method, has its own rates; the best two of each have a second selection seed.
Then lengths of the best soft prompt, and what a step costs, in a process that does nothing else.
About 40 points of 110 s, 45 of 130 s, and 18 of 30 s.
"""

import json
import subprocess
import sys

import torch
from peft import PromptEncoderConfig, get_peft_model

from workbook import abilities, experiments, models, recording, training
from workbook.adaptation import soft_prompt
from workbook.adaptation.adapter import Adapter
from workbook.adaptation.additions import attached
from workbook.adaptation.lora import LoRA
from workbook.adaptation.soft_prompt import SoftPrompt
from workbook.memory import peak_memory

REVIEWS, PASSES, LENGTH, WIDTH = 250, 2, 20, 32
INSTRUCTION = "Is the sentiment of this review positive or negative? Answer with one word."
COST_REVIEWS = 48
GRID = {
    # The farther a start is from words, the longer the steps that it needs.
    ("soft prompt", "unit"): (3e-3, 3e-2, 1e-1, 3e-1),
    ("soft prompt", "matched"): (3e-3, 1e-2, 3e-2, 1e-1),
    ("soft prompt", "vocabulary"): (3e-3, 1e-2, 3e-2, 1e-1),
    ("soft prompt", "text"): (1e-3, 3e-3, 1e-2),
    ("P-tuning", None): (3e-5, 1e-4, 3e-4, 1e-3),
    ("adapter", None): (3e-4, 1e-3, 3e-3),
    ("LoRA, rank 1", None): (3e-4, 1e-3, 3e-3),
}
LENGTHS = (1, 5, 20, 50)
COSTS = [*GRID, ("LoRA, rank 8", None), ("full", None)]
SENTIMENT_ONLY = [name for name in abilities.ABILITIES if name != "sentiment"]


def measure(method, start, lr, length, seed, split):
    """Tune an addition of a fresh model and measure what the model with it can do.

    On validation that is sentiment alone: the addition is taken off for the rest. Test is the
    recorded panel with the addition left on.
    """
    if split == "cost":
        return in_own_process(dict(method=method, start=start, lr=lr, length=length, seed=seed))
    model, tokenizer = models.load()
    examples = experiments.examples(tokenizer, "sentiment", REVIEWS, seed)
    made, history, count = tuned(model, tokenizer, examples, method, start, lr, length, seed)
    with attached(model, made):
        skip = SENTIMENT_ONLY if split == "validation" else ()
        panel = experiments.panel(model, tokenizer, split, skip)
    result = {"panel": panel, "trained": count, "training_seconds": round(history.seconds, 1)}
    if method == "soft prompt":
        result |= in_words(model, tokenizer, made, begun(model, tokenizer, start, length, seed))
    return result


def tuned(model, tokenizer, examples, method, start, lr, length, seed):
    """Tune by the method; return the addition, the history and how many numbers learned."""
    options = dict(lr=lr, epochs=PASSES, seed=seed, progress=False)
    if method == "P-tuning":
        return p_tuned(model, examples, length, options)
    made = addition(model, tokenizer, method, start, length, seed)
    with attached(model, made):
        count = models.count_parameters(model).trainable
        return made, training.fit(model, examples, **options), count


def addition(model, tokenizer, method, start, length, seed):
    """Return what the method adds to the model, before training."""
    if method == "adapter":
        return Adapter(model, WIDTH, seed=seed)
    if method.startswith("LoRA"):
        return LoRA(model, rank=int(method.split()[-1]), alpha=16, seed=seed)
    return begun(model, tokenizer, start, length, seed)


def begun(model, tokenizer, start, length, seed):
    """Return a soft prompt before training."""
    if start == "text":
        return soft_prompt.from_text(model, tokenizer, INSTRUCTION, length)
    if start == "vocabulary":
        return soft_prompt.from_vocabulary(model, tokenizer, length, seed)
    prompt = SoftPrompt(model, length, seed)
    if start == "unit":  # a standard normal, as peft draws it by default; the same directions
        with torch.no_grad():
            prompt.vectors.div_(soft_prompt.embeddings(model).std())
    return prompt


def p_tuned(model, examples, length, options):
    """Tune vectors through an encoder of `peft`, and return them as a soft prompt of ours.

    Once they are learned, the vectors are all that is needed. The model itself goes to `peft`, and
    not a copy, which would count as memory; a prompt puts no layers into it.
    """
    made = SoftPrompt(model, length)
    width = model.config.hidden_size
    config = PromptEncoderConfig(
        task_type="CAUSAL_LM", num_virtual_tokens=length, encoder_hidden_size=width
    )
    torch.manual_seed(options["seed"])
    theirs = get_peft_model(model, config)
    count = models.count_parameters(theirs).trainable
    history = training.fit(theirs, examples, **options)
    with torch.no_grad():
        made.vectors.copy_(theirs.get_prompt_embedding_to_save("default"))
    model.requires_grad_(True)
    return made, history, count


@torch.no_grad()
def in_words(model, tokenizer, prompt, start):
    """Return the nearest word of each vector, how far it moved, and how many kept their word."""
    now, before = (
        soft_prompt.nearest_words(each, model, tokenizer, k=1) for each in (prompt, start)
    )
    moved = (prompt.vectors - start.vectors).norm() / start.vectors.norm()
    return {
        "words": [[word, round(cosine, 3)] for [(word, cosine)] in now],
        "same_word": sum(a[0][0] == b[0][0] for a, b in zip(now, before, strict=True)),
        "moved": round(float(moved), 4),
    }


def in_own_process(form):
    """Return the cost as measured by a process that does nothing else, with its peak memory."""
    command = [sys.executable, __file__, json.dumps(form)]
    with peak_memory() as peak:
        told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(told) | {"peak_gb": round(peak.gb, 2)}


def cost_of(method, seed, **form):
    """Return how many numbers learn and the seconds a pass, after a step that warms up."""
    model, tokenizer = models.load()
    examples = experiments.examples(tokenizer, "sentiment", COST_REVIEWS, seed)
    for part in (examples[:8], examples):
        if method == "full":
            count = models.count_parameters(model).trainable
            history = training.fit(model, part, lr=form["lr"], progress=False)
        else:
            _, history, count = tuned(model, tokenizer, part, method, seed=seed, **form)
    passes = 1 if method == "full" else PASSES
    return {"trained": count, "seconds_a_pass": round(history.seconds / passes, 2)}


def told(rows):
    """Return {form: {rate: mean sentiment}} over the selection seeds measured."""
    found = {}
    for row in rows:
        if row["split"] == "validation" and row["length"] == LENGTH:
            right = experiments.graded(row)["sentiment"].free.mean()
            form = row["method"], row["start"]
            found.setdefault(form, {}).setdefault(row["lr"], []).append(right)
    return {form: experiments.means(rates) for form, rates in found.items()}


def ranked(rates):
    """Return the rates, the best first, and of equals the lower one."""
    return sorted(rates, key=lambda lr: (-rates[lr], lr))


def point(form, lr, seed, split="validation", length=LENGTH):
    """Return one point."""
    return dict(method=form[0], start=form[1], lr=lr, length=length, seed=seed, split=split)


def points(rows):
    """Return the points of cost and choice, then of its second seed, of the test, of lengths."""
    first, second = experiments.SELECTION_SEEDS
    costs = [point(form, 1e-3, seed, "cost") for seed in (0, 1) for form in COSTS]
    tried = [point(form, lr, first) for form, rates in GRID.items() for lr in rates]
    if len(rows) < len(costs + tried):
        return costs + tried
    by_first = told(rows[: len(costs + tried)])
    again = [point(form, lr, second) for form in GRID for lr in ranked(by_first[form])[:2]]
    chosen_by = costs + tried + again
    if len(rows) < len(chosen_by):
        return chosen_by
    found = told(rows[: len(chosen_by)])
    return chosen_by + tests(found)


def tests(found):
    """Return the points of the test, seed by seed, with the lengths of the best soft prompt."""
    prompts = [form for form in found if form[0] == "soft prompt"]
    best = max(prompts, key=lambda form: max(found[form].values()))
    forms = [best, *(form for form in found if form[0] != "soft prompt")]
    forms += [("soft prompt", "unit")] if best[1] != "unit" else []
    return [
        each
        for seed in experiments.TEST_SEEDS
        for each in (
            *(point(form, ranked(found[form])[0], seed, "test") for form in forms),
            *(point(best, ranked(found[best])[0], seed, "validation", n) for n in LENGTHS),
        )
    ]


SWEEP = recording.Sweep(
    settings={},
    points=points,
    measure=measure,
    source=__file__,
    plan=recording.Plan(
        question="How well does a model learn that stays as it is, and what is left on of the old "
        "abilities?",
        primary="sentiment of the best soft prompt minus LoRA of rank 1, each at its chosen rate "
        "after two passes, paired by seed, on test items",
        composite="mean of the free grades of entities and facts",
        margin=0.02,
        selection_seeds=experiments.SELECTION_SEEDS,
        test_seeds=experiments.TEST_SEEDS,
    ),
)

if __name__ == "__main__" and sys.argv[1:]:
    print(json.dumps(cost_of(**json.loads(sys.argv[1]))))
elif __name__ == "__main__":
    SWEEP.run()
