"""Laws of fitting a model to a raster: bands go by name, then colour, then order; what does not suit is said."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import rasterio
from geoi2i.core.errors import ModelError
from geoi2i.core.models.manifest import BandSpec
from geoi2i.core.models.matching import choose_bands, misfits
from geoi2i.core.models.package import find_model, suitable_model
from geoi2i.core.raster.source import RasterSource

PIXELS = np.zeros((3, 9, 9), "uint8")


def specs(names, colours=("undefined",) * 3):
    return tuple(BandSpec(name=n, colour=c, minimum=0, maximum=1) for n, c in zip(names, colours))


@pytest.fixture
def opened(make_raster):
    return lambda pixels=PIXELS, bands=None, **facts: RasterSource.open(make_raster(pixels, **facts), bands)


def test_bands_are_found_by_name_whatever_their_order(opened, make_package):
    manifest = make_package(bands_in=specs(("Red", "green", "nir"))).manifest
    four = np.zeros((4, 9, 9), "uint8")
    assert choose_bands(opened(four, names=("nir", "green", "red", "blue")), manifest).indexes == (3, 2, 1)


def test_a_band_may_be_named_after_its_colour(opened, make_package):
    manifest = make_package(bands_in=specs(("SR_B4", "SR_B3", "SR_B2"), ("red", "green", "blue"))).manifest
    assert choose_bands(opened(names=("blue", "Green", "RED")), manifest).indexes == (3, 2, 1)
    assert choose_bands(opened(names=("red", "SR_B3", "SR_B2")), manifest).indexes == (1, 2, 3)
    with pytest.raises(ModelError, match="has nir, green, red"):
        choose_bands(opened(names=("nir", "green", "red")), manifest)


def test_bands_without_names_are_found_by_colour(opened, make_package):
    colours = ("red", "green", "blue")
    manifest = make_package(bands_in=specs(("r", "g", "b"), colours)).manifest
    choice = choose_bands(opened(colours=colours[::-1]), manifest)
    assert choice.indexes == (3, 2, 1) and not choice.warnings


def test_bands_without_anything_are_taken_in_order_with_a_warning(opened, package):
    choice = choose_bands(opened(), package.manifest)
    assert choice.indexes == (1, 2, 3) and "--bands" in choice.warnings[0]


def test_bands_that_the_user_chose_are_taken_as_they_are(opened, package):
    raster = opened(bands=(2, 3, 1), names=("x", "y", "z"))
    choice = choose_bands(raster, package.manifest, chosen=True)
    assert choice.indexes == (2, 3, 1) and not choice.warnings


@pytest.mark.parametrize("count, names, sentence", [
    (2, (), "takes 3 bands .*has 2: .*another model"), (5, (), "has 5: .*--bands"),
    (3, ("x", "y", "z"), "takes the bands band 0, band 1, band 2, and .* has x, y, z: .*--bands 1,2,3")])
def test_bands_that_do_not_fit_are_refused_in_a_sentence(opened, package, count, names, sentence):
    with pytest.raises(ModelError, match=sentence):
        choose_bands(opened(np.zeros((count, 9, 9), "uint8"), names=names), package.manifest)


@pytest.mark.parametrize("facts, crs, pixel, sentence", [
    ({"body": "Jupiter"}, "EPSG:32631", 30, "for Jupiter, the raster shows Earth"),
    ({"pixel_size_m": 10.0}, "EPSG:32631", 30, "pixels of 10 m .* the raster has 30 m"),
    ({"pixel_size_m": 90.0}, "EPSG:32631", 30, "pixels of 90 m"),
    ({"pixel_size_m": 90.0, "pixel_size_factor": 3.1}, "EPSG:32631", 30, None),
    ({"pixel_size_m": 124_777.0, "body": "Jupiter"}, "IAU_2015:59902", 0.1, None), ({}, "EPSG:32631", 30, None)])
def test_what_does_not_suit_is_said(opened, make_package, facts, crs, pixel, sentence):
    raster = opened(crs=crs, transform=rasterio.Affine(pixel, 0, 0, 0, -pixel, 0))
    found = misfits(raster, make_package(**facts).manifest)
    assert len(found) == bool(sentence)
    if sentence:
        assert re.search(sentence, found[0])


def test_models_are_found_where_the_environment_says(opened, make_package, tmp_path, monkeypatch):
    make_package("store/mine", body="Mars"), make_package("store/other", bands=1)
    monkeypatch.setenv("GEOI2I_MODELS", str(tmp_path / "store"))
    monkeypatch.setattr("geoi2i.core.models.folders.BUNDLED", tmp_path / "none")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert find_model("mine").manifest.body == "Mars" and find_model(str(tmp_path / "store/mine"))
    with pytest.raises(ModelError, match="there are: mine, other"):
        find_model("his")
    table = r"No model suits .*:\n  mine   for Mars.*\n  other  takes 1 bands .*, the raster has 3\nName one with --m"
    with pytest.raises(ModelError, match=table):
        suitable_model(opened())
    assert suitable_model(opened(PIXELS[:1], name="one.tif")).folder.name == "other"
    make_package("store/third")
    assert suitable_model(opened()).folder.name == "third"
    make_package("store/fourth")
    table = r"Several models suit .*:\n  fourth  suits\n  mine    .*\n.*\n  third   suits\n"
    with pytest.raises(ModelError, match=table):
        suitable_model(opened())


@pytest.mark.slow
def test_a_folder_that_cannot_be_read_says_nothing_of_the_others(opened, make_package, tmp_path, monkeypatch):
    monkeypatch.setattr("geoi2i.core.models.folders.BUNDLED", tmp_path / "none")
    monkeypatch.setenv("GEOI2I_MODELS", str(tmp_path))
    make_package("good")
    broken = make_package("broken").folder
    (broken / "manifest.json").write_text("{")
    assert suitable_model(opened()).folder.name == "good"
    listing = [sys.executable, "-m", "geoi2i", "models", "list", "--json", "--for", opened().path]
    listed = [json.loads(line) for line in subprocess.run(listing, capture_output=True, text=True, check=True)
              .stdout.splitlines()]
    assert len({frozenset(model) for model in listed}) == 1, "programs find the same keys of each"
    misfits_of = {model["name"]: model["misfits"] for model in listed}
    assert misfits_of["good"] == [] and "cannot be read as JSON" in misfits_of["broken"][0]
    (tmp_path / "good").rename(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "manifest.json").unlink()
    with pytest.raises(ModelError, match=r"No model suits .*:\n  broken  .*cannot be read as JSON"):
        suitable_model(opened())
