"""`geoi2i run`: translate rasters with a model."""

from pathlib import Path

import click

from .execution import deliver_all, delivery_options
from .help import grouped
from .options import (
    Bands,
    Bounds,
    Numbers,
    cancel_option,
    creation_option,
    cutline_option,
    device_option,
    events_option,
    limits_options,
    overwrite_option,
    polygons_of,
    verbose_option,
)


@click.command(cls=grouped(
    Input="input bands bounds bounds-crs cutline to-db input-scale input-range force match-model-grid max-pixels "
          "allow-remote only-below",
    Model="model steps samples seed norm-statistics",
    Compute="device precision batch compile tile overlap workers scheduler",
    Output="output uncertainty confidence preview restore-grid back-project creation-option overwrite skip-existing "
           "skip-empty no-resume log dry-run"))
@click.option("-i", "--input", "inputs", multiple=True, metavar="SRC",
              help="Raster, folder, glob, GDAL path, or - for a list on stdin. May be repeated.")
@click.argument("more", nargs=-1, metavar="[SRC]...")
@click.option("-o", "--output", metavar="DST",
              help="Output GeoTIFF; a folder for a folder, a glob or several.  "
                   "[default: <input>_<model>.tif beside the input]")
@click.option("-m", "--model", "model_name", metavar="NAME|DIR",
              help="Model, by name or folder; 'identity' returns its input.  [default: the one that suits]")
@click.option("--tile", type=click.IntRange(1, 1 << 20), metavar="PX",
              help="Longest window side, without margin, in pixels.  [default: the model's]")
@click.option("--overlap", type=click.IntRange(0, 1 << 20), metavar="PX",
              help="Overlap of windows that is blended, in pixels.  [default: the model's]")
@click.option("--batch", type=click.IntRange(1, 1 << 16), metavar="N",
              help="Windows at a time.  [default: 1 on a CPU, by its free memory on a GPU]")
@click.option("--compile", is_flag=True,
              help="Compile the network with torch.compile: about a minute before the first window, then faster.")
@device_option
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16", "fp16"]), default="auto",
              help="Arithmetic of the network; its affine skip path stays fp32. auto is bf16 "
              "on a GPU that has it, else fp32.  [default: auto]")
@click.option("--bands", type=Bands(), metavar="3,2,1", help="Input bands in the model's order, counted from 1.")
@click.option("--samples", type=click.IntRange(1, 1 << 20), default=1, show_default=True,
              help="Passes of a stochastic model; the output is their mean.")
@click.option("--uncertainty", metavar="DST", help="Write the standard deviation over --samples passes here.")
@click.option("--confidence", metavar="DST", help="Write here how sure the model is, where it says so.")
@click.option("--steps", type=click.IntRange(min=1), metavar="N",
              help="Steps of the sampler, of those that `models show` lists.  [default: the model's]")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the noise.")
@click.option("--bounds", type=Bounds(), help="Part to translate.  [default: all of the input]")
@click.option("--bounds-crs", metavar="CRS", help="CRS of --bounds.  [default: the input's]")
@cutline_option
@click.option("--match-model-grid", "match_grid", is_flag=True,
              help="Resample the input to the model's pixel size first.")
@click.option("--restore-grid", is_flag=True, help="Then resample the result back to the input's grid.")
@click.option("--back-project", is_flag=True,
              help="Hold a model that enlarges to its input: averages over the input's pixels are then its numbers.")
@click.option("--to-db", is_flag=True, help="Convert power to decibels first, for a model that takes those.")
@click.option("--input-scale", type=float, metavar="FACTOR",
              help="Multiply the input's values by this, for a model that takes them in another unit.")
@click.option("--input-range", type=Numbers(2), metavar="LOW,HIGH",
              help="Bring these values of the input to the ends of the model's range.")
@click.option("--force", is_flag=True, help="Take values far outside the model's range as they are.")
@click.option("--norm-statistics", type=click.Choice(["raster", "tile"]), default="raster", show_default=True,
              help="Statistics of imported networks that normalise over space; tile makes seams, for comparison only.")
@creation_option
@click.option("--preview", metavar="PNG", help="Write a before/after picture.")
@overwrite_option
@click.option("--dry-run", is_flag=True, help="Print what would be done, and stop: grid, windows, memory, disk.")
@events_option
@cancel_option
@verbose_option
@limits_options
@delivery_options
def command(inputs, more, output, model_name, preview, uncertainty, confidence, settings, dry_run, events, verbose,
            **chosen) -> None:
    """Translate rasters of any size; the result is a Cloud Optimized GeoTIFF on the same grid.

    \b
    geoi2i run --input scene.tif
    geoi2i run --input scene.tif --model jupiter-rgb --output out.tif --preview out.png
    geoi2i run --input scenes/ --output translated/ --overwrite
    """
    reporter = _reporter(events)
    from ..core.errors import RasterError
    from ..core.models.folders import find_folder
    from .early import look_ahead
    from .inputs import check_places, expand, is_batch, pair

    batch = is_batch((*inputs, *more))
    sources = expand((*inputs, *more), reporter.message, results=False)
    if not sources:
        raise click.UsageError("No input is given: name a raster, for example geoi2i run --input scene.tif.")
    if len(sources) > 1 and (preview or uncertainty or confidence):
        raise RasterError("--preview, --uncertainty and --confidence take one input: run the rasters one by one.")
    if uncertainty and chosen["samples"] < 2:
        raise RasterError("--uncertainty needs at least two passes: add for example --samples 8.")
    if chosen["bounds_crs"] and not chosen["bounds"]:
        raise RasterError("--bounds-crs says how --bounds is meant: give --bounds too.")
    cutline = polygons_of(chosen.pop("cutline"))
    bands, bounds, bounds_crs = (chosen.pop(name) for name in ("bands", "bounds", "bounds_crs"))
    if model_name not in (None, "identity"):
        find_folder(model_name)
    check_places(sources, output)
    look_ahead(sources, bands, chosen["limits"])
    from ..core.output.checks import check_output
    from ..core.run import Compute, Options

    compute = Compute(**{name: chosen.pop(name) for name in ("device", "batch", "compile", "limits", "force")})
    overwrite, creation = chosen.pop("overwrite"), chosen.pop("creation")
    job = _Job(Options(**chosen), compute, bands, bounds, bounds_crs, cutline, reporter, model_name, uncertainty,
               confidence, overwrite, creation)
    model = job.model(sources[0][0]) if len(sources) == 1 else None
    pairs = pair(sources, output, model.manifest.name if model else model_name or "translated",
                 batch)
    if dry_run:
        for source, target in pairs:
            click.echo(job.describe(source, target))
        return
    if preview:
        check_output(Path(preview), overwrite)
    then = (lambda: job.preview(*pairs[0], preview)) if preview else None
    raise SystemExit(deliver_all(pairs, job.run, reporter, settings, "translating", batch, then))


def _reporter(events):
    from .events import choose

    return choose(events)


class _Job:
    """One set of options, used for one raster after the other."""

    def __init__(self, options, compute, bands, bounds, bounds_crs, cutline, reporter, model_name, uncertainty,
                 confidence, overwrite, creation):
        self.options, self.compute, self.bands, self.reporter = options, compute, bands, reporter
        self.bounds, self.bounds_crs, self.cutline = bounds, bounds_crs, cutline
        self.model_name, self.uncertainty, self.confidence = model_name, uncertainty, confidence
        self.overwrite, self.creation = overwrite, creation
        self.cache = {}

    def model(self, source: str):
        from ..core.models.package import find_model, identity_package, suitable_model
        from ..core.raster.source import RasterSource

        if self.model_name == "identity":
            return identity_package(len(RasterSource.open(source, self.bands, self.compute.limits).bands))
        if self.model_name:
            if self.model_name not in self.cache:
                self.cache[self.model_name] = find_model(self.model_name)
            return self.cache[self.model_name]
        if source not in self.cache:
            self.cache[source] = package = suitable_model(RasterSource.open(source, self.bands, self.compute.limits))
            self.reporter.message(f"Model {package.manifest.name} suits {source}: {package.manifest.title}.")
        return self.cache[source]

    def run(self, source: str, target: Path, **delivery) -> dict[str, str]:
        from ..core.run import translate_raster

        path = translate_raster(source, target, self.model(source), self.options, compute=self.compute,
                                bands=self.bands, bounds=self.bounds, bounds_crs=self.bounds_crs, cutline=self.cutline,
                                uncertainty=self.uncertainty, confidence=self.confidence,
                                overwrite=self.overwrite, creation=self.creation, **delivery)
        self.compare(source, path)
        return {str(each): f"Wrote {each}" for each in (path, self.uncertainty, self.confidence) if each}

    def compare(self, source: str, made: Path) -> None:
        """Says how an enlarged raster agrees with what it was made from."""
        from ..core.evaluation.compare import averaged, measure_pair
        from ..core.metrics.agreement import agreements, band_agreement
        from ..core.raster.source import RasterSource

        manifest = self.model(source).manifest
        if manifest.scale == 1 or self.options.restore_grid or not manifest.keeps_bands:
            return
        result = RasterSource.open(str(made))
        measured, = measure_pair(averaged(result, self.given(source)), [band_agreement()], cutline=self.cutline)
        if not measured.totals.get("count"):
            return
        found = "; ".join(f"{band.name or f'band {k + 1}'} off by {row.rmse:.3g} (bias {row.bias:.2g}), correlation "
                          f"{row.correlation:.3f}" for k, (band, row) in enumerate(zip(result.bands,
                                                                                      agreements(measured.totals))))
        self.reporter.message(f"Averaged over the input's pixels, against the input: {found}.")

    def given(self, source: str):
        """The raster as it is, with the bands that the model takes."""
        from ..core.models.matching import choose_bands
        from ..core.raster.source import RasterSource

        raster, first = RasterSource.open(source, self.bands, self.compute.limits), self.model(source).chain()[0]
        chosen = choose_bands(raster, first.manifest, chosen=self.bands is not None).indexes
        if chosen != raster.indexes:
            raster = raster.select(chosen)
        return raster.in_decibels() if self.options.to_db else raster

    def preview(self, source: str, target: Path, picture: str) -> dict[str, str]:
        from ..core.evaluation.quicklook import save_comparison
        from ..core.raster.source import RasterSource

        save_comparison(Path(picture), self.given(source), RasterSource.open(target))
        return {picture: f"Wrote {picture}"}

    def describe(self, source: str, target: Path) -> str:
        from ..core.pipeline.summary import describe_plan
        from ..core.run import plan_translation

        model = self.model(source)
        plan = plan_translation(source, model, self.options, self.compute, self.bands, self.bounds, self.bounds_crs)
        return describe_plan(plan, target, self.cutline)
