"""A learner's way in a real browser: notebook 00, an exercise, a quiz, an interrupt, progress."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from workbook import assets, bundle, settings
from workbook.authoring import build
from workbook.authoring.sources import sources
from workbook.checks import questions

TOKEN = "the-token-of-this-test"
SECONDS = 300  # for notebook 00 on a slow machine
CELLS = """() => jupyterapp.shell.currentWidget.content.widgets.map((cell) => {
  const outputs = cell.model.type === "code" ? cell.model.outputs.toJSON() : [];
  return {type: cell.model.type, source: cell.model.sharedModel.getSource(),
    count: cell.model.executionCount, own: cell.model.getMetadata("workbook") ?? {},
    outputs: JSON.stringify(outputs),
    failed: outputs.some((output) => output.output_type === "error")};
})"""
READY = """() => window.jupyterapp?.shell.currentWidget?.content?.widgets?.length
  && jupyterapp.shell.currentWidget.context.path.endsWith("%s")
  && jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status === "idle" """


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of JupyterLab over a copy of the course, as `make lab` starts it."""
    if not all(map(assets.is_cached, assets.ARTIFACTS)):
        pytest.skip("`make fetch` first")
    place = tmp_path_factory.mktemp("learner")
    course = place / "course"
    shutil.copytree(settings.repo_root(), course, ignore=bundle.LEFT_OUT)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "workbook.cli", "lab", "--no-browser"]
    command += [f"--ServerApp.port={port}", f"--IdentityProvider.token={TOKEN}"]
    command += ["--LabApp.expose_app_in_browser=True"]
    own = {"PYTHONPATH": course / "lib", "WORKBOOK_PROGRESS": place / "progress.json"}
    own |= {"WORKBOOK_CACHE": _without_runs(place / "cache"), "WORKBOOK_SCALE": "smoke"}
    folders = ("JUPYTER_CONFIG_DIR", "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")
    own |= {name: place / name.lower() for name in folders}
    environment = os.environ | {name: str(path) for name, path in own.items()}
    with (place / "lab.log").open("w") as log:
        options = {"cwd": course, "env": environment, "stdout": log, "stderr": log}
        server = subprocess.Popen(command, start_new_session=True, **options)
    try:
        _wait_for(f"http://127.0.0.1:{port}/api/status?token={TOKEN}", server, place / "lab.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)  # the command, JupyterLab, and its kernels
        server.wait(30)


def _without_runs(place: Path) -> Path:
    """Return a cache that has what was fetched and nothing that was trained."""
    place.mkdir()
    for folder in settings.cache_dir().iterdir():
        if folder.is_dir() and folder.name != "runs":
            (place / folder.name).symlink_to(folder)
    return place


def _wait_for(address: str, server, log: Path) -> None:
    for _ in range(240):
        if server.poll() is not None:
            break
        try:
            return urllib.request.urlopen(address, timeout=5).close()
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"JupyterLab did not start:\n{log.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def learner(lab, browser):
    """A page of JupyterLab on a small laptop, and what it asks of other hosts."""
    page = browser.new_page(viewport={"width": 1366, "height": 768})
    page.set_default_timeout(1000 * SECONDS)
    here, foreign = urlsplit(lab).netloc, []

    def note(url):
        parts = urlsplit(url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.netloc != here:
            foreign.append(url)

    page.on("request", lambda request: note(request.url))
    page.on("websocket", lambda opened: note(opened.url))
    page.goto(f"{lab}/?token={TOKEN}")  # leads to what `make lab` opens
    yield page, foreign
    page.close()


def cells(page) -> list[dict]:
    return page.evaluate(CELLS)


def place(page, wanted) -> int:
    [found] = [number for number, cell in enumerate(cells(page)) if wanted(cell)]
    return found


def select(page, number: int) -> None:
    page.evaluate("(n) => { jupyterapp.shell.currentWidget.content.activeCellIndex = n; }", number)


def do(page, command: str, **arguments) -> None:
    """Carry out a command of JupyterLab, as a menu does, to its end."""
    begin(page, command, **arguments)
    ended(page)


def begin(page, command: str, **arguments) -> None:
    """Begin what `ended` waits for."""
    script = "([name, given]) => { window.begun = jupyterapp.commands.execute(name, given); }"
    page.evaluate(script, [command, arguments])


def ended(page) -> None:
    page.evaluate("async () => { await window.begun.catch(() => null); }")


def run(page, number: int) -> str:
    """Run a cell and return its outputs as text."""
    select(page, number)
    do(page, "notebook:run-cell")
    return cells(page)[number]["outputs"]


def write(page, number: int, text: str) -> None:
    """Type over a cell, as a learner does."""
    select(page, number)
    do(page, "notebook:enter-edit-mode")
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(text)
    assert cells(page)[number]["source"] == text


def opened(page, name: str) -> None:
    do(page, "docmanager:open", path=f"my/{name}")
    page.wait_for_function(READY % name)


def test_the_lab_opens_notebook_00_which_runs(learner):
    page, _ = learner
    page.wait_for_function(READY % "00_start_here.ipynb")
    do(page, "notebook:run-all-cells")
    page.wait_for_function(READY % "00_start_here.ipynb")
    found = cells(page)
    assert not [cell["source"] for cell in found if cell["failed"]]
    assert all(cell["outputs"] != "[]" for cell in found if "print(" in cell["source"])
    assert "0 of " in found[place(page, lambda cell: "checks.table()" in cell["source"])]["outputs"]


def test_an_exercise_is_answered_wrongly_twice_and_then_rightly(learner):
    page, _ = learner
    [source] = sources(["01"])
    solved = build.make(source, "solved").cells
    [right] = [cell.source for cell in solved if build.own(cell).get("exercise") == "1.1"]
    opened(page, f"{source.stem}.ipynb")
    imports = next(n for n, cell in enumerate(cells(page)) if cell["type"] == "code")
    run(page, imports)
    answer = place(page, lambda cell: cell["own"].get("exercise") == "1.1")
    check = place(page, lambda cell: cell["own"].get("check") == "1.1")
    head = right[: right.index("\n")]
    messages = []
    for body in ("    return 1", '    return "a text"'):
        write(page, answer, f"{head}\n{body}")
        run(page, answer)
        messages.append(run(page, check))
    assert all("not there yet" in message for message in messages) and len(set(messages)) == 2
    write(page, answer, right)
    run(page, answer)
    assert "✓ Exercise 1.1" in run(page, check)


def test_a_quiz_opens_by_keyboard_and_is_graded(learner):
    page, _ = learner
    quiz = place(page, lambda cell: cell["source"].startswith("checks.quiz("))
    run(page, quiz)
    first = page.locator(".jp-OutputArea details > summary").first
    first.scroll_into_view_if_needed()
    first.focus()
    page.keyboard.press("Enter")
    assert page.locator(".jp-OutputArea details[open]").first.inner_text().count("\n")
    answers = " ".join("a" * len(questions("01")))
    write(page, quiz, f'checks.quiz("01", "{answers}")')
    assert f"of {len(questions('01'))} answered rightly" in run(page, quiz)


def test_training_is_interrupted_and_goes_on(learner):
    page, _ = learner
    opened(page, "03_single_task_tuning.ipynb")
    cell = next(n for n, c in enumerate(cells(page)) if "on_step=live" in c["source"])
    select(page, cell)
    do(page, "notebook:run-all-above")
    begin(page, "notebook:run-cell")
    page.wait_for_function(f"() => ({CELLS})()[{cell}].outputs.includes('image/')")
    page.evaluate("() => { jupyterapp.commands.execute('notebook:interrupt-kernel'); }")
    ended(page)
    assert "Interrupted at the line" in cells(page)[cell]["outputs"]
    assert "Interrupted" not in run(page, cell) and not cells(page)[cell]["failed"]


def test_a_restart_runs_all_without_an_error(learner):
    page, _ = learner
    begin(page, "notebook:restart-run-all")
    page.locator(".jp-Dialog .jp-mod-accept").click()
    ended(page)
    found = [cell for cell in cells(page) if cell["type"] == "code"]
    assert not [cell["source"] for cell in found if cell["failed"]]
    assert [cell["source"] for cell in found if not cell["count"]] == []


def test_progress_counts_it(learner):
    page, _ = learner
    opened(page, "00_start_here.ipynb")
    shown = run(page, place(page, lambda cell: "checks.table()" in cell["source"]))
    assert "1 of " in shown and "exercises passed" in shown


def test_pictures_are_described_and_text_is_legible_in_both_themes(learner):
    page, _ = learner
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    rules = {"runOnly": ["color-contrast", "image-alt"]}
    for theme in ("JupyterLab Light", "JupyterLab Dark"):
        do(page, "apputils:change-theme", theme=theme)
        page.wait_for_timeout(2000)
        found = axe.run(page, ".jp-Notebook .jp-OutputArea-output", rules)
        nodes = [node["html"] for rule in found.response["violations"] for node in rule["nodes"]]
        assert nodes == [], theme


def test_no_other_host_was_asked(learner):
    _, foreign = learner
    assert foreign == []
