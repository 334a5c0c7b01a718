# The two commands are `make demo` and `make test`; everything else is for those who change the code.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The tools are pinned here and installed through the Go module proxy into bin/tools: never in go.mod, never @latest.
GOLANGCI_LINT_VERSION := v2.15.0

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
BINARY   := $(CURDIR)/bin/cdc-sidecar
RACE     := $(CURDIR)/bin/cdc-sidecar-race
LINT     := $(CURDIR)/bin/tools/golangci-lint-$(GOLANGCI_LINT_VERSION)
# The version comes from the linker, so that a checkout owned by somebody else (CI, containers) builds too.
BUILD    := go build -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION)'

# Test binaries and `go run` are executed where they are built; /tmp may be mounted noexec.
export GOTMPDIR := $(CURDIR)/bin/tmp

# Where servers of other versions are unpacked, a folder each. It is looked into, too, for what tests can have.
export CDC_SERVERS ?= $(CURDIR)/bin/servers

# Never from Go's cache: it does not see the servers and the binaries that a test runs.
# The time-out is per package and only ends a hang: the whole short run is meant to take 10 minutes.
# The full sizes are run on a disk.
ifeq ($(FULL),1)
export CDC_FULL := 1
TEST_TIMEOUT := 120m
IN_MEMORY :=
else
TEST_TIMEOUT := 25m
IN_MEMORY := scripts/in-memory
endif

# Two rooms at a time, each with servers of its own: a room waits for its servers as long as it computes. Those that take
# long begin first, so that they do not end alone. e2e fills two cores by itself, and is not among them.
LONG_ROOMS  = ./apply ./capture ./broker ./servers ./cmd/... ./journal ./peer
OTHER_ROOMS = $(filter-out %/e2e,$(shell go list ./...))

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: $(GOTMPDIR) ## Build bin/cdc-sidecar: static, for this machine's platform
	@scripts/prerequisites go
	CGO_ENABLED=0 $(BUILD) -o $(BINARY) ./cmd/cdc-sidecar

.PHONY: build-race
build-race: $(GOTMPDIR)
	@scripts/prerequisites go cc
	CGO_ENABLED=1 go build -race -trimpath -buildvcs=false -o $(RACE) ./cmd/cdc-sidecar

.PHONY: demo
demo: ## One head and two branches converge before your eyes (HEADLESS=1 ends by itself)
	@scripts/prerequisites go postgres mariadb rabbitmq
	@$(MAKE) --no-print-directory build
	$(BINARY) demo

.PHONY: test
test: ## Every test, on real servers (FULL=1 for the large sizes)
	@scripts/prerequisites go cc postgres mariadb rabbitmq faketime
	@$(MAKE) --no-print-directory build build-race
	CGO_ENABLED=1 $(IN_MEMORY) go test -race -count 1 -p 2 -timeout $(TEST_TIMEOUT) $(LONG_ROOMS) $(OTHER_ROOMS)
	CGO_ENABLED=1 CDC_PLAIN_BINARY=$(BINARY) CDC_RACE_BINARY=$(RACE) \
		$(IN_MEMORY) go test -race -count 1 -timeout $(TEST_TIMEOUT) ./e2e
	$(IN_MEMORY) go test -count 1 -timeout $(TEST_TIMEOUT) ./sim

# Each version that is here at least once; what is not here is fetched first, where it can be. PAIRS='postgres-17+mysql-9' picks.
.PHONY: test-versions
test-versions: $(GOTMPDIR) ## The databases' rooms over every version of Postgres, MariaDB and MySQL that can be had
	@scripts/prerequisites go postgres mariadb
	@scripts/versions get
	@scripts/versions test $(PAIRS)

# The race detector makes a seed ten times as long: `make test` runs a hundred with it, and a thousand without.
.PHONY: sim
sim: $(GOTMPDIR) ## The simulation: SEEDS=n seeds, from FROM=k on
	@scripts/prerequisites go
	CDC_SIM_SEEDS=$(SEEDS) CDC_SIM_FROM=$(FROM) go test -count 1 -timeout 0 -run TestSeeds -v ./sim

# BENCH has further flags, such as BENCH='-pairs pg-pg -phases insert100'; bin/bench -help lists them.
.PHONY: bench
bench: $(GOTMPDIR) ## Side by side with the databases' own replication (QUICK=1: three minutes)
	@scripts/prerequisites go postgres mariadb rabbitmq
	@$(MAKE) --no-print-directory build
	@go build -trimpath -buildvcs=false -o $(CURDIR)/bin/bench ./bench
	@$(CURDIR)/bin/bench -binary $(BINARY) $(if $(filter 1,$(QUICK)),-quick) $(BENCH)

.PHONY: microbench
microbench: $(GOTMPDIR) ## Go benchmarks of all rooms
	@scripts/prerequisites go postgres mariadb rabbitmq
	@$(MAKE) --no-print-directory build
	CDC_PLAIN_BINARY=$(BINARY) go test -p 1 -run '^$$' -bench . -benchmem -timeout $(TEST_TIMEOUT) ./...

# The linter's formatters contain gofmt's rules and its govet most of go vet's; vet itself adds the rest.
.PHONY: lint
lint: $(LINT) ## Linter, import walls, formatting, Kubernetes manifests
	$(LINT) run
	go vet ./...
	scripts/kustomize build deploy/kubernetes/head-office >/dev/null
	scripts/kustomize build deploy/kubernetes/branch-office >/dev/null

.PHONY: format
format: $(LINT) ## Rewrite the sources as the linter wants them
	$(LINT) fmt

.PHONY: clean
clean: ## Remove bin/
	rm -rf bin

$(GOTMPDIR):
	@mkdir -p $@

$(LINT): | $(GOTMPDIR)
	@scripts/prerequisites go
	GOBIN=$(@D) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)
	mv $(@D)/golangci-lint $@
