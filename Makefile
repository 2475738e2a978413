# Everything runs from the repository root, in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
# uv does not read pip's settings; it takes the same folder of wheels, where there is one, by name.
FIND_LINKS = $${PIP_FIND_LINKS:-$$($(PYTHON) -m pip config get global.find-links 2>/dev/null || true)}
# Compiled modules are kept even where the environment says otherwise: importing torch and Prefect
# from source takes every process ten seconds more.
export PYTHONDONTWRITEBYTECODE :=
TEST_ENV := HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 DO_NOT_TRACK=1 PREFECT_SERVER_ANALYTICS_ENABLED=false

# Tests that start servers and kill processes: each of the two processes has a server of its own.
ALONE := tests/deployments tests/faults tests/flows
BENCHMARKS := planning order loader training_loop latents unchanged scan tiler tiling_memory captions orchestration

.DEFAULT_GOAL := help
.PHONY: help install demo up down test test-slow check format lock bench clean

help:  ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(STAMP)  ## Create .venv with the pinned dependencies (about 20 s)

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -m venv --without-pip $(VENV)
	$(PYTHON) -m pip --python $(BIN)/python install --quiet uv==0.13.9
	UV_FIND_LINKS="$(FIND_LINKS)" $(BIN)/uv pip install --quiet --no-deps --python $(BIN)/python -r requirements.lock
	# The lock names no CUDA libraries; where the torch that was installed needs them, they come now.
	UV_FIND_LINKS="$(FIND_LINKS)" $(BIN)/uv pip install --quiet --python $(BIN)/python -c requirements.lock torch==2.13.0
	$(BIN)/uv pip install --quiet --no-deps --no-build-isolation --python $(BIN)/python -e .
	@touch $@

demo: $(STAMP)  ## The main job on the shipped photos: prepare, train a LoRA, draw samples
	$(BIN)/python -m deployments.demo.set_up demo
	$(BIN)/tilewright run demo/demo.toml

up: $(STAMP)  ## Prefect server, UI and a worker on this machine, in the background
	@$(BIN)/python -m deployments.local up

down: $(STAMP)  ## Stop them; runs under way are cancelled and back up first
	@$(BIN)/python -m deployments.local down

test: $(STAMP)  ## The test suite (CPU, under 10 minutes)
	$(TEST_ENV) $(BIN)/pytest -m "not slow and not gpu" -n 2 --dist loadfile tests $(ALONE:%=--ignore=%)
	$(TEST_ENV) $(BIN)/pytest -m "not slow and not gpu" -n 2 --dist loadfile $(ALONE)

test-slow: $(STAMP)  ## The minutes-long tests too
	$(TEST_ENV) $(BIN)/pytest -m "not gpu"

check: $(STAMP)  ## Lint, format, types and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)  ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(STAMP)  ## Resolve requirements.in anew (then run the tests)
	# The pins of before are kept where they still fit, and the CPU build of torch names no CUDA.
	sed -i 's/^torch==\([0-9.]*\)$$/torch==\1+cpu/' requirements.lock
	UV_FIND_LINKS="$(FIND_LINKS)" $(BIN)/uv pip compile --quiet --overrides overrides.txt --no-annotate --no-header \
		--python $(BIN)/python -o requirements.lock requirements.in
	sed -i 's/^torch==\(.*\)+cpu$$/torch==\1/' requirements.lock

bench: $(STAMP)  ## Every performance promise against its bare loop
	missed=0; for name in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$name || missed=1; done; exit $$missed

clean:  ## Remove what the build and the tools made (not demo/, not your stores)
	rm -rf build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
