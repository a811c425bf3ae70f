"""Laws of the filling: valid pixels are not touched, and a hole does not depend on how rows arrive."""

import numpy as np
import pytest
import torch
from geoi2i.core.inference.fill import RADIUS_PX, fill, fill_window
from geoi2i.core.inference.stream import RowBand
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

MEAN = torch.tensor([3.0, -2.0])


def stream(image, mask, pieces):
    row = 0
    for rows in pieces:
        part = slice(row, row + rows)
        shown = mask[:, part]
        if image[:, part].shape[1]:
            yield RowBand(row, image[:, part], mask=None if shown.all() else shown)
        row += rows


def holes(height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(2, height, width, generator=generator)
    mask = torch.rand(1, height, width, generator=generator) > 0.2
    mask[:, height // 3 : height // 2] = False
    return image, mask


@given(st.lists(st.integers(1, 40), min_size=1, max_size=12), st.integers(1, 30), st.integers(0, 5))
def test_a_hole_does_not_depend_on_how_the_rows_arrive(pieces, width, seed):
    height = sum(pieces)
    image, mask = holes(height, width, seed)
    expected = fill_window(image, mask, MEAN)
    found = list(fill(stream(image, mask, pieces), (0, height), MEAN))
    assert [b.row for b in found] == np.cumsum([0, *(b.height for b in found)])[:-1].tolist()
    assert torch.equal(torch.cat([b.state for b in found], 1), expected)


def test_a_hole_is_the_triangular_mean_of_its_surroundings():
    """As scipy sums it, with a weight of a thousandth for the mean of the raster."""
    image, mask = holes(70, 60)
    kernel = 1 - np.abs(np.arange(-RADIUS_PX, RADIUS_PX + 1)) / (RADIUS_PX + 1)
    spread = [ndimage.convolve(np.where(mask[0], band, 0), np.outer(kernel, kernel), mode="constant")
              for band in (*image.double().numpy(), np.ones((70, 60)))]
    found = fill_window(image, mask, MEAN).numpy()
    for k in range(2):
        expected = (spread[k] + 1e-3 * float(MEAN[k])) / (spread[2] + 1e-3)
        np.testing.assert_allclose(found[k], np.where(mask[0], image[k], expected), atol=1e-5)


def test_valid_pixels_are_not_touched_and_nodata_numbers_are_never_seen():
    image, mask = holes(50, 40)
    poisoned = torch.where(mask, image, torch.nan)
    found = fill_window(poisoned, mask, MEAN)
    assert torch.equal(found[mask.expand(2, -1, -1)], image[mask.expand(2, -1, -1)])
    assert found.isfinite().all() and torch.equal(found, fill_window(torch.where(mask, image, 1e30), mask, MEAN))


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_far_from_everything_is_the_mean_and_near_is_the_neighbour(value):
    image, mask = torch.full((2, 9, 200), value), torch.zeros(1, 9, 200, dtype=torch.bool)
    mask[:, :, :20] = True
    found = fill_window(image, mask, MEAN)
    assert torch.equal(found[:, 4, 60], MEAN)
    torch.testing.assert_close(found[:, 4, 21], torch.full((2,), value), atol=1e-3, rtol=0)


def test_a_band_of_its_own_mask_is_filled_alone():
    image, _ = holes(30, 30)
    mask = torch.ones(2, 30, 30, dtype=torch.bool)
    mask[1, 5:9] = False
    found = fill_window(image, mask, MEAN)
    assert torch.equal(found[0], image[0]) and not torch.equal(found[1], image[1])
