"""Where the weights moved."""

import re

import pandas as pd
import torch

from ..errors import WorkbookError


@torch.no_grad()
def by_layer_and_module(model: torch.nn.Module, start: dict[str, torch.Tensor]) -> pd.DataFrame:
    """Return the relative change ‖θ − start‖ / ‖start‖ of each layer's weight matrices.

    Rows are layers, columns modules such as q_proj; `start` is a `models.snapshot`. Taught in
    notebook 04. Raises WorkbookError for models whose layers have other names than a Llama's.
    """
    rows = []
    for name, weight in model.named_parameters():
        if place := re.search(r"layers\.(\d+)\..*\.(\w+_proj)\.weight$", name):
            old = start[name].to(weight.device)
            change = float((weight - old).norm() / old.norm())
            rows.append({"layer": int(place[1]), "module": place[2], "change": change})
    if not rows:
        raise WorkbookError(
            f"A {type(model).__name__} has no layers.N.….X_proj weights: take a model that is "
            "built as a Llama is."
        )
    return pd.DataFrame(rows).pivot(index="layer", columns="module", values="change")
