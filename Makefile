# Everything a fresh Debian or Ubuntu needs is set up by the first target that wants it.
SHELL := /bin/bash
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo test coverage lint format bench bench-channels bench-drift bench-kills bench-switch requirements clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | while IFS=$$'\t' read -r name text; do printf '  make %-14s %s\n' "$$name" "$$text"; done

setup: ## Make .venv with everything pinned, and install the Debian packages that are missing
	@.ci/setup

demo: setup ## Run the whole job on real parts: fault, detection, alert, proven switch (FAULT=nan)
	@$(BIN)/watchdog demo --fault $(or $(FAULT),nan)

test: setup ## Run every test against real parts (ARGS="-k policy" for some)
	@$(BIN)/python -m pytest --durations=20 $(ARGS)

coverage: setup ## The same, and which lines it reached: slower
	@$(BIN)/python -m pytest --cov --cov-report=term:skip-covered $(ARGS)

lint: setup ## ruff, mypy --strict, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: setup ## Let ruff mend what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: setup ## Measure cycle, cost to other traffic, trace intake, switches, restarts and kills; writes bench/results/
	@$(BIN)/python -m bench.cycle
	@$(BIN)/python -m bench.interference
	@$(BIN)/python -m bench.spans
	@$(BIN)/python -m bench.switch
	@$(BIN)/python -m bench.restart
	@$(BIN)/python -m bench.kills

bench-switch: setup ## Measure only the way from a fault to the proven switch, beside Prometheus and Alertmanager
	@$(BIN)/python -m bench.switch

bench-kills: setup ## End the watchdog with kill -9 at every journal write and router call (QUICK=1: some)
	@$(BIN)/python -m bench.kills $(if $(QUICK),--quick)

bench-channels: setup ## Receivers that misbehave, and kill -9 in between: what is lost, what is sent again (QUICK=1: some)
	@$(BIN)/python -m bench.channels $(if $(QUICK),--quick)

bench-drift: setup ## Measure drift detectors beside others and the oracle, and write docs/drift-benchmark.md (QUICK=1: a smoke run)
	@$(BIN)/python -m bench.drift.run $(if $(QUICK),--quick,--report)

requirements: setup ## Pin all dependencies anew (needs uv)
	@UV_PYTHON_DOWNLOADS=never uv pip compile pyproject.toml $(foreach extra,bench demo dev replay,--extra $(extra)) --universal --generate-hashes --no-emit-index-url \
	  --no-emit-find-links --no-annotate --no-header --override requirements/overrides.in --upgrade -q -o requirements/dev.txt

clean: ## Remove what was made here
	@rm -rf .venv build dist bench/results .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
