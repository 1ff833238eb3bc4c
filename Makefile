# make install    the environment .venv and nothing else
# make demo       the whole relay on this machine, in about two minutes; DUMP=path takes a real dump
# make test       lint, types, and all tests; those of Slurm where its packages are installed; DUMP=path of a real dump
# make unit       the tests that need no other program, in a minute
# make test-pythons  the same and one relay under each other Python that is found here; PYTHONS=python3.13 names them
# make slurm      the tests on a real Slurm; make programs: those that start programs, without one
# make lint       ruff, its formatter, mypy, and a check of the English
# make test-long  what takes too long for every change
# make mlflow     MLflow's page over the demo's workspace; STORE=sqlite:///PATH/mlflow.db takes another's
# make install-mlflow  the environment .venv-mlflow, for `ekiden watch mlflow`
# make chaos      a run interrupted fifty times at random, held against one that was not; SEED=n, WHERE=--slurm
# make bench      speeds, as ratios against what one would use instead; DUMP=path of a text or dump
# make pictures   the pictures of the README, from the workspace of a finished demo
# make docs       the pages of docs/ as a site, into site/
# make reference  docs/recipes.md and the schemas in configs/ again, after a key has changed
# make wheel      the package, into dist/
# make lock       the newest versions that pyproject.toml allows
# make clean      removes the environments, what was built, and work/
# The first of them installs what it needs into .venv; TORCH_INDEX=URL takes torch from there (see docs/install.md).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DUMP ?=
SEED ?= 1
WHERE ?=
export STORE ?= sqlite:///$(abspath work/demo)/mlflow.db
TORCH_INDEX ?=

BENCHMARKS := $(notdir $(basename $(shell grep -l __main__ tests/benchmarks/*.py)))
DEMO := $(if $(DUMP),name=demo-dump workspace=work/demo-dump corpus.sources.jawiki.location=$(DUMP) corpus.unit_mb=0.5)

.PHONY: help install install-mlflow demo test slurm programs functions unit test-pythons test-python pythons relay test-long chaos bench lint style types docs pictures reference wheel lock mlflow clean

help:
	@sed -n '/^PYTHON/q; s/^# //p' Makefile

install: $(VENV)/installed

install-mlflow: $(VENV)-mlflow/installed

demo: $(VENV)/installed
	$(BIN)/python -m jobs.pipeline run configs/demo.yaml cluster.preempt_at_step=60 $(DEMO)

# By file: one process imports DeepSpeed, and one compiles the merge loop, not each; the longest come first. Each worker
# has a Slurm of its own. Hundreds of commands are started: none compiles the kit anew, whatever the environment says.
# One thread each, as the ranks have: several that wait for one another would keep other tests from the processor.
PYTEST := env PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(VENV)-dev/bin/python -m pytest --dist loadfile --no-loadscope-reorder
EACH := -m "not trial and not long"
test: $(VENV)-dev/installed
	$(MAKE) style
	$(MAKE) --jobs=3 --output-sync=target slurm programs functions

# What it does at a grace or a limit is mostly waiting; all else takes the processor meanwhile, and yields it.
slurm: $(VENV)-dev/installed
	$(PYTEST) -n 2 $(EACH) tests/slurm

programs: $(VENV)-dev/installed
	nice -n 19 $(PYTEST) -n 2 $(EACH) tests/end_to_end tests/chaos tests/programs

# In one process: several would each collect all of these thousands.
functions: $(VENV)-dev/installed
	nice -n 19 $(MAKE) types
	nice -n 19 $(PYTEST) $(EACH) tests/unit

unit: $(VENV)-dev/installed
	$(PYTEST) -n 2 tests/unit

# The Pythons of pyproject.toml's classifiers beside the one that makes .venv: by name on the PATH, or one of pyenv's.
# Each has a .venv-VERSION of its own; without TORCH_INDEX its torch is the one for CUDA, and takes 6 GB.
OTHERS := 3.13 3.12
PYTHONS ?= $(shell for v in $(OTHERS); do for python in python$$v ~/.pyenv/versions/$$v.*/bin/python; do \
  $$python -c '' 2>/dev/null && { echo $$python; break; }; done; done)
test-pythons:
	@test -n "$(PYTHONS)" || { echo "found none of Python $(OTHERS); PYTHONS=PATH names one"; exit 1; }
	failed=0; for python in $(PYTHONS); do $(MAKE) test-python PYTHON=$$python || failed=1; done; exit $$failed

test-python:
	$(MAKE) unit relay VENV=.venv-$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')

pythons:
	@printf '%s\n' $(PYTHONS)

# One relay, with a preemption.
relay: $(VENV)-dev/installed
	$(PYTEST) tests/end_to_end/test_relay.py -k test_a_preempted_run_is_requeued_and_done

# What takes too long for every change: all moments of a save, more interruptions, the recipes on eight ranks.
test-long: lint
	EKIDEN_TEST_LONG=1 $(PYTEST) -n 2 tests/chaos tests/end_to_end tests/programs
	EKIDEN_TEST_LONG=1 $(PYTEST) tests/slurm

chaos: $(VENV)-dev/installed
	$(VENV)-dev/bin/python -m tests.chaos --interruptions 50 --seed $(SEED) $(WHERE)

bench: $(VENV)-bench/installed
	failed=0; for name in $(BENCHMARKS); do $(VENV)-bench/bin/python -m tests.benchmarks.$$name $(if $(DUMP),--data $(DUMP)) || failed=1; done; exit $$failed

mlflow: $(VENV)-mlflow/installed
	@echo "the training runs: http://127.0.0.1:5000/#/experiments/1/runs?workflowType=machine_learning"
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false $(VENV)-mlflow/bin/python -m mlflow server --backend-store-uri "$$STORE"

lint: style types

# In seconds, and so before all else.
style: $(VENV)-dev/installed
	$(VENV)-dev/bin/ruff check .
	$(VENV)-dev/bin/ruff format --check .
	$(VENV)-dev/bin/python -m tests.language

types: $(VENV)-dev/installed
	$(VENV)-dev/bin/mypy

docs: $(VENV)-docs/installed
	NO_MKDOCS_2_WARNING=1 $(VENV)-docs/bin/python -m mkdocs build
	@echo "site/index.html"

wheel: $(VENV)/installed
	$(BIN)/python -m pip wheel --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .

# $(call quietly,what it does,command): a line instead of pip's hundreds, which go to a log and are shown after a failure.
define quietly
@echo "$(1)"
@{ $(2) ; } >>$(@D)/install.log 2>&1 || { tail -n 30 $(@D)/install.log; echo "failed: $(1); all that was said: $(@D)/install.log"; exit 1; }
endef
PURELIB := -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
PIP := -m pip install --disable-pip-version-check
# Compiled on all cores afterwards, and without what is never imported, or hardly: a third of all.
RARE := transformers/models/(?!gpt2/|auto/)|torch/(testing|_inductor)/|databricks/|fontTools/|networkx/|pygments/lexers/
RARE := $(RARE)|setuptools/|pip/|sympy/(physics|combinatorics|stats|plotting)/|numba/cuda/|mlflow/(genai|gateway)/|git/|tests?/
RARE := $(RARE)|mypyc?/|nltk/|graphql/|graphene/|gunicorn/|huey/|lm_eval/(tasks|models)/|sklearn/(cluster|decomposition|ensemble)/
RARE := $(RARE)|scipy/signal/|evaluate/|skops/|pytablewriter/|pyasn1|sqlalchemy/testing/|numpy/distutils/|torchgen/|deepspeed/inference/
COMPILE := -m compileall -q -j 0 -x '/($(RARE))'

# DeepSpeed's build looks at the torch that is there: torch first, and no isolated build. It probes every operator,
# and fails on a machine with a GPU but no CUDA toolkit, if it is not told that it is built for a CPU; at run time
# kit/training/engine.py tells it the device.
$(VENV)/installed: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit("ekiden needs Python 3.11 or newer; try make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	@echo "installing into $(VENV): some minutes, once"
	@$(PYTHON) -m venv $(@D)
	$(call quietly,1 of 4: torch$(if $(TORCH_INDEX), from $(TORCH_INDEX)),$(BIN)/python $(PIP) --no-compile $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -c requirements.lock torch numpy setuptools wheel packaging)
	$(call quietly,2 of 4: DeepSpeed and transformers and all else,DS_ACCELERATOR=cpu DS_BUILD_OPS=0 $(BIN)/python $(PIP) --no-compile --no-build-isolation -r requirements.lock)
	$(call quietly,3 of 4: this checkout,$(BIN)/python $(PIP) --no-build-isolation --no-deps --editable .)
	$(call quietly,4 of 4: compiling what is imported,$(BIN)/python $(COMPILE) $(VENV)/lib jobs kit || true)
	@touch $@

# Environments on top of $(VENV): what stands there, and more. Not into $(VENV) itself: a run that is under way refuses
# an environment with other packages than it began with.
$(VENV)-dev/installed: EXTRA := -r requirements-dev.lock
$(VENV)-docs/installed: EXTRA := -r requirements-docs.lock
$(VENV)-docs/installed: requirements-docs.lock
$(VENV)-bench/installed: EXTRA := -c requirements.lock -c requirements-dev.lock --no-build-isolation --editable '.[bench]'
$(VENV)-mlflow/installed: EXTRA := -c requirements.lock -c requirements-dev.lock --no-build-isolation --editable '.[mlflow]'
$(VENV)-dev/installed $(VENV)-docs/installed $(VENV)-bench/installed $(VENV)-mlflow/installed: $(VENV)/installed requirements-dev.lock
	@$(BIN)/python -m venv --without-pip $(@D)
	@echo "import site; site.addsitedir('$$($(BIN)/python $(PURELIB))')" > $$($(@D)/bin/python $(PURELIB))/base.pth
	$(call quietly,installing into $(@D),$(BIN)/python -m pip --python $(@D)/bin/python install --disable-pip-version-check --no-compile $(EXTRA))
	$(call quietly,compiling it,$(BIN)/python $(COMPILE) $(@D)/lib || true)
	@touch $@

pictures: $(VENV)-dev/installed
	$(VENV)-dev/bin/python docs/pictures/make.py

EXPLAIN := $(BIN)/python -m jobs.pipeline explain
reference: $(VENV)/installed
	$(EXPLAIN) --all > docs/recipes.md
	$(EXPLAIN) --schema recipe > configs/recipe.schema.json
	$(EXPLAIN) --schema cluster > configs/cluster.schema.json

lock:
	rm -rf $(VENV)-lock build
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python $(PIP) --quiet torch==2.13.0 numpy setuptools wheel packaging
	DS_ACCELERATOR=cpu DS_BUILD_OPS=0 $(VENV)-lock/bin/python $(PIP) --quiet --no-build-isolation '.[wikipedia]'
	{ echo "# What the kit needs to run, pinned. Made by: make lock"; $(FREEZE); } > requirements.lock
	$(VENV)-lock/bin/python $(PIP) --quiet --no-build-isolation -c requirements.lock '.[wikipedia,mlflow,dev]'
	{ echo "# What its tests need besides, pinned. Made by: make lock"; $(FREEZE) | grep -vxFf requirements.lock; } > requirements-dev.lock
	$(PYTHON) -m venv --clear $(VENV)-lock
	$(VENV)-lock/bin/python $(PIP) --quiet -c requirements.lock setuptools "$$(sed -n 's/^docs = \["\(.*\)"\].*/\1/p' pyproject.toml)"
	{ echo "# What the site of docs/ needs besides, pinned. Made by: make lock"; $(FREEZE) | grep -vxFf requirements.lock; } > requirements-docs.lock
	rm -rf $(VENV)-lock build
FREEZE = $(VENV)-lock/bin/python -m pip freeze --all | grep -vE '^(ekiden|pip)( @|==)' | sed 's/+cpu$$//'

clean:
	rm -rf $(VENV) $(VENV)-* build dist site work
