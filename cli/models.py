"""`geoi2i models`: list, show and verify models."""

import click

from .options import verbose_option


@click.group()
def command() -> None:
    """List, show and verify models."""


@command.command("list")
@click.option("--for", "raster", metavar="SRC", help="Say of each model whether it suits this raster, and why not.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a model, for programs.")
@verbose_option
def list_models(raster: str | None, as_json: bool, verbose: bool) -> None:
    """List the bundled and installed models.

    Folders are looked up in GEOI2I_MODELS, then in the user's data folder, then in the package.
    """
    import json

    from ..core.fit import misfits, model_folders
    from ..core.package import MANIFEST, read_manifest
    from ..core.raster import RasterSource

    source = RasterSource.open(raster) if raster else None
    for name, folder in model_folders().items():
        manifest = read_manifest(folder / MANIFEST)
        reasons = misfits(source, manifest) if source else None
        if as_json:
            click.echo(json.dumps({"name": name, "folder": str(folder), "title": manifest.title,
                                   "bands_in": [b.name for b in manifest.bands_in], "body": manifest.body,
                                   "pixel_size_m": manifest.pixel_size_m,
                                   **({} if reasons is None else {"misfits": reasons})}))
            continue
        size = f"{manifest.pixel_size_m:.6g} m pixels" if manifest.pixel_size_m else "any pixel size"
        bands = ", ".join(band.name for band in manifest.bands_in)
        click.echo(f"{name:<16} {manifest.title}\n{'':<16} {bands}; {size}; {manifest.body or 'any body'}")
        if reasons is not None:
            click.echo(f"{'':<16} {'does not suit: ' + '; '.join(reasons) if reasons else f'suits {raster}'}")


@command.command()
@click.argument("model")
@click.option("--json", "as_json", is_flag=True, help="The whole manifest as JSON.")
@verbose_option
def show(model: str, as_json: bool, verbose: bool) -> None:
    """Show what a MODEL (name or folder) is for and how it was made."""
    from ..core.fit import find_model

    package = find_model(model)
    manifest = package.manifest
    if as_json:
        click.echo(manifest.model_dump_json(indent=1))
        return
    lines = {
        "name": f"{manifest.name} {manifest.version}", "title": manifest.title, "licence": manifest.licence,
        "folder": str(package.folder),
        "takes": "; ".join(f"{b.name} [{b.minimum:g}, {b.maximum:g}] {b.unit}" for b in manifest.bands_in),
        "gives": "; ".join(f"{b.name} [{b.minimum:g}, {b.maximum:g}] {b.unit}" for b in manifest.bands_out),
        "body": manifest.body or "any",
        "pixels": f"{manifest.pixel_size_m:.6g} m, within a factor of {manifest.pixel_size_factor:g}"
        if manifest.pixel_size_m else "any size",
        "network": f"{manifest.network.name} {manifest.network.sizes}" if manifest.network else "none",
        "sampler": f"{len(manifest.table.steps)} steps, "
                   f"{'stochastic' if manifest.table.stochastic else 'deterministic'}",
        "windows": f"{manifest.tile_px} px, margin {manifest.margin_px} px, on a lattice of {manifest.multiple_of} px",
        "data": manifest.training_data or "not stated",
        "metrics": ", ".join(f"{k} {v}" for k, v in manifest.metrics.items()) or "not stated",
        "sha256": manifest.weights_sha256 or "none",
    }
    for key, value in lines.items():
        click.echo(f"{key:<9} {value}")


@command.command()
@click.argument("model")
@verbose_option
def verify(model: str, verbose: bool) -> None:
    """Check a MODEL's files and that it reproduces its probe on this machine."""
    from ..core.fit import find_model

    package = find_model(model)
    difference = package.verify()
    click.echo(f"{package.manifest.name} is intact: its probe is reproduced within {difference:.1e}.")
