# The front door: each target says in one line what it is for, and the work is in scripts.

# Everything slow is kept here, so that a second clone is quick.
export CALLPLANE_CACHE ?= $(HOME)/.cache/callplane
# Everything that belongs to the running cluster is kept here.
export CALLPLANE_STATE ?= /var/lib/callplane-e2e
export CARGO_TARGET_DIR ?= $(CALLPLANE_CACHE)/target
export npm_config_cache ?= $(CALLPLANE_CACHE)/npm
export PATH := $(CALLPLANE_CACHE)/bin:$(PATH)
# make demo: local (a cluster of our own on this machine), kind, or current (the one KUBECONFIG names).
export CLUSTER ?= local
export REGISTRY

# Every debug build selects the same packages: cargo unites features over the selection, and another one
# would compile half of the dependencies again.
export WORKSPACE = --workspace --exclude callplane-fuzz --locked
PROGRAMS = $(CARGO_TARGET_DIR)/debug

BROWSER = e2e/browser/node_modules/.package-lock.json
CLIENT = clients/js/node_modules/.package-lock.json

.DEFAULT_GOAL := help
.PHONY: help preflight build programs demo demo-down test unit web interop client-browser soak fuzz charts-test e2e lint crds openapi manifests cluster-up cluster-down bench-placement bench-sfu bench-switch bench-gateway

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## Build the operator, the media node and the gateway for release
	cargo build --release --locked -p callplane-operator -p callplane-media-node -p callplane-gateway

programs:
	cargo build $(WORKSPACE) --bins --tests

demo: ## A call in browsers on a Kubernetes cluster on this machine (CLUSTER=kind|current: on another)
	@e2e/demo/demo.sh up

demo-down: ## Remove the demo, and the cluster that it started
	@e2e/demo/demo.sh down

test: preflight ## Every test: units, real programs, chart, and the scenarios on a real cluster
	@e2e/cluster/ahead.sh cluster $(MAKE) --no-print-directory unit interop client-browser charts-test e2e

preflight: ## Say what this machine lacks that cannot be installed here
	@e2e/cluster/preflight.sh

unit: $(BROWSER) $(CLIENT) programs ## Tests that need no cluster
	@e2e/cluster/tools.sh unit
	e2e/cluster/preflight.test.sh
	cargo test $(WORKSPACE) --exclude callplane-e2e
	media-node/fuzz/run.sh 5
	cd e2e/browser && npm test
	cd clients/js && npm test

web: $(CLIENT) ## Build the JavaScript client and the web app that the gateway serves
	cd clients/js && npm run --silent build
	node clients/web/build.mjs

client-browser: $(BROWSER) web programs ## Calls of the JavaScript client in real browsers, against the programs without a cluster
	@e2e/cluster/tools.sh
	cd clients/js && npm run --silent test:signalling
	cd clients/js && npm run --silent test:browser

fuzz: ## Feed the media node's parsers with arbitrary bytes (ARGS="seconds target...", default 600 each)
	media-node/fuzz/run.sh $(or $(ARGS),600)

interop: $(BROWSER) programs ## Real programs against a media node: is docs/interop.md what they show? (ARGS=--write: write it; ARGS="name": those tests)
	@e2e/cluster/tools.sh browser
	cd e2e/browser && CALLPLANE_MEDIA_NODE=$(PROGRAMS)/callplane-media-node npm run --silent interop -- $(ARGS)

soak: ## Ten minutes of calls with people coming and going: memory flat, nothing lost (ARGS="60": so many seconds)
	cargo build --release --locked -p callplane-media-node -p callplane-bench --bin callplane-media-node --bin soak
	$(CARGO_TARGET_DIR)/release/soak $(ARGS)

charts-test: ## Golden tests of the chart
	@e2e/cluster/tools.sh lint
	charts/test.sh

e2e: preflight $(BROWSER) programs ## The scenarios on a real cluster (ARGS="name" runs those whose name contains it)
	@e2e/cluster/with.sh e2e/run.sh $(ARGS)

lint: ## Formatting, lints, licences, shell scripts, chart; generated files are up to date
	@e2e/cluster/preflight.sh lint
	@$(MAKE) --no-print-directory $(BROWSER) $(CLIENT)
	@e2e/cluster/ahead.sh lint e2e/cluster/lint.sh

crds: programs ## Generate the CRDs from their Rust types
	$(PROGRAMS)/crdgen crds
	cp crds/*.yaml charts/callplane/crds/

openapi: programs ## Generate the description of the gateway's API from its types
	$(PROGRAMS)/callplane-gateway openapi > docs/openapi.json.new
	mv docs/openapi.json.new docs/openapi.json

manifests: crds ## Generate the plain-YAML install and the table of values from the chart
	@e2e/cluster/tools.sh lint
	manifests/generate.sh
	charts/readme.sh

cluster-up: ## Start the two-node Kubernetes cluster and give it the images
	@e2e/cluster/tools.sh
	@e2e/cluster/up.sh
	@e2e/cluster/images.sh

cluster-down: ## Stop the cluster and remove every trace of it
	@e2e/cluster/down.sh

bench-placement: ## Measure how fast rooms are placed (ARGS="--hold 100000": and how many can be held; ARGS=--help)
	@e2e/cluster/tools.sh
	cargo run --release --locked -p callplane-bench --bin bench-placement -- $(ARGS)

bench-sfu: ## Measure the media node beside other media servers (ARGS="--case camera --peer callplane" for some)
	@bench/peers/build.sh
	cargo build --release --locked -p callplane-media-node -p callplane-bench --bin callplane-media-node --bin bench-sfu
	$(CARGO_TARGET_DIR)/release/bench-sfu $(ARGS)

bench-switch: $(BROWSER) web ## Measure the gaps at route changes in real browsers (ARGS="--switches 30 --restarts 10 --growths 5 --joins 20": so many)
	@e2e/cluster/tools.sh
	cargo build --release --locked -p callplane-operator -p callplane-media-node -p callplane-gateway
	cd clients/js && CALLPLANE_BIN=$(CARGO_TARGET_DIR)/release npm run --silent bench:switch -- $(ARGS)

bench-gateway: $(CLIENT) ## Measure signalling beside a plain Socket.IO server (ARGS="5000 500 15 500": sockets, rooms, seconds, lines a second)
	@e2e/cluster/tools.sh
	cargo build --release --locked -p callplane-operator -p callplane-media-node -p callplane-gateway
	cd clients/js && CALLPLANE_BIN=$(CARGO_TARGET_DIR)/release npm run --silent bench:gateway -- $(ARGS)

$(CLIENT): clients/js/package-lock.json
	cd clients/js && npm ci --no-audit --no-fund --prefer-offline
	@touch $@

$(BROWSER): e2e/browser/package-lock.json
	cd e2e/browser && npm ci --no-audit --no-fund --prefer-offline
	@touch $@
