"""Results as JSON, as tables, and in pairs on the same questions."""

import datetime
import importlib.metadata
import json
import platform
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.markup import escape
from rich.table import Table

from .. import metrics, settings
from ..errors import WorkbookError
from ..files import atomic_path
from .evaluation import Result
from .loading import Benchmark
from .registry import find

FORMAT = 1  # of the file; a change that older code cannot read gets another number
PACKAGES = ("torch", "transformers", "tokenizers")


class Pair(NamedTuple):
    """Two models' means on the questions that both were asked, and their difference."""

    questions: int
    first: float
    second: float
    difference: metrics.Interval


def requested(text: str) -> list[tuple[str, str | None]]:
    """Return the names in a text such as "arc_easy,hellaswag=mine.jsonl", each with its file.

    Raises WorkbookError for an unknown name and for one that stands there twice.
    """
    parts = [part.strip().partition("=") for part in text.split(",")]
    for name, *_ in parts:
        find(name)
    twice = [name for name, count in Counter(name for name, *_ in parts).items() if count > 1]
    if twice:
        raise WorkbookError(f"{twice[0]} is named twice: ask it once, with or without a file.")
    return [(name, file or None) for name, _, file in parts]


def record(model: str, results: Iterable[Result]) -> dict:
    """Return what is kept of results: scores question by question, with the circumstances."""
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {
        "format": FORMAT,
        "model": model,
        "machine": settings.machine(),
        "versions": {"python": platform.python_version()} | versions,
        "made": datetime.date.today().isoformat(),
        "benchmarks": {result.benchmark.name: _entry(result) for result in results},
    }


def _entry(result: Result) -> dict:
    benchmark = result.benchmark
    groups = {metric: result.by_group(metric) for metric in benchmark.metrics}
    return {
        "title": benchmark.title,
        "source": benchmark.source,
        "num_shots": benchmark.num_shots,
        "chance": benchmark.chance,
        "metrics": result.summary(),
        "groups": groups if {*benchmark.shots} != {""} else {},
        "questions": _questions(result),
    }


def _questions(result: Result) -> list[dict]:
    """Return each question's id, log-likelihoods (nats, to five digits) and scores."""
    benchmark = result.benchmark
    values = {metric: result.values(metric).tolist() for metric in benchmark.metrics}
    return [
        {"id": question.id, "log_likelihoods": [round(score, 5) for score in scores]}
        | {metric: each[i] for metric, each in values.items()}
        for i, (question, scores) in enumerate(zip(benchmark.questions, result.scores, strict=True))
    ]


def write(path: Path, content: dict) -> None:
    """Write a record as JSON, whole or not at all."""
    with atomic_path(path) as draft:
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
        draft.write_text(text + "\n", encoding="utf-8")


def read(path: Path) -> dict:
    """Return a record that `write` wrote; WorkbookError for any other file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WorkbookError(
            f"{path.name} cannot be read, so name another file: {error}."
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise WorkbookError(
            f"{path.name} is no result of `workbook evaluate`, or of an older one: make it again "
            f"with `workbook evaluate --out {path.name}`."
        )
    return content


def check_pairs(benchmarks: Iterable[Benchmark], other: Mapping) -> None:
    """Raise WorkbookError where another record has no question of a benchmark in common."""
    for benchmark in benchmarks:
        entry = other["benchmarks"].get(benchmark.name, {"questions": []})
        known = {question["id"] for question in entry["questions"]}
        if not known.intersection(question.id for question in benchmark.questions):
            has = ", ".join(other["benchmarks"]) or "nothing"
            raise WorkbookError(
                f"There is no question of {benchmark.name} to compare: the other file has {has}, "
                "so name benchmarks and files that both were asked."
            )


def compare(first: Mapping, second: Mapping) -> dict[tuple[str, str], Pair]:
    """Return the first record's scores less the second's, by benchmark and metric.

    Only the questions that both were asked count. The interval is `metrics.paired_interval`: it is
    about these two models on other questions, not about other training runs (Miller 2024,
    arXiv:2411.00640). Raises WorkbookError for fewer than two common questions.
    """
    return {
        (name, metric): _pair(entry, second["benchmarks"][name], metric)
        for name, entry in first["benchmarks"].items()
        if name in second["benchmarks"]
        for metric in entry["metrics"]
    }


def _pair(first: Mapping, second: Mapping, metric: str) -> Pair:
    theirs = {question["id"]: question[metric] for question in second["questions"]}
    both = [(q[metric], theirs[q["id"]]) for q in first["questions"] if q["id"] in theirs]
    a, b = np.array(both).reshape(-1, 2).T
    return Pair(len(both), a.mean(), b.mean(), metrics.paired_interval(a, b))


def table(content: Mapping) -> Table:
    """Return a record as a table: means with their standard errors, and what chance would give."""
    return _table(
        ["benchmark", "shots", "questions", "metric", "chance", content["model"], "± s.e."],
        (
            [
                name, entry["num_shots"], len(entry["questions"]), metric,
                f"{entry['chance']:.3f}", f"{found['value']:.3f}", _legible(found["stderr"]),
            ]
            for name, entry in content["benchmarks"].items()
            for metric, found in entry["metrics"].items()
        ),
    )  # fmt: skip


def comparison(first: Mapping, second: Mapping) -> Table:
    """Return two records as a table: means on the common questions, and their difference."""
    shots = [{n: e["num_shots"] for n, e in r["benchmarks"].items()} for r in (first, second)]
    return _table(
        ["benchmark", "shots", "questions", "metric", first["model"], second["model"],
         "difference [95 %]"],
        (
            [
                name, " and ".join(dict.fromkeys(str(each[name]) for each in shots)),
                pair.questions, metric, f"{pair.first:.3f}", f"{pair.second:.3f}",
                "{:+z.3f} [{:+z.3f}, {:+z.3f}]".format(*pair.difference),
            ]
            for (name, metric), pair in compare(first, second).items()
        ),
    )  # fmt: skip


def _table(header: Sequence[str], lines: Iterable[Sequence]) -> Table:
    made = Table(*map(escape, header))
    for column in made.columns[1:]:
        column.justify = "right"
    for line in lines:
        made.add_row(*(escape(str(cell)) for cell in line))
    return made


def _legible(stderr: float | None) -> str:
    return "–" if stderr is None else f"{stderr:.3f}"
