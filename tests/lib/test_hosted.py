"""Notebooks for Colab and Kaggle: their first cell is run, with pip told to install nothing."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from bs4 import BeautifulSoup

from workbook import settings
from workbook.authoring import build, hosted, site
from workbook.errors import WorkbookError

ROOT = settings.repo_root()
ADDRESS = "https://example.org/us/course"
START = build.sources(["00"])[0]


@pytest.fixture
def address(monkeypatch):
    monkeypatch.setattr(settings, "repository", lambda: ADDRESS)


def test_without_an_address_it_says_where_it_belongs(monkeypatch):
    monkeypatch.setattr(settings, "repository", lambda: None)
    with pytest.raises(WorkbookError, match="no address yet: write it into pyproject.toml"):
        hosted.setup_cell()


def test_the_address_is_read_from_one_place(tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "repo_root", lambda: tmp_path)
    file = tmp_path / "pyproject.toml"
    file.write_text('[project]\nname = "workbook"\n', "utf-8")
    assert settings.repository() is None
    file.write_text(f'[project]\nname = "w"\n[project.urls]\nRepository = "{ADDRESS}"\n', "utf-8")
    assert settings.repository() == ADDRESS


@pytest.mark.parametrize("language", settings.LANGUAGES)
def test_the_set_up_cell_stands_before_the_learner_edition(address, language):
    made = hosted.notebook(START, language)
    first, *others = made.cells
    assert ADDRESS in first.source and f'"WORKBOOK_LANGUAGE"] = "{language}"' in first.source
    assert others == build.make(START, "learner", language).cells
    assert build.dumps(made)  # a notebook that Jupyter's schema accepts


def test_the_site_offers_them_where_there_is_an_address(address, tmp_path, monkeypatch):
    monkeypatch.setattr(site, "_executed", lambda: [START])
    place = site.write(tmp_path / "site")
    for folder in (place, place / "ko"):
        page = BeautifulSoup((folder / f"{START.stem}.html").read_text("utf-8"), "html.parser")
        assert ADDRESS in (folder / page.select_one(".hosted a")["href"]).read_text("utf-8")
        assert 'class="hosted"' not in (folder / "index.html").read_text("utf-8")


@pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")
def test_the_set_up_cell_runs(tmp_path, monkeypatch):
    """A copy of what pip needs is cloned; `pip` then says what it would install."""
    origin = tmp_path / "origin"
    shutil.copytree(ROOT / "lib" / "workbook", origin / "lib" / "workbook")
    for name in ("pyproject.toml", "constraints.txt", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, origin)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "The course"]):
        subprocess.run([*git, *command], cwd=origin, check=True)
    monkeypatch.setattr(settings, "repository", lambda: origin.as_uri())
    code = hosted.setup_cell() + "import workbook; print('imported from', workbook.__file__)"
    told = {"PIP_DRY_RUN": "1", "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_QUIET": "0"}
    code = code.replace("--quiet -c", "-c")  # else it would not say what it does
    work = tmp_path / "work"
    work.mkdir()
    command = [sys.executable, "-m", "IPython", "--no-banner", "--colors=NoColor", "-c", code]
    run = subprocess.run(
        command, cwd=work, env=os.environ | told, capture_output=True, text=True, timeout=300
    )
    output = run.stdout + run.stderr
    assert re.search(r"Would install .*workbook-", output), output
    assert f"imported from {work / 'course' / 'lib' / 'workbook'}" in output, output
