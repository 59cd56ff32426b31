"""Progressive networks in a form that fits a Transformer (Rusu et al. 2016, arXiv:1606.04671).

The old model is the first column and stays as it is. A narrow second column learns the new task:
at each layer it reads the first column's hidden state (the lateral connections), and its end is
added to the first column's before the output layer. Taken off, the old model is bit for bit back.
Taught in notebook 05.
"""

import contextlib
import functools
from collections.abc import Iterator

import torch
import torch.nn.functional as F

from ..adaptation import additions
from ..errors import WorkbookError


class Column(additions.Addition):
    """A narrow network beside a Transformer, one block a layer, that adds nothing at first.

    `model_config` is that of the old column, `width` that of the new one. The blocks have no
    attention of their own: what other positions say reaches them through the laterals.
    """

    kind = "column"

    def __init__(self, model_config, width: int = 96, seed: int = 0):
        super().__init__(model_config, width=width)
        layers, hidden = model_config.num_hidden_layers, model_config.hidden_size
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.laterals = _linears(layers, hidden, width)
            self.up = _linears(layers, width, 2 * width)
            self.down = _linears(layers, 2 * width, width)
            self.out = torch.nn.Linear(width, hidden, bias=False)
        torch.nn.init.zeros_(self.out.weight)
        self.state = None

    @staticmethod
    def hook(model, group, rows):
        """Register a hook at each layer and one at the end."""
        [column], body = group, model.model
        # A deep copy of the model copies a partial's column with it, unlike a closure's.
        return [
            *(
                layer.register_forward_hook(functools.partial(_read, column, i))
                for i, layer in enumerate(body.layers)
            ),
            body.norm.register_forward_hook(functools.partial(_finish, column)),
        ]

    def read(self, layer: int, old: torch.Tensor) -> None:
        """Go on from the state below with the old column's hidden state [batch, length, hidden]."""
        lateral = self.laterals[layer](_normalized(old))
        state = lateral if layer == 0 else self.state + lateral
        self.state = state + self.down[layer](F.silu(self.up[layer](_normalized(state))))

    def finish(self, old: torch.Tensor) -> torch.Tensor:
        """Return the old column's last hidden state plus what this column has to say."""
        new, self.state = self.out(_normalized(self.state)), None
        return old + new


def _linears(count: int, inputs: int, outputs: int) -> torch.nn.ModuleList:
    return torch.nn.ModuleList(torch.nn.Linear(inputs, outputs, bias=False) for _ in range(count))


def _normalized(state: torch.Tensor) -> torch.Tensor:
    return F.rms_norm(state, state.shape[-1:])


def column_for(model: torch.nn.Module, width: int = 96, seed: int = 0) -> Column:
    """Return a new column that fits the model.

    Raises WorkbookError for models that are not built as a Llama is.
    """
    body = getattr(model, "model", None)
    if not (hasattr(body, "layers") and hasattr(body, "norm")):
        raise WorkbookError(
            f"A {type(model).__name__} has no model.layers and model.norm to read at: take a model "
            "that is built as a Llama is."
        )
    return Column(model.config, width, seed).to(model.device)


def _read(column: Column, layer: int, module, arguments, output: torch.Tensor) -> None:
    column.read(layer, output)


def _finish(column: Column, module, arguments, output: torch.Tensor) -> torch.Tensor:
    return column.finish(output)


@contextlib.contextmanager
def attached(model: torch.nn.Module, column: Column) -> Iterator[torch.nn.Module]:
    """Yield the model with the column beside it, where only the column learns.

    Training, scoring and generation work as usual; on leaving, the model is as it was.
    """
    try:
        with additions.attached(model, column):
            yield model
    finally:
        column.state = None  # of a pass that broke off
