# Everything runs in .venv, which these targets make from the pinned requirements.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: quickstart test test-slow chaos lint format audit bench gpu-check pictures clean
.DEFAULT_GOAL := quickstart

quickstart: $(VENV)/.run
	$(BIN)/accelerate launch -q --config_file accelerate_config.yaml run_clm.py --config recipes/quickstart.json

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow

chaos: $(VENV)/.dev
	$(BIN)/python -m tests.chaos

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m tests.check_docs

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python -m tests.check_docs --wrap

# Known vulnerabilities of the pinned packages. They are looked up on the network; without it, this only says so.
audit: $(VENV)/.dev
	@if $(BIN)/python -c 'import urllib.request; urllib.request.urlopen("https://pypi.org/pypi/numpy/2.0.0/json", timeout=10)' 2>/dev/null; \
	then $(BIN)/pip-audit --no-deps --disable-pip -r requirements.txt; \
	else echo "audit: not done: the records of pypi.org can not be read from here"; fi

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks.prepare
	$(BIN)/python -m benchmarks.evaluate
	$(BIN)/python -m calibration.forecast
	$(BIN)/python -m calibration.expected
	$(BIN)/python -m benchmarks.train --shape tiny
	$(BIN)/python -m benchmarks.train --shape small
	$(BIN)/python -m benchmarks.time_to_loss

# On a GPU, in under ten minutes, without a network. The packages for it are requirements-gpu.txt's; without them less is measured.
gpu-check: $(VENV)/.run
	$(BIN)/python -m benchmarks.gpu

pictures: $(VENV)/.dev
	$(BIN)/python -m benchmarks.pictures $(if $(wildcard runs/quickstart/all_results.json),--run runs/quickstart)

clean:
	rm -rf $(VENV) .cache runs

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

# Without compiling: Python compiles what is imported when it is, and pip all of it, which takes longer than all else. But
# where Python may not keep what it compiled, as in many containers, every start would compile anew: then pip does it.
PIP_INSTALL := $(BIN)/python -m pip install -q $(if $(PYTHONDONTWRITEBYTECODE),,--no-compile) --disable-pip-version-check

$(VENV)/.run: requirements.txt | $(BIN)/python
	$(PIP_INSTALL) -r requirements.txt
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.run
	$(PIP_INSTALL) -r requirements-dev.txt
	@touch $@
