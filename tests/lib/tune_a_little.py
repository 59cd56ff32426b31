"""A small run in a process of its own: `python tune_a_little.py FOLDER [dies at step] [moment]`.

Leaves result.json and result.safetensors in the folder, and checkpoints in a folder of it. Dies by
SIGKILL after the step, or while it writes the checkpoint of that step ("writing"). At the moment
"apart" each process looks for checkpoints in a folder of its own, the first one in the usual place.
"""

import dataclasses
import json
import os
import signal
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from workbook import checkpoints, training

DROPOUT = 0.5  # of a single process: random numbers decide too; several draw numbers of their own


def model(dropout: float = 0.0) -> LlamaForCausalLM:
    """Return the same random Llama each time, with so much dropout in its attention."""
    torch.manual_seed(0)
    shape = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4)
    config = LlamaConfig(vocab_size=50, attention_dropout=dropout, **shape)
    return LlamaForCausalLM(config).eval()


def examples() -> list[dict]:
    """Return eleven rows of different lengths, whose completions differ in length too."""
    rows = []
    for length in range(6, 17):
        ids = [(3 * length + place) % 50 for place in range(length)]
        answer = 1 + length % 3
        rows.append({"input_ids": ids, "labels": [-100] * (length - answer) + ids[-answer:]})
    return rows


def tune(tuned, **options) -> training.History:
    """Tune for three epochs in batches of two."""
    common = dict(epochs=3, batch_size=2, lr=1e-2, weight_decay=0.1, progress=False)
    return training.fit(tuned, examples(), **common | options)


def die() -> None:
    """End at once, as by a power cut."""
    os.kill(os.getpid(), signal.SIGKILL)


def die_in_the_middle_of_writing(step: int) -> None:
    """Write half of the checkpoint of a step, then die."""

    def half(tensors, path, metadata):
        save_file(tensors, path, metadata)
        if len(json.loads(metadata["run"])["history"]["steps"]) == step:
            os.truncate(path, os.path.getsize(path) // 2)
            die()

    checkpoints.save_file = half


def main() -> None:
    """Run as the command line says."""
    folder = Path(sys.argv[1])
    step, moment = (int(sys.argv[2]), sys.argv[3]) if len(sys.argv) > 2 else (0, "")
    if moment == "writing":
        die_in_the_middle_of_writing(step)
    rank = os.environ.get("RANK", "0")
    own = f" of {rank}" if moment == "apart" and rank != "0" else ""
    tuned = model(0.0 if "RANK" in os.environ else DROPOUT)
    history = tune(
        tuned,
        checkpoint=folder / f"checkpoints{own}",
        save_steps=2,
        on_step=lambda history: die() if len(history.steps) == step and not moment else None,
    )
    if rank == "0":
        (folder / "result.json").write_text(json.dumps(dataclasses.asdict(history)))
        save_file(dict(tuned.named_parameters()), folder / "result.safetensors")


if __name__ == "__main__":
    main()
