"""Laws of rasters made small: GDAL's nearest pixels, and no block of the file decoded twice."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from geoi2i.core.raster import decimated
from geoi2i.core.raster.source import RasterSource

TILES = {"tiled": True, "blockxsize": 128, "blockysize": 128}
LAYOUTS = {
    "pixel": {"interleave": "pixel", "compress": "deflate", **TILES},
    "band": {"interleave": "band", "compress": "deflate", **TILES},
    "tiles that are not compressed": {"interleave": "pixel", **TILES},
    "single rows": {"interleave": "pixel", "blockysize": 1},
    "strips": {"interleave": "pixel", "compress": "lzw", "blockysize": 16},
    "strips of bands": {"interleave": "band", "compress": "lzw", "blockysize": 7},
    "JPEG": {"interleave": "pixel", "compress": "jpeg", "photometric": "ycbcr", **TILES}}


def noise(height, width, dtype="uint8", bands=3):
    return np.random.default_rng(0).integers(0, 250, (bands, height, width)).astype(dtype)


def as_gdal_does(path, shape):
    """All of it in one go, by GDAL's own nearest pixel; rasterio without an environment forbids it JPEG's overviews."""
    with rasterio.Env(), rasterio.open(path) as data:
        return data.read(out_shape=(data.count, *shape))


def bytes_read(action):
    """What this process asks the system for while something is done; a compressed block is read for each decoding."""
    def count():
        fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
        return int(fields["rchar"])

    before = count()
    action()
    return count() - before


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("longest", [97, 500, 1000, 5000])
def test_a_small_raster_is_gdals_nearest_pixel(make_raster, layout, longest):
    path = make_raster(noise(900, 1301), **LAYOUTS[layout])
    small = RasterSource.open(path).decimated(longest)
    assert np.array_equal(small.pixels, as_gdal_does(path, small.pixels.shape[1:])) and small.mask is None


@pytest.mark.parametrize("shape", [(3, 5000), (5000, 3), (1, 1), (2048, 1025)])
def test_odd_shapes_are_gdals_nearest_pixel(make_raster, shape):
    path = make_raster(noise(*shape), **LAYOUTS["pixel"])
    small = RasterSource.open(path).decimated(64)
    assert np.array_equal(small.pixels, as_gdal_does(path, small.pixels.shape[1:]))


def test_places_are_gdals_to_the_last_rounding_error(make_raster):
    """In columns GDAL adds up steps; 19242 to 7257 is where that differs from multiplying."""
    for size, count in ((19_242, 7_257), (16_908, 14_079), (6_000, 4_096), (1_440, 1_024)):
        for places, shape, small in ((decimated.nearest_cols, (1, size), (1, count)),
                                     (decimated.nearest_rows, (size, 1), (count, 1))):
            path = make_raster(np.arange(size, dtype="int32").reshape(1, *shape), name=f"{size}{shape[0] == 1}.tif")
            assert np.array_equal(places(size, count), as_gdal_does(path, small).ravel())


@pytest.mark.parametrize("layout", ["pixel", "band"])
def test_overviews_are_taken_where_gdal_takes_them(make_raster, layout):
    path = make_raster(noise(900, 1301), **LAYOUTS[layout])
    with rasterio.open(path, "r+") as data:
        data.build_overviews([2, 4])
        for level in (0, 1):
            with rasterio.open(path, overview_level=level) as smaller:
                assert smaller.width in (651, 326)
    for longest in range(200, 1301, 100):
        small = RasterSource.open(path).decimated(longest)
        assert np.array_equal(small.pixels, as_gdal_does(path, small.pixels.shape[1:])), longest


@pytest.mark.parametrize("layout", ["pixel", "band"])
def test_a_large_block_is_read_by_rows(make_raster, monkeypatch, layout):
    path = make_raster(noise(900, 1301, "float32"), **LAYOUTS[layout], nodata=3)
    before = RasterSource.open(path).decimated(333)
    monkeypatch.setattr(decimated, "_LARGE_BYTES", 1)
    after = RasterSource.open(path).decimated(333)
    assert np.array_equal(before.pixels, after.pixels) and np.array_equal(before.mask, after.mask)
    assert np.array_equal(after.pixels, as_gdal_does(path, after.pixels.shape[1:]))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("longest", [300, 1024, 4096])
def test_no_block_is_decoded_twice(make_raster, layout, longest):
    path = make_raster(noise(1500, 2100), nodata=3, **LAYOUTS[layout])
    raster, size = RasterSource.open(path), Path(path).stat().st_size
    for sweep in (lambda: raster.decimated(longest), lambda: raster.valid(longest), lambda: raster.statistics((2, 98)),
                  lambda: list(raster.rows())):
        assert 0 < bytes_read(sweep) <= 1.02 * size + 65_536


def test_single_rows_that_give_no_pixel_are_not_read(make_raster):
    path = make_raster(noise(3000, 900), **LAYOUTS["single rows"])
    raster = RasterSource.open(path)
    assert bytes_read(lambda: raster.decimated(300)) < Path(path).stat().st_size / 3


def test_where_there_is_data_costs_no_pixels_that_cannot_tell(make_raster):
    pixels = noise(1500, 2100)
    mask = np.where(pixels[0] > 9, 255, 0).astype("uint8")
    plain = RasterSource.open(make_raster(pixels, name="plain.tif", **LAYOUTS["pixel"]))
    masked = RasterSource.open(make_raster(pixels, mask=mask, name="masked.tif", **LAYOUTS["pixel"]))
    assert bytes_read(lambda: plain.valid(4096)) < 65_536 and plain.valid(4096) is None
    assert bytes_read(lambda: masked.valid(4096)) < pixels.nbytes / 4
    assert np.array_equal(masked.valid(4096), pixels[0] > 9)


def test_where_there_is_data_is_the_mask_of_the_small_raster(every_raster):
    for longest in (16, 4096):
        raster = RasterSource.open(every_raster)
        mask, valid = raster.decimated(longest).mask, raster.valid(longest)
        assert valid is None or valid.dtype == bool
        expected = np.ones(raster.decimated(longest).pixels.shape[1:], bool) if mask is None else (mask != 0).all(0)
        assert np.array_equal(np.ones_like(expected) if valid is None else valid, expected)
