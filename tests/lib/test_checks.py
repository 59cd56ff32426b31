"""Self-checks report, remember and never raise."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from IPython.core.formatters import DisplayFormatter

from workbook import checks
from workbook.checks import report
from workbook.checks.report import call, exercise, expect


@pytest.fixture(autouse=True)
def record(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "TITLES", {})
    monkeypatch.setenv("WORKBOOK_PROGRESS", str(tmp_path / "cache" / "progress.json"))
    return tmp_path / "cache" / "progress.json"


@pytest.fixture(autouse=True)
def outputs(monkeypatch):
    """What is displayed, in order."""
    shown = []
    monkeypatch.setattr(report, "display", lambda data, raw: shown.append(data))
    return shown


@pytest.fixture
def check():
    @exercise("2.1", "Mask the prompt")
    def check(mask):
        labels = call(mask, [5, 6, 7])
        expect(len(labels) == 3, "the labels have another length than the ids")
        expect(labels[0] == -100, "labels still contain the prompt: use `-100` if i < n")

    return check


@pytest.fixture
def shown(check, outputs):
    """Run the check and return its result and what it displays, as text and as HTML."""

    def shown(*args):
        result = check(*args)
        return result, outputs[-1]["text/plain"], outputs[-1]["text/html"]

    return shown


def test_passed(shown):
    result, plain, _ = shown(lambda ids: [-100, 6, 7])
    assert result and plain == "✓ Exercise 2.1 Mask the prompt: passed, 1 of 1"
    assert report.progress() == {"2.1": "passed"}


def test_a_pass_says_how_many_of_the_notebook_are_passed(shown, record):
    report.TITLES.update({"2.2": "Collate", "2.3": "Leaks", "22.1": "Of another notebook"})
    report._remember(report.Result("2.2", "passed", ""))
    report._remember(report.Result("2.3", "tried", ""))
    report._remember(report.Result("22.1", "passed", ""))
    assert shown(lambda ids: [-100, 6, 7])[1].endswith(": passed, 2 of 3")


def test_a_pass_counts_where_nothing_can_be_written(shown, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("WORKBOOK_PROGRESS", str(tmp_path / "file" / "progress.json"))
    assert shown(lambda ids: [-100, 6, 7])[1].endswith(": passed, 1 of 1")


def test_the_first_unmet_expectation_is_told(shown):
    result, plain, block = shown(lambda ids: ids)
    assert not result and result.status == "tried"
    assert plain.splitlines() == [
        "… Exercise 2.1 Mask the prompt: not there yet",
        "labels still contain the prompt: use `-100` if i < n",
    ]
    assert "<code>-100</code> if i &lt; n" in block
    assert report.progress() == {"2.1": "tried"}


def not_written(ids): ...


def with_docstring(ids):
    """Return the labels."""
    ...  # your code here


def passed_over(ids):
    pass


def refused(ids):
    raise NotImplementedError


@pytest.mark.parametrize(
    "stub", [not_written, with_docstring, passed_over, refused, lambda ids: ..., ...]
)
def test_a_stub_is_not_started_and_not_remembered(shown, stub, record):
    result, plain, _ = shown(stub)
    assert not result and result.status == "not started"
    name = f"`{stub.__name__}`" if callable(stub) else "the cell above"
    assert plain.endswith(f"not started\nReplace the ... in {name}, run that cell, then this one.")
    assert not record.exists()


def without_return(ids):
    ids[0] = -100
    ...


def without_assignment(ids):
    [-100, *ids[1:]]


def without_else(ids):
    if len(ids) > 3:
        return ids


def emptied(ids):
    return ids.clear()


@pytest.mark.parametrize("function", [without_return, without_assignment, without_else, emptied])
def test_a_forgotten_return_is_told(shown, function):
    result, plain, _ = shown(function)
    assert result.status == "tried"
    assert f"`{function.__name__}` returns nothing here: end it with `return`" in plain


def test_a_callable_without_python_code_that_returns_nothing_is_no_stub(shown):
    result, *_ = shown([].append)
    assert result.status == "tried" and "`append` returns nothing" in result.message


def broken(ids):
    return helper(ids)


def helper(ids):
    return ids + 1  # the learner's mistake


def test_an_error_in_the_readers_code_is_one_sentence_with_its_line(shown):
    result, plain, _ = shown(broken)
    assert result.status == "tried"
    message = plain.splitlines()[1]
    assert message.startswith("`broken` stopped with TypeError: can only concatenate list")
    assert message.endswith("at the line `return ids + 1  # the learner's mistake`.")


def test_an_answer_of_another_kind_does_not_raise(shown):
    _, plain, _ = shown(lambda ids: 3)
    assert "could not work with the answer: TypeError: object of type 'int'" in plain


def test_nothing_is_printed_when_a_check_ends_the_cell(check):
    assert DisplayFormatter().format(check(not_written)) == ({}, {})


def test_passed_stays_passed(shown):
    for answer in (lambda ids: [-100, 6, 7], lambda ids: ids):
        shown(answer)
    assert report.progress() == {"2.1": "passed"}


def test_a_damaged_or_missing_record_counts_as_empty(shown, record):
    assert report.progress() == {}
    record.parent.mkdir()
    for content in ("{", "[1]", "\xff"):
        record.write_text(content, encoding="latin-1")
        assert report.progress() == {}
    shown(lambda ids: [-100, 6, 7])
    assert json.loads(record.read_text()) == {"2.1": "passed"}


def test_a_record_that_cannot_be_written_does_not_stop_the_check(shown, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("WORKBOOK_PROGRESS", str(tmp_path / "file" / "progress.json"))
    assert shown(lambda ids: [-100, 6, 7])[0]


def test_two_notebooks_at_once_lose_nothing():
    results = [report.Result(f"1.{number}", "passed", "") for number in range(20)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(report._remember, results))
    assert len(report.progress()) == 20


def test_the_record_is_in_the_cache_by_default(monkeypatch, tmp_path):
    monkeypatch.delenv("WORKBOOK_PROGRESS")
    monkeypatch.setenv("WORKBOOK_CACHE", str(tmp_path))
    report._remember(report.Result("1.1", "passed", ""))
    assert (tmp_path / "progress.json").exists()


def test_a_later_cell_takes_the_readers_function_once_it_has_passed(check, capsys):
    def library(ids):
        return ids

    def mask(ids):
        return [-100, *ids[1:]]

    assert checks.yours(mask, library) is library
    assert "uses the library's `library`: `mask` has not passed" in capsys.readouterr().out
    assert check(mask)
    assert checks.yours(mask, library) is mask
    assert "uses your `mask`" in capsys.readouterr().out


@pytest.mark.parametrize("answer", [..., None, [1, 2]])
def test_what_is_no_function_is_never_taken(answer):
    assert checks.yours(answer, sorted) is sorted


def test_a_function_that_was_changed_after_it_passed_has_to_pass_again(check):
    def mask(ids):
        return [-100, *ids[1:]]

    assert check(mask)

    def mask(ids):
        return ids

    assert checks.yours(mask, sorted) is sorted
