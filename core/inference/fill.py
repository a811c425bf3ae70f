"""Numbers for pixels without data, so that no network ever sees a nodata value.

A hole takes the weighted mean of the valid pixels within a fixed radius, fading to the raster's mean
where there are none; the rule depends on the pixel's surroundings only, never on the window.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from .stream import Part, RowBand, RowBuffer

RADIUS_PX = 16
_PRIOR = 1e-3  # weight of the raster's mean: it decides only where valid pixels are few and far


def fill(bands: Iterator[RowBand], part: Part, mean: Tensor) -> Iterator[RowBand]:
    """The stream with every pixel of `state` (C,h,W) filled that the first channel of its mask says has no data.

    Args:
        part: the rows that `bands` hold. Where they are not all of the raster, those within
            `RADIUS_PX` of a cut are filled without what lies beyond it.
        mean: (C,) value where nothing valid is near.
    """
    buffer, (first, end) = RowBuffer(bands), part
    while first < end:
        held = buffer.upto(first + 1)
        stop = held.row + held.height
        if _complete(held, first):
            yield held.rows(first, stop)
        else:
            held = buffer.upto(min(stop + RADIUS_PX, end))
            yield _filled(held, first, stop, mean)
        buffer.forget(max(0, stop - RADIUS_PX))
        first = stop


def _complete(held: RowBand, first: int) -> bool:
    return held.mask is None or bool((held.mask[:1, first - held.row :] != 0).all())


def fill_window(pixels: Tensor, valid: Tensor, mean: Tensor) -> Tensor:
    """`pixels` (C,h,w) with values where `valid` (1 or C,h,w) is false: the rule itself."""
    weight = valid.to(pixels.dtype).expand_as(pixels)
    known = torch.where(valid, pixels, 0.0)
    total = _PRIOR + _spread(weight)
    return torch.where(valid, pixels, (_PRIOR * mean[:, None, None] + _spread(known)) / total)


def _filled(held: RowBand, first: int, stop: int, mean: Tensor) -> RowBand:
    state = fill_window(held.state, held.mask[:1] != 0, mean)  # type: ignore[index]
    return replace(held, state=state).rows(first, stop)


def _spread(x: Tensor) -> Tensor:
    """Weighted sums over a (2 radius + 1) square with separable triangular weights."""
    return _triangle(_triangle(x, 1), 2)


def _triangle(x: Tensor, axis: int) -> Tensor:
    """Sums with weights 1 - d / (radius + 1) along an axis; nothing is beyond the border.

    A triangle is a box summed by a box. Additions in a fixed order, pixel by pixel, have the same bits wherever
    the rows are cut; a convolution of a library has not.
    """
    side = torch.zeros_like(x.narrow(axis, 0, 1)).expand(*(RADIUS_PX if k == axis else -1 for k in range(x.ndim)))
    x = torch.cat([side, x, side], axis)
    for _ in range(2):
        total, count = x, 1
        while 2 * count <= RADIUS_PX + 1:
            total, count = _with_next(total, total, count, axis), 2 * count
        for k in range(count, RADIUS_PX + 1):
            total = _with_next(total, x, k, axis)
        x = total
    return x / (RADIUS_PX + 1)


def _with_next(total: Tensor, x: Tensor, distance: int, axis: int) -> Tensor:
    """Each sum and what stands `distance` further on."""
    size = x.shape[axis] - distance
    return total.narrow(axis, 0, size) + x.narrow(axis, distance, size)
