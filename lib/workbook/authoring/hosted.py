"""Notebooks for Colab and Kaggle: the learner edition behind a cell that brings the course."""

from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell

from .. import settings
from ..errors import WorkbookError
from . import build

SETUP = """\
# On Colab and Kaggle: brings the course and its packages, some minutes in a new session. On Kaggle
# first switch the internet on, in the settings of the notebook. Where you are asked to restart the
# session, do so, then run this cell again.
!git clone --quiet --depth 1 {address} course
%pip install --quiet -c course/constraints.txt -e "course[test]"
import os, sys
sys.path.insert(0, os.path.abspath("course/lib"))  # installed after this kernel had started
os.environ["WORKBOOK_LANGUAGE"] = "{language}"
"""


def setup_cell(language: str = "en") -> str:
    """Return the code that brings the course to a machine that has only a notebook of it.

    Raises WorkbookError while the repository has no address.
    """
    if not (address := settings.repository()):
        message = "write it into pyproject.toml, under [project.urls], as Repository."
        raise WorkbookError(f"The repository has no address yet: {message}")
    return SETUP.format(address=address, language=language)


def notebook(source: Path, language: str = "en") -> nbformat.NotebookNode:
    """Return the learner edition with the set-up cell before all others."""
    made = build.make(source, "learner", language)
    first = new_code_cell(setup_cell(language), id="set-up", metadata={"tags": ["set-up"]})
    made.cells.insert(0, first)
    return made
