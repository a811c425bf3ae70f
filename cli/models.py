"""`geoi2i models`: list, show, verify and import models."""

from pathlib import Path

import click

from .help import grouped
from .options import Bands, verbose_option


@click.group()
def command() -> None:
    """List, show, verify and import models."""


@command.command("list")
@click.option("--for", "raster", metavar="SRC", help="Show which models suit this raster, and why the others do not.")
@click.option("--bands", type=Bands(), metavar="3,2,1", help="Of this raster these bands, counted from 1.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a model, for programs.")
@verbose_option
def list_models(raster: str | None, bands: tuple[int, ...] | None, as_json: bool, verbose: bool) -> None:
    """List the bundled and installed models.

    Folders are looked up in GEOI2I_MODELS, then in the user's data folder, then in the package.
    """
    import json

    from ..core.errors import ModelError
    from ..core.models.folders import model_folders
    from ..core.models.manifest import MANIFEST, read_manifest

    against = _misfits_of(raster, bands) if raster else lambda manifest: (None, None)
    for name, folder in model_folders().items():
        try:
            manifest = read_manifest(folder / MANIFEST)
        except ModelError as error:
            click.echo(json.dumps({"name": name, "folder": str(folder), "title": "", "bands_in": [], "body": None,
                                   "pixel_size_m": None, "misfits": [str(error)],
                                   "bands_misfit": None}) if as_json
                       else f"{name:<16} does not suit: {error}")
            continue
        reasons, of_bands = against(manifest)
        if as_json:
            click.echo(json.dumps({"name": name, "folder": str(folder), "title": manifest.title,
                                   "bands_in": [b.name for b in manifest.bands_in], "body": manifest.body,
                                   "pixel_size_m": manifest.pixel_size_m,
                                   **({} if reasons is None else {"misfits": reasons, "bands_misfit": of_bands})}))
            continue
        size = f"{manifest.pixel_size_m:.6g} m pixels" if manifest.pixel_size_m else "any pixel size"
        bands = ", ".join(band.name for band in manifest.bands_in)
        click.echo(f"{name:<16} {manifest.title}\n{'':<16} {bands}; {size}; {manifest.body or 'any body'}")
        if reasons is not None:
            click.echo(f"{'':<16} {'does not suit: ' + '; '.join(reasons) if reasons else f'suits {raster}'}")


def _misfits_of(raster: str, bands: tuple[int, ...] | None):
    """Why a model does not suit a raster, and which of the reasons is its bands, as a function of its manifest."""
    from ..core.models.matching import bands_misfit, misfits
    from ..core.raster.source import RasterSource

    source, chosen = RasterSource.open(raster, bands), bool(bands)
    return lambda manifest: (misfits(source, manifest, chosen), bands_misfit(source, manifest, chosen))


@command.command()
@click.argument("model")
@click.option("--json", "as_json", is_flag=True, help="The whole manifest as JSON.")
@verbose_option
def show(model: str, as_json: bool, verbose: bool) -> None:
    """Show what a MODEL (name or folder) is for and how it was made."""
    from ..core.models.folders import find_folder

    _show(find_folder(model), as_json)


def _show(folder: Path, as_json: bool) -> None:
    from ..core.models.manifest import read_folder

    manifest = read_folder(folder)
    if as_json:
        click.echo(manifest.model_dump_json(indent=1))
        return
    lines = {
        "name": f"{manifest.name} {manifest.version}", "title": manifest.title, "licence": manifest.licence,
        "folder": str(folder.absolute()),
        "takes": "; ".join(f"{b.name} [{b.minimum:g}, {b.maximum:g}] {b.unit}" for b in manifest.bands_in),
        **({"places": f"{', '.join(manifest.coordinates.names)} of every pixel"} if manifest.coordinates else {}),
        "gives": "; ".join(f"{b.name} [{b.minimum:g}, {b.maximum:g}] {b.unit}" for b in manifest.bands_out),
        **({"after": f"model {manifest.input_model}, whose output it takes"} if manifest.input_model else {}),
        "body": manifest.body or "any",
        "pixels": f"{manifest.pixel_size_m:.6g} m, within a factor of {manifest.pixel_size_factor:g}"
        if manifest.pixel_size_m else "any size",
        "network": f"{manifest.network.name} {manifest.network.sizes}" if manifest.network else "none",
        "sampler": f"{len(manifest.table.steps)} steps, "
                   f"{'stochastic' if manifest.table.stochastic else 'deterministic'}"
                   + "".join(f", or {len(table.steps)}" for table in manifest.presets),
        **({"scale": f"{manifest.scale} output pixels to each along an axis"} if manifest.scale != 1 else {}),
        **({"latents": f"of {manifest.codec.factor} x {manifest.codec.factor} pixels"} if manifest.codec else {}),
        **({"besides": f"{manifest.auxiliary.name}, of step {manifest.auxiliary.step}"} if manifest.auxiliary else {}),
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
    from ..core.models.package import find_model

    package = find_model(model)
    difference = package.verify()
    click.echo(f"{package.manifest.name} is intact: its probe is reproduced within {difference:.1e}.")


@command.command("import", cls=grouped(Model="from bands target-bands range steps tau mended", Output="licence"))
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@click.argument("destination", type=click.Path(path_type=Path), metavar="DST")
@click.option("--from", "kind", required=True, type=click.Choice(["unsb", "cut", "cyclegan"]),
              help="Whose public code wrote FILE.")
@click.option("--bands", required=True, metavar="NAME,...", help="Names of the bands that the generator takes.")
@click.option("--target-bands", metavar="NAME,...", help="Names of the bands that it gives.  [default: the same]")
@click.option("--range", "reach", default="0,255", show_default=True, metavar="LOW,HIGH",
              help="Values of a raster that the generator saw as -1 and 1.")
@click.option("--licence", default="unspecified", show_default=True, help="Under which the weights are.")
@click.option("--steps", type=click.IntRange(1, 50), default=5, show_default=True, help="Steps of UNSB's chain.")
@click.option("--tau", type=click.FloatRange(min=0), default=0.01, show_default=True, help="Entropy of UNSB's chain.")
@click.option("--mended", is_flag=True, help="UNSB's blocks were mended before training (--fix_time_bug).")
@verbose_option
def import_model(file, destination, kind, bands, target_bands, reach, licence, steps, tau, mended, verbose) -> None:
    """Make a model package DST of a public checkpoint FILE; no code in it is run.

    \b
    geoi2i models import --from cut latest_net_G.pth models/summer-winter --bands red,green,blue
    """
    from pydantic import ValidationError

    from ..core.errors import ModelError
    from ..core.models.convert import Origin, import_checkpoint
    from ..core.models.manifest import BandSpec
    from ..core.validation import explain

    if not all(name.strip() for text in (bands, target_bands or bands) for name in text.split(",")):
        raise ModelError("--bands or --target-bands has a band without a name: give them as red,green,blue.")
    try:
        low, high = (float(part) for part in reach.split(","))
    except ValueError as error:
        raise ModelError(f"--range {reach} is not of the form LOW,HIGH, for example 0,255.") from error
    if not low < high:
        raise ModelError(f"--range {reach} is empty: give the lower value first.")
    try:
        named = [tuple(BandSpec(name=name.strip(), minimum=low, maximum=high, colour=_colour(name.strip()))
                       for name in text.split(",")) for text in (bands, target_bands or bands)]
    except ValidationError as error:
        raise ModelError("--bands, --target-bands or --range do not describe bands: "
                         f"{explain(error, BandSpec)}") from error
    package = import_checkpoint(kind, file, destination, Origin(destination.name, *named, licence, steps, tau, mended))
    click.echo(f"Wrote the model {package.folder}: {package.manifest.network.sizes}")


def _colour(name: str) -> str:
    return name if name in ("red", "green", "blue", "nir") else "undefined"
