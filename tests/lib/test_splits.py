"""Splitting: near-duplicates, quotas, and orders that do not depend on the machine."""

from collections import Counter
from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from workbook.tasks import splits

sentences = st.lists(
    st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=9).map(" ".join), max_size=25
)


@settings(deadline=None)
@given(sentences)
def test_distinct_agrees_with_comparing_all_pairs(texts):
    kept = splits.distinct(texts)
    expected = []
    for position, text in enumerate(texts):
        own = splits.words(text)
        if not any(splits.alike(own, splits.words(texts[other])) for other in expected):
            expected.append(position)
    assert kept == expected


@settings(deadline=None)
@given(sentences, st.integers(0, 5))
def test_protected_texts_stay_and_shield(texts, protected):
    kept = splits.distinct(texts, protected)
    assert kept[: min(protected, len(texts))] == list(range(min(protected, len(texts))))
    for a, b in combinations(kept, 2):
        if b >= protected:
            assert not splits.alike(splits.words(texts[a]), splits.words(texts[b]))


def test_near_duplicates_ignore_case_punctuation_and_one_word_of_many():
    first = "The plot is thin but actors carry it"
    assert splits.distinct([first, "the PLOT is thin, but actors carry it!"]) == [0]
    assert splits.distinct([first, first.replace("thin", "weak")]) == [0, 1]  # 7 of 9
    longer = first + " with ease and grace"
    assert splits.distinct([longer, longer.replace("thin", "weak")]) == [0]
    assert splits.distinct([":)", ":(", ":)"]) == [0, 1]


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from("abcd"), st.integers(1, 40), min_size=1), st.data())
def test_proportional_adds_up_and_never_asks_too_much(sizes, data):
    total = data.draw(st.integers(0, sum(sizes.values())))
    shares = splits.proportional(Counter(sizes), total)
    assert sum(shares.values()) == total
    for stratum, share in shares.items():
        exact = total * sizes[stratum] / sum(sizes.values())
        assert abs(share - exact) < 1 and share <= sizes[stratum]


def test_carve_fills_quotas_and_loses_nothing():
    rows = [{"id": number, "label": number % 2} for number in range(20)]
    parts = splits.stratified_split(
        rows, ["label"], {"test": {(0,): 3, (1,): 2}, "validation": {(0,): 1}}
    )
    assert Counter(row["label"] for row in parts["test"]) == {0: 3, 1: 2}
    assert Counter(row["label"] for row in parts["validation"]) == {0: 1}
    assert sorted(row["id"] for part in parts.values() for row in part) == list(range(20))


def test_shuffled_order_depends_on_the_rows_alone():
    rows = [{"text": f"row {number}"} for number in range(50)]
    order = splits.shuffled(rows, ["text"])
    assert order == splits.shuffled(rows[::-1], ["text"]) != rows
    assert [row for row in order if row in rows[:20]] == splits.shuffled(rows[:20], ["text"])


def test_repeats_leave_train_before_they_leave_test():
    same = {"text": "one and the same sentence here"}
    other = {"text": "something else altogether now"}
    parts = splits.drop_near_duplicates(
        {"train": [same, other], "validation": [other], "test": [same, same]}, ["text"]
    )
    assert parts == {"train": [], "validation": [other], "test": [same, same]}
    assert splits.drop_near_duplicates({"train": [same, same]}, []) == {"train": [same, same]}


def test_key_reaches_into_lists_and_objects():
    row = {"question": "Why?", "choices": {"text": ["a", "b"], "label": [1, 2]}}
    assert splits.key(row, ["question", "choices"]) == "Why?\na\nb\n1\n2"
