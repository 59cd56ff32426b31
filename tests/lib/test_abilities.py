"""The ability panel: answers kept as text, two readings, and a composite that counts alike."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import processors

from workbook import abilities, grading, models, scoring, tasks
from workbook.encoding import format_prompt, token_ids
from workbook.errors import WorkbookError

SPLITS = ("test", "validation")
WRITTEN = ("entities", "facts", "instructions")
REVIEWS = [{"text": f"The film number {i} is long.", "label": i % 2} for i in range(8)]
TEXTS = ("The bridge is old.", "It broke.", "Our teacher is good.", "My phone made us laugh.")
EDITORIALS = [{"text": text, "label": "neutral"} for text in TEXTS]


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A panel of few items; the reviews, which have to be fetched, are made up."""
    loaded = {}
    for name, table in {"sentiment": REVIEWS, "sentiment-3-editorials": EDITORIALS}.items():
        file = tmp_path / f"{name}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in table))
        loaded[name] = tasks.load_task(name, path={"test": file})
    load_authored = abilities.load_task
    monkeypatch.setattr(
        abilities, "load_task", lambda name: loaded.get(name) or load_authored(name)
    )
    few = {n: dataclasses.replace(a, live=2, recorded=5) for n, a in abilities.ABILITIES.items()}
    monkeypatch.setattr(abilities, "ABILITIES", few)
    monkeypatch.setenv("WORKBOOK_PRECISION", "fp32")
    return few


@pytest.fixture
def roomy(tiny_model):
    """The tiny model, which needs a token for nearly every letter, with room for long rows."""
    tiny_model.config.max_position_embeddings = 4096
    return tiny_model


def test_a_panel_holds_answers_of_each_item_and_leaves_the_model_alone(
    roomy, tiny_tokenizer, small
):
    before = models.snapshot(roomy)
    found = abilities.measure(roomy, tiny_tokenizer)
    assert json.loads(json.dumps(found)) == found
    assert tuple(found["answers"]) == tuple(abilities.ABILITIES)
    for name, answers in found["answers"].items():
        assert len(answers) == 2
        held = {"knowledge": list}.get(name, str if name in WRITTEN else float)
        assert {type(answer) for answer in answers} == {held}
    grades = abilities.grade(found)
    for name, ability in small.items():
        high = math.inf if ability.kind == "loss" else 1
        for reading in (grades[name].strict, grades[name].free):
            assert reading.shape == (2,) and (0 <= reading).all() and (reading <= high).all()
    # A random model knows next to nothing of 400 tokens.
    assert all(4 < x < 9 for n in ("instruction_loss", "text_loss") for x in grades[n].strict)
    assert abilities.measure(roomy, tiny_tokenizer) == found
    assert all(torch.equal(tensor, before[n]) for n, tensor in models.snapshot(roomy).items())


def test_sizes_and_what_is_skipped_are_obeyed(roomy, tiny_tokenizer, small):
    skip = [name for name in small if name != "knowledge"]
    found = abilities.measure(roomy, tiny_tokenizer, "recorded", "validation", skip)
    assert {name: len(answers) for name, answers in found["answers"].items()} == {"knowledge": 5}
    with pytest.raises(WorkbookError, match="no size 'large': choose live or recorded"):
        abilities.measure(roomy, tiny_tokenizer, "large")


@pytest.mark.parametrize("split", ["test", "validation"])
def test_items_are_spread_over_the_kinds_of_questions(split):
    for name in ("entities", "facts", "instructions"):
        rows = abilities.ABILITIES[name].rows(split, "live")
        column = "category" if name == "instructions" else "topic"
        counts = [[row[column] for row in rows].count(kind) for kind in {r[column] for r in rows}]
        assert max(counts) - min(counts) <= 1 and len(counts) >= 10


def test_losses_are_the_plain_cross_entropy_per_token(roomy, tiny_tokenizer, small):
    found = abilities.measure(roomy, tiny_tokenizer, skip=[*WRITTEN, "sentiment", "knowledge"])
    task = abilities.load_task("instructions")
    rows = small["instruction_loss"].rows("test", "live")
    for row, value in zip(rows, found["answers"]["instruction_loss"], strict=True):
        prompt = format_prompt(tiny_tokenizer, task.template("question").render(row).prompt)
        start, end = token_ids(tiny_tokenizer, prompt), token_ids(tiny_tokenizer, row["output"])
        with torch.no_grad():
            logits = roomy(torch.tensor([start + end])).logits[0, len(start) - 1 : -1]
        plain = torch.nn.functional.cross_entropy(logits, torch.tensor(end)).item()
        assert value == pytest.approx(plain, abs=1e-4)


def test_a_text_begins_as_the_model_was_pretrained_on_it(roomy, tiny_tokenizer, small):
    """Where the tokenizer opens a text, the loss is that of all its own tokens."""
    opening = (tiny_tokenizer.bos_token, tiny_tokenizer.bos_token_id)
    tiny_tokenizer._tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{opening[0]} $A", special_tokens=[opening]
    )
    found = abilities.measure(roomy, tiny_tokenizer, skip=[n for n in small if n != "text_loss"])
    rows = small["text_loss"].rows("test", "live")
    for row, value in zip(rows, found["answers"]["text_loss"], strict=True):
        ids = torch.tensor([opening[1], *token_ids(tiny_tokenizer, row["text"])])
        with torch.no_grad():
            logits = roomy(ids[None]).logits[0, :-1]
        plain = torch.nn.functional.cross_entropy(logits, ids[1:]).item()
        assert value == pytest.approx(plain, abs=1e-4)


@pytest.mark.parametrize("right", [True, False])
def test_written_answers_are_graded_against_their_own_rows(small, right):
    """The gold answers have full marks in both readings; those of the next row have not."""
    answers = {}
    for name in WRITTEN:
        template = abilities.load_task(small[name].task).template(small[name].template)
        gold = [template.render(r).completion for r in small[name].rows("test", "recorded")]
        answers[name] = gold if right else gold[1:] + gold[:1]
    grades = abilities.grade({"split": "test", "size": "recorded", "answers": answers})
    for name in WRITTEN:
        for reading in (grades[name].strict, grades[name].free):
            assert (reading.sum() == 5) == right
            assert right or reading.sum() < 2.5
        assert grades[name].words.tolist() == [len(text.split()) for text in answers[name]]


def test_a_recorded_panel_is_graded_at_smoke_scale_too(small, monkeypatch):
    gold = [row["answer"] for row in small["facts"].rows("test", "recorded")]
    monkeypatch.setenv("WORKBOOK_SCALE", "smoke")
    panel = {"split": "test", "size": "recorded", "answers": {"facts": gold}}
    assert abilities.grade(panel)["facts"].strict.tolist() == [1.0] * len(gold)
    with pytest.raises(ValueError):  # more answers than items
        abilities.grade({**panel, "answers": {"facts": gold * 200}})


def test_a_choice_is_right_when_it_is_likelier_than_each_wrong_one(small, monkeypatch):
    seen = []

    def score_choices(model, tokenizer, prompts, choices):
        seen.extend(zip(prompts, choices, strict=True))
        # The first row knows its answer, the second is tied, the others prefer the last choice.
        return [[-1, -2, -3, -4], [-1, -1, -2, -3], *[[-2, -3, -4, -1]] * (len(choices) - 2)]

    monkeypatch.setattr(scoring, "score_choices", score_choices)
    rows = small["knowledge"].rows("test", "recorded")
    answers = {"knowledge": abilities._chosen(None, None, small["knowledge"], rows)}
    grades = abilities.grade({"split": "test", "size": "recorded", "answers": answers})
    assert grades["knowledge"].free.tolist() == [1, 0, 0, 0, 0]
    prompts = small["facts"].prompts(rows)
    for row, prompt, (asked, choices) in zip(rows, prompts, seen, strict=True):
        assert asked == prompt and choices[0] == row["answer"] and len(set(choices)) == 4


def test_wrong_answers_are_wrong_of_one_type_and_always_the_same():
    every = list(abilities.load_task("facts").splits["train"])
    types = {row["answer"]: row["answer_type"] for row in every}
    for split in ("test", "validation"):
        for row in abilities.load_task("facts").splits[split]:
            wrong = abilities.distractors(row, every)
            assert len(set(wrong)) == 3 and wrong == abilities.distractors(row, every)
            assert {types[text] for text in wrong} == {row["answer_type"]}
            assert not any(grading.grade("exact_match", text, row) for text in wrong)


def test_too_few_answers_of_a_type_are_told():
    row = {"question": "?", "answer": "a", "aliases": [], "answer_type": "x"}
    with pytest.raises(WorkbookError, match="Too few answers of the type 'x'"):
        abilities.distractors(row, [row])


SCORES = st.lists(st.floats(0, 1), min_size=1, max_size=9).map(np.array)


@given(SCORES, SCORES)
def test_the_composite_is_the_mean_of_means(first, second):
    grades = {
        name: abilities.Grades(1 - values, values)
        for name, values in zip(abilities.COMPOSITE, (first, second), strict=True)
    }
    free = np.mean([first.mean(), second.mean()])
    assert abilities.composite(grades).mean() == pytest.approx(free)
    assert abilities.composite(grades, "strict").mean() == pytest.approx(1 - free)


@pytest.mark.parametrize("split", ["test", "validation"])
def test_repeating_the_input_keeps_nothing_of_the_composite(split):
    """A model that has forgotten how to answer and repeats what it reads has no ability left."""
    answers = {}
    for name in abilities.COMPOSITE:
        ability = abilities.ABILITIES[name]
        answers[name] = ability.prompts(ability.rows(split, "recorded"))
    grades = abilities.grade({"split": split, "size": "recorded", "answers": answers})
    assert abilities.composite(grades).mean() < 0.02


def test_newspaper_texts_of_test_and_validation_are_not_the_same(small):
    rows = {s: {r["text"] for r in small["text_loss"].rows(s, "recorded")} for s in SPLITS}
    assert rows["test"] and rows["validation"] and not rows["test"] & rows["validation"]


@given(st.lists(st.text(max_size=40)), st.lists(st.floats(0, 1e4)))
def test_a_packed_panel_comes_back(texts, numbers):
    texts = [text.encode(errors="ignore").decode() for text in texts]
    panel = {"split": "test", "size": "live", "answers": {"facts": texts, "text_loss": numbers}}
    packed = abilities.pack(panel)
    assert all(isinstance(text, str) for text in packed["answers"].values())
    again = abilities.unpack(json.loads(json.dumps(packed)))
    assert again["answers"]["facts"] == texts
    assert again["answers"]["text_loss"] == pytest.approx(numbers, rel=1e-4)
    assert abilities.pack(again) == packed
