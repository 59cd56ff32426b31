"""What a notebook measured, and the recorded sweeps behind its curves."""

import dataclasses
import datetime
import functools
import html
import importlib.metadata
import importlib.util
import json
import multiprocessing
import os
import platform
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from IPython.display import display

from . import runcache, settings, tasks
from .errors import WorkbookError
from .files import atomic_path
from .hashing import code_hash
from .metrics import Interval, RunInterval

MEASURED = "application/vnd.workbook.measured+json"
PACKAGES = ("torch", "transformers", "datasets", "numpy")
SHOWN = 8  # rows of the table of measurements that are not folded
SHORT = 60  # characters of a value that can be read at a glance


def measured(notebook: str, headline: str, **values) -> None:
    """Display what a notebook measured, as a table for readers and as JSON for the tests.

    `headline` names the value that `make run` prints, or is a sentence. An Interval is kept as
    [estimate, low, high], one over training runs as [estimate, low, high, runs]. Where there are
    many values, the table shows the headline and the first short ones, and the others unfold.
    Raises WorkbookError for a value that is NaN or no number, text or list.
    """
    plain = {name: _plain(name, value) for name, value in values.items()}
    rows = [(name.replace("_", " "), _legible(value)) for name, value in values.items()]
    data = {
        MEASURED: {"notebook": notebook, "headline": headline, "values": plain},
        "text/html": _short_first(headline.replace("_", " "), rows),
        "text/plain": "\n".join(f"{name}: {value}" for name, value in rows),
    }
    display(data, raw=True)


def _short_first(headline: str, rows: list[tuple[str, str]]) -> str:
    """Return rows as an HTML table; of many rows a few short ones, and all of them folded."""
    if len(rows) <= SHOWN:
        return _html_table(rows)
    # The row that the headline names comes first; a sort leaves the others in their order.
    short = sorted(
        (row for row in rows if len(row[1]) <= SHORT), key=lambda row: row[0] != headline
    )
    sentence = "" if headline in dict(rows) else f"<p>{html.escape(headline)}</p>"
    folded = f"<details><summary>All {len(rows)} values</summary>{_html_table(rows)}</details>"
    return sentence + (_html_table(short[:SHOWN]) if short else "") + folded


def _html_table(rows: list[tuple[str, str]]) -> str:
    cells = "".join(f"<tr><td>{html.escape(n)}</td><td>{html.escape(v)}</td></tr>" for n, v in rows)
    return f"<table><tr><th>measured</th><th>value</th></tr>{cells}</table>"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a sweep is to answer, written down before it runs and kept with its results.

    question          what a reader wants to know
    primary           the one comparison that answers it: which scores, of what against what
    composite         what "kept" or "quality" is made of, where the comparison needs it
    margin            differences within it count as none; None where nothing is called equal
    selection_seeds   seeds of the runs that choose rates, strengths, templates, on validation
    test_seeds        seeds of the runs that are tested, none of which chose anything

    Raises WorkbookError when a seed both chooses and is tested.
    """

    question: str
    primary: str
    composite: str = ""
    margin: float | None = None
    selection_seeds: tuple[int, ...] = ()
    test_seeds: tuple[int, ...]

    def __post_init__(self):
        if both := set(self.selection_seeds) & set(self.test_seeds):
            raise WorkbookError(f"The seeds {sorted(both)} choose and are tested: part them.")


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A measurement repeated over points; a script in recorded/sweeps defines one as SWEEP.

    `measure(**settings, **point)` returns a dict of results. The file of the results stands
    beside the script (`source`, give `__file__`) and has its name. Where later points rest on what
    earlier ones found, `points` is a function of the rows measured so far, none at first.
    """

    settings: dict
    points: list[dict] | Callable[[list[dict]], list[dict]]
    measure: Callable[..., dict]
    source: str
    plan: Plan | None = None

    @property
    def path(self) -> Path:
        """The JSON file of the results."""
        return Path(self.source).with_suffix(".json")

    def run(self, jobs: int = 1) -> None:
        """Measure every point that is not in the file yet, and save after each.

        A killed run goes on where it stopped, in the number format that it began with. Results of
        other code, settings or data are replaced; code is compared without imports, comments,
        docstrings and the list of points. `jobs` points are measured at a time, each in a process
        of its own with its share of the cores.
        """
        # Taken before the hours of measuring, in which somebody may edit the script.
        made, rows = self._made(), self._kept_rows()
        if self.path.exists() and not rows:
            print(f"{self.path.name} was made by other code, settings or data: starting afresh.")
        if rows:
            os.environ["WORKBOOK_PRECISION"] = _read(self.path)["precision"]
        data = _read(self.path).get("data", {}) if rows else {}
        while left := self._left(rows):
            for point, (row, used) in zip(left, self._measured(left, jobs), strict=True):
                rows.append(row)
                data |= used
                self._write({**made, **_circumstances(), "data": data, "rows": rows})
                place = f"{self.path.stem}, {len(self._left(rows))} left"
                print(f"{place}: {point} took {row['seconds']} s", flush=True)

    def _measured(self, points: list[dict], jobs: int) -> Iterator[tuple[dict, dict]]:
        """Yield the row of each point, in their order, and the data that was used for it."""
        if jobs == 1:
            yield from ((self.measure_point(point), tasks.loaded()) for point in points)
            return
        # Two processes of one thread each do more in an hour than one of two.
        os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // jobs))
        with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
            yield from pool.map(_measure_apart, [self.source] * len(points), points)

    def measure_point(self, point: dict) -> dict:
        """Measure one point now and return its row: point, results, seconds, machine, library code.

        Library code is recorded and makes no row stale: some points are measured again instead.
        """
        begin = time.perf_counter()
        result = self.measure(**self.settings, **point)
        if clash := set(point) & set(result):
            raise WorkbookError(f"A result is named like a setting of its point: rename {clash}.")
        seconds = round(time.perf_counter() - begin, 2)
        made = {"machine": settings.machine(), "library": runcache.library_hash()[:12]}
        row = {**point, **result, "seconds": seconds, **made}
        return {name: _plain(name, value) for name, value in row.items()}

    def is_current(self) -> bool:
        """Tell whether the file was made by this code, settings and data, and has every point."""
        return not self._left(self._kept_rows())

    def known_points(self, rows: list[dict]) -> list[dict]:
        """Return the points that are known when these rows are measured."""
        return self.points(rows) if callable(self.points) else self.points

    def _left(self, rows):
        return [point for point in self.known_points(rows) if _find(rows, point) is None]

    def _made(self):
        fixed = {name: _plain(name, value) for name, value in self.settings.items()}
        plan = {"plan": _plain("plan", dataclasses.asdict(self.plan))} if self.plan else {}
        return {"source_sha256": source_hash(self.source), "settings": fixed, **plan}

    def _kept_rows(self):
        old = _read(self.path) if self.path.exists() else {"rows": []}
        is_same = self._made().items() <= old.items() and all(
            tasks.fingerprint(name) == known for name, known in old.get("data", {}).items()
        )
        return old["rows"] if is_same else []

    def _write(self, content):
        with atomic_path(self.path) as draft:
            text = json.dumps({"name": self.path.stem, **content}, indent=1, ensure_ascii=False)
            draft.write_text(text + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Recorded:
    """A recorded sweep with how it was made: machine, versions, date and code hash in `header`."""

    settings: dict
    rows: list[dict]
    header: dict

    @property
    def frame(self) -> pd.DataFrame:
        """The rows as a table, one a measured point."""
        return pd.DataFrame(self.rows)


def load(name: str) -> Recorded:
    """Return the recorded sweep of this name, such as "03_learning_curve".

    Raises WorkbookError when the recording is missing or damaged.
    """
    header = _read(_folder() / f"{name}.json")
    return Recorded(header.pop("settings"), header.pop("rows"), header)


def sweep(name: str) -> Sweep:
    """Return the SWEEP that the script of this name in notebooks/recorded/sweeps defines."""
    path = _folder() / f"{name}.py"
    if not path.exists():
        raise WorkbookError(f"There is no sweep {name!r}: choose a script in {_folder()}.")
    return _defined_in(path)


def _defined_in(path: str | Path) -> Sweep:
    name = f"recorded_{Path(path).stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.SWEEP


_kept_by_a_worker = functools.cache(_defined_in)  # with the models that its script holds


def _measure_apart(source: str, point: dict) -> tuple[dict, dict]:
    """Return a point's row, measured in this process, and the data that was used."""
    return _kept_by_a_worker(source).measure_point(point), tasks.loaded()


def is_current(name: str) -> bool:
    """Tell whether a recording was made by its script as it is now, and is complete."""
    return sweep(name).is_current()


def rerun(name: str, **point) -> tuple[dict, dict]:
    """Measure one recorded point again and return (recorded row, live row).

    Raises WorkbookError when the values do not name exactly one recorded point.
    """
    one, rows = sweep(name), load(name).rows
    matching = [each for each in one.known_points(rows) if point.items() <= each.items()]
    recorded = _find(rows, matching[0]) if len(matching) == 1 else None
    if recorded is None:
        raise WorkbookError(f"{point} is not one recorded point of {name}: see its `frame`.")
    return recorded, one.measure_point(matching[0])


def source_hash(path: str | Path) -> str:
    """Return the SHA-256 of a script's code without imports, comments, docstrings, sweep points."""
    return code_hash(
        Path(path).read_text(encoding="utf-8"), ignored_arguments=["points"], imports=False
    )


def _folder():
    return settings.notebooks_dir() / "recorded" / "sweeps"


def _read(path):
    if not path.exists():
        command = f"python notebooks/recorded/sweeps/{path.stem}.py"
        raise WorkbookError(f"There is no recording {path.stem!r}: make it with `{command}`.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {**content, **{key: content[key] for key in ("settings", "rows", "source_sha256")}}
    except (ValueError, KeyError, TypeError) as error:
        raise WorkbookError(f"{path} is damaged: delete it and measure again.") from error


def _find(rows, point):
    point = json.loads(json.dumps(point))
    return next((row for row in rows if point.items() <= row.items()), None)


def _circumstances():
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {
        "machine": settings.machine(),
        "precision": settings.precision(),
        "versions": {"python": platform.python_version(), **versions},
        "made": datetime.date.today().isoformat(),
    }


def _plain(name, value):
    """Return a value as JSON holds it; an interval over runs keeps their number."""
    try:
        return json.loads(
            json.dumps(_with_runs(value), allow_nan=False, default=lambda v: v.tolist())
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise WorkbookError(f"{name} is {value!r}: only finite numbers, text and lists.") from error


def _with_runs(value):
    if isinstance(value, dict):
        return {name: _with_runs(each) for name, each in value.items()}
    return [*value, value.runs] if isinstance(value, RunInterval) else value


def _legible(value):
    if isinstance(value, Interval):
        estimate, low, high = map(_number, (value.estimate, value.low, value.high))
        return f"{estimate} [{low}, {high}]"
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dict):
        return ", ".join(f"{name} {_legible(each)}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_legible(each) for each in value)
    return _number(value) if isinstance(value, float) else str(value)


def _number(value: float) -> str:
    """Return a number with three decimals, or two digits of a smaller one, such as a rate."""
    return f"{value:.2g}" if 0 < abs(value) < 0.0005 else f"{value:z.3f}"
