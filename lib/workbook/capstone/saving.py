"""The output folder: a model that plain `transformers` loads, and its card."""

import copy
from pathlib import Path

from huggingface_hub import ModelCardData, hf_hub_download, metadata_load
from transformers import GenerationConfig

from .. import assets, encoding, models, scoring
from ..assets import convert
from . import recipe as recipes
from .recipe import Recipe
from .report import Report

LICENCES = {
    models.DEFAULT_MODEL: ("apache-2.0", "Apache-2.0", "HuggingFaceTB/SmolLM2-135M-Instruct"),
    models.BASE_MODEL: ("gemma", "the Gemma Terms of Use", "google/gemma-3-270m"),
}


def save_model(model, tokenizer, recipe: Recipe, folder: Path) -> None:
    """Write weights, tokenizer, chat template, generation settings and recipe into a folder.

    The saved template writes what the model was tuned with, so without a default system message.
    Beside what was made from the base model lie its terms.
    """
    ends = scoring.stop_ids(model, tokenizer, recipe.prompt_style)
    plain = copy.deepcopy(tokenizer)
    plain.chat_template = encoding.own_template(tokenizer)
    before = model.generation_config
    model.generation_config = GenerationConfig(
        max_new_tokens=recipe.max_new_tokens, do_sample=False, eos_token_id=ends,
        pad_token_id=tokenizer.pad_token_id, bos_token_id=before.bos_token_id,
    )  # fmt: skip
    try:
        with convert.quiet_transformers():
            model.save_pretrained(folder)
            plain.save_pretrained(folder)
    finally:
        model.generation_config = before
    recipes.write(recipe, folder)
    assets.base.put_notices(model.config, folder)


def licence(name: str | None) -> tuple[str | None, str, str]:
    """Return a base model's licence as the hub's tag and in words, and the model's name.

    Of a model of the user's or the hub's it is what its own card says.
    """
    name = name or models.default_name()
    if name in LICENCES:
        return LICENCES[name]
    folder = Path(name).expanduser()
    card = folder / "README.md" if folder.is_dir() else _hub_card(name)
    tag = (metadata_load(card) or {}).get("license") if card and card.is_file() else None
    unknown = "not known here: look it up before you pass the model on"
    return tag, tag or unknown, folder.name if folder.is_dir() else name


def _hub_card(name: str) -> Path | None:
    """Return the card of a hub's model, None where there is none or the hub cannot be reached."""
    try:
        return Path(hf_hub_download(name, "README.md"))
    except OSError:
        return None


def write_card(folder: Path, report: Report, model, name: str | None) -> None:
    """Write README.md, the model card, with the metadata of the hub's form."""
    tag, words, base = licence(name)
    data = ModelCardData(
        license=tag, base_model=base if "/" in base else None, library_name="transformers",
        pipeline_tag="text-generation", tags=["instruction-fine-tuning-workbook"],
    )  # fmt: skip
    card = report.card(base, words, bool(assets.base.notices(model.config)))
    text = f"---\n{data.to_yaml()}\n---\n\n{card}"
    (folder / "README.md").write_text(text, encoding="utf-8")
