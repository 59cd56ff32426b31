"""Where things are and how large the experiments run, all from environment variables."""

import contextlib
import functools
import json
import os
import platform
import time
import tomllib
from pathlib import Path

import platformdirs

from .errors import WorkbookError
from .files import atomic_path

SCALES = ("smoke", "default", "full")
LANGUAGES = ("en", "ko")


def scale() -> str:
    """Return the scale of the experiments: `WORKBOOK_SCALE`, or "default"."""
    name = os.environ.get("WORKBOOK_SCALE", "default")
    if name not in SCALES:
        raise WorkbookError(f"WORKBOOK_SCALE is {name!r}: set it to one of {', '.join(SCALES)}.")
    return name


def language() -> str:
    """Return the reader's language: `WORKBOOK_LANGUAGE`, what `workbook lab` was told, or "en"."""
    file = language_file()
    name = os.environ.get("WORKBOOK_LANGUAGE") or (
        file.read_text().strip() if file.exists() else "en"
    )
    if name not in LANGUAGES:
        raise WorkbookError(f"The language is {name!r}: choose {' or '.join(LANGUAGES)}.")
    return name


def language_file() -> Path:
    """Return the file that remembers the reader's language, beside the working copies."""
    return repo_root() / "my" / ".language"


def pick(*, smoke, default, full):
    """Return the argument that belongs to the present scale."""
    return {"smoke": smoke, "default": default, "full": full}[scale()]


def seed() -> int:
    """Return the seed of what the notebooks draw and train live: `WORKBOOK_SEED`, or 0."""
    text = os.environ.get("WORKBOOK_SEED", "0")
    if not text.isdecimal():
        raise WorkbookError(f"WORKBOOK_SEED is {text!r}: set it to 0, 1, 2 …")
    return int(text)


def cache_dir() -> Path:
    """Return the folder for fetched and trained files: `WORKBOOK_CACHE`, or the user's cache."""
    usual = platformdirs.user_cache_dir("instruction-tuning-workbook")
    chosen = os.environ.get("WORKBOOK_CACHE") or usual
    try:
        return Path(chosen).expanduser()
    except RuntimeError as error:
        raise WorkbookError(
            f"WORKBOOK_CACHE is {chosen}, and there is no such user: write the folder in full."
        ) from error


def repo_root() -> Path:
    """Return the checkout that holds `notebooks/` and `data/`; the package is installed from it."""
    root = Path(__file__).resolve().parents[2]
    if not (root / "data").is_dir():
        raise WorkbookError("The course folder was not found: install with `make install` in it.")
    return root


def repository() -> str | None:
    """Return the address of the course's repository: `Repository` in pyproject.toml, or None."""
    text = (repo_root() / "pyproject.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)["project"].get("urls", {}).get("Repository")


def notebooks_dir() -> Path:
    """Return the folder of the learner edition, with `source/` and `recorded/` in it."""
    return repo_root() / "notebooks"


def device():
    """Return the torch device in use: CUDA, then Apple's MPS, then the CPU."""
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


@functools.cache
def bf16_is_faster() -> bool:
    """Tell whether this device multiplies bfloat16 matrices faster than float32 ones.

    Measured once and kept in the cache folder, because the processor's feature flags mislead:
    some that list bfloat16 instructions run them at half the speed of float32.
    """
    import torch

    if device().type != "cpu":
        return device().type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    key = f"{platform.processor()} {platform.machine()} {torch.__version__} {os.cpu_count()}"
    file = cache_dir() / "precision.json"
    known = _known(file)
    if key not in known:
        float32 = _product_seconds(torch.float32)
        known[key] = _product_seconds(torch.bfloat16, hopeless=10 * float32) < float32
        # Where nothing can be written it is measured each time; doctor says so of the folder.
        with contextlib.suppress(WorkbookError), atomic_path(file) as draft:
            draft.write_text(json.dumps(known))
    return known[key]


def _known(file: Path) -> dict[str, bool]:
    """Return what was measured before; {} where the file is missing or damaged."""
    try:
        known = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _product_seconds(dtype, hopeless: float = float("inf"), products: int = 50) -> float:
    """Return the least seconds for a product of this course's matrix shapes.

    Ends early where the second product still takes `hopeless` seconds: in bfloat16 a processor
    without instructions for it can take a hundred times as long.
    """
    import torch

    left, right = torch.randn(416, 576).to(dtype), torch.randn(576, 1536).to(dtype)
    seconds: list[float] = []
    while len(seconds) < products and not (len(seconds) > 1 and min(seconds) > hopeless):
        start = time.perf_counter()
        left @ right
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def working_dtype():
    """Return the number format of the forward and backward pass (`WORKBOOK_PRECISION` overrides).

    bfloat16 where it is measured to be faster, else float32; master weights are always float32.
    """
    import torch

    formats = {"bf16": torch.bfloat16, "fp32": torch.float32}
    chosen = os.environ.get("WORKBOOK_PRECISION") or ("bf16" if bf16_is_faster() else "fp32")
    if chosen not in formats:
        raise WorkbookError(f"WORKBOOK_PRECISION is {chosen!r}: set it to bf16 or fp32.")
    return formats[chosen]


def precision() -> str:
    """Return the name of the working format, "bf16" or "fp32"."""
    return {"torch.bfloat16": "bf16"}.get(str(working_dtype()), "fp32")


def machine() -> str:
    """Return the class of this machine as measurements record it, such as "2 cores, fp32"."""
    accelerator = {"cpu": ""}.get(device().type, f"{device().type}, ")
    return f"{os.cpu_count()} cores, {accelerator}{precision()}"
