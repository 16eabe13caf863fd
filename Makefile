# What a person or CI does with this repository. `make` alone prints the list.
# Needs: make, and Python 3.11, 3.12 or 3.13 with venv. Everything else goes into .venv, pinned by constraints.txt.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help install demo up test test-fast test-real check lint format types contracts soak bench constraints clean

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SOURCES := choregos tests examples benchmarks
WORKERS ?= 2
UV ?= uv

# The first of these that is a Python we test on; a shim that is there but runs nothing is passed over.
FIND_PYTHON = for candidate in $(PYTHON) python3 python3.13 python3.12 python3.11; do \
	"$$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	&& echo "$$candidate" && break; done

help: ## this list
	@echo "choregos: Kubernetes for AI agents"
	@echo
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r target what; do \
		printf '%-18s %s\n' "$$target" "$$what"; done

install: $(STAMP) ## .venv with choregos, its command line, the demo's model and the tools of development

$(STAMP): constraints.txt pyproject.toml
	@python=$$($(FIND_PYTHON)); \
	if [ -z "$$python" ]; then \
		echo "choregos needs Python 3.11, 3.12 or 3.13, and none was found." >&2; \
		echo "Install one, or name it: make install PYTHON=/path/to/python3.12" >&2; exit 1; fi; \
	if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
		rm -rf $(VENV); \
		echo "Making $(VENV) with $$("$$python" --version)"; \
		if ! "$$python" -m venv $(VENV) >$(VENV).log 2>&1; then \
			cat $(VENV).log >&2; rm -rf $(VENV) $(VENV).log; \
			echo "Python's venv is incomplete here. On Debian or Ubuntu: sudo apt install python3-venv" >&2; exit 1; fi; \
		rm -f $(VENV).log; fi
	@echo "Installing from constraints.txt (wheels only, hashes checked; about 340 MB the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: \
		-r constraints.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(STAMP)
	@echo "Done. Try: make demo"

demo: install ## start a fleet, watch it become ready, hold a conversation across three kinds of agents, end
	@$(BIN)/python -m choregos demo

up: install ## start a fleet and leave it running; Ctrl-C ends it
	@$(BIN)/choregos up

test: test-fast test-real ## every test but the long ones

test-fast: install
	$(BIN)/python -m pytest -m "not real and not soak" -n $(WORKERS)

test-real: install
	$(BIN)/python -m pytest -m "real and not soak" -n $(WORKERS) --dist loadfile

check: lint types contracts test ## what CI runs: lint, format, types, import contracts and every test of the README

lint: install
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)

format: install ## put every file into the one format, and repair what ruff can
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

types: install
	$(BIN)/mypy

contracts: install
	$(BIN)/lint-imports

soak: install ## the long tests
	$(BIN)/python -m pytest -m soak --timeout 3600

bench: install ## the figures of docs/benchmarks.md, measured here
	$(BIN)/python -m benchmarks

constraints: ## resolve pyproject.toml anew into constraints.txt (needs uv); UPGRADE=1 takes newer versions
	@command -v $(UV) >/dev/null || { echo "make constraints needs uv: python3 -m pip install uv" >&2; exit 1; }
	$(UV) pip compile pyproject.toml --extra demo --extra dev --universal --python-version 3.11 --only-binary :all: \
		--generate-hashes --no-emit-index-url --no-annotate --no-header --quiet $(if $(UPGRADE),--upgrade) \
		--output-file constraints.txt

clean: ## remove what was installed, built or cached here
	rm -rf $(VENV) dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +
