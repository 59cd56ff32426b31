"""Adapter, soft prompts, P-tuning and LoRA: rates chosen on validation, then tested.

All leave the default model as it is and read the same 250 reviews twice. Each start of a soft
prompt, and each other method, has four rates; the best two of each have a second selection seed and
decide between them: what keeps most with the addition on, among those that learn nearly as well as
the method's best. Which start is the best one is chosen among four, so it had four times the
search. Then lengths of the best soft prompt at the rate of length 20. The untuned model and full
tuning stand in 04_settings and 05_methods. What a step and an answer cost is in 08_costs.

About 48 points of 5 minutes, then 35 of 6 and 15 of 5: 9 hours on one slow core in fp32; a fast
core takes a third.
"""

import torch
from peft import PromptEncoderConfig, get_peft_model

from workbook import abilities, experiments, models, recording, training
from workbook.adaptation import soft_prompt
from workbook.adaptation.adapter import Adapter
from workbook.adaptation.additions import attached
from workbook.adaptation.lora import LoRA
from workbook.adaptation.soft_prompt import SoftPrompt

REVIEWS, PASSES, LENGTH, WIDTH = 250, 2, 20, 32
INSTRUCTION = "Is the sentiment of this review positive or negative? Answer with one word."
GRID = {
    # The farther a start is from words, the longer the steps that it needs.
    ("soft prompt", "unit"): (3e-3, 3e-2, 1e-1, 3e-1),
    ("soft prompt", "matched"): (3e-3, 1e-2, 3e-2, 1e-1),
    ("soft prompt", "vocabulary"): (3e-3, 1e-2, 3e-2, 1e-1),
    ("soft prompt", "text"): (1e-3, 3e-3, 1e-2, 3e-2),
    ("P-tuning", None): (3e-5, 1e-4, 3e-4, 1e-3),
    ("adapter", None): (2e-4, 5e-4, 1e-3, 2e-3),
    ("LoRA, rank 1", None): (2e-4, 5e-4, 1e-3, 2e-3),
    ("LoRA, rank 8", None): (2e-4, 5e-4, 1e-3, 2e-3),
}
LENGTHS = (1, 5, 50)  # 20 is the test's own
SENTIMENT_ONLY = [name for name in abilities.ABILITIES if name != "sentiment"]


def measure(method, start, lr, length, seed, split):
    """Tune an addition of a fresh model and measure what the model with it can do.

    The panel is measured with the addition on; of other lengths sentiment alone.
    """
    model, tokenizer = models.load()
    examples = experiments.examples(tokenizer, "sentiment", REVIEWS, seed)
    made, history, count = tuned(model, tokenizer, examples, method, start, lr, length, seed)
    with attached(model, made):
        skip = experiments.skipped(split) if length == LENGTH else SENTIMENT_ONLY
        panel = experiments.panel(model, tokenizer, split, skip)
    result = {"panel": panel, "trained": count, "steps": len(history.steps)}
    result |= {"tokens": history.tokens, "training_seconds": round(history.seconds, 1)}
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


def told(rows):
    """Return {form: {rate: (sentiment, composite)}}, means over the selection seeds measured."""
    found = {}
    for row in rows:
        form = row["method"], row["start"]
        runs = found.setdefault(form, {}).setdefault(row["lr"], [])
        runs.append(experiments.learned_and_kept(row))
    return {form: experiments.means(rates) for form, rates in found.items()}


def point(form, lr, seed, split="validation", length=LENGTH):
    """Return one point."""
    return dict(method=form[0], start=form[1], lr=lr, length=length, seed=seed, split=split)


def points(rows):
    """Return the points of the choice, then of its second seed, of the test, of lengths."""
    first, second = experiments.SELECTION_SEEDS
    tried = [point(form, lr, first) for form, rates in GRID.items() for lr in rates]
    if len(rows) < len(tried):
        return tried
    found = told(rows[: len(tried)])
    leading = {form: experiments.ranked(rates)[:2] for form, rates in found.items()}
    tried += [point(form, lr, second) for form, best in leading.items() for lr in best]
    if len(rows) < len(tried):
        return tried
    return tried + tests(told(rows[: len(tried)]))


def tests(found):
    """Return the points of the test, seed by seed, with the lengths of the best soft prompt."""
    chosen = {form: experiments.ranked(rates)[0] for form, rates in found.items()}
    prompts = [form for form in chosen if form[0] == "soft prompt"]
    best = max(prompts, key=lambda form: found[form][chosen[form]][0])
    forms = [best, *(form for form in chosen if form[0] != "soft prompt")]
    forms += [("soft prompt", "unit")] if best[1] != "unit" else []
    return [
        each
        for seed in experiments.TEST_SEEDS
        for each in (
            *(point(form, chosen[form], seed, "test") for form in forms),
            *(point(best, chosen[best], seed, "test", n) for n in LENGTHS),
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
        "after two passes, paired by seed, on test items. Secondary: adapter, P-tuning and LoRA of "
        "rank 8 minus LoRA of rank 1; the best start minus unit; lengths minus 20; the composite "
        "of each with the addition on",
        composite="mean of the free grades of entities and facts",
        margin=0.04,
        selection_seeds=experiments.SELECTION_SEEDS,
        test_seeds=experiments.TEST_SEEDS,
    ),
)

if __name__ == "__main__":
    SWEEP.run()
