"""From a file to a folder with a model, its card and a report: `tune`, which a kill only delays.

While it runs, finished stages, checkpoints and drafts lie in `NAME.unfinished` beside the output
folder; that one appears when it is whole.
"""

import dataclasses
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tqdm.auto import tqdm

from .. import abilities, metrics, models, runcache, settings, training
from ..errors import WorkbookError
from ..files import atomic_path, exclusive
from . import candidates, project, reading, report, room, saving
from .project import Project
from .recipe import Recipe

SKIPPED = tuple(name for name in abilities.ABILITIES if name not in abilities.COMPOSITE)
# A base model has none; this takes several exchanges, and the first is as in experiments.PLAIN.
PLAIN_CHAT = "{% for message in messages %}{{ message['content'] + '\\n' }}{% endfor %}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What a user may choose.

    method     "auto" (all, and the rule decides), "lora" or "full"
    kind       "auto", "label" or "text": whether answers are chosen or written
    template   as in `project.prepare`
    encoding   of the file; found out where it is None
    examples   the most rows to learn from
    epochs     the most passes over them; it stops when the validation loss has risen
    model      as in `models.load`
    """

    method: str = "auto"
    kind: str = "auto"
    template: str | None = None
    encoding: str | None = None
    examples: int = 500
    epochs: int = 3
    model: str | None = None


def tune(
    path: Path | str, input: str, target: str, out: Path | str, *, progress: bool = True, **options
) -> Path:
    """Compare methods on one's own rows, tune, and return the folder with model and report.

    path            a .csv, .tsv, .jsonl or .parquet file
    input, target   the columns with what is asked and what is answered
    out             the folder to be made
    options         those of `Options`

    Called again after a kill it goes on where it was. Raises WorkbookError for a file that cannot
    be learned from, a folder that exists, a full disk. Taught in notebook 12.
    """
    chosen, out = Options(**options), Path(out).expanduser()
    if chosen.method not in candidates.WANTED:
        raise WorkbookError(f"There is no method {chosen.method!r}: choose auto, lora or full.")
    for name in ("examples", "epochs"):
        if getattr(chosen, name) < 1:
            raise WorkbookError(f"{name} is {getattr(chosen, name)}: choose at least 1.")
    check_free(out)
    table = reading.read(Path(path), chosen.encoding)
    reading.check_columns(table, input, target)
    unfinished = unfinished_folder(out)
    run, key = Run.begin(table, input, target, unfinished, chosen, progress)
    made = unfinished / "made"
    with exclusive(made):  # which clears what a kill left of it
        check_free(out)  # another process may have made it meanwhile
        claim(unfinished, key)
        if not made.exists():
            results = run.results()
            with atomic_path(made) as draft:
                _finish(run, results, draft, out.name)
        os.replace(made, out)
        (unfinished / "run.json").unlink()
    shutil.rmtree(unfinished, ignore_errors=True)
    return out


def unfinished_folder(out: Path) -> Path:
    """Return where a run keeps what it has finished until its output is whole."""
    return out.with_name(f"{out.name}.unfinished")


def check_free(out: Path) -> None:
    """Raise WorkbookError for an output folder that exists, so that nothing is written over.

    A folder without a name of its own, such as ".", cannot appear when it is whole. What a run
    that was stopped after its last stage left beside its folder is cleared.
    """
    if out.name in ("", ".."):
        raise WorkbookError(f"{out} is where you are: name a folder to be made with --out.")
    left = unfinished_folder(out)
    if (out / "results.json").exists() and left.is_dir():
        if not (left / "run.json").exists():
            shutil.rmtree(left)
            raise WorkbookError(f"{out} is finished: open it, or name another folder with --out.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise WorkbookError(f"{out} exists already: remove it, or name another folder with --out.")


def check_space(folder: Path, weights: int, method: str) -> None:
    """Raise WorkbookError where the disk is too small, before hours of work.

    Of full tuning up to three checkpoints lie there, each with weights, two moments and the best
    weights so far; a saved model is one more. What an earlier start has written there counts.
    """
    copies = 1 if method == "lora" else 13
    written = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    needed, place = 4 * weights * copies - written, folder.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < needed:
        raise WorkbookError(
            f"The disk of {place} has {free / 1e9:.1f} GB free and this takes up to "
            f"{needed / 1e9:.1f}: free some space, name another folder with --out, or take "
            "--method lora."
        )


def load(name: str | None):
    """Return the model and its tokenizer, a base model's with the plainest chat template."""
    model, tokenizer = models.load(name)
    if tokenizer.chat_template is None:
        opens = tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id
        tokenizer.chat_template = ("{{ bos_token }}" if opens else "") + PLAIN_CHAT
    return model, tokenizer


@dataclasses.dataclass
class Run:
    """One comparison: what it learns from, and the folder in which its stages are kept."""

    project: Project
    options: Options
    wanted: tuple[str, ...]
    folder: Path
    bar: tqdm
    seed: int
    held: tuple = ()

    @classmethod
    def begin(cls, table, input: str, target: str, folder: Path, options: Options, progress: bool):
        """Return a run and what tells it from others; nothing is written yet."""
        model, tokenizer = load(options.model)
        check_space(folder, models.count_parameters(model).total, options.method)
        # What only reads the table decides over the stages too, through the project.
        found = project.prepare(
            table, model, tokenizer, input, target,
            kind=options.kind, template=options.template, examples=_at_most(16, options.examples),
        )  # fmt: skip
        wanted = candidates.wanted(options.method, model)
        if wanted != candidates.WANTED[options.method]:
            found.notes.append("LoRA is left out: ours changes no layer of this kind of model.")
        wanted = _fitting(found, wanted, folder, options.method, model, tokenizer)
        if progress:  # before hours of work
            print("\n".join(found.notes))
        inputs = {"model": model, "options": options, "project": _identity(found)}
        stages = len(candidates.yardsticks(found)) + len(wanted) + 6
        bar = tqdm(total=stages, unit="stage", disable=not progress)
        key = runcache.cache_key("capstone", inputs)
        return cls(found, options, wanted, folder, bar, settings.seed()), key

    def stage(self, name: str, function: Callable[[], dict]) -> dict:
        """Return a stage's result, from the folder where it was finished before."""
        self.bar.set_description(name)
        file = self.folder / f"{re.sub(r'[^a-zA-Z-]+', '_', name)}.json"
        if not file.exists():
            start = time.perf_counter()
            result = {"seconds": 0.0, **function()}
            result["seconds"] = result["seconds"] or time.perf_counter() - start
            with atomic_path(file) as draft:
                draft.write_text(json.dumps(result, ensure_ascii=False), encoding="utf-8")
        self.bar.update()
        return json.loads(file.read_text(encoding="utf-8"))

    def results(self) -> dict:
        """Return all that is measured; the test rows come last, for the chosen method."""
        judged = self._judged()
        scores = {name: self._score("validation", found) for name, found in judged.items()}
        estimates = {name: score.estimate for name, score in scores.items()}
        chosen = candidates.choose({name: estimates[name] for name in self.wanted})
        if self.options.method != "auto":
            chosen = self.wanted[-1]
        prompt = candidates.best_prompt(estimates)
        tests, panels = self._tests(chosen, prompt, judged)
        yardsticks = reversed(candidates.yardsticks(self.project))  # of equals the less trivial
        return {
            "chosen": chosen,
            "best_yardstick": max(yardsticks, key=estimates.get),
            "best_prompt": prompt,
            "validation": judged,
            "validation_scores": scores,
            "test": tests,
            "test_scores": {name: self._score("test", found) for name, found in tests.items()},
            "panels": panels,
        }

    def _score(self, split: str, found: Mapping) -> metrics.Interval:
        return self.project.score(list(self.project.splits[split]), found["answers"])

    def _judged(self) -> dict[str, dict]:
        """Return the answers of every candidate to the validation rows."""
        rows = list(self.project.splits["validation"])
        found = {
            name: self.stage(name, lambda answer=answer: {"answers": answer(self.project, rows)})
            for name, answer in candidates.yardsticks(self.project).items()
        }
        for name in candidates.PROMPTS:
            found[name] = self.stage(name, lambda name=name: self._prompted(name))
        for name in self.wanted:
            if name in candidates.TUNED:
                found[name] = self.stage(name, lambda name=name: self._tuned(name, found))
        return found

    def recipes(self, name: str, model, tokenizer) -> dict[str, Recipe]:
        """Return the prompts that are tried for a way of prompting."""
        if name == "few-shot":
            return candidates.few_shot(self.project, model, tokenizer, self.seed)
        return candidates.zero_shot(self.project)

    def _prompted(self, name: str) -> dict:
        model, tokenizer = load(self.options.model)
        recipes = self.recipes(name, model, tokenizer)
        return candidates.judge(self.project, model, tokenizer, recipes)

    def _tuned(self, name: str, judged: Mapping) -> dict:
        model, tokenizer, recipe, told = self.tuned(name, judged)
        found = candidates.judge(self.project, model, tokenizer, {recipe.template.name: recipe})
        return {**found, **told}

    def tuned(self, name: str, judged: Mapping):
        """Return the tuned model, its tokenizer, its recipe, and what the tuning measured."""
        model, tokenizer = load(self.options.model)
        recipe = self.wording(judged)
        train, validation = candidates.encoded(self.project, recipe, model, tokenizer)
        history, trained = candidates.tune(
            model, name, train, validation, epochs=_at_most(1, self.options.epochs),
            seed=self.seed, checkpoint=self.folder / f"checkpoints {name}",
            rows=room.rows_at_once(model, name, [*train, *validation]),
            progress=not self.bar.disable,
        )  # fmt: skip
        training.release_memory()  # of the optimizer
        told = dataclasses.asdict(history) | {"trained": trained}
        return model, tokenizer, recipe, told

    def wording(self, judged: Mapping) -> Recipe:
        """Return the wording that tuning learns: the best one without examples or calibration."""
        tried = judged["zero-shot"]["tried"]
        return max(self.project.recipes, key=lambda recipe: tried[recipe.template.name])

    def chosen(self, name: str, judged: Mapping):
        """Return the model of a method, its tokenizer and its recipe; the last one is held."""
        if self.held[:1] != (name,):
            self.held = ()  # two models would be in memory
            self.held = (name, *self._made(name, judged))
        return self.held[1:]

    def _made(self, name: str, judged: Mapping):
        if name in candidates.TUNED:
            return self.tuned(name, judged)[:3]
        model, tokenizer = load(self.options.model)
        return model, tokenizer, self.recipes(name, model, tokenizer)[judged[name]["recipe"]]

    def _tests(self, chosen: str, prompt: str, judged: Mapping) -> tuple[dict, dict]:
        """Return answers to the test rows, and ability panels where weights were changed.

        Of the chosen method and what it has to beat: the yardsticks, the prompt without examples,
        and the best prompt.
        """
        rows, panels = list(self.project.splits["test"]), {}
        tests = {
            name: {"answers": answer(self.project, rows)}
            for name, answer in candidates.yardsticks(self.project).items()
        }
        for name in dict.fromkeys(("zero-shot", prompt, chosen)):
            ask, measure = self._asking(name, judged, rows)
            tests[name] = self.stage(f"test of {name}", ask)
            if chosen in candidates.TUNED and name in ("zero-shot", chosen):
                panels[name] = self.stage(f"abilities of {name}", measure)
        return tests, panels

    def _asking(self, name: str, judged: Mapping, rows: list[dict]) -> tuple[Callable, Callable]:
        """Return what asks a method about rows, and what measures the abilities of its model."""

        def ask() -> dict:
            model, tokenizer, recipe = self.chosen(name, judged)
            found = recipe.answers(model, tokenizer, rows)
            return {"answers": found.values, "probabilities": found.probabilities}

        def measure() -> dict:
            model, tokenizer, _ = self.chosen(name, judged)
            return abilities.measure(model, tokenizer, "live", skip=SKIPPED)

        return ask, measure


def _fitting(
    found: Project, wanted: tuple[str, ...], folder: Path, method: str, model, tokenizer
) -> tuple[str, ...]:
    """Return the methods without those of "auto" for which memory lacks; notes tell of them.

    A method whose stage is finished stays. Raises WorkbookError for a method that was asked for, or
    has begun: with more memory it goes on.
    """
    examples = [
        each
        for recipe in found.recipes
        for part in candidates.encoded(found, recipe, model, tokenizer)
        for each in part
    ]
    kept = []
    for name in wanted:
        try:
            if name in candidates.TUNED and not (folder / f"{name}.json").exists():
                _note_parts(found, name, room.rows_at_once(model, name, examples))
            kept.append(name)
        except WorkbookError as error:
            if method != "auto" or (folder / f"checkpoints {name}").exists():
                raise
            found.notes.append(f"{name} is left out: {error}")
    return tuple(kept)


def _note_parts(found: Project, name: str, rows: int) -> None:
    if rows < candidates.BATCH:
        found.notes.append(
            f"{name} computes {reading.counted_rows(rows)} of the {candidates.BATCH} of a step at "
            "once, as many as fit into the memory: slower, with the same result."
        )


def _at_most(smoke: int, wanted: int) -> int:
    """Return what a user wants, at the scale of a smoke test not more than that."""
    return min(smoke, wanted) if settings.scale() == "smoke" else wanted


def _identity(found: Project) -> list:
    """Return what decides over the stages: the rows, the wordings, the metric."""
    parts = {name: part.to_list() for name, part in found.splits.items()}
    return [parts, [dataclasses.asdict(recipe) for recipe in found.recipes], found.metric]


def claim(folder: Path, key: str) -> None:
    """Note whose folder this is. Raises WorkbookError if it is another run's."""
    file = folder / "run.json"
    if not file.exists():
        with atomic_path(file) as draft:
            draft.write_text(json.dumps({"key": key}), encoding="utf-8")
    try:
        found = json.loads(file.read_text(encoding="utf-8"))["key"]
    except (ValueError, KeyError, TypeError):
        found = "damaged"
    if found != key:
        raise WorkbookError(
            f"{folder} holds an unfinished run with other rows, options or versions: delete it, or "
            "choose another --out."
        )


def _finish(run: Run, results: dict, draft: Path, name: str) -> None:
    """Write the whole output folder at `draft`."""
    run.bar.set_description("saving")
    model, tokenizer, recipe = run.chosen(results["chosen"], results["validation"])
    draft.mkdir()
    saving.save_model(model, tokenizer, recipe, draft)
    pages = report.Report(run.project, recipe, results, run.options, name)
    saving.write_card(draft, pages, model, run.options.model)
    pages.write(draft)
    run.bar.total = run.bar.n + 1  # a prompt has fewer stages
    run.bar.update()
    run.bar.close()
