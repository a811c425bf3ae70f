"""The product: translate or reproject a georeferenced raster of any size.

    RasterSource.rows() -> normalise -> fill -> stages -> denormalise -> strips -> a Cloud Optimized GeoTIFF
    WarpedSource.rows() -> strips -> a Cloud Optimized GeoTIFF

either cut out along polygons before the strips, where some are given

`pipeline.planning` decides everything before the first row is read, `pipeline.translation` and `pipeline.reprojection`
make any rows of the result, and `output.execute` has them made strip by strip, resumes where an earlier run was
stopped, and gives the whole its name.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from .device import choose_device
from .errors import RasterError
from .grid import Grid
from .models.package import ModelPackage
from .output.checks import same_file
from .output.completed import CompletedOutputs
from .output.creation import STANDARD as STANDARD_CREATION
from .output.creation import CreationOptions
from .output.execute import Callbacks, Executor, deliver
from .output.inherited import what_is_lost
from .output.storage import LIKE_INPUT, Storage
from .pipeline.cutting import cut_out
from .pipeline.plan import Compute, Options, Plan
from .pipeline.planning import plan_translation
from .pipeline.reprojection import Reprojection
from .pipeline.translation import Translation
from .raster.limits import STANDARD, Limits
from .raster.source import RasterSource
from .reproject.coordinates import check_crs
from .reproject.heights import heights_between
from .reproject.polygons import Polygons
from .reproject.warped_raster import WarpedSource
from .reproject.warping import Warping, usual_resampling

__all__ = ["Compute", "Options", "Plan", "Callbacks", "plan_translation", "reproject_raster", "translate_raster"]
_DEFAULT, _COMPUTE, _SILENT = Options(), Compute(), Callbacks()


def translate_raster(source: str, destination: str | Path, model: ModelPackage, options: Options = _DEFAULT, *,
                     compute: Compute = _COMPUTE, bands: tuple[int, ...] | None = None,
                     bounds: tuple[float, float, float, float] | None = None, bounds_crs: str | None = None,
                     cutline: Polygons | None = None, uncertainty: str | Path | None = None,
                     confidence: str | Path | None = None, overwrite: bool = False, resume: bool = True,
                     executor: Executor | None = None, completed: CompletedOutputs | None = None,
                     skip_empty: bool = False, creation: CreationOptions = STANDARD_CREATION,
                     callbacks: Callbacks = _SILENT) -> Path:
    """Translates a raster into a Cloud Optimized GeoTIFF on the same grid.

    Args:
        source: file or GDAL virtual path; any size, any real dtype.
        destination: the output; it appears only when it is complete.
        options: what the pixels depend on.
        compute: how they are computed.
        bands: 1-based input bands in the model's order; None: by name, colour or order.
        bounds: xmin, ymin, xmax, ymax of the part that is wanted; gives the very pixels that the whole has there.
        bounds_crs: the CRS of `bounds`, as a code, WKT or PROJ string; None: the raster's.
        cutline: polygons, see `read_polygons`; pixels of the outputs whose centre is outside hold no data, and those
            inside are the very pixels that the whole has there.
        uncertainty: where to write the per-pixel standard deviation over `options.samples` passes.
        confidence: where to write how sure the model says it is, where it says so.
        overwrite: whether a file that stands there is replaced.
        resume: whether to use the strips that an earlier run left in `<destination>.geoi2i-parts`, and to
            leave there what is done where this one fails.
        executor: who makes the strips; by default this process (see `cluster` for others).
        completed: the outputs that a batch has finished.
        skip_empty: whether an output without a valid pixel is refused (EmptyRasterError) instead of written.
        creation: how the tiles of the outputs are coded.

    Raises:
        Geoi2iError: one sentence for every bad input; nothing has the output's name then.
    """
    if uncertainty and options.samples < 2:
        raise RasterError("--uncertainty needs at least two passes: use --samples 2 or more.")
    if confidence and not model.manifest.auxiliary:
        raise RasterError(f"Model {model.manifest.name} does not say how sure it is: leave --confidence out.")
    paths = [Path(path) for path in (destination, uncertainty, confidence) if path]
    if len({path.absolute() for path in paths}) < len(paths):
        raise RasterError(f"{paths[-1]} is named for two of the output, its uncertainty and its confidence: name "
                          "different files.")
    if uncertainty and not model.stochastic:
        raise RasterError(f"Model {model.manifest.name} is deterministic, so that its passes do not differ: leave "
                          "--uncertainty and --samples out.")
    if options.restore_grid and (len(paths) > 1 or bounds):
        raise RasterError("--restore-grid brings back the whole raster and nothing besides: leave --bounds, "
                          "--uncertainty and --confidence out.")
    plan = plan_translation(source, model, options, compute, bands, bounds, bounds_crs)
    for path in paths:
        _check_apart(path, source)
    for warning in plan.warnings:
        callbacks.warn(warning)
    job = Translation(plan, Path(destination), Path(uncertainty) if uncertainty else None,
                      Path(confidence) if confidence else None)
    if lost := what_is_lost(plan.raster, job.outputs[0].spec):
        callbacks.warn(lost)
    return deliver(cut_out(job, cutline), overwrite=overwrite, resume=resume, executor=executor, completed=completed,
                   skip_empty=skip_empty, creation=creation, callbacks=callbacks)


def reproject_raster(source: str, destination: str | Path, target: Grid, how: Warping | None = None, *,
                     bands: tuple[int, ...] | None = None, cutline: Polygons | None = None,
                     storage: Storage = LIKE_INPUT, device: str = "auto", overwrite: bool = False,
                     limits: Limits = STANDARD, resume: bool = True, executor: Executor | None = None,
                     completed: CompletedOutputs | None = None, skip_empty: bool = False,
                     creation: CreationOptions = STANDARD_CREATION, callbacks: Callbacks = _SILENT) -> Path:
    """Writes a raster as it is seen on another grid, as a Cloud Optimized GeoTIFF.

    Args:
        source: file or GDAL virtual path; any size, any real dtype.
        destination: the output; it appears only when it is complete.
        target: see `core.target`.
        how: None: nearest for numbers of classes or colours in a table, else bilinear.
        bands: 1-based input bands; None: all.
        cutline: polygons, see `read_polygons`; pixels of the output whose centre is outside hold no data.
        storage: the output's dtype and nodata value, where they are not to be the input's.
        limits: how far the input is trusted.
        resume, executor, completed, skip_empty, creation: as in `translate_raster`.

    Raises:
        Geoi2iError: one sentence for every bad input; nothing has the output's name then.
    """
    raster = RasterSource.open(source, bands, limits)
    check_crs(raster.grid, target)
    how = how or Warping(usual_resampling(raster.bands))
    target, heights, note = heights_between(raster.bands, raster.grid, target)
    if heights:  # whole feet are not whole metres
        raster = replace(raster, dtype=str(np.result_type(raster.dtype, "float32")), bands=heights.units(raster.bands))
    _check_apart(destination, source)
    if note:
        callbacks.message(f"{source}: {note}")
    warped = WarpedSource(raster, target, how, choose_device(device), computed_as=storage.between(raster.dtype))
    job = Reprojection(warped, Path(destination), heights, storage)
    if how.resampling != "nearest" and any(band.classes for band in raster.bands):
        callbacks.message(f"{source} holds numbers of classes or of colours in a table, and {how.resampling} makes "
                          "others that lie between them: --resampling nearest keeps them.")
    if lost := what_is_lost(raster, job.outputs[0].spec):
        callbacks.message(lost)
    return deliver(cut_out(job, cutline), overwrite=overwrite, resume=resume, executor=executor, completed=completed,
                   skip_empty=skip_empty, creation=creation, callbacks=callbacks)


def _check_apart(destination: str | Path, source: str) -> None:
    if same_file(destination, source):
        raise RasterError(f"The output {destination} is the input itself: choose another --output.")
