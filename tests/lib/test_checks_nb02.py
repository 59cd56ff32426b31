"""The checks of notebook 02: solutions pass, typical mistakes are named, stubs are not started."""

import re

import jinja2
import numpy as np
import torch

from workbook.checks import nb02
from workbook.encoding import pad_right

YAML = """templates:
  1: !Template
    name: verdict
    answer_choices: thumbs down ||| thumbs up
    jinja: "{{text}} My verdict: ||| {{answer_choices[label]}}"
"""


def render(source, choices, row, undefined=jinja2.StrictUndefined, strip=str.strip):
    options = [strip(choice) for choice in choices.split("|||")]
    template = jinja2.Environment(undefined=undefined).from_string(source)
    prompt, completion = template.render(**row, answer_choices=options).split("|||")
    return strip(prompt), strip(completion)


def mask_prompt(prompt_ids, completion_ids, end_id):
    answer = [*completion_ids, end_id]
    return {"input_ids": [*prompt_ids, *answer], "labels": [-100] * len(prompt_ids) + answer}


def collate(examples, pad_id):
    rows = [example["input_ids"] for example in examples]
    return {
        "input_ids": pad_right(rows, pad_id),
        "attention_mask": pad_right([[1] * len(row) for row in rows], 0),
        "labels": pad_right([example["labels"] for example in examples], -100),
    }


def words(text):
    return set(re.findall(r"\w+", text.lower()))


def find_leaks(train, test, alike=lambda a, b: len(a & b) / len(a | b) >= 0.8, words=words):
    return [i for i, text in enumerate(test) if any(alike(words(text), words(t)) for t in train)]


def masked(**changes):
    return lambda prompt, completion, end: mask_prompt(prompt, completion, end) | changes


def collated(change):
    """A collator whose batch is changed afterwards."""

    def function(examples, pad_id):
        batch = collate(examples, pad_id)
        change(batch)
        return batch

    return function


def by_id(batch):
    batch["labels"][batch["input_ids"] == 2] = -100


def mask_by_id(batch):
    batch["attention_mask"] = (batch["input_ids"] != 2).long()


def learn_pads(batch):
    batch["labels"][0, 3:] = 2


def pad_left(batch):
    for tensor in batch.values():
        tensor[0] = tensor[0].roll(2)


def changed(old, new):
    assert old in YAML
    return lambda: YAML.replace(old, new)


SOLUTIONS = {
    nb02.check_render: render,
    nb02.check_mask_prompt: mask_prompt,
    nb02.check_collate: collate,
    nb02.check_my_template: lambda: YAML,
    nb02.check_find_leaks: find_leaks,
}
MISTAKES = [
    (nb02.check_render, lambda s, c, r: s, "Return two texts"),
    (nb02.check_render, lambda s, c, r: ("Is it good?", "good"), "review is not in the prompt"),
    (nb02.check_render, lambda s, c, r: (r["text"], str(r["label"])), "empty or a number"),
    (nb02.check_render, lambda s, c, r: (r["text"], "bad"), "must give `good`"),
    (nb02.check_render, lambda *a: render(*a, strip=str), "Blanks are left"),
    (nb02.check_render, lambda *a: render(*a, jinja2.Undefined), "StrictUndefined"),
    (nb02.check_render, lambda s, c, r: 1 / 0, "ZeroDivisionError"),
    (nb02.check_mask_prompt, lambda p, c, e: p + c + [e], "Return a dict"),
    (nb02.check_mask_prompt, masked(input_ids=[5, 6, 7, 8, 9]), "end token is missing"),
    (nb02.check_mask_prompt, masked(input_ids=[8, 9, 2]), "in order"),
    (nb02.check_mask_prompt, masked(labels=[8, 9, 2]), "3 labels for 6 tokens"),
    (nb02.check_mask_prompt, masked(labels=[5, 6, 7, 8, 9, 2]), "still contain the prompt"),
    (nb02.check_mask_prompt, masked(labels=[-100, -100, 8, 9, 2, -100]), "shifted by one"),
    (nb02.check_mask_prompt, masked(labels=[-100] * 3 + [8, 9, -100]), "end token is masked"),
    (nb02.check_mask_prompt, masked(labels=[0, 0, 0, 8, 9, 2]), "must be -100"),
    (nb02.check_mask_prompt, masked(labels=[-100, -100, 7, 8, 9, 2]), "a part of the prompt"),
    (nb02.check_mask_prompt, masked(labels=[-100] * 4 + [9, 2]), "its own token ids"),
    (nb02.check_mask_prompt, lambda p, c, e: masked()(p, c, e) | {"x": p.append(1)}, "Return a"),
    (nb02.check_collate, lambda e, pad: [row["labels"] for row in e], "Return a dict"),
    (nb02.check_collate, lambda e, pad: {**collate(e, pad), "labels": []}, "must be a tensor"),
    (
        nb02.check_collate,
        collated(lambda b: b.update(labels=torch.zeros(2, 3))),
        "the shape (2, 3)",
    ),
    (nb02.check_collate, collated(by_id), "real end token is masked too"),
    (nb02.check_collate, collated(mask_by_id), "hides the real end token"),
    (nb02.check_collate, collated(learn_pads), "Pads are learned"),
    (nb02.check_collate, collated(pad_left), "pads are on the left"),
    (nb02.check_my_template, lambda: 3, "one string"),
    (nb02.check_my_template, lambda: "templates: 3", "not a promptsource file"),
    (nb02.check_my_template, lambda: "templates: {}", "no template below"),
    (nb02.check_my_template, changed("{{text}}", "{{review}}"), "'review' is undefined"),
    (nb02.check_my_template, changed("{{text}} ", ""), "review is not in the prompt"),
    (nb02.check_my_template, changed("My verdict:", ""), "the review alone"),
    (nb02.check_my_template, changed("My verdict:", "…"), "the review alone"),
    (nb02.check_my_template, changed("||| {{answer_choices[label]}}", ""), "completion is empty"),
    (nb02.check_my_template, changed("verdict: |||", "label {{label}}: |||"), "gives the answer"),
    (nb02.check_my_template, changed("[label]", "[0]"), "both labels have the completion"),
    (nb02.check_my_template, changed("[label]", "[1 - label]"), "label 0 first"),
    (nb02.check_my_template, changed(" ||| thumbs up", ""), "has no element 1"),
    (nb02.check_my_template, changed(" My verdict:", "\\nSentiment:"), "wording of your own"),
    (nb02.check_find_leaks, lambda train, test: [], "was not found"),
    (nb02.check_find_leaks, lambda train, test: [t for t in test if t in train], "not the texts"),
    (
        nb02.check_find_leaks,
        lambda train, test: [train.index(t) for t in test if t in train],
        "*in",
    ),
    (
        nb02.check_find_leaks,
        lambda train, test: [i for i, text in enumerate(test) if text in train],
        "Case and punctuation",
    ),
    (nb02.check_find_leaks, lambda *a: find_leaks(*a, lambda a, b: a == b), "One word changed"),
    (
        nb02.check_find_leaks,
        lambda *a: find_leaks(*a, lambda a, b: a >= b or len(a & b) > 9),
        "no twin",
    ),
    (
        nb02.check_find_leaks,
        lambda *a: find_leaks(*a, lambda a, b: 2 * len(a & b) / (len(a) + len(b)) >= 0.8),  # Dice
        "not by the mean length",
    ),
    (
        nb02.check_find_leaks,
        lambda *a: find_leaks(*a, lambda a, b: len(a & b) / max(len(a), len(b)) >= 0.8),
        "the longer text",
    ),
    (nb02.check_find_leaks, lambda a, b: find_leaks([*a, *b[1:]], b), "Twins inside"),
]


def test_positions_may_be_numpy_integers():
    assert nb02.check_find_leaks(lambda *texts: np.array(find_leaks(*texts)))
