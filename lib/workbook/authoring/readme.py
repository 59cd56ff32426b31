"""What is made of README: its table of notebooks, its figure, and the page in other languages."""

import hashlib
import re
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from .. import course, plots, settings, translation
from ..files import atomic_path
from . import build

BETWEEN_MARKS = re.compile(r"(?<=<!-- minutes:start -->\n).*?(?=<!-- minutes:end -->)", re.DOTALL)
# A heading, a paragraph, a list, a table, or a block of code, whatever it holds.
PART = re.compile(r"^```.*?^```$|^\S.*?(?=\n\n|\s*\Z)", re.DOTALL | re.MULTILINE)
# Code without a comment, and tags: they are the same in each language.
SILENT = re.compile(r"^```(?:(?! # ).)*?^```$|<[^>]*>", re.DOTALL | re.MULTILINE)
NOTE = (
    "<!-- Made by `workbook build` from README.md and notebooks/source/{file}: edit those. -->\n\n"
)
CURVE = "03_learning_curve"


def refresh_readme() -> None:
    """Write the present table of notebooks into README.md, and README in other languages anew."""
    for language in settings.LANGUAGES:
        if language == "en" or records_file(language).exists():
            build.write_text(path(language), page(language))


def path(language: str = "en") -> Path:
    """Return the file of README in a language."""
    return settings.repo_root() / ("README.md" if language == "en" else f"README.{language}.md")


def records_file(language: str) -> Path:
    """Return the file of records of README; it need not exist."""
    return translation.folder(language) / "readme.yaml"


def page(language: str = "en") -> str:
    """Return README in a language, with the present table of notebooks.

    A part whose translation is missing or stale is in English, with a mark below.
    """
    made = path().read_text(encoding="utf-8") if language == "en" else _translated(language)
    return BETWEEN_MARKS.sub(lambda _: f"\n{course.table('notebooks/', language)}\n", made)


def texts() -> list[str]:
    """Return the parts of README.md that a translation translates, in order."""
    return [part for part in PART.findall(_without_table()) if _has_words(part)]


def _without_table() -> str:
    return BETWEEN_MARKS.sub("", path().read_text(encoding="utf-8"))


def _has_words(part: str) -> bool:
    return bool(re.search(r"[^\W\d_]", SILENT.sub("", part)))


def _translated(language: str) -> str:
    found = iter(translation.in_language(texts(), records_file(language), language))
    words = PART.sub(lambda part: next(found) if _has_words(part[0]) else part[0], _without_table())
    return NOTE.format(file=f"{language}/readme.yaml") + words


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
