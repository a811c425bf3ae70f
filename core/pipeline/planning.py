"""Everything that is decided before the first row is read."""

from dataclasses import replace

from ..device import choose_device, choose_precision
from ..errors import EmptyRasterError, ModelError, RasterError, shorten
from ..grid import Window
from ..inference.fill import RADIUS_PX
from ..models.manifest import BandSpec
from ..models.matching import CLASSES, choose_bands, misfits
from ..models.package import ModelPackage
from ..raster.bands import Statistics
from ..raster.limits import STANDARD, Limits
from ..raster.rows import Raster, SeekableRaster
from ..raster.source import RasterSource
from ..reproject.coordinate_bands import coordinates_on, share_outside
from ..reproject.target_grid import bounds_between, crossing, named_crs, with_pixel_size
from ..reproject.view import Bounds
from ..reproject.warped_raster import WarpedSource, finer, turned
from .chained_raster import TranslatedRaster
from .estimates import choose_batch
from .plan import MATCHING, Compute, Options, Plan
from .radiometry import radiometry
from .ranges import PERCENTILES, adjusted, check_ranges, has_more_digits, wants_percentiles

_FAINTEST = 1.0
"""Percentile by which power is told from decibels."""
_NOTABLE = 0.01
"""Share of a raster outside a model's area that is worth a warning."""
_PLAIN = Compute()
_APART = 1 << 40
"""Between the seeds of the models in a line, which else would draw the same noise."""


def plan_translation(source: str, model: ModelPackage, options: Options, compute: Compute = _PLAIN,
                     bands: tuple[int, ...] | None = None,
                     bounds: tuple[float, float, float, float] | None = None, bounds_crs: str | None = None) -> Plan:
    """Opens the raster, checks that the model fits it, and gathers what windows need to know of the whole; where the
    model takes what another makes, of that.

    Args:
        source: file or GDAL virtual path.
        bands: 1-based input bands in the model's order; None: by name, colour or order.
        bounds: xmin, ymin, xmax, ymax of the part that is wanted; None: all of it.
        bounds_crs: the CRS of `bounds`, as a code, WKT or PROJ string; None: the raster's.

    Raises:
        RasterError, ModelError: one sentence for each thing that does not fit.
    """
    if options.steps:
        model = model.with_steps(options.steps)
    if bounds:
        grid = RasterSource.open(source, limits=compute.limits).grid
        bounds = bounds_between(bounds, named_crs(bounds_crs), grid) if bounds_crs else crossing(bounds, grid)
    return _plan(source, model, options, compute, bands, bounds)


def _plan(source: str, model: ModelPackage, options: Options, compute: Compute, bands: tuple[int, ...] | None,
          bounds: Bounds | None, cut: bool = True) -> Plan:
    """As `plan_translation`, of bounds in the raster's CRS; `cut`: whether only they are translated."""
    if model.before is None:
        raster, warnings = open_for(source, model, options, compute.limits, bands, bounds)
        return plan_on(raster, warnings, model, options, compute, bounds if cut else None)
    inner = replace(options, samples=1, restore_grid=False, steps=None, seed=options.seed + _APART)
    plan = _plan(source, model.before, inner, compute, bands, bounds, cut=False)
    raster = TranslatedRaster(plan, tuple(range(1, len(model.before.manifest.bands_out) + 1)))
    raster = replace(raster, indexes=choose_bands(raster, model.manifest).indexes)
    return plan_on(raster, plan.warnings, model, options, compute, bounds if cut else None)


def open_for(source: str, model: ModelPackage, options: Options, limits: Limits = STANDARD,
             bands: tuple[int, ...] | None = None, bounds: Bounds | None = None) -> tuple[Raster, tuple[str, ...]]:
    """The raster with the bands that a model takes, in its pixels where that is wanted, in those of the output where
    the model enlarges, and what to warn of.

    Args:
        bounds: what is wanted of it; longitudes are counted so that it is in one piece.

    Raises:
        RasterError, ModelError: one sentence for each thing that does not fit.
    """
    raster = RasterSource.open(source, bands, limits)
    choice = choose_bands(raster, model.manifest, chosen=bands is not None)
    if choice.indexes != raster.indexes:
        raster = raster.select(choice.indexes)
    _refuse_classes(raster, model)
    raster = _in_the_model_s_unit(raster, model, options)
    if options.input_scale or options.input_range:
        if model.manifest.network is None:
            raise RasterError(f"Model {model.manifest.name} takes numbers as they are: leave --input-scale and "
                              "--input-range out.")
        raster = replace(raster, bands=adjusted(raster.bands, model.manifest, options.input_scale, options.input_range))
    seen: SeekableRaster = turned(raster, bounds) if bounds else raster
    if options.match_grid:
        seen = _matched(seen, model)
    reasons = [why for why in misfits(seen, model.manifest) if not why.startswith(("takes the bands", CLASSES))]
    warnings = [*choice.warnings, *(f"Model {model.manifest.name} may not suit {source}: {why}." for why in reasons)]
    if model.manifest.network is not None and has_more_digits(raster):
        warnings.append(f"{source} holds numbers of more digits than float32, in which networks compute: they are "
                        "rounded to 24 bits, about 7 digits.")
    if seen.grid.crs is None:
        warnings.append(f"{source} has no CRS: the output will have none either.")
    scale = model.manifest.scale
    return seen if scale == 1 else finer(seen, scale), tuple(warnings)


def plan_on(raster: Raster, warnings: tuple[str, ...], model: ModelPackage, options: Options,
            compute: Compute = _PLAIN, bounds: Bounds | None = None) -> Plan:
    """Gathers what windows need to know of the whole raster.

    Args:
        bounds: in the raster's CRS.

    Raises:
        RasterError: where the bounds or a band is empty.
    """
    if options.norm_statistics == "tile" and model.normalises_over_space:
        warnings += ("Each window uses statistics of its own: the result will have seams and depend on --tile.",)
    _check_back_projection(model, options)
    if compute.compile and model.normalises_over_space:
        raise ModelError(f"Model {model.manifest.name} normalises by statistics of the raster, and such networks are "
                         "not compiled: leave --compile out.")
    tiling = model.manifest.tiling(options.tile, options.overlap)
    window = _window(raster, bounds, model.manifest.scale.numerator)
    context = len(model.manifest.table.steps) * tiling.lattice_margin
    context += RADIUS_PX if model.manifest.network is not None else 0
    look = wants_percentiles(raster, model.manifest) and not isinstance(raster, TranslatedRaster)
    percentiles = tuple(sorted({*_percentiles(model), *(PERCENTILES if look else ())}))
    # They cost a read: only where a pixel may have to be filled, or the range depends on the raster.
    may_have_holes = bool(raster.mask_kinds) or raster.dtype.startswith("float")
    ranges = tuple((spec.minimum, spec.maximum) for spec in model.manifest.bands_in) if look else ()
    statistics = _statistics(raster, percentiles, ranges) if may_have_holes or percentiles else None
    empty = [str(i) for i, mean in zip(raster.indexes, statistics.mean if statistics else ()) if mean != mean]
    if empty and model.manifest.network is not None:
        raise RasterError(f"{raster.path} has no valid pixel in band {', '.join(empty)}, which model "
                          f"{model.manifest.name} needs: choose others with --bands.")
    if model.manifest.network is not None:
        warnings += tuple(check_ranges(raster, model.manifest, statistics, compute.force))
    warnings += _check_place(raster, model)
    read = _grown(window, raster, context, tiling.multiple)
    networked, device = model.manifest.network is not None, choose_device(compute.device)
    options = replace(options, precision=choose_precision(options.precision, device) if networked else "fp32")
    plan = Plan(raster, model, options, compute, window, read, tiling, statistics,
                radiometry(raster, model.manifest, statistics), warnings)
    return plan if compute.batch else replace(plan, compute=replace(compute, batch=choose_batch(plan)))


def _statistics(raster: Raster, percentiles: tuple[float, ...], ranges: tuple[tuple[float, float], ...]) -> Statistics:
    try:
        return raster.statistics(percentiles, ranges)
    except EmptyRasterError:  # a tile without data is a tile
        return Statistics.of_nothing(len(raster.bands), percentiles)


def _refuse_classes(raster: RasterSource, model: ModelPackage) -> None:
    """Raises RasterError where a network would take numbers of classes or colours for measured values."""
    classes = [i for i, band in zip(raster.indexes, raster.bands) if band.classes]
    if classes and model.manifest.network is not None:
        raise RasterError(f"Band {', '.join(map(str, classes))} of {raster.path} holds numbers of classes, or of "
                          f"colours in a table, and model {model.manifest.name} takes measured values: give a raster "
                          "of these, or convert colours to red, green and blue with gdal_translate -expand rgb.")


def _in_the_model_s_unit(raster: RasterSource, model: ModelPackage, options: Options) -> RasterSource:
    """The raster in decibels where the model takes those; backscatter in decibels is mostly negative, power never."""
    if not any(spec.unit.lower() == "db" for spec in model.manifest.bands_in):
        if options.to_db:
            raise RasterError(f"Model {model.manifest.name} takes no decibels: leave --to-db out.")
        return raster
    statistics = _statistics(raster, (_FAINTEST,), ())
    if not any(statistics.size):
        return raster.in_decibels() if options.to_db else raster
    low = min(statistics.percentiles[_FAINTEST])
    if low >= 0 and not options.to_db:
        raise RasterError(f"{raster.path} looks like power, of which 99 % is above {low:.3g} in every band, and model "
                          f"{model.manifest.name} takes decibels: convert it with --to-db.")
    if low < 0 and options.to_db:
        raise RasterError(f"{raster.path} has negative numbers (1 % is below {low:.3g}), so it is not power: leave "
                          "--to-db out.")
    return raster.in_decibels() if options.to_db else raster


def _check_place(raster: Raster, model: ModelPackage) -> tuple[str, ...]:
    """What to warn of where a model depends on the place of a pixel; `misfits` has what lies elsewhere.

    Raises:
        RasterError: where the raster does not say where its pixels are.
    """
    asked = model.manifest.coordinates
    if asked is None:
        return ()
    coordinates_on(raster.grid, asked)
    outside = share_outside(raster.grid, asked)
    return (f"{100 * outside:.0f} % of {raster.path} lies outside the area that model {model.manifest.name} was made "
            "for.",) if _NOTABLE <= outside < 1 else ()


def _check_back_projection(model: ModelPackage, options: Options) -> None:
    manifest = model.manifest
    if not options.back_project:
        return
    if manifest.scale.denominator != 1 or manifest.scale == 1 or not manifest.keeps_bands:
        raise RasterError(f"Model {manifest.name} enlarges {manifest.scale} times and makes "
                          f"{_listed(manifest.bands_out)} of {_listed(manifest.bands_in)}: leave --back-project out, "
                          "which is for models that enlarge a whole number of times and give the bands that they take.")
    if options.match_grid:
        raise RasterError("--back-project holds the result to the input's own pixels: leave --match-model-grid out.")


def _listed(bands: tuple[BandSpec, ...]) -> str:
    return shorten(", ".join(f"{band.name} ({band.minimum:g} to {band.maximum:g}{band.unit and ' ' + band.unit})"
                             for band in bands))


def _matched(raster: SeekableRaster, model: ModelPackage) -> WarpedSource:
    """The raster in pixels of the size that the model was trained on."""
    size = model.manifest.pixel_size_m
    if not size:
        raise RasterError(f"Model {model.manifest.name} does not state a pixel size to match: leave "
                          "--match-model-grid out.")
    return WarpedSource(raster, with_pixel_size(raster.grid, size), MATCHING)


def _percentiles(model: ModelPackage) -> tuple[float, ...]:
    """Those of the raster that the model's range depends on."""
    normalisers = model.manifest.normalise_in, model.manifest.normalise_out
    return tuple(sorted({q for n in normalisers for q in n.percentiles}))


def _window(raster: Raster, bounds: Bounds | None, multiple: int) -> Window:
    """The pixels of bounds, whole ones outwards; where each is cut from a larger one, `multiple` of them."""
    grid = raster.grid
    if bounds is None:
        return Window(0, 0, grid.height, grid.width)
    xmin, ymin, xmax, ymax = bounds
    corners = [~grid.transform * corner for corner in ((xmin, ymin), (xmin, ymax), (xmax, ymin), (xmax, ymax))]
    cols, rows = ([value / multiple for value in values] for values in zip(*corners))
    left, right = max(0, multiple * _floor(min(cols))), min(grid.width, -multiple * _floor(-max(cols)))
    top, bottom = max(0, multiple * _floor(min(rows))), min(grid.height, -multiple * _floor(-max(rows)))
    if left >= right or top >= bottom:
        raise EmptyRasterError(f"The bounds {bounds} do not touch {raster.path}: give xmin ymin xmax ymax in its "
                          "CRS.")
    return Window(top, left, bottom - top, right - left)


def _floor(value: float) -> int:
    """Whole pixels; a rounding error of 1e-6 pixels does not add one."""
    return int((value + 1e-6) // 1)


def _grown(window: Window, raster: Raster, context: int, multiple: int) -> Window:
    """The window with its context, starting on the stride lattice of the file, inside the file."""
    top, left = (max(0, start - context) // multiple * multiple for start in (window.row, window.col))
    bottom = min(raster.grid.height, window.row + window.height + context)
    right = min(raster.grid.width, window.col + window.width + context)
    return Window(top, left, bottom - top, right - left)
