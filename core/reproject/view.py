"""A raster as another CRS has it, and where that CRS cuts it."""

import math
import warnings
from dataclasses import dataclass

import numpy as np

from ..errors import RasterError
from ..grid import Grid
from .coordinates import ToLonLat, Turn

Bounds = tuple[float, float, float, float]
"""xmin, ymin, xmax, ymax."""

_JUMP, _LEAST = 4.0, 0.01
"""Usual steps between neighbouring points that one over a seam exceeds, and the share of the whole that it is."""
_HALVINGS, _STEP_PX = 45, 0.01


@dataclass(frozen=True)
class View:
    """A raster as another CRS has it."""

    source: Grid
    """The raster's."""
    forward: ToLonLat
    backward: ToLonLat
    turn: Turn | None = None
    middle: float | None = None
    """x around which longitudes are unwrapped, by whole turns; None: as PROJ gives them."""

    def places(self, col: np.ndarray, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(x, y) of pixel positions; NaN where the projection does not reach."""
        x, y = (np.array(v, float) for v in self.forward(*(self.source.transform * (col, row))))
        x[~np.isfinite(x + y)] = y[~np.isfinite(x + y)] = np.nan
        if self.turn and self.middle is not None:
            x -= self.turn.width * np.round((x - self.middle) / self.turn.width)
        return x, y

    def mesh(self, points: int) -> tuple[np.ndarray, np.ndarray]:
        """Positions (points,points) all over the raster, its edges included."""
        edge = np.linspace(0, 1, points)
        return np.meshgrid(edge * self.source.width, edge * self.source.height)

    def chord(self, bounds: Bounds) -> float:
        """The pixel size that keeps the number of pixels along the raster's diagonal, as GDAL suggests it."""
        width, height = self.source.width, self.source.height
        x, y = self.places(np.array([0.0, width, width, 0]), np.array([0.0, height, 0, height]))
        diagonals = [math.hypot(x[k + 1] - x[k], y[k + 1] - y[k]) for k in (0, 2)]
        longest = next((d for d in diagonals if math.isfinite(d) and d > 0), math.dist(bounds[:2], bounds[2:]))
        return longest / math.hypot(width, height)

    def scale(self, col: np.ndarray, row: np.ndarray, bounds: Bounds) -> float:
        """The pixel size that keeps it on a diagonal of the pixels at most of these positions."""
        width, height = self.source.width, self.source.height
        squares = []
        for right, down in ((_STEP_PX, 0), (0, _STEP_PX)):
            ends = [self.places(col + sign * right, row + sign * down) for sign in (-0.5, 0.5)]
            squares.append(sum((b - a) ** 2 for a, b in zip(*ends)) / _STEP_PX**2)
        size = (width**2 * squares[0] + height**2 * squares[1]) / (width**2 + height**2)
        size = np.sqrt(size[np.isfinite(size) & (size > 0)])
        return float(np.median(size)) if size.size else math.dist(bounds[:2], bounds[2:]) / math.hypot(width, height)


@dataclass(frozen=True)
class Cuts:
    """Pixel positions on both sides of where a projection is cut, each (n,)."""

    before: tuple[np.ndarray, np.ndarray]
    after: tuple[np.ndarray, np.ndarray]

    def __bool__(self) -> bool:
        return self.before[0].size > 0

    def along_meridian(self, period: float) -> bool:
        """Whether they all lie in one column, or whole turns beside it."""
        apart = self.after[0] - self.after[0][:1]
        return bool(self) and bool((np.abs(apart - period * np.round(apart / period)) < _STEP_PX).all())

    def sides(self) -> tuple[np.ndarray, np.ndarray]:
        return np.append(self.before[0], self.after[0]), np.append(self.before[1], self.after[1])

    @classmethod
    def of(cls, view: View, x: np.ndarray, y: np.ndarray) -> "Cuts":
        """Those that a mesh of places shows: steps out of all proportion that stay so however short they are made."""
        col, row = view.mesh(len(x))
        pairs, whole = [], math.dist(*np.split(np.array(bounds_around(x, y)), 2))
        for axis in (1, 0):
            step = np.hypot(np.diff(x, axis=axis), np.diff(y, axis=axis))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # of lines that the projection does not reach
                usual = np.nanmedian(step, axis, keepdims=True)
            wide = (step > _JUMP * usual) & (step > _LEAST * whole)
            if view.turn:
                wide = np.abs(np.diff(x, axis=axis)) > view.turn.width / 2
            first, second = ((slice(None), slice(None, -1)), (slice(None), slice(1, None)))
            if axis == 0:
                first, second = first[::-1], second[::-1]
            pairs.append([values[part][wide] for part in (first, second) for values in (col, row)])
        before_col, before_row, after_col, after_row = (np.concatenate(values) for values in zip(*pairs))
        before, after = np.stack([before_col, before_row]), np.stack([after_col, after_row])
        if not before.size:
            return cls(tuple(before), tuple(after))
        start, stop = (np.stack(view.places(*ends)) for ends in (before, after))
        width = np.hypot(*(stop - start))
        for _ in range(_HALVINGS):
            middle = (before + after) / 2
            place = np.stack(view.places(*middle))
            later = np.hypot(*(stop - place)) > np.hypot(*(place - start))
            before, start = np.where(later, middle, before), np.where(later, place, start)
            after, stop = np.where(later, after, middle), np.where(later, stop, place)
        cut = np.hypot(*(stop - start)) > 1e-3 * width
        return cls(tuple(before[:, cut]), tuple(after[:, cut]))


def bounds_around(x: np.ndarray, y: np.ndarray) -> Bounds:
    """The smallest bounds around the places that are known.

    Raises:
        RasterError: where none is.
    """
    known = np.isfinite(x) & np.isfinite(y)
    if not known.any():
        raise RasterError("Nothing of what is wanted has a place in the target CRS: choose one that reaches it.")
    return float(x[known].min()), float(y[known].min()), float(x[known].max()), float(y[known].max())


def pixels(source: Grid, backward: ToLonLat, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixel positions of places, NaN where they have none."""
    x, y = (np.where(np.isfinite(values), values, np.nan) for values in backward(x, y))
    return ~source.transform * (x, y)
