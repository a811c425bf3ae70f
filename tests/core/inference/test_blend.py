"""Laws of the rolling blend: weights sum to one, equal values come back exactly, the rest is a weighted mean."""

import numpy as np
import pytest
import torch
from geoi2i.core.inference.blend import join_columns, join_rows, ramp
from geoi2i.core.inference.tiles import Tiling
from hypothesis import given
from hypothesis import strategies as st


@given(st.integers(1, 300))
def test_weights_of_two_neighbours_sum_to_one(overlap):
    weight = ramp(overlap)
    torch.testing.assert_close(weight + weight.flip(0), torch.ones(overlap), rtol=0, atol=1e-6)
    assert bool((weight.diff() > 0).all()) and 0 < weight[0] and weight[-1] < 1


def test_weight_is_a_raised_cosine():
    assert ramp(2).tolist() == pytest.approx([0.5 - 0.5 * np.cos(np.pi / 4), 0.5 + 0.5 * np.cos(np.pi / 4)])


def joined(windows, spans, size, weight):
    strip, reached = torch.full((2, 3, size), torch.nan), 0
    for window, span in zip(windows, spans):
        reached = join_columns(strip, window, span.start, reached, weight)
    assert reached == size
    return strip


@given(st.integers(1, 200), st.integers(2, 64), st.integers(0, 16), st.floats(-1e3, 1e3, width=32))
def test_equal_values_are_blended_exactly(size, tile, overlap, value):
    tiling = Tiling(tile, min(overlap, tile // 2), 0, 1)
    spans = tiling.spans(size)
    windows = [torch.full((2, 3, span.length), value) for span in spans]
    strip = joined(windows, spans, size, ramp(tiling.overlap))
    assert torch.equal(strip, torch.full_like(strip, value))
    last = strip[:, :1].clone()
    assert torch.equal(join_rows(last, strip, ramp(1)), torch.full_like(strip, value))


@pytest.mark.parametrize("size, tile, overlap", [(100, 32, 8), (97, 16, 8), (50, 64, 5), (41, 20, 10)])
def test_columns_are_the_weighted_mean(size, tile, overlap):
    spans = Tiling(tile, overlap, 0, 1).spans(size)
    windows = [torch.randn(2, 3, span.length) for span in spans]
    total, mass = np.zeros((2, 3, size)), np.zeros(size)
    for k, (window, span) in enumerate(zip(windows, spans)):
        weight = np.ones(span.length)
        rise = np.sin(np.pi / 2 * (np.arange(overlap) + 0.5) / overlap) ** 2
        weight[:overlap] *= rise if k else 1
        weight[-overlap:] *= rise[::-1] if k + 1 < len(spans) else 1
        inside = span.stop - span.start
        total[:, :, span.start : span.stop] += (window.numpy() * weight)[:, :, :inside]
        mass[span.start : span.stop] += weight[:inside]
    assert mass == pytest.approx(np.ones(size))
    np.testing.assert_allclose(joined(windows, spans, size, ramp(overlap)), total, atol=1e-6)


def test_rows_are_the_weighted_mean():
    above, below, weight = torch.randn(2, 6, 5), torch.randn(2, 9, 5), ramp(6)
    expected = below.clone()
    expected[:, :6] = above * (1 - weight[:, None]) + below[:, :6] * weight[:, None]
    torch.testing.assert_close(join_rows(above, below, weight), expected)
