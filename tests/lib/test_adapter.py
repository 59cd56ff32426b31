"""The bottleneck adapter against the formula of the paper, written out by hand."""

import pytest
import torch
import torch.nn.functional as F
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from workbook import models
from workbook.adaptation.adapter import Adapter
from workbook.adaptation.additions import attached
from workbook.errors import WorkbookError

IDS = torch.tensor([[5, 80, 31, 200, 7, 399]])


@pytest.fixture
def loud(tiny_model):
    """An adapter that has a say: none of its weights is zero."""
    adapter = Adapter(tiny_model, width=4)
    generator = torch.Generator().manual_seed(0)
    for weight in adapter.parameters():
        torch.nn.init.normal_(weight, std=0.3, generator=generator)
    return adapter


def bottleneck(adapter, layer, name, x):
    part = adapter.parts[f"model/layers/{layer}/{name}"]
    down, up = part.down, part.up
    return x + F.gelu(x @ down.weight.T + down.bias) @ up.weight.T + up.bias


def written_out(adapter, monkeypatch):
    """Replace the block of a Llama by one with the adapters of Houlsby et al. in its text."""

    def forward(self, hidden, **options):
        i = self.self_attn.layer_idx
        said = self.self_attn(hidden_states=self.input_layernorm(hidden), **options)[0]
        hidden = hidden + bottleneck(adapter, i, "self_attn/o_proj", said)
        said = self.mlp(self.post_attention_layernorm(hidden))
        return hidden + bottleneck(adapter, i, "mlp/down_proj", said)

    monkeypatch.setattr(LlamaDecoderLayer, "forward", forward)


def outcome(model, adapter):
    """The logits, and the gradients of all adapter weights as parts of the largest entry."""
    logits = model(input_ids=IDS).logits
    gradients = torch.autograd.grad(logits.logsumexp(-1).sum(), list(adapter.parameters()))
    return logits, [gradient / gradient.abs().max() for gradient in gradients]


def test_forward_and_gradients_are_those_of_the_paper(tiny_model, loud, monkeypatch):
    with attached(tiny_model, loud) as model:
        ours = outcome(model, loud)
    written_out(loud, monkeypatch)
    theirs = outcome(tiny_model, loud)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    monkeypatch.undo()
    assert (ours[0] - tiny_model(input_ids=IDS).logits).abs().max() > 1e-2


def test_a_new_adapter_changes_nothing(tiny_model):
    base = tiny_model(input_ids=IDS).logits
    with attached(tiny_model, Adapter(tiny_model)) as model:
        assert torch.equal(model(input_ids=IDS).logits, base)


@pytest.mark.parametrize("width", [1, 4, 16])
def test_the_count_of_weights_is_that_of_the_paper(tiny_model, width):
    """Two adapters a block, each with 2 m d + d + m weights."""
    with attached(tiny_model, Adapter(tiny_model, width)) as model:
        count = models.count_parameters(model).trainable
    assert count == 2 * 2 * (2 * width * 32 + 32 + width)


def test_other_places_can_be_chosen(tiny_model):
    only = Adapter(tiny_model, target_modules=r"layers\.1\.mlp\.down_proj$")
    assert list(only.parts) == ["model/layers/1/mlp/down_proj"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "width of 0"),
        ({"target_modules": "nothing"}, "No linear layer matches 'nothing'"),
    ],
)
def test_an_adapter_that_cannot_learn_is_refused(tiny_model, options, message):
    with pytest.raises(WorkbookError, match=message):
        Adapter(tiny_model, **options)
