# Two commands to know: `make run` starts everything here, `make test` checks everything.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet
SAY := @printf '\033[2m·\033[0m %s\n'
LOCK := $(BIN)/uv pip compile pyproject.toml --group build --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-header --quiet

.DEFAULT_GOAL := help
.PHONY: help run test check bench demo reset lock schema docs

help:  ## Show these commands
	@printf '\nQuanhui 券汇\n\n'
	@sed -n 's/^\([a-z]*\):.*##  *\(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | \
		while IFS='|' read -r name text; do printf '  \033[1mmake %-7s\033[0m %s\n' $$name "$$text"; done
	@echo

run: .venv/run.stamp  ## Start everything on this machine; Ctrl-C stops it
	@$(BIN)/quanhui run

test: check  ## Check everything and run every test
	$(SAY) 'tests'
	@$(BIN)/pytest -n 2

check: .venv/dev.stamp  ## Format, lint, types, layers, schema and generated pages
	$(SAY) 'format and lint'
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	$(SAY) 'types'
	@$(BIN)/mypy --no-error-summary
	$(SAY) 'layers'
	@$(BIN)/lint-imports --no-logo > .venv/layers.log || { cat .venv/layers.log; exit 1; }
	$(SAY) 'schema.sql and generated pages'
	@$(BIN)/python -m quanhui.entry.schema --check
	@$(BIN)/python -m quanhui.entry.docs --check

bench: .venv/dev.stamp  ## Measure; prints ratios against a yardstick of the same run
	@for bench in benches/[a-z]*.py; do printf '\n%s\n' "$$bench"; $(BIN)/python "$$bench" || exit 1; done

demo: .venv/run.stamp  ## Play one voucher's whole story through the running API
	@$(BIN)/quanhui demo

reset: .venv/run.stamp  ## Delete the embedded database, the logs and the sample
	@$(BIN)/quanhui reset

schema: .venv/dev.stamp  ## Write schema.sql anew from the migrations
	@$(BIN)/python -m quanhui.entry.schema

docs: .venv/dev.stamp  ## Write docs/reference anew from the code
	@$(BIN)/python -m quanhui.entry.docs

lock: .venv/dev.stamp  ## Resolve the dependencies anew and pin them with hashes
	@$(LOCK) --upgrade --output-file requirements.lock
	@$(LOCK) --upgrade --extra dev --constraints requirements.lock --output-file requirements-dev.lock

# An installation is repeated only when its lock changed.
.venv/run.stamp: requirements.lock | .venv/bin/pip
	$(SAY) 'Installing what requirements.lock names (once)'
	@$(PIP) install --require-hashes --requirement requirements.lock
	@$(PIP) install --no-index --no-deps --no-build-isolation --editable .
	@touch $@

.venv/dev.stamp: requirements-dev.lock | .venv/bin/pip
	$(SAY) 'Installing what requirements-dev.lock names (once)'
	@$(PIP) install --require-hashes --requirement requirements-dev.lock
	@$(PIP) install --no-index --no-deps --no-build-isolation --editable .
	@touch $@ .venv/run.stamp

.venv/bin/pip:
	@test -n "$(PYTHON)" || { printf '%s\n' \
		'Quanhui needs Python 3.11 or newer, and there is none here.' \
		'  Debian, Ubuntu:  sudo apt install python3 python3-venv' \
		'  macOS:           brew install python' \
		'  another place:   make run PYTHON=/path/to/python3.12'; exit 1; }
	@$(PYTHON) -m venv .venv 2>/dev/null || { \
		printf 'Python has no venv module here; installing python3-venv\n'; rm -rf .venv; \
		{ [ "$$(id -u)" = 0 ] && apt-get -qq update && apt-get -qq install -y python3-venv >/dev/null; } || { \
			printf 'That needs root:  sudo apt install python3-venv\n'; exit 1; }; \
		$(PYTHON) -m venv .venv; }
