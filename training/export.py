"""From a trained run to a model package: what the model says of itself, and its weights."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import nn

from ..core.errors import RecipeError
from ..core.models.manifest import Manifest
from ..core.models.normalisers import MatrixNormaliser
from ..core.models.package import ModelPackage, check_windows, save_package
from ..core.raster.source import RasterSource
from ..core.validation import explain
from .methods._shared import Method
from .recipe import Recipe, as_json, find_rasters
from .state import Run, network_spec, shipped


def export_run(run: Run, folder: Path, metrics: dict[str, Any] | None = None) -> ModelPackage:
    """Writes the run's averaged generator, its sampler and its recipe as a package folder."""
    found = {"validation": run.comparison.as_json()} if run.comparison else {}
    manifest = describe(run.recipe, run.method, run.networks, run.front)
    manifest = manifest.model_copy(update={"metrics": found | (metrics or {})})
    return save_package(folder, manifest, shipped(run), run.networks.get("codec"))


def describe(recipe: Recipe, method: Method, networks: dict[str, nn.Module], front: MatrixNormaliser | None = None
             ) -> Manifest:
    """The manifest of the model, without hashes and metrics; asked for before the first step, so that no run is for
    nothing.

    Args:
        front: what networks see the source through; None: the recipe's normaliser.

    Raises:
        RecipeError: for bands, normalisers or sizes that make none.
        ModelError: for windows on which it could not run.
    """
    source = RasterSource.open(find_rasters(recipe.data.source, "source")[0], recipe.data.source.bands)
    generator, autoencoder = networks["generator"], networks.get("codec")
    try:
        manifest = Manifest(
            name=recipe.name,
            title=recipe.package.title or recipe.name,
            licence=recipe.package.licence,
            bands_in=recipe.bands.source,
            bands_out=recipe.bands.target,
            body=source.grid.body,
            pixel_size_m=source.grid.pixel_size_m,
            pixel_size_factor=recipe.package.pixel_size_factor,
            network=network_spec(recipe, method),
            codec=autoencoder and autoencoder.spec,
            auxiliary=getattr(method, "auxiliary", None),
            presets=method.presets() if hasattr(method, "presets") else (),
            table=method.steps(),
            normalise_in=front or recipe.bands.normalise_in,  # type: ignore[arg-type]
            normalise_out=recipe.bands.normalise_out,  # type: ignore[arg-type]
            scale=recipe.data.scale,
            **_windows(recipe, generator, autoencoder),
            dtype=recipe.bands.dtype,
            recipe=as_json(recipe),
            training_data=recipe.package.training_data,
        )
    except ValidationError as error:
        raise RecipeError(f"Recipe {recipe.name} does not describe a model: {explain(error, Manifest)}") from error
    check_windows(manifest, generator)
    return manifest


def _windows(recipe: Recipe, generator: nn.Module, autoencoder: nn.Module | None) -> dict[str, Any]:
    """What a manifest says of windows. A network that attends is shown such as it was trained on, and no others."""
    side, multiple = recipe.data.window_px, generator.stride
    if getattr(generator, "attends", False):
        multiple *= autoencoder.spec.factor if autoencoder else 1
        return {"margin_px": 0, "multiple_of": multiple, "tile_px": side, "overlap_px": side // 2, "attends": True}
    return {"margin_px": generator.radius_px, "multiple_of": multiple, "tile_px": recipe.package.tile_px}
