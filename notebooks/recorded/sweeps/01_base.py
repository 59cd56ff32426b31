"""A base model before any tuning: what it makes of an instruction, and what shots do for it.

Nothing is trained. Facts are the form task (120 test questions, strict and form-free), sentiment
the judgement task (120 of the 400 test reviews of 01_icl, half of them positive, since prompts of
this model are computed one by one). A seed is a draw of solved examples; draws, prompts and rows
are those of 01_icl, so that the instruct model's answers there can be put beside these.

none         the bare format ("Question: … Answer:"), in which the shots are given too
instruction  the same asked in a sentence, in the format of `experiments.PLAIN`
shots        1 and 4 solved examples, twelve draws
read         the same instructions, of validation, to both models: texts to read, not to grade

About 54 points of 1 to 2 minutes: 1.3 hours on one slow core in fp32; a fast core takes a third.
"""

import functools

from workbook import abilities, experiments, models, recording, scoring, tasks

DRAWS = tuple(range(10, 22))  # the first twelve of 01_icl
REVIEWS, READ_TOKENS = 120, 64
READ = {"instructions": 10, "facts": 4, "sentiment": 4, "entities": 2, "translation": 4}
LOAD = {"base": functools.cache(experiments.load_base), "instruct": functools.cache(models.load)}


def measure(method, model, task, template, style, shots, seed, split):
    """Ask one of the models."""
    model, tokenizer = LOAD[model]()
    if method == "read":
        return {"texts": read(model, tokenizer, split)}
    rows = abilities.ABILITIES[task].rows(split, "recorded")
    wording = experiments.load_task(task).template(template)
    shown = experiments.demonstrations(task, shots, seed)
    after = shown, wording, style
    if task == "sentiment":
        return experiments.after_shots(model, tokenizer, task, rows[:REVIEWS], *after)
    panel = experiments.written_after_shots(model, tokenizer, task, rows, *after, split)
    return {"panel": panel}


def read(model, tokenizer, split):
    """Return instructions with the model's greedy answers, however they go on."""
    prompts = []
    for kind, count in READ.items():
        template = experiments.load_task(kind).template("question")
        rows = tasks.draw(experiments.pool(kind, split), count)
        prompts += [template.render(row).prompt for row in rows]
    with scoring.working_copy(model) as working:
        answers = experiments.write(working, tokenizer, "", prompts, max_new_tokens=READ_TOKENS)
    return [{"prompt": p, "answer": a} for p, a in zip(prompts, answers, strict=True)]


def point(method, task, template, shots=0, seed=0, style="plain", split="test", model="base"):
    """Return one point."""
    return dict(
        method=method, model=model, task=task, template=template, style=style, shots=shots,
        seed=seed, split=split,
    )  # fmt: skip


SWEEP = recording.Sweep(
    settings={},
    points=[
        point("read", "", "", style="chat", split="validation"),
        point("read", "", "", style="chat", split="validation", model="instruct"),
        *(point("untuned", task, "plain") for task in ("facts", "sentiment")),
        *(point("untuned", task, "question", style="chat") for task in ("facts", "sentiment")),
        *(
            point("shots", task, "plain", shots, seed)
            for seed in DRAWS
            for task in ("facts", "sentiment")
            for shots in (1, 4)
        ),
    ],
    measure=measure,
    source=__file__,
    plan=recording.Plan(
        question="Does a model that was only pretrained do what an instruction says, and what it "
        "sees done in solved examples?",
        primary="facts, strict: the base model with four shots minus none in the same format, draw "
        "by draw and question by question. Secondary: one shot; the free reading; sentiment's "
        "accuracy likewise; four shots minus the instruction; the base model minus the instruct "
        "model of 01_icl with the same shots",
        margin=abilities.MARGIN,
        test_seeds=DRAWS,
    ),
)

if __name__ == "__main__":
    SWEEP.run()
