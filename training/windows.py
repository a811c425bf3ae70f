"""Windows drawn from georeferenced rasters of any grid and size, the same for a given seed and step."""

import copy
import itertools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..core.errors import RecipeError
from ..core.grid import Window
from ..core.inference.fill import fill_window
from ..core.memory import check_memory
from ..core.models.normalisers import BandAffine, BandMix, Normaliser
from ..core.pipeline.radiometry import forward, to_range
from ..core.raster.decimated import small_shape
from ..core.raster.rows import Rows, SeekableRaster

_IN_MEMORY_BYTES, _MOST_PLACES, _LOOK_PX = 2 << 30, 1 << 22, 4096


@dataclass(frozen=True)
class Candidates:
    """Every place where a window may be drawn, as columns of one table."""

    raster: np.ndarray
    row: np.ndarray
    col: np.ndarray
    weight: np.ndarray
    """Valid fraction of the window."""
    zone: np.ndarray
    """Index of its latitude zone; -1 outside all, 0 where there are no zones."""


class WindowSampler:
    """Draws square windows (C,side,side), normalised and filled, from a set of rasters."""

    def __init__(self, rasters: list[SeekableRaster], normaliser: Normaliser | None, side: int,
                 min_valid: float, zones: tuple[float, ...], keep: bool = True):
        """Looks for windows.

        Args:
            side: of a window, in pixels.
            min_valid: least fraction of valid pixels of a window.
            zones: edges of latitude zones, in degrees.
            keep: whether small rasters are kept in memory when they have been drawn from.
        """
        self.rasters = rasters
        counts = {len(raster.bands) for raster in self.rasters}
        if len(counts) > 1:
            raise RecipeError(f"The rasters have different numbers of bands ({sorted(counts)}): choose the same "
                              "bands in all with data.*.bands.")
        self.side, self.zones = side, zones
        self.candidates = _candidates(self.rasters, side, min_valid, zones)
        self._whole: dict[int, Rows] = {}
        raw = sum(r.grid.height * r.grid.width * len(r.bands) * np.dtype(r.dtype).itemsize for r in self.rasters)
        self._keeps = keep and raw <= _IN_MEMORY_BYTES
        check_memory(raw if self._keeps else max(r.reading_bytes(r.grid.width) for r in self.rasters),
                     f"{len(self.rasters)} rasters, {self.rasters[0].path} the first," if len(self.rasters) > 1
                     else self.rasters[0].path, "training", "take parts of them with gdal_translate -srcwin")
        wanted = normaliser.percentiles if normaliser else ()
        self._statistics = [raster.statistics(wanted) for raster in self.rasters]
        self._ranges = self._ranges_of(normaliser)

    def normalised_by(self, normaliser: Normaliser) -> "WindowSampler":
        """The same windows, in another range; the normaliser needs no percentiles."""
        other = copy.copy(self)
        other._ranges = self._ranges_of(normaliser)
        return other

    def _ranges_of(self, normaliser: Normaliser | None) -> list[tuple[BandAffine | BandMix | None, Tensor]]:
        return [to_range(raster.bands, normaliser, each) for raster, each in zip(self.rasters, self._statistics)]

    def pick(self, count: int, generator: torch.Generator, zones: np.ndarray | None = None) -> np.ndarray:
        """Indices of `count` candidates, drawn with replacement; given `zones`, one of each zone."""
        table = self.candidates
        if zones is None:
            return _pick(table.weight, count, generator)
        return np.array([_pick(np.where(table.zone == zone, table.weight, 0), 1, generator)[0] for zone in zones])

    def windows(self, picks: np.ndarray) -> Tensor:
        """The windows (N,C,side,side) of candidates."""
        return torch.stack([self._window(k) for k in picks])

    def _window(self, k: int) -> Tensor:
        table = self.candidates
        which, row, col = int(table.raster[k]), int(table.row[k]), int(table.col[k])
        rows = self._read(which, row, col)
        pixels, (affine, fill) = torch.from_numpy(rows.pixels.astype(np.float32)), self._ranges[which]
        pixels = pixels if affine is None else forward(affine, pixels)
        if rows.mask is not None and not rows.mask.all():
            pixels = fill_window(pixels, torch.from_numpy(rows.mask != 0).all(0, keepdim=True), fill)
        return pixels

    def _read(self, which: int, row: int, col: int) -> Rows:
        if not self._keeps:
            return self.rasters[which].read(Window(row, col, self.side, self.side))
        if which not in self._whole:
            grid = self.rasters[which].grid
            self._whole[which] = self.rasters[which].read(Window(0, 0, grid.height, grid.width))
        whole, part = self._whole[which], np.s_[:, row : row + self.side, col : col + self.side]
        return Rows(row, whole.pixels[part], None if whole.mask is None else whole.mask[part])


def share_zones(source: WindowSampler, target: WindowSampler) -> None:
    """Leaves only source windows whose zone the target has too.

    Raises:
        RecipeError: if none is left.
    """
    table, shared = source.candidates, np.isin(source.candidates.zone, np.unique(target.candidates.zone))
    if not shared.any():
        raise RecipeError("Source and target share no latitude zone: change data.latitude_zones or the rasters.")
    source.candidates = Candidates(table.raster[shared], table.row[shared], table.col[shared],
                                   table.weight[shared], table.zone[shared])


def _pick(weights: np.ndarray, count: int, generator: torch.Generator) -> np.ndarray:
    """Indices drawn with replacement, in proportion to the weights."""
    sums = np.cumsum(weights)
    draws = torch.rand(count, generator=generator, dtype=torch.float64).numpy() * sums[-1]
    return np.minimum(np.searchsorted(sums, draws, side="right"), len(weights) - 1)


def _candidates(rasters: list[SeekableRaster], side: int, min_valid: float, zones: tuple[float, ...]
                ) -> Candidates:
    columns = []
    for index, raster in enumerate(rasters):
        rows, cols, weights = _places(raster, side)
        keep = weights >= max(min_valid, 1e-6)
        rows, cols, weights = rows[keep], cols[keep], weights[keep]
        zone = np.zeros(len(rows), int)
        if zones and len(rows):
            latitudes = raster.grid.latitudes(rows + side / 2, cols + side / 2)
            zone = np.digitize(latitudes, zones) - 1
            zone[(zone < 0) | (zone >= len(zones) - 1)] = -1
        inside = zone >= 0
        columns.append((np.full(inside.sum(), index), rows[inside], cols[inside], weights[inside], zone[inside]))
    table = Candidates(*(np.concatenate(column) for column in zip(*columns)))
    if not len(table.row):
        names = ", ".join(raster.path for raster in rasters[:3])
        raise RecipeError(f"No window of {side} pixels with at least {min_valid:.0%} valid pixels fits into "
                          f"{names}{' and others' if len(rasters) > 3 else ''}: lower data.window_px or "
                          "data.min_valid.")
    return table


def _places(raster: SeekableRaster, side: int
            ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, columns and valid fractions of windows on a lattice of an eighth of their side; coarser in huge rasters."""
    height, width = raster.grid.height, raster.grid.width
    if height < side or width < side:
        return (np.zeros(0, int),) * 2 + (np.zeros(0),)
    step = max(1, side // 8)
    while (height - side) * (width - side) > _MOST_PLACES * step**2:  # of one raster; a table of them is kept
        step *= 2
    lattice = (np.append(np.arange(0, size - side, step), size - side) for size in (height, width))
    rows, cols = (each.ravel() for each in np.meshgrid(*lattice, indexing="ij"))
    return rows, cols, valid_fractions(raster, rows, cols, side)


def valid_fractions(raster: SeekableRaster, rows: np.ndarray, cols: np.ndarray, side: int) -> np.ndarray:
    """How much of each window has data, from one decimated read."""
    height, width = small_shape(raster.grid, _LOOK_PX)
    top, bottom = (np.rint(v * height / raster.grid.height).astype(int) for v in (rows, rows + side))
    left, right = (np.rint(v * width / raster.grid.width).astype(int) for v in (cols, cols + side))
    area = (bottom - top) * (right - left)
    valid = raster.valid(_LOOK_PX)
    return (area if valid is None else _counts(valid, top, bottom, left, right)) / np.maximum(area, 1)


def _counts(valid: np.ndarray, top: np.ndarray, bottom: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """How many pixels of each rectangle are valid: sums over rows are made between the edges that there are."""
    edges = np.unique(np.concatenate([top, bottom, np.arange(0, len(valid), 255), [0, len(valid)]]))  # 255: one byte
    strips = [np.add.reduce(valid[first:stop].view(np.uint8), 0, np.uint8) for first, stop in itertools.pairwise(edges)]
    total = np.zeros((len(edges), valid.shape[1] + 1), np.int64)
    np.cumsum(np.cumsum(strips, 0, np.int64), 1, out=total[1:, 1:])
    top, bottom = np.searchsorted(edges, top), np.searchsorted(edges, bottom)
    return total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left]
