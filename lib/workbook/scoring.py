"""Log-likelihoods of answers and generated text, each prefix computed once (notebook 01)."""

import collections
import contextlib
import copy
import dataclasses
import inspect
import itertools
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import DynamicCache, GenerationConfig
from transformers.cache_utils import DynamicLayer

from . import models, settings
from .encoding import check_batch_size, end_id, pad_right, prompt_ids, split_ids
from .errors import WorkbookError

LOGITS_AT_ONCE = 2**26  # numbers: a quarter of a gigabyte, and as much for their logarithms
BAR_AFTER = 2  # seconds: shorter work needs no progress bar


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


@contextlib.contextmanager
def _watched(
    total: int, unit: str, on_done: Callable[[int], object] | None = None
) -> Iterator[Callable[[int], object]]:
    """Yield what is told how much more is done: `on_done`, or a bar where somebody looks."""
    if on_done:
        yield on_done
        return
    is_seen = sys.stderr.isatty() or "ipykernel" in sys.modules
    with tqdm(total=total, unit=unit, delay=BAR_AFTER, disable=not is_seen, leave=False) as bar:
        yield bar.update


def shared_prefix(rows: Sequence[Sequence[int]]) -> list[int]:
    """Return the token ids that all rows begin with, leaving each row at least one of its own."""
    limit = min(len(row) for row in rows) - 1
    first = rows[0]
    for i in range(limit):
        if any(row[i] != first[i] for row in rows):
            return list(first[:i])
    return list(first[:limit])


def score_continuations(
    model,
    prompts: Sequence[Sequence[int]],
    choices: Sequence[Sequence[Sequence[int]]],
    *,
    batch_tokens: int = 1024,
    on_scored: Callable[[int], object] | None = None,
) -> list[list[float]]:
    """Return the log-likelihood (nats) of each choice of token ids after its prompt.

    It is that of one row alone, whatever the model family. Where a cache allows that, the prefix
    that all prompts share is computed once, each prompt once for all its choices. After each batch
    `on_scored` is told how many more choices have their score; without it, a progress bar shows it
    when that takes more than two seconds. Raises WorkbookError for an empty prompt or choice, for
    text longer than the model's context, for tokens that the model does not know, and for models
    that are no Transformer decoder.
    """
    check_batch_size(batch_tokens)
    if not all(prompts) or not all(options and all(options) for options in choices):
        raise WorkbookError("A prompt or a choice has no tokens: give each at least one word.")
    if not prompts:
        return []
    models.check_causal(model)
    pairs = list(zip(prompts, choices, strict=True))
    _check_context(model, [len(prompt) + max(map(len, options)) for prompt, options in pairs])
    models.check_ids(model, max(max(map(max, (p, *options))) for p, options in pairs))
    with inference(model), _watched(sum(map(len, choices)), "answer", on_scored) as tell:
        score = _score_from_cache if _is_free_of_slots(model) else _score_in_full
        return score(model, prompts, choices, batch_tokens, tell)


def _check_context(model, lengths: Sequence[int]) -> None:
    """Raise WorkbookError if a prompt with its answer, in tokens, exceeds the model's context."""
    limit = models.context_length(model)
    if max(lengths) > limit:
        raise WorkbookError(
            f"A prompt with its answer has {max(lengths)} tokens and the model reads {limit}: "
            "use fewer or shorter examples."
        )


def _is_free_of_slots(model) -> bool:
    """Tell whether position ids and mask alone say where a token stands: pads may lie anywhere.

    So it is with rotary positions and full attention. A sliding window counts slots, pads and all;
    so do ALiBi and, in some families, learned positions.
    """
    config = model.config.get_text_config(decoder=True)
    rotary = any(name.endswith("rotary_emb") for name, _ in model.named_modules())
    full = all(type(layer) is DynamicLayer for layer in DynamicCache(config=config).layers)
    return rotary and full and _takes_positions(model) and not getattr(config, "alibi", False)


def _takes_positions(model) -> bool:
    return "position_ids" in inspect.signature(model.forward).parameters


def _places_at_once(model) -> int:
    """Return of how many positions the logits are computed at a time."""
    return max(1, LOGITS_AT_ONCE // models.vocabulary_size(model))


def _batches(
    lengths: Sequence[int],
    tokens: int,
    places: Sequence[int],
    most: int,
    most_rows: float = math.inf,
) -> Iterator[list[int]]:
    """Yield indices of rows alike in length, up to about `tokens` tokens with pads a batch.

    `places` tells of how many positions each row needs the logits, `most` how many a batch may.
    """
    batch: list[int] = []
    needed = 0
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        needed += places[i]
        is_full = lengths[i] * (len(batch) + 1) > tokens or len(batch) >= most_rows
        if batch and (is_full or needed > most):
            yield batch
            batch, needed = [], places[i]
        batch.append(i)
    if batch:
        yield batch


class Place(NamedTuple):
    """A position of a batch, and the tokens whose log-probability there is asked for."""

    row: int
    position: int
    tokens: Sequence[int]


def _logprobs(model, places: Sequence[Place], inputs: Callable[[], dict]) -> list[list[float]]:
    """Return the log-probabilities (nats) of each place's tokens.

    `inputs` makes the model's arguments anew for each forward pass, which changes a cache; there
    is more than one only if a single row has more places than logits are computed at once.
    """
    found, size = [], _places_at_once(model)
    for start in range(0, len(places), size):
        part = places[start : start + size]
        rows, positions = (torch.tensor([place[k] for place in part]) for k in (0, 1))
        logits = models.logits_at(model, rows, positions, **inputs())  # [places, vocabulary]
        logprobs = logits.float().log_softmax(-1)
        found += [logprobs[i, list(place.tokens)].tolist() for i, place in enumerate(part)]
    return found


def _score_in_full(model, prompts, choices, batch_tokens: int, on_scored) -> list[list[float]]:
    """Return the log-likelihoods from one forward pass over each prompt with each choice.

    Rows are padded on the right, where no token sees the pads. Choices that differ in nothing but
    their last token share a row.
    """
    columns = collections.defaultdict(list)  # of the choices that share a row
    for i, options in enumerate(choices):
        for column, option in enumerate(options):
            columns[i, tuple(option[:-1])].append(column)
    rows = list(columns)
    lengths = [len(prompts[i]) + len(tail) for i, tail in rows]
    needed = [1 + len(tail) for _, tail in rows]
    results = [[0.0] * len(options) for options in choices]
    for batch in _batches(lengths, batch_tokens, needed, _places_at_once(model)):
        part = [rows[k] for k in batch]
        values = iter(_read_rows(model, prompts, choices, part, columns))
        for i, tail in part:
            begun = sum(next(values)[0] for _ in tail)
            for column, last in zip(columns[i, tail], next(values), strict=True):
                results[i][column] = begun + last
        on_scored(sum(len(columns[row]) for row in part))
    return results


def _read_rows(model, prompts, choices, rows, columns) -> list[list[float]]:
    """Return the log-probabilities of the tokens of each row's tail, then of its last tokens."""
    places = []
    for k, (i, tail) in enumerate(rows):
        first = len(prompts[i]) - 1
        places += [Place(k, first + j, [token]) for j, token in enumerate(tail)]
        lasts = [choices[i][column][-1] for column in columns[i, tail]]
        places.append(Place(k, first + len(tail), lasts))
    ids = [[*prompts[i], *tail] for i, tail in rows]
    inputs = {
        "input_ids": pad_right(ids, 0).to(model.device),
        "attention_mask": pad_right([[1] * len(row) for row in ids], 0).to(model.device),
        "use_cache": False,
    }
    return _logprobs(model, places, lambda: inputs)


def _score_from_cache(model, prompts, choices, batch_tokens: int, on_scored) -> list[list[float]]:
    """Return the log-likelihoods with each prompt computed once, their common prefix once for all.

    The choices continue the padded prompts: pads lie in the middle of a row.
    """
    results: list[list[float]] = [[] for _ in prompts]
    prefix = shared_prefix(prompts)
    tails = [prompt[len(prefix) :] for prompt in prompts]
    start = _prefill(model, prefix)
    lengths, once = [len(tail) for tail in tails], [1] * len(tails)
    for batch in _batches(lengths, batch_tokens, once, _places_at_once(model)):
        scored = _score_batch(model, start, [tails[i] for i in batch], [choices[i] for i in batch])
        for i, values in zip(batch, scored, strict=True):
            results[i] = values
        on_scored(sum(map(len, scored)))
    return results


def _prefill(model, ids: Sequence[int]) -> DynamicCache:
    """Return the key–value cache of a prefix, batch size one; empty for an empty prefix."""
    cache = DynamicCache(config=model.config)
    if ids:
        row = torch.tensor([list(ids)], device=model.device)
        with models.last_logits(model):
            model(input_ids=row, past_key_values=cache, use_cache=True)
    return cache


def _repeat(cache: DynamicCache, times: int) -> DynamicCache:
    """Return a copy of a cache for a batch of `times`: a forward call changes what it is given."""
    cache = copy.deepcopy(cache)
    if cache.get_seq_length():
        cache.batch_repeat_interleave(times)
    return cache


def _select(cache: DynamicCache, rows: torch.Tensor) -> DynamicCache:
    """Return a copy of some rows of a cache."""
    cache = copy.deepcopy(cache)
    cache.batch_select_indices(rows)
    return cache


def _score_batch(model, start, tails, choices) -> list[list[float]]:
    """Return the log-likelihoods for one batch of prompts that continue the shared start."""
    cache = _repeat(start, len(tails))
    past = cache.get_seq_length()
    ids = pad_right(tails, 0).to(model.device)  # [rows, longest tail]
    mask = pad_right([[1] * (past + len(tail)) for tail in tails], 0).to(model.device)
    position = torch.arange(past, past + ids.shape[1], device=model.device).expand_as(ids)
    inputs = _continuing(cache, ids, mask, position)
    places = [
        Place(row, len(tail) - 1, [option[0] for option in options])
        for row, (tail, options) in enumerate(zip(tails, choices, strict=True))
    ]
    scores = _logprobs(model, places, lambda: inputs)
    if any(len(option) > 1 for options in choices for option in options):
        slots = torch.tensor([len(tail) for tail in tails], device=model.device)
        # With what the shared start and a soft prompt put before.
        lengths = cache.get_seq_length() - ids.shape[1] + slots
        _add_later_tokens(model, cache, lengths, choices, scores)
    return scores


def _continuing(cache: DynamicCache, ids, mask, position) -> dict:
    """Return the model's arguments for ids [rows, tokens] that continue a cache."""
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "position_ids": position,
        "past_key_values": cache,
        "use_cache": True,
    }


def _add_later_tokens(model, cache, lengths, choices, scores) -> None:
    """Add to the scores the log-likelihood of each choice's second and later tokens.

    Choices alike in length share a batch, whatever their prompts, so that few pads are spent. It
    has no more rows than the cache, a copy of which it needs.
    """
    most = _places_at_once(model)
    pairs = [(i, k) for i, row in enumerate(choices) for k in range(len(row)) if len(row[k]) > 1]
    needed = [len(choices[i][k]) - 1 for i, k in pairs]
    for batch in _batches(needed, most, needed, most, most_rows=len(choices)):
        chosen = [pairs[j] for j in batch]
        rows, options = [i for i, _ in chosen], [choices[i][k] for i, k in chosen]
        later = _later_tokens(model, cache, lengths, rows, options)
        for (i, k), value in zip(chosen, later, strict=True):
            scores[i][k] += value


def _later_tokens(model, cache, lengths, rows, options) -> list[float]:
    """Return the log-likelihoods of the second and later tokens of an option for each of some rows.

    The options continue the padded prompts, so their positions skip the pads and the mask hides
    them; `lengths` [rows of the cache] are those of the prompts without pads.
    """
    chosen = torch.tensor(rows, device=lengths.device)
    ids = pad_right([option[:-1] for option in options], 0).to(lengths.device)
    seen = torch.arange(cache.get_seq_length(), device=lengths.device) < lengths[chosen, None]
    mask = torch.cat([seen, torch.ones_like(ids, dtype=torch.bool)], dim=1).long()
    position = lengths[chosen, None] + torch.arange(ids.shape[1], device=lengths.device)
    places = [
        Place(row, k, [token])
        for row, option in enumerate(options)
        for k, token in enumerate(option[1:])
    ]
    values = iter(
        _logprobs(model, places, lambda: _continuing(_select(cache, chosen), ids, mask, position))
    )
    return [sum(next(values)[0] for _ in option[1:]) for option in options]


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
    split = [
        _split_choices(tokenizer, prompt, row, prompt_style)
        for prompt, row in zip(prompts, choices, strict=True)
    ]
    return score_continuations(
        model, [start for start, _ in split], [ends for _, ends in split], **options
    )


def _split_choices(tokenizer, prompt: str, choices: Sequence[str], prompt_style: str):
    """Return the ids that a prompt has with all its choices, and the rest of each choice.

    A blank choice has none: its space alone is no answer.
    """
    pairs = [split_ids(tokenizer, prompt, choice, prompt_style) for choice in choices]
    start, ends = with_common_start(pairs)
    return start, [end if choice.strip() else [] for end, choice in zip(ends, choices, strict=True)]


def with_common_start(
    pairs: Sequence[tuple[list[int], list[int]]],
) -> tuple[list[int], list[list[int]]]:
    """Return the ids that a prompt has in all pairs (prompt, choice), and the rest of each choice.

    Where one choice changes the prompt's last token and another does not, both are scored from
    before it.
    """
    start = os.path.commonprefix([start for start, _ in pairs])  # of any sequences
    return start, [(before + end)[len(start) :] for before, end in pairs]


@dataclasses.dataclass(frozen=True)
class Classification:
    """Log-likelihoods [items, labels] (nats) and what follows from them."""

    scores: np.ndarray

    @property
    def predictions(self) -> np.ndarray:
        """Return the index of each item's likeliest label, an array [items]."""
        return self.scores.argmax(axis=1)

    def probabilities(self) -> np.ndarray:
        """Return the probabilities of the labels, normalised over the labels alone."""
        shifted = np.exp(self.scores - self.scores.max(axis=1, keepdims=True))
        return shifted / shifted.sum(axis=1, keepdims=True)

    def calibrated(self, neutral: "Classification") -> "Classification":
        """Return the scores less what texts without content give each label on average.

        Contextual calibration (Zhao et al. 2021, 2102.09690), taught in notebook 01.
        """
        return Classification(self.scores - np.log(neutral.probabilities().mean(axis=0)))


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
    result is calibrated by them. Raises WorkbookError for no labels. Taught in notebook 01.
    """
    if not labels:
        raise WorkbookError("There is no label to choose: give at least one.")
    every = [*prompts, *neutral_prompts]
    rows = score_choices(
        model, tokenizer, every, [labels] * len(every), prompt_style=prompt_style, **options
    )
    scores = np.array(rows).reshape(len(every), len(labels))
    found, neutral = (Classification(part) for part in np.split(scores, [len(prompts)]))
    return found.calibrated(neutral) if neutral_prompts else found


def generate(
    model,
    tokenizer,
    prompts: Sequence[str],
    *,
    prompt_style: str = "chat",
    max_new_tokens: int = 32,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    batch_size: int = 16,
) -> list[str]:
    """Return the text that the model writes after each prompt, without special tokens.

    Greedy at temperature 0, else sampled with the seed; nothing else in the model's generation
    settings has a say. Writing starts from `encoding.prompt_ids`. The text ends at the end token of
    the chat template, the tokenizer or the generation settings, or after `max_new_tokens`. Raises
    WorkbookError for an empty prompt, for text longer than the model's context, for tokens that the
    model does not know, and for models that are no Transformer decoder.
    """
    check_batch_size(batch_size)
    if max_new_tokens < 1:
        raise WorkbookError(f"{max_new_tokens} new tokens are no text: choose at least 1.")
    rows = [prompt_ids(tokenizer, prompt, prompt_style) for prompt in prompts]
    if not all(rows):
        raise WorkbookError("A prompt has no tokens: give each at least one word.")
    if not rows:
        return []
    models.check_causal(model)
    _check_context(model, [len(row) + max_new_tokens for row in rows])
    models.check_ids(model, max(map(max, rows)))
    sampling = {"do_sample": False}
    if temperature > 0:
        sampling = dict(do_sample=True, temperature=temperature, top_p=top_p, top_k=0)
        torch.manual_seed(seed)
    ends = stop_ids(model, tokenizer, prompt_style)
    config = GenerationConfig(
        max_new_tokens=max_new_tokens, eos_token_id=ends, pad_token_id=ends[0], **sampling
    )
    texts = [""] * len(rows)
    with (
        inference(model),
        _generation_settings(model, config),
        models.last_logits(model),
        _watched(len(rows), "text") as tell,
    ):
        for batch in _writing_batches(model, rows, batch_size):
            new = _write(model, [rows[i] for i in batch], config)
            for i, ids in zip(batch, new, strict=True):
                texts[i] = tokenizer.decode(ids, skip_special_tokens=True).strip()
            tell(len(batch))
    return texts


def stop_ids(model, tokenizer, prompt_style: str) -> list[int]:
    """Return each token that ends a text: the template's, the tokenizer's, the model's own."""
    own = model.generation_config.eos_token_id
    own = own if isinstance(own, list) else [own]
    found = [end_id(tokenizer, prompt_style), tokenizer.eos_token_id, *own]
    return [i for i in dict.fromkeys(found) if i is not None]


@contextlib.contextmanager
def _generation_settings(model, config: GenerationConfig) -> Iterator[None]:
    """Put these settings in place of the model's, from which `generate` fills every gap."""
    before = model.generation_config
    model.generation_config = config
    try:
        yield
    finally:
        model.generation_config = before


def _writing_batches(model, rows: Sequence[Sequence[int]], size: int) -> Iterator[list[int]]:
    """Yield indices of rows alike in length; of one length where pads would shift positions."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    groups = [order]
    if not _takes_positions(model):
        groups = [list(group) for _, group in itertools.groupby(order, lambda i: len(rows[i]))]
    for group in groups:
        for start in range(0, len(group), size):
            yield group[start : start + size]


def _write(model, rows, config: GenerationConfig) -> list[list[int]]:
    """Return what follows each row of one left-padded batch, as far as its end token.

    On the left, pads stay out of the text, so that a sliding window counts none within it.
    """
    ids = pad_right([row[::-1] for row in rows], config.pad_token_id).flip(1).to(model.device)
    mask = pad_right([[1] * len(row) for row in rows], 0).flip(1).to(model.device)
    output = model.generate(input_ids=ids, attention_mask=mask, generation_config=config)
    new = output[:, ids.shape[1] :].tolist()
    return [list(itertools.takewhile(lambda i: i not in config.eos_token_id, row)) for row in new]


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
