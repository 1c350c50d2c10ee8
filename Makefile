# Everything a change needs. `make test` installs what the tests talk to.
SHELL := /bin/bash
GO    ?= go

# Tests that need a Python client or another program that is not ours find the
# interpreter here; with ENTREPOT_TEST_TOOLS=all they fail instead of skipping
# when it is missing.
export ENTREPOT_TEST_PYTHON ?= $(CURDIR)/.cache/venv/bin/python
GOLANGCI := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

.PHONY: build demo test test-setup services compat vet lint bench compare compare-connectors idle chaos failover kill connectors sim fuzz fmt

build: ## one static binary: ./entrepot
	CGO_ENABLED=0 $(GO) build -trimpath -o entrepot .

demo: ## two sites on this machine; make demo INPUT=access.log
	$(GO) run . demo $(if $(INPUT),--input $(INPUT)) $(if $(EXIT),--exit)

test: test-setup vet ## all tests, real servers included
	ENTREPOT_TEST_TOOLS=all $(GO) test -timeout 30m -p $$(( $$(nproc) < 4 ? $$(nproc) : 4 )) ./...

test-setup: ## install what the tests talk to, if it is missing
	@deploy/test/setup.sh

services: ## PostgreSQL, RabbitMQ and ClickHouse on this machine, to try examples with; make services DO=stop ends them
	@deploy/services/services.sh $(or $(DO),start)

compat: test-setup ## suites of other people's clients in full; writes docs/compatibility.md; make compat SUITE=Kgo runs one
	ENTREPOT_TEST_TOOLS=all ENTREPOT_COMPAT=full $(GO) test -count=1 -v -timeout 120m $(if $(SUITE),-run $(SUITE)) ./hub/hubtest/compat

vet: ## formatting, go vet, go.mod as it should be
	@unformatted=$$(gofmt -l $$(find . -name '*.go' -not -path './.*')); \
	if [ -n "$$unformatted" ]; then echo "not formatted (run make fmt):" $$unformatted >&2; exit 1; fi
	$(GO) vet ./...
	$(GO) mod tidy -diff
	cd deploy/compat && $(GO) mod tidy -diff

lint: ## golangci-lint at its pinned version (the first run builds it); make lint FIX=1 corrects what it can
	$(GO) run $(GOLANGCI) run $(if $(FIX),--fix) ./...

bench: build ## the figures of docs/benchmarks.md, against a node of its own
	@deploy/test/bench.sh

compare: build ## the hub beside Apache Kafka, same client, alternating runs: the table of docs/benchmarks.md (ROUNDS=2, ONLY=regexp, DRY=1 prints it; NODES=3 three nodes of each)
	@deploy/compare/setup.sh
	@python3 -B deploy/compare/compare.py --nodes $(or $(NODES),1) --rounds $(or $(ROUNDS),2) --only '$(ONLY)' $(if $(DRY),--dry)

compare-connectors: build test-setup ## the hub's connectors beside Kafka Connect's, same rows, same PostgreSQL: the table of docs/benchmarks.md (ROUNDS=1, ONLY=regexp, HUB=1 without Connect, DRY=1 prints it)
	@deploy/compare/plugins.sh
	@$(ENTREPOT_TEST_PYTHON) -B deploy/compare/connectors.py --rounds $(or $(ROUNDS),1) --only '$(ONLY)' $(if $(HUB),--hub) $(if $(DRY),--dry)

idle: build ## what 1,000 idle partitions cost in memory and processor time, about 12 minutes
	@deploy/test/idle.sh

chaos: test-setup ## three nodes under real clients, a fault every few seconds for MINUTES=10, and the checks of what the clients saw (docs/simulation.md); SEED=n draws the same faults, DIR=folder keeps report and history, and what the nodes have if something is wrong
	ENTREPOT_TEST_TOOLS=all ENTREPOT_CHAOS_TIME=$(or $(MINUTES),10)m ENTREPOT_CHAOS_SEED=$(SEED) ENTREPOT_CHAOS_DIR=$(abspath $(DIR)) $(GO) test -count=1 -v -timeout $$(($(or $(MINUTES),10) * 2 + 30))m -run 'Chaos$$' ./hub/hubtest/chaos

failover: test-setup ## how long a partition takes no writes when its leader is killed, when it is moved or stopped, and how long a wiped node needs (TRIES=50, MIB=10240)
	ENTREPOT_FAILOVERS=$(or $(TRIES),50) ENTREPOT_WIPED_MIB=$(or $(MIB),10240) $(GO) test -count=1 -v -timeout 90m -run 'Failover|PlannedMove|StoppedLeader|WipedUnderLoad' ./hub/hubtest/chaos

kill: test-setup ## the kill tests of nodes and sites in full: 20 kills each, 2 GiB of older data (KILLS, PRELOAD in MiB); make connectors has the others
	ENTREPOT_TEST_TOOLS=all ENTREPOT_KILLS=$(or $(KILLS),20) ENTREPOT_PRELOAD=$(or $(PRELOAD),2048) $(GO) test -count=1 -v -timeout 30m -run 'Killed(Node|SitesAgree)' ./hub/hubtest

connectors: test-setup ## the failure tests of the connectors in full: 50 kills in 1,000,000 rows (KILLS); make connectors ONLY=regexp runs some
	@ENTREPOT_KILLS=$(or $(KILLS),50) deploy/test/connectors.sh '$(ONLY)'

sim: ## the simulation of a site with SEEDS seeds (docs/simulation.md); FIRST=N begins with that one; LOG=1 runs that of the log's files instead
ifdef LOG
	ENTREPOT_SIM_SEEDS=$(or $(SEEDS),100000) $(GO) test -count=1 -v -timeout 120m -run Sim ./storage
else
	$(GO) test -count=1 -v -timeout 600m -run 'TestSimulateSite$$' ./hub/replica -sim.seed=$(or $(FIRST),1) -sim.seeds=$(or $(SEEDS),100000) -sim.shrink
endif

fuzz: ## every fuzz target for FUZZTIME each
	@for pkg in $$(grep -rl '^func Fuzz' --include='*_test.go' . | xargs -n1 dirname | sort -u); do \
	  for target in $$(grep -hoE '^func Fuzz[A-Za-z0-9_]+' $$pkg/*_test.go | cut -c6-); do \
	    echo "$$pkg $$target"; $(GO) test $$pkg -run '^$$' -fuzz "^$$target\$$" -fuzztime $(or $(FUZZTIME),10s) || exit 1; \
	  done; \
	done

fmt: ## rewrite files as gofmt wants them
	gofmt -w $$(find . -name '*.go' -not -path './.*')
