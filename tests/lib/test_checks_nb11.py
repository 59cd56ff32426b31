import torch

from workbook import training
from workbook.checks import nb11


def tuning_bytes(frozen, learning, precision):
    width, masters = (2, 4) if precision == "bf16" else (4, 0)
    return width * frozen + (width + 4 + masters + 8) * learning


def accumulated(model, batches):
    count = sum(training.label_count(batch) for batch in batches)
    total = 0.0
    for batch in batches:
        loss = training.completion_loss(model, batch) / count
        loss.backward()
        total += loss.item()
    return total


def in_one_graph(model, batches):
    count = sum(training.label_count(batch) for batch in batches)
    loss = sum(training.completion_loss(model, batch) for batch in batches) / count
    loss.backward()
    return loss.item()


def each_alike(model, batches):
    for batch in batches:
        loss = training.completion_loss(model, batch) / training.label_count(batch) / len(batches)
        loss.backward()
    return loss.item()


def undivided(model, batches):
    for batch in batches:
        loss = training.completion_loss(model, batch)
        loss.backward()
    return loss.item()


def last_alone(model, batches):
    count = sum(training.label_count(batch) for batch in batches)
    for batch in batches:
        model.zero_grad()
        loss = training.completion_loss(model, batch) / count
        loss.backward()
    return loss.item()


def last_loss(model, batches):
    accumulated(model, batches)
    return training.completion_loss(model, batches[-1]).item()


def best_segment(blocks, entry, inside):
    sizes = [size for size in range(1, blocks + 1) if blocks % size == 0]
    return min(sizes, key=lambda size: blocks // size * entry + size * inside)


def any_size(blocks, entry, inside):
    sizes = range(1, blocks + 1)
    return min(sizes, key=lambda size: blocks / size * entry + size * inside)


def own_part(tensor, count, rank):
    flat = tensor.flatten()
    size = -(-len(flat) // count)
    padded = torch.nn.functional.pad(flat, (0, size * count - len(flat)))
    return padded[rank * size : (rank + 1) * size]


def without_the_rest(tensor, count, rank):
    size = tensor.numel() // count
    return tensor.flatten()[rank * size : (rank + 1) * size]


def without_zeros(tensor, count, rank):
    return torch.tensor_split(tensor.flatten(), count)[rank]


def every_fourth(tensor, count, rank):
    flat = torch.nn.functional.pad(tensor.flatten(), (0, -tensor.numel() % count))
    return flat[rank::count]


def filled_with_ones(tensor, count, rank):
    flat = torch.nn.functional.pad(tensor.flatten(), (0, -tensor.numel() % count), value=1.0)
    return flat.chunk(count)[rank]


def always_filled(tensor, count, rank):
    size = tensor.numel() // count + 1
    flat = torch.nn.functional.pad(tensor.flatten(), (0, size * count - tensor.numel()))
    return flat[rank * size : (rank + 1) * size]


def in_place(tensor, count, rank):
    part = own_part(tensor, count, rank).clone()
    tensor.zero_() if rank == count - 1 else None
    return part


def choose(plan, wanted, devices):
    for way in plan:
        if way.largest_batch:
            rows = min(way.largest_batch, -(-wanted // devices))
            return way.name, rows, -(-wanted // (rows * devices))
    return "nothing"


def first_that_fits_whole(plan, wanted, devices):
    fitting = [way for way in plan if way.largest_batch >= wanted]
    return (fitting[0].name, wanted, 1) if fitting else "nothing"


def rounded_down(plan, wanted, devices):
    name, rows, _ = choose(plan, wanted, devices)
    return name, rows, wanted // (rows * devices)


def as_many_as_fit(plan, wanted, devices):
    way = next(way for way in plan if way.largest_batch)
    return way.name, way.largest_batch, -(-wanted // (way.largest_batch * devices))


def on_one_device(plan, wanted, devices):
    return choose(plan, wanted, 1)


def with_too_small_batches(plan, wanted, devices):
    name, rows, batches = choose(plan, wanted, devices)
    return name, max(1, rows // devices), batches


SOLUTIONS = {
    nb11.check_tuning_bytes: tuning_bytes,
    nb11.check_accumulated: accumulated,
    nb11.check_best_segment: best_segment,
    nb11.check_own_part: own_part,
    nb11.check_choose: choose,
}

MISTAKES = [
    (nb11.check_tuning_bytes, lambda f, n, p: [4, 4, 8], "one number"),
    (nb11.check_tuning_bytes, lambda f, n, p: 4 * (f + n), "weights alone"),
    (nb11.check_tuning_bytes, lambda f, n, p: 4 * f + 8 * n, "Adam is missing"),
    (nb11.check_tuning_bytes, lambda f, n, p: 4 * f + 12 * n, "One part is missing"),
    (nb11.check_tuning_bytes, lambda f, n, p: 4 * f + 20 * n, "4 + 4 + 8"),
    (nb11.check_tuning_bytes, lambda f, n, p: 16 * (f + n), "no gradient"),
    (nb11.check_tuning_bytes, lambda f, n, p: 8 * f + 16 * n, "nothing else"),
    (nb11.check_tuning_bytes, lambda f, n, p: 4 * f + (16 if p == "fp32" else 14) * n, "master"),
    (nb11.check_tuning_bytes, lambda f, n, p: 4 * f + 16 * n, "not 2"),
    (nb11.check_tuning_bytes, lambda f, n, p: 4 * f + (16 if p == "fp32" else 20) * n, "4 + 8"),
    (
        nb11.check_tuning_bytes,
        lambda f, n, p: 4 * f + (16 if p == "fp32" else 18) * n,
        "two bytes in bfloat16",
    ),
    (
        nb11.check_tuning_bytes,
        lambda f, n, p: tuning_bytes(f, n, p) + (4 * f if p == "bf16" else 0),
        "1,000 frozen",
    ),
    (nb11.check_accumulated, lambda model, batches: [1.0, 2.0], "one number"),
    (nb11.check_accumulated, lambda model, batches: 1.0, "No gradient"),
    (nb11.check_accumulated, in_one_graph, "inside the loop"),
    (nb11.check_accumulated, last_alone, "last batch's gradient"),
    (nb11.check_accumulated, undivided, "gradients of the sum"),
    (nb11.check_accumulated, each_alike, "counts alike"),
    (
        nb11.check_accumulated,
        lambda model, batches: accumulated(model, batches) + accumulated(model, batches),
        "gradients are off",
    ),
    (nb11.check_accumulated, last_loss, "the loss is not"),
    (nb11.check_best_segment, lambda blocks, entry, inside: 0.5, "whole number"),
    (nb11.check_best_segment, lambda blocks, entry, inside: 1, "Both parts count"),
    (nb11.check_best_segment, lambda blocks, entry, inside: 4, "6 segments of 6"),
    (
        nb11.check_best_segment,
        lambda blocks, entry, inside: 6 if entry == 1 else 10,
        "divide the blocks",
    ),
    (nb11.check_best_segment, lambda blocks, entry, inside: 6, "fewer, longer"),
    (
        nb11.check_best_segment,
        lambda blocks, entry, inside: best_segment(blocks, entry, 1),
        "its own segment",
    ),
    (nb11.check_best_segment, any_size, "divide the blocks"),
    (
        nb11.check_best_segment,
        lambda blocks, entry, inside: best_segment(blocks, entry, inside) if blocks > 7 else 3,
        "one segment or seven",
    ),
    (nb11.check_own_part, lambda tensor, count, rank: tensor.tolist(), "one tensor"),
    (nb11.check_own_part, lambda tensor, count, rank: tensor.chunk(count, 1)[0], "flat"),
    (nb11.check_own_part, without_the_rest, "round the length"),
    (nb11.check_own_part, without_zeros, "fill the last"),
    (nb11.check_own_part, lambda tensor, count, rank: tensor.flatten(), "not 10"),
    (nb11.check_own_part, every_fourth, "rank r begins"),
    (nb11.check_own_part, filled_with_ones, "Fill up with zeros"),
    (nb11.check_own_part, in_place, "changes the weight"),
    (nb11.check_own_part, always_filled, "five each"),
    (nb11.check_choose, lambda plan, wanted, devices: "LoRA", "three things"),
    (nb11.check_choose, lambda plan, wanted, devices: (plan[0].name, 1, 16), "first way"),
    (nb11.check_choose, first_that_fits_whole, "earlier way"),
    (nb11.check_choose, lambda plan, wanted, devices: ("QLoRA", 3, 6), "no way of the plan"),
    (
        nb11.check_choose,
        lambda plan, wanted, devices: ("recomputing", wanted, 1),
        "At most three",
    ),
    (nb11.check_choose, rounded_down, "round up"),
    (nb11.check_choose, lambda plan, wanted, devices: ("recomputing", 1, 16), "are enough"),
    (nb11.check_choose, as_many_as_fit, "more than are wanted"),
    (nb11.check_choose, on_one_device, "twelve at once"),
    (nb11.check_choose, with_too_small_batches, "twelve at once"),
    (
        nb11.check_choose,
        lambda plan, wanted, devices: (
            (plan[0].name, wanted, 1) if plan[0].name == "LoRA" else choose(plan, wanted, devices)
        ),
        "four each",
    ),
    (
        nb11.check_choose,
        lambda plan, wanted, devices: (
            choose(plan, wanted, devices) or "nothing" if plan[-1].largest_batch else "LoRA"
        ),
        "nothing fits",
    ),
]
