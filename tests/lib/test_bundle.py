"""The classroom bundle: what is in it, what never is, and the set-up without any index."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from workbook import assets, bundle, bundle_setup, cli, settings
from workbook.assets import base, pinned
from workbook.errors import WorkbookError

ROOT = Path(__file__).resolve().parents[2]
UNREACHABLE = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_EXTRA_INDEX_URL": ""}


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A small course with a learner's files in it, a filled cache, and no downloads."""
    root = tmp_path / "course"
    for name in ("data/a.jsonl", "notebooks/01_a.ipynb", "my/01_a.ipynb", ".git/HEAD", ".venv/x"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "constraints.txt").write_text("setuptools\n")
    (root / "pyproject.toml").write_text(
        '[project]\ndependencies = ["a>=1"]\n[build-system]\nrequires = ["b"]\n'
    )
    monkeypatch.setattr(settings, "repo_root", lambda: root)
    monkeypatch.setenv("WORKBOOK_CACHE", str(tmp_path / "cache"))
    for artifact in (*assets.ARTIFACTS.values(), base.MODEL):
        artifact.path.mkdir(parents=True)
        (artifact.path / "file").write_text(artifact.title)
    (settings.cache_dir() / "runs").mkdir()
    (settings.cache_dir() / "runs" / "of_gemma").touch()
    monkeypatch.setattr(pinned, "keep", kept)
    return root


def kept(artifact, folder):
    folder.mkdir(exist_ok=True)
    (folder / artifact.files[0].filename).touch()


@pytest.fixture
def pip(monkeypatch):
    """Collects what pip is asked for; it makes the wheels' folder, as `pip wheel` does."""
    asked = []

    def run(arguments, message):
        asked.append(arguments)
        if arguments[0] == "wheel":
            Path(arguments[2]).mkdir()
            (Path(arguments[2]) / "a-1-py3-none-any.whl").write_text("wheel")

    monkeypatch.setattr(bundle, "_pip", run)
    return asked


def test_a_bundle_holds_course_wheels_and_cache(course, pip, tmp_path):
    out = bundle.make(tmp_path / "out", ["--pre"])
    assert pip[0][-3:] == ["--pre", "a>=1", "b"] and "--no-index" in pip[1]
    names = set(json.loads((out / "bundle.json").read_text())["files"])
    assert {"wheels/a-1-py3-none-any.whl", "course/notebooks/01_a.ipynb", "README.txt"} <= names
    folders = {path.name for path in (out / "cache").iterdir()}
    assert folders == {artifact.path.name for artifact in assets.ARTIFACTS.values()}
    assert "sources/vaderSentiment-3.3.2.tar.gz" in names


def test_nothing_under_the_gemma_terms_and_nothing_of_the_maker_is_in_it(course, pip, tmp_path):
    out = bundle.make(tmp_path / "out")
    names = [path.relative_to(out).as_posix() for path in out.rglob("*")]
    for absent in ("gemma", "runs", "course/my", ".git", ".venv"):
        assert not [name for name in names if absent in name.lower()], absent
    assert base.MODEL.title not in {p.read_text() for p in (out / "cache").rglob("file")}
    wanted = {artifact.title for artifact in assets.ARTIFACTS.values()}
    assert {p.read_text() for p in (out / "cache").rglob("file")} == wanted


def test_no_requirement_brings_the_base_model():
    packages = {file.package.lower() for file in base.MODEL.files}
    assert packages and not packages & {name.lower() for name in bundle.requirements()}


def test_a_bundle_made_inside_the_course_does_not_hold_itself(course, pip):
    out = bundle.make(course / "bundle")
    assert not (out / "course" / "bundle").exists()
    assert not [path for path in (out / "course").iterdir() if path.name.startswith(".bundle")]


def test_what_is_there_stays(course, pip, tmp_path):
    (tmp_path / "out").mkdir()
    result = CliRunner().invoke(cli.app, ["bundle", "--out", str(tmp_path / "out")])
    assert isinstance(result.exception, WorkbookError) and "exists already" in str(result.exception)
    assert pip == []


def test_a_package_that_cannot_be_had_leaves_nothing(course, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    with pytest.raises(WorkbookError, match="could not be collected") as error:
        bundle.make(tmp_path / "out")
    assert "No matching distribution" in error.value.__notes__[0]
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]


def test_another_python_and_damaged_files_are_told(course, pip, tmp_path, monkeypatch):
    out = bundle.make(tmp_path / "out")
    monkeypatch.setattr(bundle_setup, "HERE", out)
    notes = json.loads((out / "bundle.json").read_text())
    bundle_setup.require_machine(notes)
    bundle_setup.require_whole(notes["files"])
    with pytest.raises(SystemExit, match="for Python 2.7 on"):
        bundle_setup.require_machine(notes | {"python": "2.7"})
    (out / "wheels" / "a-1-py3-none-any.whl").write_text("whee")
    (out / "course" / "data" / "a.jsonl").unlink()
    with pytest.raises(SystemExit, match="2 files are damaged or missing"):
        bundle_setup.require_whole(notes["files"])


def test_setting_up_again_never_overwrites_notebooks(course, pip, tmp_path, monkeypatch):
    monkeypatch.setattr(bundle_setup, "HERE", bundle.make(tmp_path / "out"))
    (tmp_path / "mine" / "my").mkdir(parents=True)
    with pytest.raises(SystemExit, match="holds your notebooks"):
        bundle_setup.main([str(tmp_path / "mine")])


NEEDED = '["platformdirs>=4.3,<5", "filelock>=3.13,<5"]'


@pytest.fixture
def small_course(tmp_path, monkeypatch):
    """The course with two of its modules and two of its packages, and a cache of one small file."""
    root = tmp_path / "course"
    (root / "lib" / "workbook").mkdir(parents=True)
    (root / "data").mkdir()
    for name in ("__init__", "settings", "errors", "files"):
        shutil.copy(ROOT / "lib" / "workbook" / f"{name}.py", root / "lib" / "workbook")
    for name in ("constraints.txt", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, root)
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    text = re.sub(r"^dependencies = \[.*?^\]", f"dependencies = {NEEDED}", text, flags=re.M | re.S)
    (root / "pyproject.toml").write_text(text)
    monkeypatch.setattr(settings, "repo_root", lambda: root)
    monkeypatch.setattr(pinned, "keep", kept)
    monkeypatch.setenv("WORKBOOK_CACHE", str(tmp_path / "cache"))
    for artifact in assets.ARTIFACTS.values():
        artifact.path.mkdir(parents=True)
        (artifact.path / "file").write_text(artifact.title)
    return root


@pytest.mark.slow
def test_the_course_is_set_up_with_the_index_out_of_reach(small_course, tmp_path):
    try:
        made = bundle.make(tmp_path / "bundle")
    except WorkbookError as error:
        pytest.skip(f"pip brings no packages here: {error}")
    target, cache = tmp_path / "laptop", tmp_path / "laptop cache"
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "PYTHONPATH"))}
    done = subprocess.run(
        [sys.executable, str(made / "setup_course.py"), str(target)],
        env=plain | UNREACHABLE | {"WORKBOOK_CACHE": str(cache)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"`make lab` in {target}" in done.stdout
    python = target / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    code = "import platformdirs, workbook; print(workbook.__file__)"
    found = subprocess.run([python, "-c", code], capture_output=True, text=True, env=plain)
    assert Path(found.stdout.strip()).is_relative_to(target), found.stderr
    for artifact in assets.ARTIFACTS.values():
        assert (cache / artifact.path.name / "file").read_text() == artifact.title
