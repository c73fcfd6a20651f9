#!/usr/bin/env bash
# The batch part of slurm_train.sh with SBATCH=1: slurm_batch.sh WORK_DIR COMMAND... runs the
# command by srun. When SLURM announces the end of the job, the processes save and leave, and the
# job goes back into the queue; started again, it resumes.
set -uo pipefail
work_dir=$1 announced=
shift
# Not from what an older run has left there: only what this job has written counts.
first_start=$work_dir/.slurm-$SLURM_JOB_ID
if [ "${SLURM_RESTART_COUNT:-0}" = 0 ]; then
    touch "$first_start"
elif [ "$work_dir/last_checkpoint" -nt "$first_start" ]; then
    set -- "$@" --resume
fi
# srun does not take over --cpus-per-task by itself.
SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1} srun --kill-on-bad-exit=1 ${SRUN_ARGS:-} "$@" &
step=$!
# Before the time limit SLURM tells this script alone, which hands it on to all processes.
trap 'announced=1; scancel --signal=USR1 "$SLURM_JOB_ID"' USR1
while :; do
    wait "$step"
    code=$?
    kill -0 "$step" 2>/dev/null || break  # else wait was interrupted by the trap
done
# For a job of higher priority it tells the processes alone, and would let a job that ends now fail.
scontrol show job "$SLURM_JOB_ID" | grep -q 'PreemptTime=[0-9]' && announced=1
# 75: it has saved; 138 and 143: the signal came before it could.
case $announced$code in
175 | 1138 | 1143)
    echo "slurm_batch: job $SLURM_JOB_ID goes back into the queue"
    scontrol requeue "$SLURM_JOB_ID"
    sleep 60 ;;  # it is ended here
esac
exit "$code"
