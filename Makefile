# Two commands do all the set-up: `make demo` and `make test`. Nothing is installed outside of .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
DATA ?=

.PHONY: demo test test-faults test-server fault-table check bench clean

demo: $(INSTALLED)
	@$(BIN)/visual-memory demo $(if $(DATA),"$(DATA)")

# All at once, because much of it waits: the checks, and the tests in four processes.
test: $(INSTALLED)
	@$(MAKE) --no-print-directory check > $(VENV)/check.log 2>&1 & check=$$!; \
	$(BIN)/python -m pytest tests/contract > $(VENV)/contract.log 2>&1 & contract=$$!; \
	$(BIN)/python -m pytest tests/integration > $(VENV)/integration.log 2>&1 & integration=$$!; \
	$(BIN)/python -m pytest tests/unit tests/end_to_end -m "not faults and not shared_service" > $(VENV)/unit.log 2>&1 & \
	unit=$$!; \
	$(BIN)/python -m pytest tests/end_to_end -m "not faults and shared_service"; whole=$$?; \
	wait $$check; check=$$?; wait $$contract; contract=$$?; wait $$integration; integration=$$?; wait $$unit; unit=$$?; \
	cat $(VENV)/unit.log $(VENV)/contract.log $(VENV)/integration.log $(VENV)/check.log; \
	exit $$((whole | contract | integration | unit | check))

# Real kills, full disks and cut connections, with the full number of trials; takes long.
test-faults: $(INSTALLED)
	$(BIN)/python -m pytest -m faults tests

# The same, and the table goes into docs/promises.md.
fault-table: $(INSTALLED)
	VISUAL_MEMORY_FAULT_TABLE=tests/faults/results.jsonl $(BIN)/python -m pytest -m faults tests/faults
	$(BIN)/python -m tests.faults.fault_table

# The contract and the end-to-end tests over the Qdrant server of QDRANT_URL, by HTTP and by gRPC.
test-server: $(INSTALLED)
	@if [ -z "$$QDRANT_URL" ]; then \
		echo "Nothing was tested: QDRANT_URL names no Qdrant server, as in QDRANT_URL=http://127.0.0.1:6333 make test-server"; \
		exit 0; \
	fi; \
	$(BIN)/python -m pytest tests/contract tests/integration -k "qdrant-http or qdrant-grpc"; engines=$$?; \
	$(BIN)/python -m pytest tests/end_to_end --engine qdrant-http; http=$$?; \
	$(BIN)/python -m pytest tests/end_to_end --engine qdrant-grpc; grpc=$$?; \
	exit $$((engines | http | grpc))

# Format, lint, strict types and import layers.
check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/python -m benchmarks

# torch first and alone, so that a build that is at hand is used. Bytecode is compiled afterwards on all cores; some files
# that packages ship are not meant to compile.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --no-compile --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --no-compile --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
	@touch $@

clean:
	rm -rf $(VENV)
