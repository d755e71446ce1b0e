PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Two workers that each take every core wait for each other most of the time.
test: export OMP_NUM_THREADS := 1

.DEFAULT_GOAL := help
.PHONY: help demo test lint format generate clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/installed ## train a small mixture of experts offline, in less than a minute
	$(BIN)/python examples/00_quickstart.py

test: .venv/installed ## run the tests; one of them: make test ARGS="tests/test_losses.py -k name"
	$(BIN)/python -m pytest $(if $(ARGS),,-n 2 --dist worksteal) -q $(ARGS)

lint: .venv/installed ## check formatting, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: .venv/installed ## format the code and apply the lint fixes that are safe
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

generate: .venv/installed ## write the generated pages and dashboards
	$(BIN)/python tests/generated.py

clean: ## remove the environment, caches and builds
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist

.venv/installed: pyproject.toml constraints.txt
	test -d .venv || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@
