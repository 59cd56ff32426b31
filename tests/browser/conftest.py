"""A real browser for the tests of this folder, skipped with the reason where there is none."""

import shutil

import pytest

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def browser():
    """The distribution's Chromium, without a window."""
    api = pytest.importorskip("playwright.sync_api", reason="pip install -e '.[browser]' first")
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if not program:
        pytest.skip(f"install {' or '.join(CHROMIUM)} with the system's packages first")
    with api.sync_playwright() as playwright:
        # In a container the tests are root, whom Chromium's sandbox refuses.
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()
