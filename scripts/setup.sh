#!/bin/sh
# Create .venv in the checkout with the versions pinned in requirements.txt. `make setup` runs
#
#     PYTHON=python3.11 scripts/setup.sh
#
# OPS=0 leaves out mmcv's compiled ops, which only detection uses, and requires no compiler. A later
# set-up without OPS=0 adds them.
#
# A completed set-up is a no-op; to resume an interrupted one, run the same command again. Downloads
# are kept in uv's cache and the compiled mmcv in ~/.cache/finola_mm. If the pins, the Python
# version or the path of the checkout change, .venv is created again.
set -eu
cd "$(dirname "$0")/.."

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

query() { # print the value of a Python expression
    "$python" -c "import platform, sys, sysconfig; print($1)"
}

python=${PYTHON:-python3}
supported=$(query 'sys.version_info >= (3, 10)' 2>/dev/null) || fail \
    "$python cannot be run. Install Python 3.10 or newer; on Debian or Ubuntu, as root:" \
    '    apt-get install python3 python3-venv python3-dev g++'
[ "$supported" = True ] || fail \
    "$python is Python $(query 'platform.python_version()'); 3.10 or newer is required." \
    'Choose another interpreter: make PYTHON=python3.11 setup'

version=$(query '"%d.%d" % sys.version_info[:2]')
inputs='requirements.txt setup.py finola_mm/environment.py scripts/setup.sh'
# shellcheck disable=SC2086
key="python$version $PWD $(cat $inputs | cksum)"
if [ "${OPS:-1}" = 0 ]; then ops=none; elif [ "${FORCE_CUDA:-0}" = 1 ]; then ops=cuda; else ops=cpu; fi
completed() { # with these inputs, and at least these ops
    case "$(cat .venv/.setup 2>/dev/null)" in "$key") true ;; "$key without ops") [ $ops = none ] ;; *) false ;; esac
}
if completed; then exit 0; fi

# Compilers that outlive a killed set-up also hold the lock.
exec 9>.venv.lock
flock --nonblock 9 || {
    echo 'Waiting for another set-up of this checkout.'
    flock 9
}
if completed; then exit 0; fi

python=$(query 'getattr(sys, "_base_executable", sys.executable)') # not the one in the old .venv
missing=
"$python" -c 'import ensurepip' 2>/dev/null || missing="$missing python$version-venv"
if [ $ops != none ]; then
    [ -e "$(query 'sysconfig.get_path("include")')/Python.h" ] || missing="$missing python$version-dev"
    command -v "${CXX:-g++}" >/dev/null || missing="$missing g++"
fi
[ -z "$missing" ] || fail \
    "The set-up needs a C++ compiler (${CXX:-g++}), and ensurepip and Python.h for $python." \
    "Install the missing packages. On Debian or Ubuntu, as root:" "    apt-get install$missing" \
    'Pre-training and classification work without a compiler: OPS=0 make setup'
if [ -e .venv/pyvenv.cfg ] && [ ! -e .venv/.setup ]; then
    fail "$PWD/.venv was not created by this set-up. Rename or remove it, then run the command again."
fi

echo 'Setting up .venv. This downloads 3 GB and uses 6 GB of disk space.'
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

# The cache key of a compiled mmcv. The caches of pip and uv ignore the torch version of a build.
torch=$($python -c 'from importlib.metadata import version; print(version("torch"))')
system=$(query '"-".join([*platform.libc_ver(), platform.machine()])')
cache=${XDG_CACHE_HOME:-$HOME/.cache}/finola_mm/${mmcv}_torch-${torch}_python-${version}_${system}_$ops
if ! [ -e "$(echo "$cache"/*.whl)" ]; then
    [ $ops = none ] ||
        echo 'Compiling mmcv, which is only published as source (about 6 minutes on 2 cores).'
    mkdir -p "$cache"
    part=$(mktemp -d "$cache/part.XXXXXX")
    (
        PATH=$PWD/.venv/bin:$PATH # for ninja
        # Debug information would take a third of the compile time. CPPFLAGS is appended to Python's
        # own flags; CFLAGS would replace them, including -O2.
        export PATH CPPFLAGS="${CPPFLAGS:-} -g0"
        # mmcv compiles CUDA ops if it finds a GPU. This requires a CUDA toolkit that matches torch.
        [ $ops = cuda ] || export CUDA_VISIBLE_DEVICES=
        # Each compiler process uses up to 1.2 GB.
        jobs=$(awk '/^MemTotal/ {print int($2 / 1.2e6) + ($2 < 1.2e6)}' /proc/meminfo)
        cores=$(env -u OMP_NUM_THREADS nproc) # nproc counts at most OMP_NUM_THREADS
        export MAX_JOBS="${MAX_JOBS:-$((jobs < cores ? jobs : cores))}"
        # In an isolated build, mmcv does not find torch and leaves out its ops.
        isolation=$([ $ops = none ] || echo --no-build-isolation)
        # shellcheck disable=SC2086
        $python -m pip wheel --no-deps $isolation --no-cache-dir --wheel-dir "$part" "$mmcv"
    )
    mv "$part"/*.whl "$cache"
    rmdir "$part"
fi
install --no-deps --no-build-isolation "$cache"/*.whl --editable .
[ $ops = none ] || $python -c 'import torch, mmcv._ext' || {
    rm -r "$cache"
    fail 'mmcv was compiled without its ops or for another torch version. Run the command again.'
}
if [ $ops = none ]; then key="$key without ops"; fi
echo "$key" >.venv/.setup
echo 'Set-up completed.'
if [ $ops = none ]; then echo 'Detection requires the compiled ops of mmcv: make setup'; fi
