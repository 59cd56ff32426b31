"""Make the slides of an executed notebook, one HTML file that needs no network, and serve them."""

import contextlib
import itertools
import re
import webbrowser
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingTCPServer

import nbformat
import nbformat.v4
from jinja2 import pass_context
from mistune.plugins.table import render_table_cell
from nbconvert.exporters.slides import SlidesExporter

from .. import assets, course, settings, translation
from ..errors import WorkbookError
from ..files import atomic_path
from . import build, html, pieces, teaching
from .sources import sources

TEMPLATES = Path(__file__).with_name("slide_templates")
SHORT = 8  # lines of code that are shown open above an output
PART = 42  # pixels of the line that names the part
GIVE = 70  # pixels by which a figure may be smaller than it could be
MARKS = ("slideshow", "workbook", "notes")  # what the source says about a slide
DETAILS = re.compile(r"<details><summary>[^<]*</summary>\s*(.*?)\s*</details>\s*", re.DOTALL)
HEADING = re.compile(r"#{1,6} +(.+)")
PART_HEADING = re.compile(r"#{1,3} ")  # of what the slides without a heading belong to


def page(source: Path, language: str = "en") -> str:
    """Return the slides of a source as HTML, with the outputs of its executed solved edition.

    Raises WorkbookError when the notebook was not executed, or has changed since.
    """
    return _html(deck(source, language), language)


def plan_page(name: str, language: str = "en") -> str:
    """Return the slides of one of the plans in docs/teaching.md as HTML.

    Raises WorkbookError for an unknown plan, and where `page` raises it.
    """
    return _html(plan_deck(name, language), language)


def _html(notebook: nbformat.NotebookNode, language: str) -> str:
    options = {"template_name": "deck", "extra_template_basedirs": [str(TEMPLATES)]}
    exporter = _Exporter(**options, exclude_output_prompt=True, language_code=language)
    resources = {"reveal": _library(), "metadata": {"path": str(settings.notebooks_dir())}}
    return exporter.from_notebook_node(notebook, resources)[0]


def _library() -> dict[str, str]:
    """Return the files of reveal.js as texts that may stand in a page."""
    files = {path.name: path.read_text("utf-8") for path in assets.slides_dir().iterdir()}
    # These letters end a script, even in a string; JavaScript reads the longer form alike.
    return {
        name.replace(".", "_"): text.replace("</script", r"<\/script")
        for name, text in files.items()
    }


def deck(source: Path, language: str = "en") -> nbformat.NotebookNode:
    """Return the notebook behind the slides: each slide holds what fits it, answers by a key."""
    shown = _shown(source, language)
    return _notebook(_title(shown), _on_slides(shown, language))


def plan_deck(name: str, language: str = "en") -> nbformat.NotebookNode:
    """Return the slides of a plan: what comes when, then each session after a slide that names it.

    Exercises are those that the plan does in class, with their minutes on the clock.
    """
    sessions = teaching.plan(name)
    parts = [_session_slides(session, language) for session in sessions]
    title = name.replace("-", " ").capitalize()
    cells = [_contents(title, sessions, parts), *(cell for part in parts for cell in part)]
    for number, cell in enumerate(cells):
        cell.id = f"plan-{number}"  # two notebooks may hold the same cell
    return _notebook(title, cells)


def write(page: str, place: Path, name: str) -> Path:
    """Write slides as a file, with the given name where `place` is a folder."""
    path = place / f"{name}.html" if place.is_dir() else place
    with atomic_path(path) as draft:
        draft.write_text(page, encoding="utf-8")
    return path


def _shown(source: Path, language: str) -> list:
    """Return the cells of a notebook that its talk shows, with their outputs and notes."""
    cells = build.with_outputs(source, language).cells
    _add_solutions(cells, build.make(source, "solved").cells)
    _add_places(cells, language)
    untold = teaching.untold(source.stem[:2])
    cells = [cell for cell in cells if cell.metadata.get("place") not in untold]
    return list(filter(is_shown, _with_notes(cells)))


def _on_slides(shown, language: str) -> list:
    """Return cells as pieces that fit slides, in groups whose first cells begin the slides."""
    for cell in shown:
        cell.metadata.code = code_state(cell)
    groups = subslides([piece for cell in shown for piece in pieces.cut(cell)])
    told = translation.say("Minutes", language)
    return [cell for group in _dress(groups, told) for cell in group]


def _notebook(title: str, cells) -> nbformat.NotebookNode:
    metadata = {"language_info": {"name": "python"}, "title": title}
    return nbformat.v4.new_notebook(cells=cells, metadata=metadata)


# ------------------------------------------------------------------------------------------- plans


def _session_slides(session: teaching.Session, language: str) -> list:
    """Return the slides of a session, the first of which names it."""
    cells = [_divider(session, language)]
    for part in session.parts:
        [source] = sources([part.number])
        places = teaching.places(part, session.exercises)
        shown = [cell for cell in _shown(source, language) if cell.metadata.place in places]
        for cell in shown:
            if build.own(cell).get("exercise") in session.exercises:
                exercise = build.own(cell)["exercise"]
                cell.metadata.in_class = teaching.exercise_minutes(exercise)
        cells += _on_slides(shown, language)
    return cells


def _divider(session: teaching.Session, language: str):
    titles = {chapter.number: chapter.title for chapter in course.CHAPTERS}
    told = [
        f"- {part.number} {translation.say(titles[part.number], language)}"
        for part in session.parts
    ]
    minutes = f"{translation.say('Minutes', language)}: {teaching.talk_minutes(session):g}"
    return _plain_slide("\n".join([f"# {session.name}", "", *told, "", minutes]))


def _contents(title: str, sessions, parts):
    """Return a slide with the sessions, their minutes and the number of the slide of each."""
    rows = [f"# {title}", "", "| session | minutes | slide |", "|:---|---:|---:|"]
    slide = 2
    for session, part in zip(sessions, parts, strict=True):
        rows.append(f"| {session.name} | {teaching.talk_minutes(session):g} | {slide} |")
        slide += sum(_kind(cell) in ("slide", "subslide") for cell in part)
    return _plain_slide("\n".join(rows))


def _plain_slide(text: str):
    """Return a slide that belongs to no notebook and takes no time."""
    cell = nbformat.v4.new_markdown_cell(text)
    data = {"timing": "0", "cells": "", "layout": "below"}
    cell.metadata.slideshow = {"slide_type": "slide", "data": data}
    return cell


# ----------------------------------------------------------------------------- what the slides show


def is_shown(cell) -> bool:
    """Tell whether a cell is in the talk: checks, hints and code that prints nothing are not."""
    if _kind(cell) == "skip" or "check" in build.own(cell):
        return False
    return cell.cell_type == "markdown" or bool(cell.outputs) or code_state(cell) == "open"


def code_state(cell) -> str:
    """Return how the slides show the code of a cell: open, closed or none.

    The key `code` of the cell decides. Without it exercises are open, and short cells that print
    something and draw no figure.
    """
    if cell.cell_type == "markdown":
        return "none"
    wish = {"show": "open", "hide": "none"}.get(build.own(cell).get("code"))
    if wish or re.search(r"^checks\.quiz\(", cell.source, re.MULTILINE):
        return wish or "none"
    if "exercise" in build.own(cell):
        return "open"
    short = len(cell.source.splitlines()) <= SHORT and not pieces.has_figure(cell)
    return "open" if short and cell.outputs else "closed"


def subslides(cells) -> list[list]:
    """Return the cells in groups, one a sub-slide.

    Beside the slides that the source names, a group begins at each heading, after each exercise,
    at the first output after a figure, and where a slide is full.
    """
    groups: list[list] = []
    for cell in cells:
        if not groups or _begins(cell, groups[-1]):
            groups.append([])
        elif layout([*groups[-1], cell]) is None:
            groups.append(_lead(groups[-1], cell))
        groups[-1].append(cell)
    return [_figure_first(group) for group in groups]


def layout(group) -> str | None:
    """Return how cells stand on one slide, "below" each other or "beside" a figure; None if not."""
    if sum(map(pieces.words, group)) > pieces.WORDS:
        return None
    if sum(map(pieces.code_lines, group)) > pieces.CODE_LINES:
        return None
    tall = (0 if _heading(group[0]) else PART) + sum(map(pieces.height, group))
    if tall <= pieces.HEIGHT:
        return "below"
    if _can_stand_beside(group):
        return "beside"
    return "below" if any(map(pieces.has_figure, group)) and tall <= pieces.HEIGHT + GIVE else None


def _can_stand_beside(group) -> bool:
    figures = [cell for cell in group if pieces.has_figure(cell)]
    texts = [cell for cell in group if not pieces.has_figure(cell) and not _heading(cell)]
    if len(figures) != 1 or pieces.is_wide(figures[0]) or not all(map(_is_prose, texts)):
        return False
    return sum(pieces.height(cell, pieces.NARROW) for cell in texts) <= pieces.HEIGHT - 2 * PART


def _is_prose(cell) -> bool:
    return cell.cell_type == "markdown" and not cell.source.startswith(("|", "```", "$$", "<"))


def _figure_first(group) -> list:
    """Return a group with its figure before the text that stands beside it."""
    if layout(group) != "beside":
        return group
    # What the source says about the slide stays with the first cell.
    marks = {key: group[0].metadata.pop(key) for key in MARKS if key in group[0].metadata}
    ordered = sorted(group, key=lambda cell: (not _heading(cell), not pieces.has_figure(cell)))
    ordered[0].metadata.update(marks)
    return ordered


def _begins(cell, group) -> bool:
    if _kind(cell) in ("slide", "subslide") or "exercise" in build.own(group[-1]):
        return True
    if _heading(cell):
        return not all(map(_heading, group))
    return any(map(pieces.has_figure, group)) and bool(cell.get("outputs"))


def _lead(group, cell) -> list:
    """Take from the end of a group what leads to the next cell, as far as a slide holds both."""
    lead: list = []
    while len(group) > 1 and _leads(group[-1]) and layout([group[-1], *lead, cell]):
        lead.insert(0, group.pop())
    return lead


def _leads(cell) -> bool:
    if cell.cell_type != "markdown" or _kind(cell) in ("slide", "subslide"):
        return False
    return bool(_heading(cell)) or bool(re.search(r"(:|\b\w+)\**$", cell.source)) and _is_text(cell)


def _is_text(cell) -> bool:
    return not cell.source.startswith(("|", "-", "```", "$$", "<"))


def _kind(cell) -> str:
    return cell.metadata.get("slideshow", {}).get("slide_type", "-")


def _heading(cell) -> str:
    """Return the text of the heading that a cell begins with, or nothing."""
    found = HEADING.match(cell.source) if cell.cell_type == "markdown" else None
    return re.sub(r"[`*]", "", found[1]) if found else ""


def _title(cells) -> str:
    return next(filter(None, map(_heading, cells)), "Slides")


# -------------------------------------------------------------------------- how a cell gets dressed


def _add_solutions(cells, solved) -> None:
    """Give the exercises their solutions, in place: a key shows them."""
    code = {build.own(cell).get("exercise"): cell.source for cell in solved}
    for cell in cells:
        if "exercise" in build.own(cell):
            cell.metadata.solution = code[build.own(cell)["exercise"]]


def _add_places(cells, language: str) -> None:
    """Note in each cell which one of the source it is, counted from 1, as errors name them."""
    added = f"<details><summary>{translation.say('Solution', language)}<"
    made = (cell for cell in cells if not cell.source.startswith(added))
    for number, cell in enumerate(made, 1):
        cell.metadata.place = number


def _with_notes(cells) -> list:
    """Return the cells without the speaker notes, which the cell before them carries.

    What a text of the page folds, such as a discussion, is for the speaker alone as well.
    """
    result: list = []
    for cell in cells:
        if _kind(cell) == "notes" and result:
            result[-1].metadata.setdefault("notes", []).append(DETAILS.sub(r"\1", cell.source))
            continue
        if cell.cell_type == "markdown" and (folded := DETAILS.findall(cell.source)):
            cell.metadata.setdefault("notes", []).extend(folded)
            cell.source = DETAILS.sub("", cell.source).strip()
        result.append(cell)
    return result


def _dress(groups, told: str) -> list[list]:
    """Mark the first cell of each group, and give each its slide's title, notes and seconds."""
    part = ""
    for slide in _slides(groups):
        minutes = build.own(slide[0][0]).get("minutes", 0)
        for number, (group, seconds) in enumerate(
            zip(slide, _seconds(slide, minutes), strict=True)
        ):
            notes = [note for cell in group for note in cell.metadata.get("notes", [])]
            count = f"**{told}: {minutes:g}**, {number + 1}/{len(slide)}"
            in_class = sum(cell.metadata.get("in_class", 0) for cell in group)
            _mark(group, seconds + 60 * in_class)
            group[0].metadata.part = "" if _heading(group[0]) else part
            part = _part(group) or part
            group += _notes([count, *notes] if minutes else notes, group[0].id)
    return groups


def _part(group) -> str:
    """Return the name of the part that a group begins: its heading, unless of an exercise."""
    named = (_heading(cell) for cell in group if PART_HEADING.match(cell.source))
    return "" if "exercise" in build.own(group[-1]) else next(named, "")


def _slides(groups) -> list[list]:
    """Return the groups by the slides and sub-slides that the source names."""
    slides: list[list] = []
    for group in groups:
        if not slides or _kind(group[0]) in ("slide", "subslide"):
            slides.append([])
        slides[-1].append(group)
    return slides


def _seconds(slide, minutes: float) -> list[int]:
    """Share the minutes of a slide among its sub-slides, by how much there is to see."""
    weights = [20 + sum(map(_weight, group)) for group in slide]
    ends = [round(60 * minutes * sum(weights[:n]) / sum(weights)) for n in range(len(slide) + 1)]
    return [end - start for start, end in itertools.pairwise(ends)]


def _weight(cell) -> int:
    code = pieces.code_lines(cell) * (10 if "exercise" in build.own(cell) else 3)
    return pieces.words(cell) + code + (40 if pieces.has_figure(cell) else 0)


def _mark(group, seconds: int) -> None:
    kind = _kind(group[0]) if _kind(group[0]) in ("slide", "subslide") else "subslide"
    places = dict.fromkeys(str(cell.metadata.place) for cell in group)
    data = {"timing": str(seconds), "cells": " ".join(places), "layout": layout(group) or "full"}
    for cell in group:
        cell.metadata.slideshow = {"slide_type": "-"}
    group[0].metadata.slideshow = {"slide_type": kind, "data": data}


def _notes(texts, place: str) -> list:
    """Return speaker notes as one cell more of a sub-slide, with an id of its own."""
    if not texts:
        return []
    cell = nbformat.v4.new_markdown_cell("\n\n".join(texts), id=f"{place}-n")
    cell.metadata.slideshow = {"slide_type": "notes"}
    return [cell]


# ------------------------------------------------------------------------------------ to HTML


class _Renderer(html.Renderer):
    """Drops links to local files, which a talk does not have."""

    def table_cell(self, text: str, align: str | None = None, head: bool = False) -> str:
        """Write an empty cell of a head as a plain one: a heading says something."""
        return render_table_cell(self, text, align, head and bool(text.strip()))

    def link(self, text: str, url: str, title: str | None = None) -> str:
        return super().link(text, url, title) if url.startswith("http") else text


class _Exporter(SlidesExporter):
    """nbconvert's slides, with formulas that need no script."""

    @pass_context
    def markdown2html(self, context, source):
        path = context["resources"]["metadata"]["path"]
        options = {"embed_images": True, "exclude_anchor_links": True, "path": path}
        return html.markdown(source, _Renderer(escape=False, **options))


# ------------------------------------------------------------------------------------- to a browser


class _Server(ThreadingTCPServer):
    # Not HTTPServer, which asks the network for this machine's name.
    daemon_threads = True
    allow_reuse_address = True
    page = b""


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = self.server.page if self.path.partition("?")[0] == "/" else b""
        self.send_response(200 if body else 404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        """Keep the terminal quiet."""


def server(page: str, port: int = 0) -> ThreadingTCPServer:
    """Return a server of one page on this machine only; port 0 is any free one.

    Raises WorkbookError when the port cannot be had.
    """
    try:
        made = _Server(("127.0.0.1", port), _Handler)
    except (OSError, OverflowError) as error:
        raise WorkbookError(f"Port {port} cannot be used: give another, or none.") from error
    made.page = page.encode()
    return made


def serve(page: str, port: int = 0, browser: bool = True) -> None:
    """Serve a page until Ctrl-C, print its address, and open it in the browser if wanted."""
    with server(page, port) as running, contextlib.suppress(KeyboardInterrupt):
        address = f"http://127.0.0.1:{running.server_address[1]}/"
        keys = "S: speaker view, ?: all keys, Ctrl-C here ends it"
        print(f"The slides are at {address} ({keys})", flush=True)
        if browser:
            webbrowser.open(address)
        running.serve_forever()
