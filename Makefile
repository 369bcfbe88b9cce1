# Everything a developer or a user of a clone runs. `make` alone lists it.
#
# Two stages of set-up, each done when it is needed: the virtual environment with what the commands
# need (.venv/.run), and with the tools for tests as well (.venv/.dev).
SHELL := /bin/bash
VENV ?= .venv
PY = $(VENV)/bin/python
BUILD ?= build
SAMPLER = $(BUILD)/sampler/libmem_sampler.so
GATE = $(BUILD)/sampler/libmem_sampler_libascend_kernel_hook.so
LAYERS = $(BUILD)/sampler/libmem_sampler_layers.so
LOADED = bindings/mem_profiler/libmem_sampler*.so
PIP = $(PY) -m pip install -q --disable-pip-version-check --no-warn-script-location
PACKAGING = Makefile pyproject.toml setup.py $(wildcard bindings/mem_profiler/_build*.py) \
	$(wildcard sampler/abi/*.h sampler/unwind/*.[ch] sampler/inject/*.[ch])
C_FILES = $(wildcard sampler/*/*.[ch] sampler/drivers/*/*.[ch] tests/c/*.[ch] tests/fuzz/*.[ch])
PYTHON_FILES = setup.py release parser bindings cmd tests
# V=1 shows the compiler's command lines.
TEST_ARGS ?=
# Tests do not depend on each other, and wait for what they start; TEST_JOBS=0 runs them one after another.
TEST_JOBS ?= $(shell expr $$(nproc) + 2)
DEMO_ARGS ?=
FUZZ_S ?= 30
FUZZ ?=
BREAKS ?=

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: system-test $(VENV)/.dev ## install what is missing: system packages, .venv with all tools

build: system-build $(VENV)/.run library ## compile the sampler, install the commands into .venv

demo: system-demo build ## profile a real redis-server, show its table, write demo/redis.svg
	@$(PY) -m mem_cli.demo $(DEMO_ARGS)

test: system-test $(VENV)/.torch ## build, check and run every test
	@$(MAKE) --no-print-directory -j2 library lint
	@$(PY) -m compileall -q parser bindings cmd
	$(PY) -m pytest -n $(TEST_JOBS) --dist worksteal --durations=50 --durations-min=1 $(TEST_ARGS)

soak: system-test $(VENV)/.dev library ## the long versions of tests; the result is kept in docs/soak.txt
	$(PY) -m pytest -q -n $(TEST_JOBS) -m "hypothesis and not soak" --hypothesis-profile=long --timeout 3600
	set -o pipefail; $(PY) -m pytest --no-header -m soak -v -rP --timeout 3600 $(TEST_ARGS) | tee docs/soak.txt

bench: $(VENV)/.run library ## what the sampler costs; TEST_ARGS go to tests/bench/bench.py
	$(PY) tests/bench/bench.py $(TEST_ARGS)

fuzz: system-test $(VENV)/.dev library ## run the fuzzers; FUZZ_S=600 (seconds for each), FUZZ=elf (names)
	$(PY) tests/fuzz/run.py --seconds $(FUZZ_S) $(FUZZ)

breaks: system-test $(VENV)/.dev library ## do the tests see deliberate breaks? BREAKS="--only parser --minutes 30"
	$(PY) tests/breaks/run.py $(BREAKS)

wheel: system-build $(VENV)/.dev ## dist/: source distribution and wheels, each checked by auditwheel
	$(PY) release/wheels.py

site: $(VENV)/.dev ## build/site: the documents as a web site; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict --clean

man: $(VENV)/.run ## release/man: the manual pages, from the texts of --help
	$(PY) release/manpages.py

lint: $(VENV)/.dev ## ruff, mypy --strict, clang-format (the C compiler's warnings are errors anyway)
	$(VENV)/bin/ruff check -q $(PYTHON_FILES)
	$(VENV)/bin/ruff format -q --check $(PYTHON_FILES)
	$(VENV)/bin/mypy --no-error-summary
	@$(VENV)/bin/clang-format --dry-run -Werror $(C_FILES)

format: $(VENV)/.dev ## rewrite C and Python in the project's format
	$(VENV)/bin/ruff check -q --fix-only $(PYTHON_FILES)
	$(VENV)/bin/ruff format -q $(PYTHON_FILES)
	@$(VENV)/bin/clang-format -i $(C_FILES)

clean: ## remove everything that was built, .venv and demo/ too
	rm -rf $(BUILD) $(VENV) demo dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -rf *.egg-info */*.egg-info $(LOADED) bindings/mem_profiler/_core.c bindings/mem_profiler/_core.*so \
	    bindings/mem_profiler/_inject.c bindings/mem_profiler/_inject.*so
	find parser bindings cmd tests -name __pycache__ -type d -prune -exec rm -rf {} +

# --- how ---------------------------------------------------------------------------------------

system-build:
	@tests/system-packages.sh build

system-demo:
	@tests/system-packages.sh build demo

system-test:
	@tests/system-packages.sh build demo test

# The sampler's own Makefile knows what is out of date. The library is replaced by a rename: a
# process that has the old one mapped must keep it whole.
library: $(VENV)/.run
	@$(MAKE) $(if $(V),,-s) --no-print-directory -C sampler BUILD=$(abspath $(BUILD))/sampler
	@for built in $(SAMPLER) $(GATE) $(LAYERS); do loaded=bindings/mem_profiler/$${built##*/}; \
	cmp -s $$built $$loaded || { cp $$built $$loaded.new && mv $$loaded.new $$loaded; }; done

# pip's own way to find the three roots imports half of the standard library at every start of Python.
PLAIN = for file in $(VENV)/lib/python3*/site-packages/__editable__.mem_profiler-*.pth; do \
	printf '%s\n' $(foreach root,parser bindings cmd,"$(abspath $(root))") > "$$file"; done

# The first python3 that is new enough and can make virtual environments.
$(PY): | system-build
	@python=$${PYTHON:-$$(for p in python3 python3.13 python3.12 python3.11 /usr/bin/python3; do \
	    $$p -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && \
	    { echo $$p; break; }; done)}; \
	[ -n "$$python" ] || { echo "error: no python3 >= 3.11 with venv; set PYTHON=" >&2; exit 1; }; \
	"$$python" -m venv $(VENV) && $(PIP) 'setuptools>=77' 'cffi>=2.0'

$(VENV)/.run: $(PACKAGING) | $(PY)
	@echo "installing the commands into $(VENV)"
	@$(PIP) 'setuptools>=77' && $(PIP) --no-build-isolation -e . && $(PLAIN)
	@$(PY) -m compileall -q parser bindings cmd # a command without the right to write could not keep it
	@mkdir -p $(VENV)/share/man/man1 && ln -sf $(abspath release/man)/*.1 $(VENV)/share/man/man1
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	@echo "installing the tools for tests into $(VENV)"
	@$(PIP) --no-build-isolation -e '.[dev]' && $(PLAIN)
	@touch $@

# A build without CUDA takes a minute where the package index has one; else the tests say that they skip.
$(VENV)/.torch: $(VENV)/.dev
	@build=$$($(PY) -m pip index versions torch 2>/dev/null | grep -oE '[0-9.]+\+cpu' | head -n 1); \
	[ -z "$$build" ] || { echo "installing torch $$build into $(VENV)"; timeout 180 $(PIP) "torch==$$build"; } || \
	    echo "torch could not be installed in 3 minutes: its tests are skipped"
	@touch $@

.PHONY: help setup build demo test soak bench fuzz breaks wheel site man lint format clean library
.PHONY: system-build system-demo system-test
