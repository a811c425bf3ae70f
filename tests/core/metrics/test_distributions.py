"""Distances of histograms, spectra and features against scipy, closed forms and the published codes of FID."""


import numpy as np
import pytest
from geoi2i.core.metrics import patch_of
from geoi2i.core.metrics.features import frechet_distance
from geoi2i.core.metrics.histogram import chi_square, hellinger, jensen_shannon, total_variation, wasserstein_1
from geoi2i.core.metrics.spectrum import power_spectra, radial_means, radial_power
from metric_inputs import lcg
from scipy.spatial import distance
from scipy.stats import wasserstein_distance

P, Q = np.array([[0.1, 0.4, 0.3, 0.2]]), np.array([[0.2, 0.2, 0.2, 0.4]])


def test_histogram_distances_are_those_of_scipy():
    bins = np.arange(4)
    assert chi_square(P, Q) == pytest.approx(0.09333333333333332, abs=1e-12)
    assert wasserstein_1(P, Q) == pytest.approx(wasserstein_distance(bins, bins, P[0], Q[0]), abs=1e-12) == 0.4
    assert wasserstein_1(P, Q, 8.0) == pytest.approx(3.2)
    assert jensen_shannon(P, Q) == pytest.approx(distance.jensenshannon(P[0], Q[0], base=2), abs=1e-12)
    assert hellinger(P, Q) == pytest.approx(0.21896174217231346, abs=1e-12)
    assert total_variation(P, Q) == pytest.approx(0.3, abs=1e-12)


def test_disjoint_histograms_are_as_far_apart_as_can_be():
    one, other = np.array([[1.0, 0, 0]]), np.array([[0, 0, 1.0]])
    assert [f(one, other) for f in (chi_square, jensen_shannon, hellinger, total_variation)] == pytest.approx([1] * 4)
    assert wasserstein_1(one, other) == 2


@pytest.mark.parametrize("fy, fx, ring", [(0, 5, 5), (6, 8, 10), (20, 21, 29)])
def test_a_wave_lies_in_its_ring_with_half_its_amplitude_squared(fy, fx, ring):
    rows, cols = np.mgrid[:64, :64]
    power = radial_power(7 + 3 * np.cos(2 * np.pi * (fy * rows + fx * cols) / 64))
    assert power[ring] == pytest.approx(4.5, abs=1e-9) and np.delete(power, ring).max() < 1e-9


@pytest.mark.parametrize("cycles", [4, 11, 20])
def test_the_drawn_spectrum_has_its_peak_where_a_wave_is(cycles):
    """In windows of 64 pixels; a Hann window leaves a wave within one ring beside its own."""
    image = np.cos(2 * np.pi * cycles * np.arange(256) / 64)[None, None].repeat(256, 1)
    frequencies, power = radial_means(power_spectra()(patch_of(image, image))["prediction"])
    assert frequencies[power[0].argmax()] == cycles / 64
    assert power[0, cycles - 2 : cycles + 1].sum() > 0.999 * power[0].sum()


def test_the_frechet_distance_is_that_of_the_published_codes():
    """pytorch-fid, clean-fid and torchmetrics agree on these features to 1e-12."""
    real = lcg(21, 1600).reshape(200, 8) / 65535
    other = lcg(22, 1200).reshape(150, 8) / 65535
    fake = other * 1.2 + 0.1 + 0.3 * np.roll(other, 1, axis=1)
    found = frechet_distance(real.mean(0), np.cov(real.T), fake.mean(0), np.cov(fake.T))
    assert found == pytest.approx(1.0130042380516544, abs=1e-9)


def test_the_frechet_distance_of_axes_is_its_closed_form():
    """9 + (1 - 2)^2 + (2 - 1)^2 + (3 - 4)^2 for diagonal covariances."""
    found = frechet_distance(np.zeros(3), np.diag([1.0, 4, 9]), np.array([1.0, 2, 2]), np.diag([4.0, 1, 16]))
    assert found == pytest.approx(12, abs=1e-9)
