"""Derive the learner and the solved edition of each notebook from its percent source."""

import hashlib
import re
from collections import Counter
from pathlib import Path

import jupytext
import nbformat
from nbformat.v4 import new_markdown_cell

from . import settings
from .assets import atomic_path
from .errors import WorkbookError

EDITIONS = ("learner", "solved")
OWN_KEYS = ("minutes", "exercise", "check", "claims", "literature", "code")
CODE_ON_SLIDES = ("show", "hide")
SLIDE_TYPES = ("slide", "subslide", "fragment", "skip", "notes", "-")
JUPYTEXT_KEYS = {"lines_to_next_cell", "lines_to_end_of_cell_marker"}
SOLUTION = re.compile(
    r"^([ \t]*)# BEGIN SOLUTION[ \t]*\n(.*?)^[ \t]*# END SOLUTION[ \t]*$", re.DOTALL | re.MULTILINE
)
# Links to other notebooks stay: both editions have them all side by side.
LINK = re.compile(r"""(\]\(|(?:src|href)=")(?!#|/|\w+:|\d\d_\w+\.ipynb)""")
PYTHON = {"display_name": "Python 3", "language": "python", "name": "python3"}


def folder() -> Path:
    """Return the folder of the learner edition, which holds `source/` and `solutions/`."""
    return settings.repo_root() / "notebooks"


def sources(selection=()) -> list[Path]:
    """Return the sources whose names start with one of the given numbers; all without numbers."""
    found = sorted((folder() / "source").glob("[0-9][0-9]_*.py"))
    unknown = [n for n in selection if not any(path.name.startswith(n) for path in found)]
    if unknown:
        names = ", ".join(path.stem for path in found) or "none"
        raise WorkbookError(f"There is no notebook {unknown[0]!r}: choose from {names}.")
    return [path for path in found if path.name.startswith(tuple(selection) or "")]


def output_path(source: Path, edition: str) -> Path:
    """Return where the given edition of a source is kept."""
    place = folder() if edition == "learner" else folder() / "solutions"
    return place / f"{source.stem}.ipynb"


def source_hash(source: Path) -> str:
    """Return the SHA-256 of a source, blind to line endings, trailing blanks and outer lines."""
    lines = [line.rstrip() for line in source.read_text(encoding="utf-8").splitlines()]
    return hashlib.sha256("\n".join(lines).strip().encode()).hexdigest()


def code_hash(notebook: nbformat.NotebookNode) -> str:
    """Return the SHA-256 of the code cells alone: prose may change without a new measurement."""
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256("\0".join(code).encode()).hexdigest()


def make(source: Path, edition: str) -> nbformat.NotebookNode:
    """Return one edition of a source as a notebook without outputs.

    Raises WorkbookError that names the file and the cell when the source breaks a rule.
    """
    notebook = jupytext.reads(source.read_text(encoding="utf-8"), fmt="py:percent")
    for number, cell in enumerate(notebook.cells, 1):
        _translate(cell, f"{source.name}, cell {number}")
    _require_pairs(notebook.cells, source.name)
    (_make_learner if edition == "learner" else _make_solved)(notebook)
    mark = {"source": source.name, "source_sha256": source_hash(source), "edition": edition}
    language = {"name": "python"}
    notebook.metadata = {"kernelspec": PYTHON, "language_info": language, "workbook": mark}
    _number(notebook)
    return nbformat.from_dict(notebook)


def own(cell) -> dict:
    """Return what the course noted about a cell: the values of OWN_KEYS."""
    return cell.metadata.get("workbook", {})


def stub(code: str) -> str:
    """Return the code with each marked solution replaced by `...  # your code here`."""
    return SOLUTION.sub(r"\1...  # your code here", code)


def solution(code: str) -> str:
    """Return the code with each marked solution kept and its markers removed."""
    return SOLUTION.sub(lambda match: match[2].rstrip("\n"), code)


def write(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Write a notebook atomically; the same notebook always gives the same bytes."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(dumps(notebook).encode())


def dumps(notebook: nbformat.NotebookNode) -> str:
    """Return the text of a notebook file, ending in one line break."""
    return nbformat.writes(notebook, version=4).rstrip("\n") + "\n"


def build(selection=()) -> list[Path]:
    """Write the learner edition of the selected notebooks and return the files."""
    paths = []
    for source in sources(selection):
        paths.append(output_path(source, "learner"))
        write(make(source, "learner"), paths[-1])
    return paths


def _translate(cell, place: str) -> None:
    """Turn the keys of a percent cell marker into notebook metadata, in place."""
    given = {key: value for key, value in cell.metadata.items() if key not in JUPYTEXT_KEYS}
    hidden = cell.source.startswith("<details>")
    slide = given.pop("slide", "skip" if hidden else "-")
    unknown = set(given) - {*OWN_KEYS, "tags"}
    if unknown or slide not in SLIDE_TYPES:
        raise WorkbookError(f"{place}: mend {sorted(unknown) or slide!r} in the cell's marker.")
    if given.get("code", "show") not in CODE_ON_SLIDES:
        raise WorkbookError(f"{place}: `code` is {' or '.join(CODE_ON_SLIDES)}.")
    if ("exercise" in given) != bool(SOLUTION.search(cell.source)):
        raise WorkbookError(f"{place}: an exercise needs its key and BEGIN/END SOLUTION marks.")
    cell.metadata = nbformat.from_dict({"tags": given.pop("tags")} if "tags" in given else {})
    cell.metadata["slideshow"] = {"slide_type": slide}
    if given:
        cell.metadata["workbook"] = given
    if slide == "notes":
        cell.source = _details("Speaker notes", cell.source)


def _make_learner(notebook) -> None:
    notebook.cells = _with_solutions(notebook.cells)
    for cell in notebook.cells:
        if "exercise" in own(cell):
            cell.source = stub(cell.source)


def _make_solved(notebook) -> None:
    """Keep the solutions, and mend the links, which start one folder deeper."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = LINK.sub(r"\1../", cell.source)
        elif "exercise" in own(cell):
            cell.source = solution(cell.source)


def _require_pairs(cells, name: str) -> None:
    """Raise unless each exercise has a check of the same name, and the reverse."""
    exercises = [own(cell)["exercise"] for cell in cells if "exercise" in own(cell)]
    checks = [own(cell)["check"] for cell in cells if "check" in own(cell)]
    if exercises != checks or len(set(checks)) < len(checks):
        raise WorkbookError(f"{name}: pair exercises {exercises} with checks {checks}, in order.")


def _with_solutions(cells) -> list:
    """Return the cells with a closed solution after each check and the hints that follow it."""
    code = {own(c)["exercise"]: solution(c.source) for c in cells if "exercise" in own(c)}
    result, waiting = [], None
    for cell in [*cells, new_markdown_cell()]:
        if waiting and not cell.source.startswith("<details><summary>Hint"):
            result.append(_solution_cell(code[waiting]))
            waiting = None
        waiting = own(cell).get("check", waiting)
        result.append(cell)
    return result[:-1]


def _solution_cell(code: str):
    cell = new_markdown_cell(_details("Solution", f"```python\n{code}\n```"))
    cell.metadata["slideshow"] = {"slide_type": "skip"}
    return cell


def _details(summary: str, text: str) -> str:
    return f"<details><summary>{summary}</summary>\n\n{text}\n\n</details>"


def _number(notebook) -> None:
    """Give each cell an id made of its text, so that an id survives changes elsewhere."""
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    seen = Counter()
    for cell in notebook.cells:
        seen[cell.source] += 1
        text = f"{seen[cell.source]}:{cell.cell_type}:{cell.source}"
        cell.id = hashlib.sha256(text.encode()).hexdigest()[:12]
