"""What costs no model: a constant answer, a copy of the input, and a heuristic on the surface.

A score says little without them. `table` computes all three for every authored kind on its test
split; the data sheet shows what comes out, and a test compares the two.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence

import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from .. import grading
from . import Task, draw, load_task, registry

NUMBERS = re.compile(r"\d+")


def table() -> pd.DataFrame:
    """Return the scores of the three on the test split of every authored kind, in both readings."""
    return pd.DataFrame([scores(load_task(name)) for name in authored()]).set_index("kind")


def markdown() -> str:
    """Return the table as the data sheet shows it: strict, and free in brackets where it exists."""
    head = ["kind", "constant", "copy", "surface", "heuristic"]
    lines = [head, ["---"] * len(head)]
    for kind, row in table().iterrows():
        numbers = [_shown(row[name], row[f"{name} free"]) for name in head[1:4]]
        lines.append([kind, *numbers, row["heuristic"]])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _shown(strict: float, free: float) -> str:
    if pd.isna(strict):
        return "–"
    return f"{strict:.2f}" + ("" if pd.isna(free) else f" ({free:.2f})")


def authored() -> list[str]:
    """Return the names of the kinds written for this course."""
    return [name for name in registry.task_names() if registry.find(name).section == "authored"]


def scores(task: Task) -> dict[str, float | str]:
    """Return a task's scores of the three, strict and free, NaN where there is no such answer.

    The columns are kind, heuristic, and for each of constant, copy, surface the strict mean and,
    with the word "free" behind it, the form-free one, which a label does not have.
    """
    rows = list(task.splits["test"])
    heuristic, predict = HEURISTICS.get(task.name, ("character n-grams", _n_grams))
    answers = {"constant": [constant(task)] * len(rows)}
    answers["copy"] = [COPIES[task.name](row) for row in rows] if task.name in COPIES else None
    answers["surface"] = predict(task, rows) if predict else None
    found: dict[str, float | str] = {"kind": task.name, "heuristic": heuristic}
    for name, given in answers.items():
        found[name], found[f"{name} free"] = _both_readings(task, rows, given)
    return found


def _both_readings(task: Task, rows, answers) -> tuple[float, float]:
    if answers is None:
        return float("nan"), float("nan")
    free = float("nan") if task.labels else score(task, rows, answers, grading.grade_freely)
    return score(task, rows, answers), free


def score(task: Task, rows: Sequence[dict], answers: Sequence, grade=grading.grade) -> float:
    """Return the mean grade of the answers: labels by number, of texts the first line."""
    if task.labels:
        hits = [answer == row["label"] for answer, row in zip(answers, rows, strict=True)]
        return sum(hits) / len(hits)
    pairs = zip(answers, rows, strict=True)
    grades = [grade(task.metric, text.split("\n")[0], row) for text, row in pairs]
    return sum(grades) / len(grades)


def constant(task: Task) -> str | int:
    """Return the one answer that scores best on the training rows."""
    rows = list(task.splits["train"])
    if task.labels:
        return Counter(row["label"] for row in rows).most_common(1)[0][0]
    sample = list(draw(task.splits["train"], min(60, len(rows)), balanced_by=""))
    candidates = dict.fromkeys(completion(task, row) for row in rows)
    common = [text for text, _ in Counter(completion(task, row) for row in rows).most_common(20)]
    tried = dict.fromkeys([*common, *list(candidates)[:20]])
    return max(tried, key=lambda text: score(task, sample, [text] * len(sample)))


def completion(task: Task, row: dict) -> str:
    """Return the good answer of a row in the task's first wording."""
    return task.template(0).render(row).completion


COPIES: dict[str, Callable[[dict], str]] = {
    "tense": lambda row: row["text"],
    "grammar": lambda row: row["text"],
    "translation": lambda row: row["text"],
    "ordering": lambda row: ", ".join(row["items"]),
    "dialogue": lambda row: row["dialogue"].split("\n")[0],
    "instructions": lambda row: row["input"] or row["instruction"],
    "comprehension": lambda row: row["passage"],
    "entities": lambda row: row["text"],
}


def _n_grams(task: Task, rows: Sequence[dict]) -> list[int]:
    """Return the labels that logistic regression on character n-grams of the inputs gives."""
    train = list(task.splits["train"])
    vectors = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True)
    model = make_pipeline(vectors, LogisticRegression(C=10, max_iter=1000))
    model.fit([_inputs(row) for row in train], [row["label"] for row in train])
    return model.predict([_inputs(row) for row in rows]).tolist()


def word_vectors() -> TfidfVectorizer:
    """Return what weighs single words and pairs of them by TF-IDF."""
    return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)


def word_model(strength: float):
    """Return logistic regression on `word_vectors`; `strength` is scikit-learn's C.

    It is high for little regularization.
    """
    return make_pipeline(word_vectors(), LogisticRegression(C=strength, max_iter=1000))


def _inputs(row: dict) -> str:
    keys = [key for key in ("premise", "hypothesis", "text") if key in row]
    return " | ".join(row[key] for key in keys)


def _capitalized(task: Task, rows: Sequence[dict]) -> list[str]:
    """Return all capitalized runs as names, of people if they have two words, else of places."""
    return [_as_lists(_names(row["text"])) for row in rows]


def _names(text: str) -> list[str]:
    inner = re.sub(r"(^|[.!?] )(\w+)", lambda m: m[1] + m[2].lower(), text)
    found = re.findall(r"[A-Z][\w'’-]*(?: (?:of |de |van )?[A-Z][\w'’-]*)*", inner)
    return list(dict.fromkeys(found))


def _as_lists(names: Sequence[str]) -> str:
    firms = [n for n in names if re.search("University|College|Museum|Bank|United|Company", n)]
    people = [name for name in names if name.count(" ") == 1 and name not in firms]
    places = [name for name in names if name not in firms + people]
    lists = {"people": people, "places": places, "organizations": firms}
    return "; ".join(f"{kind}: {', '.join(found) or 'none'}" for kind, found in lists.items())


def _difference(task: Task, rows: Sequence[dict]) -> list[str]:
    """Return the difference of the first two numbers written in digits."""
    found = [[int(n) for n in NUMBERS.findall(row["question"])] for row in rows]
    return [str(abs(ns[0] - ns[1])) if len(ns) > 1 else "2" for ns in found]


def _sorted_items(task: Task, rows: Sequence[dict]) -> list[str]:
    """Return the items in alphabetical order."""
    return [", ".join(sorted(row["items"], key=str.casefold)) for row in rows]


def _first_words(task: Task, rows: Sequence[dict]) -> list[str]:
    """Return the first fourteen words that are spoken, which is a summary's length."""
    spoken = [re.sub(r"^[^:\n]+: ", "", row["dialogue"], flags=re.MULTILINE) for row in rows]
    return [" ".join(text.split()[:14]) for text in spoken]


def _other_form(task: Task, rows: Sequence[dict]) -> list[str]:
    """Put "will" or "did" in by rule: what a rule of one line can do."""
    return [
        row["text"].replace(" is ", " will be ").replace(" are ", " will be ")
        if row["target"] == "future"
        else row["text"].replace(" is ", " was ").replace(" are ", " were ")
        for row in rows
    ]


def _by_type(task: Task, rows: Sequence[dict]) -> list[str]:
    """Return the most frequent training answer to questions that begin alike."""
    answers: dict[str, Counter] = {}
    for row in task.splits["train"]:
        answers.setdefault(_opening(row), Counter())[completion(task, row)] += 1
    fallback = constant(task)
    return [
        answers[_opening(row)].most_common(1)[0][0] if _opening(row) in answers else fallback
        for row in rows
    ]


def _opening(row: dict) -> str:
    return row["question"].casefold().split()[0]


def _best_sentence(task: Task, rows: Sequence[dict]) -> list[str]:
    """Return what stands in the passage beside most words of the question: the best sentence."""
    return [_nearest_sentence(row["passage"], row["question"]) for row in rows]


def _nearest_sentence(passage: str, question: str) -> str:
    asked = set(re.findall(r"\w+", question.casefold()))
    sentences = re.split(r"(?<=[.!?]) ", passage)
    return max(sentences, key=lambda text: len(asked & set(re.findall(r"\w+", text.casefold()))))


# The best of those that we tried, by kind; labels have character n-grams.
HEURISTICS: dict[str, tuple[str, Callable | None]] = {
    "entities": ("capitalized runs", _capitalized),
    "facts": ("the question's first word", _by_type),
    "instructions": ("–", None),
    "tense": ("swap one form of to be", _other_form),
    "grammar": ("–", None),
    "dialogue": ("the first fourteen words", _first_words),
    "comprehension": ("the sentence that shares most words", _best_sentence),
    "arithmetic": ("difference of the first two numbers", _difference),
    "translation": ("–", None),
    "ordering": ("alphabetical order", _sorted_items),
}
