# The course in a few commands: `make lab` opens it, `make test` tests it.
# NB="03" or NB="01 03" limits run, measure and build to those notebooks, and reset needs it.
# LANGUAGE=ko opens, runs or builds the Korean edition.
# ARGS="…" passes options on, as in `make lab ARGS=--solved`; WRITE=1 lets `make run` keep results.

SHELL := /bin/bash
VENV ?= .venv
PYTHON := $(VENV)/bin/python
WORKBOOK := $(VENV)/bin/workbook
NB ?=
# Only as given to make: systems set a variable of this name for purposes of their own.
ifeq ($(origin LANGUAGE),command line)
IN_LANGUAGE := --language $(LANGUAGE)
endif
# Tests run in so many processes of one thread each; a notebook's takes up to 3 GB.
JOBS ?= 2
PYTEST := OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n $(JOBS) --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help install fetch lab reset test test-browser lint check run build site measure bench \
	doctor clean

help:
	@echo "make lab      open your copies, in my/, in JupyterLab (sets everything up on first use; LANGUAGE=ko)"
	@echo "make reset    put a fresh copy of a notebook into my/ and keep your old one (NB=03)"
	@echo "make run      execute the solved notebooks and print a table (NB=03 for one, WRITE=1 keeps)"
	@echo "make test     check style and spelling, then run the tests"
	@echo "make test-browser  every slide, and a learner's way through JupyterLab, in Chromium"
	@echo "make check    the part of the tests that needs no model (some minutes)"
	@echo "make doctor   check this machine"
	@echo "make build    write the learner notebooks from notebooks/source"
	@echo "make site     write the course as a web site into site/, which opens without a network"
	@echo "make measure  repeat the recorded sweeps of a notebook (NB=03 ARGS=\"--jobs 2\", takes hours)"
	@echo "make bench    compare speed with TRL and lm-evaluation-harness (an hour)"
	@echo "make clean    remove $(VENV)"

# Prints the first Python in range that can make virtual environments.
define FIND_PYTHON
for name in python3 python3.13 python3.12 python3.11 python; do \
  $$name -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
    >/dev/null 2>&1 && { echo $$name; exit 0; }; \
done; \
echo "Python 3.11, 3.12 or 3.13 with its venv module was not found:" \
  "install one (on Debian and Ubuntu also python3-venv), then try again." >&2; \
exit 1
endef

# Shows one line a package; errors and warnings come through whole.
define PIP_INSTALL
set -o pipefail; $(PYTHON) -m pip install --progress-bar off -c constraints.txt $(1) \
  | $(PYTHON) -uc 'import sys; [print(line.strip()[:70]) for line in sys.stdin \
      if line.startswith(("Collecting", "Installing", "Building"))]'
endef

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import pip' 2>/dev/null || { \
	  found=$$($(FIND_PYTHON)) && echo "Creating $(VENV) with $$found" && \
	  $$found -m venv --clear $(VENV); }
	@echo "Installing the packages into $(VENV) (some minutes on first use)"
	@$(call PIP_INSTALL,-e '.[test]')
	@touch $@

$(VENV)/.bench: $(VENV)/.installed
	@$(call PIP_INSTALL,-e '.[test,bench]')
	@touch $@

$(VENV)/.browser: $(VENV)/.installed
	@$(call PIP_INSTALL,-e '.[test,browser]')
	@touch $@

fetch: install
	@$(WORKBOOK) fetch

lab: fetch
	@$(WORKBOOK) lab $(IN_LANGUAGE) $(ARGS)

reset: install
	@$(WORKBOOK) reset $(NB) $(ARGS)

test: lint fetch
	@$(PYTEST) $(ARGS)

test-browser: fetch $(VENV)/.browser
	@$(PYTHON) -m pytest tests/browser -rs $(ARGS)

lint: install
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check lib tests benchmarks examples notebooks/recorded
	@$(VENV)/bin/codespell

check: lint
	@$(PYTEST) -m "not real_model and not slow" $(ARGS)

run: fetch
	@$(WORKBOOK) run $(NB) $(if $(WRITE),--write) $(IN_LANGUAGE) $(ARGS)

build: install
	@$(WORKBOOK) build $(NB) $(IN_LANGUAGE) $(ARGS)

site: install
	@$(WORKBOOK) site $(IN_LANGUAGE) $(ARGS)

measure: fetch
	@$(WORKBOOK) measure $(NB) $(ARGS)

bench: fetch $(VENV)/.bench
	@for script in benchmarks/bench_*.py; do $(PYTHON) $$script || exit 1; done
	@PARITY_DOCS=100 $(PYTHON) -m pytest tests/lib/test_harness.py -q

doctor: install
	@$(WORKBOOK) doctor

clean:
	rm -rf $(VENV) lib/*.egg-info .pytest_cache .ruff_cache .hypothesis
