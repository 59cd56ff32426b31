"""The classroom bundle: all that a laptop needs to run the course without a network."""

import hashlib
import json
import platform
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

from . import assets, settings
from .assets import pinned
from .errors import WorkbookError
from .files import atomic_path

SETUP = Path(__file__).with_name("bundle_setup.py")
# Of the course; what was built, trained or written here stays here.
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", "my", "*.egg-info", "__pycache__", ".ipynb_checkpoints", ".pytest_cache",
    ".ruff_cache", ".hypothesis", ".DS_Store", ".*.part*",
)  # fmt: skip
# Their packages hold the licences that go with copies; the others have theirs in the cache.
WITH_LICENCE = ("reviews", "templates")
README = """The Instruction Fine-Tuning Workbook, to be set up without a network
Made for {system}, Python {python}.

    {command} setup_course.py

makes the folder instruction-tuning-workbook in your home folder, with its own environment, and
puts model and data into the cache. It needs neither a network nor the rights of an administrator.
Another folder: {command} setup_course.py FOLDER

course/   the course
wheels/   its packages
cache/    model, reviews, templates, slides
sources/  the packages that reviews and templates come from, with their licences

Licences: the course and the model SmolLM2-135M-Instruct are under Apache-2.0 (course/LICENSE), the
reviews of Hutto and Gilbert and reveal.js under MIT, the templates of promptsource under
Apache-2.0; each wheel holds its own. The optional base model is not here: its terms are accepted
by each person.
"""


def requirements() -> list[str]:
    """Return what the course needs of other packages, and what builds its own."""
    text = (settings.repo_root() / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)
    return [*project["project"]["dependencies"], *project["build-system"]["requires"]]


def make(out: Path, pip_options: Sequence[str] = ()) -> Path:
    """Make the bundle at `out`, a folder that is not there yet, and return it.

    Wheels come from the package index that pip knows, for this system and this Python, with
    `pip_options` such as another index. Raises WorkbookError where a package cannot be had.
    """
    if out.exists():
        raise WorkbookError(f"{out} exists already: remove it, or give another with --out.")
    inside = out.resolve().is_relative_to(settings.repo_root().resolve())
    with atomic_path(out) as draft:
        draft.mkdir()
        print("Collecting the packages (about 1 GB, minutes) …", flush=True)
        _collect_wheels(draft / "wheels", pip_options)
        _copy_cache(draft / "cache")
        for name in WITH_LICENCE:
            pinned.keep(assets.ARTIFACTS[name], draft / "sources")
        _copy_course(draft / "course", out if inside else None)
        shutil.copy(SETUP, draft / "setup_course.py")
        _check_installable(draft)
        _write_notes(draft)
    return out


def _collect_wheels(folder: Path, options: Sequence[str]) -> None:
    constraints = settings.repo_root() / "constraints.txt"
    command = ["wheel", "--wheel-dir", str(folder), "-c", str(constraints), *options]
    _pip([*command, *requirements()], "The packages could not be collected: see what pip says.")


def _copy_cache(folder: Path) -> None:
    for name in assets.ARTIFACTS:  # the base model is none of them
        place = assets.fetch(name)
        shutil.copytree(place, folder / place.name)


def _copy_course(folder: Path, out: Path | None) -> None:
    """Copy the course, without the bundle itself where it is made inside."""

    def ignored(place, names):
        drafts = [name for name in names if out and Path(place, name).resolve() in _places(out)]
        return {*LEFT_OUT(place, names), *drafts}

    shutil.copytree(settings.repo_root(), folder, ignore=ignored)


def _places(out: Path) -> list[Path]:
    return [out.resolve(), *(path.resolve() for path in out.parent.glob(f".{out.stem}.*"))]


def _check_installable(bundle: Path) -> None:
    """Raise WorkbookError unless the wheels are all that pip needs to install the course."""
    command = ["--isolated", "install", "--dry-run", "--ignore-installed", "--no-index"]
    command += [
        "--find-links",
        str(bundle / "wheels"),
        "-c",
        str(bundle / "course/constraints.txt"),
    ]
    message = "The collected packages are not enough to install the course: see what pip says."
    _pip([*command, *requirements()], message)


def _pip(arguments: Sequence[str], message: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        error = WorkbookError(message)
        error.add_note(f"pip said:\n{done.stderr.strip()}")
        raise error


def _write_notes(bundle: Path) -> None:
    """Write README.txt, and bundle.json: for which machines it is, and the hash of each file."""
    python = ".".join(map(str, sys.version_info[:2]))
    system = f"{platform.system()} {platform.machine()}"
    command = "python" if platform.system() == "Windows" else f"python{python}"
    text = README.format(system=system, python=python, command=command)
    (bundle / "README.txt").write_text(text, encoding="utf-8")
    files = sorted(path for path in bundle.rglob("*") if path.is_file())
    hashes = {path.relative_to(bundle).as_posix(): _sha256(path) for path in files}
    notes = {"python": python, "system": system, "files": hashes}
    (bundle / "bundle.json").write_text(json.dumps(notes, indent=1), encoding="utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
