# Two commands are all a newcomer needs: `make demo` and `make test`. Both make their own virtual environment.
PYTHON ?= python3
BIN := .venv/bin
export PYTHONWARNINGS := ignore::FutureWarning
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: demo test test-slow export-check clean-check readme-check readme notebooks imagenette bench build docs

# What a user installs; Python compiles a module when it is first imported, which is quicker than compiling all of them now
.venv/base: settings.ini setup.py pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info>=(3,10) else "fastresize needs Python 3.10 or later, this is " + sys.version)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --no-compile --editable .
	touch $@

# The same with all that tests and notebooks need
.venv/done: .venv/base
	$(BIN)/python -m pip install --quiet --no-compile --editable '.[dev]'
	touch $@

# On Linux, what a step has freed is kept for the next one, not given back to the system and fetched anew: steps on a CPU are 1.2 times as fast (benchmarks/memory.py)
demo test test-slow: export MALLOC_MMAP_THRESHOLD_ := 33554432
demo test test-slow: export MALLOC_TRIM_THRESHOLD_ := 4294967296

demo: .venv/base  ## Train on pictures that it draws itself, at full size and progressively; table, demo/results.json and demo/speed.png
	fastresize-bench --data demo --size 128 --epochs 4 --bs 16 --increase-by 16 --workers 0 --modes full,batch --out demo

# One test process more than cores: some wait for processes of their own
pytest = python -m pytest -n $$(python -c 'import os; print(os.cpu_count()+1)') --dist worksteal

test: .venv/done export-check clean-check readme-check  ## The notebooks, and all tests but the slow ones
	OMP_NUM_THREADS=1 nbdev-test
	$(pytest) -m 'not slow'

test-slow: .venv/done  ## The tests that take more than half of the time of all
	$(pytest) -m slow

export-check: .venv/done  ## The modules are what the notebooks say
	rm -rf build/was && mkdir -p build/was && cp -r fastresize build/was
	nbdev-export
	diff -r -x __pycache__ build/was/fastresize fastresize

clean-check: .venv/done  ## The notebooks hold no metadata that changes by itself
	rm -rf build/was && mkdir -p build/was && cp -r nbs build/was
	nbdev-clean
	diff -r build/was/nbs nbs

build/readme/README.md: nbs/index.ipynb docs/pages.py settings.ini .venv/done
	rm -rf build/readme && mkdir -p build/readme
	jupyter nbconvert --log-level ERROR --to markdown --output-dir build/readme --output README --NbConvertApp.output_files_dir=nbs/images $<
	sed -E 's#\]\(([a-z0-9_./]+\.(ipynb|md|png))\)#](nbs/\1)#g; s#\]\(nbs/\.\./#](#g; s#\]\(\.\./#](#g' $@ | awk '/^```/ {open=!open; if (open && $$0=="```") $$0="```python"} 1' | $(BIN)/python docs/pages.py > $@.new && mv $@.new $@

readme-check: build/readme/README.md  ## README.md is what nbs/index.ipynb says
	diff README.md $< || { echo 'README.md is stale: run `make readme`'; exit 1; }

readme: build/readme/README.md  ## Make README.md from nbs/index.ipynb
	cp -r build/readme/. .

run = PYTHONWARNINGS=ignore jupyter nbconvert --log-level ERROR --to notebook --execute --inplace

notebooks: .venv/done  ## Run every notebook but the Imagenette benchmark, and keep its outputs
	$(run) $(filter-out nbs/tutorial.imagenette.ipynb,$(wildcard nbs/*.ipynb))
	nbdev-clean

ifdef FASTRESIZE_DATA
imagenette: export FASTRESIZE_DATA := $(if $(filter /%,$(FASTRESIZE_DATA)),,$(CURDIR)/)$(FASTRESIZE_DATA)
endif
imagenette: .venv/done  ## Run the Imagenette benchmark, on the pictures in FASTRESIZE_DATA or on Imagenette, and keep its outputs
	$(run) nbs/tutorial.imagenette.ipynb
	nbdev-clean

bench: .venv/done  ## An experiment of benchmarks/experiments.py: make bench ARGS="flowers-128 --data path/to/pictures"
	python benchmarks/run.py $(or $(ARGS),flowers-128 --data demo --seeds 1 --arms 'full;batch;epoch' --out build/bench)

docs: .venv/done  ## The web site, in build/site
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	python docs/make.py

build: .venv/done  ## Wheel and sdist
	python -m build
