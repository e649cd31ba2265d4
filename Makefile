# `make` alone says what there is. Everything happens in .venv; nothing else on the machine changes,
# but for a missing system package, which is installed where that is allowed.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= $(firstword $(foreach v,3 3.13 3.12 3.11,$(shell command -v python$(v) >/dev/null && \
	python$(v) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo python$(v))))
# One version, so that all machines agree. For a CPU build see README.md, "Installing".
TORCH ?= torch==2.13.0
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
# `make test SLOW=1` runs the long tests too; PYTEST_ARGS names files or gives other options.
FAST := $(if $(SLOW),, and not slow)
# Files that are named may hold only tests of the other kind.
NONE_IS_FINE := $(if $(PYTEST_ARGS),|| [ $$? = 5 ])

.PHONY: help install check test demo clean

help: ## What there is to do
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/.installed ## Show the whole pipeline on a sample slide, in minutes
	@echo "== demo: a real slide to a heatmap, in ./demo-run"
	@rm -rf demo-run
	$(BIN)/hpc-heatmap demo --out demo-run

test: .venv/.installed-dev ## Run all checks and tests (SLOW=1: the long ones too)
	@echo "== style, types, import contracts"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache > .venv/contracts.log || { cat .venv/contracts.log; exit 1; }
	@echo "== tests without a screen"
	$(BIN)/python -m pytest -p no:napari -p no:pytest-qt -m "not gui$(FAST)" $(PYTEST_ARGS) $(NONE_IS_FINE)
	@echo "== tests in napari, on a screen"
	@if scripts/with-screen true; then \
	  scripts/with-screen $(BIN)/python -m pytest -m "gui$(FAST)" $(or $(PYTEST_ARGS),tests/plugin) $(NONE_IS_FINE); \
	else echo "== skipped: the tests in napari"; fi

check: .venv/.installed-dev ## Mend style, then check style, types and contracts alone
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

install: .venv/.installed-dev ## Make .venv with plugin, engine and developers' tools

clean: ## Delete .venv and what tools left behind
	rm -rf .venv demo-run build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/bin/pip:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: install it, or name it with make PYTHON=..."; exit 1; }
	@echo "== environment: .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
	  package=$$($(PYTHON) -c 'import sys; print("python3.%d-venv" % sys.version_info[1])'); \
	  line="apt-get update && apt-get install -y $$package"; \
	  if [ "$$(id -u)" = 0 ]; then bash -c "$$line"; \
	  elif sudo -n true 2>/dev/null; then sudo bash -c "$$line"; \
	  else echo "A system package is missing. Run: sudo sh -c '$$line'"; exit 1; fi; }
	@rm -rf .venv
	@$(PYTHON) -m venv .venv

.venv/.installed: pyproject.toml | .venv/bin/pip
	@echo "== installing the plugin, the engine and what they need (minutes, and about 2 GB, once)"
	$(PIP) install --upgrade pip
	$(PIP) install $(TORCH)
	$(PIP) install -e .
	@touch $@

.venv/.installed-dev: .venv/.installed
	@echo "== installing developers' tools"
	$(PIP) install -e ".[dev]"
	@touch $@
