"""The same methods in the `peft` library, always on a copy of the model.

`peft` injects its layers into the model it is given, which then is no longer the original.
"""

import copy
import warnings

import torch
from peft import LoraConfig, PeftConfig, PeftModel, PromptTuningConfig, get_peft_model

from ..errors import WorkbookError
from .additions import Addition, check_bare
from .lora import LoRA
from .soft_prompt import SoftPrompt


def copy_with(model: torch.nn.Module, config: PeftConfig) -> PeftModel:
    """Return a copy of the model with what the configuration adds; the model stays as it is.

    Raises WorkbookError while an addition is attached, which the copy would have too.
    """
    check_bare(model)
    with warnings.catch_warnings():
        # peft 0.21 asks transformers by a name that is being retired.
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
        return get_peft_model(copy.deepcopy(model), config).eval()


def twin(model: torch.nn.Module, addition: Addition) -> PeftModel:
    """Return the `peft` equivalent of a LoRA or soft prompt, with the same weights.

    Raises WorkbookError for an adapter, which `peft` does not have.
    """
    if isinstance(addition, LoRA):
        return _lora_twin(model, addition)
    if isinstance(addition, SoftPrompt):
        return _prompt_twin(model, addition)
    raise WorkbookError(f"peft has no equivalent of this {addition.kind}: pass a LoRA or a prompt.")


@torch.no_grad()
def _lora_twin(model, lora: LoRA) -> PeftModel:
    sites = lora.sites(model)
    config = LoraConfig(
        r=lora.config["rank"],
        lora_alpha=lora.config["alpha"],
        target_modules=[name for name, _, _ in sites],
        task_type="CAUSAL_LM",
    )
    equivalent = copy_with(model, config)
    for name, _, part in sites:
        layer = equivalent.get_base_model().get_submodule(name)
        layer.lora_A["default"].weight.copy_(part.A)
        layer.lora_B["default"].weight.copy_(part.B)
    return equivalent


@torch.no_grad()
def _prompt_twin(model, prompt: SoftPrompt) -> PeftModel:
    config = PromptTuningConfig(num_virtual_tokens=len(prompt.vectors), task_type="CAUSAL_LM")
    equivalent = copy_with(model, config)
    equivalent.prompt_encoder["default"].embedding.weight.copy_(prompt.vectors)
    return equivalent
