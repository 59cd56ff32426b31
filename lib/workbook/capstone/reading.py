"""A file of one's own: its encoding, its cells as texts, and what had to be left out.

Everything that was decided for the user is a sentence in `notes`, and the report shows them all.
"""

import codecs
import dataclasses
import io
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import charset_normalizer

from ..errors import WorkbookError
from ..tasks import rows

KOREAN, WESTERN = "cp949", "cp1252"  # what spreadsheets write that do not write UTF-8
NAMES = {
    "utf-8-sig": "UTF-8",
    "utf-16": "UTF-16",
    KOREAN: "Korean (cp949, which holds EUC-KR)",
    WESTERN: "Western European (cp1252)",
}
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars (|)"}
NO_TEXT = re.compile("[\0\ud800-\udfff]")
# Two syllables that differ; in Western texts four such letters never stand together.
KOREAN_WORD = re.compile(rb"([\xb0-\xc8][\xa1-\xfe])(?!\1)[\xb0-\xc8][\xa1-\xfe]")
# What a line of UTF-8 holds, and what a line of these is not by accident: there a capital letter
# and a symbol, as in "É»", or a syllable by itself, have the bytes of one rare letter.
SURELY_UTF8 = {
    WESTERN: r"[\x80-\xff\u0800-\U0010ffff]|[\u0100-\u07ff](?:[a-z]|.*[\u0100-\u07ff])",
    KOREAN: r"[\u0240-\U0010ffff]|[A-Za-z][\x80-\u023f]|[\x80-\u023f][A-Za-z]",
}
BYTE_ORDER_MARKS = (b"\xff\xfe", b"\xfe\xff")


@dataclasses.dataclass
class Table:
    """Rows of texts with their places, and what was found out about their file."""

    name: str
    rows: list[rows.Located]
    columns: list[str]
    notes: list[str]


def read(path: Path, encoding: str | None = None) -> Table:
    """Return the rows of a .csv, .tsv, .jsonl or .parquet file, every cell as a text.

    `encoding` is one of Python's; without it, it is found out. Raises WorkbookError naming the
    file, and the line where one is malformed.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise WorkbookError(f"There is no file {path}: check its name and folder.")
    notes = []
    if path.suffix.lower() in rows.READERS.keys() - {".parquet"}:
        content = _content(path)
        encoding = _known(encoding) if encoding else encoding_of(content, path.name)
        notes.append(f"{path.name} was read as {_form(path, content, encoding)}.")
    located = _without_blanks(rows.read_file(path, encoding or "utf-8-sig"))
    columns = list(dict.fromkeys(name for _, row in located for name in row))
    found = [
        (at, {name: _text(at, name, row.get(name)) for name in columns}) for at, row in located
    ]
    return Table(path.name, found, columns, notes)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise WorkbookError(f"{path} cannot be read, so check it: {error.strerror}.") from error


def _without_blanks(located: list[rows.Located]) -> list[rows.Located]:
    """Return the rows with column names that nobody can mistype, as in "text; label"."""
    if all(name == name.strip() for _, row in located for name in row):
        return located
    return [
        (at, rows.unique([(name.strip(), value) for name, value in row.items()], at))
        for at, row in located
    ]


def _known(encoding: str) -> str:
    """Return an encoding under Python's name, UTF-8 so that a byte order mark is no letter."""
    try:
        b"a".decode(encoding, errors="ignore")  # others of Python's are no encodings of text
        name = codecs.lookup(encoding).name
    except (LookupError, ValueError) as error:
        raise WorkbookError(f"There is no encoding {encoding!r}: try utf-8 or cp949.") from error
    return "utf-8-sig" if name == "utf-8" else name


def _form(path: Path, content: bytes, encoding: str) -> str:
    name = NAMES.get(encoding, encoding)
    if path.suffix.lower() == ".jsonl":
        return name
    header = io.StringIO(content[: 2**16].decode(encoding, errors="ignore"), newline="").readline()
    return f"{name}, with {SEPARATORS[rows.delimiter(header)]} between the columns"


def encoding_of(content: bytes, name: str) -> str:
    """Return the encoding of a file's bytes: UTF-8 where they are that, else the likelier of two.

    Raises WorkbookError, naming the line, for a file that mixes encodings.
    """
    if content.startswith(BYTE_ORDER_MARKS):
        return "utf-16"
    if _decodes(content, "utf-8"):
        return "utf-8-sig"
    lines = [(n, line) for n, line in enumerate(content.split(b"\n"), 1) if not line.isascii()]
    foreign = [n for n, line in lines if not _decodes(line, "utf-8")]
    if 2 * len(foreign) <= len(lines):  # the other lines are UTF-8, which no accident makes
        raise _mixed(name, foreign, "is not UTF-8 and others are")
    _check_korean(lines, name)
    encoding = _guessed(b"\n".join(line for _, line in lines), name)
    others = [
        n for n, line in lines
        if _decodes(line, "utf-8") and re.search(SURELY_UTF8[encoding], line.decode())
    ]  # fmt: skip
    if others:
        raise _mixed(name, others, "is UTF-8 and others are not")
    return encoding


def _check_korean(lines: Sequence[tuple[int, bytes]], name: str) -> None:
    """Raise WorkbookError if some lines are words in cp949 and others cannot be that."""
    korean = [n for n, line in lines if KOREAN_WORD.search(line)]
    foreign = [n for n, line in lines if not _decodes(line, KOREAN) and not _decodes(line, "utf-8")]
    if korean and foreign and len(foreign) <= len(korean):
        raise _mixed(name, foreign, f"is not {NAMES[KOREAN]} and others are")
    if korean and foreign:
        raise _mixed(name, korean, f"is {NAMES[KOREAN]} and others are not")


def _mixed(name: str, where: Sequence[int], what: str) -> WorkbookError:
    return WorkbookError(
        f"{name}:{where[0]}: this line {what}, so the file mixes encodings: write its letters anew "
        "and save the file as UTF-8, or name the encoding of all lines with --encoding."
    )


def _decodes(content: bytes, encoding: str) -> bool:
    try:
        content.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _guessed(content: bytes, name: str) -> str:
    """Return the encoding of the lines that are not plain ASCII."""
    possible = [encoding for encoding in (KOREAN, WESTERN) if _decodes(content, encoding)]
    if len(possible) == 2:  # by what looks like words
        best = charset_normalizer.from_bytes(content[: 2**20], cp_isolation=possible).best()
        possible = [best.encoding] if best else possible
    if not possible:
        raise WorkbookError(
            f"{name} is neither UTF-8 nor {NAMES[KOREAN]} nor {NAMES[WESTERN]}: save it as UTF-8, "
            "or name its encoding with --encoding."
        )
    return possible[0]


def _text(where: str, name: str, value) -> str:
    """Return a cell as a text, a missing one as "". Raises WorkbookError for lists and objects."""
    if isinstance(value, list | dict):
        raise WorkbookError(f"{where}: {name!r} is a list or an object: write it as one text.")
    text = "" if value is None else str(value).strip()
    if NO_TEXT.search(text):
        raise WorkbookError(f"{where}: {name!r} holds a character that is no text: remove it.")
    return text


def check_columns(table: Table, *names: str) -> None:
    """Raise WorkbookError for a column that the file does not have."""
    for name in names:
        if name not in table.columns:
            raise WorkbookError(
                f"{table.name} has no column {name!r}: it has {', '.join(table.columns)}."
            )


def filled(table: Table, *names: str) -> list[rows.Located]:
    """Return the rows in which no cell of these columns is empty; a note tells of the others.

    Raises WorkbookError if they are fewer than half.
    """
    kept = [(at, row) for at, row in table.rows if all(row[name] for name in names)]
    where = {at for at, _ in kept}
    empty = [at for at, _ in table.rows if at not in where]
    if 2 * len(kept) < len(table.rows):
        raise WorkbookError(
            f"{table.name}: {len(empty)} of {len(table.rows)} rows lack {' or '.join(names)}, "
            f"the first at {empty[0]}: fill them, or name other columns."
        )
    if empty:
        table.notes.append(
            f"{counted(len(empty))} left out for an empty {' or '.join(names)} ({places(empty)})."
        )
    return kept


def distinct(table: Table, located: Sequence[rows.Located], text: str, target: str) -> list:
    """Return the rows without those whose text stands there before; notes tell of them."""
    first: dict[str, dict] = {}
    kept, again, other = [], [], []
    for at, row in located:
        if row[text] not in first:
            first[row[text]] = row
            kept.append((at, row))
        else:
            (again if first[row[text]][target] == row[target] else other).append(at)
    if again:
        table.notes.append(f"{counted(len(again))} left out as repetitions ({places(again)}).")
    if other:
        table.notes.append(
            f"{counted(len(other))} left out whose text stands before with another {target} "
            f"({places(other)}): which one is right?"
        )
    return kept


def check_labels(table: Table, counts: Counter, least: int) -> None:
    """Raise WorkbookError for labels that cannot be learned from: one, rare or alike ones."""
    if len(counts) < 2:
        raise WorkbookError(
            f"{table.name}: every row has the label {min(counts)!r}: give rows of another one too."
        )
    for names in _alike(counts):
        raise WorkbookError(
            f"{table.name}: the labels {', '.join(map(repr, names))} differ in nothing but capital "
            "letters: write them alike."
        )
    rare = {label: count for label, count in sorted(counts.items()) if count < least}
    if rare:
        told = ", ".join(f"{label!r} ({counted_rows(count)})" for label, count in rare.items())
        raise WorkbookError(
            f"{table.name}: a label needs {least} different rows, to learn from, to choose by and "
            f"to test with, and fewer have {told}: add rows, or remove or join these labels."
        )


def _alike(labels) -> list[list[str]]:
    groups: dict[str, list[str]] = {}
    for label in sorted(labels):
        groups.setdefault(label.casefold(), []).append(label)
    return [names for names in groups.values() if len(names) > 1]


def counted(count: int) -> str:
    """Return "3 rows were" or "1 row was"."""
    return f"{counted_rows(count)} {'was' if count == 1 else 'were'}"


def counted_rows(count: int) -> str:
    """Return "3 rows" or "1 row"."""
    return f"{count:,} row{'' if count == 1 else 's'}"


def places(where: Sequence[str], most: int = 5) -> str:
    """Return the line numbers of the first few places."""
    lines = ", ".join(at.rpartition(":")[2] for at in where[:most])
    more = ", …" if len(where) > most else ""
    return f"line{'' if len(where) == 1 else 's'} {lines}{more}"
