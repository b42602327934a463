# One command each: make demo (the main job), make quick (the tests without Ray and browser), make test (all but the longest).
# They set themselves up; a second run installs nothing.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
export MLFLOW_DISABLE_TELEMETRY ?= true
export DO_NOT_TRACK ?= 1
export RAY_USAGE_STATS_ENABLED ?= 0

CSRC := $(wildcard ops/csrc/*.* ops/csrc/*/*.*)
SOURCES := $(CSRC) ops/build_extension.py pyproject.toml

.PHONY: setup demo quick test long lint bench sanitize soak processors schema clean

setup: $(VENV)/.installed

$(VENV)/.dependencies: requirements.lock requirements-tests.lock
	@$(PYTHON) -c 'import ensurepip' || { echo "error: $(PYTHON) with venv is needed: apt-get install python3.11-venv"; exit 1; }
	@$${CXX:-c++} --version > /dev/null || { echo "error: a C++ compiler is needed: apt-get install g++"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps -r requirements-tests.lock
	touch $@

$(VENV)/.installed: $(VENV)/.dependencies $(SOURCES)
	$(BIN)/python -m pip install --quiet --no-build-isolation --no-deps --editable .
	touch $@

demo: setup
	$(BIN)/maskray run jobs/demo.yaml --set name=demo-$$(date +%Y%m%d-%H%M%S)

# The longest files begin first, as tests/plugins/order.py has them.
PYTEST := $(BIN)/python -m pytest tests -n 2 --dist loadfile --no-loadscope-reorder

quick: setup
	$(PYTEST) -m "not ray and not browser and not slow"

test: setup
	$(PYTEST) -m "not long"

# Whole programs that are killed, stopped and gone on with for many minutes.
long: setup
	$(PYTEST) -m long

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run -Werror $(CSRC)
	$(BIN)/python tests/ops/tidy.py

bench: setup
	for program in benchmarks/*.py; do echo "== $$program"; $(BIN)/python $$program || exit 1; done

sanitize: setup
	$(BIN)/python tests/ops/sanitize.py
	$(BIN)/python tests/ops/cuda_on_cpu/sanitize.py

# What is too long for the tests: ten minutes of hostile annotation files.
soak: setup
	$(BIN)/python tests/platform/data/formats/fuzz_readers.py --seconds 600
	PYTHONPATH=tests/plugins $(BIN)/python tests/platform/serve/attack/soak.py --seconds 1800

processors: setup
	$(BIN)/python tests/processors.py

schema: setup
	$(BIN)/maskray schema --out jobs/schema.json
	$(BIN)/python docs/write_reference.py

clean:
	rm -rf $(VENV) build ops/*.so *.egg-info
