.DEFAULT_GOAL := help
SHELL := bash
PYTHON ?= python3
BIN := .venv/bin
UV := 0.13.8
READY := .venv/ready
CORES = $(shell nproc 2> /dev/null || getconf _NPROCESSORS_ONLN)
# Three for two cores: more than a third of the time, tests wait for programs and for time to pass.
WORKERS ?= $(shell expr \( $(CORES) \* 3 + 1 \) / 2)
# A file's tests run on one worker, one after another; each worker has peers of its own.
PARALLEL = -n $(WORKERS) --maxprocesses 8 --dist loadfile --no-loadscope-reorder
PROTOS = $(shell find proto -name '*.proto' | sort)

# One BLAS thread a process: parallelism comes from processes, and BLAS threads would fight over the cores.
export OPENBLAS_NUM_THREADS := 1

$(READY): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13) and \
	  f"error: Python 3.11 to 3.13 is needed, and $(PYTHON) is {sys.version.split()[0]}: make $(MAKECMDGOALS) PYTHON=<another>")'
	@echo "Installing what it needs into .venv, once; LightFM is compiled, so it takes a few minutes"
	@$(PYTHON) -m venv --clear .venv
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet uv==$(UV)
	@UV_DEFAULT_INDEX="$$($(BIN)/python -m pip config get global.index-url 2>/dev/null)" \
	  $(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements.lock
	@touch $@

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
# As it is written, also where it holds characters that make or the shell would take for more.
override DATA := $(value DATA)
run: export DATA := $(DATA)
run: $(READY) ## Serve recommendations on this machine (DATA=<folder> to train on your own exports)
	@$(BIN)/python -m deploy.local $(if $(DATA),--data "$$DATA")

.PHONY: test
test: $(READY) ## Run all tests, in parallel, against real peers (ARGS=<pytest options>, WORKERS=<number>)
	$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

.PHONY: test-fast
test-fast: $(READY) ## Run the unit tests: no socket, no process (ARGS=<pytest options>)
	$(BIN)/python -m pytest -m unit $(PARALLEL) $(ARGS)

.PHONY: retrain
retrain: $(READY) ## Train, evaluate and publish a model (INTERACTIONS_URL, MODEL_STORE_URL, ARGS=<options>)
	$(BIN)/python -m retrain run $(ARGS)

.PHONY: bench
bench: $(READY) ## Measure what the README claims
	$(BIN)/python -m benchmarks $(ARGS)

.PHONY: chaos
chaos: $(READY) ## Break everything there is under load, and judge it (ARGS=<options>, --help says which)
	$(BIN)/python -m tests.chaos $(ARGS)

.PHONY: codegen
codegen: $(READY) ## Generate the gRPC stubs from proto/
	rm -rf videowindow
	PATH=$(BIN):$$PATH $(BIN)/python -m grpc_tools.protoc -Iproto --python_out=. --grpc_python_out=. --mypy_out=. --mypy_grpc_out=. $(PROTOS)
	find videowindow -type d -exec touch {}/__init__.py \;

.PHONY: docs
docs: $(READY) ## Write the reference pages from the programs
	$(BIN)/python -m docs.generate

.PHONY: lint
lint: $(READY) ## Check style, types and the API definition
	$(BIN)/ruff format --check . && $(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/buf lint && $(BIN)/buf format --diff --exit-code

.PHONY: imports
imports: $(READY) ## Check who imports whom, and that every package is declared
	$(BIN)/lint-imports
	$(BIN)/deptry bridge servicekit videowindow --non-dev-dependency-groups bridge
	$(BIN)/deptry recsvc modelstore servicekit videowindow --non-dev-dependency-groups recsvc
	$(BIN)/deptry retrain recsvc modelstore servicekit videowindow --non-dev-dependency-groups retrain,recsvc
	$(BIN)/deptry . --non-dev-dependency-groups bridge,recsvc,retrain,bench,dev --ignore DEP002

.PHONY: check
check: lint imports ## Everything that CI checks besides the tests
	$(BIN)/python -m docs.generate --check
	$(MAKE) codegen && git diff --exit-code -- videowindow && test -z "$$(git ls-files --others --exclude-standard -- videowindow)"
	$(BIN)/buf breaking --against '.git#branch=main'

.PHONY: format
format: $(READY) ## Format code and API definition
	$(BIN)/ruff check --fix . ; $(BIN)/ruff format . && $(BIN)/buf format --write

.PHONY: lock
lock: $(READY) ## Renew requirements.lock from pyproject.toml
	$(BIN)/uv pip compile pyproject.toml --group recsvc --group bridge --group retrain --group bench --group dev --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-annotate --custom-compile-command 'make lock' --quiet --output-file requirements.lock

.PHONY: clean
clean: ## Remove everything that was made here: environment, caches, local data
	rm -rf .venv .run .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
