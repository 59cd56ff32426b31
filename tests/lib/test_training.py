import contextlib
import copy
import math
import sys
import traceback

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from transformers import GPT2Config, GPT2LMHeadModel, get_linear_schedule_with_warmup

from workbook import encoding, models, training
from workbook.errors import WorkbookError
from workbook.forgetting import remedies


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
    weights = list(tiny_model.parameters())
    gradients = [torch.autograd.grad(loss, weights) for loss in (ours, expected)]
    largest = max(gradient.abs().max().item() for gradient in gradients[1])
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6 * largest)


def test_fit_equals_a_plain_loop(tiny_model, examples, monkeypatch):
    """In float32 `fit` is AdamW with warm-up, decay and clipping, nothing else.

    With the same loss, since Adam would move a weight whose gradient is near 0 by its rounding.
    """
    monkeypatch.setenv("WORKBOOK_PRECISION", "fp32")
    plain = copy.deepcopy(tiny_model).train()
    training.fit(tiny_model, examples, epochs=2, batch_size=4, lr=1e-2, seed=3, progress=False)
    generator = training.seed_everything(3)
    optimizer = torch.optim.AdamW(plain.parameters(), lr=1e-2, weight_decay=0.0, fused=True)
    schedule = get_linear_schedule_with_warmup(optimizer, 0, 4)
    for _ in range(2):
        for batch in training.batches_of(examples, 4, generator):
            (training.completion_loss(plain, batch) / training.label_count(batch)).backward()
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


# --- fit starts clean and leaves clean, whatever ends it


def bits(model):
    """The model's weights as bytes, so that equal means equal in every bit."""
    return {name: p.detach().view(torch.uint8).clone() for name, p in model.named_parameters()}


def same_bits(one, other):
    first, second = bits(one), bits(other)
    return first.keys() == second.keys() and all(map(torch.equal, first.values(), second.values()))


def assert_clean(model):
    assert not any(module.training for module in model.modules())
    assert all(p.grad is None for p in model.parameters())
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert not training.tqdm._instances  # every progress bar is closed


@contextlib.contextmanager
def line_by_line(on_line):
    """Call `on_line` with the function's name before each line of the training code."""
    files = {training.__file__, models.__file__}

    def trace(frame, event, argument):
        if frame.f_code.co_filename not in files:
            return None
        if event == "line":
            on_line(frame.f_code.co_name)
        return trace

    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(None)


def test_a_run_interrupted_anywhere_leaves_nothing_for_the_next(
    tiny_model, examples, precision, monkeypatch
):
    """The interrupt comes in the middle of each function of the run: cast, step, validation …"""
    monkeypatch.setattr(training, "release_memory", lambda: None)  # half a second each time
    start, fresh = models.snapshot(tiny_model), copy.deepcopy(tiny_model)
    for model in (tiny_model, fresh):
        models.check_causal(model)  # once, so that each run has the same lines
    options = dict(
        batch_size=3, lr=1e-2, seed=3, validation=examples, regularizers=[remedies.l2_sp(start, 1)]
    )
    lines = []
    with line_by_line(lines.append):
        expected = training.fit(fresh, examples, progress=False, **options)
    lines = lines[: len(lines) - lines[::-1].index("should_stop")]  # then it only cleans up
    where = {name: [i for i, each in enumerate(lines) if each == name] for name in set(lines)}
    assert {"cast_weights", "working_precision", "step", "evaluate_loss"} <= where.keys()
    for name, places in where.items():
        left = iter(range(places[len(places) // 2]))

        def interrupt(_, left=left):
            if next(left, None) is None:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt), line_by_line(interrupt):
            training.fit(tiny_model, examples, **options)
        assert_clean(tiny_model)
        models.restore(tiny_model, start)
        history = training.fit(tiny_model, examples, progress=False, **options)
        assert history.steps == expected.steps and same_bits(tiny_model, fresh), name
        models.restore(tiny_model, start)


def stop(*_):
    raise KeyboardInterrupt


def fail(*_):
    raise ZeroDivisionError


@pytest.mark.parametrize("way", [{"on_step": stop}, {"metric": fail}, {"regularizers": [fail]}])
def test_an_error_in_a_callback_leaves_the_model_clean(tiny_model, examples, precision, way):
    with pytest.raises((KeyboardInterrupt, ZeroDivisionError)):
        training.fit(tiny_model, examples, **way)
    assert_clean(tiny_model)


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_step_that_is_no_number_changes_no_weight(tiny_model, examples, precision, what):
    """A penalty on the second step stands in for a gradient that overflows."""
    fresh, start = copy.deepcopy(tiny_model), models.snapshot(tiny_model)
    options = dict(batch_size=3, lr=1e-2, progress=False)
    training.fit(fresh, examples, **options)
    if what == "loss":
        spoil = {"loss": lambda *given: training.completion_loss(*given) * math.nan}
    else:
        overflow = [lambda ws: float(next(iter(ws.values())).grad.fill_(math.inf).sum())]
        spoil = {"regularizers": overflow}
    with pytest.raises(WorkbookError, match="lower the learning rate"):
        training.fit(tiny_model, examples, **spoil, **options)
    assert_clean(tiny_model)
    assert all(torch.equal(start[n], p) for n, p in tiny_model.named_parameters())
    training.fit(tiny_model, examples, **options)
    assert same_bits(tiny_model, fresh)


def test_gradients_left_by_others_do_not_enter_a_run(tiny_model, examples, precision):
    fresh = copy.deepcopy(tiny_model)
    training.fit(fresh, examples, lr=1e-2, progress=False)
    tiny_model(**encoding.collate(examples)).loss.backward()
    training.fit(tiny_model, examples, lr=1e-2, progress=False)
    assert same_bits(tiny_model, fresh)


def test_what_watches_a_run_does_not_change_it(tiny_model, examples, precision):
    """Dropout would tell: a callback scores the model, draws numbers and leaves a gradient."""
    tiny_model.config.attention_dropout = 0.5
    for layer in tiny_model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    watched = copy.deepcopy(tiny_model)

    def watch(history):
        training.evaluate_loss(watched, examples)
        torch.rand(5)
        training.completion_loss(watched, encoding.collate(examples)).backward()

    options = dict(epochs=2, batch_size=2, lr=1e-2, progress=False)
    training.fit(tiny_model, examples, **options)
    training.fit(watched, examples, on_step=watch, **options)
    assert same_bits(tiny_model, watched)
    assert_clean(watched)


def test_an_interrupted_run_keeps_no_moments(tiny_model, examples, precision):
    """The traceback of an interrupt holds the optimizer, and a gigabyte of moments in it."""
    with pytest.raises(KeyboardInterrupt) as caught:
        training.fit(tiny_model, examples, on_step=stop, progress=False)
    frames = [frame for frame, _ in traceback.walk_tb(caught.value.__traceback__)]
    held = [value for frame in frames for value in frame.f_locals.values()]
    optimizers = [value for value in held if isinstance(value, torch.optim.Optimizer)]
    assert optimizers and not any(optimizer.state for optimizer in optimizers)


def test_a_model_loaded_in_low_precision_moves_as_far_as_in_float32(
    tiny_model, examples, precision
):
    """Small steps, which weights in bfloat16 would round away."""
    loaded = copy.deepcopy(tiny_model).to(torch.bfloat16)
    wide = copy.deepcopy(loaded).float()
    for model in (loaded, wide):
        training.fit(model, examples, epochs=5, lr=1e-4, progress=False)
    assert same_bits(loaded, wide)


ACCELERATE = [
    {"ACCELERATE_MIXED_PRECISION": "bf16"},
    {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4"},
    {"ACCELERATE_DYNAMO_BACKEND": "EAGER"},
    {"ACCELERATE_USE_CPU": "true", "ACCELERATE_MIXED_PRECISION": "fp8"},
    {"ACCELERATE_USE_DEEPSPEED": "true"},
    {"ACCELERATE_USE_FSDP": "true"},
    {"ACCELERATE_TORCH_DEVICE": "meta"},
]


@pytest.mark.parametrize("variables", ACCELERATE, ids=lambda variables: " ".join(variables))
def test_variables_of_accelerate_do_not_change_a_run(
    tiny_model, examples, precision, variables, accelerate, monkeypatch
):
    plain, options = copy.deepcopy(tiny_model), dict(batch_size=2, lr=1e-2, progress=False)
    expected = training.fit(plain, examples, **options)
    AcceleratorState._reset_state(reset_partial_state=True)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert training.fit(tiny_model, examples, **options).steps == expected.steps
    assert same_bits(tiny_model, plain)


def test_an_accelerator_made_elsewhere_does_not_change_a_run(
    tiny_model, examples, precision, accelerate
):
    plain, options = copy.deepcopy(tiny_model), dict(batch_size=2, lr=1e-2, progress=False)
    expected = training.fit(plain, examples, **options)
    AcceleratorState._reset_state(reset_partial_state=True)
    Accelerator(mixed_precision="bf16", gradient_accumulation_steps=4, cpu=True)
    assert training.fit(tiny_model, examples, **options).steps == expected.steps
    assert same_bits(tiny_model, plain)


def test_under_a_launcher_accelerate_has_a_say(tiny_model, examples, accelerate, monkeypatch):
    monkeypatch.setenv("WORKBOOK_PRECISION", "fp32")
    plain, options = copy.deepcopy(tiny_model), dict(batch_size=2, lr=1e-2, progress=False)
    training.fit(plain, examples, **options)
    for name, value in {
        "RANK": "0",
        "WORLD_SIZE": "1",
        "ACCELERATE_MIXED_PRECISION": "bf16",
    }.items():
        monkeypatch.setenv(name, value)
    forward = tiny_model.forward
    training.fit(tiny_model, examples, **options)
    assert not same_bits(tiny_model, plain)
    assert_clean(tiny_model)
    assert tiny_model.forward == forward  # mixed precision wraps it for the run


REQUESTS = [
    ({"examples": []}, "nothing to learn"),
    ({"patience": 1}, "validation"),
    ({"batch_size": 0}, "^batch_size is 0: choose at least 1"),
    ({"epochs": 0}, "^epochs is 0: choose at least 1"),
    ({"gradient_accumulation_steps": 0}, "^gradient_accumulation_steps is 0"),
    ({"patience": 0, "validation": [{"input_ids": [1, 2], "labels": [-100, 2]}]}, "^patience is 0"),
    ({"examples": [{"input_ids": [1] * 600, "labels": [1] * 600}]}, "600 tokens .* reads 512"),
    ({"validation": [{"input_ids": [1] * 600, "labels": [1] * 600}]}, "600 tokens .* reads 512"),
]


@pytest.mark.parametrize("options, message", REQUESTS)
def test_impossible_requests_are_refused(tiny_model, examples, options, message):
    before = weights(tiny_model)
    with pytest.raises(WorkbookError, match=message):
        training.fit(tiny_model, **{"examples": examples} | options, progress=False)
    assert all(torch.equal(before[n], p) for n, p in tiny_model.named_parameters())


def test_text_beyond_learned_positions_is_refused(examples):
    config = GPT2Config(vocab_size=400, n_positions=8, n_embd=16, n_layer=1, n_head=2)
    long = {"input_ids": [1] * 9, "labels": [1] * 9}
    for read in (training.evaluate_loss, lambda *given: training.fit(*given, progress=False)):
        with pytest.raises(WorkbookError, match="9 tokens and the model reads 8"):
            read(GPT2LMHeadModel(config), [long])


def test_a_model_of_which_nothing_learns_is_refused(tiny_model, examples):
    tiny_model.requires_grad_(False)
    with pytest.raises(WorkbookError, match="No weight of the model learns"):
        training.fit(tiny_model, examples, progress=False)


def test_a_loss_over_nothing_is_refused(tiny_model, examples):
    with pytest.raises(WorkbookError, match="at least one example"):
        training.evaluate_loss(tiny_model, [])
    with pytest.raises(WorkbookError, match="batch size of 0 holds nothing"):
        training.evaluate_loss(tiny_model, examples, batch_size=0)


def test_quantized_weights_are_not_cast(tiny_model):
    tiny_model.packed = torch.nn.Parameter(torch.ones(3, dtype=torch.uint8), requires_grad=False)
    models.cast_weights(tiny_model, torch.bfloat16)
    assert tiny_model.packed.dtype == torch.uint8 and tiny_model.dtype == torch.bfloat16
