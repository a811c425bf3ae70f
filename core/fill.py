"""Numbers for pixels without data, so that no network ever sees a nodata value.

A hole takes the weighted mean of the valid pixels within a fixed radius, fading to the raster's mean
where there are none; the rule depends on the pixel's surroundings only, never on the window.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from .stream import RowBand, RowBuffer

RADIUS_PX = 16
_PRIOR = 1e-3  # weight of the raster's mean: it decides only where valid pixels are few and far


def fill(bands: Iterator[RowBand], height: int, mean: Tensor) -> Iterator[RowBand]:
    """The stream with every masked pixel of `state` (C,h,W) filled.

    Args:
        height: rows of the whole stream.
        mean: (C,) value where nothing valid is near.
    """
    buffer, first = RowBuffer(bands), 0
    while first < height:
        held = buffer.upto(min(first + 1, height))
        stop = held.row + held.height
        if _complete(held, first):
            yield held.rows(first, stop)
        else:
            held = buffer.upto(min(stop + RADIUS_PX, height))
            yield _filled(held, first, stop, mean)
        buffer.forget(max(0, stop - RADIUS_PX))
        first = stop


def _complete(held: RowBand, first: int) -> bool:
    return held.mask is None or bool((held.mask[:, first - held.row :] != 0).all())


def fill_window(pixels: Tensor, valid: Tensor, mean: Tensor) -> Tensor:
    """`pixels` (C,h,w) with values where `valid` (1 or C,h,w) is false: the rule itself."""
    weight = valid.to(pixels.dtype).expand_as(pixels)
    known = torch.where(valid, pixels, 0.0)
    total = _PRIOR + _spread(weight)
    return torch.where(valid, pixels, (_PRIOR * mean[:, None, None] + _spread(known)) / total)


def _filled(held: RowBand, first: int, stop: int, mean: Tensor) -> RowBand:
    state = fill_window(held.state, held.mask != 0, mean)
    return replace(held, state=state).rows(first, stop)


def _spread(x: Tensor) -> Tensor:
    """Weighted sums over a (2 radius + 1) square with separable triangular weights."""
    distance = torch.arange(-RADIUS_PX, RADIUS_PX + 1, device=x.device, dtype=x.dtype).abs()
    kernel = 1 - distance / (RADIUS_PX + 1)
    x = F.conv2d(x[:, None], kernel[None, None, :, None], padding=(RADIUS_PX, 0))
    return F.conv2d(x, kernel[None, None, None, :], padding=(0, RADIUS_PX))[:, 0]
