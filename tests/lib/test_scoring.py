import sys

import numpy as np
import plain_pass
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from workbook import scoring, training
from workbook.errors import WorkbookError

PROMPTS = ["the film is good and", "the film is", "the story was a very long one and", "the end"]
CHOICES = [["good", "bad"], ["a very good film", "bad"], ["no", "it is not good"], ["x", "y"]]


@pytest.mark.parametrize("batch_tokens", [1, 12, 1000])
def test_scores_equal_the_plain_computation(tiny_model, tiny_tokenizer, batch_tokens):
    ours = scoring.score_choices(
        tiny_model,
        tiny_tokenizer,
        PROMPTS,
        CHOICES,
        prompt_style="plain",
        batch_tokens=batch_tokens,
    )
    for prompt, choices, values in zip(PROMPTS, CHOICES, ours, strict=True):
        assert values == pytest.approx(
            plain_pass.scores(tiny_model.eval(), tiny_tokenizer, prompt, choices), abs=1e-4
        )


def test_scores_of_one_prompt_and_of_unlike_prompts(tiny_model, tiny_tokenizer):
    for prompts in (PROMPTS[:1], ["dull", "what a film"]):
        ours = scoring.score_choices(
            tiny_model,
            tiny_tokenizer,
            prompts,
            [["good", "not bad"]] * len(prompts),
            prompt_style="plain",
        )
        theirs = [
            plain_pass.scores(tiny_model.eval(), tiny_tokenizer, prompt, ["good", "not bad"])
            for prompt in prompts
        ]
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_prompts_may_have_different_numbers_of_choices(tiny_model, tiny_tokenizer):
    choices = [["good"], ["bad", "very good film", "poor film"]]
    ours = scoring.score_choices(
        tiny_model, tiny_tokenizer, PROMPTS[:2], choices, prompt_style="plain"
    )
    assert [len(row) for row in ours] == [1, 3]
    for prompt, row, values in zip(PROMPTS, choices, ours, strict=False):
        expected = plain_pass.scores(tiny_model.eval(), tiny_tokenizer, prompt, row)
        assert values == pytest.approx(expected, abs=1e-4)


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), min_size=1, max_size=5))
def test_shared_prefix_is_the_longest_that_leaves_a_token(rows):
    prefix = scoring.shared_prefix(rows)
    assert all(row[: len(prefix)] == prefix and len(row) > len(prefix) for row in rows)
    longer = [row[: len(prefix) + 1] for row in rows]
    assert any(len(row) == len(prefix) + 1 for row in rows) or any(r != longer[0] for r in longer)


def test_scoring_leaves_the_model_as_it_was(tiny_model, tiny_tokenizer):
    tiny_model.train()
    scoring.score_choices(tiny_model, tiny_tokenizer, PROMPTS, CHOICES, prompt_style="plain")
    assert tiny_model.training
    assert all(p.requires_grad for p in tiny_model.parameters())


def test_classify_returns_the_likeliest_label(tiny_model, tiny_tokenizer):
    result = scoring.classify(
        tiny_model, tiny_tokenizer, PROMPTS, ["good", "bad"], prompt_style="plain"
    )
    expected = [
        plain_pass.scores(tiny_model.eval(), tiny_tokenizer, prompt, ["good", "bad"])
        for prompt in PROMPTS
    ]
    np.testing.assert_allclose(result.scores, expected, atol=1e-4)
    assert result.predictions.tolist() == np.argmax(expected, axis=1).tolist()
    np.testing.assert_allclose(result.probabilities().sum(axis=1), 1)


def test_calibration_makes_the_neutral_prompt_undecided(tiny_model, tiny_tokenizer):
    """A prompt equal to the neutral one must come out with equal scores."""
    result = scoring.classify(
        tiny_model,
        tiny_tokenizer,
        ["the film is", "N/A is"],
        ["good", "bad"],
        prompt_style="plain",
        neutral_prompts=["N/A is"],
    )
    np.testing.assert_allclose(result.probabilities()[1], [0.5, 0.5], atol=1e-5)


@pytest.mark.parametrize("prompts, choices", [([""], [["a"]]), (["a"], [[""]]), (["a"], [[]])])
def test_empty_text_is_refused(tiny_model, tiny_tokenizer, prompts, choices):
    with pytest.raises(WorkbookError, match="no tokens"):
        scoring.score_choices(tiny_model, tiny_tokenizer, prompts, choices, prompt_style="plain")


def test_a_prompt_longer_than_the_context_is_refused(tiny_model, tiny_tokenizer):
    limit = tiny_model.config.max_position_embeddings
    with pytest.raises(WorkbookError, match=f"reads {limit}"):
        scoring.score_choices(
            tiny_model, tiny_tokenizer, ["good film " * limit], [["a"]], prompt_style="plain"
        )


def test_greedy_generation_equals_one_prompt_at_a_time(tiny_model, tiny_tokenizer):
    options = {"prompt_style": "plain", "max_new_tokens": 6}
    together = scoring.generate(tiny_model, tiny_tokenizer, PROMPTS, **options)
    alone = [scoring.generate(tiny_model, tiny_tokenizer, [p], **options)[0] for p in PROMPTS]
    assert together == alone


def test_sampling_follows_the_seed(tiny_model, tiny_tokenizer):
    def sample(seed):
        return scoring.generate(
            tiny_model, tiny_tokenizer, PROMPTS, prompt_style="plain", temperature=1.0, seed=seed
        )

    assert sample(0) == sample(0) != sample(1)


def test_tokens_of_another_model_are_refused(tiny_model, tiny_tokenizer):
    """With a tokenizer of more words an embedding would fail with nothing but an index."""
    unknown = tiny_model.config.vocab_size
    example = {"input_ids": [1, unknown], "attention_mask": [1, 1], "labels": [-100, unknown]}
    with pytest.raises(WorkbookError, match=f"knows {unknown} tokens.*id {unknown}"):
        scoring.score_continuations(tiny_model, [[1, 2]], [[[3], [unknown]]])
    with pytest.raises(WorkbookError, match="came with it"):
        training.fit(tiny_model, [example])
    with pytest.raises(WorkbookError, match="came with it"):
        training.evaluate_loss(tiny_model, [example])


def test_a_working_copy_is_made_once(tiny_model, monkeypatch):
    monkeypatch.setenv("WORKBOOK_PRECISION", "bf16")
    with scoring.working_copy(tiny_model) as working:
        assert working is not tiny_model and next(working.parameters()).dtype == torch.bfloat16
        with scoring.working_copy(working) as again:
            assert again is working
    assert next(tiny_model.parameters()).dtype == torch.float32


class Bar:
    """Stands for tqdm's bar and keeps what it was asked for."""

    made = []

    def __init__(self, **options):
        self.options, self.done = options, 0
        Bar.made.append(self)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.is_closed = True

    def update(self, count):
        self.done += count


@pytest.fixture
def bars(monkeypatch):
    """The progress bars of a notebook, in order."""
    monkeypatch.setattr(Bar, "made", [])
    monkeypatch.setattr(scoring, "tqdm", Bar)
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    return Bar.made


@pytest.mark.parametrize("from_cache", [True, False])
def test_a_bar_counts_the_scored_answers(tiny_model, tiny_tokenizer, bars, monkeypatch, from_cache):
    monkeypatch.setattr(scoring, "_is_free_of_slots", lambda model: from_cache)
    scoring.score_choices(tiny_model, tiny_tokenizer, PROMPTS, CHOICES, batch_tokens=1)
    [bar] = bars
    assert bar.options["total"] == bar.done == 8 and bar.is_closed
    assert bar.options["delay"] > 0 and not bar.options["leave"] and not bar.options["disable"]


def test_a_bar_counts_the_written_texts(tiny_model, tiny_tokenizer, bars):
    scoring.generate(tiny_model, tiny_tokenizer, PROMPTS, max_new_tokens=1, batch_size=3)
    assert [(bar.options["total"], bar.done) for bar in bars] == [(4, 4)]


def test_nobody_is_shown_a_bar_in_a_log_file(tiny_model, tiny_tokenizer, bars, monkeypatch):
    monkeypatch.delitem(sys.modules, "ipykernel")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    scoring.generate(tiny_model, tiny_tokenizer, PROMPTS, max_new_tokens=1)
    assert bars[0].options["disable"]


def test_a_caller_that_counts_itself_gets_no_second_bar(tiny_model, bars):
    told = []
    scoring.score_continuations(tiny_model, [[5, 6]], [[[7], [8]]], on_scored=told.append)
    assert not bars and sum(told) == 2
