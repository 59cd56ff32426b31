import math

import numpy as np
import torch

from workbook.checks import nb03


def cross_entropy(logits, target):
    return -torch.log_softmax(logits, dim=-1)[target]


def train_step(model, optimizer, batch, loss_function):
    loss = loss_function(model, batch)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def learning_rate(step, total, peak, warmup):
    if step < warmup:
        return peak * step / warmup
    return peak * (total - step) / (total - warmup)


def best_epoch(losses, patience):
    best = 0
    for epoch, loss in enumerate(losses):
        if loss < losses[best]:
            best = epoch
        elif epoch - best >= patience:
            break
    return best


def paired(before, after):
    differences = after - before
    return differences.mean(), differences.std(ddof=1) / math.sqrt(len(differences))


SOLUTIONS = {
    nb03.check_cross_entropy: cross_entropy,
    nb03.check_train_step: train_step,
    nb03.check_learning_rate: learning_rate,
    nb03.check_best_epoch: best_epoch,
    nb03.check_paired: paired,
}


def forgetful_step(model, optimizer, batch, loss_function):
    loss = loss_function(model, batch)
    loss.backward()
    return loss.item()


def adding_step(model, optimizer, batch, loss_function):
    loss = loss_function(model, batch)
    loss.backward()
    optimizer.step()
    return loss.item()


def step_only(model, optimizer, batch, loss_function):
    optimizer.step()
    return loss_function(model, batch).item()


def step_first(model, optimizer, batch, loss_function):
    optimizer.zero_grad()
    loss = loss_function(model, batch)
    optimizer.step()
    loss.backward()
    return loss.item()


def cleared_step(model, optimizer, batch, loss_function):
    loss = loss_function(model, batch)
    loss.backward()
    optimizer.zero_grad()
    optimizer.step()
    return loss.item()


def cleared_by_model(model, optimizer, batch, loss_function):
    loss = loss_function(model, batch)
    loss.backward()
    model.zero_grad()
    optimizer.step()
    return loss.item()


def double_step(model, optimizer, batch, loss_function):
    loss = train_step(model, optimizer, batch, loss_function)
    optimizer.step()
    return loss


def never_reset(losses, patience):
    best = waited = 0
    for epoch, loss in enumerate(losses):
        if loss < losses[best]:
            best = epoch
        elif epoch:
            waited += 1
        if waited == patience:
            break
    return best


def against_the_one_before(losses, patience):
    best = waited = 0
    for epoch in range(1, len(losses)):
        waited = 0 if losses[epoch] < losses[epoch - 1] else waited + 1
        best = epoch if losses[epoch] < losses[best] else best
        if waited == patience:
            break
    return best


def equal_counts(losses, patience):
    best = 0
    for epoch, loss in enumerate(losses):
        if loss <= losses[best]:
            best = epoch
        elif epoch - best >= patience:
            break
    return best


def late_step(model, optimizer, batch, loss_function):
    train_step(model, optimizer, batch, loss_function)
    return loss_function(model, batch).item()


MISTAKES = [
    (nb03.check_cross_entropy, lambda x, t: torch.log_softmax(x, -1)[t], "minus"),
    (nb03.check_cross_entropy, lambda x, t: -torch.log2(x.softmax(-1))[t], "natural logarithm"),
    (nb03.check_cross_entropy, lambda x, t: -torch.log10(x.softmax(-1))[t], "natural logarithm"),
    (nb03.check_cross_entropy, lambda x, t: x.softmax(-1)[t], "That is a probability"),
    (nb03.check_cross_entropy, lambda x, t: 1 - x.softmax(-1)[t], "That is a probability"),
    (nb03.check_cross_entropy, lambda x, t: -x[t], "by softmax"),
    (nb03.check_cross_entropy, lambda x, t: -torch.log(x.exp() / x.exp().sum())[t], "overflow"),
    (nb03.check_cross_entropy, lambda x, t: -torch.log_softmax(x, -1).mean(), "pick the target"),
    (nb03.check_cross_entropy, lambda x, t: -torch.log_softmax(x, -1), "one number"),
    (nb03.check_train_step, forgetful_step, "did not move"),
    (nb03.check_train_step, adding_step, "zero_grad"),
    (nb03.check_train_step, late_step, "before"),
    (nb03.check_train_step, step_only, "call `loss.backward()`"),
    (nb03.check_train_step, step_first, "came before there was a gradient"),
    (nb03.check_train_step, cleared_step, "cleared before `optimizer.step()`"),
    (nb03.check_train_step, cleared_by_model, "cleared before `optimizer.step()`"),
    (nb03.check_train_step, double_step, "from 1 to 1.4"),
    (nb03.check_learning_rate, lambda s, t, p, w: p * s / t, "not by `total`"),
    (
        nb03.check_learning_rate,
        lambda s, t, p, w: p * s / w if s < w else p * (t - s) / t,
        "The decay begins at step 0",
    ),
    (nb03.check_learning_rate, lambda s, t, p, w: p * (s / w) ** 2 if s < w else p, "in a line"),
    (nb03.check_learning_rate, lambda s, t, p, w: p * s / w if s <= w else 0, "falls in a line"),
    (
        nb03.check_learning_rate,
        lambda s, t, p, w: p * s / w if s < w else p * 0.5,
        "peak is at the end",
    ),
    (nb03.check_learning_rate, lambda s, t, p, w: learning_rate(s, t, p, 10), "other numbers"),
    (nb03.check_learning_rate, lambda s, t, p, w: p, "step 0"),
    (
        nb03.check_learning_rate,
        lambda s, t, p, w: p * s / w if s < w else p * (1 - (s - w) / t),
        "last step",
    ),
    (nb03.check_best_epoch, lambda losses, patience: len(losses) - 1, "last epoch"),
    (nb03.check_best_epoch, lambda losses, patience: int(np.argmin(losses)), "never saw"),
    (
        nb03.check_best_epoch,
        lambda x, p: next((i for i in range(len(x) - 1) if x[i + 1] > x[i]), len(x) - 1),
        "one epoch without a new lowest loss does not end",
    ),
    (nb03.check_best_epoch, never_reset, "count from 0 again"),
    (nb03.check_best_epoch, against_the_one_before, "not with the epoch before"),
    (nb03.check_best_epoch, equal_counts, "An equal loss"),
    (nb03.check_paired, lambda b, a: (b.mean() - a.mean(), 0.1), "after minus before"),
    (
        nb03.check_paired,
        lambda b, a: (a.mean() - b.mean(), math.sqrt(a.var(ddof=1) / 10 + b.var(ddof=1) / 10)),
        "unrelated",
    ),
    (nb03.check_paired, lambda b, a: ((a - b).mean(), (a - b).std(ddof=1)), "square root"),
    (nb03.check_paired, lambda b, a: ((a - b).mean(), (a - b).std(ddof=1) / 10), "square root"),
]
