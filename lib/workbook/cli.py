"""The command `workbook`: what can be done in a terminal, the course and one's own models."""

import contextlib
import importlib.metadata
import io
import os
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from . import settings
from .authoring.sources import sources
from .errors import WorkbookError
from .files import atomic_path

# Plain help: the boxes that typer draws name a type for every switch, and wrap its words.
app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"max_content_width": 110},
)

INTERRUPTED = 130  # the exit status after Ctrl-C


def known(numbers: list[str] | None) -> list[str]:
    """Refuse unknown numbers at once, before anything that takes seconds is imported."""
    return [source.stem[:2] for source in sources(numbers)] if numbers else []


def known_pages(names: list[str]) -> list[str]:
    """Refuse unknown numbers as `known` does; README is a page too."""
    return known([name for name in names if name != README]) + [README] * (README in names)


README = "readme"
SOME = typer.Argument(metavar="NN", help="Numbers of notebooks.", callback=known)
ALL_HELP = "Numbers of notebooks; all when left out."
Some = Annotated[list[str], SOME]
Numbers = Annotated[list[str] | None, typer.Argument(metavar="[NN]", help=ALL_HELP, callback=known)]
Pages = Annotated[
    list[str],
    typer.Argument(metavar="NN", help="Numbers of notebooks, or readme.", callback=known_pages),
]
Scale = Annotated[str | None, typer.Option(help="smoke, default or full.")]
Write = Annotated[bool, typer.Option("--write", help="Keep the solved edition and measurements.")]
Cold = Annotated[bool, typer.Option("--cold", help="Begin with an empty run cache, to time it.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Also where somebody wrote answers.")]
OWN_SETS = "science,endings,subjects,myths_mc1,myths_mc2"
Benchmarks = Annotated[
    str,
    typer.Option(help="Benchmarks with commas between; NAME=FILE asks your file in its schema."),
]
Solved = Annotated[bool, typer.Option("--solved", help="Copies of the solved edition.")]


class Edition(StrEnum):
    """The two editions of a notebook."""

    learner = "learner"
    solved = "solved"


class Language(StrEnum):
    """The languages of the course."""

    en = "en"
    ko = "ko"


InLanguage = Annotated[Language, typer.Option(help="The language of the notebooks.")]


class Action(StrEnum):
    """What to do with the run cache."""

    list = "list"
    clear = "clear"


class Optional(StrEnum):
    """What is fetched only when somebody asks for it."""

    base = "base"


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"workbook {importlib.metadata.version('workbook')}")
        raise typer.Exit


@app.callback()
def workbook(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """Do what the course does, in a terminal."""


@app.command()
def doctor(
    report: Annotated[Path | None, typer.Option(help="Write a report for a bug here.")] = None,
) -> None:
    """Check whether the course can run here; one line an item, with the remedy."""
    from . import doctor

    if report:
        with atomic_path(report) as draft:
            draft.write_text(doctor.report(), encoding="utf-8")
        print(f"written to {report}: read it, then attach it to your report of the bug")
        return
    checks = doctor.checks()
    for check in checks:
        remedy = "" if check.ok else f" → {check.remedy}"
        print(f"{'OK  ' if check.ok else 'FAIL'} {check.name}: {check.detail}{remedy}")
    raise typer.Exit(not all(check.ok for check in checks))


@app.command()
def fetch(
    optional: Annotated[Optional | None, typer.Argument(help="The optional base model.")] = None,
    accept_terms: Annotated[
        str | None,
        typer.Option(metavar="HASH", help="SHA-256 of the terms that you have read and accept."),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option("--from", metavar="FOLDER", help="Take the base model's files from here."),
    ] = None,
) -> None:
    """Fetch, verify and convert the model, the reviews, the templates and reveal.js, once.

    `workbook fetch base` brings the optional base model, after showing its terms of use.
    """
    from . import assets

    if optional:
        print(f"base: {assets.base.fetch(accept_terms, folder)}")
        return
    if accept_terms or folder:
        raise WorkbookError("--accept-terms and --from are for `workbook fetch base`.")
    for name in assets.ARTIFACTS:
        print(f"{name}: {assets.fetch(name)}")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def lab(
    context: typer.Context,
    solved: Solved = False,
    language: Annotated[
        Language | None, typer.Option(help="The language of the notebooks, from now on.")
    ] = None,
) -> None:
    """Open your copies, in my/, in JupyterLab on this machine; more options go to JupyterLab."""
    from . import workspace

    if language:
        workspace.remember(language)
    edition = Edition.solved if solved else Edition.learner
    raise typer.Exit(workspace.open_lab(context.args, edition))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def bundle(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="The folder to make.")] = Path("bundle"),
) -> None:
    """Pack course, packages, model and data for laptops without a network.

    More options go to pip, such as --extra-index-url for the CPU build of PyTorch.
    """
    from . import bundle

    print(f"{bundle.make(out, context.args)}: copy it to each laptop, then follow its README.txt")


@app.command()
def reset(numbers: Some, solved: Solved = False) -> None:
    """Put fresh copies into my/ and keep your old ones, which you close in JupyterLab first."""
    from . import workspace

    for path, kept in workspace.reset(numbers, Edition.solved if solved else Edition.learner):
        print(f"{path.name} is fresh" + (f"; yours is kept as {kept.name}" if kept else ""))


@app.command()
def run(
    numbers: Numbers = None,
    scale: Scale = None,
    edition: Edition = Edition.solved,
    write: Write = False,
    cold: Cold = False,
    language: InLanguage = Language.en,
) -> None:
    """Execute notebooks headless; with --write, at the default scale, keep what came out."""
    if scale:
        os.environ["WORKBOOK_SCALE"] = scale
    from .authoring import execute, readme

    runs = execute.run(numbers or (), edition, write, cold, language)
    if write:
        readme.refresh_readme()
    raise typer.Exit(any(one.error for one in runs))


@app.command()
def build(
    numbers: Numbers = None, overwrite: Overwrite = False, language: InLanguage = Language.en
) -> None:
    """Write the learner edition from the sources, and what is made in README and docs/.

    In another language both editions are written, into a folder of its name.
    """
    from .authoring import build, readme, teaching

    for path in build.build(numbers or (), overwrite, language):
        print(path.name)
    readme.refresh_readme()
    if language != Language.en:
        return
    if not numbers:  # to look whether the recording is complete takes seconds
        readme.refresh_picture()
    if not numbers:  # its plans name sections of all notebooks
        teaching.refresh()


@app.command()
def assign(
    numbers: Some,
    out: Annotated[Path, typer.Option(help="The folder of nbgrader's course; made where missing.")],
) -> None:
    """Write notebooks as assignments for nbgrader, whose commands do the rest."""
    from .authoring import assignments

    for source in sources(numbers):
        print(assignments.write(source, out))


@app.command()
def present(
    number: Annotated[
        str | None, typer.Argument(metavar="[NN]", help="Number of the notebook.")
    ] = None,
    plan: Annotated[
        str | None, typer.Option(help="A plan of docs/teaching.md, such as two-hours.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write this file, or into this folder.")] = None,
    port: Annotated[int, typer.Option(help="Port on this machine; 0 takes a free one.")] = 0,
    browser: Annotated[bool, typer.Option("--open/--no-open", help="Open the browser.")] = True,
    language: InLanguage = Language.en,
) -> None:
    """Show the slides of an executed notebook in the browser, or write them as one HTML file.

    With --plan they are those of all notebooks of the plan, cut to what it names.
    """
    if bool(number) == bool(plan):
        raise WorkbookError("Name one: a notebook, as in `present 03`, or `--plan two-hours`.")
    from .authoring import slides

    if plan:
        name, page = plan, slides.plan_page(plan, language)
    else:
        [source] = sources([number])
        name, page = source.stem, slides.page(source, language)
    if out:
        print(slides.write(page, out, name))
    else:
        slides.serve(page, port, browser)


@app.command()
def site(
    out: Annotated[
        Path | None, typer.Option(help="The folder to write; `site` when left out.")
    ] = None,
    language: Annotated[Language | None, typer.Option(help="Only this language.")] = None,
) -> None:
    """Write the solved edition as a web site that opens from a folder, without a network."""
    from .authoring import site

    place = site.write(
        out or settings.repo_root() / "site", [language] if language else settings.LANGUAGES
    )
    print(f"written: open {place / ('ko' if language == Language.ko else '') / 'index.html'}")
    if not settings.repository():
        print("No notebooks for Colab and Kaggle: pyproject.toml names no repository yet.")


@app.command()
def translate(
    pages: Pages,
    checks: Annotated[
        bool, typer.Option("--checks", help="What checks and quiz say, in place of the page.")
    ] = False,
    language: InLanguage = Language.ko,
) -> None:
    """Print the records that a translation lacks, or holds for an English that has changed."""
    from . import translation

    for page in pages:
        print(translation.skeleton(*to_translate(page, checks, language)))


def to_translate(page: str, checks: bool, language: str) -> tuple[list[str], Path]:
    """Return the texts of a page, or what its checks say, and their file of records."""
    from . import translation
    from .authoring import build, readme, teaching
    from .checks import report

    if page == README:
        return readme.texts(), readme.records_file(language)
    if checks:
        return teaching.texts(page), report.records_dir(language) / f"{page}.yaml"
    [source] = sources([page])
    return build.texts(source), translation.path(source, language)


@app.command()
def record(
    name: Annotated[str, typer.Argument(help="Your name, in quotation marks.")],
    out: Annotated[
        Path | None, typer.Option(help="The file; my/completion.html without it.")
    ] = None,
) -> None:
    """Write what you have solved as one HTML file, which is no certificate."""
    from . import checks

    print(f"written to {checks.write_record(name, out)}")


@app.command()
def measure(
    numbers: Some,
    jobs: Annotated[int, typer.Option(min=1, help="Points measured at a time.")] = 1,
) -> None:
    """Repeat the recorded sweeps of notebooks; each may take hours."""
    from . import recording

    for number in numbers:
        scripts = sorted((settings.notebooks_dir() / "recorded" / "sweeps").glob(f"{number}_*.py"))
        if not scripts:
            raise WorkbookError(f"Notebook {number} has no recorded sweep to repeat.")
        for script in scripts:
            print(f"{script.name} …", flush=True)
            recording.sweep(script.stem).run(jobs)


@app.command()
def evaluate(
    model: Annotated[
        str | None, typer.Argument(help="A local folder, a hub id or base; else the default model.")
    ] = None,
    tasks: Benchmarks = OWN_SETS,
    limit: Annotated[int | None, typer.Option(help="Only so many questions of each.")] = None,
    shots: Annotated[int | None, typer.Option(help="So many examples before a question.")] = None,
    compare: Annotated[Path | None, typer.Option(help="Results to compare with, in pairs.")] = None,
    out: Annotated[Path | None, typer.Option(help="Keep the results in this JSON file.")] = None,
) -> None:
    """Ask a model benchmarks, such as arc_easy, and show its scores with their standard errors.

    With --compare it shows the differences from the results in another file of --out, on the
    questions that both were asked. What can be refused is refused before the model is loaded.
    """
    from . import benchmarks, models
    from .benchmarks import report

    if out and out.is_dir():
        raise WorkbookError(f"{out} is a folder: name a file in it, such as results.json.")
    asked = [
        benchmarks.load(name, path=file, shots=shots, limit=limit)
        for name, file in report.requested(tasks)
    ]
    other = report.read(compare) if compare else None
    if other:
        report.check_pairs(asked, other)
    loaded = models.load(model)
    results = []
    for benchmark in asked:
        results.append(benchmarks.evaluate(*loaded, benchmark))
        found = report.record(model or models.default_name(), results)
        if out:  # after each benchmark, since the next may take hours
            report.write(out, found)
    Console().print(report.comparison(found, other) if other else report.table(found))


@contextlib.contextmanager
def _saying_how_to_go_on() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        print("\nWhat was finished is kept: the same command goes on from there.")
        raise


@app.command()
def tune(
    rows: Annotated[Path, typer.Argument(help="Your .csv, .tsv, .jsonl or .parquet file.")],
    input: Annotated[str, typer.Option(help="The column that is read.")],
    target: Annotated[str, typer.Option(help="The column that is answered: labels or texts.")],
    out: Annotated[
        Path | None, typer.Option(help="The folder to be made; else FILE-tuned beside it.")
    ] = None,
    method: Annotated[
        str, typer.Option(help="auto compares all and a rule decides; lora or full decide.")
    ] = "auto",
    kind: Annotated[
        str, typer.Option(help="label: answers are chosen; text: they are written.")
    ] = "auto",
    template: Annotated[
        str | None,
        typer.Option(help="A wording of ours, a promptsource .yaml, or '{{text}} Department?'."),
    ] = None,
    encoding: Annotated[str | None, typer.Option(help="Of the file, such as cp949.")] = None,
    examples: Annotated[int, typer.Option(help="The most rows to learn from.")] = 500,
    epochs: Annotated[int, typer.Option(help="The most passes over them.")] = 3,
    model: Annotated[
        str | None, typer.Option(help="A local folder, a hub id or base; else the default model.")
    ] = None,
) -> None:
    """Compare methods on your own rows and make a folder with the best model and a report.

    A kill or Ctrl-C loses nothing that was finished: the same command goes on.
    """
    out = out or rows.parent / f"{rows.stem}-tuned"
    options = dict(
        method=method, kind=kind, template=template, encoding=encoding, examples=examples,
        epochs=epochs, model=model,
    )  # fmt: skip
    with _saying_how_to_go_on():
        from . import capstone

        capstone.tune(rows, input, target, out, **options)
    print((out / "report.md").read_text(encoding="utf-8"))
    print(f"All of this with figures: {out / 'report.html'}")


@app.command()
def chat(folder: Annotated[Path, typer.Argument(help="A folder that `tune` made.")]) -> None:
    """Talk to a model of yours in the terminal."""
    from . import capstone

    capstone.chat(folder)


@app.command()
def predict(
    folder: Annotated[Path, typer.Argument(help="A folder that `tune` made.")],
    rows: Annotated[Path, typer.Argument(help="A file with the same input column.")],
    out: Annotated[Path, typer.Option(help="The file to be made.")] = Path("predictions.csv"),
    encoding: Annotated[str | None, typer.Option(help="Of your file, such as cp949.")] = None,
) -> None:
    """Answer the rows of a file with a model of yours, and write them as CSV.

    A kill or Ctrl-C loses no answer: the same command goes on.
    """
    with _saying_how_to_go_on():
        from . import capstone

        print(capstone.predict(folder, rows, out, encoding=encoding))
    print(f"written to {out}")


@app.command()
def plan(
    model: Annotated[
        str | None, typer.Argument(help="1B, 7B, 70B, a config.json, a folder or a hub id.")
    ] = None,
    gpu: Annotated[str, typer.Option(help="Memory of a device.")] = "24GB",
    devices: Annotated[int, typer.Option(help="Number of them.")] = 1,
    batch: Annotated[int, typer.Option(help="Rows that a device computes at once.")] = 8,
    sequence: Annotated[int, typer.Option(help="Tokens in a row.")] = 512,
    completion: Annotated[
        int | None, typer.Option(help="Tokens of a row that are learned; all when left out.")
    ] = None,
    accumulation: Annotated[int, typer.Option(help="Batches a step.")] = 1,
    rank: Annotated[int, typer.Option(help="Of LoRA.")] = 8,
) -> None:
    """Print what fits: the memory of a training step, predicted from a model's config.

    Nothing is fetched but the config of a hub's model, and nothing is trained.
    """
    from . import planning

    setting = planning.Setting(
        batch_size=batch, sequence_length=sequence, completion_length=completion,
        gradient_accumulation_steps=accumulation, rank=rank, devices=devices,
    )  # fmt: skip
    room = planning.read_bytes(gpu)
    show_plan(planning.plan(planning.read_config(model), room, setting), room, setting)


def show_plan(rows: list, room: float, setting) -> None:
    """Print a plan: a row a way of tuning, in GB on each device."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("GB on each device", "weights", "grad.", "optim.", "act.", "logits", "peak"):
        table.add_column(name, justify="right" if table.columns else "left", no_wrap=True)
    table.add_column("fits")
    table.add_column("rows", justify="right")
    for row in rows:
        numbers = (*vars(row.peak).values(), row.peak.total)
        cells = (f"{number / 1e9:.1f}" for number in numbers)
        table.add_row(row.name, *cells, "yes" if row.fits else "no", str(row.largest_batch))
    Console().print(table)
    print(
        f"The fullest moment of a step, {setting.batch_size} rows of {setting.sequence_length} "
        f"tokens at once on each of {setting.devices} × {room / 1e9:.1f} GB,\n"
        "a tenth of which stays free; under rows the most that fit. Recomputing is gradient "
        "checkpointing."
    )


@app.command()
def cache(
    action: Annotated[Action, typer.Argument()] = Action.list,
    name: Annotated[str | None, typer.Argument(help="Only the runs of this name.")] = None,
) -> None:
    """List the trained runs and results that are kept, or clear them."""
    from . import runcache

    if action is Action.clear:
        print(f"{runcache.clear(name) / 1e9:.1f} GB freed")
        return
    rows = [row for row in runcache.entries() if name in (None, row["name"])]
    if not rows:
        print("The run cache is empty." if name is None else f"The run cache has no run {name!r}.")
        return
    Console().print(_cache_table(rows))
    size, most = (_size(b) for b in (sum(row["bytes"] for row in rows), runcache.LIMIT_BYTES))
    print(f"{len(rows)} runs, {size}; of all weights at most {most} are kept.")


def _cache_table(rows: list[dict]) -> Table:
    table = Table("name", "key", "size", "date", "took")
    for column in table.columns[1:]:
        column.no_wrap = True
    table.columns[0].overflow = "fold"  # a name is shown whole, since it clears the run
    for row in rows:
        took = "–" if row["seconds"] is None else _duration(row["seconds"])
        table.add_row(escape(row["name"]), row["key"], _size(row["bytes"]), row["date"], took)
    return table


def _size(count: int) -> str:
    """Return a number of bytes as somebody reads it."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.1f} s"


def main() -> None:
    """Run the command; a WorkbookError becomes one line, with its notes, and exit status 1."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # consoles of Windows lack arrows and lines
    try:
        app()
    except SystemExit as end:
        if end.code == INTERRUPTED:
            print("\nworkbook: stopped.", file=sys.stderr)
        raise
    except WorkbookError as error:
        print(f"workbook: {error}", file=sys.stderr)
        for note in getattr(error, "__notes__", ()):  # what pip said, of a proxy for instance
            print(note, file=sys.stderr)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
