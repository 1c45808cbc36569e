# Two commands matter: `make demo` and `make test`. Nothing but python3 (3.11 or 3.12), pip, make and git is needed.
PYTHON ?= $(shell for p in python3.12 python3.11 python3; do command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && { echo $$p; break; }; done)
BIN := .venv/bin
unexport PYTHONDONTWRITEBYTECODE # a test run starts hundreds of processes, and each would compile all of our modules again
PIP := $(BIN)/python -m pip --disable-pip-version-check -q

.PHONY: demo install test check docs lock kafka bench soak soak-delivery soak-lives clean python

demo: .venv/.installed
	@$(BIN)/derms demo $(ARGS)

install: .venv/.installed

test: .venv/.installed-dev check
	@command -v chromium >/dev/null 2>&1 || command -v google-chrome >/dev/null 2>&1 || echo "note: no Chromium here (apt-get install chromium): the browser tests will be skipped by name"
	@command -v mvn >/dev/null 2>&1 && command -v java >/dev/null 2>&1 || echo "note: no java and mvn here: the tests over Apache Kafka will be skipped by name"
	$(BIN)/pytest -n 3 --dist loadgroup --durations=40 --durations-min=3 $(ARGS)

check: .venv/.installed-dev
	$(BIN)/ruff format --check -q . && $(BIN)/ruff check -q .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

docs: .venv/.installed-dev # renews what is generated from the code
	$(BIN)/derms schemas render
	$(BIN)/python -m gateway.docs

lock: .venv/.installed-dev # renews both locks; neither names an index
	CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile -q --upgrade --generate-hashes --allow-unsafe --strip-extras --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --extra embedded -o requirements.lock pyproject.toml
	CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile -q --upgrade --generate-hashes --allow-unsafe --strip-extras --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --extra dev -c requirements.lock -o requirements-dev.lock pyproject.toml

kafka: .venv/.installed-dev # a real Apache Kafka broker on this machine, until Ctrl-C (java and mvn, no Docker)
	$(BIN)/python -m tests.kafka.broker --dir .cache/kafka-broker --port 9092

bench: .venv/.installed-dev # the metering engine beside others on a real Apache Kafka (java and mvn; half an hour; ARGS="--quick" 5 minutes)
	$(BIN)/python -m tests.benchmarks $(ARGS)

soak: .venv/.installed-dev # kills, broker failures and changes of processes under load: metering, then delivery; about sixteen minutes (java and mvn)
	$(BIN)/python -m tests.soak $(ARGS)
	$(BIN)/python -m tests.soak.delivery

soak-delivery: .venv/.installed-dev # dispatch, reporting and the broker killed thirty times while partners answer, for about six minutes (java and mvn)
	$(BIN)/python -m tests.soak.delivery $(ARGS)

soak-lives: .venv/.installed-dev # a kill at every point of registration, handshake and heartbeat, for at most twenty minutes (java and mvn)
	$(BIN)/python -m tests.soak.lives $(ARGS)

clean:
	rm -rf .venv .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis

python:
	@test -n "$(PYTHON)" || { echo "Vector DERMS needs Python 3.11 or 3.12 (Bytewax 0.21.1 has no wheel for another); found: $$(python3 --version 2>&1). Install one of them, or run make PYTHON=/path/to/python3.12."; exit 1; }

.venv/.installed: requirements.lock pyproject.toml | python
	@echo "installing into .venv (about two minutes the first time) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --no-deps -e .
	@$(BIN)/python -m pipelines.compiled # the loops over readings: else the first start does it
	@touch $@

.venv/.installed-dev: .venv/.installed requirements-dev.lock
	@echo "installing what the checks need ..."
	@$(PIP) install --require-hashes -r requirements-dev.lock
	@touch $@
