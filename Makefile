# weir: a layer-4 load balancer on AF_XDP. `make help` lists the commands.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

GO      ?= go
PREFIX  ?= /usr/local
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
FUZZTIME ?= 5m

# Packages whose state is shared between goroutines: these also run under the race detector.
RACE := ./conntrack ./sched ./dataplane ./control/... ./dataplane/host ./dataplane/memqueue

.PHONY: help build demo test test-web test-browser web check generate bench bench-vm plots bench-check fuzz install install-files deps fuzz-short clean

help: ## show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

build: ## build bin/weir, bin/weiradm and bin/weirlab
	@mkdir -p bin
	$(GO) build -trimpath -ldflags '-X main.version=$(VERSION)' -o bin/ ./cmd/...

demo: deps build ## real HTTP and UDP through AF_XDP in every mode, over IPv4 and IPv6, in network namespaces (root, under a minute)
	@bin/weirlab demo --family both

test: deps ## the whole test suite, namespaces and AF_XDP included (root)
	$(GO) vet ./...
	$(GO) test -timeout 20m ./...
	$(GO) test -race -timeout 20m $(RACE)
	@$(MAKE) --no-print-directory fuzz-short

check: deps ## formatting, vet, staticcheck, generated files
	@files=$$(git ls-files '*.go' | xargs gofmt -l); if [ -n "$$files" ]; then echo "gofmt would change:"; echo "$$files"; exit 1; fi
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	@scripts/check-generated.sh

generate: ## compile the BPF programs again (clang)
	@scripts/deps.sh clang llvm libbpf-dev
	$(GO) generate ./...

bench: deps build ## the benchmarks, half an hour (BENCH=--quick: a minute or two); what they print belongs into bench/RESULTS.md
	@bench/run.sh $(BENCH)

bench-vm: deps ## weir beside real IPVS, with pktgen, in a QEMU guest with Debian's kernel (BENCH=--help: its flags)
	@bench/vm/run.sh $(BENCH)

plots: ## draw bench/results/*.json (weirlab bench --json) into bench/plots
	$(GO) run ./bench/plot --output bench/plots bench/results/*.json

bench-check: deps ## compare the in-memory benchmarks with bench/baseline.txt (bench/check.sh --update makes it)
	@bench/check.sh

fuzz: ## every fuzz target for FUZZTIME (default 5m)
	@scripts/fuzz.sh $(FUZZTIME)

install: build install-files ## install commands, manual pages, completion below PREFIX (default /usr/local), and a systemd unit
	install -d $(DESTDIR)$(PREFIX)/sbin
	install -m 0755 bin/weir bin/weiradm bin/weirlab $(DESTDIR)$(PREFIX)/sbin/

web: ## build the web page again (npm)
	@command -v npm >/dev/null || scripts/deps.sh nodejs npm
	cd web && npm ci --no-audit --no-fund && npm run check && npm run build

test-web: deps ## the web page: as its sources say, and in a headless Chromium (npm, root)
	@command -v npm >/dev/null || scripts/deps.sh nodejs npm
	cd web && npm ci --no-audit --no-fund && npm run check && node build.mjs ../bin/web
	diff -r bin/web control/web/dist
	@$(MAKE) --no-print-directory test-browser

# Not listed by help: pieces of the above.
install-files:
	install -d $(addprefix $(DESTDIR)$(PREFIX)/,share/man/man8 share/bash-completion/completions share/fish/vendor_completions.d lib/systemd/system)
	install -m 0644 docs/man/*.8 $(DESTDIR)$(PREFIX)/share/man/man8/
	install -m 0644 contrib/completion/bash/* $(DESTDIR)$(PREFIX)/share/bash-completion/completions/
	install -m 0644 contrib/completion/fish/* $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/
	sed 's|/usr/local/sbin|$(PREFIX)/sbin|' contrib/systemd/weir.service > $(DESTDIR)$(PREFIX)/lib/systemd/system/weir.service
	chmod 0644 $(DESTDIR)$(PREFIX)/lib/systemd/system/weir.service

test-browser: deps
	@scripts/deps.sh chromium
	$(GO) vet -tags browser ./internal/e2e
	$(GO) test -tags browser -timeout 10m -count 1 ./internal/e2e -run WebPage

fuzz-short:
	@scripts/fuzz.sh 3s

deps:
	@scripts/deps.sh gcc libc6-dev iproute2 git netbase ethtool nftables curl tshark mandoc iputils-ping iputils-tracepath traceroute fish zsh

clean:
	rm -rf bin
