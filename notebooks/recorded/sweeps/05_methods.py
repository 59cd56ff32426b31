"""Which remedy keeps more than a low rate does? Strengths chosen on validation, tested by others.

All start from the default model and read the same 250 reviews once, at 1e-4 unless the strength is
a rate of its own. The old examples that some methods read are of kinds that the composite does not
hold, so they keep and do not teach what is asked; rehearsal of the very kinds stands beside them.
What a method reads besides or how many steps more it takes stands in its row (`steps`, `tokens`,
`old_examples`, `training_seconds`), since budgets differ: side-tuning, which starts from nothing,
passes four times; Reptile has its rounds before. Rehearsal's examples count alike, however long.

Side-tuning is measured with its column on, also where old abilities are asked: whoever knows the
task can leave it off, and has the untuned model, as with any copy that is kept.

Plain tuning at 2e-5 and 5e-5 with the same seeds stands in 04_settings; here are 1e-5 and 1e-4. The
best two strengths of each method have a second selection seed and decide between them. About 70
points of 100 s and 75 of 140 s: 4.8 hours on two cores in fp32.
"""

import time

import numpy as np
from scipy import stats

from workbook import abilities, encoding, experiments, models, recording, scoring, tasks, training
from workbook.forgetting import progressive, remedies

LR, REVIEWS, LONGEST = 1e-4, 250, 48
OLD_KINDS = ("tense", "grammar", "comprehension", "dialogue", "translation", "topic")
GRID = {
    "plain": (1e-5, 2e-5, 5e-5, 1e-4),  # learning rate
    "weight decay": (10.0, 30.0, 100.0),
    "freezing": (12, 15, 20),  # uppermost layers that learn
    "L2-SP": (0.2, 0.6, 2.0),  # lambda
    "L2-SP, decoupled": (0.01, 0.03, 0.1),  # share of the way back a step
    "EWC": (0.02, 0.2, 2.0),  # lambda
    "EWC, decoupled": (0.01, 0.1, 1.0),  # share, for a weight that matters on average
    "rehearsal": (0.05, 0.1, 0.25),  # share of old examples
    "self-rehearsal": (0.05, 0.1, 0.25),
    "interpolation": (0.3, 0.5, 0.7),  # share of the tuned model
    "side-tuning": (3e-3, 1e-2, 3e-2),  # learning rate
    "Reptile": (0.1, 0.25, 0.5),  # step size; at 1 it is tuning on one kind after the other
}
LOW = 2e-5  # the rate that remedies are compared with
CONTESTED = ("rehearsal", "L2-SP")  # ten seeds: the first edition's three disagreed most


def old_pairs(each, seed, kinds=OLD_KINDS):
    """Return so many training pairs of each old kind."""
    pairs = []
    for name in kinds:
        data = experiments.load_task(name)
        rows = tasks.draw(data.splits["train"], each, seed=seed)
        pairs += map(data.template(0).render, rows)
    return pairs


def reviews(tokenizer, seed):
    """Return the reviews that all methods learn."""
    return experiments.examples(tokenizer, "sentiment", REVIEWS, seed)


def tuned(model, examples, seed, **options):
    """Tune, and return what it took."""
    history = training.fit(model, examples, seed=seed, progress=False, **{"lr": LR} | options)
    took = {"steps": len(history.steps), "tokens": history.tokens}
    return took | {"training_seconds": round(history.seconds, 1)}


def plain(model, tokenizer, lr, seed):
    """Tune as notebook 03 does."""
    return tuned(model, reviews(tokenizer, seed), seed, lr=lr)


def weight_decay(model, tokenizer, strength, seed):
    """Shrink all weights a little in each step."""
    return tuned(model, reviews(tokenizer, seed), seed, weight_decay=strength)


def freezing(model, tokenizer, layers, seed):
    """Train the uppermost layers only."""
    first = model.config.num_hidden_layers - layers
    upper = "|".join(map(str, range(first, model.config.num_hidden_layers)))
    training.select_trainable(model, rf"layers\.({upper})\.")
    found = tuned(model, reviews(tokenizer, seed), seed)
    model.requires_grad_(True)
    return found


def l2_sp(model, tokenizer, lam, seed):
    """Pull all weights back alike, by the gradient."""
    pull = remedies.l2_sp(models.snapshot(model), lam)
    return tuned(model, reviews(tokenizer, seed), seed, regularizers=[pull])


def l2_sp_decoupled(model, tokenizer, share, seed):
    """Move all weights a share of their way back in each step."""
    pull = remedies.pull_back(models.snapshot(model), share)
    return tuned(model, reviews(tokenizer, seed), seed, regularizers=[pull])


def fisher(model, tokenizer, seed):
    """Return the empirical Fisher information of 48 examples of the old kinds, and its seconds."""
    begin = time.perf_counter()
    examples = encoding.encode_pairs(tokenizer, old_pairs(each=8, seed=seed))
    found = remedies.fisher_diagonal(model, examples)
    return found, {"old_examples": len(examples), "seconds_before": time.perf_counter() - begin}


def ewc(model, tokenizer, lam, seed):
    """Pull weights back as they mattered for the old kinds, by the gradient."""
    mattered, took = fisher(model, tokenizer, seed)
    pull = remedies.ewc(models.snapshot(model), mattered, lam)
    return took | tuned(model, reviews(tokenizer, seed), seed, regularizers=[pull])


def ewc_decoupled(model, tokenizer, share, seed):
    """Move weights a share of their way back in each step, as they mattered for the old kinds."""
    mattered, took = fisher(model, tokenizer, seed)
    pull = remedies.pull_back(models.snapshot(model), share, mattered)
    return took | tuned(model, reviews(tokenizer, seed), seed, regularizers=[pull])


def mixed(model, tokenizer, pairs, share, seed):
    """Tune on the reviews with old examples among them, which make up the share."""
    new, old = reviews(tokenizer, seed), encoding.encode_pairs(tokenizer, pairs)
    examples = remedies.rehearse(new, old, share, seed=seed)
    # Answers of forty tokens would outweigh labels of two.
    alike = experiments.weighted_loss(experiments.equal_examples)
    took = tuned(model, examples, seed, loss=alike)
    return {"old_examples": len(examples) - len(new)} | took


def rehearsal(model, tokenizer, share, seed):
    """Mix old examples in."""
    return mixed(model, tokenizer, old_pairs(each=20, seed=seed), share, seed)


def same_kinds(model, tokenizer, share, seed):
    """Mix in examples of the very kinds that the composite holds."""
    pairs = old_pairs(each=60, seed=seed, kinds=abilities.COMPOSITE)
    return mixed(model, tokenizer, pairs, share, seed)


def self_rehearsal(model, tokenizer, share, seed):
    """Mix old questions in, with the answers that the old model gives itself (2403.01244)."""
    begin, prompts = time.perf_counter(), [pair.prompt for pair in old_pairs(each=40, seed=seed)]
    with scoring.working_copy(model) as working:
        options = {"max_new_tokens": LONGEST, "batch_size": 64}
        answers = scoring.generate(working, tokenizer, prompts, **options)
    own = [pair for pair in zip(prompts, answers, strict=True) if is_whole(tokenizer, pair[1])]
    took = {"seconds_before": time.perf_counter() - begin}
    return took | mixed(model, tokenizer, own, share, seed)


def is_whole(tokenizer, answer):
    """Tell whether an answer has words and came to its end: a cut one would teach to stop there."""
    return answer.strip() and len(encoding.token_ids(tokenizer, answer)) < LONGEST - 1


def interpolation(model, tokenizer, share, seed):
    """Go a part of the way from the old weights to the tuned ones."""
    start = models.snapshot(model)
    found = plain(model, tokenizer, LR, seed)
    remedies.interpolate(model, start, share)
    return found


def reptile(model, tokenizer, step_size, seed):
    """Look for a better start with the old kinds first, then tune from there without them."""
    pairs, begin = old_pairs(each=32, seed=seed), time.perf_counter()
    old = {
        name: encoding.encode_pairs(tokenizer, pairs[i * 32 : (i + 1) * 32])
        for i, name in enumerate(OLD_KINDS)
    }
    remedies.reptile(model, old, rounds=12, lr=LR, step_size=step_size, seed=seed)
    took = {"old_examples": 12 * 32, "seconds_before": time.perf_counter() - begin}
    return took | tuned(model, reviews(tokenizer, seed), seed)


METHODS = {
    "plain": plain,
    "weight decay": weight_decay,
    "freezing": freezing,
    "L2-SP": l2_sp,
    "L2-SP, decoupled": l2_sp_decoupled,
    "EWC": ewc,
    "EWC, decoupled": ewc_decoupled,
    "rehearsal": rehearsal,
    "rehearsal, same kinds": same_kinds,
    "self-rehearsal": self_rehearsal,
    "interpolation": interpolation,
    "Reptile": reptile,
}


def measure(method, strength, seed, split):
    """Apply a method to a fresh model and measure what it can do on the split."""
    model, tokenizer = models.load()
    if method == "untuned":
        return {"panel": experiments.panel(model, tokenizer, split, experiments.skipped(split))}
    if method == "Fisher":
        return correlation(model, tokenizer)
    if method == "side-tuning":
        return side_tuned(model, tokenizer, strength, seed, split)
    took = METHODS[method](model, tokenizer, strength, seed)
    took = {name: round(value, 1) for name, value in took.items()}
    return took | {"panel": experiments.panel(model, tokenizer, split, experiments.skipped(split))}


def side_tuned(model, tokenizer, lr, seed, split):
    """Tune a column beside the model and ask with it on."""
    with progressive.attached(model, progressive.column_for(model, seed=seed)):
        took = tuned(model, reviews(tokenizer, seed), seed, lr=lr, epochs=4)
        panel = experiments.panel(model, tokenizer, split, experiments.skipped(split))
    return took | {"panel": panel}


def correlation(model, tokenizer):
    """Return how the empirical Fisher information and the true one agree, weight by weight.

    The mean over the matrices of the rank correlation within each, and how unequal the empirical
    one is; 48 old examples, tokens drawn once each.
    """
    examples = encoding.encode_pairs(tokenizer, old_pairs(each=8, seed=0))
    training.seed_everything(0)
    empirical, true = (
        remedies.fisher_diagonal(model, examples, loss)
        for loss in (remedies.example_loss, remedies.sampled_loss)
    )
    within = [in_ranks(empirical[name], true[name]) for name in empirical]
    flat = np.concatenate([weight.flatten().numpy() for weight in empirical.values()])
    shares = np.quantile(flat, [0.5, 0.9, 0.99, 0.999])
    return {"rank_correlation": float(np.mean(within)), "fisher_quantiles": shares.tolist()}


def in_ranks(one, other, most=100_000):
    """Return the rank correlation of two tensors, at so many places drawn at random."""
    drawn = np.random.default_rng(0).permutation(one.numel())[:most]
    return stats.spearmanr(*(each.flatten().numpy()[drawn] for each in (one, other))).statistic


def by_method(rows):
    """Return {method: {strength: (sentiment, composite)}}, means over the selection seeds.

    Once some strengths of a method have a second seed, the others are out.
    """
    found = {}
    for row in rows:
        if row["split"] == "validation" and row["method"] in GRID:
            runs = found.setdefault(row["method"], {}).setdefault(row["strength"], [])
            runs.append(experiments.learned_and_kept(row))
    return {method: experiments.means(told) for method, told in found.items()}


def ranked(rows):
    """Return each method's strengths, the best first.

    Enough is what plain tuning learns at its best, less the margin.
    """
    means = by_method(rows)
    best = max(sentiment for sentiment, _ in means["plain"].values())
    needed = best - experiments.SENTIMENT_MARGIN
    return {method: experiments.ranked(told, needed) for method, told in means.items()}


def points(rows):
    """Return the points of the choice, then those of its second seed, then those of the test."""
    first, second = experiments.SELECTION_SEEDS
    tried = [point("untuned", 0, 0, split) for split in ("validation", "test")]
    tried += [point("Fisher", 0, 0)]
    tried += [point(method, each, first) for method, grid in GRID.items() for each in grid]
    if len(rows) < len(tried):
        return tried
    leading = ranked(rows[: len(tried)])
    tried += [point(m, each, second) for m, strengths in leading.items() for each in strengths[:2]]
    if len(rows) < len(tried):
        return tried
    chosen = {m: strengths[0] for m, strengths in ranked(rows[: len(tried)]).items()}
    return tried + tests(chosen)


def tests(chosen):
    """Return the points of the test, seed by seed; those of ten seeds come last."""
    del chosen["plain"]
    rounds = [("plain", 1e-5), ("plain", LR), *chosen.items()]
    rounds += [("rehearsal, same kinds", chosen["rehearsal"])]
    more = [("plain", LOW), *((method, chosen[method]) for method in CONTESTED)]
    last = [seed for seed in experiments.CONTESTED_SEEDS if seed not in experiments.TEST_SEEDS]
    return [
        point(method, strength, seed, "test")
        for seeds, turn in ((experiments.TEST_SEEDS, rounds), (last, more))
        for seed in seeds
        for method, strength in turn
    ]


def point(method, strength, seed, split="validation"):
    """Return one point."""
    return dict(method=method, strength=strength, seed=seed, split=split)


SWEEP = recording.Sweep(
    settings={},
    points=points,
    measure=measure,
    source=__file__,
    plan=recording.Plan(
        question="Which remedy keeps more of the old abilities than a low rate does, and at what "
        "cost in the new task?",
        primary="the composite of each remedy at its chosen strength minus that of plain tuning at "
        "2e-5 (from 04_settings), paired by seed, on test items; the cost is sentiment likewise. A "
        "remedy is better where the interval of the composite lies above 0 and that of sentiment "
        "above -.05; else it trades. Eleven comparisons: said to be many",
        composite="mean of the free grades of entities and facts",
        margin=abilities.MARGIN,
        selection_seeds=experiments.SELECTION_SEEDS,
        test_seeds=experiments.CONTESTED_SEEDS,
    ),
)

if __name__ == "__main__":
    SWEEP.run()
