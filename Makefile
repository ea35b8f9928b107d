# Needs Linux, Python 3.11 or newer with pip, and make. `make help` names the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# pip of the machine, for the packages of .venv: works also where Python comes without ensurepip.
PIP := $(PYTHON) -m pip --python $(BIN)/python --disable-pip-version-check --no-input
INSTALL := $(PIP) install --quiet --no-warn-script-location
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	--extra embedded --extra reduction --extra checkout pyproject.toml
MINUTES ?= 10
RECORDING ?= tests/data/adara/small_sms_run1001.adara

.DEFAULT_GOAL := help
.PHONY: help up test test-all lint bench soak lock clean

help: ## name the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do printf '%-10s %s\n' "$$name" "$$text"; done

up: $(VENV)/.runtime ## start everything on this machine and stay in the foreground; Ctrl-C stops it
	@exec $(BIN)/neutronflow up $(UP_OPTIONS)

test: $(VENV)/.development ## the tests, without the slow ones
	$(BIN)/pytest -m "not slow" $(PYTEST_OPTIONS)

test-all: $(VENV)/.development ## all tests
	$(BIN)/pytest $(PYTEST_OPTIONS)

lint: $(VENV)/.development ## style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.development ## the benchmarks (NAMES="..." for some of them)
	$(BIN)/neutronflow bench $(NAMES)

soak: $(VENV)/.runtime ## replay a recorded run to the running stack, again and again, for MINUTES
	@end=$$(( $$(date +%s) + 60 * $(MINUTES) )); runs=0; \
	while [ "$$(date +%s)" -lt "$$end" ]; do \
		$(BIN)/neutronflow replay $(RECORDING) --speed 20 --json || exit 1; \
		$(BIN)/neutronflow status >/dev/null || { $(BIN)/neutronflow status; exit 1; }; \
		runs=$$(( runs + 1 )); \
	done; echo "$$runs runs in $(MINUTES) minutes"

lock: $(VENV)/.development ## pin the dependencies anew, as far as pyproject.toml asks for it (UPGRADE=1: all of them)
	$(LOCK) $(if $(UPGRADE),--upgrade) --output-file requirements.lock
	$(LOCK) $(if $(UPGRADE),--upgrade) --extra dev --constraint requirements.lock --output-file requirements-dev.lock

clean: ## remove what the other targets have made, but no data
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit(f"Neutronflow needs Python 3.11 or newer; this is {v[0]}.{v[1]}. Name another one: make PYTHON=python3.12 ...")'
	@$(PYTHON) -m pip --version >/dev/null 2>&1 || { echo "Neutronflow needs pip (Debian: apt-get install python3-pip)." >&2; exit 1; }
	$(PYTHON) -m venv --without-pip $(VENV)

# Both install the checkout itself in place, without the network. The stamps make later starts quick.
$(VENV)/.runtime: $(BIN)/python requirements.lock pyproject.toml
	@echo "installing into $(VENV) ..."
	$(INSTALL) --require-hashes -r requirements.lock
	$(INSTALL) --no-index --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.development: $(BIN)/python requirements-dev.lock pyproject.toml
	@echo "installing into $(VENV) ..."
	$(INSTALL) --require-hashes -r requirements-dev.lock
	$(INSTALL) --no-index --no-deps --no-build-isolation --editable .
	@touch $@ $(VENV)/.runtime
