"""The self-checks of notebook 01, in-context learning."""

import math

import numpy as np
import torch

from .report import call, exercise, expect

SHOWN = [("A dull film.", "negative"), ("What a delight!", "positive")]
ASKED = "I laughed twice."


@exercise("1.1", "A few-shot prompt")
def check_few_shot_prompt(function) -> None:
    """Check a function (pairs of text and label, text) -> prompt."""
    prompt = call(function, SHOWN, ASKED)
    expect(isinstance(prompt, str), 'Return one text: join the parts with `"\\n\\n".join(parts)`.')
    parts = prompt.split("\n\n")
    expect(ASKED in prompt, "The review to be judged is missing: it comes last, without an answer.")
    expect(
        all(text in prompt and label in prompt for text, label in SHOWN),
        "A demonstration is missing: each shows its review *and* its answer.",
    )
    expect(ASKED in parts[-1], "The review to be judged comes last, below all demonstrations.")
    expect(
        len(parts) == 3, "Put one empty line, `\\n\\n`, between two examples, and none inside one."
    )
    expect(
        not prompt.endswith(" "),
        "The prompt ends in a space: leave it out, since the model's tokens begin with theirs.",
    )
    expect(
        parts[-1] == f"{ASKED}\nSentiment:",
        "The prompt must stop right after `Sentiment:`, where the model is to go on.",
    )
    wanted = [f"{text}\nSentiment: {label}" for text, label in SHOWN]
    expect(parts[:2] != wanted[::-1], "Keep the demonstrations in the order of `pairs`.")
    expect(
        parts[:2] == wanted,
        "Write a demonstration as its review, a new line, and `Sentiment: negative`.",
    )
    alone = call(function, [], ASKED)
    expect(alone == f"{ASKED}\nSentiment:", "Without demonstrations it must be the question alone.")


@exercise("1.2", "The log-likelihood of an answer")
def check_log_likelihood(function) -> None:
    """Check a function (logits [tokens, vocabulary], ids [tokens]) -> nats."""
    logits = torch.tensor([[2.0, 0.0, 1.0], [0.0, 3.0, 0.0]])
    found = call(function, logits, [0, 2])
    expect(np.ndim(found) == 0, "Return one number for the whole answer: add up its tokens.")
    value, rows = float(found), logits.log_softmax(-1)
    first, second = float(rows[0, 0]), float(rows[1, 2])
    right = first + second

    def is_near(wrong):
        return math.isclose(value, wrong, rel_tol=1e-3)

    expect(
        not is_near(2.0),
        "Those are raw logits: turn each row into log-probabilities with `log_softmax(-1)`.",
    )
    expect(
        not is_near(math.exp(right)),
        "That is the probability: return its logarithm, the sum of the log-probabilities.",
    )
    added = math.exp(first) + math.exp(second)
    expect(
        not is_near(added) and not is_near(math.log(added)),
        "You added probabilities: take the logarithm of each with `log_softmax(-1)`, then add.",
    )
    expect(
        not is_near(-right),
        "The sign is turned: the logarithm of a probability is below 0, so leave out the minus.",
    )
    expect(
        not is_near(right / math.log(2)) and not is_near(right / math.log(10)),
        "That is another logarithm: `log_softmax` uses the natural one, which gives nats.",
    )
    expect(not is_near(right / 2), "That is the mean over tokens: add them up.")
    expect(not is_near(first), "Only the first token counts so far: an answer may have several.")
    expect(not is_near(second), "Only the last token counts so far: an answer may have several.")
    whole_rows = float(logits.log_softmax(0)[0, 0] + logits.log_softmax(0)[1, 2])
    expect(
        not is_near(whole_rows),
        "You normalise over the tokens: each *row* holds one distribution, `log_softmax(-1)`.",
    )
    expect(
        is_near(right),
        "Row i of the logits predicts token i of the answer: pick `logprobs[i, ids[i]]`.",
    )
    large = float(call(function, logits * 1000, [1, 1]))
    expect(
        math.isfinite(large), "Large logits overflow: use `log_softmax`, not `softmax` and `log`."
    )


@exercise("1.3", "Contextual calibration")
def check_calibrate(function) -> None:
    """Check a function (scores [items, labels], scores [neutral texts, labels]) -> scores."""
    scores = np.log([[0.3, 0.1], [0.05, 0.35], [0.2, 0.2], [0.1, 0.6]])
    neutral = np.log([[0.6, 0.2], [0.2, 0.2], [0.3, 0.1]])
    found = np.asarray(call(function, scores, neutral), dtype=float)
    expect(
        found.shape == scores.shape, "Return one score for each item and label, as you were given."
    )
    gain = found - scores
    expect(
        np.allclose(gain, gain[0]),
        "Every item is shifted by the same amount: use the neutral texts alone for it.",
    )
    shift = float(gain[0, 1] - gain[0, 0])  # what is the same for all labels changes no answer
    bias = math.log(2)
    expect(
        abs(shift) > 1e-9 or not np.allclose(gain, math.log(3)),
        "You normalise over the texts: divide each *row* by its own sum, `axis=1, keepdims=True`.",
    )
    expect(abs(shift) > 1e-9, "Nothing has changed: subtract the bias that the neutral texts show.")
    expect(
        not math.isclose(shift, -bias, rel_tol=1e-3),
        "The bias was added: a label that is favoured anyway has to lose by it, so subtract.",
    )
    expect(
        not math.isclose(shift, math.log(1.1 / 0.5), rel_tol=1e-3),
        "Normalise each neutral text first, so that its label probabilities add up to 1.",
    )
    expect(
        not math.isclose(shift, math.log(3) * 2 / 3, rel_tol=1e-3),
        "Average the probabilities of the neutral texts, then take the logarithm.",
    )
    expect(
        not math.isclose(shift, math.log(3), rel_tol=1e-3),
        "Only one neutral text counts so far: average the probabilities of all of them.",
    )
    expect(
        not math.isclose(shift, 1 / 3, rel_tol=1e-3),
        "You subtracted a probability from a log-likelihood: take its logarithm first.",
    )
    expect(
        math.isclose(shift, bias, rel_tol=1e-3),
        "Label 0 has two thirds of the neutral probability here: subtract `log(2 / 3)` from it.",
    )


@exercise("1.4", "Temperature")
def check_temperature(function) -> None:
    """Check a function (logits [vocabulary], temperature) -> probabilities [vocabulary]."""
    logits = torch.tensor([3.0, 1.0, 0.5, -2.0])
    found = torch.as_tensor(call(function, logits, 2.0)).float()
    expect(found.shape == logits.shape, "Return one probability for each token of the vocabulary.")
    expect(
        bool((found >= 0).all()),
        "A probability is not below 0: use `softmax`, not `log_softmax` and not the logits.",
    )
    expect(
        math.isclose(float(found.sum()), 1.0, rel_tol=1e-4), "The probabilities must add up to 1."
    )
    expect(
        not torch.allclose(found, logits.softmax(-1), atol=1e-4),
        "The temperature has no effect yet: divide the logits by it *before* the softmax.",
    )
    expect(
        not torch.allclose(found, (logits * 2.0).softmax(-1), atol=1e-4),
        "A higher temperature must flatten: divide by it instead of multiplying.",
    )
    expect(
        torch.allclose(found, (logits / 2.0).softmax(-1), atol=1e-4),
        "At temperature 2 it is the softmax of half the logits.",
    )
    cold = torch.as_tensor(call(function, logits, 0.001)).float()
    expect(
        bool(cold.isfinite().all()) and float(cold[0]) > 0.999,
        "Near 0 the likeliest token takes everything: use `softmax`, whose `exp` cannot overflow.",
    )


@exercise("1.5", "What a shot costs")
def check_tokens_read(function) -> None:
    """Check a function (shots' tokens, question's tokens, questions, cached) -> tokens."""
    without = call(function, 500, 30, 1000, False)
    expect(np.ndim(without) == 0, "Return one number, the tokens that the model computes in all.")
    expect(
        without != 30_000, "Without a cache the demonstrations are read again with every question."
    )
    expect(
        without != 30_500,
        "That is the count *with* a cache: when `cached` is False, every question pays for the "
        "demonstrations.",
    )
    expect(
        without == 530_000, "Without a cache: (demonstrations + question) × number of questions."
    )
    cached = call(function, 500, 30, 1000, True)
    expect(
        cached != without,
        "With the cache the demonstrations are computed once, not with each question.",
    )
    expect(cached != 30_000, "Even with the cache the demonstrations are computed once: add them.")
    expect(
        cached == 30_500, "With the cache: demonstrations once + question × number of questions."
    )
