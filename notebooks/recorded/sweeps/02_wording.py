"""How much a wording decides, apart from its answer words; and which tokens a model learns from.

Wording: the untuned model labels reviews zero-shot in the chat format. Four wordings name the same
two answer words; then one of them, "either", names other pairs of words, one token each. "plain"
names no words, so it stands beside them and is neither best nor worst. Best and worst are picked on
400 validation reviews and confirmed on the panel's 400 test reviews. Nothing is drawn here, so it
is a claim about this model and these wordings, in which the order of the two words differs too.

Masking: a fresh model learns 100 reviews twice (26 steps of eight, full tuning) at the rate of
notebook 03, from the completion alone, from the prompt too (Shi et al. 2024, 2405.14394), or with a
small weight on the prompt's tokens (Huerta-Enochian & Ko 2024, 2401.13586); five seeds. A step's
loss is the weighted mean over its tokens: a prompt has fifty and an answer two, so the prompt has
96 % of the loss with weight 1 and 11 % with .005. No scheme gets a rate of its own.

16 points of a minute and 15 of 5: 1.5 hours on one slow core in fp32; a fast core takes a third.
"""

import functools

import torch

from workbook import abilities, encoding, experiments, models, recording, training
from workbook.templates import Template

SAME_WORDS = ("question", "instruction_first", "someone", "either")
PAIRS = ("negative ||| positive", "bad ||| good", "poor ||| great", "cold ||| warm")
OWN = {
    "someone": 'Someone wrote: "{{text}}"\nIs their opinion negative or positive?',
    "either": "{{text}}\nIs this review {{answer_choices[1]}} or {{answer_choices[0]}}? "
    "Answer with one word.",
}
PROMPT_WEIGHTS = {"completion only": 0.0, "a little of the prompt": 0.005, "prompt too": 1.0}
REVIEWS, PASSES, LR = 100, 2, 5e-5
load_model = functools.cache(models.load)  # for the wordings: never trained


def measure(method, wording, words, seed, split):
    """Label the panel's reviews of a split."""
    rows = abilities.ABILITIES["sentiment"].rows(split, "recorded")
    if method != "untuned":
        return tuned(PROMPT_WEIGHTS[method], seed, rows)
    asked = "sentiment", rows, [], template(wording, words), "chat"
    return experiments.after_shots(*load_model(), *asked)


def template(wording, words):
    """Return a wording with its answer words, negative first."""
    if wording not in OWN:
        return experiments.load_task("sentiment").template(wording)
    return Template(wording, OWN[wording] + " ||| {{answer_choices[label]}}", words)


def tuned(prompt_weight, seed, rows):
    """Tune a fresh model with this weight on the prompt's tokens, and score it."""
    model, tokenizer = models.load()
    examples = experiments.examples(tokenizer, "sentiment", REVIEWS, seed)
    loss = experiments.weighted_loss(functools.partial(weights, prompt_weight=prompt_weight))
    options = {"epochs": PASSES, "lr": LR, "seed": seed, "loss": loss}
    history = training.fit(model, examples, progress=False, **options)
    found = experiments.labelled(model, tokenizer, "sentiment", rows)
    return found | {"tokens": history.tokens, "training_seconds": round(history.seconds, 1)}


def weights(batch, prompt_weight):
    """Return 1 for each token of a completion and its end, another weight for the prompt's."""
    learned = batch["labels"] != encoding.IGNORE_INDEX
    return torch.where(learned, 1.0, prompt_weight) * batch["attention_mask"]


def point(method, wording, words=PAIRS[0], seed=0, split="test"):
    """Return one point."""
    return dict(method=method, wording=wording, words=words, seed=seed, split=split)


SWEEP = recording.Sweep(
    settings={},
    points=[
        *(
            point("untuned", wording, words, split=split)
            for split in ("validation", "test")
            for wording, words in (
                *((wording, PAIRS[0]) for wording in (*SAME_WORDS, "plain")),
                *(("either", words) for words in PAIRS[1:]),
            )
        ),
        *(
            point(method, "question", seed=seed)
            for seed in experiments.TEST_SEEDS
            for method in PROMPT_WEIGHTS
        ),
    ],
    measure=measure,
    source=__file__,
    plan=recording.Plan(
        question="How much does a wording move the answers when the answer words stay, and how "
        "much do the words when the wording stays?",
        primary="accuracy of the wording that was best on validation minus that of the worst, same "
        "answer words, on test reviews, beside the same gap on validation. Secondary: the same of "
        "the pairs of words; prompt too, and a little of the prompt, minus completion only after "
        "tuning, paired by seed",
        margin=0.04,
        test_seeds=experiments.TEST_SEEDS,
    ),
)

if __name__ == "__main__":
    SWEEP.run()
