# For slurm_train.sh and slurm_test.sh, by `.`, with their arguments: what a job asks SLURM for.
GPUS=${GPUS:-8}
GPUS_PER_NODE=${GPUS_PER_NODE:-8}
[ "$GPUS_PER_NODE" -le "$GPUS" ] || GPUS_PER_NODE=$GPUS
resources=(--partition="$1" --job-name="$2" --ntasks="$GPUS" --ntasks-per-node="$GPUS_PER_NODE"
           --cpus-per-task="${CPUS_PER_TASK:-5}")
# On a partition without GPUs a number of GPUs is one of processes.
if sinfo --noheader --partition="$1" --format=%G | grep -q gpu; then
    resources+=(--gres="gpu:$GPUS_PER_NODE")
fi
