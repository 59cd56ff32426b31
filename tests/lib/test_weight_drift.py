"""The table of changed weights."""

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from workbook import models
from workbook.errors import WorkbookError
from workbook.forgetting import drift

MODULES = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def test_an_unchanged_model_has_a_table_of_zeros(tiny_model):
    table = drift.by_layer_and_module(tiny_model, models.snapshot(tiny_model))
    assert list(table.index) == [0, 1]
    assert set(table.columns) == MODULES
    assert (table.to_numpy() == 0).all()


def test_a_change_shows_in_its_own_cell_relative_to_the_old_weight(tiny_model):
    start = models.snapshot(tiny_model)
    with torch.no_grad():
        tiny_model.model.layers[1].mlp.up_proj.weight.mul_(1.25)
        tiny_model.model.layers[0].self_attn.q_proj.weight.zero_()
        tiny_model.model.embed_tokens.weight.add_(1)  # no weight matrix of a layer
    table = drift.by_layer_and_module(tiny_model, start)
    assert table.loc[1, "up_proj"] == pytest.approx(0.25, rel=1e-5)
    assert table.loc[0, "q_proj"] == pytest.approx(1)
    assert np.count_nonzero(table.to_numpy()) == 2


def test_layers_with_other_names_are_told():
    model = GPT2LMHeadModel(GPT2Config(vocab_size=40, n_embd=8, n_layer=1, n_head=2))
    with pytest.raises(WorkbookError, match="GPT2LMHeadModel has no layers.N"):
        drift.by_layer_and_module(model, models.snapshot(model))


def test_layers_stand_in_the_order_of_their_numbers():
    """Not in that of their names, where 10 comes before 2."""
    linears = (torch.nn.ModuleDict({"up_proj": torch.nn.Linear(1, 1)}) for _ in range(11))
    layers = torch.nn.ModuleList(torch.nn.ModuleDict({"mlp": linear}) for linear in linears)
    model = torch.nn.ModuleDict({"layers": layers})
    table = drift.by_layer_and_module(model, models.snapshot(model))
    assert list(table.index) == list(range(11))
