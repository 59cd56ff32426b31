"""Both editions of every notebook run top to bottom, and `workbook run` keeps what it should."""

from dataclasses import replace

import hygiene
import nbformat
import pytest

from workbook import measurements, recording, settings
from workbook.authoring import build, execute
from workbook.errors import WorkbookError


@pytest.mark.real_model
@pytest.mark.slow
def test_notebook_runs(source, monkeypatch):
    """One edition after the other: the second finds in the run cache what the first trained."""
    monkeypatch.setenv("WORKBOOK_SCALE", "smoke")
    for edition in build.EDITIONS:
        notebook = build.make(source, edition)
        execute.execute(notebook, source.stem)
        assert (edition, list(hygiene.clean_outputs(notebook, source))) == (edition, [])
        assert (edition, list(hygiene.checks_answer(notebook, source))) == (edition, [])


@pytest.mark.slow
def test_run_keeps_the_solved_edition_and_its_measurements(course, capsys):
    [run] = execute.run(keep=True)
    assert run.error is None and run.peak_memory_gb > 0.01
    assert "99_sample" in capsys.readouterr().out
    path = build.output_path(course, "solved")
    kept = nbformat.read(path, as_version=4)
    assert hygiene.problems(kept, path) == []
    recorded = measurements.shown("99")
    assert recorded["values"] == {"mean": 2.0, "share": 1 / 3}
    assert recorded["code_sha256"] == build.code_hash(kept) and recorded["cost"] is None
    assert recorded["headline"] == "the mean is 2" and recorded["scale"] == "default"
    assert set(recorded["versions"]) == {"torch", "transformers"}
    assert "cores" in recorded["machine"]


@pytest.mark.parametrize(
    ("variable", "value"), [("WORKBOOK_SCALE", "smoke"), ("WORKBOOK_MODEL", "another")]
)
def test_other_scales_and_models_keep_nothing(course, monkeypatch, variable, value):
    course.write_text("# %%\n1 + 1\n", "utf-8")
    monkeypatch.setenv(variable, value)
    execute.run(keep=True)
    assert not (settings.notebooks_dir() / "solutions").exists()
    assert not (settings.notebooks_dir() / "recorded").exists()


def test_nothing_is_written_unless_asked(course):
    course.write_text("# %%\n1 + 1\n", "utf-8")
    execute.run()
    assert [path.name for path in settings.notebooks_dir().iterdir()] == ["source"]


def test_measurements_have_one_type():
    assert execute.MEASURED == recording.MEASURED


def test_the_record_of_passed_exercises_is_left_alone(course, monkeypatch):
    monkeypatch.setenv("WORKBOOK_PROGRESS", "own.json")
    course.write_text("# %%\nimport os\nprint(os.environ['WORKBOOK_PROGRESS'])\n", "utf-8")
    notebook = build.make(course, "solved")
    execute.execute(notebook, "99_sample")
    assert "own.json" not in notebook.cells[0].outputs[0].text


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        (None, "–"),
        ({"headline": "accuracy", "values": {"accuracy": 0.8123}}, "accuracy 0.812"),
        (
            {"headline": "accuracy", "values": {"accuracy": [0.8, 0.7, 0.9]}},
            "accuracy 0.80 [0.70, 0.90]",
        ),
        (
            {"headline": "gain", "values": {"gain": [0.1, 0.05, 0.15, 6]}},
            "gain 0.10 [0.05, 0.15] over 6 runs",
        ),
        ({"headline": "bias wins", "values": {"accuracy": 0.8}}, "bias wins"),
    ],
)
def test_headline(measured, expected):
    assert measurements.headline(measured) == expected


def test_learner_edition_runs_and_keeps_nothing(course):
    course.write_text("# %%\n1 + 1\n", "utf-8")
    [run] = execute.run(edition="learner", keep=True)
    assert run.error is None
    assert not (settings.notebooks_dir() / "solutions").exists()


def test_an_error_names_the_cell_and_the_others_go_on(course, capsys):
    course.write_text("# %% [markdown]\n# # A\n\n# %%\nraise ValueError('too few rows')\n", "utf-8")
    course.with_name("98_fine.py").write_text("# %%\n1 + 1\n", "utf-8")
    fine, failed = execute.run(keep=True)
    assert fine.error is None
    assert failed.error == "99_sample, cell 2: ValueError: too few rows"
    assert failed.error in capsys.readouterr().out
    assert not build.output_path(course, "solved").exists()


def test_a_dead_kernel_is_told_in_a_sentence(course):
    course.write_text("# %%\nimport os\nos._exit(1)\n", "utf-8")
    with pytest.raises(WorkbookError, match="cell 1: the kernel died"):
        execute.execute(build.make(course, "solved"), "99_sample")


def test_only_a_cold_run_tells_the_cost():
    run = execute.Run("99_sample", 4.04, 2.0, {"headline": "mean", "values": {}})
    first = execute._entry("code", run, "99", cold=False)
    assert first["cost"] is None


def test_a_warm_run_leaves_the_known_cost_and_the_code_it_is_of(course):
    slow = execute.Run("99_sample", 4.04, 2.0, {"headline": "mean", "values": {}})
    cold = execute._entry("old", slow, "99", cold=True)
    measurements.keep("99", cold, is_shown=True)
    warm = execute._entry("new", replace(slow, minutes=0.2), "99", cold=False)
    assert warm["code_sha256"] == "new"
    assert warm["cost"] == cold["cost"]
    assert (warm["cost"]["minutes"], warm["cost"]["code_sha256"]) == (4.0, "old")


@pytest.mark.parametrize(
    ("variable", "value", "name"),
    [("WORKBOOK_SEED", "2", "fp32, seed 2"), ("WORKBOOK_PRECISION", "bf16", "bf16, seed 0")],
)
def test_another_seed_or_format_is_measured_beside_the_shown_one(
    course, monkeypatch, variable, value, name
):
    monkeypatch.setattr(settings, "bf16_is_faster", lambda: False)
    measurements.keep("99", {"precision": "fp32", "seed": 0, "values": {}}, is_shown=True)
    monkeypatch.setenv(variable, value)
    [run] = execute.run(keep=True)
    assert run.error is None
    kept = measurements.read("99")
    assert kept["shown"] == "fp32, seed 0" and set(kept["runs"]) == {"fp32, seed 0", name}
    assert kept["runs"][name]["values"]["mean"] == 2.0
    assert not (settings.notebooks_dir() / "solutions").exists()


def test_a_cold_run_sets_what_was_trained_aside_and_brings_it_back(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBOOK_CACHE", str(tmp_path))
    runs = tmp_path / "runs"
    runs.mkdir()
    (runs / "old.json").write_text("1")
    (tmp_path / "runs-set-aside").mkdir()
    (tmp_path / "runs-set-aside" / "killed.json").write_text("0")
    with execute.empty_run_cache():
        assert not runs.exists()
        runs.mkdir()
        (runs / "new.json").write_text("2")
    assert {file.name for file in runs.iterdir()} == {"old.json", "new.json", "killed.json"}


def test_folders_of_this_machine_are_written_short(course):
    root = settings.notebooks_dir().parent
    assert execute.scrub([{"text": f"kept in {root}/data"}]) == [{"text": "kept in <course>/data"}]


def test_pictures_are_left_as_they_are(course):
    html = "<img src=\"data:image/png;base64,+/home/x\" alt='a'>"
    output = {"image/png": "+/home/xy", "text/html": html}
    assert execute.scrub(output) == output


def test_a_strange_folder_in_an_output_is_refused(course):
    with pytest.raises(WorkbookError, match="path of this machine"):
        execute.scrub([{"text": ["see /home/someone/file"]}])
