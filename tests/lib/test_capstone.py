"""From a file to a folder with a model, a card and a report, on tiny random models."""

import ast
import base64
import contextlib
import copy
import csv
import errno
import functools
import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import datasets
import ipywidgets
import numpy as np
import pytest
import torch
from huggingface_hub import metadata_load
from transformers import GPT2Config, GPT2LMHeadModel, LlamaForCausalLM
from typer.testing import CliRunner

from workbook import (
    capstone,
    cli,
    encoding,
    memory,
    metrics,
    models,
    planning,
    settings,
    training,
)
from workbook.adaptation import lora
from workbook.adaptation.additions import attached
from workbook.assets import base
from workbook.capstone import (
    candidates,
    project,
    reading,
    recipe,
    report,
    room,
    run,
    saving,
    using,
)  # fmt: skip
from workbook.errors import WorkbookError

WORDS = {
    "billing": "invoice paid charge refund card euros bank price".split(),
    "delivery": "parcel courier late street box door driver map".split(),
    "account": "password login email name settings reset code page".split(),
}
NAMES = "Ada Ben Cleo Dan Eve Finn Gus Hal Ida Jan Kim Lou Max Nia Oda Pia Ray Sue Tom Uma".split()


def messages(n=60, labels=WORDS):
    """Return n rows, each with words of its label and no two alike."""
    draw = random.Random(0)
    rows = []
    for i in range(n):
        label = list(labels)[i % len(labels)]
        words = draw.sample(labels[label], 4) + draw.sample(NAMES, 4)
        rows.append({"message": " ".join(words), "team": label})
    return rows


def write(path, rows, **options):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), **options)
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture
def tiny(tmp_path, tiny_model, tiny_tokenizer, monkeypatch, cache):
    """The folder of a tiny model, which is the one that commands load."""
    folder = tmp_path / "tiny"
    tiny_model.save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    monkeypatch.setenv("WORKBOOK_MODEL", str(folder))
    monkeypatch.setenv("WORKBOOK_SCALE", "smoke")
    return folder


@pytest.fixture
def labelled(tmp_path, tiny):
    """A file of sixty messages with three labels."""
    return write(tmp_path / "rows.csv", messages())


def tune(path, out, target="team", **options):
    return capstone.tune(path, "message", target, out, progress=False, **options)


def logits_in_a_new_process(folder, ids):
    """Return what plain transformers computes, where nothing of this library is imported."""
    code = (
        "import json, sys, torch\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        "model = AutoModelForCausalLM.from_pretrained(sys.argv[1])\n"
        "tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])\n"
        "messages = [{'role': 'user', 'content': sys.argv[2]}]\n"
        "ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True,\n"
        "                                    return_dict=False)\n"
        "with torch.inference_mode():\n"
        "    logits = model(torch.tensor([ids])).logits\n"
        "assert not any(name.startswith('workbook') for name in sys.modules)\n"
        "print(json.dumps({'ids': ids, 'logits': logits[0, -1].tolist(),\n"
        "                  'max': model.generation_config.max_new_tokens,\n"
        "                  'ends': model.generation_config.eos_token_id}))\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, str(folder), ids],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": ""},
    )  # fmt: skip
    return json.loads(told.stdout)


KILLED = """
import os, signal, sys
from workbook import capstone, training
fit, original, count = training.fit, training.Trainer.step, 0
def step(self, batches):
    global count
    count += 1
    if count == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(self, batches)
training.Trainer.step = step
training.fit = lambda *arguments, **options: fit(*arguments, **options | {"save_steps": 1})
capstone.tune(sys.argv[1], "message", "team", sys.argv[2], method="full", progress=False)
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_and_plain_transformers_gives_its_logits(
    labelled, tmp_path, monkeypatch
):
    out, steps, step = tmp_path / "out", [], training.Trainer.step
    command = [sys.executable, "-c", KILLED, str(labelled), str(out)]
    assert subprocess.run(command, capture_output=True).returncode == -signal.SIGKILL
    assert not out.exists() and (tmp_path / "out.unfinished" / "zero-shot.json").exists()
    assert list((tmp_path / "out.unfinished" / "checkpoints full").glob("step.000001.*"))
    monkeypatch.setattr(
        training.Trainer, "step", lambda self, batches: steps.append(1) or step(self, batches)
    )
    tune(labelled, out, method="full")
    history = json.loads((out / "results.json").read_text("utf-8"))["validation"]["full"]
    assert len(steps) == len(history["steps"]) - 1 > 0  # the first was not made again
    assert not (tmp_path / "out.unfinished").exists()
    check_equal_logits(out)
    tuned, _ = models.load(str(out))
    never_killed, tokenizer = models.load()
    found = project.prepare(
        reading.read(labelled), never_killed, tokenizer, "message", "team", examples=16
    )
    how = next(each for each in found.recipes if each.template == recipe.read(out).template)
    options = {"epochs": 1, "seed": 0, "checkpoint": tmp_path / "c", "progress": False}
    parts = candidates.encoded(found, how, never_killed, tokenizer)
    candidates.tune(never_killed, "full", *parts, **options)
    pairs = zip(tuned.parameters(), never_killed.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def check_equal_logits(out):
    """Check that plain transformers, in a new process, reads and computes what we do."""
    how = recipe.read(out)
    prompt, _ = how.pair({"text": "invoice late", "message": "invoice late", "label": 0})
    model, tokenizer = models.load(str(out))
    ids = encoding.prompt_ids(tokenizer, prompt)
    with torch.inference_mode():
        ours = model(torch.tensor([ids])).logits[0, -1]
    told = logits_in_a_new_process(out, prompt)
    assert told["ids"] == ids
    assert torch.equal(torch.tensor(told["logits"]), ours)
    assert told["max"] == how.max_new_tokens
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") in told["ends"]


@pytest.mark.slow
def test_auto_compares_everything_and_leaves_one_whole_folder(labelled, tmp_path):
    out = tune(labelled, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} >= {"out", "rows.csv"}
    assert not (tmp_path / "out.unfinished").exists()
    found = json.loads((out / "results.json").read_text("utf-8"))
    assert list(found["validation"]) == [
        "constant",
        "TF-IDF",
        "zero-shot",
        "few-shot",
        "LoRA",
        "full",
    ]
    scores = {name: score[0] for name, score in found["validation_scores"].items()}
    assert found["chosen"] == candidates.choose({n: scores[n] for n in candidates.BY_COST})
    assert scores["TF-IDF"] > 0.8 > 0.5 > scores["constant"]  # the words tell the label
    assert found["best_prompt"] == candidates.best_prompt(scores)
    opened = {"zero-shot", found["best_prompt"], found["chosen"]}
    assert set(found["test"]) == {"constant", "TF-IDF"} | opened
    truth = np.array(found["truth"]["test"])
    hits = int(np.sum(truth == found["test"][found["chosen"]]["answers"]))
    score = found["test_scores"][found["chosen"]]
    assert score == pytest.approx(list(metrics.wilson(hits, len(truth))))
    report = (out / "report.md").read_text("utf-8")
    told = report.replace("\u00a0", " ")
    assert str(metrics.Interval(*score)) in told and "rows.csv was read as UTF-8" in report
    page = (out / "report.html").read_text("utf-8")
    images = re.findall(r'<img src="data:image/png;base64,([^"]+)" alt="([^"]+)"', page)
    assert len(images) >= 2 and all(len(alt) > 40 for _, alt in images)
    assert all(base64.b64decode(data).startswith(b"\x89PNG") for data, _ in images)
    assert not re.findall(r'(?:src|href)="(?!data:)', page)  # opens from any disk
    card = (out / "README.md").read_text("utf-8")
    assert card.startswith("---\n") and "library_name: transformers" in card
    assert "look it up before you pass" in card  # the tiny model's licence is nowhere


@pytest.fixture
def told(labelled, tiny_model, tiny_tokenizer):
    """A function that returns a project of messages with long tests and its report, unmeasured."""

    def make(wordings="question", shots=0, **options):
        rows = [{**row, "mail": f"{row['message'][:4]}@x.org"} for row in messages()]
        for row in rows:
            row["message"] += " and so on and on, please help me" * 12
        write(labelled, rows)
        table = reading.read(labelled)
        tiny_model.config.max_position_embeddings = 4096
        found = project.prepare(
            table, tiny_model, tiny_tokenizer, "message", "team", template=wordings, **options
        )
        how, train = found.recipes[0], found.splits["train"]
        if shots:
            how = recipe.with_shots(how, tiny_model, tiny_tokenizer, train, shots, seed=0)
        answers = {"answers": [0] * len(found.splits["test"])}
        scores = {"LoRA": metrics.wilson(1, 3), "few-shot": metrics.wilson(1, 3)}
        results = {
            "chosen": "few-shot" if shots else "LoRA", "best_yardstick": "LoRA",
            "best_prompt": "few-shot", "test": dict.fromkeys(scores, answers),
            "test_scores": scores, "validation": {}, "validation_scores": {}, "panels": {},
        }  # fmt: skip
        return report.Report(found, how, results, run.Options(), "my model")

    return make


@pytest.mark.parametrize("shots", [0, 2])
def test_the_code_on_the_card_asks_what_was_asked_in_tuning(shots, told):
    pages = told(shots=shots)
    card = pages.card("a model", "a licence", has_terms=False)
    code = card.split("```python\n")[1].split("```")[0]
    [asked] = [
        node.value
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Constant) and "Which label fits" in str(node.value)
    ]
    assert asked in {pages.recipe.pair(row)[0] for row in pages.tests} and len(asked) > 300
    assert asked in card.split("## How to ask it")[1].split("```text\n")[1]


@pytest.mark.parametrize(
    ("name", "base", "licence"),
    [
        (models.DEFAULT_MODEL, "HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0"),
        ("me/tiny", "me/tiny", "mit"),
        ("me/another", "me/another", None),
        ("folder", None, "mit"),
    ],
)
def test_the_card_names_the_base_model_and_its_licence(
    name, base, licence, told, tmp_path, tiny_model, monkeypatch
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    home = tmp_path / "hub" / "models--me--tiny"
    folder = tmp_path / "folder"
    for place in (home / "snapshots" / "abc", home / "refs", folder):
        place.mkdir(parents=True)
    (home / "refs" / "main").write_text("abc")
    for place in (home / "snapshots" / "abc", folder):
        (place / "README.md").write_text("---\nlicense: mit\n---\n")
    out = tmp_path / "card"
    out.mkdir()
    saving.write_card(out, told(), tiny_model, str(folder) if name == "folder" else name)
    kept = metadata_load(out / "README.md")
    assert kept.get("base_model") == base and kept.get("license") == licence
    text = (out / "README.md").read_text("utf-8")
    assert ("not known here: look it up" in text) == (licence is None)


def test_the_commands_in_the_report_work_with_a_name_of_two_words(told):
    predict, chat = told()._use().split("```")[1].strip().split("\n")
    assert shlex.split(chat) == ["workbook", "chat", "my model"]
    assert shlex.split(predict)[2:4] == ["my model", "rows.csv"]


@pytest.mark.parametrize("shots", [0, 2])
def test_the_card_says_which_rows_are_in_the_folder(shots, told, tmp_path):
    pages = told(shots=shots)
    pages.results |= {"validation": {"constant": {"seconds": 1, "answers": []}}}
    pages.results["validation_scores"] = {"constant": metrics.wilson(1, 3)}
    pages.write(tmp_path)
    recipe.write(pages.recipe, tmp_path)
    card = pages.card("a model", "a licence", has_terms=False)
    (tmp_path / "README.md").write_text(card, encoding="utf-8")

    def held(file, split):
        text = (tmp_path / file).read_text("utf-8")
        return sum(row["text"][:50] in text for row in pages.project.splits[split])

    rows = " ".join(card.split("## Your rows in this folder")[1].split("##")[0].split())
    for file in ("report.md", "report.html"):
        assert f"Texts of {held(file, 'test')} test rows" in rows
        assert held(file, "train") == shots
    assert held("README.md", "test") == 1 and held("README.md", "train") == shots
    assert held("workbook.json", "train") == shots and held("results.json", "train") == 0
    assert held("results.json", "test") == 0 and held("workbook.json", "test") == 0
    assert ("Texts of training rows are in no file" in rows) == (not shots)
    assert (f"Texts of {shots} training rows are in `workbook.json`" in rows) == bool(shots)


def test_solved_examples_keep_the_columns_that_the_prompt_shows_alone(told):
    kept = [set(row) for row in told(shots=2).recipe.shots]
    assert kept == [{"text", "label"}] * 2
    words = "{{mail}} writes: {{text}} Which team?"
    assert [set(row) for row in told(words, shots=2).recipe.shots] == [
        {"text", "label", "mail"}
    ] * 2


def mark_as_made_from_the_base_model(folder):
    """Make a folder look like one whose weights fall under the base model's terms."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {base.MARK: base.MODIFIED}))
    for name in (base.TERMS_FILE, base.NOTICE_FILE):
        (folder / name).write_text("terms")


@pytest.mark.slow
def test_texts_are_written_and_judged_by_shared_words(tmp_path, tiny):
    mark_as_made_from_the_base_model(tiny)
    rows = [{**row, "reply": f"We write to {row['message'].split()[-1]}."} for row in messages()]
    out = tune(write(tmp_path / "rows.csv", rows), tmp_path / "out", target="reply", method="lora")
    found = json.loads((out / "results.json").read_text("utf-8"))
    assert found["metric"] == "rouge" and found["chosen"] == "LoRA"
    opened = dict.fromkeys(["zero-shot", found["best_prompt"], "LoRA"])
    assert list(found["test"]) == ["constant", "copy", "nearest", *opened]
    assert ("The best prompt (" in (out / "README.md").read_text("utf-8")) and found["seed"] == 0
    assert found["test_scores"]["constant"][0] > 0.5  # "We write to" is in every reply
    report = (out / "report.md").read_text("utf-8")
    assert "so they are texts to write" in report and "Token F1" in report
    assert (out / base.TERMS_FILE).read_text() == (out / base.NOTICE_FILE).read_text() == "terms"
    assert base.MARK in (out / "config.json").read_text()
    assert base.TERMS_FILE in (out / "README.md").read_text("utf-8")
    told = capstone.predict(out, tmp_path / "rows.csv", tmp_path / "p.csv", progress=False)
    assert "60 rows answered." in told


SYSTEM = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are helpful<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}\n"
)


def test_the_saved_template_writes_what_was_tuned(tiny_tokenizer):
    tiny_tokenizer.chat_template = SYSTEM
    tuned = encoding.format_prompt(tiny_tokenizer, "Is it good?")
    own = encoding.own_template(tiny_tokenizer)
    tiny_tokenizer.chat_template = own
    turns = [("user", "Is it good?"), ("assistant", "yes"), ("user", "And that?")]
    messages = [{"role": role, "content": content} for role, content in turns]

    def written(some):
        return tiny_tokenizer.apply_chat_template(some, tokenize=False, add_generation_prompt=True)

    assert written(messages[:1]) == tuned == encoding.format_prompt(tiny_tokenizer, "Is it good?")
    assert written(messages).startswith(tuned) and "system" not in written(messages)
    system = [{"role": "system", "content": "Be brief"}, *messages]
    assert written(system).startswith("<|im_start|>system\nBe brief")
    assert encoding.own_template(tiny_tokenizer) == own


# ------------------------------------------------------------------------------------ choosing


@pytest.mark.parametrize(
    ("scores", "chosen"),
    [
        ({"zero-shot": 0.5, "few-shot": 0.6, "LoRA": 0.9, "full": 0.91}, "LoRA"),
        ({"zero-shot": 0.5, "few-shot": 0.6, "LoRA": 0.9, "full": 0.93}, "full"),
        ({"zero-shot": 0.9, "few-shot": 0.9, "LoRA": 0.9}, "zero-shot"),
        ({"zero-shot": 0.70, "few-shot": 0.72, "LoRA": 0.72}, "zero-shot"),  # on the margin
        ({"zero-shot": 0.0, "few-shot": 0.0}, "zero-shot"),
    ],
)
def test_the_cheapest_within_the_margin_is_chosen(scores, chosen):
    assert candidates.choose(scores) == chosen


def test_tuning_learns_and_is_there_again_at_once(labelled, tmp_path):
    (model, tokenizer), (again, _) = models.load(), models.load()
    found = project.prepare(reading.read(labelled), model, tokenizer, "message", "team")
    how, rows = found.recipes[0], list(found.splits["train"])
    options = {"epochs": 2, "seed": 0, "checkpoint": tmp_path / "c", "progress": False}
    parts = candidates.encoded(found, how, model, tokenizer)
    history, trained = candidates.tune(model, "full", *parts, **options)
    assert history.steps[-1]["loss"] < history.steps[0]["loss"]
    assert trained == models.count_parameters(model).total
    back, _ = candidates.tune(again, "full", *parts, **options)
    assert back.steps == history.steps and back.seconds == history.seconds  # none was made anew
    answers = [how.answers(each, tokenizer, rows).probabilities for each in (model, again)]
    assert answers[0] == answers[1]


def recipe_and_its_parts(path, model, tokenizer):
    """Return the first recipe of a file, and the rows to learn and to validate in its words."""
    found = project.prepare(reading.read(path), model, tokenizer, "message", "team")
    return found.recipes[0], candidates.encoded(found, found.recipes[0], model, tokenizer)


def free_for(model, method, examples, wanted):
    """Return free memory in which so many rows of a step fit at once."""
    shapes = functools.cache(lambda setting: read_shapes(model.config, setting))
    read_shapes, low, high = planning.read_shapes, 0.0, 1e9

    def rows(free):
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(memory, "free_bytes", lambda device: free)
                patch.setattr(planning, "read_shapes", lambda config, setting: shapes(setting))
                return room.rows_at_once(model, method, examples)
        except WorkbookError:
            return 0

    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if rows(middle) >= wanted else (middle, high)
    assert rows(high) == wanted
    return high


@pytest.mark.slow
@pytest.mark.parametrize("method", ["full", "LoRA"])
def test_where_memory_is_short_a_step_learns_from_as_many_rows_in_parts(
    method, labelled, tmp_path, monkeypatch
):
    wide, seconds, told = {}, [], []
    forward = LlamaForCausalLM.forward

    def watched(self, input_ids, **options):
        if self.training and type(input_ids) is torch.Tensor:  # the plan's have no data
            wide[len(seconds)] = max(wide.get(len(seconds), 0), len(input_ids))
        return forward(self, input_ids=input_ids, **options)

    monkeypatch.setattr(LlamaForCausalLM, "forward", watched)
    for rows in (8, 3):
        model, tokenizer = models.load()
        _, parts = recipe_and_its_parts(labelled, model, tokenizer)
        examples = sum(parts, [])
        free = free_for(model, method, examples, rows)
        monkeypatch.setattr(memory, "free_bytes", lambda device, free=free: free)
        history, _ = candidates.tune(
            model, method, *parts, epochs=2, seed=0, progress=False,
            checkpoint=tmp_path / f"c{rows}", rows=room.rows_at_once(model, method, examples),
        )  # fmt: skip
        seconds.append(history.seconds)
        told.append((history, {name: p.detach() for name, p in model.named_parameters()}))
    (whole, weights), (parts, others) = told
    assert wide == {0: 8, 1: 3}
    assert [row["loss"] for row in parts.steps] == pytest.approx(
        [row["loss"] for row in whole.steps], rel=1e-4
    )
    assert all(torch.allclose(weights[name], others[name], atol=1e-4) for name in weights)


def test_a_run_goes_on_with_more_memory_than_before(labelled, tmp_path):
    options = {"epochs": 1, "seed": 0, "checkpoint": tmp_path / "c", "progress": False}
    for rows in (2, 8):
        model, tokenizer = models.load()
        _, parts = recipe_and_its_parts(labelled, model, tokenizer)
        history, _ = candidates.tune(model, "full", *parts, rows=rows, **options)
    assert len(history.steps) == 5 and history.seconds > 0  # it was not refused


def test_short_texts_and_more_memory_give_more_rows_at_once(
    labelled, tiny_model, tiny_tokenizer, monkeypatch
):
    _, parts = recipe_and_its_parts(labelled, tiny_model, tiny_tokenizer)
    examples = sum(parts, [])
    long = [{name: ids[:20] + ids for name, ids in each.items()} for each in examples]
    free = free_for(tiny_model, "full", examples, 5)
    monkeypatch.setattr(memory, "free_bytes", lambda device: free)
    assert 1 <= room.rows_at_once(tiny_model, "full", long) < 5
    monkeypatch.setattr(memory, "free_bytes", lambda device: 2 * free)
    assert room.rows_at_once(tiny_model, "full", examples) == 8


@pytest.mark.slow
def test_what_does_not_fit_into_the_memory_is_left_out_or_refused(labelled, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1_000)
    with pytest.raises(
        WorkbookError, match=r"Tuning \(full\) does not fit into the memory.*--method lora"
    ):
        tune(labelled, tmp_path / "out", method="full")
    begun = tmp_path / "out.unfinished" / "checkpoints full"
    begun.mkdir(parents=True)
    with pytest.raises(WorkbookError, match="close other programs"):
        tune(labelled, tmp_path / "out")
    begun.rmdir()
    out = tune(labelled, tmp_path / "out")
    found = json.loads((out / "results.json").read_text("utf-8"))
    assert list(found["validation"]) == ["constant", "TF-IDF", "zero-shot", "few-shot"]
    assert "full is left out: Tuning (full) does not fit" in (out / "report.md").read_text("utf-8")


def test_a_model_without_places_for_a_lora_is_compared_without_it():
    shape = dict(n_embd=16, n_layer=1, n_head=2)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=50, **shape))
    assert candidates.wanted("auto", model) == ("zero-shot", "few-shot", "full")
    assert candidates.wanted("full", model) == ("zero-shot", "few-shot", "full")
    with pytest.raises(WorkbookError, match="No linear layer|only torch.nn.Linear"):
        candidates.wanted("lora", model)


def test_merged_lora_answers_as_before(labelled, tiny_model, tiny_tokenizer, tmp_path, monkeypatch):
    _, parts = recipe_and_its_parts(labelled, tiny_model, tiny_tokenizer)
    merge, ids, answers = lora.merge, torch.tensor([parts[0][0]["input_ids"]]), []

    def answered(model):
        with torch.inference_mode():
            answers.append(model(ids).logits)

    def merged(model, addition):
        with attached(model, addition):
            answered(model)
        return merge(model, addition)

    answered(tiny_model)
    monkeypatch.setattr(lora, "merge", merged)
    _, trained = candidates.tune(
        tiny_model, "LoRA", *parts,
        epochs=1, seed=0, checkpoint=tmp_path / "c", progress=False,
    )  # fmt: skip
    answered(tiny_model)
    untuned, before, after = answers
    assert torch.allclose(before, after, atol=1e-4)
    assert not torch.allclose(untuned, after, atol=1e-2)
    assert not hasattr(tiny_model, "lora")
    assert 0 < trained < models.count_parameters(tiny_model).total


def test_examples_in_a_prompt_stay_short_and_are_solved(labelled, tiny_model, tiny_tokenizer):
    found = project.prepare(reading.read(labelled), tiny_model, tiny_tokenizer, "message", "team")
    tried = candidates.few_shot(found, tiny_model, tiny_tokenizer, seed=0)
    train = {row["text"] for row in found.splits["train"]}
    for name, how in tried.items():
        assert how.calibrated == name.endswith("calibrated")
        assert 0 < len(how.shots) <= 6 and {row["text"] for row in how.shots} <= train
        prompt, _ = how.pair(found.splits["test"][0])
        assert len(encoding.token_ids(tiny_tokenizer, prompt)) < 512
        for row in how.shots:
            assert f"{row['text']}" in prompt and how.labels[row["label"]] in prompt


@pytest.mark.parametrize("seed", range(3))
def test_of_rows_too_long_for_a_prompt_the_shortest_is_an_example(
    seed, labelled, tiny_model, tiny_tokenizer
):
    how, _ = recipe_and_its_parts(labelled, tiny_model, tiny_tokenizer)
    rows = [{"text": f"{i} and so on" * 30, "label": i % 3} for i in range(20)]
    short = {"text": "parcel late", "label": 1}
    train = datasets.Dataset.from_list([*rows, short])
    assert recipe.with_shots(how, tiny_model, tiny_tokenizer, train, 4, seed).shots == (short,)


# ---------------------------------------------------------------------- kills, disks and folders


@pytest.mark.slow
def test_an_interrupt_at_any_stage_loses_nothing(labelled, tmp_path, monkeypatch):
    done, interrupted = [], []
    stage, save = run.Run.stage, saving.save_model

    def interrupt_once(name):
        if name not in interrupted:
            interrupted.append(name)
            raise KeyboardInterrupt

    def interrupted_stage(self, name, function):
        if name in ("constant", "few-shot", "LoRA", "test of LoRA"):
            interrupt_once(name)
        return stage(self, name, lambda: done.append(name) or function())

    def interrupted_save(*arguments):
        save(*arguments)
        interrupt_once("saving")

    monkeypatch.setattr(run.Run, "stage", interrupted_stage)
    monkeypatch.setattr(saving, "save_model", interrupted_save)
    for _ in range(5):
        with pytest.raises(KeyboardInterrupt):
            tune(labelled, tmp_path / "out", method="lora")
        assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))
    assert interrupted == ["constant", "few-shot", "LoRA", "test of LoRA", "saving"]
    tune(labelled, tmp_path / "out", method="lora")
    assert (tmp_path / "out" / "model.safetensors").exists()
    assert not (tmp_path / "out.unfinished").exists()
    assert len(done) == len(set(done)), "a finished stage ran again"
    check_equal_logits(tmp_path / "out")  # of a merged LoRA


KILLED_WHILE_SAVING = """
import os, signal, sys
from workbook import capstone
from workbook.capstone import saving
saving.write_card = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)
capstone.tune(sys.argv[1], "message", "team", sys.argv[2], method="lora", progress=False)
"""


@pytest.mark.slow
def test_a_kill_while_saving_leaves_nothing_beside_the_folder(labelled, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-c", KILLED_WHILE_SAVING, str(labelled), str(out)]
    assert subprocess.run(command, capture_output=True).returncode == -signal.SIGKILL
    assert list((tmp_path / "out.unfinished").glob(".made.*/model.safetensors"))
    tune(labelled, out, method="lora")
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == ["out"]


def test_an_interrupt_in_the_last_clearing_is_told(labelled, tmp_path):
    out, left = tmp_path / "out", tmp_path / "out.unfinished" / "checkpoints full"
    out.mkdir()
    left.mkdir(parents=True)
    (out / "results.json").write_text("{}")
    (left.parent / "run.json").write_text("{}")  # of a run that was never finished
    with pytest.raises(WorkbookError, match="out exists already"):
        tune(labelled, out)
    assert left.exists()
    (left.parent / "run.json").unlink()
    with pytest.raises(WorkbookError, match="out is finished: open it, or name another"):
        tune(labelled, out)
    assert not left.parent.exists()


def test_of_two_commands_at_once_the_second_finds_the_folder_of_the_first(
    labelled, folder, many, tmp_path, monkeypatch
):
    @contextlib.contextmanager
    def waited(path):  # while the other one ended
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "results.json").write_text("{}")
        yield

    monkeypatch.setattr(run, "exclusive", waited)
    monkeypatch.setattr(using, "exclusive", waited)
    with pytest.raises(WorkbookError, match="out exists already"):
        tune(labelled, tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    with pytest.raises(WorkbookError, match="out exists already"):
        using.predict(folder, many, tmp_path / "out", progress=False)
    assert not list(tmp_path.glob("*.unfinished"))


@pytest.mark.slow
def test_an_unfinished_run_with_other_options_is_named(labelled, tmp_path, monkeypatch):
    def stop(self, name, function):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run.Run, "stage", stop)
        with pytest.raises(KeyboardInterrupt):
            tune(labelled, tmp_path / "out")
    with pytest.raises(WorkbookError, match="other rows, options or versions: delete it"):
        tune(labelled, tmp_path / "out", epochs=7)
    write(labelled, messages(57))
    with pytest.raises(WorkbookError, match="other rows, options or versions: delete it"):
        tune(labelled, tmp_path / "out")


def test_a_folder_that_exists_is_left_alone(labelled, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("kept")
    with pytest.raises(WorkbookError, match="exists already: remove it, or name another"):
        tune(labelled, tmp_path / "out")
    (tmp_path / "file").write_text("kept")
    with pytest.raises(WorkbookError, match="exists already"):
        tune(labelled, tmp_path / "file")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_a_folder_without_a_name_is_refused(labelled, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(WorkbookError, match="is where you are: name a folder to be made"):
        tune(labelled, ".")
    told = CliRunner().invoke(cli.app, ["tune", ".", "--input", "a", "--target", "b"])
    assert str(told.exception) == "There is no file .: check its name and folder."


@pytest.mark.parametrize("target", ["team", "reply"])
def test_texts_without_words_are_compared_without_what_counts_words(
    target, tmp_path, tiny_model, tiny_tokenizer
):
    draw = random.Random(0)
    rows = [{"message": " ".join(draw.sample("☀☁☂☃★☎☕☘☠☢☮☯☹☺♥♪", 7)), "team": "ab"[i % 2],
             "reply": f"It is {i}."} for i in range(60)]  # fmt: skip
    path = write(tmp_path / "rows.csv", rows)
    found = project.prepare(reading.read(path), tiny_model, tiny_tokenizer, "message", target)
    answers = candidates.yardsticks(found)
    assert list(answers) == (["constant"] if target == "team" else ["constant", "copy"])
    test = list(found.splits["test"])
    assert all(len(answer(found, test)) == len(test) for answer in answers.values())


@pytest.mark.slow
def test_a_full_disk_is_told_and_loses_no_finished_stage(labelled, tmp_path, monkeypatch):
    done, stage = [], run.Run.stage

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(
        run.Run, "stage",
        lambda self, name, function: stage(self, name, lambda: done.append(name) or function()),
    )  # fmt: skip
    for owner, name, finished in [(Path, "write_text", 0), (saving, "write_card", 1)]:
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, full)
            with pytest.raises(WorkbookError, match="disk of .* is full: free some space"):
                tune(labelled, tmp_path / "out", method="lora")
        assert ("LoRA" in done) == finished
        assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))
        assert not list((tmp_path / "out.unfinished").glob(".made.*.part"))
    tune(labelled, tmp_path / "out", method="lora")
    assert len(done) == len(set(done)), "a finished stage ran again"


def test_a_disk_that_is_too_small_is_told_before_any_work(labelled, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: types.SimpleNamespace(free=500_000))
    with pytest.raises(WorkbookError, match="0.0 GB free and this takes up to .*--method lora"):
        tune(labelled, tmp_path / "out")
    assert not (tmp_path / "out.unfinished").exists()


def test_what_a_killed_run_has_written_counts_as_space(tmp_path, monkeypatch):
    folder = tmp_path / "out.unfinished"
    monkeypatch.setattr(shutil, "disk_usage", lambda path: types.SimpleNamespace(free=8_000))
    with pytest.raises(WorkbookError, match="free some space"):
        run.check_space(folder, 200, "full")  # 13 copies of 800 bytes
    (folder / "checkpoints full").mkdir(parents=True)
    (folder / "checkpoints full" / "step.000025.safetensors").write_bytes(b"0" * 3_000)
    run.check_space(folder, 200, "full")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "magic"}, "There is no method 'magic': choose auto, lora or full"),
        ({"epochs": 0}, "epochs is 0: choose at least 1"),
        ({"examples": 0}, "examples is 0: choose at least 1"),
        ({"kind": "image"}, "There is no kind 'image'"),
        ({"template": "no_such"}, "There is no template 'no_such': choose of question"),
        ({"template": "{{team}}"}, "leaves out the input"),
        ({"template": "{{text}} ||| "}, "leaves out the input or the answer"),
        ({"template": "{{text"}, "mend its Jinja"),
        ({"target": "message"}, "Input and target are both 'message'"),
        ({"target": "nobody"}, "no column 'nobody': it has message, team"),
        ({"encoding": "klingon"}, "There is no encoding 'klingon'"),
    ],
)
def test_requests_that_cannot_be_met_say_what_to_do(options, message, labelled, tmp_path):
    with pytest.raises(WorkbookError, match=message):
        tune(labelled, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


# -------------------------------------------------------------------------------- commands


@pytest.fixture
def folder(tmp_path, tiny, tiny_model, tiny_tokenizer):
    """A folder as `tune` leaves it, with an untrained model."""
    out = tmp_path / "made"
    out.mkdir()
    how = recipe.Recipe(
        kind="label", input="message", target="team", labels=("yes", "no"),
        template=project._templates(None, ("yes", "no"), {"text": "x"}, "message")[0],
        longest_input=100, max_new_tokens=8,
    )  # fmt: skip
    saving.save_model(tiny_model, tiny_tokenizer, how, out)
    return out


def test_a_recipe_comes_back_as_it_was_written(folder):
    how = recipe.read(folder)
    assert recipe.read(folder) == how and how.labels == ("yes", "no")
    (folder / recipe.FILE).write_text("{}")
    with pytest.raises(WorkbookError, match="no folder that `workbook tune` made"):
        recipe.read(folder)


def test_predict_answers_each_row_and_keeps_the_columns(
    folder, tmp_path, tiny_model, tiny_tokenizer
):
    rows = [
        {"id": "7", "message": "The film is good.", "team": "yes"},
        {"id": "8", "message": "", "team": "no"},
        {"id": "9", "message": '배송이 늦어요, "정말"', "team": ""},
    ]
    path = write(tmp_path / "in.csv", rows)
    told = using.predict(folder, path, tmp_path / "out.csv", progress=False)
    with (tmp_path / "out.csv").open(encoding="utf-8-sig", newline="") as file:
        found = list(csv.DictReader(file))
    assert [{name: row[name] for name in rows[0]} for row in found] == rows
    assert found[1]["prediction"] == found[1]["probability"] == ""
    how = recipe.read(folder)
    asked = [{**row, "text": row["message"]} for row in rows if row["message"]]
    expected = how.answers(tiny_model, tiny_tokenizer, asked)
    answered = [found[0], found[2]]
    assert [how.labels.index(row["prediction"]) for row in answered] == expected.values
    chances = [float(row["probability"]) for row in answered]
    assert chances == pytest.approx(expected.probabilities, abs=6e-4)
    hits = int(found[0]["prediction"] == "yes")
    assert "2 rows answered." in told and f"{hits} of 1 agree with the column 'team'" in told


def test_predict_refuses_before_it_loads_the_model(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(models, "load", lambda *a, **k: pytest.fail("the model was loaded"))
    good = write(tmp_path / "in.csv", [{"message": "x"}])
    (tmp_path / "there.csv").write_text("kept")
    other = write(tmp_path / "other.csv", [{"text": "x"}])
    clash = write(tmp_path / "clash.csv", [{"message": "x", "prediction": "y"}])
    for path, out, message in [
        (good, "there.csv", "exists already"),
        (other, "o.csv", "no column 'message'"),
        (clash, "o.csv", "has a column 'prediction' already"),
        (tmp_path / "none.csv", "o.csv", "There is no file"),
    ]:
        with pytest.raises(WorkbookError, match=message):
            using.predict(folder, path, tmp_path / out)
    assert (tmp_path / "there.csv").read_text() == "kept" and not (tmp_path / "o.csv").exists()


@pytest.fixture
def many(tmp_path):
    """A file of more rows than are asked at once, some of them without a text."""
    rows = [{"message": f"The film {i} is good.", "n": str(i)} for i in range(150)]
    rows[10]["message"] = rows[140]["message"] = ""
    return write(tmp_path / "many.csv", rows)


def read_rows(path):
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_predict_answers_more_rows_than_are_asked_at_once(folder, many, tmp_path, precision):
    copies, original = [], copy.deepcopy
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copy, "deepcopy", lambda *a: copies.append(type(a[0])) or original(*a))
        told = using.predict(folder, many, tmp_path / "out.csv", progress=False)
    assert copies.count(LlamaForCausalLM) == (precision == "bf16")  # not one for each part
    found = read_rows(tmp_path / "out.csv")
    assert "148 rows answered." in told and [row["n"] for row in found] == list(
        map(str, range(150))
    )
    assert [int(row["n"]) for row in found if not row["prediction"]] == [10, 140]
    how, (model, tokenizer) = recipe.read(folder), models.load(str(folder))
    asked = [{**row, "text": row["message"]} for row in found if row["message"]]
    expected = how.answers(model, tokenizer, asked).values
    assert [row["prediction"] for row in found if row["message"]] == [
        how.labels[number] for number in expected
    ]
    assert not (tmp_path / "out.csv.unfinished").exists()


@pytest.mark.parametrize("end", [KeyboardInterrupt, OSError(errno.ENOSPC, "No space left")])
def test_predict_goes_on_where_it_was_stopped(end, folder, many, tmp_path, monkeypatch, capsys):
    using.predict(folder, many, tmp_path / "never_stopped.csv", progress=False)
    asked, original, out = [], using._asked, tmp_path / "out.csv"

    def stopped(how, model, tokenizer, rows):
        asked.extend(row["n"] for row in rows)
        if len(asked) == 148:  # in the third part
            raise end
        return original(how, model, tokenizer, rows)

    monkeypatch.setattr(using, "_asked", stopped)
    with pytest.raises((KeyboardInterrupt, WorkbookError)):
        using.predict(folder, many, out, progress=False)
    assert not out.exists()
    kept = tmp_path / "out.csv.unfinished" / "answers.jsonl"
    with kept.open("a") as file:
        file.write('[{"predic')  # as a kill in the middle of a line leaves it
    first = list(asked)
    capsys.readouterr()
    using.predict(folder, many, out, progress=True)
    bar = capsys.readouterr().err
    assert "128/148" in bar and "148/148" in bar and " 0/148" not in bar
    assert len(asked) == 148 + 20 and asked[148:] == first[128:]  # only the part that was stopped
    assert out.read_bytes() == (tmp_path / "never_stopped.csv").read_bytes()
    assert not kept.parent.exists()


def test_predict_goes_on_with_the_same_rows_alone(folder, many, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(using, "_write", lambda *_: pytest.fail("stop"))
        with pytest.raises(pytest.fail.Exception):
            using.predict(folder, many, tmp_path / "out.csv", progress=False)
    write(many, [{"message": "another one", "n": "1"}])
    with pytest.raises(WorkbookError, match="an unfinished run with other rows.*delete it"):
        using.predict(folder, many, tmp_path / "out.csv", progress=False)


def lines(*texts):
    """Return a reader that gives these lines, then the end of input; exceptions are raised."""
    left = list(texts)

    def read(prompt):
        if not left:
            raise EOFError
        line = left.pop(0)
        if isinstance(line, type):
            raise line
        return line

    return read


@pytest.mark.parametrize("end", ["/quit", EOFError, KeyboardInterrupt])
def test_chat_ends_cleanly(end, folder, capsys):
    using.chat(folder, lines("Hello there", "", end, "never read"))
    told = capsys.readouterr().out
    assert told.count("model>") == 1


def test_chat_keeps_the_context_until_it_is_full(tiny_model, tiny_tokenizer):
    talk = using.Chat(tiny_model, tiny_tokenizer, max_new_tokens=8)
    answer = talk.say("The film is good.")
    talk.say("Is it?")
    assert [m["content"] for m in talk.messages][:3] == ["The film is good.", answer, "Is it?"]
    model, reads = tiny_model, []
    original = model.generate

    def generate(**options):
        reads.append(options["input_ids"].shape[1])
        return original(**options)

    model.generate = generate
    for i in range(12):
        talk.say(f"What is the capital of France, and why is that so? {i} " * 3)
    assert max(reads) <= 512 - 8 and reads[1] > reads[0]
    assert talk.messages[0]["content"] != "The film is good."  # the oldest went
    with pytest.raises(WorkbookError, match="shorten it"):
        talk.say("word " * 600)
    assert len(talk.messages) % 2 == 0


def test_an_interrupted_answer_is_not_kept(folder, capsys, monkeypatch):
    def stopped(self, ids, streamer):
        raise KeyboardInterrupt

    monkeypatch.setattr(using.Chat, "_written", stopped)
    using.chat(folder, lines("Hello", "/quit"))
    assert "(stopped)" in capsys.readouterr().out


def test_chat_words_a_text_as_in_tuning(folder, monkeypatch, capsys):
    said = []
    monkeypatch.setattr(using.Chat, "say", lambda self, text, streamer=None: said.append(text))
    using.chat(folder, lines("/ask Where is my parcel?", "plain", "/quit"))
    assert said[0].startswith("Where is my parcel?\nWhich label fits") and said[1] == "plain"


def test_the_chat_box_of_the_notebook_answers(tiny_model, tiny_tokenizer, capsys):
    source = (settings.notebooks_dir() / "source" / "12_capstone.py").read_text("utf-8")
    [cell] = [part for part in source.split("# %%") if "send.on_click" in part]
    talk = using.Chat(tiny_model, tiny_tokenizer, max_new_tokens=4)
    names = {"talk": talk, "widgets": ipywidgets}
    exec(cell.partition("\n")[2], names)
    names["box"].value = "  The film is good. "
    names["send"].click()
    assert names["box"].value == "" and [m["role"] for m in talk.messages] == ["user", "assistant"]
    names["send"].click()
    told = capsys.readouterr().out
    assert f"you>   The film is good.\nmodel> {talk.messages[1]['content']}\n" in told
    assert told.endswith("Write something first.\n") and len(talk.messages) == 2


@pytest.mark.slow
def test_the_commands_run_one_after_another(labelled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    arguments = ["tune", "rows.csv", "--input", "message", "--target", "team", "--method", "lora"]
    told = runner.invoke(cli.app, arguments)
    assert told.exit_code == 0, told.output
    assert "so they are labels to choose from" in told.output.split("# rows-tuned")[0]
    assert "LoRA was chosen" in told.output and "report.html" in told.output
    told = runner.invoke(cli.app, ["predict", "rows-tuned", "rows.csv"])
    assert told.exit_code == 0 and "written to predictions.csv" in told.output
    told = runner.invoke(cli.app, ["chat", "rows-tuned"], input="Hello\n/quit\n")
    assert told.exit_code == 0 and "model>" in told.output


def test_ctrl_c_in_predict_says_how_to_go_on(folder, many, tmp_path, monkeypatch):
    def stopped(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(using, "_asked", stopped)
    arguments = ["predict", str(folder), str(many), "--out", str(tmp_path / "out.csv")]
    told = CliRunner().invoke(cli.app, arguments)
    assert told.exit_code and "the same command goes on from there" in told.output


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_says_how_to_go_on(labelled, tmp_path):
    command = [
        sys.executable, "-m", "workbook.cli", "tune", str(labelled), "--input", "message",
        "--target", "team", "--out", str(tmp_path / "out"),
    ]  # fmt: skip
    running = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # What runs in the background ignores it, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    marker = tmp_path / "out.unfinished" / "constant.json"
    while running.poll() is None and not marker.exists():
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=120)
    assert running.returncode == 130, err
    assert "the same command goes on from there" in out and "Traceback" not in err
