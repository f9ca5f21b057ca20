# Headrace: what a person does with the checkout. `make` alone lists the targets.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
UV := $(shell command -v uv 2>/dev/null || echo .tools/bin/uv)
RUN := .venv/bin

.PHONY: help install demo test unit lint format schemas bench clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.tools/bin/uv:
	$(PYTHON) -m venv .tools
	.tools/bin/pip install --quiet uv

.venv/.installed: pyproject.toml uv.lock engine/pyproject.toml publisher/pyproject.toml | $(filter .tools/%,$(UV))
	$(UV) sync --frozen
	@touch $@

install: .venv/.installed ## Install the locked workspace into .venv

demo: install ## See events start runs: embedded Kafka, two Metaflow flows (ONCE=1: end by itself)
	$(RUN)/headrace demo $(if $(ONCE),--once)

test: install test-tools ## Run every test, on a real Kafka and a real Kubernetes API server
ifdef PYTEST_ARGS
	$(RUN)/python -m pytest $(PYTEST_ARGS)
else
	@# Most tests wait more than they compute; so those that share no server run beside the others.
	@mkdir -p .pytest_cache; $(RUN)/python -m pytest -m apart >.pytest_cache/apart.log 2>&1 & apart=$$!; \
		$(RUN)/python -m pytest -m "not apart"; shared=$$?; \
		wait $$apart; ended=$$?; cat .pytest_cache/apart.log; exit $$((shared | ended))
endif

unit: install ## Run the tests that need no Kafka and no API server
	$(RUN)/python -m pytest tests/unit tests/contract $(PYTEST_ARGS)

.PHONY: test-tools
test-tools: install
	@# The API server is built before the tests: the first build takes minutes. Tests say themselves what they lack.
	@command -v kcat >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
		&& apt-get update -qq && apt-get install -qq -y kcat >/dev/null; } || echo "kcat is missing: one test will say so"
	@docker version >/dev/null 2>&1 || ! command -v go >/dev/null || $(RUN)/python -m tests.support.kube_binary

lint: install ## Check style, types and the direction of imports
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy engine publisher tests benchmarks
	$(RUN)/lint-imports

format: install ## Format the code
	$(RUN)/ruff check --fix .
	$(RUN)/ruff format .

schemas: install ## Generate schemas/ from the models
	$(RUN)/python -m headrace.operations.schemas schemas

bench: install test-tools ## Measure every row beside its baseline (ROWS="singles pairs": those; QUICK=1: small sizes)
	$(RUN)/python -m benchmarks $(ROWS) $(if $(QUICK),--quick) $(BENCH_ARGS)

clean: ## Remove what was installed and built here
	rm -rf .venv .tools .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
