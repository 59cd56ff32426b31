"""The working copies in `my/`: made on first use, opened in JupyterLab, and never overwritten."""

import contextlib
import datetime
import hashlib
import json
import os
import posixpath
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path

from . import settings
from .authoring import build
from .authoring.sources import sources
from .errors import WorkbookError
from .files import atomic_path

CONFIG = Path(__file__).parent / "jupyter"
LINK = re.compile(build.LINK.pattern + r"""([^\s)"]+)""")


class State(StrEnum):
    """How a working copy stands beside the edition of the course."""

    missing = "missing"
    current = "current"
    untouched = "untouched"  # older than the course's, with nothing of the learner in it
    older = "older than the course's"
    unreadable = "cannot be read"


def folder(edition: str = "learner") -> Path:
    """Return where the working copies of an edition are, in the reader's language.

    That is `my/` or `my/solutions/`, and `my/ko/` or `my/ko/solutions/`.
    """
    my, language = settings.repo_root() / "my", settings.language()
    place = my if language == "en" else my / language
    return place if edition == "learner" else place / "solutions"


def course_path(source: Path, edition: str = "learner") -> Path:
    """Return the notebook of the course that belongs to a source, in the reader's language."""
    return build.output_path(source, edition, settings.language())


def copy_path(source: Path, edition: str = "learner") -> Path:
    """Return the working copy that belongs to a source."""
    return folder(edition) / f"{source.stem}.ipynb"


def copies(edition: str = "learner") -> list[Path]:
    """Return the working copies that are there."""
    return [path for one in sources() if (path := copy_path(one, edition)).exists()]


def state(source: Path, edition: str = "learner") -> State:
    """Return how the working copy of a source stands beside the edition in `notebooks/`."""
    copy = copy_path(source, edition)
    if not copy.exists():
        return State.missing
    try:
        mine = build.read(copy)
    except WorkbookError:
        return State.unreadable
    course = course_path(source, edition)
    if not course.exists() or build.version(build.read(course)) == build.version(mine):
        return State.current
    made = mine.metadata.get("workbook", {}).get("copy_sha256")
    return State.untouched if made == fingerprint(mine) else State.older


def prepare(edition: str = "learner") -> None:
    """Make the working copies that are missing, and renew those that nobody has touched."""
    for source in sources():
        is_built = course_path(source, edition).exists()
        if is_built and state(source, edition) in (State.missing, State.untouched):
            _write_copy(source, edition)


def offer(edition: str = "learner") -> str:
    """Return a sentence on the copies that `workbook reset` would replace; empty without any."""
    parts, option = [], "" if edition == "learner" else " --solved"
    for kind in (State.older, State.unreadable):
        numbers = [one.stem[:2] for one in sources() if state(one, edition) is kind]
        if numbers:
            verb = "is" if len(numbers) == 1 else "are"
            what = f"{verb} newer in the course" if kind is State.older else str(kind)
            reset = f"`workbook reset {' '.join(numbers)}{option}`"
            parts.append(f"{', '.join(numbers)} {what}: yours stays; {reset} brings a fresh copy")
    return "; ".join(parts) + (" and keeps yours with the date in its name" if parts else "")


def reset(selection: Sequence[str], edition: str = "learner") -> Iterator[tuple[Path, Path | None]]:
    """Put fresh copies in place; yield each with the file that keeps the old one, or None.

    Raises WorkbookError for an unknown number and for a notebook that is not built.
    """
    for source in sources(selection):
        if not course_path(source, edition).exists():
            in_english = edition != "learner" and settings.language() == "en"
            command = "run --write" if in_english else "build"
            message = f"is missing from the course: make it with `workbook {command}`."
            raise WorkbookError(f"Notebook {source.stem[:2]} {message}")
        old = copy_path(source, edition)
        kept = _keep(old) if old.exists() else None
        _write_copy(source, edition)
        yield old, kept


def remember(language: str) -> None:
    """Keep the language in which the course opens from now on."""
    with atomic_path(settings.language_file()) as draft:
        draft.write_text(f"{language}\n", encoding="utf-8")


def open_lab(arguments: Sequence[str] = (), edition: str = "learner") -> int:
    """Open the working copies in JupyterLab, with its further arguments; return its exit status.

    In another language than English the notebooks of the course are built first.
    """
    if settings.language() != "en":
        build.build(language=settings.language())
    prepare(edition)
    if news := offer(edition):
        print(f"my notebooks: {news}.", flush=True)
    start = (folder(edition) / "00_start_here.ipynb").relative_to(settings.repo_root()).as_posix()
    command = [sys.executable, "-m", "jupyterlab", *arguments]
    # With a root or a page of one's own, ours may lead nowhere.
    given = [argument.split("=")[0] for argument in arguments]
    if not any(name.endswith((".default_url", ".root_dir", "notebook-dir")) for name in given):
        command.append(f"--LabApp.default_url=/lab/tree/{start}")
    with _left_to_the_child():
        return subprocess.call(command, env=_environment())


@contextlib.contextmanager
def _left_to_the_child() -> Iterator[None]:
    """Leave Ctrl-C to JupyterLab, which asks once more and saves; we would kill it."""
    before = signal.signal(signal.SIGINT, lambda *_: None)  # ignored, it would be there as well
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _environment() -> dict[str, str]:
    """Return the environment of JupyterLab: configuration, kernel, and `workbook` on its path."""
    paths = {
        "JUPYTER_CONFIG_PATH": CONFIG,
        "JUPYTER_PATH": CONFIG,  # how kernels start
        "PATH": Path(sys.executable).parent,
    }
    return os.environ | {
        name: os.pathsep.join(filter(None, [str(first), os.environ.get(name)]))
        for name, first in paths.items()
    }


def fingerprint(notebook) -> str:
    """Return the SHA-256 of the cells and their outputs: what a learner can change.

    JupyterLab writes some numbers in outputs in another way (0 for 0.0); such a copy counts as
    touched, which is the safe side.
    """
    cells = [[cell.cell_type, cell.source, cell.get("outputs", [])] for cell in notebook.cells]
    return hashlib.sha256(json.dumps(cells, sort_keys=True).encode()).hexdigest()


def _write_copy(source: Path, edition: str) -> None:
    """Write the course's edition as the working copy, its links as seen from there."""
    course, copy = course_path(source, edition), copy_path(source, edition)
    notebook = build.read(course)
    is_as_built = not build.written_cells(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = LINK.sub(lambda m: m[1] + _moved(m[2], course, copy), cell.source)
    if is_as_built:  # else somebody's answers are in it: it is never renewed by itself
        notebook.metadata.setdefault("workbook", {})["copy_sha256"] = fingerprint(notebook)
    build.write(notebook, copy)


def _moved(target: str, course: Path, copy: Path) -> str:
    """Return a relative link of the course's notebook as it is written in the copy."""
    place = posixpath.normpath(posixpath.join(course.parent.as_posix(), target))
    slash = "/" if target.endswith("/") else ""
    return posixpath.relpath(place, copy.parent.as_posix()) + slash


def _keep(old: Path) -> Path:
    """Copy a file beside itself under its name with the date, never over another; return it."""
    today = datetime.date.today().isoformat()
    kept, count = old.with_name(f"{old.stem}.{today}.ipynb"), 1
    while kept.exists():
        count += 1
        kept = old.with_name(f"{old.stem}.{today}-{count}.ipynb")
    with atomic_path(kept) as draft:
        shutil.copyfile(old, draft)
    return kept
