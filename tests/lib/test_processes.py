"""Two processes learn what one does."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import tune_a_little
from accelerate import Accelerator
from accelerate.utils import DistributedType
from safetensors.torch import load_file

from workbook.errors import WorkbookError
from workbook.processes import Processes, launched

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
STEPS_AN_EPOCH = math.ceil(11 / (2 * 2))


def test_every_batch_is_taken_once():
    batches = [{"number": number} for number in range(5)]
    shares = [Processes(3, rank).share(batches) for rank in range(3)]
    assert sorted(b["number"] for share in shares for b in share) == list(range(5))
    assert Processes(8, 7).share(batches) == [] and Processes().share(batches) == batches


def test_one_process_agrees_with_itself():
    assert Processes().agree(3, torch.device("cpu"))


def test_the_launcher_says_which_process_this_is(monkeypatch):
    assert launched() == Processes(1, 0) and launched().is_main
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "3")
    assert launched() == Processes(4, 3) and not launched().is_main


@pytest.mark.slow
def test_two_processes_equal_one_also_when_killed(tmp_path, monkeypatch):
    """Where each process has checkpoints of its own, the killed run does not go on.

    Eleven rows make a last step in which the second process has no batch. Losses differ by
    less than 1 in 100,000, and weights by less than a hundredth of what a step moves them."""
    monkeypatch.setenv("WORKBOOK_PRECISION", "fp32")
    one = tune_a_little.model()
    expected = tune_a_little.tune(one, gradient_accumulation_steps=2)
    assert len(expected.steps) == 3 * STEPS_AN_EPOCH
    command = [*TORCHRUN, str(Path(tune_a_little.__file__)), str(tmp_path)]
    assert subprocess.run([*command, "5", ""], capture_output=True).returncode != 0
    apart = subprocess.run([*command, "0", "apart"], capture_output=True, text=True)
    assert apart.returncode != 0 and "name a folder that all machines share" in apart.stderr
    assert not (tmp_path / "result.json").exists()
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    history = json.loads((tmp_path / "result.json").read_text())
    for ours, row in zip(history["steps"], expected.steps, strict=True):
        assert ours == pytest.approx(row, rel=1e-5)
    assert history["tokens"] == expected.tokens
    for name, weight in load_file(tmp_path / "result.safetensors").items():
        torch.testing.assert_close(weight, one.get_parameter(name).detach(), rtol=0, atol=1e-4)


def test_a_launcher_that_shards_is_refused(accelerate, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setattr(Accelerator, "distributed_type", DistributedType.FSDP)
    with pytest.raises(WorkbookError, match="the launcher asks for FSDP: turn it off"):
        tune_a_little.tune(tune_a_little.model())


def test_accumulation_set_in_the_launcher_does_not_weaken_gradients(accelerate, monkeypatch):
    monkeypatch.setenv("WORKBOOK_PRECISION", "fp32")
    expected = tune_a_little.tune(tune_a_little.model())
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    history = tune_a_little.tune(tune_a_little.model())
    assert history.steps == expected.steps
