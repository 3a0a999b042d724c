# Every verb a person needs. `make` alone prints them.

SHELL := bash
.DEFAULT_GOAL := help
.PHONY: help run test test-rust test-e2e e2e-kubernetes lint deny simulate chaos fuzz bench docs dashboards image chart screenshots clean

# One target directory and development builds only: nothing is compiled twice.
CARGO ?= cargo
CARILLON := $(or $(CARGO_TARGET_DIR),target)/debug/carillon

# For `make run ARGS="--gateway.listen 127.0.0.1:3100"`.
ARGS ?=
# For `make image IMAGE=registry.example.com/carillon:1`.
IMAGE ?= localhost/carillon:dev
# For `make simulate MIX=all SEED=42` or `SEED=0..500 MUTATION=UnfencedTrim`; without SEED the whole suite runs.
MIX ?= all
SEED ?=
MUTATION ?=
# For `make chaos SCENARIO=sentinel SEED=7 LONG=1`; with PAGE=1 docs/guarantees.md shows the scorecard, with
# JOBS=3 three scenarios run at a time, with AGAIN=1 only what did not hold before on that day.
SCENARIO ?=
LONG ?=
PAGE ?=
AGAIN ?=
JOBS ?=
# For `make fuzz SECONDS=600 TARGETS="jwt policy"`; without TARGETS all are run.
SECONDS ?= 60
TARGETS ?=

help: ## print this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## build and start `carillon dev`: one process, no Redis, on 127.0.0.1
	@scripts/prerequisites build
	$(CARGO) build --locked -p carillon
	$(CARILLON) dev $(ARGS)

test: ## everything: format, lints, licences, Rust tests, end-to-end tests (installs what is missing when root on Debian)
	@scripts/test

test-rust: ## unit, conformance, simulator and house tests
	@scripts/prerequisites redis
	$(CARGO) test --workspace --locked

test-e2e: ## black-box suites: stock Socket.IO clients, real Chromium, real Redis
	@scripts/prerequisites e2e
	$(CARGO) build --locked -p carillon
	e2e/run

e2e-kubernetes: ## the suites on a real Kubernetes: that of KUBECONFIG, or one on this machine where its scripts are
	@scripts/prerequisites e2e
	$(CARGO) build --locked -p carillon
	CLIENTS=$(or $(CLIENTS),2000) e2e/kubernetes/run

lint: ## formatting and clippy, warnings are errors
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

deny: ## licences, duplicates and sources of every dependency
	@scripts/prerequisites deny
	@scripts/deny

simulate: ## the simulator suite, or one schedule with a trace: make simulate MIX=… SEED=…
	@scripts/simulate "$(MIX)" "$(SEED)" "$(MUTATION)"

chaos: ## real processes, real Redis in every shape, faults, an audit and a scorecard: make chaos SCENARIO=sentinel-kill SEED=7 LONG=1
	@scripts/prerequisites e2e
	$(CARGO) build --locked -p carillon
	e2e/chaos/run $(if $(SEED),--seed $(SEED)) $(if $(LONG),--long) $(if $(PAGE),--page) $(if $(AGAIN),--again) --jobs $(or $(JOBS),1) $(SCENARIO)

fuzz: ## look for inputs that break a parser's rules: make fuzz SECONDS=… TARGETS=…
	@scripts/prerequisites fuzz
	@scripts/fuzz $(SECONDS) $(TARGETS)

bench: ## load one `carillon dev` from this machine and print what was measured
	@scripts/bench $(ARGS)

docs: ## generate docs/settings.md and docs/cli.md from the code, the chart's reference, and the Rust documentation under target/doc
	@scripts/docs
	@scripts/chart-docs

image: ## build the release and pack the image, without an engine, as target/image/carillon.tar; fails above 40 MB
	@scripts/prerequisites image
	$(CARGO) build --locked --release -p carillon
	scripts/image --binary $(or $(CARGO_TARGET_DIR),target)/release/carillon --output target/image/carillon.tar \
	  --name $(IMAGE) --revision "$$(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)" --limit 40

chart: ## lint the chart, render every feature, and hold it against Kubernetes' types and its promises
	@scripts/prerequisites e2e
	@scripts/kubernetes-tools helm
	$(CARGO) build --locked -p carillon
	e2e/run 61-chart

dashboards: ## write helm/carillon/dashboards from scripts/dashboards
	node scripts/dashboards/build.mjs

screenshots: ## pictures of the page in a real Chromium, under e2e/.artifacts
	@scripts/prerequisites e2e
	$(CARGO) build --locked -p carillon
	e2e/run screenshots

clean: ## remove everything that was built
	$(CARGO) clean
	rm -rf e2e/.artifacts e2e/node_modules e2e/clients/java/target
