"""From prompt–completion pairs to token ids, labels and batches (taught in notebook 02)."""

import datetime
import functools
import json
import re
import secrets
from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import NamedTuple

import jinja2
import torch
from tokenizers import Tokenizer

from .errors import WorkbookError

IGNORE_INDEX = -100  # the label that PyTorch's cross-entropy skips
# Unicode noncharacters: no text holds them, and no chat template changes them.
_USER, _ASSISTANT, _EDGE = "\ufdd1", "\ufdd2", "\ufdd3"
_NO_TEXT = re.compile(r"[\x00\ud800-\udfff]")
_ANY_WORD = "a"  # stands for the completion while nobody knows it


def format_prompt(tokenizer, prompt: str, prompt_style: str = "chat") -> str:
    """Return the text that the model reads before it writes the completion.

    `prompt_style` is "chat" (the tokenizer's own chat template, without the default system
    message) or "plain" (the prompt as it is). What the template writes before each answer belongs
    to it. The ids that a model gets are those of `prompt_ids`.
    """
    return "".join(_prompt_parts(tokenizer, prompt, prompt_style))


def format_completion(prompt: str, completion: str, prompt_style: str = "chat") -> str:
    """Return the completion as it follows the formatted prompt: in plain style after a space."""
    needs_space = prompt_style == "plain" and prompt and not prompt[-1].isspace()
    return f" {completion}" if needs_space else completion


def token_ids(tokenizer, text: str) -> list[int]:
    """Return the ids of a text without any token added by the tokenizer.

    Control tokens written in the text count as such: it may be a formatted prompt.
    """
    _check_text(text)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def text_ids(tokenizer, text: str) -> list[int]:
    """Return the ids of a plain text as a model was pretrained on it.

    The beginning-of-text token stands first where the tokenizer adds one by itself, and what looks
    like a control token in the text is read as text.
    """
    _check_text(text)
    return _opened(tokenizer, _reader(tokenizer).split("", text)[1])


def prompt_ids(tokenizer, prompt: str, prompt_style: str = "chat") -> list[int]:
    """Return the ids that generation starts from: those before any completion in `split_ids`.

    Blanks at the end of the prompt are not among them, since the last one begins the next word's
    token (" film"): the model writes it.
    """
    _check_text(prompt)
    left = _left(tokenizer, prompt, prompt_style)
    kept = left.rstrip(" ")
    right = left[len(kept) :] + format_completion(prompt, _ANY_WORD, prompt_style)
    return _opened(tokenizer, _reader(tokenizer).split(kept, right)[0])


def split_ids(
    tokenizer, prompt: str, completion: str, prompt_style: str = "chat"
) -> tuple[list[int], list[int]]:
    """Return the ids of prompt and completion, which together are the tokens of the joint text.

    Tokens that lie wholly before the border are the prompt's; one that crosses it, such as the
    " is" of "The film " and "is good", is the completion's. The prompt begins with the token that
    the tokenizer adds by itself, once; the end token is not there yet. Raises WorkbookError for
    what is no text, and for tokenizers that do not tell where a token begins.
    """
    return _split(tokenizer, prompt, completion, prompt_style, "")


def continuation_ids(tokenizer, context: str, continuation: str) -> tuple[list[int], list[int]]:
    """Return the ids of a context and of the text that continues it, joined as they stand.

    Parted as in lm-evaluation-harness: white space at the end of the context is the continuation's.
    Errors and the token that opens a text as in `split_ids`.
    """
    _check_text(context)
    _check_text(continuation)
    kept = context.rstrip()
    start, end = _reader(tokenizer).split(kept, context[len(kept) :] + continuation)
    return _opened(tokenizer, start), end


def end_id(tokenizer, prompt_style: str = "chat") -> int:
    """Return the token that ends a completion: the chat template's own, else the tokenizer's.

    Raises WorkbookError if there is none.
    """
    end = _reader(tokenizer).frame.end if prompt_style == "chat" else None
    if end is not None:
        return tokenizer.convert_tokens_to_ids(end)
    if tokenizer.eos_token_id is None:
        raise WorkbookError(
            "This tokenizer has no end token, so that nothing could teach the model to stop: set "
            "tokenizer.eos_token."
        )
    return tokenizer.eos_token_id


def encode(
    tokenizer,
    prompt: str,
    completion: str,
    *,
    prompt_style: str = "chat",
    max_length: int = 512,
    truncate: bool = False,
) -> dict[str, list[int]]:
    """Return `input_ids` and `labels` of one pair: the prompt masked, the end token learned.

    Both lists have the same length in tokens; the border is that of `split_ids`. With `truncate`,
    a pair that is too long loses the beginning of its prompt, never its completion. Raises
    WorkbookError for an empty completion and for a pair longer than `max_length`.
    """
    if not completion.strip():
        raise WorkbookError(f"The completion of {prompt[:60]!r} is empty: give it at least a word.")
    closing = _reader(tokenizer).frame.blank if prompt_style == "chat" else ""
    start, end = _split(tokenizer, prompt, completion, prompt_style, closing)
    end.append(end_id(tokenizer, prompt_style))
    opening = len(_opened(tokenizer, [])) if truncate else 0  # stays in its place
    excess = len(start) + len(end) - max_length
    if excess > 0:
        if not truncate or excess >= len(start) - opening:
            raise WorkbookError(
                f"The pair that begins {prompt[:60]!r} has {max_length + excess} tokens and "
                f"{max_length} fit: shorten it, raise max_length, or, if the completion alone "
                "fits, pass truncate=True to cut the beginning of the prompt."
            )
        start = start[:opening] + start[opening + excess :]
    return {"input_ids": start + end, "labels": [IGNORE_INDEX] * len(start) + end}


def encode_pairs(tokenizer, pairs: Iterable[tuple[str, str]], **options) -> list[dict]:
    """Return the encoded examples of (prompt, completion) pairs; options as in `encode`."""
    return [encode(tokenizer, prompt, completion, **options) for prompt, completion in pairs]


def pad_right(rows: Sequence[Sequence[int]], value: int) -> torch.Tensor:
    """Return the rows as one integer tensor [rows, longest], short rows filled with `value`."""
    tensors = [torch.tensor(row, dtype=torch.long) for row in rows]
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=value)


def collate(examples: Sequence[dict], pad_id: int = 0) -> dict[str, torch.Tensor]:
    """Return a batch: `input_ids`, `attention_mask` and `labels`, each [examples, longest].

    Pads are masked by position, not by id, since the end token often serves as the pad; so any
    `pad_id` will do. Raises WorkbookError if an example has no label to learn from.
    """
    labels = pad_right([example["labels"] for example in examples], IGNORE_INDEX)
    if (labels == IGNORE_INDEX).all(dim=1).any():
        raise WorkbookError("An example has every label masked: give it a completion to learn.")
    return {
        "input_ids": pad_right([example["input_ids"] for example in examples], pad_id),
        "attention_mask": pad_right([[1] * len(example["labels"]) for example in examples], 0),
        "labels": labels,
    }


def check_batch_size(size: int) -> None:
    """Raise WorkbookError for a batch that holds nothing."""
    if size < 1:
        raise WorkbookError(f"A batch size of {size} holds nothing: choose at least 1.")


def length_grouped_batches(
    lengths: Sequence[int], batch_size: int, generator: torch.Generator, chunk: int = 16
) -> list[list[int]]:
    """Return shuffled batches of example indices in which lengths are alike, so few pads are spent.

    The examples are shuffled, cut into chunks of `chunk` batches, sorted by length within each
    chunk, and the batches are shuffled again; each index occurs once. Raises WorkbookError for a
    batch size below 1.
    """
    check_batch_size(batch_size)
    order = torch.randperm(len(lengths), generator=generator).tolist()
    size = batch_size * chunk
    chunks = [order[i : i + size] for i in range(0, len(order), size)]
    grouped = [i for part in chunks for i in sorted(part, key=lengths.__getitem__)]
    batches = [grouped[i : i + batch_size] for i in range(0, len(grouped), batch_size)]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


class _Frame(NamedTuple):
    """What a chat template writes around a prompt and its answer."""

    before: str  # the prompt
    after: str  # the prompt, when an answer is asked for
    lead_in: str  # further, before an answer that is there: Llama 2 has a blank
    blank: str  # between the answer and the end token: mostly nothing
    end: str | None  # the end token, if the template writes one


class _Reader:
    """A tokenizer that tells a template's control tokens from text that merely looks like them.

    Its control tokens have secret names, which the template's text gets and data cannot hold. So
    the whole text is read at once, and no token depends on how it was put together. The original's
    post-processor is left out: it would cut blanks off the places of tokens.
    """

    def __init__(self, tokenizer):
        self.original = tokenizer
        secret = secrets.token_hex(8)
        controls = _control_tokens(tokenizer)
        self.names = {text: f"{_EDGE}{secret}{i}{_EDGE}" for i, text in enumerate(controls)}
        longest_first = sorted(map(re.escape, controls), key=len, reverse=True)
        self.control = re.compile("|".join(longest_first) or r"(?!)")  # (?!) is never found
        state = _renamed(json.loads(tokenizer.backend_tokenizer.to_str()), self.names)
        self.tokenizer = Tokenizer.from_str(json.dumps(state))
        self.greedy_ids = {token["id"] for token in state["added_tokens"] if token["rstrip"]}

    @functools.cached_property
    def frame(self) -> _Frame:
        """The chat template around an exchange, without its default system message."""
        opened = _render(self.original, _USER, add_generation_prompt=True)
        told, _, rest = _render(self.original, _USER, _ASSISTANT).partition(_ASSISTANT)
        before, found, after = opened.partition(_USER)
        if not found:
            raise WorkbookError("The chat template drops the prompt: pass prompt_style='plain'.")
        lead_in = told[len(opened) :] if told.startswith(opened) else ""
        end = self.control.search(rest)
        if not end:
            return _Frame(before, after, lead_in, "", None)
        return _Frame(before, after, lead_in, rest[: end.start()], end[0])

    def named(self, text: str) -> str:
        """Return a template's text with its control tokens by their secret names."""
        return self.control.sub(lambda found: self.names[found[0]], text)

    def split(self, left: str, right: str) -> tuple[list[int], list[int]]:
        """Return the ids of the joint text, parted at the first token that is not wholly left."""
        found, border = self.tokenizer.encode(left + right, add_special_tokens=False), len(left)

        def is_left(token: tuple[int, tuple[int, int]]) -> bool:
            i, (start, end) = token
            # Some control tokens swallow the blanks after them; they stay the template's.
            return start < border and (end <= border or i in self.greedy_ids)

        count = sum(1 for _ in takewhile(is_left, zip(found.ids, found.offsets, strict=True)))
        return found.ids[:count], found.ids[count:]


def _reader(tokenizer) -> _Reader:
    """Return the tokenizer's reader, a new one when its tokens or its template have changed.

    It is new each day too, since some templates write the date.
    """
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise WorkbookError(
            "This tokenizer does not tell where its tokens begin: take a model whose folder has a "
            "tokenizer.json."
        )
    words = str(tokenizer.chat_template), str(tokenizer.special_tokens_map)
    return _made_reader(tokenizer, len(tokenizer), *words, datetime.date.today())


@functools.lru_cache(maxsize=2)  # of a large vocabulary each takes a third of a gigabyte
def _made_reader(tokenizer, *state) -> _Reader:
    return _Reader(tokenizer)


def _control_tokens(tokenizer) -> list[str]:
    """Return the special tokens and the others that the chat template writes, blanks left out."""
    template = str(tokenizer.chat_template or "")
    listed = getattr(tokenizer, "chat_control_tokens", None) or ()
    return [
        token.content
        for token in tokenizer.added_tokens_decoder.values()
        if token.special
        or token.content in listed
        or (token.content in template and not token.content.isspace())
    ]


def _renamed(state: dict, names: dict[str, str]) -> dict:
    """Return a tokenizer's JSON with tokens under other names, at the same ids."""
    for token in state["added_tokens"]:
        if token["content"] in names:
            token |= {"content": names[token["content"]], "normalized": False}
    model = state["model"]
    if isinstance(model["vocab"], dict):
        model["vocab"] = {names.get(piece, piece): i for piece, i in model["vocab"].items()}
    else:  # Unigram: pieces with their scores
        model["vocab"] = [[names.get(piece, piece), score] for piece, score in model["vocab"]]
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
    if "merges" in model:  # none may lead to a name that is gone
        model["merges"] = [
            pair for pair in model["merges"] if names.keys().isdisjoint((*pair, "".join(pair)))
        ]
    return state | {"post_processor": None, "truncation": None, "padding": None}


def _render(tokenizer, *contents: str, **options) -> str:
    """Return an exchange of the contents in the chat template, without its default system message.

    The system message costs time and gains no accuracy: 21 tokens in our model.
    """
    if tokenizer.chat_template is None:
        raise WorkbookError("This tokenizer has no chat template: pass prompt_style='plain'.")
    roles = zip(("user", "assistant"), contents, strict=False)
    messages = [{"role": role, "content": content} for role, content in roles]
    try:
        text = tokenizer.apply_chat_template(messages, tokenize=False, **options)
    except jinja2.TemplateError as error:
        message = f"The chat template fails ({error}): mend it, or pass prompt_style='plain'."
        raise WorkbookError(message) from error
    if text.startswith("<|im_start|>system") and "<|im_start|>user" in text:
        text = text[text.index("<|im_start|>user") :]
    return text


def own_template(tokenizer) -> str:
    """Return a chat template that writes what models read here: no default system message.

    Where the tokenizer's own writes none, it is that one. Raises WorkbookError where there is none.
    """
    _render(tokenizer, _USER)
    template = tokenizer.chat_template
    opening = [{"role": "user", "content": _USER}]
    if tokenizer.apply_chat_template(opening, tokenize=False) == _render(tokenizer, _USER):
        return template
    start = "<|im_start|>user"
    cut = f"whole[whole.index('{start}'):] if messages[0]['role'] != 'system' else whole"
    return f"{{% set whole %}}{template.removesuffix(chr(10))}{{% endset %}}{{{{ {cut} }}}}"


def _prompt_parts(tokenizer, prompt: str, prompt_style: str) -> tuple[str, str, str]:
    """Return what is before the prompt, the prompt, and what is between it and the completion."""
    if prompt_style == "plain":
        return "", prompt, ""
    text = _render(tokenizer, prompt, add_generation_prompt=True)
    before, after, lead_in, *_ = _reader(tokenizer).frame
    inner = text.removeprefix(before).removesuffix(after)  # the template may have stripped it
    if len(inner) != len(text) - len(before) - len(after):
        raise WorkbookError("This chat template changes with the text: pass prompt_style='plain'.")
    return before, inner, after + lead_in


def _left(tokenizer, prompt: str, prompt_style: str) -> str:
    """Return the text before a completion as the reader takes it."""
    named = _reader(tokenizer).named
    before, inner, between = _prompt_parts(tokenizer, prompt, prompt_style)
    return named(before) + inner + named(between)


def _split(tokenizer, prompt, completion, prompt_style, closing) -> tuple[list[int], list[int]]:
    """Return the ids of both sides, `closing` (text of the template) after the completion."""
    _check_text(prompt)
    _check_text(completion)
    reader = _reader(tokenizer)
    right = format_completion(prompt, completion, prompt_style) + reader.named(closing)
    start, end = reader.split(_left(tokenizer, prompt, prompt_style), right)
    return _opened(tokenizer, start), end


def _opened(tokenizer, ids: list[int]) -> list[int]:
    """Return the ids with what the tokenizer puts before a text by itself, unless it is there."""
    bare, full = (
        tokenizer(_ANY_WORD, add_special_tokens=added)["input_ids"] for added in (False, True)
    )
    places = (i for i in range(len(full)) if full[i : i + len(bare)] == bare)
    opening = full[: next(places, 0)]
    return ids if ids[: len(opening)] == opening else opening + ids


def _check_text(text: str) -> None:
    """Raise WorkbookError for what no file of text should hold."""
    if found := _NO_TEXT.search(text):
        raise WorkbookError(
            f"The text {text[:60]!r} has U+{ord(found[0]):04X} as its character {found.start()}, "
            "which is no text: remove it, or read the file in its own encoding."
        )
