"""Laws of models that see where a pixel is: the place is the raster's, the pixels stay what they are."""

import numpy as np
import pytest
import rasterio
import torch
from geoi2i.core.errors import RasterError
from geoi2i.core.inference.steps import generator_table
from geoi2i.core.models.manifest import BandSpec, Manifest, NetworkSpec
from geoi2i.core.models.matching import misfits
from geoi2i.core.models.package import save_package
from geoi2i.core.networks.closed_form import LinearFilter, LinearSizes
from geoi2i.core.networks.resnet import ResnetGenerator, ResnetSizes
from geoi2i.core.raster.source import RasterSource
from geoi2i.core.reproject.coordinate_bands import frame_around
from geoi2i.core.reproject.frame import Coordinates
from geoi2i.core.run import Compute, Options, plan_translation, translate_raster
from pydantic import ValidationError


def plain(shape=(2, 70, 90), dtype="uint16"):
    return np.random.default_rng(0).integers(1, 60_000, shape).astype(dtype)


def coordinates_of(path, *names):
    on_map = any(name.startswith("map") for name in names)
    return Coordinates(names=names, frame=frame_around([RasterSource.open(path).grid]) if on_map else None)


def linear(folder, coordinates, matrix, **facts):
    """A model of stored numbers: each output is a combination of the bands and of the coordinates behind them."""
    matrix = torch.tensor(matrix, dtype=torch.float32)
    network = LinearFilter(LinearSizes(bands_in=matrix.shape[1], bands_out=len(matrix)))
    network.load_solution(torch.zeros(len(matrix)), matrix)
    bands = matrix.shape[1] - len(coordinates.names)
    specs = [tuple(BandSpec(name=f"b{k}", minimum=0, maximum=60_000) for k in range(n)) for n in (bands, len(matrix))]
    manifest = Manifest(**{
        "name": "placed", "title": "T", "licence": "CC0-1.0", "bands_in": specs[0], "bands_out": specs[1],
        "coordinates": coordinates, "table": generator_table(), "normalise_in": {"kind": "none"},
        "normalise_out": {"kind": "none"}, "tile_px": 32, "dtype": "float32",
        "network": NetworkSpec(name="linear", sizes=dict(network.sizes))} | facts)
    return save_package(folder, manifest, network)


def made(source, package, path, **options):
    more = {key: options.pop(key) for key in ("bounds",) if key in options}
    translate_raster(source, path, package, Options(**options), compute=Compute(device="cpu"), **more)
    with rasterio.open(path) as data:
        return data.read(), data.dataset_mask() != 0


def test_a_network_sees_the_place_of_every_pixel(make_raster, tmp_path):
    source = make_raster(plain())
    package = linear(tmp_path / "m", coordinates_of(source, "map_x", "map_y"), [[0, 0, 1, 0], [0, 0, 0, 1]])
    (x, y), _ = made(source, package, tmp_path / "o.tif")
    assert np.allclose(x, (np.arange(90) + 0.5) / 45 - 1, atol=1e-6)
    assert np.allclose(y.T, 1 - (np.arange(70) + 0.5) / 35, atol=1e-6)
    with rasterio.open(source) as data:  # its right lower quarter
        bounds = (*(data.transform * (45, 70)), *(data.transform * (90, 35)))
    (part, _), _ = made(source, package, tmp_path / "p.tif", bounds=bounds)
    assert np.array_equal(part, x[35:, 45:])


def test_pixels_and_dtype_are_those_of_a_model_without_places(make_raster, tmp_path):
    pixels = plain()
    pixels[:, 5:9, 10:20] = 0
    source = make_raster(pixels, nodata=0)
    coordinates = coordinates_of(source, "map_x", "sin_latitude")
    package = linear(tmp_path / "m", coordinates, [[1, 0, 0, 0], [0, 1, 0, 0]], dtype="same")
    found, valid = made(source, package, tmp_path / "o.tif")
    assert found.dtype == np.uint16 and np.array_equal(found, pixels)
    assert np.array_equal(valid, (pixels != 0).all(0))
    plan = plan_translation(source, package, Options(), Compute(device="cpu"))
    assert len(plan.raster.bands) == 2 and plan.raster.indexes == (1, 2)


def test_the_place_of_an_enlarged_pixel_is_its_own(make_raster, tmp_path):
    source = make_raster(plain((1, 20, 30)))
    package = linear(tmp_path / "m", coordinates_of(source, "map_x"), [[0, 1]], scale="2")
    (x,), _ = made(source, package, tmp_path / "o.tif")
    assert x.shape == (40, 60) and np.allclose(x, (np.arange(60) + 0.5) / 30 - 1, atol=1e-6)


def test_the_result_ignores_tiles(make_raster, tmp_path):
    source = make_raster(plain((2, 70, 90)) / 60_000)
    torch.manual_seed(0)
    network = ResnetGenerator(ResnetSizes(bands_in=4, bands_out=2, width=8, blocks=1))
    torch.nn.init.normal_(network.head.weight, std=0.1)
    specs = tuple(BandSpec(name=f"b{k}", minimum=0, maximum=1) for k in range(2))
    package = save_package(tmp_path / "m", Manifest(
        name="net", title="T", licence="MIT", bands_in=specs, bands_out=specs, table=generator_table(),
        coordinates=coordinates_of(source, "map_x", "cos_latitude"),
        network=NetworkSpec(name="resnet", sizes=dict(network.sizes)), margin_px=network.radius_px,
        multiple_of=network.stride, normalise_in={"kind": "none"}, normalise_out={"kind": "none"}), network)
    whole, tiled = (made(source, package, tmp_path / f"{tile}.tif", tile=tile, overlap=0)[0] for tile in (512, 32))
    assert np.abs(whole - tiled).max() < 1e-5 * np.ptp(whole) and package.verify() < 1e-5


def test_a_raster_elsewhere_is_warned_of_and_one_without_a_place_refused(make_raster, tmp_path):
    source = make_raster(plain((1, 20, 30)))
    package = linear(tmp_path / "m", coordinates_of(source, "map_x"), [[1, 0]])
    with rasterio.open(source) as data:
        aside = data.transform @ data.transform.translation(15, 0)
    other = make_raster(plain((1, 20, 30)), name="other.tif", transform=aside)
    far = make_raster(plain((1, 20, 30)), name="far.tif", transform=data.transform @ data.transform.translation(99, 0))
    compute = Compute(device="cpu")
    at_home, away = (plan_translation(path, package, Options(), compute, bands=(1,)).warnings
                     for path in (source, other))
    assert at_home == () and len(away) == 1 and "lies outside the area" in away[0]
    assert [misfits(RasterSource.open(path), package.manifest, chosen=True) for path in (source, other)] == [[], []]
    assert "another area" in misfits(RasterSource.open(far), package.manifest, chosen=True)[0]
    assert "another area" in plan_translation(far, package, Options(), compute, bands=(1,)).warnings[0]
    assert 45 <= float(away[0].split()[0]) <= 55
    with pytest.raises(RasterError, match="gdal_edit -a_srs"):
        plan_translation(make_raster("nowhere"), package, Options(), compute, bands=(1,))


@pytest.mark.parametrize("facts", [
    {"table": {"steps": [{"c_skip": 1}]}}, {"network": {"name": "linear", "sizes": {"bands_in": 1}}},
    {"table": {"steps": [{"c_out": 0, "c_skip": 1}]}, "network": None}])
def test_places_that_nobody_sees_or_that_become_pixels_are_refused(facts):
    band = BandSpec(name="b", minimum=0, maximum=1)
    content = {"name": "m", "title": "T", "licence": "MIT", "bands_in": (band,), "bands_out": (band,),
               "coordinates": {"names": ["latitude"]}, "table": generator_table(), "normalise_in": {"kind": "none"},
               "normalise_out": {"kind": "none"}, "network": {"name": "linear", "sizes": {"bands_in": 2}}}
    Manifest(**content)
    with pytest.raises(ValidationError):
        Manifest(**(content | facts))
