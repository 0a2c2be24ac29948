# Every target does its own set-up; a second run skips it at once.
#   make demo [ARGS=--json]   moves a live system tree with a running PostgreSQL on this one machine, and shows the proof
#   make test [ARGS=...]      all tests; those that need root are skipped, loudly, without it
#   make vm-test [ARGS=...]   tests with two whole virtual machines (docs/internals/virtual-machines.md); root, some 30 minutes
#   make agent                dist/livelift-agent: one file that runs on any machine with Python, without pip or a network
#   make lint | bench | agent-free | agent-lock | clean
PYTHON ?= python3
ARGS ?=
VENV := .venv
PY := $(VENV)/bin/python

.PHONY: demo test vm-test lint bench agent agent-lock agent-free clean packages-demo packages-test packages-vm

demo: packages-demo $(VENV)/stamp
	@$(PY) -m livelift.demo $(ARGS)

# loadfile: the tests of one file share loop devices and namespaces, so they stay in one process.
test: packages-test $(VENV)/stamp
	@$(PY) -m pytest -n 2 --dist loadfile $(ARGS)

# One after the other: two machines at a time are what two cores can do.
vm-test: packages-vm $(VENV)/stamp
	@PYTHONUNBUFFERED=1 $(PY) -m pytest --vm tests/vm tests/system/test_cut_machines.py $(ARGS)

lint: $(VENV)/stamp
	@$(PY) -m ruff check livelift tests docs $(wildcard benchmarks)
	@$(PY) -m mypy --strict livelift

bench: packages-test $(VENV)/stamp
	@$(PY) -m benchmarks $(ARGS)

# The wheels of .ci/agent-wheels.txt are fetched once and kept in build/agent-wheels; agent-lock takes the newest ones.
AGENT := -m livelift.bootstrap.build --lock .ci/agent-wheels.txt --wheels build/agent-wheels --out dist/livelift-agent
agent: $(VENV)/stamp
	@$(PY) $(AGENT)

agent-lock: $(VENV)/stamp
	@$(PY) $(AGENT) --relock pyproject.toml

# The agent is free of everything but its five dependencies: install it alone and import every module of it.
agent-free: $(VENV)/stamp
	@rm -rf build/agent-free
	@$(PYTHON) -m venv build/agent-free
	@build/agent-free/bin/pip -q --disable-pip-version-check install .
	@cd build && agent-free/bin/python ../tests/import_all.py

packages-demo packages-test packages-vm: packages-%:
	@.ci/packages $*

$(VENV)/stamp: pyproject.toml | packages-demo
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "Livelift needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). Try make PYTHON=python3.11 ..." >&2; exit 2; }
	@echo "setting up $(VENV)" >&2
	@$(PYTHON) -m venv $(VENV) || \
	    { echo "cannot make a virtual environment; as root: apt-get install python3-venv" >&2; rm -rf $(VENV); exit 2; }
	@$(PY) -m pip -q --disable-pip-version-check install -e '.[demo,dev]'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
