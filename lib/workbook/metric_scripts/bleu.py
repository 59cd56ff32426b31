"""BLEU: the n-grams of words that the answers share with good ones, over all answers."""

import datasets
import evaluate
import sacrebleu
from workbook.metrics import reference_streams


class Bleu(evaluate.Metric):
    """BLEU of a set of answers, between 0 and 1 (Papineni et al. 2002), by sacrebleu."""

    def _info(self):
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=__doc__,
            citation="",
            inputs_description="predictions: texts; references: lists of good texts",
            features=datasets.Features(predictions=text, references=datasets.List(text)),
        )

    def _compute(self, predictions, references):
        score = sacrebleu.corpus_bleu(predictions, reference_streams(references)).score
        return {"bleu": score / 100}
