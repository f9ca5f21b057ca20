# Headrace: what a person does with the checkout. `make` alone lists the targets.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
UV := $(shell command -v uv 2>/dev/null || echo .tools/bin/uv)
RUN := .venv/bin

.PHONY: help install demo test unit lint format chaos chaos-ci soak schemas clean simulate simulate-night bench mutate

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

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
	@# Most tests wait more than they compute, so two at a time fit even two cores; their processes share the servers.
	$(RUN)/python -m pytest $(or $(PYTEST_ARGS),-n 2 --dist loadfile --no-loadscope-reorder)

unit: install ## Run the tests that need no Kafka and no API server
	$(RUN)/python -m pytest tests/unit tests/contract $(PYTEST_ARGS)

.PHONY: test-tools
test-tools: install
	@# The API server is built before the tests: the first build takes minutes. Tests say themselves what they lack.
	@command -v kcat >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
		&& apt-get update -qq && apt-get install -qq -y kcat >/dev/null; } || echo "kcat is missing: one test will say so"
	@docker version >/dev/null 2>&1 || ! command -v go >/dev/null || $(RUN)/python -m tests.support.kube_binary

# How many seeds, and from which on: make simulate SEEDS=50 FROM=7000
simulate: install ## Run 1,000 seeds of faults against the stages and roles (SEEDS=n FROM=n)
	$(RUN)/python -m tests.simulation --seeds $(or $(SEEDS),1000) --from $(or $(FROM),0)

simulate-night: install ## Run 50,000 seeds that nobody has run before, for nights
	$(RUN)/python -m tests.simulation --seeds $(or $(SEEDS),50000) --from $(or $(FROM),$$(date +%s))

mutate: install ## Put known faults back, one at a time, and see each caught (ALL=1: on real parts too; NAME=text)
	$(RUN)/python -m tests.mutations $(if $(ALL),--real-parts) $(if $(NAME),"$(NAME)")

lint: install ## Check style, types and the direction of imports
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy engine publisher tests benchmarks
	$(RUN)/lint-imports

format: install ## Format the code
	$(RUN)/ruff check --fix .
	$(RUN)/ruff format .

chaos: install test-tools ## Break the real parts under load and count the Workflows (SETS, FAULTS, SEEDS, SEED, RATE)
	$(RUN)/python -m tests.chaos --sets $(SETS) --faults $(FAULTS) --seeds $(SEEDS) --seed $(SEED) --rate $(RATE)
chaos: SETS ?= 10000
chaos: FAULTS ?= 20
chaos: SEEDS ?= 3
chaos: SEED ?= 1
chaos: RATE ?= 30

chaos-ci: install test-tools ## The same in small: one seed, every kind of fault once
	$(RUN)/python -m tests.chaos --sets 1500 --seeds 1 --rate 15

soak: install test-tools ## Load and faults for HOURS, after which nothing may have grown
	$(RUN)/python -m tests.chaos.soak --hours $(HOURS)
soak: HOURS ?= 1

schemas: install ## Generate schemas/ from the models
	$(RUN)/python -m headrace.operations.schemas schemas

bench: install test-tools ## Measure every row beside its baseline (ROWS="singles pairs": those; QUICK=1: small sizes)
	$(RUN)/python -m benchmarks $(ROWS) $(if $(QUICK),--quick) $(BENCH_ARGS)

clean: ## Remove what was installed and built here
	rm -rf .venv .tools .chaos .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
