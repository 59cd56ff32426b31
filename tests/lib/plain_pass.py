"""What a model says without cache, padding and batches: what scoring and generation must equal."""

import torch

from workbook import encoding


@torch.no_grad()
def logits(model, tokenizer, prompt="the film is good and"):
    """The logits [tokens, vocabulary] of a prompt."""
    return model(input_ids=torch.tensor([encoding.token_ids(tokenizer, prompt)])).logits[0]


def scores(model, tokenizer, prompt, choices):
    """The log-likelihoods of the choices: one forward pass a choice."""
    start, found = len(encoding.token_ids(tokenizer, prompt)), []
    for choice in choices:
        ids = encoding.token_ids(tokenizer, prompt) + encoding.token_ids(tokenizer, f" {choice}")
        with torch.no_grad():
            logprobs = model(input_ids=torch.tensor([ids])).logits[0].float().log_softmax(-1)
        found.append(sum(logprobs[i - 1, ids[i]].item() for i in range(start, len(ids))))
    return found


def greedy(model, tokenizer, prompt, tokens):
    """The ids of the likeliest continuation: one forward pass a token."""
    ids = encoding.token_ids(tokenizer, prompt)
    start = len(ids)
    while len(ids) < start + tokens and ids[-1] != tokenizer.eos_token_id:
        with torch.no_grad():
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[start:]
