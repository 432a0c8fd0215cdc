# Two commands: `make demo` and `make test`. Both prepare everything that they need.

VENV := .venv
BIN := $(VENV)/bin
CHECK := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c '$(CHECK)' >/dev/null 2>&1 && echo $$p && break; done)

# Each worker of the tests has a Kafka, a Cassandra and a Spark of its own.
WORKERS ?= 3

.DEFAULT_GOAL := help
.PHONY: help demo test coverage unit chaos check docs bench

TESTS := -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder \
	tests/e2e tests/integration tests/unit

help: ## Show this help.
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST)

demo: $(BIN)/.run ## Start everything and show live bars of a simulated market.
	@$(BIN)/tapeline demo

test: $(BIN)/.dev ## Run all tests that need no outside data.
	@$(BIN)/python $(TESTS)

coverage: $(BIN)/.dev ## Run the same tests, slower, and show which lines none of them reaches.
	@$(BIN)/python $(TESTS) --cov

unit: $(BIN)/.dev ## Run the tests that need no Java: the first ones to run after a change.
	@$(BIN)/python -m pytest -q -n 4 -m "not jvm" tests/unit

chaos: $(BIN)/.dev ## Kill, stop and starve real processes, and count what is lost; takes long.
	@$(BIN)/python -m pytest -n 2 --dist worksteal tests/chaos

bench: $(BIN)/.bench ## Measure Tapeline beside plain consumers, and write docs/benchmarks.md.
	@$(BIN)/python -m bench all $(ARGS)

check: $(BIN)/.dev ## Run the linters and the type checker.
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

docs: $(BIN)/.docs ## Build the docs as a site in site/, and check every link of it.
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --clean && $(BIN)/python scripts/check_site.py site

$(BIN)/.run: requirements.lock pyproject.toml
	$(call install,requirements.lock)

$(BIN)/.dev: requirements-dev.lock pyproject.toml
	$(call install,requirements-dev.lock)

$(BIN)/.docs: requirements-docs.lock $(BIN)/.dev
	$(call install,requirements-docs.lock)

$(BIN)/.bench: requirements-bench.lock $(BIN)/.dev
	$(call install,requirements-bench.lock)

define install
@test -n "$(PYTHON)" || { echo "Tapeline needs Python 3.11, 3.12 or 3.13 with venv: install one \
(for example Debian's python3-venv) or name it with PYTHON=/path/to/python." >&2; exit 1; }
@$(BIN)/python -c '$(CHECK)' >/dev/null 2>&1 || \
	{ $(PYTHON) scripts/before_install.py && $(PYTHON) -m venv --clear $(VENV); }
@echo "Installing Python packages from $(1) into $(VENV) (once)"
@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $(1)
@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
@touch $@
endef
