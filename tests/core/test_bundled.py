"""The bundled model: intact, small, found for the sample scene, and the same in every tiling."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from geoi2i.core.fit import BUNDLED, find_model, suitable_model
from geoi2i.core.raster import RasterSource
from geoi2i.core.run import Options, translate_raster

SCENE = Path(__file__).parents[2] / "resources" / "samples" / "jupiter-cassini.tif"


@pytest.fixture(scope="module")
def crop(tmp_path_factory):
    """A part of the sample scene as float32, so that the output is not rounded to whole numbers."""
    path = tmp_path_factory.mktemp("bundled") / "crop.tif"
    with rasterio.open(SCENE) as data:
        window = rasterio.windows.Window(420, 350, 210, 170)
        profile = {**data.profile, "dtype": "float32", "width": 210, "height": 170, "photometric": None,
                   "transform": data.window_transform(window), "predictor": 3}
        with rasterio.open(path, "w", **{k: v for k, v in profile.items() if v is not None}) as out:
            out.write(data.read(window=window).astype("float32"))
    return str(path)


def test_it_is_small_and_intact_and_says_what_it_is():
    package = find_model("jupiter-rgb")
    assert sum(f.stat().st_size for f in (BUNDLED / "jupiter-rgb").iterdir()) <= 8_000_000
    assert package.verify() <= 1e-4
    assert "PJ" not in package.manifest.training_data and "Validation" in package.manifest.training_data
    assert set(package.manifest.recipe["data"]["source"]["exclude"]) == {"PJ13", "PJ22"}


def test_it_is_the_one_that_suits_the_sample_scene():
    assert suitable_model(RasterSource.open(SCENE)).manifest.name == "jupiter-rgb"


def test_its_five_stochastic_steps_ignore_the_tiling(crop, tmp_path):
    package = find_model("jupiter-rgb")
    assert len(package.manifest.table.steps) == 5 and package.manifest.table.stochastic
    results = {}
    for tile, overlap in ((1024, 0), (128, 0), (64, 16)):
        out = translate_raster(crop, tmp_path / f"{tile}.tif", package, Options(tile=tile, overlap=overlap, seed=3))
        with rasterio.open(out) as data:
            results[tile] = data.read()
    span = np.ptp(results[1024])
    for tile in (128, 64):
        assert np.abs(results[tile] - results[1024]).max() <= 1e-4 * span
    other = translate_raster(crop, tmp_path / "seed.tif", package, Options(tile=128, seed=4))
    with rasterio.open(other) as data:
        assert np.abs(data.read() - results[128]).max() > 1e-3 * span
