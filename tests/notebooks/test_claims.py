"""The numbers in the prose are those that were measured."""

import json

import claims
import hygiene
import pytest
from hygiene import SAMPLE

from workbook import measurements, settings
from workbook.authoring import build

MEASURED = {"mean": 2.0, "share": 1 / 3, "curve": [0.5, 0.7]}


def read_recorded():
    folder = settings.notebooks_dir() / "recorded" / "sweeps"
    return {path.stem: json.loads(path.read_text("utf-8")) for path in folder.glob("*.json")}


def test_measurements_are_up_to_date(source):
    notebook = build.make(source, "solved")
    if hygiene.section(notebook, "What we measured") is None:
        pytest.skip("this notebook measures nothing")
    number = source.stem[:2]
    shown = measurements.shown(number)
    advice = f"stale: run `make run NB={number} WRITE=1`"
    assert shown.get("code_sha256") == build.code_hash(notebook), advice
    assert shown["scale"] == "default"


def test_claims_hold_in_every_format_and_with_every_seed(source):
    notebook, recorded = build.make(source, "solved"), read_recorded()
    runs = measurements.read(source.stem[:2])["runs"]
    found = {name: claims.problems(notebook, run["values"], recorded) for name, run in runs.items()}
    assert runs and not any(found.values()), found


def test_claims_of_the_sample_hold():
    assert claims.problems(build.make(SAMPLE, "solved"), MEASURED, {}) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("The mean is 2.0", "The mean is 2.1"), "2.1 is in the prose and in no claim"),
        (("30–34 %", "30–35 %"), "0.35 is in the prose and in no claim"),
        (("30–34 %", "a third"), "0.34 is in a claim and not in the prose"),
        (("<= 0.34", "<= 0.31"), "is false"),
        (("measured['share']", "measured['lost']"), "cannot be evaluated"),
        (("<= 0.34", "<="), "cannot be evaluated"),
    ],
)
def test_a_wrong_claim_is_found(course, change, expected):
    course.write_text(course.read_text("utf-8").replace(*change), "utf-8")
    found = claims.problems(build.make(course, "solved"), MEASURED, {})
    assert any(expected in problem for problem in found), found


@pytest.mark.parametrize(
    ("prose", "gain", "expected"),
    [
        ("LoRA gains.", [0.1, 0.02, 0.2], ["covers these runs alone"]),
        ("LoRA gains in these three runs.", [0.1, 0.02, 0.2], []),
        ("LoRA gains.", [0.1, 0.02, 0.2, 5], []),
    ],
)
def test_a_comparison_of_methods_rests_on_runs(course, prose, gain, expected):
    course.write_text(
        f"# %% [markdown] claims=[\"measured['gain']['LoRA'][1] > 0\"]\n# {prose}\n", "utf-8"
    )
    found = claims.problems(build.make(course, "solved"), {"gain": {"LoRA": gain}}, {})
    assert len(found) == len(expected) and all(e in f for e, f in zip(expected, found, strict=True))


@pytest.mark.parametrize(
    "claim",
    [
        "max(measured['curve']) - min(measured['curve']) > 0.1",
        "all(0.4 < value < 0.8 for value in measured['curve'])",
        "round(measured['share'], 2) == 0.33",
        "abs(measured['curve'][-1] - recorded['99_sweep']['last']) <= 0.01",
    ],
)
def test_arithmetic_is_evaluated(claim):
    assert claims.evaluate(claim, MEASURED, {"99_sweep": {"last": 0.7}})


@pytest.mark.parametrize(
    "claim", ["measured.clear()", "(lambda: 1)()", "measured['curve'].append(1)", "{}", "'a' 'b'.x"]
)
def test_anything_else_is_refused(claim):
    with pytest.raises(ValueError, match="not allowed"):
        claims.evaluate(claim, MEASURED, {})


@pytest.mark.parametrize("claim", ["open('x')", "__import__('os')"])
def test_other_functions_are_unknown(claim):
    with pytest.raises(NameError):
        claims.evaluate(claim, MEASURED, {})


def test_literals_leave_out_indices_and_digits():
    assert claims.literals("0.5 <= round(measured['c'][12], 3) and measured['n'] == 200") == {
        0.5,
        200,
    }


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("from 0.66 to 0.71", {0.66, 0.71}),
        ("between 66 and 71 %", {0.66, 0.71}),
        ("81 % and 1.78 %", {0.81, 0.0178}),
        ("a change of −0.05", {0.05}),
        ("`0.3`, $\\alpha = 0.4$, 12 items, arXiv 2101.00001, version 2.13.0", set()),
        ("about 1,000.5 tokens.", {1000.5}),
    ],
)
def test_numbers_that_need_a_claim(text, numbers):
    assert claims.shown(text)[0] == numbers
