"""Laws of a model that takes what another makes: as if the first had been run alone, without a file between."""

import json

import numpy as np
import pytest
import rasterio
from geoi2i.core.errors import ModelError, RasterError
from geoi2i.core.inference.steps import Step, StepTable
from geoi2i.core.models.manifest import BandSpec
from geoi2i.core.models.package import ModelPackage, identity_package
from geoi2i.core.run import Callbacks, Compute, Options, translate_raster

RGB = tuple(BandSpec(name=name, minimum=-1, maximum=1) for name in ("red", "green", "blue"))


def with_names(folder, **facts):
    """A package's manifest with other bands, or other facts."""
    path = folder / "manifest.json"
    content = json.loads(path.read_text()) | facts
    path.write_text(json.dumps(content))
    return folder


@pytest.fixture
def pair(make_package, make_network):
    """`pair(steps)`: two packages side by side, the second of which takes what the first makes, in another order."""

    def make(steps=1, **second):
        named = {"bands_in": RGB, "bands_out": RGB, "dtype": "float32"}
        first = make_package("first", steps=steps, **named)
        second = make_package("second", network=make_network(seed=5), steps=steps, input_model="first",
                              **(named | {"bands_in": RGB[::-1]} | second))
        return first, ModelPackage.load(second.folder)

    return make


@pytest.fixture
def scene(make_raster):
    pixels = np.random.default_rng(0).normal(0, 0.4, (3, 150, 90)).astype("float32")
    pixels[:, 60:70, 20:50] = np.nan
    return make_raster(pixels, name="scene.tif")


def run(source, output, package, **options):
    path = translate_raster(source, output, package, Options(**options), compute=Compute(device="cpu"))
    with rasterio.open(path) as data:
        return data.read()


@pytest.mark.slow
def test_a_chain_is_the_first_model_and_then_the_second(pair, scene, tmp_path):
    first, second = pair()
    found = run(scene, tmp_path / "both.tif", second)
    run(scene, tmp_path / "first.tif", first, seed=1 << 40)  # the models of a line draw noise of their own
    alone = ModelPackage(second.manifest.model_copy(update={"input_model": None}), second.folder)
    expected = run(str(tmp_path / "first.tif"), tmp_path / "second.tif", alone)
    with rasterio.open(tmp_path / "first.tif") as data:
        assert data.descriptions == ("red", "green", "blue")
    # What has no data is filled by other numbers; far from the hole the two are the same.
    far = np.s_[:, 110:, :]
    assert np.abs(found[far] - expected[far]).max() < 1e-5 and np.isnan(found).sum() == np.isnan(expected).sum() > 0


@pytest.mark.slow
def test_a_chain_does_not_depend_on_its_tiling(pair, scene, tmp_path):
    _, second = pair(steps=2)
    whole = run(scene, tmp_path / "a.tif", second, tile=4096)
    assert np.nanmax(np.abs(whole - run(scene, tmp_path / "b.tif", second, tile=32))) < 1e-4
    part = translate_raster(scene, tmp_path / "c.tif", second, compute=Compute(device="cpu"),
                            bounds=(500_300, 4_500_000 - 30 * 100, 501_500, 4_500_000 - 30 * 20))
    with rasterio.open(part) as data:
        assert np.nanmax(np.abs(data.read() - whole[:, 20:100, 10:50])) < 1e-4
        assert data.tags()["GEOI2I_INPUT_MODEL"] == "first"


def test_three_models_in_a_row_run_in_one_go(pair, make_package, make_network, scene, tmp_path):
    pair()
    third = make_package("third", network=make_network(seed=7), steps=1, input_model="second", bands_in=RGB,
                         bands_out=RGB)
    third = ModelPackage.load(third.folder)
    assert [package.manifest.input_model for package in third.chain()] == [None, "first", "second"]
    assert np.isfinite(run(scene, tmp_path / "o.tif", third)[:, 110:]).all()


@pytest.mark.slow
def test_a_chain_goes_on_where_it_was_stopped_and_knows_when_the_first_model_changed(pair, make_raster, tmp_path,
                                                                                     monkeypatch):
    from geoi2i.core.output import strips

    monkeypatch.setattr(strips, "_STRIP_BYTES", 1)
    first, second = pair()
    source = make_raster(np.random.default_rng(0).normal(0, 0.4, (3, 1400, 40)).astype("float32"), tiled=True,
                         blockxsize=64, blockysize=64)
    expected = translate_raster(source, tmp_path / "e.tif", second, compute=Compute(device="cpu")).read_bytes()

    class Stop(Exception):
        pass

    def stop(done, total):
        if done > 900:
            raise Stop

    def stopped():
        with pytest.raises(Stop):
            translate_raster(source, tmp_path / "o.tif", second, compute=Compute(device="cpu"),
                             callbacks=Callbacks(stop))

    stopped()
    with_names(first.folder, title="Another")
    with pytest.raises(Exception, match="manifest was"):
        translate_raster(source, tmp_path / "o.tif", ModelPackage.load(second.folder), compute=Compute(device="cpu"))
    with_names(first.folder, title="Random weights")
    found = translate_raster(source, tmp_path / "o.tif", ModelPackage.load(second.folder),
                             compute=Compute(device="cpu"))
    assert found.read_bytes() == expected


@pytest.mark.parametrize("change, words", [
    ({"input_model": "second"}, "leads back to itself"),
    ({"input_model": "none"}, "which is missing: copy that package to .*none"),
    ({"input_model": "../first"}, "input_model"),
    ({"bands_in": [{"name": "uv", "minimum": -1, "maximum": 1}] * 3}, "takes the band 'uv', which first does not make"),
    ({"normalise_in": {"kind": "percentile", "low": 2, "high": 98}}, "give both fixed ranges")])
def test_what_does_not_belong_together_is_refused(pair, change, words):
    _, second = pair()
    with_names(second.folder, **change)
    with pytest.raises(ModelError, match=words):
        ModelPackage.load(second.folder)


def test_packages_that_take_each_others_output_are_refused(pair):
    first, second = pair()
    with_names(first.folder, input_model="second")
    with pytest.raises(ModelError, match="leads back to itself"):
        ModelPackage.load(second.folder)


@pytest.mark.slow
def test_power_is_seen_in_decibels_by_the_first_model_alone(make_package, make_network, make_raster, tmp_path):
    """Whether the second takes decibels too, which the first makes, or not."""
    power = np.random.default_rng(0).gamma(2, 0.1, (3, 60, 44)).astype("float32")
    as_power = make_raster(power, name="power.tif")
    as_decibels = make_raster(10 * np.log10(power), name="decibels.tif")
    decibels = tuple(BandSpec(name=name, unit="dB", minimum=-30, maximum=5) for name in ("HH", "HV", "VV"))
    make_package("despeckled", minimum=-30, maximum=5, bands_in=decibels, bands_out=decibels, dtype="float32")
    plain = tuple(band.model_copy(update={"unit": ""}) for band in decibels)
    make_package("plain", minimum=-30, maximum=5, bands_in=decibels, bands_out=plain, dtype="float32")
    for name, before, taken in (("second", "despeckled", decibels), ("third", "plain", plain)):
        package = make_package(name, network=make_network(seed=5), minimum=-30, maximum=5, bands_in=taken,
                               bands_out=plain, input_model=before, dtype="float32")
        package = ModelPackage.load(package.folder)
        found = run(as_power, tmp_path / f"{name}-a.tif", package, to_db=True)
        assert np.abs(found - run(as_decibels, tmp_path / f"{name}-b.tif", package)).max() < 1e-2
        with pytest.raises(RasterError, match="looks like power"):
            run(as_power, tmp_path / f"{name}-c.tif", package)


def test_models_of_a_line_draw_noise_of_their_own(make_raster, tmp_path):
    """Two that add noise of 0.1: of the same noise it would be 0.2, of other noise it is sqrt(2) times 0.1."""
    table = StepTable(steps=(Step(c_skip=1.0, c_out=0.0, noise=0.1),))
    manifest = identity_package(3).manifest.model_copy(update={"table": table})
    first = ModelPackage(manifest)
    both = ModelPackage(manifest.model_copy(update={"input_model": "identity"}), None, first)
    flat = make_raster(np.zeros((3, 150, 90), "float32"), name="flat.tif")
    assert run(flat, tmp_path / "one.tif", first).std() == pytest.approx(0.1, rel=0.02)
    assert run(flat, tmp_path / "two.tif", both).std() == pytest.approx(0.1 * 2**0.5, rel=0.02)
