"""How a model answers a row: wording, solved examples, labels. It is kept beside the model."""

import dataclasses
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import datasets
import jinja2
import numpy as np
from jinja2.meta import find_undeclared_variables

from .. import encoding, experiments, models, scoring, tasks
from ..errors import WorkbookError
from ..templates import Template, few_shot

FILE = "workbook.json"
FORMAT = 1
LONGEST_INPUT = 384  # tokens; the end of a longer text is cut off
LETTERS_A_TOKEN = 16  # more are not looked at: nobody reads ten million letters token by token
LONGEST_ANSWER = 256  # tokens of a free text
SHOT_TOKENS = 1024  # of all solved examples of a prompt together


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that answers a row, next to a model.

    kind             "label" or "text"
    input, target    the user's names of the two columns
    labels           their names in the order of their numbers; empty for free texts
    template         the wording
    prompt_style     "chat" or "plain", as in `encoding.format_prompt`
    shots            solved rows that stand before each prompt
    calibrated       whether what texts without content get is taken off (`scoring.classify`)
    longest_input    tokens of an input that are read
    max_new_tokens   of a written answer
    """

    kind: str
    input: str
    target: str
    labels: tuple[str, ...] = ()
    template: Template
    prompt_style: str = "chat"
    shots: tuple[dict, ...] = ()
    calibrated: bool = False
    longest_input: int = LONGEST_INPUT
    max_new_tokens: int = LONGEST_ANSWER

    def pair(self, row: dict) -> tuple[str, str]:
        """Return the prompt of a row, after the solved ones, and its completion."""
        return few_shot(self.template, self.shots, row)

    def answers(self, model, tokenizer, rows: Sequence[dict]) -> "Answers":
        """Return the answers to rows, whose column `text` holds the input."""
        if not rows:
            return Answers([], None)
        return (self._labels if self.kind == "label" else self._texts)(model, tokenizer, rows)

    def _labels(self, model, tokenizer, rows: Sequence[dict]) -> "Answers":
        return self.label_readings(model, tokenizer, rows, self.calibrated)[self.calibrated]

    def label_readings(
        self, model, tokenizer, rows: Sequence[dict], calibrate: bool
    ) -> list["Answers"]:
        """Return the labels of rows, and if wanted the calibrated ones too, from one pass."""
        neutral = experiments.NEUTRAL if calibrate else ()
        every = [*rows, *(with_input(rows[0], self.input, text) for text in neutral)]
        prompts = [self.pair({**row, "label": 0})[0] for row in every]
        with scoring.working_copy(model) as working:
            scores = scoring.classify(
                working, tokenizer, prompts, self.template.choices(rows[0]),
                prompt_style=self.prompt_style,
            ).scores  # fmt: skip
        plain, empty = map(scoring.Classification, np.split(scores, [len(rows)]))
        found = [plain, plain.calibrated(empty)] if calibrate else [plain]
        return [_chosen(each) for each in found]

    def _texts(self, model, tokenizer, rows: Sequence[dict]) -> "Answers":
        prompts = [self.pair({**row, "output": ""})[0] for row in rows]
        with scoring.working_copy(model) as working:
            texts = scoring.generate(
                working, tokenizer, prompts, max_new_tokens=self.max_new_tokens, batch_size=32,
                prompt_style=self.prompt_style,
            )  # fmt: skip
        if self.shots:  # another example would begin there
            texts = [text.split(experiments.NEXT)[0] for text in texts]
        return Answers(texts, None)


@dataclasses.dataclass(frozen=True)
class Answers:
    """An answer a row: a label's number with its probability among the labels, or a text."""

    values: list
    probabilities: list[float] | None


def _chosen(found: scoring.Classification) -> Answers:
    return Answers(found.predictions.tolist(), found.probabilities().max(axis=1).tolist())


def shortened(tokenizer, text: str, longest: int) -> str:
    """Return a text as far as it is read: its first tokens."""
    start = text[: longest * LETTERS_A_TOKEN]
    found = tokenizer(start, add_special_tokens=False, return_offsets_mapping=True)
    offsets = found["offset_mapping"]
    # Up to the first letter that is not read whole: a letter may have several tokens, its bytes.
    return start if len(offsets) <= longest else start[: offsets[longest][0]].rstrip()


def shortened_row(tokenizer, row: Mapping, input: str, longest: int) -> dict:
    """Return a row whose input is as long as what is read, under both of its names."""
    return with_input(row, input, shortened(tokenizer, row["text"], longest))


def with_input(row: Mapping, input: str, text: str) -> dict:
    """Return a row with another input, under the user's name of the column and under ours."""
    return {**row, "text": text} | ({} if input in ("label", "output") else {input: text})


def longest_input(model) -> int:
    """Return how many tokens of an input are read: half the context leaves room for the rest."""
    return int(min(LONGEST_INPUT, models.context_length(model) // 2))


def with_shots(
    recipe: Recipe, model, tokenizer, train: datasets.Dataset, n: int, seed: int
) -> Recipe:
    """Return the recipe with up to n solved training rows, as many as stay short enough.

    Where the first one does not, the shortest is taken. Of a row no column is kept that no prompt
    shows.
    """
    names = _variables(recipe.template) | {"text", "label", "output"}
    drawn = list(tasks.draw(train, min(n, len(train)), seed=seed))
    fitting = _short_enough(recipe, model, tokenizer, drawn)
    if not fitting:
        shortest = min(train, key=lambda row: len("".join(recipe.pair(row))))
        fitting = _short_enough(recipe, model, tokenizer, [shortest])
    fitting = [{name: row[name] for name in row if name in names} for row in fitting]
    random.Random(seed).shuffle(fitting)
    return dataclasses.replace(recipe, shots=tuple(fitting))


def _short_enough(recipe: Recipe, model, tokenizer, rows: Sequence[dict]) -> list[dict]:
    """Return as many of the rows as fit into a prompt, from the first one on."""
    room = min(SHOT_TOKENS, models.context_length(model) // 4)
    lengths = [len(encoding.token_ids(tokenizer, "".join(recipe.pair(row)))) for row in rows]
    return list(rows[: int(np.sum(np.cumsum(lengths) <= room))])


def _variables(template: Template) -> set[str]:
    """Return the columns that a wording names."""
    source = f"{template.jinja} {template.answer_choices or ''}"
    return find_undeclared_variables(jinja2.Environment().parse(source))


def write(recipe: Recipe, folder: Path) -> None:
    """Write the recipe beside a model."""
    content = {"format": FORMAT, **dataclasses.asdict(recipe)}
    text = json.dumps(content, indent=1, ensure_ascii=False)
    (folder / FILE).write_text(text + "\n", encoding="utf-8")


def read(folder: Path) -> Recipe:
    """Return the recipe beside a model. Raises WorkbookError where there is none."""
    try:
        content = json.loads((folder / FILE).read_text(encoding="utf-8"))
        if content.pop("format") != FORMAT:
            raise ValueError("it is of another version")
        content |= {"template": Template(**content["template"])}
        content |= {name: tuple(content[name]) for name in ("labels", "shots")}
        return Recipe(**content)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WorkbookError(
            f"{folder} is no folder that `workbook tune` made, or it is damaged ({error}): name "
            "another one."
        ) from error
