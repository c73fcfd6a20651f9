#!/usr/bin/env bash
# Test the stacks of finola_mm/environment.py: an environment for each row, and the tests in it.
#
#     scripts/test_matrix.sh [ROW...]     # make test-matrix; by default every row
#     scripts/test_matrix.sh --steps      # row b without a compiler (mmcv-lite), as .ci/run does
#
# Every row compiles its mmcv once (6 to 20 minutes on 2 idle cores). Environments, compiled wheels
# and logs are kept in .matrix. A row whose interpreter is missing is skipped. The last lines are the
# rows of the table in docs/matrix.md.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$PWD/.venv/bin/python
cores=$(env -u OMP_NUM_THREADS nproc) # nproc counts at most OMP_NUM_THREADS
export CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=1 PYTHONPATH=$PWD
# The tests' packages, without those that fix numpy or OpenCV. Newer versions of the last two lack
# arguments that mmpretrain 1.2 passes.
tools='matplotlib==3.9.4 pytest==9.2.0 pytest-xdist==3.8.0 pillow==12.3.0 safetensors scikit-image==0.25.2
    tensorboard==2.21.0 timm==1.0.31 rich scipy onnx onnxruntime onnxscript scikit-learn<1.7 grad-cam<1.5'

# uv ignores pip's configuration.
if certificates=$("$python" -m pip config get :env:.cert 2>/dev/null ||
    "$python" -m pip config get global.cert 2>/dev/null); then
    export SSL_CERT_FILE="${SSL_CERT_FILE:-$certificates}"
fi

environment() { # print the result of an expression over finola_mm.environment
    "$python" -c "from finola_mm import environment as e; print($1)"
}

interpreter() { # print the path of python3.X, also of pyenv's
    local candidate
    for candidate in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python; do
        "$candidate" -c 'import sys; print(sys.executable)' 2>/dev/null && return
    done
    return 1
}

# make_environment FOLDER INTERPRETER REQUIREMENT...
make_environment() {
    folder=$1
    "$python" -m uv venv -q --clear --python "$2" "$folder"
    shift 2
    install() { "$python" -m uv pip install -q --python "$folder/bin/python" "$@"; }
    # shellcheck disable=SC2086
    install pip 'setuptools<82' wheel ninja psutil packaging $tools "$@"
    if [[ " $* " == *' numpy==1.'* ]]; then opencv=4.11.0.86; else opencv=4.12.0.88; fi
    install --no-deps "opencv-python-headless==$opencv"
}

steps() { # pre-training and classification without compiled ops, and checkpoints across stacks
    if ! base=$(interpreter 3.11); then
        echo 'Row b without a compiler was skipped: there is no Python 3.11.'
        return
    fi
    row=$(environment "' '.join(next(r.pins for r in e.MATRIX if r.name == 'b'))")
    # shellcheck disable=SC2086
    make_environment .matrix/lite "$base" $row mmengine==0.10.7 mmpretrain==1.2.0
    "$python" -m uv pip install -q --python .matrix/lite/bin/python 'setuptools<70'
    "$python" -m uv pip install -q --python .matrix/lite/bin/python --no-build-isolation mmcv-lite==2.1.0
    travel lite || {
        cat .matrix/lite.steps.log
        exit 1
    }
}

travel() { # carry checkpoints from .venv to an environment and back; print what passed there and here
    local out=.matrix/$1.steps
    rm -rf "$out"
    {
        "$python" tests/matrix/steps.py "$out/a" &&
            ".matrix/$1/bin/python" tests/matrix/steps.py "$out/$1" --from "$out/a" &&
            "$python" tests/matrix/steps.py "$out/a" --from "$out/$1"
    } >"$out.log" 2>&1
    local status=$?
    grep -E '^[0-9]+ passed, ' "$out.log" | tail -2 | paste -sd ';'
    return $status
}

row() { # the whole suite in the environment of a row; print its line of the table
    name=$1
    minor=$(environment "next(r.python for r in e.MATRIX if r.name == '$name')")
    stack=$(environment "next(r.stack for r in e.MATRIX if r.name == '$name')")
    pins=$(environment "' '.join(next(r.pins for r in e.MATRIX if r.name == '$name'))")
    packages=$(environment "' '.join(e.pinned(p) for p in e.stack_packages('$stack') if 'mmcv' not in p)")
    mmcv=$(environment "next(e.pinned(p) for p in e.stack_packages('$stack') if 'mmcv' in p)")
    if ! base=$(interpreter "$minor"); then
        echo "| $name | Python $minor | skipped: there is no Python $minor | | | | | |"
        return
    fi
    folder=.matrix/$name
    start=$(date +%s)
    # shellcheck disable=SC2086
    make_environment "$folder" "$base" $pins $packages
    [ "$stack" = onedl ] || "$python" -m uv pip install -q --python "$folder/bin/python" 'setuptools<70'
    wheels=$PWD/$folder.wheels
    if ! compgen -G "$wheels/*.whl" >/dev/null; then
        PATH=$PWD/$folder/bin:$PATH CPPFLAGS=-g0 MMCV_WITH_OPS=1 MAX_JOBS=${MAX_JOBS:-$cores} \
            "$folder/bin/python" -m pip wheel -q --no-deps --no-build-isolation --no-cache-dir \
            --wheel-dir "$wheels" "$mmcv" >"$folder.mmcv.log" 2>&1 || {
            echo "| $name | Python $minor, $pins, $mmcv | does not compile: $folder.mmcv.log | | | | | |"
            return
        }
    fi
    "$python" -m uv pip install -q --no-deps --python "$folder/bin/python" "$wheels"/*.whl
    compiled=$(date +%s)
    # PYTHON: for tools/dist_*.sh, which prefer .venv
    PYTHON=$PWD/$folder/bin/python "$folder/bin/python" -m pytest -q -n 2 --dist loadfile \
        --no-loadscope-reorder -p no:cacheprovider >"$folder.log" 2>&1 || true
    tested=$(date +%s)
    if [ "$name" = a ]; then steps=; else steps=$(travel "$name" || true); fi
    count() { grep -oE "[0-9]+ $1" "$folder.log" | tail -1 | grep -oE '[0-9]+' || echo 0; }
    echo "| $name | Python $minor, $pins, $packages $mmcv | $(count passed) | $(count failed) |" \
        "$(count error) | $(count skipped) | $steps |" \
        "$(((compiled - start) / 60)) + $(((tested - compiled) / 60)) |"
}

mkdir -p .matrix
if [ "${1:-}" = --steps ]; then
    steps
    exit
fi
rows=("$@")
[ ${#rows[@]} -gt 0 ] || mapfile -t rows < <(environment "'\\n'.join(r.name for r in e.MATRIX)")
table=$(for name in "${rows[@]}"; do row "$name"; done)
echo '| row | versions | passed | failed | errors | skipped | checkpoints of a here, back in a | minutes, set-up + tests |'
echo '|---|---|---|---|---|---|---|---|'
echo "$table"
