"""The page of benchmarks quotes the recorded results."""

import importlib.util
import json
import re
import types

import benchmark_rows
import pytest

from workbook import benchmarks, settings

pytest.importorskip("resource", reason="the benchmark needs a Unix system")
FOLDER = settings.repo_root() / "benchmarks"


def load(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def bench():
    return load("bench_tuning")


@pytest.fixture
def scoring(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    return load("bench_scoring")


def test_the_page_quotes_the_recorded_tuning_speed(bench):
    report = json.loads(bench.RESULTS.read_text("utf-8"))
    page = re.sub(r" +", " ", (FOLDER / "README.md").read_text("utf-8").replace("\n", " "))
    for name, row in report["variants"].items():
        assert f"| {' | '.join(bench.cells(name, row))} |" in page
    for name in report["matmul_gflops"]:
        assert bench.rate_sentence(report, name) in page


def test_ratios_are_taken_within_a_round(bench):
    rounds = [
        {bench.OURS: bench.Result(4.0 * load, 3.0, 0.2), "peer": bench.Result(2.0 * load, 3.0, 0.2)}
        for load in (1.0, 0.5, 0.25)
    ]
    told = bench.summary(rounds, "peer")
    assert told["ours_is_faster_by"] == {"median": 2.0, "min": 2.0, "max": 2.0}
    assert told["examples_per_second"] == {"median": 1.0, "min": 0.5, "max": 2.0}


def one_round(scoring, load):
    def side(seconds, shift):
        scores = [[-1.0, -2.0 + shift], [-3.0, -1.0]]
        return {"seconds": load * seconds, "log_likelihoods": scores, "acc": [1.0, 0.0]}

    return {scoring.OURS: side(2.0, 0.0)} | {
        peer: side(seconds, 0.25) for peer, seconds in zip(scoring.PEERS, (8.0, 4.0), strict=True)
    }


def test_scoring_speed_is_compared_within_a_round(scoring):
    rounds = [{"case": one_round(scoring, load)} for load in (1.0, 2.0, 4.0)]
    told = scoring.summarize(rounds)["case"]
    first, second = scoring.PEERS
    assert told[scoring.OURS]["questions_per_second"] == {"median": 0.5, "min": 0.25, "max": 1.0}
    assert told[first]["ours_is_faster_by"] == {"median": 4.0, "min": 4.0, "max": 4.0}
    assert told[second]["ours_is_faster_by"]["median"] == 2.0
    assert told[first]["largest_difference"] == 0.25 and told[first]["acc"] == 0.5


def test_both_sides_of_scoring_get_the_same_questions_and_shots(scoring, tmp_path):
    """No shot is asked, and each subject of MMLU has its questions and five shots."""
    subjects = ["anatomy", "virology", "nutrition"]
    made = {
        "arc_easy": map(benchmark_rows.arc, range(20)),
        "mmlu": [benchmark_rows.mmlu(i, s) for i in range(9) for s in subjects],
        "mmlu_dev": [benchmark_rows.mmlu(20 + i, s) for i in range(7) for s in subjects],
    }
    for name, rows in made.items():
        benchmark_rows.write(tmp_path / f"{name}.jsonl", rows)
    options = types.SimpleNamespace(data=tmp_path, questions=10)
    files = scoring.write_files(options, tmp_path)
    arc = benchmarks.load("arc_easy", path=files["arc_easy"], shots=5)
    assert [q.id for q in arc.questions] == [f"own-{i}" for i in range(5, 15)]
    mmlu = benchmarks.load("mmlu", path=files["mmlu"], shots=5)
    assert [q.group for q in mmlu.questions] == [s for s in subjects for _ in range(2)]


def test_the_page_quotes_the_recorded_scoring_speed(scoring):
    if not scoring.RESULTS.exists():
        pytest.skip("scoring has not been measured yet: bench_scoring.py --record")
    page = re.sub(r" +", " ", (FOLDER / "README.md").read_text("utf-8").replace("\n", " "))
    for case, sides in json.loads(scoring.RESULTS.read_text("utf-8"))["cases"].items():
        for side, row in sides.items():
            assert f"| {' | '.join(scoring.cells(case, side, row))} |" in page
