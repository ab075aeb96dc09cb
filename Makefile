# Weir's commands. `make help` lists them; each one's comment is its help.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

# Debian's own Python where there is one: a version manager's may lie where another user cannot read it.
PYTHON ?= $(firstword $(wildcard /usr/bin/python3) python3)
VENV := .venv
BIN := $(VENV)/bin
# Which tests: make test TESTS="tests/unit -k rollup"
TESTS ?= tests
# How many workers share the tests, file by file; each starts servers of its own.
JOBS ?= 2
# Options of the bench: make bench BENCH="--only writer,way"
BENCH ?=
# What make plots draws.
JSON ?= bench-results/bench.json
# Options of the fuzzing campaign: make fuzz FUZZ="--minutes 5 --targets records"
FUZZ ?=
# Options of the chaos campaign: make chaos CHAOS="--minutes 10 --seed 7 --only 'Kafka killed'"
CHAOS ?=
# Options of the conformance run: make conformance CONFORMANCE="--seeds 1,2,3 --examples 100"
CONFORMANCE ?=
PACKAGES := schema ingest query api deploy tests
LOCK := $(BIN)/pip-compile --quiet --generate-hashes --strip-extras --allow-unsafe \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options

.PHONY: help setup run up down test check format lock fuzz bench plots chaos conformance clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1\t\2/' \
		| while IFS=$$'\t' read -r name text; do printf '  %-12s %s\n' "$$name" "$$text"; done

setup: $(VENV)/.project ## Make .venv with everything in it, and fetch Kafka and TimescaleDB
	@$(BIN)/python -m deploy.local.installation

run: setup ## Bring the whole stack up and show it; Ctrl-C ends it
	@$(BIN)/weir up

up: setup ## Bring the whole stack up in the background
	@$(BIN)/weir up --detach

down: setup ## End the stack that `make up` brought up
	@$(BIN)/weir down

test: setup ## Run the test suite, or a part of it: make test TESTS=tests/unit
	@$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder $(TESTS)

check: $(VENV)/.project ## Lint, formatting, types and import borders
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(VENV)/.project ## Format the code and apply the linter's safe fixes
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix --exit-zero .

lock: $(VENV)/.project ## Pin the requirements anew: Python's, and the tests' npm packages
	@CUSTOM_COMPILE_COMMAND="make lock" $(LOCK) --output-file requirements.txt pyproject.toml
	@CUSTOM_COMPILE_COMMAND="make lock" $(LOCK) --extra dev --output-file requirements-dev.txt pyproject.toml
	@CUSTOM_COMPILE_COMMAND="make lock" $(LOCK) --extra plots --output-file requirements-plots.txt pyproject.toml
	@$(BIN)/python -m tests.support.node_programs >/dev/null
	@CUSTOM_COMPILE_COMMAND="make lock" $(LOCK) --constraint requirements-dev.txt \
		--output-file requirements-fuzz.txt tests/fuzz/requirements.in

fuzz: setup $(VENV)/.fuzz ## Feed hostile bytes to every reader, half an hour: make fuzz FUZZ="--minutes 5"
	@$(BIN)/python -m tests.fuzz $(FUZZ)

bench: setup ## Measure against the raw limits of this machine; make bench FULL=1 takes 5 million events
	@$(BIN)/python -m tests.bench $(if $(FULL),--scale full) $(BENCH)

conformance: setup ## Hold both doors to their OpenAPI descriptions, at length
	@$(BIN)/python -m tests.conformance $(CONFORMANCE)

chaos: setup ## Break everything under load for 30 minutes, and count what was promised
	@$(BIN)/python -m tests.chaos $(CHAOS)

plots: setup ## Draw docs/plots/ from the bench's JSON; make plots JSON=bench-results/bench.json
	@timeout 600 $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes \
		--requirement requirements-plots.txt
	@$(BIN)/python -m tests.bench.plots $(JSON)

clean: ## Remove what the tools made; .weir (programs and data) stays
	@rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	@find $(PACKAGES) -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

# --- what setup consists of, each step done again only when what it depends on has changed ---

$(VENV)/.system: deploy/local/system_packages.sh
	@deploy/local/system_packages.sh $(PYTHON)
	@test -x $(BIN)/python || timeout 120 $(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.requirements: $(VENV)/.system requirements-dev.txt
	@echo "Installing the Python requirements"
	@timeout 600 $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes \
		--requirement requirements-dev.txt
	@touch $@

$(VENV)/.fuzz: $(VENV)/.requirements requirements-fuzz.txt
	@timeout 300 $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes \
		--requirement requirements-fuzz.txt
	@touch $@

$(VENV)/.project: $(VENV)/.requirements pyproject.toml
	@timeout 120 $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation \
		--editable .
	@touch $@
