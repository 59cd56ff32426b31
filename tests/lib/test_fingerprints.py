"""Whatever could change a result changes the fingerprint, and nothing else does."""

import copy
import functools
import importlib
import sys
import textwrap
import threading

import datasets
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from workbook import encoding, fingerprints, scoring, tasks, training
from workbook.adaptation.additions import attached
from workbook.adaptation.lora import LoRA
from workbook.errors import WorkbookError
from workbook.fingerprints import fingerprint
from workbook.forgetting import remedies

# --- data


@functools.total_ordering
class Celsius:
    def __init__(self, degrees):
        self.degrees = degrees

    def __call__(self, number):
        return number + self.degrees

    def __eq__(self, other):
        return self.degrees == other.degrees

    def __lt__(self, other):
        return self.degrees < other.degrees


ALIKE = {
    "numbers": [1, 1.0, True, "1", b"1", None, 0.0, -0.0, 2**63, 2**64, float("nan"), 1j],
    "containers": [[1, 2], (1, 2), {1, 2}, {1: 2}, {"1": 2}, [[1], 2], [1, [2]], [[1, 2]], [2, 1]],
    "text": ["", " ", "é", "e\u0301", "\ud800", []],
    "arrays": [
        np.zeros(2), np.zeros(2, "f4"), np.zeros((2, 1)), np.zeros(2, object), np.zeros(3),
        np.ma.array([0.0, 0.0], mask=[0, 1]), np.ma.array([0.0, 0.0], mask=[1, 0]), [0.0, 0.0],
    ],
    "tensors": [
        torch.zeros(2), torch.zeros(2).bfloat16(), torch.zeros(2, 1), torch.zeros(3),
        torch.zeros(2, requires_grad=True), torch.zeros(2, dtype=torch.int32), -torch.zeros(2),
    ],
    "tables": [
        pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"b": [1, 2]}), pd.DataFrame({"a": [2, 1]}),
        pd.DataFrame({"a": [1, 2]}, index=[1, 2]), pd.Series([1, 2]),
        datasets.Dataset.from_dict({"a": [1, 2]}), datasets.Dataset.from_dict({"a": [1, 2, 2]}),
        datasets.Dataset.from_dict({"a": [1, 2, 2]}).select([1, 0]),
    ],
    "random numbers": [
        np.random.default_rng(0), np.random.default_rng(1), torch.Generator().manual_seed(0),
        torch.Generator().manual_seed(1),
    ],
    "objects": [Celsius(1), Celsius(2), Celsius, Celsius(1).__call__, Celsius.__call__],
    "names": [len, max, np.mean, np.median, torch.relu, torch.float32, torch.bfloat16],
}  # fmt: skip


@pytest.mark.parametrize("kind", ALIKE)
def test_values_that_differ_have_other_fingerprints(kind):
    marks = [fingerprint(value) for value in ALIKE[kind]]
    assert len(set(marks)) == len(marks)
    assert [fingerprint(value) for value in copy.deepcopy(ALIKE[kind])] == marks


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
)


@given(PLAIN)
def test_equal_plain_data_is_known_wherever_it_lies_in_memory(value):
    assert fingerprint(value) == fingerprint(copy.deepcopy(value)) == fingerprint(eval_back(value))


def eval_back(value):
    """The same value made anew: text and numbers are other objects too."""
    return eval(repr(value), {"nan": float("nan"), "inf": float("inf")})


def test_sets_and_inputs_have_no_order():
    words = [f"word {i}" for i in range(50)]
    assert fingerprint(set(words)) == fingerprint(set(reversed(words)))
    assert fingerprint({"a": 1, "b": 2}) != fingerprint({"b": 2, "a": 1})


def test_a_value_may_hold_itself():
    one, two = [1], [2]
    one.append(one)
    two.append(two)
    assert fingerprint(one) != fingerprint(two)


def test_a_file_counts_by_its_content(tmp_path):
    (tmp_path / "rows.jsonl").write_text("one")
    before = fingerprint(tmp_path / "rows.jsonl")
    (tmp_path / "rows.jsonl").write_text("two")
    assert fingerprint(tmp_path / "rows.jsonl") != before


@pytest.mark.parametrize(
    "value, name",
    [
        ((number for number in range(3)), "generator"),
        (threading.Lock(), "lock"),
        ([open(__file__)], "TextIOWrapper"),
        (torch.zeros(2, 2).to_sparse(), "Tensor"),
        (lambda: LOCK, "lock"),
    ],
    ids=["generator", "lock", "file", "sparse", "global"],
)
def test_what_cannot_be_told_apart_is_refused(value, name):
    message = f"cannot tell one {name} from another, found in 'thing': use plain data"
    with pytest.raises(WorkbookError, match=message):
        fingerprints.fingerprints({"number": 1, "thing": value})


LOCK = threading.Lock()


def test_endless_depth_is_refused():
    value = []
    for _ in range(5000):
        value = [value]
    with pytest.raises(WorkbookError, match="deeply nested"):
        fingerprint(value)


def test_a_task_is_known_by_its_rows_and_templates():
    first, again = tasks.load_task("tense"), tasks.load_task("tense")
    assert fingerprint(first) == fingerprint(again) != fingerprint(tasks.load_task("facts"))


# --- models


@pytest.mark.parametrize("format", [torch.float32, torch.bfloat16])
def test_each_number_of_a_model_counts(tiny_model, format):
    """The first edition looked at 512 numbers of a tensor."""
    model = tiny_model.to(format)
    marks, edits = {fingerprint(model)}, 0
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            for index in {0, tensor.numel() // 3, tensor.numel() - 1}:
                flat = tensor.view(-1)
                old = flat[index].clone()
                flat[index] = 2 * old + 1
                marks.add(fingerprint(model))
                flat[index] = old
                edits += 1
    assert fingerprint(model) in marks and len(marks) == 1 + edits


def freeze(model):
    model.model.layers[0].requires_grad_(False)


def change_config(model):
    model.config.rms_norm_eps *= 2


def change_attribute(model):
    model.model.norm.variance_epsilon *= 2


def untie(model):
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())


def add_hook(model):
    model.model.norm.register_forward_hook(lambda module, inputs, output: 2 * output)


def add_other_hook(model):
    model.model.norm.register_forward_hook(lambda module, inputs, output: 3 * output)


def replace_forward(model):
    model.forward = functools.partial(model.forward, use_cache=False)


def train_one_layer(model):
    model.model.layers[1].train()


CHANGES = [
    freeze, change_config, change_attribute, untie, add_hook, add_other_hook, replace_forward,
    torch.nn.Module.train, train_one_layer, torch.nn.Module.bfloat16, torch.nn.Module.double,
]  # fmt: skip


def test_whatever_makes_another_model_of_the_same_weights_counts(tiny_model):
    marks = [fingerprint(tiny_model)]
    for change in CHANGES:
        other = copy.deepcopy(tiny_model)
        change(other)
        marks.append(fingerprint(other))
    assert len(set(marks)) == len(marks)
    assert fingerprint(copy.deepcopy(tiny_model)) == marks[0]


def test_rows_of_additions_count(tiny_model):
    loras = [LoRA(tiny_model, rank=2, seed=seed) for seed in (0, 1)]
    marks = [fingerprint(tiny_model)]
    for rows in ([0, 1], [1, 0], [0, 0]):
        with attached(tiny_model, *loras, rows=rows) as model:
            marks.append(fingerprint(model))
    assert len(set(marks)) == 4
    assert fingerprint(tiny_model) == marks[0]


def test_use_leaves_the_fingerprint_alone(tiny_model, tiny_tokenizer, precision):
    """What was measured first comes from the cache the second time, and is not done then."""
    before = fingerprint(tiny_model), fingerprint(tiny_tokenizer)
    with scoring.working_copy(tiny_model) as working:
        scoring.generate(working, tiny_tokenizer, ["The film"], max_new_tokens=3)
        scoring.classify(working, tiny_tokenizer, ["The film"], ["good", "bad"])
    tiny_model.generate(torch.tensor([[5, 6]]), max_new_tokens=3)
    tiny_tokenizer(["one", "and two"], padding=True, truncation=True, max_length=2)
    examples = encoding.encode_pairs(tiny_tokenizer, [("The film", "is good")])
    training.evaluate_loss(tiny_model, examples)
    assert (fingerprint(tiny_model), fingerprint(tiny_tokenizer)) == before


def test_a_folder_that_moves_is_the_same_model(tiny_model, tiny_tokenizer, tmp_path):
    tiny_model.config._name_or_path, other = "/one/place", copy.deepcopy(tiny_model)
    other.config._name_or_path = other.name_or_path = "/another"
    assert fingerprint(tiny_model) == fingerprint(other)


# --- tokenizers


def add_token(tokenizer):
    tokenizer.add_tokens(["<new>"])


def add_special(tokenizer):
    tokenizer.add_special_tokens({"additional_special_tokens": ["<new>"]})


def change_template(tokenizer):
    tokenizer.chat_template += " "


def pad_left(tokenizer):
    tokenizer.padding_side = "left"


def end_otherwise(tokenizer):
    tokenizer.eos_token = "<|endoftext|>"


def test_whatever_makes_another_tokenizer_counts(tiny_tokenizer):
    marks = [fingerprint(tiny_tokenizer)]
    for change in (add_token, add_special, change_template, pad_left, end_otherwise):
        other = copy.deepcopy(tiny_tokenizer)
        change(other)
        marks.append(fingerprint(other))
    assert len(set(marks)) == len(marks)
    assert fingerprint(copy.deepcopy(tiny_tokenizer)) == marks[0]


# --- code


def defined(source, name="f", **names):
    """The object of this name in a module of one's own that holds the source."""
    space = {"__name__": "__main__", **names}
    exec(textwrap.dedent(source), space)
    return space[name]


def add(number):
    def f(value):
        return value + number

    return f


def times(value, factor):
    return value * factor


NAMES = {1: "math", 2: "cmath"}
SAME_CODE = {
    "closure": lambda n: add(n),
    "default": lambda n: defined(f"def f(value, by={n}): return value * by"),
    "keyword default": lambda n: defined(f"def f(value, *, by={n}): return value * by"),
    "global": lambda n: defined("def f(value): return value * FACTOR", FACTOR=n),
    "global of an inner function": lambda n: defined(
        "def f(values): return [list(map(lambda v: v * FACTOR, values)) for _ in '1']", FACTOR=n
    ),
    "global function": lambda n: defined(
        f"""
        def g(value): return value * {n}
        def f(value): return g(value)
        """
    ),
    "method": lambda n: Celsius(n).__call__,
    "callable": lambda n: Celsius(n),
    "class attribute": lambda n: defined(f"class f:\n    by = {n}\n    def __call__(self): pass")(),
    "inherited method": lambda n: defined(
        f"""
        class Base:
            def __call__(self): return {n}
        class f(Base):
            pass
        """
    )(),
    "partial": lambda n: functools.partial(times, factor=n),
    "nested partial": lambda n: functools.partial(functools.partial(times, n)),
    "wrapped": lambda n: torch.no_grad()(add(n)),
    "cached": lambda n: functools.cache(add(n)),
    "constant": lambda n: defined(f"f = lambda: {n}"),
    "text": lambda n: defined(f"f = lambda: 'number {n}'"),
    "constant of a comprehension": lambda n: defined(f"def f(): return ['{n}' for _ in '12']"),
    "one of two lambdas in a line": lambda n: (lambda: "one", lambda: "two")[n - 1],
    "regularizer of the library": lambda n: remedies.l2_sp({"weight": torch.ones(2)}, n),
    "anchor of a regularizer": lambda n: remedies.l2_sp({"weight": torch.tensor([1.0, n])}, 1),
    "static method": lambda n: defined(
        f"class A:\n    @staticmethod\n    def f(v): return v * {n}", "A"
    ),
    "property": lambda n: defined(f"class A:\n    @property\n    def f(v): return {n}", "A"),
    "slots": lambda n: defined(f"class A:\n    __slots__ = ('a',)\n    by = {n}", "A"),
    "dataclass": lambda n: defined(
        f"import dataclasses\n@dataclasses.dataclass\nclass A:\n    by: int = {n}", "A"
    ),
    "enum": lambda n: defined(f"import enum\nclass A(enum.Enum):\n    by = {n}", "A").by,
    "module": lambda n: defined(f"import {NAMES[n]} as m\ndef f(v): return m.sin(v)"),
    "import": lambda n: defined(f"def f(v):\n    import {NAMES[n]} as m\n    return m.sin(v)"),
}  # fmt: skip


@pytest.mark.parametrize("kind", SAME_CODE)
def test_a_function_counts_with_all_that_it_uses(kind):
    one, again, two = (fingerprint(SAME_CODE[kind](n)) for n in (1, 1, 2))
    assert one == again != two


def test_comments_docstrings_and_what_is_not_used_do_not_count():
    plain = defined("def f(value):\n    return value + 1\n", OTHER=1)
    dressed = defined(
        'def f(value):\n    """Add."""\n    # one\n\n    return (value\n + 1)', OTHER=2
    )
    assert fingerprint(plain) == fingerprint(dressed)
    assert fingerprint(plain) != fingerprint(defined("def f(value): return value + 2"))


def test_functions_that_call_each_other_are_read():
    source = "def f(n): return n and g(n - 1)\ndef g(n): return n and f(n - {})"
    assert fingerprint(defined(source.format(1))) != fingerprint(defined(source.format(2)))


def test_code_of_a_package_counts_by_its_version(monkeypatch):
    function, marks = defined("f = lambda v: np.mean(v)", np=np), []
    for version in ("1", "2"):
        monkeypatch.setattr(fingerprints, "_version", lambda package, found=version: found)
        fingerprints._origin.cache_clear()
        marks.append(fingerprint(function))
    fingerprints._origin.cache_clear()
    assert marks[0] != marks[1]


@pytest.fixture
def helper(tmp_path, monkeypatch):
    """Return a function that writes a module of one's own, imports it anew and returns it."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name, source):
        (tmp_path / f"{name}.py").write_text(source)
        for known in ("helper", "helper_of_helper"):
            sys.modules.pop(known, None)
        importlib.invalidate_caches()
        fingerprints._origin.cache_clear()
        return importlib.import_module("helper")

    yield write
    for known in ("helper", "helper_of_helper"):
        sys.modules.pop(known, None)


USES = {
    "function": "f = lambda: helper.g()",
    "function by name": "from helper import g\nf = lambda: g()",
    "import inside": "def f():\n    import helper\n    return helper.g()",
}


@pytest.mark.parametrize("way", USES)
def test_a_module_of_ones_own_counts_by_its_code(way, helper):
    marks = []
    for number in (1, 1, 2):
        module = helper("helper", f"def g():\n    return {number}\n")
        marks.append(fingerprint(defined(USES[way], helper=module)))
    assert marks[0] == marks[1] != marks[2]


def test_a_module_that_a_module_of_ones_own_uses_counts(helper, tmp_path):
    (tmp_path / "helper_of_helper.py").write_text("def h():\n    return 1\n")
    source = "import helper_of_helper\ndef g(): return helper_of_helper.h()\n"
    first = fingerprint(defined(USES["function"], helper=helper("helper", source)))
    (tmp_path / "helper_of_helper.py").write_text("def h():\n    return 23\n")
    importlib.invalidate_caches()
    second = fingerprint(defined(USES["function"], helper=helper("helper", source)))
    assert first != second


def test_a_library_function_is_known_without_its_globals():
    """They lead everywhere; the run cache's key covers the library's files."""
    marks = [fingerprint(each) for each in (training.fit, training.evaluate_loss, encoding.encode)]
    assert len(set(marks)) == 3
