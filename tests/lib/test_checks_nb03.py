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


def late_step(model, optimizer, batch, loss_function):
    train_step(model, optimizer, batch, loss_function)
    return loss_function(model, batch).item()


MISTAKES = [
    (nb03.check_cross_entropy, lambda x, t: torch.log_softmax(x, -1)[t], "minus"),
    (nb03.check_cross_entropy, lambda x, t: -torch.log2(x.softmax(-1))[t], "bits"),
    (nb03.check_cross_entropy, lambda x, t: -torch.log(x.exp() / x.exp().sum())[t], "overflow"),
    (nb03.check_cross_entropy, lambda x, t: -torch.log_softmax(x, -1).mean(), "pick the target"),
    (nb03.check_cross_entropy, lambda x, t: -torch.log_softmax(x, -1), "one number"),
    (nb03.check_train_step, forgetful_step, "did not move"),
    (nb03.check_train_step, adding_step, "zero_grad"),
    (nb03.check_train_step, late_step, "before"),
    (nb03.check_learning_rate, lambda s, t, p, w: p * s / t, "end of the warm-up"),
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
        "starts the waiting",
    ),
    (nb03.check_paired, lambda b, a: (b.mean() - a.mean(), 0.1), "after minus before"),
    (
        nb03.check_paired,
        lambda b, a: (a.mean() - b.mean(), math.sqrt(a.var(ddof=1) / 10 + b.var(ddof=1) / 10)),
        "unrelated",
    ),
    (nb03.check_paired, lambda b, a: ((a - b).mean(), (a - b).std(ddof=1)), "square root"),
]
