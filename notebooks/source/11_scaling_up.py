# %% [markdown] slide="slide" minutes=2
# # 11 Scaling up
#
# You predict the memory of a training step, measure it, and bring it down one technique at a time, until
# you can say what a model of 7 or 70 billion weights needs before you rent anything.

# %% [markdown] slide="notes"
# Ask first: the model of this course takes half a gigabyte. How much does tuning all of its weights take,
# one, two or four times as much? Collect guesses, and keep them for the first measurement.

# %% [markdown]
# **Objectives.** Afterwards you can
#
# - say which parts a training step keeps in memory, and predict each from a model's config,
# - measure a peak so that earlier work does not hide it,
# - choose between bfloat16, accumulation, checkpointing, LoRA and sharding by what each saves,
# - let several processes learn as one, and resume a killed run so that it ends at the same weights,
# - plan method, batch and devices for a model that you do not have yet,
# - name what breaks on the way to a larger model, and test for it in seconds.
#
# **Minutes:** 115 to study (of which 39 on exercises), 95 as a talk; the cells need about five on two idle
# cores the first time, and seconds after that. **Prerequisites:** notebooks
# [03](03_single_task_tuning.ipynb) and [07](07_lora.ipynb).

# %%
import contextlib
import copy
import inspect
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

# %%
import numpy as np
import pandas as pd
import torch

from workbook import checks, encoding, models, planning, plots, recording
from workbook import runcache, settings, tasks, training
from workbook.adaptation import peft_models
from workbook.adaptation.additions import attached
from workbook.adaptation.lora import LoRA
from workbook.planning import Setting

# %%
ROWS, TOKENS = settings.pick(smoke=(2, 16), default=(6, 128), full=(16, 256))  # of a measured step
SEED = settings.seed()  # of what is drawn and trained here: WORKBOOK_SEED, else 0
FOLDER = Path(tempfile.mkdtemp())  # of what the processes below leave

# %% [markdown] slide="slide" minutes=7 literature=true
# ## "Full fine-tuning costs enormous resources"
#
# Which resources, and how much? With AdamW, a number that learns takes 4 bytes in float32, 4 for its
# gradient and 8 for two running means. In **mixed precision** the model computes in bfloat16, two bytes a
# number, and `fit` keeps a float32 *master* of what learns, so that small updates are not rounded away; at
# the update the gradient is in float32 too.

# %% [markdown] slide="notes"
# Write 4 + 4 + 8 on the board, below it 2 + 4 + 4 + 8. Ask what a frozen number costs in each. Others
# count 2 + 2 + 12 = 16 for mixed precision (Rajbhandari et al. 2019), which leaves the gradients in 16
# bits.

# %% [markdown] literature=true
# ### Exercise 11.1 — the bytes of an update
#
# **Difficulty:** easy. **Importance:** high. **Minutes:** 6. Count what is in memory at the update.


# %% exercise="11.1"
def tuning_bytes(frozen, learning, precision):
    """Return the bytes for so many frozen and learning numbers; precision is "fp32" or "bf16"."""
    # BEGIN SOLUTION
    width = {"fp32": 4, "bf16": 2}[precision]
    master = {"fp32": 0, "bf16": 4}[precision]
    return width * frozen + (width + 4 + master + 8) * learning
    # END SOLUTION


# %% check="11.1"
checks.nb11.check_tuning_bytes(tuning_bytes)

# %% [markdown]
# <details><summary>Hint 1</summary>
# A frozen number has no gradient, no master and no running means.
# </details>
#
# <details><summary>Hint 2</summary>
# In float32 a learning number takes 4 + 4 + 8 bytes. In bfloat16 it takes 2 + 4 + 4 + 8, the second 4 for
# its master.
# </details>

# %% [markdown]
# The library's planner counts the same from a config alone, without weights. For this course's model and
# three shapes of Llama; this cell uses your function once its check has passed.


# %%
def planned_bytes(frozen, learning, precision):
    """Return what the planner counts at the update."""
    added = learning if frozen else 0
    shapes = planning.Shapes(inside=frozen or learning, outside=0, added=added, blocks=1, matrix=0, output=0,
                             is_tied=False, logits=0, entry=0, in_block=0, elsewhere=0)
    way = Setting("lora" if frozen else "full", precision=precision, loaded=precision)
    return planning.moments(shapes, way)["update"].total


# %%
count_bytes = checks.yours(tuning_bytes, planned_bytes)
sizes = {"135M": models.read_config(), **{name: planning.read_config(name) for name in planning.LLAMAS}}
full, lora_way = Setting(batch_size=1, sequence_length=8), Setting("lora", batch_size=1, sequence_length=8)
known = {name: planning.read_shapes(config, lora_way) for name, config in sizes.items()}
costs = {}
for name, shapes in known.items():
    weights = shapes.inside + shapes.outside
    tuned = {"full, fp32": (0, weights, "fp32"), "full, bf16": (0, weights, "bf16"),
             "LoRA of rank 8, bf16": (weights, shapes.added, "bf16")}
    costs[name] = {"weights (millions)": weights / 1e6, "their float32 (GB)": 4 * weights / 1e9}
    costs[name] |= {f"{way} (GB)": count_bytes(*each) / 1e9 for way, each in tuned.items()}
pd.DataFrame(costs).T.round(1)

# %% [markdown] claims=["round(measured['costs']['7B']['full, fp32 (GB)']) == 108", "round(measured['costs']['7B']['full, bf16 (GB)']) == 121", "round(measured['costs']['70B']['full, fp32 (GB)']) == 1104", "round(measured['costs']['135M']['full, fp32 (GB)'], 2) == 2.15", "round(measured['costs']['7B']['LoRA of rank 8, bf16 (GB)'], 1) == 13.8", "round(measured['costs']['70B']['LoRA of rank 8, bf16 (GB)'], 0) == 140"]
# That is the claim in numbers. Tuning 7 billion weights takes 108 GB before a word is read, 70 billion
# 1,104 GB: fourteen devices of 80 GB. Ours takes 2.15 GB. bfloat16 alone makes it *more*, 121 GB, for
# the masters; what it shrinks is still to come. LoRA takes little more than the frozen weights: 13.8 and
# 140 GB.

# %% [markdown]
# And time? A training step takes about six operations for each weight and token (Kaplan et al. 2020). For
# a thousand reviews of 60 tokens, on a device that reaches 200 trillion operations a second:

# %%
reviews_tokens, speed = 1000 * 60, 200e12
seconds_of = {name: 6 * 1e6 * each["weights (millions)"] * reviews_tokens / speed for name, each in costs.items()}
print({name: f"{seconds:.1f} s" for name, seconds in seconds_of.items()})

# %% [markdown] literature=true claims=["10 < measured['arithmetic_seconds']['7B'] < 15", "measured['arithmetic_seconds']['70B'] < 150"]
# Between 10 and 15 seconds, less than 150 for 70 billion weights: enormous here is the *memory*.
# (Pretraining Llama 2 7B took 184,320 GPU hours, Touvron et al. 2023.)

# %% [markdown] slide="slide" minutes=6
# ## Predict, then measure
#
# Beside weights, gradients and optimizer there are **activations**, what the forward pass leaves for the
# backward pass, and the **logits**. They grow with the tokens of a batch. `planning.peak` reads them off
# the graph that autograd builds of shapes without data, and looks for the fullest moment of a step.

# %% [markdown] slide="notes"
# Three moments compete: the end of the forward pass (all activations, no gradients), the end of the
# backward pass (gradients, no activations), and the update. The peak is the largest of them, not their
# sum. So a technique can save a gigabyte at one moment and change nothing, because another moment was
# the fullest.

# %% code="show"
batch = dict(batch_size=ROWS, sequence_length=TOKENS, completion_length=2)
shapes = planning.read_shapes(sizes["135M"], Setting(**batch))
moments = planning.moments(shapes, Setting(**batch))
table = pd.DataFrame({name: vars(each) | {"sum": each.total} for name, each in moments.items()})
(table / 1e9).round(2)

# %% [markdown]
# To *measure* a peak, a fresh process is needed: what an earlier cell has freed, the allocator may still
# hold, and the peak hides in it. So we write a function of this page into a file and start that.


# %%
# The allocator is told to give back at once what is freed, and no process takes a GPU.
FRESH = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "CUDA_VISIBLE_DEVICES": ""}


def launch(function, processes=1, **arguments):
    """Run a function of this page in fresh processes; return what it prints, "killed" if it ended so."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "run.py")
        call = f"{function.__name__}(**{arguments!r})"
        file.write_text(f"{inspect.getsource(function)}\n\n{call}\n", "utf-8")
        torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        command = [sys.executable, *(torchrun if processes > 1 else []), str(file)]
        done = subprocess.run(command, env=os.environ | FRESH, capture_output=True, text=True)
    if done.returncode not in (0, 9):
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else "killed"


# %% code="show" tags=["long"]
def two_steps(rows, precision="fp32", batch=1, recompute=False, rank=0):
    """Take two steps with the real model, each over all rows; print peak (GB), seconds, losses."""
    import contextlib
    import json
    import os
    import time

    os.environ["WORKBOOK_PRECISION"] = precision
    from workbook import memory, models, training
    from workbook.adaptation import additions, lora

    model, times = models.load()[0].to("cpu"), []
    with additions.attached(model, lora.LoRA(model, rank)) if rank else contextlib.nullcontext():
        if recompute:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        short = [{name: ids[-8:] for name, ids in rows[0].items()}]
        training.fit(model, short, lr=0, progress=False)  # loads what is loaded at first use
        before = memory.resident_gb() - 4 * models.count_parameters(model).total / 1e9
        with memory.peak_memory(memory.resident_gb, seconds=0.01) as peak:
            history = training.fit(
                model, rows, epochs=2, batch_size=batch, gradient_accumulation_steps=len(rows) // batch,
                progress=False, on_step=lambda history: times.append(time.perf_counter()),
            )
    losses = [row["loss"] for row in history.steps]
    print(json.dumps({"gb": peak.gb - before, "seconds": times[1] - times[0], "losses": losses}))


# %% [markdown]
# The rows are six pieces of real reviews, 128 tokens each, of which the last two are learned: so the plan
# knows their size. Each step goes over all of them.

# %%
model, tokenizer = models.load()
del model  # each process loads a model of its own
training.release_memory()
task = tasks.load_task("sentiment")
stream = encoding.text_ids(tokenizer, " ".join(task.splits["train"]["text"][:400]))
pieces = [stream[first : first + TOKENS] for first in range(0, ROWS * TOKENS, TOKENS)]
rows = [{"input_ids": ids, "labels": [-100] * (TOKENS - 2) + ids[-2:]} for ids in pieces]


def compare(name, planned, **options):
    """Measure a way of tuning and print it beside its plan."""
    way = Setting(**batch | planned)
    found = runcache.cached(f"11 {name}", launch, function=two_steps, rows=rows, **options)
    found |= {"planned": vars(planning.peak(sizes["135M"], way)), "losses": found["losses"]}
    ratio = sum(found["planned"].values()) / 1e9 / found["gb"]
    print(f"{name}: planned {sum(found['planned'].values()) / 1e9:.2f} GB, measured {found['gb']:.2f} GB "
          f"(ratio {ratio:.2f}); {found['seconds']:.1f} s a step, losses {np.round(found['losses'], 3)}")
    return found | {"ratio": ratio}


# %%
results = {"full, fp32": compare("full, fp32", {}, batch=ROWS)}

# %% [markdown] claims=["abs(measured['ratios']['full, fp32'] - 1) < 0.15", "2.4 < measured['peaks']['full, fp32'] < 3.2"]
# Between 2.4 and 3.2 GB for a model of half a gigabyte; the plan, which has seen only the config, is
# within 15 per cent. From now on every technique gets both numbers.

# %% [markdown] slide="slide" minutes=5 literature=true
# ## Technique 1: bfloat16
#
# bfloat16 has the range of float32 and 8 bits of precision. It halves the activations and what the matrix
# products read. Whether they also get *faster* depends on the processor: some have instructions for it,
# some only pretend to. `fit` measures that and chooses.

# %% [markdown] slide="notes"
# Machines of this course multiply bfloat16 three times as fast as float32, or at half its speed. On a GPU
# of the last years the answer is always "much faster". The memory is the same everywhere.

# %%
results["full, bf16"] = compare("full, bf16", {"precision": "bf16"}, precision="bf16", batch=ROWS)
faster = results["full, fp32"]["seconds"] / results["full, bf16"]["seconds"]
print(f"on this machine a step in bfloat16 is {faster:.1f} times as fast as in float32; "
      f"fit chooses {settings.precision()} here")

# %% [markdown] claims=["measured['loss_differences']['full, bf16'] < 0.2"]
# Half the activations, and masters on top. The losses are within 0.2 nats in these two steps.

# %% [markdown] slide="slide" minutes=6
# ## Technique 2: gradient accumulation
#
# A step may learn from more rows than fit at once: compute the gradients of a few, *add* those of the next
# few, and update at the end.

# %% [markdown] slide="notes"
# The trap is the mean. Rows learn different numbers of tokens, so the mean of the batches' means is not
# the mean over all tokens. Transformers' Trainer had that bug until the autumn of 2024. Ask when the two
# are the same (when all batches have equally many learned tokens).

# %% [markdown] literature=true
# ### Exercise 11.2 — one step in several batches
#
# **Difficulty:** medium. **Importance:** high. **Minutes:** 10. Leave the gradients of the mean loss
# over the learned tokens of *all* batches, one batch's activations at a time.
# `training.completion_loss(model, batch)` is a *sum* over tokens, `training.label_count(batch)` their
# number.


# %% exercise="11.2"
def accumulated_loss(model, batches):
    """Return the mean loss (nats per learned token) after a backward pass for each batch."""
    # BEGIN SOLUTION
    learned = sum(training.label_count(batch) for batch in batches)
    total = 0.0
    for batch in batches:
        loss = training.completion_loss(model, batch) / learned
        loss.backward()
        total += loss.item()
    return total
    # END SOLUTION


# %% check="11.2"
checks.nb11.check_accumulated(accumulated_loss)

# %% [markdown]
# <details><summary>Hint 1</summary>
# Count the learned tokens of all batches before the loop, and divide each batch's sum by that number.
# </details>
#
# <details><summary>Hint 2</summary>
# <code>backward()</code> frees the graph and adds to the gradients that are there. Call it in the loop, and
# add up <code>loss.item()</code>, a plain number, not the loss, which would hold on to the graph.
# </details>

# %%
two = settings.pick(smoke=1, default=2, full=2)
results["accumulation"] = compare(
    "accumulation", {"batch_size": two, "gradient_accumulation_steps": ROWS // two}, batch=two)

# %% [markdown] claims=["measured['loss_differences']['accumulation'] < 0.001", "measured['peaks']['accumulation'] < measured['peaks']['full, fp32']"]
# The same losses, within 0.001. The peak falls by less than the activations: earlier gradients stay.

# %% [markdown] slide="slide" minutes=6
# ## Technique 3: gradient checkpointing
#
# Keep only what *enters* each block, and compute its inside again in the backward pass: one more forward
# pass, about a third of a step's arithmetic, for nearly all activations.

# %% [markdown] slide="notes"
# Draw thirty boxes. Without checkpointing all insides are kept; with it, thirty entries and the inside
# of the one box at work. Then ask about groups of boxes: fewer entries, but larger insides. That is the
# exercise.

# %% [markdown] literature=true
# ### Exercise 11.3 — how much to compute again
#
# **Difficulty:** medium. **Importance:** medium. **Minutes:** 8. In equal *segments* of blocks, kept are
# one entry a segment and, while a segment is computed again, the insides of its blocks. How many blocks
# in a segment keep the fewest bytes (Chen et al. 2016)?


# %% exercise="11.3"
def best_segment(blocks, entry, inside):
    """Return how many blocks, a divisor of their number, to compute again together."""
    # BEGIN SOLUTION
    divisors = [size for size in range(1, blocks + 1) if blocks % size == 0]
    return min(divisors, key=lambda size: blocks // size * entry + size * inside)
    # END SOLUTION


# %% check="11.3"
checks.nb11.check_best_segment(best_segment)

# %% [markdown]
# <details><summary>Hint 1</summary>
# Segments of <code>size</code> blocks: there are <code>blocks // size</code> entries, and at one time
# <code>size</code> insides.
# </details>
#
# <details><summary>Hint 2</summary>
# Try all divisors: <code>min(divisors, key=…)</code>, with the bytes that are kept as the key.
# </details>

# %%
print(f"our model, {shapes.blocks} blocks: {shapes.entry / 1e6:.1f} MB enter a block, "
      f"{shapes.in_block / 1e6:.1f} MB stay inside")
for size in (1, 2, 5, 30):
    kept = shapes.blocks / size * shapes.entry + size * shapes.in_block
    print(f"segments of {size:2} blocks keep {kept / 1e9:.2f} GB of {shapes.blocks * shapes.in_block / 1e9:.2f}")

# %%
results["checkpointing"] = compare(
    "checkpointing", {"gradient_checkpointing": True}, batch=ROWS, recompute=True)

# %% [markdown] claims=["measured['loss_differences']['checkpointing'] < 0.001", "measured['peaks']['checkpointing'] < measured['peaks']['full, fp32']", "measured['inside_over_entry'] > 15"]
# A block's inside is over 15 times its entry, so segments of one block are near the best, and that is
# what libraries do. The losses are the same within 0.001. What remains is weights, gradients and Adam.

# %% [markdown] slide="slide" minutes=4
# ## Technique 4: let fewer numbers learn
#
# LoRA (notebook [07](07_lora.ipynb)) freezes the weights: no gradients, no running means for them. The
# activations stay, since the backward pass still goes through every layer. So combine it.

# %% [markdown] slide="notes"
# Let the room predict the last row before it runs: LoRA, checkpointing and accumulation together. It is
# the frozen weights and very little else. In bfloat16 or four bits these shrink too: QLoRA.

# %%
results["LoRA"] = compare("LoRA", {"method": "lora"}, batch=ROWS, rank=8)
results["all three"] = compare(
    "all three",
    {"method": "lora", "gradient_checkpointing": True, "batch_size": two,
     "gradient_accumulation_steps": ROWS // two}, batch=two, rank=8, recompute=True)

# %%
parts = {name: {part: size / 1e9 for part, size in each["planned"].items()} for name, each in results.items()}
figure = plots.stacked(parts, xlabel="GB at the fullest moment (bars: planned)",
                       marks=[each["gb"] for each in results.values()])
plots.show(figure, alt="Planned parts of the peak and the measured peak in GB: " + "; ".join(
    f"{name} planned {sum(parts[name].values()):.2f}, measured {each['gb']:.2f}" for name, each in results.items()))

# %% [markdown] claims=["all(abs(measured['ratios'][name] - 1) < 0.15 for name in measured['ratios'])", "measured['peaks']['LoRA'] < measured['peaks']['checkpointing']", "measured['peaks']['all three'] < 0.3 * measured['peaks']['full, fp32']"]
# Every plan is within 15 per cent of what was measured. All three together take less than 30 per cent of
# full tuning's memory. Seconds are your machine's own; the plan is a count, and the same on all.

# %% [markdown] slide="slide" minutes=7
# ## Two processes learn as one
#
# **Data parallelism:** each process has the whole model and takes its share of a step's rows; then the
# gradients are added up over all of them, and all make the same update. On a cluster `torchrun` starts one
# process a GPU. Here it starts two on your processor, which exchange gradients through `gloo`.

# %% [markdown] slide="notes"
# The processes are equals: the same program, told apart by the variable RANK. Ask what has
# to be equal for the losses to agree: start, rows of each step, the divisor of the loss, the update.


# %% code="show" tags=["long"]
def learn(rows, folder=None, batches=1, ends_at=None):
    """Tune LoRA on the rows, in this process or its share; the main one prints what came out."""
    import json
    import os

    os.environ["WORKBOOK_PRECISION"] = "fp32"
    from workbook import models, runcache, training
    from workbook.adaptation import additions, lora
    from workbook.processes import launched

    def on_step(history):
        if len(history.steps) == ends_at:
            os._exit(9)  # at once, without any clean-up, as in a power cut

    model, _ = models.load()
    made = lora.LoRA(model, rank=8, seed=0)
    with additions.attached(model, made):
        history = training.fit(
            model, rows, batch_size=2, gradient_accumulation_steps=batches, lr=1e-3,
            checkpoint=folder, save_steps=2, on_step=on_step, progress=False,
        )
    if launched().is_main:
        losses, weights = [row["loss"] for row in history.steps], dict(made.named_parameters())
        print(json.dumps({"losses": losses, "weights": runcache.fingerprint(weights),
                          "numbers": sum(weight.numel() for weight in weights.values()),
                          "seconds": history.seconds}))


# %%
template = task.template("question")
few = tasks.draw(task.splits["train"], 16, seed=SEED)
reviews = encoding.encode_pairs(tokenizer, map(template.render, few))
some = reviews[: settings.pick(smoke=8, default=16, full=16)]
one = runcache.cached("11 one process", launch, function=learn, rows=some, batches=2)
both = runcache.cached("11 two processes", launch, function=learn, rows=some, processes=2)
between = float(np.abs(np.subtract(one["losses"], both["losses"])).max())
print("one process: ", np.round(one["losses"], 5))
print("two processes:", np.round(both["losses"], 5), f" largest difference {between:.1e}")

# %% [markdown] claims=["measured['two_processes'] < 0.0001"]
# Two processes with two rows each learn as one with two batches of two, to 0.0001: sums in another order
# round otherwise. Every step sends all gradients to everybody: here LoRA's 10 MB, in full tuning half a
# gigabyte.

# %% [markdown] slide="slide" minutes=5
# ## Killed, and resumed
#
# A **checkpoint** holds all that a run changes: weights, Adam's means, the schedule, the order of the
# rows, random numbers. `fit(checkpoint=folder)` keeps the last two, each whole or not at all.

# %% [markdown] slide="notes"
# os._exit ends the process without any clean-up, as kill -9 does. It happens after step 3, the
# checkpoint is of step 2, so step 3 is done again. Ask what a checkpoint of full tuning of a 7B model
# weighs: 12 bytes a number.

# %%
place = str(FOLDER / "killed")
killed = launch(learn, rows=some, folder=place, batches=2, ends_at=settings.pick(smoke=2, default=3, full=3))
sizes_mb = {file.name: round(file.stat().st_size / 1e6) for file in sorted(Path(place).glob("*.safetensors"))}
print(f"{killed}; left: {sizes_mb} MB")
again = launch(learn, rows=some, folder=place, batches=2)
is_same = again["weights"] == one["weights"]
print(f"resumed: losses {np.round(again['losses'], 5)}; weights bit for bit those of the whole run: {is_same}")

# %% [markdown] claims=["measured['is_same'] == 1"]
# It ends at the very weights of the other. The file has twelve bytes a number that learns.

# %% [markdown] slide="slide" minutes=8 literature=true
# ## Technique 5: sharding
#
# Data parallelism copies everything to every device. **ZeRO** (Rajbhandari et al. 2019) shares out:
# stage 1 optimizer states, 2 gradients too, 3 weights too, gathered block by block to compute with:
# PyTorch's **FSDP** (Zhao et al. 2023).

# %% [markdown] slide="notes"
# Stage 3 sends about half as much again as data parallelism: weights are gathered twice, gradients once.
# In return each device holds 1/N of everything at rest. The exercise is what stage 3 does to a single
# weight.

# %% [markdown] literature=true
# ### Exercise 11.4 — a device's part of a weight
#
# **Difficulty:** medium. **Importance:** medium. **Minutes:** 7. Flatten the weight, fill up with zeros
# so that all get equally many numbers, and return device `rank`'s part.


# %% exercise="11.4"
def own_part(tensor, count, rank):
    """Return the flat part [size] that device `rank` of `count` holds."""
    # BEGIN SOLUTION
    flat = tensor.flatten()
    size = -(-len(flat) // count)  # rounded up
    filled = torch.nn.functional.pad(flat, (0, size * count - len(flat)))
    return filled[rank * size : (rank + 1) * size]
    # END SOLUTION


# %% check="11.4"
checks.nb11.check_own_part(own_part)

# %% [markdown]
# <details><summary>Hint 1</summary>
# Ten numbers on four devices: parts of three, so twelve in all, two of which are zeros at the end.
# </details>
#
# <details><summary>Hint 2</summary>
# <code>torch.nn.functional.pad(flat, (0, missing))</code> puts zeros at the end; the part of a device is a
# slice from <code>rank * size</code>.
# </details>

# %% [markdown]
# Now for real, on a small random Llama with our tokenizer: two processes, each of which holds half.

# %%
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from workbook.assets.convert import quiet_transformers

torch.manual_seed(0)
shape = dict(vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=4,
             num_attention_heads=4, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id)
with quiet_transformers():
    LlamaForCausalLM(LlamaConfig(**shape)).save_pretrained(FOLDER / "small")
    Qwen2ForCausalLM(Qwen2Config(**shape, num_key_value_heads=2)).save_pretrained(FOLDER / "qwen")
for name in ("small", "qwen"):
    tokenizer.save_pretrained(FOLDER / name)


# %%
def fresh():
    """Return the small model as it was saved."""
    return models.load(str(FOLDER / "small"))[0].to("cpu")


print(f"{models.count_parameters(fresh()).total:,} random weights")


# %% code="show" tags=["long"]
def shard(folder, rows, steps, lr):
    """Tune a sharded model on all rows in every step; print losses and who holds how much."""
    import json
    import torch
    import torch.distributed as dist
    from torch.distributed.fsdp import fully_shard
    from transformers import AutoModelForCausalLM
    from workbook import encoding, training

    dist.init_process_group("gloo")
    rank, count = dist.get_rank(), dist.get_world_size()
    model = AutoModelForCausalLM.from_pretrained(folder).train()
    for block in model.model.layers:
        fully_shard(block)
    fully_shard(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr, weight_decay=0.0)
    batch, losses = encoding.collate(rows[rank::count]), []
    learned = training.label_count(encoding.collate(rows))
    for _ in range(steps):
        loss = training.completion_loss(model, batch) / learned
        (count * loss).backward()  # FSDP takes the mean of the gradients, and the sum is wanted
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        total = loss.detach()
        dist.all_reduce(total)
        losses.append(total.item())
    held, everyone = sum(weight.to_local().numel() for weight in model.parameters()), [None] * count
    dist.all_gather_object(everyone, held)
    if rank == 0:
        print(json.dumps({"losses": losses, "held": everyone}))
    dist.destroy_process_group()


# %%
SHARD_STEPS = 5
sharded = launch(shard, processes=2, folder=str(FOLDER / "small"), rows=some, steps=SHARD_STEPS, lr=1e-2)
alone = training.fit(fresh(), some, epochs=SHARD_STEPS, batch_size=len(some), lr=1e-2,
                     lr_scheduler_type="constant", warmup_ratio=0.0, progress=False)
losses = [row["loss"] for row in alone.steps]
shard_difference = float(np.abs(np.subtract(losses, sharded["losses"])).max())
print("one process:", np.round(losses, 4), "\nsharded:    ", np.round(sharded["losses"], 4))
print(f"weights in each process: {sharded['held']} of {sum(sharded['held']):,}")

# %% [markdown] claims=["measured['shard_difference'] < 0.05", "all(0.45 < part < 0.55 for part in measured['held_shares'])"]
# Each holds between 45 and 55 per cent of the weights, and the losses are those of one process: within
# 0.05 where `fit` computes in bfloat16, far closer in float32.

# %% [markdown] slide="slide" minutes=8
# ## The plan for the model you wish you had
#
# The planner needs a config, nothing else. Seven billion weights on eight devices, four rows of 512 tokens
# on each, all tokens learned:

# %% [markdown] slide="notes"
# Cover the bars. Ask which of them will end left of the line of 24 GB. Then let the room find the
# cheapest hardware for full tuning of 7B. In a terminal the same is one line: workbook plan 7B --gpu
# 24GB --devices 8.

# %%
asked = Setting(batch_size=4, sequence_length=512, devices=8)
wished = planning.plan(planning.read_config("7B"), 24e9, asked)
bars = {row.name: {part: size / 1e9 for part, size in vars(row.peak).items()} for row in wished}
figure = plots.stacked(bars, xlabel="GB on each of eight devices, 7 billion weights",
                       limits={"24 GB": 24, "80 GB": 80})
plots.show(figure, alt="Planned GB on each of eight devices for a Llama of 7 billion weights: " + "; ".join(
    f"{row.name} {row.peak.total / 1e9:.0f}" for row in wished) + ". Lines mark devices of 24 and 80 GB.")

# %%
tables = {}
for name in planning.LLAMAS:
    for devices in (1, 8):
        for row in planning.plan(planning.read_config(name), 80e9, Setting(batch_size=1, devices=devices)):
            tables.setdefault(row.name, {})[f"{name} on {devices}"] = row.peak.total / 1e9
table = pd.DataFrame(tables).T
table.round(1).astype(object).where(table.notna(), "–")

# %% [markdown] claims=["measured['peaks_planned']['full fp32']['7B on 1'] > 80", "measured['peaks_planned']['… ZeRO-3 (FSDP)']['7B on 8'] < 0.9 * 24", "measured['peaks_planned']['LoRA bf16']['7B on 1'] < 0.9 * 24", "measured['peaks_planned']['… ZeRO-3 (FSDP)']['70B on 8'] > 80", "0.9 * 24 < measured['peaks_planned']['… FSDP']['70B on 8'] < 0.9 * 32", "24 < measured['peaks_planned']['QLoRA recomputing']['70B on 1'] < 0.9 * 48"]
# One row of 512 tokens, and 0.9 of a device may be used. Full tuning of 7B fits no device of 80 GB, but eight
# of 24 that shard; LoRA one of 24. Full tuning of 70B needs more than eight of 80; sharded LoRA eight of
# 32, QLoRA one of 48. So full tuning is enormous, and tuning need not be.

# %% [markdown] literature=true
# ### Exercise 11.5 — choose for a device
#
# **Difficulty:** medium. **Importance:** high. **Minutes:** 8. A plan lists ways, the preferred first,
# with `name` and `largest_batch`. Return the first that fits, the rows a device computes at once and the
# batches a step, for at least `wanted` rows in all.


# %% exercise="11.5"
def choose(plan, wanted, devices):
    """Return (name, rows at once on a device, batches a step), or "nothing" where nothing fits."""
    # BEGIN SOLUTION
    for way in plan:
        if way.largest_batch > 0:
            rows = min(way.largest_batch, -(-wanted // devices))
            return way.name, rows, -(-wanted // (rows * devices))
    return "nothing"
    # END SOLUTION


# %% check="11.5"
checks.nb11.check_choose(choose)

# %% [markdown]
# <details><summary>Hint 1</summary>
# A way fits if at least one row does. More rows at once than the device's share of the wanted ones are
# of no use.
# </details>
#
# <details><summary>Hint 2</summary>
# Round up twice: <code>-(-wanted // devices)</code> rows for each device, and
# <code>-(-wanted // (rows * devices))</code> batches.
# </details>

# %%
chooser = checks.yours(choose, planning.choose)
for name, room, devices in (("1B", 24e9, 1), ("7B", 24e9, 1), ("7B", 80e9, 8), ("70B", 80e9, 8), ("70B", 24e9, 1)):
    ways = planning.plan(planning.read_config(name), room, Setting(batch_size=4, devices=devices))
    print(f"{name:3} on {devices} × {room / 1e9:.0f} GB, 32 rows a step: {chooser(ways, 32, devices)}")

# %% [markdown]
# **Decide:** one GPU of 24 GB, a 7B model, 1,000 reviews of your own. Which way would you take, with which
# batch? Decide before you open the discussion.
#
# <details><summary>Discussion</summary>
# "The first that fits" says LoRA in bfloat16 with a row or two at once. LoRA with checkpointing takes
# far more rows at once, for about a third more arithmetic; larger products fill a device better, so time
# both: they reach the same weights. QLoRA leaves most room, but computes each weight from four bits
# again, and starts from a rounded model. Full tuning with states in the main memory (offloading) would
# fit too, at the speed of the bus. What no plan tells is quality: notebook 10 compares methods for that.
# </details>

# %% [markdown] slide="slide" minutes=6 literature=true
# ## The road beyond: configurations
#
# `fit` shares out batches, not weights. For sharding on real GPUs the field's engine is TRL's
# `SFTTrainer` under Accelerate. `examples/train_sft.py` hands it this course's rows, templates and
# masks; the files in `examples/accelerate` say how. What do they say?

# %% [markdown] slide="notes"
# Read the lines aloud, and ask for each which technique of today it is. mixed_precision: technique 1.
# TRANSFORMER_BASED_WRAP: shard block by block. reshard_after_forward: stage 3, without it stage 2.
# Gradient checkpointing is TRL's default, so it must not be on twice.

# %%
from accelerate.commands.config.config_args import load_config_from_file

examples = settings.repo_root() / "examples"
for name in ("one_gpu", "eight_gpus_fsdp"):
    read = load_config_from_file(str(examples / "accelerate" / f"{name}.yaml"))
    print(f"{name}: {read.distributed_type.value}, {read.num_processes} processes, {read.mixed_precision}")
    for key, value in (getattr(read, "fsdp_config", None) or {}).items():
        print(f"    {key}: {value}")
print("\n".join(line for line in (examples / "slurm.sh").read_text("utf-8").splitlines() if "#SBATCH --" in line))

# %% [markdown]
# Careful: on processors Accelerate's FSDP silently becomes plain data parallelism, so these files
# rehearse no sharding on a laptop; that is why we used `fully_shard` above. The commands:
#
# ```bash
# accelerate launch --config_file examples/accelerate/eight_gpus_fsdp.yaml examples/train_sft.py \
#     --task sentiment --examples 1000 --model_name_or_path Qwen/Qwen2.5-7B-Instruct \
#     --learning_rate 1e-5 --output_dir tuned
# sbatch examples/slurm.sh --task sentiment --model_name_or_path Qwen/Qwen2.5-7B-Instruct \
#     --learning_rate 1e-5 --output_dir tuned  # two machines of eight
# ```

# %% [markdown] slide="slide" minutes=4
# ## Another model by one setting
#
# `WORKBOOK_MODEL` takes a hub id or a folder, and every notebook of the course then loads that model:
# `WORKBOOK_MODEL=Qwen/Qwen2.5-0.5B-Instruct workbook lab`. Here offline, with a small random Qwen2 in a
# folder.

# %% [markdown] slide="notes"
# The numbers in the prose are those of the default model, so with another one the prose is no longer about
# what you see. Results are kept apart by model in the run cache.

# %%
os.environ["WORKBOOK_MODEL"] = str(FOLDER / "qwen")
other, its_tokenizer = models.load()
del os.environ["WORKBOOK_MODEL"]
its_rows = encoding.encode_pairs(its_tokenizer, map(template.render, few))
with attached(other, LoRA(other, rank=4, seed=SEED)):
    history = training.fit(other, its_rows, epochs=2, lr=1e-2, progress=False)
print(f"{type(other).__name__}: loss {history.steps[0]['loss']:.2f} → {history.steps[-1]['loss']:.2f}")

# %% [markdown] slide="slide" minutes=8
# ## What breaks on the way
#
# Six mistakes of larger runs, each small enough to test in seconds *before* the run. Only the first raises
# an error by itself. **Tokenizer:** a new token has no row in the embedding.

# %% [markdown] slide="notes"
# Six cells: tokenizer, template, pads, precision, seeds, checkpoints. Let the room say before each what
# will go wrong. On a GPU the first one is an unreadable "device-side assert": run it on the processor
# first.

# %%
taught = copy.deepcopy(tokenizer)
taught.add_tokens(["<|label|>"], special_tokens=True)
ids = torch.tensor([taught("A fine film.<|label|>").input_ids])
small = fresh()
try:
    small(ids)
except IndexError as error:
    print(f"{len(taught):,} tokens, {small.config.vocab_size:,} rows in the embedding: {error}")
small.resize_token_embeddings(len(taught), mean_resizing=False)
print("after resize_token_embeddings:", tuple(small(ids).logits.shape))

# %% [markdown]
# **Template:** text in another model's format is still text, and the model reads it as such. The same
# eight reviews and answers in our model's format, in Llama 2's, and in none:

# %%
model, _ = models.load()
pairs = [template.render(row) for row in few.select(range(8))]
end = tokenizer.eos_token
wrapped = {
    "its own": [encoding.format_prompt(tokenizer, prompt) for prompt, _ in pairs],
    "Llama 2": [f"[INST] {prompt} [/INST] " for prompt, _ in pairs],
    "none": [f"{prompt}\n" for prompt, _ in pairs],
}
answers = [tokenizer(answer + end).input_ids for _, answer in pairs]
template_losses = {}
for name, prompts in wrapped.items():
    starts = [tokenizer(prompt).input_ids for prompt in prompts]
    asked_rows = [{"input_ids": start + answer, "labels": [-100] * len(start) + answer}
                  for start, answer in zip(starts, answers, strict=True)]
    template_losses[name] = training.evaluate_loss(model, asked_rows)
    print(f"{name:8} {len(starts[0])} tokens for the first review, loss {template_losses[name]:.2f}")

# %% [markdown] claims=["measured['template_losses']['Llama 2'] > measured['template_losses']['its own'] + 0.3"]
# The untuned model is worse by more than 0.3 nats a token in a format that it never saw. Tuning may repair
# that, and then the format at *use* must be the one of training: keep the template with the model.

# %% [markdown]
# **Pads:** our tokenizer's pad token is its end token. Who masks pads by their id masks the end too:

# %%
padded = encoding.collate(reviews[:8], pad_id=tokenizer.pad_token_id)
by_id = padded["input_ids"].masked_fill(padded["input_ids"] == tokenizer.pad_token_id, -100)
ends = {"by place": int((padded["labels"] == tokenizer.eos_token_id).sum()),
        "by id": int((by_id == tokenizer.eos_token_id).sum())}
print(f"pad {tokenizer.pad_token!r}, end {tokenizer.eos_token!r}; ends that are learned in 8 reviews: {ends}")

# %% [markdown] claims=["measured['ends']['by place'] == 8", "measured['ends']['by id'] == 0"]
# With the mask by id nothing of the 8 ends is learned, so the tuned model never stops.
#
# **Precision:** an update that is small beside its weight.

# %%
reached = {}
for kind in (torch.float32, torch.bfloat16, torch.float16):
    weight = torch.ones(1, dtype=kind)
    for _ in range(1000):
        weight += 1e-3
    gradients = torch.tensor([1e-8, 7e4]).to(kind)
    reached[str(kind).removeprefix("torch.")] = round(weight.item(), 2)
    print(f"{str(kind):15} 1 + 1000 × 0.001 = {weight.item():.2f}; gradients {gradients.tolist()}")

# %% [markdown] claims=["measured['reached']['bfloat16'] == 1", "measured['reached']['float32'] == 2"]
# In bfloat16 a thousand updates left the weight at 1: hence the masters. float16 has more digits but
# little range: a small gradient becomes 0, a large one infinite, so it needs loss scaling.
#
# **Seeds:** the seed is kept, the batch size is not.

# %%
lengths = [len(row["input_ids"]) for row in reviews]
first = {size: next(iter(encoding.length_grouped_batches(lengths, size, torch.Generator().manual_seed(0))))
         for size in (4, 8)}
numbers = torch.randn(100_000, generator=torch.Generator().manual_seed(0))
halves = numbers[::2].sum() + numbers[1::2].sum()
same_rows = set(first[4]) <= set(first[8])
print(f"first rows with batches of 4: {sorted(first[4])}, of 8: {sorted(first[8])}")
print(f"one sum {numbers.sum():.6f}, in two parts {halves:.6f}")

# %% [markdown]
# A seed fixes a run only with the same batches, processes, devices and versions; sums in another order
# differ in the last digits, and training amplifies them. So compare *several* seeds, not digits.
#
# **Checkpoints:** a run that goes on from its weights alone.


# %%
def cut(history):
    """Interrupt the run after its third step."""
    if len(history.steps) == 3:
        raise KeyboardInterrupt


# %%
run = dict(epochs=3, batch_size=8, lr=1e-2, progress=False)
kept = dict(checkpoint=FOLDER / "kept", save_steps=1)
whole, half, resumed = fresh(), fresh(), fresh()
training.fit(whole, reviews, **run)
with contextlib.suppress(KeyboardInterrupt):
    training.fit(half, reviews, on_step=cut, **run, **kept)
training.fit(resumed, reviews, **run, **kept)
training.fit(half, reviews, max_steps=3, **run)  # the other three steps, from the weights alone
off = {}
for name, each in {"checkpoint": resumed, "weights alone": half}.items():
    pairs = zip(models.snapshot(whole).values(), models.snapshot(each).values(), strict=True)
    off[name] = max((a - b).abs().max().item() for a, b in pairs)
print(f"largest difference of a weight from the whole run: {off}")

# %% [markdown] claims=["measured['off']['checkpoint'] == 0", "measured['off']['weights alone'] > 0.001"]
# From the checkpoint it is 0. From the weights alone some weight is off by more than 0.001: Adam's means
# began anew, the rate warmed up again. No error told so.

# %% [markdown] slide="slide" minutes=5
# ## The same at work
#
# `SFTTrainer` takes each technique as an argument: `bf16`, `gradient_accumulation_steps`,
# `activation_checkpointing` (once `gradient_checkpointing`), LoRA by `peft`. Sixteen reviews, two steps:

# %% [markdown] slide="notes"
# Same start (twin gives peft our A and B), same rows, no warm-up, clipping at 1. SFTTrainer takes a
# quarter of the rows at a time and recomputes; fit takes all at once. If both are right, the losses are
# equal.

# %%
import datasets
from trl import SFTConfig, SFTTrainer

datasets.disable_progress_bars()
WORK_STEPS = settings.pick(smoke=1, default=2, full=3)
lora = LoRA(model, rank=8, seed=SEED)
theirs = peft_models.twin(model, lora)
config = SFTConfig(
    str(FOLDER / "work"), max_steps=WORK_STEPS, per_device_train_batch_size=4, gradient_accumulation_steps=4,
    activation_checkpointing=True, learning_rate=1e-3, lr_scheduler_type="constant", warmup_steps=0,
    weight_decay=0.0, max_grad_norm=1.0, bf16=False, use_cpu=settings.device().type == "cpu", logging_steps=1,
    save_strategy="no", report_to="none", disable_tqdm=True, seed=SEED,
)
trainer = SFTTrainer(theirs, config, train_dataset=datasets.Dataset.from_list(reviews),
                     processing_class=tokenizer)

# %%
trainer.train()
work = {"SFTTrainer": [row["loss"] for row in trainer.state.log_history if "loss" in row]}
del trainer, theirs
with attached(model, lora):
    history = training.fit(model, reviews, epochs=WORK_STEPS, batch_size=16, lr=1e-3,
                           lr_scheduler_type="constant", warmup_ratio=0.0, progress=False)
work["fit"] = [row["loss"] for row in history.steps]
trl_difference = float(np.abs(np.subtract(*work.values())).max())
print({name: np.round(each, 4).tolist() for name, each in work.items()}, f"difference {trl_difference:.0e}")

# %% [markdown] claims=["measured['trl_difference'] < 0.05"]
# Within 0.05 where `fit` computes in bfloat16, far closer in float32. `trainer.save_model(folder)` and
# `push_to_hub` keep and share the result.

# %% [markdown] slide="slide" minutes=3
# ## What we cannot say
#
# These numbers come from processors. No GPU was at hand, so tokens a second and peaks on one were not
# measured here. The plan leaves a tenth of a device free for what it does not count: libraries,
# fragments of the allocator, buffers of communication. It was checked on small models; how near it is at
# 7B, we cannot tell.

# %% [markdown] slide="notes"
# Say it plainly: the plan is arithmetic for the large models and a measurement only for small ones. On a
# GPU torch.cuda.max_memory_allocated() is the number to compare with.

# %%
name = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU: nothing was run on one"
print(name)

# %% [markdown] slide="slide" minutes=5
# ## Quiz

# %% [markdown] slide="notes"
# Six questions, a minute each. Let the room vote before you click.

# %%
checks.quiz("11")

# %% [markdown]
# ## What we measured

# %% tags=["long"]
reference = results["full, fp32"]["losses"]
recording.measured(
    "11",
    headline=f"full tuning takes {results['full, fp32']['gb']:.1f} GB for a model of 0.5 GB, LoRA with "
    f"checkpointing and accumulation {results['all three']['gb']:.1f} GB; "
    f"7 billion weights would take {costs['7B']['full, fp32 (GB)']:.0f} GB",
    costs=costs,
    arithmetic_seconds=seconds_of,
    peaks={name: each["gb"] for name, each in results.items()},
    ratios={name: each["ratio"] for name, each in results.items()},
    seconds_a_step={name: each["seconds"] for name, each in results.items()},
    loss_differences={name: float(np.abs(np.subtract(each["losses"], reference)).max())
                      for name, each in results.items()},
    inside_over_entry=shapes.in_block / shapes.entry,
    two_processes=between,
    is_same=int(is_same),
    shard_difference=shard_difference,
    held_shares=[part / sum(sharded["held"]) for part in sharded["held"]],
    peaks_planned={name: {place: gb for place, gb in each.items()} for name, each in tables.items()},
    template_losses=template_losses,
    ends=ends,
    reached=reached,
    off=off,
    trl_difference=trl_difference,
)

# %% [markdown]
# Notebook 12 puts the course together: your own data, from a table to a model that answers.

# %% [markdown]
# ## Further reading
#
# - Chen et al. 2016, Training Deep Nets with Sublinear Memory Cost, arXiv:1604.06174
# - Micikevicius et al. 2017, Mixed Precision Training, arXiv:1710.03740
# - Rajbhandari et al. 2019, ZeRO: Memory Optimizations Toward Training Trillion Parameter Models,
#   arXiv:1910.02054
# - Kaplan et al. 2020, Scaling Laws for Neural Language Models, arXiv:2001.08361
# - Korthikanti et al. 2022, Reducing Activation Recomputation in Large Transformer Models, arXiv:2205.05198
# - Zhao et al. 2023, PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel, arXiv:2304.11277
# - Dettmers et al. 2023, QLoRA: Efficient Finetuning of Quantized LLMs, arXiv:2305.14314
# - Touvron et al. 2023, Llama 2: Open Foundation and Fine-Tuned Chat Models, arXiv:2307.09288

# %% [markdown] slide="skip"
# ## Free the memory
#
# Two open notebooks may need more memory than a laptop has. This cell lets go of the models and other
# large things; the page, your functions and the exercises stay. To train or score again, run the
# notebook from the top: seconds now. *Kernel → Shut Down Kernel* gives all of the memory back.

# %% slide="skip"
from workbook import memory

memory.free_notebook()
