# Every target sets up what it needs: a virtual environment in .venv with the package and its development tools.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help setup demo test lint format proto interop bench soak clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

$(STAMP): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed (set PYTHON=)"; exit 1; }
	@echo "setting up $(VENV) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $(STAMP)

setup: $(STAMP) ## make .venv with the package and its development tools

demo: $(STAMP) ## three processes: bootstrap, find a node, talk to it
	@$(BIN)/python examples/three_nodes.py

test: $(STAMP) ## the test suite, on asyncio and trio
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest -n auto --maxprocesses 4 --dist worksteal
	$(BIN)/python -m coverage combine -q
	$(BIN)/python -m coverage report --skip-covered --skip-empty --format=total
	$(BIN)/python tests/coverage_bars.py

lint: $(STAMP) ## ruff, mypy --strict, import contracts, generated protobuf up to date
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python proto/generate.py --check

format: $(STAMP) ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

proto: $(STAMP) ## generate py_p2pstack/wire/pb from proto/
	$(BIN)/python proto/generate.py

interop: $(STAMP) ## real go-, rust-, js- and py-libp2p peers, both ways; writes docs/interop.md
	$(BIN)/python -m pytest tests/interop -m interop -rs

bench: $(STAMP) ## speed beside the floor, py-libp2p and go-libp2p; ends in one table
	$(BIN)/python -m benchmarks

soak: $(STAMP) ## the long runs: fuzzing by the hour, big simulations
	$(BIN)/python -m tests.soak

clean: ## remove what the targets made
	rm -rf $(VENV) .coverage .hypothesis .mypy_cache .ruff_cache .pytest_cache .import_linter_cache *.egg-info build dist
