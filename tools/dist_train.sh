#!/usr/bin/env bash
# Train on several GPUs, or with several processes where there is no GPU; docs/cluster.md.
#   tools/dist_train.sh CONFIG GPUS [options of tools/train.py]
# Several machines: the same line on each, GPUs per machine, and in the environment NNODES,
# NODE_RANK (0, 1, ...), MASTER_ADDR (the first machine) and PORT.
set -euo pipefail
[ $# -ge 2 ] || { echo "usage: $0 CONFIG GPUS [options of tools/train.py]" >&2; exit 2; }
exec "$(dirname "${BASH_SOURCE[0]}")/launch/launch.sh" "$2" train.py "$1" "${@:3}"
