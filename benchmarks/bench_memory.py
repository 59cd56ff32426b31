"""Peak memory of a training step: predicted by `workbook.planning`, and measured.

Each setting runs a few steps of `training.fit` in a process of its own, whose largest resident
memory is read from the system (Linux only), less what the libraries took before the model came.

    python benchmarks/bench_memory.py [--blocks 4]
"""

import argparse
import os
import re
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM, Gemma3TextConfig, PreTrainedConfig, set_seed

from workbook import encoding, memory, models, planning, training
from workbook.adaptation import additions, lora

STEPS = 2  # the second one has the optimizer's states from the beginning
# glibc then gives each freed tensor back to the system at once, as a GPU's allocator may not.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
TEXT = dict(batch_size=8, sequence_length=128, completion_length=2)
LARGE_VOCABULARY = Gemma3TextConfig(
    vocab_size=262_144, hidden_size=640, intermediate_size=2048, num_hidden_layers=18,
    num_attention_heads=4, num_key_value_heads=1, head_dim=256,
)  # fmt: skip


def cases() -> dict[str, tuple[PreTrainedConfig, planning.Setting]]:
    """Return the six settings by name, each with the model's config."""
    small = models.read_config()
    return {
        "fp32": (small, planning.Setting(**TEXT)),
        "bf16": (small, planning.Setting(**TEXT, precision="bf16")),
        "gradient checkpointing": (small, planning.Setting(**TEXT, gradient_checkpointing=True)),
        "accumulation": (small, planning.Setting(**TEXT, gradient_accumulation_steps=2)),
        "LoRA": (small, planning.Setting(**TEXT, method="lora")),
        "LoRA, vocabulary of 262,144": (LARGE_VOCABULARY, planning.Setting(**TEXT, method="lora")),
    }


def main() -> None:
    """Print a row for each setting: predicted and measured peak, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", type=int, help="fewer blocks than the models have")
    blocks = parser.parse_args().blocks
    table = Table("setting", "predicted GB", "measured GB", "predicted/measured", box=MARKDOWN)
    for name, (config, setting) in cases().items():
        config.num_hidden_layers = blocks or config.num_hidden_layers
        predicted, measured = planning.peak(config, setting).total, measure(config, setting)
        numbers = (predicted / 1e9, measured / 1e9, predicted / measured)
        table.add_row(name, *(f"{number:.2f}" for number in numbers))
    Console(width=100).print(table)


def measure(config: PreTrainedConfig, setting: planning.Setting) -> float:
    """Return the largest number of bytes that a few steps of `fit` took in a fresh process."""
    changed = ALLOCATOR | {"WORKBOOK_PRECISION": setting.precision}
    before = dict(os.environ)
    os.environ.update(changed)  # the new process inherits them
    try:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            return pool.submit(peak_of_fit, config, setting).result()
    finally:
        os.environ.clear()
        os.environ.update(before)


def peak_of_fit(config: PreTrainedConfig, setting: planning.Setting) -> float:
    """Return the bytes by which a random model and its tuning raise this process's peak."""
    rows = setting.batch_size * setting.gradient_accumulation_steps
    tune(config.__class__.from_dict(config.to_dict() | TINY), setting, rows)  # loads the kernels
    before = memory.resident_gb() * 1e9
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    tune(config, setting, rows)
    [peak] = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(peak) * 1024 - before
