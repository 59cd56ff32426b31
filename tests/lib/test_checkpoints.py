"""A killed run that is called again ends at the same weights, bit for bit."""

import copy
import errno
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import tune_a_little
from safetensors.torch import load_file

from workbook import checkpoints, training
from workbook.errors import WorkbookError

OPTIONS = {
    "plain": {},
    "accumulation": {"gradient_accumulation_steps": 2},
    "max_steps": {"max_steps": 8, "lr_scheduler_type": "cosine"},
    "early stopping": {
        "epochs": 4,
        "batch_size": 4,
        "patience": 1,
        "validation": tune_a_little.examples()[:3],
    },
}
SCRIPT = Path(tune_a_little.__file__)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Without collecting garbage around each run, half a second each time."""
    monkeypatch.setattr(training, "release_memory", lambda: None)


@pytest.fixture
def model():
    return tune_a_little.model(tune_a_little.DROPOUT)


def die_at(step):
    def on_step(history):
        if len(history.steps) == step:
            raise KeyboardInterrupt

    return on_step


def same_bits(one, other):
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return all(torch.equal(a.view(torch.uint8), b.view(torch.uint8)) for a, b in pairs)


def without_seconds(history):
    return history.steps, history.epochs, history.tokens


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_run_killed_at_any_step_ends_at_the_same_weights(model, options, precision, tmp_path):
    whole = copy.deepcopy(model)
    expected = tune_a_little.tune(whole, **options)
    after = random.random(), np.random.rand(), torch.rand(1).item()
    for step in range(1, len(expected.steps) + 1):
        kept = dict(checkpoint=tmp_path / str(step), save_steps=2, **options)
        killed, resumed = copy.deepcopy(model), copy.deepcopy(model)
        with pytest.raises(KeyboardInterrupt):
            tune_a_little.tune(killed, on_step=die_at(step), **kept)
        seen = []
        history = tune_a_little.tune(
            resumed, on_step=lambda history, seen=seen: seen.append(len(history.steps)), **kept
        )
        assert seen[:1] == [step - step % 2 + 1] or step == len(expected.steps)
        assert same_bits(resumed, whole), step
        assert without_seconds(history) == without_seconds(expected)
        assert (random.random(), np.random.rand(), torch.rand(1).item()) == after


def test_checkpoints_change_nothing(model, precision, tmp_path):
    plain = copy.deepcopy(model)
    expected = tune_a_little.tune(plain)
    history = tune_a_little.tune(model, checkpoint=tmp_path / "run", save_steps=1)
    assert same_bits(model, plain) and without_seconds(history) == without_seconds(expected)


def test_a_run_killed_twice_goes_on_twice(model, tmp_path):
    whole = copy.deepcopy(model)
    tune_a_little.tune(whole)
    for step in (5, 11):
        with pytest.raises(KeyboardInterrupt):
            tune_a_little.tune(
                copy.deepcopy(model), checkpoint=tmp_path, save_steps=3, on_step=die_at(step)
            )
    tune_a_little.tune(model, checkpoint=tmp_path, save_steps=3)
    assert same_bits(model, whole)


def test_a_finished_run_comes_back_at_once(model, precision, tmp_path):
    again = copy.deepcopy(model)
    first = tune_a_little.tune(model, checkpoint=tmp_path)
    second = tune_a_little.tune(again, checkpoint=tmp_path, on_step=die_at(len(first.steps)))
    assert second == first and same_bits(again, model)


def test_an_interrupted_metric_is_measured_again(model, tmp_path):
    """The kill comes between the last step of an epoch and its row in the history."""
    whole, left = copy.deepcopy(model), iter([0.5])
    measure = {"metric": lambda model: {"drawn": torch.rand(2).numpy()}}
    expected = tune_a_little.tune(whole, **measure)
    with pytest.raises(StopIteration):
        broken = {"metric": lambda model: {"drawn": next(left) and torch.rand(2).numpy()}}
        tune_a_little.tune(copy.deepcopy(model), checkpoint=tmp_path, save_steps=6, **broken)
    history = tune_a_little.tune(model, checkpoint=tmp_path, save_steps=6, **measure)
    assert same_bits(model, whole)
    for row, other in zip(history.epochs, expected.epochs, strict=True):
        assert np.array_equal(row["drawn"], other["drawn"])


def test_the_last_two_are_kept(model, tmp_path):
    tune_a_little.tune(model, checkpoint=tmp_path, save_steps=4)
    kept = sorted(file.name for file in tmp_path.glob("*.safetensors"))
    assert kept == ["step.000016.safetensors", "step.000018.safetensors"]


def test_a_damaged_checkpoint_is_told_and_the_one_before_it_used(model, tmp_path, capsys):
    whole = copy.deepcopy(model)
    tune_a_little.tune(whole)
    with pytest.raises(KeyboardInterrupt):
        tune_a_little.tune(
            copy.deepcopy(model), checkpoint=tmp_path, save_steps=2, on_step=die_at(9)
        )
    last = tmp_path / "step.000008.safetensors"
    last.write_bytes(last.read_bytes()[:-100])
    seen = []
    tune_a_little.tune(
        model, checkpoint=tmp_path, save_steps=2,
        on_step=lambda history: seen.append(len(history.steps)),
    )  # fmt: skip
    assert "step.000008.safetensors is damaged" in capsys.readouterr().out
    assert seen[0] == 7 and same_bits(model, whole)


CHANGES = {
    "lr": {"lr": 1e-3},
    "seed": {"seed": 1},
    "validation": {"validation": tune_a_little.examples()[:1]},
    "loss": {"loss": lambda *given: 2 * training.completion_loss(*given)},
}


@pytest.mark.parametrize("name", CHANGES)
def test_the_checkpoint_of_another_run_is_refused(model, tmp_path, name):
    start = copy.deepcopy(model)
    tune_a_little.tune(copy.deepcopy(model), checkpoint=tmp_path)
    with pytest.raises(WorkbookError, match=f"with other {name}: pass another folder"):
        tune_a_little.tune(model, checkpoint=tmp_path, **CHANGES[name])
    assert same_bits(model, start)


def test_the_checkpoint_of_another_model_is_refused(model, tmp_path):
    tune_a_little.tune(copy.deepcopy(model), checkpoint=tmp_path)
    with pytest.raises(WorkbookError, match="with other model: pass another folder"):
        tune_a_little.tune(model.to(torch.bfloat16), checkpoint=tmp_path)


def test_a_full_disk_leaves_the_checkpoint_before(model, tmp_path, monkeypatch):
    whole = copy.deepcopy(model)
    tune_a_little.tune(whole)
    write = checkpoints.save_file

    def fail(tensors, path, metadata):
        write(tensors, path, metadata)
        if "000006" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints, "save_file", fail)
    with pytest.raises(WorkbookError, match="is full: free some space"):
        tune_a_little.tune(copy.deepcopy(model), checkpoint=tmp_path, save_steps=2)
    names = {file.name for file in tmp_path.iterdir()} - {".step.safetensors.lock"}
    assert names == {"step.000002.safetensors", "step.000004.safetensors"}
    monkeypatch.undo()
    tune_a_little.tune(model, checkpoint=tmp_path, save_steps=2)
    assert same_bits(model, whole)


def test_what_a_metric_returns_must_be_plain(model, tmp_path):
    with pytest.raises(WorkbookError, match="return plain numbers and text"):
        tune_a_little.tune(model, checkpoint=tmp_path, metric=lambda model: {"model": object()})


def test_saving_after_no_steps_is_refused(model, tmp_path):
    with pytest.raises(WorkbookError, match="^save_steps is 0: choose at least 1"):
        tune_a_little.tune(model, checkpoint=tmp_path, save_steps=0)


@pytest.mark.slow
def test_a_process_killed_while_it_writes_a_checkpoint_goes_on(tmp_path):
    """SIGKILL, which no code can answer: in the middle of a file, which nobody takes for whole."""
    whole = tune_a_little.model(tune_a_little.DROPOUT)
    tune_a_little.tune(whole)
    command = [sys.executable, str(SCRIPT), str(tmp_path)]
    killed = subprocess.run([*command, "8", "writing"], capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    left = sorted(file.name for file in (tmp_path / "checkpoints").glob("*.safetensors"))
    assert left[1:] == ["step.000004.safetensors", "step.000006.safetensors"] and "part" in left[0]
    done = subprocess.run(command, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert not list((tmp_path / "checkpoints").glob(".*.part*"))
    tuned = load_file(tmp_path / "result.safetensors")
    assert all(torch.equal(tuned[name], weight) for name, weight in whole.named_parameters())
