"""The self-checks below the exercises, one module a notebook, and the quizzes."""

import importlib
import pkgutil

from .quizzes import questions, quiz
from .report import progress, table, yours

__all__ = ["progress", "questions", "quiz", "table", "yours"]

for _module in pkgutil.iter_modules(__path__):
    if _module.name.startswith("nb"):
        importlib.import_module(f".{_module.name}", __name__)
