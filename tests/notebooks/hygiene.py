"""The anatomy of a notebook as checks: each takes a notebook and yields what is wrong with it."""

import itertools
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path

from workbook.authoring import build, execute
from workbook.checks import quizzes

SAMPLE = Path(__file__).parent / "fixtures" / "99_sample.py"
MAX_PROSE_LINES = 6
MAX_CODE_LINES = 18
LINE_WIDTH = 100
PASSED = "✓"
STUDY = re.compile(
    r"\*\*Minutes:?\*\*:? (\d+) to study"
    r"(?: \(of which (\d+) on\s+exercises\))?,\s+(\d+) as a\s+talk"
)
STATED = {
    "Difficulty": "easy|medium|hard",
    "Importance": "medium|high|very high",
    "Minutes": r"\d+",
}
HIDDEN = re.compile(r"<details>.*?</details>", re.DOTALL)
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
MARKDOWN_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)[^)]*\)")
HTML_IMAGE = re.compile(r"<img\b[^>]*>")
QUIZ = re.compile(r'^checks\.quiz\("(\d\d)"\)$', re.MULTILINE)

CHECKS = {}


def check(function):
    """Register a check under its name."""
    CHECKS[function.__name__] = function
    return function


def problems(notebook, path: Path, exempt=()) -> list[str]:
    """Return what every check but the exempt ones finds wrong with a notebook kept at `path`."""
    chosen = (function for name, function in CHECKS.items() if name not in exempt)
    return [f"{f.__name__}: {found}" for f in chosen for found in f(notebook, path)]


def markdown(notebook) -> list[str]:
    """Return the texts of the markdown cells."""
    return [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]


def outputs(notebook) -> Iterator[tuple[int, dict]]:
    """Yield each output with the number of its cell."""
    for number, cell in enumerate(notebook.cells, 1):
        for output in cell.get("outputs", []):
            yield number, output


def slide_type(cell) -> str:
    """Return the part that a cell has in the talk."""
    return cell.metadata.get("slideshow", {}).get("slide_type", "-")


def section(notebook, title: str) -> str | None:
    """Return the text below a heading, up to the next one, or None where it is missing."""
    text = "\n\n".join(markdown(notebook))
    found = re.search(
        rf"^#+ {title}\s*$(.*?)(?=^#|\Z)", text, re.DOTALL | re.MULTILINE | re.IGNORECASE
    )
    return found and found[1]


def prose_lines(text: str) -> int:
    """Return how many lines the prose fills on screen: no headings, tables, code, hidden parts."""
    visible = FENCE.sub("", HIDDEN.sub("", text))
    total = 0
    for block in re.split(r"\n\s*\n|\n(?=\s*(?:[-*+]|\d+\.|#+|\|) )", visible):
        line = " ".join(block.split())
        if line and not line.startswith(("#", "|", "<!--", "![", "<img")):
            total += math.ceil(len(line) / LINE_WIDTH)
    return total


@check
def opening(notebook, path):
    """The first cell has a title and a promise; objectives, minutes, prerequisites follow."""
    first = notebook.cells[0]
    lines = [line for line in first.source.splitlines() if line.strip()]
    if first.cell_type != "markdown" or not re.match(r"# \S", first.source):
        yield "the first cell is no title (`# …`)"
    elif len(lines) < 2 or lines[1].startswith("#"):
        yield "the title is not followed by a one-sentence promise"
    labels = " ".join(
        re.findall(r"^#+ .*$|\*\*.+?\*\*", "\n".join(markdown(notebook)), re.MULTILINE)
    )
    for word in ("objectives", "minutes", "prerequisites"):
        if not re.search(rf"\b{word}\b", labels, re.IGNORECASE):
            yield f"no heading or bold label names the {word}"


@check
def prose_length(notebook, path):
    """At most six lines of prose stand between two code cells; a reading list is none."""
    first_code = next((i for i, c in enumerate(notebook.cells) if c.cell_type == "code"), 0)
    lines = 0
    for number, cell in enumerate(notebook.cells[first_code:], first_code + 1):
        if cell.cell_type == "code":
            if lines > MAX_PROSE_LINES:
                yield f"{lines} lines of prose before the code cell {number}"
            lines = 0
        elif not cell.source.startswith("## Further reading"):
            lines += prose_lines(cell.source)


@check
def code_length(notebook, path):
    """Code cells are short, but for those tagged `long`."""
    for number, cell in enumerate(notebook.cells, 1):
        lines = len(cell.source.splitlines())
        is_long = "long" in cell.metadata.get("tags", [])
        if cell.cell_type == "code" and lines > MAX_CODE_LINES and not is_long:
            yield f"cell {number} has {lines} lines: at most {MAX_CODE_LINES}"


@check
def exercises(notebook, path):
    """Three to six exercises, each with its statement, its check right below, and two hints."""
    numbers = [i for i, cell in enumerate(notebook.cells) if "exercise" in build.own(cell)]
    if not 3 <= len(numbers) <= 6:
        yield f"{len(numbers)} exercises: three to six"
    for i in numbers:
        yield from exercise(notebook, i)


def exercise(notebook, i: int) -> Iterator[str]:
    """Yield what is wrong around the exercise in cell `i`, counted from zero."""
    name = build.own(notebook.cells[i])["exercise"]
    statement, below = texts_before(notebook, i), texts_after(notebook, i + 1)
    stated = statement.replace("*", "")
    for word, values in STATED.items():
        found = re.search(rf"\b{word}: ([\w ]+)\.", stated)
        if not found:
            yield f"exercise {name} does not state its {word.lower()}"
        elif not re.fullmatch(values, found[1]):
            yield f"exercise {name} has the {word.lower()} {found[1]!r}: choose from {values}"
    if i + 1 == len(notebook.cells) or build.own(notebook.cells[i + 1]).get("check") != name:
        yield f"exercise {name} has no check right below it"
    wanted = ["Hint 1", "Hint 2"]
    if notebook.metadata["workbook"]["edition"] == "learner":
        wanted.append("Solution")
    for summary in wanted:
        if f"<summary>{summary}</summary>" not in statement + below:
            yield f"exercise {name} has no closed {summary}"


def texts_before(notebook, i: int) -> str:
    """Return the markdown between the last code cell before cell `i` and cell `i`."""
    start = max((j for j in range(i) if notebook.cells[j].cell_type == "code"), default=-1)
    return "\n".join(cell.source for cell in notebook.cells[start + 1 : i])


def texts_after(notebook, i: int) -> str:
    """Return the markdown between cell `i` and the next code cell."""
    later = range(i + 1, len(notebook.cells))
    stop = next((j for j in later if notebook.cells[j].cell_type == "code"), len(notebook.cells))
    return "\n".join(cell.source for cell in notebook.cells[i + 1 : stop])


@check
def minutes(notebook, path):
    """The header's minutes are those of the exercises and of the slides, added up."""
    header = STUDY.search("\n".join(markdown(notebook)))
    if not header:
        yield "the header does not say `N to study (of which E on exercises), T as a talk`"
        return
    study, exercises, talk = (int(number or 0) for number in header.groups())
    stated = "\n".join(markdown(notebook)).replace("*", "")
    asked = sum(int(n) for n in re.findall(r"Importance: [\w ]+\. Minutes: (\d+)\.", stated))
    told = sum(build.own(cell).get("minutes", 0) for cell in notebook.cells)
    if exercises != asked or study < asked:
        yield f"the exercises take {asked} minutes by their own word, the header says {exercises}"
    if talk != round(told):
        yield f"the slides take {told:g} minutes by their own word, the header says {talk}"


@check
def quiz(notebook, path):
    """There is a quiz, and the solved edition shows it as the library has it now."""
    found = [(c, QUIZ.search(c.source)) for c in notebook.cells if c.cell_type == "code"]
    asked = [(cell, match[1]) for cell, match in found if match]
    if not asked:
        yield 'no cell calls `checks.quiz("NN")`'
    for cell, number in asked:
        shown = [output.get("data") for output in cell.get("outputs", [])]
        if any(data != quizzes.rendered(number) for data in shown):
            yield f"the quiz {number} has changed since: run the notebook again"


@check
def measurements(notebook, path):
    """There is a section on what was measured, and the solved edition shows the numbers."""
    if section(notebook, "What we measured") is None:
        yield "no heading `What we measured`"
    is_executed = any(True for _ in outputs(notebook))
    if is_executed and execute.measured(notebook) is None:
        yield f"no output of the type {execute.MEASURED}"


@check
def headline(notebook, path):
    """The headline is a sentence that can be read without the page, not the name of a value."""
    found = execute.measured(notebook)
    if found and found["headline"] in found["values"]:
        yield f"{found['headline']!r} alone says nothing to who has not read the page: a sentence"


@check
def memory(notebook, path):
    """The last cell gives the memory back."""
    if "memory.free_notebook()" not in notebook.cells[-1].source:
        yield "the last cell does not call `memory.free_notebook()`"


@check
def further_reading(notebook, path):
    """Further reading lists works with their years and arXiv ids."""
    text = section(notebook, "Further reading")
    if text is None:
        yield "no heading `Further reading`"
        return
    items = re.findall(r"^\s*[-*] .*(?:\n(?!\s*[-*] |\n).+)*", text, re.MULTILINE)
    if not re.search(r"\b\d{4}\.\d{4,5}\b", text):
        yield "no arXiv id in the further reading"
    for item in items:
        if not re.search(r"\b(19|20)\d\d\b", re.sub(r"\d{4}\.\d{4,5}", "", item)):
            yield f"no year in {item.strip()!r}"


@check
def slides(notebook, path):
    """There are slides, each with its minutes, and speaker notes in the edition for instructors."""
    is_solved = notebook.metadata["workbook"]["edition"] == "solved"
    starts = [i for i, cell in enumerate(notebook.cells) if slide_type(cell) == "slide"]
    if not starts:
        yield "no slide"
    for start, stop in itertools.pairwise([*starts, len(notebook.cells)]):
        if not build.own(notebook.cells[start]).get("minutes", 0) > 0:
            yield f"the slide in cell {start + 1} has no minutes"
        noted = any(slide_type(cell) == "notes" for cell in notebook.cells[start:stop])
        if is_solved and not noted:
            yield f"the slide in cell {start + 1} has no speaker notes"


@check
def alternative_text(notebook, path):
    """Every picture has an alternative text."""
    for number, output in outputs(notebook):
        for kind in (key for key in output.get("data", {}) if key.startswith("image/")):
            alt = output.get("metadata", {}).get(kind, {}).get("alt", "")
            if len(alt.strip()) < 20:
                yield f"the picture of cell {number} has no alternative text of 20 characters"
        html = "".join(output.get("data", {}).get("text/html", ""))
        yield from (f"cell {number}: {tag[:60]} has no alt" for tag in bare_images(html))
    for text in markdown(notebook):
        yield from (f"{tag[:60]} has no alt" for tag in bare_images(text))
        for mark, alt, target in MARKDOWN_LINK.findall(text):
            if mark and not alt.strip():
                yield f"the picture {target} has no alternative text"


def bare_images(html: str) -> list[str]:
    """Return the image tags without an alternative text."""
    return [tag for tag in HTML_IMAGE.findall(html) if not re.search(r'\balt="[^"]+"', tag)]


@check
def clean_outputs(notebook, path):
    """No output is an error or a warning."""
    for number, output in outputs(notebook):
        if output["output_type"] == "error":
            yield f"cell {number} raised {output['ename']}: {output['evalue']}"
        elif output.get("name") == "stderr":
            yield f"cell {number} wrote to stderr: {output['text'].strip()[:300]}"


@check
def checks_answer(notebook, path):
    """Once executed, every check answers: the solution passes it, the stub does not."""
    is_executed = any(True for _ in outputs(notebook))
    is_solved = notebook.metadata["workbook"]["edition"] == "solved"
    for cell in notebook.cells if is_executed else []:
        if name := build.own(cell).get("check"):
            has_passed = PASSED in json.dumps(cell.outputs, ensure_ascii=False)
            if not cell.outputs:
                yield f"the check {name} is silent"
            elif has_passed != is_solved:
                fault = "the solution does not pass" if is_solved else "the stub passes"
                yield f"{fault} the check {name}"


@check
def links(notebook, path):
    """Links to notebooks, headings and files lead somewhere."""
    for text in markdown(notebook):
        for _, _, target in MARKDOWN_LINK.findall(FENCE.sub("", text)):
            if not re.match(r"\w+:", target) and not resolves(target, notebook, path):
                yield f"the link {target} leads nowhere"


def resolves(target: str, notebook, path: Path) -> bool:
    """Tell whether a relative link of a notebook kept at `path` leads to a file and heading."""
    name, _, anchor = target.partition("#")
    texts = markdown(notebook)
    if name:
        place = path.parent / name
        if not anchor or place.suffix != ".ipynb":
            return place.exists()
        cells = json.loads(place.read_text(encoding="utf-8"))["cells"] if place.exists() else []
        texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    return anchor in anchors("\n".join(texts))


def anchors(text: str) -> set[str]:
    """Return the anchors that JupyterLab makes of the headings, and those set by hand."""
    headings = re.findall(r"^#+ (.+?)\s*$", FENCE.sub("", text), re.MULTILINE)
    return {h.replace("`", "").replace(" ", "-") for h in headings} | set(
        re.findall(r'\bid="([^"]+)"', text)
    )


@check
def machine_paths(notebook, path):
    """No text or output names a folder of the machine it was made on."""
    for number, cell in enumerate(notebook.cells, 1):
        shown = [strip_images(output) for output in cell.get("outputs", [])]
        text = cell.source + json.dumps(shown, ensure_ascii=False)
        if found := execute.MACHINE_PATH.search(text):
            yield f"cell {number} names {found[0]!r}"


def strip_images(output) -> dict:
    """Return an output without its pictures, whose base64 may look like anything."""
    data = {k: v for k, v in output.get("data", {}).items() if not k.startswith("image/")}
    text = json.dumps({**output, "data": data}, ensure_ascii=False)
    return json.loads(re.sub(r"data:image/[^\"'\\]+", "", text))
