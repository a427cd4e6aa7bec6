# One command each; `make help` lists them. Needs only make and Python 3.11 or newer.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := indexer search worker api migrations

COMPOSE ?= docker compose

# LOCK=milvus.lock: with the client of a Milvus server (docs/milvus.md).
LOCK ?= run.lock
INSTALLED := $(VENV)/.$(basename $(LOCK)).stamp

# The first interpreter that is new enough; override with `make PYTHON=/path/to/python ...`.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)

.PHONY: help install dev page demo up up-local test test-page lint format types bench docs docs-reference lock clean

help: ## List the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1\t\2/' | expand -t 16

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "voxdex needs Python 3.11 or newer: none found on the PATH. Install one, or run: make PYTHON=/path/to/python $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "'$(PYTHON) -m venv' failed: on Debian and Ubuntu, install the package python3-venv and remove $(VENV)"; exit 1; }

$(INSTALLED): requirements/$(LOCK) requirements/install pyproject.toml api/client/pyproject.toml | $(BIN)/python
	@requirements/install $(VENV) requirements/$(LOCK)
	@touch $@

$(VENV)/.dev.stamp: requirements/dev.lock requirements/install pyproject.toml api/client/pyproject.toml | $(BIN)/python
	@requirements/install $(VENV) requirements/dev.lock
	@touch $@ $(VENV)/.run.stamp $(VENV)/.milvus.stamp

# What the page is built from; it is built again when one of them changed.
PAGE := api/page/dist/index.html
PAGE_SOURCES := $(shell find api/page/src api/page/public -type f ! -name schema.d.ts 2>/dev/null) \
	$(addprefix api/page/,index.html package.json package-lock.json vite.config.ts build)

$(PAGE): $(PAGE_SOURCES) | $(BIN)/python
	@api/page/build $(abspath $(BIN))/python build $(PAGE_BUILD)

install: PAGE_BUILD := --if-possible
install: $(INSTALLED) $(PAGE) ## Virtual environment with the locked dependencies and the voxdex command; the page

page: $(PAGE) ## The page that `voxdex serve` shows at /: built by Node.js, which comes along where there is none

dev: $(VENV)/.dev.stamp ## The same with the tools for tests, linting and types

demo: $(INSTALLED) ## The main job on real speech: ingest, enroll, identify, verify
	@$(BIN)/voxdex demo

up: ## The service in containers: build, migrate, first key, start (docs/operations.md); needs Docker and .env
	@test -f .env || { echo "there is no .env: cp .env.example .env, and fill it in"; exit 1; }
	$(COMPOSE) build
	$(COMPOSE) run --rm api key create --scope admin --name first --if-none
	$(COMPOSE) up --detach
	$(COMPOSE) ps

up-local: $(VENV)/.dev.stamp ## The whole service on this machine: PostgreSQL, Redis, API, two workers, beat; Ctrl-C ends it
	@$(BIN)/voxdex up-local

test: $(VENV)/.dev.stamp ## All tests, on the real weights and real speech where they can be fetched
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

$(VENV)/.browser.stamp: requirements/browser.lock tests/page/install | $(VENV)/.dev.stamp
	@tests/page/install $(VENV) requirements/browser.lock
	@touch $@

test-page: $(VENV)/.browser.stamp $(PAGE) ## The page driven in a browser, on real speech; brings the browser where it may
	VOXDEX_TEST_PAGE=1 $(BIN)/python -m pytest tests/page

lint: $(VENV)/.dev.stamp ## Style, import directions, locks in step
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/python requirements/check_locks.py
	@api/page/build $(abspath $(BIN))/python check --if-possible

format: $(VENV)/.dev.stamp ## Rewrite the sources in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/.dev.stamp ## mypy, strict
	$(BIN)/mypy

bench: $(INSTALLED) ## Encoder and ingest speed on this machine, beside its own matrix rate
	@$(BIN)/voxdex bench

docs: $(VENV)/.dev.stamp ## The documentation as a site in docs/build; a broken link fails
	$(BIN)/zensical build --strict --clean --config-file docs/zensical.toml

docs-reference: $(INSTALLED) ## Rewrite the generated pages of docs/ from the commands, the settings and the API
	$(BIN)/python docs/make_cli_reference.py
	$(BIN)/python docs/make_settings_reference.py
	$(BIN)/python docs/make_api_routes.py

lock: $(VENV)/.dev.stamp ## Resolve the newest allowed versions into requirements/*.lock (hashes, no URLs)
	$(BIN)/python requirements/lock.py

clean: ## Remove the virtual environment and caches of this folder
	rm -rf $(VENV) docs/build docs/.cache $(addprefix api/page/,dist node_modules .node *.log openapi.json) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info api/client/src/*.egg-info
