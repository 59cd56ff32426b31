"""Log-likelihoods of answers and generated text, each prefix computed once (notebook 01)."""

import contextlib
import copy
import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from transformers import DynamicCache

from . import models, settings
from .encoding import format_completion, format_prompt, pad_right, token_ids
from .errors import WorkbookError


@contextlib.contextmanager
def inference(model: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """Yield the model in evaluation mode and without gradients, then restore its mode."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield model
    finally:
        model.train(was_training)


def shared_prefix(rows: Sequence[Sequence[int]]) -> list[int]:
    """Return the token ids that all rows begin with, leaving each row at least one of its own."""
    limit = min(len(row) for row in rows) - 1
    first = rows[0]
    for i in range(limit):
        if any(row[i] != first[i] for row in rows):
            return list(first[:i])
    return list(first[:limit])


def _prefill(model, ids: Sequence[int]) -> DynamicCache:
    """Return the key–value cache of a prefix, batch size one; empty for an empty prefix."""
    cache = DynamicCache(config=model.config)
    if ids:
        row = torch.tensor([list(ids)], device=model.device)
        model(input_ids=row, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return cache


def _repeat(cache: DynamicCache, times: int) -> DynamicCache:
    """Return a copy of a cache for a batch of `times`: a forward call changes what it is given."""
    cache = copy.deepcopy(cache)
    if cache.get_seq_length():
        cache.batch_repeat_interleave(times)
    return cache


def _forward(model, cache: DynamicCache, rows: Sequence[Sequence[int]], keep: int | torch.Tensor):
    """Return logits [rows, kept, vocabulary] of right-padded rows that continue the cache."""
    past = cache.get_seq_length()
    mask = pad_right([[1] * (past + len(row)) for row in rows], 0).to(model.device)
    ids = pad_right(rows, 0).to(model.device)
    position = torch.arange(past, past + ids.shape[1], device=model.device).expand_as(ids)
    return model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=position,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=keep,
    ).logits


def _sorted_batches(rows: Sequence[Sequence[int]], tokens: int) -> Iterator[list[int]]:
    """Yield indices of rows alike in length, up to about `tokens` tokens with pads a batch."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    batch: list[int] = []
    for i in order:
        if batch and len(rows[i]) * (len(batch) + 1) > tokens:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def score_continuations(
    model,
    prompts: Sequence[Sequence[int]],
    choices: Sequence[Sequence[Sequence[int]]],
    *,
    batch_tokens: int = 1024,
) -> list[list[float]]:
    """Return the log-likelihood (nats) of each choice of token ids after its prompt.

    The prefix that all prompts share is computed once, each prompt once for all its choices.
    Raises WorkbookError for an empty prompt or choice and for text longer than the model's context.
    """
    if not all(prompts) or not all(options and all(options) for options in choices):
        raise WorkbookError("A prompt or a choice has no tokens: give each at least one word.")
    _check_context(model, prompts, choices)
    results: list[list[float]] = [[] for _ in prompts]
    with inference(model):
        prefix = shared_prefix(prompts)
        tails = [prompt[len(prefix) :] for prompt in prompts]
        start = _prefill(model, prefix)
        for batch in _sorted_batches(tails, batch_tokens):
            scored = _score_batch(
                model, start, [tails[i] for i in batch], [choices[i] for i in batch]
            )
            for i, values in zip(batch, scored, strict=True):
                results[i] = values
    return results


def _check_context(model, prompts, choices) -> None:
    """Raise WorkbookError if a prompt with its longest choice exceeds the model's context."""
    limit = models.context_length(model)
    for prompt, options in zip(prompts, choices, strict=True):
        length = len(prompt) + max(len(option) for option in options)
        if length > limit:
            raise WorkbookError(
                f"A prompt with its answer has {length} tokens and the model reads {limit}: "
                "use fewer or shorter examples."
            )


def _score_batch(model, start, tails, choices) -> list[list[float]]:
    """Return the log-likelihoods for one batch of prompts that continue the shared start."""
    cache = _repeat(start, len(tails))
    last = torch.tensor([len(tail) - 1 for tail in tails], device=model.device)
    kept = last.unique()
    logits = _forward(model, cache, tails, kept)
    rows = torch.arange(len(tails), device=model.device)
    first = logits[rows, torch.searchsorted(kept, last)].float().log_softmax(-1)
    scores = [[float(first[i, c[0]]) for c in options] for i, options in enumerate(choices)]
    longest = max(len(c) for options in choices for c in options)
    if longest > 1:
        lengths = cache.get_seq_length() - last.max() + last  # with what a soft prompt put before
        _add_later_tokens(model, cache, lengths, choices, scores)
    return scores


def _add_later_tokens(model, cache, lengths, choices, scores) -> None:
    """Add to the scores the log-likelihood of each choice's second and later tokens.

    The choices continue the padded prompts, so their positions skip the pads and the mask hides
    them. Choices are taken one column at a time: the k-th choice of every prompt is one batch.
    """
    past = cache.get_seq_length()
    seen = torch.arange(past, device=lengths.device) < lengths[:, None]
    for column in range(max(len(options) for options in choices)):
        rows = [options[column][:-1] if column < len(options) else [] for options in choices]
        active = [i for i, row in enumerate(rows) if row]
        if not active:
            continue
        ids = pad_right([rows[i] for i in active], 0).to(lengths.device)
        branch = copy.deepcopy(cache)
        branch.batch_select_indices(torch.tensor(active, device=lengths.device))
        mask = torch.cat([seen[active], torch.ones_like(ids, dtype=torch.bool)], dim=1)
        position = lengths[active][:, None] + torch.arange(ids.shape[1], device=lengths.device)
        logits = model(
            input_ids=ids,
            attention_mask=mask.long(),
            position_ids=position,
            past_key_values=branch,
            use_cache=True,
        ).logits
        logprobs = logits.float().log_softmax(-1)
        for row, i in enumerate(active):
            later = choices[i][column][1:]
            found = (logprobs[row, place, token] for place, token in enumerate(later))
            scores[i][column] += sum(map(float, found))


def score_choices(
    model,
    tokenizer,
    prompts: Sequence[str],
    choices: Sequence[Sequence[str]],
    *,
    prompt_style: str = "chat",
    **options,
) -> list[list[float]]:
    """Return the log-likelihood (nats) of each choice of each prompt, both given as text.

    The end token is not scored. `prompt_style` as in `encoding.format_prompt`.
    """
    starts = [
        token_ids(tokenizer, format_prompt(tokenizer, prompt, prompt_style)) for prompt in prompts
    ]
    ends = [
        [_choice_ids(tokenizer, prompt, choice, prompt_style) for choice in row]
        for prompt, row in zip(prompts, choices, strict=True)
    ]
    return score_continuations(model, starts, ends, **options)


def _choice_ids(tokenizer, prompt: str, choice: str, prompt_style: str) -> list[int]:
    """Return the ids of a choice, none for a blank one, whose space alone is not an answer."""
    text = format_completion(prompt, choice, prompt_style) if choice.strip() else ""
    return token_ids(tokenizer, text)


@dataclasses.dataclass(frozen=True)
class Classification:
    """Log-likelihoods [items, labels] (nats) and the label index with the highest one."""

    scores: np.ndarray
    predictions: np.ndarray

    def probabilities(self) -> np.ndarray:
        """Return the probabilities of the labels, normalised over the labels alone."""
        shifted = np.exp(self.scores - self.scores.max(axis=1, keepdims=True))
        return shifted / shifted.sum(axis=1, keepdims=True)


def classify(
    model,
    tokenizer,
    prompts: Sequence[str],
    labels: Sequence[str],
    *,
    prompt_style: str = "chat",
    neutral_prompts: Sequence[str] = (),
    **options,
) -> Classification:
    """Return the label that each prompt makes most likely.

    With `neutral_prompts` (the same prompt around a text without content, such as "N/A"), the
    mean log-probability that they give a label is subtracted first: contextual calibration (Zhao
    et al. 2021, 2102.09690). Taught in notebook 01.
    """
    every = [*prompts, *neutral_prompts]
    rows = score_choices(
        model, tokenizer, every, [labels] * len(every), prompt_style=prompt_style, **options
    )
    scores = np.array(rows[: len(prompts)])
    if neutral_prompts:
        bias = Classification(np.array(rows[len(prompts) :]), np.empty(0)).probabilities()
        scores = scores - np.log(bias.mean(axis=0))
    return Classification(scores, scores.argmax(axis=1))


def generate(
    model,
    tokenizer,
    prompts: Sequence[str],
    *,
    prompt_style: str = "chat",
    max_new_tokens: int = 32,
    temperature: float = 0.0,
    top_p: float = 1.0,
    top_k: int = 0,
    seed: int = 0,
    stop: str | None = None,
    batch_size: int = 16,
) -> list[str]:
    """Return the text that the model writes after each prompt, without special tokens.

    Greedy at temperature 0, else sampled with the seed. The text ends at the end token, after
    `max_new_tokens`, or before the first occurrence of `stop`.
    """
    rows = [
        token_ids(tokenizer, format_prompt(tokenizer, prompt, prompt_style)) for prompt in prompts
    ]
    sampling = {"do_sample": False}
    if temperature > 0:
        sampling = dict(do_sample=True, temperature=temperature, top_p=top_p, top_k=top_k)
        torch.manual_seed(seed)
    texts = [""] * len(rows)
    with inference(model):
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            new = _generate_batch(
                model, tokenizer, [rows[i] for i in batch], max_new_tokens, sampling
            )
            for i, text in zip(batch, new, strict=True):
                texts[i] = (text.split(stop)[0] if stop else text).strip()
    return texts


def _generate_batch(model, tokenizer, rows, max_new_tokens: int, sampling: dict) -> list[str]:
    """Return the continuations of one left-padded batch (so that all rows end together)."""
    pad = tokenizer.pad_token_id
    ids = pad_right([row[::-1] for row in rows], pad).flip(1).to(model.device)
    mask = pad_right([[1] * len(row) for row in rows], 0).flip(1).to(model.device)
    output = model.generate(
        input_ids=ids,
        attention_mask=mask,
        max_new_tokens=max_new_tokens,
        pad_token_id=pad,
        eos_token_id=tokenizer.eos_token_id,
        **sampling,
    )
    return tokenizer.batch_decode(output[:, ids.shape[1] :], skip_special_tokens=True)


@contextlib.contextmanager
def working_copy(model: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """Yield the model in the working precision of this machine for fast scoring.

    Where that is float32, or the model has that format, it is the model itself; otherwise a cast
    copy that is dropped afterwards.
    """
    dtype = settings.working_dtype()
    if dtype == torch.float32 or dtype == next(model.parameters()).dtype:
        yield model
        return
    working = copy.deepcopy(model)
    models.cast_weights(working, dtype)
    yield working
