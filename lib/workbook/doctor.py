"""Check whether the course can run on this machine; notebook 00 and `workbook doctor` show it."""

import getpass
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import psutil
from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from . import assets, course, settings, workspace
from .authoring import build
from .errors import WorkbookError

DISK_GB = 6  # the run cache's bound, and the model
MEMORY_GB = 6


class Check(NamedTuple):
    """One item of the examination, with what to do where it failed."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""


def checks() -> list[Check]:
    """Return the state of everything that the course needs."""
    items = (python, packages, disk, memory, processor, cache, kernel, notebooks, my_notebooks)
    own = [_examined(item.__name__.replace("_", " "), item) for item in items]
    fetched = [_examined(name, artifact, name) for name in assets.ARTIFACTS]
    return [*own, *fetched, _examined("base model", base_model)]


def _examined(name: str, item: Callable[..., Check], *arguments) -> Check:
    """Return the result of an item, which may itself fail on a machine that is not well."""
    try:
        return item(*arguments)
    except Exception as error:
        told = f"could not be examined, {type(error).__name__}: {error}"
        return Check(name, False, told, "mend that first, or send `workbook doctor --report`")


def report() -> str:
    """Return a report for a bug: this machine, versions, settings, and all checks, as Markdown.

    Names of the user and the machine, their folders, and those that a setting names are left out.
    """
    names = sorted(pinned())
    versions = "\n".join(f"- {name} {installed(name) or 'missing'}" for name in names)
    given = {k: v for k, v in os.environ.items() if k.startswith("WORKBOOK_")}
    chosen = "\n".join(f"- {name}={value}" for name, value in sorted(given.items())) or "- none"
    found = "\n".join(
        f"- {'OK' if one.ok else 'FAIL'} {one.name}: {one.detail}" for one in checks()
    )
    system = f"{platform.system()} {platform.release()}, {platform.machine()}"
    head = f"# Report of `workbook doctor`\n\n{system}, Python {platform.python_version()}"
    parts = [head, "## Checks", found, "## Settings", chosen, "## Versions", versions]
    return _without_names("\n\n".join(parts) + "\n")


def _without_names(text: str) -> str:
    """Return the text with folders written short, and without user and machine."""
    places = {value: f"<{name}>" for name, value in os.environ.items() if _is_own_place(name)}
    places |= {str(settings.cache_dir()): "<cache>", str(settings.repo_root()): "<course>"}
    places |= {os.path.expanduser("~"): "~"}
    for place, short in places.items():
        if place != Path(place).anchor:
            text = text.replace(place, short)
    for name, word in ((_user(), "user"), (platform.node(), "machine")):
        text = re.sub(rf"\b{re.escape(name)}\b", word, text) if name else text
    return text


def _is_own_place(name: str) -> bool:
    """Tell whether a setting names a place on the disk, which a hub id is not."""
    return name.startswith("WORKBOOK_") and os.path.isabs(os.path.expanduser(os.environ[name]))


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container may give its user a number and no name
        return ""


def python() -> Check:
    """Check the version of Python."""
    version = ".".join(map(str, sys.version_info[:3]))
    ok = (3, 11) <= sys.version_info[:2] <= (3, 13)
    return Check("Python", ok, version, "install Python 3.11, 3.12 or 3.13, then `make install`")


def packages() -> Check:
    """Check that each required package is there in a version that the workbook accepts.

    The detail names those that differ from the versions the numbers were measured with.
    """
    text = (settings.repo_root() / "pyproject.toml").read_text(encoding="utf-8")
    needed = [Requirement(line) for line in tomllib.loads(text)["project"]["dependencies"]]
    found = {one.name: installed(one.name) for one in needed}
    bad = [str(one) for one in needed if not one.specifier.contains(found[one.name] or "0")]
    pins = pinned()
    differing = {n: v for n, v in found.items() if v != pins[canonicalize_name(n)]}
    other = [f"{name} {version}" for name, version in differing.items()]
    note = f", other than measured with: {', '.join(other)}" if other else ""
    detail = f"missing: {', '.join(bad)}" if bad else f"{len(found)} found{note}"
    return Check("packages", not bad, detail, "run `make install` in the course folder")


def installed(package: str) -> str | None:
    """Return the installed version of a package without its build label, None if missing."""
    try:
        return importlib.metadata.version(package).split("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return None


def pinned() -> dict[str, str]:
    """Return the versions that `constraints.txt` pins, by package name."""
    text = (settings.repo_root() / "constraints.txt").read_text(encoding="utf-8")
    return dict(line.split("==") for line in text.splitlines() if "==" in line)


def disk() -> Check:
    """Check the free space where the cache is."""
    place = next(p for p in [settings.cache_dir(), *settings.cache_dir().parents] if p.exists())
    free = shutil.disk_usage(place).free / 1e9
    remedy = f"free {DISK_GB} GB, or point WORKBOOK_CACHE at a larger disk"
    return Check("disk", free >= DISK_GB, f"{free:.0f} GB free for the cache", remedy)


def memory() -> Check:
    """Check the memory of the machine, and that the largest notebook fits into what is free now."""
    found = psutil.virtual_memory()
    total, free = found.total / 1e9, found.available / 1e9
    needed = course.peak_memory_gb()
    remedy = f"take a machine with at least {MEMORY_GB} GB, such as a free hosted notebook"
    if total >= MEMORY_GB:
        remedy = (
            f"a notebook may need {needed:.1f} GB: close other programs, and shut down the "
            "kernels of other notebooks (*Kernel → Shut Down Kernel*)"
        )
    detail = f"{total:.0f} GB, {free:.1f} GB of it free now"
    return Check("memory", total >= MEMORY_GB and free >= needed, detail, remedy)


def processor() -> Check:
    """Check the number of cores, and tell the number format that the processor does natively."""
    cores, precision = psutil.cpu_count() or 1, str(settings.working_dtype()).split(".")[1]
    detail = f"{cores} cores, {settings.device().type}, works in {precision}"
    return Check("processor", cores >= 2, detail, "take a machine with two cores, or more patience")


def cache() -> Check:
    """Check that the cache folder can be written."""
    remedy = "point WORKBOOK_CACHE at a folder that you may write"
    try:
        settings.cache_dir().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=settings.cache_dir()):
            return Check("cache", True, "can be written")
    except OSError as error:
        return Check("cache", False, f"{settings.cache_dir()}: {error.strerror}", remedy)


def kernel() -> Check:
    """Check that Jupyter finds a Python kernel."""
    remedy = "run `python -m ipykernel install --sys-prefix`"
    try:
        program = KernelSpecManager().get_kernel_spec("python3").argv[0]
    except NoSuchKernel:
        return Check("kernel", False, "Jupyter has no kernel `python3`", remedy)
    return Check("kernel", bool(shutil.which(program)), "python3", remedy)


def notebooks() -> Check:
    """Check that the learner edition is there and made from the present sources."""
    stale = [source.stem for source in build.sources() if not _is_built(source)]
    detail = f"to build: {', '.join(stale)}" if stale else f"{len(build.sources())} up to date"
    return Check("notebooks", not stale, detail, "run `workbook build`; answers stay as they are")


def my_notebooks() -> Check:
    """Tell which working copies the course has a newer edition of; either may be used."""
    count = len(workspace.copies())
    detail = f"{count} in my/, none older than the course's" if count else "none in my/ yet"
    offers = filter(None, map(workspace.offer, build.EDITIONS))
    return Check("my notebooks", True, "; ".join(offers) or detail)


def artifact(name: str) -> Check:
    """Check that an artifact of `assets` is in the cache, or at least can be fetched."""
    if assets.is_cached(name):
        return Check(name, True, "in the cache")
    [file] = assets.ARTIFACTS[name].files
    command = [sys.executable, "-m", "pip", "--timeout=10", "--retries=0", "index", "versions"]
    # promptsource is only read as a file, whatever Python its code needs
    command += ["--ignore-requires-python", file.package]
    reached = subprocess.run(command, capture_output=True, check=False).returncode == 0
    detail = "will be fetched on first use" if reached else f"pip cannot reach {file.package}"
    return Check(name, reached, detail, "connect to the network, or mend pip's index or proxy")


def base_model() -> Check:
    """Tell whether the optional base model is there; nothing needs it."""
    there = assets.is_cached("base")
    detail = "in the cache" if there else f"optional, not fetched: `{assets.base.COMMAND}`"
    return Check("base model", True, detail)


def _is_built(source: Path) -> bool:
    path = build.output_path(source, "learner")
    try:
        return path.exists() and build.version(build.read(path)) == build.source_hash(source)
    except WorkbookError:
        return False  # `workbook build` then says what is wrong with the file
