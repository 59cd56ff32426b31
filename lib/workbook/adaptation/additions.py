"""How a LoRA, an adapter, a soft prompt or a progressive column is put on a model and taken off.

All are modules of their own that act through PyTorch's hooks. No layer of the model is
replaced and no weight renamed, so the model without them is bit for bit the old one, and training,
scoring and the run cache see them as one more part of the model. Taught in notebooks 07 and 08.
"""

import contextlib
import functools
import re
from collections.abc import Callable, Iterator, Sequence

import torch

from ..errors import WorkbookError


class Addition(torch.nn.Module):
    """A small module that learns while the model it is attached to stays as it is.

    `config` holds the arguments that, with a model, make another one of the same form;
    `model_config` is that model's own configuration.
    """

    kind = "addition"

    def __init__(self, model_config, **config):
        super().__init__()
        self.model_config = model_config
        self.config = config

    @staticmethod
    def hook(model, group: torch.nn.ModuleList, rows: torch.Tensor | None) -> list:
        """Register the hooks of a group of additions and return their handles.

        `rows` tells for each row of a batch which of the group it uses; None means the first.
        """
        raise NotImplementedError


class LayerAddition(Addition):
    """One part for each chosen linear layer, which changes what the layer puts out.

    `make(layer)` returns a part, called as `part(inputs, output)`. `target_modules` is a regular
    expression on the names of the layers. Raises WorkbookError if it finds no linear layer.
    """

    def __init__(self, model, make: Callable, target_modules: str, seed: int, **config):
        super().__init__(model.config, target_modules=target_modules, **config)
        layers = linear_layers(model, target_modules)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            # A module's name may not contain a dot.
            parts = {name.replace(".", "/"): make(layer) for name, layer in layers.items()}
        self.parts = torch.nn.ModuleDict(parts).to(model.device)

    def sites(self, model) -> list[tuple[str, torch.nn.Linear, torch.nn.Module]]:
        """Return name, layer and part of each place.

        Raises WorkbookError if the model has no such layers.
        """
        layers = dict(model.named_modules())
        found = [(key.replace("/", "."), part) for key, part in self.parts.items()]
        if not all(name in layers and part.fits(layers[name]) for name, part in found):
            raise WorkbookError(f"The {self.kind} was made for another model: make one for this.")
        return [(name, layers[name], part) for name, part in found]

    @staticmethod
    def hook(model, group, rows):
        """Register one hook a layer for each addition of the group."""
        places = [(i, site) for i, addition in enumerate(group) for site in addition.sites(model)]
        return [
            layer.register_forward_hook(
                # A deep copy of the model copies a partial's part with it, unlike a closure's.
                functools.partial(_change, part, None if rows is None else rows == i)
            )
            for i, (_, layer, part) in places
        ]


def _change(part, mine: torch.Tensor | None, layer, inputs: tuple, output: torch.Tensor):
    """Return the layer's output as the part changes it, in all rows or in those it is for."""
    if mine is None:
        return part(inputs[0], output)
    check_rows(mine, output)
    changed = output.clone()
    changed[mine] = part(inputs[0][mine], output[mine])
    return changed


def linear_layers(model, target_modules: str) -> dict[str, torch.nn.Linear]:
    """Return the linear layers whose name matches the regular expression.

    Raises WorkbookError if there is none.
    """
    found = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and re.search(target_modules, name)
    }
    if not found:
        raise WorkbookError(_no_layer(model, target_modules))
    return found


def _no_layer(model, target_modules: str) -> str:
    kinds = {
        type(module).__name__
        for name, module in model.named_modules()
        if re.search(target_modules, name) and hasattr(module, "weight")
    }
    if kinds:
        return (
            f"What matches {target_modules!r} is {', '.join(sorted(kinds))}, and only "
            "torch.nn.Linear is covered here: take `peft` for this model."
        )
    return f"No linear layer matches {target_modules!r}: see model.named_modules()."


def check_rows(rows: torch.Tensor, batch: torch.Tensor) -> None:
    """Raise WorkbookError if a batch has not the rows that were announced."""
    if len(rows) != len(batch):
        raise WorkbookError(
            f"The additions are for a batch of {len(rows)} rows and this one has {len(batch)}: "
            "pass the rows of one batch in order, to the model or to model.generate."
        )


def check_size(name: str, size: int) -> None:
    """Raise WorkbookError for a size below one."""
    if size < 1:
        raise WorkbookError(f"A {name} of {size} learns nothing: choose at least 1.")


def check_bare(model) -> None:
    """Raise WorkbookError if an addition is attached, so that it is never counted twice."""
    for module in model.modules():
        if isinstance(module, Addition):
            raise WorkbookError(f"A {module.kind} is attached: leave its block first.")


@contextlib.contextmanager
def attached(
    model: torch.nn.Module, *additions: Addition, rows: Sequence[int] | None = None
) -> Iterator[torch.nn.Module]:
    """Yield the model with the addition on it, where only the addition learns.

    Training, scoring and generation work as usual; on leaving, the model is as it was. Additions of
    different kinds may be nested. With several of one kind, `rows` gives for each row of a batch
    the index of the one it uses: one batch, many tasks. Raises WorkbookError for additions that do
    not fit the model or each other.
    """
    _check_group(model, additions, rows)
    kind, group = additions[0].kind, torch.nn.ModuleList(additions)
    learning = [p for p in model.parameters() if p.requires_grad]
    chosen = None if rows is None else torch.as_tensor(rows, device=model.device)
    with contextlib.ExitStack() as stack:  # undone whatever fails, also in what follows here
        stack.callback(_let_learn, learning)
        for handle in additions[0].hook(model, group, chosen):
            stack.callback(handle.remove)
        model.requires_grad_(False)
        model.add_module(kind, group.requires_grad_(True))
        stack.callback(delattr, model, kind)
        yield model


def _let_learn(parameters: Sequence[torch.nn.Parameter]) -> None:
    for parameter in parameters:
        parameter.requires_grad_(True)


def _check_group(model, additions, rows) -> None:
    """Raise WorkbookError unless the additions are of one free kind and each row has one."""
    if len({addition.kind for addition in additions}) != 1:
        raise WorkbookError("Attach one or more additions of one kind; nest blocks for others.")
    if hasattr(model, additions[0].kind):
        raise WorkbookError(f"A {additions[0].kind} is attached: leave its block first.")
    if rows is None and len(additions) > 1:
        raise WorkbookError("Several additions need rows=: the index of its own for each row.")
    if rows is not None and not all(0 <= row < len(additions) for row in rows):
        raise WorkbookError(f"Each of rows= must be an index from 0 to {len(additions) - 1}.")
