"""LoRA: its formula, and merging that is exact and undone bit for bit."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel

from workbook import models, runcache, training
from workbook.adaptation import lora
from workbook.adaptation.additions import attached
from workbook.adaptation.lora import LoRA, LoRALinear
from workbook.errors import WorkbookError
from workbook.fingerprints import fingerprint

IDS = torch.tensor([[5, 80, 31, 200, 7, 399]])


def loud(model, seed=0, **options):
    """A LoRA that has a say: B is not zero."""
    made = LoRA(model, **options)
    generator = torch.Generator().manual_seed(seed)
    for part in made.parts.values():
        torch.nn.init.normal_(part.B, std=0.3, generator=generator)
    return made


@torch.no_grad()
def logits(model):
    return model(input_ids=IDS).logits


def differing(model, start):
    now = models.snapshot(model)
    return {name for name, tensor in start.items() if not torch.equal(now[name], tensor)}


@settings(deadline=None)
@given(
    inputs=st.integers(1, 9), outputs=st.integers(1, 9), rank=st.integers(1, 5),
    alpha=st.floats(0.5, 64), seed=st.integers(0, 99),
)  # fmt: skip
def test_the_layer_is_that_of_the_paper(inputs, outputs, rank, alpha, seed):
    """h = W x + alpha / rank · B A x, and its update is the matrix that does the same."""
    torch.manual_seed(seed)
    layer, x = torch.nn.Linear(inputs, outputs), torch.randn(3, inputs)
    part = LoRALinear(layer, rank, alpha)
    assert torch.equal(part(x, layer(x)), layer(x))  # nothing at first
    torch.nn.init.normal_(part.B)
    expected = layer(x) + alpha / rank * (x @ part.A.T @ part.B.T)
    torch.testing.assert_close(part(x, layer(x)), expected, rtol=1e-5, atol=1e-4)
    merged = torch.nn.functional.linear(x, layer.weight + part.update(), layer.bias)
    torch.testing.assert_close(merged, expected, rtol=1e-5, atol=1e-4)


def test_alpha_over_rank_scales_the_update(tiny_model):
    one, double = (loud(tiny_model, rank=4, alpha=alpha) for alpha in (4, 8))
    for first, second in zip(one.parts.values(), double.parts.values(), strict=True):
        torch.testing.assert_close(2 * first.update(), second.update())


def test_two_alphas_are_two_runs_of_the_cache(tiny_model):
    """Their weights are equal at first: only the scaling in the state tells them apart."""
    marks = []
    for alpha in (4, 8, 4):
        with attached(tiny_model, LoRA(tiny_model, rank=4, alpha=alpha)) as model:
            marks.append(runcache.fingerprint(model))
    assert marks[0] == marks[2] != marks[1]


def test_targets_choose_the_layers_and_the_count_of_weights(tiny_model):
    every, some = LoRA(tiny_model, rank=4), LoRA(tiny_model, rank=4, target_modules=r"(q|v)_proj$")
    assert len(every.parts) == 2 * 7
    assert sorted({name.rsplit("/")[-1] for name in some.parts}) == ["q_proj", "v_proj"]
    q, kv, mlp = 4 * (32 + 32), 4 * (32 + 16), 4 * (32 + 64)
    for made, count in [(every, 2 * (2 * q + 2 * kv + 3 * mlp)), (some, 2 * (q + kv))]:
        with attached(tiny_model, made) as model:
            assert models.count_parameters(model).trainable == count


def test_a_lora_on_the_tied_output_layer_leaves_the_embeddings_alone(tiny_model):
    base = tiny_model.get_input_embeddings()(IDS)
    with attached(tiny_model, loud(tiny_model, target_modules="lm_head")) as model:
        assert torch.equal(model.get_input_embeddings()(IDS), base)
        changed = logits(model)
    assert not torch.allclose(changed, logits(tiny_model), atol=1e-3)


# --- merging


def test_merged_equals_attached_and_unmerging_is_exact(tiny_model):
    start, base, made = models.snapshot(tiny_model), logits(tiny_model), loud(tiny_model)
    with attached(tiny_model, made) as model:
        expected = logits(model)
    old = lora.merge(tiny_model, made)
    torch.testing.assert_close(logits(tiny_model), expected, rtol=0, atol=1e-4)
    assert (expected - base).abs().max() > 0.05
    assert differing(tiny_model, start) == {name + ".weight" for name in old}
    lora.unmerge(tiny_model, old)
    assert not differing(tiny_model, start)
    assert torch.equal(logits(tiny_model), base)


def test_taking_the_update_off_again_would_not_be_exact(tiny_model):
    """Why `merge` keeps the old weights instead of subtracting."""
    for name, layer, part in loud(tiny_model).sites(tiny_model):
        weight, update = layer.weight.detach(), part.update().detach()
        assert not torch.equal(weight + update - update, weight), name


def test_what_happens_to_merged_weights_does_not_reach_the_old_ones(tiny_model):
    start, made = models.snapshot(tiny_model), loud(tiny_model, target_modules="q_proj")
    old = lora.merge(tiny_model, made)
    with torch.no_grad():
        for _, layer, _ in made.sites(tiny_model):
            layer.weight.add_(1)
    lora.unmerge(tiny_model, old)
    assert not differing(tiny_model, start)


def test_two_merges_are_undone_in_reverse(tiny_model):
    start = models.snapshot(tiny_model)
    olds = [lora.merge(tiny_model, loud(tiny_model, seed)) for seed in range(2)]
    lora.unmerge(tiny_model, olds[1])
    assert differing(tiny_model, start)
    lora.unmerge(tiny_model, olds[0])
    assert not differing(tiny_model, start)


def test_a_merged_model_can_be_saved_and_tuned(tiny_model, tmp_path):
    lora.merge(tiny_model, loud(tiny_model))
    tiny_model.save_pretrained(tmp_path)
    again = type(tiny_model).from_pretrained(tmp_path)
    assert not differing(again, models.snapshot(tiny_model))
    assert training.select_trainable(tiny_model, ".") == models.count_parameters(tiny_model).total


@pytest.mark.parametrize(
    ("spoil", "options", "message"),
    [
        (lambda model: model.to(torch.bfloat16), {}, "round much of the update away"),
        (lambda model: model, {"target_modules": r"lm_head|q_proj"}, "shares its weights"),
    ],
    ids=["bf16", "tied"],
)
def test_a_merge_that_would_harm_is_refused(tiny_model, spoil, options, message):
    made = loud(tiny_model, **options)
    start = models.snapshot(spoil(tiny_model))
    with pytest.raises(WorkbookError, match=message):
        lora.merge(tiny_model, made)
    assert not differing(tiny_model, start)


def test_an_attached_lora_is_not_merged_on_top(tiny_model):
    made, start = loud(tiny_model), models.snapshot(tiny_model)
    with attached(tiny_model, made):
        with pytest.raises(WorkbookError, match="leave its block first"):
            lora.merge(tiny_model, made)
    assert not differing(tiny_model, start)


def test_weights_of_another_model_are_not_put_back(tiny_model):
    start = models.snapshot(tiny_model)
    name = "model.layers.0.mlp.up_proj"
    for old in ({"model.layers.9": torch.zeros(2, 2)}, {name: torch.zeros(3, 3)}):
        with pytest.raises(WorkbookError, match="of another model"):
            lora.unmerge(tiny_model, old)
    assert not differing(tiny_model, start)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "rank of 0"),
        ({"target_modules": "nothing"}, "No linear layer matches 'nothing'"),
    ],
)
def test_a_lora_that_cannot_learn_is_refused(tiny_model, options, message):
    with pytest.raises(WorkbookError, match=message):
        LoRA(tiny_model, **options)


def test_a_float32_lora_serves_a_bfloat16_model(tiny_model):
    made = loud(tiny_model)
    with attached(tiny_model, made) as model:
        expected = logits(model)
    with attached(tiny_model.to(torch.bfloat16), made) as model:
        found = logits(model)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=0, atol=0.05)


def test_merging_twice_is_refused_until_unmerged(tiny_model):
    made = loud(tiny_model)
    start = models.snapshot(tiny_model)
    old = lora.merge(tiny_model, made)
    merged = models.snapshot(tiny_model)
    with pytest.raises(WorkbookError, match="merged already: unmerge it first"):
        lora.merge(tiny_model, made)
    assert all(torch.equal(merged[name], w) for name, w in models.snapshot(tiny_model).items())
    lora.unmerge(tiny_model, old)
    assert all(torch.equal(start[name], w) for name, w in models.snapshot(tiny_model).items())
    lora.merge(tiny_model, made)  # and other ones may follow
    lora.merge(tiny_model, loud(tiny_model, seed=1))


def test_unmerging_one_forgets_no_other(tiny_model, monkeypatch):
    """Objects that are gone leave their ids to others."""
    monkeypatch.setattr(lora, "id", lambda _: 7, raising=False)
    first = loud(tiny_model)
    lora.merge(tiny_model, first)
    lora.unmerge(tiny_model, lora.merge(tiny_model, loud(tiny_model, seed=1)))
    with pytest.raises(WorkbookError, match="merged already"):
        lora.merge(tiny_model, first)


def test_layers_of_another_class_are_named():
    model = GPT2LMHeadModel(GPT2Config(vocab_size=40, n_embd=8, n_layer=1, n_head=2))
    with pytest.raises(WorkbookError, match="'c_attn' is Conv1D, and only torch.nn.Linear"):
        LoRA(model, target_modules="c_attn")


def test_a_merged_model_is_told_by_its_weights(tiny_model):
    bare = fingerprint(tiny_model)
    old = lora.merge(tiny_model, loud(tiny_model))
    assert fingerprint(tiny_model) != bare
    lora.unmerge(tiny_model, old)
    assert fingerprint(tiny_model) == bare
