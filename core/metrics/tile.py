"""Measures that see a whole tile at once: what they look at, and the mean that they are.

Their tiles stand side by side on a lattice from the raster's first pixel, so the value depends on the tile's side,
which stands beside it, and on nothing else.
"""

from collections.abc import Callable, Iterator

import numpy as np

from .measure import Measure, Patch


def tiles(patch: Patch, side: int, least: int = 32) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The tiles of a patch that have no hole: reference and prediction (C,h,w).

    Args:
        side: pixels of a tile; patches are cut on multiples of it. Tiles at the raster's last rows and columns are
            smaller.
        least: rows and columns that a tile must have to count.
    """
    height, width = patch.valid[patch.owned].shape
    for row in range(0, height, side):
        for col in range(0, width, side):
            part = slice(row, min(row + side, height)), slice(col, min(col + side, width))
            whole = patch.valid[patch.owned][part]
            if min(whole.shape) >= least and whole.all():
                yield patch.reference[:, *patch.owned][:, *part], patch.prediction[:, *patch.owned][:, *part]


def tile_mean(name: str, unit: str, best: float, value: Callable[[np.ndarray, np.ndarray], float], side: int,
              least: int = 32, settings: dict | None = None) -> Measure:
    """The mean of a function of two images (C,h,w) over whole tiles, each with the weight of its pixels."""
    def sums(patch):
        found = [(one.shape[1] * one.shape[2], value(one, other)) for one, other in tiles(patch, side, least)]
        return {"count": sum(pixels for pixels, _ in found), "value": sum(pixels * v for pixels, v in found)}

    return Measure(name, unit, best, sums, lambda t: t["value"] / t["count"], block_px=side,
                   settings={"tile": side, **(settings or {})})
