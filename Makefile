# Every target sets up what it needs. GNU make 3.81 (macOS) will do.

RECIPE   ?= cnn
SEED     ?= 0
DATA_DIR ?= data
PYTHON   ?= python3
FROM     ?=
RUN      ?=
MESSAGE  ?=
INDEX    ?= 100
PEERS    ?=
ON_KAGGLE ?=

VENV   := .venv
DIGITS := $(VENV)/bin/digits
PIP_INSTALL := python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
PIP    := $(VENV)/bin/$(PIP_INSTALL)

RUN_TIME := $(VENV)/.run-time
DEV      := $(VENV)/.dev

# PyTorch and scikit-learn, to be compared with, have an environment of their own.
BESIDE := build/peers/.peers

# So has what a kernel finds on Kaggle: NumPy 2.0, pandas 2.2, and Python 3.12 where there is one.
KAGGLE := build/kaggle/.kaggle

.DEFAULT_GOAL := help
.PHONY: help setup data train submission submit leaderboard report show demo kernel kernel-push test lint bench proof figures clean

help:
	@echo "make TARGET [VARIABLE=value ...]"
	@echo
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  RECIPE=$(RECIPE)  a recipe's name, or a file of your own: RECIPE=path.toml"
	@echo "  SEED=$(SEED)  RUN=<id of a run>  DATA_DIR=$(DATA_DIR)  FROM=<digit-recognizer.zip, or a folder>"

setup: $(RUN_TIME) ## make .venv and install the kit into it (the others do this by themselves)

data: $(RUN_TIME) ## get the competition's data into DATA_DIR and check it (FROM=zip or folder)
	@$(DIGITS) data --data "$(DATA_DIR)" $(if $(FROM),--from "$(FROM)")

train: data ## train RECIPE with SEED, a new run (RUN=id goes on with one that was stopped)
	@$(DIGITS) train "$(RECIPE)" --seed $(SEED) --data "$(DATA_DIR)" $(if $(RUN),--resume "$(RUN)")

submission: $(RUN_TIME) ## write submission.csv of RECIPE, getting the data and training if need be
	@$(DIGITS) submission "$(RECIPE)" --seed $(SEED) --data "$(DATA_DIR)" $(if $(FROM),--from "$(FROM)")

submit: $(RUN_TIME) ## submit RUN, or RECIPE with SEED, to Kaggle and read the score back (MESSAGE="...")
	@$(DIGITS) submit $(RUN) --recipe "$(RECIPE)" --seed $(SEED) --data "$(DATA_DIR)" $(if $(FROM),--from "$(FROM)") \
	  $(if $(MESSAGE),--message "$(MESSAGE)")

leaderboard: $(RUN_TIME) ## list the runs with their dev and public scores, best first
	@$(DIGITS) leaderboard

report: $(RUN_TIME) ## write submissions/report.html: the leaderboard, each run, any two compared, for a browser
	@$(DIGITS) report --data "$(DATA_DIR)"

show: $(RUN_TIME) ## show the image in row INDEX and what RUN (the newest) makes of it
	@$(DIGITS) show $(RUN) --index $(INDEX) --data "$(DATA_DIR)"

demo: $(RUN_TIME) ## the whole job on sample data: no account, no download
	@$(DIGITS) demo "$(RECIPE)" --seed $(SEED)

kernel: $(RUN_TIME) ## make a Kaggle notebook of RECIPE with SEED in build/kernel
	@$(DIGITS) kernel build --recipe "$(RECIPE)" --seed $(SEED)

kernel-push: $(RUN_TIME) ## make it, push it to Kaggle, private, and wait for its end
	@$(DIGITS) kernel push --recipe "$(RECIPE)" --seed $(SEED)

# Where Python is told to keep nothing that it compiled, each of the hundreds of processes of the tests would compile all.
test: $(DEV) $(if $(ON_KAGGLE),$(KAGGLE)) ## run the tests (ON_KAGGLE=1: also with Kaggle's versions, in build/kaggle)
	@env -u PYTHONDONTWRITEBYTECODE $(VENV)/bin/pytest --numprocesses logical --maxprocesses 4 --dist worksteal

lint: $(DEV) ## check style and types
	@$(VENV)/bin/ruff check
	@$(VENV)/bin/ruff format --check --quiet
	@$(VENV)/bin/mypy

bench: $(RUN_TIME) $(if $(PEERS),$(BESIDE)) ## time the kit against its peers (PEERS=1 installs them, in build/peers)
	@$(VENV)/bin/python scripts/bench.py --data "$(DATA_DIR)"

proof: $(BESIDE) ## check the network against PyTorch, which is installed in build/peers
	@PYTHONPATH=src build/peers/bin/python -m pytest tests/nn/test_torch.py

figures: $(RUN_TIME) ## draw the figure of the augmentations into docs/
	@$(VENV)/bin/python scripts/figures.py

clean: ## remove .venv, build/, caches and sample data; data and runs stay
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache .hypothesis data/sample submissions/*-sample submissions/sweeps/*-sample
	find . -name __pycache__ -prune -exec rm -rf {} +
	rm -rf src/*.egg-info

$(RUN_TIME): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "digits needs Python 3.11 or newer: make PYTHON=<path of one> $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "setting up $(VENV)"
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) pip
	@$(PIP) --editable .
	@touch $@

$(DEV): $(RUN_TIME)
	@$(PIP) --group dev
	@touch $@

$(KAGGLE): pyproject.toml constraints.txt
	@echo "setting up build/kaggle"
	@test -x build/kaggle/bin/python || \
	  { PYENV_VERSION=3.12 python3.12 -m venv build/kaggle 2>/dev/null || $(PYTHON) -m venv build/kaggle; }
	@grep -vE '^(numpy|pandas|matplotlib)==' constraints.txt >build/kaggle/constraints.txt
	@build/kaggle/bin/python -m pip --disable-pip-version-check install --quiet --constraint build/kaggle/constraints.txt pip
	@build/kaggle/bin/python -m pip --disable-pip-version-check install --quiet --constraint build/kaggle/constraints.txt \
	  --group kaggle
	@touch $@

$(BESIDE): pyproject.toml constraints.txt
	@echo "setting up build/peers"
	@test -x build/peers/bin/python || $(PYTHON) -m venv build/peers
	@build/peers/bin/$(PIP_INSTALL) pip
	@build/peers/bin/$(PIP_INSTALL) --group peers
	@touch $@
