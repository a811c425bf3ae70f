"""From rasters to the package of a closed form: `geoi2i fit`."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..core.errors import RecipeError
from ..core.inference.steps import generator_table
from ..core.models.manifest import Manifest, NetworkSpec
from ..core.models.package import ModelPackage, save_package
from ..core.networks.catalogue import NETWORKS
from ..core.validation import explain
from .closed_forms import Fit, Sides, fit_histogram, fit_linear, fit_moments, fit_transport
from .latitude import with_latitude
from .local_fit import fit_local
from .recipe import Recipe, describe_bands, make_recipe
from .sides import open_sides

KINDS: dict[str, Callable[..., Fit]] = {
    "linear": fit_linear, "local": fit_local, "moments": fit_moments, "transport": fit_transport,
    "histogram": fit_histogram}
PAIRED = ("linear", "local")
"""Kinds for which source and target show the same area, pixel by pixel."""
_SECTIONS = ("data", "bands", "package")


def fit_recipe(kind: str, name: str, sources: tuple[str, ...], targets: tuple[str, ...], overrides: dict[str, str]
               ) -> Recipe:
    """The data of a fit as a recipe, whose keys of training are not used.

    Raises:
        RecipeError: for a key outside of data, bands and package, and whatever a recipe is refused for.
    """
    foreign = [key for key in overrides if key.split(".")[0] not in _SECTIONS]
    if foreign:
        raise RecipeError(f"--set {foreign[0]} is not used by fit: set keys of {', '.join(_SECTIONS)}.")
    content = {"name": re.sub(r"[^a-z0-9._-]", "-", name.lower()).strip("._-") or kind,
               "method": "pix2pix" if kind in PAIRED else "cut",
               "data": {"source": {"paths": list(sources)}, "target": {"paths": list(targets)}}}
    return describe_bands(make_recipe(content, overrides, f"fit {kind}"))


def fit(kind: str, recipe: Recipe, output: Path, *, latitude_order: int = 0, **settings
        ) -> tuple[ModelPackage, Fit]:
    """Solves for a closed form and writes it as a package.

    Args:
        kind: of `KINDS`.
        recipe: of `fit_recipe`.
        output: folder of the package.
        latitude_order: highest power of the sine of latitude in a trend that is added; 0: none.
        settings: keyword arguments of the function of `KINDS`.

    Raises:
        RecipeError: for rasters that it cannot be solved from; nothing is written then.
        ModelError: where the folder exists.
    """
    scale = recipe.data.scale
    if scale.denominator != 1:
        raise RecipeError(f"fit needs a whole number for data.scale (got {scale}): resample the target first, for "
                          "example with geoi2i reproject --resolution.")
    sources, targets = open_sides(recipe.data, recipe.bands, kind in PAIRED, coarsest=kind == "local")
    sides = Sides(sources, targets, *([spec.name for spec in specs]
                                      for specs in (recipe.bands.source, recipe.bands.target)))
    validation = recipe.data.validation
    if kind == "linear":
        settings["scale"] = scale.numerator
        if validation and not settings.get("sizes"):
            settings["choice"] = sides.split(validation)
    elif validation:
        raise RecipeError("What is held out (data.validation) chooses the terms of fit linear: leave it out of fit "
                          f"{kind}.")
    elif scale != 1:
        raise RecipeError(f"fit {kind} does not enlarge: leave data.scale out, or use fit linear.")
    if latitude_order and kind == "local":
        raise RecipeError("fit local follows the map as it is: leave --latitude-order out.")
    made = KINDS[kind](sides, **settings)
    if latitude_order:
        made, settings["latitude_order"] = with_latitude(made, sides, latitude_order), latitude_order
    return save_package(output, describe(kind, recipe, made, sides, settings), made.network), made


def describe(kind: str, recipe: Recipe, made: Fit, sides: Sides, settings: dict[str, Any]) -> Manifest:
    """The manifest of a fit, without hashes."""
    network, grid = made.network, sides.sources[0].original.grid
    name = next(name for name, each in NETWORKS.items() if type(network) is each)
    data = {side: list(getattr(recipe.data, side).paths) for side in ("source", "target")}
    try:
        return Manifest(
            name=recipe.name, title=recipe.package.title or f"{kind.capitalize()} fit", licence=recipe.package.licence,
            bands_in=recipe.bands.source, bands_out=recipe.bands.target, body=grid.body, pixel_size_m=grid.pixel_size_m,
            pixel_size_factor=recipe.package.pixel_size_factor, scale=recipe.data.scale,
            network=NetworkSpec(name=name, sizes=dict(network.sizes)), table=generator_table(),
            normalise_in=made.normalise_in, normalise_out=made.normalise_out,
            coordinates=made.coordinates,
            margin_px=network.radius_px, multiple_of=network.stride,
            tile_px=recipe.package.tile_px, dtype=recipe.bands.dtype,
            recipe={"fit": kind, "data": data, **{key: value for key, value in settings.items()
                                                  if key != "choice" and value is not None}},
            training_data=recipe.package.training_data)
    except ValidationError as error:
        raise RecipeError(f"The fit does not describe a model: {explain(error, Manifest)}") from error
