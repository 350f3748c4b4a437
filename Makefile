# Everything happens inside this folder: the environment, Jupyter's settings, the outputs.
# Tools are called as "python -m": paths with spaces work, and nothing depends on PATH.
PYTHON ?= python3
RUN := .venv/bin/python
export JUPYTER_CONFIG_DIR := $(CURDIR)/.venv/jupyter/config
export JUPYTER_DATA_DIR := $(CURDIR)/.venv/jupyter/data
export JUPYTER_RUNTIME_DIR := $(CURDIR)/.venv/jupyter/runtime
export IPYTHONDIR := $(CURDIR)/.venv/ipython
export MPLCONFIGDIR := $(CURDIR)/.venv/matplotlib
PORT ?= 8888
# Jupyter refuses to start as root, which is who one is in many containers, unless told to.
AS_ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)

.PHONY: lab test course notebooks weights benchmarks setup clean help
help:
	@echo "make lab        set up and open the course in JupyterLab"
	@echo "make test       set up and run all tests"
	@echo "make course     execute every notebook; HTML, minutes and memory in build/course"
	@echo "make notebooks  regenerate learner and solution notebooks from notebooks/sources"
	@echo "make benchmarks measure what the README promises"
	@echo "make weights    retrain what is shipped (about six hours on two cores)"
	@echo "make clean      remove the environment and all outputs"

setup: .venv/installed
.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -c "import sys; assert sys.version_info >= (3, 11), 'cfxnb needs Python 3.11 or newer; try: make PYTHON=python3.12 ...'"
	$(PYTHON) -m venv .venv
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@# JupyterLab would ask to fetch its news; the course needs no network.
	$(RUN) -m jupyterlab.labextensions disable --level=sys_prefix "@jupyterlab/apputils-extension:announcements" 2> /dev/null
	@touch .venv/installed

lab: setup
	$(RUN) -m jupyterlab --port=$(PORT) --notebook-dir=notebooks \
		--LabApp.default_url=/lab/tree/00_welcome.ipynb $(AS_ROOT) $(LAB_OPTIONS)

test: setup
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	@# One thread in each of several processes: more threads than cores slow each other down.
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n auto --dist worksteal $(PYTEST_OPTIONS)

course: setup
	$(RUN) -m cfxnb.build course

notebooks: setup
	$(RUN) -m cfxnb.build notebooks

benchmarks: setup
	@failed=0; for each in digits sprites directions digit_pairs \
		two_class_directions diffusion bakeoff flow_walk scale; do \
		$(RUN) -m benchmarks.$$each --write || failed=1; \
	done; exit $$failed

weights: setup
	$(RUN) -m cfxnb.train

clean:
	rm -rf .venv build runs *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
