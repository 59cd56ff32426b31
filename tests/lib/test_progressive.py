"""The second column: adds nothing at first, learns alone, and leaves no trace."""

import contextlib
import copy

import numpy as np
import plain_pass
import pytest
import torch
from plain_pass import logits
from transformers import GPT2Config, GPT2LMHeadModel

from workbook import encoding, models, scoring, training
from workbook.errors import WorkbookError
from workbook.forgetting import progressive

TEXTS = ["the film is good", "a bad film", "what a very fine story", "dull", "nice", "poor"]
PROMPTS = ["the film is good and", "the film is", "the story was a very long one and", "the end"]
CHOICES = [["good", "a very bad film"], ["bad", "no"], ["it is not good", "x"], ["y", "very good"]]


@pytest.fixture
def examples(tiny_tokenizer):
    return encoding.encode_pairs(
        tiny_tokenizer, [(text, "good") for text in TEXTS], prompt_style="plain"
    )


@pytest.fixture
def column(tiny_model):
    return progressive.column_for(tiny_model, width=16)


@pytest.fixture
def loud(column):
    """A column that has a say: its output weights are not zero."""
    torch.nn.init.normal_(column.out.weight, std=0.5, generator=torch.Generator().manual_seed(1))
    return column


def hooks(model):
    return sum(len(module._forward_hooks) for module in model.modules())


def flags(model):
    return {name: p.requires_grad for name, p in model.named_parameters()}


def test_a_new_column_adds_nothing(tiny_model, tiny_tokenizer, column):
    base = [logits(tiny_model, tiny_tokenizer, prompt) for prompt in PROMPTS]
    with progressive.attached(tiny_model, column) as model:
        assert model is tiny_model
        for prompt, expected in zip(PROMPTS, base, strict=True):
            assert torch.equal(logits(model, tiny_tokenizer, prompt), expected)


def test_a_model_that_is_built_otherwise_is_refused():
    model = GPT2LMHeadModel(GPT2Config(vocab_size=40, n_embd=8, n_layer=1, n_head=2))
    with pytest.raises(WorkbookError, match="GPT2LMHeadModel has no model.layers"):
        progressive.column_for(model)


def test_a_column_is_made_by_its_seed_alone(tiny_model):
    first, again, other = (progressive.column_for(tiny_model, 16, seed) for seed in (0, 0, 1))
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    progressive.column_for(tiny_model, 16)
    assert torch.equal(torch.rand(1), expected)  # the global generator is left alone
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name])
    assert not torch.equal(first.laterals[0].weight, other.laterals[0].weight)


def test_only_the_column_learns_and_the_old_model_comes_back(
    tiny_model, tiny_tokenizer, examples, column, precision
):
    start, base = models.snapshot(tiny_model), logits(tiny_model, tiny_tokenizer, PROMPTS[0])
    losses = [training.evaluate_loss(tiny_model, examples)]
    with progressive.attached(tiny_model, column) as model:
        training.fit(model, examples, epochs=20, batch_size=3, lr=0.1, progress=False)
        losses.append(training.evaluate_loss(model, examples))
        assert not torch.equal(logits(model, tiny_tokenizer, PROMPTS[0]), base)
    assert losses[1] < 0.7 * losses[0]
    now = models.snapshot(tiny_model)
    assert now.keys() == start.keys()
    assert [name for name, tensor in start.items() if not torch.equal(now[name], tensor)] == []
    # On a busy machine, equal weights can give outputs that differ in their last bit.
    after = logits(tiny_model, tiny_tokenizer, PROMPTS[0])
    torch.testing.assert_close(after, base, rtol=0, atol=1e-6)
    assert {p.dtype for p in column.parameters()} == {torch.float32}
    # Put on again, it knows what it has learned.
    with progressive.attached(tiny_model, column) as model:
        assert training.evaluate_loss(model, examples) == pytest.approx(losses[1], rel=1e-6)


def test_every_part_of_the_column_learns(tiny_model, examples, loud):
    before = {name: weight.clone() for name, weight in loud.state_dict().items()}
    with progressive.attached(tiny_model, loud) as model:
        learning = [name for name, p in model.named_parameters() if p.requires_grad]
        assert learning and all(name.startswith("column.") for name in learning)
        training.fit(model, examples, epochs=2, lr=1e-2, progress=False)
    for name, weight in loud.state_dict().items():
        assert not torch.equal(weight, before[name]), name


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_is_left_of_a_column_taken_off(tiny_model, tiny_tokenizer, loud, fails):
    def stop(*_):
        raise KeyboardInterrupt

    training.select_trainable(tiny_model, r"layers\.1\.")
    before, base = flags(tiny_model), logits(tiny_model, tiny_tokenizer, PROMPTS[0])
    handle = tiny_model.model.layers[1].register_forward_pre_hook(stop) if fails else None
    with pytest.raises(KeyboardInterrupt) if fails else contextlib.nullcontext():
        with progressive.attached(tiny_model, loud):
            assert hooks(tiny_model) == 3
            logits(tiny_model, tiny_tokenizer, PROMPTS[0])
    if handle:
        handle.remove()
    assert not hasattr(tiny_model, "column")
    assert hooks(tiny_model) == 0
    assert flags(tiny_model) == before
    assert torch.equal(logits(tiny_model, tiny_tokenizer, PROMPTS[0]), base)


def test_scores_from_the_cache_are_those_of_the_plain_pass(tiny_model, tiny_tokenizer, loud):
    with progressive.attached(tiny_model, loud) as model:
        ours = scoring.score_choices(model, tiny_tokenizer, PROMPTS, CHOICES, prompt_style="plain")
        theirs = [
            plain_pass.scores(model, tiny_tokenizer, *pair)
            for pair in zip(PROMPTS, CHOICES, strict=True)
        ]
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    without = scoring.score_choices(
        tiny_model, tiny_tokenizer, PROMPTS, CHOICES, prompt_style="plain"
    )
    assert (np.abs(np.subtract(ours, without)).max(axis=1) > 0.1).all()  # it did have a say


def test_generation_from_the_cache_is_that_of_the_plain_pass(tiny_model, tiny_tokenizer, loud):
    """Greedy text of padded rows of a batch, against one full forward pass a token."""
    with progressive.attached(tiny_model, loud) as model:
        found = scoring.generate(
            model, tiny_tokenizer, PROMPTS, prompt_style="plain", max_new_tokens=6
        )
        for prompt, text in zip(PROMPTS, found, strict=True):
            ids = plain_pass.greedy(model, tiny_tokenizer, prompt, 6)
            assert text == tiny_tokenizer.decode(ids, skip_special_tokens=True).strip()
    assert any(found)


def test_a_working_copy_has_a_column_of_its_own(tiny_model, tiny_tokenizer, loud, precision):
    """A copy, cast to the working precision for scoring, must not reach back to the original."""
    with progressive.attached(tiny_model, loud) as model:
        exact = scoring.score_choices(model, tiny_tokenizer, PROMPTS, CHOICES, prompt_style="plain")
        with scoring.working_copy(model) as working:
            found = scoring.score_choices(
                working, tiny_tokenizer, PROMPTS, CHOICES, prompt_style="plain"
            )
        np.testing.assert_allclose(found, exact, rtol=1e-6 if precision == "fp32" else 0.05)
        twin = copy.deepcopy(model)
        torch.nn.init.zeros_(loud.out.weight)
        now = scoring.score_choices(twin, tiny_tokenizer, PROMPTS, CHOICES, prompt_style="plain")
        np.testing.assert_allclose(now, exact, rtol=1e-6)
        assert {p.dtype for p in loud.parameters()} == {torch.float32}


def test_a_pass_that_breaks_off_leaves_nothing_for_the_next(tiny_model, tiny_tokenizer, loud):
    def stop(*_):
        raise KeyboardInterrupt

    with progressive.attached(tiny_model, loud) as model:
        expected = logits(model, tiny_tokenizer, PROMPTS[0])
        handle = model.model.layers[1].register_forward_pre_hook(stop)
        with pytest.raises(KeyboardInterrupt):
            logits(model, tiny_tokenizer, PROMPTS[1])
        handle.remove()
        assert torch.equal(logits(model, tiny_tokenizer, PROMPTS[0]), expected)
