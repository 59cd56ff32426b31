"""The self-checks of notebook 02, prompt datasets."""

import re

import numpy as np
import torch

from .. import settings
from ..encoding import IGNORE_INDEX
from ..errors import WorkbookError
from ..templates import load_templates
from .report import call, exercise, expect

SOURCE = "\n{{text}}\nIs it good or bad? ||| {{answer_choices[label]}}\n"
ROW = {"text": "A fine film.", "label": 1}
REVIEWS = tuple({"text": "Slow, but kind at heart.", "label": label} for label in (0, 1))
LONG = "the story of two brothers who sell their house and walk to the sea is told with care"


@exercise("2.1", "Render a template by hand")
def check_render(function) -> None:
    """Check a function (jinja source, answer choices, row) -> (prompt, completion)."""
    answer = call(function, SOURCE, "bad ||| good", ROW)
    expect(
        isinstance(answer, tuple | list) and len(answer) == 2,
        "Return two texts: split the rendered text at `|||` into prompt and completion.",
    )
    prompt, completion = answer
    expect(ROW["text"] in prompt, "The review is not in the prompt: give the row to `render`.")
    expect(
        completion.strip() not in ("", "1"),
        "The completion is empty or a number: pass the list of choices as `answer_choices`.",
    )
    expect(
        completion.strip() == "good",
        f"Label 1 must give `good`, not {completion.strip()!r}: split the choices at `|||`.",
    )
    whole = (prompt, completion) == ("A fine film.\nIs it good or bad?", "good")
    expect(whole, "Blanks are left at the edges: `strip()` the choices and both parts.")
    _expect_error(function)


def _expect_error(function) -> None:
    """Expect an error for a row whose field has another name."""
    try:
        answer = function(SOURCE, "bad ||| good", {"review": "A fine film.", "label": 1})
    except Exception:  # noqa: BLE001 - any error will do
        return
    message = "A row without the field `text` gave the prompt {!r}: use `StrictUndefined`."
    expect(False, message.format(answer[0]))


@exercise("2.2", "Mask the prompt")
def check_mask_prompt(function) -> None:
    """Check a function (prompt ids, completion ids, end id) -> {"input_ids", "labels"}."""
    prompt, completion = [5, 6, 7], [8, 9]
    example = call(function, prompt, completion, 2)
    expect(
        isinstance(example, dict) and set(example) == {"input_ids", "labels"},
        "Return a dict with the keys `input_ids` and `labels`.",
    )
    ids, labels = list(example["input_ids"]), list(example["labels"])
    expect((prompt, completion) == ([5, 6, 7], [8, 9]), "Build new lists, the given ones changed.")
    expect(ids != [5, 6, 7, 8, 9], "The end token is missing after the completion.")
    expect(ids == [5, 6, 7, 8, 9, 2], "`input_ids` is prompt, completion and end token, in order.")
    expect(len(labels) == len(ids), f"{len(labels)} labels for {len(ids)} tokens: one for each.")
    expect(labels != ids, "Labels still contain the prompt: mask everything before the completion.")
    expect(
        labels[3:] != [9, 2, IGNORE_INDEX] and labels[2:] != [8, 9, 2, IGNORE_INDEX],
        "The labels are shifted by one: the model shifts them itself, keep them under their token.",
    )
    expect(labels[-1] == 2, "The end token is masked: then the model never learns to stop.")
    expect(
        not set(labels[:3]) & set(prompt),
        "Labels still contain a part of the prompt: mask all of its tokens.",
    )
    expect(
        set(labels[:3]) == {IGNORE_INDEX},
        f"Masked labels must be {IGNORE_INDEX}, the number to be skipped.",
    )
    expect(labels[3:] == [8, 9, 2], "Under the completion the labels are its own token ids.")


@exercise("2.3", "Pad and collate")
def check_collate(function) -> None:
    """Check a function (examples, pad id) -> batch, where the pad id is also the end token."""
    end = 2
    short = {"input_ids": [5, 8, end], "labels": [IGNORE_INDEX, 8, end]}
    long = {"input_ids": [5, 6, 7, 9, end], "labels": [IGNORE_INDEX] * 3 + [9, end]}
    batch = call(function, [short, long], end)
    keys = {"input_ids", "attention_mask", "labels"}
    expect(isinstance(batch, dict) and set(batch) == keys, f"Return a dict with {sorted(keys)}.")
    for name in sorted(keys):
        expect(torch.is_tensor(batch[name]), f"`{name}` must be a tensor: `torch.tensor(rows)`.")
        shape = tuple(batch[name].shape)
        expect(shape == (2, 5), f"`{name}` has the shape {shape}: pad to the longest row, (2, 5).")
    ids, mask, labels = (batch[name].tolist() for name in ("input_ids", "attention_mask", "labels"))
    expect(ids[0][:3] != [end, end, 5], "The pads are on the left: for training pad on the right.")
    expect(ids == [[5, 8, end, end, end], long["input_ids"]], "Fill short rows with `pad_id`.")
    expect(mask[0] != [1, 1, 0, 0, 0], "The mask hides the real end token: mask by length, not id.")
    expect(mask == [[1] * 3 + [0] * 2, [1] * 5], "`attention_mask` is 1 for tokens and 0 for pads.")
    expect(
        labels[0][3:] == [IGNORE_INDEX] * 2,
        f"Pads are learned: fill short rows of labels with {IGNORE_INDEX}.",
    )
    expect(
        labels[0][2] == end and labels[1][4] == end,
        "The real end token is masked too: it has the id of the pad, so mask by position, not id.",
    )
    expect(
        labels == [short["labels"] + [IGNORE_INDEX] * 2, long["labels"]], "Keep the given labels."
    )


@exercise("2.4", "Write your own template")
def check_my_template(function) -> None:
    """Check a function () -> text of a promptsource file with a template for the reviews."""
    text = call(function)
    expect(isinstance(text, str), "Return the text of the file, one string in triple quotes.")
    templates = _sound(load_templates, f"{text}\n")
    expect(templates, "There is no template below `templates:`: write at least one.")
    for template in templates:
        _expect_usable(template)


def _expect_usable(template) -> None:
    """Expect a template to render reviews into prompts that do not tell their completions."""
    name = f"Template {template.name!r}"
    (prompt, bad), (other, good) = (_sound(template.render, row) for row in REVIEWS)
    expect(
        REVIEWS[0]["text"] in prompt,
        f"{name}: the review is not in the prompt: write `{{{{text}}}}`.",
    )
    expect(
        re.search(r"\w", prompt.replace(REVIEWS[0]["text"], "")),
        f"{name}: the prompt is the review alone. Ask a question or begin the answer, so that the "
        "model knows what to say.",
    )
    expect(bad and good, f"{name}: the completion is empty: write `|||` and then the answer.")
    expect(
        prompt == other, f"{name}: the prompt changes with the label, so it gives the answer away."
    )
    expect(bad != good, f"{name}: both labels have the completion {bad!r}: use `label`.")
    expect(
        len(template.choices(REVIEWS[0])) == 2,
        f"{name}: give the two answers as `answer_choices: negative words ||| positive words`.",
    )
    expect(
        template.choices(REVIEWS[0]) == [bad, good],
        f"{name}: take the completion from `{{{{answer_choices[label]}}}}`, label 0 first.",
    )
    path = settings.repo_root() / "data" / "templates" / "sentiment.yaml"
    known = {ours.render(REVIEWS[0]).prompt for ours in load_templates(path)}
    expect(prompt not in known, f"{name} is one of the course's: find a wording of your own.")


def _sound(function, value):
    """Return function(value); what the library complains of becomes the check's message."""
    try:
        return function(value)
    except WorkbookError as error:
        return expect(False, str(error))


@exercise("2.5", "Find the leak")
def check_find_leaks(function) -> None:
    """Check a function (training texts, test texts) -> positions of leaked test texts."""
    train = ["A fine film!", LONG, "Not for me, sorry."]
    exact = list(call(function, train, ["Something new.", "A fine film!"]))
    expect(exact != [], "The same text in both splits was not found.")
    expect(
        all(isinstance(i, int | np.integer) for i in exact),
        "Return positions in the test list, not the texts.",
    )
    expect(exact == [1], "Return the position *in the test list*, counted from 0: `[1]` here.")
    expect(
        list(call(function, train, ["a FINE film..."])) == [0],
        "Case and punctuation hide a twin: compare sets of lower-case words.",
    )
    near = LONG.replace("told", "shown")
    expect(
        list(call(function, train, [near])) == [0],
        "One word changed in a long sentence hides it: compare the share of common words to 0.8.",
    )
    expect(
        list(call(function, train, ["A fine film it is not, but a warm one."])) == [],
        "A longer text that contains a short one is no twin: divide by the words of *both* texts.",
    )
    related = LONG.replace("brothers", "sisters").replace("house", "farm").replace("sea", "hills")
    expect(
        list(call(function, train, [related])) == [],
        "Of the 20 words of two texts 14 are in both: that is 0.7, no leak. Divide by the number "
        "of words in either text, `len(a | b)`, not by the mean length or the longer text.",
    )
    expect(
        list(call(function, train, ["New here.", "New here."])) == [],
        "Twins inside the test list are no leak: compare test texts with training texts only.",
    )
    expect(list(call(function, [*train, *train], [LONG])) == [0], "Report each position once.")
