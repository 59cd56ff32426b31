"""The part of README.md that is made: its table of notebooks and its figure."""

import hashlib
import re
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from .. import course, plots, settings
from ..files import atomic_path

BETWEEN_MARKS = re.compile(r"(?<=<!-- minutes:start -->\n).*?(?=<!-- minutes:end -->)", re.DOTALL)
CURVE = "03_learning_curve"


def refresh_readme() -> None:
    """Write the present table of notebooks between the marks in README.md."""
    path = settings.repo_root() / "README.md"
    old = path.read_text(encoding="utf-8")
    new = BETWEEN_MARKS.sub(lambda _: f"\n{course.table('notebooks/')}\n", old)
    if new != old:
        with atomic_path(path) as draft:
            draft.write_text(new, encoding="utf-8")


def picture() -> Path:
    """Return the file of README's figure."""
    return settings.repo_root() / "docs" / "learning_curve.png"


def refresh_picture() -> None:
    """Redraw README's figure where its recording is complete and has changed since.

    The picture carries the hash of its recording: drawn again with other fonts it would be
    another file that shows the same.
    """
    if picture_source() == recording_hash():
        return
    from .. import recording

    if not recording.is_current(CURVE):
        return
    fig = _learning_curve(recording.load(CURVE).frame)
    with atomic_path(picture()) as draft:
        fig.savefig(draft, metadata={"Source": recording_hash(), "Software": None})


def recording_hash() -> str:
    """Return the SHA-256 of the recording behind README's figure."""
    path = settings.notebooks_dir() / "recorded" / "sweeps" / f"{CURVE}.json"
    return hashlib.sha256(path.read_bytes()).hexdigest()


def picture_source() -> str | None:
    """Return the hash of the recording that README's figure was drawn from, None without one."""
    return Image.open(picture()).text["Source"] if picture().exists() else None


def _learning_curve(frame) -> Figure:
    """Draw the accuracy of the two-label task against the number of training examples."""
    from ..metrics import wilson

    rows = frame[frame["task"] == "sentiment"]
    [untrained] = rows[rows["n"] == 0].itertuples()
    items = len(untrained.predictions)
    return plots.curve(
        rows[rows["n"] > 0],
        x="n",
        y="accuracy",
        baseline=wilson(round(untrained.accuracy * items), items),
        baseline_label="before tuning, with 95 % interval",
        log=True,
        xlabel="training reviews",
        ylabel=f"accuracy on {items:,} unseen reviews",
    )
