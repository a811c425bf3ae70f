"""A trend in latitude takes away what changes from pole to pole, and draws nothing finer."""

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from geoi2i.core.errors import Geoi2iError
from geoi2i.core.models.package import ModelPackage
from geoi2i.core.networks.latitude import LinearTrend, LinearTrendSizes
from geoi2i.core.run import Options, translate_raster
from geoi2i.training.fit import fit, fit_recipe

pytestmark = pytest.mark.slow

HEIGHT, WIDTH = 120, 150
PLACE = Affine(2.4, 0, -180, 0, -1, 60)
SINE = np.sin(np.radians(60 - (np.arange(HEIGHT) + 0.5)))[:, None]


def write(path, pixels, crs="IAU_2015:49900", **profile):  # a sphere: latitudes are planetocentric
    with rasterio.open(path, "w", driver="GTiff", count=len(pixels), height=HEIGHT, width=WIDTH, dtype="float64",
                       crs=crs, transform=PLACE, **profile) as out:
        out.write(pixels)
    return str(path)


def noise(seed):
    return 100 + 10 * np.random.default_rng(seed).normal(size=(2, HEIGHT, WIDTH))


def solved(tmp_path, kind, source, target, order, **settings):
    recipe = fit_recipe(kind, "model", (source,), (target,), {"bands.dtype": "float32"})
    return fit(kind, recipe, tmp_path / f"m{order}", latitude_order=order, **settings)[0]


def applied(tmp_path, package, path, **options):
    out = tmp_path / f"out{len(list(tmp_path.glob('out*')))}.tif"
    translate_raster(path, out, ModelPackage.load(package.folder), Options(**options))
    with rasterio.open(out) as data:
        return data.read().astype(float)


@pytest.mark.parametrize("kind, settings", [("moments", {}), ("transport", {}), ("histogram", {}),
                                            ("linear", {"sizes": {"neighbourhood": 3}})])
def test_a_polynomial_in_the_sine_of_latitude_is_found(tmp_path, kind, settings):
    pixels = noise(0)
    trend = 8 * SINE - 6 * SINE**2
    source = write(tmp_path / "a.tif", pixels)
    target = write(tmp_path / "b.tif", pixels + trend)
    error = {}
    for order in (0, 2):
        made = applied(tmp_path, solved(tmp_path, kind, source, target, order, **settings), source)
        zonal = (made - (pixels + trend)).mean(2)
        error[order] = np.sqrt((zonal - zonal.mean(1, keepdims=True)).var())
    assert error[2] < error[0] / 3 and error[2] < 0.8


def test_windows_and_nodata_change_nothing(tmp_path):
    pixels, hole = noise(0), noise(0)
    hole[:, 30:50, 40:90] = -999
    target = write(tmp_path / "b.tif", noise(1) + 8 * SINE)
    package = solved(tmp_path, "transport", write(tmp_path / "a.tif", pixels), target, 2)
    whole, small = (applied(tmp_path, package, str(tmp_path / "a.tif"), **options) for options in ({}, {"tile": 64}))
    assert np.array_equal(whole, small)
    masked = solved(tmp_path, "transport", write(tmp_path / "c.tif", hole, nodata=-999), target, 3)
    assert np.allclose(applied(tmp_path, masked, str(tmp_path / "a.tif")), whole, atol=2)


def test_the_polynomial_is_numpy_s():
    network = LinearTrend(LinearTrendSizes(bands_in=3, bands_out=2, order=3))
    with torch.no_grad():
        network.level.level.weight.zero_()
        network.level.level.bias.zero_()
        network.trend.normal_(generator=torch.Generator().manual_seed(0))
    image = torch.rand(1, 3, 4, 5)
    made = network(image, None, None)[0].detach().double().numpy()
    for band in range(2):
        wanted = np.polynomial.polynomial.polyval(image[0, 2].double().numpy(), network.trend[band].detach().numpy())
        assert np.allclose(made[band], wanted, atol=1e-5)


@pytest.mark.parametrize("kind, order, crs, message", [
    ("moments", 2, None, "no CRS|without a CRS|has no"), ("local", 2, "IAU_2015:49900", "leave --latitude-order out")])
def test_what_has_no_latitudes_is_refused(tmp_path, kind, order, crs, message):
    source, target = (write(tmp_path / f"{name}.tif", noise(k), crs=crs) for k, name in enumerate("ab"))
    with pytest.raises(Geoi2iError, match=message):
        solved(tmp_path, kind, source, target, order)
    assert not (tmp_path / f"m{order}").exists()
