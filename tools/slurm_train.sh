#!/usr/bin/env bash
# Train on a SLURM cluster; docs/cluster.md.
#   tools/slurm_train.sh PARTITION JOB CONFIG WORK_DIR [options of tools/train.py]
# Environment: GPUS (in all, 8), GPUS_PER_NODE (8), CPUS_PER_TASK (5), SRUN_ARGS (more for srun).
# SBATCH=1: as a batch job, which saves at a pre-emption or before its time limit, is put into the
# queue again and goes on by itself; SBATCH_ARGS (more for sbatch, such as --time=24:00:00).
set -euo pipefail
[ $# -ge 4 ] || {
    echo "usage: $0 PARTITION JOB CONFIG WORK_DIR [options of tools/train.py]" >&2; exit 2; }
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/tools/launch/python.sh"
. "$root/tools/launch/slurm.sh"
command=("$PYTHON" -u "$root/tools/train.py" "$3" --work-dir "$4" "${@:5}" --launcher slurm)
if [ -z "${SBATCH:-}" ]; then
    exec srun "${resources[@]}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} "${command[@]}"
fi
mkdir -p "$4"
# USR1 goes to the batch script 2 minutes before the time limit; finishing a step and saving fits.
exec sbatch "${resources[@]}" --requeue --open-mode=append --output="$4/slurm-%j.log" \
    --signal=B:USR1@120 ${SBATCH_ARGS:-} "$root/tools/launch/slurm_batch.sh" "$4" "${command[@]}"
