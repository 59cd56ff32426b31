"""What is known of each task before its rows are read: the entries of `data/tasks.yaml`."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from .. import settings
from ..errors import WorkbookError

# Shares held out of rows that come without splits and sizes of their own.
HELD_OUT = {"test": 0.2, "validation": 0.1}


@dataclass(frozen=True, kw_only=True)
class TaskSpec:
    """An entry of the registry; None is what the rows have to tell (`completed`).

    section     "reviews", "authored" or "hub"
    fields      the columns and their kinds, as in `rows.FIELD_TYPES`
    labels      names in the order of their numbers; empty where the answer is free text
    tags        names of the tags of words, in the order of their numbers
    dedup       the fields whose text decides whether two rows are near-duplicates
    stratify    the fields whose values all splits hold in proportion
    together    rows that agree in these fields go into one split
    held_out    rows to hold out, by split; "all" for a file that is a test set as a whole
    columns     theirs to ours; `splits` maps ours to theirs
    """

    name: str
    section: str
    title: str
    licence: str = "see its source"
    source: str | None = None
    fields: Mapping | None = None
    labels: Sequence[str] = ()
    tags: Sequence[str] = ()
    dedup: Sequence[str] | None = None
    stratify: Sequence[str] = ("label",)
    together: Sequence[str] | None = None
    held_out: Mapping[str, int] = field(default_factory=dict)
    is_test_set: bool = False
    metric: str | None = None
    templates: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    splits: Mapping[str, str] | None = None
    domain: str | None = None
    file: str | None = None
    id: str | None = None
    config: str | None = None
    revision: str | None = None

    def completed(self, rows: Sequence[Mapping]) -> "TaskSpec":
        """Return the entry with what it leaves open filled in from its rows."""
        kinds = {"text": "string", "label": "label"}
        # Of all rows: a column that only later ones have would be lost.
        columns = dict.fromkeys(column for row in rows for column in row)
        fields = self.fields or {column: kinds.get(column, "any") for column in columns}
        has_label = "label" in fields
        inputs = [name for name in fields if name != "label"]
        open_ones = {
            "fields": fields,
            "metric": "accuracy" if has_label else "rouge",
            "templates": "classification" if has_label else None,
            "dedup": ["text"] if "text" in inputs else inputs,
        }
        known = {name: value for name, value in vars(self).items() if value is not None}
        labels = self.labels
        if has_label and not labels:
            labels = sorted({str(row.get("label")).strip() for row in rows})
        return dataclasses.replace(self, **(open_ones | known | {"labels": tuple(labels)}))

    def sizes(self, present: Mapping[str, int], is_own: bool) -> dict[str, int]:
        """Return how many rows to carve for each missing split: as declared, else a share.

        `present` counts the rows of each split; `is_own` tells whether they are the task's own
        rows, for which the declared sizes are meant. Raises WorkbookError for too few rows.
        """
        # A benchmark is not split up, unless its entry says how.
        shares = {} if self.is_test_set else HELD_OUT
        total = present.get("train", 0)
        sizes = {split: round(share * total) for split, share in shares.items()}
        sizes |= self.held_out if is_own else {}
        sizes = {split: size for split, size in sizes.items() if split not in present}
        if total and sum(sizes.values()) >= total:
            raise WorkbookError(f"{self.source}: {total} distinct rows are too few, add some.")
        return sizes if total else {}


def task_names() -> tuple[str, ...]:
    """Return the names of all registered tasks."""
    return tuple(_entries())


def find(name: str, has_path: bool = False) -> TaskSpec:
    """Return the registry's entry, or a bare one for a hub id or for a file under a new name."""
    entry = _entries().get(name)
    if entry is not None:
        return _spec(name, entry)
    if not has_path and "/" not in name:
        known = ", ".join(task_names())
        raise WorkbookError(f"Unknown task {name!r}: choose of {known}, or a hub id owner/name.")
    hub_id, _, config = name.partition(":")
    return TaskSpec(name=name, section="hub", title=name, id=hub_id, config=config or None)


def fingerprint(name: str) -> str:
    """Return a hash of what decides over a task's rows and wordings: entry, rows, templates.

    Rows that are fetched are pinned elsewhere. A name that is no longer there has the hash "".
    """
    entry, data = _entries().get(name), settings.repo_root() / "data"
    if entry is None:
        return ""
    files = [data / "templates" / f"{entry.get('templates', name)}.yaml"]
    files += [data / entry["file"]] if "file" in entry else []
    digest = hashlib.sha256(json.dumps(entry, sort_keys=True).encode())
    for file in files:
        digest.update(file.read_bytes() if file.exists() else b"missing")
    return digest.hexdigest()[:16]


def _spec(name: str, entry: Mapping) -> TaskSpec:
    entry = {"templates": name, **entry}
    test = entry.pop("test", None)
    held_out = {} if test in (None, "all") else {"test": test}
    held_out |= {"validation": entry.pop("validation")} if "validation" in entry else {}
    stratify = entry.pop("stratify", "label")
    stratify = [stratify] if isinstance(stratify, str) else stratify
    return TaskSpec(
        name=name, held_out=held_out, is_test_set=test == "all", stratify=stratify, **entry
    )


def _entries() -> dict[str, dict]:
    path = settings.repo_root() / "data" / "tasks.yaml"
    return _read(path, path.stat().st_mtime_ns if path.exists() else 0)


@functools.lru_cache(maxsize=4)
def _read(path: Path, changed: int) -> dict[str, dict]:
    try:
        sections = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise WorkbookError(f"data/tasks.yaml cannot be read, so restore it: {error}.") from error
    return {
        name: {"section": section, **entry}
        for section, entries in sections.items()
        for name, entry in entries.items()
    }
