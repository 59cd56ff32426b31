"""The shared runs: trained once, found again, and the same as notebook 03 spells out."""

import numpy as np
import pytest

from workbook import abilities, encoding, experiments, models, scoring, settings, tasks, training
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


def test_steps_are_equal_and_a_run_tells_about_shorter_ones(tiny_model, tiny_tokenizer, precision):
    examples, start = (
        experiments.examples(tiny_tokenizer, "topic", 10, 0),
        models.snapshot(tiny_model),
    )
    options, kept = {"lr": 1e-2, "seed": 3}, []

    def watch(history):
        if len(history.steps) == 9:
            kept.append([weight.float().clone() for weight in tiny_model.parameters()])

    history = experiments.fit_steps(tiny_model, examples, steps=13, on_step=watch, **options)
    rates = [step["lr"] for step in history.steps]
    assert len(rates) == 13 and rates[0] == 0 and rates[6:] == pytest.approx([1e-2] * 7, rel=1e-3)
    models.restore(tiny_model, start)
    shorter = experiments.fit_steps(tiny_model, examples, steps=9, **options)
    assert shorter.steps == history.steps[:9]
    for weight, known in zip(tiny_model.parameters(), kept[0], strict=True):
        np.testing.assert_allclose(weight.detach().numpy(), known.detach().numpy(), rtol=0.02)


def test_the_last_step_of_a_pass_is_filled_up(tiny_model, tiny_tokenizer, monkeypatch):
    sizes, collate = [], encoding.collate
    monkeypatch.setattr(training, "collate", lambda rows: sizes.append(len(rows)) or collate(rows))
    examples = experiments.examples(tiny_tokenizer, "topic", 10, 0)
    experiments.fit_steps(tiny_model, examples, steps=5, lr=1e-3, seed=0)
    assert set(sizes) == {8}


def test_labels_come_with_the_losses_of_answer_and_end(tiny_model, tiny_tokenizer):
    task, rows = (
        experiments.load_task("topic"),
        list(experiments.load_task("topic").splits["test"])[:6],
    )
    pairs = [task.template("question").render(row) for row in rows]
    found = experiments.labelled(tiny_model, tiny_tokenizer, "topic", rows)
    prompts = [pair.prompt for pair in pairs]
    known = scoring.classify(tiny_model, tiny_tokenizer, prompts, task.labels).predictions
    assert found["predictions"] == "".join(map(str, known))
    assert found["score"] == np.mean(known == [row["label"] for row in rows])
    encoded = encoding.encode_pairs(tiny_tokenizer, pairs)
    learned = sum(label != encoding.IGNORE_INDEX for row in encoded for label in row["labels"])
    whole = training.evaluate_loss(tiny_model, encoded) * learned / len(rows)
    assert found["answer_loss"] + found["end_loss"] == pytest.approx(whole, abs=1e-3)


def test_a_prompt_is_scored_plain_and_calibrated(tiny_model, tiny_tokenizer):
    task, rows = (
        experiments.load_task("topic"),
        list(experiments.load_task("topic").splits["test"])[:6],
    )
    options = {"template": "question", "prompt_style": "plain", "draw": 0}
    found = experiments.prompted(tiny_model, tiny_tokenizer, "topic", rows, shots=0, **options)
    prompts, neutral = (
        [task.template("question").render(row).prompt for row in some]
        for some in (rows, [{"text": text, "label": 0} for text in experiments.NEUTRAL])
    )
    classify = [tiny_model, tiny_tokenizer, prompts, task.labels]
    plain = scoring.classify(*classify, prompt_style="plain").predictions
    even = scoring.classify(*classify, prompt_style="plain", neutral_prompts=neutral).predictions
    assert found["predictions"] == "".join(map(str, plain))
    assert found["predictions_calibrated"] == "".join(map(str, even))
    shown = experiments.prompted(tiny_model, tiny_tokenizer, "topic", rows, shots=2, **options)
    assert len(shown["predictions"]) == 6


def test_a_bag_of_words_learns_topics():
    rows = list(experiments.load_task("topic").splits["test"])
    found = experiments.bag_of_words("topic", rows, 120, 0, strength=10.0)
    assert found["score"] > 0.4 and len(found["predictions"]) == len(rows)


@pytest.mark.parametrize("shots", [4, 16])
def test_label_orders_take_turns_and_end_in_either_label(shots):
    orders = [experiments._label_order(shots, draw) for draw in range(6)]
    half = shots // 2
    assert all(sum(order) == half and len(order) == shots for order in orders)
    assert [order[-1] for order in orders] == [0, 1, 0, 1, 0, 1]
    assert orders[0] == [1, 0] * half and orders[3] == [0] * half + [1] * half
    assert all(order[0] == order[-1] for order in orders[4:])
    assert experiments._label_order(1, 3) == [1] and experiments._label_order(0, 3) == []


def test_answers_are_kept_and_graded_in_two_readings(tiny_model, tiny_tokenizer):
    rows = {kind: experiments.items(kind)[:5] for kind in ("topic", "arithmetic")}
    prompts = {kind: experiments.with_shots(kind, some, 2, 0) for kind, some in rows.items()}
    assert prompts["topic"][0].count("Answer with one word.") == 3
    row = experiments.ask(tiny_model, tiny_tokenizer, prompts, end=experiments.NEXT)
    assert set(row["ended"]) == set(rows)
    labels = experiments.load_task("topic").labels
    known = scoring.classify(tiny_model, tiny_tokenizer, prompts["topic"], labels).predictions
    right = known == [each["label"] for each in rows["topic"]]
    assert experiments.marks(row, "topic", rows["topic"]).tolist() == right.tolist()
    told = [f"{each['answer']}\nor so" for each in rows["arithmetic"][:4]] + ["It is a million."]
    row = abilities.pack({"answers": {"arithmetic": told}})
    for reading in ("strict", "free"):
        found = experiments.marks(row, "arithmetic", rows["arithmetic"], reading)
        assert found.tolist() == [1, 1, 1, 1, 0]
    words = [labels[rows["topic"][0]["label"]].capitalize() + ".", "", "", "", "none of them"]
    row = abilities.pack({"answers": {"topic": words, "topic, chosen": [0] * 5}})
    assert experiments.marks(row, "topic", rows["topic"], "strict").tolist() == [1, 0, 0, 0, 0]


def test_a_mixture_holds_each_kind_at_its_rate(tiny_tokenizer):
    rates = {"topic": 0.75, "tense": 0.25}
    one, many = (
        experiments.mixture(tiny_tokenizer, rates, 20, 0, templates)
        for templates in ("one", "many")
    )
    texts = [tiny_tokenizer.decode(example["input_ids"]) for example in one]
    assert len(many) == 20 and sum("What is this text about" in text for text in texts) == 15
    texts = [tiny_tokenizer.decode(example["input_ids"]) for example in many]
    assert 0 < sum("What is this text about" in text for text in texts) < 15


def test_a_weighted_loss_is_a_mean_over_the_tokens_that_weigh(tiny_model, tiny_tokenizer):
    batch = encoding.collate(experiments.examples(tiny_tokenizer, "facts", 4, 0))
    usual, count = training.completion_loss(tiny_model, batch), training.label_count(batch)
    learned = batch["labels"] != encoding.IGNORE_INDEX
    alike = experiments.weighted_loss(lambda batch: learned.float())
    assert alike(tiny_model, batch).item() == pytest.approx(usual.item())
    over_all = experiments.weighted_loss(lambda batch: batch["attention_mask"].float())
    found = over_all(tiny_model, batch) / count
    everything = batch | {"labels": batch["input_ids"].where(batch["attention_mask"] == 1, -100)}
    whole = training.completion_loss(tiny_model, everything) / training.label_count(everything)
    assert found.item() == pytest.approx(whole.item(), rel=1e-4)


def test_fit_minimizes_the_loss_that_it_is_given(tiny_model, tiny_tokenizer, precision):
    examples = experiments.examples(tiny_tokenizer, "facts", 4, 0)
    doubled = experiments.weighted_loss(lambda batch: 2.0 * (batch["labels"] != -100))
    start = models.snapshot(tiny_model)
    usual = training.fit(tiny_model, examples, progress=False).steps
    models.restore(tiny_model, start)
    # Weights count by their ratio, so twice the weight is the same loss.
    assert training.fit(tiny_model, examples, loss=doubled, progress=False).steps == [
        step | {name: pytest.approx(step[name], rel=0.02) for name in ("loss", "grad_norm")}
        for step in usual
    ]
    models.restore(tiny_model, start)
    prompts_too = experiments.weighted_loss(lambda batch: batch["attention_mask"].float())
    other = training.fit(tiny_model, examples, loss=prompts_too, progress=False).steps
    assert other[0]["grad_norm"] != pytest.approx(usual[0]["grad_norm"], rel=0.1)
