"""Many kinds in one model, one kind a model, kinds in turn; rates of a mixture; weights of tokens.

Full tuning of the embedded instruct model at the rate of notebook 03, 32 examples a kind, the same
for all plans of a seed. Seven kinds are learned; summaries are left out, being long and few. Which
kinds transfer to unseen ones is asked of the base model (06_base).

together   one model, 224 examples twice: 56 steps of eight; in equal shares; in proportion to the
           kinds' rows; with temperature 3; in equal shares with equal weight for each example
           instead of each token, so that long answers do not count for more
in turn    one model, kind after kind, twice each: 56 steps; the order turns with the seed
alone      a model for each of three kinds, eight times: 32 steps each
untuned    without shots

A cap of 300 gives nearly equal shares of these kinds, so it is not run. Strict is the first line,
right in the asked form; free the right answer anywhere, of labels the likeliest. All answers are
kept, and of together in equal shares the ability panel.

A seed takes five points of 11 minutes and three of 5: 6 hours in all on one slow core in fp32; a
fast core takes a third.
"""

from workbook import experiments, models, recording, settings, training
from workbook.tasks import mixtures

KINDS = ("sentiment", "entities", "facts", "tense", "grammar", "comprehension", "topic")
ALONE = ("entities", "tense", "topic")  # a list, a sentence, a label
EACH = settings.pick(smoke=2, default=32, full=32)  # examples of a kind
PASSES, PASSES_ALONE, LR = 2, 8, 5e-5
RULES = {
    "equal": lambda sizes: dict.fromkeys(sizes, 1 / len(sizes)),
    "proportional": mixtures.mixing_rates,
    "temperature 3": lambda sizes: mixtures.mixing_rates(sizes, temperature=3),
}
LOSSES = {
    "tokens": training.completion_loss,
    "examples": experiments.weighted_loss(experiments.equal_examples),
}


def measure(method, seed, split, **how):
    """Apply one of the METHODS to a fresh model and keep its answers."""
    model, tokenizer = models.load()
    return METHODS[method](model, tokenizer, seed, split, **how)


def untuned(model, tokenizer, seed, split):
    """Ask without shots."""
    return answers(model, tokenizer, KINDS, split)


def together(model, tokenizer, seed, split, rule, weights):
    """Tune on all kinds at once, at the rates of a rule."""
    sizes = {kind: len(experiments.load_task(kind).splits["train"]) for kind in KINDS}
    rates = RULES[rule](sizes)
    examples = experiments.mixture(tokenizer, rates, EACH * len(KINDS), seed)
    took = tuned(model, examples, PASSES, seed, LOSSES[weights])
    found = {"rates": rates} | took | answers(model, tokenizer, KINDS, split)
    if (rule, weights) == ("equal", "tokens"):
        found["panel"] = experiments.panel(model, tokenizer, split)
    return found


def in_turn(model, tokenizer, seed, split):
    """Tune on one kind after the other."""
    start = 3 * seed % len(KINDS)
    order = KINDS[start:] + KINDS[:start]
    took = [
        tuned(model, experiments.mixture(tokenizer, {kind: 1.0}, EACH, seed), PASSES, seed)
        for kind in order
    ]
    summed = {name: sum(each[name] for each in took) for name in took[0]}
    return {"order": order} | summed | answers(model, tokenizer, KINDS, split)


def alone(model, tokenizer, seed, split, kind):
    """Tune on one kind and ask about it."""
    examples = experiments.mixture(tokenizer, {kind: 1.0}, EACH, seed)
    took = tuned(model, examples, PASSES_ALONE, seed)
    return took | answers(model, tokenizer, [kind], split)


METHODS = {"untuned": untuned, "together": together, "in turn": in_turn, "alone": alone}


def tuned(model, examples, passes, seed, loss=training.completion_loss):
    """Tune, and return what it took."""
    options = {"epochs": passes, "lr": LR, "seed": seed, "loss": loss}
    history = training.fit(model, examples, progress=False, **options)
    return {"tokens": history.tokens, "training_seconds": round(history.seconds, 1)}


def answers(model, tokenizer, asked, split):
    """Return the answers about kinds without shots."""
    return experiments.ask_about(model, tokenizer, dict.fromkeys(asked, 0), split)


def point(method, seed, **how):
    """Return one point."""
    return dict(method=method, seed=seed, split="test", **how)


def of_seed(seed):
    """Return the points of one seed."""
    plans = [("equal", "tokens"), ("equal", "examples")]
    plans += [(rule, "tokens") for rule in RULES if rule != "equal"]
    found = [point("together", seed, rule=rule, weights=weights) for rule, weights in plans]
    found += [point("in turn", seed)]
    return found + [point("alone", seed, kind=kind) for kind in ALONE]


SWEEP = recording.Sweep(
    settings={},
    points=[
        point("untuned", 0),
        *(each for seed in experiments.TEST_SEEDS for each in of_seed(seed)),
    ],
    measure=measure,
    source=__file__,
    plan=recording.Plan(
        question="Many kinds at once or one after the other, and does one model for many kinds do "
        "as well as a model of its own for a kind?",
        primary="the composite together in equal shares minus in turn, equal steps, run by run and "
        "item by item. Secondary, and many: together minus alone on the three kinds (a model of "
        "its own has 32 steps, together 56 for seven kinds); each rule, and equal weight for each "
        "example, minus equal shares, over all kinds and for each; all of it free, beside what "
        "copies the input",
        composite="mean of the strict scores of the seven kinds, each alike",
        margin=0.05,
        test_seeds=experiments.TEST_SEEDS,
    ),
)

if __name__ == "__main__":
    SWEEP.run()
