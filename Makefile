# Everything starts from nothing: each target makes the environment it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= out/demo
FACES ?= 2000
STEPS ?= 3000

.PHONY: demo test lowest check docs slow faults fuzz hostile soak audit bench scale tutorials release constraints clean screenshots

$(VENV)/installed: pyproject.toml constraints.txt
	@echo "An environment is made in $(VENV): 2 GB, a minute or more, once."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

## Simulated faces -> store -> pairs -> gated VAE -> picture of the traversals (a few minutes on two cores).
demo: $(VENV)/installed
	$(BIN)/pipe simulate faces --out $(OUT)/faces --n $(FACES) --seed 1
	$(BIN)/pipe preprocess celeba --openface $(OUT)/faces/processed --identities $(OUT)/faces/identity.txt --size 32 --out $(OUT)/store
	$(BIN)/pipe cluster $(OUT)/store --pose 40 --expression 40 --rule independent:8
	$(BIN)/pipe pair $(OUT)/store --share identity=identity
	$(BIN)/python -c "import pandas; print(pandas.read_parquet('$(OUT)/store/pairs').head())"
	$(BIN)/pipe train $(OUT)/store --out $(OUT)/run --preset faces-partners --steps $(STEPS)
	$(BIN)/pipe traverse $(OUT)/run
	@echo 'Look at it in a browser: $(BIN)/pipe explore $(OUT)/run'

## The explorer's pictures in the documentation, of the demo's simulated faces; needs Debian's chromium.
screenshots: demo
	$(BIN)/python -m benchmarks.screenshots $(OUT)/run docs/figures

## The fast tests; GATED_VAE_DATA names the folder of real inputs, without it the tests that need them are skipped.
test: $(VENV)/installed
	$(BIN)/pytest -m "not slow"

## The fast tests with the lowest version of everything that pyproject.toml allows; what old packages warn each other of does not matter.
lowest: $(VENV)/lowest/installed
	$(VENV)/lowest/bin/pytest -m "not slow" -W default

$(VENV)/lowest/installed: pyproject.toml constraints-lowest.txt
	$(PYTHON) -m venv --clear $(VENV)/lowest
	$(VENV)/lowest/bin/pip install --quiet --disable-pip-version-check --constraint constraints-lowest.txt --editable '.[cpu,explore,hdf5]' hypothesis import-linter pillow pytest
	touch $@

slow: $(VENV)/installed
	$(BIN)/pytest -m slow

# Faults and fuzzing write and sync thousands of files: in memory where there is such a folder.
SCRATCH := $(shell test -w /dev/shm && echo /dev/shm || echo /tmp)
FUZZ_SECONDS ?= 150
HOSTILE_SECONDS ?= 240
FAULTS_EVERY ?= 1

## A fault at every write of every command (kill -9, full disk, I/O error ...) and at every read (too many open files, no memory,
## stale handle, time-out, I/O error), then the same command again. An hour; FAULTS_EVERY=10 takes every tenth call.
faults: $(VENV)/installed
	FAULTS_EVERY=$(FAULTS_EVERY) TMPDIR=$(SCRATCH) $(BIN)/pytest -m slow -s tests/robustness/test_faults.py

## Damaged CSVs, folders, stores, runs and archives, for FUZZ_SECONDS.
fuzz: $(VENV)/installed
	TMPDIR=$(SCRATCH) $(BIN)/python -m tests.robustness.fuzz --seconds $(FUZZ_SECONDS)

## Files and folders of a store, a run, OpenFace's output and results, replaced by pipes, devices, links and lies, for HOSTILE_SECONDS; 0 tries all.
hostile: $(VENV)/installed
	TMPDIR=$(SCRATCH) OMP_NUM_THREADS=1 $(BIN)/python -m tests.robustness.hostile --seconds $(HOSTILE_SECONDS)

## Three ranks read from a service for some minutes, clients and server killed and started again: every pair exactly once.
soak: $(VENV)/installed
	SOAK_SAMPLES=150000 $(BIN)/pytest -m slow -s -k soak tests/pairing/service/test_service.py

## Known weaknesses of the pinned versions, as the package index's advisories list them. A mirror has no advisories: then each package
## is listed as not audited, and only what is known to be weak fails.
audit:
	$(PYTHON) -m venv $(VENV)/audit
	$(VENV)/audit/bin/pip install --quiet --disable-pip-version-check pip-audit
	$(VENV)/audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip

## Lint, format, types, which package may import which, and the rules of the documentation's sources.
check: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.docs.check

## The documentation as pages to be read from disk (site/index.html): no warning, no link that leads nowhere, nothing loaded from elsewhere.
docs: $(VENV)/installed
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	$(BIN)/python -m tests.docs.site site

constraints: $(VENV)/installed
	$(BIN)/pip freeze --exclude-editable | sed 's/+cpu//' | sed '1i # Versions that the commands of README.md and CI install; `make constraints` writes this file anew.' > constraints.txt

## The tutorials of examples/, executed (some minutes) and rendered to docs/tutorials/.
tutorials: $(VENV)/installed
	$(BIN)/python examples/render.py

## Wheel and source archive in dist/, checked: their text and contents, and in an empty environment `pipe` and the Python of README.md.
release: $(VENV)/installed
	rm -rf dist
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,release]'
	$(BIN)/python -m build --outdir dist
	$(BIN)/twine check --strict dist/*
	$(PYTHON) -m venv --clear $(VENV)/release
	$(VENV)/release/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt "$$(echo dist/*.whl)[cpu]"
	env -u PYTHONPATH $(VENV)/release/bin/python tests/release.py dist

clean:
	rm -rf $(VENV) build dist site *.egg-info .mypy_cache .ruff_cache .pytest_cache

## Every stage beside its floor and its peers, as ratios, in a quarter of an hour at most; wants a quiet machine. Figures, table and picture
## go to docs/. Bars that are missed are told, not fatal. PYTHAE_PYTHON names an interpreter that has pythae (docs/benchmarks.md).
bench: $(VENV)/installed
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,bench]'
	$(BIN)/python -m benchmarks.record --seconds 880

## 10,000 to 10,000,000 made-up faces through every stage (eight minutes on two idle cores, 3 GB of disk); stopped, it goes on.
scale: $(VENV)/installed
	nice $(BIN)/python -m benchmarks.scale --out out/scale
