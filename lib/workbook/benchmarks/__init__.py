"""Benchmarks that others publish scores of, with prompts and scoring of lm-evaluation-harness.

ARC, HellaSwag, MMLU and TruthfulQA, and small sets of our own in the same schemas. Nothing of the
harness is imported: the tests ask both the same questions and compare each log-likelihood.
"""

from .evaluation import Result, evaluate, log_likelihoods
from .loading import Benchmark, load
from .questions import Question
from .registry import names

__all__ = ["Benchmark", "Question", "Result", "evaluate", "load", "log_likelihoods", "names"]
