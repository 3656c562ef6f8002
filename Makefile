# Two commands do everything on a fresh machine with Python >= 3.11, git and make:
#   make study   make test
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORK ?= work
WORKERS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); [ $$n -gt 4 ] && echo 4 || echo $$n)
# pip compiles modules on one core: this does it on all, and without the packages' own tests. Some
# files are templates, or of another Python, and cannot be compiled: no matter.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
COMPILE := $(BIN)/python -m compileall -qq -j 0 -x '/tests?/' $(VENV)/lib || true

# make answers: SIZE,SCHEDULE,SEED[,LENGTH] of each laboratory (configs/lab/answers.py) and the grid
# (configs/study/answers.py).
ANSWERS_LABS ?= small,constant,0 small,constant,1 small,annealed,0 \
  medium,constant,0 medium,constant,1 large,constant,0
ANSWERS_GRID ?= full

.PHONY: study answers test test-all lint clean help

help:
	@echo "make study      set up .venv, build the laboratory, run the default study and print"
	@echo "                the path of its report"
	@echo "make answers    the long grid on six laboratories: hours; stopped, it goes on"
	@echo "make test       set up .venv with the test extras and run the tests"
	@echo "make test-all   also those marked slow: repeated kills, four processes, long contexts,"
	@echo "                OLMo-1B compiled for TPUs, the tutorial, the notebooks"

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.made setup.py constraints.txt
	$(PIP) -c constraints.txt -e ".[cpu]"
	@$(COMPILE)
	@touch $@

# The native OLMo code makes real native checkpoints; its own pins (numpy < 2) are older than what
# it needs, so that its dependencies are named here. One call of pip: it resolves once.
OLMO := omegaconf cached_path importlib_resources torchmetrics boto3 google-cloud-storage
$(VENV)/.test: $(VENV)/.made setup.py constraints.txt
	$(PIP) -c constraints.txt -e ".[cpu,test,lm-eval]" $(OLMO)
	$(PIP) --no-deps ai2-olmo==0.6.0
	@$(COMPILE)
	@touch $(VENV)/.installed $@

study: $(VENV)/.installed
	$(BIN)/amuro lab --config=configs/lab/default.py --config.out=$(WORK)/lab
	$(BIN)/amuro study --config=configs/study/lab.py --config.suite=$(WORK)/lab/checkpoints \
	  --config.data_root=$(WORK)/lab/data --config.workdir=$(WORK)/study

answers: $(VENV)/.installed
	@set -e; for lab in $(ANSWERS_LABS); do \
	  to=$(WORK)/answers/$$(echo $$lab | tr , -); \
	  $(BIN)/amuro lab --config=configs/lab/answers.py:$$lab --config.out=$$to/lab; \
	  $(BIN)/amuro study --config=configs/study/answers.py:$(ANSWERS_GRID) \
	    --config.suite=$$to/lab/checkpoints --config.data_root=$$to/lab/data \
	    --config.workdir=$$to/$(ANSWERS_GRID); \
	done

test: $(VENV)/.test
	$(BIN)/python -m pytest -q -rs -n $(WORKERS) --dist=worksteal --strict-skips -m "not slow"

test-all: $(VENV)/.test
	$(BIN)/python -m pytest -q -rs -n $(WORKERS) --dist=worksteal --strict-skips

lint: $(VENV)/.test
	$(BIN)/ruff check .

clean:
	rm -rf $(VENV) $(WORK) build dist *.egg-info
