"""Laws of the position-keyed field: one normal field for the whole raster, whatever is asked of it."""

import numpy as np
import pytest
import torch
from geoi2i.core.inference.noise import field, vector
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

WHOLE = field((7, 0, 1, 2), 3, 0, 0, 600, 500)


def correlation(a, b):
    return abs(np.corrcoef(a.numpy().ravel(), b.numpy().ravel())[0, 1])


@given(st.integers(0, 599), st.integers(0, 499), st.integers(1, 600), st.integers(1, 500))
def test_a_window_is_a_slice_of_the_field(row, col, height, width):
    height, width = min(height, 600 - row), min(width, 500 - col)
    window = field((7, 0, 1, 2), 3, row, col, height, width)
    assert torch.equal(window, WHOLE[:, row : row + height, col : col + width])


@pytest.mark.parametrize("row, col", [(10**6, 0), (0, 10**6), (2**31 + 5, 2**33 + 9)])
def test_far_windows_agree_too(row, col):
    far = field((1,), 1, row, col, 40, 30)
    assert torch.equal(field((1,), 1, row + 7, col + 9, 20, 10), far[:, 7:27, 9:19])
    assert abs(far.mean()) < 4 / np.sqrt(far.numel()) and correlation(far, field((1,), 1, 0, 0, 40, 30)) < 0.15


def test_field_is_unit_normal():
    values = WHOLE.double().numpy().ravel()  # 900,000 numbers: standard error of the mean 1e-3
    assert abs(values.mean()) < 4.5e-3 and abs(values.var() - 1) < 7e-3
    assert abs(stats.skew(values)) < 0.012 and abs(stats.kurtosis(values)) < 0.024
    assert stats.kstest(values[::7], "norm").pvalue > 1e-3


def test_neighbours_are_independent():
    """The autocorrelation, by Fourier transform, is that of white noise at every shift."""
    image = WHOLE[0].double().numpy()
    auto = np.fft.ifft2(np.abs(np.fft.fft2(image)) ** 2).real / image.size
    auto[0, 0] = 0
    assert np.abs(auto).max() < 6 / np.sqrt(image.size)  # the largest of 300,000 normal numbers is near 4.7


@pytest.mark.parametrize("key", [(8, 0, 1, 2), (7, 1, 1, 2), (7, 0, 2, 2), (7, 0, 1, 3), (7, 0, 2, 1), (7, 0, 1),
                                 (-7, 0, 1, 2), (7 + 2**63, 0, 1, 2), (7 + 2**32, 0, 1, 2)],
                         ids=["seed", "sample", "stream", "step", "order", "length", "sign", "high", "word"])
def test_every_part_of_the_key_makes_another_field(key):
    other = field(key, 3, 0, 0, 600, 500)
    assert correlation(other, WHOLE) < 4.5e-3
    assert all(correlation(other[i], WHOLE[j]) < 8e-3 for i in range(3) for j in range(3))


def test_channels_are_independent_and_do_not_depend_on_their_number():
    assert max(correlation(WHOLE[i], WHOLE[j]) for i, j in ((0, 1), (0, 2), (1, 2))) < 8e-3
    assert torch.equal(field((7, 0, 1, 2), 1, 0, 0, 600, 500), WHOLE[:1])


def test_vectors_are_normal_and_differ_by_key():
    vectors = torch.stack([vector((3, s), 64) for s in range(2000)])
    assert torch.equal(vector((3, 5), 16), vectors[5, :16])
    assert stats.kstest(vectors.double().numpy().ravel(), "norm").pvalue > 1e-3
    assert np.abs(np.corrcoef(vectors.T.numpy()) - np.eye(64)).max() < 5 / np.sqrt(2000)
