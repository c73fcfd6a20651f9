# `make demo` and `make test` each do the whole set-up first: a .venv in this folder, made once.
#   PYTHON=python3.12   another interpreter for the .venv
#   ARGS='-k finola'    more arguments for pytest; for the study --list, --minutes 60, --part 1/2

PYTHON ?= $(shell for python in .venv/bin/python python3.11 python3; do \
	$$python -c '' 2>/dev/null && echo $$python && break; done)
RUN := .venv/bin/python

.PHONY: help setup demo test lint bench study

help:
	@echo 'make demo    pre-train a small encoder on the CPU, detect with another: pictures (after the set-up: minutes)'
	@echo 'make test    run the tests'
	@echo 'make lint    check the style of the code and the syntax of the scripts'
	@echo 'make bench   run every benchmark'
	@echo 'make study   train what the tables of docs/results.md compare, or go on with it: hours'
	@echo 'make setup   make the .venv that all of these share, and nothing else'

setup:
	@test -n '$(PYTHON)' || { echo 'No Python found. On Debian or Ubuntu, as root:' >&2; \
		echo '    apt-get install python3.11 python3.11-venv python3.11-dev g++' >&2; exit 1; }
	@$(PYTHON) scripts/setup_env.py

demo: setup
	$(RUN) tools/demo.py

# Two processes (ARGS='-n 0 --pdb': one, which can be debugged), each with whole files, whose tests
# share what a fixture trained. xdist would begin with the files of most tests and end with the
# slowest one.
test: setup
	$(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)
	@$(if $(ARGS),,echo "The tests marked gpu were left out: make test ARGS='-m gpu' runs those.")

lint: setup
	$(RUN) -m ruff format --check
	$(RUN) -m ruff check
	@for script in .ci/run $$(find tools tests -name '*.sh'); do bash -n $$script || exit 1; done

bench: setup
	@$(RUN) tools/dataset_converters/make_shapes.py --out data/shapes
	@for script in benchmarks/*.py; do echo "== $$script"; $(RUN) $$script || exit 1; done

study: setup
	@$(RUN) studies/study.py $(ARGS)
