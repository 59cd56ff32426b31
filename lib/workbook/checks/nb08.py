"""The self-checks of notebook 08, adapters and prompt tuning."""

import torch
import torch.nn.functional as F

from ..encoding import IGNORE_INDEX
from .report import call, exercise, expect


@exercise("8.1", "The adapter's forward pass")
def check_adapter(function) -> None:
    """Check a function (said, down, up) -> said + up(gelu(down(said)))."""
    said = _random(2, 3, 4)
    down, up = _linear(4, 2, seed=1), _linear(2, 4, seed=2).requires_grad_(True)
    given = said.clone()
    value = _tensor(call(function, given, down, up), "said")
    expect(
        value.shape == said.shape,
        f"Said has the shape {list(said.shape)} and your answer {list(value.shape)}: an adapter "
        "keeps the shape.",
    )
    middle = down(said)
    for wrong, message in (
        (up(F.gelu(middle)), "The residual is missing: add `said` to what comes back up."),
        (
            said + up(middle),
            "Without a nonlinearity, down and up are one matrix product: put `F.gelu` in between.",
        ),
        (said + F.gelu(up(middle)), "The nonlinearity belongs in the narrow middle, before `up`."),
        (said + up(down(F.gelu(said))), "GELU comes after `down`, in the narrow middle."),
        (said + up(F.relu(middle)), "That is ReLU: this adapter uses `F.gelu`."),
        (
            middle.new_zeros(said.shape) + said,
            "That is `said` itself: add what the bottleneck makes of it.",
        ),
        (2 * said + up(F.gelu(middle)), "`said` is added twice: once is enough."),
    ):
        expect(not _near(value, wrong), message)
    expect(
        not _near(value, said + F.gelu(middle) @ up.weight.T),
        "The biases are missing: call `down` and `up`, which add theirs.",
    )
    expect(_near(value, said + up(F.gelu(middle))), "It should be said + up(gelu(down(said))).")
    expect(value.requires_grad, "No gradient reaches the adapter: leave out `detach` and `.data`.")
    expect(
        torch.equal(given, said),
        "Your function changed `said` itself: write `said + ...` instead of `said += ...`.",
    )


@exercise("8.2", "Put the vectors before the text")
def check_prepend(function) -> None:
    """Check a function (vectors, text, mask, labels) -> text, mask, labels with the vectors."""
    vectors, text = _random(2, 5), _random(3, 4, 5, seed=1)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0]])
    labels = torch.tensor(
        [
            [IGNORE_INDEX, IGNORE_INDEX, 7, 8],
            [IGNORE_INDEX, 9, 8, IGNORE_INDEX],
            [6, 8, IGNORE_INDEX, IGNORE_INDEX],
        ]
    )
    vectors.requires_grad_(True)
    given = [each.clone() for each in (text, mask, labels)]
    answer = call(function, vectors, *given)
    expect(
        isinstance(answer, tuple | list) and len(answer) == 3,
        "Return three things: text, mask, labels.",
    )
    longer, seen, targets = (_tensor(each, "text, mask and labels") for each in answer)
    _check_text(longer, vectors, text)
    expect(
        seen.shape == (3, 6),
        f"The mask must cover the vectors too, [3, 6], and yours is {list(seen.shape)}: put ones "
        "before each row.",
    )
    expect(bool(seen[:, :2].all()), "The mask hides the vectors: put ones at their places.")
    expect(
        torch.equal(seen[:, 2:].long(), mask), "The mask of the text has changed: keep it behind."
    )
    expect(
        targets.shape == (3, 6),
        f"The labels must cover the vectors too, [3, 6], and yours are {list(targets.shape)}: they "
        "are compared place by place.",
    )
    expect(
        targets.dtype == labels.dtype,
        "Labels are numbers of tokens, so they must stay integers: `F.pad` keeps the type.",
    )
    expect(
        bool((targets[:, :2] == IGNORE_INDEX).all()),
        f"There is no word to predict at the vectors: their labels are {IGNORE_INDEX}. Any other "
        "number is the id of a token, which the model would learn to say there.",
    )
    expect(torch.equal(targets[:, 2:], labels), "The labels of the text have changed: keep them.")
    expect(
        longer.requires_grad,
        "No gradient reaches the vectors, so they would never learn: leave out `detach`, `.data` "
        "and `torch.tensor(...)`.",
    )


def _check_text(longer, vectors, text) -> None:
    expect(
        longer.shape != (3 + 2, 4, 5) and longer.dim() == 3,
        "The vectors are more places in each row, not more rows: join along `dim=1`.",
    )
    expect(
        longer.shape == (3, 6, 5),
        f"Two vectors before four places are six: the text should be [3, 6, 5], and yours is "
        f"{list(longer.shape)}.",
    )
    expect(
        not _near(longer[:, 4:], vectors.expand(3, -1, -1)),
        "The vectors come after the text, where they cannot change how it is read: swap.",
    )
    expect(
        _near(longer[:, :2], vectors.expand(3, -1, -1)),
        "Each row should begin with the same vectors, in their order.",
    )
    expect(_near(longer[:, 2:], text), "Behind the vectors, each row keeps its own text.")


@exercise("8.3", "Positions that skip pads")
def check_positions(function) -> None:
    """Check a function mask -> positions that count only what the mask lets through."""
    mask = torch.tensor([[1, 1, 0, 0, 1, 1], [1, 1, 1, 1, 1, 1]])
    value = _tensor(call(function, mask.clone()), "the mask")
    expect(
        value.shape == mask.shape,
        f"The mask has the shape {list(mask.shape)} and your answer {list(value.shape)}: return a "
        "position for each place.",
    )
    expect(
        not value.is_floating_point() and value.dtype != torch.bool,
        "Positions are whole numbers: use `.long()`.",
    )
    wanted = torch.tensor([[0, 1, 0, 0, 2, 3], [0, 1, 2, 3, 4, 5]])
    visible = mask.bool()
    expect(
        not torch.equal(value, torch.arange(6).expand(2, -1)),
        "You count the pads: after the positions 0 and 1 and two pads comes 2, not 4.",
    )
    expect(
        not torch.equal(value[visible], wanted[visible] + 1),
        "The first visible place has position 0, not 1: take one off.",
    )
    for wrong in (mask.flatten().cumsum(0).view(2, 6), mask.cumsum(0)):
        expect(
            not torch.equal(value[visible], wrong[visible] - 1),
            "Each row counts from 0: sum along `dim=1`.",
        )
    expect(
        torch.equal(value[visible], wanted[visible]),
        "For the mask 1 1 0 0 1 1 the visible positions are 0, 1, 2, 3.",
    )
    first = _tensor(call(function, torch.tensor([[0, 0, 1, 1]])), "the mask")
    expect(
        bool((first >= 0).all()),
        "Where a row begins with pads, its positions are negative, and a model may look them up "
        "in a table: use `.clamp(min=0)`.",
    )
    expect(first[0, 2:].tolist() == [0, 1], "For the mask 0 0 1 1 the text begins at position 0.")
    given = torch.tensor([[True, False, True]])
    booleans = _tensor(call(function, given), "the mask")
    expect(booleans[0, ::2].tolist() == [0, 1], "A mask may hold True and False: use `.long()`.")


@exercise("8.4", "The nearest words")
def check_nearest(function) -> None:
    """Check a function (vector, table, k) -> indices of the k most similar rows, best first."""
    vector = torch.tensor([2.0, 0.0])
    table = torch.tensor(
        [[0.1, 0.0], [30.0, 40.0], [-9.0, 0.0], [1.6, 1.2], [1.5, 1.4], [0.24, 0.07]]
    )
    value = _indices(call(function, vector.clone(), table.clone(), 3), table)
    expect(len(value) == 3, f"For k = 3 return three indices, best first; yours has {len(value)}.")
    expect(
        value[0] != 1,
        "Row 1 is long and points elsewhere: divide by the lengths, or the longest rows win.",
    )
    expect(
        2 not in value,
        "Row 2 points the opposite way: a high cosine, not a large or small one, means similar.",
    )
    expect(
        4 not in value,
        "Row 4 is near in *distance*: the cosine compares directions, whatever the length.",
    )
    expect(
        sorted(value) == [0, 3, 5],
        "The most similar rows are 0, 5 and 3, with cosines 1, 0.96 and 0.8.",
    )
    expect(value == [0, 5, 3], "Best first: sort by the cosine, highest before.")
    with_zeros = torch.cat([torch.zeros(1, 2), table])
    value = _indices(call(function, vector.clone(), with_zeros, 2), with_zeros)
    expect(
        value == [1, 6],
        "A row of zeros has no direction, and 0 divided by 0 is NaN, which wins every comparison: "
        "`F.normalize` leaves zeros as they are.",
    )


@exercise("8.5", "A prompt for each row")
def check_choose(function) -> None:
    """Check a function (prompts, rows) -> the vectors of each row [rows, length, hidden]."""
    prompts = [_random(2, 5, seed=seed).requires_grad_(True) for seed in range(3)]
    rows = [2, 0, 2, 1]
    value = _tensor(call(function, prompts, rows), "the prompts")
    expect(
        value.shape != (8, 5),
        "The vectors of all rows are joined into one row: use `torch.stack`, which makes a new "
        "axis.",
    )
    expect(
        value.shape != (3, 2, 5),
        "You return one entry for each *prompt*: it should be one for each row of the batch.",
    )
    expect(
        value.shape != (2, 4, 5),
        "The rows must be the first axis: leave out `dim=1`.",
    )
    expect(
        value.shape == (4, 2, 5),
        f"Four rows, prompts of two vectors of width 5: return [4, 2, 5], not {list(value.shape)}.",
    )
    wanted = torch.stack([prompts[row] for row in rows])
    ordered = torch.stack([prompts[row] for row in sorted(rows)])
    expect(not _near(value, ordered), "Keep the order of the batch: do not sort the rows.")
    expect(_near(value, wanted), "Row i of the batch gets the prompt `prompts[rows[i]]`.")
    expect(
        value.requires_grad,
        "No gradient reaches the prompts: leave out `detach`, `.data` and `torch.tensor(...)`.",
    )


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _linear(inputs: int, outputs: int, seed: int):
    """Return a linear layer whose numbers are not small."""
    layer = torch.nn.Linear(inputs, outputs)
    layer.weight.data = _random(outputs, inputs, seed=seed)
    layer.bias.data = _random(outputs, seed=seed + 10)
    return layer.requires_grad_(False)


def _tensor(value, like: str) -> torch.Tensor:
    """Return the answer if it is a tensor, or end the check."""
    expect(isinstance(value, torch.Tensor), f"Return a tensor, like {like}.")
    return value


def _indices(value, table) -> list[int]:
    """Return the answer as a list of row numbers, or end the check."""
    value = value.tolist() if hasattr(value, "tolist") else value
    expect(
        isinstance(value, tuple | list) and all(not hasattr(each, "__len__") for each in value),
        "Return the indices alone, one number for each word: `topk` gives the values and the "
        "indices.",
    )
    expect(
        all(float(each).is_integer() and 0 <= each < len(table) for each in value),
        "Return the row numbers, not the cosines: `.indices` of what `topk` returns.",
    )
    return [int(each) for each in value]


def _near(value: torch.Tensor, wanted: torch.Tensor) -> bool:
    return value.shape == wanted.shape and torch.allclose(value, wanted, atol=1e-5)
