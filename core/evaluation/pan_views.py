"""What pansharpening quality is judged by, piece by piece: the multispectral image on the fine grid, PAN made coarse.

Pieces equal the same part of `interpolate_23tap` and `low_pass` of the whole images.
"""

from collections.abc import Mapping
from contextlib import ExitStack

import numpy as np
import torch
import torch.nn.functional as F

from ..grid import Window
from ..metrics import Accumulator, Measure, patch_of
from ..metrics.catalogue import of_bands
from ..metrics.pansharpening import imresize, interpolate_23tap
from ..raster.rows import SeekableRaster
from ..reproject.polygons import Polygons
from .compare import PhysicalView, Progress, View, inside_of, measure_views

_REACH_PX = 12
"""Coarse pixels that the filters of `interpolate_23tap` reach, at any ratio."""


def measure_pan(fused: SeekableRaster, ms: SeekableRaster, pan: SeekableRaster, measures: Mapping[str, Measure],
                ratio: int, progress: Progress | None = None, cutline: Polygons | None = None) -> list[Accumulator]:
    """What measures of pansharpening find, on the pixels of PAN.

    Args:
        fused: the pansharpened image, on the pixels of `pan`.
        ms: the multispectral image, with pixels `ratio` times as wide.
        measures: by their names in the catalogue; D_S sees PAN and PAN made coarse, the others the bands of MS.
        cutline: pixels of PAN whose centre is outside these polygons do not count.
    """
    seen_as = [PhysicalView(r, Window(0, 0, r.grid.height, r.grid.width), anywhere=True) for r in (fused, pan, ms, pan)]
    views: list[View] = [*seen_as[:2], Interpolated(seen_as[2], ratio), Interpolated(Shrunk(seen_as[3], ratio), ratio)]

    def assemble(parts, owned):
        (sharp, _), (fine, _), (coarse, _), (low, _) = parts
        valid = np.logical_and.reduce([mask for _, mask in parts])
        return patch_of(np.concatenate([coarse, fine, low]), sharp, valid, owned)

    bands = range(len(ms.bands))
    seen = [m if name == "d_s" else of_bands(m, bands, bands) for name, m in measures.items()]
    return measure_views(views, assemble, seen, None, progress, inside_of(cutline, fused.grid))


class Shrunk:
    """A view made coarser by a whole ratio, as `imresize` does."""

    def __init__(self, view: PhysicalView, ratio: int):
        self.view, self.ratio = view, ratio
        self.shape = view.shape[0] // ratio, view.shape[1] // ratio
        self.path, self.row_bytes, self.held_bytes = view.path, view.row_bytes, view.held_bytes

    def open(self, stack: ExitStack, rows_held: int) -> None:
        """As `PhysicalView.open`."""
        self.view.open(stack, rows_held)

    def read(self, part: Window) -> tuple[np.ndarray, np.ndarray]:
        """As `PhysicalView.read`; a pixel without data in the kernel's support takes the result's away."""
        pixels, valid = mirrored(self.view, *(n * self.ratio for n in (part.row - 3, part.col - 3, part.height + 6,
                                                                       part.width + 6)))
        holes = torch.from_numpy(~valid).float()[None, None]
        clear = F.max_pool2d(holes, 5 * self.ratio, self.ratio, padding=2 * self.ratio)[0, 0].numpy() == 0
        pixels = imresize(np.where(valid, pixels, 0).astype(np.float64), 1 / self.ratio)
        return pixels[:, 3:-3, 3:-3], clear[3:-3, 3:-3]


class Interpolated:
    """A coarse view on the grid of a finer one, as `interpolate_23tap` does, circular borders included."""

    def __init__(self, view: PhysicalView | Shrunk, ratio: int):
        self.view, self.ratio = view, ratio
        self.shape = view.shape[0] * ratio, view.shape[1] * ratio
        self.path, self.row_bytes, self.held_bytes = view.path, view.row_bytes, view.held_bytes

    def open(self, stack: ExitStack, rows_held: int) -> None:
        """As `PhysicalView.open`."""
        self.view.open(stack, rows_held)

    def read(self, part: Window) -> tuple[np.ndarray, np.ndarray]:
        """As `PhysicalView.read`; a pixel without data takes that of all it reaches away."""
        ratio = self.ratio
        first = [start // ratio - _REACH_PX for start in (part.row, part.col)]
        sizes = [-(-(start + size) // ratio) + _REACH_PX - low
                 for start, size, low in zip((part.row, part.col), (part.height, part.width), first)]
        pixels, valid = around(self.view, *first, *sizes)
        holes = torch.from_numpy(~valid).float()[None, None]
        clear = F.max_pool2d(holes, 2 * _REACH_PX - 1, 1, _REACH_PX - 1)[0, 0].numpy() == 0
        pixels = interpolate_23tap(np.where(valid, pixels, 0).astype(np.float64), ratio)
        inside = tuple(slice(start - low * ratio, start - low * ratio + size)
                       for start, low, size in zip((part.row, part.col), first, (part.height, part.width)))
        return pixels[:, *inside], clear.repeat(ratio, 0).repeat(ratio, 1)[inside]


def around(view, row: int, col: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A part of a view that continues at its other end."""
    return _gathered(view, *(np.arange(first, first + count) % size
                             for first, count, size in zip((row, col), (height, width), view.shape)))


def mirrored(view, row: int, col: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A part of a view that is reflected at its borders, edge pixels included."""
    places = [np.arange(first, first + count) % (2 * size)
              for first, count, size in zip((row, col), (height, width), view.shape)]
    return _gathered(view, *(np.where(at < size, at, 2 * size - 1 - at) for at, size in zip(places, view.shape)))


def _gathered(view, rows: np.ndarray, cols: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of a view in any order; runs that follow on each other are read at once."""
    lines = [_line(view, run, cols) for run in _runs(rows)]
    pixels, valid = (np.concatenate(parts, -2) for parts in zip(*lines))
    return pixels, valid


def _line(view, rows: np.ndarray, cols: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found = []
    for run in _runs(cols):
        pixels, valid = view.read(Window(int(rows.min()), int(run.min()), len(rows), len(run)))
        turn = np.s_[..., :: -1 if rows[0] > rows[-1] else 1, :: -1 if run[0] > run[-1] else 1]
        found.append((pixels[turn], valid[turn]))
    pixels, valid = (np.concatenate(parts, -1) for parts in zip(*found))
    return pixels, valid


def _runs(places: np.ndarray) -> list[np.ndarray]:
    """Parts that go up or down by one."""
    steps = np.diff(places)
    cuts, direction = [], None
    for k, step in enumerate(steps):
        if step not in (1, -1) or (direction is not None and step != direction):
            cuts.append(k + 1)
            direction = None
        else:
            direction = step
    return np.split(places, cuts)
