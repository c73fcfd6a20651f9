#!/usr/bin/env bash
# What dist_train.sh and dist_test.sh share: launch.sh PROCESSES TOOL ARGUMENTS...
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
. "$root/tools/launch/python.sh"
[[ $1 =~ ^[1-9][0-9]*$ ]] || {
    echo "GPUS is '$1': expected the number of GPUs of this machine, or of processes" >&2; exit 2; }
if [ "${NNODES:-1}" = 1 ]; then
    # At a free port; without the address torchrun asks for the machine's name, which need not resolve.
    meet=(--standalone --local-addr 127.0.0.1)
else
    meet=(--nnodes "$NNODES" --node-rank "${NODE_RANK:-0}"
          --master-addr "${MASTER_ADDR:-127.0.0.1}" --master-port "${PORT:-29500}")
fi
exec "$PYTHON" "$root/tools/launch/launch.py" "${meet[@]}" --nproc-per-node "$1" \
    "$root/tools/$2" "${@:3}" --launcher pytorch
