"""Which benchmarks there are: the schema of their rows, what is computed, how many shots."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from ..errors import WorkbookError
from . import questions


class Kind(NamedTuple):
    """What the benchmarks of one schema have in common.

    read          a located row in, its Question out
    metrics       names of `scores.METRICS`; the first is the one that papers quote
    shots         how many examples stand before a question unless somebody says otherwise
    group         the field whose values have shots of their own
    has_ids       each row has an id that no other has
    fixed_shots   the examples are part of the prompt, and there are no others
    """

    read: Callable[[str, Mapping], questions.Question]
    metrics: tuple[str, ...]
    shots: int = 0
    group: str | None = None
    has_ids: bool = False
    fixed_shots: bool = False


ARC = Kind(questions.arc, ("acc_norm", "acc"), has_ids=True)
HELLASWAG = Kind(questions.hellaswag, ("acc_norm", "acc"), has_ids=True)
MMLU = Kind(questions.mmlu, ("acc",), shots=5, group="subject")
MC1 = Kind(questions.truthfulqa_mc1, ("mc1",), fixed_shots=True)
MC2 = Kind(questions.truthfulqa_mc2, ("mc2",), fixed_shots=True)

# The task of data/tasks.yaml that has a benchmark's rows, and their kind. Names of the first six
# are those of lm-evaluation-harness; the others are sets of our own in the same schemas.
BENCHMARKS = {
    "arc_easy": ("arc_easy", ARC),
    "arc_challenge": ("arc_challenge", ARC),
    "hellaswag": ("hellaswag", HELLASWAG),
    "mmlu": ("mmlu", MMLU),
    "truthfulqa_mc1": ("truthful_qa", MC1),
    "truthfulqa_mc2": ("truthful_qa", MC2),
    "science": ("science", ARC),
    "endings": ("endings", HELLASWAG),
    "subjects": ("subjects", MMLU),
    "myths_mc1": ("myths", MC1),
    "myths_mc2": ("myths", MC2),
}


def names() -> tuple[str, ...]:
    """Return the names of all benchmarks."""
    return tuple(BENCHMARKS)


def find(name: str) -> tuple[str, Kind]:
    """Return the name of a benchmark's task and its kind; else WorkbookError lists the names."""
    if name not in BENCHMARKS:
        raise WorkbookError(f"Unknown benchmark {name!r}: choose of {', '.join(names())}.")
    return BENCHMARKS[name]
