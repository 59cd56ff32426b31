"""The self-checks of notebook 05, avoiding forgetting."""

import math

import numpy as np
import torch

from .report import call, exercise, expect


@exercise("5.1", "The pull of L2-SP")
def check_l2_sp(function) -> None:
    """Check a function (weight, start, strength) -> gradient of the penalty."""
    weight = torch.tensor([[1.0, 2.0, 0.5], [3.0, -1.0, 0.0]])
    start = torch.tensor([[1.0, 1.0, 2.0], [0.0, 1.0, -1.0]])
    answer = torch.as_tensor(call(function, weight.clone(), start.clone(), 0.3))
    expect(
        answer.shape == weight.shape,
        "The gradient has the shape of the weight: one pull for each entry. Do not sum.",
    )

    def is_near(value):
        return torch.allclose(answer.float(), value, atol=1e-5)

    distance = weight - start
    expect(
        not is_near(0.3 * weight),
        "That pulls to zero, as weight decay does: subtract the start.",
    )
    expect(
        not is_near(-0.3 * distance),
        "The sign is turned: the gradient points away from the start; the step goes against it.",
    )
    expect(
        not is_near(0.15 * distance**2),
        "That is the penalty itself: return its derivative.",
    )
    expect(not is_near(distance), "The strength is missing: multiply by it.")
    expect(not is_near(0.6 * distance), "Twice too much: the ½ cancels the 2 of the square.")
    expect(
        not is_near(0.15 * distance),
        "Half of what it should be: the derivative of ½·x² is x, so no ½ is left.",
    )
    expect(
        not is_near(0.3 * distance / distance.numel()),
        "The penalty is a sum over all entries, not a mean: do not divide by their number.",
    )
    expect(is_near(0.3 * distance), "With ½·λ·(θ − θ₀)² the gradient is λ·(θ − θ₀).")
    again, kept = weight.clone(), start.clone()
    call(function, again, kept, 0.3)
    expect(
        torch.equal(again, weight) and torch.equal(kept, start),
        "Your function changes the weight or the start itself: make a new tensor.",
    )


@exercise("5.2", "The Fisher diagonal")
def check_fisher(function) -> None:
    """Check a function (weights, inputs, labels) -> diagonal of the empirical Fisher."""
    weights = np.array([0.5, -0.25, 0.0])
    inputs = np.array([[1.0, 2.0, 0.0], [-1.0, 1.0, 3.0], [2.0, 0.0, 1.0], [1.0, -1.0, 1.0]])
    labels = np.array([1.0, 0.0, 0.0, 1.0])
    answer = np.asarray(call(function, weights, inputs, labels), dtype=float)
    expect(
        answer.shape != (4,),
        "There are four numbers, one for each example: average over examples, keep the weights.",
    )
    expect(
        answer.shape != (3, 3),
        "That is the whole matrix: the diagonal has one number for each weight.",
    )
    expect(answer.shape == (3,), "Return one number for each of the three weights.")
    residual = labels - 1 / (1 + np.exp(-inputs @ weights))
    gradients = residual[:, None] * inputs
    expect(
        not np.allclose(answer, gradients.mean(axis=0) ** 2),
        "You squared the mean gradient: opposite examples cancel in it. Square each example's "
        "gradient first, then average.",
    )
    expect(
        not np.allclose(answer, gradients.mean(axis=0)),
        "That is the mean gradient: square each example's gradient before you average.",
    )
    p = labels - residual
    expect(
        not np.allclose(answer, ((p * (1 - p))[:, None] * inputs**2).mean(axis=0)),
        "That is the true Fisher, p·(1 − p)·x², an average over the answers that the model would "
        "give. The *empirical* one takes the given labels: square (y − p)·x.",
    )
    expect(
        not np.allclose(answer, (gradients**2).sum(axis=0)),
        "That is the sum over the examples: take the mean, so that their number does not matter.",
    )
    expect(
        not np.allclose(answer, (residual[:, None] ** 2 * inputs).mean(axis=0)),
        "Square the whole gradient, the input in it too.",
    )
    expect(
        np.allclose(answer, (gradients**2).mean(axis=0)),
        "The mean of the squared gradients is "
        f"{(gradients**2).mean(axis=0).round(3).tolist()} here: p = 1 / (1 + exp(−x·w)).",
    )
    opposed = call(function, np.zeros(1), np.array([[1.0], [1.0]]), np.array([1.0, 0.0]))
    expect(
        np.allclose(opposed, 0.25),
        "Two examples that pull with 0.5 and −0.5 must give 0.25: nothing may cancel.",
    )


@exercise("5.3", "How many old examples?")
def check_old_count(function) -> None:
    """Check a function (number of new examples, share of the mixture) -> number of old ones."""
    count = call(function, 100, 0.5)
    expect(np.ndim(count) == 0, "Return one number, the count of old examples.")
    expect(
        count != 50,
        "50 old beside 100 new are a third: the share is of the *mixture*, old and new together.",
    )
    expect(math.isclose(count, 100), "For a half of the mixture take as many old ones as new: 100.")
    expect(
        call(function, 300, 0.25) == 100,
        "A quarter: 100 old beside 300 new are 100 of 400. Solve old = share · (old + new).",
    )
    tenth = call(function, 250, 0.1)
    expect(
        float(tenth).is_integer(), "27.8 examples do not exist: round to the nearest whole number."
    )
    expect(tenth != 27, "27.8 is nearer to 28: use `round`, not `int` or `//`.")
    expect(tenth == 28, "A tenth with 250 new ones takes 28 old ones: 28 of 278.")
    expect(
        call(function, 100, 0.1) == 11,
        "11.1 is nearer to 11: use `round`, not `math.ceil`.",
    )
    expect(
        isinstance(tenth, int | np.integer),
        "Return an int, so that it can be used to slice or to sample.",
    )
    expect(call(function, 250, 0.0) == 0, "A share of 0 needs no old examples.")


@exercise("5.4", "Interpolate two models")
def check_interpolate(function) -> None:
    """Check a function (old state, new state, share) -> state in between."""
    old = {"weight": torch.tensor([0.0, 2.0]), "bias": torch.tensor([1.0])}
    new = {"weight": torch.tensor([4.0, 2.0]), "bias": torch.tensor([-1.0])}
    copies = [{name: tensor.clone() for name, tensor in side.items()} for side in (old, new)]
    answer = call(function, *copies, 0.25)
    expect(isinstance(answer, dict), "Return a dictionary from names to tensors.")
    expect(set(answer) == set(old), "All names must be in the result: go through `old`.")

    def is_near(weight, bias):
        got = [torch.as_tensor(answer[name], dtype=torch.float32) for name in ("weight", "bias")]
        wanted = torch.tensor(weight), torch.tensor(bias)
        return all(map(torch.allclose, got, wanted))

    expect(
        not is_near([3.0, 2.0], [-0.5]),
        "You went a quarter of the way from the new model: share 0 is the old one.",
    )
    expect(
        not is_near([1.0, 2.5], [0.75]),
        "You added a part of the new weights to the old: take the part of their *difference*.",
    )
    expect(
        not is_near([1.0, 0.0], [-0.5]),
        "That is only the step: add it to the old weights.",
    )
    expect(
        is_near([1.0, 2.0], [0.5]),
        "A quarter of the way from 0 to 4 is 1: old + share · (new − old).",
    )
    same = all(
        torch.equal(copy[name], side[name])
        for copy, side in zip(copies, (old, new), strict=True)
        for name in side
    )
    expect(same, "Your function changed one of the models: avoid `+=` and methods that end in _.")
    answer = call(function, *copies, 0.0)
    is_own = all(answer[name].data_ptr() != copies[0][name].data_ptr() for name in old)
    expect(is_own, "With share 0 the tensors are those of the old model itself: make new ones.")


@exercise("5.5", "The recovered share")
def check_recovered(function) -> None:
    """Check a function (before, plain, remedy), scores over items -> recovered share."""
    before = np.array([1.0, 1.0, 1.0, 1.0, 0.0])
    plain = np.array([1.0, 0.0, 0.0, 0.0, 0.0])
    remedy = np.array([1.0, 1.0, 0.0, 0.0, 1.0])
    answer = call(function, before, plain, remedy)
    expect(
        np.ndim(answer) == 0,
        "Return one number: take the means over the items before you divide, since an item that "
        "plain tuning did not hurt would divide by zero.",
    )
    value = float(answer)
    expect(
        math.isfinite(value),
        "The result is not finite: some items did not change at all, so take the means before you "
        "divide.",
    )
    expect(
        not math.isclose(value, 0.75, abs_tol=1e-6),
        "That is a share of the *old score*: take plain tuning away above and below.",
    )
    expect(
        not math.isclose(value, 1 / 3, abs_tol=1e-6),
        "That is what is still lost: the recovered share is the rest.",
    )
    expect(
        not math.isclose(value, 0.4, abs_tol=1e-6),
        "That is the gain in points: divide it by what plain tuning lost.",
    )
    expect(value > 0, "The share is positive here, since the remedy keeps more than plain tuning.")
    expect(
        math.isclose(value, 2 / 3, abs_tol=1e-6),
        "Plain tuning fell from 0.8 to 0.2 and the remedy is at 0.6: it undoes 0.4 of 0.6.",
    )
    expect(
        math.isclose(float(call(function, before, plain, np.zeros(5))), -1 / 3, abs_tol=1e-6),
        "A remedy that makes it worse has a negative share: do not clip at 0.",
    )
    expect(
        math.isclose(float(call(function, before, plain, np.ones(5))), 4 / 3, abs_tol=1e-6),
        "A remedy can end above the untuned model: do not clip at 1.",
    )
