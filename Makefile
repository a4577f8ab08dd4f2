.PHONY: demo test lint type serve-env-test ci soak

demo:            ## the whole pipeline on 1 797 handwritten digits
	uv run stillroom demo

test:            ## the default tests
	uv run pytest

lint:            ## style and format
	uv run --group lint ruff check .
	uv run --group lint ruff format --check .

type:            ## mypy, strict
	uv run --group lint mypy

serve-env-test:  ## a server installation without torch serves an artifact
	uv run pytest -m ci tests/test_server_environment.py

ci:              ## everything that must be green
	bash .ci/run

soak:            ## full counts of the kill, fuzz and process tests
	STILLROOM_SOAK=1 uv run pytest -n 0 -m "ci or slow"
