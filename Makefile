# `make` lists the targets. Dependencies and their versions are in setup.py, nowhere else.
#
#   VENV=DIR         virtual environment, made on the first run (.venv)
#   PYTHON=PYTHON3   interpreter it is made with (python3)
#   TORCH_INDEX=URL  package index that torch and torchvision both come from (pip's default)
#
# A sourced ROS 2 distribution (ROS_DISTRO is set) is used; otherwise ROS 2 comes as wheels.

VENV ?= .venv
PYTHON ?= python3
TORCH_INDEX ?=

PREFIX := $(abspath $(VENV))
PY := $(PREFIX)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check
EXTRAS := bags,data,train,onnx,dev
RAY := $(shell sed -nE 's/^ *"fleet": \["(.*)"\],/\1/p' setup.py)
TORCH := $(shell sed -nE 's/^ *("torch(vision)?[<>=].*"),/\1/p' setup.py)

ifdef ROS_DISTRO
  ROS_PREFIXES := $(AMENT_PREFIX_PATH)
  VENV_FLAGS := --system-site-packages
  # The distribution's compiled modules work with the NumPy they were built for.
  PINS = "numpy==$(shell $(PYTHON) -c 'import numpy; print(numpy.__version__)')"
  export AMENT_PREFIX_PATH := $(PREFIX):$(AMENT_PREFIX_PATH)
  export LD_LIBRARY_PATH := $(PREFIX)/lib:$(LD_LIBRARY_PATH)
else
  ROS_PREFIXES := $(PREFIX)
  EXTRAS := ros,$(EXTRAS)
  # The Python of another virtual environment with the wheels sets these; they would hide ours.
  ifdef _ROS_WHEELS_BOOTSTRAP_COMPLETE
    unexport _ROS_WHEELS_BOOTSTRAP_COMPLETE
    unexport LD_LIBRARY_PATH
  endif
endif

# Stamps carry a checksum of their inputs, so that a second run has nothing to do.
checksum = $(firstword $(shell (pwd; echo $(2); cat $(1)) | cksum))
PACKAGES := $(PREFIX)/.packages-$(call checksum,setup.py setup.cfg,$(wildcard config/* launch/*))
MESSAGES := $(PREFIX)/.messages-$(call checksum,msg/CMakeLists.txt msg/package.xml msg/msg/*)

.PHONY: help setup demo soak bench gpu gpu-train docs docs-check test test-slow test-all coverage lint clean
.DEFAULT_GOAL := help

help: ## List the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

setup: $(PACKAGES) $(MESSAGES) ## Make the virtual environment with everything in it

DEMO_OPTIONS = $(if $(SOURCE),--source '$(SOURCE)') $(if $(RATE),--rate '$(RATE)') \
  $(if $(SECONDS),--seconds '$(SECONDS)') $(if $(SIZE),--size '$(SIZE)') \
  $(if $(DEVICE),--device '$(DEVICE)') $(if $(MODEL),--model '$(MODEL)') $(if $(VIEW),--view)

demo: setup ## Run a camera, the node and an observer; takes SOURCE= RATE= SECONDS= SIZE=WxH DEVICE= MODEL= VIEW=1
	$(PY) -m sgnet_ros.demo --out out/demo $(DEMO_OPTIONS)

SOAK_OPTIONS = $(if $(FRAMES),--frames '$(FRAMES)') $(if $(DEVICE),--device '$(DEVICE)')

soak: setup ## Run the node for many frames while everything goes wrong that can; takes FRAMES= DEVICE=
	$(PY) -m sgnet_ros.soak --out out/soak $(SOAK_OPTIONS)

bench: setup ## Measure how fast everything is beside its references; takes SUITE=
	$(PY) -m sgnet_core.benchmark $(if $(SUITE),--suite '$(SUITE)') --json out/benchmark.json

gpu: setup ## Check and measure all that runs on a GPU, in minutes; takes DEVICE=cpu MINUTES=
	$(PY) tools/gpu_report.py $(if $(DEVICE),--device '$(DEVICE)') \
	  $(if $(MINUTES),--minutes '$(MINUTES)')

TRAIN_OPTIONS = $(if $(CONFIG),--config '$(CONFIG)') $(if $(MINUTES),--minutes '$(MINUTES)') \
  $(if $(DEVICE),--device '$(DEVICE)')

gpu-train: setup ## Train for minutes on a borrowed GPU, leave the run in small files; takes CONFIG= MINUTES= DEVICE=
	$(PY) tools/gpu_train.py $(TRAIN_OPTIONS)

docs: setup ## Build the pages and the API reference as HTML in out/docs/
	@$(call pip_install,--no-build-isolation --editable '.[docs]')
	$(PY) tools/parameters_page.py
	$(PY) tools/inputs_page.py
	$(PY) tools/architecture.py
	@rm -rf docs/api  # pages of modules that are gone
	$(PY) -m sphinx -q --fail-on-warning --keep-going docs out/docs

docs-check: setup ## Run every command of README and docs on small inputs
	$(PY) tools/check_docs.py

# Workers share the cores, so each test keeps to one thread.
PARALLEL := -n logical --maxprocesses 8 --dist worksteal

test: lint ## Run lint, types and the fast tests
	OMP_NUM_THREADS=1 $(PY) -m pytest -m 'not slow' $(PARALLEL)

test-slow: setup ## Run the tests that are slow by nature: soak, fuzzing, benchmark, commands of the docs
	@( $(call pip_install,'$(RAY)') ) || echo "Without Ray the tests of the fleet are skipped."
	$(PY) -m pytest -m slow

test-all: test test-slow ## Run every test

coverage: setup ## Run every test and write which lines and branches ran to out/coverage/
	OMP_NUM_THREADS=1 $(PY) -m pytest --cov --cov-report=term --cov-report=html $(PARALLEL)

lint: setup ## Check style and types
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy

clean: ## Remove results and caches; the virtual environment stays
	rm -rf out build .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

# Install with pip's own progress on a terminal. Its warnings go to a log that a failure prints.
define pip_install
$(PIP) install $$([ -t 1 ] || echo --quiet) $1 2>'$(PREFIX)/pip.log' \
  || { cat '$(PREFIX)/pip.log' >&2; exit 1; }
endef

define check
@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not there: sudo apt install python3, or name one with PYTHON="; exit 1; }
@$(PYTHON) tools/check_setup.py
endef

$(PACKAGES):
	$(check)
	@$(PIP) --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV_FLAGS) '$(PREFIX)'
	@echo "[1/3] Install PyTorch (a download of a few GB on Linux, which takes minutes)"
	@$(call pip_install,$(if $(TORCH_INDEX),--index-url '$(TORCH_INDEX)') $(PINS) $(TORCH))
	@echo "[2/3] Install sgnet_ros with its libraries (about a minute)"
	@$(call pip_install,$(PINS) --editable '.[$(EXTRAS)]')
	@# An editable install leaves out what ROS looks for: executables, share folder, index entry.
	@cd '$(PREFIX)' && rm -rf lib/sgnet_ros share/sgnet_ros \
	  && mkdir -p lib/sgnet_ros share/sgnet_ros share/ament_index/resource_index/packages
	@ln -s '$(PREFIX)'/bin/sgnet* '$(PREFIX)/lib/sgnet_ros'
	@cp -rs $(addprefix '$(CURDIR)'/,package.xml config launch) '$(PREFIX)/share/sgnet_ros'
	@ln -sf '$(CURDIR)/resource/sgnet_ros' '$(PREFIX)/share/ament_index/resource_index/packages'
	@rm -f '$(PREFIX)'/.packages-* && touch $@

$(MESSAGES): $(PACKAGES)
	$(check)
	@echo "[3/3] Build the ROS messages (about a minute)"
	@rm -rf '$(PREFIX)/build'
	@{ export AMENT_PREFIX_PATH='$(ROS_PREFIXES)' && \
	  cmake -S msg -B '$(PREFIX)/build' -Wno-dev -DCMAKE_BUILD_TYPE=Release -DBUILD_TESTING=OFF \
	    -DPython3_EXECUTABLE='$(PY)' -DCMAKE_INSTALL_PREFIX='$(PREFIX)' \
	    -DCMAKE_PREFIX_PATH='$(subst :,;,$(ROS_PREFIXES))' && \
	  cmake --build '$(PREFIX)/build' --parallel 2 && \
	  cmake --install '$(PREFIX)/build'; } >'$(PREFIX)/sgnet_msgs.log' 2>&1 \
	  || { cat '$(PREFIX)/sgnet_msgs.log'; exit 1; }
	@rm -f '$(PREFIX)'/.messages-* && touch $@
