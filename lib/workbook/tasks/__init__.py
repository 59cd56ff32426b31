"""Tasks: rows in disjoint splits, with labels, a metric and templates, from every source."""

import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import datasets

from .. import settings
from ..errors import WorkbookError
from ..templates import Template, literal_choices, load_templates
from . import registry, reviews, rows, splits
from .registry import TaskSpec, fingerprint, task_names

__all__ = [
    "SPLITS", "Task", "draw", "fingerprint", "load_task", "loaded", "note_loaded", "task_names",
]  # fmt: skip

SPLITS = ("train", "validation", "test")
_loaded: dict[str, str] = {}


@dataclass(frozen=True)
class Task:
    """Everything an experiment needs to know about a task.

    `splits` always has train, validation and test, some perhaps empty; `labels` are in the order
    of the numbers in the column `label`, and empty when the answer is free text.
    """

    name: str
    title: str
    splits: datasets.DatasetDict
    labels: tuple[str, ...]
    metric: str
    templates: tuple[Template, ...]
    source: str
    licence: str

    def template(self, which: int | str = 0) -> Template:
        """Return a template by position or name; else WorkbookError lists the names."""
        for position, template in enumerate(self.templates):
            if which in (position, template.name):
                return template
        names = ", ".join(template.name for template in self.templates) or "none"
        raise WorkbookError(f"Task {self.name!r} has no template {which!r}, it has: {names}.")


def load_task(
    name: str,
    *,
    path: Path | str | Mapping[str, Path | str] | None = None,
    columns: Mapping[str, str] | None = None,
) -> Task:
    """Return a task of the registry (`data/tasks.yaml`), a hub dataset, or a file of your own.

    `name` is a registered name or a hub id ("owner/name", "owner/name:config"). `path` is a
    .jsonl, .csv, .tsv or .parquet file, or {split: file}, to be read in place of the task's own
    rows; then `name` may be new: columns `text` and `label` make a classification task. `columns`
    renames those of the file, as in {"review": "text"}.
    No row is a near-duplicate of another, published test splits apart, which stay as they are.
    Raises WorkbookError for an unknown task, a malformed row (file and line), no connection.
    """
    spec = registry.find(name, has_path=path is not None)
    if path is None:
        note_loaded(name)
    if spec.section == "reviews" and path is None:
        spec = replace(spec, fields=reviews.FIELDS, source=reviews.SOURCE)
        return _task(spec, reviews.load_splits(spec.domain, spec.labels))
    spec, located = _read(spec, path)
    _check_columns(columns or {}, located, spec.source)
    spec = replace(spec, columns={**spec.columns, **(columns or {})})
    spec, checked = _checked(spec, located)
    distinct = splits.drop_near_duplicates(checked, spec.dedup)
    return _task(spec, _carved(spec, distinct, is_own=path is None))


def note_loaded(name: str) -> None:
    """Note that this process has loaded a registered task, for what is kept of its results."""
    _loaded[name] = fingerprint(name)


def loaded() -> dict[str, str]:
    """Return the registered tasks that this process has loaded, with their fingerprints."""
    return dict(sorted(_loaded.items()))


def draw(
    dataset: datasets.Dataset, n: int, seed: int = 0, balanced_by: str = "label"
) -> datasets.Dataset:
    """Return n random rows, spread over the values of a column as evenly as they go.

    Draws of one seed are nested: the draw of 50 is the first half of the draw of 100. Without
    such a column all rows count alike. Raises WorkbookError when there are fewer than n rows, and
    for a negative n.
    """
    if not 0 <= n <= len(dataset):
        raise WorkbookError(f"{n} rows asked of a dataset of {len(dataset)}: ask for 0 up to that.")
    rng, groups = random.Random(seed), defaultdict(list)
    named = balanced_by in dataset.column_names
    for index, value in enumerate(dataset[balanced_by] if named else [0] * len(dataset)):
        groups[value].append(index)
    for group in groups.values():
        rng.shuffle(group)
    turns = ([i for i in turn if i is not None] for turn in itertools.zip_longest(*groups.values()))
    # Each turn is shuffled too, else the labels would alternate.
    order = itertools.chain.from_iterable(rng.sample(turn, len(turn)) for turn in turns)
    return dataset.select(list(order)[:n])


def _read(spec: TaskSpec, path) -> tuple[TaskSpec, dict[str, list[rows.Located]]]:
    """Return the located rows by split, and the entry with their source."""
    if path is None and spec.section == "hub":
        return _read_hub(spec)
    if path is None:
        path = settings.repo_root() / "data" / spec.file
        spec = replace(spec, source=f"data/{spec.file}")
    # Rows without a split of their own are train, or all test.
    whole = "test" if spec.is_test_set else "train"
    files = path if isinstance(path, Mapping) else {whole: path}
    if not files or set(files) - set(SPLITS):
        raise WorkbookError(
            f"path= has the keys {', '.join(files) or None}: use {', '.join(SPLITS)}."
        )
    source = spec.source or ", ".join(Path(file).name for file in files.values())
    located = {split: rows.read_file(Path(file).expanduser()) for split, file in files.items()}
    return replace(spec, source=source), located


def _read_hub(spec: TaskSpec) -> tuple[TaskSpec, dict[str, list[rows.Located]]]:
    data = rows.load_hub(spec.id, spec.config, spec.revision)
    ours = {split: split for split in SPLITS if split in data} or {"train": next(iter(data))}
    ours = spec.splits or ours
    label = data[ours[min(ours)]].features.get("label")
    labels = spec.labels or getattr(label, "names", ())
    located = {split: rows.located(data[theirs], spec.id) for split, theirs in ours.items()}
    return replace(spec, source=spec.id, labels=labels), located


def _check_columns(columns: Mapping[str, str], groups: Mapping, source: str) -> None:
    """Raise WorkbookError for a column to be renamed that no row has."""
    there = dict.fromkeys(name for located in groups.values() for _, row in located for name in row)
    if unknown := [name for name in columns if name not in there]:
        raise WorkbookError(
            f"{source} has no column {unknown[0]!r} for columns=: it has {', '.join(there)}."
        )


def _checked(spec: TaskSpec, groups: Mapping) -> tuple[TaskSpec, dict[str, list[dict]]]:
    """Return the checked rows under our column names, and the entry with nothing left open."""
    renamed = {
        split: [(at, _renamed(spec.columns, row, at)) for at, row in located]
        for split, located in groups.items()
    }
    spec = spec.completed([row for located in renamed.values() for _, row in located])
    if spec.templates == "classification" and "text" not in spec.fields:
        raise WorkbookError(
            f"{spec.source} has the columns {', '.join(spec.fields)}, and none is called 'text': "
            "say which it is with columns={'its name': 'text'}."
        )
    rules = spec.fields, spec.labels, spec.section == "authored", spec.tags
    return spec, {
        s: [rows.checked(*each, *rules) for each in found] for s, found in renamed.items()
    }


def _renamed(columns: Mapping[str, str], row: Mapping, where: str) -> dict:
    """Return a row under our names. Raises WorkbookError where two columns would have one."""
    return rows.unique([(columns.get(name, name), value) for name, value in row.items()], where)


def _carved(spec: TaskSpec, parts: dict[str, list[dict]], is_own: bool) -> dict[str, list[dict]]:
    """Carve the splits that are missing out of train."""
    sizes = spec.sizes({split: len(part) for split, part in parts.items()}, is_own)
    if not sizes:
        return parts
    # Rows that agree in `together` stay neighbours, so that a split does not part them.
    pool = splits.shuffled(parts["train"], spec.together or spec.dedup)
    strata = Counter(splits.stratum(row, spec.stratify) for row in pool)
    quotas = {split: splits.proportional(strata, size) for split, size in sizes.items()}
    carved = splits.stratified_split(pool, spec.stratify, quotas)
    if "label" in spec.fields:
        _check_labels(spec, carved["train"], pool)
    return parts | carved


def _check_labels(spec: TaskSpec, train: Sequence[dict], pool: Sequence[dict]) -> None:
    """Raise WorkbookError for a label whose few rows were all held out."""
    lost = Counter(row["label"] for row in pool)
    for row in train:
        lost.pop(row["label"], None)
    if lost:
        label, count = min(lost.items())
        raise WorkbookError(
            f"{spec.source}: the label {label!r} has {count} row(s), and none is left to "
            "learn from: add rows, or give path= files for train, validation and test."
        )


def _task(spec: TaskSpec, parts: Mapping[str, list[dict]]) -> Task:
    every = {split: parts.get(split, []) for split in SPLITS}
    made = rows.to_datasets(every, spec.fields, spec.labels)
    told = {key: getattr(spec, key) for key in ("name", "title", "metric", "source", "licence")}
    labels = tuple(spec.labels)
    return Task(splits=made, labels=labels, templates=_templates(spec.templates, labels), **told)


def _templates(name: str | None, labels: Sequence[str]) -> tuple[Template, ...]:
    if name is None:
        return ()
    templates = load_templates(settings.repo_root() / "data" / "templates" / f"{name}.yaml")
    # Templates for tasks not known beforehand leave their choices open.
    choices = literal_choices(labels) or None
    return tuple(t if t.answer_choices else replace(t, answer_choices=choices) for t in templates)
