"""Fixtures that the unit tests share: a tiny model, its tokenizer, and an empty cache."""

import copy
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["WORKBOOK_LANGUAGE"] = "en"  # whatever language this checkout was opened in

import hypothesis
import pytest
import torch
from accelerate.state import AcceleratorState, GradientState
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

# How long an example takes is the machine's affair.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")

END = "<|im_end|>"
SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", END]
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SUBJECTS = ["The film", "This book", "My phone", "The old bridge", "A small cafe", "Our teacher"]
VERDICTS = ["is good", "is bad", "was slow, but funny", "cost 25 euros", "made us laugh", "broke"]
SENTENCES = [f"{subject} {verdict}." for subject in SUBJECTS for verdict in VERDICTS] + [
    "Is the sentiment of this review positive or negative? Answer with one word.",
    "What is the capital of France?",
    "user assistant system positive negative neutral yes no",
]


@pytest.fixture(scope="session")
def _trained_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token=END,
        pad_token=END,
        chat_template=CHAT_TEMPLATE,
        model_max_length=512,
    )


@pytest.fixture
def tiny_tokenizer(_trained_tokenizer) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of 400 tokens with a chat template; pad and end are the same."""
    return copy.deepcopy(_trained_tokenizer)


@pytest.fixture(scope="session")
def _initial_model(_trained_tokenizer) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=len(_trained_tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=_trained_tokenizer.bos_token_id,
        eos_token_id=_trained_tokenizer.eos_token_id,
        pad_token_id=_trained_tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LlamaForCausalLM(config).eval()


@pytest.fixture
def tiny_model(_initial_model) -> LlamaForCausalLM:
    """A random Llama of two layers, width 32, tied embeddings: the same weights in each test."""
    return copy.deepcopy(_initial_model)


@pytest.fixture(params=["fp32", "bf16"])
def precision(request, monkeypatch):
    """Either working precision, whichever this machine would choose."""
    monkeypatch.setenv("WORKBOOK_PRECISION", request.param)
    return request.param


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder that `WORKBOOK_CACHE` names."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("WORKBOOK_CACHE", str(folder))
    return folder


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that pip searches instead of any index."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def offline_hub(monkeypatch, tmp_path):
    """Hugging Face's offline mode, with a hub cache of the test's own."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture(autouse=True)
def own_progress(tmp_path, monkeypatch):
    """A record of solved exercises for each test alone: the learner's own stays as it is."""
    monkeypatch.setenv("WORKBOOK_PROGRESS", str(tmp_path / "progress.json"))


@pytest.fixture
def accelerate():
    """Accelerate without the settings that it remembers from earlier tests, nor for later ones."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
