"""ROUGE: the overlap of a text with a reference in words, word pairs and word order."""

import datasets
import evaluate
import numpy
from workbook.metrics import rouge


class Rouge(evaluate.Metric):
    """Mean F-measure of ROUGE-1, ROUGE-2 and ROUGE-L (Lin 2004), without stemming."""

    def _info(self):
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=__doc__,
            citation="",
            inputs_description="predictions, references: one text per item",
            features=datasets.Features(predictions=text, references=text),
        )

    def _compute(self, predictions, references):
        scores = [rouge(*pair) for pair in zip(predictions, references, strict=True)]
        return {kind: numpy.mean([score[kind].fmeasure for score in scores]) for kind in scores[0]}
