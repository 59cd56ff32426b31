"""Grade a model's answers on any task, row by row, so that models can be compared in pairs."""

import re
from collections.abc import Sequence

from . import metrics, scoring
from .encoding import token_ids
from .errors import WorkbookError
from .tasks import Task

ENTITY_TYPES = ("people", "places", "organizations")
_FIELD = re.compile(rf"\b({'|'.join(ENTITY_TYPES)})[ \t]*:([^;\n]*)", re.IGNORECASE)
# A number keeps its sign and its point: 1.5 is not 15, nor -3 the same as 3.
WORD = re.compile(r"(?<!\w)-?\d+(?:[.,/:]\d+)*|\w+")
LONGEST = 48  # new tokens; the longest summaries have about forty


def score_task(
    model, tokenizer, task: Task, rows: Sequence[dict], template: int | str = 0
) -> list[float]:
    """Return a score between 0 and 1 for each row, by the task's own metric.

    Labels are chosen by log-likelihood; other answers are written greedily, cut at the end of
    their line and graded: exact match, the span F1 or the ROUGE-L of the row.
    """
    template, rows = task.template(template), list(rows)
    if not rows:
        return []
    pairs = [template.render(row) for row in rows]
    prompts = [pair.prompt for pair in pairs]
    with scoring.working_copy(model) as working:
        if task.labels:
            labels = template.choices(rows[0]) or task.labels
            found = scoring.classify(working, tokenizer, prompts, labels).predictions
            return [float(label == row["label"]) for label, row in zip(found, rows, strict=True)]
        longest = max(len(token_ids(tokenizer, pair.completion)) for pair in pairs)
        limit = min(longest + 4, LONGEST)
        texts = scoring.generate(working, tokenizer, prompts, max_new_tokens=limit, batch_size=64)
    return [grade(task.metric, t.split("\n")[0], r) for t, r in zip(texts, rows, strict=True)]


def grade(metric: str, answer: str, row: dict) -> float:
    """Return the score of one written answer, between 0 and 1, by the name of the task's metric.

    Raises WorkbookError for a metric that has no grade of its own here.
    """
    if metric == "exact_match":
        is_foreign = row.get("language", "English") != "English"  # its "a" is another word
        return float(metrics.exact_match(answer, accepted(row), articles=is_foreign))
    if metric == "accuracy":  # to the letter
        return float(answer.strip() in accepted(row))
    if metric == "rouge":
        return float(metrics.rouge(answer, reference(row))["rougeL"].fmeasure)
    if metric == "span_f1":
        spans = parse_entities(answer)
        truth = {kind: row[kind] for kind in ENTITY_TYPES}
        counts = metrics.span_counts([spans], [truth])
        if not counts.any():  # no names, which the answer has to say in the format asked for
            return float(has_entity_format(answer))
        return metrics.micro_f1(*counts.T)
    raise WorkbookError(f"There is no grade for the metric {metric!r}: compute it over all rows.")


def grade_freely(metric: str, answer: str, row: dict) -> float:
    """Return the score of one written answer in any form, between 0 and 1, by its metric's name.

    An accepted answer may stand anywhere, in any case (exact match, accuracy); of a free text the
    words of the reference are looked for in their order (recall of ROUGE-L, so longer answers have
    it easier: look at their length too); of names the share found counts, less the share of the
    sentence's other words, so that repeating the sentence is worth nothing. `grade` is the strict
    reading.
    """
    if metric in ("exact_match", "accuracy"):
        return contains(answer, accepted(row))
    if metric == "rouge":
        return float(metrics.rouge(answer, reference(row))["rougeL"].recall)
    if metric == "span_f1":
        return names_found(
            answer, [name for kind in ENTITY_TYPES for name in row[kind]], row["text"]
        )
    raise WorkbookError(f"There is no grade for the metric {metric!r}: compute it over all rows.")


def accepted(row: dict) -> list[str]:
    """Return the answers that count as right."""
    return [row["answer"], *row.get("aliases", [])]


def reference(row: dict) -> str:
    """Return the good answer that a free text is compared with."""
    return row["summary"] if "summary" in row else row["output"]


def contains(answer: str, texts: Sequence[str]) -> float:
    """Return 1.0 if the answer holds one of the texts as whole words, else 0.0."""
    words = _words(answer)
    return float(any(_words(text) in words for text in texts))


def name_f1(answer: str, names: Sequence[str]) -> float:
    """Return the F1 of the names' words among the answer's capitalized words.

    It does not ask for any format: a list and a sentence are read alike, and a word that is
    repeated counts once. Both without a name score 1.
    """
    got, true = _capitalized(answer), _capitalized(" ".join(names))
    return metrics.micro_f1(len(got & true), len(got), len(true)) if got or true else 1.0


def _capitalized(text: str) -> set[str]:
    return {word for word in re.findall(r"\w[\w'’-]*", text) if word[0].isupper()}


def names_found(answer: str, names: Sequence[str], text: str) -> float:
    """Return the share of the names' words in the answer, less that of the text's other words.

    Case and form do not matter, a repeated word counts once, and it is 0 at least. Where there are
    no names, an answer without a word of the text scores 1.
    """
    got, true, every = (_word_set(each) for each in (answer, " ".join(names), text))
    others = every - true
    if not true:
        return float(not got & others)
    return max(0.0, len(got & true) / len(true) - len(got & others) / max(1, len(others)))


def _word_set(text: str) -> set[str]:
    return set(WORD.findall(text.casefold()))


def _words(text: str) -> str:
    """Return the words in lower case with a blank around each, so that `in` finds whole words."""
    return f" {' '.join(WORD.findall(text.casefold().replace('−', '-')))} "


def parse_entities(text: str) -> dict[str, list[str]]:
    """Return the names in an answer like "people: A, B; places: none; organizations: C", by kind.

    Kinds may come in any order, on one line or several; a kind that is missing, or is "none", has
    no names. Of a kind that comes twice the first counts, so that a model that runs on past its
    answer is not punished for it.
    """
    found: dict[str, list[str]] = {}
    for kind, names in _FIELD.findall(text):
        found.setdefault(kind.lower(), _names(names))
    return {kind: found.get(kind, []) for kind in ENTITY_TYPES}


def has_entity_format(text: str) -> bool:
    """Tell whether an answer names each of the three kinds, so that it can be read as asked."""
    return {kind.lower() for kind, _ in _FIELD.findall(text)} == set(ENTITY_TYPES)


def _names(text: str) -> list[str]:
    """Return the names of a comma-separated list, each once."""
    names = (name.strip().rstrip(".") for name in text.split(","))
    return list(dict.fromkeys(name for name in names if name and name.lower() != "none"))
