"""The self-checks of notebook 11, scaling up."""

import math
from types import SimpleNamespace

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from .. import encoding, training
from .report import call, exercise, expect


@exercise("11.1", "The bytes of an update")
def check_tuning_bytes(function) -> None:
    """Check a function (frozen, learning, precision) -> bytes of weights, gradients, optimizer."""
    wide = _number(call(function, 0, 100, "fp32"))
    expect(wide != 400, "Those are the weights alone: what learns has a gradient and Adam's means.")
    expect(wide != 800, "Adam is missing: it keeps two running means of each gradient.")
    expect(wide != 1200, "One part is missing: weights 4, gradients 4, and *two* means of 4 bytes.")
    expect(wide == 1600, "In float32 a number that learns takes 4 + 4 + 8 = 16 bytes.")
    frozen = _number(call(function, 1000, 100, "fp32"))
    expect(frozen != 17_600, "What is frozen has no gradient and no means: 4 bytes a number.")
    expect(frozen == 5600, "A frozen number takes its own 4 bytes, and nothing else.")
    narrow = _number(call(function, 0, 100, "bf16"))
    expect(
        narrow not in (800, 1200, 1400),
        "In bfloat16 each number that learns has a master copy in float32: 4 bytes more.",
    )
    expect(narrow != 1600, "The update uses the gradient in float32: 4 bytes of it, not 2.")
    expect(narrow == 1800, "In bfloat16 it is 2 for the weight, 4 its gradient, 4 + 8 beside.")
    both = _number(call(function, 1000, 100, "bf16"))
    expect(both != 5800, "A frozen number takes two bytes in bfloat16, and needs no master copy.")
    expect(both == 3800, "1,000 frozen and 100 learning numbers take 2,000 + 1,800 bytes.")


@exercise("11.2", "One step in several batches")
def check_accumulated(function) -> None:
    """Check a function (model, batches) -> mean loss, which leaves the gradients of all rows."""
    model, batches, held = _toy()
    value = call(function, model, batches)
    seen = list(held)
    losses, counts, gradients = _by_batch(model, batches)
    found = model.lm_head.weight.grad
    expect(np.ndim(value) == 0 or getattr(value, "ndim", 1) == 0, "Return one number, the loss.")
    expect(found is not None, "No gradient was left: call `backward()` for each batch.")
    total = sum(gradients)
    expect(
        not _near(found, gradients[-1] / sum(counts)) and not _near(found, gradients[-1]),
        "Only the last batch's gradient is left: clear gradients before the loop, not in it.",
    )
    expect(
        seen[:2] == [False, True],
        "The second batch was computed before the first one's `backward()`, so both graphs were in "
        "memory at once: call it inside the loop.",
    )
    expect(
        not _near(found, total),
        "Those are the gradients of the sum: divide each batch's sum by the learned tokens of "
        "*all* batches.",
    )
    means = sum(g / n for g, n in zip(gradients, counts, strict=True))
    expect(
        not _near(found, means) and not _near(found, means / len(counts)),
        "Each batch counts alike, though one has more tokens to learn: divide each batch's sum by "
        "the learned tokens of *all* batches.",
    )
    expect(
        _near(found, total / sum(counts)),
        "The gradients are off: divide each batch's sum by the learned tokens of *all* batches.",
    )
    expect(
        math.isclose(float(value), sum(losses) / sum(counts), rel_tol=1e-4),
        "The gradients are right, the loss is not: return the mean over all learned tokens.",
    )


def _toy():
    """Return a tiny model, two batches, and a list that notes at each call if gradients were there.

    The batches learn different numbers of tokens.
    """
    config = LlamaConfig(
        vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=1, max_position_embeddings=16,
    )  # fmt: skip
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        torch.manual_seed(0)
        model, held = LlamaForCausalLM(config), []
        torch.nn.init.normal_(model.lm_head.weight)  # so that tokens differ in their loss
    weight = model.lm_head.weight
    model.register_forward_pre_hook(lambda *_: held.append(weight.grad is not None))
    return model, [encoding.collate([_example(n)]) for n in (5, 2)], held


def _example(learned: int) -> dict[str, list[int]]:
    """Return an encoded example that learns so many tokens after one of a prompt."""
    return {"input_ids": [1] * (learned + 1), "labels": [-100, *range(2, learned + 2)]}


def _by_batch(model, batches):
    """Return each batch's summed loss, its learned tokens and its gradient of the output layer."""
    sums = [training.completion_loss(model, batch) for batch in batches]
    gradients = [torch.autograd.grad(loss, model.lm_head.weight)[0] for loss in sums]
    return [loss.item() for loss in sums], [training.label_count(b) for b in batches], gradients


@exercise("11.3", "How much to compute again")
def check_best_segment(function) -> None:
    """Check a function (blocks, entry, inside) -> blocks to compute again together."""
    value = _number(call(function, 36, 1, 1))
    expect(value == int(value) and value > 0, "Return a whole number of blocks.")
    expect(
        value not in (1, 36),
        "Both parts count: an entry for each segment, and the inside of all blocks of one.",
    )
    expect(value == 6, "36 blocks with entries as large as insides: 6 segments of 6 blocks.")
    expect(36 % _number(call(function, 36, 3, 1)) == 0, "Segments are equal: divide the blocks.")
    expect(_number(call(function, 36, 4, 1)) == 12, "Larger entries: fewer, longer segments.")
    expect(
        _number(call(function, 30, 1, 40)) == 1,
        "Where a block's inside is much larger than what enters it, each block is its own segment.",
    )
    expect(_number(call(function, 7, 1, 1)) in (1, 7), "7 blocks are one segment or seven.")


@exercise("11.4", "A device's part of a weight")
def check_own_part(function) -> None:
    """Check a function (tensor, count, rank) -> the flat part of a tensor that a device holds."""
    weight = torch.arange(1.0, 11.0).reshape(2, 5)
    kept = weight.clone()
    parts = [_tensor(call(function, weight, 4, rank)) for rank in range(4)]
    expect(all(part.ndim == 1 for part in parts), "A part is flat: begin with `tensor.flatten()`.")
    sizes = [len(part) for part in parts]
    expect(
        sizes != [2, 2, 2, 2], "Two numbers are held by nobody: round the length of a part *up*."
    )
    expect(
        sizes != [3, 3, 3, 1] and len(set(sizes)) == 1,
        "The parts have {sizes} numbers: fill the last with zeros, since devices exchange "
        "parts of one length.",
        sizes=sizes,
    )
    expect(
        sizes == [3, 3, 3, 3],
        "Ten numbers on four devices are three each, not {size}.",
        size=sizes[0],
    )
    joined = torch.cat(parts)
    expect(
        torch.equal(joined[:10], kept.flatten()),
        "Put one after the other, the parts should be the weight again: rank r begins at r · size.",
    )
    expect(not joined[10:].any(), "Fill up with zeros.")
    expect(torch.equal(weight, kept), "Your function changes the weight it was given.")
    half = _tensor(call(function, weight, 2, 1))
    expect(torch.equal(half, weight[1]), "Ten numbers on two devices need no zeros: five each.")


@exercise("11.5", "Choose for a device")
def check_choose(function) -> None:
    """Check a function (plan, wanted, devices) -> (name, rows at once, batches a step) or None."""
    plan = [
        SimpleNamespace(name="full", largest_batch=0),
        SimpleNamespace(name="recomputing", largest_batch=3),
        SimpleNamespace(name="LoRA", largest_batch=40),
    ]
    answer = call(function, plan, 16, 1)
    expect(
        isinstance(answer, tuple | list) and len(answer) == 3,
        "Return three things: the name, the rows at once, the batches a step.",
    )
    name, rows, batches = answer
    expect(name != "full", "Of the first way not a single row fits: take the first that fits.")
    expect(name != "LoRA", "An earlier way fits too, with small batches: accumulate.")
    expect(name == "recomputing", "{name!r} is no way of the plan.", name=name)
    expect(rows <= 3, "At most three rows fit at once, and you take {rows}.", rows=rows)
    expect(
        rows * batches >= 16,
        "{batches} batches of {rows} rows are fewer than the 16 of a step: round up.",
        batches=batches,
        rows=rows,
    )
    expect((rows, batches) == (3, 6), "Three rows at once and six batches are enough for 16.")
    expect(
        tuple(call(function, plan[2:], 16, 1)) == ("LoRA", 16, 1),
        "Forty rows would fit, but a step has 16: do not take more than are wanted.",
    )
    expect(
        tuple(call(function, plan[1:], 16, 4)) == ("recomputing", 3, 2),
        "Four devices with three rows each are twelve at once: two batches for 16.",
    )
    expect(
        tuple(call(function, plan[2:], 16, 4)) == ("LoRA", 4, 1),
        "Four devices share the 16 rows: four each.",
    )
    expect(_choice_of_none(function, plan[:1]), 'Where nothing fits, return the text "nothing".')


def _choice_of_none(function, plan) -> bool:
    return call(function, plan, 16, 1) == "nothing"


def _tensor(value) -> torch.Tensor:
    """Return the answer as a tensor, or end the check."""
    expect(isinstance(value, torch.Tensor), "Return one tensor.")
    return value.detach()


def _number(value) -> float:
    """Return the answer as a float, or end the check."""
    expect(np.ndim(value) == 0 and not isinstance(value, str), "Return one number.")
    return float(value)


def _near(answer: torch.Tensor, expected: torch.Tensor) -> bool:
    return torch.allclose(answer, expected, rtol=1e-4, atol=1e-6)
