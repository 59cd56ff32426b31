"""Trained weights and measured numbers kept between runs, found by what went into them."""

import contextlib
import dataclasses
import functools
import importlib.metadata
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from . import assets, models, settings, training
from .errors import WorkbookError
from .files import atomic_path
from .fingerprints import fingerprint, fingerprints
from .hashing import code_hash
from .training import History

__all__ = ["cache_key", "cached", "clear", "entries", "fingerprint", "fit", "make_room"]

LIMIT_BYTES = 5_000_000_000  # least recently used weights go first
LIBRARY = Path(__file__).parent
# The files that decide over nothing that is kept; a new file decides until it is listed here.
NOT_DECIDING = (
    "authoring/*", "capstone/__init__.py", "capstone/report.py", "capstone/room.py",
    "capstone/run.py", "capstone/saving.py", "capstone/using.py", "checks/*", "jupyter/*", "cli.py",
    "course.py", "doctor.py", "glossary.py", "measurements.py", "memory.py", "planning.py",
    "plots.py", "recording.py", "workspace.py",
)  # fmt: skip
# These decide over measured numbers but not over weights: examples are inputs, by value.
ONLY_MEASURING = (
    "abilities.py", "benchmarks/*", "capstone/*", "experiments.py", "forgetting/continual.py",
    "forgetting/drift.py", "forgetting/panel.py", "grading.py", "metric_scripts/*", "metrics.py",
    "scoring.py", "tasks/*",
)  # fmt: skip
DATA = ("*.jsonl", "benchmarks/*.jsonl", "tasks.yaml", "templates/*.yaml")
PACKAGES = (
    "torch", "transformers", "peft", "tokenizers", "datasets", "numpy", "scipy", "scikit-learn",
    "evaluate", "rouge-score", "sacrebleu", "seqeval", "jinja2",
)  # fmt: skip


def _sources() -> dict[str, str]:
    paths = {path.relative_to(LIBRARY).as_posix(): path for path in sorted(LIBRARY.rglob("*.py"))}
    return {name: path.read_text("utf-8") for name, path in paths.items()}


# Read at once: what runs is this code, whatever is edited while it runs.
SOURCES = _sources()
_code = functools.cache(code_hash)


def runs_dir() -> Path:
    """Return the folder of the run cache. Raises WorkbookError if it cannot be made."""
    folder = settings.cache_dir() / "runs"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkbookError(
            f"The folder {folder} cannot be made: set WORKBOOK_CACHE to a folder of your own."
        ) from error
    return folder


# --- keys


def deciding_files(only_weights: bool = False) -> list[str]:
    """Return the library's files that decide over what is kept, or over trained weights only."""
    others = NOT_DECIDING + (ONLY_MEASURING if only_weights else ())
    return [name for name in SOURCES if not any(fnmatch(name, other) for other in others)]


@functools.cache
def library_hash(only_weights: bool = False) -> str:
    """Return a hash of the code that decides: what it made is its own alone."""
    return fingerprint([(name, _code(SOURCES[name])) for name in deciding_files(only_weights)])


def data_hash() -> str:
    """Return a hash of the course's rows, registry and templates, which functions may load."""
    data = settings.repo_root() / "data"
    files = [path for pattern in DATA for path in sorted(data.glob(pattern))]
    return fingerprint([(path.name, path.read_bytes()) for path in files])


@functools.cache
def versions() -> list[str]:
    """Return the versions of the packages that compute."""
    return [f"{package} {importlib.metadata.version(package)}" for package in PACKAGES]


def _own_model() -> list:
    """Return what `models.load()` loads where it is not the course's model."""
    name = os.environ.get("WORKBOOK_MODEL", "")
    files = sorted(Path(name).expanduser().glob("*")) if name else []
    return [name, *((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files)]


def cache_key(name: str, inputs: dict, only_weights: bool = False) -> str:
    """Return the cache key of a named run: what can be part of a file's name of it, and a hash.

    The hash covers the name, the inputs (`fingerprints`), the library's code, the course's data,
    versions, device, precision, scale and seed. `only_weights` leaves out the code and data that
    decide over measured numbers alone. Raises WorkbookError for inputs that cannot be told apart.
    """
    context = {
        "library": library_hash(only_weights),
        "data": None if only_weights else data_hash(),
        "versions": versions(),
        "device": settings.device().type,
        "precision": settings.precision(),
        "scale": settings.scale(),
        "seed": settings.seed(),
        "model": _own_model(),
    }
    found = fingerprint([name, sorted(fingerprints(inputs).items()), context])
    readable = re.sub(r"[^A-Za-z0-9 ,.+=()_-]", "_", name).lstrip(". ")[:60]
    return f"{readable}-{found[:16]}"


# --- results and weights


def cached(name: str, function: Callable[..., dict], /, **inputs) -> dict:
    """Return `function(**inputs)`, a JSON-able result, from the cache where it was computed before.

    The key covers the function with all that it uses and the inputs, models by every byte of their
    weights (`cache_key`). A line says when a result comes from the cache and how long it took to
    compute, or that what was kept is damaged.
    """
    file = runs_dir() / f"{cache_key(name, {'the function': function, **inputs})}.json"
    if file.exists():
        try:
            kept = _read(file)
            print(f"{name}: from the run cache (it took {kept['seconds']:.0f} s on {kept['date']})")
            return kept["result"]
        except DAMAGES:
            _say_damaged(name)
    start = time.perf_counter()
    result = function(**inputs)
    return _keep(file, name, result, time.perf_counter() - start)["result"]


def fit(name: str, model: torch.nn.Module, examples: Sequence[dict], **settings_) -> History:
    """Tune the model as `training.fit` does, or load what the same run left in the cache.

    The model holds the tuned weights afterwards either way, and random numbers go on alike.
    What only watches or resumes (`on_step`, `progress`, `checkpoint`) does not make another run.
    What was made from the base model is kept with its terms. Raises WorkbookError before the
    training if the weights cannot be kept.
    """
    others = ("checkpoint", "on_step", "progress", "save_steps")
    watching = {k: settings_.pop(k) for k in others if k in settings_}
    examples = list(examples)
    # A function of the caller's may use any part of the library.
    plain = not settings_.keys() & {"metric", "loss"} and not settings_.get("regularizers")
    inputs = {"model": model, "examples": examples, **settings_}
    key = cache_key(name, inputs, only_weights=plain)
    weights, numbers = runs_dir() / f"{key}.safetensors", runs_dir() / f"{key}.json"
    if weights.exists() or numbers.exists():
        try:
            kept = _check_run(weights, numbers)
        except DAMAGES:
            _say_damaged(name)
        else:
            _load_weights(model, weights)
            training.seed_everything(settings_.get("seed", 0))
            told = f"trained in {kept['seconds']:.0f} s on {kept['date']}"
            print(f"{name}: from the run cache ({told})")
            return History(**kept["result"])
    make_room(4 * sum(p.numel() for p in models.learning_weights(model).values()))
    header = assets.base.put_notices(model.config, weights.parent)  # before hours of training
    history = training.fit(model, examples, **settings_, **watching)
    return _keep_run(name, model, history, weights, numbers, header)


# What reading a file raises that somebody or something has damaged.
DAMAGES = (OSError, ValueError, KeyError, TypeError, SafetensorError)


def _say_damaged(name: str) -> None:
    print(f"{name}: what the run cache kept of it is damaged, so it is computed anew")


def _read(file: Path) -> dict:
    """Return what a JSON file keeps. Raises one of DAMAGES if it is not whole."""
    kept = json.loads(file.read_text("utf-8"))
    return {
        **kept, "result": kept["result"],
        "seconds": float(kept["seconds"]), "date": str(kept["date"]),
    }  # fmt: skip


def _keep(file: Path, name: str, result, seconds: float, **more) -> dict:
    """Write a result with its circumstances and return them as they will be read."""
    kept = {"name": name, "result": result, "seconds": seconds, "date": _today(), **more}
    text = json.dumps(kept, default=_plain)
    with atomic_path(file) as partial:
        partial.write_text(text, encoding="utf-8")
    return json.loads(text)


def _keep_run(name, model, history: History, weights: Path, numbers: Path, header) -> History:
    """Write the weights that learned, then the history with their fingerprints; return it."""
    learning = models.learning_weights(model).keys()
    state = {n: t.contiguous() for n, t in model.state_dict().items() if n in learning}
    result, marks = dataclasses.asdict(history), _marks(state.items())
    json.dumps(result, default=_plain)  # what cannot be kept leaves no weights either
    with atomic_path(weights) as partial:
        save_file(state, partial, metadata=header or None)
    kept = _keep(numbers, name, result, history.seconds, weights=marks)
    return History(**kept["result"])


def _marks(tensors: Iterable[tuple[str, torch.Tensor]]) -> dict[str, str]:
    return {name: fingerprint(tensor) for name, tensor in tensors}


def _check_run(weights: Path, numbers: Path) -> dict:
    """Return what is kept of a run. Raises one of DAMAGES if it is not what was written."""
    kept = _read(numbers)
    History(**kept["result"])
    with safe_open(weights, "pt") as file:
        # One by one, so that the weights are not in memory twice.
        if _marks((key, file.get_tensor(key)) for key in file.keys()) != kept["weights"]:
            raise ValueError("the weights are not those that were kept")
    return kept


@torch.no_grad()
def _load_weights(model: torch.nn.Module, weights: Path) -> None:
    """Write kept weights into the model and leave it as training does."""
    models.cast_weights(model, torch.float32)
    tensors = model.state_dict()
    with safe_open(weights, "pt") as file:
        for key in file.keys():
            tensors[key].copy_(file.get_tensor(key))
    model.zero_grad()
    model.eval()
    with contextlib.suppress(OSError):  # another process made room, or the folder is read-only
        os.utime(weights)  # least recently used goes first


# --- housekeeping


def make_room(needed: int, limit: int = LIMIT_BYTES) -> None:
    """Delete the least recently used weights until `needed` more bytes fit under the limit.

    Raises WorkbookError if they never can.
    """
    if needed > limit:
        raise WorkbookError(f"The weights take {needed / 1e9:.1f} GB, over the cache's limit.")
    for file, _ in _stats(filter(_is_abandoned, runs_dir().glob(".*"))):
        file.unlink(missing_ok=True)
    files = sorted(_stats(runs_dir().glob("[!.]*.safetensors")), key=lambda one: one[1].st_mtime)
    used = sum(found.st_size for _, found in files)
    for file, found in files:
        if used + needed <= limit:
            return
        used -= found.st_size
        file.unlink(missing_ok=True)
        file.with_suffix(".json").unlink(missing_ok=True)


def _is_abandoned(file: Path) -> bool:
    """Tell whether a file is what a killed process left half-written, an hour ago or more."""
    return file.name.startswith(".") and all(
        time.time() - found.st_mtime > 3600 for _, found in _stats([file])
    )


def _stats(files: Iterable[Path]) -> list[tuple[Path, os.stat_result]]:
    """Return the files with their sizes and times, but for what another process has deleted."""
    found = []
    for file in files:
        try:
            found.append((file, file.stat()))
        except FileNotFoundError:
            pass
    return found


def entries() -> list[dict]:
    """Return what the cache holds: name, key, bytes, date and seconds of each run.

    A damaged one has no seconds, and the word "damaged" in place of the date.
    """
    files = [file for suffix in ("json", "safetensors") for file in runs_dir().glob(f"*.{suffix}")]
    stems = {file.stem for file in files if not file.name.startswith(".")}
    return sorted(map(_entry, stems), key=lambda row: (row["name"], row["key"]))


def _entry(stem: str) -> dict:
    name, _, key = stem.rpartition("-")
    row = {"name": name or stem, "key": key, "bytes": 0, "date": "damaged", "seconds": None}
    row["bytes"] = sum(found.st_size for _, found in _stats(_files(stem)))
    try:
        kept = _read(runs_dir() / f"{stem}.json")
    except DAMAGES:
        return row
    found = {"name": str(kept.get("name", name)), "date": kept["date"]}
    return row | found | {"seconds": round(kept["seconds"], 1)}


def _files(stem: str) -> list[Path]:
    return [runs_dir() / f"{stem}.{suffix}" for suffix in ("json", "safetensors")]


def clear(name: str | None = None) -> int:
    """Delete the runs of this name, or everything in the cache; return the number of bytes freed.

    Raises WorkbookError if no run has the name.
    """
    if name is None:
        every = [file for file in runs_dir().rglob("*") if file.is_file()]
        # What another process writes at this moment is left to it.
        files = [file for file in every if file.name[0] != "." or _is_abandoned(file)]
    else:
        stems = {file.stem for file in runs_dir().glob("[!.]*.*")}
        files = [file for stem in stems if name == _entry(stem)["name"] for file in _files(stem)]
        if not files:
            raise WorkbookError(f"The run cache has no run {name!r}: see `workbook cache`.")
    found = _stats(files)
    for file, _ in found:
        file.unlink(missing_ok=True)
    return sum(one.st_size for _, one in found)


def _today() -> str:
    return time.strftime("%Y-%m-%d")


def _plain(value):
    """Return NumPy values as Python's own for JSON."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise WorkbookError(f"{type(value).__name__} cannot be kept: return plain numbers and text.")
