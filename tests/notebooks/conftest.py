import shutil

import pytest
from hygiene import SAMPLE

from workbook import settings
from workbook.authoring import build


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A course of its own, with the sample as its only notebook; returns the sample's source."""
    source = tmp_path / "notebooks" / "source" / SAMPLE.name
    source.parent.mkdir(parents=True)
    shutil.copy(SAMPLE, source)
    monkeypatch.setattr(settings, "repo_root", lambda: tmp_path)
    monkeypatch.setenv("WORKBOOK_SCALE", "default")
    monkeypatch.delenv("WORKBOOK_MODEL", raising=False)
    monkeypatch.delenv("WORKBOOK_PRECISION", raising=False)
    return source


def pytest_generate_tests(metafunc):
    """Give a test one run for each notebook, and each edition where it asks for one."""
    if "source" in metafunc.fixturenames:
        metafunc.parametrize("source", build.sources(), ids=lambda path: path.stem)
        if "edition" in metafunc.fixturenames:
            metafunc.parametrize("edition", build.EDITIONS)


def pytest_collection_modifyitems(items):
    """Begin with what takes minutes, in both halves of the list, which two processes start from."""
    long = [item for item in items if item.originalname == "test_notebook_runs"]
    rest = [item for item in items if item.originalname != "test_notebook_runs"]
    half = len(rest) // 2
    items[:] = [*long[::2], *rest[:half], *long[1::2], *rest[half:]]
