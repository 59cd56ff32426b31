"""The recorded sweeps are current, and some of their points come out the same when run again."""

import json
import random
from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import pytest

from workbook import abilities, experiments, models, recording, settings
from workbook.forgetting import panel

SWEEPS = settings.notebooks_dir() / "recorded" / "sweeps"
NAMES = sorted(path.stem for path in SWEEPS.glob("[0-9][0-9]_*.py"))
MEASURED = [name for name in NAMES if (SWEEPS / f"{name}.json").exists()]
# Those of the first edition, which the pages still show. The others state a plan.
FIRST_EDITION = (
    "01_shots", "03_learning_curve", "04_forgetting", "04_sequence", "05_remedies",
    "06_multitask", "07_lora", "08_adapters_prompts",
)  # fmt: skip

# Sweeps that read what others chose or measured.
RESTS_ON = {"03_test": ("03_choice",), "07_methods": ("05_methods",)}
RESULTS = ("score", "score_calibrated", "snapshots")

# One point without and one with training for each kind of measurement. The 250 examples are the
# live run of notebook 03 at the default scale. Tolerances: accuracy, and the share of reviews
# whose predicted label may differ. Another precision or processor rounds otherwise, and training
# magnifies that.
POINTS = [
    ("03_learning_curve", {"task": "sentiment-3", "n": 0, "seed": 0}, 0.01, 0.03),
    ("03_learning_curve", {"task": "sentiment", "n": 250, "seed": 0}, 0.03, 0.10),
    ("01_shots", {"task": "sentiment", "template": "made_up", "shots": 2, "draw": 1}, 0.03, 0.05),
]


# Names in the library changed, and the data will: all of these are measured again.
STALE = {
    name: "made before names in the library and rows of the data changed; to be measured again"
    for name in FIRST_EDITION
}


def marked(name):
    reason = STALE.get(name)
    return pytest.param(name, marks=pytest.mark.xfail(reason=reason)) if reason else name


@pytest.mark.parametrize("name", [marked(name) for name in MEASURED])
def test_recording_was_made_by_its_script_and_is_complete(name):
    assert recording.is_current(name), f"stale: make measure NB={name[:2]}"


@pytest.mark.parametrize("name", [name for name in NAMES if name not in FIRST_EDITION])
def test_a_sweep_states_its_plan_and_tests_with_seeds_that_chose_nothing(name):
    plan = recording.sweep(name).plan
    assert plan and plan.question.endswith("?") and plan.primary
    assert len(plan.test_seeds) >= 5 and not set(plan.test_seeds) & set(plan.selection_seeds)


@pytest.fixture
def simulated(monkeypatch):
    """Return a function that goes through a sweep to its end with made-up results."""
    luck, ended = random.Random(0), {}
    monkeypatch.setattr(experiments, "learned_and_kept", lambda row: (luck.random(), luck.random()))
    monkeypatch.setattr(experiments, "marks", lambda *_: np.array([luck.random()]))
    grades = abilities.Grades(np.array([0.5]), np.array([0.5]))
    monkeypatch.setattr(experiments, "graded", lambda _: defaultdict(lambda: grades))
    monkeypatch.setattr(recording, "is_current", lambda name: name in ended)
    monkeypatch.setattr(recording, "load", lambda name: SimpleNamespace(rows=ended[name]))

    def measured(point):
        result = {"score": luck.random(), "score_calibrated": luck.random()}
        return {**point, **result, "snapshots": [{"steps": 63, "score": luck.random()}]}

    def simulate(name):
        for needed in RESTS_ON.get(name, ()):
            simulate(needed)
        sweep, rows = recording.sweep(name), []
        while left := sweep.known_points(rows)[len(rows) :]:
            rows += map(measured, left)
        ended[name] = rows
        return sweep.plan, rows

    return simulate


@pytest.mark.parametrize("name", [name for name in NAMES if name not in FIRST_EDITION])
def test_what_a_sweep_compares_on_the_test_has_five_seeds(name, simulated):
    plan, rows = simulated(name)
    seeds = {}
    for row in rows:
        if row.get("split") == "test" and row.get("method") != "untuned":
            assert row["seed"] in plan.test_seeds
        if "split" not in row or row["split"] == "test":
            seed = row.get("seed", row.get("repeat"))
            form = {k: v for k, v in row.items() if k not in ("seed", "repeat", *RESULTS)}
            seeds.setdefault(json.dumps(form), set()).add(seed)
    tested = [each for each in seeds.values() if each & set(plan.test_seeds)]
    assert bool(tested) != name.endswith("_choice")
    assert all(len(each & set(plan.test_seeds)) >= 5 for each in tested)
    assert len({json.dumps(row) for row in rows}) == len(rows)


@pytest.mark.real_model
@pytest.mark.parametrize("name, point, accuracy, share", POINTS)
def test_recorded_points_come_out_again(name, point, accuracy, share):
    recorded, live = recording.rerun(name, **point)
    assert live["accuracy"] == pytest.approx(recorded["accuracy"], abs=accuracy)
    pairs = zip(recorded["predictions"], live["predictions"], strict=True)
    differing = np.mean([before != after for before, after in pairs])
    assert differing <= share


@pytest.mark.xfail(reason="rows of the data changed; measured again in the next sweeps")
@pytest.mark.real_model
def test_the_untuned_panel_comes_out_again():
    """The first items of each ability; batches differ in size, so rounding may turn a rare one."""
    model, tokenizer = models.load()
    [untuned] = [row for row in recording.load("04_forgetting").rows if row["n"] == 0]
    for name, recorded in panel.unpack(untuned["panel"]).items():
        live = panel.ABILITIES[name].measure(model, tokenizer, "test", 8)
        tolerance = 0.02 if panel.ABILITIES[name].is_loss else 1e-3
        alike = np.isclose(live, recorded[:8], atol=tolerance)
        assert alike.sum() >= 7, (name, live, recorded[:8])


@pytest.mark.xfail(reason="rows of the data changed; measured again in the next sweeps")
@pytest.mark.real_model
@pytest.mark.parametrize(
    "name, point",
    [
        ("05_remedies", {"method": "L2-SP", "strength": 0.6}),
        ("07_lora", {"method": "LoRA", "rank": 8, "targets": "all linear", "lr": 1e-3}),
    ],
)
def test_a_tuned_model_comes_out_again(name, point):
    """As it was chosen on validation: 250 reviews and 100 other items."""
    recorded, live = recording.rerun(name, **point, seed=0, split="validation")
    before, after = (panel.unpack(row["panel"]) for row in (recorded, live))
    assert np.mean(after["sentiment"]) == pytest.approx(np.mean(before["sentiment"]), abs=0.04)
    assert panel.retained(after).mean() == pytest.approx(panel.retained(before).mean(), abs=0.07)


@pytest.mark.real_model
def test_a_soft_prompt_comes_out_again():
    point = {"start": "text", "length": 20, "lr": 3e-3, "seed": 0, "split": "validation"}
    recorded, live = recording.rerun("08_adapters_prompts", **point)
    before, after = (np.mean(panel.unpack(row["panel"])["sentiment"]) for row in (recorded, live))
    assert after == pytest.approx(before, abs=0.04)
    assert live["moved"] == pytest.approx(recorded["moved"], rel=0.1)
    assert live["same_word"] == recorded["same_word"]


@pytest.mark.xfail(reason="rows of the data changed; measured again in the next sweeps")
@pytest.mark.real_model
def test_a_model_of_one_kind_comes_out_again():
    """Forty topics in four passes, scored on 80 rows."""
    recorded, live = recording.rerun("06_multitask", plan="alone", train=["topic"], seed=0)
    before, after = (np.array(row["scores"]["topic"].split(), float) for row in (recorded, live))
    assert after.mean() == pytest.approx(before.mean(), abs=0.08)
