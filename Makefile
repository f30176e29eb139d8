# The doors of the house. Plain pip and a virtual environment in .venv; nothing else on the machine is touched.
#   make demo                       drawn scenes -> tokenizer -> transformer -> scored report, in runs/demo
#   make demo DATA=<folder> [RUN=<name>]   the same on a folder of captioned pictures
#   make test | check | bench       tests | format, lint, types, layers, documentation | speed
#   make docs                       the documentation as a site, in .local/site
#   make up | down | status         the local stack: Prefect server, worker with every flow deployed
#   make up DATABASE=postgresql+asyncpg://user:password@host/prefect WORKERS=3   for several people

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo test check docs bench up down status

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# A broken link, a missing page and a reference to a name that does not exist are errors. Needs no network.
SITE := zensical build --strict --config-file mkdocs.yml
IN_ENV := set -eu; source infra/env.sh; export PATH="$(CURDIR)/$(BIN):$$PATH";

help:
	@sed -n '2,8s/^# *//p' Makefile

setup: $(STAMP)

# Repeated only when the dependencies change. Every file is checked by its SHA-256 (requirements*.lock). TORCH_INDEX_URL
# adds an index that offers another build of torch, for example PyTorch's own index of CPU wheels, and is trusted with it.
$(STAMP): pyproject.toml requirements.lock requirements-dev.lock requirements-torch.lock
	@set -eu; python="$$(PYTHON="$(PYTHON)" bash infra/find_python.sh)"; \
	if [ ! -x $(BIN)/python ]; then \
	  echo "creating $(VENV) with $$python"; \
	  "$$python" -m venv $(VENV) || { echo "error: '$$python -m venv' failed; on Debian and Ubuntu install python3-venv" >&2; exit 1; }; \
	fi
	@echo "installing packages into $(VENV): about 2 GB, a few minutes"
	@$(BIN)/python infra/packages/installing.py --dev $(if $(TORCH_INDEX_URL),--torch-index "$(TORCH_INDEX_URL)")
	@$(BIN)/python -c 'import torch, prefect, ray; print("torch", torch.__version__, "| prefect", prefect.__version__, "| ray", ray.__version__)'
	@touch $(STAMP)

demo: $(STAMP)
	@$(IN_ENV) exec python -m flows.demo $(if $(DATA),--data "$(DATA)") $(if $(RUN),--run "$(RUN)") $(DEMO_OPTIONS)

test: $(STAMP)
	@$(IN_ENV) exec python -m tests.lanes $(PYTEST_OPTIONS)

check: $(STAMP)
	@$(IN_ENV) ruff format --no-cache --check .; ruff check --no-cache .; mypy; lint-imports; $(SITE)

docs: $(STAMP)
	@$(IN_ENV) $(SITE)

bench: $(STAMP)
	@$(IN_ENV) exec python -m benchmarks.run $(BENCH_OPTIONS)

# Through the environment: a password does not belong into a list of processes.
ifdef DATABASE
export INFINITY_DATABASE := $(DATABASE)
endif

up: $(STAMP)
	@$(IN_ENV) exec python -m infra.stack up $(if $(WORKERS),--workers $(WORKERS)) $(UP_OPTIONS)

down status: $(STAMP)
	@$(IN_ENV) exec python -m infra.stack $@
