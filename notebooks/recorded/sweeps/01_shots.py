"""In-context learning with 0 to 16 demonstrations, five draws of them, on four tasks.

The embedded model, nothing trained. Demonstrations come from train and are shuffled with the
draw; the reviews are the first of the test set. A row keeps every prediction as a digit, plain
and with contextual calibration, so that runs can be compared review by review.
"""

import functools
import random
import time

import numpy as np

from workbook import grading, metrics, models, recording, scoring, tasks
from workbook.encoding import format_prompt, token_ids
from workbook.templates import few_shot

NEUTRAL = ("N/A", "[MASK]", "")  # the texts without content of Zhao et al. (2021)


# Kept between the points, each of which needs them.
load_model, load_task = functools.cache(models.load), functools.cache(tasks.load_task)


def measure(task, template, style, shots, draw, rows, max_new_tokens):
    """Answer the test rows after `shots` demonstrations of the given draw."""
    (model, tokenizer), data = load_model(), load_task(task)
    template = data.template(template)
    test = list(data.splits["test"].select(range(rows.get(template.name, rows[task]))))
    shown = list(tasks.draw(data.splits["train"], shots, seed=draw))
    random.Random(draw).shuffle(shown)
    prompts = [few_shot(template, shown, row).prompt for row in test]
    begin = time.perf_counter()
    with scoring.working_copy(model) as working:
        reader = working, tokenizer, prompts, style
        if template.answer_choices:
            result = classified(*reader, template, shown, test)
        else:
            result = generated(*reader, test, task, max_new_tokens[task])
    seconds = (time.perf_counter() - begin) / len(test)
    texts = [format_prompt(tokenizer, prompt, style) for prompt in prompts]
    tokens = np.mean([len(token_ids(tokenizer, text)) for text in texts])
    return result | {"tokens_per_prompt": float(tokens), "seconds_per_row": round(seconds, 4)}


def classified(model, tokenizer, prompts, style, template, shown, test):
    """Return plain and calibrated predictions from one scoring of the prompts."""
    neutral = [few_shot(template, shown, {"text": text, "label": 0}).prompt for text in NEUTRAL]
    labels = template.choices(test[0])
    every = scoring.classify(model, tokenizer, [*prompts, *neutral], labels, prompt_style=style)
    bias = every.probabilities()[-len(NEUTRAL) :].mean(axis=0)
    raw = every.predictions[: -len(NEUTRAL)]
    calibrated = (every.scores - np.log(bias)).argmax(axis=1)[: -len(NEUTRAL)]
    true = np.array([row["label"] for row in test])
    return {
        "accuracy": float(np.mean(raw == true)),
        "accuracy_calibrated": float(np.mean(calibrated == true)),
        "second_label": float(np.mean(raw)),
        "second_label_calibrated": float(np.mean(calibrated)),
        "second_label_neutral": float(bias[1]),
        "demonstrations": "".join(str(row["label"]) for row in shown),
        "predictions": "".join(map(str, raw)),
        "predictions_calibrated": "".join(map(str, calibrated)),
    }


def generated(model, tokenizer, prompts, style, test, task, length):
    """Return the scores of written answers, each cut where the next demonstration would begin."""
    options = {"prompt_style": style, "max_new_tokens": length}
    texts = scoring.generate(model, tokenizer, prompts, **options)
    score, end = SCORES[task]
    found = [text.split(end)[0] for text in texts]
    return score(found, test) | {"examples": found[:3]}


def entity_scores(found, test):
    """Return span F1, its counts per row (right, predicted, expected) and the share in format."""
    spans = [grading.parse_entities(text) for text in found]
    true = [{kind: row[kind] for kind in grading.ENTITY_TYPES} for row in test]
    counts = metrics.span_counts(spans, true)
    return {
        "span_f1": metrics.micro_f1(*counts.T),
        "in_format": float(np.mean([grading.has_entity_format(text) for text in found])),
        "counts": counts.tolist(),
    }


def fact_scores(found, test):
    """Return exact match, and the share of answers that hold an accepted answer somewhere."""
    accepted = [[row["answer"], *row["aliases"]] for row in test]
    exact = [metrics.compute("exact_match", [a], [r])["exact_match"]
             for a, r in zip(found, accepted, strict=True)]  # fmt: skip
    holds = [any(text.lower() in answer.lower() for text in texts)
             for answer, texts in zip(found, accepted, strict=True)]  # fmt: skip
    return {
        "exact_match": float(np.mean(exact)),
        "contains_answer": float(np.mean(holds)),
        "words_per_answer": float(np.mean([len(answer.split()) for answer in found])),
        "exact": "".join(str(int(hit)) for hit in exact),
        "contains": "".join(str(int(hit)) for hit in holds),
    }


SCORES = {"entities": (entity_scores, "\n\n"), "facts": (fact_scores, "\n")}


def points(task, template, shots, draws=5, style="plain"):
    """Return the points of a task: each number of shots for each draw, none only once."""
    fixed = {"task": task, "template": template, "style": style}
    pairs = [(n, draw) for draw in range(draws) for n in shots if n or not draw]
    return [{**fixed, "shots": n, "draw": draw} for n, draw in pairs]


SWEEP = recording.Sweep(
    settings={
        "rows": {"sentiment": 1000, "made_up": 200, "entities": 60, "facts": 120},
        "max_new_tokens": {"entities": 32, "facts": 12},
    },
    points=[
        *points("sentiment", "plain", (0, 1, 4, 16)),
        *points("sentiment", "question", (0,), style="chat"),
        *points("sentiment", "made_up", (0, 2, 8)),
        *points("entities", "plain", (0, 1, 3)),
        *points("entities", "instruction_first", (0,), style="chat"),
        *points("facts", "plain", (0, 4)),
        *points("facts", "question", (0,), style="chat"),
    ],
    measure=measure,
    source=__file__,
)

if __name__ == "__main__":
    SWEEP.run()
