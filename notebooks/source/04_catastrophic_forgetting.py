# %% [markdown] slide="slide" minutes=2
# # 04 Catastrophic forgetting
#
# You make a model better at one thing, measure what it got worse at, and ask what exactly was lost.

# %% [markdown] slide="notes"
# Vote before anything is measured: the model of notebook 03 learned from 250 film reviews for a
# minute. Can it still count the rings of the Olympic flag? Explain what a rain check is? Will it even
# try? Write down the guesses.

# %% [markdown]
# **Objectives.** Afterwards you can
#
# - measure a panel of abilities before and after tuning, item by item,
# - tell a loss from the luck of a few items and of a few training runs,
# - say what a test must hold equal to part what a model no longer knows from what it no longer says,
# - relate forgetting to the learning rate, comparing rates run by run,
# - compute backward transfer and forgetting over a sequence of tasks, and say what they do not see.
#
# **Minutes:** 95 to study (of which 33 on exercises), 58 as a talk; the cells need about four on two
# cores the first time, and seconds after that. **Prerequisites:** [notebook 03](03_single_task_tuning.ipynb).
#
# **Measured before a change.** Some rows of the data and some grades were mended after this page was
# measured, and it is being measured again. Your own scores of written answers can differ from the page's.

# %%
import re

import numpy as np
import pandas as pd

from workbook import checks, grading, metrics, models, plots, recording
from workbook import experiments, runcache, scoring, settings, tasks
from workbook.forgetting import continual, drift, panel
from workbook.templates import few_shot

WRITTEN = settings.pick(smoke=3, default=40, full=60)  # sentences to find names in
SKIPPED = settings.pick(smoke=("instruction_loss", "text_loss"), default=(), full=())

# %% [markdown] slide="slide" minutes=5 literature=true
# ## A panel of abilities
#
# To see what tuning costs, we must know what was there. The panel asks seven things. *Facts* come in
# two forms, which differ in the prompt as well as in the answer; that will matter.
#
# | ability | what is asked | number for each item |
# |---|---|---|
# | sentiment | is this review positive or negative? | 1 if the right label is likelier |
# | entities | list the names in this sentence | F1 of the names' words among the capitalized words, in whatever format |
# | facts, written | a short question, in the chat format | 1 if the written answer contains the fact |
# | facts, chosen | the same question as plain text, nothing to write | 1 if the right answer is likelier than three wrong ones; chance 0.25 |
# | instructions | an everyday request | ROUGE-L with a good answer |
# | loss on instructions | the same request, with that answer | nats per token, lower is better |
# | loss on newspaper text | nothing, plain text | nats per token, lower is better |

# %% [markdown] slide="notes"
# Let the room find the weak points of the panel. The model's maker had already tuned it on
# instructions, and it was stored in four bits once, so "before" is no blank page: some forgetting
# has happened before we came. What we measure is only what our own minute adds.

# %%
ASKED = [("sentiment", 0), ("entities", 0), ("facts", 0), ("instructions", 2), ("instructions", 7)]


def write(model, prompts, tokens):
    """Return the text that the model writes after each prompt."""
    with scoring.working_copy(model) as working:
        return {"texts": scoring.generate(working, tokenizer, prompts, max_new_tokens=tokens)}


def prompt_of(name, index):
    """Return the prompt of one test row of a task."""
    task = tasks.load_task(name)
    return task.template("question").render(task.splits["test"][index]).prompt


# %%
model, tokenizer = models.load()
prompts = [prompt_of(*asked) for asked in ASKED]
answers_before = runcache.cached(
    "04 answers, untuned", write, model=model, prompts=prompts, tokens=40
)["texts"]
for prompt, answer in zip(prompts, answers_before, strict=True):
    print(f"ASKED   {prompt}\nANSWER  {answer}\n")

# %% [markdown]
# The untuned model answers in sentences, at length, not always rightly. So the panel must not ask
# for a form that nobody taught: a sentence that *contains* the fact counts. Here is that rule.

# %% [markdown] literature=true
# ### Exercise 4.1 — scoring that ignores the form
#
# **Difficulty:** easy. **Importance:** high. **Minutes:** 6. Does a written answer contain one of
# the accepted texts, as whole words, whatever the case and the punctuation?


# %% exercise="4.1"
def contains(answer, accepted):
    """Return True if the answer holds one of the accepted texts as whole words."""
    # BEGIN SOLUTION
    import re

    words = " ".join(re.findall(r"\w+", answer.lower()))
    wanted = [" ".join(re.findall(r"\w+", text.lower())) for text in accepted]
    return any(f" {text} " in f" {words} " for text in wanted)
    # END SOLUTION


# %% check="4.1"
checks.nb04.check_contains(contains)

# %% [markdown]
# <details><summary>Hint 1</summary>
# Bring both texts into one form first: lower case, words only, one blank between them.
# </details>
#
# <details><summary>Hint 2</summary>
# With a blank before and after both, <code>in</code> finds whole words only.
# </details>

# %% [markdown]
# Now the whole panel, on few items, so that it takes half a minute. Later cells add recorded
# measurements of the same panel with 1,000 reviews and 120 entities, to say what few items cannot.

# %%
before = runcache.cached("04 panel, untuned", panel.measure, model=model, tokenizer=tokenizer, skip=SKIPPED)
for name, interval in panel.summary(before).items():
    print(f"{panel.ABILITIES[name].title:24} {interval}   {len(before[name]):3} items")

# %% [markdown] slide="slide" minutes=4
# ## Why learning one thing can cost another
#
# All abilities live in the same weights. The gradient of the sentiment loss says how to move each
# weight for sentiment; about names, facts and requests it says nothing, so what it does to them is
# left to chance. This was seen in small networks long ago (McCloskey & Cohen 1989; French 1999) and
# in tuned language models since (Luo et al. 2023). A model can also keep an ability and no longer
# *show* it, because it takes every prompt for the new task (Kotha et al. 2023). Watch for that.

# %% [markdown] slide="notes"
# Draw two loss landscapes over one weight: sentiment falls to the right, facts are flat for a while
# and then rise. Ask what would have to be added to the loss to be told about the second one. That
# is notebook 05.

# %%
def losses_told(history):
    """Return a run's first and last losses as text for a figure's alternative text."""
    losses = [row["loss"] for row in history.steps]
    return (f"{np.mean(losses[:3]):.2f} in the mean of the first three steps, "
            f"{np.mean(losses[-10:]):.2f} in that of the last ten")  # fmt: skip


del model
live = plots.LiveLosses()
model, tokenizer, history = experiments.load("sentiment-full", on_step=live)
live.finish(history, alt=f"Training loss of notebook 03's run on sentiment: {losses_told(history)}.")
after = runcache.cached("04 panel, tuned", panel.measure, model=model, tokenizer=tokenizer, skip=SKIPPED)
live_changes = panel.changes(before, after)
for name, change in live_changes.items():
    print(f"{panel.ABILITIES[name].title:24} {change}")

# %% [markdown]
# Each line is a change with its interval, compared item by item. A *loss* that rises is bad, a score
# that rises is good. The scores as a picture:


# %%
def changes_figure(changes, over):
    """Return the changes of the scores with their intervals over what is said, without the losses."""
    chosen = {name: c for name, c in changes.items() if not panel.ABILITIES[name].is_loss}
    titles = [panel.ABILITIES[name].title for name in chosen]
    return plots.bars(
        [c.estimate for c in chosen.values()], list(chosen.values()), titles,
        xlabel="change of the score", whiskers=f"95 % interval over {over}",
        reference=0, reference_label="no change",
    )  # fmt: skip


def in_words(changes):
    """Return the changes as text for a figure's alternative text."""
    return "; ".join(f"{panel.ABILITIES[n].title} {c.estimate:+.2f}" for n, c in changes.items())


plots.show(changes_figure(live_changes, "the items, for your run alone"), alt="Live, few items, wide "
           f"intervals. Change after tuning on sentiment: {in_words(live_changes)}.")  # fmt: skip

# %% [markdown] claims=["measured['live_changes']['sentiment'][1] > 0"]
# Your panel has few items: eight requests, sixteen sentences. Even so the interval of sentiment lies
# above 0 for your run. Where an interval includes 0, your items cannot tell a change from none; and none
# of these intervals says what another run would have done.

# %% [markdown] slide="slide" minutes=6
# ## What fell, over several runs
#
# Recorded with the large panel: your rate, 5e-5, and twice that, where sentiment came out best. Three
# seeds each drew other reviews in another order. The intervals cover other *runs* and other items
# (`metrics.run_interval`, explained in notebook 05); the change in each run stands beside.

# %% [markdown] slide="notes"
# Recorded: measured before by the same code, in notebooks/recorded/sweeps/04_forgetting.py. Cover the picture
# and let the room order the abilities by loss first. Which of them would a user ever notice?

# %%
table = recording.load("04_forgetting").frame


def recorded(lr, n=250, epochs=1):
    """Return the recorded panels of one setting, a panel for each seed."""
    rows = table[(table.lr == lr) & (table.n == n) & (table.epochs == epochs)]
    return [panel.unpack(packed) for packed in rows.panel]


# %%
def differences(name, after, before):
    """Return how an ability, or names and facts together, changed: an array [runs, items]."""
    first, second = ([panel.retained(one) if name == "retained" else one[name] for one in panels]
                     for panels in (before, after))  # fmt: skip
    return np.array(second) - np.array(first)


def by_run(changes):
    """Return the mean change in each run as text."""
    return "  ".join(f"{change:+.3f}" for change in changes.mean(axis=1))


# %%
untuned_panels = recorded(lr=0, n=0, epochs=0)  # a list of one, since nothing was drawn
looks, changes, stands = 2 * len(panel.ABILITIES), {}, {}
for lr in (5e-5, 1e-4):
    found = {name: differences(name, recorded(lr), untuned_panels) for name in panel.ABILITIES}
    changes[f"{lr:g}"] = {name: metrics.run_interval(each) for name, each in found.items()}
    wide = {n: metrics.run_interval(each, confidence=1 - 0.05 / looks) for n, each in found.items()}
    stands[f"{lr:g}"] = [name for name, c in wide.items() if c.low > 0 or c.high < 0]
    lines = [(ability.title, found[name].shape[1], changes[f"{lr:g}"][name], by_run(found[name]))
             for name, ability in panel.ABILITIES.items()]  # fmt: skip
    columns = ["ability", "items", f"change at {lr:g}", "in each run"]
    print(pd.DataFrame(lines, columns=columns).map(str).to_string(index=False))
    print(f"excludes 0 also at {1 - 0.05 / looks:.2%}: {', '.join(stands[f'{lr:g}'])}\n")

# %% [markdown] claims=["min(measured['changes'][rate]['sentiment'][1] for rate in ['5e-05', '0.0001']) >= 0.15", "max(measured['changes'][rate]['sentiment'][2] for rate in ['5e-05', '0.0001']) <= 0.24", "measured['fell']['5e-05'] == []", "measured['fell']['0.0001'] == ['entities', 'facts', 'instruction_loss']", "measured['stands']['0.0001'] == ['sentiment', 'entities']", "measured['stands']['5e-05'] == ['sentiment']", "all([abs(measured['changes'][rate]['text_loss'][end]) <= 0.03 for rate in ['5e-05', '0.0001'] for end in [1, 2]])", "len(measured['changes']) * len(measured['changes']['5e-05']) == 14"]
# At both rates the interval of sentiment's gain lies within 0.15 and 0.24. At your rate no fall can be
# told from 0 with three runs, though names and written facts fell in each. At twice the rate names,
# written facts and the loss on instructions got worse. But of intervals like these 14 one in twenty
# misses by chance: with wider ones that allow for it, only the fall of *names* at 1e-4 and the gains in
# sentiment stand. The loss on newspaper text stayed within 0.03, a margin named afterwards.

# %%
figure = changes_figure(changes["0.0001"], "runs (three seeds) and items")
plots.show(figure, alt="Recorded, three seeds, up to 1,000 items. Change after tuning on sentiment at "
           f"1e-4: {in_words(changes['0.0001'])}.")  # fmt: skip

# %% [markdown] literature=true
# ### Exercise 4.2 — what got worse
#
# **Difficulty:** easy. **Importance:** high. **Minutes:** 6. From changes with their intervals, name
# the abilities whose whole interval says worse. Of some, higher is worse: they are losses.


# %% exercise="4.2"
def got_worse(changes, losses):
    """Return the names in `changes`, {name: (estimate, low, high)}, whose whole interval is worse.

    `losses` holds the names of those numbers that are better when lower.
    """
    # BEGIN SOLUTION
    return [
        name
        for name, (_, low, high) in changes.items()
        if (low > 0 if name in losses else high < 0)
    ]
    # END SOLUTION


# %% check="4.2"
checks.nb04.check_got_worse(got_worse)

# %% [markdown]
# <details><summary>Hint 1</summary>
# The whole interval must lie on the bad side of zero.
# </details>
#
# <details><summary>Hint 2</summary>
# For a score that is <code>high &lt; 0</code>; for a loss it is <code>low &gt; 0</code>.
# </details>

# %% [markdown] slide="slide" minutes=5
# ## Read the answers
#
# A score says how much, not what. The same prompts as above, the untuned model's answer and the tuned
# model's.

# %% [markdown] slide="notes"
# Give the room a minute to read before you comment. Let somebody describe in one sentence what
# changed. Length is usually the first thing named.

# %%
answers_after = runcache.cached(
    "04 answers, tuned", write, model=model, prompts=prompts, tokens=40
)["texts"]
for prompt, old, new in zip(prompts, answers_before, answers_after, strict=True):
    print(f"ASKED   {prompt}\nBEFORE  {old}\nAFTER   {new}\n")
lengths = [np.mean([len(text.split()) for text in texts])
           for texts in (answers_before, answers_after)]  # fmt: skip
print(f"words in an answer: {lengths[0]:.1f} before, {lengths[1]:.1f} after")

# %% [markdown] claims=["measured['words_before'] > 20", "measured['words_after'] < 20"]
# Everything the model was taught ended after one word. These five answers of one run, an illustration,
# became shorter too: fewer than 20 words in the mean, more before.

# %% [markdown] slide="slide" minutes=7
# ## Knowledge or form?
#
# A wrong answer has two causes: the model no longer knows, or it knows and no longer says so. Facts were
# asked in two ways: *written*, in the chat format, needs both; *chosen*, in plain text, only that the
# right answer is likelier than three others. The 120 questions are the same. But two things differ at
# once: writing against choosing, and the chat format, which tuning used, against plain text.

# %% [markdown] slide="notes"
# The difference subtracts one change from the other, question by question: below zero, writing lost
# more. Choosing is also the easier test, one of four, so do not read it as a proof that every fact is
# still there. Let the room design the missing two of the four combinations.
# %%
facts_changes = {}
for lr in (5e-5, 1e-4):
    written, chosen = (differences(name, recorded(lr), untuned_panels)
                       for name in ("facts", "knowledge"))  # fmt: skip
    parts = {"written": written, "chosen": chosen, "difference": written - chosen}
    facts_changes[f"{lr:g}"] = {name: metrics.run_interval(part) for name, part in parts.items()}
    for name, change in facts_changes[f"{lr:g}"].items():
        print(f"learning rate {lr:<6g} {name:11} {str(change):21} in each run {by_run(parts[name])}")

# %% [markdown] claims=["measured['facts_changes']['5e-05']['difference'][2] < 0", "measured['facts_changes']['0.0001']['difference'][2] < 0", "measured['facts_changes']['5e-05']['chosen'][1] > -0.02", "measured['facts_changes']['0.0001']['chosen'][1] > -0.02"]
# At both rates writing fell against choosing, with an interval over runs and questions below 0. Choosing
# lost no more than 0.02, a margin named afterwards: as far as a choice of four in plain text can tell,
# the facts are there. Whether the writing or the chat format suffers cannot be told: facts written in
# plain text and chosen in the chat were not measured.

# %% [markdown] slide="slide" minutes=6
# ## How fast you learn, and how much you forget
#
# A larger learning rate moves the weights further. Is there a rate that learns sentiment and spares
# the rest? First your own run: the same 250 reviews at twice the rate.

# %% [markdown] slide="notes"
# A good minute of waiting the first time. Ask meanwhile: if forgetting grows faster with the rate
# than the gain does, what is the best rate? And who would have noticed, with sentiment accuracy as
# the only number on the screen?

# %%
del model
model, tokenizer = models.load()
live = plots.LiveLosses()
examples = experiments.encoded("sentiment-full", tokenizer, "train")
history = runcache.fit("04 high rate", model, examples, lr=1e-4, seed=settings.seed(), on_step=live)
live.finish(history, alt=f"Training loss of your run at the rate 1e-4: {losses_told(history)}.")
hot = runcache.cached("04 panel, high rate", panel.measure, model=model, tokenizer=tokenizer, skip=SKIPPED)
hot_sentiment = metrics.paired_interval(hot["sentiment"], before["sentiment"])
hot_retained = metrics.paired_interval(panel.retained(hot), panel.retained(before))
print(f"your run: sentiment {hot_sentiment}, names and facts {hot_retained}")

# %% [markdown]
# The recorded runs, three seeds at each of three rates. *Names and facts* is the mean over the items of
# entities and written facts. We put these two together *after* seeing that they fell, so their mean
# shows the loss larger than a mean fixed beforehand would.

# %%
points, rates = [], {}
for lr in (2e-5, 5e-5, 1e-4):
    found = {name: differences(name, recorded(lr), untuned_panels)
             for name in (*panel.ABILITIES, "retained")}  # fmt: skip
    rates[f"{lr:g}"] = {name: metrics.run_interval(each) for name, each in found.items()}
    for name, ability in (("sentiment", "sentiment"), ("retained", "names and facts")):
        points += [{"rate": lr * 1e5, "ability": ability, "change": change}
                   for change in found[name].mean(axis=1)]  # fmt: skip
print(pd.DataFrame(rates).map(str).to_string())

# %%
figure = plots.curve(
    points, "rate", "change", series="ability", baseline=0, baseline_label="untuned", log=True,
    dot=[(10, hot_sentiment), (10, hot_retained)],
    band="band: from the lowest run to the highest; star: 95 % interval over your items",
    xlabel="learning rate (units of 1e-5)", ylabel="change of the score",
)  # fmt: skip
told = "; ".join(f"{lr}: sentiment {c['sentiment'].estimate:+.2f}, names and facts {c['retained'].estimate:+.2f}"
                 for lr, c in rates.items())  # fmt: skip
plots.show(figure, alt=f"Recorded changes against the untuned model by learning rate. {told}. Stars "
           f"mark your run: {hot_sentiment.estimate:+.2f} and {hot_retained.estimate:+.2f}.")  # fmt: skip

# %% [markdown] claims=["measured['rates']['2e-05']['sentiment'][1] >= 0.15", "measured['rates']['2e-05']['sentiment'][2] <= 0.22", "-0.09 <= measured['rates']['2e-05']['retained'][1] < 0 < measured['rates']['2e-05']['retained'][2]", "measured['rates']['5e-05']['retained'][2] < 0", "measured['rates']['0.0001']['retained'][2] < 0"]
# Already the lowest rate gains 0.15 to 0.22 in sentiment. What it costs in names and facts three runs
# cannot tell: a loss of up to 0.09 fits, and so does none. At the other two rates they fell.
#
# Does each step up cost more? Compare rate against rate, run by run; and look at other items: 100 of
# validation, measured for notebook 05 with one run a rate.

# %%
rate_steps = {}
for low, high in ((2e-5, 5e-5), (5e-5, 1e-4), (2e-5, 1e-4)):
    for name in ("sentiment", "retained"):
        change = differences(name, recorded(high), recorded(low))
        rate_steps.setdefault(f"{low:g} to {high:g}", {})[name] = metrics.run_interval(change)
        print(f"{low:g} to {high:<6g} {name:9} {metrics.run_interval(change)}, in each run {by_run(change)}")
plain = recording.load("05_remedies").frame.query("method == 'plain' and split == 'validation'")
other_items = {f"{row.strength:g}": panel.retained(panel.unpack(row.panel)) for row in plain.itertuples()}
for rate, kept in other_items.items():
    print(f"names and facts at {rate} on {len(kept)} other items, one run: {kept.mean():.2f}")

# %% [markdown] claims=["measured['rate_steps']['2e-05 to 0.0001']['retained'][2] <= -0.04", "measured['rate_steps']['2e-05 to 0.0001']['retained'][1] >= -0.17", "measured['rate_steps']['2e-05 to 0.0001']['sentiment'][2] <= 0.04", "measured['rate_steps']['5e-05 to 0.0001']['retained'][1] < 0 < measured['rate_steps']['5e-05 to 0.0001']['retained'][2]", "round(measured['other_items']['2e-05'], 2) == 0.42", "round(measured['other_items']['5e-05'], 2) == 0.27", "round(measured['other_items']['0.0001'], 2) == 0.3"]
# From the lowest rate to the highest, names and facts lose 0.04 to 0.17, and sentiment gains no more than
# 0.04. The upper step alone cannot be told from 0, and on other items it is no loss: 0.42, 0.27, 0.3 in
# one run each. So the lowest rate kept most on both sets of items. It is the first remedy to try.
#
# And is it the *steps* or the *data*? Compare 250 reviews once with 63 four times: 32 steps each.

# %%
once, often = recorded(5e-5), recorded(5e-5, n=63, epochs=4)
often_against_once = {}
for name in panel.ABILITIES:
    change = differences(name, often, once)
    often_against_once[name] = metrics.run_interval(change)
    print(f"{name:17} 63 × 4 against 250 × 1 {str(often_against_once[name]):20} in each run {by_run(change)}")

# %% [markdown] claims=["-0.05 < measured['often_against_once']['sentiment'][1]", "measured['often_against_once']['sentiment'][2] < 0.05", "measured['often_against_once']['entities'][1] > -0.15", "measured['often_against_once']['entities'][2] < 0.15"]
# At equal steps a quarter of the reviews taught sentiment as well, within a margin of 0.05 named
# afterwards; for names three runs leave room for 0.15 either way. Other numbers of steps were not tried.

# %% [markdown] slide="slide" minutes=5
# ## Can a prompt bring it back?
#
# If only the form was lost, then three solved sentences in the prompt, which show the form, should give
# the names back to the model of your last run. Nothing is trained: this is notebook 01's few-shot prompt.
# Two things change together, the shots and plain text in place of the chat format; a prompt unlike those
# of the tuning is also the idea of conjugate prompting (Kotha et al. 2023).

# %% [markdown] slide="notes"
# Have the room predict both rows before you run the cells: the fall without shots, the fall with
# them. Few sentences of one run, live: the intervals are wide and say nothing about other runs.

# %%
entities = tasks.load_task("entities")
sentences = list(entities.splits["test"].select(range(WRITTEN)))
shown = list(tasks.draw(entities.splits["train"], 3, seed=settings.seed(), balanced_by="topic"))
prompts_by_shots = {
    0: [entities.template("question").render(row).prompt for row in sentences],
    3: [few_shot(entities.template("plain"), shown, row).prompt for row in sentences],
}


def list_names(model, prompts, style):
    """Return what the model writes after each prompt, up to an empty line."""
    with scoring.working_copy(model) as working:
        texts = scoring.generate(working, tokenizer, prompts, prompt_style=style, max_new_tokens=32)
    return {"texts": [text.split("\n\n")[0] for text in texts]}


# %%
untuned, _ = models.load()
texts = {}
for shots, style in ((0, "chat"), (3, "plain")):
    for when, each in (("untuned", untuned), ("tuned", model)):
        texts[shots, when] = runcache.cached(
            f"04 names, {shots} shots, {when}", list_names,
            model=each, prompts=prompts_by_shots[shots], style=style,
        )["texts"]  # fmt: skip
for key, written_texts in texts.items():
    print(f"{key[0]} shots, {key[1]:8} {written_texts[0]!r}")

# %%
truth = [{kind: row[kind] for kind in grading.ENTITY_TYPES} for row in sentences]
names = [sum(row.values(), []) for row in truth]
f1 = {key: [grading.name_f1(*pair) for pair in zip(each, names, strict=True)]
      for key, each in texts.items()}  # fmt: skip
name_changes = {shots: metrics.paired_interval(f1[shots, "tuned"], f1[shots, "untuned"])
                for shots in (0, 3)}  # fmt: skip
for shots, change in name_changes.items():
    means = [np.mean(f1[shots, when]) for when in ("untuned", "tuned")]
    print(f"{shots} shots: F1 of names {means[0]:.2f} before, {means[1]:.2f} after, change {change}")

# %%
def words(text):
    """Return the words of a text, whatever their case."""
    return set(re.findall(r"\w+", text.lower()))


found = {key: np.mean([len(words(text) & words(" ".join(wanted))) / len(words(" ".join(wanted)))
                       for text, wanted in zip(each, names, strict=True) if wanted])
         for key, each in texts.items()}  # fmt: skip
for (shots, when), share in found.items():
    length = np.mean([len(text.split()) for text in texts[shots, when]])
    print(f"{shots} shots, {when:8} {share:.2f} of the names' words in any case, {length:.0f} words long")
spans = {when: metrics.span_counts(map(grading.parse_entities, texts[3, when]), truth)
         for when in ("untuned", "tuned")}  # fmt: skip
span_f1 = {when: metrics.micro_f1(*counts.T) for when, counts in spans.items()}
print("3 shots, span F1 (names in the right kind): "
      + ", ".join(f"{when} {value:.2f}" for when, value in span_f1.items()))  # fmt: skip

# %% [markdown] claims=["-0.3 <= measured['name_change_zero_shot'][0] < 0", "measured['name_change_zero_shot'][0] < measured['name_change_three_shot'][0]", "abs(measured['name_change_three_shot'][0]) <= 0.15", "measured['names_in_any_case']['0 shots, tuned'] < measured['names_in_any_case']['0 shots, untuned']"]
# Without shots the F1 of names fell in your run, by up to 0.3; with three it fell less, or rose, and
# stayed within 0.15. So the loss depends on the prompt, on shots or plain text, which cannot be parted
# here. F1 counts capitalized words only, but case is not all that was lost: without shots the answers hold
# fewer of the names' words in *any* case, too. (That second reading rewards long answers.)

# %% [markdown] slide="slide" minutes=7
# ## A sequence of tasks
#
# Recorded runs learn four tasks in turn, 120 examples each: entities, facts, topic, sentiment. After
# each one all four are tested by their own metrics, which do ask for the form.

# %% [markdown] slide="notes"
# Read the matrix aloud: down a column is the life of one task, the diagonal is the moment when it has
# just been trained, below it is memory, above it is a gain before any training (often the habit of
# answering briefly). Three seeds, mean shown; notebooks/recorded/sweeps/04_sequence.py.

# %%
sequence = recording.load("04_sequence")
order = sequence.settings["sequence"]
matrices = np.array([row["matrix"] for row in sequence.rows])  # [seeds, stages, tasks]
mean = matrices.mean(axis=0)
figure = plots.heatmap(
    mean, ["untuned", *(f"after {name}" for name in order)], order,
    label="score (accuracy, exact match, F1)", xlabel="tested on", ylabel="tuned so far",
)  # fmt: skip
plots.show(figure, alt="Recorded score of four tasks, mean of three seeds. Just trained against at the "
           "end of the sequence: " + ", ".join(
               f"{name} {mean[i + 1, i]:.2f} and {mean[-1, i]:.2f}" for i, name in enumerate(order)
           ) + ".")  # fmt: skip

# %% [markdown]
# Four numbers sum such a matrix up (Lopez-Paz & Ranzato 2017; Chaudhry et al. 2018). Without the
# untuned row: *ACC*, the mean of the last row; *BWT*, backward transfer, the last row minus the
# diagonal, over all tasks but the last; *FWT*, forward transfer, the score just before a task's own
# training minus the untuned score, over all but the first; *forgetting*, the best score in earlier
# rows minus the last row.

# %%
measures = pd.DataFrame(
    {
        "ACC": continual.average_accuracy(m[1:]),
        "BWT": continual.backward_transfer(m[1:]),
        "FWT": continual.forward_transfer(m[1:], untrained=m[0]),
        "forgetting": continual.forgetting(m[1:]),
    }
    for m in matrices
)
print(measures.round(3).to_string())
print(f"\nmean\n{measures.mean().round(3).to_string()}")

# %% [markdown] claims=["max(measured['bwt']) < 0", "min(stages[1] for stages in measured['names_by_stage']) > 0.55", "max(stages[2] for stages in measured['names_by_stage']) < 0.3", "min(stages[4] for stages in measured['names_by_stage']) > 0.45", "sum(1 for score in measured['learned_last'] if score < 0.6) == 1", "sum(1 for score in measured['learned_last'] if score > 0.8) == 2", "measured['matrix'][0][3] > 0.65", "max(measured['sentiment_after_entities']) < 0.52"]
# In each of the three runs BWT is negative: they forget. Names stand above 0.55 once learned, below 0.3
# after facts and above 0.45 at the end, although no name came again: hidden, not gone. BWT does not see
# that *sentiment*, not yet trained, fell from above 0.65 to below 0.52 after *entities*; in FWT *topic*
# outweighs it. And one run learned the last task badly: below 0.6, the others above 0.8.

# %% [markdown] literature=true
# ### Exercise 4.3 — backward transfer
#
# **Difficulty:** medium. **Importance:** high. **Minutes:** 8. Row i holds the scores after task i was
# trained, column j the scores on task j, and there are as many rows as columns.


# %% exercise="4.3"
def backward_transfer(matrix):
    """Return BWT of a square array of scores [trained so far, tested on]."""
    # BEGIN SOLUTION
    return (matrix[-1] - matrix.diagonal())[:-1].mean()
    # END SOLUTION


# %% check="4.3"
checks.nb04.check_backward_transfer(backward_transfer)

# %% [markdown]
# <details><summary>Hint 1</summary>
# <code>matrix.diagonal()</code> holds each task's score just after its own training.
# </details>
#
# <details><summary>Hint 2</summary>
# The last task had no later training: leave it out before you take the mean.
# </details>

# %% [markdown] literature=true
# ### Exercise 4.4 — forgetting
#
# **Difficulty:** medium. **Importance:** medium. **Minutes:** 8. BWT starts from the diagonal. If
# later tasks helped for a while, the fall from the *best* earlier score is larger: take that. In the
# table above both are equal: no task stood higher between its own training and the end.


# %% exercise="4.4"
def forgetting(matrix):
    """Return the mean fall of each earlier task from its best score before the last row."""
    # BEGIN SOLUTION
    return (matrix[:-1].max(axis=0) - matrix[-1])[:-1].mean()
    # END SOLUTION


# %% check="4.4"
checks.nb04.check_forgetting(forgetting)

# %% [markdown]
# <details><summary>Hint 1</summary>
# <code>matrix[:-1].max(axis=0)</code> is the best score of each task before the last row.
# </details>
#
# <details><summary>Hint 2</summary>
# As before, the last task does not count. A task that gained at the end counts negative.
# </details>

# %% [markdown] slide="slide" minutes=4
# ## Where the weights moved
#
# Is there a place in the network where the new task was written? For each weight matrix of the model
# from notebook 03: the length of its change against the length of the matrix itself.

# %% [markdown] slide="notes"
# Ask for guesses first: the last layers, because they are near the answer? The colours show how far
# weights moved, not what the move did. Adam divides by the size of the gradient, so it moves nearly
# all weights by similar steps; matrices of small weights then change more in proportion.

# %%
start = models.snapshot(untuned)
del model, untuned
model, tokenizer, _ = experiments.load("sentiment-full")
moved = drift.by_layer_and_module(model, start) * 100
ticks = [layer if layer % 5 == 0 else "" for layer in moved.index]
figure = plots.heatmap(
    moved, ticks, moved.columns, label="relative change (%)", xlabel="weight matrix",
    ylabel="layer", digits=None,
)  # fmt: skip
plots.show(figure, alt="Relative change of each layer's weight matrices in per cent, mean over layers: "
           + ", ".join(f"{name} {value:.2f}" for name, value in moved.mean().items()) + ".")  # fmt: skip

# %%
thirds = np.array_split(moved.mean(axis=1), 3)
by_third = dict(zip(("lower", "middle", "upper"), (float(part.mean()) for part in thirds), strict=True))
print("relative change by layers:", ", ".join(f"{k} third {v:.2f} %" for k, v in by_third.items()))
print("by matrix:", ", ".join(f"{name} {value:.2f} %" for name, value in moved.mean().items()))

# %% [markdown] claims=["0.05 <= min(measured['drift_by_module'][name] for name in ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'])", "max(measured['drift_by_module'][name] for name in ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj']) <= 0.2", "max(measured['drift_by_third'][name] for name in ['lower', 'middle', 'upper']) <= 1.5 * min(measured['drift_by_third'][name] for name in ['lower', 'middle', 'upper'])", "measured['drift_range'][1] > 0.25"]
# No kind of matrix stayed where it was, and no third of the layers moved 1.5 times as far as another.
# And the whole difference is small: each kind moved by 0.05 to 0.2 per cent of its length in the mean;
# only the first layer's value and output matrices stand out, the most by more than 0.25. What a model
# does hangs on changes that no look at its weights would have shown.

# %% [markdown] literature=true
# ### Exercise 4.5 — how far did it move?
#
# **Difficulty:** easy. **Importance:** medium. **Minutes:** 5. The relative change of one matrix, by
# the Frobenius norm: the root of the sum of all squared entries.


# %% exercise="4.5"
def relative_change(new, old):
    """Return ‖new − old‖ / ‖old‖ of two tensors of the same shape, as a float."""
    # BEGIN SOLUTION
    return ((new - old).norm() / old.norm()).item()
    # END SOLUTION


# %% check="4.5"
checks.nb04.check_relative_change(relative_change)

# %% [markdown]
# <details><summary>Hint 1</summary>
# Subtract first, then take the norm: the difference of two norms is something else.
# </details>
#
# <details><summary>Hint 2</summary>
# <code>tensor.norm()</code> is the Frobenius norm; <code>.item()</code> makes it a float.
# </details>

# %% [markdown] slide="slide" minutes=3
# ## Does it matter?
#
# If you need one task and keep the old model for everything else, perhaps not: a sentiment model that
# cannot explain a saying is no worse at sentiment. It matters when one model has to serve several
# tasks, when users will ask it what they like, when you will tune it again, and when you cannot list
# what you rely on. The rule: decide what must stay, and measure it *before* you tune.

# %% [markdown] slide="notes"
# Collect cases from the room: who runs one model for one task? Who has tuned a chat model? For both,
# ask what they measured besides the new task. Our setting is one small model that had been tuned on
# instructions and quantized once, one task, one minute: larger models and gentler rates forget less
# or differently, and the panel can only see what it asks.

# %% [markdown] slide="slide" minutes=4
# ## Quiz

# %% [markdown] slide="notes"
# Five questions, a minute each. Let the room vote before you click.

# %%
checks.quiz("04")

# %% [markdown]
# ## What we measured

# %% tags=["long"]
losses = [name for name, ability in panel.ABILITIES.items() if ability.is_loss]
recording.measured(
    "04",
    headline="names_and_facts",
    names_and_facts=rates["0.0001"]["retained"],
    live_before=panel.summary(before),
    live_changes=live_changes,
    untuned={name: float(np.mean(values)) for name, values in untuned_panels[0].items()},
    changes=changes,
    fell={
        lr: [n for n, c in change.items() if (c.low > 0 if n in losses else c.high < 0)]
        for lr, change in changes.items()
    },
    words_before=lengths[0],
    words_after=lengths[1],
    answers_before=answers_before,
    answers_after=answers_after,
    stands=stands,
    facts_changes=facts_changes,
    names_zero_shot={when: float(np.mean(f1[0, when])) for when in ("untuned", "tuned")},
    names_three_shot={when: float(np.mean(f1[3, when])) for when in ("untuned", "tuned")},
    name_change_zero_shot=name_changes[0],
    name_change_three_shot=name_changes[3],
    names_in_any_case={f"{shots} shots, {when}": share for (shots, when), share in found.items()},
    span_f1_three_shot=span_f1,
    live_high_rate={"sentiment": hot_sentiment, "retained": hot_retained},
    rates=rates,
    rate_steps=rate_steps,
    other_items={rate: float(kept.mean()) for rate, kept in other_items.items()},
    often_against_once=often_against_once,
    matrix=mean,
    names_by_stage=matrices[:, :, 0].tolist(),
    sentiment_after_entities=matrices[:, 1, 3].tolist(),
    learned_last=[m[-1, -1] for m in matrices],
    acc=measures["ACC"],
    bwt=measures["BWT"],
    fwt=measures["FWT"],
    forgetting=measures["forgetting"],
    drift_by_module=moved.mean().to_dict(),
    drift_by_third=by_third,
    drift_range=[float(moved.min().min()), float(moved.max().max())],
)

# %% [markdown]
# So a minute of tuning is not only a gain. Notebook 05 tries what the literature offers against the
# loss, on the same reviews and this same panel.

# %% [markdown]
# ## Further reading
#
# - McCloskey & Cohen 1989, Catastrophic Interference in Connectionist Networks: The Sequential
#   Learning Problem, Psychology of Learning and Motivation 24
# - French 1999, Catastrophic forgetting in connectionist networks, Trends in Cognitive Sciences 3
# - Lopez-Paz & Ranzato 2017, Gradient Episodic Memory for Continual Learning, arXiv:1706.08840:
#   ACC, BWT and FWT
# - Chaudhry et al. 2018, Riemannian Walk for Incremental Learning: Understanding Forgetting and
#   Intransigence, arXiv:1801.10112: the measure of forgetting
# - Luo et al. 2023, An Empirical Study of Catastrophic Forgetting in Large Language Models During
#   Continual Fine-tuning, arXiv:2308.08747
# - Kotha et al. 2023, Understanding Catastrophic Forgetting in Language Models via Implicit
#   Inference, arXiv:2309.10105: hidden rather than gone
# - Allal et al. 2025, SmolLM2, arXiv:2502.02737: the model

# %% [markdown] slide="skip"
# ## Free the memory
#
# Two open notebooks may need more memory than a laptop has. This cell lets go of the models and other
# large things; the page, your functions and the exercises stay. To train or score again, run the
# notebook from the top: seconds now. *Kernel → Shut Down Kernel* gives all of the memory back.

# %% slide="skip"
from workbook import memory

memory.free_notebook()
