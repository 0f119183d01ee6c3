# Everything works from a fresh clone: Python 3.11 or newer, make and a C/C++ tool chain.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt
# What is installed depends on these two files alone: the install is editable, so sources need no repetition.
INSTALL_INPUTS := pyproject.toml constraints.txt

.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: help demo test test-slow check dev format mini bench bench-env clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 16

demo: $(VENV)/.installed ## install, then ask the bundled model about a bundled clip and picture
	@$(BIN)/python -m videolm.cli.demo

test: $(VENV)/.installed-dev ## run the tests
	@$(BIN)/python -m pytest -m "not slow and not network"

test-slow: $(VENV)/.installed-dev ## run the tests that take longer than a few seconds each
	@$(BIN)/python -m pytest -m "slow and not network"

check: $(VENV)/.installed-dev ## lint, formatting, types, the import rule and the public names
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_import_rules.py tests/test_public_api.py

dev: $(VENV)/.installed-dev ## install the package with its extras and the development tools into .venv

format: $(VENV)/.installed-dev ## apply the formatter and the linter's safe repairs
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Two processes of one thread each: on two cores faster than one process of two.
TRAIN_IN_TWO := OMP_NUM_THREADS=1 $(BIN)/python -m torch.distributed.run --nproc-per-node 2 -m videolm.cli.main train sft

# A run that is there already goes on where it was; remove runs/mini to begin anew.
mini: $(VENV)/.installed-dev ## repeat the training of the bundled model and put it into its place (hours on two cores)
	$(BIN)/videolm train sft src/videolm/mini/recipe/see.yaml --resume
	$(BIN)/videolm train sft src/videolm/mini/recipe/joint.yaml --resume
	$(TRAIN_IN_TWO) src/videolm/mini/recipe/chart.yaml --resume
	$(TRAIN_IN_TWO) src/videolm/mini/recipe/clips.yaml --resume
	$(TRAIN_IN_TWO) src/videolm/mini/recipe/finish.yaml --resume
	$(TRAIN_IN_TWO) src/videolm/mini/recipe/maps.yaml --resume
	$(TRAIN_IN_TWO) src/videolm/mini/recipe/tracks.yaml --resume
	$(TRAIN_IN_TWO) src/videolm/mini/recipe/words.yaml --resume
	$(TRAIN_IN_TWO) src/videolm/mini/recipe/letters.yaml --resume
	$(TRAIN_IN_TWO) src/videolm/mini/recipe/order.yaml --resume
	$(TRAIN_IN_TWO) src/videolm/mini/recipe/alone.yaml --resume
	$(TRAIN_IN_TWO) src/videolm/mini/recipe/moments.yaml --resume
	$(TRAIN_IN_TWO) src/videolm/mini/recipe/cells.yaml --resume
	$(TRAIN_IN_TWO) src/videolm/mini/recipe/counts.yaml --resume
	$(TRAIN_IN_TWO) src/videolm/mini/recipe/print.yaml --resume
	$(BIN)/python -m videolm.mini.adopt runs/mini/print/export

bench-env: .venv-bench/.installed ## install the peer of the engine's benchmarks into .venv-bench

.venv-bench/.installed: benchmarks/peer-requirements.txt constraints.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --disable-pip-version-check -c constraints.txt -r benchmarks/peer-requirements.txt
	@touch $@

bench: $(VENV)/.installed-dev bench-env ## run the benchmarks but for the servers', in more than an hour, and write the dated report
	@$(BIN)/python benchmarks/run.py

clean: ## remove .venv and everything that was built
	rm -rf $(VENV) .venv-bench build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis src/*.egg-info

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "videolm needs Python 3.11 or newer; try: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(INSTALL_INPUTS) | $(BIN)/python
	$(PIP_INSTALL) --editable .
	@touch $@

$(VENV)/.installed-dev: $(INSTALL_INPUTS) | $(BIN)/python
	$(PIP_INSTALL) --editable ".[dev]"
	@touch $@ $(VENV)/.installed
