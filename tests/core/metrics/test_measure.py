"""Measures agree with independent codes and closed forms, never look under the mask, and do not depend on windows.

Values marked MATLAB come from the original codes (DLPan-Toolbox, Wang's ssim_index and img_qi) run in GNU Octave.
"""


import numpy as np
import pytest
from geoi2i.core.metrics import (
    Accumulator,
    band_power,
    bias,
    calibration_error,
    chi_square,
    ciede2000,
    ergas,
    gaussian_nll,
    histogram,
    mae,
    measured,
    psnr,
    q,
    q2n,
    rmse,
    sam,
    scc_dlpan,
    scc_local,
    sliced_wasserstein,
    ssim,
)
from geoi2i.core.metrics.agreement import band_agreement, edge_displacement
from geoi2i.core.metrics.histogram import histogram_counts, histogram_distance
from geoi2i.core.metrics.pixel import delta_e_2000, to_lab
from geoi2i.core.metrics.spectrum import energy_retention, power_spectra
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_inputs import box, degraded, lcg, pair, scene
from scipy.stats import norm, wasserstein_distance
from skimage import color, data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

RNG = np.random.default_rng(0)
A = RNG.normal(100, 30, (3, 60, 70))
B = A + RNG.normal(0, 10, A.shape)
ALL = np.ones(A.shape[1:], bool)
EVERY = {"psnr": psnr(2047), "rmse": rmse(), "mae": mae(), "bias": bias(), "ergas": ergas(4), "sam": sam(),
         "ssim": ssim(2047), "q8": q(8), "q32": q(32), "scc": scc_dlpan(), "scc_local": scc_local(), "q2n": q2n(),
        "chi_square": histogram_distance("chi-square", chi_square, histogram_counts(0, 2047), 0, 2047),
        "mid_energy": energy_retention("mid", (1 / 8, 1 / 4), power_spectra()), "slope": band_agreement(),
        "edges": edge_displacement(side=32)}

# --- against the original codes ----------------------------------------------------------------------

MATLAB = {  # the local SCC is sewar's
    "rr4": {"q32": 0.980453096660893, "sam": 3.52017333961734, "ergas": 2.3411457362433, "scc": 0.976778040594018,
            "psnr": 28.63700878797716, "q2n": 0.980766383317455, "scc_local": 0.13870087973897177},
    "rr3pad": {"q32": 0.974391203244558, "sam": 4.70436451799623, "ergas": 2.68452730204288, "scc": 0.981653026789405,
               "psnr": 28.689136973775923, "q2n": 0.980971307084672, "scc_local": 0.1642937664222243},
    "rr1": {"q32": 0.976783026395648, "sam": 0.0, "ergas": 1.99295292475917, "scc": 0.98390638598302,
            "psnr": 32.986342080414715, "q2n": 0.98146448642994, "scc_local": 0.15775459843487386},
}


@pytest.mark.parametrize("name", MATLAB)
def test_they_are_those_of_the_toolbox(name):
    reference, prediction = pair(name)
    for key, expected in MATLAB[name].items():
        assert measured(EVERY[key], reference, prediction) == pytest.approx(expected, abs=1e-9)


TINY = np.array([  # (h,w,C), MATLAB's way to write it
    [[10, 20, 30], [40, 50, 60], [70, 80, 90], [12, 11, 10]], [[5, 5, 5], [100, 90, 80], [33, 22, 11], [1, 2, 3]],
    [[200, 100, 50], [50, 100, 200], [90, 90, 91], [7, 8, 9]],
    [[60, 61, 62], [15, 30, 45], [3, 2, 1], [255, 128, 64]]]).transpose(2, 0, 1)
TINY_OTHER = np.array([
    [[11, 18, 33], [40, 51, 60], [67, 82, 91], [14, 13, 8]], [[7, 1, 11], [100, 92, 80], [27, 26, 13], [5, 6, -1]],
    [[199, 102, 47], [50, 99, 200], [93, 88, 90], [5, 6, 11]],
    [[61, 59, 65], [15, 31, 45], [0, 4, 2], [257, 130, 62]]]).transpose(2, 0, 1)


def test_a_few_numbers_by_hand_are_those_of_the_toolbox():
    """Pixels with a zero spectrum have no angle: of 16 remain 14."""
    found = [measured(m, TINY, TINY_OTHER) for m in (sam(), ergas(4), ergas(2), psnr(255))]
    assert found == pytest.approx([12.1863965802365, 1.15455907518559, 2.30911815037118, 40.36439701509505], abs=1e-10)
    one, other = TINY.copy(), TINY_OTHER.copy()
    one[:, 0, 0] = other[:, 2, 3] = 0
    score = Accumulator(sam()).update(one, other).compute()
    assert score.value == pytest.approx(12.5449757887923, abs=1e-12) and score.n_valid == 14


def test_q2n_has_the_toolboxs_oddities():
    """A flat reference scores all or nothing, the order matters, an inverted contrast passes, counts are rounded."""
    truth = scene(32, 32, 4, 8)
    reference, prediction = (image.transpose(2, 0, 1) for image in (truth, degraded(truth, 108)))

    def flat(value):
        return np.full((4, 32, 32), float(value))

    inverted = 2 * reference.mean((1, 2), keepdims=True) - reference
    for one, other, rounded, expected in (
            (reference, reference, False, 1), (flat(100), flat(100), False, 1), (flat(100), flat(105), False, 0),
            (flat(100), prediction, False, 0), (prediction, reference, False, 0.987093817759691),
            (reference, reference - 2000, True, 0.0103600828686364), (reference, inverted, True, 0.999410333313528),
            (reference / 2047, prediction / 2047, True, 0.873979342019114)):
        assert measured(q2n(rounded=rounded), one, other) == pytest.approx(expected, abs=1e-12)


def test_each_block_of_q2n_has_the_toolboxs_value():
    truth = scene(64, 64, 4, 9)
    reference, prediction = (image.transpose(2, 0, 1) for image in (truth, degraded(truth, 109)))
    found = [measured(q2n(), *(image[:, row : row + 32, col : col + 32] for image in (reference, prediction)))
             for row in (0, 32) for col in (0, 32)]
    expected = [0.983607242031256, 0.981432140010773, 0.985920201036769, 0.987752045340625]
    assert found == pytest.approx(expected, abs=1e-12)


NATURAL = {  # SSIM at peak 255 and 2048, Q8, Q32
    "camera": (0.849444611492969, 0.985354759280527, 0.622246259121038, 0.854722628661345),
    "grass": (0.980585263412548, 0.99610301024424, 0.984847117739832, 0.992225775224051),
    "scene": (0.827781393228435, 0.984869076537652, 0.852700156018652, 0.949786300529314),
}


@pytest.mark.parametrize("name", NATURAL)
def test_structure_is_that_of_wangs_code(name):
    """The pictures have flat windows, where libraries go their own ways."""
    image = scene(160, 224, 1, 6)[..., 0] // 8 if name == "scene" else getattr(data, name)().astype(np.int64)
    other = image // 16 * 16 + 8 if name == "grass" else box(image, 1 if name == "camera" else 2)
    found = [measured(m, image, other) for m in (ssim(255), ssim(2048), q(8), q(32))]
    assert found == pytest.approx(NATURAL[name], abs=1e-9)


def test_numbers_far_from_zero_keep_their_digits():
    a = lcg(51, 16384).reshape(128, 128) % 11 + 30000
    b = a + lcg(52, 16384).reshape(128, 128) % 5 - 2
    assert measured(ssim(65535), a, b) == pytest.approx(0.999999491702063, abs=1e-9)
    assert measured(ssim(10), a, b) == pytest.approx(0.9067588857032353, abs=1e-6)


def test_psnr_and_ssim_are_those_of_scikit_image():
    assert measured(psnr(255), A, B) == pytest.approx(peak_signal_noise_ratio(A, B, data_range=255), abs=1e-9)
    maps = [structural_similarity(a, b, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
                                  full=True)[1][5:-5, 5:-5] for a, b in zip(A, B)]
    assert measured(ssim(255), A, B) == pytest.approx(np.mean(maps), abs=1e-9)


SHARMA = np.array([  # Sharma, Wu and Dalal 2005, table 1: L1 a1 b1 L2 a2 b2 and the difference
    (50, 2.6772, -79.7751, 50, 0, -82.7485, 2.0425), (50, 3.1571, -77.2803, 50, 0, -82.7485, 2.8615),
    (50, 2.8361, -74.02, 50, 0, -82.7485, 3.4412), (50, -1.3802, -84.2814, 50, 0, -82.7485, 1),
    (50, -1.1848, -84.8006, 50, 0, -82.7485, 1), (50, -0.9009, -85.5211, 50, 0, -82.7485, 1),
    (50, 0, 0, 50, -1, 2, 2.3669), (50, -1, 2, 50, 0, 0, 2.3669), (50, 2.49, -0.001, 50, -2.49, 0.0009, 7.1792),
    (50, 2.49, -0.001, 50, -2.49, 0.001, 7.1792), (50, 2.49, -0.001, 50, -2.49, 0.0011, 7.2195),
    (50, 2.49, -0.001, 50, -2.49, 0.0012, 7.2195), (50, -0.001, 2.49, 50, 0.0009, -2.49, 4.8045),
    (50, -0.001, 2.49, 50, 0.001, -2.49, 4.8045), (50, -0.001, 2.49, 50, 0.0011, -2.49, 4.7461),
    (50, 2.5, 0, 50, 0, -2.5, 4.3065), (50, 2.5, 0, 73, 25, -18, 27.1492), (50, 2.5, 0, 61, -5, 29, 22.8977),
    (50, 2.5, 0, 56, -27, -3, 31.903), (50, 2.5, 0, 58, 24, 15, 19.4535), (50, 2.5, 0, 50, 3.1736, 0.5854, 1),
    (50, 2.5, 0, 50, 3.2972, 0, 1), (50, 2.5, 0, 50, 1.8634, 0.5757, 1), (50, 2.5, 0, 50, 3.2592, 0.335, 1),
    (60.2574, -34.0099, 36.2677, 60.4626, -34.1751, 39.4387, 1.2644),
    (63.0109, -31.0961, -5.8663, 62.8187, -29.7946, -4.0864, 1.263),
    (61.2901, 3.7196, -5.3901, 61.4292, 2.248, -4.962, 1.8731),
    (35.0831, -44.1164, 3.7933, 35.0232, -40.0716, 1.5901, 1.8645),
    (22.7233, 20.0904, -46.694, 23.0331, 14.973, -42.5619, 2.0373),
    (36.4612, 47.858, 18.3852, 36.2715, 50.5065, 21.2231, 1.4146),
    (90.8027, -2.0831, 1.441, 91.1528, -1.6435, 0.0447, 1.4441),
    (90.9257, -0.5406, -0.9208, 88.6381, -0.8985, -0.7239, 1.5381),
    (6.7747, -0.2908, -2.4247, 5.8714, -0.0985, -2.2286, 0.6377),
    (2.0776, 0.0795, -1.135, 0.9033, -0.0636, -0.5514, 0.9082),
])


def test_colour_differences_are_those_of_the_published_table():
    found = delta_e_2000(SHARMA[:, :3].T, SHARMA[:, 3:6].T)
    np.testing.assert_allclose(found, SHARMA[:, 6], atol=5e-5)


def test_colours_are_those_of_scikit_image():
    rgb = RNG.random((3, 500))
    np.testing.assert_allclose(to_lab(rgb), color.rgb2lab(rgb.T).T, atol=0.02)  # it rounds its matrix and white point
    measure = ciede2000((0, 0, 0), (255, 255, 255))
    a, b = np.clip(A, 0, 255), np.clip(B, 0, 255)
    wanted = color.deltaE_ciede2000(*(color.rgb2lab(image.transpose(1, 2, 0) / 255) for image in (a, b))).mean()
    assert measured(measure, a, b) == pytest.approx(wanted, abs=2e-3)


def stacked(mean, sigma):
    return np.array(mean)[None, None], np.stack([mean, np.broadcast_to(sigma, len(mean))])[:, None]


def test_likelihood_and_calibration_are_those_of_scipy():
    y, mean = [0.1, 0.25, 0.4, 0.8, 1.2], [0.12, 0.2, 0.45, 0.7, 1.5]
    sigma = [0.05, 0.05, 0.1, 0.2, 0.25]
    _, prediction = stacked(mean, sigma)
    reference = np.array(y)[None, None]
    found = measured(gaussian_nll(), reference, prediction)
    assert found == pytest.approx(-norm.logpdf(y, mean, sigma).mean(), abs=1e-12)
    assert found == pytest.approx(-1.029017849526531, abs=1e-12)
    assert measured(calibration_error(), reference, prediction) == pytest.approx(0.07777777777777778, abs=1e-12)
    tiny = np.stack([np.array(y) + [0.0001, -0.0001, 0.0002, 0, 0.00005], np.full(5, 5e-4)])[:, None]
    assert measured(gaussian_nll(), reference, tiny) == pytest.approx(-6.65696392633741, abs=1e-9)


# --- masks, windows, what has no value ---------------------------------------------------------------

MASKED = {"psnr": 28.566936248450062, "ergas": 2.3747646644107103, "sam": 3.5556115109212536,
          "q2n": 0.9804655860746462}


@pytest.mark.parametrize("fill", [0, -9999, 65535, np.nan, np.inf])
def test_what_is_masked_changes_nothing(fill):
    reference, prediction = pair("rr4")
    mask = np.ones(reference.shape[1:], bool)
    mask[:, :26] = False
    spoilt = [np.where(mask, image, fill) for image in (reference, prediction)]
    for key, measure in EVERY.items():
        clean = Accumulator(measure).update(reference, prediction, mask).compute()
        assert Accumulator(measure).update(*spoilt, mask).compute() == clean
        assert clean.excluded == 26 * 128 and clean.n_valid > 0
        if key in MASKED:
            assert clean.value == pytest.approx(MASKED[key], abs=1e-9)


@pytest.mark.slow
@settings(max_examples=60)
@given(st.lists(st.integers(1, 127), max_size=4), st.lists(st.integers(1, 127), max_size=4), st.randoms(),
       st.sampled_from(sorted(EVERY)), st.integers(0, 3))
def test_any_partition_in_any_order_gives_the_same(down, across, random, key, masked):
    height, width = 108, 117  # no multiple of any block
    reference, prediction = (image[:, :height, :width] for image in PAIR)
    mask = np.random.default_rng(masked).random(reference.shape[1:]) > 0.0005 * masked
    measure, halo = EVERY[key], EVERY[key].halo_px
    whole = Accumulator(measure).update(reference, prediction, mask).compute()
    lattice = measure.block_px
    edges = [sorted({0, size, *(cut // lattice * lattice for cut in cuts if cut < size)})
             for cuts, size in ((down, height), (across, width))]
    parts = [(rows, cols) for rows in zip(edges[0], edges[0][1:]) for cols in zip(edges[1], edges[1][1:])]
    random.shuffle(parts)
    workers = Accumulator(measure), Accumulator(measure)
    for number, bounds in enumerate(parts):
        reach = [(max(0, low - halo), min(size, high + halo)) for (low, high), size in zip(bounds, (height, width))]
        seen = tuple(slice(*edge) for edge in reach)
        owned = tuple(slice(low - start, high - start) for (low, high), (start, _) in zip(bounds, reach))
        workers[number % 2].update(reference[:, *seen], prediction[:, *seen], mask[seen], owned)
    found = workers[0].merge(workers[1]).compute()
    assert (found.n_valid, found.excluded) == (whole.n_valid, whole.excluded)
    assert found.value == pytest.approx(whole.value, rel=1e-12, nan_ok=True)


PAIR = pair("rr4")


def test_equal_images_have_the_best_value():
    reference, _ = PAIR
    for measure in EVERY.values():
        assert measured(measure, reference, reference) == pytest.approx(measure.best, abs=1e-6)


def test_what_has_no_value_says_why():
    reference, prediction = PAIR
    nothing = Accumulator(ssim(2047)).update(reference, prediction, np.zeros(reference.shape[1:])).compute()
    assert np.isnan(nothing.value) and "SSIM has no value" in nothing.note and nothing.n_valid == 0
    decibel = Accumulator(ergas(4)).update(reference - 4000, prediction - 4000).compute()
    assert np.isnan(decibel.value) and "RMSE" in decibel.note
    certain = Accumulator(gaussian_nll()).update(reference, np.concatenate([prediction, 0 * prediction])).compute()
    assert np.isnan(certain.value) and "standard deviation" in certain.note
    zero = np.zeros((4, 5, 5))
    assert Accumulator(sam()).update(zero, zero + 1).compute().n_valid == 0


def test_chi_square_is_zero_for_equal_and_one_for_disjoint_histograms():
    p = histogram(A.reshape(3, -1), None, 0, 255)
    assert p.sum(1) == pytest.approx(1) and chi_square(p, p) == 0
    assert chi_square(np.array([[1.0, 0]]), np.array([[0, 1.0]])) == 1
    assert chi_square(np.array([[0.5, 0.5]]), np.array([[1.0, 0]])) == pytest.approx(1 / 3)


def test_sliced_wasserstein_is_scipys_in_one_band_and_the_shift_in_the_mean_over_directions():
    p, q = A[:1].reshape(1, -1), B[:1].reshape(1, -1) + 5
    assert sliced_wasserstein(p, q, 4) == pytest.approx(wasserstein_distance(p[0], q[0]), rel=1e-3)
    assert sliced_wasserstein(A.reshape(3, -1), A.reshape(3, -1)) == 0
    # A shift by v is at distance E|v.u| = |v| / 2 for directions u uniform on the sphere in three bands.
    shifted = A.reshape(3, -1) + np.array([[8.0], [0], [0]])
    assert sliced_wasserstein(A.reshape(3, -1), shifted, 512) == pytest.approx(4, rel=0.1)


def test_a_wave_has_its_power_in_its_own_band_and_amplitude_counts_squared():
    edges = (1 / 32, 1 / 8, 1 / 4, 1 / 2)
    wave = np.sin(2 * np.pi * np.arange(128) * 12 / 64)[None].repeat(128, 0)  # 0.1875 cycles per pixel: mid
    valid = np.ones(wave.shape, bool)
    low, mid, high = band_power(wave, valid, edges)
    assert mid > 1e3 * low and mid > 1e3 * high
    assert band_power(3 * wave + 7, valid, edges)[1] == pytest.approx(9 * mid)
    assert np.isnan(band_power(wave, ~valid, edges)).all()
