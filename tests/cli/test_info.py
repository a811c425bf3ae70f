"""`geoi2i info` says of a raster what rasterio says of it, and where its valid pixels are."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from shapely.geometry import box, shape

PLACE = Affine(30, 0, 500_000, 0, -30, 4_500_000)


@pytest.fixture
def info(geoi2i):
    return partial(geoi2i, "info")


@pytest.fixture
def scene(tmp_path):
    pixels = np.random.default_rng(0).uniform(0, 1, (2, 60, 80)).astype("float32")
    pixels[:, :, :20] = -9
    with rasterio.open(tmp_path / "scene.tif", "w", driver="GTiff", count=2, height=60, width=80, dtype="float32",
                       crs="EPSG:32631", transform=PLACE, nodata=-9) as out:
        out.write(pixels)
        out.set_band_description(1, "red")
        out.set_band_unit(2, "DN")
    return tmp_path / "scene.tif"


def test_it_agrees_with_rasterio(info, scene):
    done = info(scene, "--json")
    found = json.loads(done.stdout)
    with rasterio.open(scene) as data:
        assert (found["height"], found["width"], found["dtype"]) == (*data.shape, data.dtypes[0])
        assert found["geotransform"] == list(data.transform.to_gdal()) and found["bounds"] == list(data.bounds)
        assert found["authority"] == data.crs.to_string() and found["body"] == "Earth" and found["unit"] == "metre"
        assert [band["name"] for band in found["bands"]] == list(data.descriptions)
        assert [band["unit"] for band in found["bands"]] == list(data.units)
        valid = (data.read_masks(1) != 0).mean()
    assert found["valid_share"] == pytest.approx(valid) == 0.75


def test_the_footprint_is_around_the_valid_pixels(info, scene):
    found = shape(json.loads(info(scene, "--json").stdout)["footprint"])
    (left, top), (right, bottom) = PLACE * (20, 0), PLACE * (80, 60)
    assert found.symmetric_difference(box(left, bottom, right, top)).area < 1


def test_a_person_reads_the_same(info, scene):
    done = info(scene)
    for words in ("60 x 80 pixels, 2 bands, float32", "WGS 84 / UTM zone 31N (EPSG:32631)", "30 x 30 metre",
                  "red, gray, nodata -9.0", "75 % of the pixels are valid, in 1 polygon", "jupiter-rgb"):
        assert words in done.stdout, done.stdout
    assert not done.stderr and done.returncode == 0


def test_without_any_valid_pixel_there_is_no_footprint(info, scene):
    with rasterio.open(scene, "r+") as data:
        data.write(np.full((2, 60, 80), -9, "float32"))
    found = json.loads(info(scene, "--json").stdout)
    assert found["footprint"] is None and found["valid_share"] == 0
    assert "0 % of the pixels are valid, in 0 polygons" in info(scene).stdout


def test_planets_say_which_angles_they_count_in(info):
    sample = next((Path(__file__).parents[2] / "resources/samples").glob("*.tif"))
    said = info(sample).stdout
    assert "planetocentric latitude, longitude east" in said and "body      Jupiter" in said and "suits" in said


@pytest.mark.parametrize("arguments, words", [(["gone.tif"], "gone.tif does not exist"), ([], "RASTER"),
                                              (["scene", "--bands", "3"], "no band 3")])
def test_what_cannot_be_looked_at_is_said_in_a_sentence(info, scene, arguments, words):
    done = info(*(scene if each == "scene" else each for each in arguments))
    assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr
