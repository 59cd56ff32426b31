"""Tune a larger model on the course's rows, templates and masks with TRL's SFTTrainer.

    accelerate launch --config_file examples/accelerate/one_gpu.yaml examples/train_sft.py \\
        --task sentiment --examples 1000 --model_name_or_path Qwen/Qwen2.5-7B-Instruct \\
        --use_peft --lora_r 16 --learning_rate 2e-4 --output_dir tuned

Without `--use_peft` all weights learn; with `--load_in_4bit` too it is QLoRA. All options of TRL's
SFTConfig and ModelConfig can be given, also in a file by `--config`. `eight_gpus_fsdp.yaml` beside
`one_gpu.yaml` shares out the weights, and `slurm.sh` does so over several machines. `workbook plan`
says beforehand what fits.
"""

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


@dataclass
class DataConfig:
    """What of the course's data to learn."""

    task: str = field(default="sentiment", metadata={"help": "A task, or a hub dataset's id."})
    template: str | None = field(default=None, metadata={"help": "Name of one of its templates."})
    examples: int | None = field(default=None, metadata={"help": "Rows drawn of the train split."})


def main(arguments: Sequence[str] | None = None) -> SFTTrainer:
    """Tune as the command line says, save the model with its tokenizer, return the trainer."""
    data, config, model = TrlParser((DataConfig, SFTConfig, ModelConfig)).parse_args_and_config(
        arguments
    )
    config.model_init_kwargs = {
        "revision": model.model_revision, "dtype": model.dtype,
        "attn_implementation": model.attn_implementation,
    } | (config.model_init_kwargs or {})  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(
        model.model_name_or_path, revision=model.model_revision
    )
    trainer = SFTTrainer(
        model=model.model_name_or_path,
        args=config,
        train_dataset=train_dataset(data, tokenizer),
        processing_class=tokenizer,
        peft_config=get_peft_config(model),
        quantization_config=get_quantization_config(model),
    )
    trainer.train(resume_from_checkpoint=config.resume_from_checkpoint)
    trainer.save_model(config.output_dir)
    return trainer


def train_dataset(data: DataConfig, tokenizer) -> Dataset:
    """Return rows with `input_ids` and `labels`, which TRL takes as they are."""
    task = tasks.load_task(data.task)
    rows, template = task.splits["train"], task.template(data.template or 0)
    if data.examples:
        rows = tasks.draw(rows, data.examples)
    return Dataset.from_list(encoding.encode_pairs(tokenizer, map(template.render, rows)))


if __name__ == "__main__":
    main()
