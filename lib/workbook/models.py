"""Load a causal language model and its tokenizer, count its weights, take and restore snapshots."""

import contextlib
import os
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
)

from . import assets, settings
from .assets import convert
from .errors import WorkbookError

DEFAULT_MODEL = "smollm2-135m-instruct"
BASE_MODEL = "base"  # Gemma 3 270M, optional: `workbook fetch base`
RECURRENT_LAYERS = {"conv", "linear_attention", "hybrid", "hybrid_sliding"}  # transformers' names
HUB_FILES = ("*.json", "*.jinja", "*.txt", "*.model", "*.safetensors")


def load(
    name: str | None = None, *, revision: str | None = None, dtype: torch.dtype = torch.float32
) -> tuple[torch.nn.Module, PreTrainedTokenizerBase]:
    """Return the model (in evaluation mode, on the device) and the tokenizer called `name`.

    `name` is `DEFAULT_MODEL`, "base" (the optional base model), a local folder or a hub id (with
    `revision`); without it, the setting `WORKBOOK_MODEL` or the default model. Weights are read
    from safetensors only, and no code that comes with a model is run. Raises WorkbookError when it
    cannot be loaded, and for models that are no Transformer decoder.
    """
    name = name or default_name()
    folder = _folder(name, revision)
    if not any(folder.glob("*.safetensors")):
        raise WorkbookError(
            f"The model {name!r} has no *.safetensors file: save it with save_pretrained, since "
            "other weight files can carry code and are not read."
        )
    try:
        with convert.quiet_transformers():
            model, tokenizer = _from_folder(folder, dtype)
    except ImportError as error:  # of bitsandbytes and its like
        raise WorkbookError(
            f"The model {name!r} cannot be read here: {' '.join(str(error).split())}. Do that, or "
            "take the same model without quantization."
        ) from error
    except Exception as error:  # of many kinds: tokenizers raises bare ones
        raise WorkbookError(
            f"The folder {folder} is damaged or holds no causal language model with its tokenizer: "
            + _mend(name)
        ) from error
    return _ready(model, tokenizer)


def default_name() -> str:
    """Return the name of the model that `load()` loads: `WORKBOOK_MODEL`, or the course's."""
    return os.environ.get("WORKBOOK_MODEL") or DEFAULT_MODEL


def read_config(name: str | None = None) -> PreTrainedConfig:
    """Return the configuration of what `load` would load; of a hub's model nothing else is fetched.

    `name` may also be a file such as `config.json`. Raises WorkbookError when there is none.
    """
    name = name or default_name()
    place = _folder(name, None) if name in (DEFAULT_MODEL, BASE_MODEL) else Path(name).expanduser()
    try:
        return AutoConfig.from_pretrained(
            place if place.exists() else name, trust_remote_code=False
        )
    except Exception as error:  # of many kinds: of the hub, proxies, damaged files
        raise WorkbookError(
            f"{name!r} is no config.json, no folder with one, and no model that the hub has, or it "
            "cannot be reached: check the name and the connection."
        ) from error


def has_base() -> bool:
    """Tell whether somebody has fetched the base model, so that `load("base")` works."""
    return assets.is_cached(BASE_MODEL)


def _mend(name: str) -> str:
    if name == BASE_MODEL:
        return f"delete it and run `{assets.base.COMMAND}` again."
    return "delete it and run again." if name == DEFAULT_MODEL else "check what is in it."


def _folder(name: str, revision: str | None) -> Path:
    if name == DEFAULT_MODEL:
        return assets.model_dir()
    if name == BASE_MODEL:
        return assets.base.model_dir()
    folder = Path(name).expanduser()
    return folder if folder.is_dir() else _from_hub(name, revision)


def _from_hub(name: str, revision: str | None) -> Path:
    try:
        return Path(
            snapshot_download(
                name, revision=revision, allow_patterns=HUB_FILES, ignore_patterns="*/*"
            )
        )
    except Exception as error:  # also of proxies, certificates and missing packages
        raise WorkbookError(
            f"The model {name!r} is no local folder, and the hub does not have it or cannot be "
            "reached: check the name, the revision and the connection, or unset WORKBOOK_MODEL "
            f"to use {DEFAULT_MODEL}."
        ) from error


def _from_folder(
    folder: Path, dtype: torch.dtype
) -> tuple[torch.nn.Module, PreTrainedTokenizerBase]:
    options = {"local_files_only": True, "trust_remote_code": False}
    model, report = AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, use_safetensors=True, output_loading_info=True, **options
    )
    if report["missing_keys"]:  # transformers would go on with random weights in their place
        raise ValueError(f"no weights for {sorted(report['missing_keys'])}")
    return model, AutoTokenizer.from_pretrained(folder, **options)


def _ready(
    model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase
) -> tuple[torch.nn.Module, PreTrainedTokenizerBase]:
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.config.use_cache = True
    model = model.to(settings.device()).eval()
    check_causal(model)
    return model, tokenizer


@dataclass(frozen=True)
class Parameters:
    """Numbers of weights of a model, tied ones counted once."""

    total: int
    trainable: int

    @property
    def share(self) -> float:
        """The trainable part, between 0 and 1."""
        return self.trainable / self.total


def count_parameters(model: torch.nn.Module) -> Parameters:
    """Count all weights of `model` and those that require a gradient."""
    sizes = [(weight.numel(), weight.requires_grad) for weight in model.parameters()]
    return Parameters(sum(n for n, _ in sizes), sum(n for n, trainable in sizes if trainable))


def context_length(model: torch.nn.Module) -> float:
    """Return how many tokens the model reads at most, infinity where it does not say."""
    config = model.config.get_text_config(decoder=True)
    return getattr(config, "max_position_embeddings", None) or float("inf")


def vocabulary_size(model: torch.nn.Module) -> int:
    """Return how many words the model chooses from, hence the logits of one position."""
    return model.config.get_text_config(decoder=True).vocab_size


def check_ids(model: torch.nn.Module, largest: int) -> None:
    """Raise WorkbookError for a token id, the largest of many, that the model has no word for."""
    if largest >= vocabulary_size(model):
        raise WorkbookError(
            f"The model knows {vocabulary_size(model)} tokens and was given the id {largest}: use "
            "the tokenizer that came with it."
        )


_known_causal = weakref.WeakSet()


def check_causal(model: torch.nn.Module) -> None:
    """Raise WorkbookError for a model that cannot be scored word after word.

    An encoder sees the words that it should predict; a state-space model has no attention that
    could leave out pads, nor a cache that could be branched. A model is looked at once.
    """
    if model in _known_causal:
        return
    name = type(model).__name__
    config = model.config.get_text_config(decoder=True)
    if getattr(model, "_is_stateful", False) or RECURRENT_LAYERS & {*_layer_types(config)}:
        raise WorkbookError(
            f"A {name} keeps a state in place of attention, which is not scored here: choose a "
            "Transformer decoder, such as a Llama, Qwen or Gemma."
        )
    if _sees_what_follows(model):
        raise WorkbookError(
            f"A {name} sees the words that it should predict, as encoders do: choose a causal "
            "language model, such as a Llama, Qwen or Gemma."
        )
    _known_causal.add(model)


def _layer_types(config) -> list[str]:
    return getattr(config, "layer_types", None) or []


@torch.inference_mode()
def _sees_what_follows(model: torch.nn.Module) -> bool:
    """Tell whether the logits at two tokens depend on the six that follow."""
    was_training = model.training
    model.eval()
    texts = [torch.tensor([[1, 2, *[last] * 6]], device=model.device) for last in (3, 4)]
    rows, positions = torch.tensor([0, 0]), torch.tensor([-8, -7])
    try:
        first, second = (logits_at(model, rows, positions, input_ids=text) for text in texts)
    finally:
        model.train(was_training)
    # Not zero: a mixture of experts groups other tokens together, which moves the last bits.
    tolerance = 1e-3 if first.dtype == torch.float32 else 1e-2
    return bool((first - second).abs().max() > tolerance * first.abs().max())


def logits_at(
    model: torch.nn.Module, rows: torch.Tensor, positions: torch.Tensor, **inputs
) -> torch.Tensor:
    """Return the logits [places, vocabulary] at the places (row, position) of a batch alone.

    The output layer gets no other hidden states: with a vocabulary of 262,144 words the logits of
    a thousand tokens take a gigabyte. Negative positions count from the end; `inputs` are the
    model's.
    """
    with _output_layer_reads(model, lambda hidden: hidden[rows, positions][None]):
        return model(**inputs).logits[0]


def last_logits(model: torch.nn.Module) -> contextlib.AbstractContextManager:
    """Return a context in which the model computes the logits of the last position alone."""
    return _output_layer_reads(model, lambda hidden: hidden[:, -1:])


@contextlib.contextmanager
def _output_layer_reads(model, choose) -> Iterator[None]:
    """Pass `choose(hidden)` to the output layer instead of all hidden states [rows, tokens, n]."""
    handle = model.get_output_embeddings().register_forward_pre_hook(
        lambda _, arguments: (choose(arguments[0]), *arguments[1:])
    )
    try:
        yield
    finally:
        handle.remove()


def learning_weights(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Return the weights that learn, by name. Raises WorkbookError if none does."""
    found = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    if not found:
        raise WorkbookError(
            "No weight of the model learns: choose some with training.select_trainable, or attach "
            "an addition."
        )
    return found


def cast_weights(model: torch.nn.Module, dtype: torch.dtype) -> None:
    """Cast all weights in place, as far as they have another format.

    Buffers keep their format: rotary frequencies rounded to bfloat16 would misplace every token.
    Integers do too: they are weights that somebody has quantized.
    """
    for weight in model.parameters():
        if weight.is_floating_point():
            weight.data = weight.data.to(dtype)


def snapshot(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return a copy of all weights and buffers in CPU memory, tied ones once."""
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in _tensors(model).items()}


@torch.no_grad()
def restore(model: torch.nn.Module, snapshot: dict[str, torch.Tensor]) -> None:
    """Write a snapshot back into `model`, bit by bit.

    Raises WorkbookError, before anything is written, when names, shapes or number formats differ.
    """
    tensors = _tensors(model)
    differing = sorted(
        name for name in tensors.keys() | snapshot.keys() if not _alike(name, tensors, snapshot)
    )
    if differing:
        raise WorkbookError(
            f"The snapshot is of another model ({differing[0]} and {len(differing) - 1} more "
            "tensors differ): restore it into the model it was taken from."
        )
    for name, tensor in tensors.items():
        tensor.copy_(snapshot[name])


def _tensors(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return dict(chain(model.named_parameters(), model.named_buffers()))


def _alike(name: str, *sides: dict[str, torch.Tensor]) -> bool:
    """Tell whether both sides have a tensor of this name with the same shape and format."""
    found = [(side[name].shape, side[name].dtype) for side in sides if name in side]
    return len(found) == 2 and found[0] == found[1]
