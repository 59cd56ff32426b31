"""The checks of notebook 01 pass the solution and name each likely mistake."""

import math

import numpy as np
import torch

from workbook.checks import nb01


def prompt(pairs, text, end="Sentiment:", join="\n\n"):
    shots = [f"{review}\nSentiment: {label}" for review, label in pairs]
    return join.join([*shots, f"{text}\n{end}"])


def log_likelihood(logits, ids):
    logprobs = logits.log_softmax(-1)
    return float(sum(logprobs[i, token] for i, token in enumerate(ids)))


def shares(neutral):
    return np.exp(neutral) / np.exp(neutral).sum(axis=1, keepdims=True)


def calibrate(scores, neutral):
    return scores - np.log(shares(neutral).mean(axis=0))


def without_keepdims(scores, neutral):
    given = np.exp(neutral)
    return scores - np.log((given / given.sum(axis=1)).mean(axis=1))


def temperature(logits, value):
    return (logits / value).softmax(-1)


def tokens_read(shots, question, questions, cached):
    return shots * (1 if cached else questions) + question * questions


SOLUTIONS = {
    nb01.check_few_shot_prompt: prompt,
    nb01.check_log_likelihood: log_likelihood,
    nb01.check_calibrate: calibrate,
    nb01.check_temperature: temperature,
    nb01.check_tokens_read: tokens_read,
}

MISTAKES = [
    (nb01.check_few_shot_prompt, lambda pairs, text: [prompt(pairs, text)], "one text"),
    (
        nb01.check_few_shot_prompt,
        lambda pairs, text: prompt(pairs, ""),
        "is missing: it comes last",
    ),
    (nb01.check_few_shot_prompt, lambda pairs, text: prompt([], text), "demonstration is missing"),
    (
        nb01.check_few_shot_prompt,
        lambda pairs, text: prompt([(text, "?"), *pairs], "Next."),
        "below all demonstrations",
    ),
    (nb01.check_few_shot_prompt, lambda p, t: prompt(p, t, join="\n"), "one empty line"),
    (nb01.check_few_shot_prompt, lambda p, t: prompt(p, t, end="Sentiment: "), "ends in a space"),
    (nb01.check_few_shot_prompt, lambda p, t: prompt(p, t, end=""), "stop right after"),
    (
        nb01.check_few_shot_prompt,
        lambda p, t: prompt(p, t).replace(": n", " = n"),
        "Write a demonstration as",
    ),
    (nb01.check_few_shot_prompt, lambda p, t: prompt(p[::-1], t), "in the order of `pairs`"),
    (
        nb01.check_few_shot_prompt,
        lambda p, t: prompt(p, t).replace("!\nSentiment: p", "!\nAnswer: p"),
        "Write a demonstration as",
    ),
    (nb01.check_few_shot_prompt, lambda p, t: prompt(p or nb01.SHOWN, t), "question alone"),
    (nb01.check_log_likelihood, lambda logits, ids: logits.log_softmax(-1)[:, 0], "one number"),
    (nb01.check_log_likelihood, lambda x, i: float(x[0, i[0]] + x[1, i[1]]), "raw logits"),
    (nb01.check_log_likelihood, lambda x, i: math.exp(log_likelihood(x, i)), "the probability"),
    (nb01.check_log_likelihood, lambda x, i: log_likelihood(x, i) / 2, "the mean"),
    (nb01.check_log_likelihood, lambda x, i: log_likelihood(x[:1], i[:1]), "Only the first"),
    (nb01.check_log_likelihood, lambda x, i: log_likelihood(x[1:], i[1:]), "Only the last"),
    (nb01.check_log_likelihood, lambda x, i: -log_likelihood(x, i), "sign is turned"),
    (
        nb01.check_log_likelihood,
        lambda x, i: float(sum(x.softmax(-1)[k, t] for k, t in enumerate(i))),
        "You added probabilities",
    ),
    (
        nb01.check_log_likelihood,
        lambda x, i: float(sum(x.softmax(-1)[k, t] for k, t in enumerate(i)).log()),
        "You added probabilities",
    ),
    (nb01.check_log_likelihood, lambda x, i: log_likelihood(x, i) / math.log(2), "natural one"),
    (nb01.check_log_likelihood, lambda x, i: log_likelihood(x, i) / math.log(10), "natural one"),
    (
        nb01.check_log_likelihood,
        lambda x, i: float(sum(x.log_softmax(0)[k, t] for k, t in enumerate(i))),
        "normalise over the tokens",
    ),
    (nb01.check_log_likelihood, lambda x, i: log_likelihood(x, i[::-1]), "Row i"),
    (
        nb01.check_log_likelihood,
        lambda x, i: float(sum(x.softmax(-1)[k, t].log() for k, t in enumerate(i))),
        "overflow",
    ),
    (nb01.check_calibrate, lambda s, n: calibrate(s, n).argmax(axis=1), "one score for each item"),
    (nb01.check_calibrate, lambda s, n: s / s.sum(axis=1, keepdims=True), "the same amount"),
    (nb01.check_calibrate, lambda s, n: s, "Nothing has changed"),
    (nb01.check_calibrate, lambda s, n: 2 * s - calibrate(s, n), "was added"),
    (nb01.check_calibrate, lambda s, n: s - np.log(np.exp(n).mean(axis=0)), "Normalise each"),
    (nb01.check_calibrate, lambda s, n: s - n.mean(axis=0), "Average the probabilities"),
    (nb01.check_calibrate, lambda s, n: s - shares(n).mean(axis=0), "take its logarithm first"),
    (nb01.check_calibrate, lambda s, n: s - [0, -1], "two thirds"),
    (nb01.check_calibrate, lambda s, n: s - np.log(shares(n)[0]), "Only one neutral text"),
    (
        nb01.check_calibrate,
        lambda s, n: s - np.log((np.exp(n) / np.exp(n).sum(axis=0)).mean(axis=0)),
        "normalise over the texts",
    ),
    # Right by accident while there were as many neutral texts as labels.
    (nb01.check_calibrate, without_keepdims, "shapes (3,2) (3,)"),
    (nb01.check_calibrate, lambda s, n: s - np.log(shares(n).mean(axis=1)), "shapes (4,2) (3,)"),
    (nb01.check_temperature, lambda logits, t: logits.max(), "each token"),
    (nb01.check_temperature, lambda logits, t: logits.softmax(-1) / t, "add up to 1"),
    (nb01.check_temperature, lambda logits, t: logits / t, "not below 0"),
    (nb01.check_temperature, lambda logits, t: (logits / t).log_softmax(-1), "not below 0"),
    (nb01.check_temperature, lambda logits, t: logits.softmax(-1), "no effect"),
    (nb01.check_temperature, lambda logits, t: (logits * t).softmax(-1), "must flatten"),
    (nb01.check_temperature, lambda logits, t: (logits / t**2).softmax(-1), "half the logits"),
    (
        nb01.check_temperature,
        lambda logits, t: (logits / t).exp() / (logits / t).exp().sum(),
        "cannot overflow",
    ),
    (nb01.check_tokens_read, lambda *a: [1], "one number"),
    (nb01.check_tokens_read, lambda s, q, n, c: q * n, "read again"),
    (nb01.check_tokens_read, lambda s, q, n, c: s + q * n, "count *with* a cache"),
    (nb01.check_tokens_read, lambda s, q, n, c: tokens_read(s, q, n, not c), "count *with* a"),
    (nb01.check_tokens_read, lambda s, q, n, c: s * n, "Without a cache: "),
    (nb01.check_tokens_read, lambda s, q, n, c: (s + q) * n, "computed once, not"),
    (nb01.check_tokens_read, lambda s, q, n, c: (s * (not c) + q) * n, "Even with the cache"),
    (nb01.check_tokens_read, lambda s, q, n, c: (s + q) * n - c, "With the cache: "),
]


def test_calibration_may_shift_all_labels_alike():
    assert nb01.check_calibrate(lambda scores, neutral: calibrate(scores, neutral) + 5)


def test_tensors_pass_where_numbers_do():
    assert nb01.check_log_likelihood(lambda x, i: torch.tensor(log_likelihood(x, i)))
