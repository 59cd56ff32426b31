"""Soft prompts: what the model reads, how they start, and which words they resemble."""

import pytest
import torch

from workbook import encoding, models, scoring, training
from workbook.adaptation import soft_prompt
from workbook.adaptation.additions import attached
from workbook.adaptation.soft_prompt import SoftPrompt
from workbook.errors import WorkbookError

IDS = torch.tensor([[5, 80, 31, 200, 7, 399], [9, 9, 44, 3, 120, 61]])
TEXT = "Is the sentiment of this review positive or negative?"


@pytest.fixture
def prompt(tiny_model):
    return SoftPrompt(tiny_model, length=4)


def by_hand(model, prompt, ids):
    """The logits at the text when the model reads the vectors and the embedded text."""
    text = model.get_input_embeddings()(ids)
    both = torch.cat([prompt.vectors.expand(len(ids), -1, -1), text], dim=1)
    return model(inputs_embeds=both).logits[:, len(prompt.vectors) :]


def test_the_model_reads_the_vectors_before_the_text(tiny_model, prompt):
    expected = by_hand(tiny_model, prompt, IDS)
    (gradient,) = torch.autograd.grad(expected.logsumexp(-1).sum(), [prompt.vectors])
    with attached(tiny_model, prompt) as model:
        found = model(input_ids=IDS).logits
        (ours,) = torch.autograd.grad(found.logsumexp(-1).sum(), [prompt.vectors])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    scale = gradient.abs().max()
    torch.testing.assert_close(ours / scale, gradient / scale, rtol=0, atol=1e-5)
    assert (found - tiny_model(input_ids=IDS).logits).abs().max() > 1e-2


@pytest.mark.parametrize("keep", [1, 3, torch.tensor([0, 2]), torch.tensor([-2, -1])])
def test_logits_to_keep_count_the_callers_own_tokens(tiny_model, prompt, keep):
    with attached(tiny_model, prompt) as model, torch.no_grad():
        every = model(input_ids=IDS).logits
        kept = model(input_ids=IDS, logits_to_keep=keep).logits
    expected = every[:, -keep:] if isinstance(keep, int) else every[:, keep]
    torch.testing.assert_close(kept, expected, rtol=0, atol=1e-6)


def test_the_loss_is_that_of_the_text_after_the_prompt(tiny_model, tiny_tokenizer, prompt):
    pairs = [("the film is", "good"), ("a very fine old story it was", "bad")]
    examples = encoding.encode_pairs(tiny_tokenizer, pairs, prompt_style="plain")
    total = 0.0
    for example in examples:
        ids, labels = (torch.tensor([example[name]]) for name in ("input_ids", "labels"))
        logprobs = by_hand(tiny_model, prompt, ids)[0].log_softmax(-1)
        learned = (labels[0, 1:] != encoding.IGNORE_INDEX).nonzero()[:, 0]
        total -= sum(logprobs[i, labels[0, i + 1]].item() for i in learned)
    with attached(tiny_model, prompt) as model, torch.no_grad():
        found = training.completion_loss(model, encoding.collate(examples)).item()
    assert found == pytest.approx(total, abs=1e-4)


@pytest.mark.parametrize("given", ["mask", "no mask"])
def test_the_prompt_is_read_once_a_cache(tiny_model, prompt, given):
    """Three pieces through one cache are one text; the mask leaves the prompt out."""
    with attached(tiny_model, prompt) as model, torch.no_grad():
        whole = model(input_ids=IDS).logits
        cache, pieces = None, []
        for start in (0, 2, 5):
            piece = IDS[:, start : (2, 5, 6)[len(pieces)]]
            options = {"attention_mask": torch.ones(2, start + piece.shape[1])}
            output = model(
                input_ids=piece, past_key_values=cache, use_cache=True,
                **(options if given == "mask" else {}),
            )  # fmt: skip
            cache = output.past_key_values
            pieces.append(output.logits)
    assert cache.get_seq_length() == 4 + 6
    torch.testing.assert_close(torch.cat(pieces, 1), whole, rtol=0, atol=1e-5)


def test_pads_cost_no_distance_even_with_position_ids_that_count_them(tiny_model, prompt):
    """Left pads stand between prompt and text; the positions given here count them."""
    ids = torch.cat([torch.zeros(1, 3, dtype=torch.long), IDS[:1]], dim=1)
    mask = torch.tensor([[0] * 3 + [1] * 6])
    with attached(tiny_model, prompt) as model, torch.no_grad():
        expected = model(input_ids=IDS[:1]).logits
        found = model(input_ids=ids, attention_mask=mask, position_ids=torch.arange(9)[None]).logits
    torch.testing.assert_close(found[:, 3:], expected, rtol=0, atol=1e-5)


def test_text_that_fills_the_context_leaves_no_room(tiny_model, tiny_tokenizer, prompt):
    limit = tiny_model.config.max_position_embeddings
    with attached(tiny_model, prompt) as model, torch.no_grad():
        model(input_ids=torch.ones(1, limit - 4, dtype=torch.long))
        with pytest.raises(WorkbookError, match=f"have {limit + 1} tokens and the model reads"):
            model(input_ids=torch.ones(1, limit - 3, dtype=torch.long))


# --- the start


def test_a_random_start_has_the_scale_of_the_embeddings(tiny_model):
    table = tiny_model.get_input_embeddings().weight
    for scale in (1.0, 30.0):
        with torch.no_grad():
            table.mul_(scale)
        vectors = SoftPrompt(tiny_model, length=200).vectors
        assert vectors.std().item() == pytest.approx(table.std().item(), rel=0.05)


def test_a_vocabulary_start_is_rows_of_words(tiny_model, tiny_tokenizer):
    made = [
        soft_prompt.from_vocabulary(tiny_model, tiny_tokenizer, 12, seed).vectors
        for seed in (0, 0, 1)
    ]
    assert torch.equal(made[0], made[1]) and not torch.equal(made[0], made[2])
    table = tiny_model.get_input_embeddings().weight
    for vector in made[0]:
        (row,) = (table == vector).all(dim=1).nonzero()[:, 0].tolist()
        assert tiny_tokenizer.decode([row]).strip().isalpha()


@pytest.mark.parametrize("length", [1, 5, 40])
def test_a_text_start_repeats_or_cuts_the_text(tiny_model, tiny_tokenizer, length):
    made = soft_prompt.from_text(tiny_model, tiny_tokenizer, TEXT, length)
    ids = (encoding.token_ids(tiny_tokenizer, TEXT) * length)[:length]
    assert torch.equal(made.vectors, tiny_model.get_input_embeddings().weight[ids])


def test_a_text_start_answers_as_the_text_does(tiny_model, tiny_tokenizer):
    """As long as the text, a soft prompt is at first the same prompt in words."""
    length = len(encoding.token_ids(tiny_tokenizer, TEXT))
    made = soft_prompt.from_text(tiny_model, tiny_tokenizer, TEXT, length)
    reviews, labels = ["dull film", "a nice story"], ["good", "very bad"]
    written = scoring.classify(
        tiny_model,
        tiny_tokenizer,
        [f"{TEXT}{review}" for review in reviews],
        labels,
        prompt_style="plain",
    )
    with attached(tiny_model, made) as model:
        soft = scoring.classify(model, tiny_tokenizer, reviews, labels, prompt_style="plain")
    assert soft.scores == pytest.approx(written.scores, abs=1e-4)


def test_learning_does_not_reach_the_embeddings_it_started_from(tiny_model, tiny_tokenizer):
    start = models.snapshot(tiny_model)
    for made in (
        soft_prompt.from_text(tiny_model, tiny_tokenizer, TEXT, 5),
        soft_prompt.from_vocabulary(tiny_model, tiny_tokenizer, 5),
    ):
        assert made.vectors.is_leaf and made.vectors.requires_grad
        with torch.no_grad():
            made.vectors.add_(1)
    now = models.snapshot(tiny_model)
    assert all(torch.equal(now[name], tensor) for name, tensor in start.items())


def test_prompts_that_cannot_be_are_refused(tiny_model, tiny_tokenizer):
    with pytest.raises(WorkbookError, match="length of 0"):
        SoftPrompt(tiny_model, length=0)
    with pytest.raises(WorkbookError, match="is empty"):
        soft_prompt.from_text(tiny_model, tiny_tokenizer, "")
    pair = SoftPrompt(tiny_model, 3), SoftPrompt(tiny_model, 4)
    with pytest.raises(WorkbookError, match="take one length"):
        with attached(tiny_model, *pair, rows=[0, 1]):
            pass


# --- the nearest words


def test_the_nearest_words_of_a_text_start_are_its_own(tiny_model, tiny_tokenizer):
    made = soft_prompt.from_text(tiny_model, tiny_tokenizer, TEXT, 6)
    with torch.no_grad():
        made.vectors.mul_(7)  # a cosine does not depend on length
    found = soft_prompt.nearest_words(made, tiny_model, tiny_tokenizer, k=3)
    ids = encoding.token_ids(tiny_tokenizer, TEXT)[:6]
    assert [row[0][0] for row in found] == [tiny_tokenizer.decode([i]) for i in ids]
    for row in found:
        cosines = [cosine for _, cosine in row]
        assert cosines[0] == pytest.approx(1, abs=1e-5)
        assert cosines == sorted(cosines, reverse=True) and len(row) == 3 and cosines[1] < 0.99
