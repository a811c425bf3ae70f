"""Measures agree with independent libraries and closed forms, and never look under the mask."""

import numpy as np
import pytest
from geoi2i.core.metrics import band_power, chi_square, histogram, psnr, sliced_wasserstein, ssim
from scipy.stats import wasserstein_distance
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

RNG = np.random.default_rng(0)
A = RNG.normal(100, 30, (3, 60, 70))
B = A + RNG.normal(0, 10, A.shape)
ALL = np.ones(A.shape[1:], bool)


def test_psnr_and_ssim_are_those_of_scikit_image():
    assert psnr(A, B, ALL, 255) == pytest.approx(peak_signal_noise_ratio(A, B, data_range=255), abs=1e-9)
    maps = [structural_similarity(a, b, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
                                  full=True)[1][5:-5, 5:-5] for a, b in zip(A, B)]
    assert ssim(A, B, ALL, 255) == pytest.approx(np.mean(maps), abs=1e-9)


def test_masked_pixels_change_nothing():
    valid = ALL.copy()
    valid[20:30, 10:40] = False
    for wild in (1e9, np.nan):
        spoilt = np.where(valid, B, wild)
        assert psnr(A, spoilt, valid, 255) == psnr(A, B, valid, 255)
        assert ssim(A, spoilt, valid, 255) == ssim(A, B, valid, 255)
    assert np.isnan(ssim(A, B, np.zeros_like(ALL), 255))


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
    assert sliced_wasserstein(A.reshape(3, -1), shifted, 4096) == pytest.approx(4, rel=0.05)


def test_a_wave_has_its_power_in_its_own_band_and_amplitude_counts_squared():
    edges = (1 / 32, 1 / 8, 1 / 4, 1 / 2)
    wave = np.sin(2 * np.pi * np.arange(128) * 12 / 64)[None].repeat(128, 0)  # 0.1875 cycles per pixel: mid
    valid = np.ones(wave.shape, bool)
    low, mid, high = band_power(wave, valid, edges)
    assert mid > 1e3 * low and mid > 1e3 * high
    assert band_power(3 * wave + 7, valid, edges)[1] == pytest.approx(9 * mid)
    assert np.isnan(band_power(wave, ~valid, edges)).all()
