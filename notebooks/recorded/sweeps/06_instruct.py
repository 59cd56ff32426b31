"""Many kinds in one model, one kind a model, kinds in turn; rates of a mixture; weights of tokens.

Full tuning of the embedded instruct model at the rate of notebook 03, forty examples a kind, the
same for all plans of a seed. Seven kinds are learned; summaries are left out, being long and few,
and four kinds are never learned, but asked about in their easy tiers.

together     one model, 280 examples four times: 140 steps of eight
in turn      one model, kind after kind, four times each; the order turns with the seed
alone        a model a kind, four times: 20 steps. The four unseen kinds too, 160 examples once: the
             upper bound of transfer, and with selection seeds, on validation, which of them have
             headroom (eighteen easy rows each tell that roughly): the others are not tested
once         280 examples once, 35 steps: in equal shares; in proportion to the kinds' rows, with a
             cap of 300, with temperature 3; in equal shares with equal weight for each example
             instead of each token, so that long answers do not count for more
untuned      without shots, and the unseen kinds with the better of 1 and 3 shots on validation

Strict is the first line, right in the asked form; free the right answer anywhere, of labels the
likeliest. All answers are kept.

14 points of 35 s for the choice; then a seed takes two of 330 s, five of 140 s, seven of 45 s, up
to four of 32 s and one of 60 s: 2.6 hours in all on two cores in fp32.
"""

from workbook import abilities, experiments, models, recording, settings, training
from workbook.tasks import mixtures

KINDS = ("sentiment", "entities", "facts", "tense", "grammar", "comprehension", "topic")
UNSEEN = ("translation", "ordering", "arithmetic", "inference")
EACH = settings.pick(smoke=2, default=40, full=40)  # examples of a kind
PASSES, LR, HEADROOM, SHOTS = 4, 5e-5, 0.1, (1, 3)
RULES = {
    "equal": lambda sizes: dict.fromkeys(sizes, 1 / len(sizes)),
    "proportional": mixtures.mixing_rates,
    "cap 300": lambda sizes: mixtures.mixing_rates(sizes, cap=300),
    "temperature 3": lambda sizes: mixtures.mixing_rates(sizes, temperature=3),
}


def measure(method, seed, split, **how):
    """Apply one of the METHODS to a fresh model and keep its answers."""
    model, tokenizer = models.load()
    return METHODS[method](model, tokenizer, seed, split, **how)


def untuned(model, tokenizer, seed, split):
    """Ask without shots."""
    return answers(model, tokenizer, (*KINDS, *UNSEEN), split)


def after_shots(model, tokenizer, seed, split, shots):
    """Ask after so many solved examples of each kind."""
    return experiments.ask_about(model, tokenizer, shots, split, seed)


def mixed(model, tokenizer, seed, split, rule, passes, weights):
    """Tune on all kinds at once, at the rates of a rule."""
    sizes = {kind: len(experiments.load_task(kind).splits["train"]) for kind in KINDS}
    rates = RULES[rule](sizes)
    examples = experiments.mixture(tokenizer, rates, EACH * len(KINDS), seed)
    took = tuned(model, examples, passes, seed, LOSSES[weights])
    return {"rates": rates} | took | answers(model, tokenizer, (*KINDS, *UNSEEN), split)


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


def alone(model, tokenizer, seed, split, kind, n, passes):
    """Tune on one kind and ask about it."""
    examples = experiments.mixture(tokenizer, {kind: 1.0}, n, seed)
    return tuned(model, examples, passes, seed) | answers(model, tokenizer, [kind], split)


METHODS = {
    "untuned": untuned,
    "shots": after_shots,
    "mixed": mixed,
    "in turn": in_turn,
    "alone": alone,
}


def tuned(model, examples, passes, seed, loss=training.completion_loss):
    """Tune, and return what it took."""
    options = {"epochs": passes, "lr": LR, "seed": seed, "loss": loss}
    history = training.fit(model, examples, progress=False, **options)
    return {"tokens": history.tokens, "training_seconds": round(history.seconds, 1)}


LOSSES = {
    "tokens": training.completion_loss,
    "examples": experiments.weighted_loss(experiments.equal_examples),
}


def answers(model, tokenizer, asked, split):
    """Return the answers about kinds without shots."""
    return experiments.ask_about(model, tokenizer, dict.fromkeys(asked, 0), split)


# ------------------------------------------------------------------------------------ the points


def strict(rows, asked, **wanted):
    """Return the mean strict score of a kind over the rows of validation that are wanted."""
    items = experiments.items(asked, "validation")
    found = [
        experiments.marks(row, asked, items, "strict").mean()
        for row in rows
        if wanted.items() <= row.items()
    ]
    return sum(found) / len(found)


def with_headroom(rows):
    """Return the unseen kinds that their own tuning lifts; all, if it lifts none."""
    lifted = {
        kind: strict(rows, kind, method="alone", kind=kind) - strict(rows, kind, method="untuned")
        for kind in UNSEEN
    }
    return [kind for kind in UNSEEN if lifted[kind] >= HEADROOM] or list(UNSEEN)


def best_shots(rows):
    """Return for each unseen kind the number of shots with the higher strict score."""

    def score(kind, n):
        return strict(rows, kind, method="shots", shots=dict.fromkeys(UNSEEN, n))

    return {kind: max(SHOTS, key=lambda n: score(kind, n)) for kind in UNSEEN}


def point(method, seed, split="test", **how):
    """Return one point."""
    return dict(method=method, seed=seed, split=split, **how)


def once(seed, rule="equal", weights="tokens"):
    """Return the point of one pass over a mixture."""
    return point("mixed", seed, rule=rule, passes=1, weights=weights)


def own(kind, seed, split="test"):
    """Return the point of an unseen kind's own tuning."""
    return point("alone", seed, split, kind=kind, n=4 * EACH, passes=1)


def points(rows):
    """Return the points of the choice, and once it is made those of the test, seed by seed."""
    choice = [point("untuned", 0, "validation")]
    for seed in experiments.SELECTION_SEEDS:
        choice += [own(kind, seed, "validation") for kind in UNSEEN]
        some = [dict.fromkeys(UNSEEN, n) for n in SHOTS]
        choice += [point("shots", seed, "validation", shots=each) for each in some]
    if len(rows) < len(choice):
        return choice
    chosen_by = rows[: len(choice)]
    kept, chosen = with_headroom(chosen_by), best_shots(chosen_by)
    tests = [point("untuned", 0)]
    for seed in experiments.TEST_SEEDS:
        tests += [point("mixed", seed, rule="equal", passes=PASSES, weights="tokens")]
        tests += [point("alone", seed, kind=kind, n=EACH, passes=PASSES) for kind in KINDS]
        tests += [point("in turn", seed)]
        tests += [once(seed), once(seed, weights="examples")]
        tests += [once(seed, rule) for rule in RULES if rule != "equal"]
        tests += [own(kind, seed) for kind in kept]
        tests += [point("shots", seed, shots=chosen)]
    return choice + tests


SWEEP = recording.Sweep(
    settings={},
    points=points,
    measure=measure,
    source=__file__,
    plan=recording.Plan(
        question="Does one model for many kinds do as well as a model a kind?",
        primary="the composite together minus alone, four passes each, run by run and item by "
        "item. Secondary, and many: together minus in turn; each rule, and equal weight for each "
        "example, minus equal shares once, over all kinds and for each; the unseen kinds with "
        "headroom after all kinds minus untuned, as a share of own tuning minus untuned, and minus "
        "the best shots; all of it strict too",
        composite="mean of the free scores of the seven kinds, each alike",
        margin=abilities.MARGIN,
        selection_seeds=experiments.SELECTION_SEEDS,
        test_seeds=experiments.TEST_SEEDS,
    ),
)

if __name__ == "__main__":
    SWEEP.run()
