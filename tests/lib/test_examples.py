"""What the folder `examples` ships: the script runs, Accelerate's own loader takes the files."""

import os
import subprocess

import pytest
import torch
from accelerate import FullyShardedDataParallelPlugin
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from workbook import encoding, settings, tasks
from workbook.errors import WorkbookError

pytest.importorskip("trl", reason="TRL is not installed: pip install -e '.[test]'")
EXAMPLES = settings.repo_root() / "examples"


@pytest.fixture
def train_sft(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    import train_sft

    return train_sft


# As SmolLM2's and Qwen 2.5's, which write a system message where there is none.
SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}"
)


@pytest.fixture
def arguments(tiny_model, tiny_tokenizer, tmp_path):
    tiny_model.save_pretrained(tmp_path / "start")
    tiny_tokenizer.save_pretrained(tmp_path / "start")
    return (
        f"--model_name_or_path {tmp_path / 'start'} --task facts --examples 12 --max_steps 2 "
        f"--per_device_train_batch_size 4 --output_dir {tmp_path / 'tuned'} --learning_rate 1e-2 "
        "--use_cpu --bf16 false --report_to none --disable_tqdm true"
    ).split()


def test_the_rows_are_those_that_fit_learns_from(train_sft, tiny_tokenizer):
    data = train_sft.DataConfig(task="facts", examples=12)
    task = tasks.load_task("facts")
    drawn = tasks.draw(task.splits["train"], 12)
    expected = encoding.encode_pairs(tiny_tokenizer, map(task.template(0).render, drawn))
    found = train_sft.train_dataset(data, tiny_tokenizer)
    names = ("input_ids", "labels")
    assert [{name: row[name] for name in names} for row in found] == [
        {name: row[name] for name in names} for row in expected
    ]


def test_full_tuning_saves_a_model_that_loads(train_sft, arguments, tiny_model, tmp_path):
    trainer = train_sft.main(arguments)
    labels = [row["labels"] for row in trainer.train_dataset]
    assert all(-100 in row and row[-1] != -100 for row in labels)
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "tuned")
    assert not torch.equal(saved.lm_head.weight, tiny_model.lm_head.weight)


def test_lora_saves_an_adapter_that_loads(train_sft, arguments, tiny_model, tmp_path):
    lora = ["--use_peft", "--lora_r", "4", "--lora_target_modules", "q_proj", "v_proj"]
    train_sft.main([*arguments, *lora])
    adapted = PeftModel.from_pretrained(tiny_model, tmp_path / "tuned")
    learned = [p for name, p in adapted.named_parameters() if "lora_B" in name]
    assert len(learned) == 4 and all(p.abs().sum() > 0 for p in learned)


def test_the_saved_chat_template_is_the_one_of_the_rows(train_sft, arguments, tmp_path):
    start = AutoTokenizer.from_pretrained(tmp_path / "start")
    start.chat_template = SYSTEM + start.chat_template
    start.save_pretrained(tmp_path / "start")
    trainer = train_sft.main(arguments)
    task = tasks.load_task("facts")
    row = tasks.draw(task.splits["train"], 12)[0]
    for folder in (tmp_path / "tuned", tmp_path / "tuned" / "checkpoint-2"):
        saved = AutoTokenizer.from_pretrained(folder)
        prompt = [{"role": "user", "content": task.template(0).render(row)[0]}]
        ids = saved.apply_chat_template(prompt, add_generation_prompt=True, return_dict=False)
        learned = trainer.train_dataset[0]
        assert learned["input_ids"][: len(ids)] == ids
        assert learned["labels"][len(ids) - 1 : len(ids) + 1] == [
            -100,
            learned["input_ids"][len(ids)],
        ]


def test_rows_are_as_long_as_asked(train_sft, arguments, tiny_tokenizer, monkeypatch):
    with pytest.raises(WorkbookError, match="12 fit"):
        train_sft.main([*arguments, "--max_length", "12"])
    task = tasks.load_task("facts")
    longest = task.splits["train"][0] | {"question": "Is the film good? " * 200}
    monkeypatch.setattr(tasks, "draw", lambda *_: [longest])
    data = train_sft.DataConfig(task="facts", examples=1)
    for limit in (4096, None):
        [row] = train_sft.train_dataset(data, tiny_tokenizer, limit)
        assert len(row["input_ids"]) > 1024


def test_a_model_without_a_chat_template_learns_plain_prompts(train_sft, arguments, tmp_path):
    start = AutoTokenizer.from_pretrained(tmp_path / "start")
    start.chat_template = None
    start.save_pretrained(tmp_path / "start")
    (tmp_path / "start" / "chat_template.jinja").unlink(missing_ok=True)
    with pytest.raises(WorkbookError, match="no chat template: pass prompt_style='plain'"):
        train_sft.main(arguments)
    trainer = train_sft.main([*arguments, "--prompt_style", "plain"])
    text = start.decode(trainer.train_dataset[0]["input_ids"])
    assert "<|im_start|>" not in text and text.endswith("<|im_end|>")


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda given: given[2:], "No model is named: pass --model_name_or_path"),
        (lambda given: [*given, "--chat_template_path", "Qwen/Qwen3-8B"], "leave out --chat_temp"),
    ],
)
def test_what_would_not_be_the_model_s_own_is_refused(train_sft, arguments, change, message):
    with pytest.raises(WorkbookError, match=message):
        train_sft.main(change(arguments))


def test_qlora_is_what_the_plan_counts(train_sft, arguments, monkeypatch):
    """Four bits as in the paper (2305.14314), computed with in bf16, LoRA on all linear layers."""
    asked = {}

    class Recorder:
        def __init__(self, **options):
            asked.update(options)

        train = save_model = lambda *_, **__: None

    monkeypatch.setattr(train_sft, "SFTTrainer", Recorder)
    options = "--use_peft --load_in_4bit --dtype bfloat16 --lora_target_modules all-linear"
    train_sft.main([*arguments, *options.split(), "--lora_r", "64"])
    quantization, lora = asked["quantization_config"], asked["peft_config"]
    assert quantization.load_in_4bit and quantization.bnb_4bit_quant_type == "nf4"
    assert quantization.bnb_4bit_compute_dtype == torch.bfloat16
    assert asked["args"].model_init_kwargs["dtype"] == "bfloat16"
    assert (lora.r, lora.target_modules, lora.task_type) == (64, "all-linear", "CAUSAL_LM")


def test_a_killed_run_goes_on_from_its_checkpoint(train_sft, arguments, tmp_path):
    more = ["--save_steps", "1", "--lr_scheduler_type", "constant"]
    train_sft.main([*arguments, *more])
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "tuned").state_dict()
    again = ["--output_dir", str(tmp_path / "again"), "--resume_from_checkpoint"]
    trainer = train_sft.main([*arguments, *more, *again, str(tmp_path / "tuned" / "checkpoint-1")])
    assert trainer.state.global_step == 2
    for name, weight in AutoModelForCausalLM.from_pretrained(tmp_path / "again").named_parameters():
        torch.testing.assert_close(weight.detach(), whole[name])


def launch(file, *options):
    """Return what `accelerate launch` makes of a configuration, without launching."""
    known = launch_command_parser().parse_args(["--config_file", str(file), *options, "script.py"])
    return _validate_launch_command(known)[0]


def test_accelerate_takes_the_configuration_of_one_gpu():
    file = EXAMPLES / "accelerate" / "one_gpu.yaml"
    assert load_config_from_file(str(file)).num_processes == 1
    assert launch(file).mixed_precision == "bf16"


def test_accelerate_takes_the_configuration_of_eight_gpus(monkeypatch):
    file = EXAMPLES / "accelerate" / "eight_gpus_fsdp.yaml"
    given = launch(file)
    assert (given.num_processes, given.use_fsdp, given.mixed_precision) == (8, True, "bf16")
    for name, value in prepare_multi_gpu_env(given).items():
        monkeypatch.setenv(name, value)
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2 and plugin.reshard_after_forward is True
    assert plugin.activation_checkpointing is False


def test_every_machine_of_a_cluster_gets_its_launcher(tmp_path):
    """srun, scontrol and accelerate are stand-ins that say what they were asked for."""
    stand_ins = {
        "scontrol": 'printf "first\\nsecond\\n"',
        "srun": '[ "$SRUN_CPUS_PER_TASK" = 32 ]; for SLURM_NODEID in 0 1; do '
        'export SLURM_NODEID; "$@"; done',
        "accelerate": 'printf "%s\\n" "$*"',
    }
    for name, body in stand_ins.items():
        (tmp_path / name).write_text(f"#!/bin/bash -e\n{body}\n")
        (tmp_path / name).chmod(0o755)
    variables = {"SLURM_NNODES": "2", "SLURM_JOB_NODELIST": "nodes", "SLURM_CPUS_PER_TASK": "32"}
    done = subprocess.run(
        ["bash", str(EXAMPLES / "slurm.sh"), "--task", "my task"],
        env=os.environ | variables | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True, text=True, check=True, cwd=settings.repo_root(),
    )  # fmt: skip
    for rank, line in enumerate(done.stdout.splitlines()):
        options, _, rest = line.removeprefix("launch ").partition(" examples/train_sft.py ")
        assert rest == "--task my task"
        file, *more = options.removeprefix("--config_file ").split()
        given = launch(settings.repo_root() / file, *more)
        assert (given.num_machines, given.num_processes, given.machine_rank) == (2, 16, rank)
        assert (given.main_process_ip, given.main_process_port) == ("first", 29500)
    assert rank == 1
