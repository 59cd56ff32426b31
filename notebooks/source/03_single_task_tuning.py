# %% [markdown] slide="slide" minutes=2
# # 03 Single-task tuning
#
# In this notebook you write the loop that tunes a language model, watch it learn and overfit, and
# measure the gain on 1,000 reviews that neither you nor the model has seen.

# %% [markdown] slide="notes"
# Ask the room for a guess first: how many labelled reviews does a model of 135 million weights need
# before it beats its own zero-shot accuracy? Write the guesses on the board. The learning curve
# near the end answers.

# %% [markdown]
# **Objectives.** Afterwards you can
#
# - read the loss of a language model as a distribution over its vocabulary,
# - write the training loop (forward, loss, backward, update) and its learning-rate schedule,
# - use a validation set to choose, and a test set once, to report,
# - recognize overfitting and stop before it,
# - say how many examples bought how much accuracy, with an interval.
#
# **Minutes:** 60 to study; the cells need about seven on two cores the first time, and seconds after
# that. **Prerequisites:** notebooks [01](01_in_context_learning.ipynb) and
# [02](02_prompt_datasets.ipynb), some PyTorch.

# %%
import itertools

import numpy as np
import torch

from workbook import checks, encoding, metrics, models, plots, recording
from workbook import runcache, scoring, settings, tasks, training

LIVE = settings.pick(smoke=16, default=200, full=500)  # validation reviews
LESSON = settings.pick(smoke=16, default=250, full=1000)  # examples to learn from

# %% [markdown] slide="slide" minutes=4
# ## The task and the three splits
#
# One task, one template, and three sets of reviews with one job each: the model learns from
# *train*, we make every choice by *validation*, and *test* is opened once, at the end.

# %% [markdown] slide="notes"
# Stress the roles. If a choice, however small, was made by looking at the test set, the test score
# is an estimate of nothing in particular.

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
    found = runcache.remember(name, predict, model=model, prompts=prompts, labels=task.labels)
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
# Point at the tail: the two label words get most of the mass but not all of it. Training moves mass
# from everything else, the wrong label included, to the right label.

# %%
row = validation[0]
example = encoding.encode(tokenizer, *question.render(row))
start = len(example["labels"]) - sum(label != encoding.IGNORE for label in example["labels"])
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
# The library sums this over the learned tokens of a batch. By hand and by the library, the loss of
# our example is the same number.

# %%
targets = torch.tensor(example["input_ids"][start:])
by_hand = -logits[start - 1 : -1].log_softmax(-1)[range(len(targets)), targets].mean()
by_library = training.evaluate_loss(model, [example])
print(f"by hand {by_hand:.4f}, by the library {by_library:.4f} nats per learned token")

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
training.seed_everything(0)
few = tasks.draw(task.splits["train"], settings.pick(smoke=8, default=48, full=48))
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
# This is the only wait of the class, about a minute. The second time it comes from the cache.
# While it runs: a batch has eight reviews and only sixteen or so learned tokens.

# %%
del model
model, tokenizer = models.load()
lesson = tasks.draw(task.splits["train"], LESSON, seed=0)
examples = encoding.encode_pairs(tokenizer, map(question.render, lesson))
held_out = encoding.encode_pairs(tokenizer, map(question.render, validation[:100]))
live = plots.LiveLosses()
history = runcache.fit(
    "sentiment-full", model, examples, lr=5e-5, seed=0, validation=held_out, on_step=live
)
live.finish(history, alt="Training loss of each step: above one nat at first, noisy, and mostly below "
            "half a nat after ten steps; a star marks the validation loss after the epoch.")

# %%
after = correct("03 after", model, validation)
tuned = metrics.wilson(after.sum(), len(after))
print(f"validation accuracy: zero-shot {zero_shot}, tuned {tuned}")
print(f"{history.tokens_per_second:.0f} tokens/s over {len(history.steps)} steps")

# %% [markdown] claims=["0.62 <= measured['zero_shot'][0] <= 0.8", "0.82 <= measured['tuned'][0] <= 0.95", "measured['examples'] == 250"]
# One pass over 250 reviews lifts validation accuracy from between 0.62 and 0.8 to between 0.82 and
# 0.95. The step loss is noisy, since a batch of eight has only eight answers, but it has fallen well
# before the last step. Is more training better?

# %% [markdown] slide="slide" minutes=6
# ## Overfitting
#
# More passes over the same few examples: the training loss goes to zero, while the validation loss
# turns around. The model no longer learns the task but these examples.

# %% [markdown] slide="notes"
# Ask: which of the two curves would you show in a paper? And: accuracy may stay flat while the loss
# rises, because the model becomes surer of its mistakes.

# %%
del model
model, tokenizer = models.load()
few = examples[: settings.pick(smoke=8, default=64, full=64)]
live = plots.LiveLosses()
overfit = runcache.fit(
    "03 overfitting", model, few, epochs=settings.pick(smoke=2, default=6, full=8),
    lr=5e-5, validation=held_out, on_step=live,
)
live.finish(overfit, alt="Training loss falls to zero over the epochs; the validation loss is "
            "lowest after an early epoch, marked by a star, and higher at the end.")
for row in overfit.epochs:
    print("epoch {epoch}: training {train_loss:.3f}, validation {validation_loss:.3f}".format(**row))

# %% [markdown] claims=["measured['overfit_train'][-1] < 0.05", "min(measured['overfit_validation']) < measured['overfit_validation'][-1]", "measured['overfit_examples'] == 64"]
# After the last epoch the training loss is below 0.05 nats: the model knows these 64 reviews by
# heart. The validation loss was lowest before that and has risen since. A remedy is to stop in time;
# others are more examples, a lower rate, fewer trainable layers, and weight decay.

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
# ## How many examples?
#
# One run tells little, so the curve was recorded before: 50 to 1,000 examples, three seeds each, one
# pass, tested on all 1,000 test reviews. The star is your own run, on your validation reviews.

# %% [markdown] slide="notes"
# Recorded means: measured earlier by the same code, with the script beside the numbers
# (notebooks/recorded/03_learning_curve.py). Compare with the guesses on the board.

# %%
recorded = recording.load("03_learning_curve")
table = recorded.frame
two = table[(table.task == "sentiment") & (table.n > 0)]
truth = np.array(task.splits["test"]["label"])
zero_digits = table[(table.task == "sentiment") & (table.n == 0)].predictions.item()
zero = np.array(list(zero_digits), int) == truth
figure = plots.curve(
    two, "n", "accuracy", baseline=metrics.wilson(zero.sum(), len(zero)), log=True,
    dot=[(LESSON, tuned)], xlabel="training examples", ylabel="accuracy",
)
means = two.groupby("n").accuracy.mean()
plots.show(figure, alt="Recorded test accuracy against training examples: " + ", ".join(
    f"{n}: {mean:.2f}" for n, mean in means.items()
) + f". Zero-shot is {zero.mean():.2f}. A star marks your own run of {LESSON} examples.")

# %% [markdown] claims=["0.69 <= measured['recorded_zero'] <= 0.73", "all([0.66 <= r['accuracy'] <= 0.87 for r in recorded['03_learning_curve']['rows'] if r['task'] == 'sentiment' if r['n'] == 50])", "min([r['accuracy'] for r in recorded['03_learning_curve']['rows'] if r['n'] == 50]) < measured['recorded_zero']", "all([0.88 <= r['accuracy'] <= 0.92 for r in recorded['03_learning_curve']['rows'] if r['task'] == 'sentiment' if r['n'] == 250])", "all([0.93 <= r['accuracy'] <= 0.95 for r in recorded['03_learning_curve']['rows'] if r['task'] == 'sentiment' if r['n'] == 1000])"]
# Zero-shot is right on 0.69 to 0.73 of the test reviews. With 50 examples the draw decides: the
# three runs reach 0.66 to 0.87, one of them *below* zero-shot. With 250 every run is between 0.88
# and 0.92, and with 1,000 between 0.93 and 0.95. So a single small run proves nothing, and each
# doubling buys less than the one before.

# %% [markdown]
# Any recorded point can be measured again by the same code. This takes about five minutes for 1,000
# examples and a good minute for 50; take the `#` away to do it.

# %%
# recording.rerun("03_learning_curve", task="sentiment", n=50, seed=0)

# %% [markdown] slide="slide" minutes=6
# ## The final test, once
#
# Now, and only now, your tuned model meets the 1,000 test reviews. Since the zero-shot model was
# recorded on the same reviews, we can compare review by review.

# %% [markdown] slide="notes"
# A paired comparison asks on how many reviews the two models disagree and who is right there. It
# needs far fewer reviews than comparing two accuracies with their own intervals.


# %%
del model
model, tokenizer = models.load()
runcache.fit("sentiment-full", model, examples, lr=5e-5, seed=0, validation=held_out)
size = settings.pick(smoke=32, default=1000, full=1000)
test = list(task.splits["test"].select(range(size)))
right = correct("03 test", model, test)
print(f"test accuracy {metrics.wilson(right.sum(), size)} on {size} reviews")
gain = metrics.paired_interval(right.astype(float), zero[:size].astype(float))
print(f"gain over zero-shot, review by review: {gain}")

# %% [markdown] claims=["0.84 <= measured['test_accuracy'][0] <= 0.92", "0.12 <= measured['test_gain'][0] <= 0.22", "measured['test_gain'][1] > 0", "measured['test_reviews'] == 1000"]
# On the 1,000 test reviews the tuned model reaches 0.84 to 0.92, and the paired gain over zero-shot,
# 0.12 to 0.22 with an interval far from 0, is no accident of these reviews.

# %%
counts = np.zeros((2, 2), int)
answered = np.where(right, truth[:size], 1 - truth[:size])
np.add.at(counts, (truth[:size], answered), 1)
shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
plots.show(plots.confusion(counts, task.labels), alt=(
    f"Confusion matrix of the tuned model: {shares[0, 0]:.0%} of the negative and "
    f"{shares[1, 1]:.0%} of the positive reviews are labelled correctly."))

# %% [markdown]
# Numbers hide what kind of mistakes are left. Read a few: many of these would split a room of
# humans too.

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

# %% [markdown] slide="slide" minutes=4
# ## Is it luck of the draw?
#
# The recorded runs answer: at 1,000 examples, three seeds drew other reviews in another order. We
# pool the paired gains over seeds and reviews, for two labels and for three.

# %% [markdown] slide="notes"
# With three labels accuracy would mislead: only one review in seventeen is neutral. Macro-F1 is the
# mean of the three labels' F1 and gives the rare label a third of the say.


# %%
def digits(rows):
    """Return the recorded predictions as an integer array [seeds, reviews]."""
    return np.array([list(text) for text in rows.predictions], int)


runs = digits(two[two.n == 1000])
pooled_gain = metrics.pooled_interval((runs == truth) - zero.astype(float))
print(f"two labels, accuracy: {(runs == truth).mean():.3f}, gain over zero-shot {pooled_gain}")

# %%
truth3 = np.array(tasks.load_task("sentiment-3").splits["test"]["label"])
three = table[table.task == "sentiment-3"]
zero3, runs3 = digits(three[three.n == 0])[0], digits(three[three.n > 0])
f1_before = metrics.macro_f1(truth3, zero3)
f1_after = [metrics.macro_f1(truth3, run) for run in runs3]


def mean_gain(reference, base, *seeds):
    """Return the seeds' mean macro-F1 minus the zero-shot model's."""
    return np.mean([metrics.macro_f1(reference, s) for s in seeds]) - metrics.macro_f1(reference, base)


gain3 = metrics.bootstrap_interval((truth3, zero3, *runs3), mean_gain, n_resamples=1000)
print(f"three labels, macro-F1: {f1_before:.3f} before, {np.mean(f1_after):.3f} after, gain {gain3}")

# %% [markdown] claims=["0.21 <= measured['recorded_gain'][0] <= 0.25", "measured['recorded_gain'][1] > 0", "round(measured['macro_f1_before'], 2) == 0.41", "0.15 <= measured['macro_f1_gain'][0] <= 0.25", "measured['macro_f1_gain'][1] > 0", "measured['examples_three'] == 600"]
# With 1,000 examples the pooled gain in accuracy is 0.21 to 0.25. With three labels and 600 balanced
# examples macro-F1 rises from 0.41 by 0.15 to 0.25. Both intervals exclude 0: the gain is real.

# %%
labels3 = tasks.load_task("sentiment-3").labels
counts3 = sum(np.histogram2d(truth3, run, bins=(3, 3), range=((0, 3), (0, 3)))[0] for run in runs3)
recall = counts3.diagonal() / counts3.sum(axis=1)
plots.show(plots.confusion(counts3.astype(int), labels3), alt=(
    "Confusion matrix over three labels, three recorded seeds added up. Share found: " + ", ".join(
        f"{label} {share:.0%}" for label, share in zip(labels3, recall, strict=True)) + "."))

# %% [markdown] claims=["measured['neutral_answers_before'] == 0"]
# Zero-shot the model never said "neutral". Now it finds more than half of the neutral reviews, and
# pays for it: it was trained on as many neutral as polar reviews, so it says "neutral" far too often
# in a test set where one review in seventeen is. Train on the proportions you will meet, or say so.

# %% [markdown] slide="slide" minutes=3
# ## Does it carry over?
#
# The model saw movie reviews only. Other domains, rated by the same people, show how much of what it
# learned is sentiment and how much is cinema: before and after, on the same snippets.

# %% [markdown] slide="notes"
# Each domain has few snippets here, so its interval is wide: look at the pooled line.

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

# %% [markdown] claims=["0.15 <= measured['transfer_gain'][0] <= 0.32", "measured['transfer_gain'][1] > 0"]
# On the three domains together the gain is 0.15 to 0.32, about as much as on movies, and its interval
# excludes 0. So what the model learned is not cinema: it learned to judge, and to put its judgement
# into one of two words.

# %% [markdown] slide="slide" minutes=4
# ## Quiz

# %% [markdown] slide="notes"
# Five questions, a minute each. Let the room vote before you click.

# %% tags=["long"]
checks.quiz([
    checks.question(
        "Why is the loss computed only at the completion's tokens?",
        right=("So that the model learns to answer, not to write reviews.",
               "Yes: the prompt is given at inference, so predicting it would spend the training "
               "on something we never ask for."),
        wrong=[("Because the prompt has no tokens.", "It has about fifty: they are masked."),
               ("To make the loss smaller.",
                "Its size does not matter: the gradient's direction does.")],
    ),
    checks.question(
        "The training loss is 0.001 and the validation loss has risen for two epochs. What now?",
        right=("Go back to the weights of the lowest validation loss.",
               "Yes, that is early stopping."),
        wrong=[("Train longer until validation follows.",
                "It will not: the model has nothing left to learn from these examples."),
               ("Raise the learning rate.", "That moves the weights faster in the same direction."),
               ("Report the training loss.", "It says how well the examples are remembered.")],
    ),
    checks.question(
        "What is the test set for?",
        right=("For one report, after all choices are made.",
               "Yes: whatever influences a choice stops being a fair test."),
        wrong=[("To choose the learning rate.", "That is what validation is for."),
               ("To stop training early.", "That too is a choice, so validation decides.")],
    ),
    checks.question(
        "Two models differ by 3 points on the same 1,000 reviews. Which comparison is sharper?",
        right=("Review by review (paired).",
               "Yes: what makes a review hard for both models cancels out."),
        wrong=[("Two separate confidence intervals.",
                "They count the difficulty of the reviews twice."),
               ("The difference without an interval.", "Then luck cannot be told from skill.")],
    ),
    checks.question(
        "Why macro-F1 for three labels here?",
        right=("Neutral is rare, and accuracy could ignore it.",
               "Yes: a model that never says neutral would still look good on accuracy."),
        wrong=[("It is always higher.", "It is usually lower: rare labels are hard."),
               ("F1 needs no labels.", "It needs the true labels as accuracy does.")],
    ),
])

# %% [markdown]
# ## What we measured

# %% tags=["long"]
recording.measured(
    "03",
    headline="recorded_gain",
    zero_shot=zero_shot,
    tuned=tuned,
    final_loss=history.epochs[-1]["validation_loss"],
    overfit_train=[row["train_loss"] for row in overfit.epochs],
    overfit_validation=[row["validation_loss"] for row in overfit.epochs],
    test_accuracy=metrics.wilson(right.sum(), size),
    test_gain=gain,
    recorded_zero=zero.mean(),
    recorded_accuracy={str(n): mean for n, mean in means.items()},
    recorded_gain=pooled_gain,
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
# So a few hundred examples and a minute of two cores turn a general model into a better judge of
# reviews. What did it give up for that? The next notebook will measure it.

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
