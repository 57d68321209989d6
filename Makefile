# `make demo` and `make test` set up all they need on a fresh machine, and are quick the second time.
PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed-$(shell echo "$(TORCH)" | cksum | cut -d " " -f 1)
HOME_DEMO := demo/home
DEMO := $(BIN)/superbench --home $(HOME_DEMO)
PYTEST_WORKERS ?= 2

.PHONY: install demo test lint format type check bench clean

install: $(INSTALLED)

# torch first and by itself: with it there, nothing else may fetch another build of it
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	@touch $@

# Two upstreams, one of them a stranger's file; few steps and a small ASR head: it shows the way, it is no benchmark.
# One thread: steps this small lose more by sharing than they win.
demo: export OMP_NUM_THREADS = 1
demo: install
	$(DEMO) corpus synthesize --out demo/corpus
	for upstream in fbank_no_cmvn spectrum; do \
	  run="$(DEMO) run -p upstreams/example.py -u $$upstream --corpus demo/corpus"; \
	  $$run -t ks,sid,er --steps 600 && \
	  $$run -t pr --lexicon demo/corpus/lexicon.txt --steps 200 --lr 1e-1,1e-2 && \
	  $$run -t asr --head blstm:hidden=128,projector=128,dropout=0 --steps 600 --lr 5e-3 || exit $$?; \
	done
	$(DEMO) leaderboard export --csv leaderboard.csv
	$(DEMO) leaderboard show

test: install
	$(BIN)/python -m pytest -n $(PYTEST_WORKERS) tests

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

type: install
	$(BIN)/mypy

check: lint type test

bench: install
	$(BIN)/python -m tests.bench --out bench

clean:
	rm -rf demo leaderboard.csv .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
