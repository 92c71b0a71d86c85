# Everything runs in .venv, which `make setup` makes from the hashed lock. Python 3.11+, git and make
# are all that has to be there before.
SHELL := /bin/bash
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup-stamp
# Two workers: the suite also runs services and a PostgreSQL beside them. Files are taken in their
# order, in which the short ones of tests/unit come last, so that both end together.
WORKERS ?= 2

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

.PHONY: setup
setup: $(STAMP) ## make .venv from the lock; nothing when it is up to date

.PHONY: venv
venv:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
	  || { echo "$(PYTHON) is not Python 3.11 to 3.13: run 'make setup PYTHON=python3.11'" >&2; exit 1; }
	@rm -rf $(VENV) && $(PYTHON) -m venv $(VENV) \
	  || { echo "$(PYTHON) -m venv failed: on Debian, 'apt-get install python3-venv'" >&2; exit 1; }

$(STAMP): requirements/dev.txt pyproject.toml hatch_build.py services/scoring/models/kernel.c
	@$(BIN)/python -c '' 2>/dev/null || $(MAKE) venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@$(BIN)/python -c 'import lightgbm' \
	  || { echo "LightGBM needs the OpenMP runtime: on Debian, 'apt-get install libgomp1'" >&2; exit 1; }
	@touch $@

.PHONY: demo
demo: setup ## three services, 300 simulated firms, the main job; STAY=1 leaves it running
	@$(BIN)/puhui demo $(if $(filter 1,$(STAY)),--stay)

# Else each worker, and each platform that a test starts, compiles every module for itself.
test test-heavy: export PYTHONDONTWRITEBYTECODE =

# What tests write is thrown away, yet a disk would be waited for at each commit: where memory has
# room for it, it goes there.
ROOM := df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 && $$4 > 3000000 { print "/dev/shm" }'

.PHONY: test
test: setup ## all tests, over real gRPC, SQLite and PostgreSQL
	@room=$$($(ROOM)); \
	if [ "$$room" ]; then \
	  TMPDIR=$$(mktemp -d $$room/puhui-test-XXXXXX) && export TMPDIR && chmod 755 "$$TMPDIR" \
	    && trap 'rm -rf "$$TMPDIR"' EXIT || exit 1; \
	fi; \
	$(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(TESTS)

.PHONY: test-heavy
test-heavy: setup ## the tests marked heavy, which `make test` leaves out
	@$(BIN)/pytest -m heavy $(TESTS) || [ $$? -eq 5 ]  # 5: there are none

# `make lint` is these, all of them even where one fails; each can run alone.
LINTS := lint-format lint-code lint-types lint-imports lint-proto lint-surface proto-check proto-breaking
.PHONY: lint $(LINTS)
lint: setup ## format, lint, types, import contracts, buf, freshness of generated code
	@$(MAKE) --keep-going $(LINTS)
lint-format: setup
	@$(BIN)/ruff format --check .
lint-code: setup
	@$(BIN)/ruff check .
lint-types: setup
	@$(BIN)/mypy
lint-imports: setup
	@$(BIN)/lint-imports --no-logo
lint-proto: setup
	@cd proto && ../$(BIN)/buf format --diff --exit-code --path puhui && ../$(BIN)/buf lint
# What is committed of messages, fields, units, measures and codes stays; what is new is added to it.
lint-surface: setup
	@$(BIN)/python proto/surface.py --check
proto-check: setup
	@$(BIN)/python proto/generate.py --check && $(BIN)/python proto/sync_client.py --check
# What is released is what must not break; before the first tag nothing is.
proto-breaking: setup
	@tag=$$(git describe --tags --abbrev=0 --match 'v*' 2>/dev/null) || exit 0; \
	  cd proto && ../$(BIN)/buf breaking --against "../.git#tag=$$tag,subdir=proto"

.PHONY: format
format: setup ## rewrite Python and .proto files in the project's format
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix . && cd proto && ../$(BIN)/buf format --write --path puhui

.PHONY: proto
proto: setup ## generate code beside the .proto files, and the client for programs without a loop
	@$(BIN)/python proto/generate.py && $(BIN)/python proto/sync_client.py

.PHONY: surface
surface: setup ## add new fields, measures and codes to what must never be dropped
	@$(BIN)/python proto/surface.py

.PHONY: openapi
openapi: setup ## write the gateway's OpenAPI document from the .proto files
	@$(BIN)/python -m services.gateway.openapi

.PHONY: docs
docs: setup ## write the pages and schemas that are made from the .proto files, the catalogue and the code
	@$(BIN)/python docs/errors.py && $(BIN)/python docs/catalogue.py && $(BIN)/python docs/findings.py && $(BIN)/python docs/tables.py && $(BIN)/python docs/schemas.py && $(BIN)/python docs/negative_cases.py

.PHONY: pictures
pictures: setup ## draw the pictures of the documents
	@$(BIN)/python docs/pictures/flow.py && $(BIN)/python docs/pictures/report.py

# In an environment of their own: they hold back packages that the services need newer.
MANIFESTS := $(VENV)/manifests
$(MANIFESTS)/.stamp: requirements/manifests.txt | $(STAMP)
	@$(BIN)/python -m venv $(MANIFESTS)
	$(MANIFESTS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r $<
	@touch $@

.PHONY: manifests
manifests: $(MANIFESTS)/.stamp ## render the Kubernetes overlays; check them and the Dockerfile
	@PATH="$(CURDIR)/$(MANIFESTS)/bin:$$PATH" k8s/check

AUDIT := $(VENV)/audit
$(AUDIT)/.stamp: requirements/audit.txt | $(STAMP)
	@$(BIN)/python -m venv $(AUDIT)
	$(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r $<
	@touch $@

.PHONY: audit
audit: $(AUDIT)/.stamp ## insecure code, known vulnerabilities of dependencies, bills of materials in build/sbom
	@$(AUDIT)/bin/python requirements/audit.py

# What build/wheels holds is all that the images install, so no build asks an index, which it may be
# unable to reach. Only Linux has the wheels that run in an image; elsewhere the build does ask.
# What Python of the images (Debian's 3.11.2) needs and that of this machine may not is fetched in any case.
OF_THE_IMAGE := s/ ; python_full_version < '3\.11\.3'[^\\]*/ /
LOCKS := $(foreach lock,build datashare scoring gateway,requirements/$(lock).txt)
build/wheels.stamp: $(LOCKS) | $(STAMP)
	@rm -rf build/wheels && mkdir -p build/wheels
	@for lock in $(LOCKS); do \
	  $(BIN)/python -m pip download --quiet --disable-pip-version-check --require-hashes --no-deps --python-version 3.11 \
	    --only-binary :all: --dest build/wheels -r <(sed -E "$(OF_THE_IMAGE)" $$lock) || exit 1; done
	@touch $@

VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
# Debian's client has BuildKit within; one that comes before it on PATH may lack it.
DOCKER ?= $(or $(wildcard /usr/bin/docker),docker)
.PHONY: images
images: $(if $(filter Linux,$(shell uname)),build/wheels.stamp) ## build an image per service with Docker
	@set -e; for service in datashare scoring gateway; do \
	  DOCKER_BUILDKIT=1 $(DOCKER) build --target $$service --tag puhui-$$service:$(VERSION) .; done

.PHONY: bench
bench: setup ## ONLY=name runs tests/bench/name.py, whose last line is JSON; without it, lists them
ifdef ONLY
	@$(BIN)/python -m tests.bench.$(ONLY)
else
	@for file in tests/bench/[a-z]*.py; do [ -e "$$file" ] && echo "make bench ONLY=$$(basename "$$file" .py)"; done; true
endif

.PHONY: bench-quality
bench-quality: setup ## how well the trainer does on public tables: docs/benchmarks.md (goes on where it was stopped)
	@$(BIN)/python -m tests.bench.quality

# One lock for development, one per image and one for what makes their wheel, all with the same versions,
# and one each for `make manifests` and `make audit`. No address, no host and no path may stand in them.
# --fork-strategy fewest: one version of a package for every Python.
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest \
  --generate-hashes --no-emit-index-url --no-emit-find-links --no-header
.PHONY: lock
lock: ## resolve pyproject.toml anew into requirements/*.txt (UPGRADE=1: newest versions)
	@$(LOCK) $(if $(filter 1,$(UPGRADE)),--upgrade) pyproject.toml --extra dev -o requirements/dev.txt
	@for extra in datashare scoring gateway; do \
	  $(LOCK) pyproject.toml --extra $$extra -c requirements/dev.txt -o requirements/$$extra.txt || exit 1; done
	@$(LOCK) --group build -c requirements/dev.txt -o requirements/build.txt
	@$(LOCK) $(if $(filter 1,$(UPGRADE)),--upgrade) --group manifests -o requirements/manifests.txt
	@$(LOCK) $(if $(filter 1,$(UPGRADE)),--upgrade) --group audit -o requirements/audit.txt
	@! grep -nE '://|--index|--find-links' requirements/*.txt

.PHONY: clean
clean: ## remove caches, builds and what local runs wrote; keeps .venv
	@rm -rf .puhui build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -path ./$(VENV) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
