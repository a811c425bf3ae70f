"""Two rasters resampled to one grid and measured patch by patch, within a memory that does not grow with them."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
import torch
from affine import Affine

from ..device import ahead, one_thread_each, worker_count
from ..errors import RasterError
from ..grid import Grid, Window, parse_crs
from ..memory import check_memory
from ..metrics import Accumulator, Measure, see
from ..metrics.measure import Patch, patch_of
from ..metrics.seams import CONTEXT_PX, RUN_PX, Lattice, StepProfile
from ..raster.reader import HELD_BYTES, StreamWindows
from ..raster.rows import Rows, SeekableRaster
from ..reproject.coordinates import check_crs
from ..reproject.cutline import Cutline
from ..reproject.polygons import Polygons
from ..reproject.warped_raster import WarpedSource, turned
from ..reproject.warping import Warping
from .thumbnail import Thumbnail

Progress = Callable[[int, int], None]
ResampleTo = Literal["reference", "prediction"]
Inside = Callable[[Window], np.ndarray]
"""A window of a grid -> which of its pixels (h,w) count."""

_PATCH_PX, _HELD_BYTES = 256, 128 << 20  # larger patches cost memory for each worker and save no time
_SHIFT_TOLERANCE_PX = 1e-3


@dataclass(frozen=True)
class Pair:
    """Two rasters on one grid, and how they came there."""

    prediction: SeekableRaster
    reference: SeekableRaster
    windows: tuple[Window, Window]
    """The part of each that both cover; equal in size."""
    statement: str


def on_one_grid(prediction: SeekableRaster, reference: SeekableRaster, resample_to: ResampleTo | None = None,
                resampling: str = "bilinear", called: str = "reference") -> Pair:
    """Brings two rasters resample_to one grid, only as it was asked for.

    Rasters whose pixels coincide are compared where both have them; nothing is resampled.

    Args:
        resample_to: whose grid is taken where pixels do not coincide; None: such rasters are refused.
        called: what the second raster is to the first, for messages.

    Raises:
        RasterError: for rasters that do not overlap, or do not coincide and `resample_to` does not say what to do.
    """
    facing = _facing(prediction.grid, reference)
    shift = _shift(prediction.grid, facing.grid)
    if shift is not None:
        reference = facing
        windows = _common(prediction.grid, reference.grid, *shift)
        if windows is None:
            raise RasterError(f"The prediction and its {called} {reference.path} have no pixel in common: choose "
                              "rasters that overlap.")
        part = windows[0]
        whole = all((w.height, w.width) == (r.grid.height, r.grid.width)
                    for w, r in zip(windows, (prediction, reference)))
        return Pair(prediction, reference, windows, "the same pixels" if whole else
                    f"the {part.height} x {part.width} pixels that both have")
    if resample_to is None:
        raise RasterError(f"The prediction and its {called} {reference.path} have different pixels "
                          f"({difference(prediction.grid, reference.grid)}): choose whose to take with --resample-to "
                          "reference or prediction, or give them one grid with geoi2i reproject --like.")
    check_crs(prediction.grid, reference.grid)
    fixed, moved = (reference, prediction) if resample_to == "reference" else (prediction, reference)
    warped = WarpedSource(moved, fixed.grid, Warping(resampling))
    mask = warped.decimated(256).mask
    if mask is not None and not mask.any():
        raise RasterError(f"The prediction and its {called} {reference.path} do not overlap: choose rasters that "
                          "do, or check their CRSs.")
    window = Window(0, 0, fixed.grid.height, fixed.grid.width)
    names = (called, "prediction") if resample_to == "reference" else ("prediction", called)
    statement = (f"the {fixed.grid.height} x {fixed.grid.width} pixels of the {names[0]}, to whose grid the "
                 f"{names[1]} was resampled ({resampling})")
    one, other = (warped, reference) if resample_to == "reference" else (prediction, warped)
    return Pair(one, other, (window, window), statement)


def averaged(prediction: SeekableRaster, source: SeekableRaster) -> Pair:
    """A finer prediction, as means over the pixels of its source, and that source."""
    window = Window(0, 0, source.grid.height, source.grid.width)
    return Pair(WarpedSource(prediction, source.grid, Warping("average")), source, (window, window),
                f"the {window.height} x {window.width} pixels of the source, over which the prediction was averaged")


def difference(one: Grid, other: Grid) -> str:
    """What differs between two grids, as half a sentence."""
    names = [crs.name if (crs := parse_crs(grid.crs)) else "no CRS" for grid in (one, other)]
    if parse_crs(one.crs) != parse_crs(other.crs):
        return " and ".join(names) if names[0] != names[1] else f"{names[0]} with other parameters or axes"
    if (one.latitude or other.latitude) != (other.latitude or one.latitude):
        return f"{one.latitude} and {other.latitude} latitudes"
    sizes = [f"{math.hypot(g.transform.a, g.transform.d):.9g} x {math.hypot(g.transform.b, g.transform.e):.9g}"
             for g in (one, other)]
    if sizes[0] != sizes[1]:
        return f"pixels of {sizes[0]} and {sizes[1]} units"
    return "pixels that lie a fraction of a pixel beside each other"


def _facing(grid: Grid, raster: SeekableRaster) -> SeekableRaster:
    """A raster whose longitudes are counted as those of a grid in its CRS."""
    if parse_crs(grid.crs) != parse_crs(raster.grid.crs):
        return raster
    corners = [grid.transform * corner for corner in ((0, 0), (grid.width, grid.height))]
    (left, right), (bottom, top) = map(sorted, zip(*corners))
    return turned(raster, (left, bottom, right, top))


def _shift(one: Grid, other: Grid) -> tuple[int, int] | None:
    """Row and column in `one` of the first pixel of `other`, where all pixels of both coincide."""
    if not one.matches(replace(other, transform=one.transform, height=one.height, width=one.width)):
        return None
    col, row = ~one.transform * (other.transform.c, other.transform.f)
    moved = replace(one, height=other.height, width=other.width,
                    transform=one.transform @ Affine.translation(round(col), round(row)))
    return (round(row), round(col)) if moved.matches(other, _SHIFT_TOLERANCE_PX) else None


def _common(one: Grid, other: Grid, row: int, col: int) -> tuple[Window, Window] | None:
    """What two grids share, in the pixels of each; `row` and `col` are where the second begins in the first."""
    top, left = max(row, 0), max(col, 0)
    height, width = min(one.height, row + other.height) - top, min(one.width, col + other.width) - left
    if height <= 0 or width <= 0:
        return None
    return Window(top, left, height, width), Window(top - row, left - col, height, width)


def measure_pair(pair: Pair, measures: Sequence[Measure], sigma: SeekableRaster | None = None,
                 thumbnail: Thumbnail | None = None, progress: Progress | None = None, cutline: Polygons | None = None
                 ) -> list[Accumulator]:
    """What measures find in two rasters; the pixels' physical values, where both have data.

    Args:
        sigma: standard deviations of the prediction, on its grid; they stand behind the prediction's bands.
        cutline: pixels of the one grid whose centre is outside these polygons do not count.
    """
    images = [pair.reference, pair.prediction, *([sigma] if sigma else [])]
    windows = [pair.windows[1], pair.windows[0], *([pair.windows[0]] if sigma else [])]

    def assemble(parts, owned):
        (reference, theirs), *mine = parts
        valid = np.logical_and.reduce([theirs, *(mask for _, mask in mine)])
        prediction = np.concatenate([pixels for pixels, _ in mine]) if sigma else mine[0][0]
        return patch_of(reference, prediction, valid, owned)

    return measure_views([PhysicalView(image, window) for image, window in zip(images, windows)], assemble, measures,
                         thumbnail, progress, inside_of(cutline, pair.prediction.grid.crop(pair.windows[0])))


def measure_alone(raster: SeekableRaster, measures: Sequence[Measure], progress: Progress | None = None,
                  cutline: Polygons | None = None) -> list[Accumulator]:
    """What measures find in one raster, which stands for both images; inside a cutline, where one is given."""
    view = PhysicalView(raster, Window(0, 0, raster.grid.height, raster.grid.width))
    return measure_views([view], lambda parts, owned: patch_of(parts[0][0], parts[0][0], parts[0][1], owned), measures,
                         None, progress, inside_of(cutline, raster.grid))


def inside_of(cutline: Polygons | None, grid: Grid) -> Inside | None:
    """Which pixels of a grid are inside polygons; None: all, for there are no polygons.

    Raises:
        RasterError: see `Cutline.on`.
    """
    return Cutline.on(cutline, grid).inside if cutline else None


def measure_seams(raster: SeekableRaster, period_px: int | None, progress: Progress | None = None,
                  cutline: Polygons | None = None) -> dict[str, Lattice | None]:
    """The borders of windows that stand out most among rows and columns; see `metrics.seams`.

    Args:
        period_px: step from window to window; None: any.
        cutline: pixels whose centre is outside these polygons do not count.
    """
    grid, step, inside = raster.grid, 4 * RUN_PX, inside_of(cutline, raster.grid)
    profile = StepProfile(grid.height, grid.width)
    view = PhysicalView(raster, Window(0, 0, grid.height, grid.width))
    check_memory(view.held_bytes(step + 2 * CONTEXT_PX), raster.path, "its rows", "store it in small tiles with "
                 "gdal_translate -co TILED=YES, or look at a part cut out with -srcwin")
    with StreamWindows(raster.rows(), step + 2 * CONTEXT_PX) as held:
        for row in range(0, grid.height, step):
            first, stop = max(0, row - CONTEXT_PX), min(grid.height, row + step)
            part = Window(first, 0, min(grid.height, stop + CONTEXT_PX) - first, grid.width)
            rows = held.read(part)
            valid = _valid(rows) & inside(part) if inside else _valid(rows)
            profile.update(row, rows.pixels, valid, slice(row - first, stop - first))
            if progress:
                progress(stop, grid.height)
    return profile.lattices(period_px)


def _valid(rows: Rows) -> np.ndarray:
    """Where all bands have data (h,w)."""
    return np.ones(rows.pixels.shape[1:], bool) if rows.mask is None else (rows.mask != 0).all(0)


class View(Protocol):
    """Values of one image, whose parts are read from several threads."""

    path: str
    shape: tuple[int, int]
    row_bytes: int

    def open(self, stack: ExitStack, rows_held: int) -> None:
        """Starts reading, until the stack is closed."""

    def held_bytes(self, rows_held: int) -> int:
        """Memory for the rows of stored pixels that are held while it is open."""

    def read(self, part: Window) -> tuple[np.ndarray, np.ndarray]:
        """Values (C,h,w) and where all bands have data (h,w)."""


class PhysicalView:
    """A window of a raster in physical values, whose parts are read from several threads.

    Args:
        anywhere: whether parts are read in any order; else in about the order of rows, ahead of need.
    """

    def __init__(self, raster: SeekableRaster, window: Window, anywhere: bool = False):
        self.raster, self.window, self.anywhere, self.path = raster, window, anywhere, raster.path
        self.shape = window.height, window.width
        self.row_bytes = raster.grid.width * len(raster.bands) * np.dtype(raster.dtype).itemsize
        self._gain = np.array([band.scale for band in raster.bands])[:, None, None]
        self._offset = np.array([band.offset for band in raster.bands])[:, None, None]
        self._plain = bool((self._gain == 1).all() and (self._offset == 0).all())

    def open(self, stack: ExitStack, rows_held: int) -> None:
        """Starts reading, until the stack is closed."""
        windows = self.raster.windows(rows_held) if self.anywhere else StreamWindows(self.raster.rows(self.window),
                                                                                     rows_held)
        self._windows = stack.enter_context(windows)

    def held_bytes(self, rows_held: int) -> int:
        """Memory for the rows of stored pixels that are held while it is open."""
        if self.anywhere:
            return HELD_BYTES
        return rows_held * self.row_bytes + self.raster.reading_bytes(self.window.width)

    def read(self, part: Window) -> tuple[np.ndarray, np.ndarray]:
        """Values (C,h,w) and where all bands have data (h,w)."""
        if self.anywhere:
            part = Window(self.window.row + part.row, self.window.col + part.col, part.height, part.width)
        rows = self._windows.read(part)
        pixels = rows.pixels if self._plain else rows.pixels * self._gain + self._offset
        return pixels, _valid(rows)


def measure_views(views: Sequence[View], assemble: Callable[[list, tuple[slice, slice]], Patch],
                  measures: Sequence[Measure], thumbnail: Thumbnail | None = None, progress: Progress | None = None,
                  inside: Inside | None = None) -> list[Accumulator]:
    """Cuts views of one size into patches, measures them side by side, and adds what was found in their order.

    So the result does not depend on the number of workers, to the last bit.

    Args:
        assemble: makes a patch of what the views gave for one place, and which of it is owned.
        inside: which pixels of a window of the views count; None: all.
    """
    height, width = views[0].shape
    workers = worker_count(torch.device("cpu"))
    step = math.lcm(*(measure.block_px for measure in measures))
    halo = max(measure.halo_px for measure in measures)
    affordable = _HELD_BYTES // max(1, max(view.row_bytes for view in views))
    down = step * max(1, min(_PATCH_PX, affordable // 2) // step)
    across = step * max(1, _PATCH_PX // step)
    corners = [(row, col) for row in range(0, height, down) for col in range(0, width, across)]
    per_row = -(-width // across)
    rows_held = (-(-2 * workers // per_row) + 1) * down + 2 * halo + 64
    totals = [Accumulator(measure) for measure in measures]

    def work(corner):
        parts = []
        for start, size, length in zip(corner, (down, across), (height, width)):
            stop = min(start + size, length)
            first, last = max(0, start - halo), min(length, stop + halo)
            parts.append((first, last - first, slice(start - first, stop - first)))
        (row, rows, own_rows), (col, cols, own_cols) = parts
        part = Window(row, col, rows, cols)
        read = [view.read(part) for view in views]
        if inside:
            within = inside(part)
            read = [(pixels, valid & within) for pixels, valid in read]
        patch = assemble(read, (own_rows, own_cols))
        if thumbnail:
            thumbnail.add(patch, *corner)
        return see(measures, patch)

    check_memory(sum(view.held_bytes(rows_held) for view in views), " and ".join(dict.fromkeys(
        view.path for view in views)), "the rows that are compared", "store them in small tiles with "
        "gdal_translate -co TILED=YES, or compare parts cut out with -srcwin")
    with ExitStack() as stack, ThreadPoolExecutor(workers, initializer=one_thread_each) as pool:
        for view in views:
            view.open(stack, rows_held)
        for done, found in enumerate(ahead(pool, work, corners, 2 * workers), 1):
            for total, part in zip(totals, found):
                total.merge(part)
            if progress and done % per_row == 0:
                progress(min(done // per_row * down, height), height)
    return totals
