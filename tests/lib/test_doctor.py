"""doctor on machines that are not well: each state is diagnosed, none is died of."""

import errno
import getpass
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from workbook import assets, cli, doctor, settings


@pytest.fixture
def fetched(monkeypatch):
    monkeypatch.setattr(assets, "is_cached", lambda name: True)


@pytest.fixture
def measured_anew(monkeypatch):
    """Let the number format be measured in no time, and forget what was measured before."""
    settings.bf16_is_faster.cache_clear()
    monkeypatch.delenv("WORKBOOK_PRECISION", raising=False)
    monkeypatch.setattr(settings, "_product_seconds", lambda dtype, hopeless=None: 1.0)
    yield
    settings.bf16_is_faster.cache_clear()


def state_of(checks):
    return {check.name: check.ok for check in checks}


@pytest.mark.parametrize("text", ["", "{", "[1]", "null"])
def test_a_damaged_measurement_of_the_processor_is_made_anew(
    tmp_path, monkeypatch, fetched, measured_anew, text
):
    monkeypatch.setenv("WORKBOOK_CACHE", str(tmp_path))
    (tmp_path / "precision.json").write_text(text)
    assert state_of(doctor.checks())["processor"]
    assert "false" in (tmp_path / "precision.json").read_text()


@pytest.mark.parametrize("place", ["missing/deeper", "file", "file/below"])
def test_a_cache_that_is_none_is_told_and_the_rest_examined(
    tmp_path, monkeypatch, fetched, measured_anew, place
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("WORKBOOK_CACHE", str(tmp_path / place))
    found = state_of(doctor.checks())
    assert found["cache"] == (place == "missing/deeper")
    assert found["processor"] and found["Python"]


@pytest.mark.skipif(os.name == "nt" or os.getuid() == 0, reason="root may write everywhere")
def test_a_cache_for_reading_only_is_told(tmp_path, monkeypatch, fetched, measured_anew):
    tmp_path.chmod(0o500)
    monkeypatch.setenv("WORKBOOK_CACHE", str(tmp_path))
    found = state_of(doctor.checks())
    assert not found["cache"] and found["processor"]


def test_a_disk_for_reading_only_is_told(tmp_path, monkeypatch, fetched, measured_anew):
    def refuse(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    monkeypatch.setattr(Path, "write_text", refuse)
    monkeypatch.setenv("WORKBOOK_CACHE", str(tmp_path))
    found = {check.name: check for check in doctor.checks()}
    assert not found["cache"].ok and "Read-only file system" in found["cache"].detail
    assert found["processor"].ok


def test_an_item_that_fails_itself_is_a_finding(monkeypatch, fetched):
    def broken():
        raise RuntimeError("no such thing")

    monkeypatch.setattr(doctor, "memory", broken)
    [check] = [check for check in doctor.checks() if not check.ok and "no such" in check.detail]
    assert "RuntimeError: no such thing" in check.detail and "--report" in check.remedy


def test_a_report_names_versions_and_checks_and_no_person(tmp_path, monkeypatch, fetched):
    monkeypatch.setenv("WORKBOOK_CACHE", str(Path.home() / "somewhere" / "cache"))
    monkeypatch.setattr(getpass, "getuser", lambda: "jane")
    file = tmp_path / "report.md"
    result = CliRunner().invoke(cli.app, ["doctor", "--report", str(file)])
    assert result.exit_code == 0 and "attach it" in result.output
    text = file.read_text()
    assert "- torch 2." in text and "- OK Python: 3." in text
    assert "WORKBOOK_CACHE=<cache>" in text
    assert str(Path.home()) not in text and "jane" not in text
    assert str(settings.repo_root()) not in text


def test_a_console_without_arrows_prints_all_the_same(tmp_path):
    command = [sys.executable, "-m", "workbook.cli", "cache", "list"]
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252", "WORKBOOK_CACHE": str(tmp_path)}
    script = "from workbook import cli; cli.app = lambda: print('→ ─'); cli.main()"
    for each in (command, [sys.executable, "-c", script]):
        found = subprocess.run(each, env=environment, capture_output=True)
        assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == b"? ?"


@pytest.mark.parametrize("error", [OSError, KeyError])  # from Python 3.13 on, and before
def test_a_report_is_written_for_a_user_without_a_name(monkeypatch, fetched, error):
    def unknown():
        raise error("No username set in the environment")

    monkeypatch.setattr(getpass, "getuser", unknown)
    monkeypatch.setattr(doctor, "checks", lambda: [])
    monkeypatch.setenv("WORKBOOK_MODEL", "/srv/secret project/model")
    monkeypatch.setenv("WORKBOOK_PROGRESS", "~/notes.json")
    text = doctor.report()
    assert "- torch 2." in text and "secret" not in text and "notes" not in text
    assert "- WORKBOOK_MODEL=<WORKBOOK_MODEL>" in text
    monkeypatch.setenv("WORKBOOK_MODEL", "owner/model")
    assert "- WORKBOOK_MODEL=owner/model" in doctor.report()


@pytest.mark.parametrize("there", [True, False])
def test_the_optional_base_model_is_told_and_never_a_fault(monkeypatch, there):
    monkeypatch.setattr(assets, "is_cached", lambda name: there)
    found = doctor.base_model()
    assert found.ok and ("workbook fetch base" in found.detail) != there
