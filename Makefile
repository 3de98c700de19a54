# Two commands do everything on a fresh machine: `make gameday` and `make test`.
PYTHON := .venv/bin/python
STAMP := .venv/.ready
unexport PYTHONDONTWRITEBYTECODE # each of the many processes of a test would compile every module

.PHONY: gameday test check format setup lock docs nightly matrix classifier safety mutation bench picture clean

gameday: $(STAMP) ## set up, run the default suite on the embedded stage, print the grade
	.venv/bin/chaosgrade gameday

test: $(STAMP) ## set up and run the tests
	$(PYTHON) -m pytest -q -n auto --dist loadfile --no-loadscope-reorder

nightly: $(STAMP) ## the tests that take minutes each
	$(PYTHON) -m pytest -q -m nightly

check: $(STAMP) ## format, lint, types, tests: as CI runs them
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy
	$(PYTHON) -m pyright
	$(PYTHON) -m pytest -q -n auto --dist loadfile --no-loadscope-reorder

format: $(STAMP)
	$(PYTHON) -m ruff format .
	$(PYTHON) -m ruff check --fix .

matrix: $(STAMP) ## sound template and each flaw, five runs each: prints the table
	$(PYTHON) scripts/flaw_matrix.py --runs 5

safety: $(STAMP) ## every attack on the undo, tens of minutes: prints cases, left behind, false "completed"
	SAFETY_WHOLE=1 CHAOSGRADE_SAFETY_EXAMPLES=400 $(PYTHON) -m pytest -q -n auto tests/safety

mutation: $(STAMP) ## mutants of chaosgrade/changes; MUTANTS='chaosgrade.changes.guard.*' for some
	sh scripts/mutation $(MUTANTS)

bench: $(STAMP) ## every benchmark: prints figures beside their peers
	$(PYTHON) benchmarks/traffic.py
	$(PYTHON) benchmarks/stage.py
	$(PYTHON) benchmarks/overhead.py
	$(PYTHON) benchmarks/journal.py
	$(PYTHON) benchmarks/targets.py
	$(PYTHON) benchmarks/zone_fault.py
	$(PYTHON) benchmarks/failover.py
	$(PYTHON) benchmarks/backoff.py
	$(PYTHON) benchmarks/data_services.py
	$(PYTHON) benchmarks/shuffle_sharding.py
	$(PYTHON) benchmarks/retry_log.py

classifier: $(STAMP) ## synthetic clients of every backoff family: prints the confusion matrix
	$(PYTHON) -m scripts.backoff_confusion

picture: $(STAMP) ## the terminal picture of the README, from a real run
	$(PYTHON) scripts/terminal_picture.py

docs: $(STAMP) ## the tables of docs/stage-operations.md, from the code
	$(PYTHON) scripts/stage_operations.py

setup: $(STAMP)

$(STAMP): pyproject.toml requirements.lock scripts/setup
	sh scripts/setup
	touch $@

lock: ## resolve requirements.lock anew (universal: every platform, Python 3.12 and later)
	uv pip compile --quiet --universal --python-version 3.12 --generate-hashes --all-extras --group dev \
	  --custom-compile-command "make lock" --output-file requirements.lock pyproject.toml

clean:
	rm -rf .venv .venv-mutation mutants .uv build *.egg-info .mypy_cache .ruff_cache .pytest_cache
