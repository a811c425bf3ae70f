"""The product: translate or reproject a georeferenced raster of any size.

    RasterSource.rows() -> normalise -> fill -> stages -> denormalise -> RasterSink
    WarpedSource.rows() -> RasterSink
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .bands import Statistics, keep_off_nodata, to_dtype
from .device import choose_device, is_out_of_memory, one_thread_each, one_thread_here, release_memory, worker_count
from .errors import DeviceError, RasterError
from .fill import RADIUS_PX, fill
from .fit import choose_bands, misfits
from .grid import Grid, Window
from .output import Radiometry, describe_output, describe_reprojection, describe_uncertainty, radiometry
from .package import ModelPackage
from .raster import RasterSource, Rows
from .sink import RasterSink, check_output, same_file
from .spec import OutputSpec
from .stream import RowBand
from .target import with_pixel_size
from .tiles import Tiling
from .warp import StreamedRaster, WarpedSource, Warping

_PLAIN, _MATCHING = Warping(), Warping("cubic")
Progress = Callable[[int, int], None]
"""Called with rows done and rows in all; raise from it to stop."""


@dataclass(frozen=True)
class Options:
    """How to run; none of it but `seed` and `samples` changes the result beyond rounding."""

    tile: int | None = None
    """Longest window side in pixels, without margin; None: the model's."""
    overlap: int | None = None
    batch: int = 1
    device: str = "auto"
    precision: str = "fp32"
    seed: int = 0
    samples: int = 1
    overwrite: bool = False
    match_grid: bool = False
    """Whether the input is brought to the model's pixel size first, in the stream."""
    restore_grid: bool = False
    """Whether the result is brought back to the input's pixels, in the stream."""

    def __post_init__(self):
        if self.samples < 1 or self.batch < 1:
            raise RasterError(f"{self.samples} samples in batches of {self.batch} windows are no run: use --samples "
                              "and --batch of at least 1.")
        if self.restore_grid and not self.match_grid:
            raise RasterError("There is no grid to restore: --restore-grid goes with --match-model-grid.")


@dataclass(frozen=True)
class Plan:
    """What a run is going to do: everything that is decided before the first row is read."""

    raster: RasterSource | WarpedSource
    model: ModelPackage
    window: Window
    """The part of the input that is written."""
    read: Window
    """That part with the context it needs, on the stride lattice."""
    tiling: Tiling
    statistics: Statistics | None
    radiometry: Radiometry
    warnings: tuple[str, ...]

    @property
    def windows(self) -> tuple[int, int]:
        """Windows down and across, for each step."""
        return len(self.tiling.spans(self.read.height)), len(self.tiling.spans(self.read.width))


def plan_translation(source: str, model: ModelPackage, options: Options, bands: tuple[int, ...] | None = None,
                     extent: tuple[float, float, float, float] | None = None) -> Plan:
    """Opens the raster, checks that the model fits it, and gathers what windows need to know of the whole.

    Raises:
        RasterError, ModelError: one sentence for each thing that does not fit.
    """
    raster = RasterSource.open(source, bands)
    choice = choose_bands(raster, model.manifest, chosen=bands is not None)
    if choice.indexes != raster.indexes:
        raster = RasterSource.open(source, choice.indexes)
    if options.match_grid:
        raster = _matched(raster, model)
    warnings = [*choice.warnings, *(f"Model {model.manifest.name} may not suit {source}: {why}."
                                    for why in misfits(raster, model.manifest) if not why.startswith("The bands"))]
    if raster.grid.crs is None:
        warnings.append(f"{source} has no coordinate system: the output will have none either.")
    tiling = model.manifest.tiling(options.tile, options.overlap)
    window = _window(raster, extent)
    context = len(model.manifest.table.steps) * tiling.lattice_margin
    context += RADIUS_PX if model.manifest.network is not None else 0
    percentiles = _percentiles(model)
    # They cost a read: only where a pixel may have to be filled, or the range depends on the raster.
    may_have_holes = raster.mask_kind != "none" or raster.dtype.startswith("float")
    statistics = raster.statistics(percentiles) if may_have_holes or percentiles else None
    empty = [str(i) for i, mean in zip(raster.indexes, statistics.mean if statistics else ()) if mean != mean]
    if empty and model.manifest.network is not None:
        raise RasterError(f"{source} has no valid pixel in band {', '.join(empty)}, which model "
                          f"{model.manifest.name} needs: choose others with --bands.")
    return Plan(raster, model, window, _grown(window, raster, context, tiling.multiple), tiling, statistics,
                radiometry(raster, model.manifest, statistics), tuple(warnings))


def _matched(raster: RasterSource, model: ModelPackage) -> WarpedSource:
    """The raster in pixels of the size that the model was trained on."""
    size = model.manifest.pixel_size_m
    if not size:
        raise RasterError(f"Model {model.manifest.name} states no pixel size, so there is no grid to match: leave "
                          "--match-model-grid out.")
    return WarpedSource(raster, with_pixel_size(raster.grid, size), _MATCHING)


def translate_raster(source: str, destination: str | Path, model: ModelPackage, options: Options = Options(), *,
                     bands: tuple[int, ...] | None = None,
                     extent: tuple[float, float, float, float] | None = None,
                     uncertainty: str | Path | None = None, progress: Progress | None = None,
                     notice: Callable[[str], None] | None = None) -> Path:
    """Translates a raster into a Cloud Optimized GeoTIFF on the same grid.

    Args:
        source: file or GDAL virtual path; any size, any real dtype.
        destination: the output; it appears only when it is complete.
        bands: 1-based input bands in the model's order; None: by name, colour or order.
        extent: xmin, ymin, xmax, ymax in the raster's coordinate system; gives the very pixels that
            the whole would have there.
        uncertainty: where to write the per-pixel standard deviation over `options.samples` passes.
        notice: called with each warning, as one sentence.

    Raises:
        Geoi2iError: one sentence for every bad input; nothing is left behind.
    """
    if uncertainty and options.samples < 2:
        raise RasterError(f"A spread needs several passes: use --samples 2 or more for {uncertainty}.")
    if uncertainty and Path(uncertainty).absolute() == Path(destination).absolute():
        raise RasterError(f"{uncertainty} is named for the output and for its uncertainty: name two files.")
    if options.restore_grid and (uncertainty or extent):
        raise RasterError("--restore-grid brings back the whole raster and no spread: leave --extent and "
                          "--uncertainty out.")
    plan = plan_translation(source, model, options, bands, extent)
    for path in filter(None, (destination, uncertainty)):
        if same_file(path, source):
            raise RasterError(f"The output {path} is the input itself: choose another --output.")
        check_output(Path(path), options.overwrite)
    notice = notice or (lambda text: None)
    for warning in plan.warnings:
        notice(warning)
    while True:
        try:
            return _run(plan, Path(destination), uncertainty and Path(uncertainty), options, progress)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            options, plan = _smaller(options, plan)
            notice(f"The device ran out of memory; starting again with batch {options.batch} and tile "
                   f"{plan.tiling.tile}.")


def reproject_raster(source: str, destination: str | Path, target: Grid, how: Warping = _PLAIN, *,
                     bands: tuple[int, ...] | None = None, device: str = "auto", overwrite: bool = False,
                     progress: Progress | None = None, notice: Callable[[str], None] | None = None) -> Path:
    """Writes a raster as it is seen on another grid, as a Cloud Optimized GeoTIFF of the same dtype.

    Args:
        source: file or GDAL virtual path; any size, any real dtype.
        destination: the output; it appears only when it is complete.
        target: see `core.target`.
        bands: 1-based input bands; None: all.
        notice: called with each warning, as one sentence.

    Raises:
        Geoi2iError: one sentence for every bad input; nothing is left behind.
    """
    raster = RasterSource.open(source, bands)
    warped = WarpedSource(raster, target, how, choose_device(device))
    spec = describe_reprojection(warped)
    if same_file(destination, source):
        raise RasterError(f"The output {destination} is the input itself: choose another --output.")
    seen = 0
    with torch.inference_mode(), one_thread_here(), RasterSink(destination, spec, overwrite) as sink:
        for rows in warped.rows():
            sink.write(rows.row, *_stored(keep_off_nodata(rows.pixels, spec.nodata), rows.mask, spec))
            seen += int(np.count_nonzero(rows.mask.max(0)))
            done = rows.row + rows.pixels.shape[1]
            if progress:
                progress(done, target.height)
        if not seen:
            raise RasterError(f"Nothing of {source} lies on the target grid, or all of it is nodata: check the "
                              "system and the bounds.")
        release_memory()
        sink.assemble()
        if warped.undefined and notice:
            notice(f"{sum(warped.undefined)} of {target.height * target.width} pixels lie where the projection does "
                   "not reach; they have no data.")
        return sink.commit()


def _run(plan: Plan, destination: Path, uncertainty: Path | None, options: Options,
         progress: Progress | None) -> Path:
    spec = describe_output(plan.raster, plan.model.manifest, plan.window, options)
    height = plan.window.height
    if options.restore_grid:
        translated_spec, spec = spec, replace(spec, grid=plan.raster.raster.grid)
        height = spec.grid.height
    with torch.inference_mode(), one_thread_here(), RasterSink(destination, spec, options.overwrite) as sink, \
            _optional_sink(uncertainty, spec, options.overwrite) as spread_sink:
        if options.restore_grid:
            stream = _restored(_output_rows(plan, options, translated_spec, None), translated_spec, spec)
        else:
            stream = _output_rows(plan, options, spec, spread_sink)
        for rows in stream:
            sink.write(rows.row, rows.pixels, rows.mask)
            if progress:
                progress(rows.row + rows.pixels.shape[1], height)
        release_memory()  # the stream is over, and assembling has its own needs
        sink.assemble()
        if spread_sink:
            spread_sink.commit()
        return sink.commit()


def _output_rows(plan: Plan, options: Options, spec: OutputSpec, spread_sink: RasterSink | None) -> Iterator[Rows]:
    """The translation as it is stored; the spread, where it is wanted, goes to its own sink."""
    for band, states in _translated(plan, options):
        mean, spread = plan.radiometry.to_stored(states)
        mask = None if band.mask is None else band.mask.cpu().numpy()
        yield Rows(band.row, *_stored(to_dtype(mean, spec.dtype, spec.nodata), mask, spec))
        if spread_sink:
            spread = to_dtype(spread, spread_sink.spec.dtype, spread_sink.spec.nodata)
            spread_sink.write(band.row, *_stored(spread, mask, spread_sink.spec))


def _restored(rows: Iterator[Rows], spec: OutputSpec, wanted: OutputSpec) -> Iterator[Rows]:
    """Output rows on another grid of the same system."""
    kind = "alpha" if spec.alpha else "mask" if spec.mask else "nodata" if spec.nodata is not None else "none"
    streamed = StreamedRaster(spec.grid, spec.bands, spec.dtype, kind, rows)
    for rows in WarpedSource(streamed, wanted.grid, _MATCHING).rows():
        pixels = keep_off_nodata(rows.pixels, wanted.nodata)
        yield Rows(rows.row, *_stored(pixels, rows.mask, replace(wanted, alpha_gain=1.0)))


def _translated(plan: Plan, options: Options) -> Iterator[tuple[RowBand, list[Tensor]]]:
    """Rows of the output and, for each pass, their state (C,h,W) in the network's range."""
    device = choose_device(options.device)
    translator = plan.model.translator(device, options.precision, plan.tiling)
    workers = worker_count(device)
    rows = read_normalised(plan, device)
    if plan.model.manifest.network is not None:
        rows = fill(rows, plan.read.height, plan.radiometry.fill.to(device))
    with ThreadPoolExecutor(workers, initializer=one_thread_each) as pool:
        chains = [translator.translate(copy, plan.read.height, plan.read.width, seed=options.seed, sample=sample,
                                       origin=(plan.read.row, plan.read.col), batch=options.batch,
                                       workers=pool if workers > 1 else None)
                  for sample, copy in enumerate(_shared(rows, options.samples))]
        for passes in zip(*chains):
            bands = [_inside(band, plan) for band in passes]
            if bands[0] is not None:
                yield bands[0], [band.state for band in bands]


def _shared(bands: Iterator[RowBand], count: int) -> list[Iterator[RowBand]]:
    """`count` readers of one stream; a band is held until the last has read it (`itertools.tee` holds 57)."""
    waiting = [deque() for _ in range(count)]

    def more() -> bool:
        band = next(bands, None)
        for queue in waiting if band is not None else ():
            queue.append(band)
        return band is not None

    def reader(mine: deque) -> Iterator[RowBand]:
        while mine or more():
            yield mine.popleft()

    return [reader(mine) for mine in waiting]


def _percentiles(model: ModelPackage) -> tuple[float, ...]:
    """Those of the raster that the model's range depends on."""
    normalisers = model.manifest.normalise_in, model.manifest.normalise_out
    return tuple(sorted({q for n in normalisers if n.kind == "percentile" for q in (n.low, n.high)}))


def read_normalised(plan: Plan, device: torch.device) -> Iterator[RowBand]:
    """The input's rows on the device, in the network's range, masked pixels still unfilled."""
    mixes = plan.model.manifest.network is not None
    for rows in plan.raster.rows(plan.read):
        pixels = plan.radiometry.from_stored(_to_device(rows.pixels, device))
        mask = None
        if rows.mask is not None and not rows.mask.all():
            mask = _to_device(rows.mask, device)
            # A network mixes bands: where one has no data, no output band has.
            mask = mask.amin(0, keepdim=True) if mixes else mask
        elif rows.mask is not None and plan.raster.mask_kind == "alpha":
            mask = _to_device(rows.mask, device)
        yield RowBand(rows.row, pixels, mask=mask)


def _to_device(array, device: torch.device) -> Tensor:
    if array.dtype.kind in "iu" and array.itemsize > 2:
        array = array.astype("float32")
    elif array.dtype == "uint16":  # few torch operations know it: half the bytes to a GPU, floats on a CPU
        return (torch.from_numpy(array).to(device).to(torch.int32) if device.type != "cpu"
                else torch.from_numpy(array.astype("float32")))
    return torch.from_numpy(array).to(device)


def _stored(pixels: np.ndarray, mask: np.ndarray | None, spec: OutputSpec) -> tuple[np.ndarray, np.ndarray | None]:
    """Pixels of the output's dtype with nodata in place, and the mask or alpha to be written beside them."""
    if mask is None:
        return pixels, None
    invalid = mask == 0
    if invalid.any():
        empty = spec.nodata if spec.nodata is not None else float("nan") if spec.dtype.startswith("f") else 0
        pixels[invalid.repeat(pixels.shape[0], 0) if invalid.shape[0] == 1 else invalid] = empty
    mask = mask.max(0, keepdims=True)
    return pixels, to_dtype(torch.from_numpy(mask * spec.alpha_gain), spec.dtype, None) if spec.alpha else mask


def _inside(band: RowBand, plan: Plan) -> RowBand | None:
    """The part of a row band that is written, with rows counted from the output's first."""
    top, left = plan.window.row - plan.read.row, plan.window.col - plan.read.col
    start, stop = max(band.row, top), min(band.row + band.height, top + plan.window.height)
    if start >= stop:
        return None
    band = band.rows(start, stop)
    cols = slice(left, left + plan.window.width)
    mask = None if band.mask is None else band.mask[:, :, cols]
    return replace(band, row=start - top, state=band.state[:, :, cols], mask=mask)


def _window(raster: RasterSource, extent: tuple[float, float, float, float] | None) -> Window:
    """The pixels of an extent, whole pixels outwards."""
    grid = raster.grid
    if extent is None:
        return Window(0, 0, grid.height, grid.width)
    xmin, ymin, xmax, ymax = extent
    corners = [~grid.transform * corner for corner in ((xmin, ymin), (xmin, ymax), (xmax, ymin), (xmax, ymax))]
    cols, rows = zip(*corners)
    left, right = max(0, _floor(min(cols))), min(grid.width, -_floor(-max(cols)))
    top, bottom = max(0, _floor(min(rows))), min(grid.height, -_floor(-max(rows)))
    if left >= right or top >= bottom:
        raise RasterError(f"The extent {extent} does not touch {raster.path}: give xmin ymin xmax ymax in its "
                          "coordinate system.")
    return Window(top, left, bottom - top, right - left)


def _floor(value: float) -> int:
    """Whole pixels; a rounding error of 1e-6 pixels does not add one."""
    return int((value + 1e-6) // 1)


def _grown(window: Window, raster: RasterSource, context: int, multiple: int) -> Window:
    """The window with its context, starting on the stride lattice of the file, inside the file."""
    top, left = (max(0, start - context) // multiple * multiple for start in (window.row, window.col))
    bottom = min(raster.grid.height, window.row + window.height + context)
    right = min(raster.grid.width, window.col + window.width + context)
    return Window(top, left, bottom - top, right - left)


def _smaller(options: Options, plan: Plan) -> tuple[Options, Plan]:
    """Half the batch, then half the tile where the model allows it."""
    if options.batch > 1:
        return replace(options, batch=options.batch // 2), plan
    half = plan.tiling.tile // 2
    smallest = max(plan.tiling.multiple, 2 * plan.tiling.lattice_overlap, 32)
    if plan.tiling.fixed or half < smallest:
        raise DeviceError(f"The device has too little memory for one window of {plan.tiling.tile} pixels: free "
                          "some, or use --device cpu.")
    return options, replace(plan, tiling=replace(plan.tiling, tile=half))


class _NoSink:
    def __enter__(self):
        return None

    def __exit__(self, *_):
        return None


def _optional_sink(path: Path | None, spec, overwrite: bool):
    return RasterSink(path, describe_uncertainty(spec), overwrite) if path else _NoSink()
