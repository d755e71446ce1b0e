PYTHON ?= python3
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Two workers that each take every core wait for each other most of the time.
test: export OMP_NUM_THREADS := 1

.PHONY: demo test lint generate clean

demo: .venv/installed
	$(BIN)/python examples/00_quickstart.py

test: .venv/installed
	$(BIN)/python -m pytest -n 2 --dist worksteal -q

lint: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

generate: .venv/installed
	$(BIN)/python tests/generated.py

.venv/installed: pyproject.toml constraints.txt
	test -d .venv || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv
