"""Run the notebooks headless, and keep the executed solved edition and its measurements."""

import contextlib
import importlib.metadata
import json
import os
import re
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import nbclient
import psutil
from nbclient.exceptions import CellExecutionError, DeadKernelError
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from . import build, settings
from .assets import atomic_path
from .errors import WorkbookError

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


def execute(notebook, name: str, on_cell=lambda: None) -> Run:
    """Run all cells of a notebook in `notebooks/`, in place, and return what it took.

    Raises WorkbookError that names the notebook and the cell when a cell fails.
    """
    last = SimpleNamespace(cell=0)
    client = nbclient.NotebookClient(
        notebook,
        kernel_name="python3",
        extra_arguments=["--log-level=ERROR"],
        timeout=None,
        record_timing=False,
        coalesce_streams=True,
        store_widget_state=False,
        resources={"metadata": {"path": str(build.folder())}},
        on_cell_execute=lambda cell, cell_index: setattr(last, "cell", cell_index + 1),
        on_cell_executed=lambda **_: on_cell(),
    )
    begin = time.perf_counter()
    with peak_memory() as peak, tempfile.TemporaryDirectory() as scratch:
        # The reader's own record of passed exercises stays as it is.
        environment = {**os.environ, "WORKBOOK_PROGRESS": f"{scratch}/progress.json"}
        try:
            client.execute(env=environment)
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


def run(selection=(), edition: str = "solved", keep: bool = False) -> list[Run]:
    """Execute the selected notebooks one after another, print a table, and return the runs.

    With `keep` the solved edition and its measurements are written, at the default scale with
    the workbook's own model and precision; other runs only show that the notebooks work.
    """
    own = not {"WORKBOOK_MODEL", "WORKBOOK_PRECISION"} & set(os.environ)
    keep = keep and own and edition == "solved" and settings.scale() == "default"
    columns = TextColumn("{task.description}"), MofNCompleteColumn(), TextColumn("cells")
    with Progress(*columns, TimeElapsedColumn(), console=Console()) as progress:
        runs = [_run_one(source, edition, keep, progress) for source in build.sources(selection)]
    Console().print(_table(runs))
    return runs


def _run_one(source: Path, edition: str, keep: bool, progress: Progress) -> Run:
    notebook = build.make(source, edition)
    total = sum(cell.cell_type == "code" and bool(cell.source.strip()) for cell in notebook.cells)
    task = progress.add_task(source.stem, total=total)
    try:
        result = execute(notebook, source.stem, lambda: progress.advance(task))
        if keep:
            _keep(notebook, result, source)
    except WorkbookError as error:
        progress.console.print(str(error), style="red", markup=False, highlight=False)
        result = Run(source.stem, error=str(error))
    progress.stop_task(task)
    return result


def _keep(notebook, result: Run, source: Path) -> None:
    """Write the executed solved edition and, where it measured something, the recorded JSON."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            shown = [output for output in cell.outputs if WIDGET not in output.get("data", {})]
            cell.outputs = scrub(shown)
    build.write(notebook, build.output_path(source, "solved"))
    if result.measured:
        path = build.folder() / "recorded" / f"{source.stem[:2]}_measured.json"
        text = json.dumps(_record(notebook, result, path), indent=1, ensure_ascii=False)
        with atomic_path(path) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")


def _record(notebook, result: Run, path: Path) -> dict:
    """Return the measurements with how they were made.

    A run that found its trainings in the run cache tells nothing about time: the larger
    minutes and memory stand as long as the code of the notebook is the same.
    """
    code = build.code_hash(notebook)
    old = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    old = old if old.get("code_sha256") == code else {}
    return {
        **result.measured,
        "scale": settings.scale(),
        "minutes": max(round(result.minutes, 1), old.get("minutes", 0)),
        "peak_memory_gb": max(round(result.peak_memory_gb, 1), old.get("peak_memory_gb", 0)),
        "source_sha256": notebook.metadata["workbook"]["source_sha256"],
        "code_sha256": code,
        "settings": {"model": "smollm2-135m-instruct", "precision": settings.precision()},
        "machine": settings.machine(),
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "transformers")},
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


@contextlib.contextmanager
def peak_memory():
    """Yield a reading whose `gb` grows to the peak resident memory of all child processes."""
    reading, stop = SimpleNamespace(gb=0.0), threading.Event()

    def watch():
        while not stop.wait(0.1):
            reading.gb = max(reading.gb, _children_gb())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield reading
    finally:
        stop.set()
        thread.join()


def _children_gb() -> float:
    total = 0
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            total += child.memory_info().rss
    return total / 1e9


def _table(runs: list[Run]) -> Table:
    table = Table("notebook", "minutes", "peak memory (GB)", "headline")
    for one in runs:
        numbers = (f"{one.minutes:.1f}", f"{one.peak_memory_gb:.1f}", headline(one.measured))
        table.add_row(one.name, *(("–", "–", "failed") if one.error else numbers))
    return table


def headline(shown: dict | None) -> str:
    """Return a notebook's most important number with its name, its sentence, or a dash."""
    title = shown["headline"] if shown else "–"
    value = shown["values"].get(title) if shown else None
    estimate = value[0] if isinstance(value, list) else value
    return f"{title} {estimate:.3g}" if isinstance(estimate, int | float) else title
