"""The course as a whole: its chapters, their map, and what each costs as measured."""

import itertools
import json
import re
import textwrap
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from . import measurements, plots, settings
from .translation import say, say_measured

MINUTES = re.compile(r"Minutes:\**:? (\d+)")  # of an exercise
PER_ROW = 5  # chapters in one row of the map


class Chapter(NamedTuple):
    """One chapter of the plan, with the question that its experiment answers."""

    number: str
    title: str
    question: str

    @property
    def notebook(self) -> Path | None:
        """The learner edition, or None while the chapter is planned."""
        return next(iter(sorted(settings.notebooks_dir().glob(f"{self.number}_*.ipynb"))), None)

    @property
    def measured(self) -> dict:
        """What `workbook run` recorded about the notebook; empty before that."""
        return measurements.shown(self.number)


CHAPTERS = (
    Chapter("00", "Start here", "Does this machine run the course?"),
    Chapter("01", "In-context learning", "Do examples in the prompt help?"),
    Chapter("02", "Prompt datasets", "How do rows become prompts, tokens and labels?"),
    Chapter("03", "Single-task tuning", "How far do 50 to 1000 examples carry?"),
    Chapter("04", "Catastrophic forgetting", "What does tuning on one task destroy?"),
    Chapter("05", "Avoiding forgetting", "Which remedy keeps both, and at what price?"),
    Chapter("06", "Multitask tuning", "Do many tasks together do better than one?"),
    Chapter("07", "LoRA", "How few weights are enough?"),
    Chapter("08", "Adapters and prompt tuning", "What if the model itself stays as it is?"),
    Chapter("09", "Evaluation", "What do the public benchmarks tell?"),
    Chapter("10", "Prompting or fine-tuning", "Which method is worth its cost?"),
    Chapter("11", "Scaling up", "What changes with a GPU and a larger model?"),
    Chapter("12", "Capstone", "Can you do it with your own data?"),
)


def planned() -> list[Chapter]:
    """Return the chapters that have no notebook yet."""
    return [chapter for chapter in CHAPTERS if not chapter.notebook]


def exercise_minutes(notebook: Path) -> dict[str, int]:
    """Return the exercises of a built notebook with the minutes that it says of each."""
    return stated_minutes(json.loads(notebook.read_text(encoding="utf-8"))["cells"])


def stated_minutes(cells: list[dict]) -> dict[str, int]:
    """Return the exercises among the cells of a notebook with the minutes said of each."""
    found, minutes = {}, 0
    for cell in cells:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown" and (said := MINUTES.search(text)):
            minutes = int(said[1])
        number = cell["metadata"].get("workbook", {}).get("exercise")
        if number:
            found[number] = minutes
    return found


def peak_memory_gb() -> float:
    """Return the memory that the largest notebook took in a first run, in any number format."""
    runs = (run for one in CHAPTERS for run in measurements.read(one.number)["runs"].values())
    return max((run["cost"]["peak_memory_gb"] for run in runs if run["cost"]), default=0.0)


def table(folder: str = "", language: str = "en") -> str:
    """Return the notebooks with their measured cost and headline as a Markdown table.

    `folder` stands before the file names in the links. Minutes and memory, for each number format,
    are those of `workbook run --cold`.
    """
    notebook, question = say("notebook", language), say("question", language)
    head = f"| | {notebook} | {question} | fp32 | bf16 | {say('headline', language)} |\n"
    rows = [_row(chapter, folder, language) for chapter in CHAPTERS if chapter.notebook]
    return head + "|:---|:---|:---|---:|---:|:---|\n" + "".join(rows) + _rest(language)


def _rest(language: str) -> str:
    names = ", ".join(f"{one.number} {say(one.title, language)}" for one in planned())
    rest = say("Planned, not written yet: {names}.", language).format(names=names)
    return f"\n{rest}\n" if names else ""


def _row(chapter: Chapter, folder: str, language: str) -> str:
    link = f"[{say(chapter.title, language)}]({folder}{chapter.notebook.name})"
    kept, question = chapter.measured, say(chapter.question, language)
    found = measurements.headline(kept) if kept else say("not measured yet", language)
    costs = " | ".join(_cost(chapter.number, one, language) for one in ("fp32", "bf16"))
    return (
        f"| {chapter.number} | {link} | {question} | {costs} | {say_measured(found, language)} |\n"
    )


def _cost(number: str, precision: str, language: str) -> str:
    """Return the minutes and the peak memory of a first run, or a dash where nobody timed it."""
    entry = measurements.read(number)["runs"].get(f"{precision}, seed 0", {})
    cost = entry.get("cost")
    text = say("{minutes:.1f} min, {peak_memory_gb:.1f} GB", language)
    return text.format(**cost) if cost else "–"


def draw_map() -> Figure:
    """Draw the chapters as a path that turns back at the end of each row.

    A filled box is a chapter with a notebook, a dashed one is planned.
    """
    plots.style()
    places = [_place(index) for index in range(len(CHAPTERS))]
    fig = Figure(figsize=(11, 5))
    ax = fig.add_subplot()
    ax.set(xlim=(-0.52, PER_ROW - 0.48), ylim=(-2.42, 0.42))
    ax.axis("off")
    for here, there in itertools.pairwise(places):
        _draw_step(ax, here, there)
    for chapter, place in zip(CHAPTERS, places, strict=True):
        _draw_box(ax, chapter, place)
    note = "filled: here to be read\ndashed: planned"
    ax.text(PER_ROW - 0.57, -2, note, ha="right", va="center", color="#333333")
    return fig


def _place(index: int) -> tuple[int, int]:
    row, column = divmod(index, PER_ROW)
    return (PER_ROW - 1 - column if row % 2 else column), -row


def _draw_step(ax, here: tuple[int, int], there: tuple[int, int]) -> None:
    (x, y), (to_x, to_y) = here, there
    arrow = "v" if to_y < y else ">" if to_x > x else "<"
    ax.plot([x, to_x], [y, to_y], color="#777777", lw=3, zorder=0)
    ax.plot((x + to_x) / 2, (y + to_y) / 2, arrow, color="#777777", ms=11, zorder=0)


def _draw_box(ax, chapter: Chapter, place: tuple[int, int]) -> None:
    blue = plots.OKABE_ITO["blue"]
    fill, ink, line = (blue, "white", "-") if chapter.notebook else ("white", "#333333", "--")
    (x, y), shape = place, "round,pad=0,rounding_size=0.08"
    look = {"fc": fill, "ec": blue, "lw": 2, "ls": line}
    ax.add_patch(FancyBboxPatch((x - 0.42, y - 0.3), 0.84, 0.6, boxstyle=shape, **look))
    title = plots.wording(chapter.title)
    wide = 14 if title.isascii() else 7  # letters in a line
    text = "\n".join([chapter.number, *textwrap.wrap(title, wide)])
    ax.text(x, y, text, ha="center", va="center", color=ink, fontsize=14)


def describe_map() -> str:
    """Return what the map shows in words, for those who do not see it."""
    ready = [f"{one.number} {one.title}" for one in CHAPTERS if one.notebook]
    later = [f"{one.number} {one.title}" for one in planned()]
    parts = [
        f"A path through {len(CHAPTERS)} chapters",
        f"filled, to be read now: {', '.join(ready)}",
    ]
    return "; ".join([*parts, *([f"dashed, planned: {', '.join(later)}"] if later else [])]) + "."
