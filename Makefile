# Targets with a ## comment are shown by help.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
FUZZTIME ?= 10s
BENCHTIME ?= 1s
SOAK ?= 10m

GOLANGCI_LINT := go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The version comes from the linker and not from -buildvcs, so that the same
# source gives the same bytes in a clone, an archive and another user's tree.
.PHONY: build
build: ## Build bin/pgvalet, static and reproducible
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-X main.version=$(VERSION)" -o bin/pgvalet ./cmd/pgvalet

.PHONY: demo
demo: build ## Show pgvalet at work on this machine; KEEP=1 leaves it running
	@go build -o bin/pgvalet-demo ./cmd/pgvalet-demo
	@KEEP="$(KEEP)" bin/pgvalet-demo -pgvalet bin/pgvalet

# -count=1: the cache of go test does not see PostgreSQL come and go.
.PHONY: test
test: ## Vet, then run every test
	go vet ./...
	go test -count=1 ./...
	@if go test -count=1 -v -run '^TestPostgres' ./backend/backendtest | grep '^--- SKIP' >/dev/null; then \
		printf '\nNot everything was tested: there is no PostgreSQL server here, and tests that need one were skipped.\n'; \
		printf 'Install one (Debian: apt install postgresql; macOS: brew install postgresql) and run make test again.\n'; \
	fi

.PHONY: race
race: ## Run every test under the race detector (needs a C compiler)
	CGO_ENABLED=1 go test -count=1 -race ./...

.PHONY: soak
soak: ## Rotate credentials, and hang AWS, under load for SOAK (10m)
	PGVALET_SOAK=$(SOAK) go test -count=1 -v -timeout 2h -run '^(TestCredentialRotation|TestAWSHangs)$$' ./cmd/pgvalet

.PHONY: lint
lint: ## Run the linters of .golangci.yml; the first run builds them, for some minutes
	$(GOLANGCI_LINT) run

.PHONY: fmt
fmt: ## Format the code
	$(GOLANGCI_LINT) fmt

.PHONY: fuzz
fuzz: ## Fuzz each target for FUZZTIME (10s, or 1000x)
	@go test -list '^Fuzz' ./... \
	| awk '/^Fuzz/ { target[n++] = $$1 } /^ok/ { for (i = 0; i < n; i++) print $$2, target[i]; n = 0 }' \
	| while read -r package target; do \
		echo "$$package $$target"; \
		go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$package" </dev/null; \
	done

.PHONY: gobench
gobench: ## Run each Go benchmark for BENCHTIME (1s, or 1x)
	go test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) ./...

.PHONY: bench
bench: build ## Measure beside PgBouncer and PostgreSQL; BENCH='-help' lists the options
	@go build -o bin/pgvalet-bench ./bench
	@bin/pgvalet-bench $(BENCH)

.PHONY: bench-smoke
bench-smoke: ## Run every benchmark of bench for a moment, to see that it works
	@$(MAKE) --no-print-directory bench BENCH=-smoke

.PHONY: compat
compat: build ## Run PgBouncer's own tests from a checkout, SUITE=PATH; COMPAT='--help' lists options
	@.ci/compat "$(SUITE)" $(COMPAT)

.PHONY: clean
clean: ## Remove what was built
	rm -rf bin dist
