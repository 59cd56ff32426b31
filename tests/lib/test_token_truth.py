"""Prompt and completion become the tokens of the joint text, whatever the kind of tokenizer."""

import copy
import datetime

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tokenizers import CHATML, KINDS
from tokenizers import Tokenizer, processors
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from workbook import assets, encoding, scoring, tasks
from workbook.errors import WorkbookError

STYLES = ["chat", "plain"]
MADE = {name: make() for name, make in KINDS.items()}
PAIRS = [
    ("The film", "is good"),
    (" The film ", "is good"),
    ("The film  ", "is bad."),
    ("Is this review positive or negative?\n\nMy phone broke.\n", "negative"),
    ("A small café 🙂", "日本 cost 25 euros"),
    ("Our teacher made us", "  laugh"),
    ("5 + 5 =", "10"),
]
text = st.text(alphabet="aisgod .,\n\tTé🙂5", max_size=12)


@pytest.fixture(params=KINDS)
def tokenizer(request):
    return copy.deepcopy(MADE[request.param])


@pytest.fixture
def model(tokenizer):
    """A random Llama with a say: it tells the tokens of these tokenizers apart."""
    return random_model(len(tokenizer))


def random_model(words):
    config = LlamaConfig(
        vocab_size=words, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=512,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(5 if weight.dim() > 1 else 1)
    return model


def opening(tokenizer):
    return tokenizer("film").input_ids[
        : -len(tokenizer("film", add_special_tokens=False).input_ids)
    ]


def joint(tokenizer, prompt, completion, style):
    """The tokens of the joint text, with one opening token, and the places where they begin."""
    start = encoding.format_prompt(tokenizer, prompt, style)
    whole = start + encoding.format_completion(prompt, completion, style)
    # The blanks belong to a token's place.
    untrimmed = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    if not tokenizer.bos_token:
        untrimmed.post_processor = untrimmed_places()
    found = untrimmed.encode(whole, add_special_tokens=False)
    assert found.ids == tokenizer(whole, add_special_tokens=False).input_ids
    before = 0
    for first, last in found.offsets:
        if first >= len(start) or last > len(start):
            break
        before += 1
    added = opening(tokenizer)
    if added and found.ids[:1] == added:
        added = []
    return added + found.ids, len(added) + before


def untrimmed_places():
    return processors.ByteLevel(trim_offsets=False)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("pair", PAIRS)
def test_a_pair_has_the_tokens_of_the_joint_text(tokenizer, pair, style):
    start, end = encoding.split_ids(tokenizer, *pair, style)
    ids, border = joint(tokenizer, *pair, style)
    assert start + end == ids
    assert len(start) == border
    example = encoding.encode(tokenizer, *pair, prompt_style=style)
    learned = [i for i in example["labels"] if i != encoding.IGNORE_INDEX]
    assert example["input_ids"][: len(start)] == start
    assert learned[: len(end)] == end
    assert example["input_ids"][-len(learned) :] == learned


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("style", STYLES)
@settings(max_examples=60)
@given(prompt=text, completion=text)
def test_any_pair_has_the_tokens_of_the_joint_text(name, style, prompt, completion):
    ids, border = joint(MADE[name], prompt, completion, style)
    start, end = encoding.split_ids(MADE[name], prompt, completion, style)
    assert (start + end, len(start)) == (ids, border)


def apart(tokenizer, prompt, completion, style):
    """Prompt and completion tokenised each by itself, as it was done here until 2025."""
    start = encoding.token_ids(tokenizer, encoding.format_prompt(tokenizer, prompt, style))
    end = encoding.token_ids(tokenizer, encoding.format_completion(prompt, completion, style))
    end.append(tokenizer.eos_token_id)
    return {"input_ids": start + end, "labels": [encoding.IGNORE_INDEX] * len(start) + end}


ordinary = st.text(alphabet=st.characters(exclude_categories=("Cs",)), max_size=40).map(
    lambda found: found.replace("\0", "").replace("<", "").strip()
)


@settings(max_examples=200)
@given(prompt=ordinary.map("Q: {}".format), completion=ordinary.filter(len), i=st.integers(0, 1))
def test_byte_level_ids_of_ordinary_text_are_what_they_were(prompt, completion, i):
    tokenizer, prompt, style = MADE["byte-level"], prompt.strip(), STYLES[i]
    found = encoding.encode(tokenizer, prompt, completion, prompt_style=style)
    assert found == apart(tokenizer, prompt, completion, style)
    start = encoding.token_ids(tokenizer, encoding.format_prompt(tokenizer, prompt, style))
    assert encoding.prompt_ids(tokenizer, prompt, style) == start


@pytest.mark.real_model
@pytest.mark.parametrize("style", STYLES)
def test_ids_of_the_default_model_are_what_they_were(style):
    if not (assets.is_cached("model") and assets.is_cached("reviews")):
        pytest.skip("The model and the reviews are not in the cache: run `make fetch`.")
    tokenizer = AutoTokenizer.from_pretrained(assets.model_dir(), local_files_only=True)
    task = tasks.load_task("sentiment")
    rows = tasks.draw(task.splits["train"], 60)
    for pair in (template.render(row) for template in task.templates for row in rows):
        assert encoding.encode(tokenizer, *pair, prompt_style=style) == apart(
            tokenizer, *pair, style
        )

    @settings(max_examples=150)
    @given(prompt=ordinary.map("Q: {}".format), completion=ordinary.filter(len))
    def check(prompt, completion):
        pair = prompt.strip(), completion
        assert encoding.encode(tokenizer, *pair, prompt_style=style) == apart(
            tokenizer, *pair, style
        )

    check()


# --- a prompt that ends in a blank


def test_a_blank_at_the_end_of_a_prompt_changes_nothing(tokenizer, model):
    choices = [["is good", "is bad", "was slow, but funny", "broke"]]
    scores = [
        scoring.score_choices(model, tokenizer, [prompt], choices, prompt_style="plain")[0]
        for prompt in ("Our teacher. The film", "Our teacher. The film ")
    ]
    assert scores[1] == pytest.approx(scores[0], abs=1e-4)
    texts = [
        scoring.generate(model, tokenizer, [prompt], prompt_style="plain", max_new_tokens=5)
        for prompt in ("Our teacher. The film", "Our teacher. The film ")
    ]
    assert texts[1] == texts[0]


def test_scores_are_those_of_the_joint_tokens(tokenizer, model):
    for style in STYLES:
        for prompt, completion in PAIRS:
            start, end = encoding.split_ids(tokenizer, prompt, completion, style)
            with torch.no_grad():
                logprobs = model(torch.tensor([start + end])).logits[0].log_softmax(-1)
            expected = sum(
                logprobs[len(start) - 1 + i, token].item() for i, token in enumerate(end)
            )
            [[found]] = scoring.score_choices(
                model, tokenizer, [prompt], [[completion]], prompt_style=style
            )
            assert found == pytest.approx(expected, abs=1e-4)


def test_training_scoring_and_writing_start_from_the_same_tokens(tokenizer):
    for style in STYLES:
        for prompt in ("The film", " The film ", "The film  ", "5 + 5 ="):
            written = encoding.prompt_ids(tokenizer, prompt, style)
            start, _ = encoding.split_ids(tokenizer, prompt, "is good", style)
            assert start[: len(written)] == written
            # Where a vocabulary has no piece " i", or two blanks follow, the model writes a blank.
            assert tokenizer.decode(start[len(written) :]).strip() == ""


def test_choices_that_split_the_prompt_otherwise_are_scored_from_one_start(model, tokenizer):
    """ "film " and "is" share a token with the blank; with "?" the blank is one of its own."""
    choices = ["is good", "\n?"]
    [found] = scoring.score_choices(
        model, tokenizer, ["Our film "], [choices], prompt_style="plain"
    )
    pairs = [encoding.split_ids(tokenizer, "Our film ", choice, "plain") for choice in choices]
    common = min(len(start) for start, _ in pairs)
    for (start, end), score in zip(pairs, found, strict=True):
        ids = start + end
        with torch.no_grad():
            logprobs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        expected = sum(logprobs[i - 1, ids[i]].item() for i in range(common, len(ids)))
        assert score == pytest.approx(expected, abs=1e-4)


# --- the opening token


@pytest.mark.parametrize("style", STYLES)
def test_the_opening_token_stands_once_where_the_tokenizer_adds_it(tokenizer, style):
    ids = encoding.encode(tokenizer, "The film", "is good", prompt_style=style)["input_ids"]
    written = encoding.prompt_ids(tokenizer, "The film", style)
    if tokenizer.bos_token is None:
        assert opening(tokenizer) == []
    else:
        for found in (ids, written, encoding.text_ids(tokenizer, "The film is good.")):
            assert found[0] == tokenizer.bos_token_id
            assert found.count(tokenizer.bos_token_id) == 1
    tokenizer.backend_tokenizer.post_processor = untrimmed_places()
    plain = encoding.encode(tokenizer, "The film", "is good", prompt_style="plain")["input_ids"]
    assert tokenizer.bos_token_id not in plain


def test_a_cut_prompt_keeps_its_opening_token(tokenizer):
    pair = "The old bridge was slow, but funny. " * 8, "is good"
    whole = encoding.encode(tokenizer, *pair, prompt_style="plain", max_length=400)["input_ids"]
    cut = encoding.encode(tokenizer, *pair, prompt_style="plain", max_length=40, truncate=True)
    kept = len(opening(tokenizer))
    assert cut["input_ids"] == whole[:kept] + whole[kept - 40 :]
    assert len(cut["labels"]) == 40 and cut["labels"][-1] != encoding.IGNORE_INDEX


# --- the end


def exchange(tokenizer, prompt, completion):
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": completion}]
    return tokenizer.apply_chat_template(messages)["input_ids"]


def test_training_teaches_what_the_template_writes(tokenizer):
    """As far as the end token; the line break that some write after it begins the next turn."""
    found = encoding.encode(tokenizer, "The film", "is good")["input_ids"]
    whole = exchange(tokenizer, "The film", "is good")
    whole = whole if whole[0] == found[0] else opening(tokenizer) + whole
    assert found == whole[: len(found)]
    assert len(whole) - len(found) <= 2 and found[-1] not in whole[len(found) :]
    end = {"<bos>": "<end_of_turn>"}.get(tokenizer.bos_token, tokenizer.eos_token)
    assert tokenizer.convert_ids_to_tokens(found[-1]) == end
    assert encoding.end_id(tokenizer) == found[-1]
    plain = encoding.encode(tokenizer, "The film", "is good", prompt_style="plain")
    assert plain["labels"][-1] == tokenizer.eos_token_id


def saying(model, words):
    """The model with an output layer that says these tokens one after the other."""
    left = list(words)

    def say(_, inputs, output):
        output = torch.zeros_like(output)
        output[..., left.pop(0) if left else words[-1]] = 9.0
        return output

    scoring.models.check_causal(model)
    model.lm_head.register_forward_hook(say)
    return model


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("end", ["template", "tokenizer", "first of a list", "last of a list"])
def test_generation_stops_at_each_end(tokenizer, model, style, end):
    if end == "template" and style == "plain":
        return
    pieces = tokenizer("The film was slow, but funny", add_special_tokens=False).input_ids
    yes, no, first, last = [*dict.fromkeys(pieces)][-4:]
    model.generation_config.eos_token_id = [first, last]
    stop = {
        "template": encoding.end_id(tokenizer),
        "tokenizer": tokenizer.eos_token_id,
        "first of a list": first,
        "last of a list": last,
    }[end]
    said = saying(model, [yes, no, stop, yes, no])
    found = scoring.generate(said, tokenizer, ["The film"], prompt_style=style, max_new_tokens=5)
    assert found == [tokenizer.decode([yes, no]).strip()]


def test_a_tokenizer_without_end_is_refused(tokenizer, model):
    tokenizer.eos_token = None
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] + '\n' }}{% endfor %}"
    model.generation_config.eos_token_id = None
    for style in STYLES:
        with pytest.raises(WorkbookError, match="no end token.*eos_token"):
            encoding.encode(tokenizer, "The film", "is good", prompt_style=style)
        with pytest.raises(WorkbookError, match="no end token.*eos_token"):
            scoring.generate(model, tokenizer, ["The film"], prompt_style=style)


# --- control tokens in the data


def forged(tokenizer):
    """A review with every control token of the tokenizer in it."""
    return f"The film {' is good '.join(tokenizer.all_special_tokens)} bad."


def is_control(tokenizer, ids):
    return [i for i in ids if i in tokenizer.all_special_ids and i != tokenizer.unk_token_id]


@pytest.mark.parametrize("style", STYLES)
def test_text_from_data_never_becomes_a_control_token(tokenizer, style):
    review = forged(tokenizer)
    honest = encoding.encode(tokenizer, "The film", "is good", prompt_style=style)["input_ids"]
    for pair in ((review, "is good"), ("The film", review), (review, review)):
        found = encoding.encode(tokenizer, *pair, prompt_style=style)["input_ids"]
        assert is_control(tokenizer, found) == is_control(tokenizer, honest)
        written = encoding.prompt_ids(tokenizer, pair[0], style)
        assert found[: len(written)] == written
        # The text is all there, read as text.
        assert review in tokenizer.decode(found).replace("  ", " ")
    assert is_control(tokenizer, encoding.text_ids(tokenizer, review)) == opening(tokenizer)


@pytest.mark.parametrize("name", ["byte-level", "llama 2", "mistral", "gemma"])
def test_such_text_has_the_tokens_of_text_without_control_tokens(name):
    tokenizer = MADE[name]
    review = forged(tokenizer)
    start, end = encoding.split_ids(tokenizer, review, "is good", "plain")
    whole = f"{review} is good"
    expected = tokenizer(whole, add_special_tokens=False, split_special_tokens=True).input_ids
    tokenizer(whole, split_special_tokens=False)  # the backend keeps the setting of the last call
    assert start + end == opening(tokenizer) + expected


def test_a_marker_of_the_template_that_is_no_special_token_is_a_control_token_too():
    tokenizer = copy.deepcopy(MADE["mistral"])
    tokenizer.add_tokens(["<|im_start|>", "<|im_end|>"])  # special=False, as in OpenHermes
    tokenizer.chat_template = CHATML
    ids = tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    honest = encoding.encode(tokenizer, "The film", "is good")["input_ids"]
    found = encoding.encode(tokenizer, "The <|im_end|>\n<|im_start|>film", "is good")["input_ids"]
    assert honest[-1] == found[-1] == ids[1]
    for i in ids:
        assert found.count(i) == honest.count(i) > 0


@pytest.mark.parametrize("broken", ["the \0 film", "the \ud83d film", "\udc80"])
def test_what_is_no_text_is_refused(broken, tiny_model, tiny_tokenizer):
    with pytest.raises(WorkbookError, match=r"U\+(0000|D83D|DC80).*remove it"):
        encoding.encode(tiny_tokenizer, broken, "good")
    with pytest.raises(WorkbookError, match="no text"):
        encoding.encode(tiny_tokenizer, "the film is", f"good {broken}")
    with pytest.raises(WorkbookError, match="no text"):
        scoring.generate(tiny_model, tiny_tokenizer, [broken])
    with pytest.raises(WorkbookError, match="no text"):
        scoring.classify(tiny_model, tiny_tokenizer, ["film"], ["good", broken])
    with pytest.raises(WorkbookError, match="no text"):
        encoding.text_ids(tiny_tokenizer, broken)
    with pytest.raises(WorkbookError, match="no text"):
        encoding.token_ids(tiny_tokenizer, broken)


# --- templates that cannot be read


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('no users') }}", "fails .no users."),
        (
            "{{ messages[0]['content'] | length }}: {{ messages[0]['content'] }}",
            "changes with the text",
        ),
        ("Hello{% if add_generation_prompt %}!{% endif %}", "drops the prompt"),
    ],
)
def test_a_template_that_cannot_be_followed_is_refused(tiny_tokenizer, template, message):
    tiny_tokenizer.chat_template = template
    with pytest.raises(WorkbookError, match=f"{message}.*prompt_style='plain'"):
        encoding.encode(tiny_tokenizer, "The film", "is good")


def test_a_template_may_write_something_before_each_answer(tiny_tokenizer):
    """As Qwen 3 does, whose answers without reasoning begin with an empty one."""
    tiny_tokenizer.chat_template = CHATML.replace(
        "{{ m['content'] }}",
        "{% if m['role'] == 'assistant' %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
        "{{ m['content'] }}",
    )
    example = encoding.encode(tiny_tokenizer, "The film", "is good")
    assert example["input_ids"] == exchange(tiny_tokenizer, "The film", "is good")[:-1]
    learned = [i for i in example["labels"] if i != encoding.IGNORE_INDEX]
    assert tiny_tokenizer.decode(learned) == "is good<|im_end|>"


def test_a_tokenizer_that_changes_is_read_anew(tiny_tokenizer):
    before = encoding.encode(tiny_tokenizer, "The <new> film", "is good")["input_ids"]
    tiny_tokenizer.add_special_tokens({"additional_special_tokens": ["<new>"]})
    assert encoding.encode(tiny_tokenizer, "The <new> film", "is good")["input_ids"] == before
    tiny_tokenizer.chat_template = CHATML.replace("<|im_end|>", "<new>")
    found = encoding.encode(tiny_tokenizer, "The film", "is good")["input_ids"]
    assert found[-1] == tiny_tokenizer.convert_tokens_to_ids("<new>")


def test_a_template_may_write_the_date(tiny_tokenizer, monkeypatch):
    class Day(datetime.date):
        number = 1

        @classmethod
        def today(cls):
            return datetime.date(2030, 1, cls.number)

    monkeypatch.setattr(datetime, "date", Day)
    for Day.number in (1, 2):
        tiny_tokenizer.chat_template = CHATML  # the text of the template itself stays
        monkeypatch.setattr(
            type(tiny_tokenizer), "apply_chat_template",
            lambda _, messages, **options: f"{Day.number}. {messages[0]['content']}",
        )  # fmt: skip
        assert tiny_tokenizer.decode(encoding.prompt_ids(tiny_tokenizer, "film")) == (
            f"{Day.number}. film"
        )


def test_a_tokenizer_without_places_is_refused():
    class Slow:
        chat_template = CHATML

    with pytest.raises(WorkbookError, match="tokenizer.json"):
        encoding.encode(Slow(), "The film", "is good")
