# Every target does the set-up first: a .venv in this folder, made once and shared by all targets.
#   PYTHON=python3.12   the interpreter of the .venv
#   ARGS='-k finola'    more arguments for pytest; for the study --list, --minutes 60, --part 1/2

PYTHON ?= $(shell for python in .venv/bin/python python3.11 python3; do \
	$$python -c '' 2>/dev/null && echo $$python && break; done)
RUN := .venv/bin/python

.PHONY: help setup demo test lint bench study

help:
	@echo 'make demo    pre-train a small encoder on the CPU and detect objects: pictures and metrics, minutes'
	@echo 'make test    run the tests'
	@echo 'make lint    check format, style, types and the syntax of shell scripts'
	@echo 'make bench   run every benchmark'
	@echo 'make study   run or resume the experiments behind docs/results.md: hours'
	@echo 'make setup   only make the .venv that the other targets share'

setup:
	@PYTHON='$(PYTHON)' scripts/setup.sh

demo: setup
	$(RUN) tools/demo.py

# Two processes; ARGS='-n 0 --pdb' runs one, in the debugger. loadfile: the tests of a file share
# its trained fixtures. In file order, because xdist would otherwise start the slowest file last.
test: setup
	$(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)
	@$(if $(ARGS),,echo "Tests marked gpu were not run; on a machine with a GPU: make test ARGS='-m gpu'")

lint: setup
	$(RUN) -m ruff format --check
	$(RUN) -m ruff check
	$(RUN) -m mypy
	@for script in .ci/run $$(find scripts tools tests -name '*.sh'); do bash -n $$script || exit 1; done

bench: setup
	@$(RUN) tools/dataset_converters/make_shapes.py --out data/shapes
	@for script in benchmarks/*.py; do echo "== $$script"; $(RUN) $$script || exit 1; done

study: setup
	@$(RUN) studies/study.py $(ARGS)
