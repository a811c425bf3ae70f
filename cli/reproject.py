"""`geoi2i reproject`: bring rasters onto another grid."""

from pathlib import Path

import click

from .execution import deliver_all, delivery_options
from .help import grouped
from .options import (
    Bands,
    Bounds,
    Resolution,
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
    Input="input bands cutline max-pixels allow-remote only-below",
    Target="crs like resolution bounds bounds-crs",
    Resampling="resampling tolerance no-antialias",
    Compute="device workers scheduler",
    Output="output nodata dtype creation-option overwrite skip-existing skip-empty no-resume log dry-run"))
@click.option("-i", "--input", "inputs", multiple=True, metavar="SRC",
              help="Raster, folder, glob, GDAL path, or - for a list on stdin. May be repeated.")
@click.argument("more", nargs=-1, metavar="[SRC]...")
@click.option("-o", "--output", metavar="DST",
              help="Output GeoTIFF; a folder for a folder, a glob or several.  "
                   "[default: <input>_reprojected.tif beside the input]")
@click.option("--crs", metavar="CRS", help="Target CRS: EPSG, ESRI or IAU_2015 code, WKT, PROJ string.")
@click.option("--like", metavar="RASTER", help="Take CRS, pixels and extent from this raster.")
@click.option("--resolution", type=Resolution(),
              help="Pixel size in the target's units; one number or two.  [default: as many pixels as the input]")
@click.option("--bounds", type=Bounds(), help="What to cover.  [default: all of the input]")
@click.option("--bounds-crs", metavar="CRS", help="CRS of --bounds.  [default: the target's]")
@click.option("--resampling", type=click.Choice(["nearest", "bilinear", "cubic", "lanczos", "average"]),
              help="Kernel; it widens where pixels become coarser.  [default: bilinear; nearest for rasters with a "
                   "colour table or class names]")
@click.option("--tolerance", type=float, default=0.05, show_default=True, metavar="PX",
              help="Largest error of a position, in pixels of the input.")
@click.option("--no-antialias", is_flag=True, help="Keep kernels as narrow as at full resolution, whatever the target.")
@click.option("--bands", type=Bands(), metavar="3,2,1", help="Bands to keep, counted from 1.  [default: all]")
@cutline_option
@click.option("--nodata", metavar="VALUE",
              help="What pixels without data get: a number, nan, or none for a mask instead.  [default: the input's, "
                   "or what suits the output's type]")
@click.option("--dtype", metavar="TYPE",
              help="Output type, for example uint8 or float32; numbers are rounded and clipped to it.  [default: the "
                   "input's]")
@creation_option
@device_option
@overwrite_option
@click.option("--dry-run", is_flag=True, help="Print what would be written, and stop.")
@events_option
@cancel_option
@verbose_option
@limits_options
@delivery_options
def command(inputs, more, output, crs, like, resolution, bounds, bounds_crs, resampling, tolerance, no_antialias, bands,
            cutline, nodata, dtype, creation, device, overwrite, limits, settings, dry_run, events, verbose) -> None:
    """Reproject rasters; the result is a Cloud Optimized GeoTIFF.

    \b
    geoi2i reproject --input scene.tif --crs EPSG:32632
    geoi2i reproject --input scenes/ --output utm/ --crs EPSG:32632 --resolution 10
    geoi2i reproject --input jupiter.tif --crs IAU_2015:59902 --resampling cubic
    """
    from .early import look_ahead
    from .events import choose
    from .inputs import expand, is_batch, pair

    reporter = choose(events)
    from ..core.errors import RasterError
    from ..core.reproject.warping import Warping, usual_resampling

    batch = is_batch((*inputs, *more))
    sources = expand((*inputs, *more), reporter.message, results=False)
    if not sources:
        raise click.UsageError("No input is given: name a raster, for example geoi2i reproject --input scene.tif "
                               "--crs EPSG:32632.")
    if bool(crs) == bool(like):
        raise RasterError("Name the target with --crs or with --like, one of them.")
    if like and (resolution or bounds):
        raise RasterError("--like gives the pixels already: leave --resolution and --bounds out.")
    if bounds_crs and not bounds:
        raise RasterError("--bounds-crs says how --bounds is meant: give --bounds too.")
    polygons = polygons_of(cutline)

    def how(source):
        from ..core.raster.source import RasterSource

        chosen = resampling or usual_resampling(RasterSource.open(source, bands, limits).bands)
        return Warping(chosen, tolerance, not no_antialias)

    Warping(tolerance_px=tolerance)  # which is refused at once where it is wrong
    storage = _storage(dtype, nodata)
    choose_grid = _target(crs, like, resolution, bounds, bounds_crs, limits)
    pairs = pair(sources, output, "reprojected", batch)
    if dry_run:
        for source, target in pairs:
            click.echo(_describe(source, target, choose_grid(source), bands, how(source), limits, polygons, storage,
                                 creation))
        return
    look_ahead(sources, bands, limits)

    def work(source: str, target: Path, **delivery) -> dict[str, str]:
        from ..core.run import reproject_raster

        path = reproject_raster(source, target, choose_grid(source), how(source), bands=bands, cutline=polygons,
                                storage=storage, creation=creation, device=device, overwrite=overwrite, limits=limits,
                                **delivery)
        return {str(path): f"Wrote {path}"}

    raise SystemExit(deliver_all(pairs, work, reporter, settings, "reprojecting", batch))


def _storage(dtype, nodata):
    """What `--dtype` and `--nodata` ask for."""
    from ..core.output.storage import Storage, read_nodata

    return Storage(dtype, None if nodata is None else read_nodata(nodata))


def _target(crs, like, resolution, bounds, bounds_crs, limits):
    """The target grid of each input."""
    from ..core.raster.source import RasterSource
    from ..core.reproject.target_grid import bounds_between, named_crs, target_grid

    if like:
        grid = RasterSource.open(like, limits=limits).grid
        return lambda source: grid
    target = named_crs(crs)
    if bounds and bounds_crs:
        bounds = bounds_between(bounds, named_crs(bounds_crs), target)

    def choose(source):
        return target_grid(RasterSource.open(source, limits=limits).grid, target, resolution, bounds)

    return choose


def _describe(source, target, grid, bands, how, limits, cutline, storage, creation) -> str:
    from ..core.cores import cpu_workers
    from ..core.grid import parse_crs
    from ..core.output.needs import describe_needs
    from ..core.pipeline.reprojected import describe_reprojection, estimate_reprojection
    from ..core.raster.source import RasterSource
    from ..core.reproject.cutline import describe_cutline

    raster = RasterSource.open(source, bands, limits)
    spec = describe_reprojection(raster, grid, how, storage)
    creation.check(spec.dtype, spec.bits)
    needs = estimate_reprojection(raster, spec, cpu_workers())
    steps = grid.transform
    return "\n".join([
        f"input    {source}: {raster.grid.height} x {raster.grid.width} pixels, {len(raster.bands)} bands, "
        f"{raster.dtype}",
        f"target   {parse_crs(grid.crs).name}: {grid.height} x {grid.width} pixels of {abs(steps.a):.9g} x "
        f"{abs(steps.e):.9g}, upper left corner {steps.c:.9g} {steps.f:.9g}",
        *describe_cutline(grid, cutline),
        *describe_needs(needs, target),
        f"output   {target}: {spec.dtype}, nodata {'none' if spec.nodata is None else spec.nodata}, Cloud Optimized "
        "GeoTIFF"])
