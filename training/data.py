"""Both sides of a training's data: rasters that are opened, put onto one grid and drawn from, window by window."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..core.errors import RecipeError
from ..core.models.normalisers import Normaliser
from ..core.raster.rows import SeekableRaster
from .holdout import split
from .methods import METHODS
from .pairs import pair
from .recipe import Recipe
from .sides import open_sides
from .windows import WindowSampler, share_zones


@dataclass(frozen=True)
class Domains:
    """The two sides of the data."""

    source: WindowSampler
    target: WindowSampler
    paired: bool = False
    """Whether candidates of the same number show the same area."""
    held_out: "Domains | None" = None
    """What is not trained on, where anything is held out."""

    def seen_through(self, front: Normaliser) -> "Domains":
        """The same, with another way from the source to what networks see."""
        return replace(self, source=self.source.normalised_by(front),
                       held_out=self.held_out and self.held_out.seen_through(front))

    def batch(self, recipe: Recipe, step: int) -> dict[str, Tensor]:
        """Windows of one step: `source` and `target`, of the same area where they are paired; else `target` of the
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
    sources, targets = open_sides(data, bands, paired)
    if bands.normalise_out and bands.normalise_out.percentiles:
        raise RecipeError("A model needs one normalisation for all that it gives: give bands.normalise_out of kind "
                          "range or mean_std.")
    if not data.validation:
        return _domains(recipe, sources, targets)
    train, held = split(sources, targets, data.validation, data.window_px, data.window_px, paired)
    try:
        held_out = _domains(recipe, *held, keep=False)
    except RecipeError as error:
        raise RecipeError(f"data.validation = {data.validation} holds nothing out that can be judged on: "
                          "give another, or 0 for none.", [str(error)], "Larger rasters may be needed.") from error
    try:
        return replace(_domains(recipe, *train), held_out=held_out)
    except RecipeError as error:
        raise RecipeError(f"data.validation = {data.validation} leaves nothing to train on: give another, or "
                          "0 for none.", [str(error)], "Larger rasters may be needed.") from error


def _domains(recipe: Recipe, sources: list[SeekableRaster], targets: list[SeekableRaster],
             keep: bool = True) -> Domains:
    """Both sides, with the windows that can be drawn from them."""
    data, bands, paired = recipe.data, recipe.bands, METHODS[recipe.method].paired
    source, target = (WindowSampler(rasters, normaliser, data.window_px, data.min_valid, data.latitude_zones,
                                    keep) for rasters, normaliser in ((sources, bands.normalise_in),
                                                              (targets, bands.normalise_out)))
    if paired:
        pair(source, target, data.min_valid)
    elif data.latitude_zones:
        share_zones(source, target)
    return Domains(source, target, paired)


def seed_of(recipe: Recipe, step: int) -> int:
    """A seed for each step; steps of neighbouring runs do not meet."""
    return (recipe.seed * 1_000_003 + step * 7_919 + 17) % (2**63)
