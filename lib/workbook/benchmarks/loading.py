"""The questions of a benchmark with their shots: from the hub, from a file, or from data/."""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import settings, tasks
from ..errors import WorkbookError
from ..tasks import registry, rows
from .questions import Question
from .registry import Kind, find

SPLITS = {"train": "train", "test": "test"}  # of a hub dataset whose entry names none
Files = Path | str | Mapping[str, Path | str]


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """The questions of a benchmark and the examples that stand before them.

    source      where the rows are from
    metrics     names of `scores.METRICS`; the first is the one that papers quote
    shots       the examples by group of questions
    num_shots   how many each question has; those of a fixed preamble are not counted
    """

    name: str
    title: str
    source: str
    metrics: tuple[str, ...]
    questions: tuple[Question, ...]
    shots: Mapping[str, tuple[Question, ...]]
    num_shots: int

    @property
    def chance(self) -> float:
        """The score of a model that finds all choices of a question equally likely."""
        shares = (len(question.right) / len(question.choices) for question in self.questions)
        return sum(shares) / len(self.questions)

    def context(self, question: Question) -> str:
        """Return all that a model reads before it answers, as text."""
        shots = (shot.shot() for shot in self.shots[question.group])
        return "".join([question.preamble, *shots, question.text])


def load(
    name: str, *, path: Files | None = None, shots: int | None = None, limit: int | None = None
) -> Benchmark:
    """Return a benchmark, its questions worded as in lm-evaluation-harness 0.4.13.

    name    one of `names()`
    path    a file (.jsonl, .csv, .parquet) in the schema of the hub dataset, read in its place, or
            {"test": file, "train": file} where the shots have a file of their own
    shots   how many examples stand before each question: 5 in MMLU, else none unless you say so
    limit   take the first so many questions, in MMLU of each subject, as the harness does

    The shots are the first rows of the split train, in MMLU of dev and of the same subject; for a
    file mine.jsonl they come from mine_dev.jsonl beside it. Where there is neither, they are the
    first rows of the file itself, which are then not asked. All questions of a subject have the
    same shots; the harness draws others for each question, unless its sampler is `first_n`.
    Raises WorkbookError for an unknown name, too few shots, no connection, and, by file and line,
    for a missing field or choice, an answer that is none of the choices, an empty question, and an
    id that stands there twice.
    """
    task, kind = find(name)
    wanted = _wanted(name, kind, shots)
    spec = registry.find(task)
    if path is None:
        tasks.note_loaded(task)
    source, located = _read(spec, path, wanted)
    taken, rest = _parted(located.get("train", located["test"]), kind, wanted)
    asked = _questions(spec, kind, located["test"] if "train" in located else rest)
    examples = defaultdict(tuple)
    for question in _questions(spec, kind, taken):
        examples[question.group] += (question,)
    found = {question.group: examples[question.group] for question in asked}
    _check_shots(source, found, wanted)
    return Benchmark(
        name=name, title=spec.title, source=source, metrics=kind.metrics, num_shots=wanted,
        questions=tuple(_first(asked, limit)), shots=found,
    )  # fmt: skip


def _wanted(name: str, kind: Kind, shots: int | None) -> int:
    if shots is None:
        return kind.shots
    if kind.fixed_shots:
        raise WorkbookError(f"{name} has its six examples in the prompt: leave out the shots.")
    if shots < 0:
        raise WorkbookError(f"{shots} shots cannot be shown: choose 0 or more.")
    return shots


def _read(
    spec: registry.TaskSpec, path: Files | None, shots: int
) -> tuple[str, dict[str, list[rows.Located]]]:
    """Return where the rows are from, and the located rows by split; no train without shots."""
    if path is None and spec.section == "hub":
        return _read_hub(spec, shots)
    files = path if isinstance(path, Mapping) else _with_shots_file(spec, path)
    if not {"test"} <= files.keys() <= {"test", "train"}:
        raise WorkbookError(f"path= has the keys {', '.join(files) or None}: use test and train.")
    found = {
        split: rows.read_file(Path(file).expanduser())
        for split, file in files.items()
        if shots or split == "test"
    }
    return Path(files["test"]).name if path else f"data/{spec.file}", found


def _with_shots_file(spec: registry.TaskSpec, path: Path | str | None) -> dict[str, Path]:
    """Return the file by split, with the one beside it that has the shots, if there is one."""
    file = Path(path).expanduser() if path else settings.repo_root() / "data" / spec.file
    beside = registry.dev_file(file)
    return {"test": file} | ({"train": beside} if beside.is_file() else {})


def _read_hub(spec: registry.TaskSpec, shots: int) -> tuple[str, dict[str, list[rows.Located]]]:
    data = rows.load_hub(spec.id, spec.config, spec.revision)
    theirs = spec.splits or SPLITS
    needed = [split for split in SPLITS if split in theirs and (shots or split == "test")]
    located = {split: rows.located(data[theirs[split]], spec.id) for split in needed}
    return ":".join(filter(None, [spec.id, spec.config, theirs["test"]])), located


def _parted(
    located: Sequence[rows.Located], kind: Kind, number: int
) -> tuple[list[rows.Located], list[rows.Located]]:
    """Return the first `number` rows of each group, and the others."""
    seen, taken, rest = Counter(), [], []
    for where, row in located:
        group = str(row.get(kind.group))
        (taken if seen[group] < number else rest).append((where, row))
        seen[group] += 1
    return taken, rest


def _questions(
    spec: registry.TaskSpec, kind: Kind, located: Iterable[rows.Located]
) -> list[Question]:
    """Return the checked rows as questions, each with an id of its own."""
    places: dict[str, str] = {}
    return [_with_own_id(*pair, kind, places) for pair in _checked(spec, kind, located)]


def _checked(
    spec: registry.TaskSpec, kind: Kind, located: Iterable[rows.Located]
) -> Iterator[tuple[str, Question]]:
    for where, row in located:
        yield where, kind.read(where, rows.checked(where, row, spec.fields, (), strict=False))


def _with_own_id(where: str, question: Question, kind: Kind, places: dict[str, str]) -> Question:
    """Return the question, and note its place.

    Published sets without ids hold a few rows twice: the copies are numbered. An id that somebody
    gave twice is an error.
    """
    if kind.has_ids and question.id in places:
        raise WorkbookError(
            f"{where}: the id {question.id!r} is that of {places[question.id]} too, "
            "give it another."
        )
    own, number = question.id, 1
    while own in places:
        number += 1
        own = f"{question.id}-{number}"
    places[own] = where
    return dataclasses.replace(question, id=own)


def _check_shots(source: str, shots: Mapping[str, Sequence], wanted: int) -> None:
    if not shots:
        raise WorkbookError(f"{source} has no question left to ask: ask for fewer shots.")
    for group, found in shots.items():
        if len(found) < wanted:
            of = f" about {group}" if group else ""
            raise WorkbookError(
                f"{source}: {wanted} shots{of} are asked for and there are {len(found)}, so ask "
                "for fewer, or add rows to take them from."
            )


def _first(questions: Sequence[Question], limit: int | None) -> Iterator[Question]:
    """Yield the first `limit` questions of each group."""
    if limit is not None and limit < 1:
        raise WorkbookError(f"A limit of {limit} leaves no question: choose at least 1.")
    seen: Counter[str] = Counter()
    for question in questions:
        seen[question.group] += 1
        if limit is None or seen[question.group] <= limit:
            yield question
