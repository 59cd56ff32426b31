"""The memory of a training step, predicted from a model's config alone, on one device or several.

Weights, gradients and optimizer states are counted; activations are read off the graph that
autograd builds of shapes without data. Taught in notebook 11.
"""

import contextlib
import copy
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedConfig

from . import models
from .adaptation import additions, lora
from .errors import WorkbookError

FORMATS = {"fp32": torch.float32, "bf16": torch.bfloat16}
CHOICES = {
    "method": ("full", "lora", "qlora"), "stage": (0, 1, 2, 3),
    "precision": tuple(FORMATS), "loaded": tuple(FORMATS),
}  # fmt: skip
NF4_BYTES = (4 + 0.127) / 8  # a weight in 4 bits, with its share of the constants
ROOM = 0.9  # of a device; the rest is for its context, libraries and what an allocator wastes
EXPERTS = ("n_routed_experts", "num_experts", "num_local_experts")  # names in configs
GB = {"GB": 10**9, "GIB": 2**30}
# Shapes without weights: Llama 3.2 1B (2407.21783), Llama 2 7B and 70B (2307.09288).
LLAMAS = {
    "1B": dict(
        vocab_size=128_256, hidden_size=2048, intermediate_size=8192, num_hidden_layers=16,
        num_attention_heads=32, num_key_value_heads=8, tie_word_embeddings=True,
    ),
    "7B": dict(
        vocab_size=32_000, hidden_size=4096, intermediate_size=11_008, num_hidden_layers=32,
        num_attention_heads=32, num_key_value_heads=32,
    ),
    "70B": dict(
        vocab_size=32_000, hidden_size=8192, intermediate_size=28_672, num_hidden_layers=80,
        num_attention_heads=64, num_key_value_heads=8,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """How a model is tuned.

    method        "full", "lora", or "qlora": LoRA on linear layers in 4 bits (Dettmers et al. 2023,
                  2305.14314)
    rank          LoRA's
    precision     of the forward and backward pass: "fp32", or "bf16" with float32 masters of what
                  learns (`training.MasterAdamW`)
    loaded        format of the loaded weights; tuning in bf16, `fit` keeps frozen ones that were
                  loaded in fp32, to give them back bit for bit
    batch_size    rows that a device computes at once
    sequence_length    tokens in a row
    completion_length  positions of a row whose logits are computed; all of them by default
    gradient_accumulation_steps  batches a step
    gradient_checkpointing       keep what enters each block, compute its inside again (Chen et al.
                                 2016, 1604.06174)
    devices       each with batches of its own
    stage         what they share out: 0 nothing (data parallel), 1 optimizer states, 2 gradients
                  too, 3 weights too, as FSDP does (ZeRO, Rajbhandari et al. 2019, 1910.02054)

    Raises WorkbookError for a choice that there is not and for counts below 1.
    """

    method: str = "full"
    rank: int = 8
    precision: str = "fp32"
    loaded: str = "fp32"
    batch_size: int = 8
    sequence_length: int = 512
    completion_length: int | None = None
    gradient_accumulation_steps: int = 1
    gradient_checkpointing: bool = False
    devices: int = 1
    stage: int = 0

    def __post_init__(self):
        for name, value in vars(self).items():
            if name in CHOICES and value not in CHOICES[name]:
                raise WorkbookError(f"{name} is {value!r}: choose one of {CHOICES[name]}.")
            if name not in CHOICES and value is not None and value < 1 and value is not False:
                raise WorkbookError(f"{name} is {value}: choose at least 1.")

    @property
    def tokens(self) -> int:
        """Return the tokens of a batch."""
        return self.batch_size * self.sequence_length

    @property
    def positions(self) -> int:
        """Return the positions of a row whose logits are computed."""
        return min(self.completion_length or self.sequence_length, self.sequence_length)

    @property
    def width(self) -> int:
        """Return the bytes of a number in the forward and backward pass."""
        return FORMATS[self.precision].itemsize

    def share(self, size: float, stage: int) -> float:
        """Return a device's part of what is shared out from this stage on."""
        return size / self.devices if self.stage >= stage else size


@dataclass(frozen=True)
class Memory:
    """The bytes that one device holds at one moment of a step."""

    weights: float
    gradients: float
    optimizer: float
    activations: float = 0
    logits: float = 0

    @property
    def total(self) -> float:
        """Return their sum."""
        return sum(vars(self).values())


@dataclass(frozen=True)
class Shapes:
    """What the plan needs to know of a model; weights are numbers, activations bytes.

    inside    weights in all blocks
    outside   weights of embeddings, output layer and what else is in no block, tied ones once
    added     weights of LoRA
    blocks    number of blocks
    matrix    weights of the largest matrix in a block
    output    weights of the output layer
    is_tied   whether the output layer is the embedding
    logits    numbers that the output layer returns
    entry     activations that enter a block
    in_block  activations of a block that its backward pass needs
    elsewhere activations outside of the blocks that the backward pass needs
    """

    inside: int
    outside: int
    added: int
    blocks: int
    matrix: int
    output: int
    is_tied: bool
    logits: int
    entry: int
    in_block: int
    elsewhere: int

    @property
    def learning(self) -> int:
        """Return how many weights learn: those that were added, or all."""
        return self.added or self.inside + self.outside


def peak(config: PreTrainedConfig, setting: Setting) -> Memory:
    """Return what a device holds at the fullest moment of a step.

    Raises WorkbookError for a config of no causal language model, and for a model whose step cannot
    be followed without data.
    """
    return max(moments(read_shapes(config, setting), setting).values(), key=lambda one: one.total)


def moments(shapes: Shapes, setting: Setting) -> dict[str, Memory]:
    """Return what a device holds at the moments of a step that can be the fullest.

    "loss"    all activations, and three float32 numbers a logit: the log-probability, its gradient,
              the logit's gradient
    "top"     the backward pass has left the output layer and is in the last block
    "bottom"  it is in the first block: nearly all gradients are there
    "embedding"  it is through the embedding
    "update"  the optimizer has the gradients in float32

    Left out are what a block needs for an instant, libraries, and the buckets of PyTorch's DDP, up
    to one more copy of the gradients, which `fit` does without.
    """
    at_rest = setting.share(weight_bytes(shapes, setting), stage=3)
    computing = at_rest + gathered_bytes(shapes, setting)
    optimizer = setting.share(optimizer_bytes(shapes, setting), stage=1)
    gradients = gradient_bytes(shapes, setting)
    saved, again = activation_bytes(shapes, setting)
    logits = shapes.logits
    held = {
        "loss": (computing, saved, 12 * logits),
        "top": (computing, saved + again, setting.width * logits),
        "bottom": (computing, shapes.in_block, 0),
        "embedding": (computing, 0, 0),
        "update": (at_rest, 0, 0),
    }
    return {
        moment: Memory(weights, gradients[moment], optimizer, *work)
        for moment, (weights, *work) in held.items()
    }


def weight_bytes(shapes: Shapes, setting: Setting) -> float:
    """Return the bytes of all weights, float32 masters left out."""
    frozen = shapes.inside + shapes.outside if shapes.added else 0
    originals = 4 * frozen if (setting.precision, setting.loaded) == ("bf16", "fp32") else 0
    return working_bytes(shapes.inside, shapes.outside + shapes.added, setting) + originals


def working_bytes(inside: float, outside: float, setting: Setting) -> float:
    """Return the bytes of so many weights in blocks and outside, as they are computed with."""
    in_blocks = NF4_BYTES if setting.method == "qlora" else setting.width
    return inside * in_blocks + outside * setting.width


def gathered_bytes(shapes: Shapes, setting: Setting) -> float:
    """Return the bytes of weights that are whole, or wide, only while they are computed with.

    Of shared weights (stage 3) this block, the next and what is outside; of 4-bit ones a matrix.
    """
    matrix = shapes.matrix * setting.width if setting.method == "qlora" else 0
    if setting.stage < 3 or setting.devices == 1:
        return matrix
    return matrix + working_bytes(2 * shapes.inside / shapes.blocks, shapes.outside, setting)


def optimizer_bytes(shapes: Shapes, setting: Setting) -> int:
    """Return the bytes of Adam's two running means and, in bf16, of the masters, all float32."""
    return shapes.learning * (12 if setting.precision == "bf16" else 8)


def gradient_bytes(shapes: Shapes, setting: Setting) -> dict[str, float]:
    """Return the bytes of gradients at each moment of `moments`.

    With accumulation those of earlier batches are there all the time. A tied embedding's comes in
    two parts, from the output layer and from the input, whose sum is a third tensor. Of gradients
    that are shared out (stage 2) a block's and the one's before are whole until they are. The
    optimizer widens a device's share to float32.
    """
    width, wide = setting.width * shapes.learning, 4 * shapes.learning
    every = setting.share(width, stage=2)
    earlier = every if setting.gradient_accumulation_steps > 1 else 0
    output = 0 if shapes.added else shapes.output * setting.width
    parts = 2 * shapes.is_tied + (earlier > 0)  # that are there beside the whole
    whole = 0
    if setting.stage >= 2 and setting.devices > 1:
        whole = 2 * (shapes.added or shapes.inside) / shapes.blocks * setting.width
    return {
        "loss": earlier,
        "top": earlier + output + whole,
        "bottom": every + whole + (output if shapes.is_tied and earlier else 0),
        "embedding": every + whole + parts * output,
        "update": min(setting.share(wide, stage=1) + every, setting.share(wide, stage=2)),
    }


def activation_bytes(shapes: Shapes, setting: Setting) -> tuple[int, int]:
    """Return the bytes that wait for the backward pass, and those that it computes again."""
    if setting.gradient_checkpointing:
        return shapes.elsewhere + shapes.blocks * shapes.entry, shapes.in_block
    return shapes.elsewhere + shapes.blocks * shapes.in_block, 0


# --- what fits


def read_config(name: str | None = None) -> PreTrainedConfig:
    """Return the config of a size in `LLAMAS`, or of a model as `models.read_config` does."""
    return LlamaConfig(**LLAMAS[name]) if name in LLAMAS else models.read_config(name)


def read_bytes(text: str) -> float:
    """Return the bytes in a text such as "24GB" or "22.5 GiB". Raises WorkbookError otherwise."""
    found = re.fullmatch(r"([0-9]*\.?[0-9]+) *(GB|GIB)?", text.strip().upper())
    if not found or not float(found[1]):
        raise WorkbookError(f"{text!r} is no size of a memory: write it as in 24GB.")
    return float(found[1]) * GB[found[2] or "GB"]


@dataclass(frozen=True)
class Row:
    """A way of tuning: its peak on each device, and how many rows fit there at most."""

    name: str
    setting: Setting
    peak: Memory
    largest_batch: int

    @property
    def fits(self) -> bool:
        """Tell whether the batch that was asked for fits."""
        return self.largest_batch >= self.setting.batch_size


def plan(config: PreTrainedConfig, device_bytes: float, setting: Setting) -> list[Row]:
    """Return what the usual ways of tuning take on devices of this size.

    `setting` gives batch, lengths, rank and devices. Frozen weights are loaded in bf16. A tenth of
    a device is left to libraries and the allocator. Without `torch.nn.Linear` in its blocks a model
    has no rows of LoRA. Raises WorkbookError as `peak`.
    """
    rows, known = [], {}
    can_have_lora = _has_linear_layers(config)
    for name, changes in ways(setting.devices).items():
        way = replace(setting, **changes)
        kind = (way.method == "full", way.precision)  # LoRA computes alike on weights in 4 bits
        if way.method != "full" and not can_have_lora:
            continue
        if kind not in known:
            known[kind] = read_shapes(config, way)
        each = list(moments(known[kind], way).values())
        fullest = max(each, key=lambda one: one.total)
        rows.append(Row(name, way, fullest, largest_batch(each, way, ROOM * device_bytes)))
    return rows


def choose(rows: Iterable[Row], wanted: int, devices: int = 1) -> tuple[str, int, int] | str:
    """Return the first way that fits, the rows a device computes at once, and the batches a step.

    A step then learns from at least `wanted` rows; "nothing" where no way fits.
    """
    fitting = (row for row in rows if row.largest_batch)
    if not (first := next(fitting, None)):
        return "nothing"
    at_once = min(first.largest_batch, math.ceil(wanted / devices))
    return first.name, at_once, math.ceil(wanted / (at_once * devices))


def ways(devices: int) -> dict[str, dict]:
    """Return the ways of tuning by name: what each changes of a setting."""
    bf16 = {"precision": "bf16", "loaded": "bf16"}
    lean = bf16 | {"gradient_checkpointing": True}
    found = {"full fp32": {}, "full bf16": bf16, "full bf16 recomputing": lean}
    if devices > 1:
        found |= {f"… ZeRO-{stage}": lean | {"stage": stage} for stage in (1, 2)}
        found["… ZeRO-3 (FSDP)"] = lean | {"stage": 3}
    found["LoRA bf16"] = bf16 | {"method": "lora"}
    found["LoRA bf16 recomputing"] = lean | {"method": "lora"}
    if devices > 1:
        found["… FSDP"] = lean | {"method": "lora", "stage": 3}
    return found | {"QLoRA recomputing": lean | {"method": "qlora"}}


def largest_batch(each: Iterable[Memory], setting: Setting, room: float) -> int:
    """Return how many rows fit at all moments: activations and logits grow with them."""
    rows = float("inf")
    for one in each:
        growing = one.activations + one.logits
        left = room - (one.total - growing)
        if left < 0:
            return 0
        rows = min(rows, left / growing * setting.batch_size if growing else rows)
    return int(rows)


# --- shapes without data


def read_shapes(config: PreTrainedConfig, setting: Setting) -> Shapes:
    """Return the shapes of a model that is tuned in this way. Raises WorkbookError as `peak`."""
    config = _text_config(config)
    one, two = (_followed(config, setting, blocks) for blocks in (1, 2))
    with _without_data(config, setting) as model:
        added = 0 if setting.method == "full" else _size(models.learning_weights(model).values())
        blocks, output = _blocks(model)[1], model.get_output_embeddings().weight
        inside = _size(blocks.parameters())
        return Shapes(
            inside=inside,
            outside=_size(model.parameters()) - inside - added,
            added=added,
            blocks=len(blocks),
            matrix=max(weight.numel() for weight in blocks.parameters()),
            output=output.numel(),
            is_tied=output is model.get_input_embeddings().weight,
            logits=setting.batch_size * setting.positions * config.vocab_size,
            entry=setting.tokens * config.hidden_size * setting.width,
            in_block=two - one,
            elsewhere=max(2 * one - two, 0),
        )


def _text_config(config) -> PreTrainedConfig:
    """Return the config of the part that writes text. Raises WorkbookError as `peak`."""
    with _clear_errors(config):
        if config.is_encoder_decoder:
            raise ValueError("a part of it reads and another one writes")
        text = config.get_text_config(decoder=True)
        if any(getattr(text, name, None) for name in EXPERTS):
            raise ValueError("which expert a token goes to depends on the token")
        return text


@contextlib.contextmanager
def _without_data(config, setting: Setting) -> Iterator[torch.nn.Module]:
    """Yield the model, with LoRA where the setting asks for it, on the meta device."""
    with torch.device("meta"), _clear_errors(config):
        model = AutoModelForCausalLM.from_config(config).train()
        _check_decoder(model)
    if setting.method == "full":
        yield model
        return
    with torch.device("meta"):
        addition = lora.LoRA(model, setting.rank, target_modules=inside_blocks(model))
    with additions.attached(model, addition):
        yield model


@contextlib.contextmanager
def _clear_errors(config) -> Iterator[None]:
    """Refuse what is no causal language model, or computes otherwise with other data."""
    try:
        yield
    except Exception as error:  # of many kinds: each model's code raises its own
        raise WorkbookError(
            f"A step of the model type {config.model_type!r} cannot be planned: take a Transformer "
            "decoder of its size that has no experts, such as a Llama, Qwen or Gemma."
        ) from error


def _check_decoder(model) -> None:
    """Raise ValueError for what `models.load` refuses, as far as a model without data shows it."""
    layer_types = getattr(model.config, "layer_types", None) or ()
    if getattr(model, "_is_stateful", False) or models.RECURRENT_LAYERS & {*layer_types}:
        raise ValueError("it keeps a state in place of attention")
    # Layers of families that are mostly encoders say what they are.
    if any(getattr(module, "is_decoder", True) is False for module in model.modules()):
        raise ValueError("it sees the words that it should predict")
    _blocks(model)


def _has_linear_layers(config) -> bool:
    with _without_data(_shallow(_text_config(config), 1), Setting()) as model:
        return any(isinstance(one, torch.nn.Linear) for one in _blocks(model)[1].modules())


def _shallow(config, blocks: int) -> PreTrainedConfig:
    """Return the config with so many blocks."""
    changed = copy.deepcopy(config)
    changed.num_hidden_layers = blocks
    return changed


def inside_blocks(model: torch.nn.Module) -> str:
    """Return a regular expression on the names of all layers in the model's blocks."""
    return rf"^{re.escape(_blocks(model)[0])}\."


def _blocks(model: torch.nn.Module) -> tuple[str, torch.nn.ModuleList]:
    """Return the name of the list of the model's blocks, and the list.

    Raises ValueError where there is none.
    """
    count = model.config.num_hidden_layers
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == count:
            return name, module
    raise ValueError(f"it has no list of {count} blocks")


def _followed(config, setting: Setting, blocks: int) -> int:
    """Return the bytes of activations that autograd keeps of so many blocks, logits left out.

    Korthikanti et al. (2022, 2205.05198) count them by hand for a GPT. Here the model's own code
    runs on fake tensors, which have a shape, a format and a device but no data, with the kernels of
    the CPU, whose attention, as that of GPUs, keeps no scores.
    """
    shallow = _shallow(config, blocks)
    kept: dict[int, int] = {}
    with _without_data(shallow, setting) as model, FakeTensorMode(allow_non_fake_inputs=True):
        model.to_empty(device="cpu").tie_weights()
        models.cast_weights(model, FORMATS[setting.precision])
        own = {_place(tensor) for tensor in (*model.parameters(), *model.buffers())}

        def keep(tensor):
            if _place(tensor) not in own:
                kept[_place(tensor)] = tensor.untyped_storage().nbytes()
            return tensor

        with saved_tensors_hooks(keep, lambda tensor: tensor), _clear_errors(config):
            logits = _logits(model, setting)  # holds the graph until all is counted
    del logits
    return sum(kept.values())


def _logits(model, setting: Setting) -> torch.Tensor:
    """Return what a batch of full rows computes before its loss."""
    tokens = torch.zeros(setting.batch_size, setting.sequence_length, dtype=torch.long)
    rows = torch.arange(setting.batch_size).repeat_interleave(setting.positions)
    places = torch.arange(-setting.positions, 0).repeat(setting.batch_size)
    inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "use_cache": False}
    return models.logits_at(model, rows, places, **inputs)


def _place(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _size(weights: Iterable[torch.Tensor]) -> int:
    return sum(weight.numel() for weight in weights)
