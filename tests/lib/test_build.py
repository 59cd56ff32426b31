import nbformat
import pytest

from workbook import build, settings
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
    stub = learner.cells[2].source
    assert stub.endswith("# The sum comes first.\n    ...  # your code here")
    assert compile(stub, "stub", "exec") and "total" not in stub
    assert learner.cells[4].source.startswith("<details><summary>Hint 1")
    assert learner.cells[5].source.startswith("<details><summary>Solution")
    assert "    return total / len(values)\n```" in learner.cells[5].source
    assert learner.cells[6].source == 'print("later")'


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
    assert path == build.folder() / "01_first.ipynb"
    assert path.read_text("utf-8") == build.dumps(build.make(source, "learner"))
    assert [p.name for p in build.folder().iterdir() if p.suffix != ".lock"] == [
        "source",
        "01_first.ipynb",
    ] or not (build.folder() / "solutions").exists()


def test_unknown_number_is_told(source):
    with pytest.raises(WorkbookError, match="no notebook '07': choose from 01_first"):
        build.sources(["07"])


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
