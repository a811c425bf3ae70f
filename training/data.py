"""Both sides of a training's data: rasters that are opened, put onto one grid and drawn from, window by window."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from kornia.augmentation import AugmentationSequential, RandomHorizontalFlip, RandomVerticalFlip
from torch import Tensor

from ..core.errors import RecipeError
from ..core.models.manifest import BandSpec
from ..core.models.matching import bands_named
from ..core.raster.rows import SeekableRaster
from ..core.raster.source import RasterSource
from ..core.reproject.warped_raster import WarpedSource, finer, resampled_like, resampled_to
from .methods import METHODS
from .pairs import pair
from .recipe import Rasters, Recipe, find_rasters
from .windows import WindowSampler, share_zones

_LOOK_PX = 256
"""Longest side at which it is looked whether rasters show the same ground."""


@dataclass(frozen=True)
class Domains:
    """The two sides of the data."""

    source: WindowSampler
    target: WindowSampler
    paired: bool = False
    """Whether candidates of the same number show the same ground."""

    def batch(self, recipe: Recipe, step: int) -> dict[str, Tensor]:
        """Windows of one step: `source` and `target`, of the same ground where they are paired; else `target` of the
        same zones, and other windows `source2`."""
        generator = torch.Generator().manual_seed(seed_of(recipe, step))
        count = recipe.data.batch
        picks = self.source.pick(count, generator)
        source = self.source.windows(picks)
        if self.paired:
            return {"source": source, "target": self.target.windows(picks)}
        zones = self.source.candidates.zone[picks] if recipe.data.latitude_zones else None
        source2 = self.source.windows(self.source.pick(count, generator))
        return {"source": source, "source2": source2,
                "target": self.target.windows(self.target.pick(count, generator, zones))}


def open_domains(recipe: Recipe) -> Domains:
    """Both sides of the data, indexed and ready to be drawn from."""
    data, bands, paired = recipe.data, recipe.bands, METHODS[recipe.method].paired
    sources, targets = ([_opened(path, rasters, specs) for path in find_rasters(rasters, side)]
                        for rasters, specs, side in ((data.source, bands.source, "source"),
                                                     (data.target, bands.target, "target")))
    for rasters, specs, side in ((sources, bands.source, "source"), (targets, bands.target, "target")):
        for raster in rasters:
            if len(raster.bands) != len(specs):
                raise RecipeError(f"{raster.path} has {len(raster.bands)} bands, and the recipe names {len(specs)} "
                                  f"({', '.join(spec.name for spec in specs)}): choose them with data.{side}.bands.")
    if data.scale != 1:
        sources = [finer(raster, data.scale) for raster in sources]
    if data.match_grid:
        targets = ([_seen_by(source, raster) for raster, source in zip(targets, sources)] if paired
                   else [resampled_like(raster, sources[0].grid) for raster in targets])
    if bands.normalise_out and bands.normalise_out.percentiles:
        raise RecipeError("A model needs one normalisation for all that it gives: give bands.normalise_out of kind "
                          "range or mean_std.")
    sides = [WindowSampler(rasters, normaliser, data.window_px, data.min_valid, data.latitude_zones)
             for rasters, normaliser in ((sources, bands.normalise_in), (targets, bands.normalise_out))]
    if paired:
        pair(*sides, data.min_valid)
    elif data.latitude_zones:
        share_zones(*sides)
    return Domains(*sides, paired)


def _opened(path: str, rasters: Rasters, specs: Sequence[BandSpec]) -> RasterSource:
    """A raster with the recipe's bands: those that it names, else those of the same names, else all in order.

    Raises:
        RecipeError: where there is nothing between the numbers of one.
    """
    raster = RasterSource.open(path, rasters.bands)
    if rasters.bands is None and (named := bands_named(raster, specs)) and named != raster.indexes:
        raster = RasterSource.open(path, named)
    if any(band.classes for band in raster.bands):
        raise RecipeError(f"{path} holds numbers of classes, or of colours in a table, and networks are trained on "
                          "measured values: turn colours into red, green and blue with gdal_translate -expand rgb.")
    return raster


def _seen_by(source: SeekableRaster, target: SeekableRaster) -> WarpedSource:
    """A target on the very pixels of its source."""
    seen = resampled_to(target, source.grid)
    mask = seen.decimated(_LOOK_PX).mask
    if mask is not None and not mask.any():
        raise RecipeError(f"{target.path} shows nothing of the ground of {source.path}: name rasters of the same "
                          "ground, in the same order.")
    return seen


def flips(recipe: Recipe, paired: bool) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    """Flips of a batch: the same of both sides where they are paired."""
    kinds = [kind(p=0.5) for kind, wanted in ((RandomVerticalFlip, recipe.data.flip_rows),
                                              (RandomHorizontalFlip, recipe.data.flip_cols)) if wanted]
    if not kinds:
        return lambda batch: batch
    flip = AugmentationSequential(*kinds, data_keys=["input"])

    def augment(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        first, *others = batch
        flipped = {first: flip(batch[first])}
        drawn = flip._params
        return flipped | {name: flip(batch[name], params=drawn) if paired else flip(batch[name]) for name in others}

    return augment


def seed_of(recipe: Recipe, step: int) -> int:
    """A seed for each step; steps of neighbouring runs do not meet."""
    return (recipe.seed * 1_000_003 + step * 7_919 + 17) % (2**63)
