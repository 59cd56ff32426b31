"""Rows: every format read alike, and every mistake named by file and line."""

import csv
import json

import datasets
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbook.errors import WorkbookError
from workbook.tasks import rows

FIELDS = {"question": "string", "hint": "any_string", "aliases": ["string"], "label": "label"}
ROW = {"question": "Why?", "hint": "", "aliases": ["a"], "label": "yes"}
LABELS = ["no", "yes"]


def check(row, strict=True, fields=FIELDS):
    return rows.checked("f.jsonl:3", row, fields, LABELS, strict)


@settings(deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1))
def test_jsonl_round_trips_any_text(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("rows") / "any.jsonl"
    lines = (json.dumps({"text": text}, ensure_ascii=False) for text in texts)
    path.write_text("\n".join(lines), encoding="utf-8", newline="")
    assert [row["text"] for _, row in rows.read_file(path)] == texts


def test_formats_are_read_alike(tmp_path):
    table = [{"text": 'He said "no",\nthen left', "label": "a"}, {"text": "Ja", "label": "b"}]
    (tmp_path / "x.jsonl").write_text("\n\n".join(json.dumps(row) for row in table) + "\n")
    (tmp_path / "x.csv").write_text('\ufefftext,label\n"He said ""no"",\nthen left",a\nJa,b\n')
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(table), tmp_path / "x.parquet")
    for suffix in ("jsonl", "csv", "parquet"):
        assert [row for _, row in rows.read_file(tmp_path / f"x.{suffix}")] == table
    assert [where for where, _ in rows.read_file(tmp_path / "x.jsonl")] == [
        "x.jsonl:1",
        "x.jsonl:3",
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"a": 1}\n{"a": }\n', r"a\.jsonl:2: not valid JSON"),
        ("a.jsonl", b'{"a": 1}\n\n["a"]\n', r"a\.jsonl:3: not a JSON object"),
        ("a.jsonl", b"", r"a\.jsonl has no rows"),
        ("a.jsonl", b'{"a": "\xff"}', r"a\.jsonl cannot be read"),
        ("a.csv", b"text,label\ngood,1\nbad\n", r"a\.csv:3: .*2 columns"),
        ("a.csv", b"text,label\ngood,1,2\n", r"a\.csv:2: .*2 columns"),
        ("a.csv", b'text,label\ngood,1\n"bad" one,2\n', r"a\.csv:3: .*mend the quotes"),
        ("a.csv", b'text,label\n"good,1\n', r"a\.csv:2: .*mend the quotes"),
        ("a.parquet", b"no parquet", r"a\.parquet cannot be read"),
        ("a.txt", b"hello", r"a\.txt: only \.jsonl, \.csv, \.tsv, \.parquet"),
    ],
)
def test_unreadable_files_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WorkbookError, match=message):
        rows.read_file(tmp_path / name)


def test_a_column_that_a_table_has_twice_is_named_in_one_line(tmp_path):
    table = pyarrow.table([["a"], ["b"]], names=["text", "text"])
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(WorkbookError, match=r"x\.parquet cannot be read.*text") as caught:
        rows.read_file(tmp_path / "x.parquet")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(WorkbookError, match=r"gone\.csv cannot be read"):
        rows.read_file(tmp_path / "gone.csv")


def test_a_good_row_passes_and_labels_go_by_name_or_number():
    assert check(ROW) == ROW
    for label in ("1", 1, " yes "):
        assert check({**ROW, "label": label})["label"] == "yes"
    assert check({**ROW, "more": 1}, strict=False) == ROW


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question": "  "}, "'question' must be a text that is not empty"),
        ({"question": None}, "'question' must be a text"),
        ({"hint": 3}, "'hint' must be a text"),
        ({"aliases": "a"}, "'aliases' must be a list"),
        ({"aliases": ["a", ""]}, "'aliases' must be a text that is not empty"),
        ({"label": "maybe"}, "label 'maybe' must be one of no, yes"),
        ({"label": 2}, "label '2' must be one of"),
        ({"label": None}, "'label' must be a label"),
        ({"anwser": "x"}, "unknown field 'anwser', known: question"),
    ],
)
def test_bad_rows_are_named_by_place_and_field(change, message):
    with pytest.raises(WorkbookError, match=r"f\.jsonl:3: .*" + message):
        check({**ROW, **change})


def test_a_missing_field_is_named():
    with pytest.raises(WorkbookError, match="f.jsonl:3: field 'hint' is missing"):
        check({key: value for key, value in ROW.items() if key != "hint"})


def test_numbers_and_objects():
    fields = {"n": "integer", "x": "number", "c": {"text": ["string"], "label": ["string"]}}
    good = {"n": 1, "x": 2.5, "c": {"text": ["a"], "label": ["A"]}}
    assert check(good, fields=fields) == good
    for change in ({"n": 1.5}, {"n": True}, {"x": "2"}, {"c": {"text": []}}, {"c": ["a"]}):
        with pytest.raises(WorkbookError, match=f"field '{min(change)}' must be"):
            check({**good, **change}, fields=fields)


def test_datasets_have_one_schema_even_when_a_split_is_empty():
    fields = {"text": "string", "label": "label", "tags": ["integer"], "extra": "any"}
    row = {"text": "x", "label": "yes", "tags": [], "extra": 1.5}
    made = rows.to_datasets({"train": [row], "test": []}, fields, LABELS)
    assert made["train"].features == made["test"].features
    assert made["train"].features["label"] == datasets.ClassLabel(names=LABELS)
    assert made["train"][0] == {**row, "label": 1}
    with pytest.raises(WorkbookError, match="The column 'extra' mixes types"):
        rows.to_datasets({"train": [row, {**row, "extra": "y"}]}, fields, LABELS)


def test_secret_labels_are_left_out():
    data = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [-1, 0]})
    assert [row["text"] for _, row in rows.located(data, "x")] == ["b"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.csv", "text,label,text\na,b,c\n", "x.csv:1: 'text' stands there twice"),
        ("x.jsonl", '{"text": "a", "text": "b"}\n', "x.jsonl:1: 'text' stands there twice"),
        ("x.jsonl", '{"a": {"b": 1, "b": 2}}\n', "x.jsonl:1: 'b' stands there twice"),
        ("x.jsonl", "[" * 100_000 + "\n", "x.jsonl:1: not valid JSON"),
        ("x.jsonl", '{"a": {"\\ud800": 1}}\n', r"x.jsonl:1: the name '\\ud800' is no text"),
    ],
)
def test_no_value_is_lost_silently(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(WorkbookError, match=message):
        rows.read_file(tmp_path / name)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_csv_of_any_spreadsheet_is_read(tmp_path, delimiter):
    table = [["text", "label"], ['so, "so"; well', "a"], ["b\tc | e", "d"]]
    with (tmp_path / "x.csv").open("w", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(table)
    found = [row for _, row in rows.read_file(tmp_path / "x.csv")]
    assert found == [dict(zip(*pair, strict=True)) for pair in ((table[0], r) for r in table[1:])]


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"text": "a"}\n', encoding="utf-8-sig")
    assert rows.read_file(tmp_path / "x.jsonl") == [("x.jsonl:1", {"text": "a"})]


def nested(depth):
    value = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("string", "half \ud83d"), ("any_string", "\udc00"), ("integer", 2**63),
        ("integer", -(2**63) - 1), ("number", float("nan")), ("number", float("inf")),
        ("number", 10**400), ("any", 2**63), ("any", "half \ud83d"), ("any", [{"a": -(2**64)}]),
        ("any", nested(33)), ("any", nested(900)),
    ],
)  # fmt: skip
def test_what_cannot_be_stored_is_refused_by_place(kind, value):
    with pytest.raises(WorkbookError, match=r"f.jsonl:3: field 'x' must be"):
        rows.checked("f.jsonl:3", {"x": value}, {"x": kind}, (), strict=True)


def test_what_can_be_stored_is_stored():
    value = {"list": [1, -(2**63)], "deep": nested(31), "none": None, "text": "日本 🙂"}
    row = rows.checked("f:1", {"x": value}, {"x": "any"}, (), strict=True)
    assert rows.to_datasets({"train": [row]}, {"x": "any"}, ())["train"][0] == {"x": value}


def test_tags_come_by_name_or_by_number():
    tags = ("O", "B-person")
    for values in (["O", "B-person"], [0, 1]):
        row = rows.checked("f:1", {"t": values}, {"t": ["tag"]}, (), strict=True, tags=tags)
        assert row == {"t": [0, 1]}
    for bad in ("B-place", 2):
        with pytest.raises(WorkbookError, match=f"f:1: tag {bad!r} must be one of O, B-person"):
            rows.checked("f:1", {"t": [bad]}, {"t": ["tag"]}, (), strict=True, tags=tags)
