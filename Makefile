# Needs Python 3.11+, make and a package registry; everything else goes into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STUDY ?= examples/digits/study.yaml
MARK ?= cluster

.PHONY: demo test test-cluster check soak chaos images pins clean

demo: $(VENV)/demo.stamp
	$(BIN)/abohb tune $(STUDY)

test: $(VENV)/dev.stamp
	$(BIN)/pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile

test-cluster: $(VENV)/dev.stamp
	$(BIN)/pytest -m "$(MARK)" -rs --durations=25 tests/cluster

check: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

soak: $(VENV)/dev.stamp
	$(BIN)/python -m benchmarks.soak

# On a cluster, which it disturbs: tests/cluster/README.md says what to set.
chaos: $(VENV)/dev.stamp
	$(BIN)/python -m benchmarks.chaos

images:
	images/build.sh $(if $(REGISTRY),--push $(REGISTRY)) $(if $(TAG),--tag $(TAG))

# What the images install: the versions that the tests ran with here.
pins: $(VENV)/dev.stamp
	$(BIN)/python .ci/pins.py minio >images/agent/requirements.txt
	$(BIN)/python .ci/pins.py >images/controller/requirements.txt
	$(BIN)/python .ci/pins.py scikit-learn >images/trial-digits/requirements.txt

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
