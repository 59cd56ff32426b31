import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workbook import encoding
from workbook.encoding import IGNORE_INDEX
from workbook.errors import WorkbookError

CONTEXTS = ["Is it good?", "the film ", "the film\n\n ", "", "  "]
letters = st.characters(exclude_categories=("Cs",), exclude_characters="\0")
words = st.text(alphabet=letters, min_size=1, max_size=40)


def test_prompt_is_masked_and_the_end_is_learned(tiny_tokenizer):
    example = encoding.encode(tiny_tokenizer, "Is it good?", "yes indeed", prompt_style="plain")
    learned = [i for i in example["labels"] if i != IGNORE_INDEX]
    assert tiny_tokenizer.decode(learned[:-1]) == " yes indeed"
    assert learned[-1] == tiny_tokenizer.eos_token_id
    assert example["input_ids"][-len(learned) :] == learned


# The tokenizer keeps no state, so one for all generated inputs is as good as one for each.
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(prompt=words, completion=words.filter(str.strip))
def test_every_pair_keeps_its_text_and_learns_only_the_completion(
    tiny_tokenizer, prompt, completion
):
    example = encoding.encode(
        tiny_tokenizer, prompt, completion, prompt_style="plain", max_length=4096
    )
    ids, labels = example["input_ids"], example["labels"]
    assert len(ids) == len(labels)
    start = len(encoding.split_ids(tiny_tokenizer, prompt, completion, "plain")[0])
    assert tiny_tokenizer.decode(ids[:-1]) == prompt + encoding.format_completion(
        prompt, completion, "plain"
    )
    assert labels[:start] == [IGNORE_INDEX] * start
    assert labels[start:] == ids[start:]


def test_chat_style_has_no_system_message(tiny_tokenizer):
    text = encoding.format_prompt(tiny_tokenizer, "Hello there")
    assert text == "<|im_start|>user\nHello there<|im_end|>\n<|im_start|>assistant\n"


def test_a_tokenizer_without_chat_template_is_refused(tiny_tokenizer, monkeypatch):
    monkeypatch.setattr(tiny_tokenizer, "chat_template", None)
    with pytest.raises(WorkbookError, match="prompt_style='plain'"):
        encoding.format_prompt(tiny_tokenizer, "Hello")


@pytest.mark.parametrize("completion", ["", "  \n"])
def test_empty_completion_is_refused(tiny_tokenizer, completion):
    with pytest.raises(WorkbookError, match="empty"):
        encoding.encode(tiny_tokenizer, "Why?", completion)


def test_too_long_a_pair_is_refused_unless_the_prompt_may_be_cut(tiny_tokenizer):
    prompt = "the film was long " * 50
    with pytest.raises(WorkbookError, match="truncate=True"):
        encoding.encode(tiny_tokenizer, prompt, "yes", max_length=20)
    whole = encoding.encode(tiny_tokenizer, prompt, "yes", max_length=4096)
    cut = encoding.encode(tiny_tokenizer, prompt, "yes", max_length=20, truncate=True)
    assert cut["input_ids"] == whole["input_ids"][-20:]
    assert cut["labels"] == whole["labels"][-20:]


def test_a_completion_longer_than_the_limit_is_never_cut(tiny_tokenizer):
    with pytest.raises(WorkbookError, match="completion alone"):
        encoding.encode(tiny_tokenizer, "Why?", "so it goes " * 30, max_length=20, truncate=True)


def test_the_end_token_is_learned_even_when_it_serves_as_pad(tiny_tokenizer):
    short = encoding.encode(tiny_tokenizer, "a", "b", prompt_style="plain")
    long = encoding.encode(tiny_tokenizer, "a much longer prompt", "b", prompt_style="plain")
    batch = encoding.collate([short, long], pad_id=tiny_tokenizer.eos_token_id)
    assert (batch["labels"] == tiny_tokenizer.eos_token_id).sum(dim=1).tolist() == [1, 1]


@given(st.lists(st.integers(1, 12), min_size=1, max_size=6))
def test_collate_pads_and_masks_by_position(lengths):
    examples = [{"input_ids": list(range(1, n + 1)), "labels": [7] * n} for n in lengths]
    batch = encoding.collate(examples)
    assert batch["input_ids"].shape == (len(lengths), max(lengths))
    assert batch["attention_mask"].sum(dim=1).tolist() == lengths
    assert torch.equal(batch["labels"] != IGNORE_INDEX, batch["attention_mask"].bool())


def test_an_example_with_all_labels_masked_is_refused():
    with pytest.raises(WorkbookError, match="masked"):
        encoding.collate([{"input_ids": [1, 2], "labels": [IGNORE_INDEX, IGNORE_INDEX]}])


@given(st.lists(st.integers(1, 99), min_size=1, max_size=200), st.integers(1, 9), st.integers(0, 3))
def test_batches_hold_each_index_once(lengths, size, seed):
    generator = torch.Generator().manual_seed(seed)
    batches = encoding.length_grouped_batches(lengths, size, generator)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert max(map(len, batches)) <= size


def test_batches_spend_few_pads_and_are_shuffled():
    lengths = torch.randint(5, 100, (512,), generator=torch.Generator().manual_seed(1)).tolist()
    batches = encoding.length_grouped_batches(lengths, 8, torch.Generator().manual_seed(0))
    pads = sum(max(lengths[i] for i in b) * len(b) for b in batches) / sum(lengths) - 1
    assert pads < 0.1
    means = [sum(lengths[i] for i in b) for b in batches]
    assert means != sorted(means)
    other = encoding.length_grouped_batches(lengths, 8, torch.Generator().manual_seed(1))
    assert batches != other


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("continuation", [" yes indeed", "yes", "\nno"])
def test_a_continuation_begins_with_the_white_space_before_it(
    tiny_tokenizer, context, continuation
):
    start, end = encoding.continuation_ids(tiny_tokenizer, context, continuation)
    assert tiny_tokenizer.decode(start) == context.rstrip()
    assert tiny_tokenizer.decode(start + end) == context + continuation
    assert start + end == encoding.token_ids(tiny_tokenizer, context + continuation)
