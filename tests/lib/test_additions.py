"""What LoRA, adapter and soft prompt have in common: put on, taken off, mixed, kept in files."""

import contextlib
import copy

import numpy as np
import plain_pass
import pytest
import torch
from plain_pass import logits
from safetensors.torch import save_file

from workbook import encoding, models, runcache, scoring, training
from workbook.adaptation import storage
from workbook.adaptation.adapter import Adapter
from workbook.adaptation.additions import attached
from workbook.adaptation.lora import LoRA
from workbook.adaptation.soft_prompt import SoftPrompt
from workbook.errors import WorkbookError

TEXTS = ["the film is good", "a bad film", "what a very fine story", "dull", "nice", "poor"]
PROMPTS = ["the film is good and", "the film is", "the story was a very long one and", "the end"]
CHOICES = [["good", "a very bad film"], ["bad", "no"], ["it is not good", "x"], ["y", "very good"]]
UNLIKE = ["a dull story", "nice", "the film is", "bad"]  # no first token is shared
KINDS = {
    "lora": lambda model, seed=0: LoRA(model, rank=4, alpha=8, seed=seed),
    "adapter": lambda model, seed=0: Adapter(model, width=4, seed=seed),
    "soft_prompt": lambda model, seed=0: SoftPrompt(model, length=3, seed=seed),
}


@pytest.fixture
def tiny_model(tiny_model):
    """The tiny model with larger weights: its logits tell words, and tasks, apart."""
    with torch.no_grad():
        for weight in tiny_model.parameters():
            weight.mul_(5 if weight.dim() > 1 else 1)
    return tiny_model


@pytest.fixture(params=KINDS)
def make(request):
    return KINDS[request.param]


@pytest.fixture
def examples(tiny_tokenizer):
    return encoding.encode_pairs(
        tiny_tokenizer, [(text, "good") for text in TEXTS], prompt_style="plain"
    )


def loud(addition, seed=0):
    """Give the addition a say: none of its weights is zero."""
    generator = torch.Generator().manual_seed(seed)
    for weight in addition.parameters():
        torch.nn.init.normal_(weight, std=0.15, generator=generator)
    return addition


def padded(tokenizer, side, prompts=PROMPTS):
    """The prompts as one batch padded on a side, and where the text of each row stands."""
    tokenizer.padding_side = side
    batch = tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
    return dict(batch), batch["attention_mask"].bool()


def assert_near(found, expected, atol=1e-6):
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


def hooks(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def weights(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[n], right[n]) for n in left)


# --- on and off


def test_only_the_addition_learns_and_the_old_model_comes_back(
    make, tiny_model, tiny_tokenizer, examples, precision
):
    start, base = weights(tiny_model), logits(tiny_model, tiny_tokenizer)
    addition = make(tiny_model)
    with attached(tiny_model, addition) as model:
        before = weights(addition)
        learning = [name for name, p in model.named_parameters() if p.requires_grad]
        assert learning and all(name.startswith(f"{addition.kind}.0.") for name in learning)
        losses = [training.evaluate_loss(model, examples)]
        training.fit(model, examples, epochs=25, batch_size=3, lr=0.05, progress=False)
        losses.append(training.evaluate_loss(model, examples))
        assert not torch.equal(logits(model, tiny_tokenizer), base)
    assert losses[1] < 0.9 * losses[0]
    assert same(weights(tiny_model), start)
    # On a busy machine, equal weights elsewhere in memory can give outputs with another last bit.
    assert_near(logits(tiny_model, tiny_tokenizer), base)
    for name, weight in addition.named_parameters():
        assert not torch.equal(weight, before[name]), name
        assert weight.dtype == torch.float32
    # Put on again, it knows what it has learned.
    with attached(tiny_model, addition) as model:
        assert training.evaluate_loss(model, examples) == pytest.approx(losses[1], rel=1e-6)


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_is_left_of_an_addition_taken_off(make, tiny_model, tiny_tokenizer, fails):
    def stop(*_):
        raise KeyboardInterrupt

    training.select_trainable(tiny_model, r"layers\.1\.")
    flags = {name: p.requires_grad for name, p in tiny_model.named_parameters()}
    base, names = logits(tiny_model, tiny_tokenizer), [n for n, _ in tiny_model.named_modules()]
    addition = loud(make(tiny_model))
    with pytest.raises(KeyboardInterrupt) if fails else contextlib.nullcontext():
        with attached(tiny_model, addition):
            assert hooks(tiny_model) > 0
            assert not torch.equal(logits(tiny_model, tiny_tokenizer), base)
            if fails:
                stop()
    assert hooks(tiny_model) == 0
    assert [name for name, _ in tiny_model.named_modules()] == names
    assert {name: p.requires_grad for name, p in tiny_model.named_parameters()} == flags
    assert torch.equal(logits(tiny_model, tiny_tokenizer), base)


def test_an_addition_is_made_by_its_seed_alone(make, tiny_model):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first, again, other = (weights(make(tiny_model, seed)) for seed in (0, 0, 1))
    assert torch.equal(torch.rand(1), expected)  # the global generator is left alone
    assert same(first, again) and not same(first, other)


def test_the_model_is_untouched_by_making_an_addition(make, tiny_model):
    before = weights(tiny_model)
    loud(make(tiny_model))
    assert same(weights(tiny_model), before)
    assert all(p.requires_grad for p in tiny_model.parameters())


def test_kinds_can_be_nested(tiny_model, tiny_tokenizer):
    base, made = logits(tiny_model, tiny_tokenizer), {}
    for name, build in KINDS.items():
        made[name] = loud(build(tiny_model))
    with attached(tiny_model, made["lora"]) as model:
        outer = logits(model, tiny_tokenizer)
        with attached(model, made["soft_prompt"]), attached(model, made["adapter"]):
            inner = logits(model, tiny_tokenizer)
            learning = {n.split(".")[0] for n, p in model.named_parameters() if p.requires_grad}
            assert learning == {"adapter"}
        assert torch.equal(logits(model, tiny_tokenizer), outer)
    assert inner.shape == base.shape and not torch.allclose(inner, outer, atol=1e-2)
    assert torch.equal(logits(tiny_model, tiny_tokenizer), base)


def test_the_second_of_a_kind_is_refused(make, tiny_model):
    first, second = make(tiny_model), make(tiny_model)
    with attached(tiny_model, first):
        with pytest.raises(WorkbookError, match="is attached: leave its block first"):
            with attached(tiny_model, second):
                pass
        assert hooks(tiny_model) > 0
    assert hooks(tiny_model) == 0


def wider(model):
    config = copy.deepcopy(model.config)
    config.hidden_size, config.head_dim = 48, 12
    return type(model)(config)


def test_an_addition_for_another_model_is_refused(make, tiny_model, tmp_path):
    other = wider(tiny_model)
    with pytest.raises(WorkbookError, match="made for another model"):
        with attached(other, make(tiny_model)):
            pass
    assert hooks(other) == 0 and all(p.requires_grad for p in other.parameters())
    storage.save(make(tiny_model), tmp_path / "file")
    with pytest.raises(WorkbookError, match="made for another model"):
        storage.load(tmp_path / "file", other)


# --- scoring and generation


@pytest.mark.parametrize("prompts", [PROMPTS, UNLIKE, PROMPTS[:1]], ids=["prefix", "none", "one"])
def test_scores_from_the_cache_are_those_of_the_plain_pass(
    make, tiny_model, tiny_tokenizer, prompts
):
    choices = CHOICES[: len(prompts)]
    with attached(tiny_model, loud(make(tiny_model))) as model:
        ours = scoring.score_choices(model, tiny_tokenizer, prompts, choices, prompt_style="plain")
        pairs = zip(prompts, choices, strict=True)
        theirs = [plain_pass.scores(model, tiny_tokenizer, *pair) for pair in pairs]
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    without = scoring.score_choices(
        tiny_model, tiny_tokenizer, prompts, choices, prompt_style="plain"
    )
    assert (np.abs(np.subtract(ours, without)).max(axis=1) > 0.1).all()  # it did have a say


def test_generation_from_the_cache_is_that_of_the_plain_pass(make, tiny_model, tiny_tokenizer):
    with attached(tiny_model, loud(make(tiny_model))) as model:
        found = scoring.generate(
            model, tiny_tokenizer, PROMPTS, prompt_style="plain", max_new_tokens=6
        )
        for prompt, text in zip(PROMPTS, found, strict=True):
            ids = plain_pass.greedy(model, tiny_tokenizer, prompt, 6)
            assert text == tiny_tokenizer.decode(ids, skip_special_tokens=True).strip()
    assert len(set(found)) > 1


@pytest.mark.parametrize("side", ["left", "right"])
def test_pads_do_not_change_a_row(make, tiny_model, tiny_tokenizer, side):
    """No position ids are given: a soft prompt must not be pushed away from the text by pads."""
    batch, text = padded(tiny_tokenizer, side)
    with attached(tiny_model, loud(make(tiny_model))) as model:
        with torch.no_grad():
            found = model(**batch).logits
        assert found.shape[:2] == batch["input_ids"].shape
        for row, prompt in enumerate(PROMPTS):
            expected = logits(model, tiny_tokenizer, prompt)
            assert_near(found[row][text[row]], expected, 1e-4)


def test_a_working_copy_has_an_addition_of_its_own(make, tiny_model, tiny_tokenizer, precision):
    """A copy, cast to the working precision for scoring, must not reach back to the original."""
    addition = loud(make(tiny_model))
    with attached(tiny_model, addition) as model:
        exact = logits(model, tiny_tokenizer)
        with scoring.working_copy(model) as working:
            close = 1e-6 if precision == "fp32" else 0.1
            found = logits(working, tiny_tokenizer).float()
            assert_near(found, exact, close)
        twin = copy.deepcopy(model)
        with torch.no_grad():
            for weight in addition.parameters():
                weight.zero_()
        assert_near(logits(twin, tiny_tokenizer), exact)
        assert not torch.allclose(logits(model, tiny_tokenizer), exact, atol=1e-2)
        assert {p.dtype for p in addition.parameters()} == {torch.float32}


def test_the_run_cache_gives_the_trained_addition_back(make, tiny_model, examples, cache, capsys):
    def trained():
        addition = make(tiny_model)
        with attached(tiny_model, addition) as model:
            runcache.fit("tiny", model, examples, lr=0.05, progress=False)
        return weights(addition)

    first, start = trained(), weights(make(tiny_model))
    assert not same(first, start)
    assert same(trained(), first)
    assert "from the run cache" in capsys.readouterr().out
    # Only the addition is kept.
    kept = max(file.stat().st_size for file in runcache.runs_dir().glob("*.safetensors"))
    assert kept < 0.7 * 4 * models.count_parameters(tiny_model).total


# --- one batch, many tasks


ROWS = [1, 0, 2, 1]


@pytest.fixture
def three(make, tiny_model):
    return [loud(make(tiny_model), seed) for seed in range(3)]


@pytest.mark.parametrize("side", ["left", "right"])
def test_each_row_of_a_mixed_batch_is_as_in_its_own_batch(three, tiny_model, tiny_tokenizer, side):
    batch, text = padded(tiny_tokenizer, side)
    with attached(tiny_model, *three, rows=ROWS) as model, torch.no_grad():
        found = model(**batch).logits
    alone = []
    for addition in three:
        with attached(tiny_model, addition) as model, torch.no_grad():
            alone.append(model(**batch).logits)
    for row, task in enumerate(ROWS):
        here = text[row]
        assert_near(found[row][here], alone[task][row][here], 1e-4)
        other = alone[(task + 1) % 3][row][here]
        assert (found[row][here] - other).abs().max() > 1e-2  # the tasks do differ


@pytest.mark.parametrize("prompts", [PROMPTS, UNLIKE[1:2] * 4], ids=["padded", "no pads"])
def test_a_mixed_batch_generates_each_row_as_alone(three, tiny_model, tiny_tokenizer, prompts):
    batch, _ = padded(tiny_tokenizer, "left", prompts)
    with attached(tiny_model, *three, rows=ROWS) as model:
        found = model.generate(**batch, max_new_tokens=5, do_sample=False)
    for row, (prompt, task) in enumerate(zip(prompts, ROWS, strict=True)):
        with attached(tiny_model, three[task]) as model:
            ids = plain_pass.greedy(model, tiny_tokenizer, prompt, 5)
        assert found[row, batch["input_ids"].shape[1] :].tolist()[: len(ids)] == ids


def test_rows_must_fit_additions_and_batch(three, tiny_model, tiny_tokenizer):
    for options, message in [
        ({}, "need rows="),
        ({"rows": [0, 3]}, "from 0 to 2"),
        ({"rows": [-1, 0]}, "from 0 to 2"),
    ]:
        with pytest.raises(WorkbookError, match=message):
            with attached(tiny_model, *three, **options):
                pass
    with attached(tiny_model, *three, rows=ROWS) as model:
        with pytest.raises(WorkbookError, match="for a batch of 4 rows and this one has 1"):
            logits(model, tiny_tokenizer)
        # Scoring computes a shared prefix once, in a batch of one, so it cannot be mixed.
        with pytest.raises(WorkbookError, match="for a batch of 4 rows"):
            scoring.score_choices(model, tiny_tokenizer, PROMPTS, CHOICES, prompt_style="plain")
    assert hooks(tiny_model) == 0


def test_one_group_has_one_kind(tiny_model):
    made = [build(tiny_model) for build in KINDS.values()]
    for group in ([], made):
        with pytest.raises(WorkbookError, match="of one kind"):
            with attached(tiny_model, *group, rows=[0]):
                pass


# --- files and swapping


def test_a_saved_addition_comes_back_exactly(make, tiny_model, tiny_tokenizer, tmp_path):
    addition = loud(make(tiny_model))
    storage.save(addition, tmp_path / "one.safetensors")
    loaded = storage.load(tmp_path / "one.safetensors", tiny_model)
    assert type(loaded) is type(addition) and loaded.config == addition.config
    assert same(weights(loaded), weights(addition))
    with attached(tiny_model, addition) as model:
        expected = logits(model, tiny_tokenizer)
    with attached(tiny_model, loaded) as model:
        assert_near(logits(model, tiny_tokenizer), expected)
    size = sum(4 * tensor.numel() for tensor in addition.state_dict().values())
    assert (tmp_path / "one.safetensors").stat().st_size < size + 10_000  # no base weights in it


HEADERS = {
    "kind": {"kind": "x"},
    "no json": {"settings": "{]"},
    "unknown setting": {"settings": '{"ranks": 3}'},
    "no number": {"settings": '{"rank": "x"}'},
}


def spoil(path, how):
    if how == "missing":
        path.unlink()
    elif how == "cut":
        path.write_bytes(path.read_bytes()[:50])
    elif how == "text":
        path.write_text("hello")
    elif how == "no header":
        save_file({"vectors": torch.zeros(3, 32)}, path)
    else:
        header = {"kind": "lora", "settings": "{}"} | HEADERS[how]
        save_file({"vectors": torch.zeros(3, 32)}, path, metadata=header)


@pytest.mark.parametrize("how", ["missing", "cut", "text", "no header", *HEADERS])
def test_a_file_that_is_no_addition_is_refused(tiny_model, tmp_path, how):
    path = tmp_path / "one.safetensors"
    storage.save(SoftPrompt(tiny_model), path)
    spoil(path, how)
    with pytest.raises(WorkbookError, match="give a file that save wrote"):
        storage.load(path, tiny_model)


def test_swapping_exchanges_what_is_attached(make, tiny_model, tiny_tokenizer):
    pair = [loud(make(tiny_model), seed) for seed in range(2)]
    expected = []
    for addition in pair:
        with attached(tiny_model, addition) as model:
            expected.append(logits(model, tiny_tokenizer))
    with attached(tiny_model, pair[0]) as model:
        for wanted in (expected[1], expected[0]):
            storage.swap(*pair)
            assert torch.equal(logits(model, tiny_tokenizer), wanted)


def test_swapping_unlike_additions_is_refused(tiny_model):
    small, large = LoRA(tiny_model, rank=2), LoRA(tiny_model, rank=4)
    for other in (large, LoRA(tiny_model, rank=2, alpha=1), SoftPrompt(tiny_model)):
        before = weights(other)
        with pytest.raises(WorkbookError, match="use two of one form"):
            storage.swap(small, other)
        assert same(weights(other), before)


def test_an_addition_that_cannot_be_put_on_leaves_nothing(tiny_model, tiny_tokenizer):
    """A weight that cannot learn stands for whatever goes wrong after the hooks are set."""
    base, addition = logits(tiny_model, tiny_tokenizer), loud(LoRA(tiny_model, 2, 4))
    addition.register_parameter(
        "whole", torch.nn.Parameter(torch.ones(1, dtype=torch.int64), requires_grad=False)
    )
    with pytest.raises(RuntimeError, match="floating point"):
        with attached(tiny_model, addition):
            pass
    assert hooks(tiny_model) == 0 and all(p.requires_grad for p in tiny_model.parameters())
    assert torch.equal(logits(tiny_model, tiny_tokenizer), base)
