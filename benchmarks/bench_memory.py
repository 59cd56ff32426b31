"""Peak memory of a training step: predicted by `workbook.planning`, and measured.

Each setting runs two steps of `training.fit` on random weights in a process of its own. Measured is
its largest resident memory, as Linux counts it, less what libraries took before the model came.

    python benchmarks/bench_memory.py [--blocks 4] [--record]
"""

import argparse
import contextlib
import copy
import dataclasses
import datetime
import json
import os
import re
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM, Gemma3TextConfig, PreTrainedConfig

from workbook import memory, models, planning, settings, training
from workbook.adaptation import additions, lora
from workbook.encoding import IGNORE_INDEX

RESULTS = Path(__file__).with_name("results_memory.json")
STEPS = 2  # the second one begins with the optimizer's states
# glibc then gives what is freed back at once; else it may keep some of it for later.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
BATCH = {"batch_size": 8, "sequence_length": 128, "completion_length": 2}
SETTINGS = {
    "fp32": {},
    "bf16": {"precision": "bf16"},
    "gradient checkpointing": {"gradient_checkpointing": True},
    "accumulation": {"gradient_accumulation_steps": 2},
    "LoRA": {"method": "lora"},
    "LoRA, large vocabulary": {"method": "lora"},
}


def main() -> None:
    """Print predicted and measured peak of each setting as Markdown; record them if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", type=int, help="fewer blocks than the models have, to be quick")
    parser.add_argument("--record", action="store_true", help=f"write {RESULTS.name}")
    options = parser.parse_args()
    rows = {name: compare(name, options.blocks) for name in SETTINGS}
    table = Table("setting", "predicted GB", "measured GB", "predicted / measured", box=MARKDOWN)
    for name, row in rows.items():
        table.add_row(name, *cells(row))
    Console(width=100).print(table)
    if options.record:
        report = {"batch": BATCH, "machine": settings.machine(), "rows": rows}
        report["made"] = datetime.date.today().isoformat()
        RESULTS.write_text(json.dumps(report, indent=1) + "\n")


def compare(name: str, blocks: int | None) -> dict[str, float]:
    """Return predicted and measured peak (bytes) of a setting."""
    config = large_vocabulary() if "vocabulary" in name else models.read_config()
    config.num_hidden_layers = blocks or config.num_hidden_layers
    setting = planning.Setting(**BATCH, **SETTINGS[name])
    predicted = planning.peak(config, setting).total
    return {"predicted": predicted, "measured": measure([(config, setting)])[0]}


def large_vocabulary() -> PreTrainedConfig:
    """Return the shape of Gemma 3 270M, most of whose weights are the embedding."""
    return Gemma3TextConfig(
        vocab_size=262_144, hidden_size=640, intermediate_size=2048, num_hidden_layers=18,
        num_attention_heads=4, num_key_value_heads=1, head_dim=256,
    )  # fmt: skip


def cells(row: dict[str, float]) -> tuple[str, ...]:
    """Return a setting's numbers as the table shows them."""
    numbers = row["predicted"] / 1e9, row["measured"] / 1e9, row["predicted"] / row["measured"]
    return tuple(f"{number:.2f}" for number in numbers)


def measure(cases: list[tuple[PreTrainedConfig, planning.Setting]]) -> list[float]:
    """Return the peak (bytes) of each case, all measured in one fresh process."""
    with variables(ALLOCATOR), ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return list(pool.map(peak_of_fit, *zip(*cases, strict=True)))


@contextlib.contextmanager
def variables(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables for a block, and for the processes that begin in it."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def peak_of_fit(config: PreTrainedConfig, setting: planning.Setting) -> float:
    """Return the bytes by which a model and its tuning raise this process's resident memory."""
    one_block = copy.deepcopy(config)
    one_block.num_hidden_layers = 1
    short = dataclasses.replace(setting, batch_size=1, sequence_length=8)
    with variables({"WORKBOOK_PRECISION": setting.precision}):
        tune(build(one_block, setting), short)  # what is loaded at first use is no part of a step
        before = memory.resident_gb() * 1e9
        model = build(config, setting)
        Path("/proc/self/clear_refs").write_text("5")  # the largest value is counted from here
        tune(model, setting)
    [largest] = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(largest) * 1024 - before


def build(config: PreTrainedConfig, setting: planning.Setting) -> torch.nn.Module:
    """Return a model with random weights, ready for the setting."""
    model = AutoModelForCausalLM.from_config(config)
    if setting.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    return model


def tune(model: torch.nn.Module, setting: planning.Setting) -> None:
    """Tune for a few steps on rows as the setting has them."""
    masked = setting.sequence_length - setting.positions
    labels = [IGNORE_INDEX] * masked + [1] * setting.positions
    row = {"input_ids": [1] * setting.sequence_length, "labels": labels}
    rows = STEPS * setting.gradient_accumulation_steps * setting.batch_size
    with contextlib.ExitStack() as stack:
        if setting.method == "lora":
            inside = planning.inside_blocks(model)
            addition = lora.LoRA(model, setting.rank, target_modules=inside)
            stack.enter_context(additions.attached(model, addition))
        training.fit(
            model, [row] * rows, batch_size=setting.batch_size,
            gradient_accumulation_steps=setting.gradient_accumulation_steps, progress=False,
        )  # fmt: skip


if __name__ == "__main__":
    main()
