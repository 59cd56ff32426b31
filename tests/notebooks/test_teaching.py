"""The pages of docs/ for those who teach: their numbers are present, nothing is made up."""

import json
import os
import re
import subprocess
import sys

import nbformat
import pytest

from workbook import cli, course, settings
from workbook.authoring import build, teaching
from workbook.authoring.sources import sources
from workbook.errors import WorkbookError

DOCS = settings.repo_root() / "docs"
GUIDE = (DOCS / "teaching.md").read_text("utf-8")
MESSAGES = (DOCS / "check_messages.md").read_text("utf-8")
MAP = (DOCS / "lecture_map.md").read_text("utf-8")
MISTAKES = re.findall(r"^\| (\d+\.\d+) \| (.+?) \| (.+?) \|$", GUIDE, re.MULTILINE)
LIVE = re.findall(r"^\| (\d\d) \| ([^\[|]+?) \| .+? \| .+? \|$", GUIDE, re.MULTILINE)
PLACES = re.findall(r"(\d\d) · ([^;|]+?)(?=[;|)]| \|)", MAP)
VERDICTS = ("agrees", "more precise", "corrects", "–")


def rows(text):
    return [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]


@pytest.mark.parametrize("part", teaching.PARTS)
def test_the_guide_shows_the_present_numbers(part):
    shown = {match[2]: match[0] for match in teaching.MARKED.finditer(GUIDE + MESSAGES)}
    assert f"\n{teaching.PARTS[part]()}\n" in shown[part], "run `make build`"


def test_every_part_of_the_guide_is_made():
    made = [match[2] for match in teaching.MARKED.finditer(GUIDE + MESSAGES)]
    assert sorted(made) == sorted(teaching.PARTS)


def test_plans_fit_their_time():
    def total(name):
        return sum(map(teaching.talk_minutes, teaching.PLANS[name]))

    assert 60 <= total("two-hours") <= 110, "the rest is for installing, questions and a break"
    assert 240 <= total("one-day") <= 360
    assert all(teaching.talk_minutes(session) <= 110 for session in teaching.WEEKLY)
    assert all(sum(teaching.home(session).values()) <= 150 for session in teaching.WEEKLY)


def test_the_weekly_plan_leaves_no_notebook_out():
    read = {number for session in teaching.WEEKLY for number in session.reading}
    there = {source.stem[:2] for source in sources()}
    assert there == {*teaching.numbers_of("weekly"), *read}


def test_minutes_of_the_sections_are_those_of_the_header(source):
    number = source.stem[:2]
    assert sum(teaching.sections(number).values()) == teaching.minutes(number).talk


@pytest.mark.parametrize(
    ("part", "exercises"),
    [
        (part, session.exercises)
        for sessions in teaching.PLANS.values()
        for session in sessions
        for part in session.parts
    ],
)
def test_a_session_shows_its_minutes_and_only_its_exercises(part, exercises):
    [source] = sources([part.number])
    cells = [build.own(cell) for cell in build.make(source, "solved").cells]
    shown = [cells[place - 1] for place in teaching.places(part, exercises)]
    assert sum(cell.get("minutes", 0) for cell in shown) == sum(teaching.shown(part).values())
    done = {cell["exercise"] for cell in shown if "exercise" in cell}
    assert {cell.get("exercise") for cell in cells} & set(exercises) <= done
    assert part.number == "02" or done <= set(exercises)  # whose exercises have minutes in the talk


def test_an_unknown_plan_section_or_exercise_is_refused():
    with pytest.raises(WorkbookError, match="choose from two-hours, one-day"):
        teaching.plan("two")
    with pytest.raises(WorkbookError, match="no section 'Nothing'"):
        teaching.talk_minutes(teaching.Session("x", (teaching.Part("03", ("Nothing",)),)))
    with pytest.raises(WorkbookError, match="no section 'Nothing'"):
        teaching.shown(teaching.Part("03", without=("Nothing",)))
    with pytest.raises(WorkbookError, match="no exercise 3.99"):
        teaching.exercise_minutes("3.99")


def test_exercises_done_in_class_are_not_given_as_homework():
    given = teaching.Session("x", (teaching.Part("03"),), exercises=("3.2",))
    rest = teaching.minutes("03").exercises - teaching.exercise_minutes("3.2")
    assert teaching._at_home(given) == f"exercises of 03, {rest:g}"


@pytest.mark.parametrize(("exercise", "message", "meaning"), MISTAKES)
def test_the_guide_quotes_the_checks(exercise, message, meaning):
    assert message in teaching.mistakes()[exercise][1] and len(meaning) > 20


def test_mistakes_are_those_of_every_check():
    known = teaching.mistakes()
    assert len(MISTAKES) >= 5 and set(known) == set(_exercises())
    assert "No gradient was computed: call `loss.backward()`." in known["3.2"][1]  # of a helper
    assert all(messages for _, messages in known.values())


def _exercises():
    for source in sources():
        yield from re.findall(r'exercise="([\d.]+)"', source.read_text("utf-8"))


def test_commands_of_the_guide_exist():
    names = {command.callback.__name__ for command in cli.app.registered_commands}
    asked = set(re.findall(r"bin/workbook (\w+)", GUIDE))
    assert {"present", "bundle", "run", "assign"} <= asked <= names


def test_the_guide_grades_with_the_commands_of_nbgrader_that_are_tested():
    tested = (settings.repo_root() / "tests" / "lib" / "test_assignments.py").read_text("utf-8")
    asked = re.findall(r"/nbgrader (\w+)", GUIDE)
    assert asked == ["generate_assignment", "autograde", "export"]
    assert all(f'nbgrader(course, "{command}"' in tested for command in asked)
    assert "'.[grading]'" in GUIDE and "not exported" not in GUIDE


def test_what_is_live_is_in_the_plan_of_two_hours():
    planned = {
        (part.number, name)
        for session in teaching.TWO_HOURS
        for part in session.parts
        for name in part.names
    }
    assert len(LIVE) == 3 and set(LIVE) <= planned


def test_there_are_questions_on_every_notebook_but_the_first():
    asked = set(re.findall(r"^- \*\*(\d\d)\*\*", GUIDE, re.MULTILINE))
    assert asked == {source.stem[:2] for source in sources()} - {"00"}


@pytest.mark.slow
def test_a_hand_in_is_graded_by_its_progress_file(tmp_path):
    cells = [
        "from workbook.checks import nb03",
        "def right(losses, patience):\n    return losses.index(min(losses))",
        "nb03.check_best_epoch(right)",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in cells])
    nbformat.write(notebook, tmp_path / "in.ipynb")
    graded = tmp_path / "kim.json"
    run = "from nbclient.cli import main; main()"  # what `jupyter execute` is
    command = [sys.executable, "-c", run, "--allow-errors", "in.ipynb"]
    places = {"WORKBOOK_PROGRESS": str(graded)}
    subprocess.run(command, cwd=tmp_path, env=os.environ | places, check=True, capture_output=True)
    assert json.loads(graded.read_text()) == {"3.4": "tried"}


# --------------------------------------------------------------------------------- the lecture map


@pytest.mark.parametrize(("number", "section"), PLACES)
def test_the_map_leads_to_sections_that_exist(number, section):
    planned = {chapter.number for chapter in course.planned()}
    assert (section == "planned") == (number in planned), "name the section, it is not planned now"
    assert section == "planned" or section in teaching.sections(number)


def test_every_row_of_the_map_says_what_the_course_holds_and_why():
    head, *entries = [row for row in rows(MAP) if not row[0].startswith(":")]
    assert len(head) == 4 and len(entries) > 30
    sweeps = settings.notebooks_dir() / "recorded" / "sweeps"
    for _topic, here, verdict, basis in entries:
        assert re.match(r"\d\d · ", here) and verdict.startswith(VERDICTS)
        kind, _, name = basis.partition(" ")
        assert kind in ("live", "planned", "–", "recorded")
        assert kind != "recorded" or (sweeps / f"{name}.json").exists(), basis
        assert (kind == "planned") <= all("planned" in place for place in here.split("; "))


def test_every_chapter_is_on_the_map():
    assert {number for number, _ in PLACES} == {chapter.number for chapter in course.CHAPTERS}
