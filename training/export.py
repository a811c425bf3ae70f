"""From a trained run to a model package."""

from pathlib import Path
from typing import Any

from ..core.manifest import Manifest
from ..core.package import ModelPackage, save_package
from ..core.raster import RasterSource
from .loop import Run, network_spec, shipped
from .recipe import as_json, find_rasters


def windows(run: Run) -> dict[str, Any]:
    """What a manifest says of windows. A network that attends is shown such as it was trained on, and no others."""
    side, multiple = run.recipe.data.window_px, run.ema.stride
    if getattr(run.ema, "attends", False):
        codec = run.networks.get("codec")
        return {"margin_px": 0, "multiple_of": multiple * (codec.spec.factor if codec else 1), "tile_px": side,
                "overlap_px": side // 2, "attends": True}
    return {"margin_px": run.ema.radius_px, "multiple_of": multiple, "tile_px": run.recipe.package.tile_px}


def export_run(run: Run, folder: Path, metrics: dict[str, Any] | None = None) -> ModelPackage:
    """Writes the run's averaged generator, its sampler and its recipe as a package folder."""
    recipe = run.recipe
    codec = run.networks.get("codec")
    source = RasterSource.open(find_rasters(recipe.data.source, "source")[0], recipe.data.source.bands)
    manifest = Manifest(
        name=recipe.name,
        title=recipe.package.title or recipe.name,
        licence=recipe.package.licence,
        bands_in=recipe.bands.source,
        bands_out=recipe.bands.target,
        body=source.grid.body,
        pixel_size_m=source.grid.pixel_size_m,
        pixel_size_factor=recipe.package.pixel_size_factor,
        network=network_spec(recipe, run.method),
        codec=codec and codec.spec,
        auxiliary=getattr(run.method, "auxiliary", None),
        presets=run.method.presets() if hasattr(run.method, "presets") else (),
        table=run.method.steps(),
        normalise_in=recipe.bands.normalise_in,
        normalise_out=recipe.bands.normalise_out,
        scale=recipe.data.scale,
        **windows(run),
        dtype=recipe.bands.dtype,
        recipe=as_json(recipe),
        metrics=metrics or {},
        training_data=recipe.package.training_data,
    )
    return save_package(folder, manifest, shipped(run), codec)
