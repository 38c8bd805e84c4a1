# Needs Python 3.11 or newer with venv and pip, and nothing else. All that is written stays in this checkout, most of
# it in .venv. The file .venv/.NAME is the mark that a step is done; it is done again when what it came from changes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := pyproject.toml $(shell find gendercls export -type f ! -name '*.pyc')
ARGS =
LOWEST := $(VENV)/lowest
# Of what is built on those packages, and none that takes many seconds: the others would run our own code once more.
LOWEST_TESTS := -k 'not (measures or is_read_again)' $(patsubst %,tests/%.py, \
	$(addprefix test_,answers cli detectorfile faces images info_doctor modelfile shares spec stats words) \
	$(addprefix labels/test_,readers rules table) classify/test_session report/test_page report/test_report)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lowest lint bench clean wheel FORCE

export TMPDIR := $(CURDIR)/$(VENV)/tmp
export PIP_NO_CACHE_DIR := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Either would put other modules before the ones installed in .venv.
unexport PYTHONPATH PYTHONHOME

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "make demo PHOTOS=~/Pictures   takes your own folder"
	@echo "make test ARGS='-k labels'    passes options to pytest"
	@echo "make demo PYTHON=python3.12   makes .venv with that Python; make clean first to change it"

demo: $(VENV)/.core ## Classify demo photos with the shipped model and show what comes out
	@sh demo/run.sh

test: wheel ## Build the wheel, install it and test that, not the checkout
	@# A socket's path has room for 107 characters and Python adds 32 to TMPDIR, so a longer one cannot be used.
	@# PYTHONSAFEPATH keeps this folder out of the module search of what the tests start.
	@[ $${#TMPDIR} -le 75 ] || unset TMPDIR; PATH="$(CURDIR)/$(BIN):$$PATH" PYTHONSAFEPATH=1 \
		$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

lowest: wheel $(LOWEST)/.made ## Test the wheel with the lowest versions it may have (Python 3.11 or 3.12)
	@$(LOWEST)/bin/python -m pip install --quiet --no-deps --force-reinstall $(VENV)/wheel/*.whl
	PYTHONSAFEPATH=1 $(LOWEST)/bin/pytest $(LOWEST_TESTS) $(ARGS)

lint: $(VENV)/.dev ## Check style, types, what would be published, and known vulnerabilities
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@rm -rf $(VENV)/dist
	$(BIN)/pyproject-build --no-isolation --outdir $(VENV)/dist
	$(BIN)/twine check --strict $(VENV)/dist/*
	@# W002 is about doubles: the model's licence lies beside the model and among the package's licences.
	$(BIN)/check-wheel-contents --ignore W002 $(VENV)/dist/*.whl
	$(BIN)/python .ci/audit.py

bench: $(VENV)/.core ## Compare classify with a bare decode and session; ratios to bench.json
	$(BIN)/python benchmarks/overhead.py --out bench.json $(ARGS)

clean: ## Remove .venv, the demo's output and the tools' caches
	rm -rf $(VENV) demo/photos demo/preds.csv* bench.json dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

wheel: $(VENV)/.dev
	@rm -rf $(VENV)/wheel
	@$(BIN)/pyproject-build --no-isolation --wheel --outdir $(VENV)/wheel
	@$(BIN)/python -m pip install --quiet --no-deps --force-reinstall $(VENV)/wheel/*.whl
	@PYTHONSAFEPATH=1 $(BIN)/python -c 'import sys, gendercls; sys.exit(not gendercls.__file__.startswith(sys.prefix))' \
		|| { echo "Error: the tests would run against the checkout, not against the built wheel" >&2; exit 1; }

$(VENV)/.core: $(SOURCES) $(VENV)/.made
	@echo "Installing gendercls into .venv, with scikit-image for its photos (the first time takes a minute or more)"
	@$(BIN)/python -m pip install --quiet . scikit-image
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.made
	@echo "Installing gendercls and its development tools into .venv (torch is large: the first time takes minutes)"
	@$(BIN)/python -m pip install --quiet '.[dev]' hatchling
	@touch $@

# What the core needs, each in the version that its >= names, and what its tests need.
$(LOWEST)/.made: pyproject.toml $(VENV)/.made
	@echo "Making .venv/lowest, with the lowest versions of what gendercls needs"
	@rm -rf $(LOWEST) && $(PYTHON) -m venv $(LOWEST)
	@$(BIN)/python -c 'import tomllib; [print(needed.replace(">=", "==", 1)) for needed in \
		tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"]]' >$(LOWEST)/core.txt
	@$(LOWEST)/bin/python -m pip install --quiet --only-binary :all: -r $(LOWEST)/core.txt pytest hypothesis onnx tomli-w
	@touch $@

# Made anew also where its Python has gone, as after an upgrade of the system.
$(VENV)/.made: $(shell test -x $(BIN)/python || echo FORCE)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Error: Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) --version 2>/dev/null || echo missing)" >&2; \
		echo "  do:    name a newer one, as in: make demo PYTHON=python3.12" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
		rm -rf $(VENV) && mkdir -p $(VENV)/tmp && echo "Making .venv" && $(PYTHON) -m venv $(VENV); }
	@mkdir -p $(VENV)/tmp
	@touch $@

FORCE:
