"""Token F1: the words that a short answer shares with an accepted answer."""

import datasets
import evaluate
from workbook.metrics import token_f1


class TokenF1(evaluate.Metric):
    """Mean F1 of the words of each answer and the accepted answer that it is nearest to."""

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
        scores = [token_f1(answer, accepted, articles) for answer, accepted in pairs]
        return {"token_f1": sum(scores) / len(scores)}
