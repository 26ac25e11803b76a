# Everything about this project, one word each. `make` alone lists the words.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all test-gpu check format bench clean

help: ## list these targets
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 12

install: $(VENV)/.installed ## make .venv with the package and all it needs (once; 5.5 GB, most of it torch)

# One pip call, so that torch and torchvision are chosen to fit each other.
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

# Two stages side by side with half of the cores each cost less than one after the other with all of them.
demo: install ## the six stages on drawn shapes, on a CPU, in minutes; ends with demo/report/report.html
	OMP_NUM_THREADS=$$(( ($$(getconf _NPROCESSORS_ONLN) + 1) / 2 )) \
	  $(MAKE) --no-print-directory -j2 -f examples/quickstart.mk PRETEXT=$(BIN)/pretext OUT=demo

test: install ## the tests (CPU, offline)
	$(BIN)/python -m pytest -q -n auto --dist worksteal -m "not slow and not gpu"

test-all: install ## the tests, with the slow ones
	$(BIN)/python -m pytest -q -m "not gpu"

test-gpu: install ## the tests that need CUDA
	$(BIN)/python -m pytest -q -m gpu

bench: install ## what PSE, perceptual losses, Lab conversion and prepared colours cost beside the plain ways
	$(BIN)/python tests/bench/bench_pse.py
	$(BIN)/python tests/bench/bench_color.py
	$(BIN)/python tests/bench/bench_prepare.py
	$(BIN)/python tests/bench/bench_perceptual.py

check: install ## lint, format and types; changes nothing
	$(BIN)/ruff check pretext tests examples
	$(BIN)/ruff format --check pretext tests examples
	$(BIN)/mypy

format: install ## rewrite the code in the house's format
	$(BIN)/ruff check --fix pretext tests examples
	$(BIN)/ruff format pretext tests examples

clean: ## remove what the demo and the tools wrote; keeps .venv
	rm -rf demo build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find pretext tests -name __pycache__ -prune -exec rm -rf {} +
