"""One readable training loop (written on the page in notebook 03) and what it needs."""

import contextlib
import ctypes
import dataclasses
import gc
import itertools
import math
import os
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tqdm.auto import tqdm
from transformers import get_scheduler

from . import models, processes, settings
from .checkpoints import Checkpoints, RunState
from .encoding import IGNORE_INDEX, check_batch_size, collate, length_grouped_batches
from .errors import WorkbookError

LARGE_VOCABULARY = 2**16  # words: from here on, logits that nothing learns from cost too much

# Called with the learning float32 weights by name, when the backward pass has filled their .grad.
Regularizer = Callable[[dict[str, torch.nn.Parameter]], float]
# Called with the model and a batch; returns the sum over the tokens that the batch learns from.
Loss = Callable[[torch.nn.Module, dict[str, torch.Tensor]], torch.Tensor]


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
        self.spread()

    @torch.no_grad()
    def spread(self) -> None:
        """Round the copies to the working weights."""
        torch._foreach_copy_(self.working, self.masters)

    def zero_grad(self, set_to_none: bool = True):
        """Clear the gradients of the copies and of the working weights."""
        super().zero_grad(set_to_none=True)  # the float32 gradients would only take memory
        for weight in self.working:
            weight.grad = None


@contextlib.contextmanager
def working_precision(model: torch.nn.Module, lr: float, weight_decay: float):
    """Yield an AdamW for the model in working precision; on leaving, its weights are float32.

    With float32 the weights learn as they are, those of a model loaded in a lower precision after a
    cast, since they would round small updates away. With bfloat16 the model is cast and the
    updates go to master weights. Whatever ends the block, no weight stays in bfloat16.
    """
    options = {"lr": lr, "weight_decay": weight_decay, "fused": True}
    dtype, learning = settings.working_dtype(), list(models.learning_weights(model).values())
    kept, optimizer = {}, None
    try:
        if dtype != torch.float32:
            optimizer = MasterAdamW(learning, **options)
            kept = {p: p.data for p in model.parameters()}
            kept |= {p: m.data for p, m in zip(learning, optimizer.masters, strict=True)}
        models.cast_weights(model, dtype)
        optimizer = optimizer or torch.optim.AdamW(learning, **options)
        yield optimizer
    finally:
        for weight, data in kept.items():  # frozen ones are bit for bit what they were
            weight.data = data
        models.cast_weights(model, torch.float32)
        if optimizer:
            optimizer.state.clear()  # a gigabyte, which the traceback of an interrupt would keep


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
    """Return the mean loss per learned token (nats) over the examples.

    The model is in evaluation mode afterwards. Raises WorkbookError for no examples, for some that
    are longer than the model's context, and for a batch size below 1.
    """
    if not examples:
        raise WorkbookError("There is nothing to measure the loss of: pass at least one example.")
    check_batch_size(batch_size)
    check_examples(model, examples)
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

    model: torch.nn.Module
    backward: Callable[[torch.Tensor], None]
    clip_grad_norm: Callable[..., torch.Tensor]
    weights: dict[str, torch.nn.Parameter]
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    loss: Loss
    regularizers: Sequence[Regularizer]
    max_grad_norm: float
    team: processes.Processes

    def step(self, batches: Sequence[dict]) -> dict:
        """Learn from the batches in one update and return its loss, penalty and gradient norm.

        The loss is the mean over all learned tokens of the step, however they are split into
        batches. Raises WorkbookError, and changes no weight, if loss or gradient is not finite.
        """
        self.model.train()  # a callback may have left it in evaluation mode, or gradients behind
        self.optimizer.zero_grad()
        loss = self._add_gradients(batches)
        if isinstance(self.optimizer, MasterAdamW):
            self.optimizer.collect()
        self.team.add_up(self.weights.values())
        penalty = sum(regularizer(self.weights) for regularizer in self.regularizers)
        norm = float(self.clip_grad_norm(list(self.weights.values()), self.max_grad_norm))
        _check_finite(norm)
        lr = self.schedule.get_last_lr()[0]
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        return {"loss": loss, "penalty": float(penalty), "grad_norm": norm, "lr": lr}

    def _add_gradients(self, batches: Sequence[dict]) -> float:
        """Fill the gradients and return the loss."""
        device = next(self.model.parameters()).device
        count = sum(label_count(batch) for batch in batches)
        loss = 0.0
        for batch in self.team.share(batches):
            part = self.loss(self.model, to_device(batch, device)) / count
            self.backward(part)
            loss += part.item()
        loss = self.team.total(loss, device)
        _check_finite(loss)
        return loss


def _check_finite(number: float) -> None:
    if not math.isfinite(number):
        raise WorkbookError(
            "The loss is not a finite number: lower the learning rate or look for broken rows."
        )


@contextlib.contextmanager
def _as_launched(model: torch.nn.Module) -> Iterator[tuple]:
    """Yield the model, backward pass and clipping that a launcher (torchrun, accelerate) wants.

    Without a launcher they are PyTorch's own. An Accelerator would follow ACCELERATE_… variables
    that somebody once set, and the settings of any other one in this process.
    """
    if not {"RANK", "WORLD_SIZE"} & os.environ.keys():
        yield model, torch.Tensor.backward, torch.nn.utils.clip_grad_norm_
        return
    from accelerate import Accelerator
    from accelerate.utils import GradientAccumulationPlugin

    accelerator = Accelerator(
        cpu=settings.device().type == "cpu",
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),  # a step does it
    )
    _check_not_sharded(accelerator)
    untouched = dict(vars(model))
    try:
        # Not wrapped for data parallelism: a step adds up the gradients, weighted by tokens.
        wrapped = accelerator.prepare_model(model, evaluation_mode=True)
        processes.launched().begin_alike(model)
        yield wrapped, accelerator.backward, accelerator.clip_grad_norm_
    finally:
        vars(model).clear()  # mixed precision puts another `forward` there
        vars(model).update(untouched)


def _check_not_sharded(accelerator) -> None:
    kind = accelerator.distributed_type.value
    if kind not in ("NO", "MULTI_CPU", "MULTI_GPU"):
        raise WorkbookError(
            f"fit shares out batches, not weights, and the launcher asks for {kind}: turn it off, "
            "or tune with TRL's SFTTrainer."
        )


@contextlib.contextmanager
def _left_clean(model: torch.nn.Module) -> Iterator[None]:
    """Begin and end without gradients, end in evaluation mode and with memory given back.

    Gradients that an interrupted run left behind would enter the next one.
    """
    model.zero_grad()
    release_memory()  # the allocator still holds what was freed: it would add to the peak
    try:
        yield
    finally:
        model.zero_grad()
        model.eval()
        release_memory()


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
    max_steps: int | None = None,
    batch_size: int = 8,
    lr: float = 2e-5,
    lr_scheduler_type: str = "linear",
    warmup_ratio: float = 0.1,
    weight_decay: float = 0.0,
    max_grad_norm: float = 1.0,
    gradient_accumulation_steps: int = 1,
    seed: int = 0,
    validation: Sequence[dict] | None = None,
    metric: Callable[[torch.nn.Module], dict] | None = None,
    patience: int | None = None,
    loss: Loss = completion_loss,
    regularizers: Sequence[Regularizer] = (),
    on_step: Callable[[History], None] | None = None,
    progress: bool = True,
    checkpoint: Path | None = None,
    save_steps: int = 50,
) -> History:
    """Tune the model on encoded examples and return the history; the model changes in place.

    Only parameters with `requires_grad` learn. Whatever ends the run, also an interrupt or an error
    in a callback, the model is left in evaluation mode, without gradients, and with float32
    weights: those of the last step. A model loaded in a lower precision is cast to float32, so
    that it moves as far as one loaded in it. Taught in notebook 03.

    epochs              passes over the examples, each in length-grouped batches of its own order
    max_steps           steps after which to stop, in place of `epochs`: passes go on until then
    batch_size          examples whose gradients are computed at once
    lr                  the highest learning rate
    lr_scheduler_type   "linear" (the rate falls to zero) or another of Transformers' schedules,
                        such as "constant_with_warmup"
    warmup_ratio        share of the steps in which the rate rises
    weight_decay        AdamW's
    max_grad_norm       longer gradients are shortened to this length
    gradient_accumulation_steps  batches a step
    seed                decides the order of the examples, and dropout
    validation          examples whose loss (nats per learned token) is measured after each epoch
    metric              called with the model after each epoch; its results join the history
    patience            epochs without a lower validation loss after which training stops, and the
                        best weights come back
    loss                what is minimized: a sum over the tokens that a batch learns from
    regularizers        called after the backward pass with the learning float32 weights by name;
                        each adds its gradient to their `.grad` and returns its value
    on_step             called with the history after each step; it only watches
    progress            show a progress bar
    checkpoint          a folder of this run's own: a killed run that is called again goes on from
                        the last checkpoint there, and ends at the same weights bit for bit; several
                        machines must share it
    save_steps          steps from one checkpoint to the next; the last two are kept

    Under a launcher (torchrun, accelerate) each process takes its share of the batches, and a step
    learns from so many times more; outside of one no setting of Accelerate has a say.
    Raises WorkbookError for a request that makes no run: no examples, some longer than the model's
    context, nothing that learns, a count below 1, `patience` without `validation`; and when the
    loss or its gradient stops being a number.
    """
    request = dict(locals())  # what makes a run another one
    counts = {
        "epochs": epochs, "max_steps": max_steps, "batch_size": batch_size, "patience": patience,
        "gradient_accumulation_steps": gradient_accumulation_steps, "save_steps": save_steps,
    }  # fmt: skip
    _check_request(model, examples, validation, counts)
    team = processes.launched()
    checkpoints = Checkpoints(checkpoint, save_steps, request, team)
    generator = seed_everything(seed)
    batches_a_step = gradient_accumulation_steps * team.count
    steps_an_epoch = math.ceil(len(examples) / (batch_size * batches_a_step))
    total = max_steps or epochs * steps_an_epoch
    history = History()
    with (
        _left_clean(model),
        _as_launched(model) as (wrapped, backward, clip_grad_norm),
        working_precision(model, lr, weight_decay) as optimizer,
        checkpoints.held(),
        tqdm(total=total, disable=not (progress and team.is_main), unit="step", leave=False) as bar,
    ):
        weights = _master_weights(model, optimizer)
        best = EarlyStopping(list(weights.values()), patience)
        warmup = round(warmup_ratio * total)
        schedule = get_scheduler(lr_scheduler_type, optimizer, warmup, total)
        trainer = Trainer(
            wrapped, backward, clip_grad_norm, weights, optimizer, schedule,
            loss, regularizers, max_grad_norm, team,
        )  # fmt: skip
        state = RunState(weights, optimizer, schedule, generator, history, best)
        bar.update(checkpoints.resume(state))
        for epoch in range(len(history.epochs) + 1, math.ceil(total / steps_an_epoch) + 1):
            if best.ran_out:  # in a finished run
                break
            state.begin_epoch()
            stream = batches_of(examples, batch_size, generator)
            groups = grouped(stream, batches_a_step)
            done = len(history.steps) - (epoch - 1) * steps_an_epoch  # before a kill
            left = total - len(history.steps)
            groups = itertools.islice(groups, done, done + left)
            _train_epoch(trainer, groups, history, bar, on_step, checkpoints)
            history.epochs.append({"epoch": epoch} | _measure(model, history, validation, metric))
            if best.should_stop(history.epochs[-1]):
                break
        checkpoints.save()
        best.restore()
    return history


def _check_request(model, examples, validation, counts: dict[str, int | None]) -> None:
    """Raise WorkbookError for what no run can be made of."""
    if not examples:
        raise WorkbookError("There is nothing to learn from: pass at least one example.")
    if counts["patience"] is not None and not validation:
        raise WorkbookError("Early stopping needs a validation set: pass validation=.")
    for name, count in counts.items():
        if count is not None and count < 1:
            raise WorkbookError(f"{name} is {count}: choose at least 1.")
    check_examples(model, (*examples, *(validation or ())))
    models.learning_weights(model)
    models.check_causal(model)


def check_examples(model: torch.nn.Module, examples: Sequence[dict]) -> None:
    """Raise WorkbookError for an example longer than the model's context or with unknown tokens."""
    models.check_ids(model, max(max(example["input_ids"]) for example in examples))
    longest = max(len(example["labels"]) for example in examples)
    limit = models.context_length(model)
    if longest > limit:
        raise WorkbookError(
            f"An example has {longest} tokens and the model reads {limit}: shorten it, or encode "
            f"with max_length={limit} and truncate=True."
        )


def _master_weights(model, optimizer) -> dict[str, torch.nn.Parameter]:
    """Return what the optimizer updates by name: float32 weights in either precision."""
    return dict(
        zip(models.learning_weights(model), optimizer.param_groups[0]["params"], strict=True)
    )


def _train_epoch(trainer, groups, history, bar, on_step, checkpoints) -> None:
    """Run one epoch's steps, writing each into the history and onto the progress bar."""
    for batches in groups:
        start = time.perf_counter()
        row = trainer.step(batches)
        history.seconds += time.perf_counter() - start
        history.tokens += sum(int(batch["attention_mask"].sum()) for batch in batches)
        history.steps.append({"step": len(history.steps) + 1, **row})
        checkpoints.after_step()
        bar.update()
        bar.set_postfix_str(f"loss {row['loss']:.3f}, {history.tokens_per_second:.0f} tokens/s")
        if on_step:
            # What only watches must not change the run: its random numbers are its own.
            with torch.random.fork_rng(range(torch.cuda.device_count())):
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

    @property
    def ran_out(self) -> bool:
        """Tell whether patience has run out."""
        return self.patience is not None and self.waited >= self.patience

    def should_stop(self, row: dict) -> bool:
        """Note the epoch's result and tell whether patience has run out."""
        if self.patience is None:
            return False
        self.waited += 1
        if row["validation_loss"] < self.loss:
            self.loss, self.waited = row["validation_loss"], 0
            self.weights = [parameter.detach().clone() for parameter in self.parameters]
        return self.ran_out

    @torch.no_grad()
    def restore(self) -> None:
        """Put the best weights back, if any were kept."""
        if self.weights:
            torch._foreach_copy_(list(self.parameters), self.weights)
            self.weights = None
