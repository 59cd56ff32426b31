"""The terms of the course in English and Korean, from data/glossary.yaml."""

import difflib
import re
import unicodedata
from pathlib import Path
from typing import NamedTuple

import yaml

from . import settings, translation
from .course import CHAPTERS


class Term(NamedTuple):
    """One term, its Korean counterpart, a sentence that defines it, and the chapter's number."""

    english: str
    korean: str
    meaning: str
    chapter: str


def load(language: str | None = None) -> list[Term]:
    """Return all terms in the order of the English alphabet.

    Their meanings are in the given language, or the reader's; in English where the translation
    is missing or older than the English.
    """
    text = (settings.repo_root() / "data" / "glossary.yaml").read_text(encoding="utf-8")
    terms = [Term(**row) for row in yaml.safe_load(text)]
    records = translation.records(file(language or settings.language()))
    meanings = translation.translated([term.meaning for term in terms], records)
    told = (t._replace(meaning=m or t.meaning) for t, m in zip(terms, meanings, strict=True))
    return sorted(told, key=lambda term: term.english.lower())


def file(language: str) -> Path:
    """Return the file with the meanings in another language; English has none."""
    return translation.folder(language) / "glossary.yaml"


def names(text: str) -> list[str]:
    """Return the names that one text gives a term: the one in brackets stands for it as well."""
    return [name.strip() for name in re.findall(r"[^()]+", text) if name.strip()]


def finder(terms: list[Term], language: str) -> tuple[re.Pattern, dict[str, Term]]:
    """Return what finds the terms' names in a text of a language, and the term of each name.

    In English a plural is found too; in Korean particles may follow. The names are in lower case.
    """
    field = "english" if language == "en" else "korean"
    owners = {name: term for term in terms for name in names(getattr(term, field))}
    longest_first = sorted(owners, key=len, reverse=True)
    options = (f"(?i:{re.escape(n)})" if n.islower() else re.escape(n) for n in longest_first)
    end = r"s?(?!\w)" if language == "en" else ""
    pattern = re.compile(rf"(?<!\w)({'|'.join(options)}){end}")
    return pattern, {name.lower(): term for name, term in owners.items()}


def table(word: str = "") -> str:
    """Return the terms that contain `word` in either language or the definition, as Markdown.

    Without any it is a sentence with the names that are written alike.
    """
    chapters = {chapter.number: chapter for chapter in CHAPTERS}
    terms, word = load(), word.strip()
    found = [term for term in terms if word.lower() in " ".join(term).lower()]
    if not found:
        return _nothing(word, terms)
    rows = [
        f"| **{t.english}** | {t.korean} | {t.meaning} | {_where(chapters[t.chapter])} |"
        for t in found
    ]
    return "\n".join(["| term | 한국어 | meaning | taught in |", "|:---|:---|:---|:---|", *rows])


def _nothing(word: str, terms: list[Term]) -> str:
    known = {_letters(name): name for t in terms for name in names(f"{t.english} ({t.korean})")}
    alike = difflib.get_close_matches(_letters(word), known)
    near = f" Written alike: {', '.join(f'**{known[name]}**' for name in alike)}." if alike else ""
    return f"No term has *{word}* in it: try a shorter word, or the other language.{near}"


def _letters(name: str) -> str:
    """Return a name as it is compared: lower case, syllables of Hangul as their letters."""
    return unicodedata.normalize("NFD", name.lower())


def _where(chapter) -> str:
    name = chapter.notebook
    return f"[{chapter.number}]({name.name})" if name else f"{chapter.number}&nbsp;(planned)"
