"""The self-checks of notebook 03, single-task tuning."""

import math

import numpy as np
import torch

from .report import call, exercise, expect


@exercise("3.1", "Cross-entropy of one token")
def check_cross_entropy(function) -> None:
    """Check a function (logits [vocabulary], target id) -> loss in nats."""
    uniform = call(function, torch.zeros(50), 3)
    expect(np.ndim(uniform) == 0, "Return one number, the loss of the one right token.")
    value = float(uniform)
    expect(value >= 0, "The loss is negative: it is *minus* the log-probability.")
    expect(
        all(abs(value - log(50)) > 1e-3 for log in (math.log2, math.log10)),
        "Use the natural logarithm, which gives the loss in nats, not one to base 2 or 10.",
    )
    expect(
        abs(value - 1 / 50) > 1e-4 and abs(value - 49 / 50) > 1e-4,
        "That is a probability: the loss is minus the *logarithm* of the target's probability.",
    )
    expect(
        math.isclose(value, math.log(50), rel_tol=1e-4),
        "Fifty equal logits must give log(50) = 3.91: turn logits into probabilities by softmax.",
    )
    sure = float(call(function, torch.tensor([0.0, 5.0, 0.0]), 1))
    expect(
        math.isclose(sure, -math.log(math.e**5 / (math.e**5 + 2)), rel_tol=1e-3),
        "With logits 0, 5, 0 and target 1 the loss is 0.013: pick the target's probability.",
    )
    large = float(call(function, torch.tensor([1000.0, 0.0]), 0))
    expect(math.isfinite(large), "Logits of 1000 overflow: use `log_softmax`, not `exp` and `log`.")


@exercise("3.2", "One training step")
def check_train_step(function) -> None:
    """Check a function (model, optimizer, batch, loss_function) -> loss as a float."""
    model, optimizer, seen = _toy()
    first = call(function, model, optimizer, 3.0, seen)
    if math.isclose(model.weight.item(), 1.0):
        _explain_standstill(optimizer.calls)
    expect(isinstance(first, float), "Return the loss as a float: `loss.item()`.")
    expect(math.isclose(first, 4.0, rel_tol=1e-5), "Return the loss *before* the update, 4 here.")
    expect(
        math.isclose(model.weight.item(), 1.4, rel_tol=1e-4),
        "One call should make one step: here it moves the weight from 1 to 1.4.",
    )
    call(function, model, optimizer, 3.0, seen)
    expect(
        math.isclose(model.weight.item(), 1.72, rel_tol=1e-4),
        "The second step is off: clear the old gradient with `optimizer.zero_grad()`, else the "
        "gradients of both steps add up.",
    )


def _explain_standstill(calls) -> None:
    """End the check with the reason why the weight did not move, from the calls in their order."""
    expect("backward" in calls, "No gradient was computed: call `loss.backward()`.")
    expect(
        "step" in calls,
        "The weight did not move: after `loss.backward()` call `optimizer.step()`.",
    )
    expect(
        calls.index("backward") < calls.index("step"),
        "`optimizer.step()` came before there was a gradient: call `loss.backward()` first.",
    )
    expect(
        False,
        "The gradient was cleared before `optimizer.step()` could use it: call `zero_grad()` "
        "before `loss.backward()` or after the step, not between the two.",
    )


class _Recorder(torch.optim.SGD):
    """Plain gradient descent that notes what is called, in order."""

    def __init__(self, parameters, lr):
        super().__init__(parameters, lr=lr)
        self.calls = []

    def step(self, closure=None):
        self.calls.append("step")
        return super().step(closure)


def _toy():
    """Return a one-weight model, its optimizer, and the squared error as loss."""
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.ones_(model.weight)
    optimizer = _Recorder(model.parameters(), lr=0.1)
    model.weight.register_hook(lambda gradient: optimizer.calls.append("backward"))
    return model, optimizer, lambda model, batch: ((model.weight - batch) ** 2).sum()


@exercise("3.3", "Warm-up and decay")
def check_learning_rate(function) -> None:
    """Check a function (step, total, peak, warmup steps) -> learning rate."""
    rates = [float(call(function, step, 100, 1e-3, 10)) for step in range(101)]
    expect(rates[0] == 0, "At step 0 the rate is 0: it rises from there.")

    def is_near(step, share):
        return math.isclose(rates[step], share * 1e-3, rel_tol=1e-6)

    expect(
        not is_near(5, 0.05),
        "The warm-up is too slow: divide the step by `warmup`, not by `total`.",
    )
    expect(
        all(is_near(step, step / 10) for step in range(1, 10)),
        "In the warm-up the rate rises in a line: half-way, at step 5 here, it is half the peak.",
    )
    expect(
        not (is_near(10, 0.9) and is_near(20, 0.8)),
        "The decay begins at step 0, so the rate falls at the end of the warm-up and never reaches "
        "its peak: `total - step` steps are left of `total - warmup`, not of `total`.",
    )
    expect(is_near(10, 1), "The peak is at the end of the warm-up, step 10 here.")
    expect(
        abs(rates[100]) < 1e-12,
        "At the last step it must be 0: decay over `total - warmup` steps, not over `total`.",
    )
    expect(
        all(is_near(step, (100 - step) / 90) for step in range(10, 100)),
        "Between peak and end it falls in a line: at step 55 here it is half the peak.",
    )
    other = float(call(function, 4, 20, 2.0, 8))
    expect(
        math.isclose(other, 1.0, rel_tol=1e-6),
        "With other numbers it is off: use `total`, `peak` and `warmup` as they are given.",
    )


@exercise("3.4", "Early stopping")
def check_best_epoch(function) -> None:
    """Check a function (validation losses, patience) -> index of the epoch to keep."""
    simple = call(function, [0.9, 0.5, 0.7, 0.8], 2)
    expect(int(simple) == simple, "Return the index of an epoch, counted from 0.")
    expect(simple != 3, "The last epoch is not the best one: keep the one with the lowest loss.")
    expect(simple == 1, "Of 0.9, 0.5, 0.7, 0.8 keep epoch 1 (counted from 0).")
    expect(
        call(function, [0.9, 0.5, 0.7, 0.8, 0.1], 2) == 1,
        "With patience 2 training ended after epoch 3 and never saw the 0.1: stop looking there.",
    )
    expect(
        call(function, [0.9, 0.5, 0.8, 0.7, 0.1], 2) == 1,
        "0.7 after 0.8 is no new lowest loss: compare with the lowest so far, 0.5 here, not with "
        "the epoch before.",
    )
    expect(
        call(function, [0.9, 0.5, 0.7, 0.4, 0.6], 2) == 3,
        "With patience 2 one epoch without a new lowest loss does not end training: after 0.5 and "
        "0.7 comes 0.4.",
    )
    expect(
        call(function, [0.9, 0.5, 0.7, 0.4, 0.6, 0.3], 2) == 5,
        "A new lowest loss starts the waiting anew: count from 0 again after 0.4.",
    )
    expect(
        call(function, [0.5, 0.5, 0.5, 0.1], 2) == 0,
        "An equal loss is no new lowest one: training ended before it saw the 0.1.",
    )
    expect(call(function, [0.3, 0.2, 0.1], 1) == 2, "If the loss falls to the end, keep the end.")


@exercise("3.5", "A paired comparison")
def check_paired(function) -> None:
    """Check a function (correct before, correct after) -> (difference, standard error)."""
    before = np.array([1, 1, 0, 0, 1, 0, 1, 1, 0, 1])
    after = np.array([1, 1, 1, 0, 1, 1, 1, 1, 0, 0])
    answer = call(function, before, after)
    expect(np.size(answer) == 2, "Return two numbers: the difference and its standard error.")
    difference, error = (float(value) for value in answer)
    expect(difference > 0, "The difference is after minus before: here it is positive.")
    expect(math.isclose(difference, 0.1, abs_tol=1e-9), "The mean of after − before is 0.1 here.")
    unpaired = math.sqrt(before.var(ddof=1) / 10 + after.var(ddof=1) / 10)
    expect(
        not math.isclose(error, unpaired, rel_tol=0.02),
        "That is the error for two unrelated samples: subtract review by review, then take the "
        "standard deviation of the differences.",
    )
    expected = (after - before).std(ddof=1) / math.sqrt(10)
    expect(
        error < 0.5 and not math.isclose(error, expected / math.sqrt(10), rel_tol=0.06),
        "Divide the standard deviation by the square root of the count.",
    )
    expect(math.isclose(error, expected, rel_tol=0.06), "The standard error is 0.18 here.")
