"""Find the sources of the notebooks by their numbers; imports nothing that takes time."""

from pathlib import Path

from .. import settings
from ..errors import WorkbookError


def sources(selection=()) -> list[Path]:
    """Return the sources of the notebooks with the given numbers; all without numbers.

    Numbers have two digits; "3" stands for "03". Raises WorkbookError for one without a notebook.
    """
    found = {
        path.name[:2]: path
        for path in sorted((settings.notebooks_dir() / "source").glob("[0-9][0-9]_*.py"))
    }
    wanted = {number.zfill(2): number for number in selection}
    for number in wanted.keys() - found.keys():
        choice = ", ".join(found) or "none"
        raise WorkbookError(f"There is no notebook {wanted[number]!r}: choose from {choice}.")
    return [path for number, path in found.items() if not wanted or number in wanted]
