"""The bundled models: intact, small, found for their scenes, and the same in every tiling."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from geoi2i.core.models.folders import BUNDLED
from geoi2i.core.models.package import find_model, suitable_model
from geoi2i.core.raster.source import RasterSource
from geoi2i.core.run import Options, translate_raster

SCENE = Path(__file__).parents[3] / "resources" / "samples" / "jupiter-cassini.tif"


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


def test_the_model_for_the_earth_is_small_and_intact_and_frank():
    package = find_model("landsat8-sentinel2")
    assert sum(f.stat().st_size for f in (BUNDLED / "landsat8-sentinel2").iterdir()) <= 8_000_000
    assert package.verify() <= 1e-4
    assert "One scene of one season" in package.manifest.training_data
    assert "Copernicus" in package.manifest.licence and "public domain" in package.manifest.licence


def test_the_model_for_the_earth_is_found_by_names_and_by_colours(make_raster):
    """Of a Landsat scene with all its bands; and of a picture of 30 m. It calls its bands as Sentinel-2 does."""
    pixels = np.random.default_rng(0).integers(10, 120, (7, 64, 64), np.uint8)
    landsat = make_raster(pixels, name="l.tif", names=tuple(f"SR_B{k + 1}" for k in range(7)))
    picture = make_raster(pixels[:3], name="p.tif", colours=("red", "green", "blue"))
    for path in (landsat, picture):
        assert suitable_model(RasterSource.open(path)).manifest.name == "landsat8-sentinel2"
    package = find_model("landsat8-sentinel2")
    with rasterio.open(translate_raster(landsat, Path(landsat).with_name("o.tif"), package)) as made:
        assert made.descriptions == ("B4", "B3", "B2") and made.dtypes == ("uint8",) * 3


def test_it_is_the_one_that_suits_the_sample_scene():
    assert suitable_model(RasterSource.open(SCENE)).manifest.name == "jupiter-rgb"


@pytest.mark.slow
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
