"""Laws of statistics: those of NumPy on float64, to the last bit, whatever the dtype that is sorted."""

import numpy as np
import pytest
import rasterio
from geoi2i.core.raster.source import RasterSource

WANTED = (0, 0.1, 2, 33.3, 50, 75, 98, 99.9, 100)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "int64", "float32", "float64"])
@pytest.mark.parametrize("scales, offsets", [((1.0, 1.0), (0.0, 0.0)), ((-0.5, 0.01), (3.0, -1.0))])
@pytest.mark.parametrize("size", [(1, 1), (41, 57), (1500, 1100)])
def test_statistics_are_numpys(make_raster, dtype, scales, offsets, size):
    generator = np.random.default_rng(0)
    pixels = generator.integers(1, 120, (2, *size)).astype(dtype)
    if pixels.dtype.kind == "f":
        pixels += generator.random(pixels.shape).astype(dtype)
        pixels[1, size[0] // 2, 1:] = np.nan
    pixels[0, ::3, 1::2] = 5
    path = make_raster(pixels, nodata=5, scales=scales, offsets=offsets)
    found = RasterSource.open(path).statistics(WANTED, ((10, 60),) * 2)
    with rasterio.open(path) as data:
        small = np.stack([data.read(k, out_shape=found.size) for k in (1, 2)])
    for k in (0, 1):
        values = small[k][(small[k] != 5) & np.isfinite(small[k])].astype(np.float64) * scales[k] + offsets[k]
        assert (found.mean[k], found.std[k]) == (values.mean(), values.std())
        assert [found.percentiles[q][k] for q in WANTED] == [np.percentile(values, q) for q in WANTED]
        assert found.outside[k] == np.mean((values < 10) | (values > 60))


def test_a_band_that_the_small_raster_misses_is_searched_whole(make_raster):
    pixels = np.zeros((2, 4096, 3), "uint16")
    pixels[0, 2051:2054, 1] = 3, 4, 8
    pixels[1] = 6
    found = RasterSource.open(make_raster(pixels, nodata=0)).statistics((50,))
    assert found.mean == (5, 6) and found.percentiles[50] == (4, 6)
