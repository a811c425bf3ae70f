"""Laws of the overviews: those that GDAL's AVERAGE would make, without reading the raster again."""

import numpy as np
import pytest
import rasterio
from geoi2i.core.output.overviews import halve
from rasterio.enums import Resampling

RANDOM = np.random.default_rng(0)


def gdal_overview(path, pixels, nodata=None, mask=None):
    """The first overview level that GDAL makes of a raster, and that of its mask."""
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        with rasterio.open(path, "w", driver="GTiff", count=pixels.shape[0], height=pixels.shape[1],
                           width=pixels.shape[2], dtype=pixels.dtype, nodata=nodata) as out:
            out.write(pixels)
            if mask is not None:
                out.write_mask(mask[0])
            out.build_overviews([2], Resampling.average)
    with rasterio.open(path, overview_level=0) as data:
        return data.read(), data.dataset_mask()[None]


@pytest.mark.parametrize("dtype, nodata", [("uint8", None), ("uint8", 0), ("uint16", 200), ("int16", -9),
                                           ("float32", None), ("float32", float("nan")), ("float32", -1.0)])
def test_a_level_is_gdals_average(tmp_path, dtype, nodata):
    pixels = RANDOM.integers(0, 12, (2, 64, 96)).astype(dtype)
    if nodata is not None:
        pixels[:, RANDOM.random((64, 96)) < 0.5] = nodata
    expected, _ = gdal_overview(tmp_path / "a.tif", pixels, nodata)
    found, mask = halve(pixels, None, nodata)
    assert mask is None and found.dtype == dtype
    if pixels.dtype.kind == "f":
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    else:
        np.testing.assert_array_equal(found, expected)


def test_a_mask_hides_its_pixels_from_the_mean(tmp_path):
    pixels = RANDOM.integers(0, 255, (3, 64, 96), "uint8")
    mask = np.where(RANDOM.random((1, 64, 96)) < 0.6, 0, 255).astype("uint8")
    expected, valid = gdal_overview(tmp_path / "a.tif", pixels, mask=mask)
    found, found_mask = halve(pixels, mask, None)
    np.testing.assert_array_equal(found_mask, mask.reshape(1, 32, 2, 48, 2).max((2, 4)))
    both = np.broadcast_to((found_mask != 0) & (valid != 0), found.shape)
    np.testing.assert_array_equal(found[both], expected[both])


def test_odd_sizes_round_up_and_the_last_pixel_stands_for_itself():
    pixels = np.array([[[10, 20, 30], [30, 40, 50], [7, 9, 100]]], "uint8")
    found, _ = halve(pixels, None, None)
    np.testing.assert_array_equal(found, [[[25, 40], [8, 100]]])


def test_a_mean_that_would_read_as_nodata_moves_one_step():
    found, _ = halve(np.array([[[4, 6], [4, 6]]], "uint8"), None, 5)
    assert found.item() == 4


def test_an_alpha_band_is_averaged():
    alpha, colour = np.array([[0, 100], [0, 100]], "uint8"), np.array([[200, 40], [200, 40]], "uint8")
    for place, bands in ((1, [colour, alpha]), (0, [alpha, colour])):
        pixels, mask = halve(np.stack(bands), None, None, alphas=(place,))
        assert mask is None and pixels[place].item() == 50 and pixels[1 - place].item() == 40
