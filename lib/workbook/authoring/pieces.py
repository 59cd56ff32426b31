"""Cut the cells of a notebook into pieces that fit a slide: paragraphs, tables, code, outputs.

Sizes here are estimates, in pixels of the 1280 x 720 frame of slide_templates/deck/deck.css; the
page shrinks what is still too tall by a little, and the browser tests measure every slide.
"""

import base64
import copy
import io
import itertools
import math
import re
from collections.abc import Callable, Iterable, Sequence

import nbformat
import nbformat.v4
from bs4 import BeautifulSoup
from PIL import Image

WORDS = 58  # on a slide; the browser tests count a little differently, and allow 60
PART_WORDS = 52  # of a part of a text, so that a heading has room above it
CODE_LINES = 15  # on a slide
ROWS = 10  # of a table on a slide
OUTPUT_LINES = 12  # of printed text on a slide
MOST = 3  # slides of one output; of a longer one the first part is shown
HEIGHT = 640  # pixels that a slide has
WIDTH = 74  # characters in a line of text
NARROW = 28  # the same beside a figure
CODE_WIDTH = 110  # characters in a line of code or of printed text, which may shrink for them
TABLE_HEIGHT = 480  # pixels of the rows
TABLE_WIDTH = 75  # characters in a row of a table that takes one line
FIGURE = 470  # pixels
WIDEST = 2.2  # width by height of a figure that can stand beside text

DRAWN = re.compile(r"<(?:img|svg)\b")
FENCE = re.compile(r"^(`{3,}|~{3,}).*?^\1[ \t]*$", re.DOTALL | re.MULTILINE)
DISPLAY = re.compile(r"^\$\$.*?\$\$[ \t]*$", re.DOTALL | re.MULTILINE)
ITEM = re.compile(r"(?:[-*+]|\d+[.)]) ")
BEGIN = r"[ \n]+(?=[A-Z가-힣\"*`(\[])"
SENTENCE = re.compile(rf"(?<=[.!?:;]){BEGIN}|(?<=[.!?][\")*`]){BEGIN}")
PAIRED = re.compile(r"`[^`]*`|\$[^$]*\$|\*\*[^*]*\*\*|\[[^\]]*\]\([^)]*\)")


# ------------------------------------------------------------------------------------- measuring


def count_words(text: str) -> int:
    """Return how many words a text has: what stands between blanks and has a letter."""
    return sum(any(map(str.isalpha, word)) for word in text.split())


def words(cell) -> int:
    """Return how many words of a cell the audience reads; code does not count."""
    if cell.cell_type == "markdown":
        text = DISPLAY.sub("", FENCE.sub("", cell.source))
        return count_words(re.sub(r"\]\([^)]*\)|[|#>]", " ", text))
    return sum(count_words(_shown_text(output)) for output in cell.get("outputs", []))


def code_lines(cell) -> int:
    """Return how many lines of code a cell shows."""
    if cell.cell_type == "markdown":
        return sum(len(match[0].splitlines()) - 2 for match in FENCE.finditer(cell.source))
    return len(cell.source.splitlines()) if cell.metadata.get("code") == "open" else 0


def height(cell, width: int = WIDTH) -> float:
    """Return about how many pixels a cell takes on a slide, in lines of so many characters."""
    if cell.cell_type == "markdown":
        return sum(_block_height(block, width) for block in blocks(cell.source))
    outputs = sum(_output_height(output) for output in cell.get("outputs", []))
    state = cell.metadata.get("code")
    return outputs + {"open": _code_height(cell.source), "closed": 38}.get(state, 0)


def has_figure(cell) -> bool:
    """Tell whether a cell shows a figure."""
    return any(map(is_figure, cell.get("outputs", [])))


def is_figure(output) -> bool:
    """Tell whether an output is a figure."""
    data = output.get("data", {})
    drawn = DRAWN.search(data.get("text/html", ""))
    return bool(drawn) or any(kind.startswith("image/") for kind in data)


def is_wide(cell) -> bool:
    """Tell whether a cell shows a figure that is too wide to stand beside text."""
    sizes = [_size(output.get("data", {})) for output in cell.get("outputs", [])]
    return any(size and size[0] > WIDEST * size[1] for size in sizes)


def _size(data: dict) -> tuple[int, int] | None:
    inside = re.search(r"data:image/png;base64,([^\"]+)", data.get("text/html", ""))
    text = data.get("image/png") or (inside[1] if inside else None)
    try:
        return Image.open(io.BytesIO(base64.b64decode(text))).size if text else None
    except OSError:
        return None  # no picture that could be measured


def _code_height(code: str) -> float:
    return 38 + 28.4 * _wrapped(code, CODE_WIDTH)


def _wrapped(text: str, width: int) -> int:
    """Return how many lines a text takes where each has so many characters."""
    return sum(max(1, math.ceil(len(line) / width)) for line in text.splitlines())


def _block_height(block: str, width: int) -> float:
    if found := re.match(r"(#{1,6}) ", block):
        line, room = {1: (69, 76), 2: (51, 16)}.get(len(found[1]), (43, 16))
        return room + line * math.ceil(len(block) / (width * 0.6))
    if FENCE.match(block):
        return _code_height("\n".join(block.splitlines()[1:-1]))
    if block.startswith("|"):
        return 14 + sum(11 + 31 * lines for lines in map(_row_lines, block.splitlines()))
    if block.startswith("$$"):
        return 90
    lines = _items(block) if ITEM.match(block) else [block]
    line = 42 if width == WIDTH else 36.4
    return 14 + sum(6 + line * math.ceil(len(" ".join(x.split())) / width) for x in lines)


def _row_lines(row: str) -> int:
    """Return about how many lines a row of a table takes: its columns share the width."""
    cells = [len(cell.strip()) for cell in row.strip().strip("|").split("|")]
    total = sum(cells)
    return max(1, math.ceil(total / TABLE_WIDTH)) if total else 1


def _output_height(output) -> float:
    if is_figure(output):
        return FIGURE + 12
    data = output.get("data", {})
    if "<tr" in data.get("text/html", ""):
        rows = BeautifulSoup(data["text/html"], "html.parser").select("tr")
        return 14 + len(rows) * _row_height(rows)
    if "text/html" in data:
        return 20 + 42 * math.ceil(len(_shown_text(output)) / WIDTH)
    return 14 + 28.4 * _wrapped(_shown_text(output), CODE_WIDTH)


def _row_height(rows) -> float:
    """Return about how many pixels a row of an HTML table takes, whose columns share the width."""
    longest = max(len(" ".join(row.get_text(" ").split())) for row in rows)
    return 11 + 31 * math.ceil(longest / TABLE_WIDTH)


def _shown_text(output) -> str:
    data = output.get("data", {})
    if is_figure(output):
        return ""
    if "text/html" not in data:
        return output.get("text", data.get("text/plain", ""))
    soup = BeautifulSoup(data["text/html"], "html.parser")
    for hidden in [*soup.select("style"), *soup.select("details > :not(summary)")]:
        hidden.extract()
    for tag in soup.find_all(["p", "td", "th", "tr", "summary", "div", "br", "li"]):
        tag.append(" ")
    return soup.get_text()


# ------------------------------------------------------------------------------- cutting Markdown


def blocks(text: str) -> list[str]:
    """Return the blocks of a Markdown text: headings, paragraphs, lists, tables, code, formulas."""
    found, end = [], 0
    whole = sorted(
        [*FENCE.finditer(text), *DISPLAY.finditer(text)], key=lambda match: match.start()
    )
    for match in whole:
        if match.start() >= end:
            found += [*_plain_blocks(text[end : match.start()]), match[0]]
            end = match.end()
    return [*found, *_plain_blocks(text[end:])]


def _plain_blocks(text: str) -> list[str]:
    """Return the blocks of a text without code: a list or a table may follow its lead at once."""
    found = []
    for chunk in re.split(r"\n[ \t]*\n", text):
        for kind, lines in itertools.groupby(
            _kinds(chunk.strip("\n").splitlines()), lambda x: x[0]
        ):
            block = "\n".join(line for _, line in lines)
            is_more = kind == "list" and found and ITEM.match(found[-1])
            if is_more:  # a list with empty lines between its items
                found[-1] += "\n" + block
            elif block.strip():
                found.append(block)
    return found


def _kinds(lines: Sequence[str]) -> Iterable[tuple[str, str]]:
    kind = ""
    for line in lines:
        if line.startswith("|"):
            kind = "table"
        elif re.match(r"#{1,6} ", line):
            kind = f"heading {line}"
        elif ITEM.match(line):
            kind = "list"
        elif kind != "list" or not line.startswith(" "):
            kind = "text"
        yield kind, line


def cut_block(block: str) -> list[str]:
    """Return a Markdown block as several of at most PART_WORDS words each, where it can be cut."""
    if FENCE.match(block):
        first, *code, last = block.splitlines()
        return [f"{first}\n{part}\n{last}" for part in cut_code("\n".join(code))]
    if block.startswith(("#", "$$", "<")):
        return [block]
    if block.startswith("|"):
        head, rule, *rows = block.splitlines()
        parts = _balanced(rows, count_words, max(PART_WORDS - count_words(head), 1), ROWS)
        return ["\n".join([head, rule, *part]) for part in parts]
    if ITEM.match(block):
        return ["\n".join(part) for part in _balanced(_items(block), count_words, PART_WORDS)]
    return [" ".join(part) for part in _balanced(_sentences(block), count_words, PART_WORDS)]


def _items(block: str) -> list[str]:
    items: list[str] = []
    for line in block.splitlines():
        if ITEM.match(line) or not items:
            items.append(line)
        else:
            items[-1] += "\n" + line
    return items


def _sentences(text: str) -> list[str]:
    """Return the sentences of a paragraph; none ends inside code, a formula, bold text, a link."""
    inside = [match.span() for match in PAIRED.finditer(text)]
    cuts = [match.span() for match in SENTENCE.finditer(text)]
    cuts = [(a, b) for a, b in cuts if not any(start < a < end for start, end in inside)]
    starts = [0, *(b for _, b in cuts)]
    ends = [*(a for a, _ in cuts), len(text)]
    return [text[a:b] for a, b in zip(starts, ends, strict=True)]


def _balanced(units: Sequence, size: Callable, most: int, count: int = 10**6) -> list[list]:
    """Return the units in the fewest groups under both limits, as equal as that allows."""
    parts = _filled(units, size, most, count)
    for limit in range(most):
        tighter = _filled(units, size, limit, count)
        if len(tighter) == len(parts) and max(map(_total(size), tighter)) <= limit:
            return tighter
    return parts


def _total(size: Callable) -> Callable:
    return lambda part: sum(map(size, part))


def _filled(units: Sequence, size: Callable, most: int, count: int) -> list[list]:
    parts: list[list] = []
    for unit in units:
        if not parts or len(parts[-1]) == count or _total(size)([*parts[-1], unit]) > most:
            parts.append([])
        parts[-1].append(unit)
    return parts


def cut_code(code: str) -> list[str]:
    """Return code as parts of at most CODE_LINES lines, cut at empty lines where there are any."""
    paragraphs = [part.strip("\n") for part in re.split(r"\n[ \t]*\n", code.strip("\n"))]
    short = [
        "\n".join(lines)
        for part in paragraphs
        for lines in _balanced(part.splitlines(), lambda line: 1, CODE_LINES)
    ]
    parts = _balanced(short, lambda part: len(part.splitlines()) + 1, CODE_LINES + 1)
    return ["\n\n".join(part) for part in parts]


# --------------------------------------------------------------------------------- cutting cells


def cut(cell) -> list:
    """Return a cell as pieces, each no more than a slide holds, the first with the cell's marks.

    A code cell knows whether its code is shown from `metadata.code`: open, closed or none.
    """
    if cell.metadata.get("slideshow", {}).get("slide_type") == "notes":
        return [cell]
    pieces = _cut_markdown(cell.source) if cell.cell_type == "markdown" else _cut_code_cell(cell)
    marks = copy.deepcopy(cell.metadata)
    pieces[0].metadata = nbformat.from_dict({**marks, **pieces[0].metadata})
    for number, piece in enumerate(pieces):
        piece.metadata.update({key: marks[key] for key in ("place",) if key in marks})
        piece.id = cell.id if number == 0 else f"{cell.id}-{number}"
    return pieces


def _cut_markdown(text: str) -> list:
    parts = [part for block in blocks(text) for part in cut_block(block)]
    return [nbformat.v4.new_markdown_cell(part) for part in parts or [text]]


def _cut_code_cell(cell) -> list:
    outputs = [part for output in _joined(cell.get("outputs", [])) for part in cut_output(output)]
    if cell.metadata.code == "open" and "exercise" not in cell.metadata.get("workbook", {}):
        code = [_piece(part, "open") for part in cut_code(cell.source)]
        return [*code, *map(_output_piece, outputs)]
    first, *rest = map(_output_piece, outputs) if outputs else [_piece("", "none")]
    shown = _piece(cell.source, cell.metadata.code)
    if first.cell_type == "markdown" and cell.metadata.code == "none":
        return [first, *rest]
    if first.cell_type == "markdown":
        return [shown, first, *rest]
    shown.outputs = first.outputs
    return [shown, *rest]


def _piece(source: str, code: str, outputs=()):
    piece = nbformat.v4.new_code_cell(source, outputs=list(outputs))
    piece.metadata = nbformat.from_dict({"code": code})
    return piece


def _output_piece(output):
    text = output.get("data", {}).get("text/markdown")
    return nbformat.v4.new_markdown_cell(text) if text else _piece("", "none", [output])


def _joined(outputs) -> list:
    """Return the outputs with printed text that follows printed text as one."""
    joined: list = []
    for output in outputs:
        if joined and output.get("name") == joined[-1].get("name") == "stdout":
            joined[-1] = nbformat.v4.new_output(
                "stream", name="stdout", text=joined[-1].text + output.text
            )
        else:
            joined.append(output)
    return joined


def cut_output(output) -> list:
    """Return an output as the parts that are shown; the first alone, with a note, of a long one."""
    data = output.get("data", {})
    if is_figure(output):
        return [output]
    if "text/markdown" in data:
        return _first(_cut_text_blocks(data["text/markdown"]), _markdown_output)
    if "<table" in data.get("text/html", ""):
        return _first(_cut_table(_without_folded(data["text/html"])), _html_output)
    if "<details" in data.get("text/html", ""):
        return list(map(_html_output, _cut_questions(data["text/html"])))
    if "text/html" in data:
        return [output]
    return _first(_cut_printed(output.get("text", data.get("text/plain", ""))), _text_output)


def _without_folded(html: str) -> str:
    """Return HTML without its folded boxes: what is not worth a look on the page is none here."""
    soup = BeautifulSoup(html, "html.parser")
    for box in soup.select("details"):
        box.extract()
    return str(soup)


def _first(parts: list[tuple[str, int]], make: Callable) -> list:
    """Make outputs of all parts, or of the first with a note on what is left out."""
    if len(parts) <= MOST:
        return [make(text) for text, _ in parts]
    left = sum(size for _, size in parts[1:])
    return [make(parts[0][0], f"… and {left} more: the page has them all.")]


def _markdown_output(text: str, note: str = ""):
    return nbformat.v4.new_output("display_data", {"text/markdown": f"{text}\n\n{note}".strip()})


def _html_output(text: str, note: str = ""):
    more = f'<p class="more">{note}</p>' if note else ""
    return nbformat.v4.new_output("display_data", {"text/html": text + more})


def _text_output(text: str, note: str = ""):
    return nbformat.v4.new_output("stream", name="stdout", text=f"{text}\n{note}".strip("\n"))


def _cut_text_blocks(text: str) -> list[tuple[str, int]]:
    parts = [part for block in blocks(text) for part in cut_block(block)]
    return [(part, max(1, len(part.splitlines()) - 2)) for part in parts]


def _cut_printed(text: str) -> list[tuple[str, int]]:
    """Return printed text in parts, cut at empty lines where that is possible."""
    paragraphs = re.split(r"\n[ \t]*\n", text.strip("\n"))
    units = [
        "\n".join(lines)
        for paragraph in paragraphs
        for lines in _balanced(paragraph.splitlines(), count_words, PART_WORDS, OUTPUT_LINES)
    ]
    parts = [[]]
    for unit in units:
        tried = "\n\n".join([*parts[-1], unit])
        if parts[-1] and (
            count_words(tried) > PART_WORDS or _wrapped(tried, CODE_WIDTH) > OUTPUT_LINES + 2
        ):
            parts.append([])
        parts[-1].append(unit)
    texts = ["\n\n".join(part) for part in parts]
    return [(part, len([line for line in part.splitlines() if line.strip()])) for part in texts]


def _cut_table(html: str) -> list[tuple[str, int]]:
    """Return an HTML table as several with the same head, the text before it in the first."""
    soup = BeautifulSoup(html, "html.parser")
    rows = [row for row in soup.select("tr") if row.find("td")]

    def size(row):
        return count_words(row.get_text(" "))

    above = [*soup.select("p"), *(row for row in soup.select("tr") if not row.find("td"))]
    room = max(PART_WORDS - sum(map(size, above)), 1)
    for row in rows:
        _abridge(row, room)
    count = max(1, min(ROWS, int(TABLE_HEIGHT / _row_height(soup.select("tr")))))
    parts = _balanced(range(len(rows)), lambda place: size(rows[place]), room, count)
    html = str(soup)
    return [(_table_rows(html, part, is_first=part[0] == 0), len(part)) for part in parts]


def _abridge(row, room: int) -> None:
    """Cut the cells of a row that alone is too much, so that each keeps its beginning."""
    cells = row.find_all("td")
    if count_words(row.get_text(" ")) <= room:
        return
    for cell in cells:
        words = cell.get_text(" ").split()
        if len(words) > room // len(cells):
            cell.string = " ".join([*words[: room // len(cells)], "…"])


def _table_rows(html: str, wanted: Sequence[int], is_first: bool) -> str:
    soup = BeautifulSoup(html, "html.parser")
    for place, row in enumerate(row for row in soup.select("tr") if row.find("td")):
        if place not in wanted:
            row.extract()
    if not is_first:
        for paragraph in soup.select("p"):
            paragraph.extract()
    for heading in soup.select("th"):
        if not heading.get_text().strip():
            heading.name = "td"  # a heading says something
    return str(soup)


def _cut_questions(html: str) -> list[str]:
    """Return folded boxes in parts, a new one at each paragraph: a question or what leads to it."""
    soup = BeautifulSoup(html, "html.parser")
    outer = soup.find("div") or soup
    parts: list[list[str]] = [[]]
    for tag in outer.find_all(recursive=False):
        if tag.name != "details" and parts[-1]:
            parts.append([])
        parts[-1].append(str(tag))
    return [f"<div>{''.join(part)}</div>" for part in parts]
