"""A whole raster at reduced size, every block decoded once."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import rasterio
import rasterio.errors
from rasterio.windows import Window as RioWindow

from ..errors import RasterError
from ..grid import Grid
from .decoding import Stored, Values, mask_of, pixels_tell, read_values, rows_of
from .rows import Rows, numpy_dtype, valid_in_all
from .unreadable import no_damage

_CACHE_BYTES, _LEAST_CACHE_BYTES = 512 << 20, 8 << 20
_READ_BYTES, _LARGE_BYTES = 2 << 20, 64 << 20
_EPSILON = 1e-10  # that GDAL adds to the place of a centre
_NEAR = 1.2, 0.15
"""GDAL takes an overview that is up to so many times as coarse as what is asked for, and a little more."""


def small_shape(grid: Grid, longest: int) -> tuple[int, int]:
    """Height and width of a grid made small, so that neither is more than `longest`."""
    factor = max(1.0, max(grid.height, grid.width) / longest)
    return max(1, round(grid.height / factor)), max(1, round(grid.width / factor))


def decode_small(raster: Stored, data: rasterio.DatasetReader, longest: int) -> Rows:
    """All of a raster, the nearest pixel of each.

    Raises:
        RasterError: where the file is damaged.
    """
    shape = small_shape(raster.grid, longest)
    whole: list[np.ndarray | None] = [None] * len(Values._fields)
    shrinks, cache = _decoding(data, shape)
    with rasterio.Env(GDAL_CACHEMAX=cache):
        for piece in _pieces(raster, data, shape, shrinks):
            for k, part in enumerate(piece.values):
                if part is not None:
                    if (array := whole[k]) is None:
                        array = whole[k] = np.empty((len(part), *shape), part.dtype)
                    array[:, piece.rows, piece.cols] = part
    return rows_of(raster, Values(*whole))


def decode_valid(raster: Stored, data: rasterio.DatasetReader, longest: int) -> np.ndarray | None:
    """Where all bands of `decode_small` have data, (h,w) bool; None: everywhere. Pixels that cannot tell are not read.

    Raises:
        RasterError: where the file is damaged.
    """
    shape, pixels = small_shape(raster.grid, longest), pixels_tell(raster)
    if not pixels and not raster.mask_kinds:
        return None
    valid = np.ones(shape, bool)
    shrinks, cache = _decoding(data, shape)
    with rasterio.Env(GDAL_CACHEMAX=cache):
        for piece in _pieces(raster, data, shape, shrinks, pixels):
            if (here := valid_in_all(mask_of(raster, piece.values))) is not None:
                valid[piece.rows, piece.cols] = here
    return None if valid.all() else valid


class _Piece(NamedTuple):
    """A part of a small raster."""

    values: Values
    rows: slice
    cols: slice


def _pieces(raster: Stored, data: rasterio.DatasetReader, shape: tuple[int, int], shrinks: bool, pixels: bool = True
            ) -> Iterator[_Piece]:
    """A small raster, some pixels at a time; no block of the file is decoded twice, and none that gives no pixel.

    Args:
        shrinks: whether GDAL makes it small, in one go.
        pixels: whether the pixels are wanted, beside what says where they have data.
    """
    grid = raster.grid
    try:
        if shrinks:
            values = read_values(raster, data, RioWindow(0, 0, grid.width, grid.height), shape, pixels)
            yield _Piece(values, slice(None), slice(None))
            return
        for part, rows, cols in _windows(raster, data, shape):
            read = read_values(raster, data, part, None, pixels)
            yield _Piece(Values(*(None if each is None else _taken(each, part, rows.places, cols.places)
                                  for each in read)), rows.at, cols.at)
    except rasterio.errors.RasterioError as error:
        raise no_damage(raster.path, error) or RasterError(
            f"{raster.path} cannot be read: the file is damaged or cut off. Copy or download it again.") from error


def _taken(array: np.ndarray, part: RioWindow, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """Some rows and columns of a part (C,h,w), counted from the raster's first; copied where they are not all."""
    if len(rows) < part.height:
        array = array[:, rows - part.row_off]
    return array.take(cols - part.col_off, 2) if len(cols) < part.width else array


def _decoding(data: rasterio.DatasetReader, shape: tuple[int, int]) -> tuple[bool, int]:
    """Whether GDAL itself makes a raster small, and the bytes of its cache.

    It does where it takes an overview, and from each source of a VRT. Elsewhere it would decode each block of several
    bands once for each band, unless its cache held them all.
    """
    if data.driver == "VRT":  # its blocks are not those that are decoded, and to ask for overviews opens its sources
        return True, _CACHE_BYTES >> 2
    factor = min(data.height / shape[0], data.width / shape[1])
    if factor > 1 and any(0 < each <= _NEAR[0] * factor + _NEAR[1] for each in (*data.overviews(1), *_hidden(data))):
        return True, _CACHE_BYTES
    block = _block_bytes(data)
    return False, block * 5 // 4 if block > _LARGE_BYTES else _LEAST_CACHE_BYTES


def _hidden(data: rasterio.DatasetReader) -> tuple[int, ...]:
    """Overviews that GDAL takes and does not list: JPEG decoders make images 2, 4 or 8 times as small."""
    return (2, 4, 8) if data.tags(ns="IMAGE_STRUCTURE").get("COMPRESSION", "").endswith("JPEG") else ()


def _block_bytes(data: rasterio.DatasetReader) -> int:
    """Those of a block of all bands."""
    rows, cols = data.block_shapes[0]
    return rows * cols * sum(numpy_dtype(dtype).itemsize for dtype in data.dtypes)


class _Places(NamedTuple):
    """The rows or columns of a raster that some of a small one are."""

    places: np.ndarray
    at: slice


def _windows(raster: Stored, data: rasterio.DatasetReader, shape: tuple[int, int]
             ) -> Iterator[tuple[RioWindow, _Places, _Places]]:
    """Windows of whole blocks, top to bottom, and the pixels that are taken of each.

    Where a block is very large they are single rows of it, one block after the other.
    """
    grid, (high, wide), block = raster.grid, data.block_shapes[0], _block_bytes(data)
    rows, cols = nearest_rows(grid.height, shape[0]), nearest_cols(grid.width, shape[1])
    dense = 2 * len(np.unique(rows // high)) > -(-grid.height // high)
    step = high * max(1, _READ_BYTES // (block * -(-grid.width // wide)) if dense else 1)
    across = wide * max(1, _READ_BYTES // block)
    for lines in _groups(rows, step):
        for columns in _groups(cols, across):
            for some in _groups(lines.places, 1, lines.at.start) if block > _LARGE_BYTES else [lines]:
                yield _span(some, columns), some, columns


def _groups(places: np.ndarray, step: int, start: int = 0) -> Iterator[_Places]:
    """Increasing places that are in the same steps; `start` is the first's position."""
    edges = [0, *np.flatnonzero(np.diff(places // step)) + 1, len(places)]
    for first, stop in itertools.pairwise(edges):
        yield _Places(places[first:stop], slice(start + first, start + stop))


def _span(rows: _Places, cols: _Places) -> RioWindow:
    """The smallest window with all of their pixels."""
    (top, bottom), (left, right) = ((int(each.places[0]), int(each.places[-1]) + 1) for each in (rows, cols))
    return RioWindow(left, top, right - left, bottom - top)


def nearest_rows(size: int, count: int) -> np.ndarray:
    """Which of `size` rows (count,) GDAL takes for each of `count`: those at their centres."""
    return _inside((np.arange(count) + 0.5) * (size / count) + _EPSILON, size)


def nearest_cols(size: int, count: int) -> np.ndarray:
    """As `nearest_rows`, for columns: there GDAL adds up steps, and rounding errors with them."""
    steps = np.full(count, size / count)
    steps[0] = 0.5 * steps[0] + _EPSILON
    return _inside(steps.cumsum(), size)


def _inside(centres: np.ndarray, size: int) -> np.ndarray:
    return np.minimum(centres.astype(np.int64), size - 1)
