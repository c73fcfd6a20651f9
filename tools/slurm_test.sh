#!/usr/bin/env bash
# Test on a SLURM cluster; docs/cluster.md.
#   tools/slurm_test.sh PARTITION JOB CONFIG CHECKPOINT [options of tools/test.py]
# Environment: GPUS (in all, 8), GPUS_PER_NODE (8), CPUS_PER_TASK (5), SRUN_ARGS (more for srun).
set -euo pipefail
[ $# -ge 4 ] || {
    echo "usage: $0 PARTITION JOB CONFIG CHECKPOINT [options of tools/test.py]" >&2; exit 2; }
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/tools/launch/python.sh"
. "$root/tools/launch/slurm.sh"
exec srun "${resources[@]}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    "$PYTHON" -u "$root/tools/test.py" "$3" "$4" "${@:5}" --launcher slurm
