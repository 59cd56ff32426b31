"""What a pass over 48 reviews and a label cost by each method: seconds and memory, nothing else.

Each measurement is a process that does nothing else. Measure with one job on a quiet machine
(`make measure NB=08` without `--jobs`): the repeats take the methods in turn, so that what disturbs
the machine for a while disturbs all of them. Rates and lengths are those of 08_methods' grid; they
do not change what a step costs.

seconds_a_pass    of the second pass, the first warms up; `peak_gb` of the whole process
seconds_a_label   of 64 validation reviews, with what was learned left on; LoRA also merged into the
                  weights; the untuned model after 0, 4 and 16 solved examples

13 methods five times, half a minute each: half an hour on two cores in fp32.
"""

import json
import subprocess
import sys
import time

from peft import PromptEncoderConfig, get_peft_model

from workbook import experiments, models, recording, scoring, training
from workbook.adaptation.adapter import Adapter
from workbook.adaptation.additions import attached
from workbook.adaptation.lora import LoRA, merge
from workbook.adaptation.soft_prompt import SoftPrompt
from workbook.memory import peak_memory
from workbook.templates import few_shot

REVIEWS, LABELLED, LENGTH, WIDTH, LR = 48, 64, 20, 32, 5e-4
ADDITIONS = {
    "soft prompt": lambda model: SoftPrompt(model, LENGTH),
    "adapter": lambda model: Adapter(model, WIDTH),
    "LoRA, rank 1": lambda model: LoRA(model, 1, 16),
    "LoRA, rank 8": lambda model: LoRA(model, 8, 16),
    "LoRA, rank 8, merged": lambda model: LoRA(model, 8, 16),
}
SHOTS = {"untuned": 0, "4 shots": 4, "16 shots": 16}
METHODS = (*SHOTS, *ADDITIONS, "P-tuning", "full")


def measure(method, repeat):
    """Return the cost as measured by a process of its own, with its peak memory."""
    with peak_memory() as peak:
        command = [sys.executable, __file__, method]
        told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(told) | {"peak_gb": round(peak.gb, 2)}


def cost_of(method):
    """Return seconds, and how many numbers learn."""
    model, tokenizer = models.load()
    examples = experiments.examples(tokenizer, "sentiment", REVIEWS, 0)
    if method in SHOTS:
        return labelling(model, tokenizer, SHOTS[method])
    if method == "full":
        return training_pass(model, examples) | labelling(model, tokenizer)
    if method == "P-tuning":
        return training_pass(p_tuning(model), examples)
    made = ADDITIONS[method](model)
    with attached(model, made):
        found = training_pass(model, examples)
        if not method.endswith("merged"):
            return found | labelling(model, tokenizer)
    merge(model, made)
    return labelling(model, tokenizer)


def p_tuning(model):
    """Return the model with a soft prompt that an encoder of `peft` makes."""
    width = model.config.hidden_size
    return get_peft_model(
        model,
        PromptEncoderConfig(
            task_type="CAUSAL_LM", num_virtual_tokens=LENGTH, encoder_hidden_size=width
        ),
    )


def training_pass(model, examples):
    """Return the seconds of the second of two passes."""
    count = models.count_parameters(model).trainable
    took = [training.fit(model, examples, lr=LR, progress=False).seconds for _ in range(2)]
    return {"trained": count, "seconds_a_pass": round(took[1], 2)}


def labelling(model, tokenizer, shots=0):
    """Return the seconds for a label, the best of two rounds."""
    task = experiments.load_task("sentiment")
    rows = task.splits["validation"].select(range(LABELLED))
    shown = experiments.demonstrations("sentiment", shots, 0) if shots else []
    prompts = [few_shot(task.template("question"), shown, row).prompt for row in rows]
    took = []
    with scoring.working_copy(model) as working:
        for _ in range(2):
            begin = time.perf_counter()
            scoring.classify(working, tokenizer, prompts, task.labels)
            took.append((time.perf_counter() - begin) / LABELLED)
    return {"seconds_a_label": round(min(took), 4)}


SWEEP = recording.Sweep(
    settings={},
    points=[{"method": method, "repeat": repeat} for repeat in range(5) for method in METHODS],
    measure=measure,
    source=__file__,
    plan=recording.Plan(
        question="What do a pass of tuning and a label cost by each method?",
        primary="medians over the five repeats, as ratios to full tuning and to the untuned model",
        test_seeds=tuple(range(5)),  # repeats: nothing is drawn
    ),
)

if __name__ == "__main__" and sys.argv[1:]:
    print(json.dumps(cost_of(sys.argv[1])))
elif __name__ == "__main__":
    SWEEP.run()
