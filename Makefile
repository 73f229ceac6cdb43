# make demo, make test: nothing else is needed on a machine with Python 3.11 or newer. `make` alone lists all.

# The first Python that is new enough; another one with `make PYTHON=…`.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
# One more than there are cores: much of what is tested is that something waits.
JOBS ?= $(shell echo $$(( $$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2) + 1 )))
BIN := .venv/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
MADE_OF := pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.PHONY: help install demo test check bench mpy lock clean

help: ## Lists what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: .venv/.installed ## Makes .venv; the command is then .venv/bin/sluice

demo: .venv/.installed ## Delivers a file over MQTT on this machine, whole: FILE=… or one made on the spot
	@$(BIN)/sluice demo $(if $(FILE),"$(FILE)")

test: .venv/.installed-test ## Runs the tests: JOBS=… processes, ARGS=… for pytest
	@.ci/packages --optional
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -r fEs $(ARGS)

check: .venv/.installed-check ## Lints, formatting, types, and the device set compiled for MicroPython
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m tests.support.device_set

bench: .venv/.installed-test ## Runs the benchmarks and draws docs/benchmarks.svg: ARGS=… for them
	@$(BIN)/python -m benchmarks --plot docs/benchmarks.svg $(ARGS)

mpy: .venv/.installed-test ## Compiles the device library for MicroPython 1.25 into dist/mpy: URL=… where mip will find it
	@$(BIN)/python -m tests.support.device_set dist/mpy $(URL)

lock: ## Renews constraints.txt with the newest versions that pyproject.toml allows
	rm -rf .tools/lock
	$(PYTHON) -m venv .tools/lock
	.tools/lock/bin/python -m pip install '.[test,check]'
	{ grep '^#' constraints.txt; .tools/lock/bin/python -m pip freeze \
		--exclude sluice --exclude pip --exclude setuptools; } > .tools/constraints.txt
	mv .tools/constraints.txt constraints.txt
	rm -rf .tools/lock build

clean: ## Removes everything that make made, .venv too
	rm -rf .venv .tools build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.made:
	@test -n "$(PYTHON)" || { echo "Sluice needs Python 3.11 or newer, and none is on the PATH." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments \
	with pip. On Debian and Ubuntu: apt install python3-venv; then run make again." >&2; exit 1; }
	$(PYTHON) -m venv .venv
	@touch $@

.venv/.installed: .venv/.made $(MADE_OF)
	$(PIP_INSTALL) --editable .
	@touch $@

.venv/.installed-test: .venv/.made $(MADE_OF)
	$(PIP_INSTALL) --editable '.[test]'
	@touch $@ .venv/.installed

.venv/.installed-check: .venv/.made $(MADE_OF)
	$(PIP_INSTALL) --editable '.[test,check]'
	@touch $@ .venv/.installed .venv/.installed-test
