# One place for every command; `make help` lists them.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := shared model_registry orchestrator model_trainer gesture_trainer sound_trainer speech_context_trainer visual_environment_trainer
export MODEL_TRAINER_DATA ?= $(abspath ../shared/data)

.PHONY: help setup demo javascript test test-fast lint check soak bench bench-accuracy bench-unknown bench-service bench-peers bench-growth bench-batches bench-sessions bench-recipes mutants lock platforms serve schemas site images \
	images-test sbom clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

setup: $(VENV)/.installed .pretrained/.complete ## create .venv, install locked packages, build pretrained networks
	@$(BIN)/python -m compileall -q $(PACKAGES)  # otherwise each start compiles the sources again where Python may not write bytecode

$(VENV)/.installed: requirements/lock.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; name it with: make setup PYTHON=python3.11" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "the venv module is missing; install it with: apt-get install python3-venv" >&2; exit 2; }
	@echo "installing locked packages into $(VENV) (about a minute)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --require-hashes -r requirements/lock.txt
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --config-settings editable_mode=compat -e .
	@rm -rf *.egg-info  # stale ones would hide the installed entry points
	@$(BIN)/python -c 'import sound_trainer, librosa; librosa.load, librosa.feature.rms'  # compiled by numba, once
	@touch $@

.pretrained/.complete: build_tools/pretrained.lock $(wildcard build_tools/*.py build_tools/*/*.py */preprocessing/pretrained.py) | $(VENV)/.installed
	@$(BIN)/python -m build_tools --out .pretrained
	@touch $@

demo: setup ## train models for three fictional people and print what was published
	@demo/run.sh

javascript: tests/javascript/node_modules/.package-lock.json ## install the packages of the JavaScript tests, where there is npm

tests/javascript/node_modules/.package-lock.json: tests/javascript/package-lock.json
	@npm ci --prefix tests/javascript --ignore-scripts --no-audit --no-fund --loglevel error || \
	    echo "npm is missing or could not install the packages: the tests of JavaScript are skipped" >&2

test: setup javascript ## run the whole test suite
	@$(BIN)/python -m pytest -n 2 --dist loadgroup

test-fast: setup ## run the tests that take a quarter of a second at most, without Docker and real data
	@HYPOTHESIS_PROFILE=fast $(BIN)/python -m pytest -n 2 --dist loadgroup -q -m "not slow and not docker and not realdata"

lint: setup ## ruff, mypy (strict), pyright (standard)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/pyright

check: lint test ## everything that CI runs

SOAK := test_kills test_integrity test_promises test_power_cuts
soak: setup ## kill, fill and flip everything in the registry, erasures and the service (about 10 minutes)
	@MODEL_TRAINER_SOAK=1 $(BIN)/python -m pytest -n 2 $(SOAK:%=tests/model_registry/storage/%.py) \
	    tests/model_registry/service tests/model_registry/test_mlflow_export.py tests/shared/commands/test_erase.py

bench: setup ## measure speed (under 5 minutes); FULL=1 takes more runs, jobs and versions
	@$(BIN)/python -m benchmarks.speed --runs $(if $(FULL),5,1)
	@$(BIN)/python -m benchmarks.batches $(if $(FULL),,--users 5 --jobs 1000)
	@$(BIN)/python -m benchmarks.registry_speed $(if $(FULL),,--users 1000)
	@$(BIN)/python -m benchmarks.service_speed $(if $(FULL),--rounds 9,--rounds 3)

bench-service: setup ## measure requests a second of the service and of plain Starlette
	@$(BIN)/python -m benchmarks.service_speed

PEERS := .cache/peers
bench-peers: setup $(PEERS)/.installed ## compare ours with what others would use, in an environment of its own
	@$(BIN)/python -m benchmarks.peers --python $(PEERS)/bin/python

$(PEERS)/.installed: benchmarks/requirements-peers.txt
	@$(PYTHON) -m venv $(PEERS)
	@$(PEERS)/bin/python -m pip install -qq --disable-pip-version-check -r $<
	@touch $@

bench-growth: setup ## measure how time and memory grow with samples, labels, width, length, sessions, versions and users
	@$(BIN)/python -m benchmarks.growth

bench-batches: setup ## measure warm workers, orchestration, memory and Dask workers
	@$(BIN)/python -m benchmarks.batches

bench-sessions: setup ## measure accuracy across sessions on real data, through the trainers
	@$(BIN)/python -m benchmarks.sessions

bench-recipes: setup ## measure candidates on many data sets (docs/data-sets.md); QUICK=1 takes minutes
	@$(BIN)/python -m benchmarks.recipes $(if $(QUICK),--quick)

bench-unknown: setup ## measure what models accept that they do not know, on real data; QUICK=1 takes fewer draws
	@$(BIN)/python -m benchmarks.unknown $(if $(QUICK),--quick)

bench-accuracy: setup ## measure accuracy on real data, by session and on random splits
	@$(BIN)/python -m benchmarks.accuracy

mutants: setup ## see which changes to the most dangerous modules no test notices; ONLY=durable takes one module
	@nice -n 19 $(BIN)/python -m benchmarks.mutants $(if $(ONLY),--only $(ONLY)) $(if $(MINUTES),--minutes $(MINUTES))

serve: setup ## serve the registry over HTTP on port 8077 (MODEL_TRAINER_REGISTRY names its folder)
	@$(BIN)/model-trainer registry serve

schemas: setup ## write docs/schemas again
	@$(BIN)/python docs/schemas/write.py

site: setup ## write the documentation as a site to .site; fails on a broken link
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

COMPILE := uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate
SHARED := shared/requirements.txt model_registry/requirements.txt requirements/images.txt
lock: ## pin every package again, with hashes (needs uv)
	$(COMPILE) --all-extras pyproject.toml -o requirements/lock.txt
	$(COMPILE) -c requirements/lock.txt $(SHARED) -o requirements/shared.lock
	$(COMPILE) -c requirements/lock.txt $(SHARED) gesture_trainer/requirements.txt -o requirements/gesture.lock
	$(COMPILE) -c requirements/lock.txt $(SHARED) sound_trainer/requirements.txt -o requirements/sound.lock
	$(COMPILE) -c requirements/lock.txt $(SHARED) speech_context_trainer/requirements.txt -o requirements/speech.lock
	$(COMPILE) -c requirements/lock.txt $(SHARED) visual_environment_trainer/requirements.txt -o requirements/visual.lock
	$(COMPILE) -c requirements/lock.txt model_registry/requirements.txt model_registry/requirements-serve.txt orchestrator/requirements*.txt requirements/images.txt -o requirements/orchestrator.lock
	$(COMPILE) -c requirements/lock.txt requirements/build.txt -o requirements/build.lock
	uv pip compile -q --no-deps --python-version 3.11 --generate-hashes --no-header --no-annotate requirements/pretrained.txt -o build_tools/pretrained.lock

REQUIREMENTS := $(sort $(wildcard */requirements.txt model_registry/requirements-*.txt orchestrator/requirements-*.txt))
platforms: ## see whether every package has a wheel for each Python and platform of docs/installing.md (needs uv)
	@empty=$$(mktemp -d); trap 'rm -r "$$empty"' EXIT; \
	for python in 3.11 3.12 3.13 3.14; do \
	    for platform in x86_64-manylinux_2_28 aarch64-manylinux_2_28 aarch64-apple-darwin; do \
	        echo "Python $$python, $$platform"; \
	        where=(--only-binary :all: --python-version $$python --python-platform $$platform); \
	        MACOSX_DEPLOYMENT_TARGET=14.0 uv pip compile -q --no-header "$${where[@]}" $(REQUIREMENTS) -o /dev/null; \
	        if [[ $$platform == *-manylinux* ]]; then \
	            uv pip install -q --dry-run --target "$$empty" --no-deps --require-hashes "$${where[@]}" \
	                --no-binary yattag -r requirements/lock.txt; \
	        fi; \
	    done; \
	done

images: ## build the images of the trainers and of the registry (needs Docker with BuildKit)
	@images/build.sh

images-test: setup images ## run every image on real input, and compare its models with those made here
	@MODEL_TRAINER_DOCKER=required $(BIN)/python -m pytest tests/docker

sbom: ## write a software bill of materials of every image to .sbom
	@mkdir -p .sbom
	@for image in gesture-trainer sound-trainer speech-trainer visual-trainer model-trainer; do \
	    docker run --rm -i --network none --entrypoint python $$image - <images/sbom.py >.sbom/$$image.cdx.json; done

clean: ## remove what set-up and the demo created
	rm -rf $(VENV) $(PEERS) .pretrained .demo .site .sbom .mutants tests/javascript/node_modules
