"""The benchmark sets of our own: sound rows, and nothing on the surface gives an answer away."""

import functools
import json
import re
from collections import Counter, defaultdict
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.model_selection import GroupKFold
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline

from workbook import tasks
from workbook.tasks import splits

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "data" / "benchmarks"
PUBLIC = ROOT.parent / "shared" / "data" / "benchmarks"
# The task of the hub whose fields each set has.
HUB = {
    "science": "arc_challenge",
    "endings": "hellaswag",
    "subjects": "mmlu",
    "subjects_dev": "mmlu",
    "myths": "truthful_qa",
}
FIELDS = {
    "science": {"id", "question", "choices", "answerKey", "difficulty"},
    "endings": set("ind activity_label ctx_a ctx_b ctx endings label".split())
    | {"source_id", "split", "split_type"},
    "subjects": {"question", "subject", "choices", "answer"},
    "subjects_dev": {"question", "subject", "choices", "answer"},
    "myths": {"question", "category", "mc1_targets", "mc2_targets"},
}
CHANCE, MARGIN = 0.25, 0.08
NEAR = 0.4  # share of common three-word sequences


class Choice(NamedTuple):
    """A question with its options; rows of one group share some of them."""

    question: str
    options: list[str]
    gold: int
    group: str


def choice(row: dict) -> Choice:
    """Return the question, options and right option of a row of any set."""
    if "endings" in row:
        return Choice(row["ctx"], row["endings"], int(row["label"]), row["source_id"])
    if "mc1_targets" in row:
        options, labels = row["mc1_targets"]["choices"], row["mc1_targets"]["labels"]
        return Choice(row["question"], options, labels.index(1), row["question"])
    if "answerKey" in row:
        letters = row["choices"]["label"]
        gold = letters.index(row["answerKey"])
        return Choice(row["question"], row["choices"]["text"], gold, row["question"])
    return Choice(row["question"], row["choices"], row["answer"], row["question"])


@functools.cache
def rows(name: str) -> list[dict]:
    lines = (FOLDER / f"{name}.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def choices(name: str) -> list[Choice]:
    return [choice(row) for row in rows(name)]


# --- form


@pytest.mark.parametrize("name", HUB)
def test_a_set_loads_as_the_benchmark_whose_form_it_has(name):
    task = tasks.load_task(HUB[name], path=FOLDER / f"{name}.jsonl")
    assert task.splits.num_rows == {"train": 0, "validation": 0, "test": len(rows(name))}
    for loaded, row in zip(task.splits["test"], rows(name), strict=True):
        assert row.keys() == FIELDS[name] and loaded.items() <= row.items()
        for template in task.templates:
            options, example = template.choices(row), template.render(row)
            assert options.index(example.completion) == choice(row).gold


@pytest.mark.parametrize("name", HUB)
def test_four_different_options_and_the_right_one_is_anywhere(name):
    for question, options, _, _ in choices(name):
        assert len({option.casefold() for option in options}) == len(options) == 4, question
        assert all(option == option.strip() != "" for option in options), question
        assert not re.search(r"\b(all|none|both) of the above\b", " ".join(options).lower())
    counts = Counter(item.gold for item in choices(name))
    even = len(rows(name)) / 4
    assert all(abs(counts[position] - even) <= 0.1 * even for position in range(4)), counts


def test_science_has_two_difficulties_of_equal_size():
    counts = Counter(row["difficulty"] for row in rows("science"))
    assert len(rows("science")) >= 130 and counts["easy"] == counts["challenge"]
    assert set(counts) == {"easy", "challenge"}
    assert [row["id"] for row in rows("science")] == [
        f"science-{number:03}" for number in range(1, len(rows("science")) + 1)
    ]


def test_endings_are_of_equal_length_and_continue_their_context():
    assert len(rows("endings")) >= 130
    for number, row in enumerate(rows("endings")):
        assert row["ind"] == number and (row["split"], row["split_type"]) == ("test", "zeroshot")
        assert row["ctx"] == f"{row['ctx_a']} {row['ctx_b']}".strip()
        assert max(map(len, row["endings"])) <= 1.5 * min(map(len, row["endings"])), row["ctx"]
        assert all(text[0].islower() and text[-1] == "." for text in row["endings"])


def right_elsewhere() -> list[int]:
    """Return for each row how many of its wrong endings are the right one of another row."""
    gold = {item.options[item.gold]: item.group for item in choices("endings")}
    assert len(gold) == len(rows("endings"))
    for question, options, right, group in choices("endings"):
        assert all(gold.get(text, group) == group for text in options), question
        assert options[right] in gold
    return [sum(text in gold for text in item.options) - 1 for item in choices("endings")]


def test_half_of_the_wrong_endings_are_right_in_a_situation_of_the_same_group():
    counts = right_elsewhere()
    assert 0.45 <= sum(counts) / (3 * len(counts)) <= 0.6
    assert set(Counter(row["source_id"] for row in rows("endings")).values()) == {3}


def test_each_subject_has_ten_questions_and_five_shots():
    tested, shots = (Counter(r["subject"] for r in rows(n)) for n in ("subjects", "subjects_dev"))
    assert len(tested) >= 14 and tested.keys() == shots.keys()
    assert set(tested.values()) == {10} and set(shots.values()) == {5}
    assert all(re.fullmatch("[a-z]+(_[a-z]+)*", subject) for subject in tested)


def mc2(label: int) -> list[str]:
    """Return all true (1) or false (0) reference answers of the myths."""
    pairs = [zip(*row["mc2_targets"].values(), strict=True) for row in rows("myths")]
    return [text for row in pairs for text, its_label in row if its_label == label]


def test_myths_have_true_and_false_answers_of_equal_length():
    assert len(rows("myths")) >= 125 and len({row["category"] for row in rows("myths")}) >= 10
    for row in rows("myths"):
        single, several = (
            dict(zip(*row[key].values(), strict=True)) for key in ("mc1_targets", "mc2_targets")
        )
        assert sum(single.values()) == 1 and single.items() <= several.items(), row
        assert len(several) == len(row["mc2_targets"]["choices"])
        assert sum(several.values()) >= 2 and list(several.values()).count(0) >= 3
    true, false = (mean(map(len, mc2(label))) for label in (1, 0))
    assert 0.9 <= true / false <= 1.1


# --- repetitions


def shingles(text: str) -> frozenset[tuple]:
    """Return the sequences of three words of a text, or all its words if it is shorter."""
    words = re.findall(r"\w+", text.casefold())
    return frozenset(tuple(words[i : i + 3]) for i in range(max(1, len(words) - 2)))


def near_duplicates(texts: list[str], others: list[str]) -> list[tuple[str, str]]:
    """Return the pairs of a text and a later or other one that share many sequences of words."""
    pool = [shingles(text) for text in [*texts, *others]]
    users = defaultdict(set)
    for number, own in enumerate(pool):
        for shingle in own:
            users[shingle].add(number)
    return [
        ((texts + others)[first], (texts + others)[second])
        for first in range(len(texts))
        for second in set().union(*(users[shingle] for shingle in pool[first]))
        if second > first
        and len(pool[first] & pool[second]) >= NEAR * len(pool[first] | pool[second])
    ]


def fact_questions() -> list[str]:
    text = (ROOT / "data" / "facts.jsonl").read_text("utf-8")
    return [json.loads(line)["question"] for line in text.splitlines()]


def questions() -> list[str]:
    return [item.question for name in HUB for item in choices(name)]


def test_near_duplicates_are_found():
    texts = [
        "Which gas do plants take in?",
        "Which gas do plants take in at night?",
        "Why is it so?",
    ]
    assert near_duplicates(texts, []) == [tuple(texts[:2])]
    assert near_duplicates(texts[2:], ["why is it so"]) == [("Why is it so?", "why is it so")]


def test_no_question_comes_twice_in_any_set_or_among_the_facts():
    texts = questions()
    assert near_duplicates(texts, fact_questions()) == []
    pool = [*texts, *fact_questions()]
    assert len(splits.distinct(pool)) == len(pool)


def test_no_question_is_that_of_a_public_benchmark():
    if not PUBLIC.is_dir():
        pytest.skip("the real benchmark files are not here")
    lines = [
        line for path in PUBLIC.glob("*.jsonl") for line in path.read_text("utf-8").split("\n")
    ]
    public = [row.get("question") or row["ctx"] for row in map(json.loads, filter(None, lines))]
    assert near_duplicates(questions(), public) == []


# --- what needs no knowledge


def words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.casefold()))


def hit(scores: list[float], gold: int) -> float:
    """Return the chance that the option of the highest score is the right one."""
    best = [score >= max(scores) - 1e-9 for score in scores]
    return best[gold] / sum(best)


def likeness(options: list[str]) -> list[float]:
    """Return how many words each option shares with the others (Jaccard, summed)."""
    bags = [words(option) for option in options]
    return [sum(len(a & b) / len(a | b) for b in bags) for a in bags]


def by_words(items: list[Choice]) -> list[list[float]]:
    """Return how right the single words of each option sound, as learnt from other groups."""
    texts = [option for item in items for option in item.options]
    right = np.array([at == item.gold for item in items for at in range(4)])
    groups = [item.group for item in items for _ in range(4)]
    odds = np.zeros(len(texts))
    for seen, held_out in GroupKFold(10).split(texts, right, groups):
        model = make_pipeline(CountVectorizer(binary=True, token_pattern=r"\w+"), MultinomialNB())
        model.fit([texts[i] for i in seen], right[seen])
        odds[held_out] = np.subtract(*model.predict_log_proba([texts[i] for i in held_out]).T[::-1])
    return odds.reshape(-1, 4).tolist()


HEURISTICS = {
    "longest": lambda item: [len(option) for option in item.options],
    "shortest": lambda item: [-len(option) for option in item.options],
    "question": lambda item: [len(words(item.question) & words(o)) for o in item.options],
    "most alike": lambda item: likeness(item.options),
    "least alike": lambda item: [-score for score in likeness(item.options)],
}


def scores(items: list[Choice]) -> dict[str, float]:
    """Return the accuracy of a constant answer and of each heuristic."""
    found = {"constant": max(Counter(item.gold for item in items).values()) / len(items)}
    for name, heuristic in HEURISTICS.items():
        found[name] = mean(hit(heuristic(item), item.gold) for item in items)
    pairs = zip(by_words(items), items, strict=True)
    return found | {"words": mean(hit(odds, item.gold) for odds, item in pairs)}


@functools.cache
def scores_of(name: str) -> dict[str, float]:
    return scores(choices(name))


def planted(option: str, others: list[str], question: str = "?") -> list[Choice]:
    """Return questions with the same right and wrong options, at varied positions."""
    return [
        Choice(question, [*others[:at], option, *others[at:]], at, f"{number}.{at}")
        for number in range(10)
        for at in range(4)
    ]


@pytest.mark.parametrize(
    ("name", "items"),
    [
        ("constant", planted("yes", ["a", "b", "c"])[::4]),
        ("longest", planted("with great care", ["a", "b", "c"])),
        ("shortest", planted("a", ["one two", "six ten", "red tea"])),
        ("question", planted("red tea", ["one two", "six ten", "ice cream"], "Why red?")),
        ("most alike", planted("red tea", ["red ink", "six tea", "ice cream"])),
        ("least alike", planted("ice cream", ["red tea", "red ink", "six tea"])),
        ("words", planted("mostly", ["always", "never", "surely"])),
    ],
)
def test_a_heuristic_finds_what_was_planted_for_it(name, items):
    assert scores(items)[name] == 1


def test_a_tie_counts_as_a_guess():
    assert hit([1, 1, 0, 0], 1) == 0.5 and hit([1, 1, 0, 0], 2) == 0


@pytest.mark.parametrize("name", HUB)
def test_no_heuristic_is_far_above_chance(name):
    assert max(scores_of(name).values()) <= CHANCE + MARGIN, scores_of(name)


@pytest.mark.parametrize("difficulty", ["easy", "challenge"])
def test_no_length_gives_a_difficulty_of_science_away(difficulty):
    items = [choice(row) for row in rows("science") if row["difficulty"] == difficulty]
    for heuristic in ("longest", "shortest"):
        found = mean(hit(HEURISTICS[heuristic](item), item.gold) for item in items)
        assert found <= CHANCE + MARGIN, heuristic


# --- the data sheet


@functools.cache
def sheet() -> str:
    return re.sub(r"\s+", " ", (ROOT / "data" / "README.md").read_text("utf-8"))


@pytest.mark.parametrize("name", HUB)
def test_the_sheet_shows_the_scores_of_the_heuristics(name):
    cells = " | ".join(f"{score:.2f}" for score in scores_of(name).values())
    assert f"| `{name}.jsonl` | {len(rows(name))} | {cells} |" in sheet()


def test_the_sheet_shows_the_columns_in_order():
    assert f"| file | rows | {' | '.join(scores_of('science'))} |" in sheet()


def test_the_sheet_counts_right():
    swapped = right_elsewhere()
    categories = Counter(row["category"] for row in rows("myths")).most_common()
    true, false = mc2(1), mc2(0)
    for text in (
        f"{len(swapped)} rows in {len(swapped) // 3} groups of three",
        f"{sum(swapped) / (3 * len(swapped)):.2f} of the wrong endings",
        f"{len({row['subject'] for row in rows('subjects')})} subjects",
        ", ".join(f"{category} {count}" for category, count in categories),
        f"{len(true)} true and {len(false)} false answers",
        f"{mean(map(len, true)):.0f} and {mean(map(len, false)):.0f} characters",
    ):
        assert text in sheet(), text
    for name in ("science", "endings", "subjects", "myths"):
        assert f"| [{name}](#{name}) | `benchmarks/{name}.jsonl` | {len(rows(name))} |" in sheet()
