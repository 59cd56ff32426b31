"""Tune a larger model on the course's rows, templates and masks with TRL's SFTTrainer.

    accelerate launch --config_file examples/accelerate/one_gpu.yaml examples/train_sft.py \\
        --task sentiment --examples 1000 --model_name_or_path Qwen/Qwen2.5-7B-Instruct \\
        --use_peft --lora_r 16 --lora_target_modules all-linear --dtype bfloat16 \\
        --learning_rate 2e-4 --output_dir tuned

Without `--use_peft` and `--dtype` all weights learn, in float32 with a bf16 pass; with
`--load_in_4bit` too it is QLoRA. All options of TRL's SFTConfig and ModelConfig can be given, also
in a file by `--config`. A killed run goes on with `--resume_from_checkpoint tuned/checkpoint-500`.
`eight_gpus_fsdp.yaml` beside `one_gpu.yaml` shares out the weights, and `slurm.sh` does so over
several machines. `workbook plan` says beforehand what fits.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from datasets import Dataset
from transformers import AutoTokenizer
from trl import (
    ModelConfig,
    SFTConfig,
    SFTTrainer,
    TrlParser,
    get_peft_config,
    get_quantization_config,
)

from workbook import encoding, tasks
from workbook.errors import WorkbookError


@dataclass
class DataConfig:
    """What of the course's data to learn."""

    task: str = field(default="sentiment", metadata={"help": "A task, or a hub dataset's id."})
    template: str | None = field(default=None, metadata={"help": "Name of one of its templates."})
    examples: int | None = field(default=None, metadata={"help": "Rows drawn of the train split."})
    prompt_style: str = field(
        default="chat",
        metadata={"help": "In the chat template, or as it is.", "choices": ["chat", "plain"]},
    )


def main(arguments: Sequence[str] | None = None) -> SFTTrainer:
    """Tune as the command line says, save the model with its tokenizer, return the trainer."""
    data, config, model = TrlParser((DataConfig, SFTConfig, ModelConfig)).parse_args_and_config(
        arguments
    )
    config.model_init_kwargs = {
        "revision": model.model_revision, "dtype": model.dtype,
        "attn_implementation": model.attn_implementation,
    } | (config.model_init_kwargs or {})  # fmt: skip
    tokenizer = load_tokenizer(data, config, model)
    trainer = SFTTrainer(
        model=model.model_name_or_path,
        args=config,
        train_dataset=train_dataset(data, tokenizer, config.max_length),
        processing_class=tokenizer,
        peft_config=get_peft_config(model),
        quantization_config=get_quantization_config(model),
    )
    trainer.train(resume_from_checkpoint=config.resume_from_checkpoint)
    trainer.save_model(config.output_dir)
    return trainer


def load_tokenizer(data: DataConfig, config: SFTConfig, model: ModelConfig):
    """Return the model's tokenizer with the chat template in which the rows are written.

    Raises WorkbookError where no model is named, and for a template of another model.
    """
    if not model.model_name_or_path:
        raise WorkbookError("No model is named: pass --model_name_or_path, a hub id or a folder.")
    if config.chat_template_path:  # TRL would save it beside a model that never read it
        raise WorkbookError(
            "The rows are in the model's own chat template: leave out --chat_template_path, or "
            "save the other one with the model's tokenizer before."
        )
    tokenizer = AutoTokenizer.from_pretrained(
        model.model_name_or_path, revision=model.model_revision
    )
    if data.prompt_style == "chat":  # rows have no default system message: what is saved neither
        tokenizer.chat_template = encoding.own_template(tokenizer)
    return tokenizer


def train_dataset(data: DataConfig, tokenizer, max_length: int | None = None) -> Dataset:
    """Return rows with `input_ids` and `labels`, which TRL takes as they are.

    Raises WorkbookError for a row of more than `max_length` tokens, whose answer TRL would cut off.
    """
    task = tasks.load_task(data.task)
    rows, template = task.splits["train"], task.template(data.template or 0)
    if data.examples:
        rows = tasks.draw(rows, data.examples)
    options = {"prompt_style": data.prompt_style, "max_length": max_length or sys.maxsize}
    return Dataset.from_list(
        encoding.encode_pairs(tokenizer, map(template.render, rows), **options)
    )


if __name__ == "__main__":
    main()
