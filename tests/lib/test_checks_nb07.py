import math

import torch

from workbook.checks import nb07


def parts(matrix):
    return torch.linalg.svd(matrix, full_matrices=False)


def low_rank(matrix, rank):
    left, sizes, right = parts(matrix)
    return (left[:, :rank] * sizes[:rank]) @ right[:rank]


def smallest(matrix, rank):
    left, sizes, right = parts(matrix)
    return (left[:, -rank:] * sizes[-rank:]) @ right[-rank:]


def right_transposed(matrix, rank):
    left, sizes, right = parts(matrix)
    return (left[:, :rank] * sizes[:rank]) @ right.T[:rank]


def random_directions(matrix, rank):
    basis = torch.linalg.qr(torch.ones(rank, len(matrix)).T + torch.eye(len(matrix))[:, :rank]).Q
    return basis @ basis.T @ matrix


def tall_only(matrix, rank):
    left, sizes, right = torch.linalg.svd(matrix, full_matrices=True)
    size = torch.zeros(matrix.shape)
    size[:rank, :rank] = torch.diag(sizes[:rank])
    return left @ size @ right if matrix.shape[0] > matrix.shape[1] else left @ size @ right.flip(0)


def forward(x, weight, A, B, alpha):
    return x @ weight.T + alpha / len(A) * (x @ A.T @ B.T)


def forward_in_place(x, weight, A, B, alpha):
    weight += alpha / len(A) * B @ A
    return x @ weight.T


def divided_by(size):
    return lambda x, weight, A, B, alpha: x @ weight.T + alpha / size * (x @ A.T @ B.T)


def count(shapes, rank):
    return sum(rank * (outputs + inputs) for outputs, inputs in shapes)


def rank_for(share, shapes, weights):
    return math.ceil(share * weights / count(shapes, 1))


def of_the_layers(share, shapes, weights):
    return rank_for(share, shapes, sum(outputs * inputs for outputs, inputs in shapes))


def merged(weight, A, B, alpha):
    return weight + alpha / len(A) * B @ A


SOLUTIONS = {
    nb07.check_low_rank: low_rank,
    nb07.check_forward: forward,
    nb07.check_count: count,
    nb07.check_rank_for: rank_for,
    nb07.check_merged: merged,
}

MISTAKES = [
    (nb07.check_low_rank, lambda matrix, rank: parts(matrix), "one tensor"),
    (nb07.check_low_rank, lambda matrix, rank: parts(matrix)[1][:rank], "singular values"),
    (nb07.check_low_rank, lambda matrix, rank: matrix[:, :rank], "*rank* is lower"),
    (nb07.check_low_rank, lambda matrix, rank: low_rank(matrix, 99), "every direction"),
    (
        nb07.check_low_rank,
        lambda matrix, rank: parts(matrix)[0][:, :rank] @ parts(matrix)[2][:rank],
        "sizes are missing",
    ),
    (nb07.check_low_rank, smallest, "smallest directions"),
    (nb07.check_low_rank, lambda matrix, rank: matrix + 1, "rank above"),
    (nb07.check_low_rank, random_directions, "closer matrix"),
    (nb07.check_low_rank, right_transposed, "closer matrix"),
    (nb07.check_low_rank, tall_only, "wide matrix"),
    (nb07.check_forward, lambda x, weight, A, B, alpha: weight @ x.T, "x @ weight.T"),
    (nb07.check_forward, lambda x, weight, A, B, alpha: x @ weight.T, "update is missing"),
    (
        nb07.check_forward,
        lambda x, weight, A, B, alpha: alpha / len(A) * (x @ A.T @ B.T),
        "layer itself is missing",
    ),
    (nb07.check_forward, divided_by(6), "scale is missing"),
    (nb07.check_forward, divided_by(1), "scaled by alpha"),
    (
        nb07.check_forward,
        lambda x, weight, A, B, alpha: alpha / len(A) * x @ (weight + B @ A).T,
        "Only the update",
    ),
    (nb07.check_forward, divided_by(3), "number of outputs"),
    (nb07.check_forward, divided_by(4), "number of inputs"),
    (nb07.check_forward, divided_by(5), "rows of x"),
    (nb07.check_forward, divided_by(2**0.5), "alpha / rank"),
    (nb07.check_forward, forward_in_place, "frozen"),
    (nb07.check_count, lambda shapes, rank: [count([s], rank) for s in shapes], "one number"),
    (nb07.check_count, lambda shapes, rank: sum(o * i for o, i in shapes), "stay frozen"),
    (nb07.check_count, lambda shapes, rank: rank * sum(o * i for o, i in shapes), "thin matrices"),
    (nb07.check_count, lambda shapes, rank: count(shapes, 1), "multiply by the rank"),
    (nb07.check_count, lambda shapes, rank: 2 * count(shapes, rank), "Twice too much"),
    (nb07.check_count, lambda shapes, rank: rank * sum(i for _, i in shapes), "both learn"),
    (nb07.check_count, lambda shapes, rank: rank * sum(o for o, _ in shapes), "both learn"),
    (nb07.check_count, lambda shapes, rank: count(shapes, rank + 1), "= 62"),
    (nb07.check_count, lambda shapes, rank: count(shapes[:1], rank), "Sum over"),
    (nb07.check_count, lambda shapes, rank: 31 * len(shapes), "One layer"),
    (nb07.check_rank_for, lambda share, shapes, weights: share * weights / 30, "whole number"),
    (
        nb07.check_rank_for,
        lambda share, shapes, weights: int(share * weights / count(shapes, 1)),
        "round *up*",
    ),
    (nb07.check_rank_for, of_the_layers, "*all* weights"),
    (
        nb07.check_rank_for,
        lambda share, shapes, weights: math.ceil(share * weights),
        "how many numbers should learn",
    ),
    (nb07.check_rank_for, lambda share, shapes, weights: 17, "takes nine"),
    (
        nb07.check_rank_for,
        lambda share, shapes, weights: int(share * weights / count(shapes, 1)) + 1,
        "one further",
    ),
    (
        nb07.check_rank_for,
        lambda share, shapes, weights: max(9, rank_for(share, shapes, weights)),
        "still takes rank 1",
    ),
    (nb07.check_merged, lambda weight, A, B, alpha: weight.add_(B @ A), "changes the old weight"),
    (nb07.check_merged, lambda weight, A, B, alpha: weight.T, "B @ A, in this order"),
    (nb07.check_merged, lambda weight, A, B, alpha: weight + 0, "update is missing"),
    (
        nb07.check_merged,
        lambda weight, A, B, alpha: merged(weight, A, B, alpha) - weight,
        "update alone",
    ),
    (nb07.check_merged, lambda weight, A, B, alpha: weight + B @ A, "scale is missing"),
    (nb07.check_merged, lambda weight, A, B, alpha: weight + alpha * B @ A, "divide it"),
    (nb07.check_merged, lambda weight, A, B, alpha: merged(weight, A, B, -alpha), "*adds* it"),
    (
        nb07.check_merged,
        lambda weight, A, B, alpha: weight + alpha / len(A) ** 0.5 * B @ A,
        "alpha / rank",
    ),
    (
        nb07.check_merged,
        lambda weight, A, B, alpha: (
            weight + alpha / len(A) * (A @ B if A.shape == B.shape else B @ A)
        ),
        "For square A and B",
    ),
]
