#!/usr/bin/env bash
# Test on several GPUs, or with several CPU ranks on a machine without GPUs (docs/cluster.md):
#   tools/dist_test.sh CONFIG CHECKPOINT GPUS [options of tools/test.py]
# For several machines, see dist_train.sh. Set PYTHON to use another Python.
set -euo pipefail
[ $# -ge 3 ] || { echo "usage: $0 CONFIG CHECKPOINT GPUS [options of tools/test.py]" >&2; exit 2; }
[[ $3 =~ ^[1-9][0-9]*$ ]] || { echo "GPUS must be a number of GPUs or CPU ranks, got '$3'" >&2; exit 2; }
tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ -n "${PYTHON:-}" ] || { PYTHON=$tools/../.venv/bin/python; [ -x "$PYTHON" ] || PYTHON=python; }
export PYTHONPATH=${tools%/*}${PYTHONPATH:+:$PYTHONPATH}
exec "$PYTHON" "$tools/launch.py" "$3" "$tools/test.py" "$1" "$2" "${@:4}" --launcher pytorch
