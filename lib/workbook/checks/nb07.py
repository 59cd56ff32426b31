"""The self-checks of notebook 07, LoRA."""

import math

import numpy as np
import torch

from .report import call, exercise, expect


@exercise("7.1", "The best part of a low rank")
def check_low_rank(function) -> None:
    """Check a function (matrix, rank) -> its best approximation of that rank."""
    matrix = _matrix([5.0, 3.0, 1.0], rows=4, columns=3)
    answer = _tensor(call(function, matrix.clone(), 2))
    expect(
        answer.shape != (3,) and answer.shape != (2,),
        "Those are singular values: put the matrix together again, left · sizes · right.",
    )
    expect(
        answer.shape == matrix.shape,
        f"The approximation has the shape of the matrix, {_shape(matrix)}, and yours has "
        f"{_shape(answer)}: only its *rank* is lower. Mind that svd returns the right factor "
        "transposed already.",
    )
    expect(
        not _near(answer, matrix),
        "You kept every direction: take only the first `rank` columns, values and rows.",
    )
    left, sizes, right = torch.linalg.svd(matrix, full_matrices=False)
    expect(
        not _near(answer, left[:, :2] @ right[:2]),
        "The sizes are missing: multiply each direction by its singular value.",
    )
    expect(
        not _near(answer, (left[:, 1:] * sizes[1:]) @ right[1:]),
        "You kept the smallest directions: svd gives the largest first.",
    )
    expect(
        torch.linalg.matrix_rank(answer, atol=1e-4) <= 2,
        "Your matrix has a rank above the one that was asked for: cut all three factors.",
    )
    expect(
        _near(answer, (left[:, :2] * sizes[:2]) @ right[:2]),
        "There is a closer matrix of this rank: keep the directions of the largest values.",
    )
    wide = _matrix([4.0, 2.0, 1.0], rows=3, columns=6)
    left, sizes, right = torch.linalg.svd(wide, full_matrices=False)
    expect(
        _near(_tensor(call(function, wide.clone(), 1)), sizes[0] * left[:, :1] @ right[:1]),
        "For a wide matrix and rank 1 it is off: use `full_matrices=False`, and slice left by "
        "columns, right by rows.",
    )


@exercise("7.2", "LoRA forward")
def check_forward(function) -> None:
    """Check a function (x, weight, A, B, alpha) -> output of a linear layer with LoRA."""
    generator = torch.Generator().manual_seed(0)
    x, weight, A, B = (
        torch.randn(*shape, generator=generator) for shape in ((5, 4), (3, 4), (2, 4), (3, 2))
    )
    kept = [tensor.clone() for tensor in (x, weight, A, B)]
    plain, update = x @ weight.T, x @ A.T @ B.T
    answer = _tensor(call(function, x, weight, A, B, 6.0))
    expect(
        answer.shape == (5, 3),
        f"Five inputs and three outputs make [5, 3], and yours is {_shape(answer)}: with rows as "
        "inputs, a layer is `x @ weight.T`.",
    )
    expect(not _near(answer, plain), "The update is missing: add what A and B do to `x`.")
    expect(
        not _near(answer, 3 * update),
        "The layer itself is missing: LoRA *adds* to the frozen layer's output.",
    )
    expect(not _near(answer, plain + update), "The scale is missing: alpha over rank.")
    expect(
        not _near(answer, plain + 6 * update),
        "You scaled by alpha: divide it by the rank, which is the number of rows of A.",
    )
    expect(
        not _near(answer, 3 * (plain + update)),
        "Only the update is scaled by alpha over rank, not the frozen layer.",
    )
    for size, name in ((3, "outputs"), (4, "inputs"), (5, "rows of x")):
        expect(
            not _near(answer, plain + 6 / size * update),
            f"You divided alpha by the number of {name}: the rank is `len(A)`, two here.",
        )
    expect(_near(answer, plain + 3 * update), "It should be x Wᵀ + alpha / rank · x Aᵀ Bᵀ.")
    expect(
        all(torch.equal(*pair) for pair in zip(kept, (x, weight, A, B), strict=True)),
        "Your function changes its inputs: the weight is frozen, so do not use `+=` on it.",
    )


@exercise("7.3", "How many numbers learn?")
def check_count(function) -> None:
    """Check a function (shapes (outputs, inputs), rank) -> numbers that LoRA trains."""
    shapes = [(10, 6), (4, 11)]
    value = _number(call(function, list(shapes), 2))
    expect(value != 104, "Those are the weights of the layers, which stay frozen.")
    expect(value != 208, "A and B are two thin matrices, not `rank` copies of the weight.")
    expect(value != 31, "That is rank 1: multiply by the rank.")
    expect(value != 124, "Twice too much: A has rank · inputs numbers and B rank · outputs.")
    expect(value not in (34, 28), "Only A, or only B: both learn.")
    expect(value not in (32, 30), "Sum over *all* shapes.")
    expect(value == 62, "For (10, 6) and (4, 11) at rank 2 it is 2 · (10 + 6) + 2 · (4 + 11) = 62.")
    expect(_number(call(function, [(7, 5)], 3)) == 36, "One layer (7, 5) at rank 3 has 36.")


@exercise("7.4", "The rank for a share")
def check_rank_for(function) -> None:
    """Check a function (share, shapes, weights) -> smallest rank that trains such a share."""
    shapes = [(10, 6), (4, 10)]  # 30 numbers a rank
    value = _number(call(function, 0.25, list(shapes), 1000))
    expect(value == int(value), "A rank is a whole number: round up.")
    expect(
        value != 8,
        "At rank 8 only 240 of the 1000 weights learn, less than the share: round *up*.",
    )
    expect(
        value not in (0, 1),
        "The share is of *all* weights of the model, not only of those of the layers.",
    )
    expect(
        value != math.ceil(0.25 * 1000),
        "That is how many numbers should learn: divide by how many each rank adds.",
    )
    expect(value == 9, "Each rank adds 30 numbers, and a quarter of 1000 takes nine of them.")
    expect(
        _number(call(function, 0.25, list(shapes), 1200)) == 10,
        "Ten ranks make 300 numbers, exactly a quarter of 1200: do not go one further.",
    )
    expect(
        _number(call(function, 0.01, list(shapes), 1000)) == 1,
        "A small share still takes rank 1, the smallest there is.",
    )


@exercise("7.5", "Merge")
def check_merged(function) -> None:
    """Check a function (weight, A, B, alpha) -> weight with the update in it."""
    generator = torch.Generator().manual_seed(1)
    weight, A, B = (torch.randn(*shape, generator=generator) for shape in ((3, 4), (2, 4), (3, 2)))
    kept = weight.clone()
    answer = _tensor(call(function, weight, A.clone(), B.clone(), 8.0))
    expect(
        torch.equal(weight, kept),
        "Your function changes the old weight: without it nothing can be unmerged exactly. Make a "
        "new tensor, without `+=` or operations that end in an underscore.",
    )
    expect(
        answer.shape == weight.shape,
        f"The merged weight has the shape of the old one, {_shape(weight)}, and yours has "
        f"{_shape(answer)}: B @ A, in this order.",
    )
    expect(not _near(answer, weight), "The update is missing: add it to the weight.")
    expect(not _near(answer, 4 * B @ A), "That is the update alone: add it to the weight.")
    expect(not _near(answer, weight + B @ A), "The scale is missing: alpha over rank.")
    expect(
        not _near(answer, weight + 8 * B @ A),
        "You scaled by alpha: divide it by the rank, the number of rows of A.",
    )
    expect(not _near(answer, weight - 4 * B @ A), "That takes the update off: merging *adds* it.")
    expect(_near(answer, weight + 4 * B @ A), "It should be weight + alpha / rank · B A.")
    square = torch.eye(3)
    one, other = torch.randn(3, 3, generator=generator), torch.randn(3, 3, generator=generator)
    expect(
        _near(
            _tensor(call(function, square, one.clone(), other.clone(), 3.0)), square + other @ one
        ),
        "For square A and B it is off: the input meets A first, so the product is B @ A.",
    )


def _matrix(sizes, rows: int, columns: int) -> torch.Tensor:
    """Return a matrix with these singular values."""
    generator = torch.Generator().manual_seed(0)
    count = len(sizes)
    left = torch.linalg.qr(torch.randn(rows, count, generator=generator)).Q
    right = torch.linalg.qr(torch.randn(columns, count, generator=generator)).Q
    return (left * torch.tensor(sizes)) @ right.T


def _tensor(value) -> torch.Tensor:
    """Return the answer as a tensor, or end the check."""
    expect(isinstance(value, torch.Tensor | np.ndarray), "Return one tensor.")
    return torch.as_tensor(value).detach().float()


def _number(value) -> float:
    """Return the answer as a float, or end the check."""
    expect(np.ndim(value) == 0 and not isinstance(value, str), "Return one number.")
    return float(value)


def _near(answer: torch.Tensor, expected: torch.Tensor) -> bool:
    return answer.shape == expected.shape and torch.allclose(answer, expected, atol=1e-4)


def _shape(tensor: torch.Tensor) -> list[int]:
    return list(tensor.shape)
