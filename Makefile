.PHONY: help install test lint types format ci full run

help: ## Show this help
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-10s %s\n", $$1, $$2}'

install: ## Install with everything that development needs
	pip install -e ".[dev]"

test: ## Run the tests (minutes on two cores)
	pytest

lint: ## Check format and style
	ruff format --check . && ruff check .

format: ## Format and mend what can be mended
	ruff format . && ruff check --fix .

types: ## Check types
	mypy

run: ## Run the whole method on generated images
	python train.py

ci: ## What CI does, in a fresh virtual environment
	.ci/run

full: ## What CI has no time for: slow tests, notebooks, the lowest supported versions
	.ci/full
