"""Checkpoints of `training.fit`: a killed run goes on where it was and ends at the same weights.

A file holds all that a run changes. It gets its name when it is whole, so a kill at any moment
leaves whole files only.
"""

import contextlib
import dataclasses
import json
import random
import types
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from . import settings
from .errors import WorkbookError
from .files import atomic_path, exclusive
from .fingerprints import fingerprints
from .processes import Processes

KEPT = 2  # where the last one is damaged, the one before it serves
WATCHING = {"checkpoint", "metric", "on_step", "progress", "save_steps"}  # decide over no weight
DAMAGES = (OSError, ValueError, KeyError, TypeError, SafetensorError)


@dataclasses.dataclass
class RunState:
    """All that a run changes; random numbers of Python, NumPy and PyTorch are read where they are.

    weights    those that learn, in float32, by name; the optimizer has the same ones
    optimizer  with its moments
    schedule   of the learning rate
    generator  of the data order
    history    `training.History`
    best       `training.EarlyStopping`
    """

    weights: dict[str, torch.nn.Parameter]
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    generator: torch.Generator
    history: object
    best: object

    def __post_init__(self):
        self.begin_epoch()

    def begin_epoch(self) -> None:
        """Note where the data order of this epoch begins: a resumed epoch draws it again."""
        self.order = self.generator.get_state()

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the tensors to keep."""
        found = {"order": self.order, "random": torch.get_rng_state()}
        if device := _accelerator():
            found["random of the device"] = device.get_rng_state()
        for name, weight in self.weights.items():
            found[f"weight {name}"] = weight.detach()
            for key, value in self.optimizer.state[weight].items():
                found[f"{key} {name}"] = value
        for name, weight in zip(self.weights, self.best.weights or (), strict=False):
            found[f"best {name}"] = weight
        return {name: tensor.contiguous() for name, tensor in found.items()}

    def numbers(self) -> dict:
        """Return the numbers to keep."""
        return {
            "history": dataclasses.asdict(self.history),
            "moments": sorted({key for held in self.optimizer.state.values() for key in held}),
            "schedule": self.schedule.state_dict(),
            "best": {"loss": self.best.loss, "waited": self.best.waited},
            "python": random.getstate(),
            "numpy": np.random.get_state(legacy=False),
        }

    @torch.no_grad()
    def restore(self, file: safe_open, numbers: dict) -> None:
        """Put back what an opened file and its numbers hold."""
        names, get = set(file.keys()), file.get_tensor
        for name, weight in self.weights.items():
            weight.copy_(get(f"weight {name}"))
            self.optimizer.state[weight] = {
                key: get(f"{key} {name}").to(weight.device)
                for key in numbers["moments"]
                if f"{key} {name}" in names
            }
        if any(name.startswith("best ") for name in names):
            self.best.weights = [get(f"best {n}").to(w.device) for n, w in self.weights.items()]
        if hasattr(self.optimizer, "spread"):
            self.optimizer.spread()  # weights in bfloat16 follow their masters
        self._restore_numbers(numbers)
        self.generator.set_state(get("order"))
        torch.set_rng_state(get("random"))
        if device := _accelerator():
            device.set_rng_state(get("random of the device"))

    def _restore_numbers(self, numbers: dict) -> None:
        vars(self.history).update(numbers["history"])
        vars(self.best).update(numbers["best"])
        self.schedule.load_state_dict(numbers["schedule"])
        for group, lr in zip(self.optimizer.param_groups, self.schedule.get_last_lr(), strict=True):
            group["lr"] = lr
        version, integers, gauss = numbers["python"]
        random.setstate((version, tuple(integers), gauss))
        np.random.set_state(numbers["numpy"])


def _accelerator() -> types.ModuleType | None:
    """Return the torch module of the device, where it draws random numbers of its own."""
    device = settings.device()
    return None if device.type == "cpu" else torch.get_device_module(device)


class Checkpoints:
    """The last two checkpoints of one run, in a folder of its own; without a folder, nothing.

    `request` holds the arguments of the run. Of several processes the main one writes, its random
    numbers too, which all go on with: dropout may then differ from that of an unbroken run.
    """

    def __init__(self, folder: Path | None, save_steps: int, request: dict, team: Processes):
        self.folder = None if folder is None else Path(folder)
        self.save_steps, self.team, self.state = save_steps, team, None
        if self.folder:
            deciding = {name: request[name] for name in request.keys() - WATCHING}
            more = {"precision": settings.precision(), "processes": team.count}
            self.request = fingerprints(deciding | more)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder, so that no two runs write into it, and clear what a kill left there."""
        if self.folder and self.team.is_main:
            with exclusive(self.folder / "step.safetensors"):
                yield
        else:
            yield

    def resume(self, state: RunState) -> int:
        """Bring the state to that of the last checkpoint, if there is one; return its steps.

        Raises WorkbookError, and changes nothing, where it is of another run, and where processes
        find different ones, as on machines without a common folder.
        """
        self.state = state
        opened, numbers = self._last()
        self._check_common(len(numbers["history"]["steps"]) if numbers else 0)
        if numbers:
            self._check(numbers["request"])
            state.restore(opened, numbers)
        return len(state.history.steps)

    def _last(self) -> tuple[safe_open | None, dict | None]:
        """Return the last whole checkpoint, opened, and its numbers, if there is one."""
        for file in reversed(self._files()):
            try:
                opened = safe_open(file, "pt")
                return opened, json.loads(opened.metadata()["run"])
            except DAMAGES:
                print(f"{file} is damaged: the checkpoint before it is used, if there is one.")
        return None, None

    def _check_common(self, steps: int) -> None:
        device = next(iter(self.state.weights.values())).device
        if self.folder and not self.team.agree(steps, device):
            raise WorkbookError(
                f"The processes find different checkpoints in {self.folder}: name a folder that "
                "all machines share."
            )

    def _check(self, request: dict[str, str]) -> None:
        names = self.request.keys() | request.keys()
        differing = sorted(n for n in names if self.request.get(n) != request.get(n))
        if differing:
            raise WorkbookError(
                f"The checkpoint in {self.folder} is of a run with other {', '.join(differing)}: "
                "pass another folder, or delete this one to begin anew."
            )

    def after_step(self) -> None:
        """Save the state where it is time to."""
        if len(self.state.history.steps) % self.save_steps == 0:
            self.save()

    def save(self) -> None:
        """Write the state and delete the oldest. Raises WorkbookError for a full disk."""
        if not (self.folder and self.team.is_main):
            return
        numbers = json.dumps(self.state.numbers() | {"request": self.request}, default=_plain)
        file = self.folder / f"step.{len(self.state.history.steps):06}.safetensors"
        with atomic_path(file) as draft:
            save_file(self.state.tensors(), draft, metadata={"run": numbers})
        for old in self._files()[:-KEPT]:
            old.unlink()

    def _files(self) -> list[Path]:
        """Return the checkpoints, the oldest first."""
        return sorted(self.folder.glob("step.*.safetensors")) if self.folder else []


def _plain(value):
    """Return a metric's arrays and NumPy's numbers as plain lists and numbers."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise WorkbookError(f"{type(value).__name__} cannot be kept: return plain numbers and text.")
