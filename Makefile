# Everything happens in .venv, which is made here and updated when pyproject.toml or constraints.txt change.
# Another Python: make PYTHON=python3.13 ...
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-large test-dragon test-hdf5 test-dpnp faults fuzz bench parallel-hdf5 lint docs clean

PYTHON ?= python3
BIN := .venv/bin
# mpiexec, redis-server and snakemake of the environment come before those of the machine.
export PATH := $(CURDIR)/$(BIN):$(PATH)

EXPERIMENT := Snakefiles/one_to_one

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' Makefile

demo: .venv/.installed-all  ## measure three transports at four message sizes on this machine, in a few minutes
	@cd $(EXPERIMENT) && snakemake --profile ../../profiles/local --configfile demo.yaml
	@echo "The report: $(EXPERIMENT)/results/demo/report.html (open it in a browser)"

test: .venv/.installed-all,test build/slurm/.installed  ## run the tests, three at a time
	SIMAI_TEST_PATIENCE=$${SIMAI_TEST_PATIENCE:-2} $(BIN)/python -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder

test-large: .venv/.installed-all,test  ## stage 4 GiB at once on every backend that takes it (needs 13 GB of memory)
	$(BIN)/python -m pytest -q -m large tests/staging

test-dragon: .venv/.installed-all,test  ## test the backend dragon, whose runtime needs a core for itself
	$(BIN)/python -m pytest -q -m dragon tests/staging

# In these two, a test that is skipped has failed.
test-hdf5: .venv/.installed-all,test parallel-hdf5  ## test the kernels of input and output with parallel HDF5
	SIMAI_TEST_SKIPS=fail $(BIN)/python -m pytest -q tests/kernels/test_kernels_io.py tests/kernels/test_kernels_check.py \
		tests/kernels/test_kernels_simulation.py

test-dpnp: export OCL_ICD_FILENAMES := $(CURDIR)/build/dpnp/lib/libintelocl.so
test-dpnp: build/dpnp/.installed  ## test the kernels with dpnp on the CPU, as it runs on Intel GPUs (3 GB in build/dpnp)
	SIMAI_TEST_SKIPS=fail build/dpnp/bin/python -m pytest -q -k sycl-cpu tests/kernels
	@# Of this script only that it measures every kernel: the numbers say nothing here.
	build/dpnp/bin/python -m benchmarks.gpu --device sycl-cpu --size 256 --rounds 1 >build/gpu.log \
		|| { cat build/gpu.log; exit 1; }

faults: .venv/.installed-all,test  ## kill every part of a run on every backend; writes the table in docs/reliability.md
	@mkdir -p build
	@failed=0; SIMAI_TEST_PATIENCE=$${SIMAI_TEST_PATIENCE:-1} $(BIN)/python -m pytest -q tests/faults \
		-m "faults or not faults" -k "not one_fault_after_another" -o junit_family=xunit1 --junitxml=build/faults.xml \
		|| failed=$$?; \
	$(BIN)/python tests/faults/table.py build/faults.xml; \
	exit $$failed

fuzz: .venv/.installed-all,test  ## look for input that breaks the readers, FUZZ_SECONDS=60 each (docs/security.md)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		--only-binary atheris --editable '.[fuzz]' || echo "atheris cannot be installed for this Python."
	@mkdir -p build; failed=; \
	for file in tests/fuzz/fuzz_*.py; do \
		echo "== $$file"; \
		$(BIN)/python "$$file" 2>build/fuzz.log || { tail -n 40 build/fuzz.log; failed="$$failed $$file"; }; \
		grep -a '^Done' build/fuzz.log || true; \
	done; \
	if [ -n "$$failed" ]; then echo "Found something in:$$failed (input in build/fuzz/)"; exit 1; fi

bench: .venv/.installed-all,test  ## print the speed of staging, waits, kernels and start-up, with their targets
	@failed=; \
	for file in $$(grep -l '__name__ == "__main__"' benchmarks/*.py); do \
		module=benchmarks.$$(basename "$$file" .py); \
		echo "== python -m $$module"; \
		$(BIN)/python -m "$$module" || failed="$$failed $$module"; \
		echo; \
	done; \
	if [ -e build/dpnp/.installed ]; then \
		echo "== python -m benchmarks.kernels --device sycl-cpu"; \
		OCL_ICD_FILENAMES=$(CURDIR)/build/dpnp/lib/libintelocl.so build/dpnp/bin/python -m benchmarks.kernels \
			--device sycl-cpu || failed="$$failed benchmarks.kernels (dpnp)"; \
	fi; \
	if [ -n "$$failed" ]; then echo "Targets missed in:$$failed"; exit 1; fi

# Without apt-get: make parallel-hdf5 HDF5_DIR=/path MPICC=mpicc
parallel-hdf5: .venv/.installed-all  ## build h5py with MPI, for the kernels WriteWithMPI and ReadWithMPI (some minutes)
	@PIP_CONSTRAINT=constraints.txt HDF5_DIR=$(HDF5_DIR) MPICC=$(MPICC) bash tests/parallel_hdf5.sh .venv

lint: .venv/.installed-lint docs  ## check form, types, rules and the links of the documentation
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefiles simai_rules/rules
	$(BIN)/python tests/lint_snakemake.py

docs: .venv/.installed-lint  ## check that links, commands and targets named in the documentation exist
	$(BIN)/python tests/check_docs.py

clean:  ## remove .venv, builds and caches; results stay
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "simai-rules needs Python 3.11 or newer, and '$(PYTHON)' is not: make PYTHON=/path/to/python3.11 ..." >&2; \
		exit 1; }
	@$(PYTHON) -m venv .venv || { \
		rm -rf .venv; \
		echo "'$(PYTHON)' cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv" >&2; \
		exit 1; }

# Slurm's programs, unpacked and not installed: nothing outside of build/ changes. Without them its tests are skipped.
build/slurm/.installed: tests/slurm_packages.sh
	@timeout 300 bash $< $(@D) || echo "Slurm cannot be had here; its tests are skipped."

# An environment of its own, without torch: dpnp brings the whole of oneAPI's runtime.
build/dpnp/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing dpnp into build/dpnp; the first time this takes some minutes."
	@[ -e $(@D)/bin/python ] || $(BIN)/python -m venv $(@D)
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		--editable '.[mpi,hdf5,contract]' hypothesis pytest-xdist dpnp || { \
		echo "dpnp cannot be installed: its wheels are on PyPI, for Linux on x86-64, and take 3 GB." >&2; exit 1; }
	@touch $@

.venv/.installed-%: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing simai-rules[$*] into .venv; the first time this takes some minutes."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[$*]'
	@touch $@
