# %% [markdown] slide="slide" minutes=1
# # 00 Start here
#
# In a few minutes you will know that this machine runs the course, have asked the model a first
# question, and see the whole way ahead.
#
# **Objectives**: check the machine; load the model and ask it something; know how the notebooks
# work and where to look up a term.
#
# **Minutes**: 20 to study (of which 0 on exercises), 18 as a talk; the cells need less than one on
# two cores the first time. **Prerequisites**: Python as in a first course. What a neural network
# is helps; everything about language models is explained where it is needed.
#
# Run a cell with **Shift + Enter**, or all of them with *Run → Run All Cells*.

# %% [markdown] slide="notes"
# Let everybody run the first cells while you speak: what fails, fails now and not in chapter 03.
# The course needs no account, no GPU and no model hub.

# %%
from IPython.display import Markdown, display
from workbook import checks, course, doctor, glossary, models, plots, recording, scoring

# %% [markdown] slide="slide" minutes=2
# ## Does this machine run the course?
#
# Every line should say OK. Where one says FAIL, the last column says what to do. The same table
# comes from `make doctor` in a terminal.

# %% [markdown] slide="notes"
# The usual failures: a Python older than `3.11`, too little disk, a proxy that pip does not
# know. Ask who has a FAIL before going on.

# %%
rows = [
    f"| {'OK' if item.ok else '**FAIL**'} | {item.name} | {item.detail} "
    f"| {'' if item.ok else item.remedy} |"
    for item in doctor.checks()
]
display(Markdown("\n".join(["| | item | found | what to do |", "|:---|:---|:---|:---|", *rows])))

# %% [markdown] slide="slide" minutes=2
# ## A first hello
#
# The model of this course is SmolLM2-135M-Instruct, a small language model that has already been
# tuned once to follow instructions. Small is the point: you can train it here, in a minute, and
# look at every part. Loading it takes seconds.

# %% [markdown] slide="notes"
# It came inside a Python package, stored in 4 bits a weight, and was converted once into the
# format that the `transformers` library reads. It is real: same architecture as models a thousand
# times its size.

# %%
model, tokenizer = models.load()
parameters = models.count_parameters(model)
print(f"{parameters.total:,} weights in {model.config.num_hidden_layers} layers")

# %% [markdown] slide="subslide" minutes=1
# Now ask. The model continues the prompt token by token, always taking the most probable next one,
# so you get the same answer whenever you run the cell. Change the questions and run it again: it
# will soon be wrong, in the same tone. Chapters 01 and 03 are about doing better.

# %% [markdown] slide="notes"
# Take a question from the room. A model of this size knows some capitals and common facts, and
# makes up much of the rest. Let it fail in front of everybody.

# %%
questions = [
    "What is the capital of France?",
    "Is this review positive or negative? The plot is thin, but I laughed all the way through.",
    "How many legs do three spiders have?",
]
answers = scoring.generate(model, tokenizer, questions, max_new_tokens=24)
for question, answer in zip(questions, answers, strict=True):
    print(f"you:   {question}\nmodel: {answer}\n")

# %% [markdown] slide="slide" minutes=2
# ## The way ahead
#
# The plan has thirteen chapters. Filled boxes are here to be read; dashed ones are planned. Each
# asks one question and answers it with an experiment that you run.

# %% [markdown] slide="notes"
# First ask without training (01), then make the data (02), then train (03). What training breaks,
# how to avoid it and how to do it with fewer weights comes after that.

# %%
plots.show(course.draw_map(), alt=course.describe_map())

# %% [markdown] slide="subslide" minutes=1
# The columns `fp32` and `bf16` give the minutes and the peak memory of a first run on two CPU
# cores, in either number format; the check above says whether your processor works in float32
# (fp32) or bfloat16 (bf16). The headline is what the chapter found. A second run of a notebook is
# much shorter, because what was trained once is kept.

# %% [markdown] slide="notes"
# A dash means that nobody has timed a first run in that number format on two cores.

# %%
display(Markdown(course.table()))

# %% [markdown] slide="slide" minutes=2
# ## How to use the notebooks
#
# | you want to | do this |
# |:---|:---|
# | learn | open the notebooks in the folder `my`, which are your copies: nothing overwrites them; run the cells from top to bottom, and write your answer where an exercise says `...  # your code here` |
# | know whether an answer is right | run the check below the exercise; it says what is most likely wrong |
# | have a quiz counted | write your answers into its cell, as in `checks.quiz("03", "b a cd a c")`: for each question a word, of the letters of the options that you choose |
# | get help | open Hint 1, then Hint 2, then the solution below the check |
# | skip an exercise | go on: no later cell needs your answer |
# | read without running | open the folder `notebooks/solutions`: the same notebooks, solved and with all outputs |
# | run faster or larger | set `WORKBOOK_SCALE` before you start: `smoke` only shows that it runs, `default` is this course, `full` is for a workstation or a GPU |
# | give a talk | `workbook present 03` shows the slides of notebook 03, also without a network; key S opens the speaker view |
# | open the next notebook | first run the last cell of the one before, which frees its memory, or shut down its kernel; one in which nothing ran for half an hour is shut down by itself: run it again from the top |
# | have a fresh copy of a notebook | close it, then `workbook reset 03` in a terminal (*File → New → Terminal*); your old copy is kept with the date in its name |
# | keep a record of what you solved | `workbook record "Your name"` in a terminal writes `my/completion.html`, which is no certificate |
# | start afresh | `workbook cache clear` forgets what was trained, *Kernel → Restart* what was computed |

# %% [markdown] slide="notes"
# In class, run a notebook once the evening before: the run cache then gives every training back in
# a second, and says so. In JupyterLab the speaker notes are closed boxes below each slide.

# %% [markdown] slide="subslide" minutes=1
# **Your dot on our curve.** A sound conclusion needs dozens of trained models, and two cores train
# about one a minute. So a notebook trains a few models *live* and draws them as your dots on a
# curve of *recorded* measurements: the same code, run before over many seeds and sizes. Figures
# and prose always say which is which, and one cell repeats any recorded point.

# %% [markdown] slide="notes"
# The recordings are the JSON files in `notebooks/recorded`, with settings, seeds, versions and the
# hash of the code that made them. `make measure NB=03` repeats the sweeps of a notebook, which take
# about half an hour to more than two hours on two cores.

# %% [markdown] slide="slide" minutes=1
# ## Your progress
#
# Each check that you pass is remembered on this machine. Run this cell whenever you come back.

# %% [markdown] slide="notes"
# Progress stays in the cache folder of the learner; nothing is sent anywhere. `workbook record "Kim"`
# in a terminal writes it as one HTML file. It is no certificate.

# %%
checks.table()

# %% [markdown] slide="slide" minutes=2 literature=true
# ## Statements you may meet elsewhere
#
# Lecture notes on this subject often say one of these. They are understandable slips; the course
# tests them instead of arguing, in the chapters of the last column (dashed on the map: to come).
#
# | often said | what holds | tested in |
# |:---|:---|:---|
# | PEFT trains 15–20 % of the weights | usual methods train between a hundredth of a percent and a few percent, more only at high ranks | here; 07, 08 |
# | PEFT is free of forgetting | frozen weights stay, but the model that answers has changed and can forget | 07, 08 |
# | LoRA factors the weight matrix W | it factors the update ΔW; W itself stays whole | 07 |
# | EWC shares weights between tasks | the C is *consolidation*: weights that matter to old tasks are held near their values | 05 |
# | MMLU is a multi-modal benchmark | Massive *Multitask* Language Understanding: 57 subjects, text only | 09 |
# | TruthfulQA verifies claims | it asks whether a model's answers repeat common falsehoods | 09 |

# %% [markdown] slide="notes"
# Be kind: the words invite these mistakes. The first one can be settled by counting, right here.

# %% [markdown] slide="subslide" minutes=1
# The first one needs no training, only counting. LoRA leaves each weight matrix W as it is and
# trains two thin matrices beside it: one takes the inputs of the layer to a few numbers, the other
# takes those to its outputs. How many numbers these are is the rank. The share is of all numbers
# that the model then has, LoRA's included, here and in chapter 07.

# %% [markdown] slide="notes"
# Let the class guess the percentage for rank 64 before running it.

# %%
linear = [module for name, module in model.named_modules() if name.endswith("_proj")]
shares = {}
for rank in (1, 8, 64):
    added = sum(rank * (layer.in_features + layer.out_features) for layer in linear)
    shares[rank] = added / (parameters.total + added)
    print(f"rank {rank:2}: {added:10,} trained weights, {shares[rank]:6.2%} of the model")

# %% [markdown]
# A rank of 8 is a common choice, and 64 a large one. In a larger model the same rank is a smaller
# share: the thin matrices grow with the width of the model, the weights with its square.

# %% [markdown] slide="slide" minutes=1
# ## Glossary
#
# All terms in English and Korean, with the chapter that teaches each. Write a word of either
# language between the quotation marks to see only what matches. To search the whole list with
# **Ctrl + F**, open the filter (the funnel) in the search box and tick *Search Cell Outputs*.

# %% [markdown] slide="notes"
# Korean usage varies; where two names are common, both are given.

# %%
word = ""
display(Markdown(glossary.table(word)))

# %% [markdown] slide="slide" minutes=1
# ## What we measured
#
# Little yet, but every notebook ends like this: a table for you, which the tests read too. Go on
# with [01 In-context learning](01_in_context_learning.ipynb).

# %% [markdown] slide="notes"
# The tests compare the numbers in the prose of every notebook with this table.

# %%
recording.measured(
    "00",
    headline=f"{parameters.total / 1e6:.1f} million weights",
    parameters=parameters.total,
    layers=model.config.num_hidden_layers,
    lora_share_of_rank_8=shares[8],
)
