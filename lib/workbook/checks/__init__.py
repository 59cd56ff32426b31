"""The self-checks below the exercises, one module a notebook, and the quizzes."""

import importlib
import pkgutil

from .quizzes import questions, quiz
from .record import table, write_record
from .report import progress, quiz_results, titles, yours

__all__ = [
    "progress", "questions", "quiz", "quiz_results", "table", "titles", "write_record", "yours",
]  # fmt: skip

for _module in pkgutil.iter_modules(__path__):
    if _module.name.startswith("nb"):
        importlib.import_module(f".{_module.name}", __name__)
