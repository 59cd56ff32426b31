"""Tasks: every source, with splits that are disjoint, stratified, and always the same."""

import functools
import json
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import datasets
import pytest
import yaml
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from workbook import assets, metrics, settings, tasks
from workbook.errors import WorkbookError
from workbook.tasks import reviews as reviews_module
from workbook.tasks import rows, splits

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT.parent / "shared" / "data" / "benchmarks"
REGISTRY = yaml.safe_load((ROOT / "data" / "tasks.yaml").read_text())
AUTHORED = [n for n, e in REGISTRY["authored"].items() if (ROOT / "data" / e["file"]).exists()]
# The real tasks are loaded once; tests that change the files call tasks.load_task.
load = functools.cache(tasks.load_task)
WORDS = [a + b + c for a in "bdfgklmnprst" for b in "aeiou" for c in "lnrs"]


def sentence(number: int, length: int = 12) -> str:
    """A sentence that shares few words with others."""
    return " ".join(random.Random(number).sample(WORDS, length))


@pytest.fixture(scope="module")
def reviews():
    """The real reviews; only a machine that has them neither cached nor in reach skips."""
    if not assets.is_cached("reviews"):
        try:
            assets.reviews_dir()
        except WorkbookError as error:
            pytest.skip(f"the reviews are out of reach: {error}")


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A course folder of its own with one authored kind, `riddles`, of 40 good rows."""
    entry = {
        "title": "Riddles", "file": "riddles.jsonl", "metric": "exact_match", "licence": "MIT",
        "fields": {"riddle": "string", "answer": "string", "kind": "string"},
        "dedup": ["riddle"], "stratify": "kind", "test": 10, "validation": 5,
    }  # fmt: skip
    folder = tmp_path / "data"
    (folder / "templates").mkdir(parents=True)
    (folder / "tasks.yaml").write_text(yaml.safe_dump({"authored": {"riddles": entry}}))
    (folder / "templates" / "riddles.yaml").write_text(
        'templates:\n  1: !Template\n    name: ask\n    jinja: "{{riddle}} ||| {{answer}}"\n'
    )
    write(folder / "riddles.jsonl", riddles())
    monkeypatch.setattr(settings, "repo_root", lambda: tmp_path)
    return folder


def riddles(n: int = 40) -> list[dict]:
    kinds = ["easy", "hard", "hard", "old"]
    return [{"riddle": sentence(i), "answer": f"a{i}", "kind": kinds[i % 4]} for i in range(n)]


def write(path: Path, table: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in table), encoding="utf-8")
    return path


def near_pairs(texts, others):
    """Count the near-duplicates between two lists of texts by comparing all pairs."""
    ours, theirs = [splits.words(t) for t in texts], [splits.words(t) for t in others]
    return sum(splits.alike(a, b) for a in ours for b in theirs)


def normalised(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold())) or text


# --- reviews


def test_two_label_reviews_have_the_promised_sizes(reviews):
    task = load("sentiment")
    assert task.labels == ("negative", "positive") and task.metric == "accuracy"
    assert Counter(task.splits["test"]["label"]) == {0: 500, 1: 500}
    assert Counter(task.splits["validation"]["label"]) == {0: 250, 1: 250}
    assert len(task.splits["train"]) > 7500
    assert task.splits["train"].column_names == ["id", "text", "label", "valence", "domain"]
    assert task.splits["train"].features["label"].names == ["negative", "positive"]
    for split in task.splits.values():
        assert all(abs(v) >= 1 and (v > 0) == label
                   for v, label in zip(split["valence"], split["label"], strict=True))  # fmt: skip


def test_three_labels_share_the_splits_of_two(reviews):
    two, three = load("sentiment"), load("sentiment-3")
    assert three.labels == ("negative", "neutral", "positive") and three.metric == "f1_macro"
    for name, split in three.splits.items():
        polar = [i for i, label in zip(split["id"], split["label"], strict=True) if label != 1]
        assert polar == list(two.splits[name]["id"])
        neutral = [
            v for v, label in zip(split["valence"], split["label"], strict=True) if label == 1
        ]
        assert max(map(abs, neutral)) <= 0.5
        assert set(split["domain"]) == {"movies"}
    counts = {name: split["label"][:].count(1) for name, split in three.splits.items()}
    assert counts["test"] == pytest.approx(2 * counts["validation"], abs=1)
    assert sum(counts.values()) > 550


def test_no_review_is_in_two_splits_even_nearly(reviews):
    parts = {name: list(split["text"]) for name, split in load("sentiment-3").splits.items()}
    everything = [text for part in parts.values() for text in part]
    assert len({normalised(text) for text in everything}) == len(everything)
    assert len(splits.distinct(everything)) == len(everything)
    sample = random.Random(0).sample(parts["test"], 20)
    assert near_pairs(sample, parts["train"] + parts["validation"]) == 0


def test_reviews_are_clean_text(reviews):
    domains = ("", "-editorials", "-products", "-tweets")
    for name in (f"sentiment-3{domain}" for domain in domains):
        for split in load(name).splits.values():
            for text in split["text"]:
                assert text == " ".join(text.split()) and text
                assert not re.search(r"''(?!')|&amp;|&lt;|&gt;|\ufffd|Ã|â€", text), text
    texts = " ".join(load("sentiment").splits["train"]["text"])
    assert "cliché" in texts and '"' in texts


@pytest.mark.parametrize("domain", ["products", "editorials", "tweets"])
def test_other_domains_are_all_test_and_unlike_the_movies(reviews, domain):
    two, three = load(f"sentiment-{domain}"), load(f"sentiment-3-{domain}")
    assert three.splits.num_rows["train"] == two.splits.num_rows["validation"] == 0
    assert 3900 > len(three.splits["test"]) - 10 > len(two.splits["test"]) > 1500
    assert set(three.splits["test"]["domain"]) == {domain}
    movies = load("sentiment-3").splits.values()
    texts = [text for split in movies for text in split["text"]] + three.splits["test"]["text"][:]
    assert len(splits.distinct(texts)) == len(texts)


def test_review_files_are_cleaned_and_cut_by_valence(tmp_path, monkeypatch):
    lines = ["1\t1.0\t She said  ''Yes &amp; no'' \r", "2\t-1\tPlain bad thing\r",
             "3\t0.5\tMiddling caf\u00e9\r", "4\t0.75\tleft out\r",
             "5\t2\tplain BAD thing!\r"]  # fmt: skip
    for file in reviews_module.FILES.values():
        (tmp_path / file).write_text("\n".join(lines), encoding="utf-8", newline="")
    (tmp_path / reviews_module.FILES["movies"]).write_text("1\t-0.99\tnothing\n1\t3\tx")
    monkeypatch.setattr(assets, "reviews_dir", lambda: tmp_path)
    task = tasks.load_task("sentiment-3-products")
    found = {row["text"]: task.labels[row["label"]] for row in task.splits["test"]}
    assert found == {
        'She said "Yes & no"': "positive", "Plain bad thing": "negative", "Middling café": "neutral"
    }  # fmt: skip
    (tmp_path / reviews_module.FILES["tweets"]).write_text("1\t2\tok\n2\tmuch\tbroken")
    with pytest.raises(WorkbookError, match=r"tweets_GroundTruth\.txt:2"):
        tasks.load_task("sentiment-tweets")


# --- authored kinds

# Kinds with fewer test rows than 100: a panel, and long rows that are dear to write.
SMALL = {"instructions": 90, "dialogue": 50}


@pytest.mark.parametrize("name", AUTHORED)
def test_authored_tasks_load_whole(name):
    task, entry = load(name), REGISTRY["authored"][name]
    with (ROOT / "data" / entry["file"]).open(encoding="utf-8") as file:
        lines = sum(1 for line in file if line.strip())
    assert sum(task.splits.num_rows.values()) == lines, "some rows are near-duplicates of others"
    assert len(task.splits["test"]) == entry["test"] >= SMALL.get(name, 100)
    assert len(task.splits["validation"]) == entry["validation"]
    assert task.splits["train"].column_names == list(entry["fields"])


@pytest.mark.parametrize("name", AUTHORED)
def test_authored_tasks_are_disjoint_and_stratified(name):
    task, entry = load(name), REGISTRY["authored"][name]
    texts = {s: [splits.key(r, entry["dedup"]) for r in d] for s, d in task.splits.items()}
    assert near_pairs(texts["test"], texts["train"] + texts["validation"]) == 0
    assert near_pairs(texts["validation"], texts["train"]) == 0
    columns = entry.get("stratify", "label")
    columns = [columns] if isinstance(columns, str) else columns
    parts = {s: [tuple(r[c] for c in columns) for r in d] for s, d in task.splits.items()}
    everything, test = Counter(sum(parts.values(), [])), Counter(parts["test"])
    for value, count in everything.items():
        assert abs(test[value] - entry["test"] * count / everything.total()) < 1


@pytest.mark.parametrize("name", AUTHORED)
def test_authored_templates_render_every_row(name):
    task = load(name)
    for split in task.splits.values():
        for row in split:
            for template in task.templates:
                pair = template.render(row)
                assert pair.prompt and pair.completion, (template.name, row)


@pytest.mark.skipif("entities" not in AUTHORED, reason="data/entities.jsonl is not written yet")
def test_entity_answers_can_be_read_back():
    for split in load("entities").splits.values():
        for row in split:
            names = row["people"] + row["places"] + row["organizations"]
            assert not any(set(",;:") & set(name) or name == "none" for name in names), row
            assert all(name in row["text"] for name in names), row


def test_a_new_kind_needs_an_entry_a_file_and_templates(course):
    task = tasks.load_task("riddles")
    assert task.splits.num_rows == {"train": 25, "validation": 5, "test": 10}
    assert Counter(task.splits["test"]["kind"]) in (
        {"easy": 3, "hard": 5, "old": 2}, {"easy": 2, "hard": 5, "old": 3},
    )  # fmt: skip
    assert task.labels == () and task.source == "data/riddles.jsonl"
    assert task.template().render(task.splits["test"][0]).completion.startswith("a")


def test_loading_twice_and_in_another_order_gives_the_same_rows(course):
    first = tasks.load_task("riddles")
    table = riddles()
    random.Random(1).shuffle(table)
    write(course / "riddles.jsonl", table)
    again = tasks.load_task("riddles")
    for name in tasks.SPLITS:
        assert first.splits[name].to_list() == again.splits[name].to_list()


def test_near_duplicates_are_dropped_before_splitting(course):
    table = riddles()
    write(
        course / "riddles.jsonl",
        table + [{**r, "riddle": r["riddle"].upper() + "!"} for r in table],
    )
    assert sum(tasks.load_task("riddles").splits.num_rows.values()) == 40


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"riddle": "What is', "not valid JSON"),
        ('{"riddle": "What?", "answer": "", "kind": "old"}', "'answer' must be a text that is not"),
        ('{"riddle": "What?", "answer": "x"}', "'kind' is missing"),
        ('{"riddle": "What?", "answer": "x", "kind": "old", "by": "me"}', "unknown field 'by'"),
        ('{"riddle": ["What?"], "answer": "x", "kind": "old"}', "'riddle' must be a text"),
    ],
)
def test_malformed_rows_are_named_by_file_and_line(course, line, message):
    file = course / "riddles.jsonl"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:6], line, *lines[6:]]))
    with pytest.raises(WorkbookError, match=rf"riddles\.jsonl:7: .*{message}"):
        tasks.load_task("riddles")


def test_too_few_rows_for_the_declared_sizes(course):
    write(course / "riddles.jsonl", riddles(15))
    with pytest.raises(WorkbookError, match=r"data/riddles\.jsonl: 15 distinct rows are too few"):
        tasks.load_task("riddles")


def test_missing_files_of_the_course_are_named(course):
    (course / "riddles.jsonl").unlink()
    with pytest.raises(WorkbookError, match=r"riddles\.jsonl cannot be read"):
        tasks.load_task("riddles")
    (course / "tasks.yaml").write_text("authored: [")
    with pytest.raises(WorkbookError, match=r"data/tasks\.yaml cannot be read"):
        tasks.load_task("riddles")


# --- the registry


def test_unknown_tasks_and_templates_list_what_there_is():
    with pytest.raises(WorkbookError, match="Unknown task 'sentimnet'.*sentiment, .*facts.*sst2"):
        tasks.load_task("sentimnet")
    if not AUTHORED:
        pytest.skip("no authored rows yet")
    with pytest.raises(WorkbookError, match="no template 'asked'.*question, plain"):
        tasks.load_task(AUTHORED[0]).template("asked")


def test_every_entry_is_complete():
    for section, entries in REGISTRY.items():
        for name, entry in entries.items():
            assert {"title", "metric", "licence", "fields", "dedup"} <= entry.keys(), name
            assert set(entry["dedup"]) <= entry["fields"].keys(), name
            assert ("id" in entry) == (section == "hub")
            template = entry.get("templates", name)
            assert (ROOT / "data" / "templates" / f"{template}.yaml").is_file(), name
    assert set(tasks.task_names()) == {n for entries in REGISTRY.values() for n in entries}


def test_every_metric_is_one_that_metrics_computes():
    known = {path.stem for path in Path(metrics.__file__).parent.glob("metric_scripts/*.py")}
    if not known:
        pytest.skip("no metric scripts yet")
    for entries in REGISTRY.values():
        assert {entry["metric"] for entry in entries.values()} <= known


# --- files and the hub


def test_your_own_csv_becomes_a_classification_task(tmp_path):
    topics = ["billing", "login", "other"]
    lines = [f"{sentence(i)},{topics[i % 3]}" for i in range(60)]
    (tmp_path / "tickets.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
    task = tasks.load_task("tickets", path=tmp_path / "tickets.csv")
    assert task.labels == tuple(topics) and task.metric == "accuracy"
    assert task.source == "tickets.csv" and task.title == "tickets"
    assert task.splits.num_rows == {"train": 42, "validation": 6, "test": 12}
    assert Counter(task.splits["test"]["label"]) == {0: 4, 1: 4, 2: 4}
    row = task.splits["test"][0]
    pair = task.template("question").render(row)
    assert "billing, login, other" in pair.prompt and pair.completion == topics[row["label"]]


def test_a_file_stands_in_for_a_registered_task(tmp_path):
    table = [
        {"text": sentence(i), "label": ["negative", "positive"][i % 2], "id": i} for i in range(20)
    ]
    task = tasks.load_task("sentiment", path=str(write(tmp_path / "mine.jsonl", table)))
    assert task.labels == ("negative", "positive") and task.template("plain")
    assert task.splits["train"].column_names == ["text", "label"]
    hub_named = [{"sentence": row["text"], "label": i % 2, "idx": i} for i, row in enumerate(table)]
    sst2 = tasks.load_task("sst2", path=write(tmp_path / "sst2.jsonl", hub_named))
    assert sst2.splits["test"].to_list() == task.splits["test"].to_list()
    table[4]["label"] = "meh"
    with pytest.raises(WorkbookError, match=r"mine\.jsonl:5: label 'meh' must be one of negative"):
        tasks.load_task("sentiment", path=write(tmp_path / "mine.jsonl", table))


def test_one_file_a_split_keeps_the_test_and_cleans_the_train(tmp_path):
    table = [{"text": sentence(i), "label": str(i % 2)} for i in range(30)]
    files = {
        "train": write(tmp_path / "train.jsonl", table),
        "test": write(tmp_path / "test.jsonl", [table[0], table[0], table[1]]),
    }
    task = tasks.load_task("own", path=files)
    assert [row["text"] for row in task.splits["test"]] == [table[i]["text"] for i in (0, 0, 1)]
    assert sum(task.splits.num_rows.values()) == 28 + 3 and task.splits.num_rows["validation"] == 3
    with pytest.raises(WorkbookError, match="use train, validation, test"):
        tasks.load_task("own", path={"dev": files["test"]})


@pytest.mark.parametrize("name", ["arc_easy", "arc_challenge", "hellaswag", "mmlu", "truthful_qa"])
def test_real_benchmark_files_load_row_by_row(name):
    path = BENCHMARKS / f"{name}.jsonl"
    if not path.is_file():
        pytest.skip("the real benchmark files are not here")
    task = tasks.load_task(name, path=path)
    raw = [row for _, row in rows.read_file(path)]
    fields = REGISTRY["hub"][name]["fields"]
    assert task.splits.num_rows == {"train": 0, "validation": 0, "test": len(raw)}
    assert task.splits["test"].to_list() == [{field: row[field] for field in fields} for row in raw]
    for row in task.splits["test"]:
        for template in task.templates:
            assert template.render(row).completion in template.choices(row)


def test_mmlu_keeps_its_five_shots_a_subject():
    files = {"train": BENCHMARKS / "mmlu_dev.jsonl", "test": BENCHMARKS / "mmlu.jsonl"}
    if not files["train"].is_file():
        pytest.skip("the real benchmark files are not here")
    shots = Counter(tasks.load_task("mmlu", path=files).splits["train"]["subject"])
    assert len(shots) == 57 and set(shots.values()) == {5}


def hub_copy(label_feature):
    def split(start, n):
        labels = [i % 2 for i in range(n)]
        columns = {"text": [sentence(start + i) for i in range(n)], "label": labels}
        return datasets.Dataset.from_dict(columns).cast_column("label", label_feature)

    return datasets.DatasetDict(train=split(0, 30), test=split(20, 10))


def test_any_hub_dataset_loads_by_its_id(monkeypatch):
    asked = []

    def load_dataset(name, config, revision):
        asked.append((name, config, revision))
        return hub_copy(datasets.ClassLabel(names=["ugly", "fair"]))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    task = tasks.load_task("someone/looks:small")
    assert asked == [("someone/looks", "small", None)]
    assert task.labels == ("ugly", "fair"), "the hub's order of labels must stay"
    assert task.splits.num_rows == {"train": 18, "validation": 2, "test": 10}
    assert [row["text"] for row in task.splits["test"]] == [sentence(20 + i) for i in range(10)]


def test_registered_hub_datasets_are_mapped(monkeypatch):
    columns = {
        "sentence": [sentence(i) for i in range(1200)],
        "label": [i % 2 for i in range(1200)],
    }
    train = datasets.Dataset.from_dict(columns)
    secret = train.select(range(5)).map(lambda row: {"label": -1})
    copy = datasets.DatasetDict(train=train, validation=train.select(range(9)), test=secret)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: copy)
    task = tasks.load_task("sst2")
    assert task.splits.num_rows == {"train": 191, "validation": 1000, "test": 9}
    assert task.splits["test"].column_names == ["text", "label"]
    assert task.source == "stanfordnlp/sst2"


class Kept(datasets.GeneratorBasedBuilder):
    """Writes into the cache of `datasets` what loading a hub dataset once leaves there."""

    def __init__(self, splits, **options):
        self.made = splits
        super().__init__(**options)

    def _info(self):
        return datasets.DatasetInfo(features=next(iter(self.made.values())).features)

    def _split_generators(self, _):
        names = self.made.keys()
        return [datasets.SplitGenerator(name, gen_kwargs={"split": name}) for name in names]

    def _generate_examples(self, split):
        yield from enumerate(self.made[split])


OFFLINE = """
import json, socket, sys
def refuse(*_): raise SystemExit("a connection was opened")
socket.socket.connect = socket.getaddrinfo = refuse
from workbook import errors, tasks
found = {}
for name in sys.argv[1:]:
    try:
        task = tasks.load_task(name)
        found[name] = [task.labels, {split: rows.to_list() for split, rows in task.splits.items()}]
    except errors.WorkbookError as error:
        found[name] = str(error)
print(json.dumps(found))
"""


def test_offline_a_hub_dataset_comes_from_the_cache(tmp_path, monkeypatch):
    """By any id, with its configuration, and by a registered name, with a pinned revision too."""
    texts = [sentence(i) for i in range(1100)]
    phrases = {"sentence": texts, "label": [i % 2 for i in range(1100)]}
    words = {"tokens": [text.split() for text in texts[:40]], "ner_tags": [[0] * 12] * 40}
    phrases, words = (datasets.Dataset.from_dict(columns) for columns in (phrases, words))
    hub = {
        ("someone/looks", "small"): hub_copy(datasets.ClassLabel(names=["ugly", "fair"])),
        ("stanfordnlp/sst2", "default"): {"train": phrases, "validation": phrases.select([3])},
        ("leondz/wnut_17", "default"): {"train": words, "test": words.select(range(5))},
    }
    for (name, config), kept in hub.items():
        Kept(
            kept, cache_dir=str(tmp_path / "datasets"), repo_id=name, hash="abc",
            dataset_name=name.split("/")[1], config_name=config,
        ).download_and_prepare()  # fmt: skip
    names = ["someone/looks:small", "sst2", "wnut17"]
    env = {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT / "lib"), "HF_HOME": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "-c", OFFLINE, *names, "someone/looks:large"],
        env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert "looks is not to be had" in found.pop("someone/looks:large")
    monkeypatch.setattr(
        datasets, "load_dataset",
        lambda name, config, revision: datasets.DatasetDict(hub[name, config or "default"]),
    )  # fmt: skip
    for name in names:
        task = tasks.load_task(name)
        splits = {split: rows.to_list() for split, rows in task.splits.items()}
        assert found[name] == [list(task.labels), splits] and splits["train"]


@pytest.mark.parametrize("name", ["sst2", "someone/looks"])
def test_offline_the_hub_gives_one_clear_sentence(name, tmp_path):
    code = (
        "from workbook import errors, tasks\n"
        f"try: tasks.load_task({name!r})\n"
        "except errors.WorkbookError as error: print(error)"
    )
    env = {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT / "lib"), "HF_HOME": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False
    )
    assert "connect to the internet once, or give path=" in run.stdout, run.stderr
    assert name.split("/")[-1] in run.stdout and "\n" not in run.stdout.strip()


# --- drawing


@effort(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 2), min_size=1, max_size=60), st.integers(0, 99), st.data())
def test_draws_are_nested_balanced_and_repeatable(labels, seed, data):
    dataset = datasets.Dataset.from_dict({"n": list(range(len(labels))), "label": labels})
    n = data.draw(st.integers(0, len(labels)))
    drawn = tasks.draw(dataset, n, seed)
    assert drawn["n"][:] == tasks.draw(dataset, len(labels), seed)["n"][:n]
    taken, there = Counter(drawn["label"]), Counter(labels)
    for label in there:
        assert taken[label] == there[label] or taken[label] >= max(taken.values(), default=0) - 1


def test_draws_differ_by_seed_and_refuse_numbers_that_cannot_be():
    dataset = datasets.Dataset.from_dict({"n": list(range(50))})
    assert sorted(tasks.draw(dataset, 50)["n"]) == list(range(50))
    assert tasks.draw(dataset, 20, seed=1)["n"][:] != tasks.draw(dataset, 20, seed=2)["n"][:]
    with pytest.raises(WorkbookError, match="51 rows asked of a dataset of 50"):
        tasks.draw(dataset, 51)
    with pytest.raises(WorkbookError, match="-1 rows asked"):
        tasks.draw(dataset, -1)


def test_both_questions_of_a_passage_are_in_one_split():
    comprehension = tasks.load_task("comprehension").splits
    passages = [set(comprehension[split]["passage_id"]) for split in tasks.SPLITS]
    assert sum(map(len, passages)) == len(set.union(*passages)) == 160


@pytest.mark.real_model
@pytest.mark.parametrize("split", ["validation", "test"])
def test_any_beginning_of_a_held_out_split_is_mixed(split):
    first = tasks.load_task("sentiment").splits[split]["label"][:100]
    assert 35 <= sum(first) <= 65


def test_columns_of_a_file_are_mapped_by_option(tmp_path):
    table = [{"review": sentence(i), "stars": "ab"[i % 2]} for i in range(40)]
    path = write(tmp_path / "mine.jsonl", table)
    task = tasks.load_task("mine", path=path, columns={"review": "text", "stars": "label"})
    assert task.labels == ("a", "b") and len(task.splits["test"]) == 8
    with pytest.raises(WorkbookError, match="none is called 'text': say which it is with columns="):
        tasks.load_task("mine", path=path, columns={"stars": "label"})
    with pytest.raises(WorkbookError, match="mine.jsonl has no column 'star' .* review, stars"):
        tasks.load_task("mine", path=path, columns={"review": "text", "star": "label"})


def test_no_column_is_lost_silently(tmp_path):
    both = write(tmp_path / "both.jsonl", [{"review": "a b", "text": "c d", "label": "x"}])
    with pytest.raises(WorkbookError, match="both.jsonl:1: 'text' stands there twice"):
        tasks.load_task("mine", path=both, columns={"review": "text"})
    later = write(tmp_path / "later.jsonl", [{"text": "a"}, {"text": "b", "label": "x"}])
    with pytest.raises(WorkbookError, match="later.jsonl:1: field 'label' is missing"):
        tasks.load_task("mine", path=later)


def test_a_label_that_nothing_is_learned_of_is_named(tmp_path):
    """Of twenty labels with one row each, four go to the test and two to the validation rows."""
    table = [{"text": sentence(i), "label": f"label {i:02}"} for i in range(20)]
    with pytest.raises(WorkbookError, match=r"the label 'label \d\d' has 1 row\(s\), and none"):
        tasks.load_task("mine", path=write(tmp_path / "mine.jsonl", table))


def test_labels_may_hold_what_templates_are_made_of(tmp_path):
    labels = ("a ||| b", "{{ c }}", 'say "d" \\ é😀', "|e", "{% raw %}")
    table = [{"text": sentence(i), "label": labels[i % 5]} for i in range(60)]
    task = tasks.load_task("mine", path=write(tmp_path / "mine.jsonl", table))
    row = task.splits["train"][0]
    assert set(task.template(0).choices(row)) == set(labels)
    assert task.template(0).render(row).completion == task.labels[row["label"]]


def test_an_empty_path_is_told(tmp_path):
    with pytest.raises(WorkbookError, match="use train, validation, test"):
        tasks.load_task("sentiment", path={})
