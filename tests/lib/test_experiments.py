"""The shared runs: trained once, found again, and the same as notebook 03 spells out."""

import pytest

from workbook import experiments, models, settings, tasks
from workbook.errors import WorkbookError


@pytest.fixture
def course(cache, tiny_model, tiny_tokenizer, monkeypatch):
    """A tiny model that loads afresh each time, authored rows in place of reviews."""
    weights = models.snapshot(tiny_model)

    def load():
        models.restore(tiny_model, weights)
        return tiny_model, tiny_tokenizer

    monkeypatch.setattr(experiments.models, "load", load)
    monkeypatch.setenv("WORKBOOK_SCALE", "smoke")
    run = {**experiments.RUNS["sentiment-full"], "task": "topic"}
    monkeypatch.setitem(experiments.RUNS, "topic-full", run)
    return tasks.load_task("topic")


def test_a_shared_run_is_trained_once(course, capsys):
    first, _, history = experiments.load("topic-full")
    tuned = models.snapshot(first)
    again, _, known = experiments.load("topic-full")
    assert "from the run cache" in capsys.readouterr().out
    assert history.steps == known.steps and len(history.steps) == 2
    assert all((tuned[name] == weight).all() for name, weight in again.named_parameters())


def test_it_learns_from_train_and_is_watched_by_validation(course, tiny_tokenizer):
    train = experiments.encoded("topic-full", tiny_tokenizer, "train")
    watched = experiments.encoded("topic-full", tiny_tokenizer, "validation")
    assert len(train) == len(watched) == 16
    template = course.template("question")
    prompts = {template.render(row).prompt for row in course.splits["train"]}
    texts = [tiny_tokenizer.decode(example["input_ids"]) for example in train]
    assert all(any(prompt in text for prompt in prompts) for text in texts)


def test_an_unknown_run_is_refused():
    with pytest.raises(WorkbookError, match="choose one of sentiment-full"):
        experiments.load("sentiment-half")


def test_notebook_03_spells_out_the_same_run():
    """The cell that trains it names the same options, and its sizes are those of the manifest."""
    run = experiments.RUNS["sentiment-full"]
    [source] = (settings.repo_root() / "notebooks" / "source").glob("03_*.py")
    text = source.read_text(encoding="utf-8")
    sizes = run["examples"]
    assert (
        "LESSON = settings.pick(smoke={smoke}, default={default}, full={full})".format(**sizes)
        in text
    )
    assert (
        f'"sentiment-full", model, examples, lr={run["options"]["lr"]:.0e}'.replace("e-0", "e-")
        in text
    )
