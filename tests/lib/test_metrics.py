"""Metrics against their references, and intervals against their promised coverage."""

import math
import random
import re
import subprocess
import sys

import numpy as np
import pytest
import sacrebleu
import scipy.stats
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics import classification_report
from seqeval.metrics.sequence_labeling import get_entities

from workbook import metrics
from workbook.errors import WorkbookError
from workbook.metrics import Interval

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def labelled():
    rng = np.random.default_rng(0)
    references = rng.choice(["negative", "neutral", "positive"], 300, p=[0.6, 0.1, 0.3])
    noise = rng.choice(["negative", "positive", "?"], 300)
    return references, np.where(rng.random(300) < 0.6, references, noise)


def test_accuracy_of_text_and_numbers():
    assert metrics.compute("accuracy", ["a", "b", "a"], ["a", "b", "b"]) == {"accuracy": 2 / 3}
    assert metrics.compute("accuracy", np.array([1, 0]), np.array([1, 1])) == {"accuracy": 0.5}


def test_macro_f1_is_that_of_sklearn(labelled):
    references, predictions = labelled
    classes = ["negative", "neutral", "positive"]
    options = {"labels": classes, "average": "macro", "zero_division": 0}
    expected = sklearn.metrics.f1_score(references, predictions, **options)
    assert metrics.compute("f1_macro", predictions, references)["f1_macro"] == expected
    assert metrics.macro_f1(references, predictions) == pytest.approx(expected)


def test_class_that_is_never_predicted_counts_zero():
    predictions, references = ["a", "a", "a"], ["a", "a", "b"]
    assert metrics.compute("f1_macro", predictions, references)["f1_macro"] == pytest.approx(0.4)


def test_named_classes_count_even_when_absent():
    scores = metrics.compute("f1_macro", ["a", "b"], ["a", "b"], labels=["a", "b", "c"])
    assert scores["f1_macro"] == pytest.approx(2 / 3)
    assert metrics.macro_f1(["a", "b"], ["a", "b"], ["a", "b", "c"]) == pytest.approx(2 / 3)


def test_exact_match_accepts_any_listed_answer_after_normalisation():
    predictions = ["The  Hague!", "a Nile", "Bonn"]
    references = ["hague", ["Niger", "the Nile"], ["Berlin", "Bonn am Rhein"]]
    assert metrics.compute("exact_match", predictions, references) == {"exact_match": 2 / 3}


@given(st.text())
def test_normalisation_is_idempotent(text):
    normalise = metrics.normalise
    assert normalise(normalise(text)) == normalise(text)


@given(st.lists(st.sampled_from(["the", "An", "a", "theatre", "Anna", "B-52", "x!"])))
def test_normalisation_drops_articles_and_punctuation_only(words):
    bare = [re.sub(r"\W", "", word).lower() for word in words]
    kept = [word for word in bare if word not in ("a", "an", "the")]
    assert metrics.normalise(" , ".join(words)) == " ".join(kept or bare)


def test_rouge_by_hand():
    scores = metrics.compute("rouge", ["the cat sat", "x"], ["the cat ran home", "x"])
    first = {"rouge1": 2 * 2 / (3 + 4), "rouge2": 2 * 1 / (2 + 3), "rougeL": 2 * 2 / (3 + 4)}
    second = {"rouge1": 1, "rouge2": 0, "rougeL": 1}
    assert scores == pytest.approx({key: (first[key] + second[key]) / 2 for key in first})


def test_token_f1_by_hand():
    got, accepted = "The cat, the black cat", ["a cat sat", "black dogs and cats"]
    # Without articles: "cat black cat" shares one of three words with "cat sat".
    assert metrics.token_f1(got, accepted) == pytest.approx(2 * 1 / (3 + 2))
    assert metrics.token_f1(got, accepted[1:]) == pytest.approx(2 * 1 / (3 + 4))
    assert metrics.token_f1("", ["", "the"]) == 0 == metrics.token_f1("!", ["?"])
    assert metrics.token_f1("The Hague!", ["hague"]) == 1
    scores = metrics.compute("token_f1", [got, "x"], [accepted, "x"])
    assert scores == {"token_f1": pytest.approx((0.4 + 1) / 2)}


def test_bleu_and_chrf_are_those_of_sacrebleu():
    """Items have one, two or three references; a missing one must not count as an empty text."""
    predictions = ["the cat is on the mat", "there is a dog here now", "그는 학교에 갔습니다"]
    references = [
        ["the cat sat on the mat", "a cat is on the mat"],
        "a dog is here now",
        ["그는 어제 학교에 갔습니다", "그는 학교에 갔다", "그가 학교에 갔습니다"],
    ]
    lists = [[text] if isinstance(text, str) else text for text in references]
    streams = [[texts[i] if i < len(texts) else None for texts in lists] for i in range(3)]
    for name, scorer in (("bleu", sacrebleu.BLEU), ("chrf", sacrebleu.CHRF)):
        theirs = scorer().corpus_score(predictions, streams).score / 100
        assert metrics.compute(name, predictions, references) == {name: pytest.approx(theirs)}
        assert 0.1 < theirs < 0.9


def test_bleu_by_hand():
    # Of the n-grams of "the cat sat here" 3 of 4, 2 of 3, 1 of 2 and none of 1 are in the
    # reference; sacrebleu gives a half of one for none.
    precisions = [3 / 4, 2 / 3, 1 / 2, 1 / 2 / 1]
    expected = math.prod(precisions) ** (1 / 4)
    assert metrics.compute("bleu", ["the cat sat here"], ["the cat sat there"]) == {
        "bleu": pytest.approx(expected)
    }
    assert metrics.bleu("the cat sat here", ["the cat sat there"]) == pytest.approx(expected)
    # An answer of two words has no n-grams of three: `bleu` leaves them out.
    assert metrics.bleu("the cat", ["the cat"]) == pytest.approx(1)


def test_chrf_of_one_answer():
    assert metrics.chrf("cats", ["cats"]) == pytest.approx(1) and metrics.chrf("xyz", ["cat"]) == 0
    both = [metrics.chrf("the cats", texts) for texts in (["dog"], ["dog", "the cat"])]
    assert both[0] < both[1] == metrics.chrf("the cats", ["the cat"])


def test_standard_error_is_that_of_the_mean():
    values = [0.0, 1.0, 1.0, 0.0, 1.0]
    assert metrics.standard_error(values) == pytest.approx(scipy.stats.sem(values))
    assert metrics.standard_error([1]) is None
    with pytest.raises(WorkbookError, match="0 items"):
        metrics.standard_error([])
    with pytest.raises(WorkbookError, match="NaN"):
        metrics.standard_error([1.0, math.nan])


def test_span_f1_is_that_of_seqeval():
    rng = random.Random(0)
    tags = ["O", "O", "B-people", "I-people", "B-places", "I-places"]
    true, got = ([rng.choices(tags, k=12) for _ in range(40)] for _ in range(2))
    expected = classification_report(true, got, output_dict=True, zero_division=0)
    scores = metrics.compute("span_f1", _entities(got), _entities(true))
    micro = expected["micro avg"]
    assert scores["precision"] == pytest.approx(micro["precision"])
    assert scores["recall"] == pytest.approx(micro["recall"])
    assert scores["f1"] == pytest.approx(micro["f1-score"])
    assert scores["f1_people"] == pytest.approx(expected["people"]["f1-score"])
    assert scores["f1_places"] == pytest.approx(expected["places"]["f1-score"])


def test_spans_come_as_dicts_or_pairs_and_repeats_count_once():
    predictions = [{"people": ["Ada", "Ada"], "places": []}, []]
    references = [[("people", "Ada")], {"places": ["Rome"]}]
    scores = metrics.compute("span_f1", predictions, references)
    assert scores["precision"] == 1 and scores["recall"] == 0.5
    assert scores["f1_people"] == 1 and scores["f1_places"] == 0
    counts = metrics.span_counts(predictions, references)
    assert counts.tolist() == [[1, 1, 1], [0, 0, 1]]
    assert metrics.micro_f1(*counts.T) == pytest.approx(scores["f1"])


def test_no_span_anywhere_scores_zero():
    assert metrics.compute("span_f1", [[], []], [[], {}])["f1"] == 0


def test_wrong_input_is_one_sentence():
    with pytest.raises(
        WorkbookError, match="choose one of accuracy, bleu, chrf, exact_match, f1_macro"
    ):
        metrics.compute("meteor", ["a"], ["a"])
    with pytest.raises(WorkbookError, match=r"Lengths differ \(\[2, 1\]\)"):
        metrics.compute("accuracy", ["a", "b"], ["a"])
    with pytest.raises(WorkbookError, match="0 items to score"):
        metrics.compute("accuracy", [], [])
    with pytest.raises(WorkbookError, match="Lengths differ"):
        metrics.paired_interval([1, 2], [1, 2, 3])
    with pytest.raises(WorkbookError, match="give at least 2"):
        metrics.bootstrap_interval([1])
    with pytest.raises(WorkbookError, match="Lengths differ"):
        metrics.paired_interval([1, 2], [1])
    with pytest.raises(WorkbookError, match="two axes"):
        metrics.pooled_interval([0.1, 0.2])
    with pytest.raises(WorkbookError, match="two axes"):
        metrics.run_interval([0.1, 0.2])
    with pytest.raises(WorkbookError, match="no share"):
        metrics.wilson(3, 2)


def test_interval_reads_well():
    assert str(Interval(0.8149, 0.78, 0.84)) == "0.81 [0.78, 0.84]"
    assert f"{Interval(-0.001, -0.5, 0.5)}" == "0.00 [-0.50, 0.50]"


def test_bootstrap_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    samples = rng.random((200, 150)) < 0.8
    intervals = [metrics.bootstrap_interval(one, n_resamples=300) for one in samples]
    hits = sum(low <= 0.8 <= high for _, low, high in intervals)
    assert 0.89 <= hits / 200 <= 0.99
    width = np.mean([high - low for _, low, high in intervals])
    assert width == pytest.approx(2 * 1.96 * math.sqrt(0.8 * 0.2 / 150), rel=0.1)


def test_bootstrap_is_repeatable_and_calm_on_equal_values():
    values = np.arange(50.0)
    assert metrics.bootstrap_interval(values) == metrics.bootstrap_interval(values)
    assert metrics.bootstrap_interval(values, seed=1) != metrics.bootstrap_interval(values)
    assert metrics.bootstrap_interval([1, 1, 1]) == (1, 1, 1)


def test_columns_are_resampled_together(labelled):
    estimate, low, high = metrics.bootstrap_interval(labelled, metrics.macro_f1, n_resamples=300)
    assert estimate == metrics.macro_f1(*labelled) and low < estimate < high
    identical = metrics.bootstrap_interval((labelled[0],) * 2, metrics.macro_f1, n_resamples=50)
    assert identical == (1, 1, 1)


def test_paired_interval_is_narrower_than_unpaired_and_signed():
    rng = np.random.default_rng(0)
    difficulty = rng.normal(size=400)
    better, worse = difficulty + 0.2, difficulty + rng.normal(size=400) * 0.1
    paired = metrics.paired_interval(better, worse)
    alone = metrics.bootstrap_interval(better)
    assert paired.low > 0 and paired.high - paired.low < (alone.high - alone.low) / 3
    assert metrics.paired_interval(worse, better).estimate == -paired.estimate


def test_paired_interval_of_macro_f1(labelled):
    references, predictions = labelled
    perfect, real = (references, references), (references, predictions)
    gain = metrics.paired_interval(perfect, real, metrics.macro_f1, n_resamples=100)
    assert gain.estimate == pytest.approx(1 - metrics.macro_f1(*real)) and gain.low > 0


def test_pooled_interval_averages_seeds_within_items():
    differences = np.array([[1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 1.0, 0.0]])
    assert metrics.pooled_interval(differences) == (0.5, 0.5, 0.5)


def test_run_interval_is_students_t_where_items_do_not_vary():
    differences = np.repeat([[0.076], [0.036], [0.033]], 5, axis=1)
    expected = scipy.stats.t.interval(
        0.95, 2, loc=differences.mean(), scale=scipy.stats.sem(differences[:, 0])
    )
    one = metrics.run_interval(differences)
    assert (one.estimate, one.runs) == (pytest.approx(differences.mean()), 3)
    assert one[1:] == pytest.approx(expected)


def test_run_interval_is_that_of_the_items_where_runs_do_not_vary():
    items = np.random.default_rng(0).normal(0.1, 0.3, 400)
    one = metrics.run_interval(np.stack([items] * 3))
    expected = scipy.stats.t.interval(0.95, 399, loc=items.mean(), scale=scipy.stats.sem(items))
    assert one[1:] == pytest.approx(expected)


@pytest.mark.parametrize("runs, least", [(3, 0.91), (5, 0.93), (10, 0.94)])
@pytest.mark.parametrize("scatter", [0.0, 0.03, 0.1])
def test_run_interval_covers_what_it_promises(runs, least, scatter):
    """The true difference is 0; items are shared by the runs, as test sets are."""
    rng = np.random.default_rng(runs)
    covered = 0
    for _ in range(1000):
        differences = rng.normal(0, 0.3, (runs, 200)) + rng.normal(0, scatter, (runs, 1))
        one = metrics.run_interval(differences + rng.normal(0, 0.3, (1, 200)))
        covered += one.low <= 0 <= one.high
    assert least <= covered / 1000 <= 0.985


def test_one_run_tells_no_scatter():
    with pytest.raises(WorkbookError, match="1 runs on 2 items"):
        metrics.run_interval([[0.1, 0.2]])


def test_wilson_by_its_formula():
    k, n, z = 18, 20, 1.959964
    centre = (k / n + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(k / n * (1 - k / n) / n + z**2 / (4 * n**2))
    assert metrics.wilson(k, n) == pytest.approx((0.9, centre - half, centre + half), abs=1e-6)
    assert metrics.wilson(16, 16).low == pytest.approx(1 / (1 + z**2 / 16), abs=1e-6)


def test_works_offline_and_writes_into_the_cache_only(tmp_path):
    code = (
        "import socket\n"
        "def refuse(*args, **kwargs): raise AssertionError('network')\n"
        "socket.create_connection = socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from workbook import metrics\n"
        "print(metrics.compute('f1_macro', ['a'], ['a']))\n"
    )
    places = {"HOME": tmp_path / "home", "WORKBOOK_CACHE": tmp_path / "cache"}
    path = {"PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin"}
    environment = {name: str(place) for name, place in places.items()} | path
    (tmp_path / "home").mkdir()
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{'f1_macro': 1.0}" and not done.stderr
    assert not [path for path in (tmp_path / "home").rglob("*") if path.is_file()]
    assert (tmp_path / "cache/evaluate/evaluate_modules").is_dir()


def _entities(sentences):
    return [
        [(kind, f"{start}-{end}") for kind, start, end in get_entities(tags)] for tags in sentences
    ]


@pytest.mark.parametrize(
    ("answer", "accepted", "right"),
    [
        ("-60", "60", False), ("−60", "-60", True), ("15", "1.5", False), ("1,5", "15", False),
        (".5", "0.5", False), ("1/2", "12", False), ("9:30", "930", False), ("1,000", "1000", True),
        ("3, 1, 2", "3,1,2", True), ("well-known", "wellknown", True), ("It’s 5.", "it's 5", True),
        ("A", "A", True), ("", "*", False), ("!", "?", False), ("the", "the", True),
        ("2.5 – 3", "25 – 3", False), ("-5, -1", "5, 1", False), ("e.g. two", "eg two", True),
    ],
)  # fmt: skip
def test_exact_match_keeps_what_makes_a_number(answer, accepted, right):
    assert metrics.compute("exact_match", [answer], [accepted])["exact_match"] == right


def test_articles_of_english_are_words_of_other_languages():
    scores = [
        metrics.compute("exact_match", ["Il a une pomme"], ["Il une pomme"], articles=articles)
        for articles in (False, True)
    ]
    assert [score["exact_match"] for score in scores] == [1, 0]


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e9, max_value=1e9))
def test_two_numbers_match_only_if_they_are_written_alike(number):
    text = f"{number:.3f}"
    other = f"{-number:.3f}" if number else "1.000"
    assert metrics.compute("exact_match", [text], [text])["exact_match"] == 1
    assert metrics.compute("exact_match", [text], [other])["exact_match"] == (text == other)


@pytest.mark.parametrize("text", ["저는 학교에 갔습니다", "Мы пошли в школу", "Ele comeu maçã"])
def test_rouge_reads_any_script(text):
    assert metrics.compute("rouge", [text], [text])["rougeL"] == 1
    words = text.split()
    part = metrics.compute("rouge", [words[0]], [text])["rouge1"]
    assert part == pytest.approx(2 / (len(words) + 1))


@given(st.text(st.characters(max_codepoint=127), max_size=80))
def test_rouge_of_ascii_is_that_of_rouge_score(text):
    from rouge_score import rouge_scorer

    reference = "the film was good, 25 euros well spent_ok"
    theirs = rouge_scorer.RougeScorer(["rougeL"]).score(reference, text)["rougeL"].fmeasure
    assert metrics.compute("rouge", [text], [reference])["rougeL"] == pytest.approx(theirs)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_statistics_refuse_what_is_no_number(bad):
    values = [0.5, bad, 0.25]
    for call in (
        lambda: metrics.bootstrap_interval(values),
        lambda: metrics.paired_interval(values, [0.0] * 3),
        lambda: metrics.pooled_interval([values, values]),
        lambda: metrics.run_interval([values, values]),
    ):
        with pytest.raises(WorkbookError, match="NaN or infinite"):
            call()
