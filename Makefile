# Everything from nothing: every target sets up what it needs in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
STAMP := $(VENV)/.installed
STACK := $(VENV)/.stack

.PHONY: demo test stack check gpu clean

demo: $(if $(OFFLINE),$(STAMP),$(STACK))  ## a tour and a small training run, into out/demo/; OFFLINE=1: the tour
	$(BIN)/blendlaw demo $(if $(OFFLINE),--offline) -o out/demo

test: $(STAMP)  ## the tests, two at a time; those of the stack are skipped, with the reason, where it is not
	$(BIN)/python -m pytest -n 2 --dist worksteal

stack: $(STACK)  ## add torch and Megatron-core, so that `make test` runs tests/stacks too

check: $(STAMP)  ## what CI checks besides the tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

gpu:  ## on a Hopper GPU, in an environment (PYTHON) with blendlaw[fp8,test]: its tests, then speeds
	$(PYTHON) -m pytest tests/gpu -s
	$(PYTHON) tests/benchmarks/overhead_gpu.py

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --editable '.[test]'
	touch $@

# Pinned to what is tested. On Linux, PyPI's torch brings gigabytes of CUDA; without a GPU,
# PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make demo takes the small build of it.
$(STACK): $(STAMP)
	$(INSTALL) torch==2.13.0 megatron-core==0.16.1 psutil
	touch $@

clean:
	rm -rf $(VENV) out dist build
