"""Laws of sweeps: sums over pixels are NumPy's, however the raster is cut."""

import numpy as np
import pytest
from geoi2i.core.raster.source import RasterSource
from geoi2i.training import sweeps
from geoi2i.training.sweeps import mean_covariance, valid_pixels


@pytest.fixture(params=["uint8", "uint16", "float32"])
def rasters(request, make_raster):
    """Two rasters with holes, one with a scale, and their physical values (C,n) in the order of rows."""
    generator, found, values = np.random.default_rng(0), [], []
    for k, scale in enumerate((1.0, 0.25)):
        pixels = generator.integers(1, 200, (3, 130, 90 + k)).astype(request.param)
        pixels[1] = pixels[0] // 2 + pixels[1] // 4 + 1
        pixels[generator.random(pixels.shape) < 0.1] = 0
        path = make_raster(pixels, name=f"{k}.tif", nodata=0, scales=(scale,) * 3, offsets=(float(k),) * 3)
        found.append(RasterSource.open(path))
        values.append((pixels.astype("float64") * scale + k)[:, (pixels != 0).all(0)])
    return found, np.concatenate(values, 1)


@pytest.mark.parametrize("size", [1, 1000, 1 << 16])
def test_mean_and_covariance_are_those_of_numpy(rasters, monkeypatch, size):
    monkeypatch.setattr(sweeps, "_PIECE_VALUES", size)
    files, values = rasters
    assert np.array_equal(np.concatenate([part for raster in files for part in valid_pixels(raster)], 1), values)
    found = mean_covariance(files, ["a", "b", "c"])
    assert found.count == values.shape[1]
    np.testing.assert_allclose(found.mean, values.mean(1), rtol=1e-13)
    np.testing.assert_allclose(found.covariance, np.cov(values, ddof=0), rtol=1e-11, atol=1e-11)
    assert np.array_equal(found.covariance, found.covariance.T)
