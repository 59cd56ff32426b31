"""What one does with the folder that `tune` made: answer the rows of a file, and chat."""

import csv
import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from tqdm.auto import tqdm
from transformers import TextStreamer

from .. import models, runcache, scoring
from ..errors import WorkbookError
from ..files import atomic_path, exclusive
from . import reading, recipe
from .recipe import Recipe
from .run import claim, unfinished_folder

ROWS_AT_ONCE = 64
ANSWER_TOKENS = 200  # of one turn of a chat
GREETING = (
    "Type and press Enter. /ask TEXT words your text as in tuning, /new begins anew, /quit ends; "
    "Ctrl-C stops an answer."
)


def predict(
    folder: Path | str, path: Path | str, out: Path | str, *, encoding: str | None = None,
    progress: bool = True,
) -> str:  # fmt: skip
    """Answer the rows of a file, write them with their answers as CSV, and return a summary.

    The file needs the input column of the folder's model. Of labels the column `probability` is
    that among the labels. An empty input gets an empty answer. Until all rows are answered, their
    answers lie in `NAME.unfinished` beside the output: called again after a kill it goes on there.
    Raises WorkbookError for a file that cannot be read, an output file that exists, columns that
    would be lost, and a full disk.
    """
    folder, out = Path(folder).expanduser(), Path(out).expanduser()
    how = recipe.read(folder)
    _check_free(out)
    table = reading.read(Path(path), encoding)
    reading.check_columns(table, how.input)
    if taken := {"prediction", "probability"} & set(table.columns):
        raise WorkbookError(f"{table.name} has a column {min(taken)!r} already: rename it.")
    model, tokenizer = models.load(str(folder))
    every = [row for _, row in table.rows]
    inputs = {"model": model, "recipe": dataclasses.asdict(how), "rows": every}
    unfinished = unfinished_folder(out)
    with exclusive(unfinished / "run.json"):
        _check_free(out)  # another process may have made it meanwhile
        claim(unfinished, runcache.cache_key("predict", inputs))
        file = unfinished / "answers.jsonl"
        asked = [row for row in every if row[how.input]]
        answers = iter(_answers(how, model, tokenizer, asked, file, progress))
        blank = {"prediction": "", "probability": ""}
        done = [{**row, **(next(answers) if row[how.input] else blank)} for row in every]
        _write(done, [*table.columns, "prediction", *(["probability"] if how.labels else [])], out)
    shutil.rmtree(unfinished, ignore_errors=True)
    return " ".join([*table.notes, _summary(how, done)])


def _check_free(out: Path) -> None:
    if out.exists():
        raise WorkbookError(f"{out} exists already: remove it, or name another file with --out.")


def _answers(
    how: Recipe, model, tokenizer, rows: Sequence[dict], file: Path, progress: bool
) -> list[dict]:
    """Return the answers to rows: those that the file holds, and the others, which it gets."""
    found = _kept(file)
    with (
        scoring.working_copy(model) as working,
        file.open("a", encoding="utf-8") as kept,
        tqdm(total=len(rows), initial=len(found), unit="row", disable=not progress) as bar,
    ):
        for start in range(len(found), len(rows), ROWS_AT_ONCE):
            part = _asked(how, working, tokenizer, rows[start : start + ROWS_AT_ONCE])
            kept.write(json.dumps(part) + "\n")
            kept.flush()
            os.fsync(kept.fileno())
            found += part
            bar.update(len(part))
    return found


def _kept(file: Path) -> list[dict]:
    """Return the answers that a file holds, a line for the rows that were asked at once."""
    if not file.exists():
        return []
    content = file.read_bytes()
    end = content.rfind(b"\n") + 1
    os.truncate(file, end)  # without a line that a kill cut off
    return [answer for line in content[:end].splitlines() for answer in json.loads(line)]


def _asked(how: Recipe, model, tokenizer, rows: Sequence[dict]) -> list[dict]:
    found = how.answers(model, tokenizer, [_input(how, tokenizer, row) for row in rows])
    if not how.labels:
        return [{"prediction": text} for text in found.values]
    pairs = zip(found.values, found.probabilities, strict=True)
    return [{"prediction": how.labels[n], "probability": f"{p:.3f}"} for n, p in pairs]


def _input(how: Recipe, tokenizer, row: dict) -> dict:
    named = {**row, "text": row[how.input]}
    return recipe.shortened_row(tokenizer, named, how.input, how.longest_input)


def _write(rows: Sequence[dict], columns: Sequence[str], out: Path) -> None:
    # With a byte order mark, by which spreadsheets know UTF-8.
    with atomic_path(out) as draft, draft.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def _summary(how: Recipe, rows: Sequence[dict]) -> str:
    told = f"{reading.counted_rows(sum(bool(row[how.input]) for row in rows))} answered."
    known = [row for row in rows if how.labels and row.get(how.target) and row[how.input]]
    if known:
        hits = sum(row[how.target] == row["prediction"] for row in known)
        told += f" {hits} of {len(known)} agree with the column {how.target!r}."
    return told


# ------------------------------------------------------------------------------------------- chat


class Chat:
    """A conversation with a model: each turn reads what went before, as far as the context goes."""

    def __init__(self, model, tokenizer, max_new_tokens: int = ANSWER_TOKENS):
        self.model, self.tokenizer, self.max_new_tokens = model, tokenizer, max_new_tokens
        self.messages: list[dict] = []

    def say(self, text: str, streamer=None) -> str:
        """Return the model's answer to a text, and keep both for the next turn.

        The oldest exchanges go where the context is full. An interrupted answer is not kept.
        Raises WorkbookError for a text that alone is longer than the context.
        """
        messages = [*self.messages, {"role": "user", "content": text}]
        limit = models.context_length(self.model) - self.max_new_tokens
        while len(ids := self._ids(messages)) > limit:
            if len(messages) == 1:
                raise WorkbookError(f"That has {len(ids)} tokens, and {limit:.0f} fit: shorten it.")
            messages = messages[2:]
        answer = self._written(ids, streamer)
        self.messages = [*messages, {"role": "assistant", "content": answer}]
        return answer

    def _ids(self, messages: Sequence[dict]) -> list[int]:
        return self.tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_dict=False
        )

    def _written(self, ids: Sequence[int], streamer) -> str:
        row = torch.tensor([ids], device=self.model.device)
        with scoring.inference(self.model):
            output = self.model.generate(
                input_ids=row, attention_mask=torch.ones_like(row), streamer=streamer,
                max_new_tokens=self.max_new_tokens,
            )  # fmt: skip
        return self.tokenizer.decode(output[0, len(ids) :], skip_special_tokens=True).strip()


def chat(folder: Path | str, read: Callable[[str], str] = input) -> None:
    """Chat in the terminal with the model in a folder, until /quit, the end of input or Ctrl-C.

    `/ask TEXT` words a text as the model was tuned to read it; `/new` forgets what was said.
    """
    folder = Path(folder).expanduser()
    how = recipe.read(folder)
    model, tokenizer = models.load(str(folder))
    talk = Chat(model, tokenizer)
    print(GREETING)
    while (text := _line(read)) != "/quit":
        if text == "/new":
            talk.messages = []
        elif text:
            _turn(talk, how, text)


def _line(read: Callable[[str], str]) -> str:
    try:
        return read("you> ").strip()
    except (EOFError, KeyboardInterrupt):
        print()
        return "/quit"


def _turn(talk: Chat, how: Recipe, text: str) -> None:
    """Answer one line, word by word as the model writes; an interrupt ends the answer only."""
    try:
        if text.startswith("/ask"):
            text = worded(how, text.removeprefix("/ask").strip())
        print("model> ", end="", flush=True)
        talk.say(text, TextStreamer(talk.tokenizer, skip_prompt=True, skip_special_tokens=True))
    except KeyboardInterrupt:
        print(" (stopped)")
    except WorkbookError as error:
        print(error)


def worded(how: Recipe, text: str) -> str:
    """Return the prompt that the model was tuned to read, around a text."""
    row = recipe.with_input({"label": 0, "output": ""}, how.input, text)
    return how.pair(row)[0]
