"""The processes that a launcher (torchrun, accelerate) has started to train one model together.

Each has a copy of the model and takes its share of every step's batches (data parallelism). A
batch's loss is divided by the learned tokens of the whole step, so the gradients need only be added
up, and the step is that of one process with all the batches, whatever they hold.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class Processes:
    """How many there are, and which of them this one is, from 0."""

    count: int = 1
    rank: int = 0

    @property
    def is_main(self) -> bool:
        """Tell whether this is the one that writes and prints for all."""
        return self.rank == 0

    def share(self, batches: Sequence[dict]) -> Sequence[dict]:
        """Return the batches that this process takes; none where there are fewer than processes."""
        return batches[self.rank :: self.count]

    def begin_alike(self, model: torch.nn.Module) -> None:
        """Give every process the weights of the main one."""
        if self.count > 1:
            for weight in model.parameters():
                dist.broadcast(weight.data, src=0)

    def add_up(self, weights: Iterable[torch.nn.Parameter]) -> None:
        """Replace each gradient by the sum over the processes; without batches one has zeros."""
        if self.count > 1:
            for weight in weights:
                weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
                dist.all_reduce(weight.grad)

    def total(self, number: float, device: torch.device) -> float:
        """Return the sum of a number over the processes."""
        if self.count == 1:
            return number
        held = torch.tensor(number, dtype=torch.float64, device=device)
        dist.all_reduce(held)
        return held.item()

    def agree(self, number: float, device: torch.device) -> bool:
        """Tell whether every process has the same number; all of them get the same answer."""
        if self.count == 1:
            return True
        held = torch.tensor([number, -number], dtype=torch.float64, device=device)
        dist.all_reduce(held, op=dist.ReduceOp.MAX)
        return held.sum().item() == 0  # the largest is the smallest


def launched() -> Processes:
    """Return what the launcher's variables say; one process without a launcher."""
    return Processes(int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0)))
