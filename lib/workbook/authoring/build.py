"""Derive the learner and the solved edition of each notebook from its percent source."""

import hashlib
import re
from collections import Counter
from pathlib import Path

import jupytext
import nbformat
from nbformat.v4 import new_markdown_cell

from .. import settings, translation
from ..errors import WorkbookError
from ..files import atomic_path
from .sources import sources

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
QUIZ = re.compile(r'^checks\.quiz\("(\d\d)"\)', re.MULTILINE)
PYTHON = {"display_name": "Python 3", "language": "python", "name": "python3"}


def output_path(source: Path, edition: str, language: str = "en") -> Path:
    """Return where the given edition of a source is kept."""
    place = settings.notebooks_dir() if language == "en" else settings.notebooks_dir() / language
    return (place if edition == "learner" else place / "solutions") / f"{source.stem}.ipynb"


def source_hash(source: Path, language: str = "en") -> str:
    """Return the SHA-256 of a source, blind to line endings, trailing blanks and outer lines.

    In another language the translation counts too.
    """
    records = translation.path(source, language)
    files = [source, *([records] if language != "en" and records.exists() else [])]
    texts = [file.read_text(encoding="utf-8").splitlines() for file in files]
    lines = ["\n".join(line.rstrip() for line in text).strip() for text in texts]
    return hashlib.sha256("\0".join(lines).encode()).hexdigest()


def version(notebook: nbformat.NotebookNode) -> str | None:
    """Return the hash of the source that a notebook was made from, None where it has none."""
    return notebook.metadata.get("workbook", {}).get("source_sha256")


def code_hash(notebook: nbformat.NotebookNode) -> str:
    """Return the SHA-256 of the code cells alone: prose may change without a new measurement."""
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256("\0".join(code).encode()).hexdigest()


def make(
    source: Path, edition: str, language: str = "en", notes: bool | None = None
) -> nbformat.NotebookNode:
    """Return one edition of a source as a notebook without outputs.

    Another language changes the texts alone; code cells are those of the English edition. Speaker
    notes are in the solved edition, which instructors show, unless `notes` says otherwise. Beside
    EDITIONS there is "marked", with the solutions between their marks.

    Raises WorkbookError that names the file and the cell when the source breaks a rule.
    """
    notebook = _read_source(source)
    translation.apply(notebook.cells, source, language)
    for number, cell in enumerate(notebook.cells, 1):
        _read_marker(cell, f"{source.name}, cell {number}", language)
    _require_pairs(notebook.cells, source.name)
    if edition == "learner":
        _make_learner(notebook, language)
    elif edition == "solved":
        _keep_solutions(notebook.cells)
    if not (edition == "solved" if notes is None else notes):
        notebook.cells = [cell for cell in notebook.cells if not is_note(cell)]
    _mend_links(notebook.cells, "../" * ((edition == "solved") + (language != "en")))
    hashed = source_hash(source, language)
    mark = {"source": source.name, "source_sha256": hashed, "edition": edition}
    if language != "en":
        mark["language"] = language
    code = {"name": "python"}
    notebook.metadata = {"kernelspec": PYTHON, "language_info": code, "workbook": mark}
    _number(notebook)
    return nbformat.from_dict(notebook)


def texts(source: Path) -> list[str]:
    """Return the texts of a source that a translation translates, in order."""
    return [cell.source for cell in _read_source(source).cells if cell.cell_type == "markdown"]


def _read_source(source: Path) -> nbformat.NotebookNode:
    return jupytext.reads(source.read_text(encoding="utf-8"), fmt="py:percent")


def own(cell) -> dict:
    """Return what the course noted about a cell: the values of OWN_KEYS."""
    return cell.metadata.get("workbook", {})


def is_note(cell) -> bool:
    """Tell whether a cell holds speaker notes."""
    return cell.metadata.get("slideshow", {}).get("slide_type") == "notes"


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


def write_text(path: Path, text: str) -> None:
    """Write a made page atomically, where it is not there yet as it should be."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        with atomic_path(path) as draft:
            draft.write_text(text, encoding="utf-8")


def dumps(notebook: nbformat.NotebookNode) -> str:
    """Return the text of a notebook file, ending in one line break."""
    return nbformat.writes(notebook, version=4).rstrip("\n") + "\n"


def read(path: Path) -> nbformat.NotebookNode:
    """Return the notebook kept at `path`; raises WorkbookError where the file is none."""
    try:
        return nbformat.read(path, as_version=4)
    except (ValueError, LookupError, AttributeError, TypeError, nbformat.ValidationError):
        place = path.relative_to(settings.repo_root()).as_posix()
        message = "cannot be read as a notebook: move it to another folder, then try again."
        raise WorkbookError(f"{place} {message}") from None


def build(selection=(), overwrite: bool = False, language: str = "en") -> list[Path]:
    """Write the learner edition of the selected notebooks and return the files.

    Raises WorkbookError, with nothing written, where somebody wrote into one of these files,
    unless `overwrite` says that this may be lost. Changed prose goes into the solved edition too
    where the code that was executed is the same; in another language it is made anew, with the
    outputs of the English one, but for the quiz, which is in that language.
    """
    paths = {output_path(source, "learner", language): source for source in sources(selection)}
    for path in paths:
        if not overwrite and path.exists():
            _require_unwritten(path)
    for path, source in paths.items():
        write(make(source, "learner", language), path)
        _renew_prose(source, language)
    return list(paths)


def _renew_prose(source: Path, language: str) -> None:
    path, made = output_path(source, "solved"), make(source, "solved", language)
    kept = read(path) if path.exists() else None
    if kept and code_hash(kept) == code_hash(made):
        executed = iter([cell for cell in kept.cells if cell.cell_type == "code"])
        for cell in made.cells:
            if cell.cell_type == "code":
                old = next(executed)
                cell.outputs, cell.execution_count = old.outputs, old.execution_count
        _put_quiz(made.cells, language)
        write(made, output_path(source, "solved", language))


def is_executed(source: Path) -> bool:
    """Tell whether a source has an executed edition, of its present code or of an older one."""
    return output_path(source, "solved").exists()


def executed(source: Path) -> nbformat.NotebookNode:
    """Return the executed solved edition of a source.

    Raises WorkbookError when the notebook was not executed, or its code has changed since.
    """
    run = f"do `workbook run {source.stem[:2]} --write`"
    if not is_executed(source):
        message = "has no slides yet, since it was not executed: if you write the course"
        raise WorkbookError(f"{source.stem} {message}, {run} first.")
    kept = read(output_path(source, "solved"))
    if code_hash(kept) != code_hash(make(source, "solved")):
        raise WorkbookError(f"{source.stem} has changed since it was executed: {run} again.")
    return kept


def with_outputs(source: Path, language: str = "en") -> nbformat.NotebookNode:
    """Return the learner edition with notes and, but for exercises, the outputs of the solved.

    In another language its quiz is in that language.
    """
    notebook = make(source, "learner", language, notes=True)
    outputs = [cell.outputs for cell in executed(source).cells if cell.cell_type == "code"]
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell, found in zip(code, outputs, strict=True):
        cell.outputs = [] if "exercise" in own(cell) else list(filter(_can_be_shown, found))
    _put_quiz(code, language)
    return notebook


def _put_quiz(cells, language: str) -> None:
    """Put the quiz in another language in place of the English one among the outputs."""
    asked = [(cell, QUIZ.search(cell.source)) for cell in cells if language != "en"]
    for cell, number in asked:
        for output in cell.get("outputs", []) if number else []:
            if "<details" in output.get("data", {}).get("text/html", ""):
                from ..checks import quizzes  # which takes seconds, as it imports torch

                output.data = nbformat.from_dict(quizzes.rendered(number[1], language))


def _can_be_shown(output) -> bool:
    """Tell whether an output is neither a script nor meant for the terminal."""
    return output.get("name") != "stderr" and "application/javascript" not in output.get("data", {})


def written_cells(notebook) -> list:
    """Return the cells that somebody wrote into a notebook since it was built.

    An id is made of the cell's text, and Jupyter keeps it when the text changes; a cell that
    was added has another kind of id.
    """
    pairs = zip(notebook.cells, _ids(notebook.cells), strict=True)
    return [cell for cell, id in pairs if cell.source.strip() and cell.get("id") != id]


def _require_unwritten(path: Path) -> None:
    cells = written_cells(read(path))
    if not cells:
        return
    answers = ", ".join(own(cell)["exercise"] for cell in cells if "exercise" in own(cell))
    what = f"answers to {answers}" if answers else f"{len(cells)} cell(s) that somebody wrote"
    place = path.relative_to(settings.repo_root()).as_posix()
    option = f" --language {path.parent.name}" if path.parent.name in settings.LANGUAGES else ""
    raise WorkbookError(
        f"{place} holds {what}: copy the file into my/ under another name, then "
        f"go on with `workbook build {path.name[:2]} --overwrite{option}`."
    )


def _read_marker(cell, place: str, language: str) -> None:
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
        cell.source = _details(translation.say("Speaker notes", language), cell.source)


def _make_learner(notebook, language: str) -> None:
    notebook.cells = _with_solutions(notebook.cells, language)
    for cell in notebook.cells:
        if "exercise" in own(cell):
            cell.source = stub(cell.source)


def _keep_solutions(cells) -> None:
    for cell in cells:
        if "exercise" in own(cell):
            cell.source = solution(cell.source)


def _mend_links(cells, up: str) -> None:
    """Write the links, which are those of `notebooks/`, as seen from deeper folders."""
    for cell in cells:
        if cell.cell_type == "markdown":
            cell.source = LINK.sub(rf"\1{up}", cell.source)


def _require_pairs(cells, name: str) -> None:
    """Raise unless each exercise has a check of the same name, and the reverse."""
    exercises = [own(cell)["exercise"] for cell in cells if "exercise" in own(cell)]
    checks = [own(cell)["check"] for cell in cells if "check" in own(cell)]
    if exercises != checks or len(set(checks)) < len(checks):
        raise WorkbookError(f"{name}: pair exercises {exercises} with checks {checks}, in order.")


def _with_solutions(cells, language: str) -> list:
    """Return the cells with a closed solution after each check and the hints that follow it."""
    code = {own(c)["exercise"]: solution(c.source) for c in cells if "exercise" in own(c)}
    hints = [f"<details><summary>{word}" for word in ("Hint", translation.say("Hint", language))]
    result, waiting = [], None
    for cell in [*cells, new_markdown_cell()]:
        if waiting and not cell.source.startswith(tuple(hints)):
            result.append(_solution_cell(code[waiting], language))
            waiting = None
        waiting = own(cell).get("check", waiting)
        result.append(cell)
    return result[:-1]


def _solution_cell(code: str, language: str):
    summary = translation.say("Solution", language)
    cell = new_markdown_cell(_details(summary, f"```python\n{code}\n```"))
    cell.metadata["slideshow"] = {"slide_type": "skip"}
    return cell


def _details(summary: str, text: str) -> str:
    return f"<details><summary>{summary}</summary>\n\n{text}\n\n</details>"


def _number(notebook) -> None:
    """Give each cell an id made of its text, so that an id survives changes elsewhere."""
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for cell, id in zip(notebook.cells, _ids(notebook.cells), strict=True):
        cell.id = id


def _ids(cells) -> list[str]:
    """Return for each cell the id that belongs to its text."""
    seen, ids = Counter(), []
    for cell in cells:
        seen[cell.source] += 1
        text = f"{seen[cell.source]}:{cell.cell_type}:{cell.source}"
        ids.append(hashlib.sha256(text.encode()).hexdigest()[:12])
    return ids
