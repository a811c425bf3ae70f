"""Where a raster has data: a polygon around its valid pixels."""

import numpy as np
import rasterio.features
import shapely
from affine import Affine
from shapely.geometry import shape

from ..grid import Grid
from .rows import Rows


def valid_pixels(small: Rows) -> np.ndarray:
    """Which pixels (h,w) of a decimated raster have data in any band."""
    if small.mask is None:
        return np.ones(small.pixels.shape[1:], bool)
    return (small.mask != 0).any(0)


def footprint(valid: np.ndarray, grid: Grid) -> shapely.Geometry:
    """The polygons around valid pixels, in the raster's CRS, exact to a pixel of `valid`.

    Args:
        valid: (h,w) of bool, the whole raster at any size.
        grid: the raster's.
    """
    height, width = valid.shape
    transform = grid.transform @ Affine.scale(grid.width / width, grid.height / height)
    found = rasterio.features.shapes(valid.astype(np.uint8), valid, connectivity=8, transform=transform)
    pixel = np.sqrt(abs(transform.determinant))
    return shapely.union_all([shape(polygon) for polygon, _ in found]).simplify(pixel / 2)
