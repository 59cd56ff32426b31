# %% [markdown] slide="slide" minutes=2
# # 02 Prompt datasets
#
# You turn human-rated reviews into the examples that notebook 03 learns from, and see at every step
# what can go wrong without any error message.

# %% [markdown] slide="notes"
# Ask who has fine-tuned a model before, and who has looked at the token ids of a training example.
# Many runs fail here, in the data, while the loss curve looks fine.

# %% [markdown]
# **Objectives.** Afterwards you can
#
# - read rated rows critically: thresholds, balance, what was left out,
# - write templates in the promptsource format and load those of others,
# - encode a prompt–completion pair with the prompt masked and the end token learned,
# - pad, truncate and batch without losing labels or time,
# - show that a split leaks, and split so that it does not.
#
# **Minutes**: 105 to study (of which 42 on exercises), 92 as a talk; the cells need about two on
# two cores the first time, and less after that.
# **Prerequisites:** [notebook 01](01_in_context_learning.ipynb).

# %%
import jinja2
import numpy as np
import pandas as pd
import torch
from IPython.display import display
from matplotlib.figure import Figure
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.neighbors import KNeighborsClassifier
from transformers import DataCollatorForLanguageModeling

from workbook import assets, checks, encoding, errors, metrics, models, plots, recording
from workbook import runcache, scoring, settings, tasks, templates
from workbook.tasks import splits
from workbook.tasks.reviews import FILES, NEUTRAL_VALENCE, POLAR_VALENCE

LIVE = settings.pick(smoke=8, default=200, full=500)  # reviews to score per template
SAMPLE = settings.pick(smoke=100, default=1000, full=5000)  # reviews to count tokens of

# %% [markdown] slide="slide" minutes=4
# ## Raw rows, and what a label is
#
# At least twenty people rated each snippet from −4 to 4; the file keeps the mean, the *valence*.
# Always look at raw rows first: they show what no summary will.

# %% [markdown] slide="notes"
# Read two or three rows aloud and let the room rate them. The doubled single quotes and double
# blanks are in the file; the loader mends them. Source: Hutto and Gilbert, 2014.


# %%
def read_raw(domain):
    """Return the file of a domain as it is: id, valence, text."""
    path = assets.reviews_dir() / FILES[domain]
    return pd.read_csv(path, sep="\t", names=["id", "valence", "text"], quoting=3)


raw = read_raw("movies")
with pd.option_context("display.max_colwidth", 100):
    display(raw.iloc[[2, 5, 6, 9, 14]])

# %% [markdown]
# A model learns classes, so somebody has to draw lines through this scale. Ours: polar from
# ±1 on, neutral up to ±½, and what lies between is left out. A line is a decision; state it.


# %%
def label_of(valence):
    """Return the label of a mean rating."""
    if abs(valence) >= POLAR_VALENCE:  # 1
        return "positive" if valence > 0 else "negative"
    return "neutral" if abs(valence) <= NEUTRAL_VALENCE else "left out"  # 0.5


raw["label"] = raw.valence.map(label_of)
counts = raw.label.value_counts()
print(counts.to_dict())


# %%
def histogram(groups, bins, xlabel, ylabel):
    """Draw the stacked counts of values, given as {name: (values, colour)}."""
    plots.style()
    fig = Figure(figsize=(9, 4.2))
    ax = fig.add_subplot(xlabel=xlabel, ylabel=ylabel)
    values, colours = zip(*groups.values(), strict=True)
    colours = [plots.OKABE_ITO[colour] for colour in colours]
    ax.hist(values, bins, stacked=True, label=list(groups), color=colours)
    fig.legend(loc="outside upper left", ncols=4)
    return fig


# %%
colours = {"negative": "vermillion", "neutral": "black", "positive": "blue", "left out": "yellow"}
# A rating on a line belongs to the label, not to what is left out: move it off the edge of the bar.
shown = raw.valence * raw.label.map(
    {"negative": 1.001, "positive": 1.001, "neutral": 0.999, "left out": 1}
)
groups = {name: (shown[raw.label == name], colour) for name, colour in colours.items()}
fig = histogram(
    groups, np.arange(-4, 4.01, 0.25), "mean human rating (valence, −4 to 4)", "movie snippets"
)
alt = (
    "Histogram of the valence of the movie snippets with two hills, around −2 and 2, and a "
    f"valley between: {counts['neutral']:,} of {len(raw):,} snippets are neutral."
)
plots.show(fig, alt)

# %% [markdown] claims=["measured['neutral_share'] < 0.06", "0.45 <= measured['majority_accuracy'] <= 0.5", "0.2 <= measured['majority_f1'] <= 0.25"]
# Two hills and a valley: people who write about films rarely have no opinion. So the three-label
# task is imbalanced, with less than 6 % neutral snippets, and accuracy hides it. A classifier that
# always says "positive" reaches 0.45 to 0.5; its **macro F1**, the mean over the labels, is
# 0.2 to 0.25 and shows that it knows nothing.

# %%
domains = {name: read_raw(name).valence.map(label_of).value_counts() for name in FILES}
display(pd.DataFrame(domains).T[list(colours)])

three = tasks.load_task("sentiment-3")
truth = three.splits["test"]["label"]
always = [three.labels.index("positive")] * len(truth)
majority = metrics.compute("accuracy", always, truth)
majority |= metrics.compute("f1_macro", always, truth, labels=[0, 1, 2])
print("always positive:", {name: round(value, 2) for name, value in majority.items()})

# %% [markdown]
# Editorials have neutral snippets in plenty. Why not borrow them? Because then the *domain* would
# give the label away: the model could learn to recognize newspaper prose, score well, and know
# nothing about neutral films. We stay inside one domain and keep the others to test transfer.

# %% [markdown] slide="slide" minutes=5
# ## Templates: from a row to a prompt and a completion
#
# A language model reads text, not columns. A **template** says how a row becomes a *prompt* and the
# *completion* that should follow it. It is Jinja, and `|||` stands between the two.

# %% [markdown] slide="notes"
# The format is that of promptsource, whose two thousand templates were written by a crowd of
# researchers. answer_choices lists the verbal labels in the order of the label numbers.

# %%
task = tasks.load_task("sentiment")
question = task.template("question")
print("jinja:\n" + question.jinja)
print("\nanswer choices:", question.answer_choices)

row = task.splits["train"][3]
print("\nrow:", row)
print("\nrendered:", question.render(row))

# %% [markdown]
# One row, many templates: each asks about the same review in other words, and some use other
# answers.

# %%
for template in task.templates:
    prompt, completion = template.render(row)
    print(f"--- {template.name}\n{prompt}\n→ {completion}\n")

# %% [markdown]
# The last one, `made_up`, has answers without meaning: only examples can teach it.
#
# What if a template names a field that the row lacks? Plain Jinja writes *nothing* there and goes
# on: a thousand prompts without a review, and no error. Our environment is strict.

# %%
careless = jinja2.Environment().from_string("{{review}}\nSentiment:").render(row)
print("plain Jinja: ", repr(careless))
try:
    templates.Template("typo", "{{review}}\nSentiment: ||| {{label}}").render(row)
except errors.WorkbookError as error:
    print("the workbook:", error)

# %% [markdown] slide="subslide" minutes=6 literature=true
# ### Exercise 2.1 — Render a template by hand
#
# **Difficulty:** easy. **Importance:** high. **Minutes:** 8. Write what `render` does with plain `jinja2`:
# give the row and the list `answer_choices` to the template, split at `|||`, strip both parts. An
# unknown field must be an error.

# %% [markdown] slide="notes"
# Two traps: the choices keep a blank around each word unless stripped, and an undefined name in
# Jinja is an empty text by default.


# %% exercise="2.1"
def render(source, choices, row):
    """Return the stripped prompt and completion of a promptsource template."""
    # BEGIN SOLUTION
    options = [choice.strip() for choice in choices.split("|||")]
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)
    text = environment.from_string(source).render(**row, answer_choices=options)
    prompt, completion = text.split("|||")
    return prompt.strip(), completion.strip()
    # END SOLUTION


# %% check="2.1"
checks.nb02.check_render(render)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `jinja2.Environment(undefined=...)` makes templates with `from_string`, and a template has
# `render(**row, answer_choices=[...])`.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `choices.split("|||")` leaves blanks: strip each choice. `jinja2.StrictUndefined` raises an error
# where the default writes nothing.
#
# </details>

# %% [markdown] slide="slide" minutes=4
# ## Templates of others load as they are
#
# The promptsource collection (Bach et al. 2022) has templates for more than 150 data sets. We fetch
# its package as a file, run none of its code, and read its set for *rotten_tomatoes*: short movie
# reviews with the columns `text` and `label`, just like ours.

# %% [markdown] slide="notes"
# This is the point of a common format: somebody else's wording fits our rows, because the column
# names and the order of the labels agree. Check both; nothing else will.

# %%
borrowed = templates.load_templates(assets.templates_dir() / "rotten_tomatoes.yaml")
print(f"{len(borrowed)} templates for rotten_tomatoes")
for template in borrowed[:5]:
    prompt, completion = template.render(row)
    print(f"\n--- {template.name.strip()} ({template.answer_choices})")
    print(f"… {prompt[-75:]!r} → {completion!r}")

# %% [markdown] slide="slide" minutes=5
# ## From text to the chat format
#
# Our model was tuned on conversations, with special tokens around each turn. Its own chat template
# adds a system message. How many tokens does that cost?

# %% [markdown] slide="notes"
# The system message is the same in every row, so it tells the model nothing about the row. It costs
# the same in training and at inference, for each review. Whether it changes the accuracy is not
# measured here: we count the cost and decide for the shorter prompt.

# %%
model, tokenizer = models.load()
pair = question.render(row)
message = [{"role": "user", "content": pair.prompt}]
with_system = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
without = encoding.format_prompt(tokenizer, pair.prompt)
system_tokens, prompt_tokens = (
    len(encoding.token_ids(tokenizer, text)) for text in (with_system, without)
)
print(f"{with_system}\n{'=' * 30} {system_tokens} tokens with, {prompt_tokens} without\n{without}")

# %% [markdown] claims=["measured['system_message_tokens'] == 21"]
# The system message costs 21 tokens in each row. We leave it out, in training *and* at inference,
# so that both have one format. What it does to accuracy is not measured here.
#
# A review could itself contain the text `<|im_end|>`. Read as the special token it would end the turn
# in the middle of the review, so text from the data is always cut into ordinary tokens.
#
# Outside the chat format there is a trap at the joint: a word after a blank is another token.

# %%
for joined in ("Sentiment: positive", "Sentiment:positive"):
    print(f"{joined!r:24}", tokenizer.tokenize(joined))
print("our plain style:", [encoding.format_completion("Sentiment:", "positive", prompt_style="plain")])

# %% [markdown] slide="slide" minutes=5
# ## Tokens and labels: what is learned
#
# The model gets token ids, and for each position a **label**: the token it should have predicted
# there. The label −100 means *skip*. We skip the prompt, since we want the model to answer
# questions like this one, not to write them.

# %% [markdown] slide="notes"
# Blue is learned, grey is read only. Ask which tokens should be blue before you run the cell. The
# end token is easily forgotten.

# %%
example = encoding.encode(tokenizer, *pair)
pieces = [tokenizer.decode([token]) for token in example["input_ids"]]
display(plots.token_strip(pieces, example["labels"]))

# %% [markdown]
# Two tokens are learned: the answer and the **end token** `<|im_end|>`, which teaches the model to
# stop. Pretraining is the other way round: self-supervised, each token of raw text is a label, but
# for the first, which no token precedes; nobody had to write an answer. In supervised tuning only
# the completion counts.

# %%
text = encoding.token_ids(tokenizer, row["text"])
print("pretraining, raw text: every token is learned, but the first has nothing before it")
display(plots.token_strip([tokenizer.decode([token]) for token in text], [-100, *text[1:]]))
print("supervised tuning, a pair: the completion only")
display(plots.token_strip(pieces, example["labels"]))

# %% [markdown] slide="subslide" minutes=6 literature=true
# ### Exercise 2.2 — Mask the prompt
#
# **Difficulty:** easy. **Importance:** very high. **Minutes:** 6. Build one example from token ids: all tokens
# as `input_ids`, and as `labels` −100 under the prompt, the token itself under the completion and
# the end token. Do not shift anything: the model does that inside.

# %% [markdown] slide="notes"
# Three wrong versions train without an error: no mask, a mask that is one too long, and no end
# token. The check knows all three.


# %% exercise="2.2"
def mask_prompt(prompt_ids, completion_ids, end_id):
    """Return the input ids and labels of one example."""
    # BEGIN SOLUTION
    answer = [*completion_ids, end_id]
    return {
        "input_ids": [*prompt_ids, *answer],
        "labels": [-100] * len(prompt_ids) + answer,
    }
    # END SOLUTION


# %% check="2.2"
checks.nb02.check_mask_prompt(mask_prompt)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Both lists have the same length: prompt, completion, one end token.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `[-100] * len(prompt_ids)` masks the prompt; after it the labels equal the input ids.
#
# </details>

# %% [markdown] slide="slide" minutes=5
# ## The trap of the pad token
#
# A batch is a rectangle, so short rows are filled with pads, which must not be learned. Many
# collators mask them *by id*. This model's pad token is its end token, so look what the
# language-modeling collator of `transformers` does to the real end.

# %% [markdown] slide="notes"
# The tuned model then answers and runs on, and people blame the sampling settings. The collator is
# not wrong for pretraining; it is wrong when pad and end share an id.

# %%
print("pad:", tokenizer.pad_token, tokenizer.pad_token_id)
print("end:", tokenizer.eos_token, tokenizer.eos_token_id)
by_id = DataCollatorForLanguageModeling(tokenizer, mlm=False)
naive = by_id([{"input_ids": example["input_ids"]}])["labels"][0].tolist()
display(plots.token_strip(pieces, naive))
lost = sum(label == encoding.IGNORE_INDEX for label in naive)
print(f"{lost} tokens masked, all of them {tokenizer.eos_token}, and the prompt is learned")

# %% [markdown]
# Every real end is grey: nothing teaches this model to stop. Our `collate` masks pads by
# **position**. In the padded row below the first `<|im_end|>` of the answer is learned, the pads
# after it are not.

# %%
short, long = sorted(
    (encoding.encode(tokenizer, *question.render(r)) for r in task.splits["train"].select([3, 1])),
    key=lambda e: len(e["labels"]),
)
batch = encoding.collate([short, long], pad_id=tokenizer.pad_token_id)
print({name: tuple(tensor.shape) for name, tensor in batch.items()})
padded = [tokenizer.decode([token]) for token in batch["input_ids"][0].tolist()]
display(plots.token_strip(padded, batch["labels"][0].tolist()))

# %% [markdown] slide="subslide" minutes=6 literature=true
# ### Exercise 2.3 — Pad and collate
#
# **Difficulty:** medium. **Importance:** very high. **Minutes:** 10. Turn examples of different length into a
# batch: three tensors of the shape [examples, longest]. Pad on the right; `attention_mask` is 1 for
# tokens and 0 for pads; pads get the label −100, a real end token keeps its own.

# %% [markdown] slide="notes"
# Left padding is for generation, right padding for training. The attention mask must not be made
# by comparing ids either.


# %% exercise="2.3"
def collate(examples, pad_id):
    """Return input_ids, attention_mask and labels as tensors."""
    # BEGIN SOLUTION
    longest = max(len(example["labels"]) for example in examples)
    batch = {"input_ids": [], "attention_mask": [], "labels": []}
    for example in examples:
        length = len(example["labels"])
        pads = longest - length
        batch["input_ids"].append(example["input_ids"] + [pad_id] * pads)
        batch["attention_mask"].append([1] * length + [0] * pads)
        batch["labels"].append(example["labels"] + [-100] * pads)
    return {name: torch.tensor(rows) for name, rows in batch.items()}
    # END SOLUTION


# %% check="2.3"
checks.nb02.check_collate(collate)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Count how many pads a row needs, and append that many of the right value to each of its lists.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Nowhere compare an id with `pad_id`. The lengths alone say where the pads are.
#
# </details>

# %% [markdown] slide="slide" minutes=5
# ## Length, and truncation that keeps the answer
#
# How long are the examples? Whoever sets a length limit without looking cuts something off, and
# what stands at the right end of a pair is the answer.

# %% [markdown] slide="notes"
# A limit of 64 is chosen for the demonstration; in the course the limit is 512 and nothing is cut.
# Summaries and chats reach any limit quickly.

# %%
sample = tasks.draw(task.splits["train"], SAMPLE, seed=0)
encoded = encoding.encode_pairs(tokenizer, map(question.render, sample))
lengths = np.array([len(example["labels"]) for example in encoded])
LIMIT = 64
cut = lengths > LIMIT
groups = {"fit": (lengths[~cut], "blue"), f"over {LIMIT} tokens": (lengths[cut], "vermillion")}
fig = histogram(groups, np.arange(29, 100, 4), "tokens of an example", "examples")
alt = (
    f"Histogram of example lengths from {lengths.min()} to {lengths.max()} tokens, one hill with "
    f"its middle near {np.median(lengths):.0f}; {cut.mean():.0%} are longer than {LIMIT}."
)
plots.show(fig, alt)

# %% [markdown] claims=["45 <= measured['median_tokens'] <= 55", "0.05 <= measured['over_limit'] <= 0.2"]
# The median is between 45 and 55 tokens, and 5 % to 20 % of the examples exceed a limit of 64. Cut
# those on the right and their labels are gone: an example without labels has no loss, and a batch
# of them has the loss "not a number".

# %%
longest = encoded[int(lengths.argmax())]
ids, labels = longest["input_ids"][:LIMIT], longest["labels"][:LIMIT]
print("labels left after cutting on the right:", sum(label != -100 for label in labels))
logits = torch.zeros(LIMIT, len(tokenizer))
print("loss:", torch.nn.functional.cross_entropy(logits, torch.tensor(labels)).item())

# %% [markdown]
# `encode` refuses such a pair unless told to cut, and then it cuts the *beginning of the prompt*.

# %%
pair_too_long = question.render(sample[int(lengths.argmax())])
try:
    encoding.encode(tokenizer, *pair_too_long, max_length=LIMIT)
except errors.WorkbookError as error:
    print(error)
kept = encoding.encode(tokenizer, *pair_too_long, max_length=LIMIT, truncate=True)
shown = [tokenizer.decode([token]) for token in kept["input_ids"]]
display(plots.token_strip(shown, kept["labels"]))

# %% [markdown] slide="slide" minutes=4
# ## Batches: how much of the work is pads
#
# The processor computes pads like words. Shuffle the examples and cut them into batches, and each
# batch is as long as its longest row. Sort by length inside shuffled chunks instead, and rows alike
# meet, while the order stays random. We count the share of pads, five shuffles each.

# %% [markdown] slide="notes"
# Sorting everything once would waste even less, but then the model meets short reviews first and
# long ones last in every epoch. Chunks keep the randomness.


# %%
def padding_share(batches):
    """Return the share of pads among all positions of the batches."""
    positions = sum(max(lengths[batch]) * len(batch) for batch in batches)
    return 1 - sum(lengths[batch].sum() for batch in batches) / positions


shares = {"random": [], "length-grouped": []}
for seed in range(5):
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(lengths), generator=generator).tolist()
    shares["random"].append(padding_share([order[i : i + 8] for i in range(0, len(order), 8)]))
    grouped = encoding.length_grouped_batches(lengths.tolist(), 8, generator)
    shares["length-grouped"].append(padding_share(grouped))

# %%
means = {name: float(np.mean(values)) for name, values in shares.items()}
spans = [(min(values), max(values)) for values in shares.values()]
fig = plots.bars(
    list(means.values()), spans, list(means), xlabel="share of pads in batches of 8",
    whiskers="lowest and highest of 5 shuffles",
)  # fmt: skip
fig.axes[0].set_xlim(0, 0.4)
alt = (
    f"Share of pads: {means['random']:.0%} in random batches, {means['length-grouped']:.0%} in "
    "length-grouped ones; the five shuffles hardly differ."
)
plots.show(fig, alt)

# %% [markdown] claims=["0.2 <= measured['padding_random'] <= 0.28", "measured['padding_grouped'] <= 0.06"]
# In random batches 20 % to 28 % of the positions are pads, in grouped ones at most 6 %. The price
# is that a batch is a little less random. `fit` in notebook 03 groups by length.

# %% [markdown] slide="slide" minutes=6
# ## Wording moves the answers
#
# The same model, the same reviews, five templates, zero-shot. Four ask for the same two answer
# words, "negative" and "positive" and differ only in how they ask. The fifth, `liked`, changes the
# answer words *too*, so it stands apart. We use *validation* reviews: this is a choice, not a
# final score.

# %% [markdown] slide="notes"
# Let the room rank the templates before running. Then look at the share of "positive" answers
# first: some wordings push the model to one answer. Notebook 01 calls this label bias. What a
# wording changes and what other answer words change are two questions; `liked` mixes them.


# %%
def zero_shot(model, prompts, answers):
    """Return the index of the likeliest answer to each prompt."""
    # The tokenizer belongs to the model, so the cache key covers it.
    with scoring.working_copy(model) as fast:
        found = scoring.classify(fast, tokenizer, prompts, answers)
    return {"predictions": found.predictions}


compared = [task.template(name) for name in ("question", "plain", "instruction_first", "liked")]
compared.append(next(t for t in borrowed if t.name.startswith("Sentiment with choices")))
reviews = tasks.draw(task.splits["validation"], LIVE, seed=0).to_list()
truth = np.array([review["label"] for review in reviews])

# %%
correct, answered, given = {}, {}, {}
for template in compared:
    prompts = [template.render(review).prompt for review in reviews]
    answers = template.choices(reviews[0])
    result = runcache.cached(
        f"02 {template.name.strip()}", zero_shot, model=model, prompts=prompts, answers=answers
    )
    found = np.array(result["predictions"])
    correct[template.name.strip()] = (found == truth).astype(float)
    answered[template.name.strip()] = float(found.mean())
    given[template.name.strip()] = found

# %%
accuracy = {name: metrics.wilson(int(hits.sum()), LIVE) for name, hits in correct.items()}
same_words = sorted(set(accuracy) - {"liked"}, key=lambda name: -accuracy[name].estimate)
shown = [*same_words, "liked"]
labels = [f"{name}\n({answered[name]:.0%} answered positive)" for name in same_words]
fig = plots.bars(
    [accuracy[name].estimate for name in shown],
    [accuracy[name] for name in shown],
    [*labels, f"liked, other answer words\n({answered['liked']:.0%} answered “liked”)"],
    xlabel=f"accuracy, {LIVE} reviews",
    whiskers="95 % interval over the reviews",
    reference=0.5,
    reference_label="chance",
)
values = ", ".join(f"{name} {accuracy[name].estimate:.2f}" for name in shown)
plots.show(fig, f"Zero-shot accuracy by template, `liked` with other answer words last: {values}.")

# %%
wordings = np.array([given[name] for name in same_words])
disagree = float((wordings != wordings[0]).any(axis=0).mean())
print(f"on {disagree:.0%} of the reviews the four wordings do not give the same answer")

# %% [markdown] claims=["measured['disagree'] >= 0.4", "measured['answered_positive']['instruction_first'] <= 0.25", "measured['answered_positive']['plain'] >= 0.5", "measured['answered_positive']['liked'] < 0.2"]
# The same review, the same two answer words, another wording: on at least 40 % of the reviews the
# four do not agree, and `instruction_first` says "positive" to at most 25 %, `plain` to at least
# 50 %. `liked` says "liked" to under 20 %; whether its wording or its answer words do that, this
# comparison does not tell. Do the four wordings differ in *accuracy* too?


# %%
hits = np.array([correct[name] for name in same_words])


def picked_and_tested(order):
    """Pick the best and the worst wording on half of the reviews; return their gap on each half."""
    chosen, fresh = np.array_split(order, 2)
    best, worst = hits[:, chosen].mean(axis=1).argsort()[[-1, 0]]
    gap = hits[best] - hits[worst]
    return gap[chosen].mean(), gap[fresh].mean()


rng = np.random.default_rng(0)
gaps = np.array([picked_and_tested(rng.permutation(LIVE)) for _ in range(1000)])
gap_picked, gap_fresh = gaps.mean(axis=0)
print(f"best minus worst: {gap_picked:.3f} on the half that picked, {gap_fresh:.3f} on the other")
interval = metrics.paired_interval(hits[0], hits[-1])
margin = (interval.high - interval.low) / 2
print(f"on all {LIVE} reviews their difference is uncertain by {margin:.3f} to each side")

# %% [markdown] claims=["measured['gap_fresh'] < measured['gap_picked']", "0.05 <= measured['difference_margin'] <= 0.12"]
# Whoever picks best and worst on the reviews that judge them sees a larger gap than fresh reviews
# confirm. With 200 reviews a difference is uncertain by 0.05 to 0.12 to each side: too few to rank
# the four. A zero-shot accuracy is that of a model *and a template*: always name both.

# %% [markdown] slide="subslide" minutes=6 literature=true
# ### Exercise 2.4 — Write your own template
#
# **Difficulty:** easy. **Importance:** high. **Minutes:** 8. Write a promptsource file with a template for the
# reviews, label 0 negative and label 1 positive, in a wording of your own. The prompt must not tell
# the answer. Then score it, and say what 50 reviews can tell about it and what they cannot.

# %% [markdown] slide="notes"
# Collect three proposals from the room and score them with the cell below the check. On 50 reviews
# the interval is about 13 points to each side: it cannot rank them, and twenty tries on the same
# reviews will find a lucky one.


# %% exercise="2.4"
def my_templates():
    """Return the text of a promptsource file."""
    # BEGIN SOLUTION
    return """
templates:
  verdict: !Template
    name: verdict
    answer_choices: bad ||| good
    jinja: |-
      A viewer wrote about a film: {{text}}
      In one word, this viewer thinks the film is ||| {{answer_choices[label]}}
"""
    # END SOLUTION


# %% check="2.4"
checks.nb02.check_my_template(my_templates)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Copy a block of `data/templates/sentiment.yaml`. `name`, `jinja` and `answer_choices` are enough.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Before `|||` use `{{text}}` and never `label`; after it `{{answer_choices[label]}}`.
#
# </details>

# %%
# Score it on 50 of the reviews: take the comment signs away.
# mine = templates.load_templates(my_templates())[0]
# prompts = [mine.render(review).prompt for review in reviews[:50]]
# found = zero_shot(model, prompts, mine.choices(reviews[0]))["predictions"]
# print(metrics.wilson(int((found == truth[:50]).sum()), 50))

# %% [markdown] slide="slide" minutes=5 literature=true
# ## Leakage: when the test has been seen
#
# A test score is worth something only if the model has not met the test items. Texts that are equal
# up to a word or a comma break this without anybody noticing. How many does each raw file hold? Two
# texts count as **near-duplicates** if they share 80 % of their words.

# %% [markdown] slide="notes"
# Movie snippets are almost clean, tweets are not: part of them were written as variations of one
# sentence, with more exclamation marks each time.

# %%
twins = {}
for domain in FILES:
    texts = list(read_raw(domain).text)
    twins[domain] = len(texts) - len(splits.distinct(texts))
print(twins)

tweets = read_raw("tweets")
tweets = tweets[tweets.valence.abs() >= POLAR_VALENCE].reset_index(drop=True)
tweets["label"] = (tweets.valence > 0).astype(int)
print(*tweets.text[tweets.text.str.contains("lucky charm")], sep="\n")

# %% [markdown] claims=["measured['near_duplicates']['movies'] == 3", "measured['near_duplicates']['tweets'] == 178"]
# The movies have 3, the tweets 178. Now a classifier that can do nothing but **remember**: it gives
# a test text the label of the most similar training text (nearest neighbour, TF-IDF words). We
# split the tweets at random, five times, and look at test tweets with and without a twin in train.


# %%
def remembered(train_texts, train_labels, test_texts):
    """Return the label of the most similar training text for each test text."""
    words = TfidfVectorizer().fit(train_texts)
    memory = KNeighborsClassifier(1, metric="cosine")
    memory.fit(words.transform(train_texts), train_labels)
    return memory.predict(words.transform(test_texts))


def has_twin(train_texts, test_texts):
    """Tell for each test text whether train holds a near-duplicate."""
    words = CountVectorizer(binary=True, token_pattern=r"\w+").fit([*train_texts, *test_texts])
    train, test = words.transform(train_texts), words.transform(test_texts)
    common = (test @ train.T).toarray()
    either = np.asarray(test.sum(axis=1)) + np.asarray(train.sum(axis=1)).T - common
    return (common >= splits.NEAR_DUPLICATE * np.maximum(either, 1)).any(axis=1)


# %%
scores = {
    "tweets with a twin in train": [],
    "tweets without": [],
    "tweets without, always 'positive'": [],
}
for seed in range(5):
    is_test = np.random.default_rng(seed).random(len(tweets)) < 0.2
    train, test = tweets[~is_test], tweets[is_test]
    hits = (remembered(train.text, train.label, test.text) == test.label).to_numpy()
    leaked = has_twin(train.text, test.text)
    scores["tweets with a twin in train"].append(float(hits[leaked].mean()))
    scores["tweets without"].append(float(hits[~leaked].mean()))
    scores["tweets without, always 'positive'"].append(float(test.label[~leaked].mean()))
print({name: np.round(values, 2).tolist() for name, values in scores.items()})
print(f"in the last split {leaked.mean():.1%} of the test tweets have a twin")

# %% [markdown] claims=["measured['memory_twins'] >= 0.9", "0.7 <= measured['memory_others'] <= 0.85", "0.6 <= measured['always_positive'] <= 0.75"]
# On twins memory scores at least 0.9, on the others 0.7 to 0.85, where always saying "positive"
# gets 0.6 to 0.75. Few twins raise the total little; but we can make many, without noticing.
# Render each review with four templates, *then* split the pairs at random: the same review is now
# in both splits. To show the harm at its purest, we shuffle the labels first. There is nothing to
# learn, the labels are balanced, and an honest score is one half.

# %%
some = tasks.draw(task.splits["train"], 400, seed=0)
four = [task.template(name) for name in ("question", "plain", "instruction_first", "liked")]
prompts = np.array([t.render(review).prompt for review in some for t in four])
review_of = np.repeat(np.arange(len(some)), 4)
scores |= {"noise, split after rendering": [], "noise, split before rendering": []}
for seed in range(5):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(some["label"])[review_of]
    after, before = rng.random(len(prompts)) < 0.2, (rng.random(len(some)) < 0.2)[review_of]
    for name, is_test in (("after", after), ("before", before)):
        found = remembered(prompts[~is_test], labels[~is_test], prompts[is_test])
        score = float(np.mean(found == labels[is_test]))
        scores[f"noise, split {name} rendering"].append(score)

# %%
memory = {name: float(np.mean(values)) for name, values in scores.items()}
fig = plots.bars(
    list(memory.values()),
    [(min(values), max(values)) for values in scores.values()],
    list(memory),
    xlabel="accuracy of pure memory",
    whiskers="lowest and highest of 5 splits",
    reference=0.5,
    reference_label="chance for the noise",
)
alt = "Test accuracy of the nearest neighbour and of a constant answer: " + ", ".join(
    f"{name} {value:.2f}" for name, value in memory.items()
)
plots.show(fig, alt)

# %% [markdown] claims=["measured['memory_noise_leaky'] >= 0.95", "0.4 <= measured['memory_noise_honest'] <= 0.6"]
# Split after rendering, memory "predicts" pure noise with at least 0.95. Split before rendering it
# is back at chance, 0.4 to 0.6. So the order is: drop near-duplicates, split the *rows*, render
# last. `load_task` does the first two, and keeps near-duplicates out of all other splits.

# %% [markdown] slide="subslide" minutes=6 literature=true
# ### Exercise 2.5 — Find the leak
#
# **Difficulty:** medium. **Importance:** high. **Minutes:** 10. Return the positions of the test texts that
# have a near-duplicate in train: as sets of lower-case words, at least 80 % of the words of both
# texts together are common (Jaccard similarity).

# %% [markdown] slide="notes"
# Dividing by the shorter text only would call every short sentence a twin of a long one.


# %% exercise="2.5"
def find_leaks(train_texts, test_texts):
    """Return the positions of test texts with a near-duplicate in train."""
    # BEGIN SOLUTION
    def words(text):
        return {word.strip(".,;:!?\"'()…") for word in text.lower().split()} - {""}

    seen = [words(text) for text in train_texts]
    leaks = []
    for position, text in enumerate(test_texts):
        own = words(text)
        if any(len(own & other) >= 0.8 * len(own | other) for other in seen):
            leaks.append(position)
    return leaks
    # END SOLUTION


# %% check="2.5"
checks.nb02.check_find_leaks(find_leaks)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Turn each text into a set of words: lower case, no punctuation. `&` and `|` of sets do the rest.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `len(a & b) >= 0.8 * len(a | b)` for any training set `b` makes the test text a leak.
#
# </details>

# %% [markdown] slide="slide" minutes=3
# ## Why validation and test are two sets
#
# Choosing is learning too. Take 50 "models" that flip coins, keep the one with the best score on
# 100 validation items, and look at its score on 100 test items. Repeated a thousand times:

# %% [markdown] slide="notes"
# Learning rates, templates, epochs, seeds: everything we choose by a set of items is fitted to that
# set. The more we try, the more luck we keep.

# %%
flips = np.random.default_rng(0).random((1000, 50, 2, 100)) < 0.5
validation, test = np.moveaxis(flips.mean(axis=-1), -1, 0)
chosen = validation.argmax(axis=1)
every = np.arange(1000)
chosen_validation = float(validation[every, chosen].mean())
chosen_test = float(test[every, chosen].mean())
print(f"the best of 50 coins: validation {chosen_validation:.2f}, test {chosen_test:.2f}")

# %% [markdown] claims=["0.6 <= measured['best_coin_validation'] <= 0.64", "0.49 <= measured['best_coin_test'] <= 0.51"]
# The winner seems to know something, 0.6 to 0.64 on validation, and knows nothing on test, 0.49 to
# 0.51. So we choose by validation, as often as we like, and open the test set once.

# %% [markdown] slide="slide" minutes=4
# ## The dataset for notebook 03
#
# All decisions together: two labels, the template `question`, chat format without system message,
# prompt masked, end token learned, splits that share no near-duplicates, and a balanced draw of 250
# training reviews. Draws of one seed are nested, so the 50 are part of the 250.

# %% [markdown] slide="notes"
# Four per cent of the tokens carry the whole training signal. That is why computing logits only at
# those positions saves so much time in notebook 03.


# %%
def describe(name, rows):
    """Return one row of the summary, and check that every example has labels."""
    examples = encoding.encode_pairs(tokenizer, map(question.render, rows))
    learned = [sum(label != -100 for label in example["labels"]) for example in examples]
    assert min(learned) >= 2, "an answer and its end token"
    return {
        "split": name,
        "rows": len(rows),
        "positive": np.mean(rows["label"]),
        "tokens": sum(len(example["labels"]) for example in examples),
        "learned tokens": sum(learned),
    }


# %%
training = tasks.draw(task.splits["train"], 250, seed=0)
held_out = [("validation", task.splits["validation"]), ("test", task.splits["test"])]
summary = pd.DataFrame([describe("train, drawn", training)] + [describe(*one) for one in held_out])
summary["learned share"] = summary["learned tokens"] / summary["tokens"]
display(summary.round(3))
nested = set(tasks.draw(task.splits["train"], 50, seed=0)["id"]) <= set(training["id"])
leaks = int(has_twin(training["text"], task.splits["test"]["text"]).sum())
print(f"the draw of 50 is part of it: {nested}; test reviews with a twin in train: {leaks}")

# %% [markdown] claims=["0.03 <= measured['learned_share'] <= 0.05", "measured['leaks'] == 0"]
# Only 3 % to 5 % of the tokens are learned, half of the reviews are positive, and no test review
# has a twin in train. [Notebook 03](03_single_task_tuning.ipynb) trains on exactly this.

# %% [markdown] slide="slide" minutes=4
# ## Quiz

# %% [markdown] slide="notes"
# Let pairs discuss each question for a minute before anyone clicks.

# %%
checks.quiz("02")

# %% [markdown] slide="slide" minutes=1
# ## What we measured

# %% [markdown] slide="notes"
# The table is what the next notebooks and the tests read. Point out the two numbers that surprised
# the room most.

# %% tags=["long"]
recording.measured(
    "02",
    headline=f"four wordings give {disagree:.0%} of the reviews different answers, and accuracies "
    f"of {accuracy[same_words[-1]].estimate:.2f} to {accuracy[same_words[0]].estimate:.2f}",
    neutral_share=counts["neutral"] / len(raw),
    majority_accuracy=majority["accuracy"],
    majority_f1=majority["f1_macro"],
    near_duplicates=twins,
    system_message_tokens=system_tokens - prompt_tokens,
    median_tokens=float(np.median(lengths)),
    over_limit=float(cut.mean()),
    padding_random=means["random"],
    padding_grouped=means["length-grouped"],
    reviews_per_template=LIVE,
    zero_shot={name: list(accuracy[name]) for name in correct},
    answered_positive=answered,
    disagree=disagree,
    gap_picked=float(gap_picked),
    gap_fresh=float(gap_fresh),
    difference_margin=float(margin),
    memory_twins=memory["tweets with a twin in train"],
    memory_others=memory["tweets without"],
    always_positive=memory["tweets without, always 'positive'"],
    memory_noise_leaky=memory["noise, split after rendering"],
    memory_noise_honest=memory["noise, split before rendering"],
    best_coin_validation=chosen_validation,
    best_coin_test=chosen_test,
    rows_drawn=len(training),
    learned_share=float(summary["learned tokens"].sum() / summary["tokens"].sum()),
    leaks=leaks,
)

# %% [markdown] literature=true
# ## Further reading
#
# - Hutto and Gilbert, *VADER: a parsimonious rule-based model for sentiment analysis of social
#   media text*, ICWSM 2014: where the rated snippets come from.
# - Bach et al., *PromptSource*, 2022, arXiv 2202.01279: the template format and its collection.
# - Sanh et al., *Multitask prompted training enables zero-shot task generalization*, 2021,
#   arXiv 2110.08207: what many templates of many tasks are good for.
# - Sclar et al., *Quantifying language models' sensitivity to spurious features in prompt design*,
#   2023, arXiv 2310.11324: even blanks and colons move accuracy.
# - Lee et al., *Deduplicating training data makes language models better*, 2021, arXiv 2107.06499.
# - Shi et al., *Instruction tuning with loss over instructions*, 2024, arXiv 2405.14394: when
#   learning the prompt too helps, so masking is a choice as well.

# %% [markdown] slide="skip"
# ## Free the memory
#
# Two open notebooks may need more memory than a laptop has. This cell lets go of the models and other
# large things; the page, your functions and the exercises stay. To train or score again, run the
# notebook from the top: seconds now. *Kernel → Shut Down Kernel* gives all of the memory back.

# %% slide="skip"
from workbook import memory

memory.free_notebook()
