"""lm-evaluation-harness on local files: the peer that `workbook.benchmarks` is measured against."""

import json
import logging
from collections import defaultdict
from pathlib import Path

import lm_eval
from lm_eval import evaluator
from lm_eval.api.task import ConfigurableTask
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks._yaml_loader import load_yaml

FOLDER = Path(lm_eval.__file__).parent / "tasks"
CONFIGS = {
    "arc_easy": "arc/arc_easy.yaml",
    "arc_challenge": "arc/arc_challenge.yaml",
    "hellaswag": "hellaswag/hellaswag.yaml",
    "truthfulqa_mc1": "truthfulqa/truthfulqa_mc1.yaml",
    "truthfulqa_mc2": "truthfulqa/truthfulqa_mc2.yaml",
}


def task(name: str, files: dict[str, Path], cache: Path, shots: int | None = None):
    """Return a task of the harness with its prompts and metrics, its rows from JSON Lines files.

    `files` are those of test and, for shots, train, whose first rows are taken as MMLU does it.
    """
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    config = load_yaml(FOLDER / CONFIGS[name]) if name in CONFIGS else of_subject(name)
    config |= {
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {
            "data_files": {split: str(file) for split, file in files.items()},
            "cache_dir": str(cache),
        },
        "training_split": None,
        "validation_split": None,
        "test_split": "test",
        "fewshot_split": "train" if shots else None,
        "fewshot_config": {"sampler": "first_n"} if shots else None,
    }
    if shots is not None:
        config["num_fewshot"] = shots
    return ConfigurableTask(config={k: v for k, v in config.items() if k not in ("tag", "include")})


def of_subject(name: str) -> dict:
    """Return the configuration of a subject of MMLU; for one of our own, another one reworded."""
    file = FOLDER / "mmlu" / "default" / f"{name}.yaml"
    if file.exists():
        return load_yaml(file)
    words = name.removeprefix("mmlu_").replace("_", " ")
    config = load_yaml(file.with_name("mmlu_anatomy.yaml"))
    return config | {"task": name, "description": config["description"].replace("anatomy", words)}


def mmlu_tasks(files: dict[str, Path], cache: Path, shots: int) -> list:
    """Return a task for each subject in the file of test questions, as the harness has them."""
    tasks = []
    parts = {split: by_subject(file) for split, file in files.items()}
    for subject in parts["test"]:
        own = {split: cache / f"{subject}_{split}.jsonl" for split in files}
        for split, file in own.items():
            file.write_text("".join(parts[split][subject]), encoding="utf-8")
        tasks.append(task(f"mmlu_{subject}", own, cache, shots))
    return tasks


def by_subject(file: Path) -> dict[str, list[str]]:
    """Return the lines of a file by their subject."""
    found = defaultdict(list)
    for line in file.read_text(encoding="utf-8").splitlines(keepends=True):
        found[json.loads(line)["subject"]].append(line)
    return found


def evaluate(model, tokenizer, tasks: list, batch_size: int = 16, limit: int | None = None) -> dict:
    """Return the harness's results of a loaded model: "results" and "samples" by task."""
    peer = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)
    named = {each.task_name: each for each in tasks}
    return evaluator.evaluate(peer, {"tasks": named}, limit=limit)
