"""Answers are graded row by row, and what is right by definition gets full marks."""

import functools

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from workbook import grading, scoring, settings, tasks
from workbook.encoding import token_ids
from workbook.errors import WorkbookError

REGISTRY = yaml.safe_load((settings.repo_root() / "data" / "tasks.yaml").read_text())
AUTHORED = tuple(REGISTRY["authored"])
load = functools.cache(tasks.load_task)
NAMES = {"people": ["Marie Curie"], "places": ["Paris"], "organizations": []}
SPANS = {"people": ["Marie Curie"], "places": ["Paris"], "organizations": []}
SPANS["text"] = "Marie Curie went to Paris by an early train today."
NO_NAMES = {kind: [] for kind in grading.ENTITY_TYPES} | {"text": "Curie is a curious word."}


# --- finding an answer in a text


@pytest.mark.parametrize(
    "answer, texts, expected",
    [
        ("The capital is Paris.", ["Paris"], 1.0),
        ("PARIS", ["paris"], 1.0),
        ("paris, of course", ["Paris"], 1.0),
        ("By comparison it is small.", ["Paris"], 0.0),  # part of a word
        ("Parisian", ["Paris"], 0.0),
        ("It was in 1918.", ["918"], 0.0),
        ("It is London.", ["Paris", "Lutetia"], 0.0),
        ("Lutetia", ["Paris", "Lutetia"], 1.0),  # any of the accepted
        ("in New\nYork City", ["New York"], 1.0),
        ("York, New", ["New York"], 0.0),  # word order
        ("New and old York", ["New York"], 0.0),  # words in between
        ("", ["Paris"], 0.0),
        ("positive", ["Paris"], 0.0),
    ],
)
def test_an_answer_is_found_as_whole_words(answer, texts, expected):
    assert grading.contains(answer, texts) == expected


def test_every_accepted_fact_is_found_in_a_sentence():
    for split in tasks.SPLITS:
        for row in load("facts").splits[split]:
            for text in grading.accepted(row):
                assert grading.contains(f"I think it is {text}, really.", [text]) == 1.0
            assert grading.contains(row["answer"], grading.accepted(row)) == 1.0


# --- names in any format


@pytest.mark.parametrize(
    "answer, expected",
    [
        ("people: Marie Curie; places: Paris; organizations: none", 1.0),
        ("Curie, Marie\n- Paris\n- Paris", 1.0),
        ("and so Marie Curie lived in Paris", 1.0),  # a sentence is read like a list
        ("Paris", 0.5),  # 1 of 1 words right, 1 of 3 found: 2 * 1 / (1 + 3)
        ("Marie Curie lived in Paris, not in London", 6 / 7),  # 2 * 3 / (4 + 3)
        ("positive", 0.0),
        ("Positive", 0.0),
        ("", 0.0),
    ],
)
def test_name_f1_asks_for_no_format(answer, expected):
    assert grading.name_f1(answer, ["Marie Curie", "Paris"]) == pytest.approx(expected)


def test_name_f1_of_a_sentence_without_names():
    assert grading.name_f1("people: none; places: none; organizations: none", []) == 1.0
    assert grading.name_f1("Paris", []) == 0.0


def test_small_words_within_a_name_do_not_count():
    assert grading.name_f1("Bank of England", ["Bank of England"]) == 1.0
    assert grading.name_f1("Bank, England", ["Bank of England"]) == 1.0


@given(st.text(), st.lists(st.text()))
def test_name_f1_is_a_share(answer, names):
    assert 0 <= grading.name_f1(answer, names) <= 1


# --- one metric at a time


@pytest.mark.parametrize(
    "metric, answer, row, expected",
    [
        ("exact_match", "the Amazon!", {"answer": "Amazon", "aliases": ["Amazon River"]}, 1.0),
        ("exact_match", "amazon river", {"answer": "Amazon", "aliases": ["Amazon River"]}, 1.0),
        ("exact_match", "It is the Amazon", {"answer": "Amazon", "aliases": []}, 0.0),
        ("exact_match", "7", {"answer": "7"}, 1.0),  # a row may have no aliases
        ("accuracy", " He is a nurse. ", {"answer": "He is a nurse."}, 1.0),
        ("accuracy", "He is nurse.", {"answer": "He is a nurse."}, 0.0),  # articles count
        ("accuracy", "he is a nurse.", {"answer": "He is a nurse."}, 0.0),
        ("accuracy", "It's hot.", {"answer": "It is hot.", "aliases": ["It's hot."]}, 1.0),
        ("accuracy", "Its hot.", {"answer": "It is hot.", "aliases": ["It's hot."]}, 0.0),
        ("rouge", "a cat sat", {"output": "a cat sat down"}, 6 / 7),
        ("rouge", "a cat sat", {"summary": "a cat sat", "output": "x"}, 1.0),
        ("rouge", "", {"output": "a cat"}, 0.0),
        ("span_f1", "people: Marie Curie; places: Paris; organizations: none", NAMES, 1.0),
        ("span_f1", "places: Paris", NAMES, 2 / 3),
        ("span_f1", "people: Paris; places: Marie Curie", NAMES, 0.0),  # of the wrong kind
        ("span_f1", "positive", NAMES, 0.0),
        ("span_f1", "people: none; places: none; organizations: none", NO_NAMES, 1.0),
        ("span_f1", "people: Bob; places: none; organizations: none", NO_NAMES, 0.0),
        ("span_f1", "positive", NO_NAMES, 0.0),  # says nothing about names
    ],
)
def test_grade(metric, answer, row, expected):
    found = grading.grade(metric, answer, row)
    assert isinstance(found, float)
    assert found == pytest.approx(expected)


def test_a_metric_over_all_rows_has_no_grade():
    with pytest.raises(WorkbookError, match="no grade for the metric 'f1_macro'"):
        grading.grade("f1_macro", "yes", {"answer": "yes"})


# --- whole tasks


@pytest.fixture
def answering(monkeypatch):
    """Let the model write given texts, or choose given labels; note the options of writing."""
    monkeypatch.setenv("WORKBOOK_PRECISION", "fp32")
    noted = {}

    def answer_with(texts):
        def generate(model, tokenizer, prompts, **options):
            noted.update(options, prompts=prompts)
            return list(texts)

        def classify(model, tokenizer, prompts, labels):
            found = np.array([list(labels).index(text) for text in texts])
            return scoring.Classification(np.eye(len(labels))[found])

        monkeypatch.setattr(scoring, "generate", generate)
        monkeypatch.setattr(scoring, "classify", classify)
        return noted

    return answer_with


@pytest.mark.parametrize("name", AUTHORED)
def test_the_right_completions_of_an_authored_task_get_full_marks(name, tiny_tokenizer, answering):
    task, rows = load(name), load(name).splits["test"].to_list()
    right = [task.template(0).render(row).completion for row in rows]
    if task.labels:
        assert right == [task.labels[row["label"]] for row in rows]
    else:
        pairs = zip(right, rows, strict=True)
        assert [grading.grade(task.metric, *pair) for pair in pairs] == [1.0] * len(rows)
    # An answer ends with its line, but a few everyday instructions ask for several lines.
    assert sum("\n" in text for text in right) < 0.05 * len(rows)
    pairs = [pair for pair in zip(rows, right, strict=True) if "\n" not in pair[1]][:20]
    rows, right = zip(*pairs, strict=True)
    answering(right)
    assert grading.score_task(None, tiny_tokenizer, task, rows) == [1.0] * 20
    answering(right[1:] + right[:1])  # each row gets the next one's answer
    scores = grading.score_task(None, tiny_tokenizer, task, rows)
    assert min(scores) >= 0 and sum(scores) < 12


def test_a_written_answer_ends_with_its_line_and_has_room_enough(tiny_tokenizer, answering):
    task = load("facts")
    rows = task.splits["test"].select(range(4))
    noted = answering([f"{row['answer']}\nQuestion: what else?" for row in rows])
    assert grading.score_task(None, tiny_tokenizer, task, rows, 1) == [1.0] * 4
    assert noted["prompts"] == [task.template(1).render(row).prompt for row in rows]
    longest = max(len(token_ids(tiny_tokenizer, row["answer"])) for row in rows)
    assert longest < noted["max_new_tokens"] <= grading.LONGEST


@pytest.mark.parametrize("name", ["facts", "topic"])
def test_no_rows_have_no_scores(tiny_model, tiny_tokenizer, name):
    assert grading.score_task(tiny_model, tiny_tokenizer, load(name), []) == []


@pytest.mark.parametrize("name", ["facts", "topic"])
def test_a_real_model_scores_every_row(tiny_model, tiny_tokenizer, name):
    task = load(name)
    rows = task.splits["test"].select(range(3))
    scores = grading.score_task(tiny_model, tiny_tokenizer, task, rows)
    assert len(scores) == 3 and set(scores) <= {0.0, 1.0}


@pytest.mark.parametrize(
    ("metric", "answer", "row", "score"),
    [
        ("exact_match", "I think it is PARIS, of course", {"answer": "Paris"}, 1),
        ("exact_match", "Comparison", {"answer": "Paris"}, 0),
        ("exact_match", "It is 1.5 metres", {"answer": "1.5"}, 1),
        ("exact_match", "It is 15 metres", {"answer": "1.5"}, 0),
        ("exact_match", "minus: −3", {"answer": "-3"}, 1),
        ("exact_match", "It was 3", {"answer": "-3"}, 0),
        ("exact_match", "the sea of Japan", {"answer": "x", "aliases": ["Sea of Japan"]}, 1),
        ("accuracy", 'It should be: "we went home."', {"answer": "We went home."}, 1),
        ("rouge", "Well, a b c, and so on", {"summary": "a b c"}, 1),
        ("rouge", "a x c", {"summary": "a b c d"}, 0.5),
        ("span_f1", "marie curie and paris", SPANS, 1),
        ("span_f1", "people: none; places: none; organizations: none", SPANS, 0),
        ("span_f1", "people: none", NO_NAMES, 1),
        ("span_f1", "people: Curie", NO_NAMES, 0),
        ("span_f1", "I see Marie Curie", SPANS, 2 / 3),
        ("span_f1", SPANS["text"], SPANS, 0),
        ("span_f1", "Paris, today", SPANS, 1 / 3 - 1 / 7),
    ],
)
def test_the_free_reading_asks_for_no_form(metric, answer, row, score):
    assert grading.grade_freely(metric, answer, row) == pytest.approx(score)


def test_the_free_reading_is_never_below_the_strict_one_for_short_answers():
    row = {"answer": "The Hague", "aliases": []}
    for text in ("The Hague", "the hague.", "Hague", "A city"):
        assert grading.grade_freely("exact_match", text, row) >= (text.lower() == "the hague")
