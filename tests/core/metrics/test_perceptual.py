"""Measures by networks against the published codes with the same weights, and the laws that all measures keep.

The weights are noise: the values say nothing about images, but they are those that lpips 0.1.4, DISTS-pytorch 0.1
and pytorch-fid 0.3 compute with them.
"""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchmetrics.functional.image.dists as torchmetrics_dists
import torchmetrics.functional.image.lpips as torchmetrics_lpips
from geoi2i.core.errors import ModelError
from geoi2i.core.metrics.backbones import AlexNet
from geoi2i.core.metrics.measure import Accumulator, measured, patch_of
from geoi2i.core.metrics.perceptual import dists, fid, lpips, lpips_sat
from geoi2i.core.metrics.weights import WEIGHTS, load_backbone
from metric_inputs import pair
from scipy.linalg import sqrtm

sys.path.insert(0, str(Path(__file__).parent))
from test_backbones import lively, saved

pytestmark = pytest.mark.slow

NAMES = ("alexnet", "vgg16", "sentinel2-rgb", "inception")
REFERENCE, PREDICTION = (image[:3] for image in pair("rr4"))  # 128 x 128 pixels: 4 tiles


@pytest.fixture(scope="module")
def backbones(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in NAMES:
            saved(lively(WEIGHTS[name].network()), name, folder, monkeypatch)
        return {name: load_backbone(name, folder) for name in NAMES}


@pytest.fixture
def every(backbones):
    """Measures with tiles of 64 pixels; VGG16 takes long, so that one of it is enough, and FID stands apart."""
    return {"alexnet": lpips(backbones["alexnet"], 0, 2047, 64),
            "dists": dists(backbones["vgg16"], 0, 2047, 64), "sat": lpips_sat(backbones["sentinel2-rgb"], 0, 2047, 64)}


@pytest.fixture
def lpips_vgg(backbones):
    return lpips(backbones["vgg16"], 0, 2047, 64)


def unit(images):
    """In [0, 1], as networks take them."""
    return torch.from_numpy(images / 2047).float()[None]


def by_tiles(function, side=64):
    found = [function(*(unit(image[:, row : row + side, col : col + side]) for image in (REFERENCE, PREDICTION))).item()
             for row in range(0, 128, side) for col in range(0, 128, side)]
    return np.mean(found)


# --- against published codes -------------------------------------------------------------------------

PUBLISHED = {"alexnet": 0.003716763691, "vgg16": 0.005237619625, "dists": 0.004284507135}
"""DISTS in float64: in float32 its program loses digits."""


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_they_are_those_of_the_published_codes(name, every, lpips_vgg):
    found = measured((every | {"vgg16": lpips_vgg})[name], REFERENCE, PREDICTION)
    assert found == pytest.approx(PUBLISHED[name], rel=1e-5)


@pytest.mark.parametrize("name, short", [("alexnet", "alex"), ("vgg16", "vgg")])
def test_lpips_is_that_of_torchmetrics(name, short, every, lpips_vgg, backbones, monkeypatch):
    monkeypatch.setattr(torchmetrics_lpips, "_get_tv_model_features", lambda *_: backbones[name].module.features)
    network = torchmetrics_lpips._NoTrainLpips(net=short)
    expected = by_tiles(lambda one, other: network(one, other, normalize=True))
    found = measured((every | {"vgg16": lpips_vgg})[name], REFERENCE, PREDICTION)
    assert found == pytest.approx(expected, rel=1e-5)


def test_dists_is_that_of_torchmetrics(every, backbones, monkeypatch):
    monkeypatch.setattr(torchmetrics_dists, "_TORCHVISION_AVAILABLE", True)
    monkeypatch.setattr(torchmetrics_dists, "VGG16_Weights", type("", (), {"DEFAULT": None}), raising=False)
    monkeypatch.setattr(torchmetrics_dists, "vgg16", lambda weights: backbones["vgg16"].module,
                        raising=False)
    monkeypatch.setattr(torch, "load", lambda path, load=torch.load: load(path, "cpu", weights_only=True))
    expected = by_tiles(torchmetrics_dists.DISTSNetwork())
    # It subtracts a sum in float32 from 1.
    assert measured(every["dists"], REFERENCE, PREDICTION) == pytest.approx(expected, abs=2e-7)


def test_lpips_sat_is_the_mean_over_places_of_the_squared_chord_between_features(every, backbones):
    def chord(one, other):
        maps = [backbones["sentinel2-rgb"].module(image) for image in (one, other)]
        return sum(2 - 2 * torch.cosine_similarity(a.double(), b.double()).mean() for a, b in zip(*maps))

    assert measured(every["sat"], REFERENCE, PREDICTION) == pytest.approx(by_tiles(chord), rel=1e-5)


# --- laws --------------------------------------------------------------------------------------------

@pytest.mark.slow
def test_equal_images_are_at_0_and_the_order_does_not_matter(every):
    for measure in every.values():
        assert measured(measure, REFERENCE, REFERENCE) == measure.best == 0
        assert measured(measure, REFERENCE, PREDICTION) == pytest.approx(
            measured(measure, PREDICTION, REFERENCE), rel=1e-5)


def test_any_partition_on_the_lattice_gives_the_same(every):
    mask = np.ones((128, 101), bool)
    mask[70, 90] = False
    reference, prediction = (image[:, :, :101] for image in (REFERENCE, PREDICTION))  # the last tiles are smaller
    parts = [np.s_[row : row + 64, col : col + 64] for row in (0, 64) for col in (0, 64)]
    for measure in every.values():
        whole = Accumulator(measure).update(reference, prediction, mask).compute()
        workers = Accumulator(measure), Accumulator(measure)
        for number in (2, 0, 3, 1):
            part = parts[number]
            workers[number % 2].update(reference[:, *part], prediction[:, *part], mask[part])
        found = workers[0].merge(workers[1]).compute()
        assert (found.n_valid, found.excluded) == (whole.n_valid, whole.excluded) == (128 * 101 - 64 * 37, 1)
        assert found.value == pytest.approx(whole.value, rel=1e-12)


@pytest.mark.slow
def test_the_order_of_values_in_memory_does_not_matter(every):
    """Those of `pair` have their bands together."""
    for measure in every.values():
        found = measured(measure, *(np.ascontiguousarray(image) for image in (REFERENCE, PREDICTION)))
        assert found == measured(measure, REFERENCE, PREDICTION)


def test_a_tile_counts_by_its_pixels(every):
    """64 x 64 and 64 x 37 pixels; 20 more columns would be too few."""
    measure = every["alexnet"]
    parts = [np.s_[:, :64, :64], np.s_[:, :64, 64:101]]
    left, right = (measured(measure, REFERENCE[part], PREDICTION[part]) for part in parts)
    both = Accumulator(measure).update(REFERENCE[:, :64, :101], PREDICTION[:, :64, :101]).compute()
    assert both.value == pytest.approx((64 * left + 37 * right) / 101, rel=1e-5)
    assert Accumulator(measure).update(REFERENCE[:, :, :84], PREDICTION[:, :, :84]).compute().n_valid == 2 * 64 * 64


@pytest.mark.parametrize("fill", [-9999, 65535, np.nan])
def test_what_is_masked_changes_nothing(fill, every):
    mask = np.ones((128, 128), bool)
    mask[3:9, 5:70] = False
    spoilt = [np.where(mask, image, fill) for image in (REFERENCE, PREDICTION)]
    for measure in every.values():
        clean = Accumulator(measure).update(REFERENCE, PREDICTION, mask).compute()
        assert Accumulator(measure).update(*spoilt, mask).compute() == clean
        assert clean.n_valid == 2 * 64 * 64 and clean.excluded == 6 * 65


def test_values_are_scaled_from_the_range(every, backbones):
    moved = lpips(backbones["alexnet"], -1000, 3094, 64)
    assert measured(moved, 2 * REFERENCE - 1000, 2 * PREDICTION - 1000) == pytest.approx(
        measured(every["alexnet"], REFERENCE, PREDICTION), rel=1e-5)


# --- the Frechet distance ----------------------------------------------------------------------------

@pytest.mark.slow
def test_fid_is_the_distance_of_the_tiles_features(backbones):
    """The root of the product of two covariances of few tiles has the trace of the root of a matrix of their size."""
    measure = fid(backbones["inception"], 0, 2047, 32)
    images = [image[:, :64, :96] for image in (REFERENCE, PREDICTION)]
    accumulated = Accumulator(measure)
    for columns in (slice(64, 96), slice(0, 64)):
        accumulated.update(*(image[..., columns] for image in images))
    score = accumulated.compute()
    features = []
    for image in images:
        tiles = np.stack([image[:, row : row + 32, col : col + 32] for row in (0, 32) for col in (0, 32, 64)])
        with torch.inference_mode():
            features.append(backbones["inception"].module(
                torch.from_numpy(np.rint(tiles / 2047 * 255)).float()).double().numpy())
    step = features[0].mean(0) - features[1].mean(0)
    one, other = ((image - image.mean(0)) / 5**0.5 for image in features)
    expected = step @ step + (one**2).sum() + (other**2).sum() - 2 * np.trace(sqrtm(one @ other.T @ other @ one.T)).real
    assert score.n_valid == 6 and score.value == pytest.approx(expected, rel=1e-4)
    assert score.value == pytest.approx(FID_OF_PYTORCH, rel=1e-4)


FID_OF_PYTORCH = 43.65146609735848


def test_fid_of_equal_images_is_0_and_of_others_that_of_scipy(backbones):
    measure = fid(backbones["inception"], 0, 2047, 64)
    rng = np.random.default_rng(0)
    features = rng.random((50, 8)), rng.random((70, 8)) ** 2  # the images may have unlike numbers of tiles
    one, other = (extended.T @ extended for extended in (np.insert(f, 0, 1, axis=1) for f in features))
    (mean1, c1), (mean2, c2) = ((f.mean(0), np.cov(f.T)) for f in features)
    expected = ((mean1 - mean2) ** 2).sum() + np.trace(c1 + c2 - 2 * sqrtm(c1 @ c2).real)
    assert measure.score({"count": 50, "reference": one, "prediction": other}) == pytest.approx(expected, rel=1e-9)
    assert measure.score({"count": 50, "reference": one, "prediction": one}) == pytest.approx(0, abs=1e-9)


def test_fid_sees_pictures_of_8_bits(backbones):
    image = REFERENCE[:, :64] // 4 * 4
    moments = fid(backbones["inception"], 0, 1020, 64).sums(patch_of(image, image.clip(0, 1020) + 1.9))
    assert np.array_equal(moments["reference"], moments["prediction"])


def test_one_image_in_place_of_both_is_run_once(backbones):
    measure, seen = fid(backbones["inception"], 0, 2047, 64), []
    hook = backbones["inception"].module.register_forward_hook(lambda network, args, found: seen.append(len(found)))
    moments = measure.sums(patch_of(REFERENCE, REFERENCE))
    hook.remove()
    assert sum(seen) == 4 and np.array_equal(moments["reference"], moments["prediction"])


def test_fid_needs_two_whole_tiles(backbones):
    measure = fid(backbones["inception"], 0, 2047, 64)
    score = Accumulator(measure).update(REFERENCE[:, :64, :100], PREDICTION[:, :64, :100]).compute()
    assert np.isnan(score.value) and score.n_valid == 1 and "fewer than two tiles of 64 pixels" in score.note


# --- what stands beside a value, and what has none ---------------------------------------------------

def test_a_score_names_its_weights(every, backbones):
    for measure in (*every.values(), fid(backbones["inception"], 0, 2047, 64)):
        backbone = backbones[measure.settings["backbone"]]
        assert measure.settings["sha256"] == backbone.sha256 and measure.settings["file"] == backbone.file
        assert [measure.settings[key] for key in ("tile", "low", "high")] == [64, 0, 2047] and measure.block_px == 64


def test_a_wrong_number_of_bands_says_what_to_do(every, backbones):
    four = pair("rr4")[0]
    for measure in (*every.values(), fid(backbones["inception"], 0, 2047, 64)):
        score = Accumulator(measure).update(four, four).compute()
        assert np.isnan(score.value) and "choose 3 bands" in score.note


def test_a_network_of_unknown_weights_never_gets_into_a_measure(backbones):
    for make, wrong in ((lpips, AlexNet()), (lpips, "inception"), (lpips_sat, "vgg16"), (dists, "alexnet"),
                        (fid, "sentinel2-rgb")):
        with pytest.raises(ModelError, match=r"cannot use .*load_backbone"):
            make(backbones.get(wrong, wrong) if isinstance(wrong, str) else wrong, 0, 1)
