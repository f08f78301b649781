# Watershed's commands. `make demo` shows it, `make test` proves it; both install what is missing after saying so.
# Build products and test tools live outside the clone, in $(WATERSHED_CACHE); CARGO_TARGET_DIR may point elsewhere.

SHELL := /bin/sh
CACHE_HOME := $(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)
export WATERSHED_CACHE ?= $(CACHE_HOME)/watershed
export CARGO_TARGET_DIR ?= $(WATERSHED_CACHE)/target
export PATH := $(if $(CARGO_HOME),$(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)

PREFIX ?= $(HOME)/.local

.DEFAULT_GOAL := help
.PHONY: help demo build release install dist bench bench-stream bench-query bench-state soak test unit e2e compat fmt lint audit clean clean-tools

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Install what is missing, build, and watch rides and clicks stream into tables (ARGS="--seconds 60 --no-prompt")
	@scripts/setup.sh demo
	@scripts/build_demo.sh
	@"$(CARGO_TARGET_DIR)/debug/watershed" demo $(ARGS)

build: ## Build the binary as `make demo` does
	cargo build --locked --bin watershed

release: ## Build the optimised binary
	cargo build --locked --release --bin watershed

install: release ## Build the optimised binary and copy it to PREFIX/bin (PREFIX=~/.local)
	install -d "$(PREFIX)/bin"
	install -m 755 "$(CARGO_TARGET_DIR)/release/watershed" "$(PREFIX)/bin/watershed"

dist: ## Make the archive for others: binary, completions, manual pages, and its SHA-256
	@scripts/setup.sh demo
	@scripts/dist.sh

test: ## Install what tests need, then formatting, lints, all tests, the end-to-end ones included: what CI runs
	@scripts/setup.sh test
	@scripts/test.sh

unit: ## All tests but the end-to-end ones; needs nothing but Rust (T=name runs those whose name contains it)
	@# All integration tests but e2e, the only one whose name begins with e.
	cargo test --locked --workspace --lib --bins --test '[!e]*' --test equal --features failpoints -- $(T)

e2e: ## Only the end-to-end tests (T=name runs those whose name contains it)
	@scripts/setup.sh test
	cargo test --locked --workspace --test e2e --features failpoints -- $(T)

compat: build ## Random queries beside DuckDB and SQLite (QUERIES=20000 SEED=1)
	@scripts/setup.sh test
	tests/compat/compat.sh "$(CARGO_TARGET_DIR)/debug/watershed" "$(WATERSHED_CACHE)/tools/python/bin/python" $(QUERIES) $(SEED)

bench: release ## How fast one pipeline reads a full topic (EVENTS=3000000)
	bench/throughput.sh "$(CARGO_TARGET_DIR)/release/watershed" $(EVENTS)

bench-stream: release ## Streams from Apache Kafka beside a plain reader (EVENTS=5000000 RUNS=3 OTHER=binary)
	cargo build --locked --release --workspace --bin watershed --example bids
	@scripts/setup.sh test
	bench/stream.sh "$(CARGO_TARGET_DIR)/release/watershed" "$(CARGO_TARGET_DIR)/release/examples/bids" "$(EVENTS)" "$(RUNS)" "$(OTHER)"

bench-query: release ## Twenty queries over the demo's tables beside DuckDB on the same files (EVENTS=10000000 RUNS=5 OTHER=binary)
	@scripts/setup.sh test
	bench/query.sh "$(CARGO_TARGET_DIR)/release/watershed" "$(EVENTS)" "$(RUNS)" "$(OTHER)"

bench-state: ## Bytes of state an epoch writes, and the rate with and without a limit of memory (KEYS=50000000)
	cargo build --locked --release -p watershed -p watershed-stream --example state
	"$(CARGO_TARGET_DIR)/release/examples/state" bytes
	"$(CARGO_TARGET_DIR)/release/examples/state" rate $(or $(KEYS),50000000)
	"$(CARGO_TARGET_DIR)/release/examples/state" rate $(or $(KEYS),50000000) 1024

soak: release ## Run the demo for SECONDS (3600) and watch its memory
	bench/soak.sh "$(CARGO_TARGET_DIR)/release/watershed" $(SECONDS)

fmt: ## Format all Rust code
	cargo fmt --all

lint: ## Formatting and clippy, warnings refused
	@scripts/test.sh lint

audit: ## Licences, banned and unused dependencies
	@scripts/setup.sh test
	@scripts/test.sh audit

clean: ## Delete what cargo built
	cargo clean

clean-tools: ## Delete the test tools that `make test` installed (Kafka, Python packages, S3 server)
	rm -rf "$(WATERSHED_CACHE)/tools"
