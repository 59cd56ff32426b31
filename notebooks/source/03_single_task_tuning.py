# %% [markdown] slide="slide" minutes=2
# # 03 Single-task tuning
#
# In this notebook you write the loop that tunes a language model, watch it learn, and measure on
# 1,000 reviews that it has not seen what it gained over a good prompt.

# %% [markdown] slide="notes"
# Ask the room for a guess first: how many labelled reviews does a model of 135 million weights need
# before it beats its own accuracy with a good prompt? Write the guesses on the board. The learning
# curve near the end answers as far as it can: more reviews there are also more steps.

# %% [markdown]
# **Objectives.** Afterwards you can
#
# - read the loss of a language model as a distribution over its vocabulary,
# - write the training loop (forward, loss, backward, update) and its learning-rate schedule,
# - say what a validation set and a test set are for, and what is lost when a test set is used twice,
# - read training and validation loss side by side, and write early stopping,
# - report a gain over a good prompt, with an interval that covers other runs.
#
# **Minutes:** 95 to study (of which 39 on exercises), 59 as a talk; the cells need about seven on two
# cores the first time, and seconds after that. **Prerequisites:** notebooks
# [01](01_in_context_learning.ipynb) and [02](02_prompt_datasets.ipynb), some PyTorch.

# %%
import itertools

import numpy as np
import pandas as pd
import torch

from workbook import checks, encoding, metrics, models, plots, recording
from workbook import runcache, scoring, settings, tasks, training
from workbook.forgetting import panel

LIVE = settings.pick(smoke=16, default=200, full=500)  # validation reviews
LESSON = settings.pick(smoke=16, default=250, full=1000)  # examples to learn from
SEED = settings.seed()  # of what is drawn and trained here: WORKBOOK_SEED, else 0

# %% [markdown] slide="slide" minutes=4
# ## The task and the three splits
#
# One task, one template, and three sets of reviews with one job each: the model learns from
# *train*, choices are made by *validation*, and *test* is opened once, when all choices are made.
# Here the settings are given, so validation only watches; notebook 05 chooses by it.

# %% [markdown] slide="notes"
# Stress the roles. If a choice was made by looking at the test score, however small, the score tends
# to be higher than what it is to estimate: the accuracy on other reviews.

# %%
task = tasks.load_task("sentiment")
question = task.template("question")
model, tokenizer = models.load()
for name, split in task.splits.items():
    print(f"{name:10} {len(split):5} reviews")
print(question.render(task.splits["train"][0]))

# %% [markdown]
# Before any tuning, how good is the model? We ask it about validation reviews, zero-shot, and take
# the label with the higher log-likelihood.


# %%
def predict(model, prompts, labels):
    """Return the index of the likelier label for each prompt."""
    return {"labels": scoring.classify(model, tokenizer, prompts, labels).predictions}


def correct(name, model, rows):
    """Return which rows the model labels correctly, from the run cache where it is known."""
    prompts = [question.render(row).prompt for row in rows]
    found = runcache.cached(name, predict, model=model, prompts=prompts, labels=task.labels)
    return np.array(found["labels"]) == [row["label"] for row in rows]


validation = list(task.splits["validation"].select(range(LIVE)))
before = correct("03 before", model, validation)
zero_shot = metrics.wilson(before.sum(), len(before))
print(f"zero-shot accuracy on {LIVE} validation reviews: {zero_shot}")

# %% [markdown] slide="slide" minutes=6
# ## The loss is about a distribution over tokens
#
# At each position the model spreads probability over all 49,152 tokens of its vocabulary. Here is
# that distribution for the first token of the answer.

# %% [markdown] slide="notes"
# The likeliest first tokens are no labels: in the chat format the untuned model wants to begin a
# sentence. Training moves mass from everything else, the wrong label included, to the right label.

# %%
row = validation[0]
example = encoding.encode(tokenizer, *question.render(row))
start = len(example["labels"]) - sum(label != encoding.IGNORE_INDEX for label in example["labels"])
with scoring.inference(model):
    logits = model(torch.tensor([example["input_ids"]], device=model.device)).logits[0].cpu()
next_token = logits[start - 1].softmax(-1)  # position start-1 predicts the token at start
top = next_token.topk(6)
for share, token in zip(top.values, top.indices, strict=True):
    print(f"{share:6.1%}  {tokenizer.decode(token)!r}")

# %% [markdown] literature=true
# **Cross-entropy** is the negative logarithm of the probability of the *right* token: 0 when the
# model is sure and right, 0.69 nats at one half, without limit as the probability goes to zero.
# Only the completion's tokens count; notebook 02 masked the rest.

# %% [markdown] literature=true
# ### Exercise 3.1 — cross-entropy of one token
#
# **Difficulty:** easy. **Importance:** high. **Minutes:** 5. Compute the loss of one target token
# from a row of logits, in nats. Keep it finite for large logits.


# %% exercise="3.1"
def cross_entropy(logits, target):
    """Return the loss of the token `target` under the logits [vocabulary]."""
    # BEGIN SOLUTION
    return -torch.log_softmax(logits, dim=-1)[target]
    # END SOLUTION


# %% check="3.1"
checks.nb03.check_cross_entropy(cross_entropy)

# %% [markdown]
# <details><summary>Hint 1</summary>
# Softmax turns logits into probabilities; the loss is minus the logarithm of one of them.
# </details>
#
# <details><summary>Hint 2</summary>
# <code>torch.log_softmax</code> does both steps at once and does not overflow.
# </details>

# %% [markdown]
# The library averages this over the learned tokens of a batch. Our example has two, the answer and the
# token that ends the turn. By hand and by the library, their mean is the same number.

# %%
targets = torch.tensor(example["input_ids"][start:])
by_token = -logits[start - 1 : -1].log_softmax(-1)[range(len(targets)), targets]
by_library = training.evaluate_loss(model, [example])
for loss, token in zip(by_token, targets, strict=True):
    print(f"{loss:.4f} nats for {tokenizer.decode(token)!r}")
print(f"mean by hand {by_token.mean():.4f}, by the library {by_library:.4f} nats per learned token")

# %% [markdown] literature=true
# Keep the two apart when you read a loss. The end token is soon learned and then costs nearly nothing,
# so a model that flips a coin for the answer shows about 0.35 nats per token, half of 0.69. A loss
# well below 0.69 may still be a coin flip; accuracy tells.

# %% [markdown] slide="slide" minutes=8
# ## The loop, first in words
#
# ```
# for each epoch:                      # one pass over the training examples
#     for each batch of examples:
#         predict                      # forward pass: logits for every completion token
#         loss = mean cross-entropy of the right tokens
#         gradient = how the loss changes with every weight      # backward pass
#         weights = weights - learning rate × (a scaled gradient)   # the optimizer's step
#     measure the validation loss
# ```

# %% [markdown] slide="notes"
# Everything else in this notebook refines one of these lines. Let somebody say which line each of
# the following belongs to: dropout, Adam, warm-up, early stopping, label masking.

# %% [markdown]
# And in PyTorch. Sixteen lines tune a real model; run them and watch the loss of each batch.

# %% code="show"
training.seed_everything(SEED)
few = tasks.draw(task.splits["train"], settings.pick(smoke=8, default=48, full=48), seed=SEED)
examples = encoding.encode_pairs(tokenizer, map(question.render, few))
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, weight_decay=0.0, fused=True)
model.train()
for first in range(0, len(examples), 8):
    batch = encoding.collate(examples[first : first + 8])
    batch = training.to_device(batch, model.device)
    loss = model(**batch).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    print(f"batch {first // 8 + 1}: loss {loss.item():.3f}")
del optimizer, loss, batch  # a gigabyte of running means, and the graph of the last step
training.release_memory()

# %% [markdown] literature=true
# ### Exercise 3.2 — one training step
#
# **Difficulty:** medium. **Importance:** high. **Minutes:** 8. Write one step as a function. The
# check runs it twice on a toy model, so what is left over from the first step will show.


# %% exercise="3.2"
def train_step(model, optimizer, batch, loss_function):
    """Update the model once and return the loss before the update, as a float."""
    # BEGIN SOLUTION
    optimizer.zero_grad()
    loss = loss_function(model, batch)
    loss.backward()
    optimizer.step()
    return loss.item()
    # END SOLUTION


# %% check="3.2"
checks.nb03.check_train_step(train_step)

# %% [markdown]
# <details><summary>Hint 1</summary>
# Four calls: one on <code>loss_function</code>, one on the loss, two on the optimizer.
# </details>
#
# <details><summary>Hint 2</summary>
# <code>backward()</code> adds to the gradients that are there, so clear them once in every step.
# </details>

# %% [markdown] slide="slide" minutes=5
# ## What `fit` adds to the sixteen lines
#
# `training.fit` is this loop with: batches of similar length (fewer pads), a learning rate that
# warms up and decays, clipped gradients, logits only where there are labels, a validation
# measurement after each epoch, and a progress bar. Its core is `Trainer.step`, twenty lines.

# %% [markdown] slide="notes"
# Open lib/workbook/training.py beside the slide. The loss over completion positions only saves the
# product with the 49,152-word output matrix at all prompt positions.

# %% [markdown] literature=true
# ### Exercise 3.3 — warm-up and decay
#
# **Difficulty:** medium. **Importance:** medium. **Minutes:** 8. Adam's first steps rest on few
# gradients, so the rate starts at 0, rises in a line to its peak and falls in a line back to 0.


# %% exercise="3.3"
def learning_rate(step, total, peak, warmup):
    """Return the learning rate at a step; `warmup` is the number of rising steps."""
    # BEGIN SOLUTION
    if step < warmup:
        return peak * step / warmup
    return peak * (total - step) / (total - warmup)
    # END SOLUTION


# %% check="3.3"
checks.nb03.check_learning_rate(learning_rate)

# %% [markdown]
# <details><summary>Hint 1</summary>
# Two cases: before and after the end of the warm-up.
# </details>
#
# <details><summary>Hint 2</summary>
# After the warm-up there are <code>total - step</code> of <code>total - warmup</code> steps left.
# </details>

# %% [markdown] slide="slide" minutes=5
# ## Your run
#
# Now the real thing: a fresh model, one pass over some hundred reviews, all 134,515,008 weights
# trainable. The run is kept in the run cache as `sentiment-full`; later notebooks use it again.

# %% [markdown] slide="notes"
# A wait of about a minute, the first of three: overfitting and the final test follow. The second
# time they come from the cache. While it runs: a batch of eight reviews has sixteen learned tokens.

# %%
del model
model, tokenizer = models.load()
lesson = tasks.draw(task.splits["train"], LESSON, seed=SEED)
examples = encoding.encode_pairs(tokenizer, map(question.render, lesson))
held_out = encoding.encode_pairs(tokenizer, map(question.render, validation[:100]))
live = plots.LiveLosses()
history = runcache.fit(
    "sentiment-full", model, examples, lr=5e-5, seed=SEED, validation=held_out, on_step=live
)
losses = [row["loss"] for row in history.steps]
live.finish(history, alt=f"Training loss of each step, noisy: {np.mean(losses[:3]):.2f} in the mean of "
            f"the first three, {np.mean(losses[-10:]):.2f} in that of the last ten. A star marks the "
            f"validation loss after the epoch, {history.epochs[-1]['validation_loss']:.2f}.")

# %%
after = correct("03 after", model, validation)
tuned = metrics.wilson(after.sum(), len(after))
print(f"validation accuracy: zero-shot {zero_shot}, tuned {tuned}")
print(f"{history.tokens_per_second:.0f} tokens/s over {len(history.steps)} steps")

# %% [markdown] claims=["0.62 <= measured['zero_shot'][0] <= 0.8", "0.82 <= measured['tuned'][0] <= 0.95", "measured['examples'] == 250", "measured['final_loss'] < 0.35"]
# One pass over 250 reviews lifts this run's validation accuracy from between 0.62 and 0.8 to between
# 0.82 and 0.95. The step loss is noisy, since a batch has only eight answers. The validation loss ends
# below 0.35, the level of a coin flip for the answer. Is more training better?

# %% [markdown] slide="slide" minutes=6
# ## Overfitting
#
# With more passes over the same few examples the training loss goes to zero. A model *overfits* when
# its loss on other reviews rises meanwhile: it then learns these examples and no longer the task.

# %% [markdown] slide="notes"
# One seed and 100 validation reviews: let the room say what these few points can tell. And: accuracy
# may stay flat while the loss rises, because the model becomes surer of its mistakes.

# %%
del model
model, tokenizer = models.load()
few = examples[: settings.pick(smoke=8, default=64, full=64)]
live = plots.LiveLosses()
overfit = runcache.fit(
    "03 overfitting", model, few, epochs=settings.pick(smoke=2, default=6, full=8),
    lr=5e-5, validation=held_out, on_step=live,
)
live.finish(overfit, alt="Training loss falls to nearly zero over the epochs. Validation loss after "
            "each: " + ", ".join(f"{row['validation_loss']:.2f}" for row in overfit.epochs)
            + "; a star marks the lowest.")
for row in overfit.epochs:
    print("epoch {epoch}: training {train_loss:.3f}, validation {validation_loss:.3f}".format(**row))

# %% [markdown] claims=["measured['overfit_train'][-1] < 0.05", "measured['overfit_validation'][-1] > 0.1", "measured['overfit_examples'] == 64"]
# The training loss ends below 0.05 nats: the model knows these 64 reviews by heart. The validation loss
# did not follow; it ends above 0.1. Where it was lowest, one seed and 100 reviews cannot tell, and a
# rising loss need not mean more wrong labels. A usual remedy is to stop in time.

# %% [markdown] literature=true
# ### Exercise 3.4 — early stopping
#
# **Difficulty:** medium. **Importance:** high. **Minutes:** 10. Given the validation losses in the
# order in which they come, which epoch's weights do we keep if training ends after `patience`
# epochs without a new lowest loss? `fit(..., patience=1)` does this.


# %% exercise="3.4"
def best_epoch(losses, patience):
    """Return the index, from 0, of the epoch to keep."""
    # BEGIN SOLUTION
    best = 0
    for epoch, loss in enumerate(losses):
        if loss < losses[best]:
            best = epoch
        elif epoch - best >= patience:
            break
    return best
    # END SOLUTION


# %% check="3.4"
checks.nb03.check_best_epoch(best_epoch)

# %% [markdown]
# <details><summary>Hint 1</summary>
# Go through the losses once and remember the index of the lowest so far.
# </details>
#
# <details><summary>Hint 2</summary>
# Stop as soon as the present index is <code>patience</code> or more beyond the best one.
# </details>

# %% [markdown] slide="slide" minutes=6
# ## The final test, once
#
# Your tuned model meets the 1,000 test reviews, after all choices. The course itself keeps this rule
# only in part: notebook 01 scored its prompts on the same reviews, and the curve below its runs. Two
# baselines were recorded on them, both untuned: the same question, and 01's plain prompt, no shots.

# %% [markdown] slide="notes"
# A paired comparison asks on how many reviews two models disagree and who is right there. It needs far
# fewer reviews than comparing two accuracies. And a gain needs the strongest baseline that is free.

# %%
table = recording.load("03_learning_curve").frame
two = table[table.task == "sentiment"]
prompts = recording.load("01_shots").frame.query("task == 'sentiment' and template == 'plain'")
truth = np.array(task.splits["test"]["label"])


def recorded_correct(rows, column="predictions"):
    """Return which reviews recorded runs label correctly, as an array [runs, reviews] of 0 and 1."""
    return (np.array([list(text) for text in rows[column]], int) == truth).astype(float)


[zero], [plain] = recorded_correct(two[two.n == 0]), recorded_correct(prompts[prompts.shots == 0])
calibrated = recorded_correct(prompts[prompts.shots == 16], "predictions_calibrated").mean(axis=1)
print(f"untuned: the same question {zero.mean():.3f}, the plain prompt {plain.mean():.3f}")
print("16 calibrated shots, five draws:", ", ".join(f"{share:.2f}" for share in sorted(calibrated)))

# %%
del model
model, tokenizer = models.load()
runcache.fit("sentiment-full", model, examples, lr=5e-5, seed=SEED, validation=held_out)
size = settings.pick(smoke=32, default=1000, full=1000)
test = list(task.splits["test"].select(range(size)))
right = correct("03 test", model, test)
print(f"test accuracy {metrics.wilson(right.sum(), size)} on {size} reviews")
gain = metrics.paired_interval(right.astype(float), zero[:size])
gain_plain = metrics.paired_interval(right.astype(float), plain[:size])
print(f"gain, review by review: over the same question {gain}, over the plain prompt {gain_plain}")

# %% [markdown] claims=["0.84 <= measured['test_accuracy'][0] <= 0.94", "0.12 <= measured['test_gain'][0] <= 0.24", "0.04 <= measured['test_gain_plain'][0] <= 0.15", "measured['test_gain_plain'][1] > 0", "measured['test_reviews'] == 1000", "round(measured['plain_prompt'], 2) == 0.79", "round(min(measured['calibrated_shots']), 2) == 0.54", "round(max(measured['calibrated_shots']), 2) == 0.88"]
# Your run labels 0.84 to 0.94 of the 1,000 reviews right: 0.12 to 0.24 more than the same question
# untuned, 0.04 to 0.15 more than the plain prompt, with an interval above 0 for this run. The plain
# prompt, 0.79, is the fairer baseline: a better prompt is free. But it was not chosen on validation,
# and 16 calibrated shots did better in four of 01's five draws: 0.54 to 0.88 in all.

# %%
counts = np.zeros((2, 2), int)
answered = np.where(right, truth[:size], 1 - truth[:size])
np.add.at(counts, (truth[:size], answered), 1)
shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
plots.show(plots.confusion(counts, task.labels), alt=(
    f"Confusion matrix of the tuned model: {shares[0, 0]:.0%} of the negative and "
    f"{shares[1, 1]:.0%} of the positive reviews are labelled correctly."))

# %% [markdown]
# Numbers hide what kind of mistakes are left. Read a few: would a room of people agree on the label?

# %%
wrong = [row for row, ok in zip(test, right, strict=True) if not ok]
for row in itertools.islice(wrong, 4):
    print(f"{task.labels[row['label']]} ({row['valence']:+.1f}): {row['text']}\n")

# %% [markdown] literature=true
# ### Exercise 3.5 — a paired comparison
#
# **Difficulty:** medium. **Importance:** high. **Minutes:** 8. From two arrays of 0 and 1 over the
# same reviews, compute the gain in accuracy and its standard error.


# %% exercise="3.5"
def paired_gain(before, after):
    """Return (difference, standard error) of two arrays of correctness over the same reviews."""
    # BEGIN SOLUTION
    differences = after - before
    return differences.mean(), differences.std(ddof=1) / np.sqrt(len(differences))
    # END SOLUTION


# %% check="3.5"
checks.nb03.check_paired(paired_gain)

# %% [markdown]
# <details><summary>Hint 1</summary>
# Subtract first, review by review: each difference is -1, 0 or 1.
# </details>
#
# <details><summary>Hint 2</summary>
# The standard error of a mean is the standard deviation over the square root of the count.
# </details>

# %% [markdown] slide="slide" minutes=6
# ## How many examples?
#
# Recorded: 50 to 1,000 examples, three seeds each, one pass, tested on all 1,000 test reviews. Mind
# that more examples are also more *steps* here, 7 with 50 and 125 with 1,000. Three runs of notebook 04
# part the two: 63 examples four times, which is 32 steps, as many as 250 examples once.

# %% [markdown] slide="notes"
# Recorded by the same code, with the script beside the numbers (notebooks/recorded/sweeps/03_learning_curve.py).
# Ask before the figure: if the left end is low, is it for want of examples or of steps?

# %%
four = recording.load("04_forgetting").frame.query("n == 63 and epochs == 4")
four_passes = [np.mean(panel.unpack(packed)["sentiment"]) for packed in four.panel]
once = two[two.n > 0].assign(passes="one pass")
again = pd.DataFrame({"n": 63, "accuracy": four_passes, "passes": "four passes"})
figure = plots.curve(
    pd.concat([once, again]), "n", "accuracy", series="passes", log=True, dot=[(LESSON, tuned)],
    baseline=metrics.wilson(plain.sum(), len(plain)), baseline_label="plain prompt, untuned",
    band="band: from the lowest run to the highest; grey, star: 95 % interval over reviews",
    xlabel="training examples (more examples are more steps)", ylabel="accuracy",
)  # fmt: skip
means = once.groupby("n").accuracy.mean()
plots.show(figure, alt="Recorded test accuracy against training examples, one pass: " + ", ".join(
    f"{n}: {mean:.2f}" for n, mean in means.items()
) + f"; 63 examples four times: {np.mean(four_passes):.2f}. The plain prompt reaches {plain.mean():.2f}, "
    f"the same question {zero.mean():.2f}. A star marks your run of {LESSON} on validation reviews.")

# %% [markdown] claims=["all([0.66 <= r['accuracy'] <= 0.86 for r in recorded['03_learning_curve']['rows'] if r['task'] == 'sentiment' if r['n'] == 50])", "all([0.88 <= r['accuracy'] <= 0.92 for r in recorded['03_learning_curve']['rows'] if r['task'] == 'sentiment' if r['n'] == 250])", "all([0.93 <= r['accuracy'] <= 0.95 for r in recorded['03_learning_curve']['rows'] if r['task'] == 'sentiment' if r['n'] == 1000])", "all([0.91 <= share <= 0.92 for share in measured['four_passes']])"]
# With 50 examples the three runs reach 0.66 to 0.86, with 250 all are between 0.88 and 0.92, with 1,000
# between 0.93 and 0.95. But 63 examples four times reach 0.91 to 0.92, as much as 250 once: the low
# left end comes at least in part from too few *steps*. What the number of examples does alone, this
# curve cannot tell. Your star was measured on other reviews, so it may lie off the band.

# %% [markdown]
# Any recorded point can be measured again by the same code. This takes about five minutes for 1,000
# examples and a good minute for 50; take the `#` away to do it.

# %%
# recording.rerun("03_learning_curve", task="sentiment", n=50, seed=0)

# %% [markdown] slide="slide" minutes=4
# ## Is it luck of the draw?
#
# The three seeds drew other reviews in another order, so their scatter answers. The interval below
# covers other *runs* as well as other reviews: Student's *t* on the gains of the three runs, with the
# variance over the reviews added (`metrics.run_interval`, explained in notebook 05).

# %% [markdown] slide="notes"
# Read the rows of 50 and 1,000 aloud: three runs that scatter give a wide interval, however many
# reviews they are tested on. With three labels accuracy would mislead: one review in seventeen is neutral.

# %%
recorded_gains = {}
for n, rows in two[two.n > 0].groupby("n"):
    hits = recorded_correct(rows)
    answered = [f"{np.array(list(text), int).mean():.2f}" for text in rows.predictions]
    over = {"question": metrics.run_interval(hits - zero),
            "plain prompt": metrics.run_interval(hits - plain)}  # fmt: skip
    recorded_gains[str(n)] = over
    print(f"{n:4} examples: accuracy {', '.join(f'{share:.3f}' for share in hits.mean(axis=1))}"
          f" (\"positive\": {', '.join(answered)})\n     gain over the same question "
          f"{over['question']}, over the plain prompt {over['plain prompt']}")  # fmt: skip

# %% [markdown] claims=["0.12 <= measured['gains']['1000']['plain prompt'][1]", "measured['gains']['1000']['plain prompt'][2] <= 0.18", "0.07 <= measured['gains']['250']['plain prompt'][1]", "measured['gains']['250']['plain prompt'][2] <= 0.15", "measured['gains']['100']['plain prompt'][1] < 0 < measured['gains']['100']['plain prompt'][2]", "measured['gains']['50']['question'][1] < 0 < measured['gains']['50']['question'][2]", "measured['gains']['50']['plain prompt'][1] < 0 < measured['gains']['50']['plain prompt'][2]"]
# Over the plain prompt, the interval for the gain is 0.12 to 0.18 with 1,000 examples and 0.07 to 0.15
# with 250. With 50 or 100, three runs cannot tell a gain over it from none, and with 50 not even one
# over the same question. The weak runs lean to one label: look at their shares of "positive", which
# should be one half.

# %%
truth3 = np.array(tasks.load_task("sentiment-3").splits["test"]["label"])
three = table[table.task == "sentiment-3"]
zero3, *runs3 = (np.array(list(text), int) for text in three.sort_values("n", kind="stable").predictions)
f1_before = metrics.macro_f1(truth3, zero3)
f1_after = [metrics.macro_f1(truth3, run) for run in runs3]


def mean_gain(reference, base, *seeds):
    """Return the seeds' mean macro-F1 minus the zero-shot model's."""
    return np.mean([metrics.macro_f1(reference, s) for s in seeds]) - metrics.macro_f1(reference, base)


gain3 = metrics.bootstrap_interval((truth3, zero3, *runs3), mean_gain, n_resamples=1000)
print(f"three labels, macro-F1: {f1_before:.3f} before; after, by seed:", np.round(f1_after, 3))
print(f"mean gain of these three runs, interval over the reviews: {gain3}")

# %% [markdown] claims=["round(measured['macro_f1_before'], 2) == 0.41", "all([0.2 <= after - measured['macro_f1_before'] <= 0.22 for after in measured['macro_f1_after']])", "measured['macro_f1_gain'][1] > 0.15", "measured['examples_three'] == 600"]
# Macro-F1 is the mean of the labels' F1, so the rare label has a third of the say. With three labels and
# 600 balanced examples each of these three runs gained 0.2 to 0.22 over 0.41, and the interval over the
# reviews lies above 0.15. The baseline is the same question; no better prompt was tried for three labels.

# %%
labels3 = tasks.load_task("sentiment-3").labels
counts3 = sum(np.histogram2d(truth3, run, bins=(3, 3), range=((0, 3), (0, 3)))[0] for run in runs3)
recall = counts3.diagonal() / counts3.sum(axis=1)
plots.show(plots.confusion(counts3.astype(int), labels3), alt=(
    "Confusion matrix over three labels, three recorded seeds added up. Share found: " + ", ".join(
        f"{label} {share:.0%}" for label, share in zip(labels3, recall, strict=True)) + "."))

# %% [markdown] claims=["measured['neutral_answers_before'] == 0", "measured['neutral_recall'] > 1 / 2"]
# Zero-shot the model never said "neutral". Now the three runs find more than half of the neutral
# reviews, but they learned from as many reviews of each label and say "neutral" far too often for a
# test set where one review in seventeen is. Train on the proportions you will meet, or say so.

# %% [markdown] slide="slide" minutes=3
# ## Does it carry over?
#
# The model saw movie reviews only. Other domains, rated by the same people, show how much of what it
# learned is sentiment and how much is cinema: before and after, on the same snippets.

# %% [markdown] slide="notes"
# Each domain has few snippets here, so its interval is wide: look at the pooled line. The baseline is
# the same question; the plain prompt was not tried on these domains.

# %%
EACH = settings.pick(smoke=8, default=100, full=500)
domains = {
    name: list(tasks.load_task(f"sentiment-{name}").splits["test"].select(range(EACH)))
    for name in ("products", "editorials", "tweets")
}
untuned, _ = models.load()
gains = {}
for name, rows in domains.items():
    old, new = (correct(f"03 {name}", m, rows) for m in (untuned, model))
    gains[name] = new.astype(float) - old
    print(f"{name:10} {old.mean():.2f} → {new.mean():.2f}")
transfer = metrics.bootstrap_interval(np.concatenate(list(gains.values())))
print(f"gain over the three domains together: {transfer}")

# %% [markdown] claims=["0.1 <= measured['transfer_gain'][0] <= 0.35", "measured['transfer_gain'][1] > 0"]
# On the three domains together your run gained 0.1 to 0.35 over the same question, and the interval
# over these snippets excludes 0. So what it learned is not only cinema. How much of it is judging and
# how much is answering this question's form, the numbers do not tell: on movies a better prompt made up
# a part of such a gain.

# %% [markdown] slide="slide" minutes=4
# ## Quiz

# %% [markdown] slide="notes"
# Five questions, a minute each. Let the room vote before you click.

# %%
checks.quiz("03")

# %% [markdown]
# ## What we measured

# %% tags=["long"]
recording.measured(
    "03",
    headline="gain_over_plain_prompt",
    gain_over_plain_prompt=recorded_gains["1000"]["plain prompt"],
    zero_shot=zero_shot,
    tuned=tuned,
    final_loss=history.epochs[-1]["validation_loss"],
    overfit_train=[row["train_loss"] for row in overfit.epochs],
    overfit_validation=[row["validation_loss"] for row in overfit.epochs],
    test_accuracy=metrics.wilson(right.sum(), size),
    test_gain=gain,
    test_gain_plain=gain_plain,
    plain_prompt=plain.mean(),
    calibrated_shots=calibrated,
    recorded_zero=zero.mean(),
    recorded_accuracy={str(n): mean for n, mean in means.items()},
    four_passes=four_passes,
    gains=recorded_gains,
    macro_f1_before=f1_before,
    macro_f1_after=f1_after,
    macro_f1_gain=gain3,
    neutral_recall=recall[1],
    transfer_gain=transfer,
    tokens_per_second=history.tokens_per_second,
    examples=LESSON,
    overfit_examples=len(few),
    test_reviews=size,
    examples_three=int(three.n.max()),
    neutral_answers_before=float((zero3 == 1).mean()),
)

# %% [markdown]
# So a few hundred examples and a minute of two cores make the model label reviews better than the plain
# prompt does. What did it give up for that? The next notebook will measure it.

# %% [markdown]
# ## Further reading
#
# - Wei et al. 2022, Finetuned Language Models Are Zero-Shot Learners, arXiv:2109.01652
# - Sanh et al. 2022, Multitask Prompted Training Enables Zero-Shot Task Generalization,
#   arXiv:2110.08207
# - Loshchilov & Hutter 2019, Decoupled Weight Decay Regularization (AdamW), arXiv:1711.05101
# - Mosbach et al. 2021, On the Stability of Fine-tuning BERT, arXiv:2006.04884
# - Zhou et al. 2023, LIMA: Less Is More for Alignment, arXiv:2305.11206
# - Hutto & Gilbert 2014, VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social
#   Media Text, ICWSM: the ratings used here

# %% [markdown] slide="skip"
# ## Free the memory
#
# Two open notebooks may need more memory than a laptop has. This cell lets go of the models and other
# large things; the page, your functions and the exercises stay. To train or score again, run the
# notebook from the top: seconds now. *Kernel → Shut Down Kernel* gives all of the memory back.

# %% slide="skip"
from workbook import memory

memory.free_notebook()
