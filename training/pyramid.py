"""Laplacian pyramids: an image as band-pass levels, fine to coarse, and a low-pass residual."""

import torch
import torch.nn.functional as F
from torch import Tensor


def decompose(image: Tensor, levels: int) -> list[Tensor]:
    """Split an image (N,C,H,W) into `levels` band-pass images, fine first, and the residual.

    Level j has ceil(H / 2**j) rows and ceil(W / 2**j) columns; the residual comes last.
    Source: Burt and Adelson 1983, 5-tap kernel with a = 3/8.
    """
    bands = []
    for _ in range(levels):
        coarse = halve(image)
        bands.append(image - double(coarse, image.shape[-2:]))
        image = coarse
    return bands + [image]


def reconstruct(bands: list[Tensor], weights: Tensor | None = None) -> Tensor:
    """The image (N,C,H,W) whose pyramid is `bands`, each first multiplied by its weight.

    `weights` is (L+1,) or, one row per sample, (N,L+1). Without weights the inverse of `decompose`.
    """
    if weights is not None:
        bands = [band * weights[..., j, None, None, None] for j, band in enumerate(bands)]
    image = bands[-1]
    for band in reversed(bands[:-1]):
        image = band + double(image, band.shape[-2:])
    return image


def gray(image: Tensor) -> Tensor:
    """Luminance (N,1,H,W): Rec. 601 for three bands, else the band mean."""
    if image.shape[1] != 3:
        return image.mean(1, keepdim=True)
    red, green, blue = image.split(1, 1)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def halve(image: Tensor) -> Tensor:
    """Low-pass and keep every other pixel: (N,C,H,W) -> (N,C,ceil(H/2),ceil(W/2))."""
    return _halve_columns(_halve_columns(image).mT).mT


def double(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Interpolate to `size` (height, width); the size is given because 5 and 6 both halve to 3."""
    return _double_columns(_double_columns(image, size[1]).mT, size[0]).mT


def _halve_columns(image: Tensor) -> Tensor:
    # Reflection needs more pixels than it pads.
    mode = "reflect" if image.shape[-1] > 2 else "replicate"
    x = F.pad(image, (2, 2, 0, 0), mode=mode)
    # [1 4 6 4 1] / 16, evaluated only at the pixels that are kept.
    outer = x[..., 0:-4:2] + x[..., 4::2]
    inner = x[..., 1:-3:2] + x[..., 3:-1:2]
    return (outer + 4 * inner + 6 * x[..., 2:-2:2]) / 16


def _double_columns(image: Tensor, width: int) -> Tensor:
    if width <= 2:
        return image.expand(*image.shape[:-1], width)
    # The same kernel on the zero-stuffed grid has two phases: on a pixel and between two pixels.
    # Reflecting the fine grid reflects the coarse one at its start and, for even widths, repeats its end.
    last = image[..., -1:] if width % 2 == 0 else image[..., -2:-1]
    x = torch.cat([image[..., 1:2], image, last], -1)
    on = (x[..., :-2] + 6 * x[..., 1:-1] + x[..., 2:]) / 8
    between = (x[..., 1:-1] + x[..., 2:]) / 2
    return torch.stack([on, between], -1).flatten(-2)[..., :width]
