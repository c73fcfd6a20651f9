# Every target runs the set-up first. It creates .venv in this folder once, for all targets.
#   PYTHON=python3.12   the interpreter for .venv
#   ARGS='-k finola'    additional arguments of pytest, or of the study: --list, --minutes 60,
#                       --part 1/2

PYTHON ?= $(shell for python in .venv/bin/python python3.11 python3; do \
	$$python -c '' 2>/dev/null && echo $$python && break; done)
RUN := .venv/bin/python

.PHONY: help setup demo test test-matrix lint bench study

help:
	@echo 'make demo    pre-train a small encoder and detect objects on the CPU (10 to 20 minutes)'
	@echo 'make test    run the tests'
	@echo 'make test-matrix  run the tests with other versions of torch and the OpenMMLab packages (hours)'
	@echo 'make lint    check format, style, types and the syntax of shell scripts'
	@echo 'make bench   run every benchmark'
	@echo 'make study   run or resume the experiments reported in docs/results.md (hours)'
	@echo 'make setup   create .venv only; all other targets use it'

setup:
	@PYTHON='$(PYTHON)' scripts/setup.sh

demo: setup
	$(RUN) tools/demo.py

# Tests run in two processes; ARGS='-n 0 --pdb' runs them in one, with the debugger. loadfile keeps
# the tests of a file together, since they share trained fixtures. Files run in order, because xdist
# would otherwise start the slowest file last. GPUs are hidden, except from ARGS='-m gpu'.
test: setup
	$(if $(findstring -m gpu,$(ARGS)),,CUDA_VISIBLE_DEVICES=) $(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)
	@$(if $(ARGS),,echo "Not run: tests marked slow (make test ARGS='-m slow') and gpu (on a machine with a GPU: make test ARGS='-m gpu')")

# ARGS='b d-newest': only these rows of docs/matrix.md.
test-matrix: setup
	scripts/test_matrix.sh $(ARGS)

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
