# Two commands on a fresh clone: `make bench` and `make test`. Each makes .venv once, from
# constraints.txt, and does its job.
PYTHON ?= python3
BIN := .venv/bin
JOBS ?= 3
TRIALS ?= 20
REPORT ?= results/amd-epyc-2core/quick/report.html
GPU_PYTHON ?= $(BIN)/python
COMMIT = $(shell git rev-parse HEAD)
# Tests share the cores: a thread of OpenMP's that waits gives its core up, instead of spinning there.
PYTEST = OMP_WAIT_POLICY=passive $(BIN)/pytest -n $(JOBS)
# What `make bench` installs in addition to what a CPU needs: where there is an NVIDIA GPU, its kernels.
EXTRAS ?= $(if $(shell command -v nvidia-smi),cuda)
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: bench test test-all lint docs demo browser-test fleet-test screenshots perf gpu kernel-page compatibility-page commands-page shipped-results verdict-study judge-trials clean

bench: .venv/.installed
	$(BIN)/lstm-bench limits
	$(BIN)/lstm-bench run quick

# What every change needs: three to eight minutes on two cores.
test: .venv/.installed-dev
	$(PYTEST) --dist loadgroup -m "not browser and not slow"

# With the covering samples and the long proofs: half an hour, on a slow CPU more than one. Of these
# proofs SLOW_MINUTES=30 begins none later than that, and those of other modules first at each commit.
test-all: .venv/.installed-dev
	$(PYTEST) --dist loadgroup -m "not browser" \
		$(if $(SLOW_MINUTES),--no-loadscope-reorder --slow-minutes $(SLOW_MINUTES) --draw $(COMMIT))

lint: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PYTHONPATH=kernels:harness $(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/mypy

# The documentation as a site, in .site; make docs REPOSITORY=its address links to the sources there.
docs: .venv/.installed-dev
	NO_MKDOCS_2_WARNING=1 REPOSITORY=$(REPOSITORY) $(BIN)/mkdocs build --strict --quiet

browser-test: .venv/.installed-dev
	$(PYTEST) tests/browser

# A fleet on a Ray cluster and on a Slurm, each of three nodes on this machine, that lose a node and
# their coordinator. Slurm is Debian's (slurm-wlm, munge); the nodes' host names need root.
fleet-test: .venv/.installed-dev
	$(BIN)/pytest tests/fleet

# The pictures in the README; needs Chromium. make screenshots REPORT=another/report.html
screenshots: .venv/.installed-dev
	$(BIN)/python tests/browser/screenshot.py $(REPORT) results/screenshots

# The picture of a race in the README, run again on this machine: half a minute.
demo: .venv/.installed-dev
	$(BIN)/python tests/support/demo.py docs/demo.svg

perf: .venv/.installed-dev
	PYTHONPATH=tests/support $(BIN)/python tests/perf/summary_scale.py
	PYTHONPATH=tests/support $(BIN)/python tests/perf/history_scale.py
	PYTHONPATH=tests/support $(BIN)/python tests/perf/report_scale.py
	PYTHONPATH=tests/support $(BIN)/python tests/perf/index_scale.py
	PYTHONPATH=tests/support $(BIN)/python tests/perf/million_records.py
	$(BIN)/python tests/perf/change_point_rates.py
	$(BIN)/python tests/perf/clock_agreement.py
	$(BIN)/python tests/perf/limits_agreement.py
	$(BIN)/python tests/perf/harness_overhead.py
	$(BIN)/python tests/perf/asked_samples.py
	$(BIN)/python tests/perf/ragged.py

# On a GPU image with no network: make gpu GPU_PYTHON=python3
gpu: $(if $(filter $(BIN)/%,$(GPU_PYTHON)),.venv/.installed-dev)
	$(GPU_PYTHON) tests/gpu/prove.py

# Compiles every kernel for two architectures: some minutes.
kernel-page: .venv/.installed-dev
	$(BIN)/python tests/support/machine_code_table.py docs/triton-machine-code.md

# How an LSTM on each backend fares with PyTorch's own tools: three minutes.
compatibility-page: .venv/.installed-dev
	$(BIN)/python tests/support/compatibility.py docs/compatibility.md

# Every command and option, from their help.
commands-page: .venv/.installed-dev
	$(BIN)/python tests/support/commands_page.py docs/commands.md

# What backend="auto" reads of the published runs: after a run was published.
shipped-results: .venv/.installed-dev
	$(BIN)/python tests/support/shipped_results.py kernels/lstm_kernels/shipped

# How often a verdict is wrong, and what it can find: ten minutes, or less.
verdict-study: .venv/.installed-dev
	PYTHONPATH=tests/support $(BIN)/python tests/perf/verdict_study.py docs/verdicts-simulated.md

# Real selftests and real slowdowns on this machine, twenty of each: an hour or more. With a burner
# on every core: make judge-trials BURNER=1, where the number is its seed.
judge-trials: .venv/.installed-dev
	$(BIN)/python tests/perf/judge_trials.py --trials $(TRIALS) $(if $(BURNER),--burner $(BURNER))

clean:
	rm -rf .venv

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.$(if $(EXTRAS),[$(EXTRAS)])'
	touch $@

.venv/.installed-dev: .venv/.installed
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@
