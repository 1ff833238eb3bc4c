# make demo   the whole relay on this machine, in a few minutes; DUMP=path takes a real dump
# make test   lint, types, and all tests; those of Slurm where its packages are installed
# make chaos  a run interrupted fifty times at random, held against one that was not; SEED=n, WHERE=--slurm
# make bench  speeds, as ratios against what one would use instead; the peers go into an environment of their own; DUMP=path of a text or dump
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DUMP ?=
SEED ?= 1
WHERE ?=

BENCHMARKS := $(notdir $(basename $(shell grep -l __main__ tests/benchmarks/*.py)))
DEMO := $(if $(DUMP),name=demo-dump workspace=work/demo-dump corpus.sources.jawiki.location=$(DUMP) corpus.unit_mb=0.5)

.PHONY: demo test chaos bench lint lock clean

demo: $(VENV)/installed
	$(BIN)/python -m jobs.pipeline run configs/demo.yaml cluster.preempt_at_step=120 $(DEMO)

# By file: one process imports DeepSpeed, and one compiles the merge loop, not each. Slurm's grace and limits are
# short in its tests: they have the machine to themselves.
test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile tests/unit
	$(BIN)/python -m pytest -n 2 --dist loadfile tests/programs
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not trial" tests/end_to_end tests/chaos
	$(BIN)/python -m pytest -m "not trial" tests/slurm

chaos: $(VENV)/installed
	$(BIN)/python -m tests.chaos --interruptions 50 --seed $(SEED) $(WHERE)

bench: $(VENV)-bench/peers
	failed=0; for name in $(BENCHMARKS); do $(VENV)-bench/bin/python -m tests.benchmarks.$$name $(if $(DUMP),--data $(DUMP)) || failed=1; done; exit $$failed

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# DeepSpeed's build looks at the torch that is there: torch first, and no isolated build.
$(VENV)/installed $(VENV)-bench/installed: pyproject.toml requirements.lock
	$(PYTHON) -c 'import sys; sys.exit("ekiden needs Python 3.11 or newer; try make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet -c requirements.lock torch numpy setuptools wheel packaging
	DS_BUILD_OPS=0 $(@D)/bin/python -m pip install --quiet --no-build-isolation -r requirements.lock
	$(@D)/bin/python -m pip install --quiet --no-build-isolation --no-deps --editable .
	touch $@

# Not into $(VENV): a run that is under way refuses an environment with other packages than it began with.
$(VENV)-bench/peers: $(VENV)-bench/installed
	$(@D)/bin/python -m pip install --quiet -c requirements.lock --no-build-isolation --editable '.[bench]'
	touch $@

# The newest versions that pyproject.toml allows, as one file.
lock:
	rm -rf $(VENV)-lock build
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet torch==2.13.0 numpy setuptools wheel packaging
	DS_BUILD_OPS=0 $(VENV)-lock/bin/python -m pip install --quiet --no-build-isolation '.[wikipedia,mlflow,dev]'
	{ echo "# Every package of the project, pinned. Made by: make lock"; \
	  $(VENV)-lock/bin/python -m pip freeze --all | grep -vE '^(ekiden|pip)( @|==)' | sed 's/+cpu$$//'; } > requirements.lock
	rm -rf $(VENV)-lock build

clean:
	rm -rf $(VENV) $(VENV)-bench work
