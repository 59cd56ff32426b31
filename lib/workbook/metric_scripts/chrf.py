"""chrF: the n-grams of letters that the answers share with good ones, over all answers."""

import datasets
import evaluate
import sacrebleu
from workbook.metrics import reference_streams


class Chrf(evaluate.Metric):
    """chrF of a set of answers, between 0 and 1 (Popović 2015), by sacrebleu."""

    def _info(self):
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=__doc__,
            citation="",
            inputs_description="predictions: texts; references: lists of good texts",
            features=datasets.Features(predictions=text, references=datasets.List(text)),
        )

    def _compute(self, predictions, references):
        score = sacrebleu.corpus_chrf(predictions, reference_streams(references)).score
        return {"chrf": score / 100}
