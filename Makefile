# Everything a fresh Debian or Ubuntu needs is set up by the first target that wants it.
SHELL := /bin/bash
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format bench bench-drift requirements clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | while IFS=$$'\t' read -r name text; do printf '  make %-13s %s\n' "$$name" "$$text"; done

setup: ## Make .venv with everything pinned, and install the Debian packages that are missing
	@.ci/setup

demo: setup ## Run the whole job on real parts: fault, detection, alert, proven switch (FAULT=nan)
	@$(BIN)/watchdog demo --fault $(or $(FAULT),nan)

test: setup ## Run every test against real parts (ARGS="-k policy" for some)
	@$(BIN)/python -m pytest --cov --cov-report=term:skip-covered $(ARGS)

lint: setup ## ruff, mypy --strict, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: setup ## Let ruff mend what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: setup ## Measure the cycle, what probing costs other traffic, and the trace intake; writes bench/results/
	@$(BIN)/python -m bench.cycle
	@$(BIN)/python -m bench.interference
	@$(BIN)/python -m bench.spans

bench-drift: setup ## Measure drift detectors beside others and the oracle, and write docs/drift-benchmark.md (QUICK=1: a smoke run)
	@$(BIN)/python -m bench.drift.run $(if $(QUICK),--quick,--report)

requirements: setup ## Pin all dependencies anew (needs uv)
	@UV_PYTHON_DOWNLOADS=never uv pip compile pyproject.toml $(foreach extra,bench demo dev replay,--extra $(extra)) --universal --generate-hashes --no-emit-index-url \
	  --no-emit-find-links --no-annotate --no-header --override requirements/overrides.in --upgrade -q -o requirements/dev.txt

clean: ## Remove what was made here
	@rm -rf .venv build dist bench/results .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
