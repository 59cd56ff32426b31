"""The glossary: complete, bilingual, one sentence a term, found in either language."""

import re

import pytest

from workbook import course, glossary, settings

TERMS = glossary.load()


def test_no_term_comes_twice():
    names = [term.english.lower() for term in TERMS]
    assert len(set(names)) == len(names) >= 45
    assert len({term.korean for term in TERMS}) == len(names)


@pytest.mark.parametrize("term", TERMS, ids=lambda term: term.english)
def test_a_term_has_korean_and_one_sentence(term):
    assert re.search("[가-힣]", term.korean)
    assert re.fullmatch(r"[A-Z].{15,170}[^.?!]\.", term.meaning)
    assert not re.search(r"[.?!] +[A-Z]", term.meaning)
    assert "|" not in "".join(term)


def test_every_term_belongs_to_a_chapter():
    assert {term.chapter for term in TERMS} <= {chapter.number for chapter in course.CHAPTERS}


@pytest.mark.parametrize("word", ["Forgetting", "망각", "earlier abilities"])
def test_a_term_is_found_by_either_name_and_by_its_meaning(word):
    assert "catastrophic forgetting" in glossary.table(word)
    assert "**token**" not in glossary.table(word)


@pytest.mark.parametrize(
    ("word", "near"), [("tokan", "**token**"), ("Adaptor", "**adapter**"), ("토컨", "**토큰**")]
)
def test_an_unknown_word_is_told_with_those_written_alike(word, near):
    told = glossary.table(word)
    assert told.startswith(f"No term has *{word}* in it: try") and near in told and "|" not in told


def test_an_unknown_word_like_no_other_is_told():
    assert glossary.table("xyzzyx").endswith("or the other language.")


def test_a_term_links_to_its_notebook_once_that_exists(tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "notebooks_dir", lambda: tmp_path)
    assert "| 01&nbsp;(planned) |" in glossary.table("in-context")
    (tmp_path / "01_shots.ipynb").touch()
    assert "| [01](01_shots.ipynb) |" in glossary.table("in-context")
