"""Shots in the prompt of the instruct model: label order, calibration, form, wrong labels.

Nothing is trained. A seed is a draw of examples; the draws take alternating, grouped and mixed
label orders in turn, half of each ending in either label (`experiments.demonstrations`). All draws
are asked about the same test rows: the 400 reviews, 120 questions and 120 sentences of the ability
panel. All answers are kept: labels as digits, plain and with contextual calibration, and texts.

sentiment   none, 1, 4 and 16 shots in 18 draws, six of each label order; 16 with random labels: the
            same texts, their labels dealt out anew (Min et al. 2022, 2202.12837)
made-up     the same with labels that mean nothing, none and 16 shots
facts       none, 1 and 4 shots in twelve draws, strict and form-free; entities none and 4

Without shots the instruction in the chat format is asked too. About 133 points of a minute: 2.2
hours on one slow core in fp32; a fast core takes a third.
"""

import functools
import random

import numpy as np

from workbook import abilities, encoding, experiments, models, recording
from workbook.templates import few_shot

DRAWS = tuple(range(10, 28))
FEWER = DRAWS[:12]  # where a draw takes longer; those of 01_base
load_model = functools.cache(models.load)  # never trained, so it serves all points


def measure(method, task, template, style, shots, seed, split):
    """Answer the panel's rows of a task after the shots of a draw."""
    model, tokenizer = load_model()
    shown = experiments.demonstrations(task, shots, seed)
    rows = abilities.ABILITIES[task].rows(split, "recorded")
    shown = with_random_labels(shown, seed) if method == "random labels" else shown
    wording = experiments.load_task(task).template(template)
    asked = model, tokenizer, task, rows, shown, wording, style
    if task == "sentiment":
        found = experiments.after_shots(*asked)
        found["labels_shown"] = "".join(str(row["label"]) for row in shown)
    else:
        found = {"panel": experiments.written_after_shots(*asked, split)}
    prompts = [few_shot(wording, shown, row).prompt for row in rows]
    texts = [encoding.format_prompt(tokenizer, prompt, style) for prompt in prompts]
    tokens = np.mean([len(encoding.token_ids(tokenizer, text)) for text in texts])
    return found | {"tokens_per_prompt": float(tokens)}


def with_random_labels(shown, seed):
    """Return the same texts in the same order, their labels shuffled: half of them stay right."""
    labels = [row["label"] for row in shown]
    random.Random(seed).shuffle(labels)
    return [{"text": row["text"], "label": label} for row, label in zip(shown, labels, strict=True)]


def point(method, task, template, shots=0, seed=0, style="plain"):
    """Return one point."""
    return dict(
        method=method, task=task, template=template, style=style, shots=shots, seed=seed,
        split="test",
    )  # fmt: skip


def of_draw(seed):
    """Return the points of one draw."""
    found = [point("shots", "sentiment", "plain", shots, seed) for shots in (1, 4, 16)]
    found += [point("random labels", "sentiment", "plain", 16, seed)]
    found += [point("shots", "sentiment", "made_up", 16, seed)]
    if seed in FEWER:
        found += [point("shots", "facts", "plain", shots, seed) for shots in (1, 4)]
        found += [point("shots", "entities", "plain", 4, seed)]
    return found


SWEEP = recording.Sweep(
    settings={},
    points=[
        point("untuned", "sentiment", "plain"),
        point("untuned", "sentiment", "question", style="chat"),
        point("untuned", "sentiment", "made_up"),
        point("untuned", "facts", "plain"),
        point("untuned", "facts", "question", style="chat"),
        point("untuned", "entities", "plain"),
        point("untuned", "entities", "instruction_first", style="chat"),
        *(each for seed in DRAWS for each in of_draw(seed)),
    ],
    measure=measure,
    source=__file__,
    plan=recording.Plan(
        question="Do solved examples in the prompt help, and if so, with the task, the form of an "
        "answer, or a preference for a word?",
        primary="sentiment: accuracy with 16 shots minus none, plain style, draw by draw and "
        "review by review. Secondary, and many: the same with 1 and 4 shots; calibrated minus "
        "plain at each number, in how many draws it gains; each label order; 16 random labels "
        "minus 16 right ones of the same draw; made-up labels minus .5; facts and entities with "
        "shots minus none, strict and free",
        margin=abilities.MARGIN,
        test_seeds=DRAWS,
    ),
)

if __name__ == "__main__":
    SWEEP.run()
