"""pyproject.toml, constraints.txt and environment.yml describe one environment."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"].values()
REQUIRED = [Requirement(t) for t in [*PROJECT["dependencies"], *(t for e in EXTRAS for t in e)]]
LINES = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
PINS = {r.name: r for r in map(Requirement, (line for line in LINES if not line.startswith("#")))}
PIN = re.compile(r"==([^,*+]+)")


def pinned(name):
    return PIN.fullmatch(str(PINS[name].specifier))[1]


@pytest.mark.parametrize("required", REQUIRED, ids=lambda requirement: requirement.name)
def test_each_dependency_is_pinned_within_its_range(required):
    assert canonicalize_name(required.name) in PINS
    assert required.specifier.contains(pinned(canonicalize_name(required.name)))


def test_every_constraint_is_one_exact_public_version():
    assert len(PINS) == sum(not line.startswith("#") for line in LINES)
    assert all(name == canonicalize_name(name) and pinned(name) for name in PINS)


def test_conda_installs_the_package_under_the_same_constraints():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))
    *packages, pip = environment["dependencies"]
    assert pip["pip"] == ["-c constraints.txt", "-e .[test]"]
    versions = dict(package.split("=") for package in packages if "=" in package)
    assert versions.pop("python") + ".0" in SpecifierSet(PROJECT["requires-python"])
    names = {"pytorch-cpu": "torch"}
    assert {names.get(name, name): v for name, v in versions.items()} == {"torch": pinned("torch")}


def test_installation_uses_the_constraints():
    assert "-c constraints.txt" in (ROOT / "Makefile").read_text("utf-8")


def test_files_that_are_no_code_are_packaged():
    folder = ROOT / "lib" / "workbook"
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]
    patterns = tool["setuptools"]["package-data"]["workbook"]
    packaged = {path for pattern in patterns for path in folder.glob(pattern)}
    others = {p for p in folder.rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")}
    assert others and others <= packaged


def test_licence_is_apache():
    assert PROJECT["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text("utf-8")[:200]
