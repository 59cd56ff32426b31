"""What is made of the fetched files: the model as safetensors, reviews, templates, slides."""

import contextlib
import io
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

REVIEW_FILES = (
    "movieReviewSnippets_GroundTruth.txt",
    "amazonReviewSnippets_GroundTruth.txt",
    "nytEditorialSnippets_GroundTruth.txt",
    "tweets_GroundTruth.txt",
)
SLIDE_FILES = {  # in the package: in the cache
    "LICENSE": "licence",
    "dist/reset.css": "reset.css",
    "dist/reveal.css": "reveal.css",
    "dist/reveal.js": "reveal.js",
    "plugin/notes/notes.js": "notes.js",
}
TEMPLATE_SETS = ("ag_news", "glue/rte", "imdb", "rotten_tomatoes", "samsum")


def unpack_reviews(archive: Path, folder: Path) -> None:
    """Write the rated reviews from their package's archive."""
    with tarfile.open(archive) as tar:
        for entry in tar:
            name = PurePosixPath(entry.name).name
            if entry.isfile() and name in REVIEW_FILES:
                (folder / name).write_bytes(tar.extractfile(entry).read())


def unpack_templates(archive: Path, folder: Path) -> None:
    """Write the template files of TEMPLATE_SETS from promptsource's archive."""
    with tarfile.open(archive) as tar:
        for entry in tar:
            # promptsource-0.2.3/promptsource/templates/glue/rte/templates.yaml
            name = "/".join(PurePosixPath(entry.name).parts[3:-1])
            if entry.isfile() and entry.name.endswith(".yaml") and name in TEMPLATE_SETS:
                path = folder / f"{name.replace('/', '_')}.yaml"
                path.write_bytes(tar.extractfile(entry).read())


def unpack_slides(archive: Path, folder: Path) -> None:
    """Write the files of reveal.js that a deck needs from their package's wheel."""
    with zipfile.ZipFile(archive) as wheel:
        for member, name in SLIDE_FILES.items():
            content = wheel.read(f"sphinx_revealjs/_static/revealjs/{member}")
            (folder / name).write_bytes(content)


def convert_model(gguf: Path, folder: Path) -> None:
    """Write the GGUF file's model as safetensors with its tokenizer.

    float32: rounding the dequantized weights to bfloat16 moves log-probabilities by up to 0.3.
    """
    import torch

    _convert(gguf, folder, torch.float32, {}, _split_digits)


def convert_base(gguf: Path, folder: Path, mark: dict[str, str]) -> None:
    """Write the base model's GGUF file as safetensors with its tokenizer, `mark` in its config.

    bfloat16, the format in which the original was published: float32 would take 1.1 GB.
    """
    import torch

    _convert(gguf, folder, torch.bfloat16, mark)


def _convert(
    gguf: Path,
    folder: Path,
    dtype: "torch.dtype",
    mark: dict[str, str],
    mend_tokenizer: Callable = lambda tokenizer: None,
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with quiet_transformers(), torch.random.fork_rng(), contextlib.redirect_stderr(io.StringIO()):
        source = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
        model = AutoModelForCausalLM.from_pretrained(**source, dtype=dtype)
        tokenizer = AutoTokenizer.from_pretrained(**source)
        _without_quantization(model, mark).save_pretrained(folder)
        mend_tokenizer(tokenizer)
        tokenizer.model_max_length = model.config.max_position_embeddings
        tokenizer.save_pretrained(folder)
    # safetensors leaves its file to the owner alone; a classroom may share one cache
    shutil.copymode(folder / "config.json", folder / "model.safetensors")


def _without_quantization(model, mark: dict[str, str]):
    """Return a copy without the GGUF mark, with which transformers refuses to save."""
    config = model.config.to_dict() | mark
    del config["quantization_config"]
    copy = type(model)(type(model.config).from_dict(config)).to(model.dtype)
    copy.load_state_dict(model.state_dict())
    copy.generation_config = model.generation_config
    return copy


def _split_digits(tokenizer) -> None:
    """Split at digits before all else, as the file asks for ("tokenizer.ggml.pre": "smollm").

    transformers leaves this step out, and then tokenizes the blank line before a numbered item
    in another way than the model was trained with.
    """
    from tokenizers import pre_tokenizers

    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level])


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence the warnings and progress bars of transformers for a block."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
