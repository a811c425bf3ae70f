"""Laws of the Laplacian pyramid."""

import pytest
import torch
from geoi2i.training.pyramid import decompose, double, gray, halve, reconstruct


@pytest.mark.parametrize("size", [(64, 64), (255, 255), (257, 129), (3, 2), (1, 7)])
@pytest.mark.parametrize("levels", [1, 2, 3, 4, 5, 6])
def test_reconstruction_inverts_decomposition(size, levels):
    image = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    bands = decompose(image, levels)
    assert len(bands) == levels + 1
    torch.testing.assert_close(reconstruct(bands), image, atol=1e-6, rtol=0)


def test_each_level_has_half_the_size_rounded_up():
    bands = decompose(torch.zeros(1, 1, 21, 64), 6)
    sizes = [(21, 64), (11, 32), (6, 16), (3, 8), (2, 4), (1, 2), (1, 1)]
    assert [tuple(band.shape[-2:]) for band in bands] == sizes


@pytest.mark.parametrize("size", [(16, 16), (9, 12), (2, 1)])
def test_a_constant_image_is_all_residual(size):
    *bands, residual = decompose(torch.full((1, 2, *size), 0.7), 3)
    torch.testing.assert_close(residual, torch.full_like(residual, 0.7))
    assert all(band.abs().max() < 1e-6 for band in bands)


def test_halving_and_doubling_use_the_burt_adelson_kernel():
    impulse = torch.zeros(1, 1, 9, 9)
    impulse[..., 4, 4] = 1
    kernel = torch.tensor([1, 4, 6, 4, 1]) / 16
    torch.testing.assert_close(halve(impulse)[0, 0, 1:4, 1:4], kernel[::2, None] * kernel[::2])
    coarse = torch.zeros(1, 1, 5, 5)
    coarse[..., 2, 2] = 1
    torch.testing.assert_close(double(coarse, (9, 9))[0, 0, 2:7, 2:7], 4 * kernel[:, None] * kernel)


def test_weights_scale_their_own_level_only():
    image = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    bands = decompose(image, 3)
    torch.testing.assert_close(reconstruct(bands, torch.ones(2, 4)), image, atol=1e-6, rtol=0)
    assert reconstruct(bands, torch.zeros(4)).abs().max() == 0
    weights = torch.tensor([[1.0, 1, 1, 1], [0.0, 1, 1, 1]])
    changed = reconstruct(bands, weights)
    torch.testing.assert_close(changed[0], image[0], atol=1e-6, rtol=0)
    torch.testing.assert_close(changed[1], (image - bands[0])[1], atol=1e-6, rtol=0)


def test_gray_is_rec_601_for_three_bands_and_the_mean_otherwise():
    red = torch.tensor([1.0, 0, 0]).reshape(1, 3, 1, 1)
    assert gray(red).item() == pytest.approx(0.299)
    four = torch.tensor([1.0, 2, 3, 6]).reshape(1, 4, 1, 1)
    assert gray(four).item() == 3
