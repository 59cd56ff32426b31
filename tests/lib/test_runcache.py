import ast
import copy
import fnmatch
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from workbook import cli, encoding, models, runcache, settings, training
from workbook.errors import WorkbookError
from workbook.forgetting import remedies
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
    def square(number):
        print("computed", number)
        return {"value": number**2}

    assert runcache.cached("square", square, number=3) == {"value": 9}
    assert runcache.cached("square", square, number=3) == {"value": 9}
    assert runcache.cached("square", square, number=4) == {"value": 16}
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" (")[0] for line in lines] == [
        "computed 3", "square: from the run cache", "computed 4",
    ]  # fmt: skip


def test_inputs_may_have_any_name():
    assert runcache.cached("sum", lambda name, function: {"sum": name + function},
                           name=1, function=2) == {"sum": 3}  # fmt: skip


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
        def half_written(state, path, **_):
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


# --- what makes another run


def weights(model):
    return [p.detach().clone() for p in model.parameters()]


def test_which_weights_learn_makes_another_run(tiny_model, examples, capsys):
    """Layer 1 came "from the run cache" of layer 0, which then moved in its place."""
    for layer in (0, 1):
        model = copy.deepcopy(tiny_model)
        training.select_trainable(model, rf"layers\.{layer}\.")
        runcache.fit("run", model, examples, lr=1e-2, progress=False)
        moved = {
            name
            for (name, new), old in zip(
                model.named_parameters(), tiny_model.parameters(), strict=True
            )
            if not torch.equal(new, old)
        }
        assert moved and all(f"layers.{layer}." in name for name in moved)
    assert "from the run cache" not in capsys.readouterr().out


def test_an_edit_of_one_row_makes_another_run(tiny_model, examples, capsys):
    """Of 200 rows of an embedding, 193 were not looked at."""
    keys = set()
    for row in range(0, 200, 20):
        model = copy.deepcopy(tiny_model)
        with torch.no_grad():
            model.get_input_embeddings().weight[row, 3] += 1
        keys.add(runcache.cache_key("run", {"model": model}))
    assert len(keys) == 10


def scaled(factor, shift=0):
    def function(number, shift=shift):
        return {"value": factor * number + shift}

    return function


def test_a_function_counts_with_its_closure_and_defaults():
    for factor, shift in ((1, 0), (2, 0), (2, 1)):
        found = runcache.cached("scaled", scaled(factor, shift), number=3)
        assert found == {"value": 3 * factor + shift}


def test_a_regularizer_counts_with_what_it_holds(tiny_model, examples, capsys):
    start = models.snapshot(tiny_model)
    for strength in (0.0, 100.0, 100.0):
        model, pull = copy.deepcopy(tiny_model), remedies.l2_sp(start, strength)
        runcache.fit("run", model, examples, lr=1e-2, regularizers=[pull], progress=False)
    assert capsys.readouterr().out.count("from the run cache") == 1


CONTEXT = {
    "precision": ("WORKBOOK_PRECISION", "bf16"),
    "scale": ("WORKBOOK_SCALE", "smoke"),
    "seed": ("WORKBOOK_SEED", "1"),
    "model": ("WORKBOOK_MODEL", "owner/model"),
}


@pytest.mark.parametrize("only_weights", [False, True])
@pytest.mark.parametrize("setting", CONTEXT)
def test_settings_make_another_run(setting, only_weights, monkeypatch):
    before = runcache.cache_key("run", {}, only_weights)
    monkeypatch.setenv(*CONTEXT[setting])
    assert runcache.cache_key("run", {}, only_weights) != before


@pytest.mark.parametrize("package", ["torch", "transformers", "peft", "tokenizers", "datasets"])
def test_another_version_makes_another_run(package, monkeypatch):
    assert any(line.startswith(f"{package} ") for line in runcache.versions())
    before = runcache.cache_key("run", {}, True)
    other = [line.replace(f"{package} ", f"{package} 1") for line in runcache.versions()]
    monkeypatch.setattr(runcache, "versions", lambda: other)
    assert runcache.cache_key("run", {}, True) != before


def test_an_own_model_that_changes_makes_another_run(tmp_path, monkeypatch):
    file = tmp_path / "own" / "model.safetensors"
    file.parent.mkdir()
    monkeypatch.setenv("WORKBOOK_MODEL", str(file.parent))
    keys = []
    for content in ("one", "other"):
        file.write_text(content)
        keys.append(runcache.cache_key("run", {}))
    assert keys[0] != keys[1]


@pytest.mark.parametrize(
    "file", ["facts.jsonl", "tasks.yaml", "templates/facts.yaml", "templates/new.yaml"]
)
def test_the_data_make_other_numbers_but_not_other_weights(file, tmp_path, monkeypatch):
    """The panel loads its rows itself: no input tells of them."""
    shutil.copytree(settings.repo_root() / "data", tmp_path / "data")
    monkeypatch.setattr(settings, "repo_root", lambda: tmp_path)
    before = [runcache.cache_key("run", {}, only_weights) for only_weights in (False, True)]
    with (tmp_path / "data" / file).open("a") as opened:
        opened.write("\n")
    after = [runcache.cache_key("run", {}, only_weights) for only_weights in (False, True)]
    assert after[0] != before[0] and after[1] == before[1]


# --- which code decides


def imported(name):
    """The library's files that one of its files imports."""
    folder, found = name.split("/")[:-1], set()
    for node in ast.walk(ast.parse(runcache.SOURCES[name])):
        if isinstance(node, ast.ImportFrom) and node.level:
            at = folder[: len(folder) - node.level + 1] + (node.module or "").split(".")
            for part in ("", *(alias.name for alias in node.names)):
                path = "/".join(filter(None, [*at, part]))
                found |= {f"{path}.py", f"{path}/__init__.py"} & runcache.SOURCES.keys()
    return found


def test_every_file_of_the_library_decides_unless_it_is_listed():
    """A pattern without a file would be a renamed module that decides over too much."""
    for pattern in (*runcache.NOT_DECIDING, *runcache.ONLY_MEASURING):
        assert fnmatch.filter(runcache.SOURCES, pattern), pattern
    deciding = set(runcache.deciding_files())
    assert {
        "training.py", "scoring.py", "grading.py", "forgetting/panel.py", "tasks/rows.py",
        "tasks/mixtures.py", "tasks/splits.py", "templates.py", "metric_scripts/rouge.py",
        "forgetting/progressive.py", "settings.py", "runcache.py",
    } <= deciding  # fmt: skip
    assert not {"cli.py", "plots.py", "checks/nb01.py", "authoring/build.py"} & deciding


def test_no_file_that_decides_rests_on_one_that_does_not():
    deciding = set(runcache.deciding_files())
    for name in deciding:
        assert imported(name) <= deciding, name
    over_weights = set(runcache.deciding_files(only_weights=True))
    for name in over_weights:
        assert imported(name) <= over_weights, name


def test_weights_do_not_depend_on_how_they_are_measured(monkeypatch):
    for name in runcache.deciding_files():
        before = [runcache.library_hash.__wrapped__(only) for only in (False, True)]
        with monkeypatch.context() as patch:
            patch.setitem(runcache.SOURCES, name, runcache.SOURCES[name] + "\nx = 1\n")
            after = [runcache.library_hash.__wrapped__(only) for only in (False, True)]
        assert after[0] != before[0], name
        is_measuring = any(fnmatch.fnmatch(name, p) for p in runcache.ONLY_MEASURING)
        assert (after[1] == before[1]) == is_measuring, name


def test_callbacks_that_decide_may_use_all_of_the_library(tiny_model, examples, monkeypatch):
    asked = []
    key = runcache.cache_key
    monkeypatch.setattr(runcache, "cache_key", lambda *a, **o: asked.append(o) or key(*a, **o))
    for way in ({}, {"metric": lambda model: {}}, {"regularizers": [lambda weights: 0.0]}):
        runcache.fit("run", copy.deepcopy(tiny_model), examples, progress=False, **way)
    assert [options["only_weights"] for options in asked] == [True, False, False]


# --- what comes back is what was computed


@pytest.mark.parametrize("format", [torch.float32, torch.bfloat16])
def test_a_run_from_the_cache_leaves_all_as_training_did(
    tiny_model, examples, format, precision, capsys
):
    """Weights bit for bit, number formats, mode, gradients, random numbers, history."""
    left = []
    for _ in range(2):
        model = copy.deepcopy(tiny_model).to(format)
        model.model.layers[0].requires_grad_(False)
        model(**encoding.collate(examples)).loss.backward()
        history = runcache.fit(
            "run", model, examples, lr=1e-2, seed=3, progress=False,
            metric=lambda model: {"score": np.float32(0.1), "each": np.arange(2)},
        )  # fmt: skip
        assert not model.training and not any(p.grad is not None for p in model.parameters())
        drawn = torch.rand(1).item(), np.random.rand(), random.random()
        left.append((history, drawn, weights(model)))
    assert capsys.readouterr().out.count("from the run cache") == 1
    assert left[0][:2] == left[1][:2]
    for one, other in zip(left[0][2], left[1][2], strict=True):
        assert one.dtype == other.dtype == torch.float32 and torch.equal(one, other)


def test_an_interrupted_run_does_not_enter_the_cache(tiny_model, examples, precision, empty_cache):
    """Gradients it left behind made another run under the key of a clean one."""

    def interrupt(history):
        raise KeyboardInterrupt

    fresh, start = copy.deepcopy(tiny_model), models.snapshot(tiny_model)
    options = dict(lr=1e-2, batch_size=1, progress=False)
    training.fit(fresh, examples, **options)
    with pytest.raises(KeyboardInterrupt):
        runcache.fit("run", tiny_model, examples, on_step=interrupt, **options)
    assert not list(empty_cache.glob("*"))
    models.restore(tiny_model, start)
    runcache.fit("run", tiny_model, examples, **options)
    assert all(map(torch.equal, weights(tiny_model), weights(fresh)))


def test_examples_may_come_one_by_one(tiny_model, examples):
    again = copy.deepcopy(tiny_model)
    runcache.fit("run", tiny_model, iter(examples), progress=False)
    runcache.fit("run", again, examples, progress=False)
    assert all(map(torch.equal, weights(tiny_model), weights(again)))


def test_weights_that_cannot_be_kept_are_refused_before_the_training(
    tiny_model, examples, monkeypatch
):
    monkeypatch.setattr(runcache.make_room, "__defaults__", (10,))
    monkeypatch.setattr(training, "fit", None)
    with pytest.raises(WorkbookError, match="limit"):
        runcache.fit("run", tiny_model, examples, progress=False)


# --- damage


def shorten(file):
    file.write_bytes(file.read_bytes()[:-20])


def empty(file):
    file.write_bytes(b"")


def flip(file):
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)


def reshape(file):
    save_file(
        {name: tensor.flatten()[:3].clone() for name, tensor in load_file(file).items()}, file
    )


def lose(file):
    tensors = load_file(file)
    tensors.popitem()
    save_file(tensors, file)


DAMAGE = [
    ("safetensors", shorten), ("safetensors", empty), ("safetensors", flip),
    ("safetensors", reshape), ("safetensors", lose), ("safetensors", os.remove),
    ("json", shorten), ("json", empty), ("json", os.remove),
    ("json", lambda file: file.write_text("[]")),
    ("json", lambda file: file.write_text('{"result": {"other": 1}, "seconds": 1, "date": ""}')),
]  # fmt: skip


@pytest.mark.parametrize("suffix, damage", DAMAGE)
def test_a_damaged_run_is_trained_anew(
    tiny_model, examples, empty_cache, suffix, damage, precision, capsys
):
    runs = [copy.deepcopy(tiny_model) for _ in range(3)]
    histories = [runcache.fit("run", runs[0], examples, lr=1e-2, progress=False)]
    damage(next(empty_cache.glob(f"run*.{suffix}")))
    assert [row["name"] for row in runcache.entries()] == ["run"]
    for model in runs[1:]:
        histories.append(runcache.fit("run", model, examples, lr=1e-2, progress=False))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "run: what the run cache kept of it is damaged, so it is computed anew"
    assert len(lines) == 2 and lines[1].startswith("run: from the run cache")
    assert [each.steps for each in histories] == 3 * [histories[0].steps]
    for model in runs[1:]:
        assert all(map(torch.equal, weights(model), weights(runs[0])))


@pytest.mark.parametrize("content", ["", "{", '{"result": {"value": 1}}', "[1]", "null", "\xff"])
def test_a_damaged_result_is_computed_anew(empty_cache, content, capsys):
    assert runcache.cached("answer", lambda: {"value": 42}) == {"value": 42}
    (file,) = empty_cache.glob("*.json")
    file.write_bytes(content.encode("latin-1"))
    (row,) = runcache.entries()
    assert row["name"] == "answer" and row["date"] == "damaged" and row["bytes"] == len(content)
    for _ in range(2):
        assert runcache.cached("answer", lambda: {"value": 42}) == {"value": 42}
    damaged, kept = capsys.readouterr().out.splitlines()
    assert "is damaged, so it is computed anew" in damaged and "from the run cache" in kept
    assert runcache.entries()[0]["date"] != "damaged"


# --- two processes at once


@pytest.mark.parametrize("is_cleared", [False, True])
def test_two_processes_may_train_the_same_run_at_once(
    tiny_model, examples, empty_cache, is_cleared, monkeypatch
):
    """While the first one trains, a second one begins and ends, or a third clears the cache."""
    fit, other, last = training.fit, copy.deepcopy(tiny_model), copy.deepcopy(tiny_model)

    def meanwhile(model, *args, **options):
        history = fit(model, *args, **options)
        if model is tiny_model:
            runcache.fit("run", other, examples, lr=1e-2, progress=False)
            if is_cleared:
                runcache.clear()
        return history

    monkeypatch.setattr(training, "fit", meanwhile)
    runcache.fit("run", tiny_model, examples, lr=1e-2, progress=False)
    with monkeypatch.context() as patch:
        patch.setattr(training, "fit", None)
        runcache.fit("run", last, examples, lr=1e-2, progress=False)
    assert all(map(torch.equal, weights(tiny_model), weights(other)))
    assert all(map(torch.equal, weights(tiny_model), weights(last)))
    assert len(list(empty_cache.iterdir())) == 2


def test_what_another_process_writes_is_left_to_it(empty_cache):
    runcache.runs_dir()
    for age, name in ((0, ".new.part.json"), (4000, ".old.part.json"), (0, "run-1.json")):
        (empty_cache / name).write_text("x")
        os.utime(empty_cache / name, (time.time() - age, time.time() - age))
    runcache.clear()
    assert [file.name for file in empty_cache.iterdir()] == [".new.part.json"]


def test_files_that_vanish_meanwhile_are_no_mistake(empty_cache, monkeypatch):
    runcache.cached("answer", lambda: {"value": 42})
    (file,) = empty_cache.glob("*.json")
    monkeypatch.setattr(runcache, "_files", lambda stem: [file, empty_cache / "gone.json"])
    assert runcache.entries()[0]["bytes"] == file.stat().st_size
    assert runcache.clear("answer") > 0


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("WORKBOOK_CACHE", str(tmp_path / "file"))
    with pytest.raises(WorkbookError, match="set WORKBOOK_CACHE"):
        runcache.cached("answer", lambda: {"value": 42})


# --- names, lists, clearing

NAMES = [
    "owner/model", "../up", "/", ".hidden", "C:\\model?*", "영화 평론", "a" * 300, "run-1",
    "Run", "run", "[bold]x", " ", "", "05 pull 0.6", "line\nbreak", "CON",
]  # fmt: skip


def test_any_name_is_kept_listed_and_cleared(tiny_model, examples, empty_cache):
    for name in NAMES:
        for value in (1, 2):
            runcache.cached(
                name, lambda name, value: {"of": name, "v": value}, name=name, value=value
            )
    runcache.fit("owner/model", copy.deepcopy(tiny_model), examples, progress=False)
    rows = runcache.entries()
    assert sorted(row["name"] for row in rows) == sorted([*NAMES, *NAMES, "owner/model"])
    assert not [path for path in empty_cache.iterdir() if path.is_dir()]
    assert {file.parent for file in empty_cache.parent.rglob("*.json")} == {empty_cache}
    for name in NAMES:
        held = sum(row["bytes"] for row in runcache.entries() if row["name"] == name)
        assert runcache.clear(name) == held > 0
        assert name not in {row["name"] for row in runcache.entries()}
    assert runcache.entries() == [] and not list(empty_cache.iterdir())


def test_clear_without_a_name_takes_all(tiny_model, examples):
    runcache.fit("run", tiny_model, examples, progress=False)
    runcache.cached("answer", lambda: {"value": 42})
    assert [row["name"] for row in runcache.entries()] == ["answer", "run"]
    held = sum(row["bytes"] for row in runcache.entries())
    assert runcache.clear() == held > 0
    assert runcache.entries() == []


def test_a_name_that_is_not_kept_cannot_be_cleared():
    runcache.cached("answer", lambda: {"value": 42})
    with pytest.raises(WorkbookError, match="no run 'answers'"):
        runcache.clear("answers")
    assert len(runcache.entries()) == 1


def test_the_command_lists_and_clears_names(empty_cache, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")  # a long name is folded, not cut
    names = ["an " + "x" * 80, "owner/[bold]model"]
    for name in names:
        runcache.cached(name, lambda: {"value": 42})
    (empty_cache / "broken-0123.json").write_text("{")
    runner = CliRunner()
    listed = runner.invoke(cli.app, ["cache"]).stdout
    cells = [line.split("│")[1].strip() for line in listed.splitlines() if line.startswith("│")]
    assert "".join(cells).replace(" ", "") == f"{names[0]}broken{names[1]}".replace(" ", "")
    assert "damaged" in listed
    assert runner.invoke(cli.app, ["cache", "clear", "owner/[bold]model"]).exit_code == 0
    assert [row["name"] for row in runcache.entries()] == [names[0], "broken"]
    assert "owner" not in runner.invoke(cli.app, ["cache", "list"]).stdout
    missing = runner.invoke(cli.app, ["cache", "clear", "owner/[bold]model"])
    assert isinstance(missing.exception, WorkbookError)
