# What to type here. `make demo` and `make test` need python3, git and make, and nothing else: they make .venv themselves.

BIN := $(CURDIR)/.venv/bin
# A container tells of all processors of its host, though it may use few; each worker of test-farms has schedulers of its
# own. The other tests wait for programs a fifth of their time, so that one worker more keeps two processors at work; who
# has none left takes some of another's, which may have all walks of a launch that is killed at each step.
test: PYTEST_ARGS ?= -n $(shell echo $$(($$(nproc) < 3 ? $$(nproc) + 1 : 4))) --dist worksteal
test-farms: PYTEST_ARGS ?= -n auto --maxprocesses 4
# Of schedulers that run nowhere here: the first lines of templates/ say what these versions tried. ngcsdk needs the
# setuptools of then.
CLIENTS := htcondor==25.14.1 ngcsdk==3.64.4 setuptools==80.9.0 panda-client==2.2.0

TESTS = $(BIN)/python -m pytest $(PYTEST_ARGS)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test lint test-farms docs bench clean venv

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 16

# sumx comes second also when a run of the sweep failed: the table is what one wants to see then.
demo:  ## install, train the digits sweep, print its table
	@scripts/venv demo --editable . scikit-learn
	@cd examples/digits && export PATH="$(BIN):$$PATH" && \
	  farmx sweep.yml -i -j 2; code=$$?; \
	  echo; sumx sweep --sortwith acc && exit $$code
	@echo; echo "The same by hand: cd examples/digits; . ../../.venv/bin/activate; sumx sweep --sortwith acc"

# Compiled beforehand: where PYTHONDONTWRITEBYTECODE is set every farmx that a test starts would do it again, and where it
# is not, one that a test keeps from writing may leave half a file.
# Types are checked beside the first tests: mypy, where it has no cache, keeps one processor busy for seconds.
test: venv  ## install, then lint, types and the whole test suite
	@$(BIN)/python -m compileall -q -j 0 farmx
	$(BIN)/ruff check
	@$(BIN)/mypy & types=$$!; echo '$(TESTS)'; $(TESTS); code=$$?; \
	  wait $$types || { echo "make: mypy found what is said above, before the tests" >&2; exit 1; }; exit $$code

lint: venv  ## ruff and mypy
	$(BIN)/ruff check
	$(BIN)/mypy

test-farms: venv  ## bring up real Slurm and Grid Engine (Debian, root) and run what needs them
	tests/farms/install
	@FARMX_VENV=.venv-farms scripts/venv farms $(CLIENTS)
	FARMX_FARMS=required $(BIN)/python -m pytest -m farm tests/farms $(PYTEST_ARGS)

docs: venv  ## run the blocks of the documents and write down what they print now
	$(BIN)/python scripts/replay.py README.md docs/*.md

bench: venv  ## the measurements of benchmarks/README.md, by hand: they take minutes
	$(BIN)/python -m benchmarks

venv:
	@scripts/venv test --editable '.[test]'

clean:  ## remove what these targets made: .venv, caches and the examples' runs
	rm -rf .venv .venv-farms build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache examples/*/runs
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
