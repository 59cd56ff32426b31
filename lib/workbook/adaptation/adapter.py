"""Bottleneck adapters inside each block (Houlsby et al. 2019, arXiv:1902.00751).

Taught in notebook 08.
"""

import torch
import torch.nn.functional as F

from .additions import LayerAddition, check_size


class Bottleneck(torch.nn.Module):
    """Down to a narrow width, a nonlinearity, and up again, added to a layer's output.

    The way up starts at zero, so that a new adapter changes nothing.
    """

    def __init__(self, layer: torch.nn.Linear, width: int):
        super().__init__()
        self.down = torch.nn.Linear(layer.out_features, width)
        self.up = torch.nn.Linear(width, layer.out_features)
        torch.nn.init.zeros_(self.up.weight)
        torch.nn.init.zeros_(self.up.bias)

    def forward(self, inputs: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """Return the layer's output y plus up(gelu(down(y)))."""
        narrow = F.gelu(self.down(output.to(self.down.weight.dtype)))
        return output + self.up(narrow).to(output.dtype)

    def fits(self, layer: torch.nn.Module) -> bool:
        """Tell whether the layer puts out what the adapter takes in."""
        return getattr(layer, "out_features", None) == self.down.in_features


class Adapter(LayerAddition):
    """A bottleneck after the attention and after the MLP of every block, before the residual sum.

    `width` is that of the bottleneck. `target_modules` names the last linear layer of
    both sub-layers, in a Llama o_proj and down_proj. Raises WorkbookError for a width below 1
    and if no layer matches.
    """

    kind = "adapter"

    def __init__(
        self, model, width: int = 16, target_modules: str = r"(o_proj|down_proj)$", seed: int = 0
    ):
        check_size("width", width)
        super().__init__(
            model, lambda layer: Bottleneck(layer, width), target_modules, seed, width=width
        )
