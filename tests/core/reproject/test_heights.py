"""Laws of heights: they count from what the output's CRS says, or the output's CRS says what they count from."""

import numpy as np
import pytest
import rasterio
from affine import Affine
from geoi2i.core.grid import Grid
from geoi2i.core.raster.bands import Band
from geoi2i.core.raster.source import RasterSource
from geoi2i.core.reproject.heights import heights_between
from geoi2i.core.reproject.target_grid import named_crs, target_grid
from geoi2i.core.reproject.warping import Warping
from geoi2i.core.run import Callbacks, reproject_raster
from pyproj import CRS

US_FOOT = 1200 / 3937
"""Metres in a US survey foot, by its definition of 1893."""
PLACE = Affine(20, 0, 400_000, 0, -20, 4_000_000)


@pytest.fixture
def reprojected(make_raster, tmp_path):
    """What comes out of heights in a CRS: pixels, dtype, CRS and what was said."""

    def run(pixels, crs, to, transform=PLACE, **facts):
        source = make_raster(pixels, crs=crs, transform=transform, **facts)
        grid, said = target_grid(RasterSource.open(source).grid, named_crs(to)), []
        path = reproject_raster(source, tmp_path / "o.tif", grid, Warping("nearest"),
                                callbacks=Callbacks(message=said.append))
        with rasterio.open(path) as data:
            return data.read(masked=True), CRS.from_wkt(data.crs.to_wkt(version="WKT2_2019")), data.units, said

    return run


@pytest.mark.parametrize("dtype", ["float32", "int16", "float64"])
def test_feet_become_metres(reprojected, dtype):
    pixels, crs, units, said = reprojected(np.full((1, 20, 20), 100, dtype), "EPSG:32613+6360", "EPSG:32613+5703")
    assert pixels.dtype.kind == "f" and np.allclose(pixels, 100 * US_FOOT, rtol=1e-6)
    assert crs.axis_info[2].unit_name == "metre" and units == ("metre",) and said == []


def test_feet_become_metres_in_another_projection_and_nodata_stays(reprojected):
    heights = np.arange(400, dtype="float32").reshape(1, 20, 20)
    pixels, crs, _, _ = reprojected(heights, "EPSG:32613+6360", "EPSG:32612+5703", nodata=7)
    found = pixels.compressed() / US_FOOT
    assert np.abs(found - np.round(found)).max() < 1e-3 and 7 not in np.round(found) and len(found) > 300
    assert crs.to_authority() is None and "NAVD88 height" in crs.name


def test_scale_and_offset_hold_for_the_converted_heights():
    """GDAL loses both in a GeoTIFF with a vertical CRS; other formats keep them."""
    source, target = (Grid(named_crs(f"EPSG:32613+{code}").crs, PLACE, 3, 4) for code in (6360, 5703))
    bands = (Band("dem", "ft", 0.1, 50.0), Band("dsm"))
    _, heights, _ = heights_between(bands, source, target)
    found = heights.convert(np.full((2, 3, 4), 500.0), 0, bands)
    assert np.allclose(found[0] * 0.1 + 50, 100 * US_FOOT) and np.allclose(found[1], 500 * US_FOOT)
    assert [band.unit for band in heights.units(bands)] == ["metre", None]


def test_only_bands_named_as_heights_are_converted(make_raster, tmp_path):
    source = make_raster(np.full((2, 20, 20), 100, "float32"), crs="EPSG:32613+6360", transform=PLACE,
                         names=("intensity", "ground elevation"))
    grid = target_grid(RasterSource.open(source).grid, named_crs("EPSG:32613+5703"))
    with rasterio.open(reproject_raster(source, tmp_path / "o.tif", grid)) as data:
        found = data.read()
    assert np.allclose(found[0], 100) and np.allclose(found[1], 100 * US_FOOT)


@pytest.mark.parametrize("bands, crs, to, kept, words", [
    (2, "EPSG:32613+6360", "EPSG:32613+5703", "ftUS", "No band is named as a height"),
    (1, "EPSG:4326+3855", "EPSG:4326+5773", "EGM2008", "PROJ cannot convert heights from EGM2008"),
    (1, "EPSG:4326+3855", "EPSG:4979", "EGM2008", "PROJ cannot convert heights from EGM2008"),
    (1, "EPSG:4326", "EPSG:4326+5773", None, "does not say what its heights count from"),
    (1, "EPSG:4326", "EPSG:4979", None, "does not say what its heights count from")])
def test_what_cannot_be_converted_keeps_its_own_vertical_crs_and_that_is_said(reprojected, bands, crs, to, kept, words):
    """No geoid grids are installed here, and PROJ may not fetch any."""
    place = Affine(0.01, 0, 10, 0, -0.01, 50) if "4326" in crs else PLACE
    pixels, found, _, said = reprojected(np.full((bands, 20, 20), 100, "float32"), crs, to, place)
    assert (pixels == 100).all() and len(said) == 1 and words in said[0]
    assert (len(found.axis_info) == 2) if kept is None else kept in found.name and len(found.axis_info) == 3


@pytest.mark.parametrize("to", ["EPSG:4326", "EPSG:32613+6360"])
def test_a_target_that_says_nothing_else_of_heights_leaves_them(reprojected, to):
    pixels, _, _, said = reprojected(np.full((1, 20, 20), 100, "int16"), "EPSG:32613+6360", to)
    assert pixels.dtype == "int16" and (pixels.compressed() == 100).all() and said == []
