"""FSIM and NIQE are those of the authors' codes, never look under the mask, and do not depend on windows.

Values marked MATLAB come from FeatureSIM.m and LIVE's NIQE release run in GNU Octave. LIVE's parameters are not ours to
give; the tests that need them take those of the package basicsr (Apache-2.0), which is not imported.
"""

import hashlib
import io
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from geoi2i.core.errors import ModelError
from geoi2i.core.metrics import Accumulator, measured
from geoi2i.core.metrics.fsim import fsim
from geoi2i.core.metrics.niqe import NiqeParameters, load_niqe_parameters, niqe
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_inputs import box, lcg, scene
from skimage import data

# --- FSIM --------------------------------------------------------------------------------------------

FSIM = {"camera": 0.981256310639859, "grass": 0.996958185715125, "scene": 0.895601414539308}  # MATLAB
LAWS = {"FSIM": fsim(0, 255, tile=64), "FSIMc": fsim(0, 255, chromatic=True, tile=64)}


def grey_pair(name):
    image = scene(160, 224, 1, 6)[..., 0] // 8 if name == "scene" else getattr(data, name)().astype(np.int64)
    return image, image // 16 * 16 + 8 if name == "grass" else box(image, 1 if name == "camera" else 2)


def colour_pair(height=200, width=150):
    image = scene(height, width, 3, 5, most=255)
    noise = lcg(9, image.size).reshape(image.shape) % 61 - 30
    return image.transpose(2, 0, 1), np.clip(image + noise, 0, 255).transpose(2, 0, 1)


@pytest.mark.parametrize("name", FSIM)
def test_fsim_is_that_of_the_authors_code(name):
    one, other = grey_pair(name)
    assert measured(fsim(0, 255), one, other) == pytest.approx(FSIM[name], abs=1e-12)
    assert measured(fsim(-1, 1), one / 127.5 - 1, other / 127.5 - 1) == pytest.approx(FSIM[name], abs=1e-9)


def test_odd_sides_and_opposite_colours_are_those_of_the_authors_code():
    """The values are of a line-by-line transcription of FeatureSIM.m with scipy's convolve2d."""
    one, other = colour_pair(401, 385)
    found = [measured(fsim(0, 255, chromatic), one, other[::-1]) for chromatic in (False, True)]
    assert found == pytest.approx([0.9688724126142269, 0.9584325431418179], abs=1e-12)


def test_colours_count_in_fsimc_only():
    one, other = colour_pair()
    luminance = [np.tensordot([0.299, 0.587, 0.114], image, 1) for image in (one, other)]
    assert measured(fsim(0, 255), one, other) == pytest.approx(measured(fsim(0, 255), *luminance), abs=1e-12)
    assert measured(fsim(0, 255, chromatic=True), one, other) < measured(fsim(0, 255), one, other)
    grey = [np.stack([image] * 3) for image in grey_pair("scene")]
    assert measured(fsim(0, 255, chromatic=True), *grey) == pytest.approx(FSIM["scene"], abs=1e-12)


def test_fsim_of_other_bands_is_their_mean_and_fsimc_says_that_it_has_none():
    one, other = (image[:2] for image in colour_pair())
    alone = [measured(fsim(0, 255), a, b) for a, b in zip(one, other)]
    assert measured(fsim(0, 255), one, other) == pytest.approx(np.mean(alone), abs=1e-12)
    found = Accumulator(fsim(0, 255, chromatic=True)).update(one, other).compute()
    assert np.isnan(found.value) and "choose 3 bands" in found.note


@pytest.mark.parametrize("key", LAWS)
def test_an_image_is_like_itself(key):
    one, other = colour_pair()
    assert measured(LAWS[key], one, one) == 1
    assert measured(LAWS[key], one, other) == measured(LAWS[key], other, one) < 1
    flat = np.full((3, 64, 64), 7.3)
    assert measured(LAWS[key], flat, flat) == 1


@pytest.mark.parametrize("key", LAWS)
def test_tiles_are_seen_alone_and_count_by_their_pixels(key):
    """Those of the last rows and columns are smaller, and what has less than 32 pixels does not count."""
    one, other = colour_pair()
    total = pixels = 0
    for row, col in np.ndindex(4, 3):
        part = slice(64 * row, min(64 * row + 64, 200)), slice(64 * col, min(64 * col + 64, 150))
        cut = [image[:, *part] for image in (one, other)]
        if min(cut[0].shape[1:]) >= 32:
            total += cut[0][0].size * measured(LAWS[key], *cut)
            pixels += cut[0][0].size
    found = Accumulator(LAWS[key]).update(one, other).compute()
    assert (found.n_valid, found.value) == (pixels, pytest.approx(total / pixels, abs=1e-12))


@pytest.mark.parametrize("key", LAWS)
@pytest.mark.parametrize("fill", [0, -9999, np.nan, np.inf])
def test_fsim_never_looks_under_the_mask(key, fill):
    one, other = colour_pair()
    mask = np.ones(one.shape[1:], bool)
    mask[70:90, 10:20] = False
    found = Accumulator(LAWS[key]).update(*(np.where(mask, image, fill) for image in (one, other)), mask).compute()
    assert found == Accumulator(LAWS[key]).update(one, other, mask).compute()
    assert found.n_valid == 192 * 128 - 64 * 64 and found.excluded == 200


# --- NIQE --------------------------------------------------------------------------------------------

NIQE = {"camera": 3.0962072441, "grass": 6.4929247978, "gravel": 4.33370206051, "chelsea": 2.57208404301,
        "coffee": 4.05846200749, "moon": 9.11348541223}  # MATLAB
LIVE_SHA256 = "2a7c182a68c9e7f1b2e2e5ec723279d6f65d912b6fcaf37eb2bf03d7367c4296"
MADE_UP = NiqeParameters(np.linspace(0.1, 1, 36), np.eye(36), "")


@pytest.fixture(scope="module")
def live():
    found = find_spec("basicsr")
    assert found, "LIVE's parameters are not here: pip install --no-deps --require-hashes -r tests/niqe.txt"
    parameters = load_niqe_parameters(Path(found.origin).parent / "metrics" / "niqe_pris_params.npz")
    assert parameters.sha256 == LIVE_SHA256
    return parameters


@pytest.mark.parametrize("name", NIQE)
def test_niqe_is_that_of_lives_code(live, name):
    image = getattr(data, name)()
    image = image if image.ndim == 2 else image.transpose(2, 0, 1)
    # Eight windows of the moon are flat, where LIVE's code fits the signs of round-off.
    assert measured(niqe(live, 0, 255), image, image) == pytest.approx(NIQE[name], abs=2e-3 if name == "moon" else 1e-9)


def test_the_values_range_is_that_of_8_bits(live):
    image = data.camera()
    found = measured(niqe(live, -10, 24.5), image, image * (34.5 / 255) - 10)
    assert found == pytest.approx(NIQE["camera"], abs=1e-9)


HEIGHT, WIDTH, SIDE = 180, 200, 32  # a remainder of 20 rows and 8 columns


@cache
def textured(masked):
    image = scene(HEIGHT, WIDTH, 1, 7)[..., 0]
    image[:70, 100:] = 900  # without texture
    mask = np.ones(image.shape, bool)
    mask[np.arange(masked) * 53 % HEIGHT, np.arange(masked) * 91 % WIDTH] = False
    measure = niqe(MADE_UP, 0, 2047, SIDE)
    whole = Accumulator(measure).update(image, image, mask)
    assert whole.totals["textured"] > 3 and whole.totals["flat"] > 100
    return image, mask, measure, whole


@pytest.mark.slow
@settings(max_examples=60)
@given(st.sets(st.integers(1, HEIGHT // SIDE)), st.sets(st.integers(1, WIDTH // SIDE)), st.randoms(),
       st.integers(0, 2), st.sampled_from((0, 7)))
def test_any_partition_in_any_order_gives_the_same_niqe(down, across, random, masked, more):
    image, mask, measure, whole = textured(masked)
    halo, sizes = measure.halo_px + more, image.shape
    edges = [sorted({0, size, *(SIDE * cut for cut in cuts)}) for size, cuts in zip(sizes, (down, across))]
    parts = [(rows, cols) for rows in zip(edges[0], edges[0][1:]) for cols in zip(edges[1], edges[1][1:])]
    random.shuffle(parts)
    workers = Accumulator(measure), Accumulator(measure)
    for number, bounds in enumerate(parts):
        reach = [(max(0, low - halo), min(size, high + halo)) for (low, high), size in zip(bounds, sizes)]
        seen = tuple(slice(*edge) for edge in reach)
        owned = tuple(slice(low - start, high - start) for (low, high), (start, _) in zip(bounds, reach))
        workers[number % 2].update(image[seen], image[seen], mask[seen], owned)
    found, wanted = workers[0].merge(workers[1]).compute(), whole.compute()
    assert (found.n_valid, found.excluded) == (wanted.n_valid, wanted.excluded)
    assert found.value == pytest.approx(wanted.value, rel=1e-11)
    assert [workers[0].totals[key] for key in ("textured", "flat", "windows")] == [
        whole.totals[key] for key in ("textured", "flat", "windows")]


@pytest.mark.parametrize("fill", [0, -9999, 65535, np.nan, np.inf])
def test_niqe_never_looks_under_the_mask(fill):
    image, mask, measure, whole = textured(2)
    found = Accumulator(measure).update(image, np.where(mask, image, fill), mask).compute()
    assert found == whole.compute()


def test_blocks_beside_a_hole_count_from_the_eleventh_pixel_on():
    """The ninth pixel still changes them, the eleventh nothing."""
    image, _, measure, _ = textured(0)
    for gap, blocks in ((9, 1), (10, 2)):
        mask = np.ones((32, 96), bool)
        mask[:, 64 + gap] = False
        assert Accumulator(measure).update(image[100:132, :96], image[100:132, :96], mask).totals["count"] == blocks

    def second(changed):
        other = image[100:132, :96].copy()
        other[:, 64 + changed] += 500
        return Accumulator(measure).update(other, other, owned=(slice(0, 32), slice(32, 64))).totals["features"]

    clean = second(31)
    assert (second(10) == clean).all() and (second(8) != clean).any()


def test_what_has_no_value_says_why():
    _, _, measure, _ = textured(0)
    flat = Accumulator(measure).update(np.full((64, 64), 5.0), np.full((64, 64), 5.0))
    assert np.isnan(flat.compute().value) and "0 of 4 blocks of 32 pixels have texture" in flat.compute().note
    assert flat.totals["flat"] == flat.totals["windows"] == 64 * 64
    four = scene(64, 64, 4, 7).transpose(2, 0, 1)
    assert "not at 4: choose bands" in Accumulator(measure).update(four, four).compute().note
    small = Accumulator(measure).update(four[0, :40, :40], four[0, :40, :40]).compute()
    assert np.isnan(small.value) and "1 of 1 blocks" in small.note
    assert "no pixel has data" in Accumulator(measure).update(four[0, :20], four[0, :20]).compute().note


def saved(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def test_parameters_are_read_with_their_hash(tmp_path):
    path = tmp_path / "parameters.npz"
    path.write_bytes(saved(mu_pris_param=MADE_UP.mean[None], cov_pris_param=MADE_UP.covariance))
    found = load_niqe_parameters(path)
    assert (found.mean == MADE_UP.mean).all() and (found.covariance == MADE_UP.covariance).all()
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert niqe(found, 0, 1).settings["parameters"] == found.sha256


WRONG = {"empty": b"", "no archive": b"MATLAB 5.0 MAT-file", "other names": saved(mean=np.zeros(36)),
         "shape": saved(mu_pris_param=np.zeros(36), cov_pris_param=np.zeros((36, 35))),
         "not finite": saved(mu_pris_param=np.full(36, np.nan), cov_pris_param=np.eye(36)),
         "objects": saved(mu_pris_param=np.array([print] * 36, object), cov_pris_param=np.eye(36)),
         "words": saved(mu_pris_param=np.array(["a"] * 36), cov_pris_param=np.eye(36))}


@pytest.mark.parametrize("kind", [*WRONG, "truncated", "missing", "folder"])
def test_a_bad_file_of_parameters_is_named_with_the_remedy(tmp_path, kind):
    path = tmp_path / "parameters.npz"
    if kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.write_bytes(saved(mu_pris_param=MADE_UP.mean)[:-40] if kind == "truncated" else WRONG[kind])
    with pytest.raises(ModelError, match=r"parameters\.npz .*name niqe_pris_params\.npz of BasicSR\.$"):
        load_niqe_parameters(path)
