"""The finished projects of notebook 12: their scores follow from the answers kept beside them."""

import json

import numpy as np
import pytest

from workbook import grading, metrics, settings
from workbook.capstone import candidates

FOLDER = settings.notebooks_dir() / "recorded" / "projects"
PROJECTS = sorted(path.stem for path in FOLDER.glob("*.json"))


def read(name):
    return json.loads((FOLDER / f"{name}.json").read_text("utf-8"))


def score(kept, answers, truth):
    if kept["metric"] == "rouge":
        pairs = zip(answers, truth, strict=True)
        values = [grading.grade("rouge", answer, {"output": right}) for answer, right in pairs]
        return metrics.bootstrap_interval(values)
    assert kept["metric"] == "accuracy"
    return metrics.wilson(int(np.sum(np.array(answers) == truth)), len(truth))


def test_there_is_one_with_labels_and_one_with_texts():
    assert PROJECTS == ["12_departments", "12_summaries"]
    assert [bool(read(name)["labels"]) for name in PROJECTS] == [True, False]


@pytest.mark.parametrize("part", ["validation", "test"])
@pytest.mark.parametrize("name", PROJECTS)
def test_scores_follow_from_the_answers(name, part):
    kept = read(name)
    truth = kept["truth"][part]
    assert len(truth) == kept["rows"][part] >= 30
    assert kept[part].keys() == kept[f"{part}_scores"].keys()
    for method, told in kept[f"{part}_scores"].items():
        assert told == pytest.approx(list(score(kept, kept[part][method]["answers"], truth))), (
            method
        )


@pytest.mark.parametrize("name", PROJECTS)
def test_the_rule_chose_and_the_test_was_opened_for_that_alone(name):
    kept = read(name)
    scores = {way: found[0] for way, found in kept["validation_scores"].items()}
    assert kept["rule"] == candidates.RULE and kept["command"].startswith("workbook tune data/")
    assert kept["best_prompt"] == candidates.best_prompt(scores)
    opened = set(kept["test"]) & {*candidates.BY_COST}
    assert opened == {"zero-shot", kept["best_prompt"], kept["chosen"]}
    if kept["options"]["method"] == "auto":
        assert kept["chosen"] == candidates.choose({k: scores[k] for k in candidates.BY_COST})
