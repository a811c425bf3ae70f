"""A raster as it is seen on another grid, in all but its pixels."""

import numpy as np

from ..grid import Grid
from ..raster.rows import Raster


def resampled_mask_kinds(raster: Raster, grid: Grid) -> tuple[str, ...]:
    """What lies outside the raster has no data, whatever the raster says of its own pixels."""
    if raster.mask_kinds or raster.grid.covers(grid):
        return raster.mask_kinds
    return ("nodata" if np.dtype(raster.dtype).kind == "f" else "mask",)


def resampled_tags(raster: Raster) -> dict[str, str]:
    """The raster's tags, without what says how its coordinates count."""
    return {k: v for k, v in raster.tags.items() if k not in ("LATITUDE", "LONGITUDE")
            and not k.startswith("GEOI2I_L")}
