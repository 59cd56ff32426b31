"""The remedies against forgetting: the mathematics, and toy problems where each must help."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from workbook import encoding, models, training
from workbook.adaptation.additions import attached
from workbook.adaptation.lora import LoRA
from workbook.errors import WorkbookError
from workbook.forgetting import remedies

TEXTS = ["the film is good", "a bad film", "what a very fine story", "dull", "nice", "poor"]


def encoded(tokenizer, answer, texts=TEXTS):
    return encoding.encode_pairs(
        tokenizer, [(text, answer) for text in texts], prompt_style="plain"
    )


def flat(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def distance(model, start):
    return float(sum((p.detach() - start[n]).pow(2).sum() for n, p in model.named_parameters()))


# --- the quadratic pulls


def weights(seed, scale=1.0):
    """Two learning weights with gradients, as a regularizer gets them."""
    generator = torch.Generator().manual_seed(seed)
    made = {
        "matrix": torch.nn.Parameter(scale * torch.randn(3, 4, generator=generator)),
        "vector": torch.nn.Parameter(scale * torch.randn(5, generator=generator)),
    }
    for weight in made.values():
        weight.grad = torch.randn(weight.shape, generator=generator)
    return made


def values(seed):
    return {name: weight.detach().clone() for name, weight in weights(seed).items()}


@pytest.mark.parametrize("kind", ["l2_sp", "ewc", "ewc, one weight free"])
def test_value_and_gradient_are_those_of_the_written_penalty(kind):
    learning, start, fisher = weights(0), values(1), {n: w**2 for n, w in values(2).items()}
    if kind == "l2_sp":
        pull, factor = remedies.l2_sp(start, 0.7), {n: 1.0 for n in start}
    else:
        if "free" in kind:
            del fisher["vector"]
        pull, factor = remedies.ewc(start, fisher, 0.7), {"vector": 0.0, **fisher}
    before = {name: weight.grad.clone() for name, weight in learning.items()}
    written = 0.35 * sum((factor[n] * (w - start[n]) ** 2).sum() for n, w in learning.items())
    expected = torch.autograd.grad(written, list(learning.values()))
    assert pull(learning) == pytest.approx(written.item(), rel=1e-5)
    for (name, weight), gradient in zip(learning.items(), expected, strict=True):
        torch.testing.assert_close(weight.grad, before[name] + gradient)


def test_a_pull_changes_neither_the_weights_nor_what_it_was_made_from():
    learning, start, fisher = weights(0), values(1), values(2)
    remedies.ewc(start, fisher, 0.7)(learning)
    for made, seed in ((learning, 0), (start, 1), (fisher, 2)):
        assert all(torch.equal(made[name], value) for name, value in values(seed).items())


# Two tasks for the weights (a, b). The old one wants a = 1 and says nothing about b, so its
# curvature is (1, 0); the new one wants a + b = 3. The weights (1, 2) solve both.
START = {"weight": torch.tensor([1.0, 0.0])}
CURVATURE = {"weight": torch.tensor([1.0, 0.0])}


def old_loss(weight):
    return 0.5 * (weight[0] - 1) ** 2


def new_loss(weight):
    return 0.5 * (weight.sum() - 3) ** 2


def learned(*regularizers):
    """Descend on the new task from the solution of the old one; return the weights at rest."""
    weight = torch.nn.Parameter(START["weight"].clone())
    for _ in range(3000):
        weight.grad = torch.autograd.grad(new_loss(weight), weight)[0].clone()
        for regularizer in regularizers:
            regularizer({"weight": weight})
        with torch.no_grad():
            weight -= 0.1 * weight.grad
    return weight.detach()


def test_without_a_pull_the_old_task_is_lost():
    torch.testing.assert_close(learned(), torch.tensor([2.0, 1.0]))


@pytest.mark.parametrize("strength", [0.5, 2.0])
def test_l2_sp_keeps_some_of_the_old_task_and_pays_with_the_new_one(strength):
    found = learned(remedies.l2_sp(START, strength))
    # Both weights move alike, by d with 2 d - 2 + strength d = 0.
    moved = 2 / (2 + strength)
    torch.testing.assert_close(found, torch.tensor([1 + moved, moved]), atol=1e-5, rtol=0)
    assert old_loss(found) < old_loss(learned())
    assert new_loss(found) > 0.01


@pytest.mark.parametrize("strength", [0.5, 2.0])
def test_ewc_with_the_true_curvature_solves_both_tasks(strength):
    found = learned(remedies.ewc(START, CURVATURE, strength))
    torch.testing.assert_close(found, torch.tensor([1.0, 2.0]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", ["l2_sp", "ewc"])
def test_a_stronger_pull_keeps_a_model_nearer_to_its_start(
    tiny_model, tiny_tokenizer, kind, precision
):
    start, examples = models.snapshot(tiny_model), encoded(tiny_tokenizer, "good")
    ones = {name: torch.ones_like(tensor) for name, tensor in start.items()}
    distances = []
    for strength in (0.0, 1.0, 100.0):
        model = copy.deepcopy(tiny_model)
        pull = (
            remedies.l2_sp(start, strength)
            if kind == "l2_sp"
            else remedies.ewc(start, ones, strength)
        )
        history = training.fit(
            model, examples, epochs=8, batch_size=3, lr=1e-3, regularizers=[pull], progress=False
        )
        assert history.steps[0]["penalty"] == 0  # nothing has moved yet
        distances.append(distance(model, start))
    assert distances[0] > 1.1 * distances[1] > 1.5 * distances[2]


def test_ewc_of_strength_zero_is_plain_training(tiny_model, tiny_tokenizer, precision):
    examples, plain = encoded(tiny_tokenizer, "good"), copy.deepcopy(tiny_model)
    start, fisher = models.snapshot(tiny_model), remedies.fisher_diagonal(tiny_model, examples)
    pull = remedies.ewc(start, fisher, 0.0)
    options = {"epochs": 2, "batch_size": 3, "lr": 1e-3, "progress": False}
    training.fit(plain, examples, **options)
    history = training.fit(tiny_model, examples, regularizers=[pull], **options)
    assert torch.equal(flat(tiny_model), flat(plain))
    assert {row["penalty"] for row in history.steps} == {0.0}


def pulls(anchor, strength=0.7):
    """Both pulls, with the same Fisher information for all that the anchor names."""
    ones = {name: torch.ones_like(tensor) for name, tensor in anchor.items()}
    return [remedies.l2_sp(anchor, strength), remedies.ewc(anchor, ones, strength)]


def test_a_weight_that_the_anchor_does_not_name_is_free():
    start, fisher = values(1), values(2)
    del start["vector"]
    for pull in (*pulls(start), remedies.ewc(start, fisher, 0.7)):
        learning = weights(0)
        before = {name: weight.grad.clone() for name, weight in learning.items()}
        assert pull(learning) != 0
        assert torch.equal(learning["vector"].grad, before["vector"])
        assert not torch.equal(learning["matrix"].grad, before["matrix"])


@pytest.mark.parametrize("kind", [0, 1], ids=["l2_sp", "ewc"])
def test_a_snapshot_taken_before_the_lora_holds_nothing_and_is_refused(
    tiny_model, tiny_tokenizer, kind, precision
):
    pull, examples = pulls(models.snapshot(tiny_model))[kind], encoded(tiny_tokenizer, "good")
    with attached(tiny_model, LoRA(tiny_model, rank=2)) as model:
        with pytest.raises(WorkbookError, match="names no weight that learns, such as lora"):
            training.fit(model, examples, regularizers=[pull], progress=False)


@pytest.mark.parametrize("kind", [0, 1], ids=["l2_sp", "ewc"])
def test_a_snapshot_with_the_lora_attached_holds_it(tiny_model, tiny_tokenizer, kind, precision):
    examples, moved = encoded(tiny_tokenizer, "good"), []
    for strength in (0.0, 100.0):
        made = LoRA(tiny_model, rank=2)
        with attached(tiny_model, made) as model:
            start = models.snapshot(model)
            pull = pulls(start, strength)[kind]
            options = dict(epochs=4, batch_size=3, lr=1e-2, progress=False)
            training.fit(model, examples, regularizers=[pull], **options)
            moved.append(distance(model, start))
    assert moved[0] > 1.5 * moved[1]


def test_a_weight_on_which_the_loss_does_not_depend_is_pulled_too():
    learning, start = weights(0), values(1)
    expected = 0.7 * (learning["vector"] - start["vector"]).detach()
    learning["vector"].grad = None
    remedies.l2_sp(start, 0.7)(learning)
    torch.testing.assert_close(learning["vector"].grad, expected)


def test_an_anchor_of_another_shape_is_refused():
    start = values(1) | {"vector": torch.zeros(1)}  # it would broadcast
    for pull in pulls(start):
        with pytest.raises(WorkbookError, match="vector has another shape"):
            pull(weights(0))


# --- the Fisher information


def test_fisher_information_of_a_frozen_model_is_refused(tiny_model, tiny_tokenizer):
    tiny_model.requires_grad_(False)
    with pytest.raises(WorkbookError, match="No weight of the model learns"):
        remedies.fisher_diagonal(tiny_model, encoded(tiny_tokenizer, "good"))


@pytest.mark.parametrize("loss", [remedies.example_loss, remedies.sampled_loss])
def test_fisher_information_of_text_beyond_the_context_is_refused(tiny_model, loss):
    tiny_model.config.max_position_embeddings = 8
    with pytest.raises(WorkbookError, match="9 tokens and the model reads 8"):
        remedies.fisher_diagonal(tiny_model, [{"input_ids": [1] * 9, "labels": [1] * 9}], loss)


@pytest.fixture
def logistic():
    """A logistic regression, its examples, and the empirical Fisher information by hand."""
    generator = torch.Generator().manual_seed(0)
    model = torch.nn.Linear(3, 1)
    x = torch.randn(20, 3, generator=generator)
    y = torch.randint(0, 2, (20,), generator=generator).float()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.5, -1.0, 2.0]]))
        model.bias.fill_(0.3)
        error = model(x).squeeze(1).sigmoid() - y
    examples = [{"x": one, "y": label} for one, label in zip(x, y, strict=True)]
    by_hand = {
        "weight": (error[:, None] ** 2 * x**2).mean(dim=0, keepdim=True),
        "bias": (error**2).mean()[None],
    }
    return model, examples, by_hand


def logistic_loss(model, example):
    return F.binary_cross_entropy_with_logits(model(example["x"])[0], example["y"])


def test_fisher_is_the_mean_squared_gradient_of_each_example(logistic):
    model, examples, by_hand = logistic
    fisher = remedies.fisher_diagonal(model, examples, loss=logistic_loss, normalize=False)
    for name, value in by_hand.items():
        torch.testing.assert_close(fisher[name], value, rtol=1e-5, atol=1e-7)
    # The squared gradient of the whole batch is less, for gradients cancel before they are squared.
    batch = sum(logistic_loss(model, example) for example in examples) / len(examples)
    squared = torch.autograd.grad(batch, model.weight)[0] ** 2
    assert (squared < 0.5 * fisher["weight"]).all()


def test_normalized_fisher_is_the_plain_one_scaled_to_mean_one(logistic):
    model, examples, by_hand = logistic
    fisher = remedies.fisher_diagonal(model, examples, loss=logistic_loss)
    entries = torch.cat([fisher[name].flatten() for name in by_hand])
    plain = torch.cat([value.flatten() for value in by_hand.values()])
    assert entries.mean().item() == pytest.approx(1, abs=1e-6)
    torch.testing.assert_close(entries, plain / plain.mean())


def test_fisher_of_a_language_model_squares_the_gradients_of_its_completions(
    tiny_model, tiny_tokenizer
):
    examples = encoded(tiny_tokenizer, "good", TEXTS[:2])
    training.select_trainable(tiny_model, r"layers\.1\.")
    fisher = remedies.fisher_diagonal(tiny_model, examples, normalize=False)
    learning = {n: p for n, p in tiny_model.named_parameters() if p.requires_grad}
    assert fisher.keys() == learning.keys()
    expected = {name: torch.zeros_like(p) for name, p in learning.items()}
    for example in examples:
        batch = encoding.collate([example])
        loss = tiny_model(**batch).loss * training.label_count(batch)
        for name, gradient in zip(
            learning, torch.autograd.grad(loss, list(learning.values())), strict=True
        ):
            expected[name] += gradient**2 / 2
    for name, value in expected.items():
        torch.testing.assert_close(fisher[name], value, rtol=1e-3, atol=1e-8)
    assert all(p.grad is None for p in tiny_model.parameters())


def test_fisher_needs_examples_that_say_something(logistic):
    model, examples, _ = logistic
    with pytest.raises(WorkbookError, match="needs examples"):
        remedies.fisher_diagonal(model, [])
    with pytest.raises(WorkbookError, match="gradients are zero"):
        remedies.fisher_diagonal(
            model, examples, loss=lambda model, example: 0 * model(example["x"]).sum()
        )


# --- rehearsal


@given(new=st.integers(0, 300), share=st.floats(0, 0.9), seed=st.integers(0, 9))
def test_rehearsal_hits_its_share_and_never_repeats(new, share, seed):
    fresh = [{"id": i} for i in range(new)]
    old = [{"id": -1 - i} for i in range(9 * new + 5)]
    mixed = remedies.rehearse(fresh, old, share, seed=seed)
    ids = [example["id"] for example in mixed]
    assert sorted(i for i in ids if i >= 0) == list(range(new))
    assert len(set(ids)) == len(ids)
    count = sum(i < 0 for i in ids)
    assert abs(count - share * len(ids)) <= 0.5 + 1e-9  # no other whole number is nearer
    assert mixed == remedies.rehearse(fresh, old, share, seed=seed)
    assert len(old) == 9 * new + 5


def test_rehearsal_draws_by_its_seed():
    drawn = {tuple(remedies.rehearse([], range(100), 0)) for _ in range(2)}
    assert drawn == {()}
    first, again, other = (remedies.rehearse([0] * 10, range(100), 0.5, s) for s in (0, 0, 1))
    assert first == again != other
    assert len(first) == 20


@pytest.mark.parametrize("share", [-0.1, 1.0, 2.0])
def test_a_share_that_cannot_be_is_refused(share):
    with pytest.raises(WorkbookError, match="from 0 to below 1"):
        remedies.rehearse([1, 2], [3, 4], share)


def test_too_few_old_examples_are_refused():
    assert len(remedies.rehearse([1, 2], [3, 4], 0.5)) == 4
    with pytest.raises(WorkbookError, match="3 old examples are needed, there are 2"):
        remedies.rehearse([1, 2, 5], [3, 4], 0.5)


# --- interpolation


@pytest.fixture
def moved(tiny_model):
    """A model, what it was before, and what it is now."""
    start = models.snapshot(tiny_model)
    with torch.no_grad():
        for p in tiny_model.parameters():
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(1)))
    return tiny_model, start, models.snapshot(tiny_model)


def test_interpolation_ends_are_the_two_models_bit_for_bit(moved):
    model, start, tuned = moved
    remedies.interpolate(model, start, 1.0)
    assert all(torch.equal(p, tuned[n]) for n, p in model.named_parameters())
    remedies.interpolate(model, start, 0.0)
    assert all(torch.equal(p, start[n]) for n, p in model.named_parameters())


def test_a_snapshot_taken_before_the_lora_is_not_interpolated_with_it(moved):
    model, start, _ = moved
    with attached(model, LoRA(model, rank=2)):
        before = flat(model)
        with pytest.raises(WorkbookError, match="does not name lora.*the addition attached"):
            remedies.interpolate(model, start, 0.5)
        assert torch.equal(flat(model), before)


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_interpolation_goes_its_share_of_the_way(moved, share):
    model, start, tuned = moved
    remedies.interpolate(model, start, share)
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.detach(), (1 - share) * start[name] + share * tuned[name])


# --- Reptile


def opposed(tokenizer):
    """Two tasks that cannot both be learned: the same texts, two answers."""
    return {"yes": encoded(tokenizer, "yes"), "no": encoded(tokenizer, "no")}


def test_a_round_of_reptile_goes_a_part_of_the_way_to_the_tuned_model(tiny_model, tiny_tokenizer):
    runs = {step: copy.deepcopy(tiny_model) for step in (0.0, 0.5, 1.0)}
    for step, model in runs.items():
        remedies.reptile(
            model, opposed(tiny_tokenizer), rounds=1, inner_steps=3, batch_size=2, lr=1e-2,
            step_size=step,
        )  # fmt: skip
    start, tuned = flat(tiny_model), flat(runs[1.0])
    assert torch.equal(flat(runs[0.0]), start)
    assert (tuned - start).abs().max() > 1e-3
    torch.testing.assert_close(flat(runs[0.5]), (start + tuned) / 2)


def test_a_full_step_of_reptile_is_fit_on_the_drawn_examples(
    tiny_model, tiny_tokenizer, monkeypatch
):
    calls, fit = [], training.fit

    def noted(model, examples, **options):
        calls.append((examples, options))
        return fit(model, examples, **options)

    plain, only = copy.deepcopy(tiny_model), {"good": encoded(tiny_tokenizer, "good")}
    monkeypatch.setattr(training, "fit", noted)
    remedies.reptile(
        tiny_model, only, rounds=2, inner_steps=2, batch_size=2, lr=1e-2, step_size=1.0, seed=5
    )
    assert [(len(drawn), options["seed"]) for drawn, options in calls] == [(4, 5), (4, 6)]
    for drawn, options in calls:
        assert all(example in only["good"] for example in drawn)
        assert len(fit(plain, drawn, **options).steps) == 2
    assert torch.equal(flat(tiny_model), flat(plain))


def test_tasks_of_reptile_take_turns_in_random_order(monkeypatch):
    monkeypatch.setattr(training, "fit", lambda *_, **__: None)

    def order(seed):
        calls = []
        remedies.reptile(
            torch.nn.Linear(1, 1), {"yes": [1], "no": [2]}, rounds=7, inner_steps=1, batch_size=1,
            seed=seed, on_round=lambda *call: calls.append(call),
        )  # fmt: skip
        assert [number for number, _ in calls] == list(range(7))
        return [name for _, name in calls]

    names = order(0)
    assert all(set(names[i : i + 2]) == {"yes", "no"} for i in (0, 2, 4))
    assert names == order(0)
    assert len({tuple(order(seed)) for seed in range(9)}) > 1


def test_reptile_ends_between_opposed_tasks_where_training_in_turn_ends_at_the_last(monkeypatch):
    """Two quadratic losses with their lowest points at -1 and 1; training goes half of the way."""

    def half_way(model, examples, **options):
        with torch.no_grad():
            model.weight.lerp_(torch.tensor([[examples[0]]]), 0.5)

    monkeypatch.setattr(training, "fit", half_way)
    model, tasks = torch.nn.Linear(1, 1, bias=False), {"left": [-1.0], "right": [1.0]}
    torch.nn.init.constant_(model.weight, 5.0)
    options = {"rounds": 200, "inner_steps": 1, "batch_size": 1}
    remedies.reptile(model, tasks, step_size=0.1, **options)
    assert abs(model.weight.item()) < 0.06  # a round goes no further than 0.1 * 0.5 * (1 + 0.06)
    remedies.reptile(model, tasks, step_size=1.0, **options)
    assert abs(model.weight.item()) > 0.3  # whole steps swing from one side to the other


def test_reptile_needs_examples_for_a_round(tiny_model, tiny_tokenizer):
    tasks, start = opposed(tiny_tokenizer), flat(tiny_model)
    tasks["no"] = tasks["no"][:3]
    with pytest.raises(WorkbookError, match="no has too few examples: a round takes 4"):
        remedies.reptile(tiny_model, tasks, rounds=2, inner_steps=2, batch_size=2)
    assert torch.equal(flat(tiny_model), start)


@given(share=st.floats(0, 1), fisher=st.floats(0, 5))
def test_pulling_back_goes_a_share_of_the_way_whatever_the_gradient(share, fisher):
    anchor, weight = torch.tensor([1.0, -2.0]), torch.nn.Parameter(torch.tensor([3.0, 0.0]))
    free = torch.nn.Parameter(torch.tensor([7.0]))
    weight.grad = torch.tensor([100.0, 100.0])
    weights = {"w": weight, "free": free}
    assert remedies.pull_back({"w": anchor}, share)(weights) == 0.0
    torch.testing.assert_close(
        weight.data, torch.tensor([3.0, 0.0]) - share * torch.tensor([2.0, 2])
    )
    before, part = weight.data.clone(), min(1.0, share * fisher)
    held = {"w": torch.tensor([fisher, 0.0])}
    remedies.pull_back({"w": anchor}, share, held)(weights)
    torch.testing.assert_close(weight.data[0], before[0] + part * (anchor[0] - before[0]))
    assert weight.data[1] == before[1] and free.item() == 7 and (weight.grad == 100).all()


def test_a_strong_pull_back_keeps_a_model_at_its_anchor(tiny_model, tiny_tokenizer, precision):
    examples, start = encoded(tiny_tokenizer, "good"), models.snapshot(tiny_model)
    pull = remedies.pull_back(start, 1.0)
    training.fit(tiny_model, examples, lr=1e-3, regularizers=[pull], progress=False)
    far = max((w - start[n]).abs().max().item() for n, w in tiny_model.named_parameters())
    assert 0 < far <= 1.1e-3  # the last step alone


def test_the_model_s_own_tokens_give_the_fisher_information_of_logistic_regression():
    """E[g²] over drawn labels is x² p (1 − p), whatever the labels of the data."""
    torch.manual_seed(0)
    model, x = torch.nn.Linear(1, 1, bias=False), torch.tensor([[2.0]])
    with torch.no_grad():
        model.weight.fill_(0.4)
    p = torch.sigmoid(model(x)).item()

    def loss(model, example):
        logit = model(x)[0]
        label = (torch.rand(1) < torch.sigmoid(logit)).float() if example["draw"] else torch.ones(1)
        return torch.nn.functional.binary_cross_entropy_with_logits(logit, label)

    for draw, expected in ((True, 4 * p * (1 - p)), (False, 4 * (1 - p) ** 2)):
        found = remedies.fisher_diagonal(model, [{"draw": draw}] * 4000, loss, normalize=False)
        assert found["weight"].item() == pytest.approx(expected, rel=0.1)


def test_the_drawn_loss_is_about_the_positions_of_the_completion(tiny_model, tiny_tokenizer):
    example = encoded(tiny_tokenizer, "good")[0]
    kept = {name: list(values) for name, values in example.items()}
    torch.manual_seed(0)
    values = {round(remedies.sampled_loss(tiny_model, example).item(), 4) for _ in range(6)}
    assert len(values) > 1 and example == kept
    count = sum(label != -100 for label in example["labels"])
    assert all(0 < value < 20 * count for value in values)
