# What CI calls is what you call. Needs Python >= 3.11 and make; everything else goes into .venv.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input

.PHONY: demo test test-slow lint format bench bench-peers requirements system-packages clean help

help:              ## show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

.venv/made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name one with make PYTHON=/path/to/python3.11"; exit 2; }
	@$(PYTHON) -m venv .venv
	@touch $@

.venv/run: .venv/made requirements/run.txt pyproject.toml
	@echo "installing into .venv"
	@$(PIP) --require-hashes --requirement requirements/run.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

.venv/dev: .venv/run requirements/dev.txt
	@$(PIP) --require-hashes --requirement requirements/dev.txt
	@touch $@

.venv/bench: .venv/dev requirements/bench.txt
	@$(PIP) --require-hashes --requirement requirements/bench.txt
	@touch $@

demo: .venv/run    ## a real sweep on a local Ray, from nothing
	@$(BIN)/grid run examples/demo.yaml --executor ray

test: .venv/dev    ## every test that is not slow
	$(BIN)/python -m pytest

test-slow: .venv/dev  ## the long versions: more random input, longer runs
	$(BIN)/python -m pytest -m slow

lint: .venv/dev    ## style, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/dev  ## put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/bench   ## measure and rewrite docs/benchmarks.md (minutes; wants a quiet machine)
	$(BIN)/python -m tests.benchmarks

.venv-peers/made: requirements/peers.txt pyproject.toml
	@$(PYTHON) -m venv .venv-peers
	@.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check --no-input --require-hashes --requirement requirements/peers.txt
	@.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check --no-input --no-deps --no-build-isolation --editable .
	@touch $@

bench-peers: .venv-peers/made  ## the same sweep in vectorbt and backtesting.py, in a venv of its own (minutes)
	.venv-peers/bin/python -m tests.benchmarks.peers

PIN := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header

requirements: .venv/dev  ## resolve the pins again
	$(PIN) --extra bench --extra build --extra lint --extra test pyproject.toml --output-file requirements/bench.txt
	$(PIN) --extra build --extra lint --extra test --constraint requirements/bench.txt pyproject.toml \
	  --output-file requirements/dev.txt
	$(PIN) --extra build --constraint requirements/bench.txt pyproject.toml --output-file requirements/run.txt
	$(PIN) --extra build --extra peers --constraint requirements/bench.txt pyproject.toml \
	  --output-file requirements/peers.txt

system-packages:   ## install what tests use besides Python (Debian or Ubuntu, as root or with sudo)
	@command -v prometheus >/dev/null || { \
	  run=$$([ "$$(id -u)" = 0 ] || echo sudo); export DEBIAN_FRONTEND=noninteractive; \
	  $$run apt-get update -qq && $$run apt-get install -y -qq --no-install-recommends prometheus; }

clean:             ## remove what make made
	rm -rf .venv .venv-peers build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
