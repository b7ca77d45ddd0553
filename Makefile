# The two commands a newcomer needs: `make demo` and `make test`. Both set themselves up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Processes that run tests, each file in one of them; a test may start several more.
WORKERS ?= 2

.PHONY: demo test check bench browser slow closed-loop parity attack faults docs clean

demo: $(VENV)/.demo
	$(BIN)/megalith run recipes/quickstart.yaml --output runs/quickstart

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev
	@for script in loader train_cpu parallel_cpu train_gpu; do echo "== $$script"; $(BIN)/python benchmarks/$$script.py || [ $$script = train_gpu -a $$? = 2 ] || exit 1; done  # 2: no GPU

browser: $(VENV)/.dev  ## needs a chromium on the PATH
	$(BIN)/python -m pytest -m browser

slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow

closed-loop: $(VENV)/.dev  ## predicted against measured step time of six layouts
	$(BIN)/python benchmarks/plan_cpu.py

parity: $(VENV)/.dev  ## every layout against one process; writes docs/parity.md
	$(BIN)/python -m tests.parallel.table

attack: $(VENV)/.dev  ## kills, damage, fuzzed input: see docs/attack.md
	$(BIN)/python -m tests.attack

faults: $(VENV)/.dev  ## kills, stops, full disks, wrong numbers in training: see docs/faults.md
	$(BIN)/python -m tests.faults

docs: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	$(BIN)/mkdocs build --strict

$(VENV)/.demo: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Megalith needs Python 3.11 or newer; name one with make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info site
