"""The small run of tune_a_little.py on weights that two processes share out (torch's FSDP2).

`torchrun --nproc-per-node 2 shard_a_little.py FOLDER` leaves result.json and the model in FOLDER.
"""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
import tune_a_little
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import fully_shard

from workbook import training
from workbook.processes import launched

LR, STEPS = 1e-2, 6


def main() -> None:
    """Tune on sharded weights, then gather them and save the model as any other."""
    dist.init_process_group("gloo")
    team, model = launched(), tune_a_little.model().train()
    for block in model.model.layers:
        fully_shard(block)
    fully_shard(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.0)
    losses = [step(model, optimizer, batches, team) for batches in groups(team.count)]
    held = [weight.to_local() for weight in model.parameters()]
    states = [state["exp_avg"].to_local() for state in optimizer.state.values()]
    whole = StateDictOptions(full_state_dict=True, cpu_offload=True)
    weights = get_model_state_dict(model, options=whole)  # all take part, the main one gets them
    numbers = [sum(tensor.numel() for tensor in tensors) for tensors in (held, states)]
    everyone = [None] * team.count
    dist.all_gather_object(everyone, numbers)
    if team.is_main:
        plain = tune_a_little.model()
        plain.load_state_dict(weights)
        plain.save_pretrained(sys.argv[1])
        result = {"losses": losses, "weights and means": everyone}
        Path(sys.argv[1], "result.json").write_text(json.dumps(result))
    dist.destroy_process_group()


def groups(count: int) -> list[list[dict]]:
    """Return the batches of each step: each process needs one, since all gather the weights."""
    rows = tune_a_little.examples() + tune_a_little.examples()[:1]
    generator = training.seed_everything(0)
    found = []
    while len(found) < STEPS:
        found += training.grouped(training.batches_of(rows, 2, generator), count)
    return found[:STEPS]


def step(model, optimizer, batches, team) -> float:
    """Learn from a step's batches as `Trainer.step` does, and return the loss."""
    device = torch.device("cpu")
    count = sum(training.label_count(batch) for batch in batches)
    parts = [training.completion_loss(model, batch) / count for batch in team.share(batches)]
    loss = sum(parts)
    (team.count * loss).backward()  # FSDP takes the mean of the gradients, and the sum is wanted
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return team.total(loss.item(), device)


if __name__ == "__main__":
    main()
