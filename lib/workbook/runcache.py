"""Trained weights and measured numbers kept between runs, found by what went into them."""

import dataclasses
import functools
import hashlib
import inspect
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from datasets.fingerprint import Hasher
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import PreTrainedTokenizerBase

from . import assets, settings, training
from .errors import WorkbookError
from .files import atomic_path
from .hashing import code_hash
from .training import History

LIMIT_BYTES = 5_000_000_000  # least recently used weights go first
LIBRARY = Path(__file__).parent
# What decides over trained weights, and over any measured number.
TRAINING_CODE = (
    "encoding.py",
    "models.py",
    "templates.py",
    "training.py",
    "forgetting/remedies.py",
    "adaptation/*.py",
)
MEASURING_CODE = (
    *TRAINING_CODE, "scoring.py", "metrics.py", "grading.py", "forgetting/*.py"
)  # fmt: skip


def runs_dir() -> Path:
    """Return the folder of the run cache."""
    folder = settings.cache_dir() / "runs"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@functools.cache
def library_hash(*patterns: str) -> str:
    """Return a hash of the library's files of these patterns: what they made is theirs alone."""
    files = [path for pattern in patterns for path in sorted(LIBRARY.glob(pattern))]
    return _hash([code_hash(path.read_text(encoding="utf-8")) for path in files])


def fingerprint(model: torch.nn.Module) -> str:
    """Return a short hash of a model's weights, from a sample of every parameter's bytes."""
    digest = hashlib.sha256()
    for name, parameter in model.state_dict().items():
        sample = parameter.detach().flatten()[:: max(1, parameter.numel() // 512)]
        digest.update(f"{name} {tuple(parameter.shape)}".encode())
        digest.update(sample.float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def _hash(value) -> str:
    """Return a short hash of plain data, functions and data sets."""
    return Hasher.hash(value)[:16]


def _describe(value):
    """Return what identifies an input: models by weights, functions by code, else the value."""
    if isinstance(value, torch.nn.Module):
        return fingerprint(value)
    if isinstance(value, PreTrainedTokenizerBase):
        return value.backend_tokenizer.to_str(), value.chat_template, value.special_tokens_map
    if inspect.isfunction(value):
        return code_hash(inspect.getsource(value))
    return value


def cache_key(name: str, inputs: dict, code: Sequence[str] = MEASURING_CODE) -> str:
    """Return the cache key of a named run with its inputs, precision, live seed, library code."""
    parts = {key: _describe(value) for key, value in inputs.items()}
    context = (
        library_hash(*code),
        str(settings.working_dtype()),
        torch.__version__,
        settings.seed(),
    )
    return f"{name}-{_hash([sorted(parts.items()), context])}"


def cached(name: str, function: Callable[..., dict], **inputs) -> dict:
    """Return `function(**inputs)`, a JSON-able result, from the cache where it was computed before.

    The key covers the function's code, the library's, and the inputs (models by their weights). A
    line says when a result comes from the cache and how long it took to compute.
    """
    file = runs_dir() / f"{cache_key(name, {'function': function, **inputs})}.json"
    if file.exists():
        kept = json.loads(file.read_text())
        print(f"{name}: from the run cache (it took {kept['seconds']:.0f} s on {kept['date']})")
        return kept["result"]
    start = time.perf_counter()
    result = function(**inputs)
    kept = {"result": result, "seconds": time.perf_counter() - start, "date": _today()}
    with atomic_path(file) as partial:
        partial.write_text(json.dumps(kept, default=_plain))
    return json.loads(json.dumps(result, default=_plain))


def fit(name: str, model: torch.nn.Module, examples: Sequence[dict], **settings_) -> History:
    """Tune the model as `training.fit` does, or load what the same run left in the cache.

    The model holds the tuned weights afterwards either way. Callbacks that only watch (`on_step`,
    `progress`) do not make another run. What was made from the base model is kept with its terms.
    """
    watching = {k: settings_.pop(k) for k in ("on_step", "progress") if k in settings_}
    inputs = {"model": model, "examples": list(examples), **settings_}
    key = cache_key(name, inputs, TRAINING_CODE)
    weights, numbers = runs_dir() / f"{key}.safetensors", runs_dir() / f"{key}.json"
    if weights.exists() and numbers.exists():
        return _load_run(name, model, weights, numbers)
    header = assets.base.put_notices(model.config, weights.parent)  # before hours of training
    history = training.fit(model, examples, **settings_, **watching)
    names = {n for n, p in model.named_parameters() if p.requires_grad}
    state = {n: t.contiguous() for n, t in model.state_dict().items() if n in names}
    make_room(sum(t.numel() * t.element_size() for t in state.values()))
    with atomic_path(weights) as partial:
        save_file(state, partial, metadata=header or None)
    with atomic_path(numbers) as partial:
        kept = {"result": dataclasses.asdict(history), "seconds": history.seconds}
        partial.write_text(json.dumps(kept | {"date": _today()}))
    return history


def _load_run(name, model, weights: Path, numbers: Path) -> History:
    """Load a cached run's weights into the model and return its history."""
    kept = json.loads(numbers.read_text())
    tensors = model.state_dict()
    with safe_open(weights, "pt") as file, torch.no_grad():
        for key in file.keys():  # one by one, so that the weights are not in memory twice
            tensors[key].copy_(file.get_tensor(key))
    model.eval()
    weights.touch()  # least recently used goes first
    print(f"{name}: from the run cache (trained in {kept['seconds']:.0f} s on {kept['date']})")
    return History(**kept["result"])


def make_room(needed: int, limit: int = LIMIT_BYTES) -> None:
    """Delete the least recently used weights until `needed` more bytes fit under the limit.

    Raises WorkbookError if they never can.
    """
    if needed > limit:
        raise WorkbookError(f"The weights take {needed / 1e9:.1f} GB, over the cache's limit.")
    for file in runs_dir().glob(".*"):  # what a killed process left half-written
        if time.time() - file.stat().st_mtime > 3600:
            file.unlink(missing_ok=True)
    weights = runs_dir().glob("[!.]*.safetensors")
    files = sorted(weights, key=lambda file: file.stat().st_mtime)
    used = sum(file.stat().st_size for file in files)
    for file in files:
        if used + needed <= limit:
            return
        used -= file.stat().st_size
        file.unlink()
        file.with_suffix(".json").unlink(missing_ok=True)


def entries() -> list[dict]:
    """Return what the cache holds: name, bytes, date and seconds of each run."""
    rows = []
    for file in sorted(runs_dir().glob("[!.]*.json")):
        kept, weights = json.loads(file.read_text()), file.with_suffix(".safetensors")
        size = sum(f.stat().st_size for f in (file, weights) if f.exists())
        row = {"name": file.stem, "bytes": size, "date": kept["date"], "seconds": kept["seconds"]}
        rows.append(row)
    return rows


def clear() -> int:
    """Delete everything in the cache and return the number of bytes freed."""
    files = [file for file in runs_dir().iterdir() if file.is_file()]
    freed = sum(file.stat().st_size for file in files)
    for file in files:
        file.unlink()
    return freed


def _today() -> str:
    return time.strftime("%Y-%m-%d")


def _plain(value):
    """Return NumPy values as Python's own for JSON."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise WorkbookError(f"{type(value).__name__} cannot be kept: return plain numbers and text.")
