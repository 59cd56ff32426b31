"""Grade a model's answers on any task, row by row, so that models can be compared in pairs."""

import re
from collections.abc import Sequence

from . import answers, metrics, scoring
from .encoding import token_ids
from .errors import WorkbookError
from .tasks import Task

WORD = re.compile(r"\w+")
LONGEST = 48  # new tokens; the longest summaries have about forty


def score_task(
    model, tokenizer, task: Task, rows: Sequence[dict], template: int | str = 0
) -> list[float]:
    """Return a score between 0 and 1 for each row, by the task's own metric.

    Labels are chosen by log-likelihood; other answers are written greedily, cut at the end of
    their line and graded: exact match, the span F1 or the ROUGE-L of the row.
    """
    template, rows = task.template(template), list(rows)
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
        return metrics.compute("exact_match", [answer], [accepted(row)])["exact_match"]
    if metric == "accuracy":  # to the letter
        return float(answer.strip() in accepted(row))
    if metric == "rouge":
        return metrics.compute("rouge", [answer], [reference(row)])["rougeL"]
    if metric == "span_f1":
        spans = answers.parse_entities(answer)
        truth = {kind: row[kind] for kind in answers.KINDS}
        counts = metrics.span_counts([spans], [truth])
        if not counts.any():  # no names, which the answer has to say in the format asked for
            return float(answers.has_entity_format(answer))
        return metrics.micro_f1(*counts.T)
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


def _words(text: str) -> str:
    """Return the words in lower case with a blank around each, so that `in` finds whole words."""
    return f" {' '.join(WORD.findall(text.lower()))} "
