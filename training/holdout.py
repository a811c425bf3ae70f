"""The part of the data that is held out (`data.validation`): nothing is trained on it, and all is judged on it.

Between the two parts lies a gap as wide as a window, since pixels that are close to each other are alike.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import RasterError, RecipeError
from ..core.grid import Grid, Window
from ..core.raster import listing
from ..core.raster.bands import Band, Statistics
from ..core.raster.decimated import small_shape
from ..core.raster.rows import RasterFile, Rows, SeekableRaster, Windows
from ..core.reproject.cutline import Cutline
from ..core.reproject.polygons import Polygons, read_polygons
from .pairs import shift

Area = Callable[[Window], np.ndarray]
"""Which pixels (h,w) of a window are held out; the window may reach beyond the raster."""
Rasters = Sequence[SeekableRaster]
Split = tuple[tuple[list[SeekableRaster], list[SeekableRaster]], tuple[list[SeekableRaster], list[SeekableRaster]]]
BLOCKS = "blocks"
_VECTOR_ENDINGS = (".gpkg", ".shp", ".geojson", ".json", ".fgb", ".gml", ".kml")
_BLOCK_WINDOWS, _MOST_BLOCKS = 3, 16
_STRIP_ROWS = 1024


@dataclass(frozen=True)
class Part:
    """A raster of which pixels outside of a part count as without data."""

    raster: SeekableRaster
    held_out: Area
    gap: int | None
    """None: the part is what is held out; else it is what lies further than so many pixels from all that is."""

    def keeps(self, window: Window) -> np.ndarray:
        """Which pixels (h,w) of a window belong to the part."""
        if self.gap is None:
            return self.held_out(window)
        strips = []
        for first in range(0, window.height, _STRIP_ROWS):
            height = min(_STRIP_ROWS, window.height - first)
            around = Window(window.row + first - self.gap, window.col - self.gap, height + 2 * self.gap,
                            window.width + 2 * self.gap)
            strips.append(~_grown(_grown(self.held_out(around), self.gap).T, self.gap).T)
        return np.concatenate(strips)

    @property
    def path(self) -> str:
        return self.raster.path

    @property
    def grid(self) -> Grid:
        return self.raster.grid

    @property
    def bands(self) -> tuple[Band, ...]:
        return self.raster.bands

    @property
    def indexes(self) -> tuple[int, ...]:
        return self.raster.indexes

    @property
    def dtype(self) -> str:
        return self.raster.dtype

    @property
    def mask_kinds(self) -> tuple[str, ...]:
        return self.raster.mask_kinds

    @property
    def alpha_bands(self) -> tuple[Band, ...]:
        return self.raster.alpha_bands

    @property
    def tags(self) -> dict[str, str]:
        return self.raster.tags

    @property
    def original(self) -> RasterFile:
        return self.raster.original

    def stamps(self) -> dict[str, Any]:
        return self.raster.stamps()

    def compressed(self) -> float:
        return self.raster.compressed()

    def reading_bytes(self, width: int) -> int:
        return self.raster.reading_bytes(width)

    def rows_at_once(self, width: int) -> int:
        return self.raster.rows_at_once(width)

    def statistics(self, percentiles: tuple[float, ...] = (), ranges: tuple[tuple[float, float], ...] = ()
                   ) -> Statistics:
        return self.raster.statistics(percentiles, ranges)  # of the whole, as where a model is run

    def rows(self, window: Window | None = None, part: tuple[int, int] | None = None) -> Iterator[Rows]:
        window = window or Window(0, 0, self.grid.height, self.grid.width)
        for rows in self.raster.rows(window, part):
            yield self._masked(rows, Window(window.row + rows.row, window.col, rows.height, window.width))

    def read(self, window: Window) -> Rows:
        return self._masked(self.raster.read(window), window)

    def windows(self, rows_held: int) -> Windows:
        return _PartWindows(self, self.raster.windows(rows_held))

    def decimated(self, longest: int = 1024) -> Rows:
        rows = self.raster.decimated(longest)
        return _only(rows, self._kept(*rows.pixels.shape[1:]))

    def valid(self, longest: int = 1024) -> np.ndarray | None:
        kept, known = self._kept(*small_shape(self.grid, longest)), self.raster.valid(longest)
        return kept if known is None else kept & known

    def _kept(self, height: int, width: int) -> np.ndarray:
        """Which pixels of the raster made small belong to the part."""
        down, across = (((np.arange(count) + 0.5) * (size / count)).astype(int)
                        for count, size in ((height, self.grid.height), (width, self.grid.width)))
        kept = np.stack([self.held_out(Window(int(row), 0, 1, self.grid.width))[0, across] for row in down])
        if self.gap is not None:
            for axis, (small, large) in enumerate(((height, self.grid.height), (width, self.grid.width))):
                kept = np.moveaxis(_grown(np.moveaxis(kept, axis, 0), -(-self.gap * small // large), within=True),
                                   0, axis)
            kept = ~kept
        return kept

    def _masked(self, rows: Rows, window: Window) -> Rows:
        return _only(rows, self.keeps(window))


class _PartWindows:
    """Windows of a part."""

    def __init__(self, part: Part, windows: Windows):
        self._part, self._windows = part, windows

    def __enter__(self) -> "_PartWindows":
        self._windows.__enter__()
        return self

    def __exit__(self, *error) -> None:
        self._windows.__exit__(*error)

    def read(self, window: Window) -> Rows:
        return _only(self._windows.read(window), self._part.keeps(window))


def split(sources: Rasters, targets: Rasters, validation: float | str | tuple[str, ...], window_px: int, gap: int,
          paired: bool) -> Split:
    """The sources and targets to train on, and those to judge on.

    Args:
        validation: a share, of the rasters where there are many, else of the rows of each; "blocks", a fifth of the
            area in blocks all over; names of source rasters; or one of a file of polygons.
        window_px: side of a window, of which a block holds some.
        gap: pixels between both parts.
        paired: whether target k shows what source k shows, and so is split alike.

    Raises:
        RecipeError: for names that are not among the sources, and polygons that meet none of them.
    """
    areas = _areas(sources, validation, window_px)
    if paired:
        shifts = [shift(one.grid, other.grid, (one.path, other.path)) for one, other in zip(sources, targets)]
        theirs: Sequence[Area | None] = [partial(_moved, area, *by) for area, by in zip(areas, shifts)]
    elif isinstance(validation, float | int) or validation == BLOCKS or _polygons(validation):
        theirs = _areas(targets, validation, window_px)
    else:  # named files are sources
        theirs = [None] * len(targets)
    train, held = ((_parts(sources, areas, around), _parts(targets, theirs, around)) for around in (gap, None))
    return train, held


def _parts(rasters: Rasters, areas: Sequence[Area | None], gap: int | None) -> list[SeekableRaster]:
    return [raster if area is None else Part(raster, area, gap) for raster, area in zip(rasters, areas)]


def _areas(rasters: Rasters, validation: float | str | tuple[str, ...], window_px: int) -> list[Area]:
    if isinstance(validation, float | int):
        if len(rasters) * validation >= 2:  # every so-manieth raster
            return [_everywhere if int((k + 1) * validation) > int(k * validation) else _nowhere
                    for k in range(len(rasters))]
        return [partial(_below, round((1 - validation) * raster.grid.height)) for raster in rasters]
    if validation == BLOCKS:
        return [partial(_in_blocks, max(_BLOCK_WINDOWS * window_px,
                                        max(raster.grid.height, raster.grid.width) // _MOST_BLOCKS))
                for raster in rasters]
    if polygons := _polygons(validation):
        areas = [_inside(polygons, raster.grid) for raster in rasters]
        if all(area is _nowhere for area in areas):
            raise RecipeError(f"The polygons of {polygons.path}, which data.validation names, meet no raster: check "
                              "their CRS, or name others.")
        return areas
    named = _named((validation,) if isinstance(validation, str) else validation)
    there = {Path(raster.original.path).resolve(): raster for raster in rasters}
    for path in named:
        if path not in there:
            raise RecipeError(f"data.validation names {path}, which is not one of the source rasters: add it to "
                              "data.source.paths.")
    return [_everywhere if Path(raster.original.path).resolve() in named else _nowhere for raster in rasters]


def _named(patterns: Sequence[str]) -> list[Path]:
    found = []
    for pattern in patterns:
        try:
            found += [Path(path).resolve() for path, _ in listing.find_rasters(pattern).rasters]
        except RasterError as error:
            raise RecipeError(f"data.validation names {pattern}, where no raster is found: check the path, or give a "
                              'share such as 0.2, or "blocks".') from error
    return found


def _polygons(validation: str | float | tuple[str, ...]) -> Polygons | None:
    name = validation if isinstance(validation, str) else ""
    return read_polygons(name) if Path(name).suffix.lower() in _VECTOR_ENDINGS else None


def _inside(polygons: Polygons, grid: Grid) -> Area:
    try:
        return Cutline.on(polygons, grid).inside
    except RasterError:
        return _nowhere


def _everywhere(window: Window) -> np.ndarray:
    return np.ones((window.height, window.width), bool)


def _nowhere(window: Window) -> np.ndarray:
    return np.zeros((window.height, window.width), bool)


def _below(first: int, window: Window) -> np.ndarray:
    rows = np.arange(window.row, window.row + window.height)[:, None] >= first
    return np.broadcast_to(rows, (window.height, window.width))


def _in_blocks(side: int, window: Window) -> np.ndarray:
    """One block of five in each row and each column of blocks, no two of them side by side."""
    down, across = (np.arange(first, first + count) // side
                    for first, count in ((window.row, window.height), (window.col, window.width)))
    return (down[:, None] + 2 * across) % 5 == 2


def _moved(area: Area, down: int, right: int, window: Window) -> np.ndarray:
    """An area on a raster whose pixels are counted from elsewhere."""
    return area(Window(window.row - down, window.col - right, window.height, window.width))


def _grown(mask: np.ndarray, by: int, within: bool = False) -> np.ndarray:
    """Whether any of the `by` rows before or after is set.

    Args:
        within: whether the mask has no such rows beyond its ends; else the first and last `by` are left out.
    """
    if within:
        mask = np.pad(mask, ((by, by), (0, 0)))
    sums = np.zeros((len(mask) + 1, mask.shape[1]), np.int32)
    np.cumsum(mask, axis=0, out=sums[1:])
    return sums[2 * by + 1:] > sums[: len(sums) - 2 * by - 1]


def _only(rows: Rows, kept: np.ndarray) -> Rows:
    """Rows of which only pixels (h,w) that are kept have data."""
    known = np.uint8(255) if rows.mask is None else rows.mask
    return replace(rows, mask=np.where(kept, known, np.uint8(0)).reshape(-1, *kept.shape))
