"""Labels and loss are those of TRL's SFTTrainer on the same prompt–completion pairs."""

import copy

import pytest
import torch
from datasets import Dataset
from transformers import AutoTokenizer

from workbook import assets, encoding, tasks, training

trl = pytest.importorskip("trl", reason="TRL is not installed: pip install -e '.[test]'")

PAIRS = [
    ("The film is good.", "positive"),
    ("Is the sentiment of this review positive or negative?\n\nMy phone broke.", "negative"),
    ("What is the capital of France?", "The capital is Paris,\nif I am right."),
    ("Café 🙂 25 euros, tax\tincluded:", "no"),
]
STYLES = ["chat", "plain"]


@pytest.fixture
def sft_trainer(tmp_path):
    """Return a function that makes TRL's trainer, in float32, of pairs written out as text.

    Both get the same text, because TRL's own conversational format would add a default system
    message before the prompt and teach a line break after the end token.
    """

    def make(model, tokenizer, pairs, style, **options):
        rows = [
            {
                "prompt": encoding.format_prompt(tokenizer, prompt, style),
                "completion": encoding.format_completion(prompt, completion, style),
            }
            for prompt, completion in pairs
        ]
        options |= {"use_cpu": True, "bf16": False, "report_to": "none", "disable_tqdm": True}
        return trl.SFTTrainer(
            model,
            trl.SFTConfig(str(tmp_path), **options),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
        )

    return make


@pytest.fixture
def real_tokenizer():
    if not (assets.is_cached("model") and assets.is_cached("reviews")):
        pytest.skip("The model and the reviews are not in the cache: run `make fetch`.")
    return AutoTokenizer.from_pretrained(assets.model_dir(), local_files_only=True)


def examples_of(trainer):
    return [{name: row[name] for name in ("input_ids", "labels")} for row in trainer.train_dataset]


@pytest.mark.parametrize("style", STYLES)
def test_ids_and_labels_are_those_of_trl(tiny_model, tiny_tokenizer, sft_trainer, style):
    theirs = examples_of(sft_trainer(tiny_model, tiny_tokenizer, PAIRS, style))
    assert encoding.encode_pairs(tiny_tokenizer, PAIRS, prompt_style=style) == theirs


@pytest.mark.real_model
@pytest.mark.parametrize("style", STYLES)
def test_ids_and_labels_of_real_reviews_are_those_of_trl(
    tiny_model, real_tokenizer, sft_trainer, style
):
    task = tasks.load_task("sentiment")
    rows = tasks.draw(task.splits["train"], 50)
    pairs = [template.render(row) for template in task.templates for row in rows]
    theirs = examples_of(sft_trainer(tiny_model, real_tokenizer, pairs, style))
    assert encoding.encode_pairs(real_tokenizer, pairs, prompt_style=style) == theirs


@pytest.mark.parametrize("style", STYLES)
def test_loss_and_gradients_are_those_of_trl(tiny_model, tiny_tokenizer, sft_trainer, style):
    ours = copy.deepcopy(tiny_model).train()
    trainer = sft_trainer(tiny_model.train(), tiny_tokenizer, PAIRS, style)
    their_loss = trainer.compute_loss(trainer.model, trainer.data_collator(trainer.train_dataset))
    batch = encoding.collate(encoding.encode_pairs(tiny_tokenizer, PAIRS, prompt_style=style))
    our_loss = training.completion_loss(ours, batch) / training.label_count(batch)
    assert our_loss.item() == pytest.approx(their_loss.item(), abs=1e-5)
    our_loss.backward()
    their_loss.backward()
    for mine, other in zip(ours.parameters(), trainer.model.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-6)


def test_a_run_ends_at_the_weights_of_trl(tiny_model, tiny_tokenizer, sft_trainer, monkeypatch):
    """With all pairs in one batch the two shuffles make no difference.

    All weights are looked at together: Adam moves one whose gradient is near 0 by its rounding.
    """
    monkeypatch.setenv("WORKBOOK_PRECISION", "fp32")
    examples = encoding.encode_pairs(tiny_tokenizer, PAIRS)
    start, ours = copy.deepcopy(tiny_model), copy.deepcopy(tiny_model)
    training.fit(ours, examples, epochs=6, batch_size=len(PAIRS), lr=1e-3, progress=False)
    sft_trainer(
        tiny_model, tiny_tokenizer, PAIRS, "chat",
        num_train_epochs=6, per_device_train_batch_size=len(PAIRS), learning_rate=1e-3,
        warmup_steps=0.1, weight_decay=0.0, max_grad_norm=1.0, save_strategy="no",
    ).train()  # fmt: skip
    first, mine, other = map(flat, (start, ours, tiny_model))
    assert (mine - other).norm() < 0.01 * (mine - first).norm()


def flat(model):
    return torch.nn.utils.parameters_to_vector(model.parameters()).detach()
