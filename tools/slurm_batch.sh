#!/usr/bin/env bash
# Batch script of slurm_train.sh with SBATCH=1: slurm_batch.sh WORK_DIR COMMAND...
# Runs the command with srun. At a time limit or pre-emption, it requeues the job, which resumes.
set -uo pipefail
work_dir=$1 announced=
shift
# Resume only from a checkpoint of this job, not of an older run in the same folder.
first_start=$work_dir/.slurm-$SLURM_JOB_ID
if [ "${SLURM_RESTART_COUNT:-0}" = 0 ]; then
    touch "$first_start"
elif [ "$work_dir/last_checkpoint" -nt "$first_start" ]; then
    set -- "$@" --resume
fi
# Recent versions of srun ignore the job's --cpus-per-task.
SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1} srun --kill-on-bad-exit=1 ${SRUN_ARGS:-} "$@" &
step=$!
# Before a time limit, SLURM signals only this script: forward the signal to all ranks.
trap 'announced=1; scancel --signal=USR1 "$SLURM_JOB_ID"' USR1
while :; do
    wait "$step"
    code=$?
    kill -0 "$step" 2>/dev/null || break  # otherwise the trap interrupted wait
done
# At a pre-emption, SLURM signals only the ranks. A job that then exits counts as failed.
scontrol show job "$SLURM_JOB_ID" | grep -q 'PreemptTime=[0-9]' && announced=1
# 75: saved; 138 and 143: the signal arrived before the first step.
case $announced$code in
175 | 1138 | 1143)
    echo "slurm_batch: requeueing job $SLURM_JOB_ID"
    scontrol requeue "$SLURM_JOB_ID"
    sleep 60 ;;  # SLURM terminates this script here
esac
exit "$code"
