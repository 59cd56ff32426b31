# %% [markdown] slide="slide" minutes=2
# # 01 In-context learning
#
# In this notebook you make a language model do a task by showing it examples in the prompt,
# measure when that helps and when it hurts, and see what every example costs.

# %% [markdown] slide="notes"
# Start with a vote: the model reads a film review and says positive or negative. Will sixteen
# solved examples in the prompt make it better, worse, or change nothing? Write the votes down; the
# first curve answers them.

# %% [markdown]
# **Objectives.** Afterwards you can
#
# - write zero-shot, one-shot and few-shot prompts, and score an answer by its log-likelihood,
# - measure accuracy against the number of shots, and look at each draw of examples by itself,
# - tell the effect of the examples from that of their order, calibrate, and judge whether it
#   helped,
# - set temperature and top-p, and say what they do to the next-token distribution,
# - say what a shot costs in tokens and in time, and when to fine-tune instead.
#
# **Minutes**: 95 to study (of which 32 on exercises), 67 as a talk; the cells need about three on
# two cores the first time, and less after that. **Prerequisites:** [00](00_start_here.ipynb); what
# a token is.
#
# **Measured before a change.** Some rows of the data and some grades were mended after this page was
# measured, and it is being measured again. Your own scores of written answers can differ from the page's.

# %%
import itertools
import random
import time

import numpy as np
import pandas as pd
import torch
from workbook import checks, encoding, grading, metrics, models, plots
from workbook import recording, runcache, scoring, settings, tasks
from workbook.templates import few_shot

LIVE = settings.pick(smoke=12, default=200, full=1000)  # test reviews in live cells
FEW = settings.pick(smoke=6, default=100, full=400)  # in cells that score them many times
WRITTEN = settings.pick(smoke=3, default=24, full=60)  # where the model writes its answers
DRAW = settings.seed()  # which examples are drawn as shots here: WORKBOOK_SEED, else 0

# %% [markdown] slide="slide" minutes=3
# ## The model that we ask
#
# SmolLM2-135M-Instruct is small but real. It was pretrained on text, which means that it learned to
# predict the next token, and then *instruction-tuned* by its makers on questions with good answers.
# So "zero-shot" below never means that it saw nothing like our tasks. The copy here was also stored
# in 4 bits a weight once; what that cost it is not measured. Nothing is trained in this notebook.

# %% [markdown] slide="notes"
# Self-supervised pretraining needs no labels: the next token is the label. Supervised tuning needs
# people who write answers. In-context learning needs neither, and changes no weight: what the model
# "learns" from a prompt is gone with the prompt.

# %%
model, tokenizer = models.load()
parameters = models.count_parameters(model)
print(f"{parameters.total:,} weights, context of {model.config.max_position_embeddings:,} tokens")
sentiment = tasks.load_task("sentiment")
plain = sentiment.template("plain")
test = list(sentiment.splits["test"].select(range(LIVE)))
truth = np.array([row["label"] for row in test])
print(f"{LIVE} test reviews, {truth.mean():.0%} of them {sentiment.labels[1]}")

# %% [markdown] slide="slide" minutes=4
# ## Zero-shot, one-shot, few-shot
#
# A *zero-shot* prompt holds only the question. A *one-shot* prompt shows one solved example first,
# a *few-shot* prompt several; each example is a *shot* or *demonstration*. Shots come from the
# training split, never from the test split: a prompt that holds the test answer measures nothing.
# Here is a real prompt with two shots. It stops where the model is to go on.

# %% [markdown] slide="notes"
# Point at the end of the prompt: there is no space after the colon, because the model's tokens
# carry the space in front of the word. And point at the split: a well-known course lab takes its
# shots from the test set.


# %%
def demonstrations(task, shots, draw):
    """Return training rows, as evenly over the labels as they go, in an order of the draw."""
    rows = list(tasks.draw(task.splits["train"], shots, seed=draw))
    random.Random(draw).shuffle(rows)
    return rows


print(few_shot(plain, demonstrations(sentiment, 2, draw=DRAW), test[0]).prompt)

# %% [markdown] literature=true
# ### Exercise 1.1 — A few-shot prompt
#
# **Difficulty:** easy. **Importance:** high. **Minutes:** 6. Build such a prompt yourself from pairs of a text
# and its label, with one empty line between the examples, so that the model's next word is the
# answer for the last text.


# %% exercise="1.1"
def few_shot_prompt(pairs, text):
    """Return the solved (text, label) pairs and then the open question about `text`."""
    # BEGIN SOLUTION
    shots = [f"{shown}\nSentiment: {label}" for shown, label in pairs]
    return "\n\n".join([*shots, f"{text}\nSentiment:"])
    # END SOLUTION


# %% check="1.1"
checks.nb01.check_few_shot_prompt(few_shot_prompt)

# %% [markdown]
# <details><summary>Hint 1</summary>
# Make a list with one text for each solved pair and one for the open question, then join it.
# </details>
#
# <details><summary>Hint 2</summary>
# A solved pair is <code>f"{shown}\nSentiment: {label}"</code>; the open question ends in a colon.
# </details>

# %% [markdown] slide="slide" minutes=4
# ## An answer is a probability
#
# After the prompt the model gives every token of its vocabulary a probability to come next. We can
# let it write, or compare the answers that we allow: the *log-likelihood* of an answer is the sum
# of the log-probabilities of its tokens. Comparing is faster, and an answer is always valid.

# %% [markdown] slide="notes"
# The list shows why we compare: much of the probability lies on tokens that are no label at all.
# Only the two labels take part in the comparison below.

# %%
prompt = plain.render(test[0]).prompt
ids = torch.tensor([encoding.token_ids(tokenizer, prompt)], device=model.device)
with torch.inference_mode():
    probabilities = model(ids).logits[0, -1].softmax(-1)
for probability, token in zip(*probabilities.topk(5), strict=True):
    print(f"{probability:.3f} {tokenizer.decode([token])!r}")
found = scoring.classify(model, tokenizer, [prompt], sentiment.labels, prompt_style="plain")
for label, score, share in zip(
    sentiment.labels, found.scores[0], found.probabilities()[0], strict=True
):
    print(f"{label}: log-likelihood {score:.2f}, {share:.0%} of the two labels")

# %% [markdown] literature=true
# ### Exercise 1.2 — The log-likelihood of an answer
#
# **Difficulty:** medium. **Importance:** high. **Minutes:** 8. Given the logits (row i stands before token i of
# the answer) and the answer's token ids, return its log-likelihood in nats.


# %% exercise="1.2"
def log_likelihood(logits, ids):
    """Return the log-likelihood (nats) of `ids` under logits [tokens, vocabulary]."""
    # BEGIN SOLUTION
    logprobs = logits.log_softmax(-1)
    return sum(logprobs[i, token] for i, token in enumerate(ids))
    # END SOLUTION


# %% check="1.2"
checks.nb01.check_log_likelihood(log_likelihood)

# %% [markdown]
# <details><summary>Hint 1</summary>
# <code>log_softmax(-1)</code> turns each row of logits into log-probabilities.
# </details>
#
# <details><summary>Hint 2</summary>
# Pick one number from each row, the one of that row's token, and add them up.
# </details>

# %% [markdown] slide="slide" minutes=4 literature=true
# ## Zero shots against four
#
# Now for all live reviews: which label is more likely? We ask without any shot and with four. An
# accuracy on a few hundred reviews is uncertain, so it comes with a 95 % interval over the reviews.
# Both prompts answer the *same* reviews, so their difference is taken review by review and gets its
# own interval. That one decides: two intervals may overlap and the difference still be clear.

# %% [markdown] slide="notes"
# The interval is Wilson's. On 200 reviews it is about 6 points to each side, on 1,000 about 3. That
# of the paired difference is a bootstrap over the reviews. Neither covers another draw of shots.


# %%
def most_likely(model, prompts, labels):
    """Return the index of the most likely label for each prompt."""
    with scoring.working_copy(model) as working:
        found = scoring.classify(working, tokenizer, prompts, labels, prompt_style="plain")
    return {"labels": found.predictions}


def predict(shown, template=plain, rows=test):
    """Return the most likely label of each row after the shown demonstrations."""
    prompts = [few_shot(template, shown, row).prompt for row in rows]
    options = {"prompts": prompts, "labels": template.choices(rows[0])}
    name = f"01 {template.name}, {len(shown)} shots"
    return np.array(runcache.cached(name, most_likely, model=model, **options)["labels"])


# %%
live = {n: predict(demonstrations(sentiment, n, draw=DRAW)) for n in (0, 4)}
accuracy = {n: metrics.wilson(int((found == truth).sum()), LIVE) for n, found in live.items()}
for n, found in live.items():
    share = np.mean(found)
    print(f"{n} shots: accuracy {accuracy[n]}, answers 'positive' {share:.0%} of the time")
four_minus_zero = metrics.paired_interval(*((live[n] == truth).astype(float) for n in (4, 0)))
print(f"four shots minus none, review by review: {four_minus_zero}")

# %% [markdown] claims=["0.72 <= measured['zero_shot'][0] <= 0.84", "0.45 <= measured['four_shot'][0] <= 0.62", "max(measured['positive_share']['4'], 1 - measured['positive_share']['4']) >= 0.85", "measured['four_minus_zero'][2] < 0"]
# Without a shot, between 72 and 84 % of your answers are right. With these four shots it is 45 to
# 62 %, near a coin, and over 85 % of the answers are one and the same word. Four good examples made
# it worse on these reviews. Is that just a bad draw?

# %% [markdown] slide="slide" minutes=4
# ## Accuracy against shots
#
# Your draw of four shots is one of very many. The curve was *recorded*: the same code on all 1,000
# test reviews, with five draws of demonstrations for each number of shots (each dot is one draw;
# the band runs from the worst to the best). The stars are *your* runs from above.

# %% [markdown] slide="notes"
# Compare with the votes. Let the class look at the single dots before the line. A draw changes two
# things at once, which reviews are shown and the order of their labels. The table below the curve
# shows both; ask what it has in common at four shots before you go on.

# %%
recorded = recording.load("01_shots")
table = recorded.frame
movies = table[(table.task == "sentiment") & (table.template == "plain")]
alt = ", ".join(f"{n} shots {a:.2f}" for n, a in movies.groupby("shots").accuracy.mean().items())
figure = plots.curve(
    movies, "shots", "accuracy", dot=list(accuracy.items()), log=True,
    baseline=0.5, baseline_label="chance", xlabel="shots in the prompt",
)  # fmt: skip
plots.show(figure, alt=f"Accuracy against shots with a band over five draws; means: {alt}.")

# %% [markdown]
# The draws behind the curve, each with the order of its labels (+ positive, − negative), and the
# difference to no shot, with an interval over the five draws and the reviews: Student's *t*, where
# a draw is what a training run is in later chapters.

# %%
true = np.array(sentiment.splits["test"]["label"])


def right(rows, column="predictions"):
    """Return which recorded answers are right, 0 or 1, as an array [draws, reviews]."""
    found = np.array([list(text) for text in rows[column]], int)
    return (found == true[: found.shape[1]]).astype(float)


def against_none(shots):
    """Print each draw with its labels, and return the difference to no shot."""
    rows = movies[movies.shots == shots]
    for row in rows.sort_values("accuracy").itertuples():
        print(f"  {row.accuracy:.3f}  {row.demonstrations.replace('0', '−').replace('1', '+')}")
    return metrics.run_interval(right(rows) - right(movies[movies.shots == 0]))


# %%
gained = {4: against_none(4)}
print("shots: 4, minus none:", gained[4])

# %% [markdown] claims=["0.77 <= measured['recorded_mean']['0'] <= 0.81", "0.5 <= measured['recorded_lowest']['4'] <= measured['recorded_highest']['4'] <= 0.58", "all(order in ('0011', '1100', '0110', '1001') for order in measured['recorded_four_shot_orders'])", "measured['recorded_against_none']['4'][2] < 0"]
# Zero-shot, the model was right on 77–81 % of the reviews; with four shots on 50 to 58 %, in each
# of these five draws, and the interval of the difference lies below 0. But it knows only what was
# drawn: no draw has an order that *alternates* (+ − + − or − + − +), as a third of all orders do.
# So this curve does not tell what four shots do from what their order does. A later section does.

# %%
for shots in (1, 16):
    gained[shots] = against_none(shots)
    print(f"shots: {shots}, minus none: {gained[shots]}")
# To measure any recorded point again, about a minute on two cores, take the `#` away.
# recording.rerun("01_shots", task="sentiment", template="plain", shots=4, draw=0)

# %% [markdown] claims=["measured['recorded_one_shot']['negative'][0] >= 0.8", "measured['recorded_one_shot']['positive'][1] <= 0.7", "measured['recorded_lowest']['16'] <= 0.52", "measured['recorded_highest']['16'] >= 0.85", "measured['recorded_against_none']['16'][1] < 0 < measured['recorded_against_none']['16'][2]"]
# One shot: the three draws with a negative review reached at least 0.8, the two with a positive one
# at most 0.7. Sixteen: from under 0.52 to 0.85. Whether sixteen shots help or harm on average, five
# draws cannot tell: the interval of the difference holds 0.

# %% [markdown] slide="slide" minutes=4
# ## Why: the share of "positive" answers
#
# Half of the reviews are positive, so a sound classifier says "positive" about half of the time.
# The next curve shows how often the model really says it, draw by draw.

# %% [markdown] slide="notes"
# This is label bias: the examples move the model's preference for a word, whatever the review says.
# Three sources after Zhao et al. 2021: the majority label of the shots, the most recent label, and
# words that were common in pretraining. With four and sixteen ours are balanced, so it is not the
# majority. To test the most recent one, keep the reviews and change their order: the next slide.

# %%
figure = plots.curve(
    movies, "shots", "second_label", dot=[(n, np.mean(found)) for n, found in live.items()],
    log=True, baseline=0.5, baseline_label="true share", xlabel="shots in the prompt",
    ylabel="share answered 'positive'",
)  # fmt: skip
few = movies[movies.shots > 0]
last = few.demonstrations.str[-1].map({"0": "negative", "1": "positive"}).rename("last shot")
leaning = few.groupby(["shots", last]).second_label.agg(["count", "min", "max"])
print(leaning.to_string())
plots.show(figure, alt="Share of positive answers against shots: single draws lie anywhere from "
           f"{few.second_label.min():.2f} to {few.second_label.max():.2f}.")  # fmt: skip

# %% [markdown] claims=["measured['recorded_positive'][0] <= 0.05", "measured['recorded_positive'][1] >= 0.95", "measured['recorded_last_shot']['negative'][1] <= 0.1", "measured['recorded_last_shot']['positive'][0] >= 0.95"]
# Depending on the draw, "positive" is the answer to under 5 % or to over 95 % of the same reviews,
# though both labels were shown equally often. With four shots, the draws that end in a negative
# review say "positive" to at most 10 %, those that end in a positive one to at least 95 %. But
# these draws show different reviews too.

# %% [markdown] slide="slide" minutes=4
# ## Order alone changes the answers
#
# Now the *same* four demonstrations, and only their order changes. A reader would not care. We take
# eight of the 24 orders and count how often the model answers "positive".

# %% [markdown] slide="notes"
# The plus and minus signs are the labels in the order in which they are shown. Ask: does the last
# label win? An order that is good with these four reviews need not be with others: WORKBOOK_SEED=1
# shows others. Lu et al. 2022 found the same of models: a good order for one is not for another.

# %%
orders = list(itertools.permutations(demonstrations(sentiment, 4, draw=DRAW)))[::3]
by_order = [predict(order, rows=test[:FEW]) for order in orders]
shares = [metrics.wilson(int(found.sum()), FEW) for found in by_order]
names = [" ".join("+" if row["label"] else "−" for row in order) for order in orders]
hits = [float(np.mean(found == truth[:FEW])) for found in by_order]
for name, share, hit in zip(names, shares, hits, strict=True):
    print(f"{name}   answers 'positive' {share}   accuracy {hit:.2f}")

# %%
by_last = {}
for sign in "+−":
    ending = [share.estimate for name, share in zip(names, shares, strict=True) if name[-1] == sign]
    by_last[sign] = float(np.mean(ending))
    print(f"orders that end in {sign}: 'positive' {by_last[sign]:.0%} of the time")
low, high = min(shares), max(shares)
figure = plots.bars(
    [share.estimate for share in shares], shares, names, reference=truth[:FEW].mean(),
    reference_label="true share", xlabel="share answered 'positive'",
    whiskers="95 % interval over the reviews",
)  # fmt: skip
plots.show(figure, alt="Share of positive answers for eight orders of the same four examples, "
           f"from {low.estimate:.2f} to {high.estimate:.2f}.")  # fmt: skip

# %% [markdown] claims=["measured['last_positive'] >= 0.8", "measured['last_negative'] <= 0.5", "max(measured['order_accuracy']) - min(measured['order_accuracy']) >= 0.15"]
# Another order, other answers: orders that end in a positive example say "positive" to at least 80 %
# of the reviews, those that end in a negative one to at most 50 %, *recency bias*. Best and worst
# order differ by at least 0.15 in accuracy. Where do the alternating orders stand?

# %% [markdown] slide="slide" minutes=4
# ## Contextual calibration
#
# If the preference sits in the prompt, a review that says nothing, such as "N/A", shows it.
# *Contextual calibration* subtracts the log of the probability that such texts give a label from
# the label's log-likelihood, so that "N/A" comes out undecided. Do real reviews gain too?

# %% [markdown] slide="notes"
# Zhao et al. 2021 use the mean over "N/A", "[MASK]" and the empty text, and so do we. The method
# needs no labels and three forward passes. Whether an empty text is neutral *for this model* is an
# assumption that the next curve tests.

# %%
shown = demonstrations(sentiment, 4, draw=DRAW)
for text in ("N/A", "[MASK]", ""):
    neutral = few_shot(plain, shown, {"text": text, "label": 0}).prompt
    found = scoring.classify(model, tokenizer, [neutral], sentiment.labels, prompt_style="plain")
    print(f"{text!r:10} 'positive' has {found.probabilities()[0, 1]:.2f} of the two labels")

# %% [markdown] literature=true
# ### Exercise 1.3 — Contextual calibration
#
# **Difficulty:** medium. **Importance:** medium. **Minutes:** 8. From the log-likelihoods of the labels for
# some reviews and for some neutral texts, return calibrated scores: normalise each neutral text
# over the labels, average, and subtract the logarithm.


# %% exercise="1.3"
def calibrate(scores, neutral_scores):
    """Return scores [items, labels] (nats) without the bias that the neutral texts show."""
    # BEGIN SOLUTION
    shares = np.exp(neutral_scores)
    shares = shares / shares.sum(axis=1, keepdims=True)
    return scores - np.log(shares.mean(axis=0))
    # END SOLUTION


# %% check="1.3"
checks.nb01.check_calibrate(calibrate)

# %% [markdown]
# <details><summary>Hint 1</summary>
# <code>np.exp</code> gives probabilities; divide each row by its sum before you average the rows.
# </details>
#
# <details><summary>Hint 2</summary>
# The result has the shape of <code>scores</code>: NumPy subtracts a row of biases from every row.
# </details>

# %% [markdown] slide="subslide" minutes=4
# Does it help? The sweep scored every prompt once and took both decisions from the same scores, so
# the two are compared review by review and draw by draw.

# %% [markdown] slide="notes"
# A method is judged on the same items and the same draws. The interval covers other reviews and
# other draws; without shots there is only one prompt, so there it covers the reviews alone. Read
# the draws in the last column before the mean: one of them falls far below the others.

# %%
gains, calibrated, gain_by_draw = {}, {}, {}
print("shots   calibrated minus plain   plain → calibrated, draw by draw")
for n, rows in movies.sort_values("draw").groupby("shots"):
    plainly, calibrated[n] = right(rows), right(rows, "predictions_calibrated")
    interval = metrics.run_interval if n else metrics.pooled_interval
    gains[n] = interval(calibrated[n] - plainly)
    gain_by_draw[str(n)] = (calibrated[n] - plainly).mean(axis=1)
    pairs = zip(plainly.mean(axis=1), calibrated[n].mean(axis=1), strict=True)
    print(f"{n:5}   {gains[n]!s:22}  ", "  ".join(f"{a:.2f} → {b:.2f}" for a, b in pairs))

# %% [markdown] claims=["measured['recorded_calibration_gain']['0'][2] < 0", "0.02 <= measured['recorded_calibration_gain']['4'][1] <= measured['recorded_calibration_gain']['4'][2] <= 0.31", "all(measured['recorded_calibration_gain'][n][1] < 0 < measured['recorded_calibration_gain'][n][2] for n in ('1', '16'))", "min(measured['recorded_gain_by_draw']['4']) > 0", "min(measured['recorded_gain_by_draw']['16']) > 0"]
# Zero-shot, calibration cost accuracy on these reviews (the interval lies below 0): "N/A" is not
# neutral to this model. With four shots it gained in each of five draws, on average 0.02 to 0.31.
# With sixteen each draw gained too, some hardly at all, and the interval holds 0, as it does with
# one shot: how much calibration brings there on average, five draws cannot tell.

# %%
both = movies.melt(["shots", "draw"], ["accuracy", "accuracy_calibrated"], "how", "score")
both["how"] = both.how.map({"accuracy": "plain", "accuracy_calibrated": "calibrated"})
figure = plots.curve(
    both, "shots", "score", series="how", log=True, baseline=0.5, baseline_label="chance",
    xlabel="shots in the prompt (recorded)", ylabel="accuracy",
)  # fmt: skip
means = both.groupby(["how", "shots"]).score.mean()
plots.show(figure, alt="Accuracy against shots, plain and calibrated, each with a band over five "
           f"draws; at 4 shots {means['plain', 4]:.2f}, {means['calibrated', 4]:.2f}.")  # fmt: skip

# %% [markdown] claims=["sum(score > measured['recorded_mean']['0'] for score in measured['recorded_calibrated']['16']) == 4", "min(measured['recorded_calibrated']['16']) <= 0.54", "sum(score > 0.8 for score in measured['recorded_calibrated']['16']) == 4", "sum(score > measured['recorded_mean']['0'] for score in measured['recorded_calibrated']['4']) == 2"]
# Against the bare question: of the draws with sixteen calibrated shots 4 of 5 do better, above 0.8,
# and one far worse, under 0.54. Their mean would hide both. With four shots two of five do better.

# %% [markdown] slide="slide" minutes=4
# ## Where shots are needed: labels that only they explain
#
# "Positive" needs no explanation. So we rename the labels: *bem* for positive, *zup* for negative.
# No instruction says so; only the demonstrations can. Zero-shot has to be at chance, and whatever
# rises above it was learned in the context.

# %% [markdown] slide="notes"
# The words mean nothing beforehand, so a score above chance must come from the shots. It is a hard
# case for a small model; Wei et al. 2023 found that larger ones learn such labels far better.

# %%
made_up = sentiment.template("made_up")
print(few_shot(made_up, demonstrations(sentiment, 2, draw=DRAW), test[0]).prompt)
codes = predict(demonstrations(sentiment, 8, draw=DRAW), template=made_up, rows=test[:FEW])
code_accuracy = metrics.wilson(int((codes == truth[:FEW]).sum()), FEW)
print(f"\nyour run, 8 shots: accuracy {code_accuracy}")
invented = table[table.template == "made_up"]
for n, rows in invented[invented.shots > 0].groupby("shots"):
    learned = metrics.run_interval(right(rows) - right(invented[invented.shots == 0]))
    print(f"recorded, {n} shots: {np.sort(rows.accuracy)}, minus none: {learned}")

# %% [markdown] claims=["0.45 <= measured['recorded_made_up']['plain 0'] <= 0.55", "measured['recorded_made_up_draws'][0] >= 0.49", "measured['recorded_made_up_draws'][-1] <= 0.74", "measured['recorded_made_up_gain'][1] < 0 < measured['recorded_made_up_gain'][2]"]
# Zero-shot the accuracy is at chance, 0.45 to 0.55, as it must be. With eight shots the five draws
# lie between 0.49 and 0.74, and the interval of the gain holds 0: whether this model learns new
# labels from a prompt, five draws cannot tell.

# %% [markdown] slide="slide" minutes=4
# ## Where shots are needed: the form of the answer
#
# The task *entities* asks for the people, places and organizations in a sentence, in a form that a
# program can read. The model writes its answer; *span F1* balances found names against false ones.

# %% [markdown] slide="notes"
# Read a few answers aloud before showing the score. Two things go wrong, and one score mixes them:
# the form, without which no program finds a name, and the reading itself. With shots a third comes
# in: names of the shots that do not stand in the sentence at all.


# %%
def write(model, prompts, tokens):
    """Return the text that the model writes after each prompt, up to an empty line."""
    with scoring.working_copy(model) as working:
        texts = scoring.generate(working, tokenizer, prompts, prompt_style="plain", max_new_tokens=tokens)
    return {"texts": [text.split("\n\n")[0] for text in texts]}


# %%
entities = tasks.load_task("entities")
rows = list(entities.splits["test"].select(range(WRITTEN)))
written = {}
for n in (0, 3):
    shown = demonstrations(entities, n, draw=DRAW)
    prompts = [few_shot(entities.template("plain"), shown, row).prompt for row in rows]
    written[n] = runcache.cached(
        f"01 entities, {n} shots", write, model=model, prompts=prompts, tokens=32
    )["texts"]

# %%
gold = [{kind: row[kind] for kind in grading.ENTITY_TYPES} for row in rows]
spans = {}
for n, texts in written.items():
    print(f"{n} shots: {texts[1][:90]!r}")
    found = [grading.parse_entities(text) for text in texts]
    counts = metrics.span_counts(found, gold)
    spans[n] = metrics.bootstrap_interval(tuple(counts.T), metrics.micro_f1)
print(f"wanted:  {entities.template('plain').render(rows[1]).completion!r}")
print(f"span F1 without shots {spans[0]}, with three {spans[3]}")

# %%
writing = table[table.task == "entities"]
columns = ["span_f1", "in_format"]
print(writing.groupby(["template", "style", "shots"])[columns].mean().round(2).to_string())
three = np.sort(writing[writing.shots == 3].span_f1)
print("span F1 of the five draws with three shots:", three.round(2))

# %% [markdown] claims=["measured['recorded_span_f1']['plain 0'] <= 0.05", "0.46 <= measured['recorded_three_shot_f1'][0] <= measured['recorded_three_shot_f1'][-1] <= 0.6", "measured['recorded_span_f1']['chat 0'] <= 0.15"]
# Without shots hardly a name can be read from the answers: F1 is under 0.05. An instruction that
# spells out the form reaches at most 0.15, but it was asked in the chat format, so two things
# differ. With three shots the five draws reach 0.46 to 0.6. Is it the form alone that was missing?
# Read the answers without regard to form, and look for names that come from the shots.


# %%
def named(rows):
    """Return all names of some rows, in lower case."""
    return {name.lower() for row in rows for kind in grading.ENTITY_TYPES for name in row[kind]}


def copied(texts, shown):
    """Return how many texts hold a name of the shots that their sentence does not hold."""
    pairs = [(text.lower(), row["text"].lower()) for text, row in zip(texts, rows, strict=False)]
    return sum(any(name in text and name not in sentence for name in named(shown))
               for text, sentence in pairs)  # fmt: skip


mentioned = {
    n: np.mean([name in text.lower() for text, row in zip(texts, rows, strict=True)
                for name in named([row])]) for n, texts in written.items()
}  # fmt: skip
for n, share in mentioned.items():
    print(f"your run, {n} shots: {share:.0%} of the names stand somewhere in the answer")

# %%
copies = copied(written[3], demonstrations(entities, 3, draw=DRAW))
print(f"your run, 3 shots: {copies} of {len(rows)} answers hold a name from the shots")
once = writing[writing.shots == 1].sort_values("draw")
copies_once = [
    copied(row.examples, demonstrations(entities, 1, draw=row.draw)) for row in once.itertuples()
]
print("recorded, 1 shot: of the first 3 answers of each draw", copies_once)
print(*once.examples.iloc[2], sep="\n")

# %% [markdown] claims=["measured['names_mentioned']['0'] <= 0.3", "measured['names_mentioned']['3'] >= 0.45", "sum(count == 3 for count in measured['recorded_copies_once']) == 4"]
# Not the form alone: wherever they stand, at most 30 % of the names are in your answers without
# shots, at least 45 % with three. And shots leak: in the sweep, 4 of 5 draws with one shot put a
# name of that shot into all 3 kept answers, whatever the sentence.

# %% [markdown] slide="slide" minutes=4
# ## Do shots draw out what the model knows?
#
# *Facts* are short questions with one right answer. Demonstrations show that a short answer is
# wanted; they never hold the fact that is asked for. The recorded sweep counts two things: answers
# that match exactly, and answers that contain the fact somewhere.

# %% [markdown] slide="notes"
# Exact match forgives case, articles and punctuation. The gap between "contains" and "matches" is
# form. If shots only taught the form, "contains" would stay where it was, provided that an answer
# has room to come to its fact. Ask the class what else differs between the rows of the table.

# %%
facts = table[table.task == "facts"]
columns = ["exact_match", "contains_answer", "words_per_answer"]
print(facts.groupby(["template", "style", "shots"])[columns].mean().round(2).to_string())
questions = tasks.load_task("facts").splits["test"].select(range(3))["question"]
for question, bare, shot in zip(
    questions, facts.examples.iloc[0], facts.examples.iloc[1], strict=True
):
    print(f"{question}  zero-shot: {bare!r}  {facts.shots.iloc[1]}-shot: {shot!r}")
in_chat = facts[facts["style"] == "chat"].examples.iloc[0]
print("in the chat format, zero-shot:", *in_chat, sep="\n  ")

# %%
fact_gains = {}
for column in ("exact", "contains"):
    marks = {key: np.array([list(text) for text in part[column]], float)
             for key, part in facts.groupby(["style", "shots"])}  # fmt: skip
    for style in ("plain", "chat"):
        gain = metrics.run_interval(marks["plain", 4] - marks[style, 0])
        fact_gains[f"{column} {style}"] = gain
        print(f"{column}: four shots minus none in {style} style {gain}")

# %% [markdown] claims=["measured['recorded_exact_match']['plain 0'] <= 0.1", "measured['recorded_fact_gains']['exact plain'][1] >= 0.35", "measured['recorded_fact_gains']['contains chat'][1] >= 0.1", "measured['recorded_contains_answer']['chat 0'] <= 0.35", "measured['recorded_contains_answer']['plain 4'] >= 0.45", "recorded['01_shots']['settings']['max_new_tokens']['facts'] == 12"]
# Exact matches rise from under 0.1 by at least 0.35 over draws and questions; that is form, and
# maybe more. Answers that *contain* the fact rise too, from at most 0.35 to over 0.45, by at least
# 0.1. Did the shots draw out knowledge? This sweep cannot tell: it cut each answer after 12
# tokens, or at a line break, and the long answers without shots often end before they come to the
# fact.

# %%
parts = [
    ("sentiment", movies, "accuracy"), ("made-up labels", invented, "accuracy"),
    ("entities", writing, "span_f1"), ("facts", facts, "exact_match"),
]  # fmt: skip
curves = pd.concat(
    part[part["style"] == "plain"].assign(name=name, score=part[column])
    for name, part, column in parts
)
figure = plots.curve(
    curves, "shots", "score", series="name", log=True, dot=[(8, code_accuracy), (3, spans[3])],
    xlabel="shots in the prompt", ylabel="accuracy, F1 or exact match",
)  # fmt: skip
means = curves.groupby(["name", "shots"]).score.mean()
ends = ", ".join(f"{name} {means[name].iloc[0]:.2f} to {means[name].iloc[-1]:.2f}"
                 for name, *_ in parts)  # fmt: skip
plots.show(figure, alt=f"Scores of four tasks, from zero-shot to the most shots: {ends}.")

# %% [markdown] slide="slide" minutes=4
# ## When the model writes: temperature and top-p
#
# Writing needs a choice from the next-token distribution. *Greedy* takes the likeliest token,
# *sampling* draws one. A *temperature* T divides the logits first: below 1 it sharpens, above 1 it
# flattens. *Top-p* keeps only the likeliest tokens that together reach probability p.

# %% [markdown] slide="notes"
# Look at the last column: it is the tail of about 49,000 tokens. Each is unlikely, together they
# are not, and at temperature 2 they take over. Top-p cuts exactly that tail.

# %%
question = "Suggest a name for a small bakery. Answer with the name alone."
text = encoding.format_prompt(tokenizer, question)
ids = torch.tensor([encoding.token_ids(tokenizer, text)], device=model.device)
with torch.inference_mode():
    logits = model(ids).logits[0, -1].float()
top = logits.topk(5).indices
temperatures = (0.5, 1.0, 2.0)
rows = [(logits / T).softmax(-1)[top].tolist() for T in temperatures]
tails = [1 - sum(row) for row in rows]
columns = [*(repr(tokenizer.decode([token])) for token in top), "all others"]
figure = plots.heatmap(
    [[*row, tail] for row, tail in zip(rows, tails, strict=True)],
    [f"T = {T}" for T in temperatures], columns, label="probability", xlabel="next token",
)  # fmt: skip
plots.show(figure, alt="Next-token probabilities at three temperatures; the share of all tokens "
           f"beyond the top five grows from {tails[0]:.2f} to {tails[2]:.2f}.")  # fmt: skip

# %%
samplings = [(0.0, 1.0), (0.7, 1.0), (1.5, 1.0), (1.5, 0.8)]
different = []
for temperature, top_p in samplings:
    texts = scoring.generate(
        model, tokenizer, [question] * 5, temperature=temperature, top_p=top_p, max_new_tokens=8
    )
    different.append(len(set(texts)))
    print(f"T {temperature}, top-p {top_p}: {different[-1]} different: {texts}")

# %% [markdown] claims=["0.05 <= measured['tail_by_temperature'][0] <= 0.2", "measured['tail_by_temperature'][2] >= 0.9", "measured['different_samples'][0] == 1", "min(measured['different_samples'][1:]) >= 3"]
# At `T = 0.5` the tokens beyond the top five share a probability of 0.05 to 0.2, at `T = 2` over
# 0.9: words fall apart. Greedy gives the same answer five times; each sampling gave at least 3
# different ones. Write greedily where an answer is right or wrong, sample where variety is wanted.

# %% [markdown] literature=true
# ### Exercise 1.4 — Temperature
#
# **Difficulty:** easy. **Importance:** medium. **Minutes:** 5. Return the probabilities of the next token at a
# temperature above 0.


# %% exercise="1.4"
def at_temperature(logits, temperature):
    """Return the probabilities [vocabulary] of the next token at a temperature above 0."""
    # BEGIN SOLUTION
    return (logits / temperature).softmax(-1)
    # END SOLUTION


# %% check="1.4"
checks.nb01.check_temperature(at_temperature)

# %% [markdown]
# <details><summary>Hint 1</summary>
# The temperature changes the logits, not the probabilities.
# </details>
#
# <details><summary>Hint 2</summary>
# Divide, then take the softmax over the last axis.
# </details>

# %% [markdown] slide="slide" minutes=4
# ## What a shot costs
#
# Each shot is read again with every question. Its keys and values in the attention layers do not
# depend on what follows, so they can be kept: with a *KV cache* the shared beginning of all prompts
# is computed once. `workbook.scoring` does that. Here is the same work with and without it.

# %% [markdown] slide="notes"
# A hosted model bills the tokens of the prompt with every call, cached ones at a discount. The
# context is also finite: this model reads 8,192 tokens.


# %%
def seconds_of(model, prompts, labels):
    """Return the seconds to score the prompts together, sharing their beginning, and one by one."""
    begin = time.perf_counter()
    scoring.classify(model, tokenizer, prompts, labels, prompt_style="plain")
    middle = time.perf_counter()
    for prompt in prompts:
        scoring.classify(model, tokenizer, [prompt], labels, prompt_style="plain")
    return {"shared": middle - begin, "alone": time.perf_counter() - middle}


prompts = [few_shot(plain, demonstrations(sentiment, 8, 0), row).prompt for row in test[:WRITTEN]]
seconds = runcache.cached(
    "01 shared prefix", seconds_of, model=model, prompts=prompts, labels=sentiment.labels
)
speedup = seconds["alone"] / seconds["shared"]
print(f"{len(prompts)} reviews, 8 shots: {seconds['shared']:.1f} s with the shared beginning "
      f"computed once, {seconds['alone']:.1f} s without: {speedup:.1f} times as long")  # fmt: skip

# %%
cost = movies.groupby("shots")[["tokens_per_prompt", "seconds_per_row"]].mean()
per_shot = (cost.tokens_per_prompt[16] - cost.tokens_per_prompt[0]) / 16
print(cost.round(3).to_string())
print(f"one shot adds {per_shot:.0f} tokens to every prompt")
ratio = cost.loc[16] / cost.loc[0]
print(f"16 shots: {ratio.tokens_per_prompt:.0f} times the tokens of none, "
      f"{ratio.seconds_per_row:.1f} times the time")  # fmt: skip

# %% [markdown] claims=["1.8 <= measured['recorded_cost_ratio']['seconds'] <= 2.5", "15 <= measured['recorded_cost_ratio']['tokens'] <= 20"]
# With the shared beginning computed once, sixteen shots, 15 to 20 times the tokens, took 1.8 to
# 2.5 times as long as none in the sweep. How much longer your eight shots take without it is
# printed above; other work on the machine blurs it. But sharing needs *one* prompt for many
# questions: shots picked to resemble each question, which can work better (Liu et al. 2022), cannot.

# %% [markdown] literature=true
# ### Exercise 1.5 — What a shot costs
#
# **Difficulty:** easy. **Importance:** medium. **Minutes:** 5. How many tokens does the model have to compute
# for a number of questions after the same demonstrations, with and without the cache?


# %% exercise="1.5"
def tokens_read(shots_tokens, question_tokens, questions, cached):
    """Return the tokens computed in all for `questions` questions after the same shots."""
    # BEGIN SOLUTION
    times = 1 if cached else questions
    return shots_tokens * times + question_tokens * questions
    # END SOLUTION


# %% check="1.5"
checks.nb01.check_tokens_read(tokens_read)

# %% [markdown]
# <details><summary>Hint 1</summary>
# The questions differ, so they are computed once each, cache or not.
# </details>
#
# <details><summary>Hint 2</summary>
# The demonstrations are computed once with the cache, and once for each question without.
# </details>

# %% [markdown] slide="slide" minutes=4 claims=["200 <= measured['shots_that_fit'] <= 300"]
# ## Where prompting ends
#
# - Shots paid where they showed the form of an answer: names and facts could hardly be read
#   without.
# - Whether they taught new labels or drew out knowledge, five draws and short answers do not tell.
# - On a task that the model knew, they moved its preference for a word, and the result hung on
#   which examples were shown and in which order. Calibration undid a part of that.
# - Each question pays for each shot, and the context holds 200 to 300 such shots, not thousands.
#
# With labelled examples at hand, there is another place for them: the weights.

# %% [markdown] slide="notes"
# Come back to the votes of the first slide. Then the question for the next two notebooks: if we may
# use a few hundred labelled examples, is the prompt the right place for them?

# %%
fits = int((model.config.max_position_embeddings - cost.tokens_per_prompt[0]) / per_shot)
print(f"16 shots read {cost.tokens_per_prompt[16]:.0f} tokens per review, zero-shot "
      f"{cost.tokens_per_prompt[0]:.0f}; the context holds about {fits} shots")  # fmt: skip

# %% [markdown] slide="slide" minutes=4
# ## Quiz

# %% [markdown] slide="notes"
# Let everybody answer alone first; each wrong answer says why it is wrong.

# %%
checks.quiz("01")

# %% [markdown] slide="slide" minutes=2
# ## What we measured

# %% [markdown] slide="notes"
# The table below is what your machine measured, and is kept beside the notebook for the tests.

# %% tags=["long"]
spread = movies.groupby("shots").accuracy.agg(["mean", "min", "max"])
by_shots = {str(n): row for n, row in spread.round(4).iterrows()}
one_shot = movies[movies.shots == 1].groupby("demonstrations").accuracy.agg(["min", "max"])
wanted = {"made_up": ("accuracy", invented), "span_f1": ("span_f1", writing)}
wanted |= {name: (name, facts) for name in ("exact_match", "contains_answer")}
kept = {
    name: {f"{style} {shots}": score
           for (style, shots), score in part.groupby(["style", "shots"])[column].mean().items()}
    for name, (column, part) in wanted.items()
}
recording.measured(
    "01",
    headline=f"zero-shot {spread['mean'][0]:.2f}; with 16 shots {spread['min'][16]:.2f} to "
    f"{spread['max'][16]:.2f}, by the draw",
    zero_shot=accuracy[0],
    four_shot=accuracy[4],
    four_minus_zero=four_minus_zero,
    positive_share={str(n): float(np.mean(found)) for n, found in live.items()},
    order_shares=[share.estimate for share in shares],
    order_accuracy=hits,
    last_positive=by_last["+"],
    last_negative=by_last["−"],
    made_up_8_shot=code_accuracy,
    span_f1_zero_shot=spans[0],
    span_f1_three_shot=spans[3],
    names_mentioned={str(n): float(share) for n, share in mentioned.items()},
    answers_with_copied_names=copies / len(written[3]),
    tail_by_temperature=tails,
    different_samples=different,
    shared_prefix_speedup=speedup,
    recorded_mean={n: row["mean"] for n, row in by_shots.items()},
    recorded_lowest={n: row["min"] for n, row in by_shots.items()},
    recorded_highest={n: row["max"] for n, row in by_shots.items()},
    recorded_positive=[few.second_label.min(), few.second_label.max()],
    recorded_against_none={str(n): gain for n, gain in gained.items()},
    recorded_four_shot_orders=movies[movies.shots == 4].demonstrations.tolist(),
    recorded_one_shot={"negative": one_shot.loc["0"], "positive": one_shot.loc["1"]},
    recorded_last_shot={side: row[["min", "max"]] for side, row in leaning.loc[4].iterrows()},
    recorded_calibration_gain={str(n): gain for n, gain in gains.items()},
    recorded_gain_by_draw=gain_by_draw,
    recorded_calibrated={str(n): values.mean(axis=1) for n, values in calibrated.items()},
    recorded_made_up_draws=np.sort(invented[invented.shots == 8].accuracy),
    recorded_made_up_gain=learned,
    recorded_three_shot_f1=three,
    recorded_copies_once=copies_once,
    recorded_fact_gains=fact_gains,
    recorded_cost_ratio={"tokens": ratio.tokens_per_prompt, "seconds": ratio.seconds_per_row},
    shots_that_fit=fits,
    **{f"recorded_{name}": values for name, values in kept.items()},
)

# %% [markdown] literature=true
# ## Further reading
#
# - Brown et al. 2020, *Language Models are Few-Shot Learners*, arXiv 2005.14165: zero-, one- and
#   few-shot prompting of GPT-3.
# - Zhao et al. 2021, *Calibrate Before Use*, arXiv 2102.09690: label biases and contextual
#   calibration.
# - Lu et al. 2022, *Fantastically Ordered Prompts and Where to Find Them*, arXiv 2104.08786: order
#   sensitivity.
# - Liu et al. 2022, *What Makes Good In-Context Examples for GPT-3?*, arXiv 2101.06804: shots
#   chosen for each question.
# - Min et al. 2022, *Rethinking the Role of Demonstrations*, arXiv 2202.12837: form and label words
#   matter more than right labels.
# - Holtzman et al. 2020, *The Curious Case of Neural Text Degeneration*, arXiv 1904.09751: nucleus
#   (top-p) sampling.
# - Wei et al. 2023, *Larger Language Models Do In-Context Learning Differently*, arXiv 2303.03846:
#   labels without a meaning of their own.
# - Hutto & Gilbert 2014, *VADER*, ICWSM: the human-rated reviews.
# - Allal et al. 2025, *SmolLM2*, arXiv 2502.02737: the model.

# %% [markdown] slide="skip"
# ## Free the memory
#
# Two open notebooks may need more memory than a laptop has. This cell lets go of the models and other
# large things; the page, your functions and the exercises stay. To train or score again, run the
# notebook from the top: seconds now. *Kernel → Shut Down Kernel* gives all of the memory back.

# %% slide="skip"
from workbook import memory

memory.free_notebook()
