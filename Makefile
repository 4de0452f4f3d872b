# SPDX-License-Identifier: BSD-2-Clause
# Flushpoint: `make sim` and `make test` do all the set-up themselves; `make help` lists the targets.

PYTHON  ?= python3
VENV    := .venv
RUN     := $(VENV)/bin/python
READY   := $(VENV)/ready

PAYLOAD ?=
CONFIG  ?=
SIM     ?= verilator
SEED    ?=
JOBS    ?= 2
SCENARIO ?=
METRIC  ?=

OPTIONS := --sim $(SIM) --jobs $(JOBS) $(if $(PAYLOAD),--payload "$(PAYLOAD)") $(if $(CONFIG),--config "$(CONFIG)") $(if $(SEED),--seed $(SEED))

.DEFAULT_GOAL := help
.PHONY: help setup sim quick test test-all lint format verilog bench synth waves gtkwave lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  variables: METRIC=\"name ...\" PAYLOAD=file SIM=verilator|icarus CONFIG=file.toml SEED=n JOBS=n SCENARIO=name PYTHON=python3.12"

setup: $(READY) ## the virtual environment from the lock file (the other targets do it when needed)

$(READY): requirements.lock pyproject.toml tools/preflight.sh
	@sh tools/preflight.sh "$(PYTHON)"
	@echo "setting up $(VENV) from requirements.lock (once; under a minute)"
	@test -x $(RUN) || "$(PYTHON)" -m venv $(VENV)
	@$(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(RUN) -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

sim: $(READY) ## run the whole scenario catalogue and print what each flush saves
	@$(RUN) -m sim run $(OPTIONS)

quick: $(READY) ## every scenario at its smallest telling size
	@$(RUN) -m sim run --quick $(OPTIONS)

test: $(READY) lint ## lint and the quick tests, on both cores
	@$(RUN) -m pytest -n $(JOBS) -m "not slow"

test-all: $(READY) lint ## every test
	@$(RUN) -m pytest -n $(JOBS)

lint: $(READY) ## ruff: format and rules
	@$(RUN) -m ruff format --check --quiet . || { echo "ruff: run 'make format'"; exit 1; }
	@$(RUN) -m ruff check --quiet .

format: $(READY) ## let ruff format the sources
	@$(RUN) -m ruff format .
	@$(RUN) -m ruff check --fix .

verilog: $(READY) ## Verilog of the SoC and of every block into build/verilog
	@$(RUN) -m sim verilog $(if $(CONFIG),--config "$(CONFIG)")

bench: $(READY) $(VENV)/ready-bench ## measure every block and the SoC (METRIC="name ..." for some) and draw the curves
	@$(RUN) -m sim bench $(METRIC)

synth: $(READY) $(VENV)/ready-synth ## area and clock on FPGAs (METRIC="name ..." for some); the first time takes long
	@$(RUN) -m sim synth $(METRIC)

$(VENV)/ready-%: requirements-%.lock $(READY)
	@echo "adding the tools of 'make $*' to $(VENV) from $< (once)"
	@$(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

waves: $(READY) ## run SCENARIO=name and write its waves with a GTKWave save file
	@$(RUN) -m sim waves "$(SCENARIO)" $(OPTIONS)

gtkwave: $(READY) ## the same, and open it in GTKWave
	@$(RUN) -m sim waves "$(SCENARIO)" --open $(OPTIONS)

lock: ## make requirements.lock anew from pyproject.toml (needs uv)
	uv pip compile -q pyproject.toml --extra test --generate-hashes --universal --no-header --no-emit-index-url --python-version 3.11 -o requirements.lock
	for extra in synth bench; do \
	  uv pip compile -q pyproject.toml --extra $$extra -c requirements.lock --generate-hashes --universal --no-header \
	    --no-emit-index-url --python-version 3.11 -o requirements-$$extra.lock || exit 1; \
	done

clean: ## remove build results; the virtual environment stays
	rm -rf build
