"""Load a causal language model and its tokenizer, count its weights, take and restore snapshots."""

import os
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from . import assets, settings
from .assets import convert
from .errors import WorkbookError

DEFAULT_MODEL = "smollm2-135m-instruct"
BASE_MODEL = "base"  # Gemma 3 270M, optional: `workbook fetch base`
HUB_FILES = ("*.json", "*.jinja", "*.txt", "*.model", "*.safetensors")


def load(
    name: str | None = None, *, revision: str | None = None, dtype: torch.dtype = torch.float32
) -> tuple[torch.nn.Module, PreTrainedTokenizerBase]:
    """Return the model (in evaluation mode, on the device) and the tokenizer called `name`.

    `name` is `DEFAULT_MODEL`, "base" (the optional base model), a local folder or a hub id (with
    `revision`); without it, the setting `WORKBOOK_MODEL` or the default model. Weights are read
    from safetensors only, and no code that comes with a model is run. Raises WorkbookError when it
    cannot be loaded.
    """
    name = name or os.environ.get("WORKBOOK_MODEL") or DEFAULT_MODEL
    folder = _folder(name, revision)
    if not any(folder.glob("*.safetensors")):
        raise WorkbookError(
            f"The model {name!r} has no *.safetensors file: save it with save_pretrained, since "
            "other weight files can carry code and are not read."
        )
    try:
        with convert.quiet_transformers():
            model, tokenizer = _from_folder(folder, dtype)
    except (OSError, ValueError, SafetensorError) as error:
        raise WorkbookError(
            f"The folder {folder} is damaged or holds no causal language model with its tokenizer: "
            + _mend(name)
        ) from error
    return _ready(model, tokenizer)


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
    except (OSError, ValueError) as error:
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
    return model.to(settings.device()).eval(), tokenizer


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
    return getattr(model.config, "max_position_embeddings", None) or float("inf")


def cast_weights(model: torch.nn.Module, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Cast all weights and return the tensors that they had before, by name.

    Buffers keep their format: rotary frequencies rounded to bfloat16 would misplace every token.
    """
    before = {name: weight.data for name, weight in model.named_parameters()}
    for weight in model.parameters():
        weight.data = weight.data.to(dtype)
    return before


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
