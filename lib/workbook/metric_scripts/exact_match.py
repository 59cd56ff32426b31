"""Exact match: the share of answers that equal an accepted answer after normalisation."""

import datasets
import evaluate
from workbook.metrics import exact_match


class ExactMatch(evaluate.Metric):
    """Exact match of a short answer with any of its accepted answers."""

    def _info(self):
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=__doc__,
            citation="",
            inputs_description="predictions: texts; references: lists of accepted texts",
            features=datasets.Features(predictions=text, references=datasets.List(text)),
        )

    def _compute(self, predictions, references, articles=False):
        pairs = zip(predictions, references, strict=True)
        hits = [exact_match(answer, accepted, articles) for answer, accepted in pairs]
        return {"exact_match": sum(hits) / len(hits)}
