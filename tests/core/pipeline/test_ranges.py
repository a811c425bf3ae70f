"""Laws of values that a model was not trained on: another unit is refused, a little outside is said, and what brings
values there gives the result of values that were there."""

import numpy as np
import pytest
import rasterio
import torch
from geoi2i.core.errors import Geoi2iError, RasterError
from geoi2i.core.inference.steps import Step, StepTable
from geoi2i.core.models.manifest import BandSpec
from geoi2i.core.models.package import identity_package
from geoi2i.core.pipeline.plan import Options
from geoi2i.core.pipeline.planning import plan_translation
from geoi2i.core.pipeline.ranges import has_more_digits
from geoi2i.core.raster.source import RasterSource
from geoi2i.core.run import Callbacks, Compute, translate_raster

CPU = Compute(device="cpu")
LOOK = np.random.default_rng(0).uniform(0, 1, (1, 40, 50))


@pytest.fixture
def bytes_model(make_package):
    """A network that was trained on bytes."""
    return make_package("bytes", bands=1, steps=1, minimum=0.0, maximum=255.0)


def warnings_of(source, model, force=False, **options):
    return plan_translation(source, model, Options(**options), Compute(device="cpu", force=force)).warnings


@pytest.mark.parametrize("pixels", [
    (LOOK * 0.3).astype("float32"), (LOOK * 10_200).astype("uint16"), (LOOK * 10_000).astype("float32"),
    (LOOK * 1.0).astype("float64"), (LOOK * -3000).astype("int16")], ids=lambda p: f"{p.dtype} to {p.max():.4g}")
def test_another_unit_is_refused_with_both_ranges(make_raster, bytes_model, tmp_path, pixels):
    source = make_raster(pixels)
    low, high = np.percentile(pixels, (2, 98))
    with pytest.raises(RasterError) as error:
        translate_raster(source, tmp_path / "o.tif", bytes_model, compute=CPU)
    said = str(error.value)
    assert f"{low:.4g} to {high:.4g}" in said and "0 to 255" in said
    assert all(option in said for option in ("--input-scale", "--input-range", "--force"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bytes", "in.tif"]
    assert any("lie outside" in warning for warning in warnings_of(source, bytes_model, force=True))


@pytest.mark.parametrize("pixels", [
    (LOOK * 255).astype("uint8"), (LOOK * 3).astype("uint8"), (LOOK * 250).astype("float32"),
    (LOOK * 200).astype("uint16"), np.full((1, 40, 50), 0.0, "float32")], ids=lambda p: f"{p.dtype} to {p.max():.4g}")
def test_values_of_the_models_unit_pass_in_silence(make_raster, bytes_model, pixels):
    assert not [w for w in warnings_of(make_raster(pixels), bytes_model) if "range" in w]


def test_a_little_outside_is_a_warning_with_the_share(make_raster, bytes_model):
    pixels = np.full((1, 40, 50), 100, "float32")
    pixels[0, :10] = 400
    found = [w for w in warnings_of(make_raster(pixels), bytes_model) if "lie outside" in w]
    assert len(found) == 1 and found[0].startswith("25 % of the pixels") and "0 to 255" in found[0]


def test_bytes_are_too_few_for_a_model_of_ten_thousand(make_raster, make_package):
    model = make_package("dn", bands=1, steps=1, minimum=0.0, maximum=10_000.0)
    with pytest.raises(RasterError, match="are not those"):
        warnings_of(make_raster((LOOK * 255).astype("uint8")), model)
    assert not [w for w in warnings_of(make_raster((LOOK * 90).astype("uint16")), model) if "range" in w]  # night


def test_scale_and_offset_of_the_raster_count(make_raster, make_package):
    model = make_package("reflectance", bands=1, steps=1, minimum=0.0, maximum=1.0)
    pixels = (LOOK * 10_000).astype("uint16")
    assert not [w for w in warnings_of(make_raster(pixels, "a.tif", scales=(1e-4,)), model) if "range" in w]
    with pytest.raises(RasterError, match="are not those"):
        warnings_of(make_raster(pixels, "b.tif"), model)


def test_pixels_without_data_do_not_count(make_raster, bytes_model):
    pixels = (LOOK * 250).astype("float32")
    pixels[0, :20] = -9999
    assert not [w for w in warnings_of(make_raster(pixels, nodata=-9999), bytes_model) if "range" in w]


def test_another_unit_of_a_band_is_said(make_raster, make_package):
    spec = BandSpec(name="band 1", unit="DN", minimum=0, maximum=255)
    model = make_package("dn", bands=1, steps=1, bands_in=(spec,), bands_out=(spec,), minimum=0.0, maximum=255.0)
    pixels = (LOOK * 250).astype("uint8")
    assert any("W/m2" in w and "DN" in w for w in warnings_of(make_raster(pixels, "a.tif", units=("W/m2",)), model))
    assert not any("DN" in w for w in warnings_of(make_raster(pixels, "b.tif", units=("dn",)), model))


@pytest.mark.parametrize("options", [{"input_scale": 255.0}, {"input_range": (0.0, 1.0)}])
def test_values_that_are_brought_there_give_what_those_that_are_there_do(make_raster, bytes_model, tmp_path, options):
    small, large = make_raster(LOOK.astype("float32"), "a.tif"), make_raster((LOOK * 255).astype("float32"), "b.tif")
    found = translate_raster(small, tmp_path / "a-out.tif", bytes_model, Options(**options), compute=CPU)
    expected = translate_raster(large, tmp_path / "b-out.tif", bytes_model, compute=CPU)
    with rasterio.open(found) as a, rasterio.open(expected) as b:
        # The output has the input's numbers; its scale says how they become the model's.
        assert (a.scales[0], a.offsets[0]) == (255, 0) and b.scales[0] == 1
        np.testing.assert_allclose(a.read() * a.scales[0], b.read(), atol=2e-3)
        assert next(iter(options)).replace("_", "-") in a.tags()["GEOI2I_COMMAND"]


@pytest.mark.parametrize("options, words", [
    ({"input_scale": 2.0, "input_range": (0.0, 1.0)}, "one of them"), ({"input_scale": 0.0}, "other than 0"),
    ({"input_scale": float("inf")}, "other than 0"), ({"input_range": (1.0, 1.0)}, "lower value first")])
def test_a_wrong_adjustment_is_refused(options, words):
    with pytest.raises(Geoi2iError, match=words):
        Options(**options)


def test_a_model_without_a_network_takes_no_adjustment(make_raster):
    with pytest.raises(RasterError, match="takes numbers as they are"):
        warnings_of(make_raster((LOOK * 255).astype("uint8")), identity_package(1), input_scale=2.0)


@pytest.mark.parametrize("dtype, value, more", [
    ("int32", 16_777_216, False), ("int32", 16_777_217, True), ("int32", -16_777_217, True), ("int64", 2**60, False),
    ("int64", 2**53 + 1, True), ("int64", -(2**63), False), ("uint64", 2**64 - 1, True), ("uint32", 2**32 - 1, True),
    ("float64", 0.5, False), ("float64", 0.1, True), ("float64", np.nan, False), ("uint16", 65535, False),
    ("float32", 0.1, False)])
def test_more_digits_than_float32_are_said_once_where_there_are_any(make_raster, make_package, dtype, value, more):
    source = make_raster(np.array([[[value, 0, 1]]], dtype).repeat(8, 1))
    assert has_more_digits(RasterSource.open(source)) == more
    model = make_package("free", bands=1, steps=1, normalise_in={"kind": "none"}, normalise_out={"kind": "none"})
    assert sum("more digits" in w for w in warnings_of(source, model)) == more
    assert not any("more digits" in w for w in warnings_of(source, identity_package(1)))


def test_no_deviation_is_written_of_a_deterministic_model(make_raster, make_package, make_network, tmp_path):
    source = make_raster((LOOK * 250).astype("uint8"))
    still = make_network(1)
    sizes = type(still.sizes)(**{**dict(still.sizes), "style": 0}) if hasattr(still.sizes, "style") else still.sizes
    torch.manual_seed(0)
    network = type(still)(sizes).eval().requires_grad_(False)
    model = make_package("still", bands=1, network=network, maximum=255.0, table=StepTable(steps=(Step(),)))
    assert not model.stochastic and not identity_package(1).stochastic
    for each in (model, identity_package(1)):
        with pytest.raises(RasterError, match=r"deterministic.*--uncertainty"):
            translate_raster(source, tmp_path / "o.tif", each, Options(samples=2), compute=CPU,
                             uncertainty=tmp_path / "u.tif", callbacks=Callbacks())
    assert not (tmp_path / "o.tif").exists() and not (tmp_path / "u.tif").exists()
    assert make_package("styled", bands=1, steps=1).stochastic
