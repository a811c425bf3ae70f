"""The rasters of both sides of a training's data, with the bands and on the grid that the recipe asks for."""

from collections.abc import Sequence

from ..core.errors import RecipeError
from ..core.models.manifest import BandSpec
from ..core.models.matching import bands_named
from ..core.raster.rows import SeekableRaster
from ..core.raster.source import RasterSource
from ..core.reproject.warped_raster import WarpedSource, finer, resampled_like, resampled_to
from .recipe import BandsRecipe, Data, Rasters, find_rasters

_LOOK_PX = 256
"""Longest side at which rasters are tested for overlap."""


def open_sides(data: Data, bands: BandsRecipe, paired: bool, coarsest: bool = False
               ) -> tuple[list[SeekableRaster], list[SeekableRaster]]:
    """Source and target rasters; sources in pixels of the target's size, targets on the sources' grid where
    `data.match_grid` says so.

    Args:
        bands: with `source` and `target` filled in.
        paired: whether raster k of either side shows the same area.
        coarsest: whether sources that are paired and matched get the pixels of targets that have larger ones, instead
            of the other way round.

    Raises:
        RecipeError: for rasters of classes or with other bands than the recipe's, or a target that does not overlap
            its source.
    """
    sources, targets = (_all_opened(rasters, specs, side) for rasters, specs, side in (
        (data.source, bands.source, "source"), (data.target, bands.target, "target")))
    for rasters, specs, side in ((sources, bands.source, "source"), (targets, bands.target, "target")):
        for raster in rasters:
            if len(raster.bands) != len(specs):
                raise RecipeError(f"{raster.path} has {len(raster.bands)} bands, and the recipe names {len(specs)} "
                                  f"({', '.join(spec.name for spec in specs)}): choose them with data.{side}.bands.")
    if data.scale != 1:
        sources = [finer(raster, data.scale) for raster in sources]
    if data.match_grid:
        if paired and coarsest:
            sources = [resampled_like(raster, other.grid) if _finer(raster, other) else raster
                       for raster, other in zip(sources, targets)] + sources[len(targets):]
        targets = ([_seen_by(own, raster) for raster, own in zip(targets, sources)] if paired
                   else [resampled_like(raster, sources[0].grid) for raster in targets])
    return sources, targets


def _all_opened(rasters: Rasters, specs: Sequence[BandSpec], side: str) -> list[SeekableRaster]:
    return [_opened(path, rasters, specs) for path in find_rasters(rasters, side)]


def _opened(path: str, rasters: Rasters, specs: Sequence[BandSpec]) -> RasterSource:
    """A raster with the recipe's bands: those that it names, else those of the same names, else all in order.

    Raises:
        RecipeError: for one that holds classes, between whose numbers there is nothing.
    """
    raster = RasterSource.open(path, rasters.bands)
    if rasters.bands is None and (named := bands_named(raster, specs)) and named != raster.indexes:
        raster = RasterSource.open(path, named)
    if any(band.classes for band in raster.bands):
        raise RecipeError(f"{path} holds numbers of classes, or of colours in a table, and networks are trained on "
                          "measured values: convert colours to red, green and blue with gdal_translate -expand rgb.")
    return raster


def _finer(raster: SeekableRaster, other: SeekableRaster) -> bool:
    """Whether a raster has smaller pixels than another."""
    sizes = raster.grid.pixel_size_m, other.grid.pixel_size_m
    return None not in sizes and sizes[0] < sizes[1] * 0.99  # type: ignore[operator]


def _seen_by(source: SeekableRaster, target: SeekableRaster) -> WarpedSource:
    """A target on the very pixels of its source."""
    seen = resampled_to(target, source.grid)
    mask = seen.decimated(_LOOK_PX).mask
    if mask is not None and not mask.any():
        raise RecipeError(f"The target {target.path} does not overlap its source: name rasters of the same area, in "
                          "the same order.")
    return seen
