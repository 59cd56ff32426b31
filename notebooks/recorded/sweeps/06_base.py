"""Does tuning on many kinds of tasks create instruction following? A base model before and after.

Gemma 3 270M, pretrained only, with LoRA of rank 16 on all linear layers at 5e-4 (from a trial; no
other rate is tried): 320 examples once, forty steps of eight, whatever they are made of. In the
format `experiments.PLAIN` (prompt, line break, answer) it is asked about kinds that it never
learned, in their easy tiers, about everyday instructions and about Korean reviews.

untuned   without shots, and with 1 or 3 solved examples, whichever is better on validation
kinds     tuned on 1, 3 or 8 kinds (which ones turns with the seed), through one template a kind,
          and on 8 through many
own       tuned on the unseen kind itself: the upper bound. With the first selection seed it also
          tells, on validation, which kinds have headroom: only these are tested and count. Their
          eighteen easy validation rows tell that roughly

A kind with fewer than 320 rows repeats some. Strict is the first line, right in the asked form;
free the right answer anywhere, of labels the likeliest. Strict decides, since a base model that
goes on and on may hit the answer by the way. Answers are kept, Korean ones too, which are also
judged by their English gloss. Shots are not tried before instructions, which would be long.

About 10 points of 70 s, then 20 of 180 s, 5 of 110 s and up to 20 of 90 s: 1.9 hours on two cores
in fp32; less where a kind has no headroom.
"""

from workbook import experiments, recording, scoring, settings, training
from workbook.adaptation.additions import attached
from workbook.adaptation.lora import LoRA

KINDS = (
    "sentiment", "entities", "facts", "tense", "grammar", "dialogue", "comprehension", "topic",
)  # fmt: skip
UNSEEN = ("translation", "ordering", "arithmetic", "inference")  # each with an easy tier
SHOWN = (*UNSEEN, "sentiment-ko")  # asked with shots too
ASKED = (*SHOWN, "instructions")
SHOTS = (1, 3)
HEADROOM = 0.1  # of the strict score, own tuning minus untuned, on validation
EXAMPLES = settings.pick(smoke=16, default=320, full=320)
LR, RANK, ALPHA = 5e-4, 16, 16


def measure(method, seed, split, **how):
    """Apply one of the METHODS to the base model and keep its answers."""
    model, tokenizer = experiments.load_base()
    return METHODS[method](model, tokenizer, seed, split, **how)


def untuned(model, tokenizer, seed, split):
    """Ask without shots."""
    return answers(model, tokenizer, ASKED, split)


def after_shots(model, tokenizer, seed, split, shots):
    """Ask after so many solved examples of each kind."""
    return experiments.ask_about(model, tokenizer, shots, split, seed)


def kinds(model, tokenizer, seed, split, count, templates):
    """Tune on so many kinds, which turn with the seed, and ask about the unseen ones."""
    start = 3 * seed % len(KINDS)
    learned = (KINDS[start:] + KINDS[:start])[:count]
    return {"learned": learned} | tuned(model, tokenizer, learned, templates, seed, ASKED, split)


def own(model, tokenizer, seed, split, kind):
    """Tune on a kind and ask about it."""
    return tuned(model, tokenizer, [kind], "one", seed, [kind], split)


METHODS = {"untuned": untuned, "shots": after_shots, "kinds": kinds, "own": own}


def tuned(model, tokenizer, learned, templates, seed, asked, split):
    """Tune a LoRA on equal shares of the kinds, then ask."""
    rates = dict.fromkeys(learned, 1 / len(learned))
    examples = experiments.mixture(tokenizer, rates, EXAMPLES, seed, templates)
    with attached(model, LoRA(model, RANK, ALPHA, seed=seed)):
        history = training.fit(model, examples, lr=LR, seed=seed, progress=False)
        found = answers(model, tokenizer, asked, split)
    return found | {"tokens": history.tokens, "training_seconds": round(history.seconds, 1)}


def answers(model, tokenizer, asked, split):
    """Return the answers about kinds, and of Korean reviews also the labels by their gloss."""
    found = experiments.ask_about(model, tokenizer, dict.fromkeys(asked, 0), split)
    if "sentiment-ko" in asked:
        rows = experiments.items("sentiment-ko", split)
        found["korean_by_gloss"] = by_gloss(model, tokenizer, rows)
    return found


def by_gloss(model, tokenizer, rows):
    """Return the likeliest label of each Korean review as a digit, by its English translation."""
    template = experiments.load_task("sentiment-ko").template("gloss")
    prompts = [template.render(row).prompt for row in rows]
    with scoring.working_copy(model) as working:
        found = scoring.classify(working, tokenizer, prompts, template.choices(rows[0]))
    return "".join(map(str, found.predictions))


# ------------------------------------------------------------------------------------ the points


def strict(row, kind):
    """Return the strict score of a kind in a row of validation."""
    rows = experiments.items(kind, "validation")
    return experiments.marks(row, kind, rows, "strict").mean()


def with_headroom(rows):
    """Return the unseen kinds that their own tuning lifts; all, if it lifts none."""
    before = next(row for row in rows if row["method"] == "untuned")
    after = {row["kind"]: row for row in rows if row["method"] == "own"}
    lifted = {kind: strict(after[kind], kind) - strict(before, kind) for kind in UNSEEN}
    return [kind for kind in UNSEEN if lifted[kind] >= HEADROOM] or list(UNSEEN)


def best_shots(rows):
    """Return for each kind the number of shots with the higher strict score."""

    def score(kind, n):
        shown = [row for row in rows if row["method"] == "shots" and row["shots"][kind] == n]
        return sum(strict(row, kind) for row in shown)

    return {kind: max(SHOTS, key=lambda n: score(kind, n)) for kind in SHOWN}


def point(method, seed, split="test", **how):
    """Return one point."""
    return dict(method=method, seed=seed, split=split, **how)


def points(rows):
    """Return the points of the choice, and once it is made those of the test, seed by seed."""
    first = experiments.SELECTION_SEEDS[0]
    choice = [point("untuned", first, "validation")]
    choice += [point("own", first, "validation", kind=kind) for kind in UNSEEN]
    choice += [
        point("shots", seed, "validation", shots=dict.fromkeys(SHOWN, n))
        for seed in experiments.SELECTION_SEEDS
        for n in SHOTS
    ]
    if len(rows) < len(choice):
        return choice
    chosen_by = rows[: len(choice)]
    kept, chosen = with_headroom(chosen_by), best_shots(chosen_by)
    tests = [point("untuned", first)]
    for seed in experiments.TEST_SEEDS:
        tests += [point("kinds", seed, count=8, templates="one")]
        tests += [point("kinds", seed, count=n, templates="one") for n in (3, 1)]
        tests += [point("kinds", seed, count=8, templates="many")]
        tests += [point("own", seed, kind=kind) for kind in kept]
        tests += [point("shots", seed, shots=chosen)]
    return choice + tests


SWEEP = recording.Sweep(
    settings={},
    points=points,
    measure=measure,
    source=__file__,
    plan=recording.Plan(
        question="Does tuning on many kinds of tasks create instruction following?",
        primary="the composite after tuning on eight other kinds, one template each, minus the "
        "untuned model without shots, run by run and item by item. Secondary, and many: the same "
        "in the free reading, as a share of the headroom (own tuning minus untuned), minus the "
        "best shots; 8 kinds minus 1 and minus 3; many templates minus one; each kind; "
        "instructions (ROUGE-L, words, answers that end); Korean reviews before and after",
        composite="mean of the strict scores of the unseen kinds with headroom on validation, each "
        "alike",
        margin=0.05,
        selection_seeds=experiments.SELECTION_SEEDS,
        test_seeds=experiments.TEST_SEEDS,
    ),
)

if __name__ == "__main__":
    SWEEP.run()
