"""What the comparison found, in words: report.md, report.html with its figures, results.json."""

import dataclasses
import datetime
import html
import importlib.metadata
import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import mistune
import numpy as np

from .. import abilities, metrics, plots, settings
from . import candidates
from .project import Project
from .recipe import Recipe

METRICS = {
    "accuracy": "accuracy",
    "f1_macro": "macro F1",
    "rouge": "ROUGE-L",
}
TITLES = {
    "constant": "constant: always the same answer",
    "TF-IDF": "TF-IDF: words counted, with logistic regression",
    "copy": "copy: the input as it is",
    "nearest": "nearest: the answer to the most similar training row",
    "zero-shot": "prompt without examples",
    "few-shot": "prompt with solved examples",
    "LoRA": "LoRA",
    "full": "full tuning",
}
NO_BREAK = "\u00a0"
MOST_SHOWN = 6  # answers in the report
PAGE = """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 17px/1.55 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem;
        color: #1a1a1a; background: #fff; overflow-wrap: break-word; }}
h1, h2 {{ line-height: 1.25; }} h2 {{ margin-top: 2.2rem; }}
table {{ border-collapse: collapse; display: block; overflow-x: auto; font-size: .93rem; }}
th, td {{ border-bottom: 1px solid #ccc; padding: .35rem .7rem; text-align: left;
         vertical-align: top; }}
img {{ max-width: 100%; height: auto; }}
code, pre {{ background: #f3f3f3; font-size: .9em; }} pre {{ padding: .8rem; overflow-x: auto; }}
</style></head><body>
{body}
</body></html>
"""


@dataclasses.dataclass
class Report:
    """A finished comparison, ready to be told."""

    project: Project
    recipe: Recipe
    results: dict
    options: dataclasses.dataclass
    name: str

    @property
    def chosen(self) -> str:
        """The method that was chosen."""
        return self.results["chosen"]

    @property
    def metric(self) -> str:
        """The name of the score that everything is compared by."""
        return METRICS[self.project.metric]

    @property
    def tests(self) -> list[dict]:
        """The rows that nothing was chosen by."""
        return list(self.project.splits["test"])

    def write(self, folder: Path) -> None:
        """Write report.md, report.html and results.json into a folder."""
        sections = self.sections()
        text = "\n\n".join(text for text, _ in sections) + "\n"
        (folder / "report.md").write_text(text, encoding="utf-8")
        body = "".join(_as_html(*section) for section in sections)
        page = PAGE.format(title=html.escape(f"{self.name}: report"), body=body)
        (folder / "report.html").write_text(page, encoding="utf-8")
        content = json.dumps(self.record(), indent=1, ensure_ascii=False, default=_plain)
        (folder / "results.json").write_text(content + "\n", encoding="utf-8")

    @plots.in_english()
    def sections(self) -> list[tuple[str, str]]:
        """Return the parts of the report: Markdown, and a figure as HTML or ""."""
        parts = [
            (f"# {_plain_text(self.name)}\n\n{self.headline()}", ""),
            (self._comparison(), self._comparison_figure()),
            (self._on_test(), self._confusion()),
            (self._answers(), ""),
            (self._tuning(), self._losses()),
            (self._kept(), ""),
            (self._data(), ""),
            (self._use(), ""),
            (LIMITS, ""),
        ]
        return [part for part in parts if part[0]]

    # ------------------------------------------------------------------------------ sentences

    def headline(self) -> str:
        """Return the result in two or three sentences."""
        score = self.results["test_scores"][self.chosen]
        return (
            f"**{_title(self.chosen)} was chosen, and reaches {_a(self.metric)} of {told(score)} "
            f"on {len(self.tests)} test rows** that nothing was chosen by. "
            f"{self._against_yardstick()}{self._against_prompt()}"
        )

    def _against_yardstick(self) -> str:
        """Return how the chosen method compares with the best one that needs no language model."""
        name = self.results["best_yardstick"]
        difference = self._difference(name)
        begins = self._compared("The best that needs no language model", name, difference)
        return f"{begins}{_verdict(difference, name)}"

    def _against_prompt(self) -> str:
        """Return how tuning compares with the best prompt, a sentence, or ""."""
        if self.chosen not in candidates.TUNED:
            return ""
        name = self.results["best_prompt"]
        difference = self._difference(name)
        enough = "" if difference.low > 0 or difference.high < 0 else ", too few rows to tell"
        return f" {self._compared('The best prompt', name, difference)}{enough}."

    def _compared(self, what: str, name: str, difference: metrics.Interval) -> str:
        """Return the score of another method and how far the chosen one lies above it."""
        score = told(self.results["test_scores"][name])
        return f"{what} ({TITLES[name]}) reaches {score}; the difference is {signed(difference)}"

    def _difference(self, name: str) -> metrics.Interval:
        """Return the test score of the chosen method less that of another one."""
        ours, theirs = (self.results["test"][each]["answers"] for each in (self.chosen, name))
        return self.project.difference(self.tests, ours, theirs)

    def _comparison(self) -> str:
        rule = candidates.RULE if self.options.method == "auto" else (
            f"`--method {self.options.method}` asked for {_title(self.chosen)}; the others are "
            "there to compare."
        )  # fmt: skip
        rows = [self._line(name, found) for name, found in self.results["validation"].items()]
        count = len(self.project.splits["validation"])
        return (
            f"## Comparison on {count} validation rows\n\n{rule}\n\n"
            + table(["method", f"{self.metric} [95 %]", "wording", "numbers trained",
                     "tuning (s)", "an answer (s)"], rows)
        )  # fmt: skip

    def _line(self, name: str, found: Mapping) -> list[str]:
        mark = " ← chosen" if name == self.chosen else ""
        score = told(self.results["validation_scores"][name])
        trained = f"{found['trained']:,}" if "trained" in found else "–"
        tuning = f"{found['seconds']:.0f}" if "trained" in found else "–"
        answer = f"{found['seconds_an_answer']:.2f}" if "seconds_an_answer" in found else "–"
        return [_title(name) + mark, score, found.get("recipe", "–"), trained, tuning, answer]

    def _on_test(self) -> str:
        scores = self.results["test_scores"]
        lines = [[_title(name), told(score)] for name, score in scores.items()]
        return (
            f"## On {len(self.tests)} test rows\n\nThe chosen method was asked once, beside the "
            "yardsticks and the prompts that it has to beat. The intervals are over the rows: "
            "other rows of this kind would give another score within them, and tuning again with "
            f"another seed adds to that.\n\n{table(['method', f'{self.metric} [95 %]'], lines)}"
            f"{self._by_label()}"
        )

    def _by_label(self) -> str:
        """Return how many rows of each label were found, and how many called so are right."""
        if not self.project.is_labels:
            f1 = [
                metrics.token_f1(answer, [row["output"]])
                for answer, row in zip(self._own(), self.tests, strict=True)
            ]
            return f"\n\nToken F1 of the chosen method: {told(metrics.bootstrap_interval(f1))}."
        truth, got = self._matrix_axes()
        lines = []
        for number, label in enumerate(self.recipe.labels):
            hits = int(np.sum((truth == number) & (got == number)))
            found, right = int(np.sum(truth == number)), int(np.sum(got == number))
            is_number = drawable(label, number) == f"({number + 1})"  # as in the figure
            name = f"({number + 1}) {label}" if is_number else label
            lines.append([name, str(found), f"{hits} of {found}", f"{hits} of {right}"])
        head = [self.recipe.target, "test rows", "found", "right when it says so"]
        return f"\n\n{table(head, lines)}"

    def _own(self) -> list:
        return self.results["test"][self.chosen]["answers"]

    def _matrix_axes(self) -> tuple[np.ndarray, np.ndarray]:
        return np.array([row["label"] for row in self.tests]), np.array(self._own())

    def _to_read(self) -> list[tuple[dict, object]]:
        """Return test rows with their answers, the first of which are shown; of labels mistakes."""
        pairs = list(zip(self.tests, self._own(), strict=True))
        if not self.project.is_labels:
            return pairs
        return [(row, answer) for row, answer in pairs if answer != row["label"]]

    def _answers(self) -> str:
        """Return answers to read, or ""."""
        found, count = self._to_read(), len(self.tests)
        told = f"The first of {count} answers:"
        if self.project.is_labels:
            told = f"Wrong answers: {len(found)} of {count}. The first of them:"
        lines = [
            [_cut(cell) for cell in (row["text"], self._told(self._truth(row)), self._told(answer))]
            for row, answer in found[:MOST_SHOWN]
        ]
        head = [self.recipe.input, f"{self.recipe.target} in your file", "answer"]
        return f"## Answers to read\n\n{told}\n\n{table(head, lines)}" if found else ""

    def _truth(self, row: Mapping):
        """Return the right answer to a row: a label's number, or a text."""
        return row["label" if self.project.is_labels else "output"]

    def _told(self, answer) -> str:
        """Return an answer as one reads it: a label's name, or the text."""
        return self.recipe.labels[answer] if self.project.is_labels else answer

    def example(self) -> str:
        """Return the prompt of the shortest test row, nothing of it left out."""
        return self.recipe.pair(self._shortest())[0]

    def _shortest(self) -> dict:
        return min(self.tests, key=lambda row: len(row["text"]))

    def _tuning(self) -> str:
        found = self.results["validation"].get(self.chosen, {})
        if "epochs" not in found:
            return ""
        best = min(found["epochs"], key=lambda row: row["validation_loss"])
        count = len(self.project.splits["train"])
        return (
            f"## Tuning\n\n{_title(self.chosen)}: {len(found['steps'])} steps of "
            f"{candidates.BATCH} rows, {found['seconds']:.0f} s. The weights are those after pass "
            f"{best['epoch']} over the {count} training rows, where the loss on the validation "
            f"rows was lowest ({best['validation_loss']:.3f} nats a token). "
            f"The learning rate, {candidates.OPTIONS[self.chosen]['lr']:g}, is the one that the "
            "course's measurements chose; it was not searched here."
        )

    def _kept(self) -> str:
        """Return what tuning did to other abilities."""
        if not self.results["panels"]:
            return (
                "## What it forgot\n\nNothing: no weight was changed. What you have is a prompt, "
                "kept in `workbook.json` beside the model."
            )
        before, after = (
            abilities.grade(self.results["panels"][name]) for name in ("zero-shot", self.chosen)
        )
        lines = [
            [abilities.ABILITIES[name].title,
             *(f"{g[name].free.mean():.2f}" for g in (before, after)),
             signed(metrics.paired_interval(after[name].free, before[name].free))]
            for name in before
        ]  # fmt: skip
        change = metrics.paired_interval(*map(abilities.composite, (after, before)))
        return (
            "## What it forgot\n\nTwo abilities that have nothing to do with your rows, before and "
            f"after tuning (share of right answers in any form; {len(before['entities'].free)} and "
            f"{len(before['facts'].free)} questions). Both together: {signed(change)}. "
            f"{_forgetting_verdict(change)}\n\n"
            + table(["ability", "before", "after", "change [95 %]"], lines)
        )

    def _data(self) -> str:
        counts = self.project.counts
        lines = "\n".join(f"- {_plain_text(note)}" for note in self.project.notes)
        labels = (
            f"\n\n{table([self.recipe.target, 'rows'], [[k, str(v)] for k, v in counts.items()])}"
        )
        return f"## Your data\n\n{lines}{labels if counts else ''}"

    def _use(self) -> str:
        folder = shlex.quote(self.name)
        return (
            "## How to use it\n\n"
            f"```\nworkbook predict {folder} rows.csv --out predictions.csv\n"
            f"workbook chat {folder}\n```\n\n`predict` words each row as below, and adds the "
            "answer to the file. `chat` sends what you type as it is.\n\n"
            f"{fenced(self.example())}"
        )

    # -------------------------------------------------------------------------------- figures

    def _comparison_figure(self) -> str:
        scores = self.results["validation_scores"]
        alt = f"{self.metric} on the validation rows: " + ", ".join(
            f"{name} {told(score)}" for name, score in scores.items()
        )
        rows = len(self.project.splits["validation"])
        figure = plots.bars(
            [score.estimate for score in scores.values()], list(scores.values()), list(scores),
            xlabel=f"{self.metric} on the validation rows",
            whiskers=f"95 % interval over the {rows} rows",
        )  # fmt: skip
        return plots.as_html(figure, alt)

    def _confusion(self) -> str:
        labels = self.recipe.labels
        if not 2 <= len(labels) <= 12:
            return ""
        matrix = np.zeros((len(labels), len(labels)), int)
        np.add.at(matrix, self._matrix_axes(), 1)
        told_ = "; ".join(
            f"of {row.sum()} {label} {row[i]} right"
            for i, (label, row) in enumerate(zip(labels, matrix, strict=True))
        )
        return plots.as_html(
            plots.confusion(matrix, [drawable(label, i) for i, label in enumerate(labels)]),
            f"Confusion matrix of the test rows: {told_}",
        )

    def _losses(self) -> str:
        found = self.results["validation"].get(self.chosen, {})
        if "epochs" not in found:
            return ""
        places = np.cumsum([row["steps"] for row in found["epochs"]])
        validation = [row["validation_loss"] for row in found["epochs"]]
        curves = {
            "training": [(row["step"], row["loss"]) for row in found["steps"]],
            "validation": list(zip(places, validation, strict=True)),
        }
        alt = (
            f"Loss against the training step. Training: from {curves['training'][0][1]:.2f} to "
            f"{curves['training'][-1][1]:.2f}; validation, after each pass: "
            + ", ".join(f"{value:.2f}" for value in validation)
        )
        return plots.as_html(plots.losses(curves), alt)

    # ------------------------------------------------------------------------- other documents

    def record(self) -> dict:
        """Return everything as plain data, right answers too, so that it can be judged again."""
        return {
            "format": 1,
            "seed": settings.seed(),
            "made": datetime.date.today().isoformat(),
            "machine": settings.machine(),
            "versions": {n: importlib.metadata.version(n) for n in ("torch", "transformers")},
            "options": dataclasses.asdict(self.options),
            "source": self.project.source,
            "metric": self.project.metric,
            "rule": candidates.RULE,
            "labels": self.recipe.labels,
            "notes": self.project.notes,
            "rows": {name: len(part) for name, part in self.project.splits.items()},
            "truth": {
                split: [self._truth(row) for row in self.project.splits[split]]
                for split in ("validation", "test")
            },
            **self.results,
        }

    def card(self, base: str, licence: str, has_terms: bool) -> str:
        """Return the text of the model card."""
        terms = (
            "\n\n`GEMMA_TERMS.html` and `GEMMA_NOTICE.txt` in this folder apply to these weights "
            "and go with them whenever you pass them on."
            if has_terms else ""
        )  # fmt: skip
        shots = f" after {len(self.recipe.shots)} solved examples" if self.recipe.shots else ""
        what = (
            f"chooses `{self.recipe.target}` out of {', '.join(self.recipe.labels)}"
            if self.project.is_labels else f"writes `{self.recipe.target}`"
        )  # fmt: skip
        made = (
            f"{_title(self.chosen)} of {base} on {len(self.project.splits['train'])} rows of "
            f"{self.project.source}" if self.chosen in candidates.TUNED
            else f"{base}, unchanged, with a prompt{shots} that was chosen on rows of "
            f"{self.project.source}"
        )  # fmt: skip
        chosen = CHOSEN_LABEL if self.project.is_labels else ""
        return CARD.format(
            chosen=chosen, name=self.name, made=made, what=what, input=self.recipe.input, base=base,
            licence=licence, terms=terms, headline=self.headline(), limits=LIMITS,
            inside=self.rows_inside(),
            prompt=fenced(self.example()),
            code=CODE.format(prompt=json.dumps(self.example(), ensure_ascii=False)),
        )  # fmt: skip

    def rows_inside(self) -> str:
        """Return which of the user's rows can be read in the folder."""
        shots, splits = len(self.recipe.shots), self.project.splits
        train = (
            f"Texts of {shots} training rows are in `workbook.json`, as solved examples, and in "
            "each prompt that is shown." if shots else "Texts of training rows are in no file."
        )  # fmt: skip
        shown = {row["text"] for row, _ in self._to_read()[:MOST_SHOWN]}
        test = len(shown | {self._shortest()["text"]})
        judged = f"{len(splits['validation']) + len(splits['test'])} validation and test rows"
        kept = (
            f"`results.json` has the labels of the {judged}." if self.project.is_labels
            else f"`results.json` has the texts and the answers of the {judged}, and answers of "
            "training rows, which `constant` and `nearest` give."
        )  # fmt: skip
        return (
            f"{train} Texts of {test} test rows, or their beginnings, are in `report.md` and "
            f"`report.html`, one of them here too. {kept}"
        )


LIMITS = """\
## What this cannot tell

- The numbers are about rows like yours, split at random. Rows of next year, or of other people,
  may be harder: keep some apart and try.
- One run was tuned. Another seed gives another model, and small differences between methods may
  turn round.
- The two abilities of the forgetting check are a sample of what the model could do.
- A model repeats what is in its rows, mistakes and prejudices included, and few-shot examples and
  tuned weights can reveal rows: do not pass on what was made from private ones."""

CHOSEN_LABEL = (
    " For this score the likeliest of the labels was taken, as `workbook predict` does; what the "
    "code below writes may be another text."
)
CARD = """\
# {name}

{made}, made with the Instruction Fine-Tuning Workbook. It reads `{input}` and {what}.

## Results

{headline}{chosen} `report.html` tells the whole comparison.

## How to ask it

With plain `transformers`, from inside this folder:

```python
{code}```

The prompt is worded as in this row of the test set:

{prompt}

## Base model and licence

{base}; its licence, which also covers these weights: {licence}.{terms}

## Your rows in this folder

{inside} Whether you may pass on what was made from your rows is for you to say.

{limits}
"""

CODE = """\
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained(".")
tokenizer = AutoTokenizer.from_pretrained(".")
messages = [{{"role": "user", "content": {prompt}}}]
inputs = tokenizer.apply_chat_template(
    messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
)
with torch.inference_mode():
    output = model.generate(**inputs)
print(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
"""


def told(interval: metrics.Interval) -> str:
    """Return an interval as in "0.85 [0.73, 0.92]", which no line end parts."""
    return str(interval).replace(" ", NO_BREAK)


def signed(interval: metrics.Interval) -> str:
    """Return a difference as in "+0.05 [-0.02, +0.12]"."""
    return "{:+z.2f} [{:+z.2f}, {:+z.2f}]".format(*interval).replace(" ", NO_BREAK)


def _verdict(difference: metrics.Interval, name: str) -> str:
    if difference.low > 0:
        return ", beyond what chance in the rows explains."
    if difference.high < 0:
        return f": take {name} instead, which costs seconds and no language model."
    return (
        f": too few rows to tell them apart. If answers of this kind are all that you need, {name} "
        "costs seconds and no language model."
    )


def _forgetting_verdict(change: metrics.Interval) -> str:
    margin = abilities.MARGIN
    if change.high < -margin:
        return "That is a loss: with fewer passes or a lower rate less is lost (notebook 05)."
    if -margin < change.low and change.high < margin:
        return f"That is no loss: the whole interval is within {margin}."
    return f"So few questions cannot tell whether it lost more than {margin}."


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _title(name: str) -> str:
    title = TITLES[name]
    return title[0].upper() + title[1:]


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; cells may hold any text."""
    cells = [[_plain_text(cell) for cell in line] for line in (head, *lines)]
    rows = [cells[0], ["---"] * len(head), *cells[1:]]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _plain_text(text: str) -> str:
    """Return a text on one line, with nothing that Markdown or HTML would take for markup."""
    text = html.escape(re.sub(r"[^\S\u00a0]+", " ", text).strip(), quote=False)
    text = "".join(f"\\{letter}" if letter in r"\`*_|#~" else letter for letter in text)
    return text.replace("](", "]\\(")


def fenced(text: str) -> str:
    """Return a text as a block of code, in a fence that it does not hold."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{text}\n{fence}"


def _cut(text: str, longest: int = 240) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def drawable(label: str, number: int) -> str:
    """Return a label for a figure: a number where matplotlib's font lacks its letters."""
    if any(ord(letter) >= 0x590 for letter in label):
        return f"({number + 1})"
    return _cut(label, 14).replace("$", r"\$")


_markdown = mistune.create_markdown(escape=False, plugins=["table"])


def _as_html(text: str, figure: str) -> str:
    return f"{_markdown(text)}\n{figure}\n"


def _plain(value):
    return value.tolist()
