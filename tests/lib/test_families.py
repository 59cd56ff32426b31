"""Scores and texts are those of one row alone, whatever the family of the model."""

import contextlib

import numpy as np
import pytest
import small_tokenizers
import torch
import transformers

from workbook import encoding, models, scoring, training
from workbook.adaptation import lora
from workbook.adaptation.additions import attached
from workbook.adaptation.soft_prompt import SoftPrompt
from workbook.capstone import run, saving
from workbook.capstone.recipe import Recipe
from workbook.errors import WorkbookError
from workbook.templates import Template

# Rows of unequal length with a common beginning that is longer than the windows below.
SHARED = [7, 80, 31, 200, 9, 44, 3, 120]
PROMPTS = [[*SHARED, *tail] for tail in ([5], [61, 62, 63, 64, 65, 66, 67, 68, 69], [11, 12, 13])]
UNLIKE = [[5, 6], [8], [9, 10, 11, 12, 13, 14, 15]]
CHOICES = [
    [[20], [21, 22, 23]],
    [[30, 31], [32, 33, 34, 35, 36, 37, 38]],
    [[40, 41], [40, 42], [43]],
]
SIZES = dict(
    vocab_size=400, hidden_size=32, intermediate_size=64, num_hidden_layers=3,
    num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128,
)  # fmt: skip
MIXED = ["sliding_attention", "full_attention", "sliding_attention"]
FAMILIES = {
    "llama": ("Llama", SIZES),
    "mistral": ("Mistral", SIZES | {"sliding_window": 4}),
    "qwen 2": (
        "Qwen2",
        SIZES | {"sliding_window": 4, "layer_types": MIXED, "use_sliding_window": True},
    ),
    "gemma 2": ("Gemma2", SIZES | {"sliding_window": 4, "layer_types": MIXED, "head_dim": 8}),
    "gemma 3": ("Gemma3Text", SIZES | {"sliding_window": 4, "layer_types": MIXED, "head_dim": 8}),
    "bloom": ("Bloom", dict(vocab_size=400, hidden_size=32, n_layer=2, n_head=4)),
    "mpt": ("Mpt", dict(vocab_size=400, d_model=32, n_layers=2, n_heads=4, expansion_ratio=2)),
    "falcon with alibi": (
        "Falcon",
        dict(
            vocab_size=400, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, alibi=True
        ),
    ),
    "gpt 2": ("GPT2", dict(vocab_size=400, n_embd=32, n_layer=2, n_head=4, n_positions=128)),
    "gpt neo": (
        "GPTNeo",
        dict(
            vocab_size=400,
            hidden_size=32,
            num_layers=2,
            num_heads=4,
            window_size=4,
            attention_types=[[["global", "local"], 1]],
            max_position_embeddings=128,
        ),  # fmt: skip
    ),
    "gpt neox": ("GPTNeoX", SIZES),
    "opt": (
        "OPT",
        dict(
            vocab_size=400,
            hidden_size=32,
            ffn_dim=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=128,
            word_embed_proj_dim=32,
        ),  # fmt: skip
    ),
    "mixtral": ("Mixtral", SIZES | {"num_local_experts": 4}),
    "bert as a decoder": ("Bert", SIZES | {"is_decoder": True}),
}
WINDOWED = [
    "mistral",
    "qwen 2",
    "gemma 2",
    "gemma 3",
    "bloom",
    "mpt",
    "falcon with alibi",
    "gpt neo",
]


def make(family, **changes):
    """A random model whose weights are large enough to tell positions and words apart."""
    name, options = FAMILIES[family]
    special = dict(bos_token_id=1, eos_token_id=2, pad_token_id=2)
    config = getattr(transformers, f"{name}Config")(**special | options | changes)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
        with torch.no_grad():
            for weight in model.parameters():
                if weight.dim() > 1:
                    weight.normal_(std=0.2)
    model.generation_config.eos_token_id = None
    return model


@pytest.fixture(params=FAMILIES)
def model(request):
    return make(request.param)


@pytest.fixture(params=WINDOWED)
def windowed(request):
    return make(request.param)


@torch.no_grad()
def one_row(model, prompt, choice):
    """The log-likelihood of a choice, from one forward pass over one row."""
    ids = [*prompt, *choice]
    logprobs = model(input_ids=torch.tensor([ids])).logits[0].float().log_softmax(-1)
    return sum(logprobs[i - 1, ids[i]].item() for i in range(len(prompt), len(ids)))


@torch.no_grad()
def greedy(model, prompt, tokens):
    """The likeliest continuation, from one forward pass a token over one row."""
    ids = list(prompt)
    for _ in range(tokens):
        ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]


class Ids:
    """A tokenizer whose texts are ids."""

    eos_token_id = 2

    def decode(self, ids, skip_special_tokens):
        return " ".join(map(str, ids))


def written(model, prompts, monkeypatch, **options):
    """What `generate` writes after prompts of ids."""
    monkeypatch.setattr(scoring, "prompt_ids", lambda _, prompt, style: prompt)
    monkeypatch.setattr(scoring, "end_id", lambda *_: 2)
    texts = scoring.generate(model, Ids(), prompts, **options)
    return [[int(i) for i in text.split()] for text in texts]


def assert_exact(model, prompts=PROMPTS, choices=CHOICES, **options):
    found = scoring.score_continuations(model, prompts, choices, **options)
    for prompt, row, values in zip(prompts, choices, found, strict=True):
        assert values == pytest.approx([one_row(model, prompt, c) for c in row], abs=1e-4)


@pytest.mark.parametrize("prompts", [PROMPTS, UNLIKE, PROMPTS[1:2]], ids=["prefix", "none", "one"])
@pytest.mark.parametrize("batch_tokens", [1, 40, 1024])
def test_scores_are_those_of_one_row(model, prompts, batch_tokens):
    assert_exact(model, prompts, CHOICES[-len(prompts) :], batch_tokens=batch_tokens)


def test_every_choice_is_reported_when_it_has_its_score(model):
    told = []
    scoring.score_continuations(model, PROMPTS, CHOICES, batch_tokens=1, on_scored=told.append)
    assert sum(told) == sum(map(len, CHOICES)) and len(told) >= len(PROMPTS)


def test_texts_are_those_of_one_row(model, monkeypatch):
    found = written(model, [*PROMPTS, *UNLIKE], monkeypatch, max_new_tokens=8)
    expected = [greedy(model, prompt, 8) for prompt in [*PROMPTS, *UNLIKE]]
    ended = [ids[: ids.index(2)] if 2 in ids else ids for ids in expected]
    assert found == ended
    assert len(set(map(tuple, found))) > 1


def test_a_soft_prompt_changes_nothing_about_that(windowed, monkeypatch):
    prompt = SoftPrompt(windowed, length=3)
    with torch.no_grad():
        prompt.vectors.normal_(std=0.3, generator=torch.Generator().manual_seed(0))
    before = scoring.score_continuations(windowed, UNLIKE, CHOICES)
    with attached(windowed, prompt) as model:
        assert_exact(model, UNLIKE)
        assert_exact(model, PROMPTS)
        found = written(model, [*PROMPTS, *UNLIKE], monkeypatch, max_new_tokens=8)
        expected = [greedy(model, prompt, 8) for prompt in [*PROMPTS, *UNLIKE]]
        after = scoring.score_continuations(model, UNLIKE, CHOICES)
    assert found == [ids[: ids.index(2)] if 2 in ids else ids for ids in expected]
    assert np.abs(np.subtract(before[0], after[0])).max() > 1e-2  # it had a say


def test_the_cache_is_used_where_it_is_exact():
    exact = {family for family in FAMILIES if scoring._is_free_of_slots(make(family))}
    assert {"llama", "gpt neox"} <= exact
    assert not exact & {*WINDOWED}


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma 3", "gpt 2", "mixtral"])
def test_a_model_loaded_in_bfloat16_is_scored_as_it_is(family):
    model = make(family)
    exact = scoring.score_continuations(model, PROMPTS, CHOICES)
    found = scoring.score_continuations(model.bfloat16(), PROMPTS, CHOICES)
    assert next(model.parameters()).dtype == torch.bfloat16
    for ours, theirs in zip(found, exact, strict=True):
        assert ours == pytest.approx(theirs, rel=0.05)


# --- logits only where they are needed

WORDS = 262_144


@pytest.fixture
def counted():
    """A model of 262,144 words, and the numbers of logits of each forward pass."""
    options = SIZES | dict(vocab_size=WORDS, hidden_size=8, num_hidden_layers=1)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**options)).eval()
    counts = []
    models.check_causal(model)
    model.lm_head.register_forward_hook(lambda _, inputs, output: counts.append(output.numel()))
    return model, counts


def rows_of(lengths, first=5):
    return [[first + i, *range(40, 40 + length - 1)] for i, length in enumerate(lengths)]


@pytest.mark.parametrize("cached", [True, False])
def test_scoring_computes_logits_where_they_are_needed(counted, monkeypatch, cached):
    model, counts = counted
    monkeypatch.setattr(scoring, "_is_free_of_slots", lambda _: cached)
    prompts = rows_of(range(20, 36))
    choices = [[[30], [31]], *[[[20 + i], [20, 21, 22][: 1 + i % 3]] for i in range(15)]]
    scoring.score_continuations(model, prompts, choices)
    needed = sum(1 + sum(len(c) - 1 for c in options) for options in choices)
    shared = sum(len({tuple(c[:-1]) for c in options}) - 1 for options in choices)
    assert sum(counts) == (needed + (0 if cached else shared)) * WORDS
    # With their logarithms, in four bytes each.
    assert 2 * 4 * max(counts) < 1e9


@pytest.mark.parametrize("cached", [True, False])
def test_long_answers_are_taken_in_parts(counted, monkeypatch, cached):
    model, counts = counted
    monkeypatch.setattr(scoring, "_is_free_of_slots", lambda _: cached)
    prompts, long = rows_of([3] * 16), list(range(100, 200))
    found = scoring.score_continuations(model, prompts, [[long]] * 16)
    assert sum(counts) == 16 * 100 * WORDS
    assert 2 * 4 * max(counts) < 1e9
    with torch.no_grad():
        ids = torch.tensor([[*prompts[3], *long]])
        logprobs = model.model(input_ids=ids).last_hidden_state[0, 2:-1]
        logprobs = model.lm_head.forward(logprobs).log_softmax(-1)
    expected = logprobs.gather(1, torch.tensor(long)[:, None]).sum().item()
    assert found[3] == [pytest.approx(expected, abs=1e-2)]


@pytest.mark.parametrize("family", ["llama", "mistral"])
def test_an_answer_longer_than_a_part_is_scored_whole(family, monkeypatch):
    model = make(family)
    monkeypatch.setattr(scoring, "LOGITS_AT_ONCE", 3 * 400)
    assert_exact(model)


@pytest.mark.parametrize("family", ["llama", "gpt 2", "bloom", "mpt", "gemma 3"])
def test_writing_computes_the_last_logits_only(family, monkeypatch):
    model, counts = make(family), []
    models.check_causal(model)
    head = model.get_output_embeddings()
    head.register_forward_hook(lambda _, inputs, output: counts.append(output.numel()))
    written(model, PROMPTS[:2] + UNLIKE, monkeypatch, max_new_tokens=3)
    assert max(counts) <= 5 * 400 and sum(counts) <= 3 * 5 * 400


def test_the_loss_computes_logits_where_something_is_learned(counted):
    model, counts = counted
    examples = [
        {"input_ids": row, "labels": [-100] * (len(row) - 2 - i) + row[len(row) - 2 - i :]}
        for i, row in enumerate(rows_of([20, 31, 12, 25]))
    ]
    batch = encoding.collate(examples)
    loss = training.completion_loss(model, batch)
    loss.backward()
    assert counts == [training.label_count(batch) * WORDS]
    gradients = [weight.grad.clone() for weight in model.parameters()]
    model.zero_grad()
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    expected = torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten(), reduction="sum"
    )
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    for weight, gradient in zip(model.parameters(), gradients, strict=True):
        torch.testing.assert_close(gradient, weight.grad, rtol=1e-4, atol=1e-7)


def test_a_soft_prompt_does_not_shift_such_a_loss(counted, monkeypatch):
    model, _ = counted
    examples = [{"input_ids": row, "labels": [-100, *row[1:]]} for row in rows_of([6, 9])]
    batch = encoding.collate(examples)
    with attached(model, SoftPrompt(model, length=3)), torch.no_grad():
        found = training.completion_loss(model, batch).item()
        monkeypatch.setattr(training, "LARGE_VOCABULARY", WORDS)
        assert found == pytest.approx(training.completion_loss(model, batch).item(), rel=1e-6)


# --- greedy is greedy

LEANINGS = dict(
    repetition_penalty=9.0, num_beams=3, no_repeat_ngram_size=1, suppress_tokens=list(range(200)),
    begin_suppress_tokens=list(range(200, 400)), min_p=0.9, top_k=2, top_p=0.2, temperature=0.3,
    length_penalty=3.0, forced_bos_token_id=7, bad_words_ids=[[3]], min_new_tokens=8,
    do_sample=True, typical_p=0.3, stop_strings=["1"], max_time=1e-9, renormalize_logits=True,
    num_return_sequences=2, return_dict_in_generate=True, prompt_lookup_num_tokens=3,
    exponential_decay_length_penalty=(1, 2.0), cache_implementation="static",
)  # fmt: skip


@pytest.mark.parametrize("name", LEANINGS)
def test_settings_of_the_model_do_not_change_what_is_written(name, monkeypatch):
    model = make("llama")
    options = [{}, {"temperature": 1.0, "seed": 3}]
    expected = [written(model, PROMPTS, monkeypatch, max_new_tokens=6, **o) for o in options]
    setattr(model.generation_config, name, LEANINGS[name])
    settings = model.generation_config
    kept = settings.to_dict()
    found = [written(model, PROMPTS, monkeypatch, max_new_tokens=6, **o) for o in options]
    assert found == expected
    assert expected[0] == [greedy(model, prompt, 6) for prompt in PROMPTS]
    assert model.generation_config is settings and settings.to_dict() == kept


def test_settings_come_back_after_an_interruption(monkeypatch):
    model = make("llama")
    settings = model.generation_config

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(model, "generate", stop)
    with pytest.raises(KeyboardInterrupt):
        written(model, PROMPTS, monkeypatch)
    assert model.generation_config is settings
    assert not model.lm_head._forward_pre_hooks


# --- folders of other families, from loading to plain transformers


def gpt_2_tokenizer():
    """Without chat template and pads, as GPT-2's own."""
    tokenizer = small_tokenizers.byte_level()
    tokenizer.chat_template = tokenizer.pad_token = None
    return tokenizer


def mistral_tokenizer():
    """Without pads, as Mistral's own."""
    tokenizer = small_tokenizers.mistral()
    tokenizer.pad_token = None
    return tokenizer


# Tokenizer, words of the model without a token, tokens that end a text, layers for a LoRA.
FOLDERS = {
    "gpt 2": (gpt_2_tokenizer, 0, ["<|im_end|>"], 0),
    "qwen 2": (small_tokenizers.byte_level, 20, ["<|im_end|>"], 3 * 7),
    "gemma 3": (small_tokenizers.gemma, 0, ["<end_of_turn>", "<eos>"], 3 * 7),
    "mistral": (mistral_tokenizer, 0, ["</s>"], 3 * 7),
}
TIED = {"gpt 2", "qwen 2", "gemma 3"}
SAYS = Recipe(
    kind="text",
    input="text",
    target="output",
    template=Template("says", "{{ text }} ||| {{ output }}"),
    max_new_tokens=6,
)


def save(family, folder, **options):
    """Save a random model of a family with a tokenizer as the family's; return the tokenizer."""
    make_tokenizer, spare, _, _ = FOLDERS[family]
    tokenizer = make_tokenizer()
    room = "n_positions" if family == "gpt 2" else "max_position_embeddings"
    changes = {"vocab_size": len(tokenizer) + spare, room: 512} | (
        {} if family == "gpt 2" else {"tie_word_embeddings": family in TIED}
    )
    model = make(family, bos_token_id=tokenizer.bos_token_id, pad_token_id=None,
                 eos_token_id=tokenizer.eos_token_id, **changes)  # fmt: skip
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder, **options)
    tokenizer.save_pretrained(folder)
    return tokenizer


def is_tied(model):
    return model.get_output_embeddings().weight is model.get_input_embeddings().weight


def last_logits(model, ids):
    with torch.inference_mode():
        return model(input_ids=torch.tensor([ids])).logits[0, -1]


def tune(model, examples, ids, layers):
    """Tune with a LoRA and merge it, or all weights where there is no layer for one."""
    options = dict(epochs=3, lr=1e-2, progress=False)
    if not layers:
        with pytest.raises(WorkbookError, match="only torch.nn.Linear is covered"):
            lora.LoRA(model)
        return training.fit(model, examples, **options)
    addition = lora.LoRA(model, rank=4)
    assert len(addition.parts) == layers
    start = last_logits(model, ids)
    with attached(model, addition):
        history = training.fit(model, examples, **options)
        expected = last_logits(model, ids)
    lora.merge(model, addition)
    assert not torch.allclose(expected, start, atol=1e-2)
    torch.testing.assert_close(last_logits(model, ids), expected, rtol=1e-4, atol=1e-4)
    return history


@pytest.mark.parametrize("family", FOLDERS)
def test_a_folder_is_tuned_merged_and_saved_for_plain_transformers(family, tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBOOK_PRECISION", "fp32")
    ends, layers = FOLDERS[family][2:]
    bare = save(family, tmp_path / "start")
    model, tokenizer = run.load(str(tmp_path / "start"))
    ends = tokenizer.convert_tokens_to_ids(ends)
    pad = tokenizer.pad_token_id
    assert pad == model.generation_config.pad_token_id == tokenizer.eos_token_id
    if bare.chat_template is None:
        with pytest.raises(WorkbookError, match="no chat template: pass prompt_style='plain'"):
            encoding.encode(bare, "The film", "is good")
    pairs = [
        SAYS.pair({"text": subject, "output": verdict})
        for subject in small_tokenizers.SUBJECTS
        for verdict in small_tokenizers.VERDICTS
    ]
    examples = encoding.encode_pairs(tokenizer, pairs)
    assert {row["labels"][-1] for row in examples} == {ends[0]}
    ids = encoding.prompt_ids(tokenizer, pairs[0].prompt)
    history = tune(model, examples, ids, layers)
    assert history.steps[-1]["loss"] < history.steps[0]["loss"]
    [text] = scoring.generate(model, tokenizer, [pairs[0].prompt], max_new_tokens=6)

    saving.save_model(model, tokenizer, SAYS, tmp_path / "out")
    plain = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    reader = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    asked = [{"role": "user", "content": pairs[0].prompt}]
    found = reader.apply_chat_template(asked, add_generation_prompt=True, return_dict=False)
    assert found == ids
    assert torch.equal(last_logits(plain, ids), last_logits(model, ids))
    assert is_tied(plain) == is_tied(model) == (family in TIED)
    assert plain.generation_config.eos_token_id == ends
    assert plain.generation_config.pad_token_id == reader.pad_token_id == pad
    new = plain.generate(torch.tensor([ids]))[0, len(ids) :]
    assert reader.decode(new, skip_special_tokens=True).strip() == text.strip()


@pytest.mark.parametrize("family", FOLDERS)
def test_a_hub_model_of_any_family_comes_from_the_hub_cache(family, offline_hub, tmp_path):
    """Its weights in several files, as those of large models."""
    home = tmp_path / "hub" / "models--me--tiny"
    bare = save(family, home / "snapshots" / "abc", max_shard_size="40KB")
    assert len(list(home.glob("snapshots/abc/*.safetensors"))) > 1
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("abc")
    model, tokenizer = models.load("me/tiny")
    expected = transformers.AutoModelForCausalLM.from_pretrained(home / "snapshots" / "abc")
    assert type(model) is type(expected) and is_tied(model) == (family in TIED)
    for name, weight in expected.state_dict().items():
        assert torch.equal(model.state_dict()[name], weight)
    assert tokenizer.get_vocab() == bare.get_vocab()
    assert tokenizer.chat_template == bare.chat_template
    assert models.read_config("me/tiny").model_type == model.config.model_type


# --- models that cannot be scored


def bert():
    return transformers.BertLMHeadModel(transformers.BertConfig(**SIZES))


def mamba():
    return transformers.MambaForCausalLM(
        transformers.MambaConfig(vocab_size=400, hidden_size=32, num_hidden_layers=2, state_size=4)
    )


def lfm_2():
    options = SIZES | {"layer_types": ["conv", "full_attention", "conv"]}
    return transformers.Lfm2ForCausalLM(transformers.Lfm2Config(**options))


UNFIT = {"bert": (bert, "encoders do"), "mamba": (mamba, "a state"), "lfm 2": (lfm_2, "a state")}


@pytest.mark.parametrize("name", UNFIT)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_encoders_and_recurrent_models_are_refused(
    name, dtype, monkeypatch, tiny_tokenizer, tmp_path
):
    made, message = UNFIT[name]
    torch.manual_seed(0)
    model = made().to(dtype)
    mode = model.training
    with pytest.raises(WorkbookError, match=f"{message}.*choose a"):
        scoring.score_continuations(model, PROMPTS, CHOICES)
    with pytest.raises(WorkbookError, match=f"{message}.*choose a"):
        written(model, PROMPTS, monkeypatch)
    example = {"input_ids": [1, 2], "attention_mask": [1, 1], "labels": [-100, 2]}
    with pytest.raises(WorkbookError, match=f"{message}.*choose a"):
        training.fit(model, [example])
    assert model.training == mode
    if dtype == torch.float32:
        model.save_pretrained(tmp_path)
        tiny_tokenizer.save_pretrained(tmp_path)
        with pytest.raises(WorkbookError, match=message):
            models.load(str(tmp_path))


def test_a_model_is_looked_at_once(monkeypatch):
    model, calls = make("gpt 2"), []
    model.register_forward_hook(lambda *_: calls.append(1))
    for _ in range(2):
        models.check_causal(model)
    assert len(calls) == 2


# --- nothing, and too much


def test_nothing_gives_nothing(tiny_model, tiny_tokenizer):
    assert scoring.score_continuations(tiny_model, [], []) == []
    assert scoring.score_choices(tiny_model, tiny_tokenizer, [], []) == []
    assert scoring.generate(tiny_model, tiny_tokenizer, []) == []
    for options in ({}, {"neutral_prompts": ["N/A"]}):
        found = scoring.classify(tiny_model, tiny_tokenizer, [], ["good", "bad"], **options)
        assert found.scores.shape == (0, 2) and found.predictions.shape == (0,)
        assert found.probabilities().shape == (0, 2)


@pytest.mark.parametrize("prompts", [[], ["the film is"]])
def test_no_labels_are_refused(tiny_model, tiny_tokenizer, prompts):
    with pytest.raises(WorkbookError, match="no label"):
        scoring.classify(tiny_model, tiny_tokenizer, prompts, [])


@pytest.mark.parametrize("size", [0, -1])
def test_batches_that_hold_nothing_are_refused(tiny_model, tiny_tokenizer, size):
    refused = pytest.raises(WorkbookError, match=f"size of {size} holds nothing")
    with refused:
        scoring.generate(tiny_model, tiny_tokenizer, ["film"], batch_size=size)
    with refused:
        scoring.score_choices(tiny_model, tiny_tokenizer, ["film"], [["a"]], batch_tokens=size)
    with refused:
        encoding.length_grouped_batches([1, 2], size, torch.Generator())


def test_no_new_tokens_are_refused(tiny_model, tiny_tokenizer):
    with pytest.raises(WorkbookError, match="at least 1"):
        scoring.generate(tiny_model, tiny_tokenizer, ["film"], max_new_tokens=0)


def test_text_beyond_the_context_is_refused(tiny_model, tiny_tokenizer):
    limit = tiny_model.config.max_position_embeddings
    for prompt in ("good film " * limit, "good " * (limit - 20)):
        with pytest.raises(WorkbookError, match=f"reads {limit}: use fewer or shorter"):
            scoring.generate(tiny_model, tiny_tokenizer, [prompt], prompt_style="plain")


@pytest.mark.parametrize("style", ["chat", "plain"])
def test_a_prompt_without_tokens_is_refused(tiny_model, tiny_tokenizer, style):
    with (
        contextlib.nullcontext() if style == "chat" else pytest.raises(WorkbookError, match="no to")
    ):
        scoring.generate(tiny_model, tiny_tokenizer, [""], prompt_style=style, max_new_tokens=1)
