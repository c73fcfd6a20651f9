#!/usr/bin/env bash
# Test on several GPUs, or with several processes where there is no GPU; docs/cluster.md.
#   tools/dist_test.sh CONFIG CHECKPOINT GPUS [options of tools/test.py]
# Several machines: as with dist_train.sh.
set -euo pipefail
[ $# -ge 3 ] || { echo "usage: $0 CONFIG CHECKPOINT GPUS [options of tools/test.py]" >&2; exit 2; }
exec "$(dirname "${BASH_SOURCE[0]}")/launch/launch.sh" "$3" test.py "$1" "$2" "${@:4}"
