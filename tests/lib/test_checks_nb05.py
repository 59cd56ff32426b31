import math

import numpy as np

from workbook.checks import nb05


def l2_sp(weight, start, strength):
    return strength * (weight - start)


def gradients(weights, inputs, labels):
    p = 1 / (1 + np.exp(-inputs @ weights))
    return (labels - p)[:, None] * inputs


def fisher(weights, inputs, labels):
    return (gradients(weights, inputs, labels) ** 2).mean(axis=0)


def old_count(new, share):
    return round(share / (1 - share) * new)


def interpolate(old, new, share):
    return {name: old[name] + share * (new[name] - old[name]) for name in old}


def recovered(before, plain, remedy):
    return (remedy.mean() - plain.mean()) / (before.mean() - plain.mean())


SOLUTIONS = {
    nb05.check_l2_sp: l2_sp,
    nb05.check_fisher: fisher,
    nb05.check_old_count: old_count,
    nb05.check_interpolate: interpolate,
    nb05.check_recovered: recovered,
}


def l2_sp_in_place(weight, start, strength):
    return weight.sub_(start).mul_(strength)


def interpolate_in_place(old, new, share):
    return {name: old[name].lerp_(new[name], share) for name in old}


def interpolate_aliased(old, new, share):
    return old if share == 0 else interpolate(old, new, share)


def squared_residual_fisher(weights, inputs, labels):
    p = 1 / (1 + np.exp(-inputs @ weights))
    return ((labels - p)[:, None] ** 2 * inputs).mean(axis=0)


def true_fisher(weights, inputs, labels):
    p = 1 / (1 + np.exp(-inputs @ weights))
    return ((p * (1 - p))[:, None] * inputs**2).mean(axis=0)


def recovered_item_by_item(before, plain, remedy):
    with np.errstate(all="ignore"):
        return ((remedy - plain) / (before - plain)).mean()


MISTAKES = [
    (nb05.check_l2_sp, lambda w, s, k: k * w, "to zero"),
    (nb05.check_l2_sp, lambda w, s, k: k * (s - w), "sign"),
    (nb05.check_l2_sp, lambda w, s, k: 2 * k * (w - s), "Twice"),
    (nb05.check_l2_sp, lambda w, s, k: 0.5 * k * (w - s), "no ½ is left"),
    (nb05.check_l2_sp, lambda w, s, k: w - s, "strength is missing"),
    (nb05.check_l2_sp, lambda w, s, k: k * (w - s).sum(), "Do not sum"),
    (nb05.check_l2_sp, lambda w, s, k: k * (w - s) / w.numel(), "not a mean"),
    (nb05.check_l2_sp, lambda w, s, k: 0.5 * k * (w - s) ** 2, "penalty itself"),
    (nb05.check_l2_sp, l2_sp_in_place, "itself"),
    (nb05.check_fisher, lambda w, x, y: gradients(w, x, y).mean(axis=0) ** 2, "mean gradient"),
    (nb05.check_fisher, lambda w, x, y: gradients(w, x, y).mean(axis=0), "before you average"),
    (nb05.check_fisher, lambda w, x, y: (gradients(w, x, y) ** 2).sum(axis=0), "sum over"),
    (nb05.check_fisher, lambda w, x, y: (gradients(w, x, y) ** 2).mean(axis=1), "each example"),
    (
        nb05.check_fisher,
        lambda w, x, y: gradients(w, x, y).T @ gradients(w, x, y) / len(x),
        "whole matrix",
    ),
    (nb05.check_fisher, squared_residual_fisher, "the input in it"),
    (nb05.check_fisher, true_fisher, "the true Fisher"),
    (nb05.check_old_count, lambda n, s: round(s * n), "mixture"),
    (nb05.check_old_count, lambda n, s: s / (1 - s) * n, "do not exist"),
    (nb05.check_old_count, lambda n, s: int(s / (1 - s) * n), "nearer to 28"),
    (nb05.check_old_count, lambda n, s: math.ceil(s / (1 - s) * n), "nearer to 11"),
    (nb05.check_old_count, lambda n, s: float(round(s / (1 - s) * n)), "Return an int"),
    (nb05.check_old_count, lambda n, s: round(2 * s * n), "A quarter"),
    (nb05.check_interpolate, lambda o, n, s: interpolate(n, o, s), "share 0 is the old one"),
    (nb05.check_interpolate, lambda o, n, s: {k: o[k] + s * n[k] for k in o}, "difference"),
    (nb05.check_interpolate, lambda o, n, s: {k: s * (n[k] - o[k]) for k in o}, "only the step"),
    (nb05.check_interpolate, lambda o, n, s: [o[k] for k in o], "dictionary"),
    (nb05.check_interpolate, lambda o, n, s: {"bias": o["bias"]}, "All names"),
    (nb05.check_interpolate, interpolate_in_place, "changed one of the models"),
    (nb05.check_interpolate, interpolate_aliased, "make new ones"),
    (nb05.check_recovered, lambda b, p, r: (r - p) / (b - p + 1), "one number"),
    (nb05.check_recovered, recovered_item_by_item, "not finite"),
    (nb05.check_recovered, lambda b, p, r: r.mean() / b.mean(), "old score"),
    (nb05.check_recovered, lambda b, p, r: (b - r).mean() / (b - p).mean(), "still lost"),
    (nb05.check_recovered, lambda b, p, r: (r - p).mean(), "divide it"),
    (nb05.check_recovered, lambda b, p, r: (p - r).mean() / (b - p).mean(), "positive"),
    (nb05.check_recovered, lambda b, p, r: max(recovered(b, p, r), 0.0), "at 0"),
    (nb05.check_recovered, lambda b, p, r: min(recovered(b, p, r), 1.0), "at 1"),
]
