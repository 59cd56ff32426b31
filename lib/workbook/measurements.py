"""What the executed notebooks measured: an entry for each number format and live seed."""

import json
from pathlib import Path

from . import settings
from .files import atomic_path


def path(number: str) -> Path:
    """Return the file of a notebook's measurements, by its two digits."""
    return settings.notebooks_dir() / "recorded" / "measured" / f"{number}.json"


def read(number: str) -> dict:
    """Return {"shown": name, "runs": {name: entry}}; a name is such as "fp32, seed 0".

    The entry that is shown is the one whose numbers the solved edition displays. Empty where the
    notebook was never run.
    """
    file = path(number)
    empty = {"shown": None, "runs": {}}
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else empty


def shown(number: str) -> dict:
    """Return the entry behind the solved edition; empty where there is none."""
    kept = read(number)
    return kept["runs"].get(kept["shown"], {})


def keep(number: str, entry: dict, is_shown: bool) -> None:
    """Write an entry in the place of the one of the same number format and seed."""
    kept, name = read(number), f"{entry['precision']}, seed {entry['seed']}"
    kept["runs"] = dict(sorted({**kept["runs"], name: entry}.items()))
    kept["shown"] = name if is_shown else kept["shown"]
    with atomic_path(path(number)) as draft:
        text = json.dumps({"notebook": number, **kept}, indent=1, ensure_ascii=False)
        draft.write_text(text + "\n", encoding="utf-8")


def headline(shown: dict | None) -> str:
    """Return a notebook's sentence, its most important number with its name, or a dash.

    An interval is shown with its ends and, over training runs, with their number.
    """
    title = shown["headline"] if shown else "–"
    value, name = shown["values"].get(title) if shown else None, title.replace("_", " ")
    if isinstance(value, list) and len(value) >= 3:
        estimate, low, high, *runs = value
        over = f" over {runs[0]} runs" if runs else ""
        return f"{name} {estimate:z.2f} [{low:z.2f}, {high:z.2f}]{over}"
    return f"{name} {value:.3g}" if isinstance(value, int | float) else title
