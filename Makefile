# `make run` and `make test` need nothing but Python 3.11 and pip; the rest is what CI runs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run demo simulation docs grafana test lint types imports check bill pii bench accuracy clean
.DEFAULT_GOAL := help

help:
	@echo "make run     install into .venv and start the collector with the shipped config and the embedded store"
	@echo "make demo    the same with thirty days of a simulated company behind it, and its calls going on"
	@echo "make test    install into .venv and run the tests"
	@echo "make check   lint, types, import contracts, tests: what CI runs"
	@echo "make bill    what providers billed against what the ledger says, over the captures in tests/captures"
	@echo "make pii     what the detectors of personal data and secrets find and miss, over the corpus in tests/pii"
	@echo "make simulation  a month with sixty labelled incidents through the detectors: precision, recall, delay, false alarms"
	@echo "make docs    the pages that are made from the code"
	@echo "make grafana the dashboards in deploy/grafana, from spanledger/grafana"
	@echo "make bench   the benchmarks (see benchmarks/README.md)"
	@echo "make accuracy  bill accuracy beside Phoenix and MLflow, which it installs into a venv of their own (1.3 GB)"

$(BIN)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[embedded]'
	@touch $@

$(BIN)/.installed-dev: $(BIN)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[embedded,dev]'
	@touch $@

run: $(BIN)/.installed
	$(BIN)/spanledger run

demo: $(BIN)/.installed
	$(BIN)/spanledger demo --history 30d

# Compiled once, before two workers would each do it.
test: $(BIN)/.installed-dev
	$(BIN)/spanledger warmup
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(BIN)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(BIN)/.installed-dev
	$(BIN)/mypy

imports: $(BIN)/.installed-dev
	$(BIN)/lint-imports

docs: $(BIN)/.installed-dev
	$(BIN)/python docs/generate.py
	$(BIN)/python -m exporters.clickhouse.document

grafana: $(BIN)/.installed-dev
	$(BIN)/python -m spanledger.grafana

check: lint types imports test

bill: $(BIN)/.installed-dev
	$(BIN)/python -m tests.bill

pii: $(BIN)/.installed-dev
	$(BIN)/python -m tests.pii

simulation: $(BIN)/.installed-dev
	$(BIN)/python -m tests.simulation

bench: $(BIN)/.installed-dev
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[bench]'
	$(BIN)/python -m benchmarks

accuracy: $(BIN)/.installed-dev
	$(BIN)/python -m benchmarks.accuracy --install

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis dist
