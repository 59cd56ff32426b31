"""The ability panel: every number is what it says, and models are compared item by item."""

import dataclasses
import functools
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from workbook import grading, metrics, models, scoring, tasks
from workbook.encoding import format_prompt, token_ids
from workbook.errors import WorkbookError
from workbook.forgetting import panel

SCORES = ("sentiment", "entities", "facts", "knowledge", "instructions")
LOSSES = ("instruction_loss", "text_loss")
REVIEWS = [{"text": f"The film number {i} is long.", "label": i % 2} for i in range(8)]
EDITORIALS = [{"text": text, "label": "neutral"} for text in ("The bridge is old.", "It broke.")]
EDITORIALS += [{"text": "x", "label": "neutral"}]  # one token: nothing to predict
FACTS = [
    {"question": f"Which {topic} is number {i}?", "answer": f"{topic} {i}", "aliases": [],
     "topic": topic}
    for i in range(3) for topic in ("river", "writer")
]  # fmt: skip
load_authored = functools.cache(tasks.load_task)


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A panel of few items; the reviews, which have to be fetched, are made up."""
    made = {"sentiment": REVIEWS, "sentiment-3-editorials": EDITORIALS}
    loaded = {}
    for name, table in made.items():
        file = tmp_path / f"{name}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in table))
        loaded[name] = tasks.load_task(name, path={"test": file})
    monkeypatch.setattr(panel, "load_task", lambda name: loaded.get(name) or load_authored(name))
    abilities = {
        name: dataclasses.replace(ability, live=2 + i % 2, recorded=5)
        for i, (name, ability) in enumerate(panel.ABILITIES.items())
    }
    abilities["text_loss"] = dataclasses.replace(abilities["text_loss"], live=3)
    monkeypatch.setattr(panel, "ABILITIES", abilities)
    monkeypatch.setenv("WORKBOOK_PRECISION", "fp32")
    return abilities


@pytest.fixture
def roomy(tiny_model):
    """The tiny model, which needs a token for nearly every letter, with room for long rows."""
    tiny_model.config.max_position_embeddings = 4096
    return tiny_model


# --- measuring


def test_every_ability_gives_a_number_in_its_range_for_each_item(roomy, tiny_tokenizer, small):
    before = models.snapshot(roomy)
    found = panel.measure(roomy, tiny_tokenizer, "live")
    assert tuple(found) == SCORES + LOSSES == tuple(panel.ABILITIES)
    for name, ability in small.items():
        # The editorial of a single token has no loss.
        assert len(found[name]) == (2 if name == "text_loss" else ability.live)
        assert ability.is_loss == (name in LOSSES)
        assert all(isinstance(value, float) and math.isfinite(value) for value in found[name])
        high = math.inf if ability.is_loss else 1
        assert all(0 <= value <= high for value in found[name])
    # A random model knows next to nothing of 400 tokens.
    assert all(4 < value < 9 for name in LOSSES for value in found[name])
    assert set(found["sentiment"] + found["facts"] + found["knowledge"]) <= {0.0, 1.0}
    assert panel.measure(roomy, tiny_tokenizer, "live") == found
    assert all(torch.equal(tensor, before[n]) for n, tensor in models.snapshot(roomy).items())


def test_sizes_splits_and_what_is_skipped_are_obeyed(roomy, tiny_tokenizer, small):
    skip = ["sentiment", "facts", "entities", "instructions", *LOSSES]
    found = panel.measure(roomy, tiny_tokenizer, "recorded", "validation", skip=skip)
    assert {name: len(values) for name, values in found.items()} == {"knowledge": 5}
    calls = []
    small["knowledge"] = dataclasses.replace(
        small["knowledge"], measure=lambda *call: calls.append(call[2:]) or [1.0]
    )
    panel.measure(roomy, tiny_tokenizer, "recorded", "validation", skip=skip)
    panel.measure(roomy, tiny_tokenizer, skip=skip)
    assert calls == [("validation", 5), ("test", small["knowledge"].live)]


def test_an_unknown_size_is_refused():
    with pytest.raises(WorkbookError, match="no size 'large': choose live or recorded"):
        panel.measure(None, None, "large")


def test_the_registered_counts_are_there():
    for name in ("entities", "facts", "instructions"):
        rows = len(load_authored(name).splits["test"])
        assert panel.ABILITIES[name].live < panel.ABILITIES[name].recorded <= rows
    assert panel.ABILITIES["instruction_loss"].recorded <= rows
    assert panel.RETAINED == ("entities", "facts")


def log_likelihood(model, start, end):
    """The log-likelihood of the tokens of `end` after `start`, by one plain forward pass."""
    ids = torch.tensor([start + end])
    with torch.no_grad():
        logprobs = model(input_ids=ids).logits[0, len(start) - 1 : -1].log_softmax(-1)
    return logprobs.gather(1, ids[0, len(start) :, None]).sum().item()


def test_losses_are_the_plain_cross_entropy_per_token(roomy, tiny_tokenizer, small):
    found = panel.measure(roomy, tiny_tokenizer, skip=SCORES)
    task = load_authored("instructions")
    for row, value in zip(task.splits["test"], found["instruction_loss"], strict=False):
        start = format_prompt(tiny_tokenizer, task.template(0).render(row).prompt)
        end = token_ids(tiny_tokenizer, row["output"])
        plain = -log_likelihood(roomy, token_ids(tiny_tokenizer, start), end) / len(end)
        assert value == pytest.approx(plain, abs=1e-4)
    for row, value in zip(EDITORIALS, found["text_loss"], strict=False):
        ids = torch.tensor([token_ids(tiny_tokenizer, row["text"])])
        with torch.no_grad():
            assert value == pytest.approx(roomy(ids, labels=ids).loss.item(), abs=1e-4)


@pytest.mark.parametrize("right", [True, False])
def test_written_answers_are_graded_against_their_own_rows(
    tiny_tokenizer, small, monkeypatch, right
):
    """A model that writes each row's answer has full marks; one that writes the last row's not."""

    def generate(model, tokenizer, prompts, **options):
        known = {}
        for name in ("entities", "facts", "instructions"):
            task = load_authored(name)
            known |= dict(task.template(0).render(row) for row in task.splits["test"])
        written = [known[prompt] for prompt in prompts]
        return written if right else written[1:] + written[:1]

    monkeypatch.setattr(scoring, "generate", generate)
    for name in ("entities", "facts", "instructions"):
        scores = small[name].measure(None, tiny_tokenizer, "test", 10)
        assert len(scores) == 10
        assert (sum(scores) == 10) == right
        assert right or sum(scores) < 5


def test_the_label_is_asked_for_as_in_tuning(roomy, tiny_tokenizer, small, monkeypatch):
    asked = []

    def score_task(model, tokenizer, task, rows, template):
        asked.append((task.name, template, rows["label"]))
        return [1.0] * len(rows)

    monkeypatch.setattr(grading, "score_task", score_task)
    assert panel.sentiment(roomy, tiny_tokenizer, "test", 4) == [1.0] * 4
    name, template, labels = asked[0]
    assert (name, template) == ("sentiment", "question")
    assert sorted(labels) == [0, 0, 1, 1]  # balanced
    assert len(panel.sentiment(roomy, tiny_tokenizer, "test", 1000)) == len(REVIEWS)


# --- knowledge


def knowledge_with(monkeypatch, value):
    """Return what the ability makes of log-likelihoods value(row, choice)."""

    def score_choices(model, tokenizer, prompts, choices, prompt_style):
        template = load_authored("facts").template("plain")
        assert prompt_style == "plain"
        assert list(prompts) == [template.render(fact).prompt for fact in FACTS]
        assert [row[0] for row in choices] == [fact["answer"] for fact in FACTS]
        assert {len(set(row)) for row in choices} == {4}
        pairs = zip(FACTS, choices, strict=True)
        return [[value(row, text) for text in texts] for row, texts in pairs]

    monkeypatch.setattr(panel, "_rows", lambda *_: FACTS)
    monkeypatch.setattr(scoring, "score_choices", score_choices)
    return panel.knowledge(None, None, "test", len(FACTS))


def test_knowledge_is_preferring_the_right_answer(monkeypatch):
    assert knowledge_with(monkeypatch, lambda row, text: -9.0 - (text != row["answer"])) == [1] * 6
    assert knowledge_with(monkeypatch, lambda row, text: -9.0 - (text == row["answer"])) == [0] * 6


def test_one_likelier_distractor_or_a_tie_is_no_knowledge(monkeypatch):
    assert knowledge_with(monkeypatch, lambda row, text: -1.0) == [0] * 6
    # Everyone prefers "river 0" to what they ask for; only its own question is answered right.
    cost = {True: -1.0, False: -3.0}
    found = knowledge_with(
        monkeypatch, lambda row, text: cost[text == "river 0"] - (text != row["answer"])
    )
    asked = [fact["answer"] for fact in FACTS]
    others = [panel._distractors(fact, FACTS) for fact in FACTS]
    expected = [
        float("river 0" not in wrong or right == "river 0")
        for right, wrong in zip(asked, others, strict=True)
    ]
    assert found == expected and 0.0 in found and 1.0 in found


@pytest.mark.parametrize("split, count", [("test", 120), ("test", 32), ("validation", 50)])
def test_distractors_are_wrong_distinct_and_of_the_same_topic_first(split, count):
    rows = load_authored("facts").splits[split].select(range(count)).to_list()
    found, topic = [], {row["answer"]: set() for row in rows}
    for row in rows:
        topic[row["answer"]].add(row["topic"])
    for row in rows:
        others = panel._distractors(row, rows)
        assert len({text.lower() for text in others}) == 3
        right = {text.lower() for text in grading.accepted(row)}
        assert not right & {text.lower() for text in others}
        found += [(text, grading.accepted(row)) for text in others]
        alike = [row["topic"] in topic[text] for text in others]
        assert alike == sorted(alike, reverse=True)  # other topics only when it has no more
        peers = {r["answer"].lower() for r in rows if r["topic"] == row["topic"]} - right
        assert sum(alike) >= min(3, len(peers))
    # Nor would one be accepted if it were written: articles and full stops are ignored there.
    assert metrics.compute("exact_match", *zip(*found, strict=True))["exact_match"] == 0


def test_no_distractor_is_an_answer_that_another_row_words_differently():
    """A row's right answer must not come back under another row's name for the same thing."""
    rows = load_authored("facts").splits["test"].to_list()
    names = {row["answer"]: set() for row in rows}
    for row in rows:
        names[row["answer"]] |= {text.lower() for text in grading.accepted(row)}
    for row in rows:
        right = {text.lower() for text in grading.accepted(row)}
        for text in panel._distractors(row, rows):
            assert not right & names[text], (row["question"], text)


# --- comparing and keeping

NUMBERS = st.floats(0, 1) | st.floats(0, 1000).filter(lambda x: x == 0 or x > 1e-6)
PANELS = st.dictionaries(st.sampled_from(SCORES + LOSSES), st.lists(NUMBERS, max_size=6))


@given(PANELS)
def test_a_packed_panel_comes_back_to_four_digits(found):
    packed = panel.pack(found)
    assert all(isinstance(text, str) for text in packed.values())
    again = panel.unpack(json.loads(json.dumps(packed)))
    assert again.keys() == found.keys()
    for name, values in found.items():
        assert again[name] == pytest.approx(values, rel=5e-4)
    assert panel.pack(again) == packed


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=1))
def test_hits_and_misses_are_packed_without_loss_in_two_letters(values):
    packed = panel.pack({"facts": values})
    assert panel.unpack(packed) == {"facts": values}
    assert len(packed["facts"]) == 2 * len(values) - 1


def test_summary_is_the_mean_of_each_ability():
    found = panel.summary({"facts": [0.0, 1.0, 1.0, 1.0], "text_loss": [2.0, 4.0]})
    assert {name: value.estimate for name, value in found.items()} == {
        "facts": 0.75,
        "text_loss": 3.0,
    }
    assert found["facts"].low < 0.75 < found["facts"].high


def test_changes_are_paired_by_item():
    """Items differ much, models little: only a paired interval sees it."""
    rng = np.random.default_rng(0)
    before = {"text_loss": list(rng.uniform(1, 9, 50)), "facts": [0.0, 1.0] * 25}
    after = {"text_loss": [x + 0.5 for x in before["text_loss"]], "facts": [1.0, 0.0] * 25}
    found = panel.changes(before, after)
    assert found["text_loss"] == pytest.approx((0.5, 0.5, 0.5))
    assert found["facts"].estimate == 0 and found["facts"].low < -0.1 < 0.1 < found["facts"].high
    with pytest.raises(WorkbookError, match="same items"):
        panel.changes(before, {"facts": [1.0]})


def test_retained_is_what_is_written_in_the_order_of_names_and_facts():
    found = {name: [i + 0.1, i + 0.2] for i, name in enumerate(SCORES + LOSSES)}
    shuffled = {name: found[name] for name in sorted(found, reverse=True)}
    expected = found["entities"] + found["facts"]
    assert panel.retained(found).tolist() == panel.retained(shuffled).tolist() == expected
