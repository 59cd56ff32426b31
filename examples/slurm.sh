#!/bin/bash
# Two machines of eight GPUs in a SLURM cluster, from the course's folder and its environment:
#   sbatch examples/slurm.sh --task sentiment --model_name_or_path Qwen/Qwen2.5-7B-Instruct \
#       --learning_rate 1e-5 --output_dir tuned
# Options after the name go to train_sft.py. Partition, account and modules are your cluster's.
#SBATCH --job-name=train-sft
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=04:00:00
set -euo pipefail

MAIN=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)
export MAIN
# Since SLURM 22.05 srun does not take over the number of processors: it would give one.
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
# One launcher a machine, started by srun, which tells each its number.
srun bash -c 'accelerate launch \
  --config_file examples/accelerate/eight_gpus_fsdp.yaml \
  --num_machines "$SLURM_NNODES" --num_processes "$((8 * SLURM_NNODES))" \
  --machine_rank "$SLURM_NODEID" --main_process_ip "$MAIN" --main_process_port 29500 \
  examples/train_sft.py "$@"' train_sft "$@"
