"""Run the notebooks headless, and keep the executed solved edition and its measurements."""

import asyncio
import contextlib
import importlib.metadata
import os
import re
import shutil
import signal
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import nbclient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from .. import measurements, settings
from ..errors import WorkbookError
from ..memory import peak_memory
from . import build

# As in `recording`, which takes seconds to import.
MEASURED = "application/vnd.workbook.measured+json"
WIDGET = "application/vnd.jupyter.widget-view+json"
MACHINE_PATH = re.compile(r"(?<![\w.])(?:/(?:home|Users|tmp)/\w|/root\b|[A-Z]:\\+Users\\)")
IMAGE = re.compile(r"""(data:image/[^"']+)""")  # base64 may look like a path


@dataclass
class Run:
    """What one execution of a notebook took and gave; `error` is a sentence, or None."""

    name: str
    minutes: float = 0.0
    peak_memory_gb: float = 0.0
    measured: dict | None = None
    error: str | None = None


class _Client(nbclient.NotebookClient):
    """Ends at Ctrl-C as other programs do: nbclient takes it for the death of the kernel."""

    async def async_start_new_kernel_client(self):
        """Connect to the kernel, after which nothing of nbclient's listens to Ctrl-C."""
        with contextlib.suppress(NotImplementedError, RuntimeError):  # Windows, or a thread
            asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)
        return await super().async_start_new_kernel_client()


def execute(notebook, name: str, on_cell=lambda: None, language: str = "en") -> Run:
    """Run all cells of a notebook in `notebooks/`, in place, and return what it took.

    Raises WorkbookError that names the notebook and the cell when a cell fails.
    """
    last = SimpleNamespace(cell=0)
    client = _Client(
        notebook,
        kernel_name="python3",
        extra_arguments=["--log-level=ERROR"],
        timeout=None,
        record_timing=False,
        coalesce_streams=True,
        store_widget_state=False,
        resources={"metadata": {"path": str(settings.notebooks_dir())}},
        on_cell_execute=lambda cell, cell_index: setattr(last, "cell", cell_index + 1),
        on_cell_executed=lambda **_: on_cell(),
    )
    begin = time.perf_counter()
    with peak_memory() as peak, tempfile.TemporaryDirectory() as scratch:
        # The reader's own record of passed exercises stays as it is.
        own = {"WORKBOOK_PROGRESS": f"{scratch}/progress.json", "WORKBOOK_LANGUAGE": language}
        environment = {**os.environ, **own}
        try:
            client.execute(env=environment)
        except KeyboardInterrupt:
            client.shutdown_kernel = "immediate"  # else it tells of its own interrupt, at length
            raise
        except CellExecutionError as error:
            kind = "" if error.ename == "WorkbookError" else f"{error.ename}: "
            raise WorkbookError(f"{name}, cell {last.cell}: {kind}{error.evalue}") from error
        except DeadKernelError as error:
            message = "the kernel died, most likely for want of memory: close other programs."
            raise WorkbookError(f"{name}, cell {last.cell}: {message}") from error
    minutes = (time.perf_counter() - begin) / 60
    return Run(name, minutes, peak.gb, measured(notebook))


def measured(notebook) -> dict | None:
    """Return the last measurements that a notebook shows: notebook, headline, values."""
    data = [output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", [])]
    found = [dict(entry[MEASURED]) for entry in data if MEASURED in entry]
    return found[-1] if found else None


def run(
    selection=(),
    edition: str = "solved",
    keep: bool = False,
    cold: bool = False,
    language: str = "en",
) -> list[Run]:
    """Execute the selected notebooks one after another, print a table, and return the runs.

    With `keep` what the solved edition measured is written, at the default scale with the
    workbook's own model; and the executed edition too, with seed 0 in the number format that this
    machine chooses. Other runs only show that the notebooks work. `cold` begins with an empty run
    cache, which the times for the README need. Raises WorkbookError where another language is to
    be kept.
    """
    if keep and language != "en":
        raise WorkbookError("Only the English edition is kept: others take their outputs from it.")
    keep = keep and edition == "solved" and settings.scale() == "default"
    keep = keep and "WORKBOOK_MODEL" not in os.environ
    columns = TextColumn("{task.description}"), MofNCompleteColumn(), TextColumn("cells")
    sources = build.sources(selection)
    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(Progress(*columns, TimeElapsedColumn(), console=Console()))
        if cold:
            stack.enter_context(empty_run_cache())
        runs = [_run_one(source, edition, keep, cold, progress, language) for source in sources]
    Console().print(_table(runs))
    return runs


@contextlib.contextmanager
def empty_run_cache():
    """Set the kept trainings aside while the block runs; afterwards they are back, with the new."""
    folder = settings.cache_dir() / "runs"
    aside = folder.with_name("runs-set-aside")
    _bring_back(aside, folder)  # what a killed cold run left there
    folder.rename(aside)
    try:
        yield
    finally:
        _bring_back(aside, folder)


def _bring_back(aside: Path, folder: Path) -> None:
    """Move the files that were set aside into their folder, except those that are there anew."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in aside.glob("*"):
        if not (folder / file.name).exists():
            file.rename(folder / file.name)
    shutil.rmtree(aside, ignore_errors=True)


def _run_one(
    source: Path, edition: str, keep: bool, cold: bool, progress: Progress, language: str
) -> Run:
    notebook = build.make(source, edition, language)
    total = sum(cell.cell_type == "code" and bool(cell.source.strip()) for cell in notebook.cells)
    task = progress.add_task(source.stem, total=total)
    try:
        result = execute(notebook, source.stem, lambda: progress.advance(task), language)
        if keep:
            _keep(notebook, result, source, cold)
    except WorkbookError as error:
        progress.console.print(str(error), style="red", markup=False, highlight=False)
        result = Run(source.stem, error=str(error))
    progress.stop_task(task)
    if not progress.console.is_terminal:  # a file shows no bar
        name, minutes, memory, _ = _cells(result)
        told = "failed" if result.error else f"{minutes} min, {memory} GB"
        progress.console.print(f"{name}: {told}", highlight=False)
    return result


def _keep(notebook, result: Run, source: Path, cold: bool) -> None:
    """Write what was measured and, for the run that readers see, the executed solved edition."""
    is_shown = settings.seed() == 0 and "WORKBOOK_PRECISION" not in os.environ
    if is_shown:
        for cell in notebook.cells:
            if cell.cell_type == "code":
                kept = [output for output in cell.outputs if WIDGET not in output.get("data", {})]
                cell.outputs = scrub(kept)
        build.write(notebook, build.output_path(source, "solved"))
    if result.measured:
        entry = _entry(build.code_hash(notebook), result, source.stem[:2], cold)
        measurements.keep(source.stem[:2], entry, is_shown)


def _entry(code: str, result: Run, number: str, cold: bool) -> dict:
    """Return the measurements with how they were made.

    Only a cold run tells what the notebook costs; another leaves the cost that is known, which
    names the code that it was measured with.
    """
    name = f"{settings.precision()}, seed {settings.seed()}"
    cost = {
        "minutes": round(result.minutes, 1),
        "peak_memory_gb": round(result.peak_memory_gb, 1),
        "machine": settings.machine(),
        "code_sha256": code,
    }
    known = measurements.read(number)["runs"].get(name, {}).get("cost")
    return {
        "precision": settings.precision(),
        "seed": settings.seed(),
        **{key: result.measured[key] for key in ("headline", "values")},
        "scale": settings.scale(),
        "model": "smollm2-135m-instruct",
        "machine": settings.machine(),
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "transformers")},
        "code_sha256": code,
        "cost": cost if cold else known,
    }


def scrub(value):
    """Return a nested output with this machine's folders written short, images untouched.

    Raises WorkbookError when another absolute path into a home or temporary folder is left.
    """
    if isinstance(value, dict):
        return type(value)({k: v if k.startswith("image/") else scrub(v) for k, v in value.items()})
    if isinstance(value, list):
        return [scrub(item) for item in value]
    if not isinstance(value, str):
        return value
    return "".join(p if p.startswith("data:") else _shorten(p) for p in IMAGE.split(value))


def _shorten(text: str) -> str:
    places = {settings.cache_dir(): "<cache>", settings.repo_root(): "<course>", Path.home(): "~"}
    for place, short in places.items():
        if place != Path(place.anchor):
            text = text.replace(str(place), short)
    if found := MACHINE_PATH.search(text):
        line = text[max(found.start() - 30, 0) : found.end() + 50]
        raise WorkbookError(f"An output shows a path of this machine, take it out: …{line}…")
    return text


def _table(runs: list[Run]) -> Table:
    table = Table("notebook", "minutes", "peak memory (GB)", "headline")
    for one in runs:
        table.add_row(*_cells(one))
    return table


def _cells(one: Run) -> tuple[str, str, str, str]:
    if one.error:
        return one.name, "–", "–", "failed"
    minutes, memory = f"{one.minutes:.1f}", f"{one.peak_memory_gb:.1f}"
    return one.name, minutes, memory, measurements.headline(one.measured)
