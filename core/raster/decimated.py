"""A whole raster at reduced size, every block decoded once."""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import rasterio
import rasterio.errors
from rasterio.windows import Window as RioWindow

from ..errors import RasterError
from ..grid import Grid
from .decoding import Stored, decode
from .rows import Rows, numpy_dtype

_CACHE_BYTES = 512 << 20
_ROW_BYTES, _READ_BYTES = 64 << 20, 2 << 20
"""As many columns of blocks are read at a time as one row of them stays within the first; and then as many rows as they
stay within the second."""


def small_shape(grid: Grid, longest: int) -> tuple[int, int]:
    """Height and width of a grid made small, so that neither is more than `longest`."""
    factor = max(1.0, max(grid.height, grid.width) / longest)
    return max(1, round(grid.height / factor)), max(1, round(grid.width / factor))


def nearest(size: int, count: int) -> np.ndarray:
    """The pixels among `size` that `count` stand for, as GDAL chooses them: those at the centres."""
    return ((np.arange(count) + 0.5) * (size / count) + 1e-10).astype(int)


def decode_small(raster: Stored, data: rasterio.DatasetReader, longest: int) -> Rows:
    """All of a raster, the nearest pixel of each.

    Raises:
        RasterError: where the file is damaged.
    """
    grid, shape = raster.grid, small_shape(raster.grid, longest)
    try:
        if cache := _cache_for_gdal(data, shape):
            with rasterio.Env(GDAL_CACHEMAX=cache):
                return decode(raster, data, RioWindow(0, 0, grid.width, grid.height), shape)
        return _picked(raster, data, shape)
    except rasterio.errors.RasterioError as error:
        raise RasterError(f"{raster.path} cannot be read: the file is damaged or cut off. "
                          "Copy or download it again.") from error


def _cache_for_gdal(data: rasterio.DatasetReader, shape: tuple[int, int]) -> int | None:
    """The bytes of cache with which GDAL itself makes a raster small, where it knows better what to decode: an
    overview, or the sources of a VRT. Of other files it decodes blocks of several bands once for each band."""
    if data.driver == "VRT":  # its blocks are not those that are decoded, and to ask for overviews opens its sources
        return _CACHE_BYTES >> 2
    overviews = data.overviews(1)
    return _CACHE_BYTES if overviews and overviews[0] > 0 and data.width // overviews[0] >= shape[1] else None


class _Span(NamedTuple):
    """Pixels along an axis, in whole blocks, that are read at a time."""

    first: int
    size: int
    picks: np.ndarray
    """Those that are left, counted from the first."""


def _picked(raster: Stored, data: rasterio.DatasetReader, shape: tuple[int, int]) -> Rows:
    """Some pixels of some blocks at a time, so that none is decoded twice and no cache is needed."""
    grid, (rows, cols) = raster.grid, data.block_shapes[0]
    pixel = sum(numpy_dtype(dtype).itemsize for dtype in data.dtypes)
    across = list(_spans(grid.width, cols, shape[1], _ROW_BYTES // (rows * pixel)))
    widest = max(span.size for span in across)
    lines = []
    for down in _spans(grid.height, rows, shape[0], _READ_BYTES // (widest * pixel)):
        parts = [decode(raster, data, RioWindow(beside.first, down.first, beside.size, down.size),
                        thin=partial(_thin, down=down, beside=beside)) for beside in across]
        lines.append(parts[0] if len(parts) == 1 else Rows.concatenate(parts, axis=2))
    return Rows.concatenate(lines)


def _spans(size: int, block: int, count: int, most: int) -> Iterator[_Span]:
    """An axis of `size` pixels cut at the borders of blocks, where one holds any of the `count` that are wanted.

    Args:
        most: pixels of a span, unless one block has more.
    """
    picks = nearest(size, count)
    step = block if count * block < size / 2 else max(1, most // block) * block  # else most blocks are needed
    for first in np.unique(picks // step) * step:
        here = picks[np.searchsorted(picks, first) : np.searchsorted(picks, first + step)]
        yield _Span(int(first), min(step, size - int(first)), here - first)


def _thin(read: np.ndarray, down: _Span, beside: _Span) -> np.ndarray:
    """The pixels that are left of what was read (C,h,w)."""
    if (len(down.picks), len(beside.picks)) == read.shape[1:]:
        return read
    return read.take(down.picks, axis=1).take(beside.picks, axis=2)
