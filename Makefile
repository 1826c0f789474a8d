# Each target makes .venv and installs what it needs the first time; afterwards only when pyproject.toml has changed.
#   demo        the whole job on a small network and scikit-learn's digits
#   test        lint, types, and every test that does without PyTorch
#   test-torch  the tests marked `torch`, with the PyTorch of TORCH. On Linux pip's is built for CUDA and has several GB; where there is an
#               index of CPU builds, name it in PIP_EXTRA_INDEX_URL. It lies in a folder beside the packages of .venv, where `test` does not see it.
#   torch       that PyTorch alone
#   docs        the pages of docs/, into docs/_build
#   bench       the benchmarks
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
TORCH ?= 2.13.0
TORCH_FOLDER := .venv/torch-$(TORCH)
# In as many processes as there are cores, up to four: each may hold a GB of memory.
PYTEST := $(BIN)/pytest --numprocesses logical --maxprocesses 4 --dist worksteal

.PHONY: demo test test-torch torch lint docs bench clean
.NOTPARALLEL:

demo: .venv/demo.stamp
	$(BIN)/trtcal demo

test: lint
	$(PYTEST)

test-torch: $(TORCH_FOLDER).stamp
	PYTHONPATH=$(CURDIR)/$(TORCH_FOLDER) $(PYTEST) -m torch $$(grep -rlw torch tests --include='test_*.py')

torch: $(TORCH_FOLDER).stamp

lint: .venv/dev.stamp docs
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile

docs: .venv/dev.stamp
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --nitpicky --jobs auto docs docs/_build

bench: .venv/dev.stamp
	$(BIN)/python -m benchmarks

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist docs/_build trtcal-demo
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/%.stamp: pyproject.toml | $(BIN)/pip
	@echo "Installing trtcal[$*] into .venv (a few minutes the first time)"
	@$(PIP) --editable ".[$*]"
	@touch $@

$(TORCH_FOLDER).stamp: | .venv/dev.stamp
	@echo "Installing PyTorch $(TORCH) into $(TORCH_FOLDER)"
	@rm -rf $(TORCH_FOLDER)
	@$(PIP) --target $(TORCH_FOLDER) torch==$(TORCH)
	@PYTHONPATH=$(TORCH_FOLDER) $(BIN)/python -c "import torch"
	@touch $@

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
	  echo "trtcal needs Python 3.10 or newer, which $(PYTHON) is not ($$($(PYTHON) --version 2>&1)): make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -m venv .venv
