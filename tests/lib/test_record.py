"""Progress by notebook, and the record of it as one HTML file."""

import datetime
import importlib.metadata
import re

import pytest
from bs4 import BeautifulSoup
from typer.testing import CliRunner

from workbook import checks, cli, course, settings
from workbook.checks import record, report
from workbook.errors import WorkbookError

NUMBERED = [chapter for chapter in course.CHAPTERS if chapter.notebook]


def solve(*numbers):
    for number in numbers:
        report._remember(report.Result(number, "passed", ""))


def test_exercises_and_their_minutes_are_those_of_the_notebook():
    found = course.exercise_minutes(NUMBERED[3].notebook)
    text = (settings.notebooks_dir() / "source" / "03_single_task_tuning.py").read_text("utf-8")
    assert sum(found.values()) == int(re.search(r"\(of which (\d+) on exercises\)", text)[1])
    assert list(found) == [number for number in checks.titles() if number.startswith("3.")]


def test_every_exercise_with_a_check_is_counted():
    counted = [number for chapter in record.chapters() for number in chapter.exercises]
    assert set(counted) == set(checks.titles()) and len(counted) == len(set(counted))


def test_a_row_counts_what_was_passed_alone():
    solve("3.1", "3.4")
    report._remember(report.Result("3.2", "tried", ""))
    report.remember_quiz("03", 4, 5)
    [row] = [chapter for chapter in record.chapters() if chapter.number == "03"]
    minutes = course.exercise_minutes(NUMBERED[3].notebook)
    assert row.passed == ["3.1", "3.4"] and row.quiz == "4 of 5"
    assert row.minutes == minutes["3.1"] + minutes["3.4"]
    assert record.summary([row]).startswith("2 of 5 exercises passed, 1 of 1 quizzes answered")


def test_a_fresh_learner_sees_zeros():
    checks.table()
    assert record.summary(record.chapters()).startswith("0 of ")


def test_progress_is_a_row_a_notebook_that_leads_to_it(monkeypatch):
    solve("3.1")
    shown = []
    monkeypatch.setattr(record, "display", lambda data, raw: shown.append(data))
    checks.table()
    lines = shown[0]["text/markdown"].splitlines()
    assert lines[0].startswith("1 of ") and len(lines) == 4 + len(record.chapters())
    [row] = [line for line in lines if "(03_single_task_tuning.ipynb)" in line]
    assert row.startswith("| [03 Single-task tuning](03_single_task_tuning.ipynb) | 1 of 5 | – | ")


def test_the_record_is_one_file_that_needs_no_network_and_says_what_it_is(tmp_path):
    solve("3.1", "2.2")
    path = checks.write_record(" Kim <b>김</b> & Co. ", tmp_path / "new" / "completion.html")
    text = path.read_text("utf-8")
    soup = BeautifulSoup(text, "html.parser")
    assert "Kim <b>김</b> & Co. worked through" in soup.text
    assert importlib.metadata.version("workbook") in soup.text
    assert datetime.date.today().isoformat() in soup.text
    assert [item.text for item in soup.select("li")] == [
        f"{number} {checks.titles()[number]}" for number in ("2.2", "3.1")
    ]
    assert "This is no certificate." in soup.text and soup.html["lang"] == "en"
    assert not soup.find_all(["script", "link", "img"]) and "http" not in text


def test_without_a_name_nothing_is_written(tmp_path):
    solve("3.1")
    with pytest.raises(WorkbookError, match="Write your name"):
        checks.write_record("  ", tmp_path / "completion.html")
    assert not list(tmp_path.glob("*.html"))


def test_the_command_writes_it_into_the_learners_folder(tmp_path, monkeypatch):
    solve("3.1")
    done = record.chapters()
    monkeypatch.setattr(record, "chapters", lambda: done)
    monkeypatch.setattr(settings, "repo_root", lambda: tmp_path)
    result = CliRunner().invoke(cli.app, ["record", "Kim"])
    assert result.exit_code == 0 and "Kim" in (tmp_path / "my" / "completion.html").read_text()


def test_a_record_of_nothing_is_refused(tmp_path):
    with pytest.raises(WorkbookError, match="No exercise is passed yet"):
        checks.write_record("Kim", tmp_path / "completion.html")
