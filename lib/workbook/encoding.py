"""From prompt–completion pairs to token ids, labels and batches (taught in notebook 02)."""

from collections.abc import Iterable, Sequence

import torch

from .errors import WorkbookError

IGNORE_INDEX = -100  # the label that PyTorch's cross-entropy skips


def format_prompt(tokenizer, prompt: str, prompt_style: str = "chat") -> str:
    """Return the text that the model reads before it writes the completion.

    `prompt_style` is "chat" (the tokenizer's own chat template, without the default system
    message) or "plain" (the prompt as it is).
    """
    if prompt_style == "plain":
        return prompt
    if tokenizer.chat_template is None:
        raise WorkbookError("This tokenizer has no chat template: pass prompt_style='plain'.")
    message = [{"role": "user", "content": prompt}]
    text = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    if text.startswith("<|im_start|>system"):  # 25 tokens that cost time and gain no accuracy
        text = text[text.index("<|im_start|>user") :]
    return text


def format_completion(prompt: str, completion: str, prompt_style: str = "chat") -> str:
    """Return the completion as it follows the formatted prompt: in plain style after a space."""
    needs_space = prompt_style == "plain" and prompt and not prompt[-1].isspace()
    return f" {completion}" if needs_space else completion


def token_ids(tokenizer, text: str) -> list[int]:
    """Return the ids of a text without any token added by the tokenizer."""
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def encode(
    tokenizer,
    prompt: str,
    completion: str,
    *,
    prompt_style: str = "chat",
    max_length: int = 512,
    truncate: bool = False,
) -> dict[str, list[int]]:
    """Return `input_ids` and `labels` of one pair: the prompt masked, the end token learned.

    Both lists have the same length in tokens. With `truncate`, a pair that is too long loses the
    beginning of its prompt, never its completion. Raises WorkbookError for an empty completion and
    for a pair longer than `max_length`.
    """
    if not completion.strip():
        raise WorkbookError(f"The completion of {prompt[:60]!r} is empty: give it at least a word.")
    start = token_ids(tokenizer, format_prompt(tokenizer, prompt, prompt_style))
    end = token_ids(tokenizer, format_completion(prompt, completion, prompt_style))
    end.append(tokenizer.eos_token_id)
    excess = len(start) + len(end) - max_length
    if excess > 0:
        if not truncate or excess >= len(start):
            raise WorkbookError(
                f"The pair that begins {prompt[:60]!r} has {max_length + excess} tokens and "
                f"{max_length} fit: shorten it, raise max_length, or, if the completion alone "
                "fits, pass truncate=True to cut the beginning of the prompt."
            )
        start = start[excess:]
    return {"input_ids": start + end, "labels": [IGNORE_INDEX] * len(start) + end}


def encode_pairs(tokenizer, pairs: Iterable[tuple[str, str]], **options) -> list[dict]:
    """Return the encoded examples of (prompt, completion) pairs; options as in `encode`."""
    return [encode(tokenizer, prompt, completion, **options) for prompt, completion in pairs]


def pad_right(rows: Sequence[Sequence[int]], value: int) -> torch.Tensor:
    """Return the rows as one integer tensor [rows, longest], short rows filled with `value`."""
    tensors = [torch.tensor(row, dtype=torch.long) for row in rows]
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=value)


def collate(examples: Sequence[dict], pad_id: int = 0) -> dict[str, torch.Tensor]:
    """Return a batch: `input_ids`, `attention_mask` and `labels`, each [examples, longest].

    Pads are masked by position, not by id, since the end token often serves as the pad; so any
    `pad_id` will do. Raises WorkbookError if an example has no label to learn from.
    """
    labels = pad_right([example["labels"] for example in examples], IGNORE_INDEX)
    if (labels == IGNORE_INDEX).all(dim=1).any():
        raise WorkbookError("An example has every label masked: give it a completion to learn.")
    return {
        "input_ids": pad_right([example["input_ids"] for example in examples], pad_id),
        "attention_mask": pad_right([[1] * len(example["labels"]) for example in examples], 0),
        "labels": labels,
    }


def length_grouped_batches(
    lengths: Sequence[int], batch_size: int, generator: torch.Generator, chunk: int = 16
) -> list[list[int]]:
    """Return shuffled batches of example indices in which lengths are alike, so few pads are spent.

    The examples are shuffled, cut into chunks of `chunk` batches, sorted by length within each
    chunk, and the batches are shuffled again; each index occurs once.
    """
    order = torch.randperm(len(lengths), generator=generator).tolist()
    size = batch_size * chunk
    chunks = [order[i : i + size] for i in range(0, len(order), size)]
    grouped = [i for part in chunks for i in sorted(part, key=lengths.__getitem__)]
    batches = [grouped[i : i + batch_size] for i in range(0, len(grouped), batch_size)]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]
