"""Small additions that learn in place of the model: LoRA, adapter, soft prompt (07 and 08)."""
