"""Files of one's own: read right, or refused with a sentence that says what to mend."""

import errno
import json
import random
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_tokenizers import unigram

from workbook import settings
from workbook.capstone import project, reading, recipe
from workbook.errors import WorkbookError

WORDS = "parcel invoice kettle street bank driver card lamp box refund late early new old".split()
NAMES = "Ada Ben Cleo Dan Eve Finn Gus Hal Ida Jan Kim Lou Max Nia Oda Pia Ray Sue Tom Uma".split()


def texts(n, seed=0):
    """Return n texts, no two alike."""
    draw = random.Random(seed)
    return [" ".join([*draw.sample(WORDS, 4), *draw.sample(NAMES, 4), str(i)]) for i in range(n)]


def labelled(n=60, labels=("yes", "no")):
    return [{"text": text, "label": labels[i % len(labels)]} for i, text in enumerate(texts(n))]


def as_csv(rows, separator=","):
    lines = [list(rows[0]), *(list(row.values()) for row in rows)]
    return "".join(f"{separator.join(line)}\n" for line in lines)


def prepared(path, model, tokenizer, input="text", target="label", **options):
    return project.prepare(reading.read(path), model, tokenizer, input, target, **options)


def rows_of(table):
    return [row for _, row in table.rows]


# ------------------------------------------------------------------------------------ encodings


@pytest.mark.parametrize(
    ("encoding", "text", "told"),
    [
        ("utf-8", "Straße, 배송 – naïve", "UTF-8"),
        ("utf-8-sig", "Straße, 배송 – naïve", "UTF-8"),
        ("utf-16", "Straße, 배송", "UTF-16"),
        ("cp949", "배송이 늦어요", "Korean (cp949"),
        ("euc-kr", "환불 부탁드립니다", "Korean (cp949"),
        ("cp1252", "Le café – fermé", "Western European (cp1252)"),
        ("cp1252", "I don’t like it", "Western European (cp1252)"),
        ("cp1252", "ÄRGER mit GRÜSSEN", "Western European (cp1252)"),
        ("ascii", "plain", "UTF-8"),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_encodings_are_found_out_and_told(encoding, text, told, suffix, tmp_path):
    rows = [{"text": "The parcel is late", "label": "a"}] * 200 + [{"text": text, "label": "b"}]
    if suffix == "csv":
        content = as_csv([{**row, "text": f'"{row["text"]}"'} for row in rows])
    else:
        content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path = tmp_path / f"rows.{suffix}"
    path.write_bytes(content.encode(encoding))
    table = reading.read(path)
    assert rows_of(table) == rows
    assert told in table.notes[0]


def test_an_encoding_can_be_named(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes("text,label\nŁódź,a\n".encode("cp1250"))
    assert rows_of(reading.read(path, "cp1250")) == [{"text": "Łódź", "label": "a"}]
    path.write_bytes("text,label\nŁódź,a\n".encode("utf-8-sig"))
    assert rows_of(reading.read(path, "utf8")) == [{"text": "Łódź", "label": "a"}]
    with pytest.raises(WorkbookError, match="cannot be read, so check it"):
        reading.read(path, "ascii")


def test_a_file_of_mixed_encodings_is_refused_by_line(tmp_path):
    path = tmp_path / "rows.csv"
    lines = ["text,label\n", "배송이 늦어요,a\n", "café,b\n", "환불 부탁,a\n"]
    path.write_bytes(b"".join(x.encode("cp949" if "환불" in x else "utf-8") for x in lines))
    with pytest.raises(WorkbookError, match=r"rows\.csv:4: this line is not UTF-8 and others are"):
        reading.read(path)


@pytest.mark.parametrize(
    ("lines", "line", "what"),
    [
        (["Ça fuit", "réparé", "à côté", ("Ça fuit réparé", "utf-8")], 5, "is UTF-8 and others"),
        (["réparé", "à côté", "été", ("le café", "utf-8")], 5, "is UTF-8 and others are not"),
        (["réparé", "à côté", "été", ("I don’t", "utf-8")], 5, "is UTF-8 and others are not"),
        (["réparé", "à côté", "été", ("배송", "utf-8")], 5, "is UTF-8 and others are not"),
        (["réparé", "à côté", "été", ("배송", "cp949")], 5, "is Korean .* and others are not"),
        (["배송이", "환불", "늦어요", ("le café", "cp1252")], 5, "is not Korean .* and others are"),
        (["배송이", "환불", "늦어요", ("배송", "utf-8")], 5, "is UTF-8 and others are not"),
        (["배송이", "환불", "늦어요", ("réparé", "utf-8")], 5, "is UTF-8 and others are not"),
    ],
)
def test_a_minority_in_another_encoding_is_refused_too(lines, line, what, tmp_path):
    *usual, (text, encoding) = lines
    majority = "cp949" if ord(usual[0][0]) > 255 else "cp1252"
    content = b"text,label\n" + b"".join(f"{each},a\n".encode(majority) for each in usual)
    path = tmp_path / "rows.csv"
    path.write_bytes(content + f"{text},b\n".encode(encoding))
    with pytest.raises(WorkbookError, match=rf"rows\.csv:{line}: this line {what}.*--encoding"):
        reading.read(path)
    if encoding != "cp1252":  # a way out, for what only looks like a mix
        assert len(reading.read(path, majority).rows) == 4


@pytest.mark.parametrize(
    ("encoding", "text"), [("cp1252", "Au CAFÉ»"), ("cp949", "천천"), ("cp1252", "· ¿¿¿¿ ····")]
)
def test_bytes_that_are_utf8_by_accident_are_no_mix(encoding, text, tmp_path):
    usual = {"cp1252": "Le café est fermé", "cp949": "배송이 늦어요"}[encoding]
    path = tmp_path / "rows.csv"
    path.write_bytes(f"text,label\n{usual},a\n{usual},a\n{text},b\n".encode(encoding))
    assert rows_of(reading.read(path))[2]["text"] == text


def test_bytes_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes(b"text,label\n\x81\x8d\x8f\xff,a\n")
    with pytest.raises(WorkbookError, match="save it as UTF-8, or name its encoding"):
        reading.read(path)


printable = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]), min_size=1, max_size=30
)


@given(st.lists(st.tuples(printable, printable), min_size=1, max_size=8), st.sampled_from(",;\t|"))
def test_any_text_is_read_back_from_any_separator(tmp_path_factory, pairs, separator):
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    quoted = [[f'"{cell.replace(chr(34), chr(34) * 2)}"' for cell in pair] for pair in pairs]
    lines = [separator.join(["text", "label"]), *map(separator.join, quoted)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="")
    table = reading.read(path)
    assert [tuple(row.values()) for row in rows_of(table)] == pairs
    assert reading.SEPARATORS[separator] in table.notes[0]


@given(st.lists(st.text("가나다라마바사아자차카타파하 힣ㅋ", min_size=4, max_size=20), min_size=1))
def test_korean_of_any_kind_is_read_from_cp949(lines):
    content = "\n".join(lines).encode("cp949")
    if not content.isascii() and not reading._decodes(content, "utf-8"):
        try:
            assert reading.encoding_of(content, "rows.csv") == "cp949"
        except WorkbookError as error:  # a few syllables are UTF-8 by accident
            assert "mixes encodings" in str(error)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused_with_a_sentence(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    path.write_bytes(content)
    try:
        table = reading.read(path)
    except WorkbookError as error:
        assert "rows.csv" in str(error)
    else:
        assert table.rows and all(set(row) == set(table.columns) for _, row in table.rows)


# -------------------------------------------------------------------------- cells and separators


@pytest.mark.parametrize(("separator", "name"), [(";", "semicolons"), ("\t", "tabs")])
def test_other_separators_are_read_and_told(separator, name, tmp_path, tiny_model, tiny_tokenizer):
    path = tmp_path / ("rows.tsv" if separator == "\t" else "rows.csv")
    path.write_text(as_csv(labelled(), separator))
    found = prepared(path, tiny_model, tiny_tokenizer)
    assert sum(map(len, found.splits.values())) == 60
    assert f"with {name} between the columns" in found.notes[0]


def test_the_separator_that_is_told_is_the_one_that_is_used(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes(b"text;label\rone, two, three;a\r")  # as old Macs ended lines
    table = reading.read(path)
    assert rows_of(table) == [{"text": "one, two, three", "label": "a"}]
    assert "with semicolons between the columns" in table.notes[0]


@pytest.mark.parametrize("name", ["rows.xlsx", "rows.xls", "rows", "rows.csv.gz"])
def test_a_file_of_another_kind_is_to_be_converted(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(b"PK\x03\x04\x81\x8d\x8f\xff")  # neither UTF-8 nor any other text
    with pytest.raises(WorkbookError, match=r"only \.jsonl, \.csv, .* are read, so convert it"):
        reading.read(path)


def test_a_file_that_nobody_may_read_is_named(tmp_path, monkeypatch):
    def refused(path):
        raise PermissionError(errno.EACCES, "Permission denied")

    path = tmp_path / "rows.csv"
    path.write_text(as_csv(labelled()))
    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(WorkbookError, match=r"rows\.csv cannot be read.*Permission denied"):
        reading.read(path)


@pytest.mark.parametrize("name", ["klingon", "hex", "base64", "rot13", "undefined", "idna", "\0"])
def test_what_is_no_encoding_of_text_is_refused(name, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(as_csv(labelled()))
    with pytest.raises(WorkbookError, match="There is no encoding .*: try utf-8 or cp949"):
        reading.read(path, name)


def test_empty_cells_are_left_out_and_told(tmp_path, tiny_model, tiny_tokenizer):
    rows = labelled()
    rows[3]["text"], rows[7]["label"] = "  ", ""
    (tmp_path / "rows.csv").write_text(as_csv(rows))
    found = prepared(tmp_path / "rows.csv", tiny_model, tiny_tokenizer)
    assert "2 rows were left out for an empty text or label (lines 5, 9)." in found.notes
    assert sum(map(len, found.splits.values())) == 58


def test_a_column_that_is_mostly_empty_is_refused(tmp_path):
    rows = labelled()
    for row in rows[10:]:
        row["label"] = ""
    (tmp_path / "rows.csv").write_text(as_csv(rows))
    table = reading.read(tmp_path / "rows.csv")
    with pytest.raises(WorkbookError, match=r"50 of 60 rows lack .*first at rows\.csv:12: fill"):
        reading.filled(table, "text", "label")


def test_repetitions_are_left_out_and_contradictions_told(tmp_path, tiny_model, tiny_tokenizer):
    rows = labelled()
    rows += [dict(rows[0]), dict(rows[1]), {**rows[2], "label": "no"}]
    (tmp_path / "rows.csv").write_text(as_csv(rows))
    found = prepared(tmp_path / "rows.csv", tiny_model, tiny_tokenizer)
    assert "2 rows were left out as repetitions (lines 62, 63)." in found.notes
    assert any("1 row was left out whose text stands before with another label (line 64)" in note
               for note in found.notes)  # fmt: skip
    assert sum(map(len, found.splits.values())) == 60


def test_near_duplicates_never_stand_in_two_splits(tmp_path, tiny_model, tiny_tokenizer):
    rows = labelled()
    rows += [{**row, "text": row["text"].upper() + " !"} for row in rows[:20]]
    (tmp_path / "rows.csv").write_text(as_csv(rows))
    found = prepared(tmp_path / "rows.csv", tiny_model, tiny_tokenizer)
    assert any(note.startswith("20 rows were left out as near-duplicates") for note in found.notes)
    every = [text.lower().rstrip(" !") for part in found.splits.values() for text in part["text"]]
    assert len(every) == len(set(every)) == 60


def test_lists_and_broken_letters_are_refused_by_place(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a", "label": 1}\n{"text": ["b"], "label": 2}\n')
    with pytest.raises(WorkbookError, match=r"rows\.jsonl:2: 'text' is a list or an object"):
        reading.read(path)
    path.write_text('{"text": "a\\u0000b", "label": 1}\n')
    with pytest.raises(WorkbookError, match=r"rows\.jsonl:1: 'text' holds a character"):
        reading.read(path)


def test_numbers_and_missing_fields_of_json_become_texts(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a", " stars ": 5}\n{"text": null}\n')
    assert rows_of(reading.read(path)) == [{"text": "a", "stars": "5"}, {"text": "", "stars": ""}]


# ------------------------------------------------------------------------------ labels and texts


def test_unbalanced_labels_are_judged_by_macro_f1(tmp_path, tiny_model, tiny_tokenizer):
    rows = [{"text": t, "label": "rare" if i < 10 else "common"} for i, t in enumerate(texts(100))]
    (tmp_path / "rows.csv").write_text(as_csv(rows))
    found = prepared(tmp_path / "rows.csv", tiny_model, tiny_tokenizer)
    assert found.metric == "f1_macro" and any("is unbalanced" in note for note in found.notes)
    test = list(found.splits["test"])
    assert found.score(test, [0] * len(test)).estimate < 0.5  # "common" alone is not good
    assert all(set(part["label"]) == {0, 1} for part in found.splits.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda rows: rows[0].update(label="only one"),
            r"fewer have 'only one' \(1 row\): add rows",
        ),
        (lambda rows: [row.update(label="yes") for row in rows], "every row has the label 'yes'"),
        (lambda rows: [row.update(label="Yes") for row in rows[:8:2]], "'Yes', 'yes' differ in"),
        (lambda rows: rows.__delitem__(slice(30, None)), "30 rows are left, and 40 are the least"),
        (
            lambda rows: [row.update(label=row["label"] + " now") for row in rows[:20]],
            "begins with '.*', so that it would never be chosen",
        ),
    ],
)
def test_labels_that_cannot_be_learned_are_refused(
    change, message, tmp_path, tiny_model, tiny_tokenizer
):
    rows = labelled()
    change(rows)
    (tmp_path / "rows.csv").write_text(as_csv(rows))
    with pytest.raises(WorkbookError, match=message):
        prepared(tmp_path / "rows.csv", tiny_model, tiny_tokenizer)


def test_of_labels_a_column_named_output_is_a_column_like_others(
    tmp_path, tiny_model, tiny_tokenizer
):
    rows = [{**row, "output": "long " * 300} for row in labelled(60)]
    (tmp_path / "rows.csv").write_text(as_csv(rows))
    found = prepared(tmp_path / "rows.csv", tiny_model, tiny_tokenizer)
    assert sum(map(len, found.splits.values())) == 60


def test_the_data_decide_between_labels_and_texts_unless_told(tmp_path, tiny_model, tiny_tokenizer):
    rows = [{"text": text, "label": f"{i % 4}", "reply": f"Dear {text}"} for i, text in
            enumerate(texts(60))]  # fmt: skip
    path = tmp_path / "rows.csv"
    path.write_text(as_csv(rows))
    labels = prepared(path, tiny_model, tiny_tokenizer)
    assert labels.is_labels and any("4 different values in 60 rows, so they are labels" in note
                                    for note in labels.notes)  # fmt: skip
    written = prepared(path, tiny_model, tiny_tokenizer, target="reply")
    assert not written.is_labels and written.metric == "rouge"
    told = prepared(path, tiny_model, tiny_tokenizer, kind="text")
    assert not told.is_labels and any("as --kind says (text)" in note for note in told.notes)
    with pytest.raises(WorkbookError, match="60 values, 50 labels at most fit"):
        prepared(path, tiny_model, tiny_tokenizer, target="reply", kind="label")


def test_a_label_too_long_to_be_one_is_the_reason_that_is_told(
    tmp_path, tiny_model, tiny_tokenizer
):
    path = tmp_path / "rows.csv"
    path.write_text(as_csv(labelled(labels=("yes", "n" + "o" * 60))))
    found = prepared(path, tiny_model, tiny_tokenizer)
    [why] = [note for note in found.notes if "different values" in note]
    assert not found.is_labels and "the longest of 61 letters, more than the 60 of a label" in why
    path.write_text(as_csv([{"text": t, "label": t * 3} for t in texts(60)]))
    [why] = [note for note in prepared(path, tiny_model, tiny_tokenizer).notes if "values" in note]
    assert "more than" not in why


def test_a_template_with_the_labels_in_another_order_is_refused(
    tmp_path, tiny_model, tiny_tokenizer
):
    path, wording = tmp_path / "rows.csv", tmp_path / "own.yaml"
    path.write_text(as_csv(labelled()))
    form = (
        "templates:\n  a: !Template\n    name: mine\n    answer_choices: {}\n"
        "    jinja: '{{{{text}}}} Is it? ||| {{{{answer_choices[label]}}}}'\n"
    )
    wording.write_text(form.format("yes ||| no"))
    with pytest.raises(WorkbookError, match="'mine' has your labels in another order than no, yes"):
        prepared(path, tiny_model, tiny_tokenizer, template=str(wording))
    for choices in ("no ||| yes", "false ||| true"):  # one's own words for them
        wording.write_text(form.format(choices))
        [how] = prepared(path, tiny_model, tiny_tokenizer, template=str(wording)).recipes
        assert how.pair({"text": "x", "label": 1})[1] == choices.split()[-1]


def test_splits_are_disjoint_and_the_same_each_time(tmp_path, tiny_model, tiny_tokenizer):
    path = tmp_path / "rows.csv"
    path.write_text(as_csv(labelled(200)))
    first, again = (prepared(path, tiny_model, tiny_tokenizer) for _ in range(2))
    sets = [set(part["text"]) for part in first.splits.values()]
    assert sum(map(len, sets)) == len(set.union(*sets)) == 200
    assert [len(first.splits[name]) for name in ("test", "validation")] == [50, 40]
    assert all(list(first.splits[name]) == list(again.splits[name]) for name in first.splits)


def test_own_wordings_may_use_every_column(tmp_path, tiny_model, tiny_tokenizer):
    rows = [{**row, "shop": "Fern"} for row in labelled()]
    rows = [{"body": row["text"], "team": row["label"], "shop": row["shop"]} for row in rows]
    path = tmp_path / "rows.csv"
    path.write_text(as_csv(rows))
    words = "{{shop}} got: {{body}} Who answers?"
    options = {"input": "body", "target": "team", "template": words}
    [how] = prepared(path, tiny_model, tiny_tokenizer, **options).recipes
    prompt, completion = how.pair({**rows[0], "text": rows[0]["body"], "label": 1})
    assert prompt == f"Fern got: {rows[0]['body']} Who answers?" and completion == "yes"


# ------------------------------------------------------------------------------------ large files


def test_a_field_of_ten_megabytes_is_read_and_cut(tmp_path, tiny_model, tiny_tokenizer):
    rows = labelled()
    rows[5]["text"] = "The film is good. " * 560_000
    path = tmp_path / "rows.csv"
    path.write_text(as_csv(rows))
    start = time.process_time()
    found = prepared(path, tiny_model, tiny_tokenizer)
    assert time.process_time() - start < 20
    assert "Of 1 row only the first 256 tokens are read." in found.notes
    every = [text for part in found.splits.values() for text in part["text"]]
    longest = max(every, key=len)
    assert longest.startswith("The film is good. The film")
    assert len(tiny_tokenizer(longest, add_special_tokens=False)["input_ids"]) <= 256


def test_an_open_quote_that_swallows_the_file_is_named(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text('text,label\ngood,1\n"open,2\n' + "more,3\n" * 100_000)
    with pytest.raises(WorkbookError, match="mend the quotes there or before"):
        reading.read(path)


def test_a_hundred_thousand_rows_are_read_in_a_minute(tmp_path, tiny_model, tiny_tokenizer):
    rows = labelled(100_000)
    rows[17]["label"] = rows[99]["label"] = rows[500]["label"] = "rare"
    for row in rows[1000:1010]:
        row["label"] = "rare"
    path = tmp_path / "rows.csv"
    path.write_text(as_csv(rows))
    start = time.process_time()
    found = prepared(path, tiny_model, tiny_tokenizer)
    assert time.process_time() - start < 60
    sizes = {name: len(part) for name, part in found.splits.items()}
    assert sizes["test"] <= 410 and sizes["validation"] <= 210 and 500 <= sizes["train"] <= 530
    assert "Of 100,000 different rows" in " ".join(found.notes)
    assert all(set(part["label"]) == {0, 1, 2} for part in found.splits.values())  # none is lost


def test_answers_too_long_to_write_are_left_out(tmp_path, tiny_model, tiny_tokenizer):
    rows = [{"text": text, "reply": f"Dear {text}"} for text in texts(60)]
    rows[0]["reply"] = "word " * 3000
    path = tmp_path / "rows.csv"
    path.write_text(as_csv(rows))
    found = prepared(path, tiny_model, tiny_tokenizer, target="reply")
    assert any("1 row was left out because the answer" in note for note in found.notes)
    assert found.recipes[0].max_new_tokens <= recipe.LONGEST_ANSWER


def test_the_sample_is_as_its_data_sheet_says(tiny_model, tiny_tokenizer):
    data = settings.repo_root() / "data"
    found = prepared(
        data / "samples" / "messages.csv", tiny_model, tiny_tokenizer, "message", "department"
    )
    assert found.metric == "accuracy" and sum(map(len, found.splits.values())) == 240
    sheet = (data / "README.md").read_text("utf-8").split("## Sample")[1].split("##")[0]
    for label, count in found.counts.items():
        assert f"`{label}` {count}" in sheet
    lengths = [len(t.split()) for part in found.splits.values() for t in part["text"]]
    told = f"{min(lengths)} to {max(lengths)} words, {np.mean(lengths) + 1e-9:.1f} on average"
    assert told in sheet and not any("left out" in note for note in found.notes)


# ------------------------------------------------------------------------------ foreign languages


def korean(n=60):
    words = "배송 환불 결제 주문 상품 문의 교환 지연 카드 택배 기사 확인".split()
    draw = random.Random(0)
    return [
        {"text": " ".join([*draw.sample(words, 5), str(i)]), "label": "가나"[i % 2]}
        for i in range(n)
    ]


def test_korean_with_a_model_that_reads_only_bytes_is_warned_about(
    tmp_path, tiny_model, tiny_tokenizer
):
    path = tmp_path / "rows.csv"
    path.write_text(as_csv(korean()), encoding="utf-8")
    found = prepared(path, tiny_model, tiny_tokenizer)
    assert any("tokens for each letter of these texts" in note for note in found.notes)
    path.write_text(as_csv(labelled()))
    found = prepared(path, tiny_model, tiny_tokenizer)
    assert not any("tokens for each letter" in note for note in found.notes)


def test_korean_with_a_model_that_knows_no_letter_of_it_is_refused(tmp_path, tiny_model):
    path = tmp_path / "rows.csv"
    path.write_text(as_csv(korean()), encoding="utf-8")
    with pytest.raises(WorkbookError, match="unknown to this model, which cannot read them"):
        prepared(path, tiny_model, unigram())


@pytest.mark.parametrize("text", ["", "short", "The film is good. " * 100, "배송" * 300])
def test_shortened_texts_are_their_beginning(text, tiny_tokenizer):
    cut = recipe.shortened(tiny_tokenizer, text, 40)
    assert text.startswith(cut)
    ids = tiny_tokenizer(text, add_special_tokens=False)["input_ids"]
    assert (cut == text) == (len(ids) <= 40)
    assert len(tiny_tokenizer(cut, add_special_tokens=False)["input_ids"]) <= 40
