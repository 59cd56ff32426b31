"""Two processes that share out the weights (ZeRO-3, torch's `fully_shard`) learn as one does."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import shard_a_little
import torch
import tune_a_little
from transformers import LlamaForCausalLM

from workbook import models, planning, training

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sharded")
    script = str(Path(shard_a_little.__file__))
    done = subprocess.run([*TORCHRUN, script, str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder, json.loads((folder / "result.json").read_text())


@pytest.mark.slow
def test_losses_and_weights_are_those_of_one_process(sharded, monkeypatch):
    """Losses differ by less than 1 in 100,000, weights by less than a hundredth of a step. One
    process loads the gathered weights as those of any other model."""
    monkeypatch.setenv("WORKBOOK_PRECISION", "fp32")
    folder, result = sharded
    one, rows = tune_a_little.model(), tune_a_little.examples()
    history = training.fit(
        one, rows + rows[:1], max_steps=shard_a_little.STEPS, batch_size=2,
        gradient_accumulation_steps=2, lr=shard_a_little.LR, lr_scheduler_type="constant",
        warmup_ratio=0.0, progress=False,
    )  # fmt: skip
    losses = [row["loss"] for row in history.steps]
    assert sum(losses[3:]) < 0.95 * sum(losses[:3])  # the same rows again
    assert result["losses"] == pytest.approx(losses, rel=1e-5)
    loaded = LlamaForCausalLM.from_pretrained(folder)
    for name, weight in one.named_parameters():
        torch.testing.assert_close(loaded.get_parameter(name), weight, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_each_process_holds_its_share_as_planned(sharded):
    model = tune_a_little.model()
    total = models.count_parameters(model).total
    shares = sharded[1]["weights and means"]
    assert sum(weights for weights, _ in shares) == sum(means for _, means in shares) == total
    setting = planning.Setting(batch_size=2, sequence_length=16, devices=2, stage=3)
    shapes = planning.read_shapes(model.config, setting)
    update = planning.moments(shapes, setting)["update"]
    for weights, means in shares:
        assert 4 * weights == pytest.approx(update.weights, rel=0.05)
        assert 8 * means == pytest.approx(update.optimizer, rel=0.05)
