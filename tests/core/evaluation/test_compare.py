"""Two rasters are compared on one grid, on purpose, and neither cutting nor workers change a bit of the result."""

import numpy as np
import pytest
from affine import Affine
from geoi2i.core.errors import RasterError
from geoi2i.core.evaluation import compare as comparison
from geoi2i.core.evaluation.compare import measure_pair, on_one_grid
from geoi2i.core.evaluation.thumbnail import Thumbnail
from geoi2i.core.metrics import measured, q2n, rmse, scc_dlpan, ssim
from geoi2i.core.metrics.histogram import chi_square, histogram_counts, histogram_distance
from geoi2i.core.metrics.spectrum import energy_retention, power_spectra
from geoi2i.core.raster.source import RasterSource
from scipy.ndimage import gaussian_filter

PLACE = Affine(10, 0, 500_000, 0, -10, 4_500_000)
RNG = np.random.default_rng(0)
TRUTH = gaussian_filter(RNG.normal(size=(3, 300, 410)), (0, 2, 2)) * 400 + 1000
OTHER = TRUTH * 1.02 + RNG.normal(0, 5, TRUTH.shape)
MEASURES = [rmse(), ssim(2047), scc_dlpan(), q2n(), energy_retention("mid", (1 / 8, 1 / 4), power_spectra()),
            histogram_distance("chi", chi_square, histogram_counts(0, 2047), 0, 2047)]


@pytest.fixture
def raster(make_raster):
    """`raster(pixels, name)`: an opened raster on 10 m pixels."""
    return lambda pixels, name, **facts: RasterSource.open(
        make_raster(pixels, name, **{"transform": PLACE, **facts}))


def values(pair, measures=MEASURES, **facts):
    return [found.compute() for found in measure_pair(pair, measures, **facts)]


def test_rasters_are_measured_as_arrays_are(raster):
    one, two = raster(OTHER.astype("float32"), "p.tif"), raster(TRUTH.astype("float32"), "r.tif")
    pair = on_one_grid(one, two)
    assert pair.statement == "the same pixels"
    for measure, score in zip(MEASURES, values(pair)):
        expected = measured(measure, TRUTH.astype("float32"), OTHER.astype("float32"))
        assert score.value == pytest.approx(expected, rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("workers, patch, tiled", [(1, 512, False), (3, 32, True), (2, 96, False)])
def test_the_result_does_not_depend_on_workers_and_patches(raster, monkeypatch, workers, patch, tiled):
    layout = {"tiled": True, "blockxsize": 64, "blockysize": 64} if tiled else {}
    mask = RNG.random(TRUTH.shape[1:]) > 0.001
    one, two = raster(OTHER.astype("uint16"), "p.tif", mask=np.uint8(mask) * 255, **layout), raster(
        TRUTH.astype("uint16"), "r.tif")
    pair = on_one_grid(one, two)
    expected = values(pair)
    monkeypatch.setattr(comparison, "worker_count", lambda device: workers)
    monkeypatch.setattr(comparison, "_PATCH_PX", patch)
    for found, wanted in zip(values(pair), expected):
        assert (found.n_valid, found.excluded) == (wanted.n_valid, wanted.excluded)
        assert found.value == pytest.approx(wanted.value, rel=1e-12)
    assert wanted.excluded == np.count_nonzero(~mask)


def test_workers_change_no_bit(raster, monkeypatch):
    pair = on_one_grid(raster(OTHER.astype("float32"), "p.tif"), raster(TRUTH.astype("float32"), "r.tif"))
    monkeypatch.setattr(comparison, "_PATCH_PX", 64)
    found = []
    for workers in (1, 4):
        monkeypatch.setattr(comparison, "worker_count", lambda device, n=workers: n)
        found.append(values(pair))
    assert found[0] == found[1]


def test_what_nodata_holds_changes_nothing(raster):
    hole = np.zeros(TRUTH.shape[1:], bool)
    hole[40:90, 100:333] = True
    scores = []
    for fill, nodata in ((-9999, -9999), (65000, 65000), (np.nan, np.nan)):
        spoilt = [np.where(hole, fill, image).astype("float32") for image in (OTHER, TRUTH)]
        scores.append(values(on_one_grid(raster(spoilt[0], f"p{fill}.tif", nodata=nodata),
                                         raster(spoilt[1], f"r{fill}.tif", nodata=nodata))))
    assert scores[0] == scores[1] == scores[2] and scores[0][0].excluded == hole.sum()


def test_scale_and_offset_are_applied(raster):
    stored = np.rint(TRUTH).astype("uint16")
    one = raster(stored, "p.tif", scales=(0.1,) * 3, offsets=(-5.0,) * 3)
    two = raster((stored * 0.1 - 5.0).astype("float64"), "r.tif")
    assert values(on_one_grid(one, two), [rmse()])[0].value == pytest.approx(0, abs=1e-12)


def test_a_crop_is_compared_where_both_have_pixels(raster):
    crop = raster(OTHER[:, 20:220, 33:333].astype("float32"), "c.tif", transform=PLACE @ Affine.translation(33, 20))
    pair = on_one_grid(crop, raster(TRUTH.astype("float32"), "r.tif"))
    assert pair.statement == "the 200 x 300 pixels that both have"
    expected = measured(rmse(), TRUTH[:, 20:220, 33:333], OTHER[:, 20:220, 33:333])
    assert values(pair, [rmse()])[0].value == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("place, crs, sentence", [
    (PLACE @ Affine.translation(0.5, 0), "EPSG:32631", "a fraction of a pixel"),
    (PLACE @ Affine.scale(0.5), "EPSG:32631", "pixels of 10 x 10 and 5 x 5 units"),
    (PLACE, "EPSG:32632", "WGS 84 / UTM zone 31N and WGS 84 / UTM zone 32N"),
    (PLACE, None, "WGS 84 / UTM zone 31N and no CRS")])
def test_other_pixels_are_refused_with_what_differs(raster, place, crs, sentence):
    one = raster(TRUTH.astype("float32"), "p.tif")
    two = raster(TRUTH.astype("float32"), "r.tif", transform=place, crs=crs)
    with pytest.raises(RasterError, match="have different pixels") as error:
        on_one_grid(one, two)
    assert sentence in str(error.value) and "--resample-to" in str(error.value)


def test_onto_brings_one_to_the_others_pixels_and_says_so(raster):
    moved = raster(TRUTH.astype("float32"), "p.tif", transform=PLACE @ Affine.translation(0.5, 0.5))
    fixed = raster(TRUTH.astype("float32"), "r.tif")
    onto_reference, onto_prediction = (on_one_grid(moved, fixed, onto) for onto in ("reference", "prediction"))
    assert onto_reference.statement == ("the 300 x 410 pixels of the reference, to whose grid the prediction was "
                                        "resampled (bilinear)")
    assert "of the prediction, to whose grid the reference" in onto_prediction.statement
    means = TRUTH[:, :-1] + TRUTH[:, 1:]
    means = (means[:, :, :-1] + means[:, :, 1:]) / 4
    expected = measured(rmse(), TRUTH[:, 1:, 1:], means)
    found = values(onto_reference, [rmse()])[0]
    assert found.value == pytest.approx(expected, rel=0.01) and found.n_valid >= 299 * 409


@pytest.mark.parametrize("steps, onto", [((1000, 0), None), ((1000.5, 0), "reference"), ((0, 5000.5), "prediction")])
def test_rasters_that_lie_apart_are_refused(raster, steps, onto):
    one = raster(TRUTH.astype("float32"), "p.tif")
    two = raster(TRUTH.astype("float32"), "r.tif", transform=PLACE @ Affine.translation(*steps))
    with pytest.raises(RasterError, match=r"no pixel in common|do not overlap"):
        on_one_grid(one, two, onto)


def test_the_thumbnail_is_the_mean_of_blocks(raster, monkeypatch):
    monkeypatch.setattr(comparison, "_PATCH_PX", 96)
    hole = np.zeros(TRUTH.shape[1:], bool)
    hole[0:8, 0:8] = hole[50, 60] = True
    one = raster(np.where(hole, -1, OTHER).astype("float32"), "p.tif", nodata=-1)
    pair = on_one_grid(one, raster(TRUTH.astype("float32"), "r.tif"))
    thumbnail = Thumbnail(300, 410, 3, longest=103)
    measure_pair(pair, [q2n()], thumbnail=thumbnail)
    reference, prediction = thumbnail.images()
    assert thumbnail.factor == 4 and reference.shape == (3, 75, 103)
    expected = np.where(hole, np.nan, OTHER)[:, :300, :408].reshape(3, 75, 4, 102, 4)
    with np.testing.suppress_warnings() as quiet:
        quiet.filter(RuntimeWarning)
        np.testing.assert_allclose(prediction[:, :, :102], np.nanmean(expected, (2, 4)), rtol=1e-5)
    assert np.isnan(reference[:, :2, :2]).all() and np.isfinite(reference[:, 12, 15]).all()


