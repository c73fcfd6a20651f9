#!/bin/sh
# Make .venv in the checkout with the versions of requirements.txt. `make setup` runs this as
#
#     PYTHON=python3.11 scripts/setup.sh
#
# A completed set-up is a no-op, an interrupted one is resumed by the same command: downloads are
# kept in uv's cache, the compiled mmcv in ~/.cache/finola_mm. Changed pins, another Python or
# another path of the checkout make a new .venv.
set -eu
cd "$(dirname "$0")/.."

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

query() { # the output of a Python expression
    "$python" -c "import platform, sys, sysconfig; print($1)"
}

python=${PYTHON:-python3}
supported=$(query 'sys.version_info >= (3, 10)' 2>/dev/null) || fail \
    "$python does not run. Install Python 3.10 or newer; on Debian or Ubuntu, as root:" \
    '    apt-get install python3 python3-venv python3-dev g++'
[ "$supported" = True ] || fail \
    "$python is Python $(query 'platform.python_version()'), 3.10 or newer is required." \
    'Name another interpreter: make PYTHON=python3.11 setup'

version=$(query '"%d.%d" % sys.version_info[:2]')
inputs='requirements.txt setup.py finola_mm/environment.py scripts/setup.sh'
# shellcheck disable=SC2086
key="python$version $PWD $(cat $inputs | cksum)"
completed() { [ "$(cat .venv/.setup 2>/dev/null)" = "$key" ]; }
if completed; then exit 0; fi

# Compilers that outlive a killed set-up hold the lock, too.
exec 9>.venv.lock
flock --nonblock 9 || {
    echo 'Waiting for another set-up of this checkout.'
    flock 9
}
if completed; then exit 0; fi

python=$(query 'getattr(sys, "_base_executable", sys.executable)') # not that of the old .venv
missing=
"$python" -c 'import ensurepip' 2>/dev/null || missing="$missing python$version-venv"
[ -e "$(query 'sysconfig.get_path("include")')/Python.h" ] || missing="$missing python$version-dev"
command -v "${CXX:-g++}" >/dev/null || missing="$missing g++"
[ -z "$missing" ] || fail \
    "The set-up needs a C++ compiler (${CXX:-g++}), and ensurepip and Python.h of $python." \
    "Install what is missing. On Debian or Ubuntu, as root:" "    apt-get install$missing"
if [ -e .venv/pyvenv.cfg ] && [ ! -e .venv/.setup ]; then
    fail "$PWD/.venv was not made by this set-up. Rename or remove it, then repeat the command."
fi

echo 'Setting up .venv: a download of 3 GB, 6 GB of disk space.'
unset PYTHONHOME PYTHONPATH
export PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1
rm -rf .venv.trash
if [ -e .venv ] || [ -L .venv ]; then mv .venv .venv.trash; fi # removal may be interrupted
rm -rf .venv.trash
mkdir .venv
: >.venv/.setup
"$python" -m venv .venv
python=.venv/bin/python
$python -m pip install --quiet "$(grep '^uv==' requirements.txt)"

# uv ignores pip's configuration.
pip_setting() {
    $python -m pip config get ":env:.$1" 2>/dev/null ||
        $python -m pip config get "global.$1" 2>/dev/null
}
if index=$(pip_setting index-url); then export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$index}"; fi
if certificates=$(pip_setting cert); then export SSL_CERT_FILE="${SSL_CERT_FILE:-$certificates}"; fi
install() { $python -m uv pip install --python $python "$@"; }

mmcv=$(grep '^onedl-mmcv==' requirements.txt)
grep -v '^onedl-mmcv==' requirements.txt | install --requirement -

# The key of a compiled mmcv. Neither pip's cache nor uv's distinguishes builds by their torch.
torch=$($python -c 'from importlib.metadata import version; print(version("torch"))')
ops=$([ "${FORCE_CUDA:-0}" = 1 ] && echo cuda || echo cpu)
system=$(query '"-".join([*platform.libc_ver(), platform.machine()])')
cache=${XDG_CACHE_HOME:-$HOME/.cache}/finola_mm/${mmcv}_torch-${torch}_python-${version}_${system}_$ops
if ! [ -e "$(echo "$cache"/*.whl)" ]; then
    echo 'Compiling mmcv, which is published as source only: about 6 minutes on 2 cores.'
    mkdir -p "$cache"
    part=$(mktemp -d "$cache/part.XXXXXX")
    (
        PATH=$PWD/.venv/bin:$PATH # for ninja
        # Debug information would be a third of the compile time. CPPFLAGS is appended to Python's
        # own flags; CFLAGS would replace them, including -O2.
        export PATH CPPFLAGS="${CPPFLAGS:-} -g0"
        # mmcv compiles CUDA ops where it finds a GPU. That takes a CUDA toolkit that fits torch.
        [ $ops = cuda ] || export CUDA_VISIBLE_DEVICES=
        # A compiler process takes up to 1.2 GB.
        jobs=$(awk '/^MemTotal/ {print int($2 / 1.2e6) + ($2 < 1.2e6)}' /proc/meminfo)
        cores=$(nproc)
        export MAX_JOBS="${MAX_JOBS:-$((jobs < cores ? jobs : cores))}"
        $python -m pip wheel --no-deps --no-build-isolation --no-cache-dir --wheel-dir "$part" "$mmcv"
    )
    mv "$part"/*.whl "$cache"
    rmdir "$part"
fi
install --no-deps --no-build-isolation "$cache"/*.whl --editable .
$python -c 'import torch, mmcv._ext' || {
    rm -r "$cache"
    fail 'mmcv was compiled without its ops, or for another torch. Repeat the command.'
}
echo "$key" >.venv/.setup
echo 'Set-up completed.'
