"""The planner's numbers beside measured peaks, real models and the papers' tables."""

import dataclasses
import re
import sys

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BartConfig,
    BertConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    Lfm2Config,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    MixtralConfig,
    OPTConfig,
    Qwen2Config,
    RoFormerConfig,
    RwkvConfig,
    T5Config,
    ViTConfig,
    WhisperConfig,
)
from typer.testing import CliRunner

from workbook import cli, models, planning, settings
from workbook.adaptation import additions, lora
from workbook.errors import WorkbookError
from workbook.planning import Setting

TINY = dict(vocab_size=300, hidden_size=64, num_hidden_layers=4, num_attention_heads=4)
GATED = TINY | dict(intermediate_size=128, num_key_value_heads=2)
SHORT = dict(batch_size=2, sequence_length=32)


def small_llama(**changes) -> LlamaConfig:
    """A Llama of 10 million weights."""
    shape = dict(
        vocab_size=8192, hidden_size=256, intermediate_size=1024, num_hidden_layers=8,
        num_attention_heads=8, num_key_value_heads=4, tie_word_embeddings=True,
    )  # fmt: skip
    return LlamaConfig(**shape | changes)


@pytest.fixture
def llama():
    return LlamaConfig(**GATED)


# --- against measurements

BATCH = dict(batch_size=4, sequence_length=96, completion_length=2)
FEW = BATCH | dict(batch_size=2, sequence_length=48)  # bf16 is slow on many a processor
MEASURED = {
    "fp32": (small_llama(), Setting(**BATCH)),
    "bf16": (small_llama(), Setting(**FEW, precision="bf16")),
    "gradient checkpointing": (
        small_llama(tie_word_embeddings=False),
        Setting(**BATCH, gradient_checkpointing=True),
    ),
    "accumulation": (small_llama(), Setting(**BATCH, gradient_accumulation_steps=2)),
    "mostly an embedding": (
        small_llama(vocab_size=32_000, num_hidden_layers=2),
        Setting(**BATCH, gradient_accumulation_steps=2),
    ),
    "LoRA": (small_llama(), Setting(**BATCH, method="lora")),
    "LoRA in bf16": (small_llama(), Setting(**FEW, method="lora", precision="bf16")),
    "logits everywhere": (small_llama(), Setting(batch_size=4, sequence_length=96)),
    "large vocabulary": (
        small_llama(vocab_size=70_000, hidden_size=128, num_hidden_layers=4),
        Setting(**BATCH | {"completion_length": 16}, method="lora"),
    ),
}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read as Linux gives it")
def test_predictions_are_within_15_percent_of_measured_peaks(monkeypatch):
    monkeypatch.syspath_prepend(settings.repo_root() / "benchmarks")
    import bench_memory

    measured = dict(zip(MEASURED, bench_memory.measure(list(MEASURED.values())), strict=True))
    ratios = {name: planning.peak(*case).total / measured[name] for name, case in MEASURED.items()}
    assert all(0.85 < ratio < 1.15 for ratio in ratios.values()), ratios


def test_weights_and_states_are_those_of_the_model(llama):
    model = AutoModelForCausalLM.from_config(llama)
    count = models.count_parameters(model).total
    update = planning.moments(planning.read_shapes(llama, Setting()), Setting())["update"]
    assert (update.weights, update.gradients, update.optimizer) == (4 * count, 4 * count, 8 * count)
    with additions.attached(model, lora.LoRA(model, 3)):
        added = models.count_parameters(model).trainable
    setting = Setting(method="lora", rank=3, precision="bf16", loaded="bf16")
    update = planning.moments(planning.read_shapes(llama, setting), setting)["update"]
    assert update.weights == 2 * (count + added)
    assert (update.gradients, update.optimizer) == (4 * added, 12 * added)


def test_kept_activations_are_those_of_a_real_step(llama):
    """Counted in a real forward pass of all blocks, with data and a pad."""
    setting, held = Setting(**SHORT, completion_length=2), {}
    shapes = planning.read_shapes(llama, setting)
    model = AutoModelForCausalLM.from_config(llama).train()
    own = {planning._place(tensor) for tensor in (*model.parameters(), *model.buffers())}

    def keep(tensor):
        if planning._place(tensor) not in own:
            held[planning._place(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    ids = torch.randint(300, (setting.batch_size, setting.sequence_length))
    mask = torch.ones_like(ids)
    mask[0, -1] = 0
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = model(ids, attention_mask=mask, use_cache=False, logits_to_keep=2).logits
    del logits
    predicted = shapes.elsewhere + shapes.blocks * shapes.in_block
    assert predicted == pytest.approx(sum(held.values()), rel=0.02)


# --- against the papers


def test_a_block_keeps_what_the_paper_counts():
    """Korthikanti et al. 2022 (2205.05198), section 4.1, in bytes per token and width, with two
    bytes a number: 2 each for what enters attention, Q, K, V and the projection, 4 for two norms, 2
    and 8 for what enters the two MLP layers (a ReLU keeps nothing of its own), 1 for each dropout
    mask. A fused attention keeps no scores, but its output, 2, in another order."""
    shape = dict(vocab_size=300, hidden_size=256, word_embed_proj_dim=256, ffn_dim=1024)
    config = OPTConfig(**shape, num_hidden_layers=2, num_attention_heads=4, dropout=0.1)
    setting = Setting(batch_size=2, sequence_length=64, precision="bf16")
    expected = (2 * 5 + 4 + 2 + 8 + 2 * 1 + 2) * setting.tokens * config.hidden_size
    assert planning.read_shapes(config, setting).in_block == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(
    "devices, table",
    [(4, (120, 52.5, 41.3, 30)), (16, (120, 35.6, 21.6, 7.5)), (64, (120, 31.4, 16.6, 1.88))],
)
def test_sharding_is_that_of_the_zero_paper(devices, table):
    """Rajbhandari et al. 2019 (1910.02054), table 1: 7.5 billion weights, GB a device."""
    many = 10**9  # so many blocks that one that is whole for a while takes nothing
    shapes = planning.Shapes(
        inside=7_500_000_000, outside=0, added=0, blocks=many, matrix=0, output=0, is_tied=False,
        logits=0, entry=0, in_block=0, elsewhere=0,
    )  # fmt: skip
    for stage, expected in enumerate(table):
        setting = Setting(precision="bf16", devices=devices, stage=stage)
        total = planning.moments(shapes, setting)["bottom"].total
        assert total / 1e9 == pytest.approx(expected, rel=0.005)


def test_qlora_fits_where_its_paper_says():
    """Dettmers et al. 2023 (2305.14314): 65 billion weights on one GPU of 48 GB, where tuning all
    in 16 bits takes more than 780 GB. At their rank, 64, our masters of LoRA's weights, which they
    do without, would not fit."""
    shape = planning.LLAMAS["70B"] | dict(intermediate_size=22_016, num_key_value_heads=64)
    config = LlamaConfig(**shape)  # Llama 65B
    common = dict(batch_size=1, precision="bf16", loaded="bf16", gradient_checkpointing=True)
    assert planning.peak(config, Setting(method="qlora", rank=16, **common)).total < 48e9
    assert planning.peak(config, Setting(**common)).total > 780e9


# --- what changes what


def test_each_technique_takes_from_its_own_part(llama):
    base = Setting(**SHORT)
    shapes = planning.read_shapes(llama, base)
    loss = planning.moments(shapes, base)["loss"]

    def changed(**changes):
        setting = dataclasses.replace(base, **changes)
        return planning.moments(planning.read_shapes(llama, setting), setting)["loss"]

    assert changed(batch_size=4).activations == pytest.approx(2 * loss.activations, rel=0.01)
    assert changed(batch_size=4).logits == 2 * loss.logits
    assert changed(completion_length=1).logits == loss.logits / 32
    assert changed(gradient_checkpointing=True).activations < loss.activations / 2
    assert changed(precision="bf16").activations < 0.7 * loss.activations
    assert changed(gradient_accumulation_steps=2).gradients == loss.weights
    assert changed(method="lora").optimizer < loss.optimizer / 4


def test_frozen_weights_loaded_in_another_format_are_kept_beside(llama):
    bf16 = dict(**SHORT, method="lora", precision="bf16")
    shapes = planning.read_shapes(llama, Setting(**bf16))
    kept, cast = (
        planning.weight_bytes(shapes, Setting(**bf16, loaded=x)) for x in ("fp32", "bf16")
    )
    assert kept - cast == 4 * (shapes.inside + shapes.outside)


@pytest.mark.parametrize("devices", [1, 8])
def test_the_largest_batch_fits_and_the_next_does_not(devices):
    room = 1e9
    for row in planning.plan(small_llama(), room, Setting(**SHORT, devices=devices)):
        at_most = dataclasses.replace(row.setting, batch_size=row.largest_batch)
        more = dataclasses.replace(row.setting, batch_size=row.largest_batch + 1)
        usable = planning.ROOM * room * 1.001
        assert planning.peak(small_llama(), at_most).total <= usable
        assert planning.peak(small_llama(), more).total > usable / 1.01


def test_the_first_way_that_fits_is_chosen_with_enough_rows():
    shown = planning.plan(small_llama(), 0.1e9, Setting(**SHORT, devices=2))
    [first, *_] = [row for row in shown if row.largest_batch]
    assert first.name != shown[0].name  # the first of all does not fit
    name, rows, batches = planning.choose(shown, 1000, devices=2)
    assert (name, rows) == (first.name, first.largest_batch)
    assert 2 * rows * batches >= 1000 > 2 * rows * (batches - 1)
    assert planning.choose(shown, 1, devices=2) == (first.name, 1, 1)
    assert planning.choose(planning.plan(small_llama(), 1e6, Setting(**SHORT)), 8) == "nothing"


# --- models and requests

DENSE = [
    GPT2Config(vocab_size=300, n_embd=64, n_layer=4, n_head=4, bos_token_id=0, eos_token_id=0),
    Qwen2Config(**GATED), MistralConfig(**GATED), Gemma2Config(**GATED, head_dim=16),
    Gemma3TextConfig(**GATED, head_dim=16), GPTNeoXConfig(**TINY, intermediate_size=128),
    OPTConfig(**TINY, ffn_dim=128, word_embed_proj_dim=64),
]  # fmt: skip


@pytest.mark.parametrize("config", DENSE, ids=lambda config: config.model_type)
def test_every_dense_causal_model_can_be_planned(config):
    rows = planning.plan(config, 24e9, Setting(**SHORT))
    count = models.count_parameters(AutoModelForCausalLM.from_config(config)).total
    assert rows[0].peak.weights == 4 * count and rows[0].fits
    assert any("LoRA" in row.name for row in rows) == (config.model_type != "gpt2")


OTHERS = {
    "experts": MixtralConfig(**GATED),
    "an encoder": BertConfig(**TINY),
    "an encoder with positions of its own": RoFormerConfig(**TINY),
    "an encoder and a decoder": T5Config(),
    "an encoder of sounds": WhisperConfig(encoder_layers=2, decoder_layers=4),
    "a decoder of an encoder's": BartConfig(encoder_layers=2, decoder_layers=2),
    "a state": MambaConfig(vocab_size=300, hidden_size=64, num_hidden_layers=4),
    "an older state": RwkvConfig(vocab_size=300, hidden_size=64, num_hidden_layers=4),
    "states in some layers": Lfm2Config(
        **GATED, layer_types=["conv", "conv", "full_attention", "conv"]
    ),
    "images": ViTConfig(),
}


@pytest.mark.parametrize("config", OTHERS.values(), ids=OTHERS)
def test_others_are_refused(config):
    for refused in (planning.peak, lambda *a: planning.plan(a[0], 24e9, a[1])):
        with pytest.raises(WorkbookError, match=f"'{config.model_type}' cannot be planned"):
            refused(config, Setting(**SHORT))


def test_an_encoder_s_family_as_a_decoder_can_be_planned():
    config = BertConfig(**TINY, is_decoder=True)
    count = models.count_parameters(AutoModelForCausalLM.from_config(config)).total
    assert planning.peak(config, Setting(**SHORT)).weights == 4 * count


@pytest.mark.parametrize(
    "options, message",
    [
        ({"method": "magic"}, "^method is 'magic': choose one of"),
        ({"stage": 4}, "^stage is 4: choose one of"),
        ({"batch_size": 0}, "^batch_size is 0: choose at least 1"),
        ({"completion_length": 0}, "^completion_length is 0"),
    ],
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(WorkbookError, match=message):
        Setting(**options)


def test_sizes_of_memory_are_read():
    assert planning.read_bytes("24GB") == planning.read_bytes(" 24 gb ") == 24e9
    assert planning.read_bytes("80") == 80e9
    assert planning.read_bytes("1.5GiB") == 1.5 * 2**30
    for text in ("much", "0GB", "-1GB", "24MB", ""):
        with pytest.raises(WorkbookError, match="write it as in 24GB"):
            planning.read_bytes(text)


def test_configs_are_read_from_files_folders_and_sizes(llama, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    llama.save_pretrained(tmp_path)
    for place in (tmp_path, tmp_path / "config.json"):
        assert planning.read_config(str(place)).hidden_size == 64
    assert planning.read_config("7B").num_hidden_layers == 32
    with pytest.raises(WorkbookError, match="'no/such' is no config.json"):
        planning.read_config("no/such")


def test_sizes_are_what_they_are_called():
    for name, low, high in (("1B", 1.2, 1.3), ("7B", 6.7, 6.8), ("70B", 68.9, 69.1)):
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(planning.read_config(name))
        assert low < models.count_parameters(model).total / 1e9 < high


def test_the_command_prints_what_fits(llama, tmp_path):
    llama.save_pretrained(tmp_path)
    run = CliRunner().invoke
    arguments = ["plan", str(tmp_path), "--devices", "4", "--sequence", "32", "--batch", "2"]
    lines = run(cli.app, [*arguments, "--gpu", "24GB"]).stdout.splitlines()
    assert max(map(len, lines)) <= 100
    fits = [line.split()[-2] for line in lines if re.match(r" (full|…|LoRA|QLoRA) ", line)]
    assert fits == ["yes"] * 10
    crowded = run(cli.app, [*arguments, "--gpu", "0.0001GB"]).stdout
    assert " no " in crowded and " yes " not in crowded
