# Weir: `make` lists the targets.
SHELL := /bin/bash
export CARGO_TARGET_DIR ?= $(HOME)/.cache/weir/target
export CARGO_TERM_COLOR ?= auto
# The release of buf (a linter for .proto files) that npm installs for `make proto-lint`.
BUF_VERSION := 1.75.0
TOOLS := $(HOME)/.cache/weir/tools

.PHONY: help demo run build test crash-matrix soak storm sim mutants check fmt lint proto-lint deps bench bench-queries bench-paths gate fuzz clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: ## a sink, two agents, a SIGKILL, a SQL answer and the ledger; stops by itself
	@echo "building weir-agent and weir-sink (the first build takes some minutes)"
	@cargo build --workspace --bins
	@$(CARGO_TARGET_DIR)/debug/weir-demo

run: ## the same, and keeps running until Ctrl-C
	@echo "building weir-agent and weir-sink (the first build takes some minutes)"
	@cargo build --workspace --bins
	@$(CARGO_TARGET_DIR)/debug/weir-demo --keep

build: ## both programs, dev profile
	cargo build --workspace --bins

test: ## every test
	cargo build --workspace --bins
	cargo test --workspace

crash-matrix: ## SIGKILL at every point, at ROUNDS times as many passings as `make test` tries
	cargo build --workspace --bins
	WEIR_TESTS_CRASH_ROUNDS=$(or $(ROUNDS),3) cargo test -p weir-tests --test crash_matrix

soak: ## three agents and a sink under random kills for MINUTES (30), from SEED (1); PROGRAMS= takes built ones
ifeq ($(PROGRAMS),)
	cargo build --workspace --bins
endif
	$(or $(PROGRAMS),$(CARGO_TARGET_DIR)/debug)/weir-soak --minutes $(or $(MINUTES),30) --seed $(or $(SEED),1)

storm: ## a thousand agents come back at once after the sink's restart
	cargo build --workspace --bins
	cargo test -p weir-tests --test storm -- --ignored --nocapture

mutants: ## breaks the code on purpose, one way at a time: which test sees it; ONLY=no_sync for one
	cargo run -q -p weir-tests --bin weir-mutants -- $(if $(ONLY),--only $(ONLY)) --seeds $(or $(SEEDS),128)

sim: ## simulated worlds in which everything fails: SEED=7 for one with its trace, SEEDS=10000 FROM=1 for many
ifneq ($(SEED),)
	WEIR_SIM_SEED=$(SEED) cargo test -p weir-tests --test simulation -- --nocapture every_
else
	WEIR_SIM_SEEDS=$(or $(SEEDS),1000) WEIR_SIM_FROM=$(or $(FROM),1) cargo test -p weir-tests --test simulation -- --nocapture every_
endif

check: fmt lint proto-lint test gate ## what CI runs: formatting, lints, every test (licences and structure among them), ratios

fmt: ## formatting is as rustfmt would have it
	cargo fmt --all -- --check

lint: ## clippy with warnings denied
	cargo clippy --workspace --all-targets -- -D warnings

proto-lint: ## the wire follows buf's STANDARD rules
	@command -v npm >/dev/null || (apt-get update -q && apt-get install -qy npm)
	@test -x $(TOOLS)/node_modules/.bin/buf || npm install --silent --no-fund --no-audit --prefix $(TOOLS) @bufbuild/buf@$(BUF_VERSION)
	cd proto && $(TOOLS)/node_modules/.bin/buf lint

deps: ## licences, sources and doubles of what we depend on, offline
	cargo test -p weir-tests --test dependencies

BENCH = $(CARGO_TARGET_DIR)/release
HOST = $(shell rustc -vV | sed -n 's/^host: //p')
bench: ## writes the tables of docs/performance.md and its chart; PART=0.1 for a tenth of the work
	cargo build --release -p weir-sink -p weir-bench --no-default-features
	RUSTFLAGS="-C target-feature=+crt-static" cargo build --profile dist-small --target $(HOST) -p weir-agent
	$(BENCH)/weir-bench report --agent $(CARGO_TARGET_DIR)/$(HOST)/dist-small/weir-agent --part $(or $(PART),1.0)

bench-queries: ## the same for questions: needs a release build of all of DataFusion, some twenty minutes
	cargo build --release -p weir-sink -p weir-bench
	$(BENCH)/weir-bench queries

bench-paths: ## the benches of every hot path by itself
	cargo bench -p weir-bench

gate: ## ratios of bytes and CPU within one run, that hold on any machine
	cargo build --workspace --bins
	$(CARGO_TARGET_DIR)/debug/weir-bench gate

FUZZ_FACTOR ?= 100
fuzz: ## hostile bytes for every parser, FUZZ_FACTOR (100) times as many as `make test` tries
	cargo build -p weir-agent -p weir-sink --bins
	WEIR_FUZZ_FACTOR=$(FUZZ_FACTOR) cargo test --workspace -- hostile allocation takes_no_more lived_with any_

clean: ## remove what was built
	cargo clean
