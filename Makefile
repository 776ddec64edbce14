# Each target makes the environment it needs, in .venv, and only what of it is missing or out of date.
# Overridable: PYTHON=python3.12 (which interpreter), VENV=.venv-3.12 (where the environment stands).

PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
# What is made carries the checkout's path in it: where the checkout was moved, nothing counts as made.
MADE := $(VENV)/.made/$(firstword $(shell pwd -P | cksum))
SETS = $(addprefix $(MADE)/,$(1))
CORE_SOURCES := pyproject.toml setup.py $(wildcard flowfeatures/*.pyx flowfeatures/*.pxd)
PIP := $(PY) -m pip install -qq --no-input --disable-pip-version-check --progress-bar off

# A service account may have no home and may be able to write nowhere but here.
writable = $(shell test -d "$(1)" && test -w "$(1)" && echo yes)
ifneq ($(call writable,$(HOME)),yes)
export HOME := $(CURDIR)/.cache/home
$(shell mkdir -p .cache/home)
endif
ifneq ($(call writable,$(or $(TMPDIR),/tmp)),yes)
export TMPDIR := $(CURDIR)/.cache/tmp
$(shell mkdir -p .cache/tmp)
endif

# Tests import onnxruntime by themselves; detection/onnx_engine.py says what this stops.
export ORT_DISABLE_TELEMETRY := 1

# Python of another version cannot use an environment that stands already, so asking for one by name is checked.
minor_of = $(shell $(1) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
ifneq ($(filter command environment,$(firstword $(origin PYTHON))),)
ifneq ($(wildcard $(MADE)/environment),)
ifneq ($(call minor_of,$(PYTHON)),$(call minor_of,$(PY)))
$(error $(VENV) holds Python $(call minor_of,$(PY)), PYTHON=$(PYTHON) is $(or $(call minor_of,$(PYTHON)),missing): \
add VENV=.venv-other to make a second environment, or remove $(VENV))
endif
endif
endif

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help install demo test test-all check bench fuzz soak train lab-data matrix deb vm

help:
	@echo "make demo       replay a labelled capture with the shipped bundle and show the incidents"
	@echo "make install    the environment with every extra but gpu"
	@echo "make test       the tests that need no root and no torch"
	@echo "make test-all   every test this machine can run"
	@echo "make check      ruff, mypy, import contracts"
	@echo "make bench      extraction beside nfstream, cost by live flows, crafted keys"
	@echo "make fuzz       octets of all kinds against flowfeatures, under sanitizers (clang; 10 minutes)"
	@echo "make soak       every fault in its long form, and the page of what was measured (root; half an hour)"
	@echo "make matrix     whether each JetPack can have what a gateway needs as wheels (asks the package index)"
	@echo "make deb        packages of gateway and aggregator, below build/, for amd64 and arm64 (a cross-compiler for the other)"
	@echo "make vm         gateway and aggregator, by script and by .deb, on a booted Debian (root, QEMU, an hour)"
	@echo "make lab-data   record training captures in the lab (root)"
	@echo "make train      teach the network, pack it as the shipped bundle, pin it"

install: $(call SETS,core plot tables bench dev train federate he)
	@echo "ready: $(VENV)/bin/penstock"

demo: $(call SETS,core)
	@$(VENV)/bin/penstock demo

test: $(call SETS,core dev)
	@$(PY) -m pytest -m "not needs_root and not needs_torch and not slow"

test-all: $(call SETS,core plot dev train)
	@$(PY) -m pytest

check: $(call SETS,core dev)
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy
	@$(VENV)/bin/lint-imports --no-logo

bench: $(call SETS,core bench)
	@$(PY) -m benchmarks.extract
	@$(PY) -m benchmarks.scaling
	@$(PY) -m benchmarks.collisions

FUZZ_SECONDS ?= 600

fuzz: $(call SETS,core dev)
	@$(PY) -m tests.fuzz --seconds $(FUZZ_SECONDS)

soak: $(call SETS,core dev)
	@PENSTOCK_FAULTS=long PENSTOCK_BROKER_KILLS=100 $(PY) -m pytest -s tests/faults tests/delivery/test_faults.py
	@$(PY) -m tests.faults

lab-data: $(call SETS,core)
	@$(VENV)/bin/penstock-lab series -o .cache/lab

matrix: $(call SETS,core dev)
	@$(PY) -m deploy.jetpack

deb: $(call SETS,core dev)
	@$(PY) -m deploy.deb

vm: $(call SETS,core dev)
	@$(PY) -m deploy.deb amd64
	@$(PY) -m tests.vm --page docs/results/install.md

CHECKPOINT := .cache/checkpoints/gru
NEXT_RELEASE = $(shell $(PY) -c 'import json; print(1 + json.load(open("models/default/manifest.json"))["release"])')

train: $(call SETS,core train)
	@$(VENV)/bin/penstock-train fit -o $(CHECKPOINT)
	@$(VENV)/bin/penstock-export pack $(CHECKPOINT) --release $(NEXT_RELEASE) --pin $(if $(KEY),--key "$(KEY)")

# --- the environment -------------------------------------------------------------------------------------------------

define PREFLIGHT
set -u
seek="$(PYTHON)"; missing=; packages=
named=$$(basename "$$seek"); case "$$named" in python3*) ;; *) named=python3 ;; esac
lacks() { missing="$$missing$${missing:+, }$$1"; packages="$$packages $$2"; }
version=$$("$$seek" -c 'import sys; print(*sys.version_info[:2])' 2>/dev/null)
if test -z "$$version"; then
    lacks "$$seek (3.10 or later)" "$$named $$named-venv $$named-dev"
elif ! "$$seek" -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
    echo "penstock needs Python 3.10 or later, $$seek is $${version% *}.$${version#* }:" \
        "name another one, as in make PYTHON=python3.11" >&2
    exit 1
else
    "$$seek" -c 'import ensurepip, venv' 2>/dev/null || lacks "Python's venv module" "$$named-venv"
    "$$seek" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' ||
        lacks "Python's headers" "$$named-dev"
fi
command -v gcc >/dev/null || command -v cc >/dev/null || lacks "a C compiler" gcc
test -z "$$missing" || { echo "missing: $$missing; on Debian or Ubuntu: sudo apt-get install$$packages" >&2; exit 1; }
endef
export PREFLIGHT

$(MADE)/environment:
	@sh -c "$$PREFLIGHT"
	@{ $(PY) -m pip --version && grep -F "$(abspath $(VENV))/bin/" $(VENV)/bin/pip; } >/dev/null 2>&1 || \
	$(PYTHON) -m venv --clear $(VENV)
	@mkdir -p $(MADE) && touch $@

# The editable install puts the compiled core beside its sources; base dependencies and the cpu extra come with it.
$(MADE)/core: $(CORE_SOURCES) | $(MADE)/environment
	@echo "making the environment and compiling the core in $(VENV) (about a minute)"
	@$(PIP) --editable '.[cpu]'
	@touch $@

# The other extras, read off the installed package: naming the package once more would compile it once more.
define EXTRA
import sys
from importlib.metadata import requires
extra = sys.argv[1]
for line in requires("penstock") or ():
    requirement, _, marker = line.partition(";")
    if marker.strip().replace("'", '"') == f'extra == "{extra}"':
        print(requirement.strip())
endef
export EXTRA

add = echo "adding $(notdir $@) to $(VENV)$(1)" && $(PY) -c "$$EXTRA" $(notdir $@) >$(MADE)/$(notdir $@).txt && \
    $(PIP) --requirement $(MADE)/$(notdir $@).txt

$(call SETS,plot tables bench dev): pyproject.toml | $(MADE)/core
	@$(call add)
	@touch $@

$(call SETS,train federate): pyproject.toml | $(MADE)/core
	@if $(PY) -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then $(call add, (minutes)); \
	else echo "left out: $(notdir $@) needs Python 3.11 or later"; fi
	@touch $@

# TenSEAL has wheels for some interpreters only, and building it needs more than we ask of a machine.
$(MADE)/he: pyproject.toml | $(MADE)/core
	@if ! $(PY) -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then \
	echo "left out: he needs Python 3.11 or later"; touch $@; \
	elif { $(call add) --only-binary tenseal 2>$(MADE)/he.log; }; then touch $@; \
	else echo "left out: he, TenSEAL could not be installed (see $(MADE)/he.log)"; fi
