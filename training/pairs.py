"""Pairs of windows that show the same area in two rasters whose pixels align."""

import numpy as np

from ..core.errors import RecipeError
from ..core.grid import Grid, parse_crs
from .windows import Candidates, WindowSampler, valid_fractions

_OFF_PX = 0.05
"""How far pixels of two grids may miss each other, in pixels of the target."""


def pair(source: WindowSampler, target: WindowSampler, min_valid: float) -> None:
    """Leaves only windows that both have, so that candidate k of either side shows the same ground.

    Args:
        min_valid: least valid fraction of either window.

    Raises:
        RecipeError: for rasters that do not pair up, do not align, do not overlap, or share no valid window.
    """
    ours, theirs = source.rasters, target.rasters
    if len(ours) != len(theirs):
        raise RecipeError(f"{len(ours)} source and {len(theirs)} target rasters do not pair up: give as many of each, "
                          "in the same order.")
    table, columns = source.candidates, []
    for k, (raster, other) in enumerate(zip(ours, theirs)):
        down, right = shift(raster.grid, other.grid, (raster.path, other.path))
        here = np.flatnonzero(table.raster == k)
        rows, cols = table.row[here] + down, table.col[here] + right
        inside = (rows >= 0) & (cols >= 0)
        inside &= (rows + target.side <= other.grid.height) & (cols + target.side <= other.grid.width)
        here, rows, cols = here[inside], rows[inside], cols[inside]
        valid = valid_fractions(other, rows, cols, target.side) if len(here) else np.zeros(0)
        enough = valid >= max(min_valid, 1e-6)
        columns.append((here[enough], rows[enough], cols[enough], valid[enough]))
    kept, rows, cols, valid = (np.concatenate(column) for column in zip(*columns))
    if not len(kept):
        raise RecipeError(f"No window of {source.side} pixels has enough valid pixels in both source and target "
                          f"({theirs[0].path}{' and others' if len(ours) > 1 else ''}): check that they overlap, or "
                          "lower data.window_px or data.min_valid.")
    weight = np.minimum(table.weight[kept], valid)
    source.candidates = Candidates(table.raster[kept], table.row[kept], table.col[kept], weight, table.zone[kept])
    target.candidates = Candidates(table.raster[kept], rows, cols, weight, table.zone[kept])


def shift(source: Grid, target: Grid, names: tuple[str, str]) -> tuple[int, int]:
    """Row and column of the target at the source's first corner.

    Raises:
        RecipeError: where the pixels of one do not fall on those of the other.
    """
    if parse_crs(source.crs) != parse_crs(target.crs):
        raise RecipeError(f"The target {names[1]} and its source have different CRSs: give data.match_grid = true, or "
                          "reproject one of them first.")
    there = ~target.transform * source.transform
    reach = max(source.height, source.width)
    off = max(abs(there.a - 1), abs(there.e - 1), abs(there.b), abs(there.d)) * reach
    if off > _OFF_PX:
        raise RecipeError(f"Each pixel that data.scale makes of the source is {abs(there.a):.4g} x {abs(there.e):.4g} "
                          f"pixels of the target {names[1]}: change data.scale, or give data.match_grid = true.")
    down, right = round(there.f), round(there.c)
    miss = max(abs(there.f - down), abs(there.c - right))
    if miss > _OFF_PX:
        raise RecipeError(f"The pixels of the target {names[1]} and its source are {miss:.2g} of a pixel apart: give "
                          "data.match_grid = true, or reproject one of them first.")
    return down, right
