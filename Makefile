# Every target makes its own environment: plain venv and pip, or uv where it is installed.
PYTHON ?= python3
# The processes that share the tests: a number, or one per core.
WORKERS ?= auto
# How much the tests play: quick, deep (as CI), or explore; tests/depth.py tells.
export DEPTH ?= quick
VENV := .venv
BIN := $(VENV)/bin
UV := $(shell command -v uv 2>/dev/null)

ifdef UV
CREATE = $(UV) venv -q --allow-existing --python $(PYTHON) $(VENV)
INSTALL = $(UV) pip install -q --python $(BIN)/python
else
CREATE = $(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install -q --upgrade "pip>=25.1"
INSTALL = $(BIN)/python -m pip install -q
endif

.PHONY: help demo test test-all chaos mutants check way docs bench clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(BIN)/python:
	$(CREATE)

$(VENV)/.user: pyproject.toml | $(BIN)/python
	$(INSTALL) -e '.[all]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(INSTALL) -e '.[all]' --group dev
	@touch $@ $(VENV)/.user

demo: $(VENV)/.user ## the main job on the built-in sandbox: videos from images, in demo-clips/
	$(BIN)/wiro demo --output demo-clips $(IMAGES)

# Bytecode is kept, whatever the environment says: the tests start many processes, and each would compile all anew.
test test-one chaos: export PYTHONDONTWRITEBYTECODE =

# A selection of the tests covers less.
test: REQUIRED = $(if $(ARGS),--fail-under=0)
test: $(VENV)/.dev ## the tests, with branch coverage (ARGS="-k hostile -x": pytest's options)
	rm -f .coverage .coverage.*
	$(BIN)/coverage run -m pytest -n $(WORKERS) --dist worksteal $(ARGS)
	$(BIN)/coverage combine -q
	$(BIN)/coverage report $(REQUIRED)

# Where pyenv holds the interpreters, its shims want to be told which; elsewhere the variable means nothing.
test-all: test ## the tests on Python 3.12 and 3.13 too
	PYENV_VERSION=3.12 $(MAKE) VENV=.venv-3.12 PYTHON=python3.12 test-one
	PYENV_VERSION=3.13 $(MAKE) VENV=.venv-3.13 PYTHON=python3.13 test-one

chaos: $(VENV)/.dev ## ten thousand schedules of faults and cancellations, 3 700 power cuts, and new Hypothesis examples
	$(BIN)/python -m tests.chaos --schedules 10000
	$(BIN)/python -m tests.crash --each 100 --random 2000 --moved 100
	DEPTH=explore $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "hypothesis or deep" $(ARGS)

mutants: $(VENV)/.mutants ## 200 small breaks of the code: the tests notice at least 95 % (ARGS="--only limiter")
	$(BIN)/python -m tests.mutants $(ARGS)

$(VENV)/.mutants: $(VENV)/.dev
	$(INSTALL) --group mutants
	@touch $@

.PHONY: test-one
test-one: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

check: $(VENV)/.dev ## lint, types, architecture, the way of a job
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(INSTALL) --no-deps --upgrade --target $(VENV)/typed .
	cd $(VENV) && PYTHONPATH=typed bin/pyright --pythonpath bin/python --ignoreexternal --verifytypes wiro_async
	$(BIN)/python -m pytest -q tests/test_architecture.py tests/test_way.py

way: $(VENV)/.dev ## the files that a job meets on its way, the size of the core, the tests' grip on it
	$(BIN)/python -m tests.way
	$(BIN)/python -m tests.counts

docs: $(VENV)/.docs ## the reference, in docs/_build/index.html
	$(BIN)/pdoc --docformat google --output-directory docs/_build wiro_async wiro_async.inputs wiro_async.sandbox wiro_async.sandbox.faults

$(VENV)/.docs: pyproject.toml | $(BIN)/python
	$(INSTALL) -e '.[all]' --group docs
	@touch $@ $(VENV)/.user

bench: $(VENV)/.dev ## against what a user would write instead: tables in benchmarks/results (BENCH=--quick for less)
	$(BIN)/python -m benchmarks.run $(BENCH)

clean: ## remove what the other targets made
	rm -rf .venv .venv-3.12 .venv-3.13 .mypy_cache .ruff_cache .pytest_cache .hypothesis htmlcov .coverage .coverage.*
