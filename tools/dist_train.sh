#!/usr/bin/env bash
# Train on several GPUs, or with several CPU ranks on a machine without GPUs (docs/cluster.md):
#   tools/dist_train.sh CONFIG GPUS [options of tools/train.py]
# For several machines, run the same command on each, with its own number of GPUs, and set NNODES,
# NODE_RANK (0, 1, ...), MASTER_ADDR (the first machine) and PORT. Set PYTHON to use another Python.
set -euo pipefail
[ $# -ge 2 ] || { echo "usage: $0 CONFIG GPUS [options of tools/train.py]" >&2; exit 2; }
[[ $2 =~ ^[1-9][0-9]*$ ]] || { echo "GPUS must be a number of GPUs or CPU ranks, got '$2'" >&2; exit 2; }
tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ -n "${PYTHON:-}" ] || { PYTHON=$tools/../.venv/bin/python; [ -x "$PYTHON" ] || PYTHON=python; }
export PYTHONPATH=${tools%/*}${PYTHONPATH:+:$PYTHONPATH}
exec "$PYTHON" "$tools/launch.py" "$2" "$tools/train.py" "$1" "${@:3}" --launcher pytorch
