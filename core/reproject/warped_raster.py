"""A raster on another grid, read row by row without a file between."""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import torch
from affine import Affine
from torch import Tensor

from ..device import ahead, one_thread_each, worker_count
from ..grid import Grid, Window
from ..memory import check_memory
from ..raster.bands import Band, Statistics
from ..raster.decimated import small_shape
from ..raster.reader import StreamWindows
from ..raster.rows import RasterFile, Rows, SeekableRaster, Wanted, Windows, valid_in_all
from ..raster.source import RasterSource
from ..rounding import to_dtype
from .coordinates import period_of
from .extent import facing
from .kernels import KERNELS
from .pixel_map import PixelMap
from .resampled import resampled_mask_kinds, resampled_tags
from .target_grid import target_grid
from .view import Bounds
from .warp import warp_window, widest
from .warping import TILE_PX, Warping

_LARGE = 64 << 20  # values, from which on it is asked whether there is memory for them
_PLAIN = Warping()
_WHOLE = 1 << 53
"""Up to which a double holds every integer."""


@dataclass(frozen=True)
class StreamedRaster:
    """A raster that exists only as rows, once, from top to bottom; what `WarpedSource` needs to know of it."""

    grid: Grid
    bands: tuple[Band, ...]
    dtype: str
    mask_kinds: tuple[str, ...]
    stream: Iterator[Rows]
    alpha_bands: tuple[Band, ...] = ()
    path = "the translated raster"

    @property
    def indexes(self) -> tuple[int, ...]:
        return tuple(range(1, len(self.bands) + 1))

    def windows(self, rows_held: int) -> StreamWindows:
        return StreamWindows(self.stream, rows_held)


@dataclass(frozen=True)
class WarpedSource:
    """A raster seen on another grid; read like a `RasterSource`, row by row, without a file between."""

    raster: SeekableRaster
    grid: Grid
    how: Warping = _PLAIN
    device: torch.device | str = "cpu"
    wanted: Wanted | None = None
    """Which pixels are of use; None: all. Tiles without any are not read, and hold no data."""
    computed_as: str | None = None
    """The dtype of its numbers, which holds the raster's; None: the raster's."""

    @cached_property
    def pixel_map(self) -> PixelMap:
        return PixelMap(self.grid, self.raster.grid)

    @property
    def original(self) -> RasterFile:
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
        return self.computed_as or self.raster.dtype

    @property
    def indexes(self) -> tuple[int, ...]:
        return self.raster.indexes

    @property
    def tags(self) -> dict[str, str]:
        return resampled_tags(self.raster)

    @property
    def alpha_bands(self) -> tuple[Band, ...]:
        return self.raster.alpha_bands

    @property
    def mask_kinds(self) -> tuple[str, ...]:
        return resampled_mask_kinds(self.raster, self.grid)

    def statistics(self, percentiles: tuple[float, ...] = (), ranges: tuple[tuple[float, float], ...] = ()
                   ) -> Statistics:
        return self.raster.statistics(percentiles, ranges)

    def windows(self, rows_held: int) -> StreamWindows:
        return StreamWindows(self.rows(), rows_held)

    def read(self, window: Window) -> Rows:
        return Rows.concatenate(list(self.rows(window)))

    def decimated(self, longest: int = 1024) -> Rows:
        height, width = small_shape(self.grid, longest)
        steps = Affine.scale(self.grid.width / width, self.grid.height / height)
        small = Grid(self.grid.crs, self.grid.transform @ steps, height, width, self.grid.latitude, self.grid.longitude)
        return WarpedSource(self.raster, small, Warping("nearest")).read(Window(0, 0, height, width))

    def valid(self, longest: int = 1024) -> np.ndarray | None:
        return valid_in_all(self.decimated(longest).mask)

    def rows(self, window: Window | None = None, part: tuple[int, int] | None = None) -> Iterator[Rows]:
        """As `RasterSource.rows`, tile row by tile row, counted from the window's first; every row has a mask."""
        window = window or Window(0, 0, self.grid.height, self.grid.width)
        limit = widest(self.pixel_map)
        first, stop = part or (0, window.height)
        tops = range(first // TILE_PX * TILE_PX, stop, TILE_PX)
        corners = [(row, col) for row in tops for col in range(0, window.width, TILE_PX)]
        workers = worker_count(torch.device(self.device))
        across = len(range(0, window.width, TILE_PX))
        held = _rows_held(self.pixel_map, self.how, across, workers)
        with self.raster.windows(held) as windows, ThreadPoolExecutor(workers, initializer=one_thread_each) as pool:

            def work(corner: tuple[int, int]) -> Rows:
                row, col = corner
                part = Window(window.row + row, window.col + col, min(TILE_PX, window.height - row),
                              min(TILE_PX, window.width - col))
                with torch.inference_mode():
                    return self._tile(windows, part, limit)

            tiles = ahead(pool, work, corners, 2 * workers)
            for row in tops:
                yield Rows.concatenate([replace(tile, row=row) for tile in islice(tiles, across)], axis=2)

    def rows_read(self, part: tuple[int, int]) -> tuple[int, int]:
        """The rows of the original that rows of this raster need; both grids have level rows."""
        height = self.raster.grid.height
        first, stop = part[0] // TILE_PX * TILE_PX, min(-(-part[1] // TILE_PX) * TILE_PX, self.grid.height)
        corners = [(col, row) for col in (0.0, self.grid.width) for row in (first - 1.0, stop + 1.0)]
        rows = self.pixel_map.exact(*(np.array(values) for values in zip(*corners)))[1]
        step = max(1.0, np.ptp(rows) / (stop + 2 - first))
        reach = math.ceil((KERNELS[self.how.resampling].support + 0.5) * step) + 1
        return max(0, math.floor(rows.min()) - reach), min(height, math.ceil(rows.max()) + reach)

    def _tile(self, windows: Windows, part: Window, limit: float) -> Rows:
        """A tile with a mask and alpha values."""
        raster, count, dtype, nearest = self.raster, len(self.indexes), self.dtype, self.how.resampling == "nearest"
        working = _working_dtype(raster.dtype if nearest else dtype, self.how.resampling)
        if self.wanted and not self.wanted(part):
            return _nothing(part, dtype, count, len(raster.alpha_bands))
        base = None
        wide = raster.dtype in ("int64", "uint64") and not nearest

        def read(window: Window) -> tuple[Tensor, Tensor | None]:
            size = window.height * window.width * len(raster.indexes)
            if size > _LARGE:
                check_memory(size * (np.dtype(raster.dtype).itemsize + 2 * np.dtype(working).itemsize), self.path,
                             f"the {window.height} x {window.width} pixels under one tile of the target",
                             "enlarge its pixels in several steps with geoi2i reproject")
            rows = windows.read(window)
            if wide:
                nonlocal base
                base = _base(rows) if base is None else base
                rows = replace(rows, pixels=(rows.pixels - rows.pixels.dtype.type(base)).view("int64"))
            return _to_tensors(rows, working, self.device)

        like = torch.empty((count + len(raster.alpha_bands), 0, 0), dtype=getattr(torch, working), device=self.device)
        # Rounded to integers of few digits, what is level comes out so anyway.
        level = wide or np.dtype(dtype).kind == "f"
        values, exists, undefined = warp_window(self.pixel_map, part, read, self.how, limit, like, level)
        if nearest:
            pixels = values.cpu().numpy().astype(raster.dtype, copy=False).astype(dtype, copy=False)
        elif base:
            pixels = np.concatenate([_counted_from(base, values[:count], raster.dtype).astype(dtype, copy=False),
                                     to_dtype(values[count:], dtype, None)])
        else:
            pixels = to_dtype(values, dtype, None)
        mask = exists.cpu().numpy()
        alpha = np.where(mask[count:] if mask.shape[0] > 1 else mask, pixels[count:], 0) if raster.alpha_bands else None
        mask = mask[:count] * np.uint8(255)
        return Rows(part.row, pixels[:count], mask, undefined, alpha)


def _nothing(part: Window, dtype: str, bands: int, alphas: int) -> Rows:
    """A tile without data."""
    size = part.height, part.width
    pixels, mask = np.zeros((bands + alphas, *size), dtype), np.zeros((1, *size), np.uint8)
    return Rows(part.row, pixels[:bands], mask, alpha=pixels[bands:] if alphas else None)


def _base(rows: Rows) -> int:
    """What 64-bit integers are counted from, so that a double holds each: the least, where there are others than a
    double holds; else 0."""
    pixels = rows.pixels if rows.mask is None else rows.pixels[np.broadcast_to(rows.mask != 0, rows.pixels.shape)]
    low, high = (int(pixels.min()), int(pixels.max())) if pixels.size else (0, 0)
    return low if max(abs(low), abs(high)) > _WHOLE and high - low <= _WHOLE else 0


def _counted_from(base: int, values: Tensor, dtype: str) -> np.ndarray:
    """Values that were counted from a base, as 64-bit integers, none beyond their ends."""
    info, ends = np.iinfo(dtype), np.iinfo("int64")
    steps = np.clip(to_dtype(values, "int64", None), max(info.min - base, ends.min), min(info.max - base, ends.max))
    return steps.astype(dtype) + np.dtype(dtype).type(base)


def _to_tensors(rows: Rows, working: str, device: torch.device | str) -> tuple[Tensor, Tensor | None]:
    """Pixels (C,h,w) of the working dtype, alpha values behind them, and where (1 or C,h,w) they are valid; None:
    everywhere."""
    pixels, mask = rows.pixels, rows.mask
    if rows.alpha is not None:
        pixels = np.concatenate([pixels, rows.alpha])
        if mask is not None and mask.shape[0] > 1:
            mask = np.concatenate([mask, (rows.alpha != 0) * np.uint8(255)])
    image = torch.from_numpy(pixels.astype(working, copy=False)).to(device)
    if mask is None or mask.all():
        return image, None
    valid = torch.from_numpy(mask != 0).to(device)
    return image.nan_to_num(0.0) if image.is_floating_point() else image, valid


def resampled_like(raster: SeekableRaster, other: Grid) -> WarpedSource:
    """A raster in the CRS and the pixel size of another grid."""
    size = abs(other.transform.a), abs(other.transform.e)
    return WarpedSource(raster, target_grid(raster.grid, other, size), Warping("cubic"))


def resampled_to(raster: SeekableRaster, grid: Grid) -> WarpedSource:
    """A raster on the very pixels of a grid."""
    return WarpedSource(raster, grid, Warping("cubic"))


def turned(raster: SeekableRaster, bounds: Bounds) -> SeekableRaster:
    """The same pixels, so counted that bounds in the raster's CRS lie among them; see `facing`."""
    grid = facing(raster.grid, bounds)
    if grid == raster.grid:
        return raster
    if isinstance(raster, RasterSource | WarpedSource) and not _columns_apart(raster.grid, grid):
        return replace(raster, grid=grid)
    return WarpedSource(raster, grid, Warping("nearest"))


def _columns_apart(one: Grid, other: Grid) -> int:
    """How many columns after the first of one grid another begins, longitudes taken round."""
    col = (~one.transform * (other.transform.c, other.transform.f))[0]
    period = period_of(one) or math.inf
    return round(col - period * round(col / period)) if math.isfinite(period) else round(col)


def finer(raster: SeekableRaster, scale: Fraction) -> WarpedSource:
    """A raster, as it is seen already, with each pixel cut into `scale` along an axis; a part of one at the end is left
    out."""
    grid = raster.grid
    height, width = (int(size * scale) for size in (grid.height, grid.width))
    cut = replace(grid, transform=grid.transform @ Affine.scale(float(1 / scale)), height=height, width=width)
    if isinstance(raster, WarpedSource) and raster.how.resampling != "nearest":  # nor only turned
        return WarpedSource(raster.raster, cut, Warping("cubic"))
    return resampled_to(raster, cut)


def _working_dtype(dtype: str, resampling: str) -> str:
    """Exact for every value of the raster; torch indexes few unsigned types."""
    kind = np.dtype(dtype)
    if resampling == "nearest" and kind.kind in "iu":
        return {"uint16": "int32", "uint32": "int64", "uint64": "int64"}.get(dtype, dtype)
    return "float32" if kind.itemsize <= 2 or dtype == "float32" else "float64"


def _rows_held(pixel_map: PixelMap, how: Warping, across: int, workers: int) -> int:
    """Rows of the original that the tiles under way can reach, where both grids have level rows.

    Args:
        across: how many tiles lie side by side.
    """
    top, bottom = (pixel_map.exact(np.array([0.5]), np.array([row]))[1][0] for row in (0.0, TILE_PX))
    tile_rows = -(-2 * workers // across) + 2
    reach = 0 if how.resampling == "nearest" else KERNELS[how.resampling].support + 1
    steps = abs(bottom - top) / TILE_PX
    return math.ceil(tile_rows * abs(bottom - top) + 2 * reach * max(1.0, steps)) + 2 if np.isfinite(steps) else 0
