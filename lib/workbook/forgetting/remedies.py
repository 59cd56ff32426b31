"""Remedies against forgetting; each goes through `training.fit`. Taught in notebook 05."""

import itertools
import random
from collections.abc import Callable, Collection, Mapping, Sequence

import torch

from .. import models, training
from ..encoding import IGNORE_INDEX, collate
from ..errors import WorkbookError
from ..training import Regularizer

Weights = dict[str, torch.Tensor]


def l2_sp(anchor: Weights, lam: float) -> Regularizer:
    """Return the penalty ½ · lam · ‖θ − anchor‖², which pulls the weights to where they began.

    `anchor` is a `models.snapshot` taken before training (Li et al. 2018, arXiv:1802.01483). A
    weight that it does not name is free; WorkbookError is raised if it names none that learns.
    """
    return quadratic_penalty(anchor, lam, None)


def ewc(anchor: Weights, fisher: Weights, lam: float) -> Regularizer:
    """Return the penalty ½ · lam · Σ Fᵢ (θᵢ − anchorᵢ)²: weights that mattered hold on tighter.

    Elastic weight consolidation (Kirkpatrick et al. 2017, arXiv:1612.00796); `fisher` comes from
    `fisher_diagonal`. A weight that one of the two does not name is free; WorkbookError is raised
    if they name none that learns.
    """
    return quadratic_penalty(anchor, lam, fisher)


def quadratic_penalty(anchor: Weights, lam: float, fisher: Weights | None) -> Regularizer:
    """Return the penalty ½ · lam · Σ Fᵢ (θᵢ − anchorᵢ)², with F = 1 without a Fisher information.

    One weight matrix at a time, to save memory.
    """

    named = anchor.keys() if fisher is None else anchor.keys() & fisher.keys()

    @torch.no_grad()
    def penalty(weights: dict[str, torch.nn.Parameter]) -> float:
        """Add the penalty's gradient to the weights' and return its value."""
        _check_named(weights, named, anchor)
        value = 0.0
        for name, weight in weights.items():
            if name not in named:
                continue
            distance = weight - anchor[name].to(weight.device)
            force = distance if fisher is None else fisher[name].to(weight.device) * distance
            if weight.grad is None:  # the loss does not depend on it
                weight.grad = torch.zeros_like(weight)
            weight.grad.add_(force, alpha=lam)
            value += torch.dot(force.flatten(), distance.flatten()).item()
        return 0.5 * lam * value

    return penalty


def pull_back(anchor: Weights, share: float, fisher: Weights | None = None) -> Regularizer:
    """Return a regularizer that moves each weight a share of its way back to `anchor` in each step.

    The decoupled form of `l2_sp`, and with a Fisher information of `ewc`, whose shares are
    share · Fᵢ, at most 1. As in AdamW's weight decay (Loshchilov & Hutter 2019, arXiv:1711.05101)
    the pull passes by the clipping of gradients and Adam's scaling. A weight that one of the two
    does not name is free; WorkbookError is raised if they name none that learns.
    """
    named = anchor.keys() if fisher is None else anchor.keys() & fisher.keys()

    @torch.no_grad()
    def pull(weights: dict[str, torch.nn.Parameter]) -> float:
        """Move the weights, before the optimizer's step; there is no penalty to report."""
        _check_named(weights, named, anchor)
        for name, weight in weights.items():
            if name in named:
                part = share if fisher is None else (share * fisher[name]).clamp(max=1)
                part = part if fisher is None else part.to(weight.device)
                weight.lerp_(anchor[name].to(weight.device), part)
        return 0.0

    return pull


def sampled_loss(model: torch.nn.Module, example: dict) -> torch.Tensor:
    """Return the negative log-likelihood (nats) of a completion that the model draws itself.

    Each token is drawn after the example's own text. With this loss `fisher_diagonal` estimates
    the Fisher information proper; with the data's own tokens it is the empirical one, which is
    another thing (Kunstner et al. 2019, arXiv:1905.12558).
    """
    batch = _batch_of(model, example)
    with torch.no_grad():
        logits = model(**{k: v for k, v in batch.items() if k != "labels"}).logits[:, :-1]
        drawn = torch.distributions.Categorical(logits=logits.float()).sample()  # [1, length - 1]
    is_learned = batch["labels"][:, 1:] != IGNORE_INDEX
    batch["labels"][:, 1:][is_learned] = drawn[is_learned]
    return training.completion_loss(model, batch)


def _check_named(weights: Weights, named: Collection[str], anchor: Weights) -> None:
    """Raise WorkbookError if the penalty would hold nothing, or is of another model."""
    held = [name for name in weights if name in named]
    if not held:
        raise WorkbookError(
            f"The penalty names no weight that learns, such as {next(iter(weights))}: take the "
            "snapshot of what learns, with the addition attached."
        )
    for name in held:
        if weights[name].shape != anchor[name].shape:
            raise WorkbookError(f"{name} has another shape in the anchor: take a new snapshot.")


def example_loss(model: torch.nn.Module, example: dict) -> torch.Tensor:
    """Return the negative log-likelihood (nats) of one example's completion."""
    return training.completion_loss(model, _batch_of(model, example))


def _batch_of(model: torch.nn.Module, example: dict) -> dict[str, torch.Tensor]:
    training.check_examples(model, [example])
    return training.to_device(collate([example]), model.device)


def fisher_diagonal(
    model: torch.nn.Module,
    examples: Sequence[dict],
    loss: Callable[[torch.nn.Module, dict], torch.Tensor] = example_loss,
    normalize: bool = True,
) -> Weights:
    """Return the diagonal of the empirical Fisher information: the mean squared gradient.

    The gradient of each *example's* log-likelihood is squared by itself; squaring that of a batch
    would let gradients cancel first, and is no Fisher information. With `normalize` the entries
    are scaled to mean 1, so that `lam` in `ewc` compares with that of `l2_sp`. Takes one
    backward pass an example. Raises WorkbookError for no examples, if nothing learns, and for
    gradients that are all zero.
    """
    if not examples:
        raise WorkbookError("The Fisher information needs examples of the abilities to keep.")
    learning = models.learning_weights(model)
    fisher = {name: torch.zeros_like(p) for name, p in learning.items()}
    model.eval()
    for example in examples:
        gradients = torch.autograd.grad(loss(model, example), list(learning.values()))
        for total, gradient in zip(fisher.values(), gradients, strict=True):
            total.addcmul_(gradient, gradient, value=1 / len(examples))
    return _scaled_to_mean_one(fisher) if normalize else fisher


def _scaled_to_mean_one(fisher: Weights) -> Weights:
    total = sum(entry.sum(dtype=torch.float64).item() for entry in fisher.values())
    if total == 0:
        raise WorkbookError("All gradients are zero: the examples say nothing about the weights.")
    scale = sum(entry.numel() for entry in fisher.values()) / total
    for entry in fisher.values():
        entry.mul_(scale)
    return fisher


def rehearse(new: Sequence[dict], old: Sequence[dict], share: float, seed: int = 0) -> list[dict]:
    """Return the new examples and so many old ones that these make up `share` of the whole.

    No example is repeated; `fit` shuffles them (Robins 1995; Scialom et al. 2022,
    arXiv:2205.12393). Raises WorkbookError for a share outside [0, 1) or too few old examples.
    """
    if not 0 <= share < 1:
        raise WorkbookError(f"A share of {share} cannot be mixed in: choose it from 0 to below 1.")
    count = round(share / (1 - share) * len(new))
    if count > len(old):
        raise WorkbookError(f"{count} old examples are needed, there are {len(old)}: give more.")
    return [*new, *random.Random(seed).sample(list(old), count)]


@torch.no_grad()
def interpolate(model: torch.nn.Module, start: Weights, share: float) -> None:
    """Move the weights to start + share · (θ − start): 0 is the old model, 1 the tuned one.

    Interpolating old and tuned weights is WiSE-FT (Wortsman et al. 2022, arXiv:2109.01903). Raises
    WorkbookError, before anything moves, for weights that `start` does not name.
    """
    if missing := [name for name, _ in model.named_parameters() if name not in start]:
        raise WorkbookError(
            f"The snapshot does not name {missing[0]}: take it of what is interpolated, with the "
            "addition attached."
        )
    for name, weight in model.named_parameters():
        weight.copy_(torch.lerp(start[name].to(weight.device), weight, share))


def reptile(
    model: torch.nn.Module,
    tasks: Mapping[str, Sequence[dict]],
    *,
    rounds: int,
    inner_steps: int = 4,
    batch_size: int = 8,
    lr: float = 2e-5,
    step_size: float = 0.5,
    seed: int = 0,
    on_round: Callable[[int, str], None] | None = None,
) -> None:
    """Move the model to a start from which each of the tasks is learned in a few steps.

    Each round tunes a task for `inner_steps` and goes `step_size` of the way there (Reptile,
    Nichol et al. 2018, arXiv:1803.02999). The model changes in place; tasks take turns in random
    order. Raises WorkbookError if a task has fewer examples than the steps of a round need.
    """
    needed, rng = inner_steps * batch_size, random.Random(seed)
    if short := [name for name, examples in tasks.items() if len(examples) < needed]:
        raise WorkbookError(f"{short[0]} has too few examples: a round takes {needed}.")
    turns = itertools.chain.from_iterable(
        rng.sample(list(tasks), len(tasks)) for _ in range(-(-rounds // len(tasks)))
    )
    for number, name in enumerate(itertools.islice(turns, rounds)):
        start = models.snapshot(model)
        examples = rng.sample(list(tasks[name]), needed)
        training.fit(
            model, examples, batch_size=batch_size, lr=lr, seed=seed + number, progress=False
        )
        interpolate(model, start, step_size)
        if on_round:
            on_round(number, name)
