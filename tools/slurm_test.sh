#!/usr/bin/env bash
# Test on a SLURM cluster (docs/cluster.md):
#   tools/slurm_test.sh PARTITION JOB CONFIG CHECKPOINT [options of tools/test.py]
# Environment variables: GPUS (total, default 8), GPUS_PER_NODE (8), CPUS_PER_TASK (5), SRUN_ARGS,
# PYTHON.
set -euo pipefail
[ $# -ge 4 ] || {
    echo "usage: $0 PARTITION JOB CONFIG CHECKPOINT [options of tools/test.py]" >&2; exit 2; }
tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ -n "${PYTHON:-}" ] || { PYTHON=$tools/../.venv/bin/python; [ -x "$PYTHON" ] || PYTHON=python; }
export PYTHONPATH=${tools%/*}${PYTHONPATH:+:$PYTHONPATH}
GPUS=${GPUS:-8}
per_node=$(( GPUS < ${GPUS_PER_NODE:-8} ? GPUS : ${GPUS_PER_NODE:-8} ))
resources=(--partition="$1" --job-name="$2" --ntasks="$GPUS" --ntasks-per-node="$per_node"
           --cpus-per-task="${CPUS_PER_TASK:-5}")
# On a partition without GPUs, GPUS is the number of CPU ranks.
! sinfo --noheader --partition="$1" --format=%G | grep -q gpu || resources+=(--gres="gpu:$per_node")
exec srun "${resources[@]}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    "$PYTHON" -u "$tools/test.py" "$3" "$4" "${@:5}" --launcher slurm
