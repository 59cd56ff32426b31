"""One readable training loop (written on the page in notebook 03) and what it needs."""

import contextlib
import ctypes
import dataclasses
import gc
import math
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from tqdm.auto import tqdm
from transformers import get_linear_schedule_with_warmup

from . import models, settings
from .encoding import IGNORE_INDEX, collate, length_grouped_batches
from .errors import WorkbookError

LARGE_VOCABULARY = 2**16  # words: from here on, logits that nothing learns from cost too much

# Called with the learning float32 weights by name, when the backward pass has filled their .grad.
Regularizer = Callable[[dict[str, torch.nn.Parameter]], float]


@dataclasses.dataclass
class History:
    """What a training run measured: a row a step, a row an epoch, seconds and tokens in all."""

    steps: list[dict] = dataclasses.field(default_factory=list)
    epochs: list[dict] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    tokens: int = 0

    @property
    def tokens_per_second(self) -> float:
        """Return the training speed, prompt tokens included, validation left out."""
        return self.tokens / max(self.seconds, 1e-9)


def seed_everything(seed: int) -> torch.Generator:
    """Seed Python, NumPy and PyTorch and return a generator of its own for the data order."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return torch.Generator().manual_seed(seed)


def select_trainable(model: torch.nn.Module, pattern: str) -> int:
    """Let only parameters whose name matches the regular expression learn; return their number.

    Raises WorkbookError if no name matches.
    """
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(bool(re.search(pattern, name)))
    count = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if count == 0:
        raise WorkbookError(f"No parameter matches {pattern!r}: see model.named_parameters().")
    return count


class MasterAdamW(torch.optim.AdamW):
    """AdamW on float32 masters of low-precision weights (Micikevicius et al. 2018, 1710.03740).

    The forward and backward pass run on the low-precision weights; small updates, which they would
    round away, add up in the copies, and the result is copied back.
    """

    def __init__(self, parameters: Sequence[torch.nn.Parameter], **options):
        self.working = list(parameters)
        # Weights that are float32 still, before they are cast, become the masters without a copy.
        masters = [p.detach().float().requires_grad_() for p in self.working]
        super().__init__(masters, **options)

    @property
    def masters(self) -> list[torch.nn.Parameter]:
        """Return the float32 copies in the order of the working weights."""
        return self.param_groups[0]["params"]

    @torch.no_grad()
    def collect(self) -> None:
        """Move the working weights' gradients to the copies, where float32 keeps what is added."""
        for master, weight in zip(self.masters, self.working, strict=True):
            if weight.grad is not None:
                master.grad, weight.grad = weight.grad.float(), None

    @torch.no_grad()
    def step(self, closure=None):
        """Update the copies from the gradients, and the working weights from the copies."""
        self.collect()
        super().step(closure)
        torch._foreach_copy_(self.working, self.masters)

    def zero_grad(self, set_to_none: bool = True):
        """Clear the gradients of the copies and of the working weights."""
        super().zero_grad(set_to_none=True)  # the float32 gradients would only take memory
        for weight in self.working:
            weight.grad = None


@contextlib.contextmanager
def working_precision(model: torch.nn.Module, lr: float, weight_decay: float):
    """Yield an AdamW for the model in working precision; on leaving, its weights are float32.

    With float32 the model is used as it is; with bfloat16 it is cast, and the master weights
    are written back at the end, also after an interruption.
    """
    dtype = settings.working_dtype()
    options = {"lr": lr, "weight_decay": weight_decay, "fused": True}
    parameters = [p for p in model.parameters() if p.requires_grad]
    if dtype == torch.float32:
        yield torch.optim.AdamW(parameters, **options)
        return
    optimizer = MasterAdamW(parameters, **options)
    before = models.cast_weights(model, dtype)
    try:
        yield optimizer
    finally:
        for name, parameter in model.named_parameters():
            parameter.data = before[name].float()  # frozen ones are bit for bit what they were
        for parameter, master in zip(parameters, optimizer.masters, strict=True):
            parameter.data = master.detach()


def completion_loss(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the summed cross-entropy (nats) of the batch's labels.

    Logits are computed only at positions that some row learns from: with 49,152 words in the
    vocabulary and two-token completions this saves a third of the time. Of a larger vocabulary
    each row computes its own positions only. Positions count from the end of the row, so a soft
    prompt put before the text does not shift them.
    """
    targets = batch["labels"][:, 1:]  # [rows, tokens - 1]
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    if models.vocabulary_size(model) > LARGE_VOCABULARY:
        rows, places = (targets != IGNORE_INDEX).nonzero(as_tuple=True)
        positions = places - batch["labels"].shape[1]
        logits = models.logits_at(model, rows, positions, **inputs, use_cache=False)
        return F.cross_entropy(logits.float(), targets[rows, places], reduction="sum")
    learned = (targets != IGNORE_INDEX).any(dim=0).nonzero().squeeze(1)
    positions = learned - batch["labels"].shape[1]
    logits = model(**inputs, logits_to_keep=positions, use_cache=False).logits
    wanted = targets[:, learned]
    return F.cross_entropy(logits.float().flatten(0, 1), wanted.flatten(), reduction="sum")


def label_count(batch: dict[str, torch.Tensor]) -> int:
    """Return the number of tokens that the batch learns from."""
    return int((batch["labels"][:, 1:] != IGNORE_INDEX).sum())


def to_device(batch: dict[str, torch.Tensor], device) -> dict[str, torch.Tensor]:
    """Return the batch with its tensors on the device."""
    return {name: tensor.to(device) for name, tensor in batch.items()}


@torch.no_grad()
def evaluate_loss(model, examples: Sequence[dict], batch_size: int = 16) -> float:
    """Return the mean loss per learned token (nats) over the examples."""
    model.eval()
    device = next(model.parameters()).device
    order = sorted(range(len(examples)), key=lambda i: len(examples[i]["labels"]))
    total, count = 0.0, 0
    for start in range(0, len(order), batch_size):
        rows = [examples[i] for i in order[start : start + batch_size]]
        batch = to_device(collate(rows), device)
        total += completion_loss(model, batch).item()
        count += label_count(batch)
    return total / count


def batches_of(
    examples: Sequence[dict], batch_size: int, generator: torch.Generator
) -> Iterator[dict[str, torch.Tensor]]:
    """Yield one epoch of length-grouped, collated batches."""
    lengths = [len(example["labels"]) for example in examples]
    for rows in length_grouped_batches(lengths, batch_size, generator):
        yield collate([examples[i] for i in rows])


def grouped(batches: Iterator[dict], size: int) -> Iterator[list[dict]]:
    """Yield lists of `size` batches, the last one shorter: one list an optimizer step."""
    group = []
    for batch in batches:
        group.append(batch)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


@dataclasses.dataclass
class Trainer:
    """The parts of a run that each step needs; `step` is the loop body of notebook 03."""

    accelerator: Accelerator
    model: torch.nn.Module
    weights: dict[str, torch.nn.Parameter]
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    regularizers: Sequence[Regularizer]
    max_grad_norm: float

    def step(self, batches: Sequence[dict]) -> dict:
        """Learn from the batches in one update and return its loss, penalty and gradient norm.

        The loss is the mean over all learned tokens of the step, however they are split into
        batches. Raises WorkbookError if it is not a finite number.
        """
        count = sum(label_count(batch) for batch in batches)
        loss = 0.0
        for batch in batches:
            part = completion_loss(self.model, to_device(batch, self.accelerator.device)) / count
            self.accelerator.backward(part)
            loss += part.item()
        if not math.isfinite(loss):
            raise WorkbookError(
                "The loss is not a finite number: lower the learning rate or look for broken rows."
            )
        if isinstance(self.optimizer, MasterAdamW):
            self.optimizer.collect()
        penalty = sum(regularizer(self.weights) for regularizer in self.regularizers)
        norm = float(
            self.accelerator.clip_grad_norm_(list(self.weights.values()), self.max_grad_norm)
        )
        lr = self.schedule.get_last_lr()[0]
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        return {"loss": loss, "penalty": float(penalty), "grad_norm": norm, "lr": lr}


def release_memory() -> None:
    """Collect what nothing refers to and give it back to the system at once."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError, TypeError):  # glibc only
        ctypes.CDLL(None).malloc_trim(0)


def fit(
    model: torch.nn.Module,
    examples: Sequence[dict],
    *,
    epochs: int = 1,
    batch_size: int = 8,
    lr: float = 2e-5,
    warmup_ratio: float = 0.1,
    weight_decay: float = 0.0,
    max_grad_norm: float = 1.0,
    gradient_accumulation_steps: int = 1,
    seed: int = 0,
    validation: Sequence[dict] | None = None,
    metric: Callable[[torch.nn.Module], dict] | None = None,
    patience: int | None = None,
    regularizers: Sequence[Regularizer] = (),
    on_step: Callable[[History], None] | None = None,
    progress: bool = True,
) -> History:
    """Tune the model on encoded examples and return the history; the model changes in place.

    Each epoch sees every example once, in length-grouped batches; the learning rate rises over the
    first `warmup_ratio` share of the steps and then falls linearly to zero. Only parameters with
    `requires_grad` learn. After each epoch the validation loss (nats per learned token) and
    `metric(model)` are measured; with `patience`, training stops after that many epochs without a
    lower validation loss and the best weights come back. A regularizer is called after the
    backward pass with the learning float32 weights by name; it adds its gradient to their `.grad`
    and returns its value. Raises WorkbookError for no examples, for `patience` without
    `validation`, and when the loss stops being a number. Taught in notebook 03.
    """
    if not examples:
        raise WorkbookError("There is nothing to learn from: pass at least one example.")
    if patience is not None and not validation:
        raise WorkbookError("Early stopping needs a validation set: pass validation=.")
    release_memory()  # the allocator still holds what was freed: it would add to the peak
    generator = seed_everything(seed)
    batches_an_epoch = math.ceil(len(examples) / batch_size)
    total = epochs * math.ceil(batches_an_epoch / gradient_accumulation_steps)
    history = History()
    accelerator = Accelerator(cpu=settings.device().type == "cpu")
    with working_precision(model, lr, weight_decay) as optimizer:
        weights = _learning_weights(model, optimizer)
        best = EarlyStopping(list(weights.values()), patience)
        schedule = get_linear_schedule_with_warmup(optimizer, round(warmup_ratio * total), total)
        trainer = Trainer(
            accelerator, accelerator.prepare(model), weights, optimizer, schedule,
            regularizers, max_grad_norm,
        )  # fmt: skip
        with tqdm(total=total, disable=not progress, unit="step", leave=False) as bar:
            for epoch in range(1, epochs + 1):
                stream = batches_of(examples, batch_size, generator)
                _train_epoch(
                    trainer, grouped(stream, gradient_accumulation_steps), history, bar, on_step
                )
                history.epochs.append(
                    {"epoch": epoch} | _measure(model, history, validation, metric)
                )
                if best.should_stop(history.epochs[-1]):
                    break
        best.restore()
    # Cycles keep the optimizer's gigabyte alive until they are collected: it would add to the next.
    del trainer, optimizer, schedule, accelerator, best, weights
    release_memory()
    model.eval()
    return history


def _learning_weights(model, optimizer) -> dict[str, torch.nn.Parameter]:
    """Return what the optimizer updates by name: float32 weights in either precision."""
    names = [name for name, weight in model.named_parameters() if weight.requires_grad]
    return dict(zip(names, optimizer.param_groups[0]["params"], strict=True))


def _train_epoch(trainer, groups, history, bar, on_step) -> None:
    """Run one epoch's steps, writing each into the history and onto the progress bar."""
    trainer.model.train()
    for batches in groups:
        start = time.perf_counter()
        row = trainer.step(batches)
        history.seconds += time.perf_counter() - start
        history.tokens += sum(int(batch["attention_mask"].sum()) for batch in batches)
        history.steps.append({"step": len(history.steps) + 1, **row})
        bar.update()
        bar.set_postfix_str(f"loss {row['loss']:.3f}, {history.tokens_per_second:.0f} tokens/s")
        if on_step:
            on_step(history)


def _measure(model, history, validation, metric) -> dict:
    """Return the epoch's mean training loss, validation loss and metric, as far as asked for."""
    seen = sum(row.get("steps", 0) for row in history.epochs)
    losses = [row["loss"] for row in history.steps[seen:]]
    row = {"steps": len(losses), "train_loss": float(np.mean(losses))}
    if validation:
        row["validation_loss"] = evaluate_loss(model, validation)
    return row | (metric(model) if metric else {})


class EarlyStopping:
    """Keeps the float32 weights of the epoch with the lowest validation loss."""

    def __init__(self, parameters: Sequence[torch.Tensor], patience: int | None):
        self.parameters, self.patience = parameters, patience
        self.loss, self.waited, self.weights = math.inf, 0, None

    def should_stop(self, row: dict) -> bool:
        """Note the epoch's result and tell whether patience has run out."""
        if self.patience is None:
            return False
        self.waited += 1
        if row["validation_loss"] < self.loss:
            self.loss, self.waited = row["validation_loss"], 0
            self.weights = [parameter.detach().clone() for parameter in self.parameters]
        return self.waited >= self.patience

    @torch.no_grad()
    def restore(self) -> None:
        """Put the best weights back, if any were kept."""
        if self.weights:
            torch._foreach_copy_(list(self.parameters), self.weights)
