"""Claims about measured numbers: evaluate them, and compare them with the prose they stand for."""

import ast
import re

from workbook.authoring import build

FUNCTIONS = {f.__name__: f for f in (abs, all, any, len, max, min, round, sum)}
ALLOWED = (
    ast.Expression, ast.Compare, ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.Constant, ast.Name,
    ast.Subscript, ast.Slice, ast.Call, ast.List, ast.Tuple, ast.GeneratorExp, ast.ListComp,
    ast.comprehension, ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.expr_context,
)  # fmt: skip
NO_PROSE = re.compile(
    r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$\n]*\$"  # code and formulas
    r"|\]\([^)]*\)|https?://\S+|\b(?:arXiv:?\s*)?\d{4}\.\d{4,5}\b"  # links and papers
    r"|\b\d+\.\d+\.\d+\b",  # versions
    re.DOTALL | re.IGNORECASE,
)
NUMBER = r"[-−]?\d[\d,]*(?:\.\d+)?|\.\d+"
PERCENT = re.compile(rf"(?:({NUMBER})\s*(?:–|-|to|and|/)\s*)?({NUMBER})\s*(?:%|per cent|percent)")


# A prose that says of which runs or items it speaks.
THESE = re.compile(
    r"\b(?:these|this|your|one|each|every|both|all|two|three) (?:\w+ ){0,2}"
    r"(?:runs?|models?|seeds?|reviews|items|rows|sentences|questions)\b",
    re.IGNORECASE,
)


class ItemInterval(list):
    """[estimate, low, high] over items alone, which notes whether its ends were looked at."""

    used = False

    def __getitem__(self, index):
        if index in (1, 2):
            ItemInterval.used = True
        return super().__getitem__(index)


def noting(value):
    """Return measured values with each interval over items alone made to note its use."""
    if isinstance(value, dict):
        return {name: noting(each) for name, each in value.items()}
    if not isinstance(value, list):
        return value
    numbers = len(value) == 3 and all(isinstance(each, int | float) for each in value)
    if numbers and value[1] <= value[0] <= value[2]:
        return ItemInterval(value)
    return [noting(each) for each in value]


def rests_on_items(claim: str, measured: dict, recorded: dict) -> bool:
    """Return whether a claim uses the ends of an interval that covers no other training runs."""
    ItemInterval.used = False
    evaluate(claim, noting(measured), recorded)
    return ItemInterval.used


def evaluate(claim: str, measured: dict, recorded: dict) -> bool:
    """Return whether a claim holds; raises ValueError for anything but plain arithmetic."""
    tree = ast.parse(claim, mode="eval")
    for node in ast.walk(tree):
        is_call = isinstance(node, ast.Call)
        if not isinstance(node, ALLOWED) or is_call and not isinstance(node.func, ast.Name):
            raise ValueError(f"{ast.unparse(node)!r} is not allowed in the claim {claim!r}")
    names = {"__builtins__": {}, **FUNCTIONS, "measured": measured, "recorded": recorded}
    return bool(eval(compile(tree, "<claim>", "eval"), names))


def literals(claim: str) -> set[float]:
    """Return the numbers of a claim that its prose must show: no indices, digits, 0, 1 or 2."""
    return {round(value, 9) for value in _literals(ast.parse(claim, mode="eval"))}


def _literals(node: ast.AST):
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        if isinstance(node.value, float) or node.value > 2:
            yield node.value
        return
    is_round = isinstance(node, ast.Call) and getattr(node.func, "id", "") == "round"
    for child in ast.iter_child_nodes(node):
        is_index = isinstance(node, ast.Subscript) and child is node.slice
        is_digits = is_round and child is not node.args[0]
        if not is_index and not is_digits:
            yield from _literals(child)


def shown(text: str) -> tuple[set[float], set[float]]:
    """Return the numbers of a prose that need a claim (decimals, percentages), and all numbers."""
    prose = NO_PROSE.sub(" ", text)
    percentages = {_number(n) / 100 for found in PERCENT.findall(prose) for n in found if n}
    plain = PERCENT.sub(" ", prose)
    numbers = re.findall(rf"(?<![\w.])(?:{NUMBER})(?![\w])", plain)
    decimals = {_number(n) for n in numbers if "." in n}
    rounded = {round(value, 9) for value in percentages | decimals}
    return rounded, rounded | {round(_number(n), 9) for n in numbers}


def _number(text: str) -> float:
    return abs(float(text.replace(",", "").replace("−", "-").rstrip(".")))


def problems(notebook, measured: dict, recorded: dict) -> list[str]:
    """Return every claim that fails or stands for no prose, and every number without a claim."""
    found = []
    for number, cell in enumerate(notebook.cells, 1):
        if cell.cell_type == "markdown":
            found += [f"cell {number}: {problem}" for problem in _cell(cell, measured, recorded)]
    return found


def _is_python(claim: str) -> bool:
    try:
        return bool(ast.parse(claim, mode="eval"))
    except SyntaxError:
        return False


def _cell(cell, measured: dict, recorded: dict):
    claims = build.own(cell).get("claims", [])
    for claim in claims:
        try:
            if not evaluate(claim, measured, recorded):
                yield f"the claim {claim!r} is false"
            if not THESE.search(cell.source) and rests_on_items(claim, measured, recorded):
                yield f"the claim {claim!r} covers these runs alone: say so, or take run_interval"
        except (KeyError, IndexError, TypeError, ValueError, NameError, SyntaxError) as error:
            yield f"the claim {claim!r} cannot be evaluated: {error!r}"
    claimed = set().union(*(literals(claim) for claim in claims if _is_python(claim)))
    needed, present = shown(cell.source)
    if not build.own(cell).get("literature"):
        # A claim may call 81 % either 0.81 or 81.
        missing = {n for n in needed if not {n, round(n * 100, 9)} & claimed}
        yield from (f"{n:g} is in the prose and in no claim" for n in sorted(missing))
    present |= {round(n * 100, 9) for n in needed}
    yield from (f"{n:g} is in a claim and not in the prose" for n in sorted(claimed - present))
