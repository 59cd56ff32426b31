"""Structured answers are read as they were written, and sloppy ones as far as they go."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbook.grading import ENTITY_TYPES, has_entity_format, parse_entities

EMPTY = {kind: [] for kind in ENTITY_TYPES}
# Names never hold a comma, a semicolon or a colon; a full stop at the end is taken for punctuation.
NAMES = st.lists(st.from_regex(r"[A-ZÄÖÜ][a-zé'.\-]{0,8}[a-z]( [A-Z][a-z]+)?", fullmatch=True))


def write(spans):
    return "; ".join(f"{kind}: {', '.join(spans[kind]) or 'none'}" for kind in ENTITY_TYPES)


@given(st.fixed_dictionaries({kind: NAMES for kind in ENTITY_TYPES}))
def test_what_the_template_writes_is_read_back(spans):
    unique = {
        kind: list(dict.fromkeys(n for n in names if n.lower() != "none"))
        for kind, names in spans.items()
    }
    assert parse_entities(write(spans)) == unique
    assert has_entity_format(write(spans))


@given(st.text())
def test_any_text_gives_the_three_kinds(text):
    assert set(parse_entities(text)) == set(ENTITY_TYPES)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", {}),
        ("The sentence names Ada.", {}),
        ("People: Ada King.\nPlaces: London", {"people": ["Ada King"], "places": ["London"]}),
        ("places: Rome, Rome; people: none", {"places": ["Rome"]}),
        ("people: Ada\n\nNames: people: Bob", {"people": ["Ada"]}),
        ("organizations: NASA; cities: Rome", {"organizations": ["NASA"]}),
    ],
)
def test_sloppy_answers(text, expected):
    assert parse_entities(text) == EMPTY | expected


def test_format_needs_all_three_kinds():
    assert has_entity_format("organizations: none\nplaces: none\npeople: none")
    assert not has_entity_format("people: Ada; places: London")
