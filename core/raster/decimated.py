"""A whole raster at reduced size, every block decoded once."""

import numpy as np
import rasterio
import rasterio.errors
from rasterio.windows import Window as RioWindow

from ..errors import RasterError
from ..grid import Grid
from .decoding import Stored, decode, decode_part
from .rows import Rows, numpy_dtype

_CACHE_BYTES, _LEAST_CACHE_BYTES = 512 << 20, 8 << 20


def small_shape(grid: Grid, longest: int) -> tuple[int, int]:
    """Height and width of a grid made small, so that neither is more than `longest`."""
    factor = max(1.0, max(grid.height, grid.width) / longest)
    return max(1, round(grid.height / factor)), max(1, round(grid.width / factor))


def decode_small(raster: Stored, data: rasterio.DatasetReader, longest: int) -> Rows:
    """All of a raster, the nearest pixel of each.

    Raises:
        RasterError: where the file is damaged.
    """
    grid, shape = raster.grid, small_shape(raster.grid, longest)
    try:
        whole_rows, cache = _decoding(data, shape)
        with rasterio.Env(GDAL_CACHEMAX=cache):
            if whole_rows:
                return decode(raster, data, RioWindow(0, 0, grid.width, grid.height), shape)
            return _by_columns(raster, data, shape)
    except rasterio.errors.RasterioError as error:
        raise RasterError(f"{raster.path} cannot be read: the file is damaged or cut off. "
                          "Copy or download it again.") from error


def _by_columns(raster: Stored, data: rasterio.DatasetReader, shape: tuple[int, int]) -> Rows:
    """One column of blocks after the other, where a whole row of them is too much for the cache."""
    grid, step = raster.grid, data.block_shapes[0][1]
    rows, cols = (((np.arange(count) + 0.5) * (size / count)).astype(int)
                  for count, size in zip(shape, (grid.height, grid.width)))
    columns = []
    for left in range(0, grid.width, step):
        here = cols[(cols >= left) & (cols < left + step)] - left
        lines = (decode_part(raster, data, RioWindow(left, int(row), min(step, grid.width - left), 1))
                 for row in rows if here.size)
        thin = [Rows(0, line.pixels[:, :, here], None if line.mask is None else line.mask[:, :, here])
                for line in lines]
        columns += [Rows.concatenate(thin)] if thin else []
    return Rows.concatenate(columns, axis=2)


def _decoding(data: rasterio.DatasetReader, shape: tuple[int, int]) -> tuple[bool, int]:
    """Whether to read a raster in whole rows to make it small, and the bytes of cache with which GDAL then decodes
    every block once: those of a row of blocks, or of one block where that is too much."""
    if data.driver == "VRT":  # its blocks are not those that are decoded, and to ask for overviews opens its sources
        return True, _CACHE_BYTES >> 2
    (rows, cols), overviews = data.block_shapes[0], data.overviews(1)
    if overviews and overviews[0] > 0 and data.width // overviews[0] >= shape[1]:
        return True, _CACHE_BYTES  # GDAL takes an overview
    block = rows * cols * sum(numpy_dtype(dtype).itemsize for dtype in data.dtypes)
    row = block * -(-data.width // cols)
    whole_rows = row <= _CACHE_BYTES
    return whole_rows, max(_LEAST_CACHE_BYTES, (row if whole_rows else block) * 5 // 4)
