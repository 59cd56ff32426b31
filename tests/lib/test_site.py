"""The site: complete, linked, searchable, and at home in a folder without any network."""

import json
import re
import shutil
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from bs4 import BeautifulSoup
from nbformat.v4 import new_output
from typer.testing import CliRunner

from workbook import cli, glossary, settings, translation
from workbook.authoring import build, site
from workbook.errors import WorkbookError

SAMPLE = Path(__file__).parents[1] / "notebooks" / "fixtures" / "99_sample.py"
ROOT = settings.repo_root()
ALT = 'A line that rises from "one" to three.'
FIGURE = new_output(
    "display_data", {"image/png": "iVBORw0KGgo="}, metadata={"image/png": {"alt": ALT}}
)
QUIZ = new_output(
    "display_data",
    {"text/html": "<details><summary>two</summary>Right: the mean is two.</details>"},
)
SCRIPT = new_output("display_data", {"application/javascript": "fetch('https://example.org')"})
MORE = """

# %% [markdown]
# ## Prompts & more
#
# A prompt, a prompt and two soft prompts; `prompt` is code. The length is $\\sqrt{a^2 + b_1}$.
# See [the start](00_start.ipynb#Go-on), [a later one](02_next.ipynb), [data](../data/README.md),
# [above](#Further-reading) and [the web](https://example.org).
"""
START = "# %% [markdown]\n# # 00 Start\n#\n# ## Go on\n#\n# To [the sample](99_sample.ipynb).\n"
PAGES = ["index.html", "00_start.html", "99_sample.html", "glossary.html"]


def make_course(folder: Path, patch) -> Path:
    """Make a course of three notebooks, of which one was never executed; return its folder."""
    patch.setattr(settings, "repo_root", lambda: folder)
    sources = folder / "notebooks" / "source"
    shutil.copytree(ROOT / "data", folder / "data")
    shutil.copytree(ROOT / "notebooks" / "source" / "ko", sources / "ko")
    shutil.copy(ROOT / "pyproject.toml", folder)
    texts = {"00_start": START, "02_next": START, "99_sample": SAMPLE.read_text("utf-8") + MORE}
    for name, text in texts.items():
        (sources / f"{name}.py").write_text(text, "utf-8")
    for name in ("00_start", "99_sample"):
        execute(sources / f"{name}.py")
    return folder


def execute(source: Path) -> None:
    solved = build.make(source, "solved")
    for cell in solved.cells:
        if cell.cell_type == "code":
            cell.outputs = outputs(cell)
    build.write(solved, build.output_path(source, "solved"))


def outputs(cell) -> list:
    if "check" in build.own(cell):
        return [new_output("stream", text="passed")]
    if "plt.subplots" in cell.source:
        return [new_output("stream", text="a warning", name="stderr"), FIGURE]
    return [QUIZ, SCRIPT] if "checks.quiz" in cell.source else []


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The site of the made course, in both languages."""
    with pytest.MonkeyPatch.context() as patch:
        made = make_course(tmp_path_factory.mktemp("course"), patch)
        return site.write(made / "site")


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A made course of its own."""
    return make_course(tmp_path, monkeypatch)


@pytest.fixture
def page(folder):
    return read(folder / "99_sample.html")


def read(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text("utf-8"), "html.parser")


# ------------------------------------------------------------------------- links, and no network


def broken(folder: Path) -> list[str]:
    """Return each address in the pages of a site that leads nowhere, or loads from elsewhere."""
    folder = folder.resolve()
    pages = {path: read(path) for path in folder.rglob("*.html")}
    anchors = {path: {tag["id"] for tag in page.select("[id]")} for path, page in pages.items()}
    return [
        f"{path.relative_to(folder)}: {address}"
        for path, page in pages.items()
        for tag in page.select("[href], [src], [srcset], [data], [poster], [action]")
        for key in ("href", "src", "srcset", "data", "poster", "action")
        if (address := tag.get(key)) and not leads_somewhere(address, tag.name, path, anchors)
    ]


def leads_somewhere(address, tag, path, anchors) -> bool:
    parts = urlsplit(address)
    if parts.scheme:
        return parts.scheme == "data" or (tag == "a" and parts.scheme in ("http", "https"))
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    is_there = target.is_file() and not parts.netloc
    return is_there and (not parts.fragment or unquote(parts.fragment) in anchors[target])


def test_every_link_leads_somewhere_and_nothing_is_loaded_from_elsewhere(folder):
    assert broken(folder) == []


def test_a_broken_link_would_be_found(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "site")
    path = copy / "99_sample.html"
    for wrong in ('<a href="98_no.html">', '<a href="#no">', '<img src="https://a.org/b.png">',
                  '<a href="00_start.html#no">', '<link href="//a.org/c.css">'):  # fmt: skip
        path.write_text((folder / path.name).read_text("utf-8") + wrong, "utf-8")
        assert len(broken(copy)) == 1, wrong


@pytest.mark.slow
def test_every_link_of_the_course_leads_somewhere(tmp_path, monkeypatch):
    translated = [s for s in build.sources() if translation.path(s, "ko").exists()]
    place = site.write(tmp_path / "site", ["en"])
    assert broken(place) == []
    assert {path.stem for path in place.glob("[0-9]*.html")} == {s.stem for s in build.sources()}
    monkeypatch.setattr(site, "_executed", lambda: translated)
    assert broken(site.write(tmp_path / "ko", ["ko"])) == []


def test_the_browser_is_told_to_load_nothing_from_other_hosts(folder):
    for path in folder.rglob("*.html"):
        policy = read(path).select_one('meta[http-equiv="Content-Security-Policy"]')["content"]
        assert policy.startswith("default-src 'none';") and not re.search(r"http|\*", policy)
    for path in [*folder.glob("*.css"), *folder.glob("*.js")]:
        assert not re.search(r"@import|url\(|https?:|fetch\(|XMLHttp", path.read_text("utf-8"))


# ------------------------------------------------------------------------------ finding one's way


@pytest.mark.parametrize("language", settings.LANGUAGES)
def test_every_page_lists_all_and_leads_to_its_neighbours(folder, language):
    place = folder if language == "en" else folder / language
    for number, name in enumerate(PAGES):
        page = read(place / name)
        listed = [tag["href"] for tag in page.select("#contents > ul > li > a")]
        assert listed == PAGES and page.html["lang"] == language
        assert [tag["href"] for tag in page.select("[aria-current=page]")] == [name]
        around = {tag["rel"][0]: tag["href"] for tag in page.select(".around a")}
        neighbours = [("prev", number - 1), ("next", number + 1)]
        assert around == {rel: PAGES[at] for rel, at in neighbours if 0 <= at < len(PAGES)}


def test_a_page_leads_to_the_same_page_in_the_other_language(folder):
    for path, other in (
        ("99_sample.html", "ko/99_sample.html"),
        ("ko/index.html", "../index.html"),
    ):
        assert read(folder / path).select_one("header .language")["href"] == other


def test_one_language_alone_leads_to_no_other(course):
    place = site.write(course / "out", ["en"])
    assert not (place / "ko").exists() and not read(place / "index.html").select(".language")
    assert broken(place) == []


def test_the_contents_name_planned_chapters_without_a_link(folder):
    chapters = read(folder / "index.html").select(".chapters li")
    assert len(chapters) == 13
    assert chapters[0].a["href"] == "00_start.html"
    assert not chapters[1].a and "planned" in chapters[1].text


def test_parts_of_the_page_are_in_the_contents(page):
    parts = {tag.text: tag["href"] for tag in page.select("[aria-current] + ul a")}
    assert parts["Prompts & more"] == "#Prompts-%26-more" and "Exercise: mean" in parts


# ---------------------------------------------------------------------------- what a page shows


def test_an_exercise_is_a_stub_and_its_solution_is_folded(page):
    assert page.main.text.count("...  # your code here") == 3
    [solution, *_] = [tag for tag in page.select("details") if tag.summary.text == "Solution"]
    assert "return sum(values) / len(values)" in solution.text and not solution.has_attr("open")
    for details in page.select("details"):
        details.extract()
    assert "sum(values)" not in page.main.text and "passed" not in page.main.text


def test_hints_are_folded_and_notes_left_out(page):
    summaries = [tag.text for tag in page.select("summary")]
    assert summaries.count("Hint 1") == summaries.count("Hint 2") == 3
    assert "Count aloud" not in page.text and "Speaker notes" not in summaries


def test_a_figure_keeps_its_alternative_text(page):
    [image] = page.find_all("img")
    assert image["alt"] == ALT and image["src"].startswith("data:image/png;base64,iVBOR")


def test_a_quiz_unfolds_and_nothing_runs(page):
    assert page.select_one(".output details summary").text == "two"
    assert [tag.get("src") for tag in page.find_all("script")] == ["site.js", "search_index.js"]
    assert "a warning" not in page.text


def test_formulas_need_no_script(page):
    assert page.select_one("math msqrt msup")


def test_links_lead_to_pages_of_the_site(page):
    text = page.find("h2", id="Prompts-&-more").find_next("p")
    links = {tag.text: tag["href"] for tag in text.select("a:not(.term)")}
    assert links == {
        "the start": "00_start.html#Go-on",
        "above": "#Further-reading",
        "the web": "https://example.org",
    }
    assert "a later one" in text.text and "data" in text.text


# -------------------------------------------------------------------------- glossary and search


def test_the_first_place_of_a_term_is_linked_and_no_code(page):
    text = page.find("h2", id="Prompts-&-more").find_next("p")
    links = {tag.text: tag["href"] for tag in text.select("a.term")}
    assert links == {"prompt": "glossary.html#prompt", "soft prompts": "glossary.html#soft-prompt"}
    assert str(text).index("glossary.html#prompt") < str(text).index("a prompt and")
    assert not page.select("code a, pre a, h2 a, summary a")


@pytest.mark.parametrize("language", settings.LANGUAGES)
def test_the_glossary_has_every_term_in_both_languages(folder, language):
    page = read((folder if language == "en" else folder / language) / "glossary.html")
    text = page.main.get_text(" ")
    for term in glossary.load(language):
        assert term.english in text and term.korean in text and term.meaning in text


def test_particles_may_follow_a_korean_term():
    body = BeautifulSoup(
        '<p class="prose">프롬프트를 쓰고 소프트 프롬프트는 배웁니다.</p>', "html.parser"
    )
    site.link_terms(body, "ko")
    assert [tag.text for tag in body.select("a")] == ["프롬프트", "소프트 프롬프트"]


def test_markup_in_the_text_stays_text():
    body = BeautifulSoup('<p class="prose">1 &lt; 2 &amp; a token</p>', "html.parser")
    site.link_terms(body, "en")
    assert body.text == "1 < 2 & a token" and body.a.text == "token"


def test_the_search_index_leads_to_the_parts_that_hold_the_words(folder):
    for place in (folder, folder / "ko"):
        text = (place / "search_index.js").read_text("utf-8")
        rows = json.loads(text.removeprefix("const SEARCH_INDEX = ").removesuffix(";\n"))
        for title, address, words in rows:
            name, _, anchor = address.partition("#")
            page = read(place / name)
            assert title and words and (not anchor or page.find(id=unquote(anchor)))
        found = [address for title, address, words in rows if "two soft prompts" in words]
        assert found == ["99_sample.html#Prompts-%26-more"]


# ------------------------------------------------------------------------------------ the writing


def test_korean_pages_have_korean_around_them(folder):
    page = read(folder / "ko" / "99_sample.html")
    phrases = translation.phrases("ko")
    assert page.select_one("#contents label").text == phrases["Search"]
    assert page.blockquote.text == phrases[translation.UNTRANSLATED]
    assert page.blockquote["lang"] == "ko" and page.select_one(".prose")["lang"] == "en"


def test_a_folder_with_other_files_is_refused_and_kept(course):
    place = course / "thesis"
    place.mkdir()
    (place / "mine.txt").write_text("mine")
    with pytest.raises(WorkbookError, match="thesis holds other files"):
        site.write(place)
    assert [path.name for path in place.iterdir()] == ["mine.txt"]


def test_an_older_site_is_replaced(course):
    place = site.write(course / "site", ["en"])
    (place / "98_gone.html").write_text("old")
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    site.write(place, ["en"])
    del before["98_gone.html"]
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before


def test_a_notebook_that_changed_since_is_told_and_the_old_site_stays(course):
    place = site.write(course / "site", ["en"])
    source = course / "notebooks" / "source" / "99_sample.py"
    source.write_text(source.read_text("utf-8").replace("[1, 2, 3]", "[1, 2, 6]"), "utf-8")
    with pytest.raises(WorkbookError, match="99_sample has changed since it was executed"):
        site.write(place, ["en"])
    assert (place / "99_sample.html").exists()
    assert [path.name for path in course.iterdir() if ".part" in path.name] == []


def test_the_command_writes_the_site_and_says_what_is_missing(course):
    result = CliRunner().invoke(cli.app, ["site", "--language", "ko"])
    assert result.exit_code == 0, result.output
    assert "site/ko/index.html" in result.output.replace("\n", "")
    assert "names no repository yet" in result.output.replace("\n", " ")
    assert not (course / "site" / "index.html").exists()


# ------------------------------------------------------------------- what is outside of the site


def test_the_citation_has_what_a_citation_needs():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    project = settings.tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert cited["cff-version"] == "1.2.0" and cited["message"]
    assert cited["authors"] == [{"name": "The Instruction Fine-Tuning Workbook contributors"}]
    assert cited["license"] == project["license"] and str(cited["version"]) == project["version"]
    assert cited.get("repository-code") == settings.repository()


def test_workflows_and_devcontainer_use_what_exists():
    steps = [step for name in ("site", "tests") for step in _steps(name)]
    runs = [step["run"] for step in steps if "run" in step]
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text("utf-8"))
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert runs == ["make site", "make test", "make test-browser"]
    for command in [*runs, container["postCreateCommand"]]:
        assert command.split()[0] == "make" and command.split()[1] in targets
    [uploaded] = [step["with"]["path"] for step in steps if "path" in step.get("with", {})]
    assert uploaded == "site" and "/site/" in (ROOT / ".gitignore").read_text("utf-8").splitlines()


def _steps(name):
    text = (ROOT / f".github/workflows/{name}.yml").read_text("utf-8")
    return yaml.safe_load(text)["jobs"][name]["steps"]
