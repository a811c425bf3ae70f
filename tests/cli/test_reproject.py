"""`geoi2i reproject` as a user meets it: grids, batches, sentences, and nothing left behind."""

from functools import partial

import numpy as np
import pytest
import rasterio
from affine import Affine


@pytest.fixture
def reproject(geoi2i):
    return partial(geoi2i, "reproject")


def scene(path, crs="EPSG:32633", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(1).integers(1, 250, (2, 40, 50)).astype(options.pop("dtype", "uint8"))
    with rasterio.open(path, "w", driver="GTiff", height=40, width=50, count=2, dtype=pixels.dtype, crs=crs,
                       transform=Affine(30, 0, 500000, 0, -30, 4000000), **options) as out:
        out.write(pixels)
        out.set_band_description(1, "red edge")
    return path


@pytest.fixture
def tif(tmp_path):
    return scene(tmp_path / "scene.tif")


def test_a_scene_goes_to_another_system_beside_itself(reproject, tif):
    done = reproject("-i", tif, "--crs", "EPSG:3857", "--resampling", "cubic")
    assert done.returncode == 0 and "Wrote" in done.stdout, done.stderr
    with rasterio.open(tif.parent / "scene_reprojected.tif") as data:
        assert data.crs.to_epsg() == 3857 and data.dtypes == ("uint8", "uint8")
        assert data.descriptions[0] == "red edge" and data.dataset_mask().any()
        assert data.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"


def test_like_takes_the_pixels_of_another_raster(reproject, tif, tmp_path):
    other = tmp_path / "like.tif"
    with rasterio.open(other, "w", driver="GTiff", height=33, width=44, count=1, dtype="uint8", crs="EPSG:3857",
                       transform=Affine(37, 0, 1_669_792, 0, -37, 4_321_000)) as out:
        grid = out.transform
    assert reproject("-i", tif, "--like", other, "-o", tmp_path / "o.tif").returncode == 0
    with rasterio.open(tmp_path / "o.tif") as data:
        assert data.transform == grid and data.shape == (33, 44) and data.count == 2


def test_resolution_and_bounds_in_either_system(reproject, tif, tmp_path):
    assert reproject("-i", tif, "--crs", "EPSG:32633", "--resolution", "60,90", "-o",
                     tmp_path / "a.tif").returncode == 0
    with rasterio.open(tmp_path / "a.tif") as data:
        assert data.res == (60, 90) and data.shape == (13, 25)
    assert reproject("-i", tif, "--crs", "EPSG:32633", "--bounds", "15.001,36.135,15.005,36.14", "--bounds-crs",
                     "EPSG:4326", "-o", tmp_path / "b.tif").returncode == 0
    with rasterio.open(tmp_path / "b.tif") as data:
        assert 300 < data.bounds.right - data.bounds.left < 450 and 450 < data.bounds.top - data.bounds.bottom < 650


def test_a_dry_run_writes_nothing(reproject, tif):
    shown = reproject("-i", tif, "--crs", "EPSG:4326", "--dry-run")
    assert shown.returncode == 0 and "WGS 84" in shown.stdout and "40 x 50" in shown.stdout
    assert [p.name for p in tif.parent.iterdir()] == ["scene.tif"]


def test_a_batch_does_what_it_can_and_says_what_it_could_not(reproject, tmp_path):
    scene(tmp_path / "in" / "a.tif")
    scene(tmp_path / "in" / "deep" / "b.tif")
    (tmp_path / "in" / "broken.tif").write_text("no raster")
    done = reproject("-i", tmp_path / "in", "-o", tmp_path / "out", "--crs", "EPSG:3857")
    assert done.returncode == 3
    assert sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.tif")) == [
        "a.tif", "deep/b.tif"]
    table = [line for line in done.stderr.splitlines() if "broken.tif" in line and "failed  " in line]
    assert len(table) == 1 and "not a raster" in table[0] and "1 of 3 rasters failed" in done.stderr


def test_type_nodata_and_creation_options_are_those_that_were_asked_for(reproject, tif, tmp_path):
    done = reproject("-i", tif, "--crs", "EPSG:3857", "--dtype", "int16", "--nodata", "-9999", "--creation-option",
                     "COMPRESS=DEFLATE", "--creation-option", "PREDICTOR=2", "-o", tmp_path / "o.tif")
    assert done.returncode == 0 and "clipped" not in done.stderr, done.stderr
    with rasterio.open(tmp_path / "o.tif") as data:
        assert data.dtypes == ("int16",) * 2 and data.nodata == -9999 and data.profile["compress"] == "deflate"
        assert (data.read(1)[data.dataset_mask() == 0] == -9999).all() and data.read(1).max() > 200
        assert data.tags()["GEOI2I_COMMAND"].endswith("--dtype int16 --nodata -9999")


def test_a_dry_run_shows_the_type_and_the_nodata_value(reproject, tif):
    shown = reproject("-i", tif, "--crs", "EPSG:3857", "--dtype", "float32", "--nodata", "nan", "--dry-run")
    assert "float32, nodata nan, Cloud Optimized GeoTIFF" in shown.stdout
    assert "uint8, nodata none" in reproject("-i", tif, "--crs", "EPSG:3857", "--dry-run").stdout


def test_what_was_clipped_is_said(reproject, tmp_path):
    scene(tmp_path / "wide.tif", dtype="uint16")
    done = reproject("-i", tmp_path / "wide.tif", "--crs", "EPSG:32633", "--dtype", "int8", "-o", tmp_path / "o.tif")
    assert done.returncode == 0 and "had values beyond int8 and were clipped" in done.stderr


BAD = {
    "no system in the source": (["-i", "nowhere.tif", "--crs", "EPSG:3857"], "no CRS"),
    "misspelt system": (["-i", "scene.tif", "--crs", "EPGS:3857"], "Did you mean EPSG:3857"),
    "no target": (["-i", "scene.tif"], "--crs or with --like"),
    "two targets": (["-i", "scene.tif", "--crs", "EPSG:3857", "--like", "scene.tif"], "--crs or with --like"),
    "resolution 0": (["-i", "scene.tif", "--crs", "EPSG:3857", "--resolution", "0"], "--resolution must be positive"),
    "resolution of words": (["-i", "scene.tif", "--crs", "EPSG:3857", "--resolution", "fine"], "not a resolution"),
    "another body": (["-i", "scene.tif", "--crs", "IAU_2015:49900"], "shows Earth"),
    "elsewhere": (["-i", "scene.tif", "--crs", "EPSG:32633", "--bounds", "0,0,100,100", "--resolution", "10"],
                  "lies on the target grid"),
    "too large": (["-i", "scene.tif", "--crs", "EPSG:3857", "--resolution", "0.00001"], "disk"),
    "complex": (["-i", "complex.tif", "--crs", "EPSG:3857"], "complex"),
    "points only": (["-i", "points.tif", "--crs", "EPSG:3857"], "ground control points"),
    "tolerance 0": (["-i", "scene.tif", "--crs", "EPSG:3857", "--tolerance", "0"], "tolerance"),
    "exists": (["-i", "scene.tif", "--crs", "EPSG:3857", "-o", "nowhere.tif"], "--overwrite"),
    "nodata beyond the type": (["-i", "scene.tif", "--crs", "EPSG:3857", "--nodata", "256"], "from 0 to 255"),
    "nodata below it": (["-i", "scene.tif", "--crs", "EPSG:3857", "--nodata", "-9999"], "from 0 to 255"),
    "nodata of a fraction": (["-i", "scene.tif", "--crs", "EPSG:3857", "--nodata", "0.5"], "a whole number"),
    "nodata NaN among integers": (["-i", "scene.tif", "--crs", "EPSG:3857", "--nodata", "nan"], "a whole number"),
    "nodata of words": (["-i", "scene.tif", "--crs", "EPSG:3857", "--nodata", "white"], "not a number"),
    "nodata beyond the type that is asked for": (
        ["-i", "scene.tif", "--crs", "EPSG:3857", "--nodata", "1e39", "--dtype", "float32"], "does not fit float32"),
    "nodata in a dry run": (["-i", "scene.tif", "--crs", "EPSG:3857", "--nodata", "256", "--dry-run"], "from 0 to 255"),
    "type of GDAL": (["-i", "scene.tif", "--crs", "EPSG:3857", "--dtype", "Byte"], "choose from uint8"),
    "creation option of another kind": (
        ["-i", "scene.tif", "--crs", "EPSG:3857", "--creation-option", "NBITS=4"], "COMPRESS, PREDICTOR"),
    "compression with losses": (
        ["-i", "scene.tif", "--crs", "EPSG:3857", "--creation-option", "COMPRESS=JPEG"], "takes NONE, PACKBITS"),
    "predictor of floats": (["-i", "scene.tif", "--crs", "EPSG:3857", "--creation-option", "PREDICTOR=3"], "is uint8"),
    "predictor of floats in a dry run": (
        ["-i", "scene.tif", "--crs", "EPSG:3857", "--creation-option", "PREDICTOR=3", "--dry-run"], "is uint8"),
    "output is input": (["-i", "scene.tif", "--crs", "EPSG:3857", "-o", "scene.tif", "--overwrite"], "input itself"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_one_sentence_and_leaves_nothing(reproject, tif, tmp_path, name):
    scene(tmp_path / "nowhere.tif", crs=None)
    scene(tmp_path / "complex.tif", dtype="complex64")
    points = [rasterio.control.GroundControlPoint(r, c, 500000 + c, 4000000 - r) for r in (0, 39) for c in (0, 49)]
    with rasterio.open(tmp_path / "points.tif", "w", driver="GTiff", height=40, width=50, count=1, dtype="uint8",
                       gcps=points, crs="EPSG:32633"):
        pass
    before = sorted(tmp_path.iterdir())
    arguments, sentence = BAD[name]
    done = reproject(*arguments, cwd=tmp_path)
    assert done.returncode == 2 and sentence in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert sorted(tmp_path.iterdir()) == before
