"""Rows of data: read from files and the hub, checked against the declared fields."""

import csv
import itertools
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import datasets
import pyarrow
import pyarrow.parquet

from ..errors import WorkbookError

MOST = 2**63
LONGEST_CELL = 2**31 - 1  # characters; what csv reads by itself ends at 131,072
DEEPEST = 32  # lists and objects in each other; the library that stores them knows about 60


def _is_text(value) -> bool:
    """Tell whether a value is a text that can be written, which half a surrogate pair cannot."""
    return isinstance(value, str) and not re.search("[\ud800-\udfff]", value)


def _is_whole(value) -> bool:
    return type(value) is int and -MOST <= value < MOST


def _is_number(value) -> bool:
    """Tell whether a value fits into 64 bits; whole numbers may be longer than any of those."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def _is_plain(value, deepest: int = DEEPEST) -> bool:
    """Tell whether a value of any kind can be stored, whatever it holds."""
    if isinstance(value, list | dict):
        inner = value.values() if isinstance(value, dict) else value
        return deepest > 0 and all(_is_plain(each, deepest - 1) for each in inner)
    if isinstance(value, str):
        return _is_text(value)
    return _is_whole(value) if type(value) is int else True


# The kinds of values that data/tasks.yaml may declare: what they are, and how to tell.
FIELD_TYPES = {
    "string": ("a text that is not empty", lambda v: _is_text(v) and bool(v.strip())),
    "any_string": ("a text", lambda v: _is_text(v)),
    "label": ("a label", lambda v: (_is_text(v) or type(v) is int) and bool(str(v).strip())),
    "tag": ("a tag's name or number", lambda v: _is_text(v) or type(v) is int),
    "integer": ("a whole number of at most 64 bits", _is_whole),
    "number": ("a number", _is_number),
    "any": (
        f"text, numbers of at most 64 bits, or lists and objects of these, at most {DEEPEST} deep",
        _is_plain,
    ),
}
DTYPES = {"string": "string", "any_string": "string", "number": "float64"}
DTYPES |= {"integer": "int64", "tag": "int64"}

# A row with the place it came from ("facts.jsonl:12"), for messages.
Located = tuple[str, dict]


def read_file(path: Path, encoding: str = "utf-8-sig") -> list[Located]:
    """Return the located rows of a .jsonl, .csv, .tsv or .parquet file.

    Raises WorkbookError naming the file, and the line where one is malformed.
    """
    suffix = path.suffix.lower()
    if suffix not in READERS:
        raise WorkbookError(f"{path.name}: only {', '.join(READERS)} are read, so convert it.")
    try:
        rows = list(READERS[suffix](path, encoding))
    except (OSError, UnicodeError, pyarrow.ArrowInvalid) as error:
        reason = " ".join(str(error).split())  # Arrow's has many lines
        raise WorkbookError(f"{path.name} cannot be read, so check it: {reason}.") from error
    if not rows:
        raise WorkbookError(f"{path.name} has no rows: fill it or name another file.")
    return rows


def _read_jsonl(path: Path, encoding: str) -> Iterator[Located]:
    # Not splitlines: it also breaks at characters that may stand inside a JSON text.
    for number, line in enumerate(path.read_text(encoding).split("\n"), 1):
        if line.strip():
            yield f"{path.name}:{number}", _parsed(line, f"{path.name}:{number}")


def _parsed(line: str, where: str) -> dict:
    try:
        row = json.loads(line, object_pairs_hook=lambda pairs: unique(pairs, where))
    except (json.JSONDecodeError, RecursionError) as error:
        raise WorkbookError(f"{where}: not valid JSON, mend the line ({error}).") from error
    if not isinstance(row, dict):
        raise WorkbookError(f"{where}: not a JSON object, write the fields inside braces.")
    return row


def unique(pairs: Sequence[tuple[str, object]], where: str) -> dict:
    """Return the named values as a dict; of two with one name, one would be lost.

    Raises WorkbookError with the place, `where`, and the name that stands twice or is no text.
    """
    counts = Counter(name for name, _ in pairs)
    if broken := [name for name in counts if not _is_text(name)]:
        raise WorkbookError(f"{where}: the name {broken[0]!r} is no text, change it.")
    if twice := [name for name, count in counts.items() if count > 1]:
        raise WorkbookError(f"{where}: {twice[0]!r} stands there twice, rename or remove one.")
    return dict(pairs)


def delimiter(header: str) -> str:
    """Return what separates the columns: the comma, or what some spreadsheets write."""
    outside = re.sub(r'"[^"]*"', "", header)
    return max(",;\t|", key=outside.count)  # the first of equals


def _read_csv(path: Path, encoding: str) -> Iterator[Located]:
    csv.field_size_limit(LONGEST_CELL)
    with path.open(encoding=encoding, newline="") as file:
        between = delimiter(file.readline())
        file.seek(0)
        reader = csv.DictReader(file, strict=True, delimiter=between)
        try:
            yield from _csv_rows(reader, path.name)
        except csv.Error as error:
            where = f"{path.name}:{reader.reader.line_num}"  # DictReader counts whole rows
            raise WorkbookError(f"{where}: {error}, mend the quotes there or before.") from error


def _csv_rows(reader: csv.DictReader, name: str) -> Iterator[Located]:
    unique([(column, None) for column in reader.fieldnames or ()], f"{name}:1")
    for row in reader:
        where = f"{name}:{reader.line_num}"
        if None in row or None in row.values():
            count = len(reader.fieldnames)
            raise WorkbookError(f"{where}: mend the line, the header has {count} columns.")
        yield where, row


def _read_parquet(path: Path, encoding: str) -> Iterator[Located]:
    for number, row in enumerate(pyarrow.parquet.read_table(path).to_pylist(), 1):
        yield f"{path.name}:{number}", row


READERS = {".jsonl": _read_jsonl, ".csv": _read_csv, ".tsv": _read_csv, ".parquet": _read_parquet}


def load_hub(name: str, config: str | None, revision: str | None) -> datasets.DatasetDict:
    """Return all splits of a hub dataset, from the cache when offline; else WorkbookError."""
    try:
        return datasets.load_dataset(name, config, revision=revision)
    except Exception as error:  # also of proxies, certificates and missing packages
        reason = " ".join(str(error).split())
        advice = "connect to the internet once, or give path= a local file with the same fields"
        raise WorkbookError(f"{name} is not to be had ({reason}): {advice}.") from error


def located(data: datasets.Dataset, origin: str) -> list[Located]:
    """Return a hub split's located rows, without those whose label is kept secret (-1)."""
    rows = ((f"{origin} {data.split}:{n}", row) for n, row in enumerate(data.to_list(), 1))
    return [(where, row) for where, row in rows if row.get("label") != -1]


def checked(
    where: str,
    row: Mapping,
    fields: Mapping,
    labels: Sequence[str],
    strict: bool,
    tags: Sequence[str] = (),
) -> dict:
    """Return the declared fields of a row, its label as a name, its tags as numbers.

    where    the place of the row, for messages
    fields   the declared fields and their kinds (FIELD_TYPES)
    labels   the names of the labels in the order of their numbers
    strict   admit no other field
    tags     the names of the tags in the order of their numbers

    Raises WorkbookError naming the place and the field that is missing, unknown or wrong.
    """
    extra = set(row) - set(fields)
    if extra and strict:
        raise WorkbookError(f"{where}: unknown field {min(extra)!r}, known: {', '.join(fields)}.")
    for field, kind in fields.items():
        problem = _problem(row[field], kind) if field in row else "is missing"
        if problem:
            raise WorkbookError(f"{where}: field {field!r} {problem}, mend the row.")
    named = {"label": _label(row["label"], labels, where)} if fields.get("label") == "label" else {}
    tagged = {field: _tags(row[field], tags, where) for field, k in fields.items() if k == ["tag"]}
    return {field: row[field] for field in fields} | named | tagged


def _problem(value, kind) -> str | None:
    """Say what is wrong with a value of a kind: a name in FIELD_TYPES, [kind] or {key: kind}."""
    if isinstance(kind, list):
        good = isinstance(value, list)
        return _first(_problem(v, kind[0]) for v in value) if good else "must be a list"
    if isinstance(kind, dict):
        good = isinstance(value, dict) and kind.keys() <= value.keys()
        inner = (_problem(value[key], kind[key]) for key in kind)
        return _first(inner) if good else f"must be an object with {', '.join(kind)}"
    description, fits = FIELD_TYPES[kind]
    return None if fits(value) else f"must be {description}"


def _first(problems: Iterable[str | None]) -> str | None:
    return next(filter(None, problems), None)


def _label(value: str | int, labels: Sequence[str], where: str) -> str:
    """Return the label's name, given by name or by number."""
    numbered = {str(number): name for number, name in enumerate(labels)}
    name = str(value).strip()
    if name in labels or name in numbered:
        return name if name in labels else numbered[name]
    raise WorkbookError(f"{where}: label {name!r} must be one of {', '.join(labels)}.")


def _tags(values: Sequence[str | int], names: Sequence[str], where: str) -> list[int]:
    """Return the numbers of the tags, given by number or by name."""
    numbers = {name: number for number, name in enumerate(names)}
    known = numbers | {number: number for number in numbers.values()}
    if unknown := [value for value in values if value not in known]:
        raise WorkbookError(f"{where}: tag {unknown[0]!r} must be one of {', '.join(names)}.")
    return [known[value] for value in values]


def to_datasets(
    parts: Mapping[str, Sequence[dict]], fields: Mapping, labels: Sequence[str]
) -> datasets.DatasetDict:
    """Return checked rows as datasets of one schema, labels as ClassLabel.

    Raises WorkbookError when the values of an undeclared column have no common type.
    """
    features = datasets.Features(
        {name: _feature(kind, labels) for name, kind in fields.items() if kind != "any"}
        | _inferred(parts, [name for name, kind in fields.items() if kind == "any"])
    )
    columns = {
        split: {name: [_stored(row[name], features[name]) for row in part] for name in fields}
        for split, part in parts.items()
    }
    return datasets.DatasetDict(
        {split: datasets.Dataset.from_dict(c, features) for split, c in columns.items()}
    )


def _inferred(parts: Mapping[str, Sequence[dict]], names: Sequence[str]) -> dict:
    every = list(itertools.chain.from_iterable(parts.values()))
    return {name: _type_of(name, [row[name] for row in every]) for name in names}


def _type_of(name: str, values: Sequence):
    try:
        return datasets.Dataset.from_dict({name: values}).features[name]
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError) as error:
        raise WorkbookError(f"The column {name!r} mixes types, give it one: {error}.") from error


def _stored(value, feature):
    return feature.str2int(value) if isinstance(feature, datasets.ClassLabel) else value


def _feature(kind, labels: Sequence[str]):
    if isinstance(kind, list):
        return datasets.List(_feature(kind[0], labels))
    if isinstance(kind, dict):
        return {key: _feature(inner, labels) for key, inner in kind.items()}
    if kind == "label":
        return datasets.ClassLabel(names=list(labels))
    return datasets.Value(DTYPES[kind])
