# make demo | shell | test | nightly | calibration | check | bench | docs | mutants: each sets up .venv by itself; a
# second time it is quick. make shell opens a shell in which python and taxoprobe are those of .venv.
PYTHON ?= python3
PRESET ?= demo
BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: demo shell test nightly calibration check bench docs mutants clean

demo: $(INSTALLED)
	@echo "The demo takes 0.55 GB in the cache (TAXOPROBE_CACHE) and 1.4 GB in artifacts/; PRESET=full takes more."
	$(BIN)/python -m analyses.demo --preset $(PRESET)
	@echo "Next: make shell (or activate .venv), then: taxoprobe --help"

shell: $(INSTALLED)
	@echo "python and taxoprobe are those of .venv; exit leaves this shell"
	@PATH="$(CURDIR)/$(BIN):$$PATH" $${SHELL:-/bin/sh}

test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --durations 15

nightly: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m nightly tests --ignore tests/calibration

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/python -m pytest tests/test_architecture.py

calibration: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m nightly tests/calibration -n 2 --dist worksteal; \
	status=$$?; $(BIN)/python -m tests.calibration && exit $$status

bench: $(INSTALLED)
	$(BIN)/python -m benchmarks

docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "Open build/site/index.html; it needs no server and no network"

mutants: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.mutants

$(INSTALLED): pyproject.toml constraints.txt embedded.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one with make PYTHON=…")'
	@echo "Installs into .venv: 2.8 GB (more where torch comes with CUDA)"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check -c constraints.txt -e '.[interp,dev]'
	$(BIN)/pip install --disable-pip-version-check --no-deps -r embedded.txt
	touch $@

clean:
	rm -rf .venv build *.egg-info
