"""Speed, memory and result of tuning with `workbook.training.fit` and with TRL's SFTTrainer.

Both tune the embedded model on the same reviews with the same batch size, learning rate, schedule
and clipping, and are judged by the same validation loss. The variants take turns, round by round,
each in a process of its own, so that a machine that slows down slows down all of them.

    python benchmarks/bench_tuning.py [--rounds 3] [--examples 128] [--smoke] [--record]
"""

import argparse
import dataclasses
import datetime
import importlib.metadata
import json
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table
from transformers import AutoTokenizer, TrainerCallback

from workbook import assets, encoding, models, settings, tasks, training

RESULTS = Path(__file__).with_name("results_tuning.json")
BATCH_SIZE, LR, WARMUP, CLIP, SEED = 8, 5e-5, 0.1, 1.0, 0
WARM_UP_STEPS = 2  # the first steps allocate memory and choose kernels: they are not timed
PACKAGES = ("torch", "transformers", "accelerate", "trl")
OURS = "ours"


@dataclasses.dataclass
class Result:
    """What one process measured; the peak is that of the whole process, in GB (10⁹ bytes)."""

    examples_per_second: float
    peak_gb: float
    validation_loss: float | None


def main() -> None:
    """Measure the variants in turns and print the table; record the results after each round."""
    options = parse_options()
    train, validation = reviews(options.examples, options.validation)
    flops = in_new_process(flops_per_example, train)
    rounds = []
    for number in range(1, options.rounds + 1):
        # The seed is the same in each round, so one validation is enough.
        rounds.append(run_round(train, validation if number == 1 else None))
        report = circumstances(options, number) | summarize(rounds, flops)
        if options.record:
            RESULTS.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    show(report)


def run_round(train: list, validation: list | None) -> dict:
    """Return each variant's result by name, and under "matmul" the machine's rates."""
    results = {}
    for name, variant in variants().items():
        results[name] = in_new_process(measure, variant, train, validation)
        print(f"{name}: {results[name]}", file=sys.stderr, flush=True)
    return results | {"matmul": in_new_process(matmul_rates)}


def parse_options() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--examples", type=int, default=128)
    parser.add_argument("--validation", type=int, default=100)
    parser.add_argument("--smoke", action="store_true", help="one round of a few reviews")
    parser.add_argument("--record", action="store_true", help=f"write {RESULTS.name}")
    options = parser.parse_args()
    if options.smoke:
        options.rounds, options.examples, options.validation = 1, 4 * BATCH_SIZE, BATCH_SIZE
    return options


def variants() -> dict[str, str | dict]:
    """Return what to run: for `fit` its precision, for TRL what differs from its defaults.

    TRL's defaults are bfloat16 autocast, gradient checkpointing and the fused AdamW. Its best
    settings use the precision that was measured to be the faster one here, as `fit` does.
    """
    bf16 = settings.working_dtype() == torch.bfloat16
    return {
        OURS: "bf16" if bf16 else "fp32",
        f"{OURS}, fp32" if bf16 else f"{OURS}, bf16": "fp32" if bf16 else "bf16",
        "TRL, out of the box": {},
        "TRL, fp32": {"bf16": False},
        "TRL, best settings": {
            "bf16": bf16,
            "gradient_checkpointing": False,
            "train_sampling_strategy": "group_by_length",
        },
    }


def reviews(train: int, validation: int) -> tuple[list, list]:
    """Return so many rendered training and validation pairs of the two-label review task."""
    task = tasks.load_task("sentiment")
    wanted = {"train": train, "validation": validation}
    drawn = [tasks.draw(task.splits[split], n, seed=SEED) for split, n in wanted.items()]
    return tuple([tuple(task.template().render(row)) for row in rows] for rows in drawn)


def in_new_process(function, *arguments):
    """Return what the function returns in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def measure(variant: str | dict, train: list, validation: list | None) -> Result:
    """Tune a fresh model as the variant says and return speed, peak memory and validation loss.

    The speed is that of tokens, pads left out, divided by the tokens of a mean review, because
    the untimed steps take longer reviews in one variant than in another.
    """
    tune = tune_with_trl if isinstance(variant, dict) else tune_with_fit
    model, steps = tune(variant, train)
    (start, before), (end, after) = steps[WARM_UP_STEPS - 1], steps[-1]
    rate = (after - before) / (end - start) * len(train) / after
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak *= 1 if platform.system() == "Darwin" else 1024
    return Result(rate, peak / 1e9, validation and validation_loss(model, validation))


def tune_with_fit(precision: str, pairs: list) -> tuple[torch.nn.Module, list[tuple]]:
    """Return the model tuned by `fit`, and seconds and tokens seen at the end of each step."""
    os.environ["WORKBOOK_PRECISION"] = precision
    model, tokenizer = models.load()
    examples = encoding.encode_pairs(tokenizer, pairs)
    steps = []
    training.fit(
        model, examples, batch_size=BATCH_SIZE, lr=LR, warmup_ratio=WARMUP,
        max_grad_norm=CLIP, seed=SEED,
        on_step=lambda history: steps.append((time.perf_counter(), history.tokens)),
        progress=False,
    )  # fmt: skip
    return model, steps


class Clock(TrainerCallback):
    """Notes seconds and tokens seen at the end of each step of a Hugging Face trainer."""

    def __init__(self):
        self.steps = []

    def on_step_end(self, args, state, control, **kwargs):
        """Note them."""
        self.steps.append((time.perf_counter(), int(state.num_input_tokens_seen)))


def tune_with_trl(options: dict, pairs: list) -> tuple[torch.nn.Module, list[tuple]]:
    """Return the model tuned by SFTTrainer, and seconds and tokens seen after each step.

    Beyond the training settings only what a CPU needs is set, and logs and checkpoints are off.
    """
    import trl
    from datasets import Dataset

    tokenizer = AutoTokenizer.from_pretrained(assets.model_dir())
    rows = [{"prompt": encoding.format_prompt(tokenizer, p), "completion": c} for p, c in pairs]
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        config = trl.SFTConfig(
            folder, use_cpu=True, num_train_epochs=1, per_device_train_batch_size=BATCH_SIZE,
            learning_rate=LR, lr_scheduler_type="linear", warmup_steps=WARMUP, max_grad_norm=CLIP,
            weight_decay=0.0, seed=SEED, save_strategy="no", report_to="none", disable_tqdm=True,
            include_num_input_tokens_seen="non_padding", **options,
        )  # fmt: skip
        trainer = trl.SFTTrainer(
            str(assets.model_dir()), config, train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer, callbacks=[clock],
        )  # fmt: skip
        trainer.train()
    return trainer.model, clock.steps


def validation_loss(tuned: torch.nn.Module, pairs: list) -> float:
    """Return the float32 loss (nats per learned token) of the tuned weights in a plain model.

    TRL changes how its model computes, so the weights are read into a fresh one.
    """
    model, tokenizer = models.load()
    model.load_state_dict(tuned.state_dict())
    return training.evaluate_loss(model, encoding.encode_pairs(tokenizer, pairs))


def matmul_rates(size: int = 2048, repeats: int = 12) -> dict[str, float]:
    """Return the machine's rate of square matrix products (GFLOP/s) in both number formats."""
    return {
        name: 2 * size**3 / product_seconds(size, dtype, repeats) / 1e9
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))
    }


def product_seconds(size: int, dtype: torch.dtype, repeats: int) -> float:
    """Return the median seconds of a product after two that warm up."""
    left, right = torch.randn(2, size, size).to(dtype)
    seconds = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        left @ right
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[2:])


def flops_per_example(pairs: list) -> float:
    """Return the mean floating-point operations that training on a pair takes at least.

    Six for each weight and token outside the embedding (Kaplan et al. 2020, 2001.08361), and six
    for each output weight and learned token; pads and attention scores are left out.
    """
    model, tokenizer = models.load()
    examples = encoding.encode_pairs(tokenizer, pairs)
    tokens = statistics.mean(len(example["labels"]) for example in examples)
    learned = statistics.mean(
        sum(label != encoding.IGNORE_INDEX for label in example["labels"]) for example in examples
    )
    output = model.get_output_embeddings().weight.numel()
    return 6 * ((models.count_parameters(model).total - output) * tokens + output * learned)


def spread(values: list[float]) -> dict[str, float]:
    """Return the median, least and greatest value."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def summarize(rounds: list[dict], flops: float) -> dict:
    """Return the spreads over the rounds, with ratios and shares taken within each round."""
    steps = [row[OURS].examples_per_second * flops / 1e9 for row in rounds]
    rates = {name: [row["matmul"][name] for row in rounds] for name in rounds[0]["matmul"]}
    return {
        "variants": {name: summary(rounds, name) for name in rounds[0] if name != "matmul"},
        "matmul_gflops": {name: spread(values) for name, values in rates.items()},
        "step_gflops": spread(steps),
        "step_share": {name: spread(ratios(steps, values)) for name, values in rates.items()},
    }


def ratios(numerators: list[float], denominators: list[float]) -> list[float]:
    """Return the quotients of the pairs."""
    return [a / b for a, b in zip(numerators, denominators, strict=True)]


def summary(rounds: list[dict], name: str) -> dict:
    """Return one variant's speed, peak memory, validation loss, and how much faster ours is."""
    speed = [row[name].examples_per_second for row in rounds]
    ours = [row[OURS].examples_per_second for row in rounds]
    return {
        "examples_per_second": spread(speed),
        "ours_is_faster_by": spread(ratios(ours, speed)),
        "peak_gb": spread([row[name].peak_gb for row in rounds]),
        "validation_loss": rounds[0][name].validation_loss,
    }


def circumstances(options: argparse.Namespace, rounds: int) -> dict:
    """Return what the numbers depend on: settings, machine class, versions and date."""
    told = {
        "examples": options.examples, "validation": options.validation,
        "rounds": rounds, "batch_size": BATCH_SIZE, "lr": LR, "warmup": WARMUP,
        "clip": CLIP, "untimed_steps": WARM_UP_STEPS,
    }  # fmt: skip
    return circumstances_of(PACKAGES, told) | {"chosen_precision": settings.precision()}


def circumstances_of(packages: tuple[str, ...], told: dict) -> dict:
    """Return the settings, the class of the machine, versions and the date."""
    return {
        "settings": told,
        "machine": f"{os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}, "
        f"{torch.get_num_threads()} threads",
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in packages},
        "made": datetime.date.today().isoformat(),
    }


def show(report: dict) -> None:
    """Print the table and the machine's rates as Markdown."""
    table = Table("variant", "reviews/s", "ours is faster by", "peak GB", "loss", box=MARKDOWN)
    for name, row in report["variants"].items():
        table.add_row(*cells(name, row))
    console = Console(width=120)
    console.print(table)
    for name in report["matmul_gflops"]:
        console.print(rate_sentence(report, name) + "\n")


def cells(name: str, row: dict) -> tuple[str, ...]:
    """Return a variant's row of the table."""
    return (
        name,
        legible(row["examples_per_second"]),
        legible(row["ours_is_faster_by"], "×"),
        f"{row['peak_gb']['median']:.1f}",
        f"{row['validation_loss']:.3f}",
    )


def rate_sentence(report: dict, name: str) -> str:
    """Return how fast the machine multiplies in a number format and what share our step reaches."""
    rate = legible(report["matmul_gflops"][name])
    share = legible({key: 100 * v for key, v in report["step_share"][name].items()}, " %")
    return f"Matrix products in {name}: {rate} GFLOP/s; our step reaches {share} of it."


def legible(values: dict[str, float], unit: str = "") -> str:
    """Return the median with the range in brackets."""
    digits = 0 if values["median"] >= 10 else 2
    median, least, most = (f"{values[key]:.{digits}f}" for key in ("median", "min", "max"))
    return f"{median}{unit} ({least}–{most})"


if __name__ == "__main__":
    main()
