"""Our LoRA and soft prompt against those of `peft`: outputs, gradients, counts, merging, text."""

import copy

import pytest
import torch
from peft import PrefixTuningConfig, PromptEncoderConfig, PromptTuningConfig, get_peft_model

from workbook import encoding, models, training
from workbook.adaptation import lora, peft_models, soft_prompt
from workbook.adaptation.adapter import Adapter
from workbook.adaptation.additions import attached
from workbook.adaptation.lora import LoRA
from workbook.adaptation.soft_prompt import SoftPrompt
from workbook.errors import WorkbookError

PAIRS = [("the film is", "good"), ("a very fine old story it was", "bad"), ("dull", "very bad")]
TARGETS = [r"_proj$", r"(q|v)_proj$", r"layers\.1\.mlp\.", r"lm_head|k_proj"]


@pytest.fixture
def batch(tiny_tokenizer):
    return encoding.collate(encoding.encode_pairs(tiny_tokenizer, PAIRS, prompt_style="plain"))


def loud(model, **options):
    """A LoRA that has a say: B is not zero."""
    made = LoRA(model, **options)
    generator = torch.Generator().manual_seed(0)
    for part in made.parts.values():
        torch.nn.init.normal_(part.B, std=0.3, generator=generator)
    return made


def outcome(model, batch):
    """Logits at the text, loss, and all gradients in order, as parts of the largest entry."""
    ids, mask = batch["input_ids"], batch["attention_mask"]
    logits = model(input_ids=ids, attention_mask=mask).logits[:, -ids.shape[1] :]
    loss = training.completion_loss(model, batch)
    learning = [p for p in model.parameters() if p.requires_grad]
    gradients = [
        gradient / gradient.abs().max() for gradient in torch.autograd.grad(loss, learning)
    ]
    return logits[mask.bool()], loss, gradients


def assert_equal_to_peft(model, addition, batch):
    equivalent = peft_models.twin(model, addition)
    theirs = outcome(equivalent, batch)
    with attached(model, addition):
        ours = outcome(model, batch)
        assert models.count_parameters(model).trainable == sum(
            p.numel() for p in equivalent.parameters() if p.requires_grad
        )
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert (ours[0] - outcome(model, batch)[0]).abs().max() > 1e-2  # it had a say


@pytest.mark.parametrize("targets", TARGETS)
@pytest.mark.parametrize(("rank", "alpha"), [(1, 3), (8, 16)])
def test_lora_equals_pefts(tiny_model, batch, targets, rank, alpha):
    assert_equal_to_peft(
        tiny_model, loud(tiny_model, rank=rank, alpha=alpha, target_modules=targets), batch
    )


@pytest.mark.parametrize("length", [1, 7])
def test_a_soft_prompt_equals_pefts(tiny_model, batch, length):
    assert_equal_to_peft(tiny_model, SoftPrompt(tiny_model, length), batch)


def test_a_merge_equals_pefts(tiny_model, batch):
    made = loud(tiny_model)
    merged = peft_models.twin(tiny_model, made).merge_and_unload()
    lora.merge(tiny_model, made)
    for name, weight in merged.state_dict().items():
        torch.testing.assert_close(tiny_model.state_dict()[name], weight, rtol=0, atol=1e-6)


def test_a_lora_starts_as_pefts_does(tiny_model):
    """A is uniform on the same interval; B is zero."""
    made = LoRA(tiny_model, rank=64)
    part = made.parts["model/layers/0/mlp/down_proj"]
    wide = peft_models.twin(tiny_model, made).get_base_model().model.layers[0].mlp.down_proj
    wide.reset_lora_parameters("default", True)
    for weight in (part.A, wide.lora_A["default"].weight):
        assert weight.abs().max().item() == pytest.approx(64**-0.5, rel=0.01)
        assert weight.std().item() == pytest.approx((3 * 64) ** -0.5, rel=0.05)
    assert not part.B.any() and not wide.lora_B["default"].weight.any()


def test_a_text_start_equals_pefts(tiny_model, tiny_tokenizer, tmp_path):
    text = "Is the sentiment of this review positive or negative?"
    tiny_tokenizer.save_pretrained(tmp_path)
    for length in (3, 40):
        config = PromptTuningConfig(
            task_type="CAUSAL_LM", prompt_tuning_init="TEXT", prompt_tuning_init_text=text,
            tokenizer_name_or_path=str(tmp_path), num_virtual_tokens=length,
        )  # fmt: skip
        theirs = get_peft_model(copy.deepcopy(tiny_model), config).prompt_encoder["default"]
        ours = soft_prompt.from_text(tiny_model, tiny_tokenizer, text, length)
        torch.testing.assert_close(ours.vectors, theirs.embedding.weight, rtol=0, atol=0)


def test_training_ends_where_pefts_does(tiny_model, tiny_tokenizer):
    examples = encoding.encode_pairs(tiny_tokenizer, PAIRS, prompt_style="plain")
    made = loud(tiny_model)
    equivalent = peft_models.twin(tiny_model, made)
    options = dict(epochs=4, batch_size=2, lr=1e-2, progress=False)
    with attached(tiny_model, made) as model, pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBOOK_PRECISION", "fp32")
        ours = training.fit(model, examples, **options)
        theirs = training.fit(equivalent, examples, **options)
    losses = [[step["loss"] for step in run.steps] for run in (ours, theirs)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert losses[0][-1] < losses[0][0]


@pytest.mark.parametrize(
    "config",
    [
        PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
        PromptEncoderConfig(task_type="CAUSAL_LM", num_virtual_tokens=4, encoder_hidden_size=8),
    ],
    ids=["prefix", "p-tuning"],
)
def test_relatives_of_prompt_tuning_train_on_a_copy(tiny_model, tiny_tokenizer, config):
    examples = encoding.encode_pairs(tiny_tokenizer, PAIRS, prompt_style="plain")
    start, names = models.snapshot(tiny_model), [n for n, _ in tiny_model.named_modules()]
    relative = peft_models.copy_with(tiny_model, config)
    before = training.evaluate_loss(relative, examples)
    training.fit(relative, examples, epochs=8, lr=0.05, progress=False)
    assert training.evaluate_loss(relative, examples) < before
    assert [name for name, _ in tiny_model.named_modules()] == names
    now = models.snapshot(tiny_model)
    assert all(torch.equal(now[name], tensor) for name, tensor in start.items())
    assert all(p.requires_grad for p in tiny_model.parameters())


def test_learned_p_tuning_is_a_soft_prompt(tiny_model, batch):
    config = PromptEncoderConfig(task_type="CAUSAL_LM", num_virtual_tokens=4, encoder_hidden_size=8)
    relative = peft_models.copy_with(tiny_model, config)
    made = SoftPrompt(tiny_model, 4)
    with torch.no_grad():
        made.vectors.copy_(relative.get_prompt_embedding_to_save("default"))
    theirs = outcome(relative, batch)
    with attached(tiny_model, made):
        ours = outcome(tiny_model, batch)
    torch.testing.assert_close(ours[:2], theirs[:2], rtol=1e-5, atol=1e-5)


def test_a_twin_leaves_the_model_as_it_is(tiny_model, batch):
    names, base = [n for n, _ in tiny_model.named_modules()], outcome(tiny_model, batch)[0]
    for addition in (loud(tiny_model), SoftPrompt(tiny_model)):
        outcome(peft_models.twin(tiny_model, addition), batch)
    assert [name for name, _ in tiny_model.named_modules()] == names
    assert all(p.requires_grad for p in tiny_model.parameters())
    assert torch.equal(outcome(tiny_model, batch)[0], base)


def test_what_peft_cannot_copy_is_refused(tiny_model):
    made = loud(tiny_model)
    with pytest.raises(WorkbookError, match="no equivalent of this adapter"):
        peft_models.twin(tiny_model, Adapter(tiny_model))
    with attached(tiny_model, made):
        with pytest.raises(WorkbookError, match="leave its block first"):
            peft_models.twin(tiny_model, made)
