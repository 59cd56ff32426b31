import copy
import math

import pytest
import torch
from transformers import get_linear_schedule_with_warmup

from workbook import encoding, training
from workbook.errors import WorkbookError


@pytest.fixture
def examples(tiny_tokenizer):
    texts = ["the film is good", "a bad film", "what a very fine story", "dull", "nice", "poor"]
    answers = ["yes", "no", "yes", "no", "yes", "no"]
    return encoding.encode_pairs(
        tiny_tokenizer, zip(texts, answers, strict=True), prompt_style="plain"
    )


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def test_loss_falls_and_weights_stay_float32(tiny_model, examples, precision):
    history = training.fit(tiny_model, examples, epochs=15, batch_size=3, lr=1e-2, progress=False)
    assert history.steps[-1]["loss"] < 0.3 * history.steps[0]["loss"]
    assert {p.dtype for p in tiny_model.parameters()} == {torch.float32}
    assert history.tokens == 15 * sum(len(e["labels"]) for e in examples)


def test_completion_loss_equals_the_loss_of_the_library(tiny_model, examples):
    batch = encoding.collate(examples)
    expected = tiny_model(**batch).loss * training.label_count(batch)
    ours = training.completion_loss(tiny_model, batch)
    assert ours.item() == pytest.approx(expected.item(), rel=1e-5)


def test_fit_equals_a_plain_loop(tiny_model, examples, monkeypatch):
    """In float32 `fit` is AdamW with warm-up, decay and clipping, nothing else."""
    monkeypatch.setenv("WORKBOOK_PRECISION", "fp32")
    plain = copy.deepcopy(tiny_model).train()
    training.fit(tiny_model, examples, epochs=2, batch_size=4, lr=1e-2, seed=3, progress=False)
    generator = training.seed_everything(3)
    optimizer = torch.optim.AdamW(plain.parameters(), lr=1e-2, weight_decay=0.0)
    schedule = get_linear_schedule_with_warmup(optimizer, 0, 4)
    for _ in range(2):
        for batch in training.batches_of(examples, 4, generator):
            plain(**batch).loss.backward()
            torch.nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    for ours, theirs in zip(tiny_model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_accumulation_changes_nothing_but_memory(tiny_model, examples, monkeypatch):
    """The gradients are equal. Weights after a step of Adam would not show it: it moves each by
    about the rate, whatever the size of its gradient, so rounding decides where one is near 0."""
    monkeypatch.setenv("WORKBOOK_PRECISION", "fp32")

    def gradients(model, **split):
        kept = {}

        def keep(weights):
            kept.update({name: weight.grad.clone() for name, weight in weights.items()})
            return 0.0

        history = training.fit(model, examples, regularizers=[keep], progress=False, **split)
        assert len(history.steps) == 1
        return kept

    whole = gradients(copy.deepcopy(tiny_model), batch_size=6)
    parts = gradients(tiny_model, batch_size=2, gradient_accumulation_steps=3)
    largest = max(gradient.abs().max().item() for gradient in whole.values())
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-6 * largest)


def test_seed_decides_the_run(tiny_model, examples):
    runs = [copy.deepcopy(tiny_model) for _ in range(3)]
    for model, seed in zip(runs, (0, 0, 1), strict=True):
        training.fit(model, examples, batch_size=2, lr=1e-2, seed=seed, progress=False)
    first, again, other = (torch.cat([p.flatten() for p in m.parameters()]) for m in runs)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_low_precision_updates_add_up_in_the_master_weights():
    """An update of 1e-4 of a weight near 1 is lost in bfloat16 but not in the float32 copy."""
    weight = torch.nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
    optimizer = training.MasterAdamW([weight], lr=1e-4, weight_decay=0.0)
    for _ in range(100):
        weight.grad = torch.ones_like(weight)
        optimizer.step()
    assert torch.allclose(optimizer.masters[0], torch.tensor(0.99), atol=1e-4)
    assert torch.equal(weight.detach(), optimizer.masters[0].detach().bfloat16())


def test_masters_take_no_memory_beside_the_float32_weights(tiny_model, monkeypatch):
    monkeypatch.setenv("WORKBOOK_PRECISION", "bf16")
    before = [weight.data_ptr() for weight in tiny_model.parameters()]
    with training.working_precision(tiny_model, lr=1e-3, weight_decay=0.0) as optimizer:
        assert [master.data_ptr() for master in optimizer.masters] == before
        assert {weight.dtype for weight in tiny_model.parameters()} == {torch.bfloat16}
    assert [weight.data_ptr() for weight in tiny_model.parameters()] == before


def test_a_model_loaded_in_low_precision_leaves_in_float32(tiny_model, examples, monkeypatch):
    monkeypatch.setenv("WORKBOOK_PRECISION", "bf16")
    tiny_model.to(torch.bfloat16)
    training.select_trainable(tiny_model, r"layers\.1\.")
    training.fit(tiny_model, examples, progress=False)
    assert {weight.dtype for weight in tiny_model.parameters()} == {torch.float32}


def test_only_selected_layers_learn(tiny_model, examples, precision):
    before = weights(tiny_model)
    count = training.select_trainable(tiny_model, r"layers\.1\.")
    assert count == sum(p.numel() for n, p in before.items() if "layers.1." in n)
    training.fit(tiny_model, examples, lr=1e-2, progress=False)
    for name, value in weights(tiny_model).items():
        assert torch.equal(value, before[name]) == ("layers.1." not in name), name


def test_a_pattern_without_match_is_refused(tiny_model):
    with pytest.raises(WorkbookError, match="layer_99"):
        training.select_trainable(tiny_model, "layer_99")


def test_early_stopping_brings_the_best_weights_back(tiny_model, examples, precision):
    held_out = [{**e, "labels": e["labels"][:-2] + e["labels"][-2:][::-1]} for e in examples]
    history = training.fit(
        tiny_model, examples, epochs=30, lr=1e-2, validation=held_out, patience=2, progress=False
    )
    losses = [row["validation_loss"] for row in history.epochs]
    assert len(losses) < 30
    assert len(losses) == losses.index(min(losses)) + 3
    tolerance = 1e-5 if precision == "fp32" else 0.05
    best = training.evaluate_loss(tiny_model, held_out)
    assert best == pytest.approx(min(losses), rel=tolerance)


def test_epoch_rows_hold_the_mean_loss_of_their_own_steps(tiny_model, examples):
    history = training.fit(tiny_model, examples, epochs=3, batch_size=2, progress=False)
    for epoch, row in enumerate(history.epochs):
        steps = history.steps[3 * epoch : 3 * epoch + 3]
        assert row["train_loss"] == pytest.approx(sum(s["loss"] for s in steps) / 3)


def test_metric_and_callback_are_called(tiny_model, examples):
    calls = []
    history = training.fit(
        tiny_model,
        examples,
        batch_size=2,
        metric=lambda model: {"accuracy": 0.5},
        on_step=lambda history: calls.append(len(history.steps)),
        progress=False,
    )
    assert history.epochs[0]["accuracy"] == 0.5
    assert calls == [1, 2, 3]


def test_a_regularizer_pulls_the_weights(tiny_model, examples, precision):
    """A regularizer that only pulls towards zero must leave smaller weights than none."""

    def shrink(weights):
        assert set(weights) == dict(tiny_model.named_parameters()).keys()
        assert {weight.dtype for weight in weights.values()} == {torch.float32}
        for weight in weights.values():
            weight.grad.add_(100 * weight)
        return 1.0

    free = copy.deepcopy(tiny_model)
    training.fit(free, examples, lr=1e-3, progress=False)
    history = training.fit(tiny_model, examples, lr=1e-3, regularizers=[shrink], progress=False)
    size = [sum(p.pow(2).sum() for p in model.parameters()) for model in (tiny_model, free)]
    assert size[0] < size[1]
    assert history.steps[0]["penalty"] == 1.0


def test_a_loss_that_is_no_number_stops_the_run(tiny_model, examples, precision):
    with torch.no_grad():
        next(tiny_model.parameters()).fill_(math.nan)
    with pytest.raises(WorkbookError, match="lower the learning rate"):
        training.fit(tiny_model, examples, progress=False)
    assert {p.dtype for p in tiny_model.parameters()} == {torch.float32}


def test_an_interrupted_run_leaves_float32_weights(tiny_model, examples, precision):
    def interrupt(history):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.fit(tiny_model, examples, on_step=interrupt, progress=False)
    assert {p.dtype for p in tiny_model.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    "options, message", [({"examples": []}, "nothing to learn"), ({"patience": 1}, "validation")]
)
def test_impossible_requests_are_refused(tiny_model, examples, options, message):
    with pytest.raises(WorkbookError, match=message):
        training.fit(tiny_model, **{"examples": examples} | options, progress=False)
