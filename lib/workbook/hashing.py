"""Hashes of code that comments, layout and docstrings do not change."""

import ast
import hashlib
import json
import textwrap
from collections.abc import Collection


def code_hash(source: str, ignored_arguments: Collection[str] = (), imports: bool = True) -> str:
    """Return the SHA-256 of Python code, blind to comments, layout, docstrings, named arguments.

    Without `imports` it is blind to import lines too: a module that moved changes no number.
    """
    tree = ast.parse(textwrap.dedent(source))
    text = json.dumps(_shape(tree, ignored_arguments, imports), default=repr, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _shape(node, ignored, imports):
    # Not ast.dump, whose text differs between versions of Python.
    if isinstance(node, list):
        kept = (item for item in node if not _is_left_out(item, ignored, imports))
        return [_shape(item, ignored, imports) for item in kept]
    if not isinstance(node, ast.AST):
        return node
    fields = {name: _shape(value, ignored, imports) for name, value in ast.iter_fields(node)}
    filled = {name: value for name, value in fields.items() if value not in (None, [])}
    return [type(node).__name__, filled]


def _is_left_out(node, ignored, imports):
    text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    is_import = not imports and isinstance(node, ast.Import | ast.ImportFrom)
    return text or is_import or (isinstance(node, ast.keyword) and node.arg in ignored)
