"""Time benchmarks beside lm-evaluation-harness: the same questions, model, shots and precision.

Both get the loaded model and score in float32 on the CPU; each run has a process of its own, and
the two take turns, round by round. Timed is what follows the loading: words to tokens, tokens to
log-likelihoods, these to scores. Needs the `bench` extra.

    python benchmarks/bench_scoring.py [--rounds 3] [--questions 60] [--data FOLDER] [--record]
"""

import argparse
import itertools
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from bench_tuning import circumstances_of, in_new_process, legible, ratios, spread
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from workbook import benchmarks, settings
from workbook.tasks import rows

RESULTS = Path(__file__).with_name("results_scoring.json")
PACKAGES = ("torch", "transformers", "lm-eval")
OURS, PEERS = "ours", {"harness, batch 1": 1, "harness, batch 16": 16}
CASES = {
    "ARC, 0-shot": ("arc_easy", 0),
    "ARC, 5-shot": ("arc_easy", 5),
    "MMLU, 5-shot": ("mmlu", 5),
}
SUBJECTS = 5  # of MMLU; its questions are shared out among them


def main() -> None:
    """Measure all cases in turns and print the table; record the results after each round."""
    options = parse_options()
    rounds = []
    with tempfile.TemporaryDirectory() as folder:
        files = write_files(options, Path(folder))
        for _ in range(options.rounds):
            rounds.append({case: run_case(case, files, folder) for case in CASES})
            report = circumstances(options, len(rounds)) | {"cases": summarize(rounds)}
            if options.record:
                RESULTS.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    show(report)


def parse_options() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--questions", type=int, default=60, help="so many of each benchmark")
    parser.add_argument(
        "--data", type=Path, help="a folder with arc_easy, mmlu and mmlu_dev.jsonl; else our sets"
    )
    parser.add_argument("--smoke", action="store_true", help="one round of a few questions")
    parser.add_argument("--record", action="store_true", help=f"write {RESULTS.name}")
    options = parser.parse_args()
    if options.smoke:
        options.rounds, options.questions = 1, 5
    return options


def write_files(options: argparse.Namespace, folder: Path) -> dict[str, dict[str, Path]]:
    """Return for each benchmark the files of its questions (test) and its shots (train)."""
    own = settings.repo_root() / "data" / "benchmarks"
    arc, mmlu = (
        [options.data / f"{name}.jsonl" for name in ("arc_easy", "mmlu")]
        if options.data
        else [own / f"{name}.jsonl" for name in ("science", "subjects")]
    )
    arc_rows = [row for _, row in rows.read_file(arc)]
    asked = rows_by_subject(mmlu, options.questions // SUBJECTS)
    shots = rows_by_subject(mmlu.with_name(f"{mmlu.stem}_dev.jsonl"), 5)
    parts = {
        "arc_easy": {"train": arc_rows[:5], "test": arc_rows[5:][: options.questions]},
        "mmlu": {
            "train": [row for subject in asked for row in shots[subject]],
            "test": list(itertools.chain.from_iterable(asked.values())),
        },
    }
    return {
        name: {split: written(folder / f"{name}_{split}.jsonl", part) for split, part in p.items()}
        for name, p in parts.items()
    }


def rows_by_subject(file: Path, number: int) -> dict[str, list[dict]]:
    """Return the first rows of each subject; of a file of questions only the first subjects."""
    found: dict[str, list[dict]] = {}
    for _, row in rows.read_file(file):
        found.setdefault(row["subject"], []).append(row)
    few = dict(itertools.islice(found.items(), SUBJECTS)) if "_dev" not in file.stem else found
    return {subject: part[:number] for subject, part in few.items()}


def written(file: Path, part: list[dict]) -> Path:
    """Write rows as JSON Lines and return their file."""
    file.write_text("".join(f"{json.dumps(row)}\n" for row in part), encoding="utf-8")
    return file


def run_case(case: str, files: dict, folder: str) -> dict[str, dict]:
    """Return what each side made of a case: seconds, log-likelihoods, scores."""
    name, shots = CASES[case]
    found = {OURS: in_new_process(measure_ours, name, files[name], shots)}
    for peer, batch_size in PEERS.items():
        found[peer] = in_new_process(measure_peer, name, files[name], shots, folder, batch_size)
    seconds = {side: round(one["seconds"], 1) for side, one in found.items()}
    print(f"{case}: {seconds}", file=sys.stderr, flush=True)
    return found


def measure_ours(name: str, files: dict[str, Path], shots: int) -> dict:
    """Score with `workbook.benchmarks`."""
    model, tokenizer = loaded_model()
    asked = benchmarks.load(name, path=files, shots=shots)
    start = time.perf_counter()
    found = benchmarks.log_likelihoods(model, tokenizer, asked)
    acc = benchmarks.Result(asked, found).values("acc")
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "log_likelihoods": found, "acc": acc.tolist()}


def measure_peer(
    name: str, files: dict[str, Path], shots: int, folder: str, batch_size: int
) -> dict:
    """Score with lm-evaluation-harness."""
    import harness

    model, tokenizer = loaded_model()
    make = harness.mmlu_tasks if name == "mmlu" else lambda *given: [harness.task(name, *given)]
    tasks = make(files, Path(folder), shots)
    start = time.perf_counter()
    results = harness.evaluate(model, tokenizer, tasks, batch_size)
    seconds = time.perf_counter() - start
    samples = [
        sample
        for task in tasks
        for sample in sorted(results["samples"][task.task_name], key=lambda one: one["doc_id"])
    ]
    values = [[float(value) for value, _ in sample["filtered_resps"]] for sample in samples]
    acc = [float(sample["acc"]) for sample in samples]
    return {"seconds": seconds, "log_likelihoods": values, "acc": acc}


def loaded_model():
    """Return the model in float32, and its tokenizer."""
    from workbook import models

    os.environ["WORKBOOK_PRECISION"] = "fp32"
    return models.load()


def summarize(rounds: list[dict]) -> dict:
    """Return for each case both sides' speed, ours as a multiple, and how far the scores differ."""
    return {case: summary([one[case] for one in rounds]) for case in rounds[0]}


def summary(rounds: list[dict]) -> dict:
    """Return the spreads of one case over the rounds, with ratios taken within each round."""
    count = len(rounds[0][OURS]["acc"])
    seconds = {side: [one[side]["seconds"] for one in rounds] for side in rounds[0]}
    return {
        side: {
            "questions_per_second": spread([count / value for value in values]),
            "ours_is_faster_by": spread(ratios(values, seconds[OURS])),
            "acc": sum(rounds[0][side]["acc"]) / count,
            "largest_difference": largest_difference(rounds[0][OURS], rounds[0][side]),
        }
        for side, values in seconds.items()
    }


def largest_difference(ours: dict, theirs: dict) -> float:
    """Return by how much (nats) the log-likelihoods of a choice differ at most."""
    rows = zip(ours["log_likelihoods"], theirs["log_likelihoods"], strict=True)
    return max(abs(a - b) for pair in rows for a, b in zip(*pair, strict=True))


def circumstances(options: argparse.Namespace, rounds: int) -> dict:
    """Return what the numbers depend on."""
    data = "the files of --data" if options.data else "our own sets in data/benchmarks"
    told = {"rounds": rounds, "questions": options.questions, "data": data}
    return circumstances_of(PACKAGES, told)


def show(report: dict) -> None:
    """Print the table as Markdown."""
    names = ("benchmark", "side", "questions/s", "ours is faster by", "acc", "differ by")
    table = Table(*names, box=MARKDOWN)
    for case, sides in report["cases"].items():
        for side, row in sides.items():
            table.add_row(*cells(case, side, row))
    Console(width=120).print(table)


def cells(case: str, side: str, row: dict) -> tuple[str, ...]:
    """Return one side's row of the table."""
    return (
        case,
        side,
        legible(row["questions_per_second"]),
        legible(row["ours_is_faster_by"], "×"),
        f"{row['acc']:.3f}",
        f"{row['largest_difference']:.0e}",
    )


if __name__ == "__main__":
    main()
