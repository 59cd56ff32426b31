"""Notebooks as assignments: what nbgrader reads, and what its own converters make of it."""

import csv
import importlib.util
import os
import re
import subprocess
import sys

import nbformat
import pytest
from typer.testing import CliRunner

from workbook import cli, settings
from workbook.authoring import assignments, build
from workbook.authoring.sources import sources
from workbook.errors import WorkbookError

SOURCE = '''\
# %% [markdown] slide="slide" minutes=1
# # Small

# %% [markdown] slide="notes"
# Say it aloud.

# %%
from workbook.checks.report import call, exercise, expect


@exercise("98.1", "Mean")
def check_mean(function):
    """Check a mean."""
    expect(call(function, [1, 3]) == 2, "Divide the sum by the count.")


@exercise("98.2", "Largest")
def check_largest(function):
    """Check a maximum."""
    expect(call(function, [1, 3, 2]) == 3, "Three is the largest.")


@exercise("98.3", "Count")
def check_count(function):
    """Check a count."""
    expect(call(function, [1, 3]) == 2, "There are two.")

# %% [markdown]
# **Difficulty:** easy. **Importance:** high. **Minutes:** 5.

# %% exercise="98.1"
def mean(values):
    """Return the mean."""
    # BEGIN SOLUTION
    return sum(values) / len(values)
    # END SOLUTION

# %% check="98.1"
check_mean(mean)

# %% [markdown]
# **Difficulty:** medium. **Importance:** high. **Minutes:** 8.

# %% exercise="98.2"
def largest(values):
    # BEGIN SOLUTION
    return max(values)
    # END SOLUTION

# %% check="98.2"
check_largest(largest)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Compare.
#
# </details>

# %% [markdown]
# **Difficulty:** easy. **Importance:** high. **Minutes:** 2.

# %% exercise="98.3"
def count(values):
    # BEGIN SOLUTION
    return len(values)
    # END SOLUTION

# %% check="98.3"
check_count(count)
'''
NAME = "98_small"
WITH_EXERCISES = [source for source in sources() if 'exercise="' in source.read_text("utf-8")]
RIGHT_WITH_A_WARNING = """\
def mean(values):
    import warnings
    warnings.warn("this way of counting is old")
    return sum(values) / len(values)
"""


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "repo_root", lambda: tmp_path)
    path = tmp_path / "notebooks" / "source" / f"{NAME}.py"
    path.parent.mkdir(parents=True)
    path.write_text(SOURCE, "utf-8")
    return path


def marked(notebook):
    """Return the cells that nbgrader knows, by its ids."""
    cells = (cell for cell in notebook.cells if "nbgrader" in cell.metadata)
    return {cell.metadata.nbgrader.grade_id: cell for cell in cells}


def test_exercises_are_solutions_and_checks_are_locked_tests_with_points(source):
    notebook = assignments.assignment(source)
    nbformat.validate(notebook)
    cells = marked(notebook)
    assert list(cells) == [
        f"{kind}-98-{number}" for number in (1, 2, 3) for kind in ("exercise", "check")
    ]
    exercise, check = cells["exercise-98-1"], cells["check-98-1"]
    assert exercise.metadata.nbgrader == {
        "schema_version": 3, "cell_type": "code", "grade_id": "exercise-98-1",
        "solution": True, "grade": False, "locked": False, "task": False,
    }  # fmt: skip
    assert (
        "    # BEGIN SOLUTION\n    return sum(values) / len(values)\n    # END" in exercise.source
    )
    assert check.source == "assert check_mean(mean)"
    assert check.metadata.nbgrader == {
        "schema_version": 3, "cell_type": "code", "grade_id": "check-98-1", "points": 5,
        "solution": False, "grade": True, "locked": True, "task": False,
    }  # fmt: skip
    assert cells["check-98-2"].metadata.nbgrader.points == 8


def test_no_solution_and_no_speaker_note_stands_in_the_text(source):
    texts = [c.source for c in assignments.assignment(source).cells if c.cell_type == "markdown"]
    assert not any("sum(values)" in text or "Say it aloud" in text for text in texts)
    assert any("Hint 1" in text for text in texts)


@pytest.mark.parametrize("path", WITH_EXERCISES, ids=lambda path: path.stem)
def test_every_notebook_of_the_course_can_be_graded(path):
    cells = marked(assignments.assignment(path))
    numbers = re.findall(r'exercise="([\d.]+)"', path.read_text("utf-8"))
    assert list(cells) == [
        f"{kind}-{number.replace('.', '-')}" for number in numbers for kind in ("exercise", "check")
    ]
    tests = [cell for cell in cells.values() if cell.metadata.nbgrader.grade]
    assert all(cell.metadata.nbgrader.points > 0 for cell in tests)
    assert all(cell.source.startswith("assert checks.nb") for cell in tests)


def test_a_notebook_without_exercises_is_refused(source):
    source.write_text("# %%\n1\n", "utf-8")
    with pytest.raises(WorkbookError, match="has no exercise to grade"):
        assignments.assignment(source)


@pytest.mark.parametrize("code", ["check_mean(mean)\n1", "passed = check_mean(mean)", "mean"])
def test_a_check_that_cannot_be_asserted_is_refused(source, code):
    source.write_text(SOURCE.replace("\ncheck_mean(mean)", f"\n{code}"), "utf-8")
    with pytest.raises(WorkbookError, match="98_small.py, check 98.1: what is graded is one call"):
        assignments.assignment(source)


def test_the_command_writes_the_assignment_and_settings_that_it_leaves_alone(source, tmp_path):
    course = tmp_path / "new" / "course"
    for _ in range(2):
        told = CliRunner().invoke(cli.app, ["assign", "98", "--out", str(course)])
        path = course / "source" / NAME / f"{NAME}.ipynb"
        assert told.stdout == f"{path}\n"
        assert build.read(path) == assignments.assignment(source)
        (course / "nbgrader_config.py").write_text("mine")
    assert (course / "nbgrader_config.py").read_text() == "mine"


# --------------------------------------------------------------------------- nbgrader's converters


def nbgrader(course, *arguments):
    """Run a command of nbgrader in the folder of a course, as an instructor does."""
    command = [sys.executable, "-m", "nbgrader", *arguments]
    done = subprocess.run(command, cwd=course, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def hand_in(course, student, **answers):
    """Hand in the released notebook with other code in some cells, named by nbgrader's ids."""
    notebook = build.read(course / "release" / NAME / f"{NAME}.ipynb")
    for name, code in answers.items():
        marked(notebook)[name.replace("_", "-")].source = code
    build.write(notebook, course / "submitted" / student / NAME / f"{NAME}.ipynb")


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("nbgrader") is None,
    reason="nbgrader is not installed: pip install -c constraints.txt -e '.[grading]'",
)
def test_nbgrader_releases_stubs_and_grades_what_was_handed_in(source, tmp_path):
    from nbgrader.api import Gradebook

    course, own = tmp_path / "course", os.environ["WORKBOOK_PROGRESS"]
    assignments.write(source, course)
    nbgrader(course, "generate_assignment", NAME)
    released = build.read(course / "release" / NAME / f"{NAME}.ipynb")
    stub = marked(released)["exercise-98-1"].source
    assert stub.endswith('"""Return the mean."""\n    ...  # your code here')
    assert "SOLUTION" not in build.dumps(released) and "max(values)" not in build.dumps(released)

    wrong = "def largest(values):\n    return values[0]"
    changed = {"exercise_98_2": wrong, "check_98_2": "assert True"}  # the third is left as it was
    hand_in(course, "kim", exercise_98_1=RIGHT_WITH_A_WARNING, **changed)
    nbgrader(course, "autograde", NAME)
    with Gradebook(f"sqlite:///{course}/gradebook.db") as book:
        [kim] = book.find_submission(NAME, "kim").notebooks
        scores = {grade.name: (grade.score, grade.max_score) for grade in kim.grades}
    assert scores == {"check-98-1": (5, 5), "check-98-2": (0, 8), "check-98-3": (0, 2)}
    graded = build.read(course / "autograded" / "kim" / NAME / f"{NAME}.ipynb")
    assert "Three is the largest." in build.dumps(graded)  # the check's advice is kept
    nbgrader(course, "export")
    [row] = csv.DictReader((course / "grades.csv").read_text("utf-8").splitlines())
    assert (row["student_id"], row["score"], row["max_score"]) == ("kim", "5.0", "15.0")
    assert (course / "progress.json").exists() and not os.path.exists(own)  # the grader's own
