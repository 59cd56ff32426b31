"""Soft prompts: learned vectors that are read before the text (Lester et al. 2021, 2104.08691).

Taught in notebook 08.
"""

import functools

import torch
import torch.nn.functional as F

from .. import models
from ..encoding import token_ids
from ..errors import WorkbookError
from .additions import Addition, check_rows, check_size

COMMON = 5000  # the first ids of a vocabulary are its most common tokens; as many as Lester et al.


class SoftPrompt(Addition):
    """Vectors [length, hidden] that stand before the embedded text; a random start.

    They start at the scale of the embeddings: far larger or smaller ones are hard to learn from.
    Raises WorkbookError for a length below 1.
    """

    kind = "soft_prompt"

    def __init__(self, model, length: int = 20, seed: int = 0):
        check_size("length", length)
        super().__init__(model.config, length=length)
        table = embeddings(model)
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(length, table.shape[1], generator=generator).to(table.device)
        self.vectors = torch.nn.Parameter(noise * table.std())

    @staticmethod
    def hook(model, group, rows):
        """Register the hooks that put the prompt before the text and cut its outputs off."""
        if len({prompt.vectors.shape for prompt in group}) > 1:
            raise WorkbookError("The soft prompts of one batch differ in shape: take one length.")
        if group[0].vectors.shape[1] != embeddings(model).shape[1]:
            raise WorkbookError("The soft prompt was made for another model: make one for this.")
        prepend, cut = functools.partial(_prepend, group, rows), functools.partial(_cut, group)
        return [
            model.base_model.register_forward_pre_hook(prepend, with_kwargs=True),
            model.base_model.register_forward_hook(cut, with_kwargs=True),
        ]


def _prepend(group, rows, body, arguments: tuple, options: dict) -> tuple[tuple, dict]:
    """Put the prompt before the text, once a cache, and extend mask and positions.

    The mask may leave out the prompt, as in generation, or count it with the cache. Pads on the
    left go before the prompt, so that nothing lies between it and the text.
    """
    options = dict(options)
    text, ids = options.pop("inputs_embeds", None), options.pop("input_ids", None)
    if text is None:
        text = body.get_input_embeddings()(arguments[0] if arguments else ids)
    cache = options.get("past_key_values")
    past = 0 if cache is None else cache.get_seq_length()
    if past == 0:
        text = torch.cat([_vectors(group, rows, text), text], dim=1)
    mask = _mask(options.get("attention_mask"), text, past)
    first = _pads_first(options.get("attention_mask"), mask)
    if first is not None:
        mask = mask.gather(1, first)
        text = text if past else torch.take_along_dim(text, first[..., None], dim=1)
    _check_context(body, mask)
    position = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, past:]
    return (), options | dict(inputs_embeds=text, attention_mask=mask, position_ids=position)


def _vectors(group, rows: torch.Tensor | None, text: torch.Tensor) -> torch.Tensor:
    """Return the prompt of each row [rows, length, hidden] in the format of the text."""
    if rows is None:
        return group[0].vectors.to(text.dtype).expand(len(text), -1, -1)
    check_rows(rows, text)
    return torch.stack([prompt.vectors for prompt in group])[rows].to(text.dtype)


def _mask(given: torch.Tensor | None, text: torch.Tensor, past: int) -> torch.Tensor:
    """Return the attention mask [rows, cache and text], its missing beginning filled with ones."""
    total = past + text.shape[1]
    if given is None:
        return torch.ones(len(text), total, dtype=torch.long, device=text.device)
    return F.pad(given.long(), (total - given.shape[1], 0), value=1)


def _pads_first(given: torch.Tensor | None, mask: torch.Tensor) -> torch.Tensor | None:
    """Return the order of places [rows, cache and text] with left pads first, None without pads.

    The text keeps its places; the prompt and the pads change theirs.
    """
    if given is None or (missing := mask.shape[1] - given.shape[1]) == 0:
        return None
    pads = F.pad(given.cumsum(dim=1) == 0, (missing, 0), value=False)
    return pads.logical_not().int().argsort(dim=1, stable=True) if pads.any() else None


def _check_context(body, mask: torch.Tensor) -> None:
    limit = models.context_length(body)
    if mask.shape[1] > limit:
        raise WorkbookError(
            f"Soft prompt and text have {mask.shape[1]} tokens and the model reads {limit}: "
            "shorten one of them."
        )


def _cut(group, body, arguments: tuple, options: dict, output):
    """Drop the outputs at the prompt, so that callers find those of their own tokens."""
    if options["inputs_embeds"].shape[1] == options["attention_mask"].shape[1]:  # nothing cached
        output.last_hidden_state = output.last_hidden_state[:, len(group[0].vectors) :]
    return output


def embeddings(model) -> torch.Tensor:
    """Return the embedding table [vocabulary, hidden] without its gradient."""
    return model.get_input_embeddings().weight.detach()


def from_vocabulary(model, tokenizer, length: int = 20, seed: int = 0) -> SoftPrompt:
    """Return a soft prompt that starts as the embeddings of random common words."""
    candidates = range(min(COMMON, len(embeddings(model))))
    words = torch.tensor([i for i in candidates if tokenizer.decode([i]).strip().isalpha()])
    generator = torch.Generator().manual_seed(seed)
    return _started(model, words[torch.randint(len(words), (length,), generator=generator)])


def from_text(model, tokenizer, text: str, length: int = 20) -> SoftPrompt:
    """Return a soft prompt that starts as a text, repeated or cut to the length in tokens.

    Raises WorkbookError for an empty text.
    """
    ids = token_ids(tokenizer, text)
    if not ids:
        raise WorkbookError("The text of a soft prompt is empty: give an instruction.")
    return _started(model, torch.tensor(ids * (length // len(ids) + 1))[:length])


@torch.no_grad()
def _started(model, ids: torch.Tensor) -> SoftPrompt:
    """Return a soft prompt with copies of the embeddings of the ids."""
    prompt = SoftPrompt(model, len(ids))
    prompt.vectors.copy_(embeddings(model)[ids.to(model.device)])
    return prompt


@torch.no_grad()
def nearest_words(
    prompt: SoftPrompt, model, tokenizer, k: int = 3
) -> list[list[tuple[str, float]]]:
    """Return for each vector the k tokens with the most similar embeddings and their cosines."""
    table = F.normalize(embeddings(model).float(), dim=1)
    cosines, ids = (F.normalize(prompt.vectors.float(), dim=1) @ table.T).topk(k)
    return [
        [(tokenizer.decode([i]), cosine) for i, cosine in zip(*row, strict=True)]
        for row in zip(ids.tolist(), cosines.tolist(), strict=True)
    ]
