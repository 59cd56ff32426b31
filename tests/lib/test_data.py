"""The authored rows: what scores, what gives what away, and that every template can be answered."""

import functools
import json
import random
import re
from collections import Counter
from pathlib import Path

import pytest
import yaml

from workbook import grading, metrics, tasks
from workbook.tasks import baselines

DATA = Path(__file__).resolve().parents[2] / "data"
REGISTRY = yaml.safe_load((DATA / "tasks.yaml").read_text(encoding="utf-8"))["authored"]
WRITTEN = [kind for kind, entry in REGISTRY.items() if "labels" not in entry]
load = functools.cache(tasks.load_task)
SECOND = Path(__file__).with_name("second_annotator.json")
# Templates whose gold completion does not score 1 by the task's metric: {(kind, name): why}.
EXCEPTIONS: dict[tuple[str, str], str] = {}


@functools.cache
def rows(kind: str) -> list[dict]:
    """Return the rows of a kind in the order of the file."""
    text = (DATA / REGISTRY[kind]["file"]).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines() if line.strip()]


# --- accepted answers and templates


def perfect(metric: str, lines: list[str], graded: list[dict]) -> bool:
    """Tell whether `grading.grade` gives each line 1.0, at once where that saves minutes."""
    if metric == "exact_match":
        return metrics.compute(metric, lines, map(grading.accepted, graded))[metric] == 1.0
    if metric == "rouge":
        scores = metrics.compute(metric, lines, map(grading.reference, graded))
        return scores["rougeL"] > 1 - 1e-9
    return all(grading.grade(metric, *pair) == 1.0 for pair in zip(lines, graded, strict=True))


@pytest.mark.parametrize("kind", [k for k in WRITTEN if "answer" in REGISTRY[k]["fields"]])
def test_an_empty_answer_is_never_right(kind):
    forms = [form for row in rows(kind) for form in grading.accepted(row)]
    score = metrics.compute("exact_match", [""] * len(forms), forms)["exact_match"]
    assert score == 0, [f for f in forms if not re.search(r"\w", f)]


@pytest.mark.parametrize("kind", WRITTEN)
def test_the_gold_completion_of_every_template_scores_one(kind):
    task = load(kind)
    pairs = {  # Most templates complete a row alike, and a line is graded once.
        (template.render(row).completion.split("\n")[0], json.dumps(row)): template.name
        for split in task.splits.values()
        for row in split
        for template in task.templates
        if (kind, template.name) not in EXCEPTIONS
    }
    lines, graded = [line for line, _ in pairs], [json.loads(row) for _, row in pairs]
    if not perfect(task.metric, lines, graded):
        assert not [
            (name, line)
            for line, row, name in zip(lines, graded, pairs.values(), strict=True)
            if grading.grade(task.metric, line, row) < 1 - 1e-9
        ]


def test_exceptions_are_templates_with_a_reason():
    for (kind, name), reason in EXCEPTIONS.items():
        assert load(kind).template(name) and reason


@pytest.mark.parametrize("kind", REGISTRY)
def test_two_templates_never_give_the_same_prompt(kind):
    for row in rows(kind):
        row = {**row, "label": 0} if "label" in row else row
        prompts = [template.render(row).prompt for template in load(kind).templates]
        assert len(set(prompts)) == len(prompts), row


# --- facts

# Words of a question that say nothing of what it is about.
EMPTY = frozenset(
    "a about after all an and any are around as at be before been being but by call called can "
    "complete could did do does each every for from get give go goes had has have having he her "
    "here his how i in into is it its kind known long made make many may mean means might much "
    "must name no nor not of off on one ones only or our out over own same shall she should so "
    "some than that the their them then there these they this those to under up us was we were "
    "what when where which who whom whose why will with word would you your".split()
)
GIVEN_AWAY = 2 / 3


@functools.cache
def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower().replace("'s", ""))


@functools.cache
def stems(text: str, without: frozenset[str] = frozenset()) -> frozenset[str]:
    """Return the words of a text without a plural's s, and without some words."""
    return frozenset(re.sub(r"(?<=\w\w[^s])s$", "", w) for w in words(text) if w not in without)


def plain(value) -> str:
    """Return all text of a row, a list or a text."""
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return " ".join(map(plain, inner))
    return str(value)


def gives_away(other: str, fact: dict) -> bool:
    """Tell whether a text holds an accepted answer and most of what the question is about."""
    asked = stems(fact["question"], EMPTY)
    if len(asked & stems(other)) <= GIVEN_AWAY * len(asked):
        return False
    flat = f" {' '.join(words(other))} "
    return any(f" {' '.join(words(form))} " in flat for form in grading.accepted(fact))


SPIDER = {"question": "How many legs does a spider have?", "answer": "eight", "aliases": ["8"]}
AFRICA = {
    "question": "What is the highest mountain in Africa?",
    "answer": "Kilimanjaro",
    "aliases": ["Mount Kilimanjaro"],
}


@pytest.mark.parametrize(
    ("fact", "other", "given"),
    [  # The first four stood in the files once.
        (SPIDER, "A spider has eight legs. How many legs do ten spiders have? 80", True),
        (SPIDER, "Three toy spiders had eight legs each until the dog bit off two legs.", True),
        (SPIDER, "A spider has eight legs. Does it count as an insect? No.", True),
        (AFRICA, "Mount Kenya is lower than Kilimanjaro, the highest mountain in Africa.", True),
        (AFRICA, "Mount Kenya is the second highest mountain in Africa.", False),
        (AFRICA, "Mount Kenya is lower than Kilimanjaro but harder to climb.", False),
        (SPIDER, "The spider sat at eight in the web.", False),
    ],
)
def test_what_gives_a_fact_away(fact, other, given):
    assert gives_away(other, fact) == given


def test_no_row_of_another_kind_gives_a_test_fact_away():
    others = {
        plain(row): f"{kind}:{number}"
        for kind in REGISTRY
        if kind != "facts"
        for number, row in enumerate(rows(kind), 1)
    }
    others |= {
        plain(json.loads(line)): f"{path.name}:{number}"
        for path in (DATA / "benchmarks").glob("*.jsonl")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    }
    tested = list(load("facts").splits["test"])
    found = [
        (fact["question"], where)
        for text, where in others.items()
        for fact in tested
        if gives_away(text, fact)
    ]
    assert not found, found


def test_each_answer_type_has_answers_to_choose_from():
    types = Counter(row["answer_type"] for row in rows("facts"))
    assert len(types) <= 14 and min(types.values()) >= 6, types
    for row in rows("facts"):
        wrong = {
            other["answer"].lower()
            for other in rows("facts")
            if other["answer_type"] == row["answer_type"]
        } - {form.lower() for form in grading.accepted(row)}
        assert len(wrong) >= 3, row


# --- what needs no model


def test_the_data_sheet_tells_what_needs_no_model():
    found, sheet = baselines.markdown(), (DATA / "README.md").read_text(encoding="utf-8")
    assert found in sheet, f"put this into data/README.md:\n{found}"


def test_an_answer_is_shown_with_its_free_reading_where_there_is_one():
    assert baselines._shown(0.444, 0.9) == "0.44 (0.90)"
    assert baselines._shown(0.5, float("nan")) == "0.50"
    assert baselines._shown(float("nan"), float("nan")) == "–"


# --- a second annotator


def second_scores() -> dict[str, float]:
    """Return the strict scores of the second annotator's answers, as the data sheet tells them."""
    kept, found = json.loads(SECOND.read_text(encoding="utf-8")), {}
    for kind, answers in kept["answers"].items():
        asked = list(load(kind).splits["test"])
        random.Random(kept["seed"]).shuffle(asked)
        pairs = list(zip(answers, asked, strict=False))
        grades = [second_grade(load(kind), *pair) for pair in pairs]
        found[kind] = sum(grades) / len(grades)
    return found


def second_grade(task, answer: str, row: dict) -> float:
    if task.labels:
        return float(answer == task.template("question").render(row).completion)
    return grading.grade(task.metric, answer, row)


def test_the_data_sheet_tells_how_well_a_second_annotator_agrees():
    """Where test rows change, ask anew: the answers are those to the rows in a shuffled order."""
    scores, sheet = second_scores(), (DATA / "README.md").read_text(encoding="utf-8")
    assert set(scores) == set(REGISTRY)
    lines = [f"| {kind} | {score:.2f} |" for kind, score in scores.items()]
    assert [line for line in lines if line not in sheet] == []
