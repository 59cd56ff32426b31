"""Measurements as JSON, and sweeps that resume, start afresh and can be rerun."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from bs4 import BeautifulSoup

from workbook import recording, settings, tasks
from workbook.errors import WorkbookError
from workbook.metrics import Interval, RunInterval

DATA = settings.repo_root() / "data"
SCRIPT = '''
"""How accuracy grows."""
import sys
import time
from workbook.recording import Sweep


def measure(n, seed, slope):
    """Pretend to train."""
    {body}
    return {{"accuracy": 0.5 + slope * n + seed / 100}}


SWEEP = Sweep(
    settings={{"slope": {slope}}},
    points=[{{"n": n, "seed": seed}} for n in {sizes} for seed in (0, 1)],
    measure=measure,
    source=__file__,
)

if __name__ == "__main__":
    SWEEP.run()
'''


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Write the script of a sweep and return the sweep."""
    monkeypatch.setattr(settings, "repo_root", lambda: tmp_path)
    monkeypatch.setattr(tasks, "_loaded", {})  # what other tests of this process have loaded
    folder = tmp_path / "notebooks" / "recorded" / "sweeps"
    folder.mkdir(parents=True)

    def make(body="pass", slope=0.001, sizes=(50, 100), name="03_curve"):
        text = SCRIPT.format(body=body, slope=slope, sizes=sizes)
        (folder / f"{name}.py").write_text(text)
        return recording.sweep(name)

    return make


@pytest.fixture
def shown(monkeypatch):
    """Call `measured` and return what it displays."""
    outputs = []
    monkeypatch.setattr(recording, "display", lambda data, raw: outputs.append(data))

    def shown(*args, **values):
        recording.measured(*args, **values)
        return outputs.pop()

    return shown


def test_measured_is_a_table_and_json(shown):
    values = {"zero_shot": Interval(0.81, 0.785, 0.84), "steps": np.int64(7)}
    values |= {"loss": np.float32(0.5), "accuracies": np.array([0.5, 0.25]), "by": {"a": 0.5}}
    data = shown("03", "zero_shot", **values)
    kept = json.loads(json.dumps(data[recording.MEASURED]))
    assert kept["notebook"] == "03" and kept["headline"] == "zero_shot"
    assert kept["values"]["zero_shot"] == [0.81, 0.785, 0.84]
    gain = shown("03", "gain", gain={"LoRA": RunInterval(0.1, 0.0, 0.2, 5)})
    assert gain[recording.MEASURED]["values"] == {"gain": {"LoRA": [0.1, 0.0, 0.2, 5]}}
    assert kept["values"] | {"zero_shot": 0} == {
        "zero_shot": 0, "steps": 7, "loss": 0.5, "accuracies": [0.5, 0.25], "by": {"a": 0.5}
    }  # fmt: skip
    assert data["text/plain"].splitlines() == [
        "zero shot: 0.810 [0.785, 0.840]",
        "steps: 7",
        "loss: 0.500",
        "accuracies: 0.500, 0.250",
        "by: a 0.500",
    ]
    assert "<td>zero shot</td><td>0.810 [0.785, 0.840]</td>" in data["text/html"]


def test_of_many_values_a_few_short_ones_stand_open_and_all_unfold(shown):
    many = {f"value_{n}": n for n in range(20)} | {"shares": list(range(100)), "gain_over_all": 0.5}
    soup = BeautifulSoup(shown("03", "gain_over_all", **many)["text/html"], "html.parser")
    folded = soup.details.extract()
    assert folded.summary.text == "All 22 values" and len(folded.select("tr")) == 23
    names = [row.td.text for row in soup.select("tr") if row.td]
    assert names == ["gain over all", *(f"value {n}" for n in range(7))]
    sentence = shown("03", "LoRA learns < 1 %", **many)["text/html"]
    assert sentence.startswith("<p>LoRA learns &lt; 1 %</p><table>")


def test_a_small_number_keeps_its_digits(shown):
    values = {"best_full_rate": 2e-5, "zero": 0.0, "change": Interval(-0.0001, -0.2, 0.0004)}
    assert shown("07", "best_full_rate", **values)["text/plain"].splitlines() == [
        "best full rate: 2e-05", "zero: 0.000", "change: -0.0001 [-0.200, 0.0004]"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "value", [float("nan"), np.array([1, np.nan]), Interval(1, 1, float("inf")), object(), {(): 1}]
)
def test_measured_refuses_what_is_no_result(shown, value):
    with pytest.raises(WorkbookError, match="^loss is .*only finite numbers"):
        shown("03", "loss", loss=value)


def test_sweep_keeps_rows_with_how_they_were_made(make, capsys):
    make().run()
    assert "03_curve, 3 left: {'n': 50, 'seed': 0} took 0.0 s" in capsys.readouterr().out
    recorded = recording.load("03_curve")
    assert recorded.settings == {"slope": 0.001}
    assert recorded.frame[["n", "seed"]].values.tolist() == [[50, 0], [50, 1], [100, 0], [100, 1]]
    assert recorded.frame["accuracy"].tolist() == pytest.approx([0.55, 0.56, 0.6, 0.61])
    assert (recorded.frame["seconds"] >= 0).all()
    assert recorded.header["name"] == "03_curve" and "cores" in recorded.header["machine"]
    assert set(recorded.header) == {
        "name", "machine", "precision", "versions", "made", "source_sha256", "data"
    }  # fmt: skip
    assert set(recorded.frame["machine"]) == {settings.machine()}
    assert recording.is_current("03_curve")


def test_a_second_run_measures_nothing_and_added_points_only_themselves(make, capsys):
    make().run()
    rows = recording.load("03_curve").rows
    assert capsys.readouterr().out.count("took") == 4
    make().run()
    grown = make(sizes=(50, 100, 200))
    assert not recording.is_current("03_curve")
    grown.run()
    assert capsys.readouterr().out.count("took") == 2
    assert recording.load("03_curve").rows[:4] == rows
    assert len(recording.load("03_curve").rows) == 6 and recording.is_current("03_curve")


LATER = """
def points(rows):
    tried = [{"n": n, "seed": 0} for n in SIZES]
    if len(rows) < len(tried):
        return tried
    best = max(rows[: len(tried)], key=lambda row: row["accuracy"])["n"]
    return tried + [{"n": best, "seed": 1}]


SWEEP = Sweep(settings=SWEEP.settings, points=points, measure=measure, source=__file__)
"""


def test_points_may_rest_on_what_earlier_ones_found(make, capsys):
    path = make(sizes=(50, 200, 100)).path.with_suffix(".py")
    head, run = path.read_text().split("\nif __name__")
    path.write_text(f"{head}\n{LATER.replace('SIZES', '(50, 200, 100)')}\nif __name__{run}")
    sweep = recording.sweep("03_curve")
    assert sweep.known_points([]) == [{"n": n, "seed": 0} for n in (50, 200, 100)]
    assert not sweep.is_current()
    sweep.run()
    assert recording.load("03_curve").rows[-1].items() >= {"n": 200, "seed": 1}.items()
    told = capsys.readouterr().out
    assert "03_curve, 1 left: {'n': 100, 'seed': 0}" in told
    assert "03_curve, 0 left: {'n': 200, 'seed': 1}" in told
    assert sweep.is_current()
    recorded, live = recording.rerun("03_curve", n=200, seed=1)
    assert recorded["accuracy"] == live["accuracy"]


@pytest.fixture
def data(tmp_path):
    """The course's data, where the sweeps of `make` look for it."""
    (tmp_path / "data").symlink_to(DATA)


def test_several_points_at_a_time_give_the_same_rows_in_the_same_order(make, data):
    """The first point is the slowest."""
    body = (
        "from workbook import tasks; tasks.load_task('facts')\n"
        "    time.sleep(2 if (n, seed) == (50, 0) else 0)"
    )
    one, both = make(body=body, name="03_one"), make(body=body, name="03_both")
    one.run()
    both.run(jobs=2)
    kept = [json.loads(sweep.path.read_text()) for sweep in (one, both)]
    rows = [[row | {"seconds": 0} for row in each["rows"]] for each in kept]
    assert rows[0] == rows[1] and len(rows[0]) == 4
    assert set(kept[0]["data"]) == set(kept[1]["data"]) == {"facts"}
    assert both.is_current()


def test_data_that_earlier_rows_used_stay_named_when_a_run_goes_on(make, data, monkeypatch):
    used = {"facts": tasks.fingerprint("facts")}
    monkeypatch.setattr(tasks, "_loaded", dict(used))
    make(sizes=(50,)).run()
    monkeypatch.setattr(tasks, "_loaded", {})
    longer = make(sizes=(50, 100))
    longer.run()
    assert json.loads(longer.path.read_text())["data"] == used


def test_comments_and_docstrings_may_change(make):
    path = make().path.with_suffix(".py")
    before = recording.source_hash(path)
    text = path.read_text().replace("Pretend to train.", "Train.").replace("pass", "pass  # idle")
    path.write_text(text)
    assert recording.source_hash(path) == before
    path.write_text(text.replace("0.5 +", "0.6 +"))
    assert recording.source_hash(path) != before


@pytest.mark.parametrize("change", [{"slope": 0.002}, {"body": "n = n + 1"}])
def test_other_code_or_settings_start_afresh(make, change, capsys):
    make().run()
    changed = make(**change)
    assert not recording.is_current("03_curve")
    assert "afresh" not in capsys.readouterr().out
    changed.run()
    assert "was made by other code, settings or data: starting afresh" in capsys.readouterr().out
    assert len(recording.load("03_curve").rows) == 4 and recording.is_current("03_curve")


def test_rows_carry_the_code_that_made_them_though_it_is_edited_meanwhile(make):
    sweep = make(body="open(__file__, 'a').write('later = 1\\n')", sizes=(50,))
    sweep.run()
    assert not recording.is_current("03_curve")


def test_stale_rows_stand_until_a_new_one_is_measured(make):
    make().run()
    rows = recording.load("03_curve").rows
    with pytest.raises(ZeroDivisionError):
        make(body="1 / 0").run()
    assert recording.load("03_curve").rows == rows


def test_killed_run_resumes(make):
    script = make(body="time.sleep(0.2); sys.stderr.write(f'{n} {seed};')").path.with_suffix(".py")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(script)]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    path = script.with_suffix(".json")
    wait_until(lambda: path.exists() and len(json.loads(path.read_text())["rows"]) >= 2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = json.loads(path.read_text())["rows"]
    assert 2 <= len(kept) < 4
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(path.read_text())["rows"][: len(kept)] == kept
    assert done.stderr.count(";") == 4 - len(kept)
    assert len(recording.load("03_curve").rows) == 4


def test_failed_write_leaves_the_old_file(make, monkeypatch):
    make().run()
    before = recording.load("03_curve").rows
    grown = make(sizes=(50, 100, 200))
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises((OSError, WorkbookError)):
        grown.run()
    monkeypatch.undo()
    assert json.loads(grown.path.read_text())["rows"] == before
    assert sorted(p.name for p in grown.path.parent.iterdir() if p.is_file()) == [
        "03_curve.json", "03_curve.py"
    ]  # fmt: skip


def test_missing_and_damaged_files_are_one_sentence(make):
    one = make()
    with pytest.raises(
        WorkbookError, match="make it with `python notebooks/recorded/sweeps/03_curve.py`"
    ):
        recording.load("03_curve")
    for text in ("{", "[]", '{"rows": []}'):
        one.path.write_text(text)
        with pytest.raises(WorkbookError, match="damaged: delete it and measure again"):
            recording.load("03_curve")
    with pytest.raises(WorkbookError, match="There is no sweep '04_none'"):
        recording.sweep("04_none")


def test_rerun_measures_one_recorded_point_live(make):
    make().run()
    recorded, live = recording.rerun("03_curve", n=100, seed=1)
    assert recorded["accuracy"] == live["accuracy"] == pytest.approx(0.61)
    assert recorded["n"] == live["n"] == 100
    for point in ({"n": 100}, {"n": 7, "seed": 0}):
        with pytest.raises(WorkbookError, match="is not one recorded point of 03_curve"):
            recording.rerun("03_curve", **point)


def test_results_are_checked(make):
    with pytest.raises(WorkbookError, match="accuracy is nan"):
        make(body="return {'accuracy': float('nan')}").run()
    with pytest.raises(WorkbookError, match="rename {'n'}"):
        make(body="return {'n': 1}").run()


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_module_that_moved_leaves_a_recording_current(make, tmp_path):
    make().run()
    script = tmp_path / "notebooks" / "recorded" / "sweeps" / "03_curve.py"
    script.write_text(script.read_text().replace("import time\n", "import time, json\n"))
    assert recording.is_current("03_curve")
    script.write_text(script.read_text().replace("seed / 100", "seed / 10"))
    assert not recording.is_current("03_curve")


def test_a_changed_data_file_makes_a_recording_stale(make, tmp_path):
    data = tmp_path / "data"
    (data / "templates").mkdir(parents=True)
    entry = {"title": "T", "file": "t.jsonl", "metric": "accuracy", "licence": "MIT"}
    entry |= {"fields": {"text": "string", "label": "label"}, "labels": ["a", "b"]}
    (data / "tasks.yaml").write_text(json.dumps({"authored": {"t": entry}, "hub": {}}))
    (data / "templates" / "t.yaml").write_text("templates: {}\n")
    rows = [{"text": f"word{i}", "label": "ab"[i % 2]} for i in range(20)]
    (data / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    make(body="from workbook import tasks; tasks.load_task('t')").run()
    assert recording.is_current("03_curve")
    with (data / "t.jsonl").open("a") as file:
        file.write(json.dumps({"text": "another", "label": "a"}) + "\n")
    assert not recording.is_current("03_curve")


def test_a_sweep_goes_on_in_the_format_that_it_began_with(make, monkeypatch):
    monkeypatch.setenv("WORKBOOK_PRECISION", "bf16")
    make(sizes=(50,)).run()
    monkeypatch.setenv("WORKBOOK_PRECISION", "fp32")
    make(sizes=(50, 100)).run()
    rows = recording.load("03_curve").frame
    assert len(rows) == 4 and rows["machine"].str.endswith("bf16").all()


def test_a_plan_parts_the_seeds_that_choose_from_those_that_are_tested():
    told = {"question": "Which rate?", "primary": "accuracy, high against low"}
    plan = recording.Plan(**told, selection_seeds=(0, 1), test_seeds=(10, 11))
    assert plan.margin is None
    with pytest.raises(WorkbookError, match=r"seeds \[1\] choose and are tested"):
        recording.Plan(**told, selection_seeds=(0, 1), test_seeds=(1, 2))


def test_the_plan_is_kept_with_the_results_and_another_plan_starts_afresh(make, tmp_path):
    script = tmp_path / "notebooks" / "recorded" / "sweeps" / "03_curve.py"
    sweep = make()
    plan = "plan=Plan(question='q', primary='p', test_seeds=(0, 1))"
    text = script.read_text().replace("import Sweep", "import Plan, Sweep")
    text = text.replace("source=__file__,", f"source=__file__, {plan},")
    script.write_text(text)
    sweep = recording.sweep("03_curve")
    sweep.run()
    assert recording.load("03_curve").header["plan"]["test_seeds"] == [0, 1]
    assert recording.is_current("03_curve")
    script.write_text(text.replace("'q'", "'another'"))
    assert not recording.is_current("03_curve")
