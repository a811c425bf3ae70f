"""Laws of statistics: they are NumPy's of the decimated read's valid values, to the last bit."""

import numpy as np
import pytest
import rasterio
from geoi2i.core.raster.source import RasterSource
from hypothesis import given
from hypothesis import strategies as st

RANKS = (0, 2, 12.5, 50, 98, 99.9, 100)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint16", "int32", "float32", "float64"])
@pytest.mark.parametrize("scale, offset", [(1.0, 0.0), (0.01, -5.0), (-3.7, 0.1)])
@pytest.mark.parametrize("holes", [False, True])
def test_statistics_are_those_of_numpy(make_raster, dtype, scale, offset, holes):
    generator = np.random.default_rng(0)
    pixels = (generator.gamma(2, 15, (2, 70, 1500)).clip(1, 120)).astype(dtype)
    if holes:
        pixels[generator.random(pixels.shape) < 0.3] = 0
    path = make_raster(pixels, scales=(scale,) * 2, offsets=(offset,) * 2, nodata=0 if holes else None)
    found = RasterSource.open(path).statistics(RANKS, ((-20.0, 0.2),) * 2)
    with rasterio.open(path) as data:
        sample = data.read(out_shape=(2, 48, 1024))
    for k, stored in enumerate(sample):
        values = (stored[stored != 0] if holes else stored.ravel()).astype("float64") * scale + offset
        assert (found.mean[k], found.std[k]) == (values.mean(), values.std())
        assert [ranks[k] for ranks in found.percentiles.values()] == [np.percentile(values, q) for q in RANKS]
        assert found.outside[k] == np.mean((values < -20) | (values > 0.2))
    assert found.size == (48, 1024)


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=40), st.lists(st.floats(0, 100), max_size=5))
def test_percentiles_of_few_values_are_those_of_numpy(tmp_path_factory, values, ranks):
    pixels = np.array(values, "float32")[None, None]
    path = tmp_path_factory.mktemp("few") / "few.tif"
    with rasterio.open(path, "w", driver="GTiff", height=1, width=len(values), count=1, dtype="float32",
                       crs="EPSG:32631", transform=rasterio.Affine.scale(10)) as out:
        out.write(pixels)
    found = RasterSource.open(path).statistics(tuple(ranks)).percentiles
    assert found == {q: (np.percentile(pixels.astype("float64"), q),) for q in ranks}
