"""Additions as files of a few megabytes, and one exchanged for another."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .. import assets
from ..errors import WorkbookError
from ..files import atomic_path
from .adapter import Adapter
from .additions import Addition
from .lora import LoRA
from .soft_prompt import SoftPrompt

ADDITIONS = {addition.kind: addition for addition in (LoRA, Adapter, SoftPrompt)}


def save(addition: Addition, path: str | Path) -> None:
    """Write an addition, without the model, as safetensors; kind and settings are in the header.

    Beside one that was made for the base model lie that model's terms of use.
    """
    state = {name: t.detach().cpu().contiguous() for name, t in addition.state_dict().items()}
    header = {"kind": addition.kind, "settings": json.dumps(addition.config)}
    header |= assets.base.put_notices(addition.model_config, Path(path).parent)
    with atomic_path(Path(path)) as partial:
        save_file(state, partial, metadata=header)


def load(path: str | Path, model) -> Addition:
    """Return the addition in a file, ready to be attached to the model.

    Raises WorkbookError for a file that `save` did not write, and for one made for another model.
    """
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata()
            state = {name: file.get_tensor(name) for name in file.keys()}
        addition = ADDITIONS[header["kind"]](model, **json.loads(header["settings"]))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise WorkbookError(
            f"{path} is missing, damaged or holds no addition: give a file that save wrote."
        ) from error
    if _shapes(state) != _shapes(addition.state_dict()):
        raise WorkbookError(
            f"The {addition.kind} in {path} was made for another model: load it into that one."
        )
    addition.load_state_dict(state)
    return addition


def _shapes(state: dict[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in state.items()}


def swap(addition: Addition, other: Addition) -> None:
    """Exchange the weights of two additions, whether one is attached or not.

    Nothing is copied: a model serves one task after another this way. Raises WorkbookError if they
    differ in kind, settings or shapes.
    """
    forms = [(a.kind, a.config, _shapes(a.state_dict())) for a in (addition, other)]
    if forms[0] != forms[1]:
        raise WorkbookError(
            f"A {addition.kind} with {addition.config} cannot take the weights of a "
            f"{other.kind} with {other.config}: use two of one form."
        )
    for mine, its in zip(addition.parameters(), other.parameters(), strict=True):
        mine.data, its.data = its.data, mine.data
