# What CI calls is what you call. Needs Python >= 3.11 and make; everything else goes into .venv.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input

.PHONY: demo test test-slow lint format bench bench-peers chaos fuzz soak simulate e2e requirements system-packages
.PHONY: deploy-tools sbom search clean help

help:              ## show the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

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

search: .venv/run requirements/search.txt  ## install what the search methods sobol, lhs, tpe, cmaes and nsga2 need
	@$(PIP) --require-hashes --requirement requirements/search.txt

.venv/dev: .venv/run requirements/dev.txt
	@$(PIP) --require-hashes --requirement requirements/dev.txt
	@touch $@

.venv/bench: .venv/dev requirements/bench.txt
	@$(PIP) --require-hashes --requirement requirements/bench.txt
	@touch $@

.venv/deploy: .venv/dev requirements/deploy.txt
	@$(PIP) --require-hashes --requirement requirements/deploy.txt
	@touch $@

demo: .venv/run    ## a real sweep on a local Ray, from nothing
	@$(BIN)/grid run examples/demo.yaml --executor ray --no-reuse

test: .venv/dev    ## every test that is not slow
	$(BIN)/python -m pytest -m "not slow and not ray and not s3" --numprocesses 2 --dist loadfile
	$(BIN)/python -m pytest -m "not slow and (ray or s3)" --numprocesses 2 --dist loadfile --no-loadscope-reorder

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

SEEDS ?= 10
chaos: .venv/dev     ## break everything around real sweeps, SEEDS=100 times, and rewrite docs/chaos.md
	$(BIN)/python -m tests.chaos $(SEEDS)

fuzz: .venv/dev      ## 10,000 spoilt files of bars, sweep files and commit records
	$(BIN)/python -m tests.chaos.fuzz 10000

MINUTES ?= 20
soak: .venv/dev      ## a long sweep on Ray; fails when memory grows (MINUTES=20)
	$(BIN)/python -m tests.chaos.soak $(MINUTES)

simulate: .venv/dev  ## 1,000 nodes of 64 cores on paper, and rewrite docs/scale.md
	$(BIN)/python -m tests.chaos.simulate

PEERS := .venv-peers/bin/python

.venv-peers/made: requirements/peers.txt pyproject.toml
	@$(PYTHON) -m venv .venv-peers
	@$(PEERS) -m pip install --quiet --disable-pip-version-check --no-input --require-hashes \
	  --requirement requirements/peers.txt
	@$(PEERS) -m pip install --quiet --disable-pip-version-check --no-input --no-deps --no-build-isolation --editable .
	@touch $@

bench-peers: .venv-peers/made  ## the same sweep in vectorbt and backtesting.py, in a venv of its own (minutes)
	$(PEERS) -m tests.benchmarks.peers

e2e: .venv/deploy system-packages  ## S3, Valkey, Prometheus and a Ray of three nodes behind a token, and sweeps on them
	$(BIN)/python -m pytest -m ray tests/e2e/test_whole.py tests/e2e/test_side_by_side.py tests/e2e/test_growing.py \
	  tests/e2e/test_tls_proxy.py tests/chaos/test_head.py

PIN := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header

requirements: .venv/dev  ## resolve the pins again
	$(PIN) --extra bench --extra build --extra lint --extra search --extra test pyproject.toml \
	  --output-file requirements/bench.txt
	$(PIN) --extra deploy --constraint requirements/bench.txt pyproject.toml --output-file requirements/deploy.txt
	$(PIN) --group sbom --output-file requirements/sbom.txt
	$(PIN) --extra build --extra lint --extra search --extra test --constraint requirements/bench.txt pyproject.toml \
	  --output-file requirements/dev.txt
	$(PIN) --extra search --constraint requirements/bench.txt pyproject.toml --output-file requirements/search.txt
	$(PIN) --extra build --constraint requirements/bench.txt pyproject.toml --output-file requirements/run.txt
	$(PIN) --extra build --extra peers --constraint requirements/bench.txt pyproject.toml \
	  --output-file requirements/peers.txt

system-packages:   ## install what tests use besides Python (Debian or Ubuntu, as root or with sudo)
	@tests/services/install.sh

deploy-tools: .venv/deploy .venv-sbom/made  ## install what checks the files of deploy/

.venv-sbom/made: requirements/sbom.txt
	@$(PYTHON) -m venv .venv-sbom
	@.venv-sbom/bin/python -m pip install --quiet --disable-pip-version-check --no-input --require-hashes \
	  --requirement requirements/sbom.txt
	@touch $@

sbom: .venv-sbom/made ## write sbom.json, the packages of the image with versions and hashes (CycloneDX)
	@.venv-sbom/bin/cyclonedx-py requirements requirements/run.txt --pyproject pyproject.toml --output-file sbom.json

clean:             ## remove what make made
	rm -rf .venv .venv-peers .venv-sbom build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
