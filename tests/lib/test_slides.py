"""The slides of the sample notebook with outputs made here: neither a browser nor a network."""

import re
import threading
import urllib.error
import urllib.request
from pathlib import Path

import jupytext
import pytest
from bs4 import BeautifulSoup
from nbconvert.filters.markdown_mistune import MarkdownWithMath
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output
from typer.testing import CliRunner

from workbook import assets, cli, settings, translation
from workbook.assets import convert
from workbook.authoring import build, slides
from workbook.errors import WorkbookError

SAMPLE = Path(__file__).parents[1] / "notebooks" / "fixtures" / "99_sample.py"
COURSE = sorted((Path(__file__).parents[2] / "notebooks" / "source").glob("[0-9]*.py"))
ALT = 'A line that rises from "one" to three.'
PIXEL = "iVBORw0KGgo="
FIGURE = new_output("display_data", {"image/png": PIXEL}, metadata={"image/png": {"alt": ALT}})
QUIZ = new_output(
    "display_data",
    {"text/html": "<details><summary>two</summary>Right: the mean is two.</details>"},
)
SCRIPT = new_output("display_data", {"application/javascript": "fetch('https://example.org')"})
PASSED = new_output("stream", text="passed", name="stdout")
WARNING = new_output("stream", text="a warning of a library", name="stderr")
MORE = """

# %% [markdown]
# The length is $\\sqrt{a^2 + b_1}$, see [the next](02_next.ipynb) and [the web](https://example.org).

# %% code="hide"
print("the code of this cell is hidden")
"""


@pytest.fixture
def source(tmp_path, monkeypatch):
    """The sample, executed with outputs of its own, in a course of its own."""
    return course(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def soup(tmp_path_factory):
    """The page of the sample."""
    with pytest.MonkeyPatch.context() as patch:
        source = course(tmp_path_factory.mktemp("course"), patch)
        return BeautifulSoup(slides.page(source), "html.parser")


def course(folder: Path, patch) -> Path:
    patch.setattr(settings, "repo_root", lambda: folder)
    patch.setattr(assets, "slides_dir", lambda: library(folder))
    path = folder / "notebooks" / "source" / SAMPLE.name
    path.parent.mkdir(parents=True)
    path.write_text(SAMPLE.read_text(encoding="utf-8") + MORE, encoding="utf-8")
    execute(path)
    return path


def library(folder: Path) -> Path:
    made = folder / "reveal"
    made.mkdir(exist_ok=True)
    for name in convert.SLIDE_FILES.values():
        (made / name).write_text(f"/* {name} </script> */")
    return made


def execute(source: Path) -> None:
    solved = build.make(source, "solved")
    for cell in solved.cells:
        if cell.cell_type == "code":
            cell.outputs = outputs(cell)
    build.write(solved, build.output_path(source, "solved"))


def outputs(cell) -> list:
    if {"check", "exercise"} & set(build.own(cell)):
        return [PASSED]
    if "plt.subplots" in cell.source:
        return [WARNING, FIGURE]
    if "checks.quiz" in cell.source:
        return [QUIZ, SCRIPT]
    return [new_output("stream", text="shown", name="stdout")] if "hidden" in cell.source else []


def frames(soup) -> list:
    return list(soup.select("section section"))


# ----------------------------------------------------------------------------- nothing from outside


def test_a_page_names_nothing_that_it_would_have_to_load(source):
    page = slides.page(source)
    soup = BeautifulSoup(page, "html.parser")
    loaded = [
        tag[key]
        for tag in soup.find_all(True)
        for key in ("src", "srcset", "data", "poster", "href")
        if tag.get(key) and tag.name != "a"
    ]
    assert loaded and all(text.startswith("data:") for text in loaded)
    styles = "".join(tag.text for tag in soup.find_all("style"))
    assert "reveal.css" in styles and not re.search(r"@import|url\((?!data:)", styles)
    assert "cdn" not in page and "example.org" not in page.replace(
        '<a href="https://example.org">', ""
    )


def test_the_browser_is_told_to_load_nothing(soup):
    policy = soup.select_one('meta[http-equiv="Content-Security-Policy"]')["content"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'" and rules["img-src"] == "data:"
    assert not any("http" in rule or "*" in rule for rule in rules.values())


def test_reveal_js_is_inside_with_its_licence(soup):
    scripts = [tag.text for tag in soup.find_all("script")]
    assert [text.strip() for text in scripts[:2]] == [
        r"/* reveal.js <\/script> */",
        r"/* notes.js <\/script> */",
    ]
    assert "Reveal.initialize" in scripts[2] and len(scripts) == 3
    assert "/* licence" in str(soup)


# ----------------------------------------------------------------------------- what the slides show


def test_exercises_are_stubs_and_neither_checked_nor_solved(soup):
    text = soup.select_one(".slides").get_text()
    assert text.count("...  # your code here") == 3
    for absent in ("sum(values) / len", "passed", "not yet", "Hint", "Then divide", "Solution"):
        assert absent not in text, absent


def test_a_sub_slide_holds_one_figure_or_one_exercise(soup):
    for frame in frames(soup):
        exercises = [tag for tag in frame.find_all("h2") if tag.text.startswith("Exercise")]
        assert len(exercises) + len(frame.find_all("img")) <= 1
        assert len(exercises) == frame.text.count("your code here")


def test_a_figure_keeps_its_alternative_text(soup):
    [image] = soup.find_all("img")
    assert image["alt"] == ALT and image["src"] == f"data:image/png;base64,{PIXEL}"


def test_a_quiz_unfolds_without_its_source(soup):
    unfolding = [tag for tag in soup.find_all("details") if tag.get("class") != ["code"]]
    assert [details.summary.text for details in unfolding] == ["two"]
    assert "checks.quiz" not in soup.select_one(".slides").text


def test_hidden_code_stays_away_and_its_output_does_not(soup):
    text = soup.select_one(".slides").text
    assert "the code of this cell" not in text and "shown" in text
    assert "a warning of a library" not in text


def test_title_and_language_are_those_of_the_notebook(soup):
    assert soup.title.text == "A sample notebook" and soup.html["lang"] == "en"


def test_formulas_are_mathml_and_only_links_to_the_web_stay(soup):
    assert soup.select_one("math msqrt msup") and "$" not in soup.select_one(".slides").text
    assert [tag["href"] for tag in soup.select(".slides a")] == ["https://example.org"]
    assert "see the next and" in soup.select_one(".slides").text


@pytest.mark.parametrize("path", COURSE, ids=lambda path: path.stem)
def test_every_formula_of_the_course_becomes_mathml(path):
    for cell in jupytext.read(path).cells:
        if cell.cell_type == "markdown":
            html = MarkdownWithMath(renderer=slides._Renderer(escape=False)).render(cell.source)
            for formula in BeautifulSoup(html, "html.parser").find_all("math"):
                assert "\\" not in formula.text and formula.find(["mi", "mn", "mtext"])
            assert not re.search(r"\$[^$\n]*\\[a-z]+[^$\n]*\$", html)


# ------------------------------------------------------------------------------------ speaker notes


def test_notes_are_open_on_every_sub_slide_with_the_minutes(soup):
    notes = [frame.select_one("aside.notes") for frame in frames(soup)]
    assert len(notes) > 4 and all(notes)
    for note in notes:
        assert not note.find("details") and "Count aloud with the class." in note.text
        assert "Minutes: 1" in note.text


def test_the_speaker_view_can_time_each_slide(soup):
    assert [frame["data-timing"] for frame in frames(soup)][:2] == ["60", "0"]


def test_a_sub_slide_with_notes_of_its_own_keeps_them(source):
    old = source.read_text(encoding="utf-8")
    own = '# %% [markdown] slide="notes"\n# Only here.\n\n# %% [markdown]\n# ## What we measured'
    parts = old.split("# %% [markdown]\n# ## What we measured")
    source.write_text(f"{parts[0]}# %% [markdown]\n# ## Apart\n\n{own}{parts[1]}", encoding="utf-8")
    found = {
        frame.h2.text: frame.select_one("aside").text
        for frame in frames(BeautifulSoup(slides.page(source), "html.parser"))
        if frame.h2
    }
    assert "Only here." in found["Apart"] and "Count aloud" not in found["Apart"]
    assert "Count aloud" in found["Exercise: mean"]


def test_a_sub_slide_without_heading_names_its_part(soup):
    parts = [tag.text for tag in soup.select("p.part")]
    assert parts and set(parts) == {"A sample notebook"}
    assert not any(frame.find(["h1", "h2"]) for frame in frames(soup) if frame.select_one("p.part"))


def test_slides_in_another_language_have_its_notes_and_minutes(source):
    records = Path(__file__).parents[2] / "notebooks" / "source" / "ko" / "interface.yaml"
    file = translation.path(source, "ko")
    file.parent.mkdir()
    file.with_name(records.name).write_text(records.read_text("utf-8"), "utf-8")
    notes = translation.digest("Count aloud with the class.")
    file.write_text(f'- english: "{notes}"\n  korean: 함께 세어 봅니다.\n', "utf-8")
    soup = BeautifulSoup(slides.page(source, "ko"), "html.parser")
    assert soup.html["lang"] == "ko"
    assert "시간(분): 1" in soup.aside.text and "함께 세어 봅니다." in soup.aside.text


# ------------------------------------------------------------------------------------ the functions


def prose(text: str, **metadata):
    return new_markdown_cell(text, metadata=metadata)


def code(text: str = "x", *outputs, **own):
    return new_code_cell(text, outputs=list(outputs), metadata={"workbook": own})


SLIDE = prose("## Part\n\nOne line.", slideshow={"slide_type": "slide"})
NOTES = prose("Say it.", slideshow={"slide_type": "notes"})
LONG = "\n".join(f"line_{number} = {number}" for number in range(9))
FOUR = prose("One.\n\nTwo.\n\nThree.\n\nFour.")


@pytest.mark.parametrize(
    ("cells", "sizes"),
    [
        ([SLIDE, NOTES, code("x", FIGURE), prose("It rises.")], [4]),
        ([SLIDE, NOTES, FOUR, code("x", FIGURE), prose("It rises.")], [3, 2]),
        ([SLIDE, prose("A line\nof prose."), code(LONG, FIGURE)], [3]),
        ([SLIDE, prose("- a line\n- another"), code(LONG, FIGURE)], [2, 1]),
        ([SLIDE, code("x", FIGURE), code("y", FIGURE)], [2, 1]),
        ([SLIDE, code("x", FIGURE), prose("It rises."), code("y", PASSED)], [3, 1]),
        ([SLIDE, code("x", FIGURE), code("y = 1"), prose("On.")], [4]),
        ([SLIDE, code("x", PASSED), code("y", PASSED), FOUR], [4]),
        ([SLIDE, prose("### Exercise 1"), code(exercise="1"), prose("On.")], [1, 2, 1]),
        ([prose("### Exercise 1"), NOTES, code(exercise="1"), code("x")], [3, 1]),
        ([SLIDE, prose("Text."), prose("## What we measured"), code("x")], [2, 2]),
        ([SLIDE, prose("Text.", slideshow={"slide_type": "subslide"}), FOUR], [1, 2]),
    ],
)
def test_where_sub_slides_begin(cells, sizes):
    groups = slides.subslides(cells)
    assert [len(group) for group in groups] == sizes
    assert [cell for group in groups for cell in group] == cells


def test_a_cell_with_two_figures_becomes_two():
    cell = code("draw()", PASSED, FIGURE, FIGURE, PASSED, exercise="1")
    first, second = slides.one_figure_each(cell)
    assert first.outputs == [PASSED, FIGURE] and first.source == "draw()"
    assert second.outputs == [FIGURE, PASSED] and slides.code_state(second) == "none"
    assert first.id != second.id and len(cell.outputs) == 4
    assert slides.one_figure_each(code("x", FIGURE))[0].outputs == [FIGURE]


@pytest.mark.parametrize(
    ("cell", "state"),
    [
        (code("x"), "open"),
        (code(LONG), "closed"),
        (code("x", FIGURE), "closed"),
        (code("x", FIGURE, code="show"), "open"),
        (code(LONG, code="show"), "open"),
        (code("x", code="hide"), "none"),
        (code(LONG, exercise="1"), "open"),
        (code('checks.quiz("03")'), "none"),
    ],
)
def test_code_is_folded_unless_it_is_short_or_the_point(cell, state):
    assert slides.code_state(cell) == state


def test_folded_code_is_in_a_closed_box(source):
    source.write_text(source.read_text("utf-8") + f"\n# %%\n{LONG}\n", encoding="utf-8")
    execute(source)
    soup = BeautifulSoup(slides.page(source), "html.parser")
    figure, box = soup.select("details.code")
    assert (
        "subplots" in figure.text
        and "line_8" in box.text
        and box.summary.text == "code"
        and not box.has_attr("open")
    )


# ---------------------------------------------------------------------------------- to the audience


def test_a_notebook_that_was_not_executed_is_told(source):
    build.output_path(source, "solved").unlink()
    with pytest.raises(WorkbookError, match="was not executed yet: do `workbook run 99 --write`"):
        slides.page(source)


def test_outputs_of_other_code_are_refused_and_new_prose_is_not(source):
    text = source.read_text(encoding="utf-8")
    source.write_text(text.replace("You will count", "You are going to count"), encoding="utf-8")
    assert "You are going to count" in slides.page(source)
    source.write_text(text.replace("numbers = [1, 2, 3]", "numbers = [1, 2, 6]"), encoding="utf-8")
    with pytest.raises(WorkbookError, match="99_sample has changed since it was executed"):
        slides.page(source)


def test_the_command_writes_one_file(source, tmp_path):
    for place in (tmp_path / "talk.html", tmp_path):
        result = CliRunner().invoke(cli.app, ["present", "99", "--out", str(place)])
        path = Path(result.stdout.replace("\n", ""))
        assert result.exit_code == 0 and path.read_text("utf-8") == slides.page(source)
    assert path.name == "99_sample.html"


def test_the_same_notebook_gives_the_same_file(source):
    assert slides.page(source) == slides.page(source)


def test_the_page_is_served_on_this_machine_only():
    with slides.server("<p>é</p>") as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        host, port = server.server_address
        assert host == "127.0.0.1"
        for path in ("", "?receiver"):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}") as answer:
                assert answer.read().decode() == "<p>é</p>"
                assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/other")
        with pytest.raises(WorkbookError, match=f"Port {port} cannot be used"):
            slides.server("", port)
        server.shutdown()


@pytest.mark.parametrize("browser", [True, False])
def test_serving_prints_the_address_and_ends_quietly(browser, monkeypatch, capsys):
    def interrupted(server):
        raise KeyboardInterrupt

    opened = []
    monkeypatch.setattr(slides.ThreadingTCPServer, "serve_forever", interrupted)
    monkeypatch.setattr(slides.webbrowser, "open", opened.append)
    slides.serve("", browser=browser)
    shown = capsys.readouterr()
    [address] = re.findall(r"http://127\.0\.0\.1:\d+/", shown.out)
    assert opened == [address] * browser and shown.err == ""
