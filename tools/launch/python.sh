# For the scripts in tools/, by `.`: which Python (PYTHON, else the checkout's .venv), and where it
# finds this checkout. They set $root before.
if [ -z "${PYTHON:-}" ]; then
    PYTHON=$root/.venv/bin/python
    [ -x "$PYTHON" ] || PYTHON=python
fi
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
