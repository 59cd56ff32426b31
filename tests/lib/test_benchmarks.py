"""Benchmarks: rows become questions, bad rows are refused, scores are right, nothing twice."""

import dataclasses
import json
import math
from pathlib import Path

import benchmark_rows
import datasets
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from workbook import benchmarks, cli, encoding, models, settings, tasks
from workbook.benchmarks import registry, report, scores
from workbook.errors import WorkbookError
from workbook.tasks import rows

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "benchmarks"
ROWS = {
    "arc_easy": benchmark_rows.arc,
    "hellaswag": benchmark_rows.hellaswag,
    "mmlu": benchmark_rows.mmlu,
    "truthfulqa_mc1": benchmark_rows.truthfulqa,
    "truthfulqa_mc2": benchmark_rows.truthfulqa,
}
runner = CliRunner()


@pytest.fixture
def file(tmp_path):
    """A function that writes rows and returns their file."""
    return lambda found, name="mine.jsonl": benchmark_rows.write(tmp_path / name, found)


@pytest.fixture
def made(file):
    """A function that loads n made-up questions of a benchmark without shots of their own."""

    def load(name, n, **options):
        options = {"shots": None if "truthful" in name else 0} | options
        return benchmarks.load(name, path=file(map(ROWS[name], range(n))), **options)

    return load


# --- questions


def test_a_question_of_each_benchmark_as_text(made):
    arc, swag, mmlu = (made(name, 2, shots=0) for name in ("arc_easy", "hellaswag", "mmlu"))
    assert arc.context(arc.questions[1]) == (
        "Question: What falls faster than the old bridge number 1?\nAnswer:"
    )
    assert arc.questions[1].choices[arc.questions[1].right[0]] == "my phone of size 1"
    assert swag.context(swag.questions[1]) == (
        "Mending: How to mend things. Look at it. Somebody finds the old bridge in the street, "
        "number 1. She"
    )
    assert swag.questions[0].choices[1] == "takes the old bridge home. Then it rains."
    assert mmlu.context(mmlu.questions[0]) == (
        "The following are multiple choice questions (with answers) about moral disputes.\n\n"
        "How many of a stone make 0?\nA. 0\nB. 1\nC. 2\nD. 3\nAnswer:"
    )
    assert mmlu.questions[1].choices == ("A", "B", "C", "D") and mmlu.questions[1].right == (1,)
    truth = made("truthfulqa_mc2", 1)
    context = truth.context(truth.questions[0])
    assert context.count("Q: ") == 7 and context.count("A: ") == 6
    assert context.endswith("\n\nQ: What happens if you look at a stone 0 times?\nA:")
    assert truth.questions[0].right == (0, 1) and len(truth.questions[0].choices) == 4


def test_shots_come_first_with_their_answers(file):
    file([benchmark_rows.arc(100), benchmark_rows.arc(101)], "mine_dev.jsonl")
    asked = benchmarks.load("arc_easy", path=file(map(benchmark_rows.arc, range(3))), shots=2)
    assert [question.id for question in asked.questions] == ["own-0", "own-1", "own-2"]
    assert asked.context(asked.questions[0]) == (
        "Question: What falls faster than my phone number 100?\n"
        "Answer: our teacher of size 2\n\n"
        "Question: What falls faster than a small cafe number 101?\n"
        "Answer: our teacher of size 1\n\n"
        "Question: What falls faster than a stone number 0?\nAnswer:"
    )


def test_without_a_file_of_shots_the_first_rows_are_shown_and_not_asked(made):
    asked = made("hellaswag", 6, shots=2)
    assert [question.id for question in asked.questions] == ["2", "3", "4", "5"]
    assert [shot.id for shot in asked.shots[""]] == ["0", "1"]


def test_shots_of_mmlu_are_those_of_the_subject(file):
    own = [benchmark_rows.mmlu(i, s) for s in ("virology", "marketing") for i in range(4)]
    dev = [benchmark_rows.mmlu(50 + i, s) for i in range(6) for s in ("marketing", "virology")]
    file(dev, "mine_dev.jsonl")
    asked = benchmarks.load("mmlu", path=file(own), limit=2)
    assert asked.num_shots == 5 and len(asked.questions) == 4
    for question in asked.questions:
        context = asked.context(question)
        assert context.count("Answer: ") == 5 and context.count(f"about {question.group}.") == 1
        assert [n in context for n in (" make 50?", " make 54?", " make 55?")] == [1, 1, 0]
    assert [shot.group for shot in asked.shots["virology"]] == ["virology"] * 5


def test_ids_are_the_rows_own_or_hang_on_what_they_ask(made, file):
    assert [question.id for question in made("arc_easy", 2).questions] == ["own-0", "own-1"]
    first, second = (benchmark_rows.mmlu(i) for i in (1, 2))
    ids = [
        [q.id for q in benchmarks.load("mmlu", path=file(found), shots=0).questions]
        for found in ([first, second, first], [second, first])
    ]
    assert ids[0][:2] == ids[1][::-1] and ids[0][2] == f"{ids[0][0]}-2"
    other = first | {"choices": ["0", *first["choices"][1:]]}
    [question] = benchmarks.load("mmlu", path=file([other]), shots=0).questions
    assert question.id not in ids[0]


@pytest.mark.parametrize("name", ["arc_easy", "arc_challenge", "hellaswag", "mmlu"])
def test_real_rows_load_row_by_row(name):
    path = REAL / f"{name}.jsonl"
    if not path.is_file():
        pytest.skip("the real benchmark files are not here")
    asked = benchmarks.load(name, path=path)
    assert len(asked.questions) == len(rows.read_file(path))
    assert len({question.id for question in asked.questions}) == len(asked.questions)
    assert asked.chance == pytest.approx(0.25, abs=0.01)
    if name == "mmlu":
        assert len(asked.shots) == 37 and {len(found) for found in asked.shots.values()} == {5}


@pytest.mark.parametrize(("name", "chance"), [("truthfulqa_mc1", 0.24), ("truthfulqa_mc2", 0.44)])
def test_real_questions_of_truthfulqa(name, chance):
    path = REAL / "truthful_qa.jsonl"
    if not path.is_file():
        pytest.skip("the real benchmark files are not here")
    asked = benchmarks.load(name, path=path)
    assert len(asked.questions) == 400 and asked.chance == pytest.approx(chance, abs=0.05)


def test_the_hub_s_splits_are_asked_by_name(monkeypatch):
    calls = []
    dev, test = (
        datasets.Dataset.from_list([benchmark_rows.mmlu(i) for i in numbers], split=split)
        for split, numbers in (("dev", range(5)), ("test", range(10, 13)))
    )

    def load_dataset(name, config, revision):
        calls.append((name, config, revision))
        return datasets.DatasetDict(dev=dev, test=test, auxiliary_train=dev)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    asked = benchmarks.load("mmlu", limit=2)
    assert calls == [("cais/mmlu", "all", None)] and asked.source == "cais/mmlu:all:test"
    assert len(asked.questions) == 2 and asked.context(asked.questions[0]).count("Answer: ") == 5
    assert tasks.loaded()["mmlu"] == tasks.fingerprint("mmlu")


def test_every_benchmark_has_a_task_with_the_fields_that_it_reads():
    for name in benchmarks.names():
        task, kind = registry.find(name)
        spec = tasks.registry.find(task)
        make = ROWS[next(other for other in ROWS if registry.find(other)[1] == kind)]
        row = rows.checked("here", make(1), spec.fields, (), strict=False)
        assert kind.read("here", row).choices
        assert set(kind.metrics) <= scores.METRICS.keys()


def own_sets():
    path = settings.repo_root() / "data" / "tasks.yaml"
    return yaml.safe_load(path.read_text("utf-8"))["benchmarks"]


@pytest.mark.parametrize("name", own_sets())
def test_our_own_sets_are_in_place(name):
    """Every row is read, and MMLU's kind has its shots beside it."""
    file = settings.repo_root() / "data" / own_sets()[name]["file"]
    if not file.is_file():
        pytest.skip(f"data/{own_sets()[name]['file']} is not written yet")
    for benchmark in benchmarks.names():
        if registry.find(benchmark)[0] == name:
            asked = benchmarks.load(benchmark)
            assert len(asked.questions) == len(rows.read_file(file)) >= 120
            assert asked.source == f"data/benchmarks/{name}.jsonl"


# --- what is refused


def broken(row, path, value):
    """A copy of a row with another value at a place such as ("choices", "text")."""
    copy = json.loads(json.dumps(row))
    *parents, last = path
    inner = copy
    for key in parents:
        inner = inner[key]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return copy


BAD = [
    ("arc_easy", ("question",), "  ", "'question' must be a text that is not empty"),
    ("arc_easy", ("question",), None, "'question' is missing"),
    ("arc_easy", ("choices", "text"), ["a", "b", "c"], "choices has 3 texts and 4 labels"),
    ("arc_easy", ("choices", "text", 1), "", "'choices' must be a text that is not empty"),
    ("arc_easy", ("choices",), {"text": ["a"], "label": ["B"]}, "leaves nothing to choose"),
    ("arc_easy", ("choices", "label"), ["A", "B", "B", "D"], "two choices are labelled alike"),
    ("arc_easy", ("answerKey",), "E", "answerKey 'E' is none of A, B, C, D"),
    ("hellaswag", ("ctx",), "", "'ctx' must be a text that is not empty"),
    ("hellaswag", ("ctx_a",), "", "ctx_a and ctx_b are both empty"),
    ("hellaswag", ("endings",), ["a", "b", "c"], "endings has 3 choices in place of 4"),
    ("hellaswag", ("endings", 0), "[title]", "an ending is nothing but a [header]"),
    ("hellaswag", ("label",), "4", "label '4' is no number from 0 to 3"),
    ("hellaswag", ("label",), "-1", "label '-1' is no number from 0 to 3"),
    ("mmlu", ("question",), "", "'question' must be a text that is not empty"),
    ("mmlu", ("choices",), ["a", "b", "c"], "choices has 3 choices in place of 4"),
    ("mmlu", ("answer",), 4, "answer 4 is no number from 0 to 3"),
    ("mmlu", ("answer",), "A", "'answer' must be a whole number"),
    ("mmlu", ("subject",), "", "'subject' must be a text that is not empty"),
    ("truthfulqa_mc1", ("question",), " ", "'question' must be a text that is not empty"),
    ("truthfulqa_mc1", ("mc1_targets", "labels"), [0, 0, 0, 0], "has 0 right choices"),
    ("truthfulqa_mc1", ("mc1_targets", "labels"), [1, 1, 0, 0], "has 2 right choices"),
    ("truthfulqa_mc1", ("mc1_targets", "labels"), [1, 0], "has 4 texts and 2 labels"),
    ("truthfulqa_mc2", ("mc2_targets", "labels"), [1, 2, 0, 0, 0], "another label than 0 and 1"),
    ("truthfulqa_mc2", ("mc2_targets", "labels"), [1, 1, 1, 1, 1], "a right and a wrong choice"),
    ("truthfulqa_mc2", ("mc2_targets", "choices", 0), "", "must be a text that is not empty"),
]


@pytest.mark.parametrize(("name", "path", "value", "told"), BAD)
def test_a_bad_row_is_refused_by_file_and_line(file, name, path, value, told):
    good = [ROWS[name](i) for i in (0, 2)]
    row = ROWS[name](1) | ({"ctx_b": ""} if name == "hellaswag" else {})
    with pytest.raises(WorkbookError, match=r"mine\.jsonl:2: ") as refused:
        benchmarks.load(name, path=file([good[0], broken(row, path, value), good[1]]))
    assert told in str(refused.value) and str(refused.value).endswith("mend the row.")


@pytest.mark.parametrize(("name", "field"), [("arc_easy", "id"), ("hellaswag", "ind")])
def test_an_id_that_stands_there_twice_is_refused(file, name, field):
    found = [ROWS[name](i) for i in range(3)]
    found[2][field] = found[0][field]
    with pytest.raises(WorkbookError, match=r"mine\.jsonl:3: the id .* is that of mine\.jsonl:1"):
        benchmarks.load(name, path=file(found))


def test_requests_that_cannot_be_met_are_one_sentence(file, made):
    path = file(map(benchmark_rows.arc, range(3)))
    with pytest.raises(WorkbookError, match="Unknown benchmark 'arc': choose of arc_easy, "):
        benchmarks.load("arc", path=path)
    with pytest.raises(WorkbookError, match="six examples in the prompt"):
        made("truthfulqa_mc1", 2, shots=5)
    with pytest.raises(WorkbookError, match="-1 shots"):
        made("arc_easy", 2, shots=-1)
    with pytest.raises(WorkbookError, match="limit of 0"):
        made("arc_easy", 2, limit=0)
    with pytest.raises(WorkbookError, match="no question left"):
        made("arc_easy", 3, shots=3)
    with pytest.raises(WorkbookError, match="use test and train"):
        benchmarks.load("arc_easy", path={"dev": path})
    with pytest.raises(WorkbookError, match="cannot be read"):
        benchmarks.load("arc_easy", path=path.with_name("other.jsonl"))
    file([benchmark_rows.mmlu(i) for i in range(3)], "few_dev.jsonl")
    few = file([benchmark_rows.mmlu(9)], "few.jsonl")
    with pytest.raises(WorkbookError, match="few.jsonl: 5 shots about moral_disputes are asked"):
        benchmarks.load("mmlu", path=few)


# --- scores


@pytest.fixture
def question():
    choices = ("one", "a much longer answer", "two")
    return benchmarks.Question(id="a", text="?", choices=choices, right=(1,))


def test_scores_by_hand(question):
    values = [-6.0, -20.0, -9.0]  # by character -2, -1, -3
    assert scores.acc(values, question) == 0 and scores.acc_norm(values, question) == 1
    assert scores.mc1(values, question) == 0 and scores.mc1([-7, -6, -9], question) == 1
    both = dataclasses.replace(question, right=(0, 2))
    shares = np.exp(values) / np.exp(values).sum()
    assert scores.mc2(values, both) == pytest.approx(shares[0] + shares[2])
    # Log-likelihoods of long answers, whose exponentials are all 0.
    assert scores.mc2([-1000, -1001, -1000], both) == pytest.approx(2 / (2 + math.exp(-1)))


def test_characters_are_counted_not_bytes():
    question = benchmarks.Question(id="a", text="?", choices=("äöü", "abcd"), right=(1,))
    assert scores.acc_norm([-3.3, -4.0], question) == 1 and scores.acc([-3.3, -4.0], question) == 0


def test_equals_count_as_in_the_harness_except_in_mc1(question):
    first = dataclasses.replace(question, right=(0,))
    assert scores.acc([-2, -2, -2], first) == 1 and scores.acc([-2, -2, -2], question) == 0
    assert scores.mc1([-2, -2, -2], first) == 0 == scores.mc1([-2, -2, -9], first)


def test_a_result_tells_means_errors_and_groups(made):
    asked = made("mmlu", 4)
    questions = [dataclasses.replace(q, group="ab"[i % 2]) for i, q in enumerate(asked.questions)]
    asked = dataclasses.replace(asked, questions=tuple(questions))
    right_in_b_alone = [[0, 0, 0, -1], [-1, 0, -1, -1], [0, -1, -1, -1], [-1, -1, -1, 0]]
    result = benchmarks.Result(asked, right_in_b_alone)
    assert result.values("acc").tolist() == [1, 1, 0, 1]
    assert result.summary()["acc"]["value"] == 0.75
    assert result.summary()["acc"]["stderr"] == pytest.approx(0.25)
    assert result.by_group("acc") == {"a": 0.5, "b": 1.0}


# --- log-likelihoods


class Counter:
    """Counts the tokens, pads too, that enter a model."""

    def __init__(self, model):
        self.tokens = 0
        model.get_input_embeddings().register_forward_pre_hook(self)

    def __call__(self, module, arguments):
        self.tokens += arguments[0].numel()


@pytest.mark.parametrize("name", ["arc_easy", "hellaswag"])
def test_shots_are_computed_once_for_all_questions(tiny_model, tiny_tokenizer, file, name):
    tiny_model.config.max_position_embeddings = 4096
    spent = {}
    for shots in (0, 3):
        path = {
            "test": file(map(ROWS[name], range(20, 30))),
            "train": file(map(ROWS[name], range(3)), "shots.jsonl"),
        }
        asked = benchmarks.load(name, path=path, shots=shots)
        models.check_causal(tiny_model)
        counter = Counter(tiny_model)
        benchmarks.log_likelihoods(tiny_model, tiny_tokenizer, asked)
        spent[shots] = counter.tokens
        of_shots = "".join(shot.shot() for shot in asked.shots[""])
    assert spent[3] - spent[0] == len(encoding.token_ids(tiny_tokenizer, of_shots))


def test_a_question_is_computed_once_for_all_its_choices(tiny_model, tiny_tokenizer, made):
    asked = made("arc_easy", 1)
    [question] = asked.questions
    start, ends = benchmarks.evaluation.choice_ids(
        tiny_tokenizer, asked.context(question), question.choices
    )
    models.check_causal(tiny_model)
    counter = Counter(tiny_model)
    benchmarks.log_likelihoods(tiny_model, tiny_tokenizer, asked)
    # The last token of a choice is never read, since nothing follows it.
    assert counter.tokens == len(start) + sum(len(end) - 1 for end in ends)


def test_shots_of_mmlu_are_computed_once_a_subject(tiny_model, tiny_tokenizer, file):
    tiny_model.config.max_position_embeddings = 4096
    subjects = ["virology", "marketing"]
    file([benchmark_rows.mmlu(i, s) for s in subjects for i in range(5)], "mine_dev.jsonl")
    # Subjects that take turns in the file still have theirs computed once.
    path = file([benchmark_rows.mmlu(60 + i, s) for i in range(6) for s in subjects])
    asked, spent = benchmarks.load("mmlu", path=path), {}
    for part in (asked, dataclasses.replace(asked, shots=dict.fromkeys(subjects, ()))):
        models.check_causal(tiny_model)
        counter = Counter(tiny_model)
        benchmarks.log_likelihoods(tiny_model, tiny_tokenizer, part)
        spent[len(part.shots["virology"])] = counter.tokens
    shown = ["".join(shot.shot() for shot in found) for found in asked.shots.values()]
    expected = sum(len(encoding.token_ids(tiny_tokenizer, text)) for text in shown)
    assert spent[5] - spent[0] == expected


def test_scores_stand_in_the_order_of_the_questions(tiny_model, tiny_tokenizer, made):
    """Also where groups take turns, and each score is that of the question alone."""
    asked = made("mmlu", 5)
    questions = [dataclasses.replace(q, group="ab"[i % 2]) for i, q in enumerate(asked.questions)]
    asked = dataclasses.replace(asked, questions=tuple(questions), shots={"a": (), "b": ()})
    found = benchmarks.log_likelihoods(tiny_model, tiny_tokenizer, asked)
    for i, question in enumerate(questions):
        alone = dataclasses.replace(asked, questions=(question,))
        [scores_alone] = benchmarks.log_likelihoods(tiny_model, tiny_tokenizer, alone)
        assert found[i] == pytest.approx(scores_alone, abs=1e-4)


def test_the_bar_counts_every_choice(tiny_model, tiny_tokenizer, made):
    asked, told = made("hellaswag", 60), []
    benchmarks.log_likelihoods(tiny_model, tiny_tokenizer, asked, told.append)
    assert sum(told) == sum(len(question.choices) for question in asked.questions)
    assert len(told) > 1


def test_a_context_that_is_empty_or_only_blank_is_the_opening_token(tiny_tokenizer):
    for context in ("", " "):
        start, [end] = benchmarks.evaluation.choice_ids(tiny_tokenizer, context, ["my phone"])
        assert start == [tiny_tokenizer.bos_token_id]
        assert tiny_tokenizer.decode(end) == f"{context} my phone"
    tiny_tokenizer.bos_token = tiny_tokenizer.eos_token = None
    with pytest.raises(WorkbookError, match="no token for an empty context"):
        benchmarks.evaluation.choice_ids(tiny_tokenizer, "", ["my phone"])


def test_what_looks_like_a_control_token_is_text(tiny_tokenizer):
    start, [end] = benchmarks.evaluation.choice_ids(
        tiny_tokenizer, "is <|im_end|>?", ["<|im_end|>"]
    )
    assert tiny_tokenizer.eos_token_id not in start + end
    assert tiny_tokenizer.decode(start + end) == "is <|im_end|>? <|im_end|>"


def test_a_question_that_is_too_long_is_refused(tiny_model, tiny_tokenizer, made):
    asked = made("arc_easy", 20, shots=15)
    with pytest.raises(WorkbookError, match="the model reads 512: use fewer or shorter examples"):
        benchmarks.evaluate(tiny_model, tiny_tokenizer, asked, progress=False)


# --- records and the command


@pytest.fixture
def results(tiny_model, tiny_tokenizer, made, precision):
    asked = [made("arc_easy", 6), made("truthfulqa_mc1", 1)]
    tiny_model.config.max_position_embeddings = 4096
    return [benchmarks.evaluate(tiny_model, tiny_tokenizer, each, progress=False) for each in asked]


def test_a_record_keeps_each_question_and_the_circumstances(results, tmp_path, precision):
    report.write(tmp_path / "a.json", report.record("mine", results))
    kept = report.read(tmp_path / "a.json")
    assert kept["model"] == "mine" and kept["machine"].endswith(precision)
    entry = kept["benchmarks"]["arc_easy"]
    assert entry["metrics"]["acc"]["value"] == np.mean([q["acc"] for q in entry["questions"]])
    assert entry["source"] == "mine.jsonl" and entry["num_shots"] == 0 and entry["groups"] == {}
    for question, found in zip(entry["questions"], results[0].scores, strict=True):
        assert question["log_likelihoods"] == pytest.approx(found, abs=1e-5)
    assert kept["benchmarks"]["truthfulqa_mc1"]["metrics"]["mc1"]["stderr"] is None


def record_of(values, name="arc_easy", metric="acc"):
    questions = [{"id": i, metric: value} for i, value in values.items()]
    entry = {"num_shots": 0, "metrics": {metric: {}}, "questions": questions}
    return {"format": 1, "model": "a", "benchmarks": {name: entry}}


def test_records_are_compared_on_the_questions_that_both_were_asked():
    first = record_of({"a": 1.0, "b": 1.0, "c": 0.0, "d": 1.0, "e": 1.0})
    second = record_of({"e": 0.0, "d": 1.0, "c": 0.0, "b": 0.0, "x": 1.0})
    [(key, pair)] = report.compare(first, second).items()
    assert key == ("arc_easy", "acc") and pair.questions == 4
    assert (pair.first, pair.second) == (0.75, 0.25) and pair.difference.estimate == 0.5
    assert pair.difference.low <= 0.5 <= pair.difference.high
    with pytest.raises(WorkbookError, match="give at least 2"):
        report.compare(first, record_of({"a": 1.0}))


def test_files_that_are_no_results_are_refused(tmp_path):
    for text in ("{", "[]", '{"format": 0}', "\ud800".encode("utf-8", "surrogatepass")):
        path = tmp_path / "a.json"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(WorkbookError, match=r"^a\.json (cannot be read|is no result)"):
            report.read(path)
    with pytest.raises(WorkbookError, match=r"b\.json cannot be read"):
        report.read(tmp_path / "b.json")


@pytest.fixture
def folder(tiny_model, tiny_tokenizer, tmp_path, monkeypatch):
    """A folder with a model of one's own."""
    monkeypatch.setenv("WORKBOOK_PRECISION", "fp32")
    tiny_model.save_pretrained(tmp_path / "model")
    tiny_tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def evaluate(*arguments):
    return runner.invoke(cli.app, ["evaluate", *map(str, arguments)], env={"COLUMNS": "200"})


def test_the_command_asks_a_model_of_ones_own_a_file_of_ones_own(folder, file, tmp_path):
    path = file(map(benchmark_rows.arc, range(9)))
    out = tmp_path / "results.json"
    named = ["--tasks", f"arc_easy={path}", "--limit", 5]
    done = evaluate(folder, *named, "--out", out)
    assert done.exit_code == 0, done.output
    kept = json.loads(out.read_text("utf-8"))["benchmarks"]["arc_easy"]
    assert len(kept["questions"]) == 5
    for metric in ("acc", "acc_norm"):
        value, stderr = (kept["metrics"][metric][key] for key in ("value", "stderr"))
        assert f"{value:.3f}" in done.output and f"{stderr:.3f}" in done.output
    assert [p.name for p in tmp_path.glob(".*results*")] == [], "a draft was left"
    again = evaluate(folder, *named, "--shots", 2, "--compare", out)
    assert again.exit_code == 0, again.output
    assert "2 and 0" in again.output and "difference [95 %]" in again.output


def test_what_cannot_be_compared_is_refused_before_the_model_is_loaded(file, tmp_path, monkeypatch):
    monkeypatch.setattr(models, "load", lambda name: pytest.fail("loaded"))
    path = file(map(benchmark_rows.arc, range(3)))
    out = tmp_path / "other.json"
    report.write(out, record_of({"x": 1.0}))
    asked = ["--tasks", f"arc_easy={path}"]
    for arguments, told in (
        ([*asked, "--compare", out], "no question of arc_easy to compare"),
        ([*asked, "--compare", path], "mine.jsonl"),
        (["--tasks", "arc_easy,nothing"], "Unknown benchmark 'nothing'"),
        (["--tasks", f"arc_easy={path},arc_easy"], "arc_easy is named twice"),
        ([*asked, "--out", tmp_path], "is a folder"),
    ):
        result = evaluate(*arguments)
        assert isinstance(result.exception, WorkbookError), (arguments, result.output)
        assert told in str(result.exception)
