# %% [markdown] slide="slide" minutes=2
# # 12 Capstone
#
# You take a file of your own from a table to a tested model that answers, saved with a card and a report
# that tell others how far to trust it.

# %% [markdown] slide="notes"
# Ask who has a table at work with a text in one column and a decision in another. That is all that this
# notebook needs. Collect two or three, and come back to them at the rubric.

# %% [markdown]
# **Objectives.** Afterwards you can
#
# - check a file of your own, and say in a sentence what is wrong with a row,
# - compare what costs nothing, prompts and tuning on the same rows, each with its interval,
# - choose by a rule that was written down before, and open the test once,
# - say what the model forgot, and how many test rows a difference needs,
# - save a model so that plain `transformers` gives the same answers, and chat with it,
# - write a model card and a report, and judge a project by a rubric.
#
# **Minutes:** 110 to study (of which 34 on exercises), 86 as a talk; the cells need about ten on one slow
# core the first time, and less than two after that. **Prerequisites:** notebooks
# [03](03_single_task_tuning.ipynb), [04](04_catastrophic_forgetting.ipynb) and [07](07_lora.ipynb).

# %%
import dataclasses
import inspect
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

# %%
import ipywidgets as widgets
import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown, display

from workbook import abilities, capstone, checks, encoding, metrics, models, plots, recording
from workbook import runcache, scoring, settings, training
from workbook.adaptation import lora
from workbook.adaptation.additions import attached
from workbook.assets.convert import quiet_transformers
from workbook.capstone import candidates, project, reading, report, run, saving, using
from workbook.errors import WorkbookError

# %% [markdown] slide="slide" minutes=4
# ## Your file: one line to change
#
# The sample is what a shop might have: messages of customers, and the department that should answer. For
# a file of your own (.csv, .tsv, .jsonl or .parquet) change the line below: its path, the column with the
# text, and the column with the answer. At least forty rows, and five of each label; some hundreds are
# better. The sentences on this page are about the sample: with your file the printed numbers are yours.

# %% [markdown] slide="notes"
# About sixty rows of each department, written for this course. Let the room sort three messages by hand first.
# Where they disagree, no model can be right for everybody: that is worth a minute.

# %%
FILE, INPUT, TARGET = settings.repo_root() / "data/samples/messages.csv", "message", "department"  # ← yours

# %%
EXAMPLES = settings.pick(smoke=16, default=500, full=5000)  # rows to learn from, at most
EPOCHS = settings.pick(smoke=1, default=2, full=3)  # passes over them
SEED = settings.seed()  # of what is drawn and trained here: WORKBOOK_SEED, else 0
FOLDER = settings.cache_dir() / "capstone" / FILE.stem  # of the finished model: each run writes it anew

# %% code="show"
table = reading.read(FILE)
reading.check_columns(table, INPUT, TARGET)
print(*table.notes, sep="\n")
pd.DataFrame([row for _, row in table.rows[:5]])

# %% [markdown] literature=true
# Read twenty rows before you tune anything. In ten test sets that many people use, at least 3.3 % of the
# labels are wrong on average (Northcutt et al. 2021). Where a test has wrong labels, even a perfect model
# gets less than 1.
#
# ### Exercise 12.1 — rows that contradict
#
# **Difficulty:** medium. **Importance:** high. **Minutes:** 8. Return the numbers of the rows whose text
# was there before, and had another label the first time. Capital letters and extra blanks do not make
# another text.


# %% exercise="12.1"
def contradictions(texts, labels):
    """Return the numbers, from 0, of rows whose text had another label the first time."""
    # BEGIN SOLUTION
    first, found = {}, []
    for number, (text, label) in enumerate(zip(texts, labels, strict=True)):
        plain = " ".join(text.casefold().split())
        if first.setdefault(plain, label) != label:
            found.append(number)
    return found
    # END SOLUTION


# %% check="12.1"
checks.nb12.check_contradictions(contradictions)

# %% [markdown]
# <details><summary>Hint 1</summary>
# Keep a dict from each text, in lower case and with single blanks, to the label that it had first.
# </details>
#
# <details><summary>Hint 2</summary>
# <code>first.setdefault(plain, label)</code> keeps the label of a new text, and returns the first one of a
# text that is known.
# </details>


# %%
def at_odds(texts, labels):
    """Return the same, counted with pandas."""
    plain = pd.Series([" ".join(text.casefold().split()) for text in texts])
    labels = pd.Series(labels)
    return np.flatnonzero(labels.groupby(plain).transform("first") != labels).tolist()


texts, targets = ([row[name] for _, row in table.rows] for name in (INPUT, TARGET))
audit = checks.yours(contradictions, at_odds)
for name, labels in {"as it is": targets, "with one label spoiled": [*targets, "other"]}.items():
    rows = [*texts, texts[0].upper()][: len(labels)]
    print(f"{name}: {len(audit(rows, labels))} of {len(rows)} rows contradict one before them")

# %% [markdown] slide="slide" minutes=4
# ## Three spoiled files
#
# A wrong file should end in a sentence, not in a model that learned the wrong thing. The steps are
# `read`, `filled` (no empty cells), `distinct` (no repetitions) and `check_labels`.

# %% [markdown] slide="notes"
# Show each file first and let the room guess the message. The second is the worst in practice: without
# the check, an open quote takes the rest of the file into one cell, and the table still opens.

# %% code="show"
HEAD = "message,department\n"
spoiled = {
    "two encodings": (HEAD + "Où est le café?,delivery\nÇa fuit.,technical\n").encode()
    + "Déjà payé.,billing\n".encode("cp1252"),
    "an open quote": (HEAD + 'It leaks.,technical\n"Where is it?,delivery\nPaid twice.,billing\n').encode(),
    "two spellings": (HEAD + "Where is it?,delivery\nStill nothing.,Delivery\n").encode(),
}


def validate(path, input, target):
    """Read a file and check the labels; raise WorkbookError for what has to be mended."""
    table = reading.read(path)
    reading.check_columns(table, input, target)
    rows = reading.distinct(table, reading.filled(table, input, target), input, target)
    reading.check_labels(table, Counter(row[target] for _, row in rows), project.ROWS_A_LABEL)


# %%
said = {}
with tempfile.TemporaryDirectory() as place:
    for name, content in spoiled.items():
        path = Path(place, f"{name}.csv")
        path.write_bytes(content)
        try:
            validate(path, "message", "department")
        except WorkbookError as error:
            said[name] = str(error)
print("\n".join(said.values()))

# %% [markdown] slide="slide" minutes=4
# ## From a table to a task
#
# `prepare` decides whether the answers are labels or texts, leaves out repetitions and near-duplicates,
# splits the rows, and words the prompts. Everything that it decided is a sentence.

# %% [markdown] slide="notes"
# Each sentence will be in the report as well. Ask what a near-duplicate in the test would do: two texts
# that share most words, one in training, one in the test, and the score measures memory.

# %%
model, tokenizer = run.load(None)  # as models.load; a base model gets a plain chat template
work = project.prepare(reading.read(FILE), model, tokenizer, INPUT, TARGET, examples=EXAMPLES)
print(*work.notes, sep="\n")
train, validation, test = (list(work.splits[name]) for name in ("train", "validation", "test"))

# %%
if work.is_labels:
    names = work.recipes[0].labels
    parts = {"train": train, "validation": validation, "test": test}
    counts = {part: Counter(names[row["label"]] for row in rows) for part, rows in parts.items()}
    display(pd.DataFrame(counts).fillna(0).astype(int))

# %% [markdown]
# For labels two of our wordings are tried, for texts one. One of your own goes into `prepare` as
# `template="{{text}} Which department?"`, or as a file in promptsource's form (notebook 02), and is then
# tried alone.

# %%
for recipe in work.recipes:
    prompt, completion = recipe.pair(train[0])
    print(f"--- {recipe.template.name} ---\n{prompt}\n→ {completion}\n")

# %% [markdown] slide="slide" minutes=4
# ## First the rule, then the numbers
#
# Whoever looks first finds a rule by which the favourite wins. So the rule is written down now, before any
# score: cheapest first, unless a dearer method is better by more than a margin.

# %%
print(candidates.RULE)

# %% [markdown] slide="notes"
# Ask what the margin is for: how much better must a model be to be worth keeping, serving and explaining?
# It does not say whether the rows can show that. One of 48 rows is a little more than the margin, so one
# row can decide. That is why the intervals stand beside it.

# %% [markdown] literature=true
# ### Exercise 12.2 — the rule
#
# **Difficulty:** medium. **Importance:** high. **Minutes:** 8. `scores` names the methods, the cheapest
# first. Return the name of the cheapest one within 0.02 of the best score.


# %% exercise="12.2"
def pick(scores):
    """Return the method that the rule takes; `scores` has the cheapest first."""
    # BEGIN SOLUTION
    enough = max(scores.values()) - 0.02
    for name, score in scores.items():
        if score >= enough:
            return name
    # END SOLUTION


# %% check="12.2"
checks.nb12.check_pick(pick)

# %% [markdown] literature=true
# <details><summary>Hint 1</summary>
# A dict keeps its order, so the first name whose score is high enough is the cheapest one.
# </details>
#
# <details><summary>Hint 2</summary>
# High enough is <code>max(scores.values()) - 0.02</code>. Go through <code>scores.items()</code> and return
# the first name whose score is at least that.
# </details>

# %% [markdown] slide="slide" minutes=4
# ## What costs no model
#
# The commonest answer, and words counted by TF-IDF with logistic regression. (For texts: the
# training answer that is most like the others, a copy of the input, and the answer to the most similar
# training row.) A model that does not beat them has no use for this task.

# %% [markdown] slide="notes"
# Vote: of ten messages, how many does counting words sort rightly? Write the guesses beside the score. The
# interval is over the validation rows: with fifty rows it is wide.

# %% code="show"
judged = {
    name: {"answers": answer(work, validation)} for name, answer in candidates.yardsticks(work).items()
}
for name, found in judged.items():
    print(f"{name:10} {report.METRICS[work.metric]} {work.score(validation, found['answers'])}")

# %% [markdown] slide="slide" minutes=5
# ## Prompts
#
# Now the model as it is: each wording without examples, then with some solved rows before it, each also
# calibrated (notebook 01). The best of each kind goes on.

# %% [markdown] slide="notes"
# The best of several tries is a little lucky. That is allowed here, because the test will judge it by
# other rows. Point at the spread between the wordings. Is it larger than that between the methods?

# %%
tried = {"zero-shot": candidates.zero_shot(work), "few-shot": candidates.few_shot(work, model, tokenizer, SEED)}
for name, recipes in tried.items():
    judged[name] = runcache.cached(f"12 {name}", candidates.judge, project=work, model=model,
                                   tokenizer=tokenizer, recipes=recipes)
    for wording, score in judged[name]["tried"].items():
        print(f"{name}: {wording:45} {score:.2f}")

# %% [markdown] slide="slide" minutes=5
# ## LoRA
#
# Tuning uses the wording that was best without examples and calibration. Rate and rank are those that the course's sweeps chose;
# they are not searched again. After each pass the loss on the validation rows is taken, and where it has
# risen the better weights come back.

# %% [markdown] slide="notes"
# Five lines do it: encode, attach, fit, detach, merge. Ask which rows decide when to stop (validation),
# and which decide nothing until the end (test).

# %%
scores = judged["zero-shot"]["tried"]
wording = max(work.recipes, key=lambda recipe: scores[recipe.template.name])
examples = {
    name: [encoding.encode(tokenizer, *wording.pair(row), max_length=1024, truncate=True) for row in rows]
    for name, rows in {"train": train, "validation": validation}.items()
}
print(f"wording: {wording.template.name}; the longest of {len(train)} rows has "
      f"{max(len(row['input_ids']) for row in examples['train'])} tokens")

# %% code="show"
model, tokenizer = run.load(None)  # so that this cell may run twice
addition = lora.LoRA(model, candidates.RANK, candidates.ALPHA, seed=SEED)
live = plots.LiveLosses()
with attached(model, addition):
    sizes = models.count_parameters(model)
    history = runcache.fit("12 LoRA", model, examples["train"], validation=examples["validation"],
                           epochs=EPOCHS, patience=1, lr=1e-3, seed=SEED, on_step=live)
    losses = [row["validation_loss"] for row in history.epochs]
    live.finish(history, alt=f"Noisy training loss of LoRA, from {history.steps[0]['loss']:.2f} in the first step "
                f"to {history.steps[-1]['loss']:.2f} in the last. Validation loss after each pass: "
                + ", ".join(f"{loss:.2f}" for loss in losses))
lora.merge(model, addition)
training.release_memory()
print(f"{sizes.trainable / sizes.total:.2%} of the numbers learned, in {history.seconds:.0f} s")

# %%
judged["LoRA"] = runcache.cached("12 LoRA, judged", candidates.judge, project=work, model=model,
                                 tokenizer=tokenizer, recipes={wording.template.name: wording})
judged["LoRA"] |= dataclasses.asdict(history) | {"trained": sizes.trainable}

# %% [markdown] claims=["measured['validation_loss'][1] < measured['validation_loss'][0]"]
# In this run the loss on the validation rows still fell in the second pass. `workbook tune` takes up to three.

# %% [markdown] slide="slide" minutes=4
# ## Choose
#
# All on the same validation rows, and the rule that was written down decides. Full tuning needs the memory
# that notebook 03 measured; it is in a recorded project below.

# %% [markdown] slide="notes"
# Read the figure from the top: cost grows downwards. Whiskers that overlap do not mean that methods are
# equal, since all were asked about the same rows; the differences have intervals of their own, soon.

# %%
scores = {name: work.score(validation, found["answers"]) for name, found in judged.items()}
metric = report.METRICS[work.metric]
figure = plots.bars([score.estimate for score in scores.values()], list(scores.values()), list(scores),
                    xlabel=f"{metric} on the validation rows",
                    whiskers=f"95 % interval over the {len(validation)} rows")
plots.show(figure, alt=f"{metric} on {len(validation)} validation rows with intervals: " + "; ".join(
    f"{name} {score}" for name, score in scores.items()))

# %%
asked = {name: scores[name].estimate for name in candidates.BY_COST if name in scores}
print("by the exercise's rule:", checks.yours(pick, candidates.choose)(asked))
chosen = candidates.choose(asked)
best_yardstick = max(reversed(candidates.yardsticks(work)), key=lambda name: scores[name].estimate)
best_prompt = candidates.best_prompt(asked)

# %% [markdown] claims=["measured['chosen'] == 'LoRA'"]
# In this run on the sample, LoRA had the highest score, and nothing cheaper came within the margin.

# %% [markdown] slide="slide" minutes=5
# ## Open the test, once
#
# Until now nothing was chosen by the test rows. They judge the chosen method and what it has to beat: the
# yardsticks, the prompt without examples, and the prompt that was best on the validation rows.

# %% [markdown] slide="notes"
# This is the moment to be strict. After this cell, every change that makes the score better is a change
# made *for* these rows. Somebody who wants to go on needs new test rows.

# %%
plain, _ = run.load(None)  # the model as it came
ways = {name: (plain, tried[name][judged[name]["recipe"]]) for name in candidates.PROMPTS}
ways["LoRA"] = (model, wording)


def ask(model, tokenizer, recipe, rows):
    """Return the answers of a model to rows, and how sure it was."""
    found = recipe.answers(model, tokenizer, rows)
    return {"answers": found.values, "probabilities": found.probabilities}


# %% code="show"
tests = {name: {"answers": answer(work, test)} for name, answer in candidates.yardsticks(work).items()}
for name in dict.fromkeys(("zero-shot", best_prompt, chosen)):
    tests[name] = runcache.cached(f"12 test, {name}", ask, model=ways[name][0], tokenizer=tokenizer,
                                  recipe=ways[name][1], rows=test)
test_scores = {name: work.score(test, found["answers"]) for name, found in tests.items()}
for name, score in test_scores.items():
    print(f"{name:10} {metric} on {len(test)} test rows {score}")

# %%
gains = {}
for other in dict.fromkeys((best_yardstick, best_prompt)):
    if other != chosen:
        gains[other] = work.difference(test, tests[chosen]["answers"], tests[other]["answers"])
        print(f"{chosen} minus {other}: {report.signed(gains[other])}")

# %% [markdown]
# A difference has an interval of its own, over the same rows. Which rows does the chosen method get wrong?

# %%
own = tests[chosen]["answers"]
if work.is_labels and len(names) <= 12:
    matrix = np.zeros((len(names), len(names)), int)
    np.add.at(matrix, ([row["label"] for row in test], own), 1)
    figure = plots.confusion(matrix, [report.drawable(name, i) for i, name in enumerate(names)])
    plots.show(figure, alt=f"Confusion matrix of {chosen} on the test rows: " + "; ".join(
        f"of {row.sum()} {name} {row[i]} right" for i, (name, row) in enumerate(zip(names, matrix, strict=True))))

# %%
values = work.values(test, own)
lines = [{"input": row["text"], "yours": names[row["label"]] if work.is_labels else row["output"],
          "answer": answer if isinstance(answer, str) else names[answer]}
         for row, answer, value in zip(test, own, values, strict=True) if value < 1]
with pd.option_context("display.max_colwidth", None):
    display(pd.DataFrame(lines[:6]))

# %% [markdown]
# Read the mistakes. On which of these labels would two people disagree, and which are plain errors?

# %% [markdown] slide="subslide" minutes=4 literature=true
# ### Exercise 12.3 — how many test rows?
#
# In a share `differing` of the rows one method is right and the other wrong, and one is right more often by
# `gain`. A row's difference is 1, 0 or -1, with variance `differing - gain ** 2`. How many rows does it
# take until the interval of a *measured* gain of this size, 1.96 standard errors to each side, leaves out 0?
#
# **Difficulty:** easy. **Importance:** high. **Minutes:** 8.

# %% [markdown] slide="notes" literature=true
# The standard error is the root of variance over rows. Set 1.96 of them equal to the gain, and solve for
# the rows. Halving the gain takes four times as many.


# %% exercise="12.3"
def needed_rows(gain, differing):
    """Return the rows from which the interval of such a gain leaves out 0, rounded up."""
    # BEGIN SOLUTION
    variance = differing - gain**2
    return int(np.ceil(1.96**2 * variance / gain**2))
    # END SOLUTION


# %% check="12.3"
checks.nb12.check_needed_rows(needed_rows)

# %% [markdown] literature=true
# <details><summary>Hint 1</summary>
# 1.96 · sqrt(variance / rows) = gain. Square both sides.
# </details>
#
# <details><summary>Hint 2</summary>
# rows = 1.96² · variance / gain², rounded up with <code>np.ceil</code>.
# </details>


# %%
def rows_for(gain, differing):
    """Return the same, from the root."""
    return int(np.ceil((1.96 * np.sqrt(differing - gain**2) / abs(gain)) ** 2))


counted = checks.yours(needed_rows, rows_for)
for other in gains:
    change = work.values(test, own) - work.values(test, tests[other]["answers"])
    gain, differing = change.mean(), (change**2).mean()
    told = f"about {counted(gain, differing):,} rows" if gain else "more rows than anybody has"
    print(f"{chosen} minus {other}: {gain:+.2f} (share right); to see such a difference takes {told}")
print("differing 0.3:", {f"gain {gain}": counted(gain, 0.3) for gain in (0.2, 0.1, 0.05, 0.02)})

# %% [markdown] literature=true claims=["measured['rows_for']['0.2'] < 40", "measured['rows_for']['0.02'] > 2800"]
# With 0.3 differing, a measured gain of 0.2 takes fewer than 40 rows, one of 0.02 more than 2,800. To *find* a
# true gain in four of five tests takes twice as many (Card et al. 2020).

# %% [markdown] slide="slide" minutes=4 literature=true
# ## Let it say "I don't know"
#
# Where it is not sure, a person can answer (Geifman & El-Yaniv 2017).
#
# ### Exercise 12.4 — when to ask a person
#
# **Difficulty:** medium. **Importance:** medium. **Minutes:** 10. `chances` say how sure the model was of each
# answer, `hits` whether it was right. Answers at or above a *bar* are kept. Return the lowest chance that, as the
# bar, leaves at least the share `wanted` right.

# %% [markdown] slide="notes" literature=true
# The chance is the probability of the chosen label among the labels. It need not be honest: a model that
# was tuned for long is sure of its mistakes too. That is why the bar is measured and not set to 0.9.


# %% exercise="12.4"
def lowest_bar(chances, hits, wanted):
    """Return the lowest bar that does, infinity where none does; hits are 1 and 0."""
    # BEGIN SOLUTION
    for bar in sorted(set(chances)):
        kept = [hit for chance, hit in zip(chances, hits, strict=True) if chance >= bar]
        if np.mean(kept) >= wanted:
            return bar
    return float("inf")
    # END SOLUTION


# %% check="12.4"
checks.nb12.check_bar(lowest_bar)

# %% [markdown]
# <details><summary>Hint 1</summary>
# Go through the different chances from the lowest to the highest, and keep what is at or above each.
# </details>
#
# <details><summary>Hint 2</summary>
# Return the first whose kept hits have a mean of at least <code>wanted</code>; after the loop,
# <code>float("inf")</code>.
# </details>


# %%
def first_bar(chances, hits, wanted):
    """Return the same, with arrays."""
    chances, hits = np.array(chances), np.array(hits)
    return min((bar for bar in set(chances) if hits[chances >= bar].mean() >= wanted), default=np.inf)


# %%
alone = {}
if work.is_labels:
    sure = runcache.cached(f"12 how sure, {chosen}", ask, model=ways[chosen][0], tokenizer=tokenizer,
                           recipe=ways[chosen][1], rows=validation)
    hits = work.values(validation, sure["answers"])
    for wanted in (0.8, 0.9):
        bar = checks.yours(lowest_bar, first_bar)(sure["probabilities"], hits.tolist(), wanted)
        kept = np.array(tests[chosen]["probabilities"]) >= bar
        alone[str(wanted)] = [int(kept.sum()), int(values[kept].sum())]
        print(f"{wanted} wanted: bar {bar:.2f}; of {len(test)} test rows it answers {kept.sum()} alone, "
              f"{int(values[kept].sum())} of them right")

# %% [markdown]
# A bar of `inf` means that no bar does, and a person answers every row. With so few validation rows the bar
# is uncertain too: on the test the share is often lower, since the bar was chosen for the other rows.

# %% [markdown] slide="slide" minutes=4 claims=["measured['margin'] == 0.05"]
# ## What did it forget?
#
# Two abilities that have nothing to do with your rows, as in notebook 04: names found in a sentence, and
# facts. The model writes both, and a right answer counts in any form. No loss means: the whole interval within 0.05.

# %% [markdown] slide="notes"
# Ask first whether it matters here. A model that only sorts messages may forget the capital of Peru. One
# that people will also chat with may not. The check costs half a minute, so do it in any case.

# %%
others = tuple(name for name in abilities.ABILITIES if name not in abilities.COMPOSITE)
panels = {
    name: runcache.cached(f"12 abilities, {name}", abilities.measure, model=own, tokenizer=tokenizer, skip=others)
    for name, own in {"zero-shot": plain, "LoRA": model}.items()
}
grades = {name: abilities.grade(panel) for name, panel in panels.items()}
pd.DataFrame({name: {abilities.ABILITIES[k].title: g.free.mean() for k, g in each.items()}
              for name, each in grades.items()}).round(2)

# %%
change = metrics.paired_interval(*(abilities.composite(grades[name]) for name in ("LoRA", "zero-shot")))
is_kept = -abilities.MARGIN < change.low and change.high < abilities.MARGIN
print(f"both together, after minus before: {report.signed(change)}; within {abilities.MARGIN}: {is_kept}")
for name, panel in panels.items():
    print(f"{name}: {panel['answers']['facts'][:3]}")

# %% [markdown] claims=["measured['ability_change'][2] < -0.05", "0.55 < measured['test']['LoRA'][0] < 0.65", "measured['alone']['0.8'][0] < 15"]
# In this run tuning lost more than 0.05: on these questions the whole interval lies below -0.05. Read the
# answers above: they became shorter. Notebook 05 has the remedies.
#
# **Decide:** would you put this model to work? You have the test score, the best yardstick, the bar, and
# what was forgotten. Decide before you open the discussion.
#
# <details><summary>Discussion</summary>
# There is no single answer. Sorting a message wrongly costs a detour. In our run the model got 0.55 to 0.65
# of the messages right, and at the first bar above it answered fewer than 15 of them alone. Three
# questions decide more than the method. Does the interval of the difference to TF-IDF, and to the best
# prompt, lie above 0? If not, take what is cheaper. Are the
# labels right? If some of the mistakes above are arguable, the next hour belongs to the labels, not to the
# model. And what do the errors cost? A complaint that nobody reads is worse than one that is read twice. What was
# forgotten weighs little while the model does nothing else, and much if the same model also chats.
# </details>

# %% [markdown] slide="slide" minutes=4
# ## Save it, so that anybody can load it
#
# The LoRA is merged, so the folder is an ordinary model: weights, tokenizer, the chat template that was
# used in tuning, and generation settings. `workbook.json` holds the wording and the labels.

# %% [markdown] slide="notes"
# Ask what happens with another chat template: the prompt has other tokens than in tuning, the answers get
# worse, and no error tells it. (With none at all, transformers stops.) That is why the next cell compares.

# %%
final, recipe = ways[chosen]
FOLDER.mkdir(parents=True, exist_ok=True)
saving.save_model(final, tokenizer, recipe, FOLDER)
kept_mb = {file.name: file.stat().st_size / 1e6 for file in sorted(FOLDER.iterdir())
           if file.suffix in (".json", ".jinja", ".safetensors")}
print("\n".join(f"{size:8.2f} MB  {name}" for name, size in kept_mb.items()))

# %% [markdown]
# Now a fresh process that knows nothing of this course. Does plain `transformers` give the same answers?


# %% code="show"
def answer_anew(folder, prompts):
    """Load a folder, print the answers to prompts and the logits of their first tokens."""
    import json

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    for prompt in prompts:
        messages = [{"role": "user", "content": prompt}]
        ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt",
                                            return_dict=True)
        with torch.inference_mode():
            logits, output = model(**ids).logits[0, -1], model.generate(**ids)
        answer = tokenizer.decode(output[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
        print(json.dumps({"answer": answer.strip(), "logits": logits.tolist()}))


# %%
prompts = [recipe.pair(row)[0] for row in test[:4]]
with tempfile.TemporaryDirectory() as place:
    file = Path(place, "fresh.py")
    call = f"answer_anew({str(FOLDER)!r}, {prompts!r})"
    file.write_text(f"{inspect.getsource(answer_anew)}\n\n{call}\n", "utf-8")
    done = subprocess.run([sys.executable, str(file)], capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": "", "CUDA_VISIBLE_DEVICES": ""})
if done.returncode:
    raise RuntimeError(done.stderr[-2000:])
theirs = [json.loads(line) for line in done.stdout.splitlines()]

# %%
ours = scoring.generate(final, tokenizer, prompts, max_new_tokens=recipe.max_new_tokens)
off = []
for prompt, one, other in zip(prompts, ours, theirs, strict=True):
    row = torch.tensor([encoding.prompt_ids(tokenizer, prompt)], device=final.device)
    with scoring.inference(final):
        logits = final(row).logits[0, -1].cpu()
    off.append((logits - torch.tensor(other["logits"])).abs().max().item())
    print(f"here {one!r}, there {other['answer']!r}; largest difference of a logit {off[-1]:.1e}")
is_same = all(one == other["answer"] for one, other in zip(ours, theirs, strict=True))

# %% [markdown] claims=["measured['is_same'] == 1", "measured['logit_difference'] < 0.001"]
# Plain `transformers` writes the same answers, and its logits differ by less than 0.001. The test score is
# of another reading: there the likeliest of the labels was taken. How often is what is written that label?

# %%
as_chosen = None
if work.is_labels:
    written = scoring.generate(final, tokenizer, [recipe.pair(row)[0] for row in test], max_new_tokens=16)
    pairs = zip(written, tests[chosen]["answers"], strict=True)
    as_chosen = np.mean([text.strip() == names[answer] for text, answer in pairs])
    print(f"written freely, {as_chosen:.0%} of the test answers are the label that was taken")

# %% [markdown] slide="slide" minutes=4
# ## Chat with it
#
# A turn reads all turns before it, as long as they fit. The saved model, not the one in memory:

# %% [markdown] slide="notes"
# Take requests from the room: a message for the shop, then something else altogether. Expect short
# answers, and now and then a department where none was asked for.

# %%
for name in ("plain", "ways", "final", "model"):
    globals().pop(name, None)  # so that this cell may run twice
training.release_memory()
saved, tokenizer = models.load(str(FOLDER))
talk = using.Chat(saved, tokenizer, max_new_tokens=60)
for line in (prompts[0], "Thank you! And what is the capital of France?"):
    print(f"you>   {line}\nmodel> {talk.say(line)}\n")

# %%
box, send, page = widgets.Text(placeholder="Write, then click Send"), widgets.Button(description="Send"), widgets.Output()


def reply(_):
    """Answer what stands in the box; the conversation goes on from the cell above."""
    text, box.value = box.value.strip(), ""
    with page:
        print(f"you>   {text}\nmodel> {talk.say(text)}\n" if text else "Write something first.")


send.on_click(reply)
widgets.VBox([widgets.HBox([box, send]), page])

# %% [markdown]
# In the box `using.worded(recipe, text)` is not applied: what you type goes in as it is. That is how
# people will use it, and why the card has to say how to ask.

# %% [markdown] slide="slide" minutes=4 literature=true
# ## A card and a report
#
# A **model card** is for somebody who does not know you: what the model reads and writes, how it was
# tested, what its limits are, whose licence it carries (Mitchell et al. 2018). A **report** is for somebody who
# wants to check you: every method, every interval, the rule, the data, the losses, the mistakes.

# %% [markdown] slide="notes"
# Scroll to "What this cannot tell". A card without it is an advertisement. Ask what is missing for your own
# case: who wrote the rows, who may see them, who answers when the model is wrong?

# %%
results = {
    "chosen": chosen, "best_yardstick": best_yardstick, "best_prompt": best_prompt, "validation": judged, "validation_scores": scores,
    "test": tests, "test_scores": test_scores, "panels": panels if chosen in candidates.TUNED else {},
}
pages = report.Report(work, recipe, results, capstone.Options(examples=EXAMPLES, epochs=EPOCHS), FOLDER.name)
pages.write(FOLDER)
saving.write_card(FOLDER, pages, saved, None)
card = (FOLDER / "README.md").read_text("utf-8").split("---\n", 2)[2]
Markdown(card)

# %% [markdown]
# And the report. `report.html` is a single file with its figures inside, to be opened from any disk or sent
# by mail; `report.md` is the same text, `results.json` holds every answer, so that it can be judged again.
# All of them lie in `FOLDER`: `print(FOLDER)` in a new cell tells where that is on your disk. The next run of
# this page on the same file writes it anew, so copy what you want to keep.

# %%
html = (FOLDER / "report.html").read_text("utf-8")
figures = html.count("<img ")
print(f"report.html: {len(html) / 1000:.0f} kB, {figures} figures, "
      f"{html.count('http://') + html.count('https://')} links to the network")
print("\n".join(text.splitlines()[0] for text, _ in pages.sections()))
Markdown("\n\n".join(text for text, _ in pages.sections()[1:3]))

# %% [markdown] claims=["measured['figures'] >= 2"]
# ## The same as commands
#
# One command does what this page does, and compares full tuning too; two more use what it made. If it is
# stopped, the same command goes on:
#
# ```
# workbook tune my.csv --input text --target label --out my-model
# workbook predict my-model new.csv --out answers.csv
# workbook chat my-model
# ```

# %%
with tempfile.TemporaryDirectory() as place:
    new, out = Path(place, "new.csv"), Path(place, "answers.csv")
    pd.DataFrame({INPUT: [row["text"] for row in test[:3]]}).to_csv(new, index=False)
    print(capstone.predict(FOLDER, new, out, progress=False))
    predictions = pd.read_csv(out)
predictions

# %% [markdown] slide="slide" minutes=5
# ## Two finished projects
#
# `results.json` of any folder can be laid beside that of another. Below yours stand two that `workbook tune`
# made with two passes, recorded: *departments*, the sample again, compared with full tuning too; and
# *summaries*, where the answers are texts: a sentence for each conversation in `data/dialogue.jsonl`, by LoRA.

# %% [markdown] slide="notes"
# Before you scroll: for which of the two should tuning help more? In the first, the model has to learn
# what four words mean here. In the second it can do the task already, and learns length and style.

# %%
place = settings.notebooks_dir() / "recorded" / "projects"
projects = {path.stem[3:]: json.loads(path.read_text("utf-8")) for path in sorted(place.glob("12_*.json"))}
own = json.loads((FOLDER / "results.json").read_text("utf-8"))
for name, each in {"yours": own, **projects}.items():
    both = {"validation": each["validation_scores"], "test": each["test_scores"]}
    shown = pd.DataFrame({part: {way: str(metrics.Interval(*score)) for way, score in found.items()}
                          for part, found in both.items()}).fillna("not asked")
    print(f"{name}: {each['metric']}, {each['rows']}, chosen: {each['chosen']}")
    display(shown.loc[list(each["validation_scores"])])

# %%
pd.set_option("display.max_colwidth", None)
for each in projects.values():
    if not each["labels"]:
        both = {way: each["test"][way]["answers"][:3] for way in ("zero-shot", each["chosen"])}
        display(pd.DataFrame({"in the file": each["truth"]["test"][:3], **both}))

# %% [markdown]
# How sure is full tuning's lead over LoRA? On the validation rows it can be asked row by row. Mind that these
# rows also ended the tuning and chose the method, so they flatter what was chosen: is full tuning ahead on the
# test rows above as well?

# %%
for name, each in projects.items():
    found = each["validation"]
    if each["labels"] and {"LoRA", "full"} <= found.keys():
        truth = np.array(each["truth"]["validation"])
        hits = [np.array(found[way]["answers"]) == truth for way in ("full", "LoRA")]
        print(f"{name}: full tuning minus LoRA {report.signed(metrics.paired_interval(*np.float64(hits)))}")

# %% [markdown]
# Does the interval of the difference leave out 0? And what did tuning change in the sentences: length and
# form, or also what is said? ROUGE-L counts shared words, not truth.

# %% [markdown] slide="slide" minutes=5
# ## A rubric for your own project
#
# Give each line 0, 1 or 2 points. With fewer than 8 of 12 (our own bar), do not pass the model on.
#
# | | 0 | 1 | 2 |
# |:---|:---|:---|:---|
# | **Rows** | not read | read, notes of `prepare` followed | a second person labelled fifty of them, and agreement is told |
# | **Split** | random, with repetitions | without near-duplicates | also by time, author or source, as it will be used |
# | **Yardsticks** | none | constant and TF-IDF or copy | also what is done today, by people or rules |
# | **Choice** | the best of all scores | a rule, written down before | also more than one seed where methods are near |
# | **Test** | opened several times | opened once, with intervals | enough rows for the difference that matters, errors read |
# | **Use** | only the score | card with limits, forgetting checked | a bar, a person for the rest, and a date to look again |

# %% [markdown] slide="notes"
# Grade the first example together, line by line. Then everybody grades the table that they brought. Ask
# which line has most zeros.

# %% [markdown]
# **Decide:** how many points do the two projects above get? Give yours before you open ours.
#
# <details><summary>Discussion</summary>
# Departments: rows 1 (one annotator), split 1 (without near-duplicates, but all from one writer), yardsticks 1,
# choice 1 (one seed), test 1 (sixty rows tell apart large differences alone), use 1, or 2 with your bar: 6 or 7
# of 12. Good as an exercise, not enough for a shop. Summaries: 6, with the same points; there is no bar for
# texts, so use is 1. The rubric does not see the largest gap: ROUGE-L counts shared words and not whether a
# summary is true, so a person must read the errors. Both fall short in the same places, and none of them
# is the method.
# </details>

# %% [markdown] slide="slide" minutes=4
# ## The same at work
#
# `save_pretrained` made the folder, so tools that read the hub's format can load it, such as TRL, vLLM, or
# llama.cpp's converter. We test `pipeline`.

# %% [markdown] slide="notes"
# Nothing is uploaded here. An upload needs an account and a token, and makes a copy for everybody unless it
# is private. Ask who in your organisation may decide that.

# %%
from transformers import pipeline

with quiet_transformers():
    pipe = pipeline("text-generation", model=str(FOLDER), device="cpu")
    at_work = [pipe([{"role": "user", "content": prompt}])[0]["generated_text"][-1]["content"].strip()
               for prompt in prompts]
print(at_work)
is_same_at_work = at_work == [each["answer"] for each in theirs]

# %% [markdown] literature=true claims=["measured['is_same_at_work'] == 1"]
# The same answers. To share it: `hf upload you/departments FOLDER . --private` takes the whole folder with its
# card (`results.json` too, with your labels), `model.push_to_hub` the model alone. First ask whether the rows
# may leave the house, what the base model's licence says, and whether an answer could repeat a private row,
# as was shown for GPT-2 (Carlini et al. 2020).

# %% [markdown] slide="slide" minutes=3
# ## What we cannot say
#
# One seed was tuned, so the intervals cover other rows and not other runs. The sample has one author; real
# messages may be longer and less even. And no random split shows how next year's rows differ.

# %% [markdown] slide="notes"
# Ask for the split that would show it: the newest rows as the test. If your file has a date, that is the
# better split, and the rubric gives it two points.

# %% [markdown] slide="slide" minutes=4
# ## Quiz

# %% [markdown] slide="notes"
# Six questions, a minute each. Let the room vote before you click.

# %%
checks.quiz("12")

# %% [markdown]
# ## What we measured

# %% tags=["long"]
recording.measured(
    "12",
    headline=f"{chosen} sorts {test_scores[chosen].estimate:.2f} of the sample's test messages rightly, "
    f"{best_yardstick} {test_scores[best_yardstick].estimate:.2f}; saved, it answers alike in plain transformers",
    spoiled=len(said),
    contradictions=len(at_odds(*([row[name] for _, row in table.rows] for name in (INPUT, TARGET)))),
    rows={"train": len(train), "validation": len(validation), "test": len(test)},
    validation=scores,
    tried={name: judged[name]["tried"] for name in candidates.PROMPTS},
    chosen=chosen,
    best_prompt=best_prompt,
    trained_share=sizes.trainable / sizes.total,
    validation_loss=losses,
    lora_seconds=history.seconds,
    test=test_scores,
    gains=gains,
    rows_for={str(gain): rows_for(gain, 0.3) for gain in (0.2, 0.1, 0.05, 0.02)},
    alone=alone,
    abilities={name: {k: float(g.free.mean()) for k, g in each.items()} for name, each in grades.items()},
    ability_change=change,
    margin=abilities.MARGIN,
    file_mb=kept_mb["model.safetensors"],
    logit_difference=max(off),
    is_same=int(is_same),
    as_chosen=as_chosen,
    is_same_at_work=int(is_same_at_work),
    figures=figures,
    projects={name: {"validation": each["validation_scores"], "test": each["test_scores"]}
              for name, each in projects.items()},
)

# %% [markdown]
# This is the end of the course, and the beginning of a project of yours.

# %% [markdown]
# ## Further reading
#
# - Lin 2004, ROUGE: A Package for Automatic Evaluation of Summaries, Text Summarization Branches Out
# - Geifman & El-Yaniv 2017, Selective Classification for Deep Neural Networks, arXiv:1705.08500
# - Gebru et al. 2018, Datasheets for Datasets, arXiv:1803.09010
# - Mitchell et al. 2018, Model Cards for Model Reporting, arXiv:1810.03993
# - Dodge et al. 2019, Show Your Work: Improved Reporting of Experimental Results, arXiv:1909.03004
# - Card et al. 2020, With Little Power Comes Great Responsibility, arXiv:2010.06595
# - Carlini et al. 2020, Extracting Training Data from Large Language Models, arXiv:2012.07805
# - Northcutt et al. 2021, Pervasive Label Errors in Test Sets Destabilize Machine Learning Benchmarks,
#   arXiv:2103.14749
# - Kapoor & Narayanan 2022, Leakage and the Reproducibility Crisis in ML-based Science, arXiv:2207.07048

# %% [markdown] slide="skip"
# ## Free the memory
#
# Two open notebooks may need more memory than a laptop has. This cell lets go of the models and other
# large things; the page, your functions and the exercises stay. To train or score again, run the
# notebook from the top: seconds now. *Kernel → Shut Down Kernel* gives all of the memory back.

# %% slide="skip"
from workbook import memory

memory.free_notebook()
