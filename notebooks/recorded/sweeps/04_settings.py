"""What learning sentiment costs of everything else, by rate, steps and number of reviews.

Full fine-tuning of the embedded model on sentiment with `training.fit` (warm-up, then a fall to
zero), the recorded ability panel before and after. 5e-5 is notebook 03's rate. Beside it stands
one that is made to forget, chosen on validation with seeds of its own: of 1e-4, 2e-4 and 4e-4 the
lowest that halves names and facts, among those that learn sentiment nearly as well as the best of
them (of these the one that keeps least, if none halves). Five other seeds test both on other items:

250 reviews once at 2e-5, 5e-5 and the chosen rate    the rate, at equal steps (32)
63 four times against 250 once                        examples, at equal steps (32)
250 four times against 1,000 once                     examples, at equal steps (128 and 125)
250 four times against once                           steps, at equal examples

Form and knowledge: facts are written (strict and free) and chosen of four after the same chat
prompt; `shots` asks the same with solved examples before the question, still in the chat format,
so that shots are all that differs. Recovery: ten examples of other old kinds (or of the very kinds
of the composite) after the chosen rate has done its work (Zheng et al. 2025, 2501.13453), and as a
control the same ten given to the untuned model. `kl` is that of Shenfeld et al.
(2025, 2509.04259), on the first token of the answer; where the weights moved stands beside it.

Time on two cores in fp32: choice 12 minutes; settings of 32 steps and shots, five rounds of 15
minutes; recovery, five of 6; the settings of 125 steps, five of 9: 2.7 hours.
"""

import functools
import itertools

import numpy as np
import torch

from workbook import abilities, encoding, experiments, models, recording, scoring, tasks, training
from workbook.forgetting import drift
from workbook.templates import few_shot

SEEDS = experiments.TEST_SEEDS
RATES = (1e-4, 2e-4, 4e-4)
LEARNS = 0.05  # of sentiment: a rate that is worse by more is out
CHOOSING = ("entities", "facts", "sentiment")
SHOTS = {"entities": 3, "facts": 4}
# Ten examples each: of kinds that the panel does not ask about, and of those of its composite.
TEN = {
    "other kinds": {"tense": 2, "grammar": 2, "comprehension": 2, "dialogue": 2, "translation": 2},
    "same kinds": {"entities": 5, "facts": 5},
}


def measure(n, epochs, lr, seed, asked):
    """Tune a fresh model on n reviews, and ask what it can do."""
    model, tokenizer = models.load()
    result = {}
    if n:
        examples = experiments.examples(tokenizer, "sentiment", n, seed)
        history = training.fit(model, examples, lr=lr, epochs=epochs, seed=seed, progress=False)
        steps = {"steps": len(history.steps), "tokens": history.tokens}
        result = steps | {"training_seconds": history.seconds}
    for name in asked:
        result |= ASK[name](model, tokenizer, seed)
    return result


# ------------------------------------------------------------------------------- what is asked


def choosing(model, tokenizer, seed):
    """Return what the rate is chosen by, on validation."""
    skip = [name for name in abilities.ABILITIES if name not in CHOOSING]
    return {"panel": experiments.panel(model, tokenizer, "validation", skip)}


def panel(model, tokenizer, seed):
    """Return the recorded panel on test."""
    return {"panel": experiments.panel(model, tokenizer)}


def shots(model, tokenizer, seed):
    """Return names and facts written, and facts chosen, with solved examples in the chat prompt."""
    prompts = {name: prompts_with_shots(name, seed) for name in SHOTS}
    answers = {}
    with scoring.working_copy(model) as working:
        for name, some in prompts.items():
            options = {"max_new_tokens": abilities.ABILITIES[name].tokens, "batch_size": 32}
            answers[name] = scoring.generate(working, tokenizer, some, **options)
        rows = abilities.ABILITIES["facts"].rows("test", "recorded")
        asked = "facts", rows, prompts["facts"]
        answers["knowledge"] = abilities.choose(working, tokenizer, *asked)
    return {"shots": abilities.pack({"split": "test", "size": "recorded", "answers": answers})}


def prompts_with_shots(name, seed):
    """Return the prompts of an ability with solved examples of train before each."""
    ability, task = abilities.ABILITIES[name], experiments.load_task(name)
    shown = list(tasks.draw(task.splits["train"], SHOTS[name], seed=seed, balanced_by="topic"))
    template = task.template(ability.template)
    return [few_shot(template, shown, row).prompt for row in ability.rows("test", "recorded")]


def recovery(model, tokenizer, seed):
    """Return the panel after ten old examples of either sort, each from where the model is now."""
    now, found = models.snapshot(model), {}
    for name, counts in TEN.items():
        models.restore(model, now)
        drawn = (experiments.examples(tokenizer, *each, seed) for each in counts.items())
        old = list(itertools.chain.from_iterable(drawn))
        training.fit(model, old, lr=5e-5, epochs=5, seed=seed, progress=False)
        found[name] = experiments.panel(model, tokenizer)
    return {"recovered": found}


def moved(model, tokenizer, seed):
    """Return how far the model went from the untuned one: in its answers and in its weights."""
    start, before = untuned()
    after = first_token(model, tokenizer)
    change = drift.by_layer_and_module(model, start)
    thirds = np.array_split(change.mean(axis=1).to_numpy(), 3)
    return {
        "kl": float((before.exp() * (before - after)).sum(-1).mean()),
        "moved_by_module": change.mean().to_dict(),
        "moved_by_third": [float(third.mean()) for third in thirds],
    }


@functools.cache
def untuned():
    """Return the untuned weights, and what they expect as first token of an answer."""
    model, tokenizer = models.load()
    return models.snapshot(model), first_token(model, tokenizer)


def first_token(model, tokenizer):
    """Return log-probabilities after 100 validation reviews, a tensor [reviews, vocabulary]."""
    task = experiments.load_task("sentiment")
    prompts = [task.template("question").render(row).prompt for row in task.splits["validation"]]
    ids = [encoding.prompt_ids(tokenizer, prompt) for prompt in prompts[:100]]
    rows = [torch.tensor([each], device=model.device) for each in ids]
    with scoring.inference(model):
        logits = torch.cat([model(row, logits_to_keep=1).logits[:, -1] for row in rows])
    return logits.float().log_softmax(-1).cpu()


ASK = {
    "choosing": choosing,
    "panel": panel,
    "shots": shots,
    "moved": moved,
    "recovery": recovery,
}


# ----------------------------------------------------------------------------------- the points


def point(n, epochs, lr, asked):
    """Return a point without its seed."""
    return {"n": n, "epochs": epochs, "lr": lr, "asked": list(asked)}


UNTUNED = (0, 0, 0.0)


def points(rows):
    """Return the points of the choice, and once it is made those of the test."""
    grid = [{**point(250, 1, lr, ["choosing"]), "seed": seed}
            for seed in experiments.SELECTION_SEEDS for lr in RATES]  # fmt: skip
    grid.append({**point(*UNTUNED, ["choosing"]), "seed": 0})
    measured = [row for row in rows if row["asked"] == ["choosing"]]
    if len(measured) < len(grid):
        return grid
    untuned_panel = {**point(*UNTUNED, ["panel"]), "seed": 0}
    return [*grid, untuned_panel, *tested(chosen_rate(measured))]


def chosen_rate(rows):
    """Return the lowest rate that learns and halves names and facts, else what keeps least."""
    told = [(row["lr"], *experiments.learned_and_kept(row)) for row in rows]
    learned, kept = (
        {lr: np.mean([each[k] for each in told if each[0] == lr]) for lr in (0.0, *RATES)}
        for k in (1, 2)
    )
    enough = max(learned.values()) - LEARNS
    rates = [lr for lr in RATES if learned[lr] >= enough]
    halving = [lr for lr in rates if kept[lr] <= kept[0.0] / 2]
    return halving[0] if halving else min(rates, key=kept.get)


def tested(lr):
    """Return the points of the test in rounds, all of a seed together; the longest come last."""
    both, forgot = ["panel", "moved"], (250, 1, lr)
    rounds = [
        [
            point(*forgot, [*both, "shots", "recovery"]),
            point(250, 1, 2e-5, both),
            point(250, 1, 5e-5, both),
            point(63, 4, lr, both),
            point(*UNTUNED, ["shots", "recovery"]),
        ],
        [point(250, 4, lr, both), point(1000, 1, lr, both)],
    ]
    return [{**each, "seed": seed} for turn in rounds for seed in SEEDS for each in turn]


SWEEP = recording.Sweep(
    settings={},
    points=points,
    measure=measure,
    source=__file__,
    plan=recording.Plan(
        question="What does a model lose that learns sentiment: how much, by which settings, and "
        "is it what it knows or what it says?",
        primary="the composite after 250 reviews at 5e-5 minus before, run by run and item by "
        "item. Secondary, and many: the same at 2e-5; the same at the chosen rate, which shows "
        "forgetting and does not tell how much there is; 63 times 4 minus 250; 250 times 4 minus "
        "1,000, and minus 250; each ability's change; the change of written minus that of chosen "
        "facts above chance, strict and free, with and without shots; the composite after ten old "
        "examples minus after forgetting, and minus the untuned model after the same ten",
        composite="the mean of entities and facts in the free reading",
        margin=abilities.MARGIN,
        selection_seeds=experiments.SELECTION_SEEDS,
        test_seeds=SEEDS,
    ),
)

if __name__ == "__main__":
    SWEEP.run()
