"""Every notebook has the anatomy of the course, and each check can tell good from bad."""

import copy
import re

import hygiene
import nbformat
import pytest
from hygiene import SAMPLE

from workbook.authoring import build, execute
from workbook.checks import quizzes

# Checks that do not apply to a notebook, with the reason.
EXEMPT = {
    "00_start_here": {
        "exercises": "it checks the machine and shows the map; there is nothing to solve",
        "quiz": "there is nothing to ask yet",
        "measurements": "it has no experiment",
        "further_reading": "the notebooks themselves name their sources",
        "memory": "it holds little, and one comes back to it",
    },
    # These pages are being written anew, on sweeps that are still measured.
    "03_single_task_tuning": {"headline": "it still names a value"},
    "04_catastrophic_forgetting": {"headline": "it still names a value"},
}


def test_anatomy(source, edition):
    path = build.output_path(source, edition)
    if not path.exists():
        pytest.fail(f"{path.name} is missing: run `make build` and `make run WRITE=1`")
    notebook = nbformat.read(path, as_version=4)
    assert hygiene.problems(notebook, path, EXEMPT.get(source.stem, ())) == []


def test_each_notebook_asks_its_own_quiz(source):
    asked = hygiene.QUIZ.findall(source.read_text(encoding="utf-8"))
    assert asked == ([] if "quiz" in EXEMPT.get(source.stem, ()) else [source.name[:2]])


def test_exemptions_are_of_known_checks():
    assert all(set(names) <= set(hygiene.CHECKS) for names in EXEMPT.values())


@pytest.fixture(scope="module")
def good():
    """The sample with the outputs that matter, as if it had been executed."""
    notebook = build.make(SAMPLE, "solved")
    data = {"image/png": "AAAA", "text/plain": "a figure"}
    figure = nbformat.v4.new_output("display_data", data, metadata=alt("A line from one to three."))
    numbers = {"notebook": "99", "headline": "the mean is 2", "values": {"mean": 2.0}}
    shown = nbformat.v4.new_output(
        "display_data", {"application/vnd.workbook.measured+json": numbers}
    )
    code(notebook, "plt.subplots").outputs = [figure]
    code(notebook, "values = ").outputs = [shown]
    asked = nbformat.v4.new_output("display_data", quizzes.rendered("01"))
    code(notebook, "checks.quiz(").outputs = [asked]
    for cell in notebook.cells:
        if "check" in build.own(cell):
            cell.outputs = [stream("stdout", "✓")]
    return notebook


def alt(text):
    return {"image/png": {"alt": text}}


def code(notebook, text):
    return next(c for c in notebook.cells if c.cell_type == "code" and text in c.source)


def prose(notebook, text):
    return next(c for c in notebook.cells if c.cell_type == "markdown" and text in c.source)


@pytest.mark.parametrize("edition", build.EDITIONS)
def test_sample_source_is_good(edition):
    assert hygiene.problems(build.make(SAMPLE, edition), SAMPLE) == []


def test_executed_sample_is_good(good):
    assert hygiene.problems(good, SAMPLE) == []


def edit(cell, old, new):
    assert re.search(old, cell.source)
    cell.source = re.sub(old, new, cell.source)


def stream(name, text):
    return nbformat.v4.new_output("stream", name=name, text=text)


BAD = {
    "opening: the first cell is no title": lambda n: edit(n.cells[0], "^# ", ""),
    "opening: the title is not followed": lambda n: edit(n.cells[0], r"(?s)\n.*", ""),
    "opening: no heading or bold label names the minutes": lambda n: edit(
        n.cells[0], "Minutes", "Length"
    ),
    "prose_length: 11 lines": lambda n: edit(prose(n, "The mean is"), "$", "x" * 900),
    "code_length: ": lambda n: edit(code(n, "numbers ="), "$", "\n" * 20 + "1"),
    "exercises: 2 exercises": lambda n: n.cells.remove(code(n, "def count")),
    "exercises: exercise mean has no check": lambda n: n.cells.remove(code(n, "✓")),
    "exercises: exercise mean has no closed Hint 2": lambda n: n.cells.remove(
        prose(n, "Then divide")
    ),
    "exercises: exercise mean does not state its difficulty": lambda n: edit(
        prose(n, "Difficulty"), "Difficulty", "Level"
    ),
    "exercises: exercise mean has the difficulty 'tricky'": lambda n: edit(
        prose(n, "Difficulty"), "Difficulty: easy", "Difficulty: tricky"
    ),
    "exercises: exercise mean has the importance 'low'": lambda n: edit(
        prose(n, "Difficulty"), "Importance: high", "Importance: low"
    ),
    "minutes: the header does not say": lambda n: edit(n.cells[0], "to study", "of study"),
    "minutes: the exercises take 3 minutes": lambda n: edit(n.cells[0], "which 3", "which 4"),
    "minutes: the slides take": lambda n: edit(n.cells[0], "1 as a", "12 as a"),
    "quiz: no cell": lambda n: n.cells.remove(code(n, "checks.quiz(")),
    "quiz: the quiz 01 has changed": lambda n: (
        code(n, "checks.quiz(").outputs[0].data.update({"text/html": "<p>Old.</p>"})
    ),
    "measurements: no heading": lambda n: n.cells.remove(prose(n, "What we measured")),
    "measurements: no output": lambda n: code(n, "values = ").outputs.clear(),
    "headline: 'mean' alone says nothing": lambda n: (
        code(n, "values = ").outputs[0].data[execute.MEASURED].update(headline="mean")
    ),
    "memory: the last cell": lambda n: n.cells.pop(),
    "further_reading: no heading": lambda n: n.cells.remove(prose(n, "Further reading\n")),
    "further_reading: no arXiv id": lambda n: edit(prose(n, "arXiv"), "2101.00001", "soon"),
    "further_reading: no year": lambda n: edit(prose(n, "arXiv"), "1999", "last century"),
    "slides: no slide": lambda n: n.cells[0].metadata.slideshow.update(slide_type="-"),
    "slides: the slide in cell 1 has no minutes": lambda n: n.cells[0].metadata.pop("workbook"),
    "slides: the slide in cell 1 has no speaker notes": lambda n: n.cells.pop(1),
    "alternative_text: the picture of cell": lambda n: (
        code(n, "plt.subplots").outputs[0].metadata["image/png"].update(alt="short")
    ),
    "alternative_text: the picture x.png": lambda n: edit(n.cells[0], "$", "\n\n![](x.png)"),
    "alternative_text: <img": lambda n: edit(n.cells[0], "$", "\n\n<img src='x'>"),
    "clean_outputs: cell 3 raised": lambda n: n.cells[2].outputs.append(
        nbformat.v4.new_output("error", ename="ValueError", evalue="no", traceback=[])
    ),
    "clean_outputs: cell 3 wrote to stderr": lambda n: n.cells[2].outputs.append(
        stream("stderr", "UserWarning: careful")
    ),
    "checks_answer: the check count is silent": lambda n: code(n, "count(numbers)").outputs.clear(),
    "checks_answer: the solution does not pass the check count": lambda n: (
        code(n, "count(numbers)").outputs[0].update(text="not yet")
    ),
    "checks_answer: the stub passes the check mean": lambda n: n.metadata["workbook"].update(
        edition="learner"
    ),
    "links: the link 98_lost.ipynb": lambda n: edit(n.cells[0], "$", " [x](98_lost.ipynb)"),
    "links: the link #Lost": lambda n: edit(n.cells[0], "$", " [x](#Lost)"),
    "machine_paths: cell 3": lambda n: n.cells[2].outputs.append(
        stream("stdout", "/home/someone/x")
    ),
}


@pytest.mark.parametrize("expected", BAD)
def test_each_check_finds_its_fault(good, expected):
    bad = copy.deepcopy(good)
    BAD[expected](bad)
    found = hygiene.problems(bad, SAMPLE)
    assert any(problem.startswith(expected) for problem in found), found


def test_every_check_has_a_bad_example():
    assert {expected.split(":")[0] for expected in BAD} == set(hygiene.CHECKS)


def test_hidden_parts_headings_and_tables_are_no_prose():
    hidden = "<details><summary>Hint 1</summary>\n\n" + "word " * 200 + "\n\n</details>"
    assert hygiene.prose_lines(f"# Title\n\n| a | b |\n| - | - |\n\n{hidden}\n\nOne line.") == 1


def test_list_items_count_as_lines_of_their_own():
    assert hygiene.prose_lines("Three things:\n- one\n- two\n- three") == 4


def test_headings_become_anchors_as_in_jupyterlab():
    assert hygiene.anchors("## What we `saw` here") == {"What-we-saw-here"}
