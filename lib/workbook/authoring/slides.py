"""Make the slides of an executed notebook, one HTML file that needs no network, and serve them."""

import contextlib
import copy
import itertools
import re
import webbrowser
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingTCPServer

import nbformat
import nbformat.v4
from jinja2 import pass_context
from nbconvert.exporters.slides import SlidesExporter

from .. import assets, settings, translation
from ..errors import WorkbookError
from ..files import atomic_path
from . import build, html

TEMPLATES = Path(__file__).with_name("slide_templates")
SHORT = 8  # lines of code that are shown open
MUCH = 2  # lines that leave no room for a figure below them
WIDTH = 86  # characters in a line
DETAILS = re.compile(r"<details><summary>[^<]*</summary>\s*(.*?)\s*</details>\s*", re.DOTALL)
HEADING = re.compile(r"#{1,6} +(.+)")
WRAPPED = re.compile(r"\n(?![\n>|#`-])")  # a line break inside a paragraph
FIGURE = re.compile(r"<(?:img|svg)\b")


def page(source: Path, language: str = "en") -> str:
    """Return the slides of a source as HTML, with the outputs of its executed solved edition.

    Raises WorkbookError when the notebook was not executed, or has changed since.
    """
    options = {"template_name": "deck", "extra_template_basedirs": [str(TEMPLATES)]}
    exporter = _Exporter(**options, exclude_output_prompt=True, language_code=language)
    resources = {"reveal": _library(), "metadata": {"path": str(settings.notebooks_dir())}}
    return exporter.from_notebook_node(deck(source, language), resources)[0]


def _library() -> dict[str, str]:
    """Return the files of reveal.js as texts that may stand in a page."""
    files = {path.name: path.read_text("utf-8") for path in assets.slides_dir().iterdir()}
    # These letters end a script, even in a string; JavaScript reads the longer form alike.
    return {
        name.replace(".", "_"): text.replace("</script", r"<\/script")
        for name, text in files.items()
    }


def deck(source: Path, language: str = "en") -> nbformat.NotebookNode:
    """Return the notebook behind the slides: stubs for solutions, and outputs where they belong."""
    notebook = build.with_outputs(source, language)
    shown = [part for cell in notebook.cells if is_shown(cell) for part in one_figure_each(cell)]
    notebook.cells = [
        cell
        for group in _dress(subslides(shown), translation.say("Minutes", language))
        for cell in group
    ]
    notebook.metadata.title = _title(shown)
    return notebook


def write(source: Path, place: Path, language: str = "en") -> Path:
    """Write the slides of a source as a file, named after it where `place` is a folder."""
    path = place / f"{source.stem}.html" if place.is_dir() else place
    with atomic_path(path) as draft:
        draft.write_text(page(source, language), encoding="utf-8")
    return path


# ----------------------------------------------------------------------------- what the slides show


def is_shown(cell) -> bool:
    """Tell whether a cell is in the talk: checks, hints, solutions and bare quizzes are not."""
    if _kind(cell) == "skip" or "check" in build.own(cell):
        return False
    return cell.cell_type == "markdown" or bool(cell.outputs) or code_state(cell) != "none"


def code_state(cell) -> str:
    """Return how the slides show the code of a cell: open, closed or none.

    The key `code` of the cell decides; without it, exercises are open, and short cells that draw
    no figure.
    """
    wish = {"show": "open", "hide": "none"}.get(build.own(cell).get("code"))
    if wish or re.search(r"^checks\.quiz\(", cell.source, re.MULTILINE):
        return wish or "none"
    short = len(cell.source.splitlines()) <= SHORT and not _has_figure(cell)
    return "open" if short or "exercise" in build.own(cell) else "closed"


def one_figure_each(cell) -> list:
    """Return a cell as several where it shows several figures, the code in the first of them."""
    outputs = cell.get("outputs", [])
    later = [place for place, output in enumerate(outputs) if _is_figure(output)][1:]
    if not later:
        return [cell]
    first = copy.deepcopy(cell)
    first.outputs = outputs[: later[0]]
    bounds = itertools.pairwise([*later, len(outputs)])
    return [first, *(_without_code(cell, outputs[a:b], a) for a, b in bounds)]


def _without_code(cell, outputs, place: int):
    rest = nbformat.v4.new_code_cell(outputs=outputs, id=f"{cell.id}-{place}")
    rest.metadata = nbformat.from_dict({"workbook": {"code": "hide"}})
    return rest


def subslides(cells) -> list[list]:
    """Return the cells in groups, one a sub-slide.

    Beside the slides that the source names, a group begins at each heading, after each exercise,
    at the first output after a figure, and at a figure that follows more than MUCH lines.
    """
    groups = []
    for cell in cells:
        if not groups or _begins(cell, groups[-1]):
            groups.append([])
        groups[-1].append(cell)
    return groups


def _begins(cell, group) -> bool:
    if _kind(cell) in ("slide", "subslide", "notes"):
        return _kind(cell) != "notes"
    before = [one for one in group if _kind(one) != "notes"]
    if any("exercise" in build.own(one) for one in before) or _heading(cell):
        return True
    if any(map(_has_figure, before)):
        return bool(cell.get("outputs"))
    return _has_figure(cell) and sum(map(_lines, before)) > MUCH


def _kind(cell) -> str:
    return cell.metadata.get("slideshow", {}).get("slide_type", "-")


def _heading(cell) -> str:
    """Return the text of the heading that a cell begins with, or nothing."""
    found = HEADING.match(cell.source) if cell.cell_type == "markdown" else None
    return re.sub(r"[`*]", "", found[1]) if found else ""


def _title(cells) -> str:
    return next(filter(None, map(_heading, cells)), "Slides")


def _has_figure(cell) -> bool:
    return any(map(_is_figure, cell.get("outputs", [])))


def _is_figure(output) -> bool:
    data = output.get("data", {})
    drawn = FIGURE.search(data.get("text/html", ""))
    return bool(drawn) or any(kind.startswith("image/") for kind in data)


def _lines(cell) -> int:
    """Return about how many lines a cell takes on a slide; headings and comments count nothing."""
    texts = [output.get("text", "") for output in cell.get("outputs", [])]
    texts += [output.get("data", {}).get("text/plain", "") for output in cell.get("outputs", [])]
    if cell.cell_type == "markdown":
        texts.append(WRAPPED.sub(" ", cell.source))
    elif code_state(cell) == "open":
        texts.append(cell.source)
    lines = [line for text in texts for line in text.splitlines() if line.strip()]
    return sum(1 + len(line) // WIDTH for line in lines if not line.startswith("#"))


# -------------------------------------------------------------------------- how a cell gets dressed


def _dress(groups, minutes: str) -> list[list]:
    """Mark the first cell of each group, and give each its slide's title, notes and minutes."""
    part, notes = "", []
    for group in groups:
        first = group[0]
        named = _kind(first) in ("slide", "subslide")
        part = _heading(first) or part if _kind(first) == "slide" else part
        notes = _notes(group, minutes) or ([] if named else notes)
        seconds = str(round(60 * _minutes(first)))
        kind = _kind(first) if named else "subslide"
        first.metadata.slideshow = {"slide_type": kind, "data": {"timing": seconds}}
        first.metadata.part = "" if _heading(first) else part
        for cell in group:
            cell.metadata.code = code_state(cell)
        group[:] = [cell for cell in group if _kind(cell) != "notes"] + _copies(notes, first.id)
    return groups


def _copies(notes, place: str) -> list:
    """Return the notes for one more sub-slide, with ids of their own."""
    copies = copy.deepcopy(notes)
    for number, cell in enumerate(copies):
        cell.id = f"{place}-{number}"
    return copies


def _minutes(cell) -> float:
    return build.own(cell).get("minutes", 0)


def _notes(group, minutes: str) -> list:
    """Return the speaker notes of a group, unfolded, the first of them with the minutes."""
    notes = [copy.deepcopy(cell) for cell in group if _kind(cell) == "notes"]
    for cell in notes:
        cell.source = DETAILS.sub(r"\1", cell.source)
    if notes and _minutes(group[0]):
        notes[0].source = f"**{minutes}: {_minutes(group[0]):g}**\n\n{notes[0].source}"
    return notes


# ------------------------------------------------------------------------------------ to HTML


class _Renderer(html.Renderer):
    """Drops links to local files, which a talk does not have."""

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
