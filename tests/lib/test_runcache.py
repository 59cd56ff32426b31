import copy
import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest
import torch

from workbook import encoding, runcache, training
from workbook.errors import WorkbookError
from workbook.hashing import code_hash


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBOOK_CACHE", str(tmp_path))
    monkeypatch.setenv("WORKBOOK_PRECISION", "fp32")
    return tmp_path / "runs"


@pytest.fixture
def examples(tiny_tokenizer):
    pairs = [("a good film", "yes"), ("a bad film", "no")]
    return encoding.encode_pairs(tiny_tokenizer, pairs, prompt_style="plain")


def test_a_remembered_result_is_computed_once(capsys):
    calls = []

    def square(number):
        calls.append(number)
        return {"value": number**2}

    assert runcache.cached("square", square, number=3) == {"value": 9}
    assert runcache.cached("square", square, number=3) == {"value": 9}
    assert runcache.cached("square", square, number=4) == {"value": 16}
    assert calls == [3, 4]
    assert "from the run cache" in capsys.readouterr().out


def test_another_function_or_model_is_another_result(tiny_model):
    def total(model):
        return {"sum": sum(p.sum().item() for p in model.parameters())}

    def count(model):
        return {"sum": sum(1 for p in model.parameters())}

    first = runcache.cached("same name", total, model=tiny_model)
    assert runcache.cached("same name", count, model=tiny_model) != first
    with torch.no_grad():
        next(tiny_model.parameters()).add_(1.0)
    assert runcache.cached("same name", total, model=tiny_model) != first


def test_a_run_is_trained_once_and_its_weights_come_back(tiny_model, examples, monkeypatch):
    again = copy.deepcopy(tiny_model)
    options = {"epochs": 2, "lr": 1e-2, "progress": False}
    history = runcache.fit("run", tiny_model, examples, **options)
    monkeypatch.setattr(training, "fit", None)  # a second training would fail
    assert runcache.fit("run", again, examples, **options) == history
    for ours, theirs in zip(tiny_model.parameters(), again.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("change", [{"lr": 2e-2}, {"seed": 1}, {"epochs": 2}])
def test_other_settings_are_another_run(tiny_model, examples, change, empty_cache):
    again = copy.deepcopy(tiny_model)
    options = {"lr": 1e-2, "progress": False}
    runcache.fit("run", tiny_model, examples, **options)
    runcache.fit("run", again, examples, **options | change)
    assert len(list(empty_cache.glob("*.safetensors"))) == 2


def test_watching_a_run_does_not_make_it_another(tiny_model, examples, capsys):
    again = copy.deepcopy(tiny_model)
    runcache.fit("run", tiny_model, examples, progress=False)
    runcache.fit("run", again, examples, progress=True, on_step=print)
    assert "from the run cache" in capsys.readouterr().out


def test_code_hash_ignores_comments_and_docstrings_only():
    plain = "def f(x):\n    return x + 1\n"
    dressed = 'def f(x):\n    """Adds."""\n    # one\n    return x + 1\n'
    assert code_hash(plain) == code_hash(dressed)
    assert code_hash(plain) != code_hash(plain.replace("1", "2"))


def test_least_recently_used_weights_go_first(empty_cache):
    runcache.runs_dir()
    for age, name in enumerate(("new", "middle", "old")):
        for suffix in (".safetensors", ".json"):
            file = empty_cache / f"{name}{suffix}"
            file.write_bytes(b"x" * 100)
            os.utime(file, (1000 - age, 1000 - age))
    runcache.make_room(100, limit=250)
    assert {file.stem for file in empty_cache.iterdir()} == {"new"}


def test_weights_over_the_limit_are_refused():
    with pytest.raises(WorkbookError, match="limit"):
        runcache.make_room(11, limit=10)


def test_entries_and_clear(tiny_model, examples):
    runcache.fit("run", tiny_model, examples, progress=False)
    runcache.cached("answer", lambda: {"value": 42})
    names = [row["name"] for row in runcache.entries()]
    assert [name.rsplit("-", 1)[0] for name in names] == ["answer", "run"]
    held = sum(row["bytes"] for row in runcache.entries())
    assert runcache.clear() == held > 0
    assert runcache.entries() == []


def test_a_result_that_json_cannot_hold_leaves_nothing(empty_cache):
    with pytest.raises(WorkbookError, match="plain numbers"):
        runcache.cached("bad", lambda: {"value": object()})
    assert not list(empty_cache.glob("bad*"))


@pytest.mark.parametrize("moment", ["while training", "while writing"])
def test_a_killed_run_is_trained_again(empty_cache, tmp_path, moment):
    """SIGKILL arrives after the first step, or while the safetensors file is half-written."""
    code = textwrap.dedent(
        """
        import os, signal, sys
        import torch
        from workbook import runcache
        def half_written(state, path):
            open(path, "wb").write(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
        def kill(history):
            os.kill(os.getpid(), signal.SIGKILL)
        if sys.argv[1] == "while writing":
            runcache.save_file = half_written
        on_step = kill if sys.argv[1] == "while training" else None
        from transformers import LlamaConfig, LlamaForCausalLM
        torch.manual_seed(0)
        model = LlamaForCausalLM(LlamaConfig(vocab_size=16, hidden_size=8, intermediate_size=8,
            num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2))
        examples = [{"input_ids": [1, 2, 3], "labels": [-100, 2, 3]}]
        runcache.fit("run", model, examples, progress=False, on_step=on_step)
        """
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    killed = subprocess.run([sys.executable, script, moment])
    assert killed.returncode == -signal.SIGKILL
    assert not list(empty_cache.glob("[!.]*.safetensors"))
    for expected in (False, True):
        done = subprocess.run(
            [sys.executable, script, "go"], check=True, capture_output=True, text=True
        )
        assert ("from the run cache" in done.stdout) == expected


def test_damaged_numbers_do_not_count(tiny_model, examples, empty_cache):
    runcache.fit("run", tiny_model, examples, progress=False)
    (numbers,) = empty_cache.glob("run*.json")
    numbers.unlink()
    runcache.fit("run", tiny_model, examples, progress=False)
    assert json.loads(next(empty_cache.glob("run*.json")).read_text())["seconds"] > 0


def test_each_file_of_measuring_code_exists_and_counts():
    """A pattern without a file would leave a module out without a word."""
    for pattern in runcache.MEASURING_CODE:
        assert list(runcache.LIBRARY.glob(pattern)), pattern
    every = {path.name for p in runcache.MEASURING_CODE for path in runcache.LIBRARY.glob(p)}
    assert {"training.py", "scoring.py", "panel.py", "grading.py"} <= every
    assert runcache.library_hash("training.py") != runcache.library_hash("scoring.py")


def test_weights_do_not_depend_on_how_they_are_measured():
    assert not {"scoring.py", "metrics.py", "grading.py"} & set(runcache.TRAINING_CODE)
