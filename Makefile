# make demo    a trained policy lifts a cube with the simulated SO-101; ends in out/demo.mp4
# make quick   the quick tests, without torch: half a minute after installing
# make test-of FILE=edge/control/chunks.py    the tests that import that module
# make test    the whole test suite, then the running half on the oldest and the newest Python of a Jetson
# make test-lerobot   LeRobot itself opens our datasets, drives our simulated servos, and records with our plugin
# make faults  every row of the fault table with 20 seeds, two at a time: an hour
# make check   formatting, lint, types, import contracts, unused functions
# make soak    an hour of a run without hardware: does any process grow, is anything lost?
# make test-cpu    INT8 for CPUs on an emulated processor without VNNI; needs qemu-user; minutes
# make test-v4l2  the V4L2 cameras on the kernel's own device, in an emulated machine: 2 minutes, not part of `make test`
# make safety  every line and branch of the safety layer is tested: 100 % or it fails
# make mutants small faults are put into the safety layer, and each must be noticed by a test: minutes
# make policy  the shipped policy again, from its demonstrations on: 45 minutes on two cores, into out/
# make clean   forget environments and build results (recordings in out/ stay)
#
# Each needs nothing but Python 3.10 or newer, and installs into .venv. PYTHON=python3.12 chooses another one.

PYTHON ?= python3
DEMO_ENGINE ?= edge/shipped/lift/model.onnx
DEMO_VIDEO ?= out/demo.mp4
DEMO_EPISODES ?= 5
TEST_WORKERS ?= 2

# pytest must be started as `pytest`: `python -m pytest` would put the root on the path and `models` with it.
BIN := .venv/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet install --prefer-binary
TORCH := $(shell grep -o 'torch==[0-9.]*' pyproject.toml)

.PHONY: demo quick test-of test faults test-cpu test-v4l2 test-lerobot check format soak policy safety mutants clean
.DELETE_ON_ERROR:

demo: .venv/with-sim
	@.ci/opengl $(BIN)/python
	@mkdir -p $(dir $(DEMO_VIDEO))
	$(BIN)/sefa-edge run --engine $(DEMO_ENGINE) --arm sim --camera sim \
		--episodes $(DEMO_EPISODES) --video $(DEMO_VIDEO)

quick: .venv/with-tests
	$(BIN)/pytest --quiet --numprocesses $(TEST_WORKERS) --dist loadfile -m "not slow and not learn and not sim" \
		tests/edge tests/firmware_bridge tests/profiles

test-of: .venv/with-tests
	@tests=$$($(BIN)/python .ci/tests-of "$(FILE)") && echo "$(BIN)/pytest" $$tests && $(BIN)/pytest --quiet $$tests

test: .venv/with-everything
	@.ci/opengl $(BIN)/python
	$(BIN)/pytest --numprocesses $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder
	.ci/other-pythons

# Haswell has AVX2 and no VNNI; Nehalem has neither. Without conftest.py, which imports torch: minutes in an emulator.
test-cpu: .venv/with-everything
	@command -v qemu-x86_64 >/dev/null || { echo "hint: sudo apt-get install qemu-user"; exit 4; }
	for processor in Haswell Nehalem; do \
		nice -n 10 qemu-x86_64 -cpu $$processor $(BIN)/python $(BIN)/pytest -p no:cacheprovider --noconftest --quiet \
			tests/learn/test_cpu_form.py || exit 1; \
	done

test-v4l2: .venv/with-sim
	nice -n 10 tests/v4l2/run.sh $(BIN)/python

test-lerobot: .venv/with-everything
	@.ci/opengl $(BIN)/python
	tests/lerobot/run.sh

faults: .venv/with-everything
	@.ci/opengl $(BIN)/python
	nice -n 10 $(BIN)/python -m tests.faults.campaign --seeds 20 --jobs 2

check: .venv/with-everything
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright -p .typing --pythonpath $(CURDIR)/$(BIN)/python
	PYTHONPATH=.typing $(BIN)/lint-imports --no-cache
	$(BIN)/python .ci/unused.py

format: .venv/with-everything
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

soak: .venv/with-sim
	@mkdir -p out
	$(BIN)/python profiles/benchmarks/soak.py --minutes 60 --json out/soak.json

policy: .venv/with-everything
	@.ci/opengl $(BIN)/python
	$(BIN)/sefa-edge record --expert lift --episodes 1000 -o out/data/lift
	$(BIN)/sefa-edge train --dataset out/data/lift -o out/checkpoints/lift --seed 0 --threads 1
	$(BIN)/sefa-edge export out/checkpoints/lift/sefa -o out/engines/lift --execute-steps 4
	$(BIN)/sefa-edge eval --engine out/engines/lift/model.onnx --seeds 0:200 --json out/eval.json --require 0.75

SAFETY_TESTS := $(addprefix tests/edge/control/test_,safety.py guard.py modes.py motion.py watched_arm.py loop_lockstep.py) \
	tests/property/test_safety_limits.py tests/property/test_modes_machine.py

safety: .venv/with-everything
	$(BIN)/coverage run --branch --include='edge/control/safety.py,edge/control/modes.py,edge/control/motion.py,edge/control/watched_arm.py' \
		$(BIN)/pytest --quiet $(SAFETY_TESTS)
	$(BIN)/coverage report --show-missing --fail-under=100

mutants: .venv/with-everything
	PYTHONPATH=.typing $(BIN)/python tests/mutation/mutants.py

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| { echo "error: $(PYTHON) is older than 3.10"; echo "hint: make PYTHON=python3.12 ..."; exit 4; }
	@$(PYTHON) -m venv .venv \
		|| { rm -rf .venv; echo "hint: sudo apt-get install python3-venv"; exit 4; }

.venv/with-sim: pyproject.toml setup.py | .venv/bin/python
	@echo "installing sefa-edge and its simulator into .venv (a minute, once)"
	$(PIP) -e '.[sim]'
	@touch $@

.venv/with-tests: pyproject.toml setup.py | .venv/bin/python
	@echo "installing sefa-edge and its tests, without torch, into .venv (a minute, once)"
	$(PIP) -e '.[sim,dataset,test,check]'
	@touch $@ .venv/with-sim

.venv/with-everything: pyproject.toml setup.py | .venv/bin/python
	@echo "installing everything, torch included, into .venv (some minutes, once)"
	$(PIP) '$(TORCH)'
	$(PIP) -e '.[sim,dataset,train,test,check]'
	@touch $@ .venv/with-sim .venv/with-tests

clean:
	rm -rf .venv .venv310 .venv312 .venv-lerobot build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .cache .coverage
