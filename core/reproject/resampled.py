"""A raster as it is seen on another grid, in all but its pixels."""

from dataclasses import replace

import numpy as np
from affine import Affine

from ..grid import Grid, parse_crs
from ..raster.rows import Raster
from .extent import goes_round


def resampled_mask_kinds(raster: Raster, grid: Grid) -> tuple[str, ...]:
    """What lies outside the raster has no data, whatever the raster says of its own pixels."""
    if raster.mask_kinds or raster.grid.covers(grid) or _covers_round(raster.grid, grid):
        return raster.mask_kinds
    return (mask_kind_of(raster.dtype),)


def mask_kind_of(dtype: str) -> str:
    """How a raster says which pixels have no data, where what it is made from knows of none."""
    return "nodata" if np.dtype(dtype).kind == "f" else "mask"


def _covers_round(grid: Grid, other: Grid) -> bool:
    """Whether a grid that goes round covers another in its CRS, wherever that begins."""
    if parse_crs(grid.crs) != parse_crs(other.crs) or not goes_round(grid):
        return False
    col, _ = ~grid.transform * (other.transform.c, other.transform.f)
    return replace(grid, transform=grid.transform @ Affine.translation(col, 0)).covers(other)


def resampled_tags(raster: Raster) -> dict[str, str]:
    """The raster's tags, without what says how its coordinates count."""
    return {k: v for k, v in raster.tags.items() if k not in ("LATITUDE", "LONGITUDE")
            and not k.startswith("GEOI2I_L")}
