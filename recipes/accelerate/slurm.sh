#!/bin/bash
# A recipe on the GPUs of one machine or many, under Slurm. From the project's folder, on a disk that all machines share:
#   sbatch recipes/accelerate/slurm.sh --config recipes/wt103.json
#   sbatch --nodes 8 recipes/accelerate/slurm.sh --config recipes/wt103.json
#   sbatch --array 0-4 recipes/accelerate/slurm.sh --config recipes/wt103.json     (each its own seed and folder)
# Shortly before the time is up, or pre-empted, the run saves and stops, and the job goes back into the queue; there it
# goes on from what was saved, however often. The run is in runs/JOB_NAME, or $OUTPUT_DIR; $ACCELERATE_FILE is another
# accelerate file (recipes/accelerate/fsdp2.yaml).
#SBATCH --job-name=clm
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -uo pipefail

export OUTPUT_DIR="${OUTPUT_DIR:-runs/$SLURM_JOB_NAME}"
seed=()
if [ -n "${SLURM_ARRAY_TASK_ID:-}" ]; then
    OUTPUT_DIR="$OUTPUT_DIR-$SLURM_ARRAY_TASK_ID"
    seed=(--seed "$SLURM_ARRAY_TASK_ID")
fi
export ACCELERATE_FILE="${ACCELERATE_FILE:-recipes/accelerate/multi_node.yaml}"
export FIRST_MACHINE PORT PROCESSES
FIRST_MACHINE="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"
PORT=$((20000 + SLURM_JOB_ID % 10000)) # another one for each job that shares a machine
PROCESSES=$((SLURM_NNODES * ${SLURM_GPUS_ON_NODE:-1}))

# One launcher a machine. It passes SIGTERM on to its processes, which then finish their step and save.
# shellcheck disable=SC2016
srun --kill-on-bad-exit=1 bash -c 'exec accelerate launch --config_file "$ACCELERATE_FILE" \
    --num_machines "$SLURM_NNODES" --num_processes "$PROCESSES" --machine_rank "$SLURM_NODEID" \
    --main_process_ip "$FIRST_MACHINE" --main_process_port "$PORT" \
    run_clm.py "$@" --output_dir "$OUTPUT_DIR"' launch "$@" "${seed[@]}" &
step=$!
trap 'signalled=1; kill -TERM $step' USR1 TERM
signalled=1
while [ -n "$signalled" ]; do # a signal ends `wait`, and not the step
    signalled=
    wait $step
    code=$?
done

# A launcher returns 1 whatever its processes do; how the run stands, the run itself has written down.
if [ $code -ne 0 ] && grep -q '"exit_code": 75' "$OUTPUT_DIR/run_status.json" 2>/dev/null; then
    echo "stopped early, all saved: back into the queue"
    exec scontrol requeue "$SLURM_JOB_ID"
fi
exit $code
