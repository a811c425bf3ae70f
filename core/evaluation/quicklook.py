"""A before/after picture of a translation."""

from pathlib import Path

import numpy as np

from ..raster.pictures import write_png
from ..raster.rows import SeekableRaster
from ..reproject.warped_raster import WarpedSource
from ..reproject.warping import Warping

_GAP_PX = 8
_EMPTY = 255


def save_comparison(path: Path, before: SeekableRaster, after: SeekableRaster, longest: int = 1200) -> None:
    """Writes source and result as one PNG: above each other where they are wide, else side by side.

    8-bit data are shown as they are; others are stretched from the 2nd to the 98th percentile of their own valid
    pixels. The source is shown on the pixels of the result: the part that was translated, as coarse as it is.
    """
    seen = before if before.grid.matches(after.grid) else WarpedSource(before, after.grid, Warping("nearest"))
    pictures = [_picture(raster, longest) for raster in (seen, after)]
    shape = list(pictures[0].shape)
    axis = 1 if shape[2] >= shape[1] else 2
    shape[axis] = _GAP_PX
    write_png(path, np.concatenate([pictures[0], np.full(shape, _EMPTY, np.uint8), pictures[1]], axis))


def _picture(raster: SeekableRaster, longest: int) -> np.ndarray:
    """(3,h,w) uint8: the red, green and blue bands where they are marked, else the first three or one."""
    colours = {band.colour: k for k, band in enumerate(raster.bands)}
    if {"red", "green", "blue"} <= set(colours):
        order = [colours[name] for name in ("red", "green", "blue")]
    else:
        order = [0, 1, 2] if len(raster.bands) >= 3 else [0, 0, 0]
    rows = raster.decimated(longest)
    pixels = rows.pixels[order].astype(np.float64)
    mask = np.ones(pixels.shape, bool) if rows.mask is None else rows.mask != 0
    mask = np.broadcast_to(mask.all(0), pixels.shape)
    if raster.dtype != "uint8" and mask.any():
        statistics = raster.statistics((2, 98))
        low, high = (np.array([values[k] for k in order])[:, None, None]
                     for values in statistics.percentiles.values())
        scale = np.array([raster.bands[k].scale for k in order])[:, None, None]
        offset = np.array([raster.bands[k].offset for k in order])[:, None, None]
        pixels = np.nan_to_num((pixels * scale + offset - low) / np.maximum(high - low, 1e-12) * 255)
    return np.where(mask, np.clip(np.rint(pixels), 0, 255), _EMPTY).astype(np.uint8)
