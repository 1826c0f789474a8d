# Each target makes .venv and installs what it needs the first time; afterwards only when pyproject.toml has changed.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --editable

.PHONY: demo test lint bench clean
.NOTPARALLEL:

demo: .venv/demo.stamp
	$(BIN)/trtcal demo

test: lint
	$(BIN)/pytest

lint: .venv/dev.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/hadolint Dockerfile

bench: .venv/dev.stamp
	$(BIN)/python -m benchmarks

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist trtcal-demo
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/%.stamp: pyproject.toml | $(BIN)/pip
	@echo "Installing trtcal[$*] into .venv (a few minutes the first time)"
	@$(INSTALL) ".[$*]"
	@touch $@

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
	  echo "trtcal needs Python 3.10 or newer, which $(PYTHON) is not ($$($(PYTHON) --version 2>&1)): make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -m venv .venv
