"""Reprojection of tensors.

Each tile of the target asks `PixelMap` where its pixels lie, takes the part of the source that its kernel
reaches, and resamples it. Tiles do not know of each other, and the result does not depend on them.
"""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ..grid import Grid, Window
from .kernels import KERNELS, resample
from .pixel_map import PixelMap
from .warping import TILE_PX, Warping

_WIDEST = 4.0  # how much more than in the raster's middle a kernel may widen, towards a pole say
_GPU_TILE_PX = 2048  # so that starting its work takes less than doing it
_PLAIN = Warping()
_Places: TypeAlias = "np.ndarray | Tensor"
"""Positions: arrays on a CPU, tensors on a GPU, where they are made."""

Read = Callable[[Window], tuple[Tensor, Tensor | None]]
"""Pixels (C,h,w) of a window that lies inside the source, and where (1 or C,h,w) it has data; None: all of it."""


def warp(image: Tensor, source: Grid, target: Grid, how: Warping = _PLAIN, valid: Tensor | None = None
         ) -> tuple[Tensor, Tensor]:
    """An image seen on another grid.

    Args:
        image: (C,h,w) on `source`, floating (any dtype for `nearest`), on any device; differentiable in it.
        valid: (1,h,w) bool, where it has data; None: everywhere.

    Returns:
        (C,H,W) on `target`, 0 where there is nothing, and (1,H,W) bool, where there is something.

    Raises:
        RasterError: where the grids have no CRS or show different bodies.
    """
    pixel_map = PixelMap(target, source)

    def read(part: Window) -> tuple[Tensor, Tensor | None]:
        rows, cols = slice(part.row, part.row + part.height), slice(part.col, part.col + part.width)
        return image[:, rows, cols], None if valid is None else valid[:, rows, cols]

    limit, side = widest(pixel_map), TILE_PX if image.device.type == "cpu" else _GPU_TILE_PX
    strips = []
    for row in range(0, target.height, side):
        tiles = [warp_window(pixel_map, Window(row, col, min(side, target.height - row),
                                               min(side, target.width - col)), read, how, limit, image)[:2]
                 for col in range(0, target.width, side)]
        strips.append(tuple(torch.cat(parts, 2) for parts in zip(*tiles)))
    values, exists = (torch.cat(parts, 1) for parts in zip(*strips))
    return values, exists


def warp_window(pixel_map: PixelMap, window: Window, read: Read, how: Warping, limit: float, like: Tensor,
                level: bool = True) -> tuple[Tensor, Tensor, int]:
    """One window of the target, of `like`'s dtype, device and channels; `level` as in `resample`.

    Returns:
        Values (C,h,w), validity (1 or C,h,w), and how many pixels have no position in the source's CRS.
    """
    size = window.height, window.width
    nothing = like.new_zeros((like.shape[0], *size)), torch.zeros((1, *size), dtype=torch.bool, device=like.device)
    grown = Window(window.row - 1, window.col - 1, window.height + 2, window.width + 2)
    col, row = _positions(pixel_map, grown, how.tolerance_px, like.device)
    scales = _scales(col, row, pixel_map.period, limit) if how.antialias or how.resampling == "average" else ()
    col, row = col[1:-1, 1:-1], row[1:-1, 1:-1]
    undefined = int((col != col).sum()) if math.isnan(col.min()) else 0
    source, period = pixel_map.source, pixel_map.period
    reach = 1 if how.resampling == "nearest" else math.ceil(
        (KERNELS[how.resampling].support + 0.5) * max([1.0, *(float(s.max()) for s in scales)]))
    if row.min() >= 0 and row.max() <= source.height and col.min() >= 0 and col.max() <= source.width:
        inside: Any = ...
    else:
        inside = (row >= 0) & (row <= source.height)
        if period is None:
            inside &= (col >= 0) & (col <= source.width)
        if not inside.any():
            return *nothing, undefined
    top, bottom = _span(row[inside], reach, source.height)
    if period is None or not _seamless(source, period):
        if period is not None and inside is not ...:
            col = col % period
            inside &= col <= source.width
            if not inside.any():
                return *nothing, undefined
        left, right = _span(col[inside], reach, source.width)
        image, valid = read(Window(top, left, bottom - top, right - left))
    else:
        left, right = math.floor(col[inside].min()) - reach, math.ceil(col[inside].max()) + reach
        image, valid = _read_around(read, top, bottom, left, right, source.width)
    exact = torch.float64 if how.resampling == "nearest" else image.dtype
    x, y = (torch.as_tensor(values - start).to(like.device, exact) for values, start in ((col, left), (row, top)))
    scale = tuple(torch.as_tensor(s).to(like.device, exact) for s in scales) or (1.0, 1.0)
    return *resample_bands(image, x, y, how.resampling, valid, scale, level), undefined


def _positions(pixel_map: PixelMap, window: Window, tolerance_px: float, device: torch.device) -> tuple[_Places, ...]:
    """Where pixels of the target lie in the source."""
    if device.type == "cpu":
        return pixel_map.positions(window, tolerance_px)
    return pixel_map.positions_on(device, window, tolerance_px)


def resample_bands(image: Tensor, col: Tensor, row: Tensor, kind: str, valid: Tensor | None,
                   scale: tuple[Tensor | float, Tensor | float], level: bool = True) -> tuple[Tensor, Tensor]:
    """`resample` where bands may have holes of their own: (C,H,W) and (1 or C,H,W) bool."""
    if valid is None or valid.shape[0] == 1:
        return resample(image, col, row, kind, valid, scale, level)
    parts = [resample(image[k : k + 1], col, row, kind, valid[k : k + 1], scale, level) for k in range(image.shape[0])]
    return tuple(torch.cat(column) for column in zip(*parts))


def _scales(col: _Places, row: _Places, period: float | None, limit: float) -> list[_Places]:
    """Source pixels per target pixel along columns and rows, inside a border of one pixel."""
    scales, xp = [], np if isinstance(col, np.ndarray) else torch
    for values, turn in ((col, period), (row, None)):
        steps = values[1:-1, 2:] - values[1:-1, :-2], values[2:, 1:-1] - values[:-2, 1:-1]
        if turn:
            steps = tuple(step - turn * xp.round(step / turn) for step in steps)
        scales.append(xp.nan_to_num(xp.hypot(*steps) / 2, nan=1.0).clip(1e-3, limit))
    return scales


def widest(pixel_map: PixelMap) -> float:
    """A limit for the scale, from a few points of the whole target: near a pole it has none of its own."""
    target = pixel_map.target
    col, row = (grid.ravel() + 0.5 for grid in np.meshgrid(
        np.linspace(0, target.width - 1, 16).astype(int), np.linspace(0, target.height - 1, 16).astype(int)))
    here, right, below = (pixel_map.exact(col + dc, row + dr) for dc, dr in ((0, 0), (1, 0), (0, 1)))
    found = [1.0]
    for k in (0, 1):
        steps = [values[k] - here[k] for values in (right, below)]
        size = np.hypot(*steps)
        if np.isfinite(size).any():
            found.append(float(np.nanmedian(size)))
    return _WIDEST * max(found)


def _span(positions: _Places, reach: int, size: int) -> tuple[int, int]:
    """First and one past the last pixel that positions need, inside the raster."""
    return max(0, math.floor(positions.min()) - reach), min(size, math.ceil(positions.max()) + reach)


def _seamless(source: Grid, period: float) -> bool:
    """Whether the raster goes all the way round, so that its last column is the neighbour of its first."""
    return source.width == period


def _read_around(read: Read, top: int, bottom: int, left: int, right: int, width: int) -> tuple[Tensor, Tensor | None]:
    """Columns left..right of a raster that goes all the way round."""
    parts, col = [], left
    while col < right:
        start = col % width
        count = min(right - col, width - start)
        parts.append(read(Window(top, start, bottom - top, count)))
        col += count
    if len(parts) == 1:
        return parts[0]
    images, valids = zip(*parts)
    if all(valid is None for valid in valids):
        return torch.cat(images, 2), None
    depth = max(valid.shape[0] for valid in valids if valid is not None)
    full = [torch.ones((depth, *image.shape[1:]), dtype=torch.bool, device=image.device) if valid is None
            else valid.expand(depth, -1, -1) for image, valid in zip(images, valids)]
    return torch.cat(images, 2), torch.cat(full, 2)
