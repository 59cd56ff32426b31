import nbformat
import pytest

from workbook import settings
from workbook.authoring import build
from workbook.errors import WorkbookError

SOURCE = '''\
# %% [markdown] slide="slide" minutes=2.5 claims=["0.7 <= measured['accuracy'] <= 0.8"]
# # A notebook
#
# See [data](../data/README.md), [next](02_next.ipynb), [end](#End), [web](https://example.org).

# %% [markdown] slide="notes"
# Speak slowly.

# %% exercise="mean" tags=["long"]
def mean(values):
    """Return the mean."""
    # The sum comes first.
    # BEGIN SOLUTION
    total = sum(values)

    return total / len(values)
    # END SOLUTION


# %% check="mean"
print(mean([1, 2]))

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Add.
#
# </details>

# %%
print("later")
'''


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "repo_root", lambda: tmp_path)
    path = tmp_path / "notebooks" / "source" / "01_first.py"
    path.parent.mkdir(parents=True)
    path.write_text(SOURCE, encoding="utf-8")
    return path


def texts(notebook):
    return [cell.source for cell in notebook.cells]


def test_learner_gets_a_stub_that_runs_and_the_solution_below_the_hints(source):
    learner = build.make(source, "learner")
    stub = learner.cells[1].source
    assert stub.endswith("# The sum comes first.\n    ...  # your code here")
    assert compile(stub, "stub", "exec") and "total" not in stub
    assert learner.cells[3].source.startswith("<details><summary>Hint 1")
    assert learner.cells[4].source.startswith("<details><summary>Solution")
    assert "    return total / len(values)\n```" in learner.cells[4].source
    assert learner.cells[5].source == 'print("later")'


def test_solved_edition_keeps_the_code_without_the_marks(source):
    code = build.make(source, "solved").cells[2].source
    assert code.endswith("    total = sum(values)\n\n    return total / len(values)")
    assert not any(
        "SOLUTION" in text or "Solution" in text for text in texts(build.make(source, "solved"))
    )


def test_solution_comes_right_after_the_check_when_no_hint_follows(source):
    text = SOURCE.split("# %% [markdown]\n# <details>")[0]
    source.write_text(text, encoding="utf-8")
    assert "Solution" in build.make(source, "learner").cells[-1].source


def test_speaker_notes_are_for_those_who_speak(source):
    has_notes = {
        edition: any(map(build.is_note, build.make(source, edition).cells))
        for edition in build.EDITIONS
    }
    assert has_notes == {"learner": False, "solved": True}
    assert "Speak slowly" not in build.dumps(build.make(source, "learner"))
    assert "Speak slowly" in build.dumps(build.make(source, "learner", notes=True))


def test_metadata_is_translated(source):
    title, notes, exercise, check, hint, later = build.make(source, "solved").cells
    assert title.metadata == {
        "slideshow": {"slide_type": "slide"},
        "workbook": {"minutes": 2.5, "claims": ["0.7 <= measured['accuracy'] <= 0.8"]},
    }
    assert notes.source.startswith("<details><summary>Speaker notes</summary>\n\nSpeak slowly.")
    assert build.own(exercise) == {"exercise": "mean"} and exercise.metadata["tags"] == ["long"]
    assert build.own(check) == {"check": "mean"}
    slides = [cell.metadata["slideshow"]["slide_type"] for cell in (notes, exercise, hint, later)]
    assert slides == ["notes", "-", "skip", "-"]


def test_notebook_says_where_it_comes_from(source):
    metadata = build.make(source, "learner").metadata
    assert metadata["workbook"] == {
        "source": "01_first.py",
        "source_sha256": build.source_hash(source),
        "edition": "learner",
    }
    assert metadata["kernelspec"]["name"] == "python3"
    assert "jupytext" not in metadata


def test_solved_edition_mends_links_to_files(source):
    assert "(../data/README.md), [next](02" in texts(build.make(source, "learner"))[0]
    solved = texts(build.make(source, "solved"))[0]
    assert "(../../data/README.md), [next](02_next.ipynb), [end](#End), [web](https:" in solved


@pytest.mark.parametrize("edition", build.EDITIONS)
def test_result_is_valid_and_always_the_same(source, edition):
    first, second = build.make(source, edition), build.make(source, edition)
    nbformat.validate(first)
    assert build.dumps(first) == build.dumps(second)
    assert build.dumps(nbformat.reads(build.dumps(first), as_version=4)) == build.dumps(first)


def test_ids_are_unique_and_survive_changes_elsewhere(source):
    before = [cell.id for cell in build.make(source, "solved").cells]
    source.write_text("# %%\n1\n\n# %%\n1\n\n" + SOURCE, encoding="utf-8")
    after = [cell.id for cell in build.make(source, "solved").cells]
    assert len(set(after)) == len(after) and after[2:] == before


def test_hash_ignores_line_endings_and_blanks_but_not_words(source):
    before = build.source_hash(source)
    source.write_bytes(SOURCE.replace("\n", "  \r\n").encode() + b"\n\n")
    assert build.source_hash(source) == before
    source.write_text(SOURCE.replace("slowly", "fast"), encoding="utf-8")
    assert build.source_hash(source) != before


def test_code_hash_ignores_prose(source):
    before = build.code_hash(build.make(source, "solved"))
    source.write_text(SOURCE.replace("slowly", "fast"), encoding="utf-8")
    assert build.code_hash(build.make(source, "solved")) == before
    source.write_text(SOURCE.replace("later", "sooner"), encoding="utf-8")
    assert build.code_hash(build.make(source, "solved")) != before


def test_build_writes_the_learner_edition_only(source):
    [path] = build.build(["01"])
    assert path == settings.notebooks_dir() / "01_first.ipynb"
    assert path.read_text("utf-8") == build.dumps(build.make(source, "learner"))
    assert not (settings.notebooks_dir() / "solutions").exists()


def test_new_prose_goes_into_what_was_executed_and_new_code_does_not(source):
    path, executed = build.output_path(source, "solved"), build.make(source, "solved")
    for number, cell in enumerate((c for c in executed.cells if c.cell_type == "code"), 1):
        cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=f"{number}")]
        cell.execution_count = number
    path.parent.mkdir()
    build.write(executed, path)

    source.write_text(SOURCE.replace("slowly", "fast"), encoding="utf-8")
    build.build(["01"])
    renewed = nbformat.read(path, as_version=4)
    assert "Speak fast." in texts(renewed)[1]
    assert renewed.metadata["workbook"]["source_sha256"] == build.source_hash(source)
    outputs = [c.outputs for c in renewed.cells if c.cell_type == "code"]
    assert outputs == [c.outputs for c in executed.cells if c.cell_type == "code"]

    before = path.read_bytes()
    source.write_text(SOURCE.replace("later", "sooner"), encoding="utf-8")
    build.build(["01"])
    assert path.read_bytes() == before


def test_unknown_number_is_told(source):
    with pytest.raises(WorkbookError, match="no notebook '07': choose from 01"):
        build.sources(["07"])


@pytest.mark.parametrize("number", ["0", "00", "1x", "01_first", "", "*"])
def test_numbers_are_exact(source, number):
    with pytest.raises(WorkbookError, match="There is no notebook"):
        build.sources([number])


def test_one_digit_stands_for_two(source):
    source.with_name("10_last.py").write_text("# %%\n1\n")
    assert build.sources(["1"]) == build.sources(["01"]) == [source]
    assert build.sources(["10", "1", "01"]) == build.sources() == [source, *build.sources(["10"])]


def answered(path, change):
    """Change the built notebook at `path` as JupyterLab does: texts change, ids stay."""
    notebook = build.read(path)
    change(notebook)
    build.write(notebook, path)
    return path.read_bytes()


def write_answer(notebook):
    notebook.cells[1].source = "def mean(values):\n    return sum(values) / len(values)"


def add_cell(notebook):
    notebook.cells.append(nbformat.v4.new_markdown_cell("What I learned."))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (write_answer, "holds answers to mean:"),
        (add_cell, r"holds 1 cell\(s\) that somebody wrote"),
    ],
)
def test_build_leaves_what_somebody_wrote(source, change, message):
    source.with_name("00_before.py").write_text("# %%\n1\n")
    kept = answered(build.build(["01"])[0], change)
    source.write_text(SOURCE.replace("later", "sooner"), encoding="utf-8")
    with pytest.raises(WorkbookError, match=message):
        build.build()
    assert (settings.notebooks_dir() / "01_first.ipynb").read_bytes() == kept
    assert not (settings.notebooks_dir() / "00_before.ipynb").exists()
    [path] = build.build(["01"], overwrite=True)
    assert path.read_text("utf-8") == build.dumps(build.make(source, "learner"))


def run_it(notebook):
    notebook.cells[3].outputs = [nbformat.v4.new_output("stream", text="1.5")]
    notebook.cells.append(nbformat.v4.new_code_cell("  "))  # as the last Shift + Enter leaves it


def test_build_renews_what_was_only_run_or_has_another_source(source):
    answered(build.build()[0], run_it)
    source.write_text(SOURCE.replace("# The sum", "# First the sum"), encoding="utf-8")
    [path] = build.build()
    assert path.read_text("utf-8") == build.dumps(build.make(source, "learner"))


@pytest.mark.parametrize("text", ["", "<<<<<<< ours", "[]", '{"cells": 3}'])
def test_build_leaves_a_file_that_is_no_notebook(source, text):
    path = settings.notebooks_dir() / "01_first.ipynb"
    path.write_text(text)
    with pytest.raises(WorkbookError, match="^notebooks/01_first.ipynb cannot be read"):
        build.build()
    assert path.read_text() == text


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('slide="notes"', 'sldie="notes"', r"01_first.py, cell 2: mend \['sldie'\]"),
        ('slide="notes"', 'slide="page"', "cell 2: mend 'page'"),
        ('"0.7 <=', '0.7 <=', "cell 1: mend"),
        ('check="mean"', 'check="mean" code="no"', "cell 4: `code` is show or hide"),
        ("    # END SOLUTION\n", "", "cell 3: an exercise needs"),
        ('exercise="mean" ', "", "cell 3: an exercise needs"),
        ('check="mean"', "", "pair exercises"),
        ('check="mean"', 'check="median"', "pair exercises"),
    ],
)  # fmt: skip
def test_mistakes_in_a_source_are_told(source, old, new, message):
    assert old in SOURCE
    source.write_text(SOURCE.replace(old, new), encoding="utf-8")
    with pytest.raises(WorkbookError, match=message):
        build.make(source, "learner")
