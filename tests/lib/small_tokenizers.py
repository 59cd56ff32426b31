"""Small tokenizers of the kinds that are in use: what differs is how text becomes tokens."""

import json

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

SUBJECTS = ["The film", "This book", "My phone", "The old bridge", "A small cafe", "Our teacher"]
VERDICTS = ["is good", "is bad", "was slow, but funny", "cost 25 euros", "made us laugh", "broke"]
CORPUS = [f"{subject} {verdict}." for subject in SUBJECTS for verdict in VERDICTS] * 3 + [
    "Is the sentiment of this review positive or negative? Answer with one word.",
    "user assistant system positive negative neutral yes no <s> </s> <|im_end|> [INST]",
]
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# The blanks, and who strips what, are those of the families' own templates.
LLAMA_2 = (
    "{% for m in messages %}{% if m['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + m['content'].strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'].strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}"
    "{{ '[INST] ' + m['content'] + '[/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}"
    "{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
# Like Zephyr's: the tokenizer adds a beginning-of-text token, and the template has none.
ZEPHYR = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + eos_token + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)


def _trained_bpe(specials, pieces=400):
    """A BPE vocabulary of words with a metaspace, and a byte for each character it lacks."""
    tokenizer = Tokenizer(models.BPE(unk_token=specials[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    trainer = trainers.BpeTrainer(
        vocab_size=pieces, special_tokens=specials, show_progress=False, initial_alphabet=["\n"]
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    state = json.loads(tokenizer.to_str())["model"]
    vocab = state["vocab"] | {f"<0x{i:02X}>": len(state["vocab"]) + i for i in range(256)}
    merges = [tuple(pair) for pair in state["merges"]]
    return Tokenizer(
        models.BPE(
            vocab=vocab, merges=merges, unk_token=specials[0], byte_fallback=True, fuse_unk=True
        )
    )


def _finished(tokenizer, specials, template, bos, eos, decoder=None):
    """The tokenizer with its special tokens and, where there is one, its opening token."""
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in specials])
    if bos:
        ids = [(bos, tokenizer.token_to_id(bos))]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=ids
        )
    tokenizer.decoder = decoder or decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=bos,
        eos_token=eos,
        pad_token=eos,
        chat_template=template,
        model_max_length=512,
    )


def byte_level():
    """GPT-2, SmolLM2, Qwen: bytes, no opening token; offsets without the blank before a word."""
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    return _finished(tokenizer, specials, CHATML, None, "<|im_end|>", decoders.ByteLevel())


def llama_2():
    """Llama 2: a blank before each stretch of text, put there by the normalizer."""
    specials = ["<unk>", "<s>", "</s>"]
    tokenizer = _trained_bpe(specials)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    return _finished(tokenizer, specials, LLAMA_2, "<s>", "</s>")


def mistral():
    """Mistral: a blank before the first word of a text only."""
    specials = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"]
    tokenizer = _trained_bpe(specials)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    return _finished(tokenizer, specials, MISTRAL, "<s>", "</s>")


def gemma():
    """Gemma: no blank is added; line breaks are tokens of their own; turns do not end in <eos>."""
    specials = ["<unk>", "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"]
    tokenizer = _trained_bpe(specials)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.add_tokens([AddedToken("\n\n", normalized=False), AddedToken("\n", normalized=False)])
    return _finished(tokenizer, specials, GEMMA, "<bos>", "<eos>")


def unigram(prepend_scheme="always"):
    """T5, XGLM and others: Unigram, with the control tokens among the pieces."""
    specials = ["<unk>", "<s>", "</s>", "<|user|>", "<|assistant|>"]
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend_scheme)
    trainer = trainers.UnigramTrainer(
        vocab_size=200, special_tokens=specials, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    decoder = decoders.Metaspace(prepend_scheme=prepend_scheme)
    return _finished(tokenizer, specials, ZEPHYR, "<s>", "</s>", decoder)


KINDS = {
    "byte-level": byte_level,
    "llama 2": llama_2,
    "mistral": mistral,
    "gemma": gemma,
    "unigram": unigram,
    "unigram, never": lambda: unigram("never"),
}
