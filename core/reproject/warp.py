"""Reprojection: a raster or a tensor seen on another grid.

Each tile of the target asks `PixelMap` where its pixels lie, takes the part of the source that its kernel
reaches, and resamples it. Tiles do not know of each other, and the result does not depend on them.
"""

import math
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import torch
from affine import Affine
from torch import Tensor

from ..device import ahead, one_thread_each, worker_count
from ..errors import RasterError
from ..grid import Grid, Window
from ..raster.bands import Band, Statistics, to_dtype
from ..raster.reader import RasterWindows
from ..raster.rows import Rows
from ..raster.source import RasterSource
from .kernels import KERNELS, RESAMPLING, resample
from .pixel_map import PixelMap

TILE_PX = 512
_INSIDE_PX = 1e-6  # of rounding
_WIDEST = 4.0  # how much more than in the raster's middle a kernel may widen, towards a pole say


@dataclass(frozen=True)
class Warping:
    """How to reproject."""

    resampling: str = "bilinear"
    tolerance_px: float = 0.05
    """Largest error of a position, in source pixels."""
    widen: bool = True
    """Whether kernels widen where the target is coarser than the source."""

    def __post_init__(self):
        if self.resampling not in RESAMPLING:
            raise RasterError(f"{self.resampling!r} is no resampling: choose from {', '.join(RESAMPLING)}.")
        if not self.tolerance_px > 0:
            raise RasterError(f"A tolerance of {self.tolerance_px} pixels cannot be kept: give more than 0.")


Read = Callable[[Window], tuple[Tensor, Tensor | None]]
"""Pixels (C,h,w) of a window that lies inside the source, and where (1 or C,h,w) it has data; None: all of it."""


def warp(image: Tensor, source: Grid, target: Grid, how: Warping = Warping(), valid: Tensor | None = None
         ) -> tuple[Tensor, Tensor]:
    """An image seen on another grid.

    Args:
        image: (C,h,w) on `source`, floating (any dtype for `nearest`), on any device; differentiable in it.
        valid: (1,h,w) bool, where it has data; None: everywhere.

    Returns:
        (C,H,W) on `target`, 0 where there is nothing, and (1,H,W) bool, where there is something.

    Raises:
        RasterError: where the grids have no systems or show different bodies.
    """
    pixel_map = PixelMap(target, source)

    def read(part: Window) -> tuple[Tensor, Tensor | None]:
        rows, cols = slice(part.row, part.row + part.height), slice(part.col, part.col + part.width)
        return image[:, rows, cols], None if valid is None else valid[:, rows, cols]

    limit = _widest(pixel_map)
    strips = []
    for row in range(0, target.height, TILE_PX):
        tiles = [warp_window(pixel_map, Window(row, col, min(TILE_PX, target.height - row),
                                               min(TILE_PX, target.width - col)), read, how, limit, image)[:2]
                 for col in range(0, target.width, TILE_PX)]
        strips.append(tuple(torch.cat(parts, 2) for parts in zip(*tiles)))
    values, exists = (torch.cat(parts, 1) for parts in zip(*strips))
    return values, exists


def warp_window(pixel_map: PixelMap, window: Window, read: Read, how: Warping, limit: float, like: Tensor
                ) -> tuple[Tensor, Tensor, int]:
    """One window of the target, of `like`'s dtype, device and channels.

    Returns:
        Values (C,h,w), validity (1 or C,h,w), and how many pixels have no position in the source's system.
    """
    size = window.height, window.width
    nothing = like.new_zeros((like.shape[0], *size)), torch.zeros((1, *size), dtype=torch.bool, device=like.device)
    grown = Window(window.row - 1, window.col - 1, window.height + 2, window.width + 2)
    col, row = pixel_map.positions(grown, how.tolerance_px)
    scales = _scales(col, row, pixel_map.period, limit) if how.widen or how.resampling == "average" else ()
    col, row = col[1:-1, 1:-1], row[1:-1, 1:-1]
    undefined = int(np.isnan(col).sum()) if np.isnan(col.min()) else 0
    source, period = pixel_map.source, pixel_map.period
    reach = 1 if how.resampling == "nearest" else math.ceil(
        (KERNELS[how.resampling].support + 0.5) * max([1.0, *(float(s.max()) for s in scales)]))
    if row.min() >= 0 and row.max() <= source.height and col.min() >= 0 and col.max() <= source.width:
        inside = ...
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
    places = [torch.from_numpy(values - start).to(like.device, exact) for values, start in ((col, left), (row, top))]
    scale = tuple(torch.from_numpy(s).to(like.device, exact) for s in scales) or (1.0, 1.0)
    return *resample_bands(image, *places, how.resampling, valid, scale), undefined


def resample_bands(image: Tensor, col: Tensor, row: Tensor, kind: str, valid: Tensor | None,
                   scale: tuple[Tensor | float, Tensor | float]) -> tuple[Tensor, Tensor]:
    """`resample` where bands may have holes of their own: (C,H,W) and (1 or C,H,W) bool."""
    if valid is None or valid.shape[0] == 1:
        return resample(image, col, row, kind, valid, scale)
    parts = [resample(image[k : k + 1], col, row, kind, valid[k : k + 1], scale) for k in range(image.shape[0])]
    return tuple(torch.cat(column) for column in zip(*parts))


def _scales(col: np.ndarray, row: np.ndarray, period: float | None, limit: float) -> list[np.ndarray]:
    """Source pixels per target pixel along columns and rows, inside a border of one pixel."""
    scales = []
    for values, turn in ((col, period), (row, None)):
        steps = values[1:-1, 2:] - values[1:-1, :-2], values[2:, 1:-1] - values[:-2, 1:-1]
        if turn:
            steps = tuple(step - turn * np.round(step / turn) for step in steps)
        scales.append(np.nan_to_num(np.hypot(*steps) / 2, nan=1.0).clip(1e-3, limit))
    return scales


def _widest(pixel_map: PixelMap) -> float:
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


def _span(positions: np.ndarray, reach: int, size: int) -> tuple[int, int]:
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


class StreamWindows:
    """Windows of a stream of rows that come in order, as long as they do not reach too far back."""

    def __init__(self, rows: Iterator[Rows], rows_held: int):
        self._rows, self._most, self._lock = rows, rows_held, threading.Lock()
        self._held: deque[Rows] = deque()
        self._reached = self._asked = 0

    def __enter__(self) -> "StreamWindows":
        return self

    def __exit__(self, *_) -> None:
        self._held.clear()
        if hasattr(self._rows, "close"):
            self._rows.close()

    def read(self, window: Window) -> Rows:
        stop = window.row + window.height
        with self._lock:
            self._asked = max(self._asked, stop)
            while self._reached < stop:
                rows = next(self._rows)
                self._held.append(rows)
                self._reached = rows.row + rows.pixels.shape[1]
            while self._held[0].row + self._held[0].pixels.shape[1] <= self._asked - self._most:
                self._held.popleft()
            held = [rows for rows in self._held if rows.row < stop and rows.row + rows.pixels.shape[1] > window.row]
        if not held or held[0].row > window.row:
            raise RuntimeError(f"Row {window.row} has left the stream, which holds {self._most} rows.")
        start, cols = window.row - held[0].row, slice(window.col, window.col + window.width)
        part = slice(start, start + window.height)
        pixels = np.concatenate([rows.pixels[:, :, cols] for rows in held], 1)[:, part]
        if all(rows.mask is None for rows in held):
            return Rows(window.row, pixels, None)
        masks = [np.full((1, *rows.pixels.shape[1:]), 255, np.uint8) if rows.mask is None else rows.mask
                 for rows in held]
        return Rows(window.row, pixels, np.concatenate([mask[:, :, cols] for mask in masks], 1)[:, part])


@dataclass(frozen=True)
class StreamedRaster:
    """A raster that exists only as rows, once, from top to bottom; what `WarpedSource` needs to know of it."""

    grid: Grid
    bands: tuple[Band, ...]
    dtype: str
    mask_kind: str
    stream: Iterator[Rows]

    @property
    def indexes(self) -> tuple[int, ...]:
        return tuple(range(1, len(self.bands) + 1))

    def windows(self, rows_held: int) -> StreamWindows:
        return StreamWindows(self.stream, rows_held)


@dataclass(frozen=True)
class WarpedSource:
    """A raster seen on another grid; read like a `RasterSource`, row by row, without a file between."""

    raster: RasterSource | StreamedRaster
    grid: Grid
    how: Warping = Warping()
    device: torch.device | str = "cpu"

    @cached_property
    def pixel_map(self) -> PixelMap:
        return PixelMap(self.grid, self.raster.grid)

    @property
    def original(self) -> RasterSource:
        """The raster on the disk."""
        return self.raster.original

    @property
    def path(self) -> str:
        return self.raster.path

    def stamps(self) -> dict[str, Any]:
        return self.raster.stamps()

    def compressed(self) -> float:
        return self.raster.compressed()

    def reading_bytes(self, width: int) -> int:
        return self.raster.reading_bytes(self.raster.grid.width)

    def rows_at_once(self, width: int) -> int:
        return min(TILE_PX, self.grid.height)

    @property
    def bands(self) -> tuple[Band, ...]:
        return self.raster.bands

    @property
    def dtype(self) -> str:
        return self.raster.dtype

    @property
    def indexes(self) -> tuple[int, ...]:
        return self.raster.indexes

    @property
    def tags(self) -> dict[str, str]:
        """Without what says how the original's coordinates count."""
        return {k: v for k, v in self.raster.tags.items() if k not in ("AREA_OR_POINT", "LATITUDE", "LONGITUDE")
                and not k.startswith("GEOI2I_L")}

    @property
    def band_tags(self) -> tuple[dict[str, str], ...]:
        return self.raster.band_tags

    @property
    def mask_kind(self) -> str:
        """What lies outside the original has no data, whatever the original says of its own pixels."""
        kind = self.raster.mask_kind
        if kind != "none" or self._inside:
            return kind
        return "nodata" if np.dtype(self.dtype).kind == "f" else "mask"

    @property
    def _inside(self) -> bool:
        """Whether all pixels lie on the original, as they do where its own are cut."""
        ours, theirs = self.grid, self.raster.grid
        back = ~theirs.transform @ ours.transform
        corners = [back * corner for corner in ((0, 0), (ours.width, 0), (0, ours.height), (ours.width, ours.height))]
        return replace(ours, transform=theirs.transform, height=theirs.height, width=theirs.width) == theirs and all(
            -_INSIDE_PX <= col <= theirs.width + _INSIDE_PX and -_INSIDE_PX <= row <= theirs.height + _INSIDE_PX
            for col, row in corners)

    def statistics(self, percentiles: tuple[float, ...] = ()) -> Statistics:
        return self.raster.statistics(percentiles)

    def windows(self, rows_held: int) -> StreamWindows:
        """Windows in about the order of rows, as long as they do not reach back further than `rows_held`."""
        return StreamWindows(self.rows(), rows_held)

    def read(self, window: Window) -> Rows:
        """One window, as `RasterSource.read`."""
        pixels, masks = zip(*((rows.pixels, rows.mask) for rows in self.rows(window)))
        return Rows(0, np.concatenate(pixels, 1), np.concatenate(masks, 1))

    def decimated(self, longest: int = 1024) -> Rows:
        """The whole at reduced size (nearest pixel), as `RasterSource.decimated`."""
        factor = max(1.0, max(self.grid.height, self.grid.width) / longest)
        height, width = (max(1, round(size / factor)) for size in (self.grid.height, self.grid.width))
        steps = Affine.scale(self.grid.width / width, self.grid.height / height)
        small = Grid(self.grid.crs, self.grid.transform @ steps, height, width, self.grid.latitude, self.grid.longitude)
        return WarpedSource(self.raster, small, Warping("nearest")).read(Window(0, 0, height, width))

    def rows(self, window: Window | None = None, part: tuple[int, int] | None = None) -> Iterator[Rows]:
        """As `RasterSource.rows`, tile row by tile row, counted from the window's first; every row has a mask."""
        window = window or Window(0, 0, self.grid.height, self.grid.width)
        limit = _widest(self.pixel_map)
        first, stop = part or (0, window.height)
        tops = range(first // TILE_PX * TILE_PX, stop, TILE_PX)
        corners = [(row, col) for row in tops for col in range(0, window.width, TILE_PX)]
        workers = worker_count(torch.device(self.device))
        across = len(range(0, window.width, TILE_PX))
        held = self._rows_held(across, workers)
        with self.raster.windows(held) as windows, ThreadPoolExecutor(workers, initializer=one_thread_each) as pool:

            def work(corner: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, int]:
                row, col = corner
                part = Window(window.row + row, window.col + col, min(TILE_PX, window.height - row),
                              min(TILE_PX, window.width - col))
                with torch.inference_mode():
                    return self._tile(windows, part, limit)

            tiles = ahead(pool, work, corners, 2 * workers)
            for row in tops:
                pixels, masks, undefined = zip(*islice(tiles, across))
                depth = max(mask.shape[0] for mask in masks)
                masks = [np.broadcast_to(mask, (depth, *mask.shape[1:])) for mask in masks]
                yield Rows(row, np.concatenate(pixels, 2), np.concatenate(masks, 2), sum(undefined))

    def rows_read(self, part: tuple[int, int]) -> tuple[int, int]:
        """The rows of the original that rows of this raster need; both grids have level rows."""
        height = self.raster.grid.height
        first, stop = part[0] // TILE_PX * TILE_PX, min(-(-part[1] // TILE_PX) * TILE_PX, self.grid.height)
        corners = [(col, row) for col in (0.0, self.grid.width) for row in (first - 1.0, stop + 1.0)]
        rows = self.pixel_map.exact(*(np.array(values) for values in zip(*corners)))[1]
        step = max(1.0, np.ptp(rows) / (stop + 2 - first))
        reach = math.ceil((KERNELS[self.how.resampling].support + 0.5) * step) + 1
        return max(0, math.floor(rows.min()) - reach), min(height, math.ceil(rows.max()) + reach)

    def _rows_held(self, across: int, workers: int) -> int:
        """Rows of the original that the tiles under way can reach, where both grids have level rows."""
        top, bottom = (self.pixel_map.exact(np.array([0.5]), np.array([row]))[1][0] for row in (0.0, TILE_PX))
        tile_rows = -(-2 * workers // across) + 2
        reach = 0 if self.how.resampling == "nearest" else KERNELS[self.how.resampling].support + 1
        steps = abs(bottom - top) / TILE_PX
        return math.ceil(tile_rows * abs(bottom - top) + 2 * reach * max(1.0, steps)) + 2 if np.isfinite(steps) else 0

    def _tile(self, windows: RasterWindows | StreamWindows, part: Window, limit: float
              ) -> tuple[np.ndarray, np.ndarray, int]:
        """A tile's pixels of the raster's dtype, its mask (or alpha values), how many pixels have no position."""
        raster, alpha = self.raster, self.raster.mask_kind == "alpha"
        working = _working_dtype(raster.dtype, self.how.resampling)

        def read(window: Window) -> tuple[Tensor, Tensor | None]:
            rows = windows.read(window)
            pixels = rows.pixels
            if alpha:
                full = np.full((1, *pixels.shape[1:]), 255) if rows.mask is None else rows.mask
                pixels = np.concatenate([pixels, full.astype(pixels.dtype)])
            image = torch.from_numpy(pixels.astype(working, copy=False)).to(self.device)
            if rows.mask is None or rows.mask.all():
                return image, None
            valid = torch.from_numpy(rows.mask != 0).to(self.device)
            return image.nan_to_num(0.0) if image.is_floating_point() else image, valid

        like = torch.empty((len(raster.indexes) + alpha, 0, 0), dtype=getattr(torch, working), device=self.device)
        values, exists, undefined = warp_window(self.pixel_map, part, read, self.how, limit, like)
        if self.how.resampling == "nearest":
            pixels = values.cpu().numpy().astype(raster.dtype, copy=False)
        else:
            pixels = to_dtype(values, raster.dtype, None)
        mask = exists.cpu().numpy()
        if alpha:
            return pixels[:-1], np.where(mask, pixels[-1:], 0), undefined
        return pixels, mask * np.uint8(255), undefined


def _working_dtype(dtype: str, resampling: str) -> str:
    """Exact for every value of the raster; torch indexes few unsigned types."""
    kind = np.dtype(dtype)
    if resampling == "nearest" and kind.kind in "iu":
        return {"uint16": "int32", "uint32": "int64", "uint64": "int64"}.get(dtype, dtype)
    return "float32" if kind.itemsize <= 2 or dtype == "float32" else "float64"
