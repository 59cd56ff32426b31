import torch
import torch.nn.functional as F

from workbook.checks import nb08


def adapter_forward(said, down, up):
    return said + up(F.gelu(down(said)))


def prepend(vectors, text, mask, labels):
    length = len(vectors)
    text = torch.cat([vectors.expand(len(text), -1, -1), text], dim=1)
    return text, F.pad(mask, (length, 0), value=1), F.pad(labels, (length, 0), value=-100)


def positions(mask):
    return (mask.long().cumsum(dim=1) - 1).clamp(min=0)


def nearest(vector, table, k):
    cosines = F.normalize(table, dim=1) @ F.normalize(vector, dim=0)
    return cosines.topk(k).indices


def choose(prompts, rows):
    return torch.stack([prompts[row] for row in rows])


SOLUTIONS = {
    nb08.check_adapter: adapter_forward,
    nb08.check_prepend: prepend,
    nb08.check_positions: positions,
    nb08.check_nearest: nearest,
    nb08.check_choose: choose,
}


def added_in_place(said, down, up):
    said += up(F.gelu(down(said)))
    return said


def with_text(change):
    """A solution but for what `change(vectors, text)` makes of the text."""

    def wrong(vectors, text, mask, labels):
        return change(vectors, text), *prepend(vectors, text, mask, labels)[1:]

    return wrong


def with_padding(mask_value, label_value):
    """A solution but for the numbers at the vectors."""

    def wrong(vectors, text, mask, labels):
        longer = prepend(vectors, text, mask, labels)[0]
        size = (len(vectors), 0)
        return longer, F.pad(mask, size, value=mask_value), F.pad(labels, size, value=label_value)

    return wrong


def divided(vector, table, k):
    lengths = table.norm(dim=1) * vector.norm()
    return (table @ vector / lengths).topk(k).indices


MISTAKES = [
    (nb08.check_adapter, lambda said, down, up: 3, "a tensor"),
    (nb08.check_adapter, lambda said, down, up: F.gelu(down(said)), "keeps the shape"),
    (nb08.check_adapter, lambda said, down, up: up(F.gelu(down(said))), "residual"),
    (nb08.check_adapter, lambda said, down, up: said + up(down(said)), "one matrix product"),
    (nb08.check_adapter, lambda said, down, up: said + F.gelu(up(down(said))), "before `up`"),
    (nb08.check_adapter, lambda said, down, up: said + up(down(F.gelu(said))), "after `down`"),
    (nb08.check_adapter, lambda said, down, up: said + up(F.relu(down(said))), "ReLU"),
    (nb08.check_adapter, lambda said, down, up: said, "`said` itself"),
    (
        nb08.check_adapter,
        lambda said, down, up: said + adapter_forward(said, down, up),
        "added twice",
    ),
    (
        nb08.check_adapter,
        lambda said, down, up: said + F.gelu(down(said)) @ up.weight.T,
        "biases",
    ),
    (nb08.check_adapter, lambda said, down, up: said - up(F.gelu(down(said))), "It should be"),
    (nb08.check_adapter, added_in_place, "changed `said`"),
    (nb08.check_adapter, lambda *given: adapter_forward(*given).detach(), "No gradient"),
    (nb08.check_prepend, lambda *given: prepend(*given)[0], "three things"),
    (
        nb08.check_prepend,
        with_text(lambda v, t: torch.cat([v.expand(3, -1, -1), t[:, :2]], dim=0)),
        "[3, 6, 5]",
    ),
    (nb08.check_prepend, with_text(lambda v, t: torch.cat([t, t[:2]])), "not more rows"),
    (nb08.check_prepend, with_text(lambda v, t: t), "are six"),
    (
        nb08.check_prepend,
        with_text(lambda v, t: torch.cat([t, v.expand(3, -1, -1)], dim=1)),
        "after the text",
    ),
    (
        nb08.check_prepend,
        with_text(lambda v, t: torch.cat([v.flip(0).expand(3, -1, -1), t], dim=1)),
        "in their order",
    ),
    (
        nb08.check_prepend,
        with_text(lambda v, t: torch.cat([v.expand(3, -1, -1), t.flip(0)], dim=1)),
        "its own text",
    ),
    (
        nb08.check_prepend,
        lambda v, t, mask, labels: (prepend(v, t, mask, labels)[0], mask, labels),
        "put ones before",
    ),
    (nb08.check_prepend, with_padding(0, -100), "hides the vectors"),
    (
        nb08.check_prepend,
        lambda v, t, mask, labels: (prepend(v, t, mask, labels)[0], torch.ones(3, 6), labels),
        "mask of the text",
    ),
    (
        nb08.check_prepend,
        lambda v, t, mask, labels: (*prepend(v, t, mask, labels)[:2], labels),
        "place by place",
    ),
    (nb08.check_prepend, with_padding(1, 0), "no word to predict"),
    (
        nb08.check_prepend,
        lambda v, t, mask, labels: (*prepend(v, t, mask, labels)[:2], torch.full((3, 6), -100)),
        "labels of the text",
    ),
    (nb08.check_prepend, lambda v, *rest: prepend(v.detach(), *rest), "No gradient"),
    (
        nb08.check_prepend,
        lambda *given: (*prepend(*given)[:2], prepend(*given)[2].float()),
        "integers",
    ),
    (nb08.check_positions, lambda mask: mask.tolist(), "a tensor"),
    (nb08.check_positions, lambda mask: positions(mask)[0], "each place"),
    (nb08.check_positions, lambda mask: positions(mask).float(), "whole numbers"),
    (
        nb08.check_positions,
        lambda mask: torch.arange(mask.shape[1]).expand(len(mask), -1),
        "count the pads",
    ),
    (nb08.check_positions, lambda mask: mask.cumsum(dim=1), "not 1"),
    (
        nb08.check_positions,
        lambda mask: mask.flatten().cumsum(0).view(mask.shape) - 1,
        "Each row counts",
    ),
    (nb08.check_positions, lambda mask: (mask.cumsum(dim=0) - 1).clamp(min=0), "along `dim=1`"),
    (nb08.check_positions, lambda mask: mask * 0, "0, 1, 2, 3"),
    (nb08.check_positions, lambda mask: mask.long().cumsum(dim=1) - 1, "clamp"),
    (nb08.check_nearest, lambda v, table, k: (F.normalize(table, dim=1) @ v).topk(k), "alone"),
    (
        nb08.check_nearest,
        lambda v, table, k: (F.normalize(table, dim=1) @ F.normalize(v, dim=0)).topk(k).values,
        "not the cosines",
    ),
    (nb08.check_nearest, lambda v, table, k: nearest(v, table, 1), "three indices"),
    (nb08.check_nearest, lambda v, table, k: (table @ v).topk(k).indices, "the longest rows"),
    (nb08.check_nearest, lambda v, table, k: nearest(-v, table, k), "opposite"),
    (
        nb08.check_nearest,
        lambda v, table, k: (table - v).norm(dim=1).topk(k, largest=False).indices,
        "*distance*",
    ),
    (nb08.check_nearest, lambda v, table, k: nearest(v, table, k).flip(0), "Best first"),
    (nb08.check_nearest, divided, "NaN"),
    (nb08.check_choose, lambda prompts, rows: [prompts[row] for row in rows], "a tensor"),
    (
        nb08.check_choose,
        lambda prompts, rows: torch.cat([prompts[row] for row in rows]),
        "torch.stack",
    ),
    (nb08.check_choose, lambda prompts, rows: torch.stack(prompts), "each *prompt*"),
    (
        nb08.check_choose,
        lambda prompts, rows: torch.stack([prompts[row] for row in rows], dim=1),
        "first axis",
    ),
    (nb08.check_choose, lambda prompts, rows: prompts[rows[0]], "[4, 2, 5]"),
    (nb08.check_choose, lambda prompts, rows: choose(prompts, sorted(rows)), "do not sort"),
    (
        nb08.check_choose,
        lambda prompts, rows: torch.stack([prompts[0] for _ in rows]),
        "prompts[rows[i]]",
    ),
    (nb08.check_choose, lambda prompts, rows: choose(prompts, rows).detach(), "No gradient"),
]
