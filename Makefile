# Everything about this project, one word each. `make` alone lists the words.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
FAULTS ?= 2

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all test-gpu check format bench bench-scale faults clean

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

bench: install ## what each part costs beside the plain way and the hardware's ceiling; all 2^24 colours checked
	$(BIN)/pretext bench all
	$(BIN)/python tests/bench/check_colours.py

bench-scale: install ## memory and time of up to a million images (minutes; 7 GB of disk)
	$(BIN)/python tests/bench/bench_scale.py

faults: install ## break everything on purpose, FAULTS times as often as the tests do, and count what was lost
	rm -f tests/faults/results.json
	PRETEXT_FAULTS=$(FAULTS) PRETEXT_KILLS=$$((3 * $(FAULTS))) PRETEXT_FAULTS_JSON=tests/faults/results.json \
	  $(BIN)/python -m pytest -q -n auto --dist worksteal --timeout 3600 tests/faults tests/pipeline/test_kill.py

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
