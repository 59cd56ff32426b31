"""The other editions of the course's text: a record a cell, with the hash of the English one.

Code, outputs and numbers are never translated. A cell whose English has changed since shows the
English, with a mark.
"""

import difflib
import functools
import hashlib
import itertools
import re
import textwrap
from pathlib import Path
from typing import NamedTuple

import yaml

from . import settings
from .errors import WorkbookError

CHANGED = "The English text of this part has changed; its translation is being renewed."
UNTRANSLATED = "This notebook has not been translated yet."
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?")


class Record(NamedTuple):
    """The hash of an English cell, its translation, and the glossary's terms that it may avoid."""

    english: str
    korean: str
    free: tuple[str, ...] = ()


def folder(language: str) -> Path:
    """Return where the records of a language are."""
    return settings.notebooks_dir() / "source" / language


def path(source: Path, language: str) -> Path:
    """Return the file of records of a notebook; it need not exist."""
    return folder(language) / f"{source.stem}.yaml"


def digest(text: str) -> str:
    """Return the hash of an English text as records carry it: twelve hexadecimal digits."""
    return hashlib.sha256(text.strip().encode()).hexdigest()[:12]


def records(file: Path) -> list[Record]:
    """Return the records of a file in its order, [] where there is no file.

    Raises WorkbookError that names the file and the record where one is malformed.
    """
    if not file.exists():
        return []
    try:
        rows = yaml.safe_load(file.read_text(encoding="utf-8"))
        return [_record(row, f"{file.name}, record {i}") for i, row in enumerate(rows, 1)]
    except (yaml.YAMLError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise WorkbookError(f"{file.name} cannot be read as a list of records: {reason}.") from None


def _record(row, place: str) -> Record:
    is_complete = isinstance(row, dict) and {"english", "korean"} <= set(row) <= set(Record._fields)
    texts = [row["english"], row["korean"], *row.get("free", ())] if is_complete else [None]
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise WorkbookError(
            f"{place}: give it `english` and `korean` as texts, and `free` at most."
        )
    return Record(row["english"], row["korean"].strip(), tuple(row.get("free", ())))


def pair(texts: list[str], kept: list[Record]) -> list[tuple[str | None, Record | None]]:
    """Return each English text with its record, in order; None stands for what is missing.

    A record whose hash differs is paired with the text at its place: it is stale. A text that was
    moved has its record at the old place: one is missing and one is orphaned.
    """
    hashes, known = [digest(text) for text in texts], [record.english for record in kept]
    matcher = difflib.SequenceMatcher(None, hashes, known, autojunk=False)
    pairs = []
    for _, a, b, c, d in matcher.get_opcodes():
        length = max(b - a, d - c)
        pairs += zip(_filled(texts[a:b], length), _filled(kept[c:d], length), strict=True)
    return pairs


def _filled(items: list, length: int) -> list:
    return [*items, *[None] * (length - len(items))]


def is_stale(text: str, record: Record) -> bool:
    """Tell whether the English has changed since it was translated."""
    return record.english != digest(text)


def translated(texts: list[str], kept: list[Record]) -> list[str | None]:
    """Return the translation of each text, None where it is missing or stale."""
    pairs = [(text, record) for text, record in pair(texts, kept) if text is not None]
    return [r.korean if r and not is_stale(text, r) else None for text, r in pairs]


def in_language(texts: list[str], file: Path, language: str) -> list[str]:
    """Return each text in a language by a file of records, else the English with a mark below."""
    found = zip(texts, translated(texts, records(file)), strict=True)
    return [other or text + _mark(CHANGED, language) for text, other in found]


def skeleton(texts: list[str], file: Path) -> str:
    """Return records to fill in for the texts that a file lacks or holds in an older wording.

    Each stands below its English as a comment; where there was a translation, it is given.
    """
    pairs = pair(texts, records(file))
    open_ones = [(t, r) for t, r in pairs if t is not None and (r is None or is_stale(t, r))]
    return "\n".join(_draft(text, record) for text, record in open_ones)


def _draft(text: str, record: Record | None) -> str:
    comment = textwrap.indent(text, "# ", lambda line: True)
    korean = textwrap.indent(record.korean if record else "…", "    ")
    return f'{comment}\n- english: "{digest(text)}"\n  korean: |\n{korean}\n'


def apply(cells, source: Path, language: str) -> None:
    """Put the translation in place of the English text, cell by cell.

    Where it is missing or stale the English stays, with a mark below; a notebook without any
    records has one mark, in its first cell.
    """
    texts = [cell for cell in cells if cell.cell_type == "markdown"]
    if language == "en" or not texts:
        return
    if not records(file := path(source, language)):
        texts[0].source += _mark(UNTRANSLATED, language)
        return
    found = in_language([cell.source for cell in texts], file, language)
    for cell, text in zip(texts, found, strict=True):
        cell.source = text


def _mark(phrase: str, language: str) -> str:
    return f'\n\n<blockquote lang="{language}">{say(phrase, language)}</blockquote>'


def say(phrase: str, language: str) -> str:
    """Return a phrase of the course's pages in a language.

    Raises WorkbookError where the catalogue of phrases lacks it.
    """
    if language == "en":
        return phrase
    if phrase not in (known := phrases(language)):
        place = f"notebooks/source/{language}/interface.yaml"
        raise WorkbookError(f"{place} has no translation of {phrase!r}: add one.")
    return known[phrase]


def say_measured(sentence: str, language: str) -> str:
    """Return a sentence with measured numbers in a language, or in English where that is missing.

    The catalogue of phrases has it as `numbered` returns it.
    """
    pattern, numbers = numbered(sentence)
    known = {} if language == "en" else phrases(language)
    return known[pattern].format(*numbers) if pattern in known else sentence


def numbered(sentence: str) -> tuple[str, list[str]]:
    """Return a sentence with {0}, {1} … in place of its numbers, and the numbers."""
    places = map("{{{}}}".format, itertools.count())
    return NUMBER.sub(lambda _: next(places), sentence), NUMBER.findall(sentence)


def phrases(language: str) -> dict[str, str]:
    """Return the catalogue of phrases of a language: English to translation."""
    return _phrases(folder(language) / "interface.yaml")


@functools.cache
def _phrases(file: Path) -> dict[str, str]:
    return yaml.safe_load(file.read_text(encoding="utf-8"))
