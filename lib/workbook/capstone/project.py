"""A table becomes a task: labels or free texts, wordings, and splits without repetitions."""

import dataclasses
import itertools
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import datasets
import numpy as np

from .. import encoding, grading, metrics, settings
from ..errors import WorkbookError
from ..tasks import rows as rows_module
from ..tasks import splits
from ..templates import Template, literal_choices, load_templates
from .reading import (
    Table,
    check_columns,
    check_labels,
    counted,
    counted_rows,
    distinct,
    filled,
)
from .recipe import LETTERS_A_TOKEN, LONGEST_ANSWER, Recipe, longest_input, shortened_row

MOST_LABELS = 50
ROWS_A_LABEL = 5  # on average, for a column to count as labels; and of each label, to be learned
LONGEST_LABEL = 60  # letters
LEAST_ROWS = 40
LOOKED_AT = 4_000  # rows among which near-duplicates are looked for, and twice `examples`
SHARES = {"test": 0.25, "validation": 0.2}
MOST_HELD_OUT = {"test": 400, "validation": 200}
UNBALANCED = 3  # times as many rows of the commonest label as of the rarest
MOST_LOST = 0.05  # of the letters
BYTES_A_LETTER = 1.0  # tokens a letter from which a model does not read words
WORDINGS = ("question", "instruction_first")  # of data/templates/classification.yaml
STRATA = {"label": ["label"], "text": []}
PLAIN_TEXT = Template("plain", "{{text}} ||| {{output}}")


@dataclasses.dataclass
class Project:
    """What is to be learned: rows in splits, the wordings to try, and how answers are judged.

    recipes   one a wording, without solved examples
    metric    "accuracy", "f1_macro" or "rouge" (ROUGE-L)
    notes     sentences on what was decided and left out
    source    the name of the file
    counts    rows of each label, or {} for free texts
    """

    splits: datasets.DatasetDict
    recipes: list[Recipe]
    metric: str
    notes: list[str]
    source: str
    counts: dict[str, int]

    @property
    def is_labels(self) -> bool:
        """Tell whether the answers are labels."""
        return self.recipes[0].kind == "label"

    def values(self, rows: Sequence[Mapping], answers: Sequence) -> np.ndarray:
        """Return a number between 0 and 1 for each answer: a hit, or ROUGE-L."""
        pairs = zip(answers, rows, strict=True)
        if self.is_labels:
            return np.array([float(answer == row["label"]) for answer, row in pairs])
        return np.array([grading.grade("rouge", answer, row) for answer, row in pairs])

    def score(self, rows: Sequence[Mapping], answers: Sequence) -> metrics.Interval:
        """Return the score of answers by the project's metric with its interval over the items."""
        if self.metric == "f1_macro":
            columns = np.array([row["label"] for row in rows]), np.array(answers)
            return metrics.bootstrap_interval(columns, self._macro_f1)
        values = self.values(rows, answers)
        if self.metric == "accuracy":
            return metrics.wilson(int(values.sum()), len(values))
        return metrics.bootstrap_interval(values)

    def difference(self, rows: Sequence[Mapping], ours: Sequence, theirs: Sequence):
        """Return the score of our answers less that of theirs, with its interval over the items."""
        if self.metric != "f1_macro":
            return metrics.paired_interval(self.values(rows, ours), self.values(rows, theirs))
        truth = np.array([row["label"] for row in rows])
        pairs = [(truth, np.array(answers)) for answers in (ours, theirs)]
        return metrics.paired_interval(*pairs, statistic=self._macro_f1)

    def _macro_f1(self, truth, answers) -> float:
        return metrics.macro_f1(truth, answers, labels=range(len(self.recipes[0].labels)))


def prepare(
    table: Table, model, tokenizer, input: str, target: str, *, kind: str = "auto",
    template: str | None = None, examples: int = 500,
) -> Project:  # fmt: skip
    """Return the project that the columns `input` and `target` of a table make.

    kind       "label", "text", or "auto": what the values of `target` look like
    template   the name of one of our wordings, a promptsource file, or Jinja with {{input}}
    examples   the most rows to learn from

    Raises WorkbookError for what cannot be learned or judged, and says what to mend.
    """
    check_columns(table, input, target)
    if input == target:
        raise WorkbookError(f"Input and target are both {input!r}: name two columns.")
    located = distinct(table, filled(table, input, target), input, target)
    kind = _kind(table, [row[target] for _, row in located], target, kind)
    counts = Counter(row[target] for _, row in located) if kind == "label" else Counter()
    if kind == "label":
        check_labels(table, counts, ROWS_A_LABEL)
    check_readable(table, tokenizer, [row[input] for _, row in located])
    check_beginnings(table, tokenizer, sorted(counts))
    longest = longest_input(model)
    rows = _drawn(table, [_named(row, input, target, kind) for _, row in located], kind, examples)
    rows = _fitting(table, tokenizer, rows, input, longest, kind)
    parts = _parts(table, rows, kind, examples)
    common = dict(
        kind=kind, input=input, target=target, labels=tuple(sorted(counts)), longest_input=longest,
        max_new_tokens=_longest_answer(tokenizer, rows, kind),
    )  # fmt: skip
    recipes = [
        Recipe(template=t, **common) for t in _templates(template, common["labels"], rows[0], input)
    ]
    metric = _metric(table, counts, target)
    made = _datasets(parts, rows[0], common["labels"])
    return Project(made, recipes, metric, table.notes, table.name, dict(sorted(counts.items())))


def _kind(table: Table, values: Sequence[str], target: str, kind: str) -> str:
    """Return "label" or "text", and note why."""
    if kind not in ("auto", "label", "text"):
        raise WorkbookError(f"There is no kind {kind!r}: choose auto, label or text.")
    different, longest = len(set(values)), max(map(len, values))
    few = different <= min(MOST_LABELS, max(1, len(values) // ROWS_A_LABEL))
    looks = "label" if few and longest <= LONGEST_LABEL else "text"
    chosen = looks if kind == "auto" else kind
    if chosen == "label" and different > MOST_LABELS:
        raise WorkbookError(f"{target!r} has {different} values, {MOST_LABELS} labels at most fit.")
    why = f"{target!r} has {different:,} different values in {len(values):,} rows"
    if few and chosen == "text" != kind:
        why += f", the longest of {longest} letters, more than the {LONGEST_LABEL} of a label"
    told = {"label": "so they are labels to choose from", "text": "so they are texts to write"}
    asked = "as --kind says" if kind != "auto" else told[chosen]
    table.notes.append(f"{why}, {asked} ({chosen}).")
    return chosen


def check_beginnings(table: Table, tokenizer, labels: Sequence[str]) -> None:
    """Raise WorkbookError for a label whose tokens begin another one's, since that is likelier.

    The likelihood of a label is that of its tokens, without what would end it.
    """
    ids = {label: encoding.token_ids(tokenizer, label) for label in labels}
    for short, long in itertools.permutations(labels, 2):
        if ids[long][: len(ids[short])] == ids[short]:
            raise WorkbookError(
                f"{table.name}: the label {long!r} begins with {short!r}, so that it would never "
                "be chosen: give one of them another name."
            )


def check_readable(table: Table, tokenizer, texts: Sequence[str], sample: int = 200) -> None:
    """Note where a model reads bytes; WorkbookError where it cannot read a script at all.

    Tokens a letter tell. SmolLM2 needs 0.24 for English, 0.36 for German and 2.1 for Korean, the
    bytes of each letter; Gemma 3 needs 0.24, 0.23 and 0.61.
    """
    read = [text[:1000] for text in texts[:: max(1, len(texts) // sample)]]
    ids = [encoding.token_ids(tokenizer, text) for text in read]
    tokens, letters = sum(map(len, ids)), sum(map(len, read))
    lost = _lost(read, [tokenizer.decode(each) for each in ids])
    if lost > MOST_LOST:
        raise WorkbookError(
            f"{lost:.0%} of the letters of these texts are unknown to this model, which cannot "
            "read them: choose a model of their language with --model, or with "
            "WORKBOOK_MODEL in a notebook."
        )
    if tokens > BYTES_A_LETTER * letters:
        table.notes.append(
            f"Warning: this model needs {tokens / letters:.1f} tokens for each letter of these "
            "texts (English: 0.25), so it does not know their words and reads bytes. Expect slow "
            "and poor results, and choose a model of their language with --model, or with "
            "WORKBOOK_MODEL in a notebook."
        )


def _lost(texts: Sequence[str], read_back: Sequence[str]) -> float:
    """Return the share of the letters that tokens do not hold, whatever their case."""
    before, after = (
        Counter("".join("".join(each).casefold().split())) for each in (texts, read_back)
    )
    return 1 - (before & after).total() / max(1, before.total())


def _named(row: Mapping, input: str, target: str, kind: str) -> dict:
    """Return a row with the names that templates know, beside the user's own."""
    return {**row, "text": row[input], "label" if kind == "label" else "output": row[target]}


def _fitting(
    table, tokenizer, rows: Sequence[dict], input: str, longest: int, kind: str
) -> list[dict]:
    """Return the rows with inputs cut to what is read, without those whose answer is too long."""
    cut = [shortened_row(tokenizer, row, input, longest) for row in rows]
    shorter = sum(new["text"] != old["text"] for new, old in zip(cut, rows, strict=True))
    if shorter:
        table.notes.append(f"Of {counted_rows(shorter)} only the first {longest} tokens are read.")
    if kind == "label":
        return cut
    kept = [row for row in cut if _answer_length(tokenizer, row) <= LONGEST_ANSWER]
    if len(kept) < len(cut):
        table.notes.append(
            f"{counted(len(cut) - len(kept))} left out because the answer has more "
            f"than {LONGEST_ANSWER} tokens."
        )
    return kept


def _answer_length(tokenizer, row: Mapping) -> int:
    limit = (LONGEST_ANSWER + 1) * LETTERS_A_TOKEN
    return len(encoding.token_ids(tokenizer, row["output"][:limit]))


def _longest_answer(tokenizer, rows: Sequence[Mapping], kind: str) -> int:
    if kind == "label":
        return LONGEST_ANSWER
    longest = max((_answer_length(tokenizer, row) for row in rows), default=0)
    return min(longest + 8, LONGEST_ANSWER)


# ------------------------------------------------------------------------------------- splits


def _drawn(table, rows: Sequence[dict], kind: str, examples: int) -> list[dict]:
    """Return the rows in the order of their hashes, of very many a part with every label in it."""
    drawn = at_most(splits.shuffled(rows, ["text"]), max(LOOKED_AT, 2 * examples), STRATA[kind])
    if len(drawn) < len(rows):
        table.notes.append(f"Of {len(rows):,} different rows {len(drawn):,} were drawn.")
    return drawn


def _parts(table: Table, rows: Sequence[dict], kind: str, examples: int) -> dict:
    """Return train, validation and test, no two rows of which are near-duplicates."""
    strata = STRATA[kind]
    kept = splits.drop_near_duplicates({"train": list(rows)}, ["text"])["train"]
    if len(kept) < len(rows):
        table.notes.append(
            f"{counted(len(rows) - len(kept))} left out as near-duplicates, which "
            "share 80 % of their words with another row."
        )
    if len(kept) < LEAST_ROWS:
        raise WorkbookError(
            f"{table.name}: {counted_rows(len(kept))} are left, and {LEAST_ROWS} are the "
            f"least to learn from and to judge by: add rows. {' '.join(table.notes)}"
        )
    if strata:
        check_labels(table, Counter(row["label"] for row in kept), ROWS_A_LABEL)
    return _carved(table, kept, strata, examples)


def _carved(table: Table, pool: Sequence[dict], strata: list[str], examples: int) -> dict:
    sizes = {
        name: min(round(share * len(pool)), settings.pick(smoke=12, default=most, full=10 * most))
        for (name, share), most in zip(SHARES.items(), MOST_HELD_OUT.values(), strict=True)
    }
    counts = Counter(splits.stratum(row, strata) for row in pool)
    quotas = {name: _at_least_one(splits.proportional(counts, n)) for name, n in sizes.items()}
    parts = splits.stratified_split(pool, strata, quotas)
    train = at_most(parts["train"], examples, strata)
    parts = {"train": train, "validation": parts["validation"], "test": parts["test"]}
    told = ", ".join(f"{len(part):,} {name}" for name, part in parts.items())
    table.notes.append(f"The split: {told}. Nothing is chosen by the test rows.")
    return parts


def _at_least_one(quota: Mapping) -> dict:
    return {stratum: max(1, count) for stratum, count in quota.items()}


def at_most(rows: Sequence[dict], n: int, strata: Sequence[str], floor: int = 10) -> list[dict]:
    """Return about n of the rows in order: of each stratum its share, and `floor` at least."""
    if len(rows) <= n:
        return list(rows)
    counts = Counter(splits.stratum(row, strata) for row in rows)
    left = {s: max(floor, share) for s, share in splits.proportional(counts, n).items()}
    taken: dict = defaultdict(int)
    kept = []
    for row in rows:
        own = splits.stratum(row, strata)
        if taken[own] < left[own]:
            taken[own] += 1
            kept.append(row)
    return kept


def _datasets(parts: Mapping, example: Mapping, labels: Sequence[str]) -> datasets.DatasetDict:
    fields = dict.fromkeys(example, "any_string") | ({"label": "label"} if labels else {})
    return rows_module.to_datasets(parts, fields, labels)


def _metric(table: Table, counts: Counter, target: str) -> str:
    if not counts:
        table.notes.append("Texts are judged by ROUGE-L, the words they share with yours in order.")
        return "rouge"
    (common, most), (rarest, least) = counts.most_common()[0], counts.most_common()[-1]
    if most <= UNBALANCED * least:
        return "accuracy"
    table.notes.append(
        f"{target!r} is unbalanced ({common!r} {most}, {rarest!r} {least}), so that always saying "
        f"{common!r} would look good: models are judged by macro F1, in which labels count alike."
    )
    return "f1_macro"


# ---------------------------------------------------------------------------------- wordings


def _templates(given, labels: Sequence[str], row: Mapping, input: str) -> list[Template]:
    """Return the wordings to try. Raises WorkbookError for one that does not fit the rows."""
    ours = load_templates(settings.repo_root() / "data" / "templates" / "classification.yaml")
    ours = {template.name: template for template in ours} if labels else {"plain": PLAIN_TEXT}
    names = [name for name in WORDINGS if name in ours] or list(ours)
    found = _given(given, ours, bool(labels)) if given else [ours[name] for name in names]
    choices = literal_choices(labels) or None
    found = [
        t if t.answer_choices else dataclasses.replace(t, answer_choices=choices) for t in found
    ]
    for template in found:
        _check_template(template, {**row, **({"label": 0} if labels else {})}, labels, input)
    return found


def _given(text: str, ours: Mapping, is_labels: bool) -> list[Template]:
    if text in ours:
        return [ours[text]]
    if "{{" in text:
        answer = "{{answer_choices[label]}}" if is_labels else "{{output}}"
        return [Template("your own", text if "|||" in text else f"{text} ||| {answer}")]
    if Path(text).suffix in (".yaml", ".yml"):
        return list(load_templates(Path(text)))
    raise WorkbookError(
        f"There is no template {text!r}: choose of {', '.join(ours)}, a .yaml file in "
        "promptsource's form, or Jinja such as '{{text}} Which department?'."
    )


def _check_template(template: Template, row: Mapping, labels: Sequence[str], input: str) -> None:
    prompt, completion = template.render(row)
    other = f"{row['text']} and more"
    if not completion or prompt == template.render({**row, "text": other, input: other}).prompt:
        raise WorkbookError(
            f"The template {template.name!r} leaves out the input or the answer: write "
            "{{text}} where the input goes, and ||| before the answer."
        )
    choices = template.choices(row)
    if labels and len(choices) != len(labels):
        raise WorkbookError(
            f"The template {template.name!r} has other labels than your file: leave them open with "
            "answer_choices."
        )
    if choices != list(labels) and sorted(choices) == sorted(labels):
        raise WorkbookError(
            f"The template {template.name!r} has your labels in another order than "
            f"{', '.join(labels)}, so that each would stand for another one: sort them."
        )
