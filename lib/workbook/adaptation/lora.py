"""LoRA: learn a low-rank update of frozen weights (Hu et al. 2021, arXiv:2106.09685).

Taught in notebook 07.
"""

import math
import weakref

import torch
import torch.nn.functional as F

from ..errors import WorkbookError
from .additions import LayerAddition, check_bare, check_size


class Weights(dict[str, torch.Tensor]):
    """Weights by the name of their layer; unlike a plain dict they can be referred to weakly."""


class LoRALinear(torch.nn.Module):
    """The update B A of one linear layer, scaled by alpha / rank; B starts at zero.

    A is [rank, inputs], drawn as `peft` draws it; B is [outputs, rank].
    """

    def __init__(self, layer: torch.nn.Linear, rank: int, alpha: float):
        super().__init__()
        self.A = torch.nn.Parameter(torch.empty(rank, layer.in_features))
        self.B = torch.nn.Parameter(torch.zeros(layer.out_features, rank))
        torch.nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))
        # A buffer, so that the run cache tells two values of alpha apart.
        self.register_buffer("scaling", torch.tensor(alpha / rank))

    def forward(self, inputs: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """Return the layer's output W x plus scaling · B A x."""
        update = F.linear(F.linear(inputs.to(self.A.dtype), self.A), self.B)
        return output + (self.scaling * update).to(output.dtype)

    def update(self) -> torch.Tensor:
        """Return the update of the weights as a float32 matrix [outputs, inputs]."""
        return self.scaling * (self.B.float() @ self.A.float())

    def fits(self, layer: torch.nn.Module) -> bool:
        """Tell whether the layer's weights have the update's shape."""
        shape = (len(self.B), self.A.shape[1])
        return isinstance(layer, torch.nn.Linear) and layer.weight.shape == shape


class LoRA(LayerAddition):
    """A low-rank update for every chosen linear layer of a model.

    `target_modules` is a regular expression on layer names; by default all linear layers of
    a Llama's blocks. Raises WorkbookError for a rank below 1 and when no layer matches.
    """

    kind = "lora"

    def __init__(
        self,
        model,
        rank: int = 8,
        alpha: float = 16,
        target_modules: str = r"_proj$",
        seed: int = 0,
    ):
        check_size("rank", rank)
        super().__init__(
            model,
            lambda layer: LoRALinear(layer, rank, alpha),
            target_modules,
            seed,
            rank=rank,
            alpha=alpha,
        )


@torch.no_grad()
def merge(model: torch.nn.Module, lora: LoRA) -> Weights:
    """Add the updates to the weights, so that they cost nothing, and return the old weights.

    The sums are made and kept in float32. Raises WorkbookError, before anything is changed, for
    weights in another format, for tied weights, while an addition is attached, and for a LoRA that
    is merged already, whose update would count twice.
    """
    check_bare(model)
    sites = lora.sites(model)
    merged = vars(model).setdefault("_merged", [])
    if any(each() is lora for each, _ in merged):
        raise WorkbookError("This LoRA is merged already: unmerge it first.")
    for name, layer, _ in sites:
        _check_mergeable(model, name, layer)
    old = Weights({name: layer.weight.data for name, layer, _ in sites})
    for _, layer, part in sites:
        layer.weight.data = layer.weight + part.update()
    merged.append((weakref.ref(lora), weakref.ref(old)))
    return old


def _check_mergeable(model, name: str, layer: torch.nn.Linear) -> None:
    if layer.weight.dtype != torch.float32:
        raise WorkbookError(
            f"The weights of {name} are {layer.weight.dtype}, which would round much of the update "
            "away: load the model in float32 to merge."
        )
    if layer.weight is model.get_input_embeddings().weight:
        raise WorkbookError(
            f"{name} shares its weights with the embeddings, which merging would change too: "
            "leave it out of target_modules."
        )


def unmerge(model: torch.nn.Module, old: Weights) -> None:
    """Put back the weights that `merge` returned, bit for bit.

    Taking the update off again would not do: (W + D) − D differs from W wherever W + D was rounded.
    Raises WorkbookError if the weights are of another model.
    """
    layers = dict(model.named_modules())
    if not all(name in layers and layers[name].weight.shape == old[name].shape for name in old):
        raise WorkbookError("The old weights are of another model: pass what merge returned.")
    for name, weight in old.items():
        layers[name].weight.data = weight
    merged = vars(model).get("_merged", [])
    merged[:] = [(lora, kept) for lora, kept in merged if kept() is not old]
