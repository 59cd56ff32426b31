"""Prompts, log-likelihoods and scores are those of lm-evaluation-harness on the same rows.

`PARITY_DOCS=100` compares so many questions of each benchmark (`make bench` does; minutes).
"""

import dataclasses
import importlib.util
import json
import os
from pathlib import Path

import benchmark_rows
import numpy as np
import pytest
import small_tokenizers
import torch
import transformers

from workbook import assets, benchmarks, settings
from workbook.benchmarks.evaluation import choice_ids

pytest.importorskip("lm_eval", reason="lm-eval is not installed: pip install -e '.[test,bench]'")

DOCS = int(os.environ.get("PARITY_DOCS", "3"))
REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "benchmarks"
ROWS = {
    "arc_easy": ("arc_easy", benchmark_rows.arc),
    "arc_challenge": ("arc_challenge", benchmark_rows.arc),
    "hellaswag": ("hellaswag", benchmark_rows.hellaswag),
    "truthfulqa_mc1": ("truthful_qa", benchmark_rows.truthfulqa),
    "truthfulqa_mc2": ("truthful_qa", benchmark_rows.truthfulqa),
}
CASES = [
    ("arc_easy", 0), ("arc_challenge", 2), ("hellaswag", 1),
    ("truthfulqa_mc1", None), ("truthfulqa_mc2", None),
]  # fmt: skip
SUBJECTS = ["anatomy", "conceptual_physics", "marketing", "virology", "world_religions"]
THEIRS = {"mc1": "acc", "mc2": "acc"}  # what the harness calls our metrics
SIZES = dict(
    hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=8192,
)  # fmt: skip
WINDOWS = dict(head_dim=8, sliding_window=64, layer_types=["sliding_attention", "full_attention"])
FAMILIES = {
    "llama": ("Llama", small_tokenizers.llama_2, SIZES),
    "gpt 2": (
        "GPT2", small_tokenizers.byte_level, dict(n_embd=32, n_layer=2, n_head=4, n_positions=8192),
    ),
    "gemma": ("Gemma3Text", small_tokenizers.gemma, SIZES | WINDOWS),
}  # fmt: skip


@pytest.fixture(scope="module")
def harness():
    path = settings.repo_root() / "benchmarks" / "harness.py"
    spec = importlib.util.spec_from_file_location("harness", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    """A tiny random model with its tokenizer; weights are large enough to tell words apart."""
    name, make_tokenizer, options = FAMILIES[request.param]
    tokenizer = make_tokenizer()
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = getattr(transformers, f"{name}Config")(vocab_size=len(tokenizer), **ends, **options)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(std=0.2)
    return model, tokenizer


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("harness")


@pytest.fixture(scope="module", params=["real", "made up"])
def files(request, cache):
    """A function that writes questions of a benchmark and shots, real rows or made-up ones."""
    if request.param == "real" and not REAL.is_dir():
        pytest.skip("the real benchmark files are not here")

    def write(name, shots):
        stem, make = ROWS[name]
        number = shots + DOCS
        if request.param == "real":
            lines = (REAL / f"{stem}.jsonl").read_text("utf-8").splitlines()
        rows = map(json.loads, lines) if request.param == "real" else map(make, range(number))
        rows = list(rows)[:number]
        return write_parts(cache / f"{request.param}-{name}-{shots}", rows[shots:], rows[:shots])

    return write


def write_parts(folder, questions, shots):
    folder.mkdir(exist_ok=True)
    parts = {"test": questions} | ({"train": shots} if shots else {})
    return {
        split: benchmark_rows.write(folder / f"{split}.jsonl", rows)
        for split, rows in parts.items()
    }


def check_equal(ours, found, peer):
    """Compare prompts, log-likelihoods and scores with the harness's, question by question.

    Scores may differ where the two likeliest choices are equally likely.
    """
    samples = sorted(peer, key=lambda sample: sample["doc_id"])
    assert len(samples) == len(ours.questions)
    result = benchmarks.Result(ours, found)
    for i, (question, sample) in enumerate(zip(ours.questions, samples, strict=True)):
        context = ours.context(question)
        asked = [tuple(request) for request in sample["arguments"]]
        assert asked == [(context, f" {choice}") for choice in question.choices]
        theirs = [float(value) for value, _ in sample["filtered_resps"]]
        np.testing.assert_allclose(found[i], theirs, atol=1e-3, rtol=0)
        for metric in ours.metrics:
            score = result.values(metric)[i]
            expected = float(sample[THEIRS.get(metric, metric)])
            assert score == pytest.approx(expected, abs=1e-3) or is_tie(theirs, question, metric)


def is_tie(scores, question, metric):
    lengths = [len(choice) if metric == "acc_norm" else 1 for choice in question.choices]
    second, first = sorted(np.divide(scores, lengths))[-2:]
    return first - second < 1e-3


@pytest.mark.parametrize(("name", "shots"), CASES)
def test_scores_are_those_of_the_harness(family, files, harness, cache, name, shots):
    paths = files(name, shots or 0)
    ours = benchmarks.load(name, path=paths, shots=shots)
    found = benchmarks.log_likelihoods(*family, ours)
    peer = harness.evaluate(*family, [harness.task(name, paths, cache, shots)])
    check_equal(ours, found, peer["samples"][name])
    for metric, told in benchmarks.Result(ours, found).summary().items():
        theirs = peer["results"][name]
        assert told["stderr"] == pytest.approx(
            theirs[f"{THEIRS.get(metric, metric)}_stderr,none"], abs=1e-3
        )


def test_mmlu_is_that_of_the_harness_subject_by_subject(family, harness, cache):
    """Made-up rows where the real ones are absent."""
    subjects, number = SUBJECTS[: max(2, DOCS // 20)], max(2, DOCS // len(SUBJECTS))
    if REAL.is_dir():
        parts = {n: map(json.loads, (REAL / f"{n}.jsonl").open()) for n in ("mmlu", "mmlu_dev")}
    else:
        made = [benchmark_rows.mmlu(i, subject) for subject in subjects for i in range(9)]
        parts = {"mmlu": made, "mmlu_dev": made}
    test, dev = ([row for row in part if row["subject"] in subjects] for part in parts.values())
    paths = write_parts(cache / "mmlu", test, dev)
    ours = benchmarks.load("mmlu", path=paths, shots=2, limit=number)
    assert [q.group for q in ours.questions] == [s for s in subjects for _ in range(number)]
    found = benchmarks.log_likelihoods(*family, ours)
    peer = harness.evaluate(*family, harness.mmlu_tasks(paths, cache, 2), limit=number)
    both = [peer["samples"][f"mmlu_{subject}"] for subject in subjects]
    for k, samples in enumerate(both):
        part = slice(k * number, (k + 1) * number)
        of_subject = dataclasses.replace(ours, questions=ours.questions[part])
        check_equal(of_subject, found[part], samples)
    by_subject = benchmarks.Result(ours, found).by_group("acc")
    assert by_subject == {s: peer["results"][f"mmlu_{s}"]["acc,none"] for s in subjects}


def test_every_subject_of_mmlu_is_introduced_as_in_the_harness(harness):
    found = sorted((harness.FOLDER / "mmlu" / "default").glob("mmlu_*.yaml"))
    assert len(found) == 57
    for name in [*(file.stem for file in found), "mmlu_subject_of_ours"]:
        row = benchmark_rows.mmlu(1, name.removeprefix("mmlu_"))
        preamble = benchmarks.questions.mmlu("here", row).preamble
        assert preamble == harness.of_subject(name)["description"]


TEXTS = [
    ("The film is good, ", "25 euros"), ("My phone", "broke"), ("", "A small cafe"),
    ("Café:  ", "naïve 🙂"), ("Is it?\n\n", "Yes"), ("Answer:", "A"),
]  # fmt: skip


def check_ids(peer, tokenizer, context, choices):
    start, ends = choice_ids(tokenizer, context, choices)
    for choice, end in zip(choices, ends, strict=True):
        if context:
            theirs = peer._encode_pair(context, f" {choice}")
        else:  # as in `loglikelihood`
            theirs = [peer.prefix_token_id], peer.tok_encode(f" {choice}", add_special_tokens=False)
        assert (start, end) == theirs, (context[-40:], choice)


@pytest.mark.parametrize("kind", ["byte-level", "llama 2", "mistral", "gemma"])
def test_context_and_choice_become_the_harness_s_tokens(harness, tiny_model, kind):
    tokenizer = small_tokenizers.KINDS[kind]()
    peer = harness.HFLM(pretrained=tiny_model, tokenizer=tokenizer)
    for context, choice in TEXTS:
        check_ids(peer, tokenizer, context, [choice])


@pytest.mark.real_model
def test_the_real_tokenizer_reads_real_rows_as_the_harness_does(harness, tiny_model):
    if not assets.is_cached("model") or not REAL.is_dir():
        pytest.skip("the model is not in the cache, or the real benchmark files are not here")
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        assets.model_dir(), local_files_only=True
    )
    peer = harness.HFLM(pretrained=tiny_model, tokenizer=tokenizer)
    for name in ("arc_easy", "arc_challenge", "hellaswag", "truthfulqa_mc2", "mmlu"):
        path = REAL / f"{ROWS.get(name, ['mmlu'])[0]}.jsonl"
        ours = benchmarks.load(name, path=path)
        for question in ours.questions[:: max(1, len(ours.questions) // (10 * DOCS))]:
            check_ids(peer, tokenizer, ours.context(question), question.choices)
