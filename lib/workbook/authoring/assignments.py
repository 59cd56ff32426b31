"""Write notebooks as assignments that nbgrader releases, collects and grades.

The exercises keep their solutions between the marks that nbgrader knows too, and each check becomes
a locked test that fails unless the check has passed. nbgrader itself is not needed here.
"""

import ast
from pathlib import Path

import nbformat

from .. import course
from ..errors import WorkbookError
from ..files import atomic_path
from . import build

CONFIG = '''\
"""Settings of nbgrader for this course: its commands are run in this folder."""

import os
import sys
from pathlib import Path

c = get_config()
c.CourseDirectory.course_id = "workbook"
# The stub of the course, which runs: later cells do not need an answer.
c.ClearSolutions.code_stub = {"python": "...  # your code here"}
# Seconds for a cell: some train a model, unless the run cache has it already.
c.Execute.timeout = 1800
# What is graded is not what the grader has solved, and a warning is no mistake: nbgrader takes
# everything that a test writes to stderr for a failure.
os.environ["WORKBOOK_PROGRESS"] = str(Path(__file__).with_name("progress.json"))
os.environ["PYTHONWARNINGS"] = "ignore"
# nbgrader calls a program that is installed beside it.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
'''


def write(source: Path, folder: Path) -> Path:
    """Write the assignment of a source into the folder of an nbgrader course; return the file.

    It is `source/NN_name/NN_name.ipynb`. Settings for nbgrader are written beside where there are
    none yet. Raises WorkbookError for a notebook without exercises.
    """
    notebook = assignment(source)
    path = folder / "source" / source.stem / f"{source.stem}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    build.write(notebook, path)
    config = folder / "nbgrader_config.py"
    if not config.exists():
        with atomic_path(config) as draft:
            draft.write_text(CONFIG, encoding="utf-8")
    return path


def assignment(source: Path) -> nbformat.NotebookNode:
    """Return a source as nbgrader's source version: solutions inside, tests locked, with points.

    The points of an exercise are the minutes that it is said to take. Raises WorkbookError for a
    notebook without exercises, and where a check is more than a call.
    """
    notebook = build.make(source, "marked")
    points = course.stated_minutes(notebook.cells)
    if not points:
        raise WorkbookError(f"{source.name} has no exercise to grade: choose another notebook.")
    for cell in notebook.cells:
        if number := build.own(cell).get("exercise"):
            cell.metadata.nbgrader = _mark(f"exercise-{number}", solution=True)
        elif number := build.own(cell).get("check"):
            cell.source = _asserted(cell.source, f"{source.name}, check {number}")
            cell.metadata.nbgrader = _mark(f"check-{number}", grade=True, locked=True)
            cell.metadata.nbgrader.points = points[number]
    return notebook


def _mark(name: str, *, solution: bool = False, grade: bool = False, locked: bool = False):
    """Return what nbgrader notes about a cell, by its schema 3."""
    kinds = {"solution": solution, "grade": grade, "locked": locked, "task": False}
    grade_id = name.replace(".", "-")
    noted = {"schema_version": 3, "cell_type": "code", "grade_id": grade_id, **kinds}
    return nbformat.from_dict(noted)


def _asserted(code: str, place: str) -> str:
    """Return a check that fails where it has not passed: itself it never raises."""
    body = ast.parse(code).body
    is_one = len(body) == 1 and isinstance(body[0], ast.Expr)
    if not (is_one and isinstance(body[0].value, ast.Call)):
        raise WorkbookError(f"{place}: what is graded is one call of a check, and nothing else.")
    return f"assert {code.strip()}"
