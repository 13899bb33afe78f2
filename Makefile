# CBMDHI. `make demo` does everything; `make` alone lists what else there is.
# Needs Python 3.11+, Go 1.26+, a C compiler and make. No Docker, no root.

# The one that the script finds, unless one is named: make PYTHON=…
PYTHON ?= $(shell sh tools/build/python.sh)
BUILD = command -v $(PYTHON) >/dev/null || { echo "Python 3.11 or newer is needed, and no $(PYTHON) is on PATH." \
	"Install one, or name it: make PYTHON=/path/to/python3.12 build"; exit 1; }; $(PYTHON) tools/build/run.py
BIN = .venv/bin
NETWORK_GONE = echo "Nothing was ever built or started here."

.DEFAULT_GOAL := help
.PHONY: help build demo up down clean status doctor test test-build engines excerpts shown mutants attacks failover lint format proto vectors lock bench bench-soak \
	bench-replicas bench-growth paper docs observe observe-docs drills k8s-test k8s-run k8s-generate \
	dist install-test release-check

help: ## this list
	@echo "CBMDHI: make TARGET"
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  \1	\2/p' $(MAKEFILE_LIST) | expand -t 18

build: ## environment, generated code, pinned tools, chaincode (5 to 10 minutes the first time)
	@$(BUILD) build

demo: build ## build, start the laptop network and run the patient's story on it
	@$(BIN)/cbmdhi up
	@$(BIN)/cbmdhi demo

up: build ## start the laptop network, or mend a half-dead one
	@$(BIN)/cbmdhi up

down: ## stop the laptop network; its state stays
	@if [ -x $(BIN)/cbmdhi ]; then $(BIN)/cbmdhi down; else $(NETWORK_GONE); fi

clean: ## stop the laptop network and forget its state (builds stay)
	@if [ -x $(BIN)/cbmdhi ]; then $(BIN)/cbmdhi clean; else $(NETWORK_GONE); fi

status: ## every program, channel, projection and service at a glance
	@if [ -x $(BIN)/cbmdhi ]; then $(BIN)/cbmdhi status; else $(NETWORK_GONE); fi

doctor: ## what is wrong and how to mend it
	@if [ -x $(BIN)/cbmdhi ]; then $(BIN)/cbmdhi doctor; else $(BUILD) check; fi

excerpts: build ## write into the pages what they show of examples/engines
	@$(BIN)/python -m tools.docs.excerpts

engines: ## as build, and the engines of examples/engines in Go, Java, JavaScript and Python
	@$(BUILD) engines

test: test-build ## lint, unit, contract and end-to-end tests
	@$(BIN)/python -m tools.build.checks test

attacks: build ## tests/attacks in their long versions (10 minutes); ONLY=overload OPTIONS=--figures=FOLDER
	@$(BIN)/python -m pytest -q tests/attacks --long $(foreach word,$(ONLY),-k $(word)) $(OPTIONS)

failover: build ## kill each member and program of a network of three in turn: how long until it goes on; ONLY=peer chooses
	@$(BIN)/python -m pytest -q tests/failover --every $(foreach word,$(ONLY),-k $(word)) $(OPTIONS)

shown: build ## run the tests that docs/security.md names: BY="attacks/test_overload.py group_test.go"
	@$(BIN)/python -m tools.build.shown $(BY)

mutants: build ## break the rules of chaincode and Python in turn: tests have to notice; OPTIONS="--in=python --only=TEXT"
	@$(BIN)/python -m tools.build.mutants $(OPTIONS)

lint: build ## ruff, basedpyright, go vet, buf
	@$(BIN)/python -m tools.build.checks lint

format: build ## rewrite Python and Go as the linters want them
	@$(BIN)/ruff check --fix --quiet . && $(BIN)/ruff format --quiet . && gofmt -w chaincode examples/engines/go

bench: build ## measure the headline table and write it into the README; ROW=reads OPTIONS=--quick
	@$(BIN)/python -m bench $(foreach row,$(ROW),--row $(row)) $(OPTIONS)

bench-soak: build ## ten minutes at the bar's rate: does memory grow?
	@$(BIN)/python -m bench.soak $(OPTIONS)

bench-replicas: build ## records a second with 1, 2 and 4 gateways, a storage to each
	@$(BIN)/python -m bench.replicas $(OPTIONS)

bench-growth: build ## to 1,000,000 records: cost, disk and start-up time on the way; resumable
	@$(BIN)/python -m bench.growth $(OPTIONS)

paper: build ## the paper's two figures: throughput and response time against concurrent users
	@$(BIN)/python -m bench.paper $(OPTIONS)

docs: build ## these documents as a site in .tools/site/html; a dead link fails; OPTIONS=--serve shows it
	@$(BIN)/python -m tools.docs $(OPTIONS)

test-build: ## as build, and what the tests use besides: Prometheus, collector, S3 gateway, the engines (a JDK and Maven)
	@$(BUILD) tests

observe: build ## real Prometheus over the laptop network: every panel and alert, with pictures; OPTIONS=--stay
	@$(BIN)/python -m bench.observe $(OPTIONS)

drills: build ## break a network of its own as each runbook says, and mend it; ONLY=NatsDown OPTIONS=--list
	@$(BIN)/python -m tests.drills $(foreach alert,$(ONLY),--only $(alert)) $(OPTIONS)

observe-docs: build ## write docs/metrics.md and docs/alerts.md, the objectives' rules and the dashboards from the code
	@$(BIN)/python -m ops.observe.docs

k8s-test: build ## every overlay of deploy/k8s on a real Kubernetes API server (builds one first: 10 minutes)
	@$(BUILD) kubernetes
	@$(BIN)/python -m tests.cluster.overlays $(OPTIONS)

k8s-run: build ## a real Kubernetes node here, the mesh as its pods, the story and an operator's day on it; needs root
	@$(BIN)/python -m tests.cluster.machine
	@$(BUILD) kubernetes-node
	@$(BIN)/python -m tests.cluster $(OPTIONS)

k8s-generate: build ## write what deploy/k8s shares with the laptop network and the architecture
	@$(BIN)/python -m ops.manifests.generate

proto: ## generate Python and Go from protos/
	@$(BUILD) proto

vectors: build ## write tests/vectors, by which a client in another language checks itself
	@$(BIN)/python -m tests.vectors.generate

lock: build ## resolve requirements.in into requirements.lock, with hashes
	@$(BIN)/python -m tools.build.lock

dist: build ## wheels and source distributions of the SDK and of the Fabric client, into dist/
	@$(BIN)/python -m tools.build.dist

install-test: build ## install them in clean environments, of the oldest and the newest Python that is here; the README there
	@$(BIN)/python -m pytest -q tests/install $(OPTIONS)

release-check: build ## what the release at the top of CHANGELOG.md still lacks
	@$(BIN)/python -m tools.build.release
