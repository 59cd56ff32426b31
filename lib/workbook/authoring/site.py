"""Write the course as a static site that works from a folder: no server, no other host.

A page is a notebook with the outputs of its solved edition; exercises show their stub and the
folded solution. Speaker notes belong to the slides and are left out.
"""

import functools
import json
import re
import shutil
from html import escape
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from bs4 import BeautifulSoup, NavigableString
from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jupyterlab_pygments import JupyterStyle
from nbconvert.exporters import HTMLExporter
from pygments.formatters import HtmlFormatter

from .. import course, glossary, settings, translation
from ..errors import WorkbookError
from ..files import atomic_path
from . import build, hosted, html
from .sources import sources

TEMPLATES = Path(__file__).with_name("site_templates")
LANGUAGE_NAMES = {"en": "English", "ko": "한국어"}
NOTEBOOK = re.compile(r"(\d\d_\w+)\.ipynb(#.*)?")
HEADINGS = ("h1", "h2", "h3")
PARTS = (*HEADINGS, "dt")  # what the search leads to
NO_TERMS = ("a", "code", "pre", "math", "summary", "h4", *HEADINGS)


class Page(NamedTuple):
    """A page of the site: file name, title, text, and whether a notebook is behind it."""

    name: str
    title: str
    body: BeautifulSoup
    is_notebook: bool = False


def write(out: Path, languages=settings.LANGUAGES) -> Path:
    """Write the site in some languages into the folder `out` and return it.

    English is at its root, another language in a folder of its own name. An older site is
    replaced. Raises WorkbookError, with nothing written, where the folder holds anything else, or
    a notebook has changed since it was executed.
    """
    if out.exists() and any(out.iterdir()) and not (out / "site.js").exists():
        raise WorkbookError(f"{out} holds other files: name a new or an empty folder.")
    with atomic_path(out) as draft:
        for language in languages:
            place = draft if language == "en" else draft / language
            place.mkdir(parents=True)
            _write_language(place, language, languages)
        for name in ("site.css", "site.js"):
            shutil.copyfile(TEMPLATES / name, draft / name)
        code = HtmlFormatter(style=JupyterStyle).get_style_defs(".highlight")
        (draft / "code.css").write_text(code, encoding="utf-8")
        if out.exists():
            shutil.rmtree(out)
    return out


def _write_language(place: Path, language: str, languages) -> None:
    """Write the pages of one language, what its search reads, and its notebooks to take along."""
    all_pages = pages(language)
    _write_pages(place, all_pages, language, languages)
    index = json.dumps([row for page in all_pages for row in entries(page)], ensure_ascii=False)
    (place / "search_index.js").write_text(f"const SEARCH_INDEX = {index};\n", encoding="utf-8")
    for source in _executed() if settings.repository() else []:
        build.write(hosted.notebook(source, language), place / "hosted" / f"{source.stem}.ipynb")


def _write_pages(place: Path, all_pages: list[Page], language: str, languages) -> None:
    layout = _environment(language).get_template("layout.html.j2")
    root = "" if language == "en" else "../"
    others = [
        (one, LANGUAGE_NAMES[one], root + ("" if one == "en" else f"{one}/"))
        for one in languages
        if one != language
    ]
    same = {"pages": all_pages, "root": root, "others": others, "repository": settings.repository()}
    neighbours = zip([None, *all_pages[:-1]], all_pages, [*all_pages[1:], None], strict=True)
    for before, page, after in neighbours:
        around = {"before": before, "page": page, "after": after, "sections": _sections(page)}
        (place / page.name).write_text(layout.render(around, **same), encoding="utf-8")


def pages(language: str) -> list[Page]:
    """Return the pages in reading order: contents, each notebook that was executed, glossary."""
    notebooks = [_notebook_page(source, language) for source in _executed()]
    by_number = {page.name[:2]: page for page in notebooks}
    contents = {"chapters": course.CHAPTERS, "pages": by_number}
    terms = [(_anchor(term), *term) for term in glossary.load(language)]
    return [
        _made_page("index", "Contents", language, **contents),
        *notebooks,
        _made_page("glossary", "Glossary", language, terms=terms, pages=by_number),
    ]


def _executed() -> list[Path]:
    return list(filter(build.is_executed, sources()))


def _made_page(name: str, title: str, language: str, **values) -> Page:
    body = _environment(language).get_template(f"{name}.html.j2").render(**values)
    return Page(f"{name}.html", translation.say(title, language), _soup(body))


@functools.cache
def _environment(language: str) -> Environment:
    made = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined
    )
    made.globals |= {"language": language, "say": lambda text: translation.say(text, language)}
    return made


def _soup(text: str) -> BeautifulSoup:
    return BeautifulSoup(text, "html.parser")


# --------------------------------------------------------------------------- a notebook as a page


def _notebook_page(source: Path, language: str) -> Page:
    notebook = build.with_outputs(source, language)
    notebook.cells = [cell for cell in notebook.cells if not build.is_note(cell)]
    for cell in notebook.cells:
        if "check" in build.own(cell):  # it speaks of the solution, and the page shows the stub
            cell.outputs = []
    body = _soup(_exporter().from_notebook_node(notebook)[0])
    link_terms(body, language)
    if language != "en":
        is_translated = translation.path(source, language).exists()
        for block in body.select(".output" if is_translated else ".output, .prose"):
            block["lang"] = "en"  # for programs that read aloud
    return Page(f"{source.stem}.html", body.h1.get_text(), body, is_notebook=True)


class _Renderer(html.Renderer):
    """Gives headings JupyterLab's anchors, links to pages, and drops links to other local files."""

    def heading(self, text: str, level: int, **attrs) -> str:
        anchor = escape(_soup(text).get_text().replace(" ", "-"))
        return f'<h{level} id="{anchor}">{text}</h{level}>\n'

    def link(self, text: str, url: str, title: str | None = None) -> str:
        found = NOTEBOOK.fullmatch(url)
        if found and found[1] in {source.stem for source in _executed()}:
            url = f"{found[1]}.html{found[2] or ''}"
        elif not url.startswith(("http", "#")):
            return text
        return super().link(text, url, title)


class _Exporter(HTMLExporter):
    """nbconvert's HTML of the cells alone, with formulas that need no script."""

    @pass_context
    def markdown2html(self, context, source):
        path = str(settings.notebooks_dir())
        options = {"embed_images": True, "path": path}
        return html.markdown(source, _Renderer(escape=False, **options))


@functools.cache
def _exporter() -> HTMLExporter:
    options = {"template_name": "page", "extra_template_basedirs": [str(TEMPLATES)]}
    return _Exporter(**options, exclude_input_prompt=True, exclude_output_prompt=True)


# ------------------------------------------------------------------------------- terms and search


def link_terms(body: BeautifulSoup, language: str) -> None:
    """Link the first place of each term in the prose of a page to the glossary, in place."""
    pattern, terms = glossary.finder(glossary.load(language), language)
    left = {term.english for term in terms.values()}

    def link(found) -> str:
        term = terms[found[1].lower()]
        if term.english not in left:
            return found[0]
        left.discard(term.english)
        place = f"glossary.html#{_anchor(term)}"
        return f'<a class="term" href="{place}" title="{escape(term.meaning)}">{found[0]}</a>'

    for text in _texts(body):
        plain = escape(text, quote=False)
        linked = pattern.sub(link, plain) if _is_outside(text, NO_TERMS) else plain
        if linked != plain:
            text.replace_with(*_soup(linked).contents)


def _texts(body: BeautifulSoup) -> list[NavigableString]:
    """Return the pieces of prose of a page, in order."""
    return [text for block in body.select(".prose") for text in block.find_all(string=True)]


def _is_outside(text: NavigableString, names) -> bool:
    return not any(parent.name in names for parent in text.parents)


def _anchor(term: glossary.Term) -> str:
    return re.sub(r"\W+", "-", term.english.lower()).strip("-")


def _sections(page: Page) -> list[tuple[str, str]]:
    """Return the anchor and the text of each part of a page."""
    return [(heading["id"], heading.get_text()) for heading in page.body.select("h2[id]")]


def entries(page: Page) -> list[list[str]]:
    """Return what the search finds on a page: the title, address and text of each part and term."""
    rows = [[page.title, page.name, ""]]
    for text in _texts(page.body):
        head = next((parent for parent in text.parents if parent.name in PARTS), None)
        if head is None or not head.get("id"):
            rows[-1][2] += text
        elif rows[-1][1] != (place := f"{page.name}#{quote(head['id'])}"):
            rows.append([head.get_text(" ", strip=True), place, ""])
    return [[title, place, " ".join(text.split())] for title, place, text in rows if text.strip()]
