"""Both editions of every notebook run top to bottom, and `workbook run` keeps what it should."""

import json

import hygiene
import nbformat
import pytest

from workbook import build, execution, recording
from workbook.errors import WorkbookError


@pytest.mark.real_model
@pytest.mark.slow
def test_notebook_runs(source, edition, monkeypatch):
    monkeypatch.setenv("WORKBOOK_SCALE", "smoke")
    notebook = build.make(source, edition)
    execution.execute(notebook, source.stem)
    assert list(hygiene.clean_outputs(notebook, source)) == []
    assert list(hygiene.checks_answer(notebook, source)) == []


@pytest.mark.slow
def test_run_keeps_the_solved_edition_and_its_measurements(course, capsys):
    [run] = execution.run(keep=True)
    assert run.error is None and run.peak_memory_gb > 0.01
    assert "99_sample" in capsys.readouterr().out
    path = build.output_path(course, "solved")
    kept = nbformat.read(path, as_version=4)
    assert hygiene.problems(kept, path) == []
    recorded = json.loads((build.folder() / "recorded" / "99_measured.json").read_text("utf-8"))
    assert recorded["values"] == {"mean": 2.0, "share": 1 / 3}
    assert recorded["source_sha256"] == build.source_hash(course)
    assert recorded["headline"] == "mean" and recorded["scale"] == "default"
    assert set(recorded["versions"]) == {"torch", "transformers"}
    assert "cores" in recorded["machine"]


@pytest.mark.parametrize(
    ("variable", "value"), [("WORKBOOK_SCALE", "smoke"), ("WORKBOOK_MODEL", "another")]
)
def test_other_scales_and_models_keep_nothing(course, monkeypatch, variable, value):
    course.write_text("# %%\n1 + 1\n", "utf-8")
    monkeypatch.setenv(variable, value)
    execution.run(keep=True)
    assert not (build.folder() / "solutions").exists()
    assert not (build.folder() / "recorded").exists()


def test_nothing_is_written_unless_asked(course):
    course.write_text("# %%\n1 + 1\n", "utf-8")
    execution.run()
    assert [path.name for path in build.folder().iterdir()] == ["source"]


def test_measurements_have_one_type():
    assert execution.MEASURED == recording.MEASURED


def test_the_record_of_passed_exercises_is_left_alone(course, monkeypatch):
    monkeypatch.setenv("WORKBOOK_PROGRESS", "own.json")
    course.write_text("# %%\nimport os\nprint(os.environ['WORKBOOK_PROGRESS'])\n", "utf-8")
    notebook = build.make(course, "solved")
    execution.execute(notebook, "99_sample")
    assert "own.json" not in notebook.cells[0].outputs[0].text


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        (None, "–"),
        ({"headline": "accuracy", "values": {"accuracy": 0.8123}}, "accuracy 0.812"),
        ({"headline": "accuracy", "values": {"accuracy": [0.8, 0.7, 0.9]}}, "accuracy 0.8"),
        ({"headline": "bias wins", "values": {"accuracy": 0.8}}, "bias wins"),
    ],
)
def test_headline(measured, expected):
    assert execution.headline(measured) == expected


def test_learner_edition_runs_and_keeps_nothing(course):
    course.write_text("# %%\n1 + 1\n", "utf-8")
    [run] = execution.run(edition="learner", keep=True)
    assert run.error is None
    assert not (build.folder() / "solutions").exists()


def test_an_error_names_the_cell_and_the_others_go_on(course, capsys):
    course.write_text("# %% [markdown]\n# # A\n\n# %%\nraise ValueError('too few rows')\n", "utf-8")
    course.with_name("98_fine.py").write_text("# %%\n1 + 1\n", "utf-8")
    fine, failed = execution.run(keep=True)
    assert fine.error is None
    assert failed.error == "99_sample, cell 2: ValueError: too few rows"
    assert failed.error in capsys.readouterr().out
    assert not build.output_path(course, "solved").exists()


def test_a_dead_kernel_is_told_in_a_sentence(course):
    course.write_text("# %%\nimport os\nos._exit(1)\n", "utf-8")
    with pytest.raises(WorkbookError, match="cell 1: the kernel died"):
        execution.execute(build.make(course, "solved"), "99_sample")


def test_time_of_a_warm_run_does_not_replace_that_of_a_cold_one(course):
    notebook = build.make(course, "solved")
    path = course.with_name("old.json")
    code = build.code_hash(notebook)
    path.write_text(json.dumps({"code_sha256": code, "minutes": 4.0, "peak_memory_gb": 2.0}))
    warm = execution.Run("99_sample", 0.2, 1.0, {"headline": "mean", "values": {}})
    assert execution._record(notebook, warm, path)["minutes"] == 4.0
    path.write_text(json.dumps({"code_sha256": "other", "minutes": 4.0, "peak_memory_gb": 2.0}))
    assert execution._record(notebook, warm, path)["minutes"] == 0.2


def test_folders_of_this_machine_are_written_short(course):
    root = build.folder().parent
    assert execution.scrub([{"text": f"kept in {root}/data"}]) == [
        {"text": "kept in <course>/data"}
    ]


def test_pictures_are_left_as_they_are(course):
    html = "<img src=\"data:image/png;base64,+/home/x\" alt='a'>"
    output = {"image/png": "+/home/xy", "text/html": html}
    assert execution.scrub(output) == output


def test_a_strange_folder_in_an_output_is_refused(course):
    with pytest.raises(WorkbookError, match="path of this machine"):
        execution.scrub([{"text": ["see /home/someone/file"]}])
