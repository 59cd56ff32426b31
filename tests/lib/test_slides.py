"""The slides of the sample notebook with outputs made here: neither a browser nor a network."""

import copy
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
from workbook.authoring import build, pieces, slides, teaching
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


def shown_cells(soup) -> set:
    return {place for frame in frames(soup) for place in frame["data-cells"].split()}


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
    shown = copy.copy(soup.select_one(".slides"))
    for hidden in shown.select(".solution"):
        hidden.extract()
    text = shown.get_text()
    assert text.count("...  # your code here") == 3
    for absent in ("sum(values) / len", "passed", "not yet", "Hint", "Then divide", "Solution"):
        assert absent not in text, absent


def test_code_that_prints_nothing_is_left_out_unless_the_source_shows_it(source):
    def shown(marker):
        cell = f"\n# %%{marker}\ndef helper():\n    return numbers\n"
        source.write_text(text + cell, encoding="utf-8")
        execute(source)
        return "helper" in BeautifulSoup(slides.page(source), "html.parser").text

    text = source.read_text("utf-8")
    assert not shown("") and shown(' code="show"')


def test_what_is_for_readers_is_in_the_talk_only_with_minutes(source):
    def shown():
        page = BeautifulSoup(slides.page(source), "html.parser")
        return {tag.text for tag in page.select("h2")} & {"What we measured", "Further reading"}

    assert not shown()
    old = "# %% [markdown]\n# ## What we measured"
    new = old.replace("[markdown]", '[markdown] slide="slide" minutes=1')
    source.write_text(source.read_text("utf-8").replace(old, new), encoding="utf-8")
    assert shown() == {"What we measured"}


def test_each_exercise_has_its_solution_for_the_key(soup):
    stubs, solutions = soup.select("div.stub"), soup.select("div.solution")
    assert len(stubs) == len(solutions) == 3
    assert "return sum(values) / len(values)" in solutions[0].text
    assert "your code here" not in "".join(tag.text for tag in solutions)
    styles = "".join(tag.text for tag in soup.find_all("style"))
    assert re.search(r"\.solution[^{}]*{ display: none; }", styles)


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


def test_notes_are_open_on_the_first_sub_slide_and_the_minutes_on_every_one(soup):
    notes = [frame.select_one("aside.notes") for frame in frames(soup)]
    assert len(notes) > 4 and all(notes)
    assert "Count aloud with the class." in notes[0].text and not notes[0].find("details")
    for number, note in enumerate(notes, 1):
        assert f"Minutes: 1, {number}/{len(notes)}" in note.text
        assert ("Count aloud" in note.text) == (number == 1)


def test_what_a_text_folds_is_for_the_speaker_alone():
    text = "Decide.\n\n<details><summary>Discussion</summary>\nIt depends.\n</details>"
    [cell] = slides._with_notes([new_markdown_cell(text)])
    assert cell.source == "Decide." and cell.metadata.notes == ["It depends."]


def test_the_clock_shares_the_minutes_of_a_slide_among_its_sub_slides(soup):
    seconds = [int(frame["data-timing"]) for frame in frames(soup)]
    assert sum(seconds) == 60 and min(seconds) > 0


def test_every_slide_names_the_cells_of_the_source(soup):
    cells = jupytext.read(SAMPLE).cells
    for frame in frames(soup):
        first = cells[int(frame["data-cells"].split()[0]) - 1] if frame.h2 else None
        assert first is None or frame.h2.text in first.source


def test_a_sub_slide_with_notes_of_its_own_keeps_them(source):
    old = source.read_text(encoding="utf-8")
    own = '# %% [markdown] slide="notes"\n# Only here.\n\n# %% [markdown]\n# ## What we measured'
    own = f"# %% [markdown]\n# ## Apart\n\n{own}"
    source.write_text(old.replace("# %% [markdown]\n# ## What we measured", own), encoding="utf-8")
    found = {
        frame.h2.text: frame.select_one("aside").text
        for frame in frames(BeautifulSoup(slides.page(source), "html.parser"))
        if frame.h2
    }
    assert "Only here." in found["Apart"] and "Count aloud" not in found["Apart"]
    assert "Only here." not in found["Exercise: mean"]


def test_a_sub_slide_without_heading_names_its_part(soup):
    parts = [tag.text for tag in soup.select("p.part")]
    assert parts and parts[0] == "A sample notebook"
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
    english = BeautifulSoup(slides.page(source), "html.parser")
    assert shown_cells(soup) == shown_cells(english)


# -------------------------------------------------------------------------------------------- plans


SESSIONS = (
    teaching.Session(
        "First", (teaching.Part("99", ("What we measured", "A sample notebook")),), ("99.1",)
    ),
    teaching.Session("Again", (teaching.Part("99", without=("Further reading",)),)),
)


@pytest.fixture
def plan(source, monkeypatch):
    """The page of a plan that names the sample twice."""
    text = source.read_text("utf-8")
    for key in ("exercise", "check"):  # whose first part names the notebook
        text = text.replace(f'{key}="mean"', f'{key}="99.1"')
    source.write_text(text, encoding="utf-8")
    execute(source)
    monkeypatch.setitem(teaching.PLANS, "short", SESSIONS)
    monkeypatch.setattr(slides.course, "CHAPTERS", (slides.course.Chapter("99", "Sample", "?"),))
    build.write(build.make(source, "learner"), build.output_path(source, "learner"))
    return BeautifulSoup(slides.plan_page("short"), "html.parser")


def test_a_plan_is_one_deck_with_a_slide_before_each_session(plan):
    all_frames = frames(plan)
    rows = [[cell.text for cell in row.select("td")] for row in all_frames[0].select("tbody tr")]
    for (name, minutes, slide), session in zip(rows, SESSIONS, strict=True):
        frame = all_frames[int(slide) - 1]
        assert frame.h1.text == name == session.name
        assert frame.li.text == "99 Sample" and f"Minutes: {minutes}" in frame.text
    assert rows[0][1:] == ["2", "2"], "a minute of slides, and one for the exercise"


def test_a_plan_shows_its_sections_and_the_exercises_done_in_class(plan):
    second = [frame.h1.text if frame.h1 else "" for frame in frames(plan)].index("Again")
    first, again = frames(plan)[:second], frames(plan)[second:]
    assert [h2.text for frame in first for h2 in frame.select("h2")] == [
        "Exercise: mean",
    ]  # fmt: skip
    assert not any(frame.text.count("your code here") for frame in again)
    assert not any(frame.select("h2") for frame in again)


def test_the_clock_of_a_plan_counts_what_is_done_in_class(plan):
    seconds = [int(frame["data-timing"]) for frame in frames(plan)]
    assert sum(seconds) == 60 * sum(map(teaching.talk_minutes, SESSIONS)) == 180
    ids = [tag["id"] for tag in plan.select("[id]")]
    assert len(set(ids)) == len(ids)


def test_the_command_wants_a_notebook_or_a_plan_and_writes_either(plan, tmp_path):
    result = CliRunner().invoke(cli.app, ["present", "--plan", "short", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "short.html").read_text("utf-8") == slides.plan_page("short")
    for asked in (["present"], ["present", "99", "--plan", "short"]):
        error = CliRunner().invoke(cli.app, asked).exception
        assert isinstance(error, WorkbookError) and "Name one" in str(error)
    with pytest.raises(WorkbookError, match="no plan 'long': choose from two-hours"):
        slides.plan_page("long")


# ------------------------------------------------------------------------------------ the functions


def prose(text: str, **metadata):
    return new_markdown_cell(text, metadata=metadata)


def code(text: str = "x", *outputs, **own):
    return new_code_cell(text, outputs=list(outputs), metadata={"workbook": own})


SLIDE = prose("## Part", slideshow={"slide_type": "slide"})
LONG = "\n".join(f"line_{number} = {number}" for number in range(9))
LINE = prose("One line.")
SHOWN = code("x", FIGURE)
SENTENCE = "This is one sentence of exactly nine short words. "
PARAGRAPH = prose((5 * SENTENCE).strip())
WIDE = "".join(f"<th>column {number}</th>" for number in range(3))
TABLE = "<table><tr>" + WIDE + "</tr>" + "<tr><td>1</td><td>a</td></tr>" * 45 + "</table>"


@pytest.mark.parametrize(
    ("cells", "sizes"),
    [
        ([SLIDE, SHOWN, LINE], [3]),
        ([SLIDE, PARAGRAPH, SHOWN], [3]),
        ([SLIDE, PARAGRAPH, PARAGRAPH, SHOWN], [2, 2]),
        ([SLIDE, PARAGRAPH, prose("These follow:"), PARAGRAPH], [2, 2]),
        ([SLIDE, SHOWN, code("y", FIGURE)], [2, 1]),
        ([SLIDE, SHOWN, LINE, code("y", PASSED)], [3, 1]),
        ([SLIDE, code("x", PASSED), code("y", PASSED), LINE], [4]),
        ([SLIDE, prose("### Exercise 1"), code(exercise="1"), prose("On.")], [3, 1]),
        ([SLIDE, LINE, prose("### Exercise 1"), code(exercise="1"), code("x")], [2, 2, 1]),
        ([SLIDE, LINE, prose("## What we measured"), code("x")], [2, 2]),
        ([SLIDE, prose("Text.", slideshow={"slide_type": "subslide"}), LINE], [1, 2]),
    ],
)
def test_where_sub_slides_begin(cells, sizes):
    cells = copy.deepcopy(cells)
    for cell in cells:
        cell.metadata.code = slides.code_state(cell)
    groups = slides.subslides(cells)
    expected = iter(sizes)
    assert [len(group) for group in groups] == sizes, next(expected)
    assert sorted(cell.id for group in groups for cell in group) == sorted(c.id for c in cells)


def test_a_figure_stands_before_the_text_beside_it():
    group = copy.deepcopy([SLIDE, PARAGRAPH, SHOWN])
    for cell in group:
        cell.metadata.code = slides.code_state(cell)
    assert slides.layout(group) == "beside"
    [ordered] = slides.subslides(group)
    assert [cell.id for cell in ordered] == [SLIDE.id, SHOWN.id, PARAGRAPH.id]
    assert ordered[0].metadata.slideshow.slide_type == "slide"


@pytest.mark.parametrize(
    ("cell", "state"),
    [
        (code("x"), "closed"),
        (code("x", PASSED), "open"),
        (code(LONG, PASSED), "closed"),
        (code("import os\nx = 1"), "closed"),
        (code(2 * f"{LONG}\n"), "closed"),
        (code("x", FIGURE), "closed"),
        (code("x", FIGURE, code="show"), "open"),
        (code(LONG, code="show"), "open"),
        (code("x", code="hide"), "none"),
        (code(LONG, exercise="1"), "open"),
        (code('checks.quiz("03")'), "none"),
        (prose("Text."), "none"),
    ],
)
def test_code_is_folded_unless_it_is_short_or_the_point(cell, state):
    assert slides.code_state(cell) == state


# ------------------------------------------------------------------------------------ the pieces


def cut(cell) -> list:
    cell = copy.deepcopy(cell)
    cell.metadata.code = slides.code_state(cell)
    return pieces.cut(cell)


def test_a_cell_with_two_figures_becomes_two():
    cell = code("draw()", PASSED, FIGURE, FIGURE, PASSED)
    found = cut(cell)
    assert [len(piece.outputs) for piece in found] == [1, 1, 1, 1]
    assert [piece.source for piece in found] == ["draw()", "", "", ""]
    assert len({piece.id for piece in found}) == 4 and found[0].id == cell.id


def test_a_long_paragraph_is_cut_at_sentences_into_equal_parts():
    first, second = cut(prose(7 * SENTENCE))
    assert first.source.count("sentence") == 4 and second.source.count("sentence") == 3
    assert all(pieces.words(piece) <= pieces.PART_WORDS for piece in (first, second))


def test_a_korean_paragraph_is_cut_at_sentences_too():
    first, second = cut(
        prose(7 * "한국어로 쓴 문장도 끝나는 곳에서 둘로 나누어야 슬라이드에 들어갑니다. ")
    )
    assert first.source.count("니다.") == 4 and second.source.startswith("한국어로")


@pytest.mark.parametrize("mark", ["`a. B`", "$a. B$", "**a. B**", "[a. B](c.ipynb)"])
def test_no_sentence_ends_inside_code_formulas_or_bold_text(mark):
    text = f"{5 * SENTENCE}See {mark} there. {3 * SENTENCE}"
    assert any(mark in piece.source for piece in cut(prose(text)))


def test_lists_tables_and_code_are_cut_between_items_rows_and_lines():
    items = "\n".join(f"- {SENTENCE}" for _ in range(8))
    assert [piece.source.count("- ") for piece in cut(prose(items))] == [4, 4]
    rows = "\n".join(["| one | two |", "|---|---|", *(["| a | b |"] * 24)])
    parts = [piece.source.splitlines() for piece in cut(prose(rows))]
    assert all(part[:2] == ["| one | two |", "|---|---|"] for part in parts)
    assert [len(part) - 2 for part in parts] == [8, 8, 8]
    halves = [code_part.source for code_part in cut(code(f"{LONG}\n\n{LONG}", code="show"))]
    assert halves == [LONG, LONG]


def test_blocks_keep_the_whole_text():
    text = "# A\nOne:\n- two\n  more\n\n- three\n\n```\n# code\n\nx\n```\n\n$$\na\n\nb\n$$\nEnd."
    found = pieces.blocks(text)
    assert found == [
        "# A", "One:", "- two\n  more\n- three", "```\n# code\n\nx\n```", "$$\na\n\nb\n$$", "End.",
    ]  # fmt: skip


def test_a_long_table_is_cut_with_a_note():
    _, only = cut(code("x", new_output("display_data", {"text/html": TABLE})))
    html = BeautifulSoup(only.outputs[0].data["text/html"], "html.parser")
    assert html.select_one(".more").text == "… and 36 more: the page has them all."
    assert len([row for row in html.select("tr") if row.td]) == 9


def test_what_a_table_folds_is_not_on_the_slides():
    table = "<table><tr><th>a</th></tr><tr><td>1</td></tr></table>"
    html = f"<p>Lead</p>{table}<details><summary>All 9 values</summary>{TABLE}</details>"
    [part] = pieces.cut_output(new_output("display_data", {"text/html": html}))
    assert part.data["text/html"] == f"<p>Lead</p>{table}"


def test_a_row_that_fills_a_slide_alone_keeps_the_beginning_of_its_cells():
    row = f"<tr><td>{'many ' * 50}</td><td>few</td></tr>"
    html = f"<table><tr><th>a</th><th>b</th></tr>{row}</table>"
    [part] = pieces.cut_output(new_output("display_data", {"text/html": html}))
    cells = BeautifulSoup(part.data["text/html"], "html.parser").select("td")
    assert [cell.text for cell in cells] == ["many " * 25 + "…", "few"]


def test_the_text_above_a_table_counts_as_well():
    html = f"<p>{'many ' * 40}</p><table>{'<tr><td>one two</td></tr>' * 8}</table>"
    parts = pieces.cut_output(new_output("display_data", {"text/html": html}))
    assert [part.data["text/html"].count("<td>") for part in parts] == [4, 4]


def test_an_empty_cell_is_no_heading():
    renderer = slides._Renderer(escape=False)
    html = MarkdownWithMath(renderer=renderer).render("| | b |\n|---|---|\n| c | d |")
    assert [tag.text for tag in BeautifulSoup(html, "html.parser").select("th")] == ["b"]
    frame = "<table><tr><th></th><th>b</th></tr><tr><th>c</th><td>d</td></tr></table>"
    [piece] = cut(code("x", new_output("display_data", {"text/html": frame}), code="hide"))
    found = BeautifulSoup(piece.outputs[0].data["text/html"], "html.parser").select("th")
    assert [tag.text for tag in found] == ["b", "c"]


def test_a_table_of_some_length_is_cut_into_slides_with_the_same_head():
    html = TABLE.replace("<tr><td>1</td><td>a</td></tr>", "", 29)
    _, *found = cut(code("x", new_output("display_data", {"text/html": html})))
    tables = [BeautifulSoup(piece.outputs[0].data["text/html"], "html.parser") for piece in found]
    assert [len(table.select("td")) // 2 for table in tables] == [8, 8]
    assert all(table.th.text == "column 0" for table in tables)


def test_long_printed_text_is_cut_with_a_note_and_short_text_is_not():
    text = "\n".join(f"{number} 0.5" for number in range(60))
    _, only = cut(code("x", new_output("stream", name="stdout", text=text)))
    shown = only.outputs[0].text.splitlines()
    assert shown[-1] == f"… and {60 - len(shown) + 1} more: the page has them all."
    assert len(shown) <= pieces.OUTPUT_LINES + 1
    assert cut(code("x", PASSED))[1].outputs == [PASSED]


def test_a_quiz_has_a_question_a_slide():
    box = "<details><summary>two</summary>Right.</details>"
    html = f"<div><p>Open one.</p><p>1. Why?</p>{box}{box}<p>2. How?</p>{box}</div>"
    found = cut(code('checks.quiz("03")', new_output("display_data", {"text/html": html})))
    texts = [piece.outputs[0].data["text/html"] for piece in found]
    assert [text.count("<details>") for text in texts] == [0, 2, 1] and "2. How?" in texts[2]


def test_folded_code_is_in_a_closed_box(source):
    shown = f"\n# %%\n{LONG}\nprint('hidden')\n"
    source.write_text(source.read_text("utf-8") + shown, encoding="utf-8")
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
    with pytest.raises(WorkbookError, match="no slides yet, .* do `workbook run 99 --write`"):
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
