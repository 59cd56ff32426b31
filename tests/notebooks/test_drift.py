"""The committed notebooks are what their sources say."""

import nbformat
import pytest

from workbook import settings
from workbook.authoring import build


def read_solved(source):
    path = build.output_path(source, "solved")
    assert path.exists(), f"never executed: run `make run NB={source.stem[:2]} WRITE=1`"
    return nbformat.read(path, as_version=4)


def test_learner_edition_is_up_to_date(source):
    path = build.output_path(source, "learner")
    expected = build.dumps(build.make(source, "learner"))
    assert path.exists() and path.read_text(encoding="utf-8") == expected, "run `make build`"


def test_solved_edition_is_up_to_date(source):
    kept, made = read_solved(source), build.make(source, "solved")
    advice = f"stale: run `make run NB={source.stem[:2]} WRITE=1`"
    assert [cell.source for cell in kept.cells] == [cell.source for cell in made.cells], advice
    assert [cell.metadata for cell in kept.cells] == [cell.metadata for cell in made.cells], advice
    assert kept.metadata["workbook"] == made.metadata["workbook"], advice


def test_solved_edition_was_run_top_to_bottom(source):
    code = [c for c in read_solved(source).cells if c.cell_type == "code" and c.source.strip()]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))


@pytest.mark.parametrize("edition", build.EDITIONS)
def test_no_notebook_without_a_source(edition):
    made = {build.output_path(source, edition) for source in build.sources()}
    place = (
        settings.notebooks_dir() if edition == "learner" else settings.notebooks_dir() / "solutions"
    )
    assert set(place.glob("*.ipynb")) <= made
