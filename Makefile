# Needs Python 3.11+, make and a package registry; everything else goes into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STUDY ?= examples/digits/study.yaml

.PHONY: demo test check soak clean

demo: $(VENV)/demo.stamp
	$(BIN)/abohb tune $(STUDY)

test: $(VENV)/dev.stamp
	$(BIN)/pytest

check: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

soak: $(VENV)/dev.stamp
	$(BIN)/python -m benchmarks.soak

clean:
	rm -rf $(VENV) examples/*/abohb-runs

$(VENV)/demo.stamp: EXTRA := demo
$(VENV)/dev.stamp: EXTRA := dev
$(VENV)/%.stamp: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is $$($(PYTHON) --version 2>&1); this needs Python 3.11 or later: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$(EXTRA)]'
	@touch $@
