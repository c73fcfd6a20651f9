#!/usr/bin/env bash
# Train on a SLURM cluster (docs/cluster.md):
#   tools/slurm_train.sh PARTITION JOB CONFIG WORK_DIR [options of tools/train.py]
# Environment variables: GPUS (total, default 8), GPUS_PER_NODE (8), CPUS_PER_TASK (5), SRUN_ARGS,
# PYTHON.
# SBATCH=1 submits a batch job. At its time limit or when it is pre-empted, the job saves, is
# requeued and resumes. SBATCH_ARGS: options of sbatch, such as --time=24:00:00.
set -euo pipefail
[ $# -ge 4 ] || {
    echo "usage: $0 PARTITION JOB CONFIG WORK_DIR [options of tools/train.py]" >&2; exit 2; }
tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ -n "${PYTHON:-}" ] || { PYTHON=$tools/../.venv/bin/python; [ -x "$PYTHON" ] || PYTHON=python; }
export PYTHONPATH=${tools%/*}${PYTHONPATH:+:$PYTHONPATH}
GPUS=${GPUS:-8}
per_node=$(( GPUS < ${GPUS_PER_NODE:-8} ? GPUS : ${GPUS_PER_NODE:-8} ))
resources=(--partition="$1" --job-name="$2" --ntasks="$GPUS" --ntasks-per-node="$per_node"
           --cpus-per-task="${CPUS_PER_TASK:-5}")
# On a partition without GPUs, GPUS is the number of CPU ranks.
! sinfo --noheader --partition="$1" --format=%G | grep -q gpu || resources+=(--gres="gpu:$per_node")
command=("$PYTHON" -u "$tools/train.py" "$3" --work-dir "$4" "${@:5}" --launcher slurm)
if [ -z "${SBATCH:-}" ]; then
    exec srun "${resources[@]}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} "${command[@]}"
fi
mkdir -p "$4"
# The batch script receives USR1 two minutes before the time limit: enough time to save.
exec sbatch "${resources[@]}" --requeue --open-mode=append --output="$4/slurm-%j.log" \
    --signal=B:USR1@120 ${SBATCH_ARGS:-} "$tools/slurm_batch.sh" "$4" "${command[@]}"
