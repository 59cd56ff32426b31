"""A learner's work is never lost, and JupyterLab starts as a learner needs it."""

import datetime
import importlib
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import nbformat
import pytest
from jupyter_client.manager import start_new_kernel
from traitlets.config.loader import PyFileConfigLoader
from typer.testing import CliRunner

from workbook import cli, doctor, settings, workspace
from workbook.authoring import build
from workbook.errors import WorkbookError

SOURCE = """\
# %% [markdown]
# See [data](../data/README.md), [the sweep](recorded/01.json), [next](02_next.ipynb), [end](#End).

# %% exercise="mean"
def mean(values):
    # BEGIN SOLUTION
    return sum(values) / len(values)
    # END SOLUTION

# %% check="mean"
print(mean([1, 2]))
"""
ANSWER = "def mean(values):\n    return 'mine'"
TODAY = datetime.date.today().isoformat()
START = "00_start_here"
runner = CliRunner()


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A course with two built notebooks; returns the source of 01."""
    monkeypatch.setattr(settings, "repo_root", lambda: tmp_path)
    source = tmp_path / "notebooks" / "source" / "01_first.py"
    source.parent.mkdir(parents=True)
    source.write_text(SOURCE, "utf-8")
    source.with_name(f"{START}.py").write_text("# %%\nprint('hello')\n", "utf-8")
    build.build()
    for each in build.sources():
        solved = build.make(each, "solved")
        solved.cells[-1].outputs = [nbformat.v4.new_output("stream", text="1.5")]
        build.write(solved, build.output_path(each, "solved"))
    return source


@pytest.fixture
def started(monkeypatch):
    """The calls of JupyterLab, none of which starts."""
    calls = []
    monkeypatch.setattr(subprocess, "call", lambda command, env: calls.append((command, env)) or 0)
    return calls


def change_course(source, old="print(", new="print(1 +"):
    """What `git pull` of a changed course does: other sources, and editions built from them."""
    source.write_text(source.read_text("utf-8").replace(old, new), "utf-8")
    for edition in build.EDITIONS:
        build.write(build.make(source, edition), build.output_path(source, edition))


def answer(path):
    """Write an answer as JupyterLab does; return the bytes of the file."""
    notebook = build.read(path)
    next(cell for cell in notebook.cells if "exercise" in build.own(cell)).source = ANSWER
    build.write(notebook, path)
    return path.read_bytes()


def test_copies_are_made_on_first_use(course):
    workspace.prepare()
    assert [path.name for path in workspace.copies()] == [f"{START}.ipynb", "01_first.ipynb"]
    made, copy = (build.read(p) for p in (build.output_path(course, "learner"), my(course)))
    assert [cell.source for cell in copy.cells[1:]] == [cell.source for cell in made.cells[1:]]
    assert not (workspace.folder() / "solutions").exists()


def my(source, edition="learner"):
    return workspace.copy_path(source, edition)


@pytest.mark.parametrize(
    ("edition", "up"), [("learner", "../"), ("solved", "../../")], ids=["my", "my/solutions"]
)
def test_links_lead_to_the_same_files_from_the_copies(course, edition, up):
    workspace.prepare(edition)
    assert build.read(my(course, edition)).cells[0].source == (
        f"See [data]({up}data/README.md), [the sweep]({up}notebooks/recorded/01.json), "
        "[next](02_next.ipynb), [end](#End)."
    )


def test_an_answer_survives_a_build_a_changed_course_and_the_next_start(course, started):
    workspace.prepare()
    kept = answer(my(course))
    build.build(overwrite=True)
    change_course(course)
    for _ in range(2):
        assert workspace.open_lab() == 0
        assert my(course).read_bytes() == kept


def test_both_are_offered_when_the_course_has_changed(course, started, capsys):
    workspace.prepare()
    answer(my(course))
    workspace.open_lab()
    assert capsys.readouterr().out == ""
    change_course(course)
    workspace.open_lab()
    said = capsys.readouterr().out
    assert said.startswith("my notebooks: 01 is newer in the course: yours stays; `workbook reset")
    assert doctor.my_notebooks().ok and "`workbook reset 01`" in doctor.my_notebooks().detail


@pytest.mark.parametrize("edition", build.EDITIONS)
def test_a_copy_that_nobody_touched_is_renewed(course, edition):
    workspace.prepare(edition)
    change_course(course)
    assert workspace.state(course, edition) is workspace.State.untouched
    workspace.prepare(edition)
    assert workspace.offer(edition) == ""
    assert build.version(build.read(my(course, edition))) == build.source_hash(course)


def run_cell(notebook):
    notebook.cells[-2].outputs = [nbformat.v4.new_output("stream", text="2")]


def take_note(notebook):
    notebook.cells.insert(1, nbformat.v4.new_markdown_cell("Ask about this."))


def delete_cell(notebook):
    del notebook.cells[-1]


@pytest.mark.parametrize("edition", build.EDITIONS)
@pytest.mark.parametrize("touch", [run_cell, take_note, delete_cell])
def test_a_copy_with_anything_of_the_learner_is_left(course, edition, touch):
    workspace.prepare(edition)
    path = my(course, edition)
    notebook = build.read(path)
    touch(notebook)
    build.write(notebook, path)
    kept = path.read_bytes()
    change_course(course)
    workspace.prepare(edition)
    assert path.read_bytes() == kept and "01 is newer" in workspace.offer(edition)


def test_answers_written_into_the_course_itself_come_along_and_stay(course):
    answer(build.output_path(course, "learner"))
    workspace.prepare()
    assert ANSWER in [cell.source for cell in build.read(my(course)).cells]
    kept = my(course).read_bytes()
    change_course(course)
    workspace.prepare()
    assert my(course).read_bytes() == kept


def test_a_copy_that_cannot_be_read_is_left_and_told(course):
    workspace.prepare()
    my(course).write_text("{ half a noteb")
    workspace.prepare()
    assert my(course).read_text() == "{ half a noteb"
    assert workspace.offer().startswith("01 cannot be read: yours stays; `workbook reset 01`")


def test_reset_keeps_every_old_copy(course):
    workspace.prepare()
    kept = []
    for name in (f"01_first.{TODAY}.ipynb", f"01_first.{TODAY}-2.ipynb"):
        kept.append((my(course).with_name(name), answer(my(course))))
        shown = runner.invoke(cli.app, ["reset", "1"]).stdout
        assert shown == f"01_first.ipynb is fresh; yours is kept as {name}\n"
    my(course).write_text("{ half a noteb")
    kept.append((my(course).with_name(f"01_first.{TODAY}-3.ipynb"), my(course).read_bytes()))
    list(workspace.reset(["01"]))
    assert all(path.read_bytes() == old for path, old in kept)
    assert "...  # your code here" in build.read(my(course)).cells[1].source


def test_reset_brings_the_newer_edition(course):
    workspace.prepare()
    answer(my(course))
    change_course(course)
    list(workspace.reset(["01"]))
    assert workspace.state(course) is workspace.State.current and workspace.offer() == ""


def test_reset_makes_a_copy_that_is_missing(course):
    assert runner.invoke(cli.app, ["reset", "01"]).stdout == "01_first.ipynb is fresh\n"
    assert [path.name for path in workspace.folder().iterdir()] == ["01_first.ipynb"]


def test_a_failed_reset_leaves_the_copy(course, monkeypatch):
    workspace.prepare()
    kept = answer(my(course))
    build.output_path(course, "learner").write_text("<<<<<<< ours")
    with pytest.raises(WorkbookError, match="notebooks/01_first.ipynb cannot be read"):
        list(workspace.reset(["01"]))
    build.output_path(course, "learner").unlink()
    with pytest.raises(WorkbookError, match="01 is missing from the course: .*workbook build`"):
        list(workspace.reset(["01"]))
    assert my(course).read_bytes() == kept


@pytest.mark.parametrize("numbers", [["7"], ["01", "x"]])
def test_reset_of_an_unknown_number_is_told_and_changes_nothing(course, numbers):
    result = runner.invoke(cli.app, ["reset", *numbers])
    assert isinstance(result.exception, WorkbookError)
    assert str(result.exception).startswith(f"There is no notebook {numbers[-1]!r}: choose from 00")
    assert not workspace.folder().exists()


def test_instructors_get_the_solved_edition_with_its_outputs(course, started):
    assert runner.invoke(cli.app, ["lab", "--solved"]).exit_code == 0
    assert build.read(my(course, "solved")).cells[-1].outputs[0].text == "1.5"
    assert started[0][0][-1].endswith(f"/lab/tree/my/solutions/{START}.ipynb")
    runner.invoke(cli.app, ["reset", "01", "--solved"])
    assert my(course, "solved").with_name(f"01_first.{TODAY}.ipynb").exists()
    assert not my(course).exists()


def test_lab_opens_the_first_copy_with_the_configuration_of_the_course(course, started):
    assert runner.invoke(cli.app, ["lab", "--no-browser"]).exit_code == 0
    [(command, environment)] = started
    assert "--no-browser" in command
    assert command[-1] == f"--LabApp.default_url=/lab/tree/my/{START}.ipynb"
    assert environment["JUPYTER_CONFIG_PATH"].split(os.pathsep)[0] == str(workspace.CONFIG)
    assert environment["PATH"].split(os.pathsep)[0] == os.path.dirname(sys.executable)
    assert not any("token" in option.lower() for option in command)


@pytest.mark.parametrize(
    "option", ["--ServerApp.root_dir=/srv", "--notebook-dir=/srv", "--LabApp.default_url=/tree"]
)
def test_a_root_or_page_of_the_user_s_own_wins(course, started, option):
    workspace.open_lab([option])
    assert started[0][0][3:] == [option]


def test_ctrl_c_is_left_to_jupyterlab(course, monkeypatch):
    def interrupted(command, env):
        os.kill(os.getpid(), signal.SIGINT)
        return 7

    monkeypatch.setattr(subprocess, "call", interrupted)
    before = signal.getsignal(signal.SIGINT)
    assert workspace.open_lab() == 7
    assert signal.getsignal(signal.SIGINT) is before


def config():
    """Return the configuration of the server as Jupyter reads it."""
    return PyFileConfigLoader("jupyter_server_config.py", path=str(workspace.CONFIG)).load_config()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no login shells")
def test_a_terminal_keeps_the_path_on_which_the_course_s_commands_are(monkeypatch):
    monkeypatch.setenv("SHELL", "/bin/sh")
    shell = config().ServerApp.terminado_settings["shell_command"]
    done = subprocess.run(
        [*shell, "-c", "echo $PATH"], env=workspace._environment(), capture_output=True, text=True
    )
    assert done.stdout.split(os.pathsep)[0] == os.path.dirname(sys.executable)
    assert "-l" not in shell


@pytest.mark.parametrize(
    ("level", "line", "is_shown"),
    [
        ("INFO", "Jupyter Server 2.21.1 is running at:", True),
        ("INFO", "http://127.0.0.1:8888/lab?token=...", True),
        ("INFO", "Use Control-C to stop this server and shut down all kernels", True),
        ("INFO", "jupyter_lsp | extension was successfully linked.", False),
        ("INFO", "Skipped non-installed server(s): pyright", False),
        ("WARNING", "Notebook my/03_single_task_tuning.ipynb is not trusted", False),
        ("ERROR", "No space left on device", True),
    ],
)
def test_the_terminal_shows_the_address_and_errors(level, line, is_shown):
    handled = config().Application.logging_config
    [name] = handled["handlers"]["console"]["filters"]
    module, _, kind = handled["filters"][name]["()"].rpartition(".")
    quiet = getattr(importlib.import_module(module), kind)()
    record = logging.LogRecord("ServerApp", getattr(logging, level), "", 0, line, (), None)
    assert quiet.filter(record) is is_shown
    monkey = logging.getLogger("Asked")
    monkey.setLevel(logging.DEBUG)  # what --debug does
    assert quiet.filter(logging.LogRecord("Asked", logging.INFO, "", 0, line, (), None))


def error_of(manager, client, code):
    """Run code, interrupt it when it prints something, and return the error that it ends with."""
    client.execute(code)
    error, is_idle = None, False
    while not is_idle:
        message = client.get_iopub_msg(timeout=60)
        kind, content = message["msg_type"], message["content"]
        if kind == "stream":
            manager.interrupt_kernel()
        error = content if kind == "error" else error
        is_idle = content.get("execution_state") == "idle" and error is not None
    return error


@pytest.mark.slow
def test_an_interrupted_cell_says_so_in_one_line(monkeypatch):
    for name, value in workspace._environment().items():
        monkeypatch.setenv(name, value)
    manager, client = start_new_kernel()
    code = "import time\ndef wait():\n    time.sleep(99)\nprint('begun')\nwait()"
    try:
        error = error_of(manager, client, code)
        assert error["ename"] == "KeyboardInterrupt"  # so that Run All stops, as it did
        [line] = error["traceback"]
        assert line.startswith("Interrupted at the line `time.sleep(99)`.") and "\n" not in line
        assert len(error_of(manager, client, "1 / 0")["traceback"]) > 1
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def jupyter(*options):
    command = [sys.executable, "-m", "jupyterlab", *options]
    return {"args": command, "env": workspace._environment(), "text": True}


@pytest.mark.slow
def test_options_on_the_command_line_win(tmp_path):
    own = "--ip=0.0.0.0", f"--ServerApp.root_dir={tmp_path}", "--show-config-json"
    done = subprocess.run(**jupyter(*own), capture_output=True, check=True)
    config = json.loads(done.stdout)
    assert config["ServerApp"]["ip"] == "0.0.0.0"
    assert config["ServerApp"]["root_dir"] == str(tmp_path)
    culling = config["MappingKernelManager"]
    assert culling["cull_idle_timeout"] == 1800 and culling["cull_connected"]
    assert not culling["cull_busy"]


def wait_for(address, seconds=60):
    """Wait until a server answers: JupyterLab prints its address a moment before."""
    for _ in range(4 * seconds):
        try:
            return urllib.request.urlopen(address, timeout=seconds).close()
        except urllib.error.URLError:
            time.sleep(0.25)
    pytest.fail(f"{address} does not answer")


@pytest.fixture(scope="module")
def server():
    """A JupyterLab with the configuration of the course; yields a function that asks it."""
    options = "--no-browser", "--ServerApp.port=0", "--IdentityProvider.token=secret"
    process = subprocess.Popen(**jupyter(*options), stderr=subprocess.PIPE)
    try:
        found = (re.search(r"http://127\.0\.0\.1:\d+", line) for line in process.stderr)
        address = next(match[0] for match in found if match)
        wait_for(f"{address}/api")

        def ask(path, token="secret"):
            with urllib.request.urlopen(f"{address}{path}?token={token}", timeout=60) as reply:
                return json.load(reply)

        yield ask
    finally:
        process.terminate()
        process.communicate(timeout=60)


@pytest.mark.slow
def test_jupyterlab_asks_for_no_news_and_no_updates(server):
    settings = server("/lab/api/settings/@jupyterlab/apputils-extension:notification")
    properties = settings["schema"]["properties"]
    assert properties["fetchNews"]["default"] == "false"
    assert properties["checkForUpdates"]["default"] is False


@pytest.mark.slow
def test_jupyterlab_shows_the_course_and_not_the_machinery(server):
    shown = {entry["name"] for entry in server("/api/contents")["content"]}
    assert shown >= {"notebooks", "data", "README.md"}
    assert not shown & {"lib", "tests", "benchmarks", "docs", "Makefile", "pyproject.toml"}
    assert server("/api/contents/docs/learning_curve.png")["type"] == "file"


@pytest.mark.slow
def test_jupyterlab_wants_its_token(server):
    with pytest.raises(urllib.error.HTTPError, match="403"):
        server("/api/contents", token="guess")
