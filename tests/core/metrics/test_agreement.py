"""Level, slope, clipped values and moved edges against closed forms and scipy's interpolation."""

import numpy as np
import pytest
from geoi2i.core.metrics import Accumulator
from geoi2i.core.metrics.agreement import agreements, band_agreement, clipped, edge_displacement
from scipy.ndimage import gaussian_filter, shift
from scipy.stats import linregress

RNG = np.random.default_rng(0)
TEXTURE = gaussian_filter(RNG.normal(size=(400, 400)), 1.2) * 50 + 100


def rows_of(reference, prediction, mask=None):
    return agreements(Accumulator(band_agreement()).update(reference, prediction, mask).totals)


def test_a_line_has_its_own_slope_and_bias():
    x = RNG.normal(30_000, 10, (2, 50, 60))
    y = np.stack([2 * x[0] + 3, x[1] - 7])
    one, two = rows_of(x, y)
    assert (one.slope, one.correlation) == pytest.approx((2, 1), rel=1e-7)
    assert one.bias == pytest.approx(x[0].mean() + 3) and one.mean == pytest.approx(x[0].mean())
    assert (two.slope, two.bias, two.rmse) == pytest.approx((1, -7, 7), rel=1e-7)


def test_slope_and_correlation_are_those_of_scipy():
    x = RNG.normal(5, 3, (1, 40, 40))
    y = 0.7 * x + RNG.normal(0, 2, x.shape)
    fit = linregress(x.ravel(), y.ravel())
    (row,) = rows_of(x, y)
    assert (row.slope, row.correlation) == pytest.approx((fit.slope, fit.rvalue), rel=1e-9)
    assert row.rmse == pytest.approx(np.sqrt(((y - x) ** 2).mean()))


def test_a_constant_band_has_a_bias_and_no_slope():
    x = np.full((1, 20, 20), 1234.5678)
    found = Accumulator(band_agreement()).update(x, x + 2)
    (row,) = agreements(found.totals)
    assert row.bias == pytest.approx(2) and np.isnan(row.slope) and np.isnan(row.correlation)
    assert "constant" in found.compute().note


@pytest.mark.parametrize("moved", [(0, 0), (1, 0), (0, -2), (0.3, -0.4), (0.5, 0.5), (3.2, -4.7)])
def test_moved_edges_are_found_to_a_tenth_of_a_pixel(moved):
    other = shift(TEXTURE, moved, order=5, mode="reflect")
    inside = np.s_[8:392, 8:392]
    found = Accumulator(edge_displacement()).update(TEXTURE[inside], other[inside])
    total = found.totals
    assert total["count"] == 9
    assert [total["down"] / total["weight"], total["right"] / total["weight"]] == pytest.approx(moved, abs=0.1)
    assert found.compute().value == pytest.approx(np.hypot(*moved), abs=0.1)


def test_a_change_of_contrast_moves_no_edge():
    found = Accumulator(edge_displacement()).update(TEXTURE, 0.3 * TEXTURE + 900).compute()
    assert found.value == pytest.approx(0, abs=1e-9)
    assert "no tile has edges" in Accumulator(edge_displacement()).update(TEXTURE, 0 * TEXTURE).compute().note


def test_clipped_values_are_counted_at_both_ends():
    image = np.array([[[0, 0, 5], [255, 7, 9]], [[0, 1, 2], [3, 4, 5]]])
    assert Accumulator(clipped((0, 0), (255, 255))).update(image, image).compute().value == pytest.approx(4 / 12)
