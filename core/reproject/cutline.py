"""Polygons laid on a raster's pixels: which pixels have their centre inside.

Edges are straight in the polygons' own CRS, so they are cut into pieces before they are projected to pixels, until
each is within `TOLERANCE_PX` of the curve that it stands for. Rows of pixels are then filled between the edges that
cross the line through their centres, as GDAL fills polygons; here each pixel depends on its own row and column only, so
parts have the bits of the whole, and many vertices cost little.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from pyproj.exceptions import ProjError

from ..errors import RasterError
from ..grid import Grid, Window, is_angular, parse_crs
from .coordinates import ToLonLat, between, period_of
from .polygons import Polygons
from .warping import TILE_PX

TOLERANCE_PX = 0.05
"""How far a piece of an edge may be from its curve where that is looked at, a quarter, half and three quarters along
it; between, the error stays below twice as much."""
_PIECES = 8  # an edge that crosses all of the raster is cut into so many at least
_DEEPEST, _MOST_EDGES, _CROSSINGS = 24, 8_000_000, 4_000_000
_LATTICE = 2.0**20  # corners are rounded to a millionth of a pixel, so that what lies on a pixel's centre does exactly
_GROWN = 0.1  # the raster's size is looked at with a border of this share, for its curved outline
_SAMPLES = 25

ToPixels = Callable[[np.ndarray], np.ndarray]
"""(n,2) of x and y in the polygons' CRS -> (n,2) of columns and rows."""


@dataclass(frozen=True, eq=False)
class Cutline:
    """Polygons on the pixels of a grid. Make one with `Cutline.on`."""

    edges: np.ndarray
    """(4,N) column and row of the upper end, then of the lower; none is level."""
    owners: np.ndarray
    """(N,) the number of the polygon that each edge belongs to."""

    @classmethod
    def on(cls, polygons: Polygons, grid: Grid) -> "Cutline":
        """Lays polygons on the pixels of a grid.

        Raises:
            RasterError: where the grid has no CRS or one of another body, where its CRS does not reach a part of the
                polygons, and where no pixel's centre is inside.
        """
        crs = polygons.crs_on(grid)
        try:
            to_xy, back, to_pixel = between(crs, grid), between(grid, crs), ~grid.transform
        except ProjError as error:
            raise RasterError(f"PROJ knows no way from the CRS of {polygons.path} to the raster's ({error}): give "
                              "polygons in the raster's CRS.") from error

        def to_pixels(points: np.ndarray) -> np.ndarray:
            with np.errstate(invalid="ignore"):  # what a CRS does not reach is infinite
                return np.stack(to_pixel * to_xy(points[:, 0], points[:, 1]), 1)

        starts, ends, owners, rings = _clipped(polygons, *_around(crs, grid, to_xy, back))
        period = period_of(grid)
        one, other, kept = _straightened(starts, ends, to_pixels, period, polygons.path)
        owners = owners[kept]
        if period:
            one, other = _connected(one, other, rings[kept], period, polygons.path)
            one, other, owners = _all_round(one, other, owners, period, grid.width)
        found = cls(*_edges(one, other, owners))
        if not found.touches(Window(0, 0, grid.height, grid.width)):
            raise RasterError(f"No pixel's centre is inside the polygons of {polygons.path}: give polygons that meet "
                              "the raster, or check their CRS.")
        return found

    def inside(self, window: Window) -> np.ndarray:
        """Which pixels (h,w) of a window have their centre inside a polygon; the window may reach beyond the grid."""
        change = np.zeros((window.height, window.width + 1), np.int32)
        for rows, starts, stops in self._spans(window):
            np.add.at(change, (rows, starts), 1)
            np.add.at(change, (rows, stops), -1)
        return np.cumsum(change, 1, out=change)[:, :-1] > 0

    def touches(self, window: Window) -> bool:
        """Whether any pixel of a window has its centre inside a polygon."""
        return any((starts < stops).any() for _, starts, stops in self._spans(window))

    def _spans(self, window: Window) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """What polygons fill of the rows of a window: row, first column, and one past the last; some rows at a time,
        where many edges cross them."""
        first, stop = (np.clip(np.ceil(self.edges[k] - 0.5), window.row, window.row + window.height).astype(np.int64)
                       for k in (1, 3))
        crossing = np.flatnonzero(first < stop)
        first, stop = first[crossing], stop[crossing]
        step = max(1, window.height * _CROSSINGS // max(_CROSSINGS, int((stop - first).sum())))
        for top in range(window.row, window.row + window.height, step):
            begin, counts = np.maximum(first, top), np.minimum(stop, top + step)
            counts = np.maximum(counts - begin, 0)
            edge = np.repeat(crossing, counts)
            rows = np.arange(len(edge)) + np.repeat(begin - np.cumsum(counts) + counts, counts)
            left, upper, right, lower = self.edges[:, edge]
            cols = (rows + 0.5 - upper) * (right - left) / (lower - upper) + left
            order = np.lexsort((cols, rows, self.owners[edge]))
            cols = np.clip(np.floor(cols[order] + 0.5) - window.col, 0, window.width).astype(np.int64)
            yield (rows[order] - window.row)[::2], cols[::2], cols[1::2]


def describe_cutline(grid: Grid, polygons: Polygons | None) -> list[str]:
    """A line for a person about polygons on an output's grid, where there are any.

    Raises:
        RasterError: see `Cutline.on`.
    """
    if polygons is None:
        return []
    cutline = Cutline.on(polygons, grid)
    blocks = [Window(row, col, min(TILE_PX, grid.height - row), min(TILE_PX, grid.width - col))
              for row in range(0, grid.height, TILE_PX) for col in range(0, grid.width, TILE_PX)]
    return [f"cutline  {polygons.path}: {polygons.count} polygon{'s' if polygons.count > 1 else ''}, with pixels in "
            f"{sum(map(cutline.touches, blocks))} of {len(blocks)} blocks of {TILE_PX} x {TILE_PX}"]


def _clipped(polygons: Polygons, low: np.ndarray, high: np.ndarray, turn: float | None) -> tuple[np.ndarray, ...]:
    """The polygons' edges in their own CRS, near the raster only: where they begin and end (N,2), whose they are, and
    the number of their ring.

    What is cut off is pushed onto the border around the raster, which changes nothing inside it; see `_around`.
    """
    starts = np.concatenate(polygons.rings)
    ends = np.concatenate([np.roll(ring, -1, 0) for ring in polygons.rings])
    sizes = [len(ring) for ring in polygons.rings]
    rings, owners = np.repeat(np.arange(len(sizes)), sizes), np.repeat(polygons.owners, sizes)
    if turn:  # longitudes that are named otherwise are the same
        west, east = starts[:, 0].min(), starts[:, 0].max()
        shifts = range(math.ceil((low[0] - east) / turn), math.floor((high[0] - west) / turn) + 1)
        starts, ends = (np.concatenate([points + (k * turn, 0) for k in shifts]) if shifts else points[:0]
                        for points in (starts, ends))
        rings = np.concatenate([rings + k * len(sizes) for k in range(len(shifts))] or [rings[:0]])
        owners = np.tile(owners, len(shifts))
    for axis in (0, 1):
        starts, ends, kept = _cut_at(starts, ends, axis, (low[axis], high[axis]))
        owners, rings = owners[kept], rings[kept]
    extent = np.where(high > low, high - low, np.inf)
    pieces = np.ceil(_PIECES * (np.abs(ends - starts) / extent).max(1, initial=0)).astype(np.int64).clip(1)
    starts, ends, kept = _in_pieces(starts, ends, pieces)
    return starts, ends, owners[kept], rings[kept]


def _around(crs: Grid, grid: Grid, to_xy: ToLonLat, back: ToLonLat
            ) -> tuple[np.ndarray, np.ndarray, float | None]:
    """The least and the greatest x and y around a raster in another CRS, and what a turn measures where x is a
    longitude."""
    share = np.linspace(-_GROWN, 1 + _GROWN, _SAMPLES)
    col, row = (values.ravel() for values in np.meshgrid(share * grid.width, share * grid.height))
    x, y = (np.asarray(values, float) for values in back(*(grid.transform * (col, row))))
    known = np.isfinite(x) & np.isfinite(y)
    within = (np.abs(col / grid.width - 0.5) <= 0.5) & (np.abs(row / grid.height - 0.5) <= 0.5)
    parsed = parse_crs(crs.crs)
    if parsed is None or not is_angular(parsed):
        if not known[within].all():
            return np.full(2, -np.inf), np.full(2, np.inf), None
        return np.array([x[known].min(), y[known].min()]), np.array([x[known].max(), y[known].max()]), None
    degree = 1 / math.degrees(parsed.axis_info[0].unit_conversion_factor)
    turn, pole = 360 * degree, 90 * degree
    middle = float(x[known][known[known].size // 2]) if known.any() else 0.0
    whole = not known[within].all() or _holds_a_pole(grid, to_xy, pole)
    off = (x[known] - middle + turn / 2) % turn - turn / 2
    if whole or np.ptp(off) > 0.75 * turn:
        left, right = middle - turn / 2, middle + turn / 2
    else:
        left, right = middle + off.min(), middle + off.max()
    bottom, top = (-pole, pole) if whole else (max(-pole, y[known].min()), min(pole, y[known].max()))
    return np.array([left, bottom]), np.array([right, top]), turn


def _holds_a_pole(grid: Grid, to_xy: ToLonLat, pole: float) -> bool:
    """Whether a pole is on the raster or near it."""
    x, y = (np.asarray(values, float) for values in to_xy(np.zeros(2), np.array([pole, -pole])))
    with np.errstate(invalid="ignore"):
        col, row = ~grid.transform * (x, y)
    near = [np.abs(at / size - 0.5) <= 0.5 + _GROWN for at, size in ((col, grid.width), (row, grid.height))]
    return bool((near[0] & near[1]).any())


def _cut_at(starts: np.ndarray, ends: np.ndarray, axis: int, borders: tuple[float, float]
            ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Edges cut where they cross two borders, with what is beyond pushed onto them; and which edge each comes from."""
    kept = np.arange(len(starts))
    for border in borders:
        a, b = starts[:, axis], ends[:, axis]
        crossing = np.flatnonzero((a < border) != (b < border)) if np.isfinite(border) else kept[:0]
        share = (border - a[crossing]) / (b[crossing] - a[crossing])
        middle = starts[crossing] + share[:, None] * (ends[crossing] - starts[crossing])
        middle[:, axis] = border
        starts = np.insert(starts, crossing + 1, middle, 0)
        ends = np.insert(ends, crossing, middle, 0)
        kept = np.insert(kept, crossing + 1, kept[crossing])
    starts[:, axis], ends[:, axis] = (points[:, axis].clip(*borders) for points in (starts, ends))
    moved = (starts != ends).any(1)
    return starts[moved], ends[moved], kept[moved]


def _in_pieces(starts: np.ndarray, ends: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Edges cut into so many equal pieces; and which edge each comes from."""
    kept = np.repeat(np.arange(len(starts)), counts)
    number = np.arange(len(kept)) - np.repeat(np.cumsum(counts) - counts, counts)
    shares = [((number + k) / counts[kept])[:, None] for k in (0, 1)]
    cuts = [starts[kept] * (1 - share) + ends[kept] * share for share in shares]
    return *cuts, kept


def _straightened(starts: np.ndarray, ends: np.ndarray, to_pixels: ToPixels, period: float | None, path: str
                  ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Edges as pieces that are straight on the pixels, in their order: both ends (M,2) of columns and rows, and which
    edge each is of.

    Where columns come round, the second end is brought within half a turn of the first.
    """
    kept, at = np.arange(len(starts)), np.zeros(len(starts))
    one, other = to_pixels(starts), to_pixels(ends)
    found: list[tuple[np.ndarray, ...]] = []
    done = 0
    for depth in range(_DEEPEST):
        if not (np.isfinite(one).all() and np.isfinite(other).all()):
            raise RasterError(f"The polygons of {path} reach where the raster's CRS does not: cut them to its area "
                              "first.")
        other = _near(other, one, period)
        error, middles = np.zeros(len(one)), starts
        for share in (0.25, 0.75, 0.5):
            middles = starts + share * (ends - starts)
            seen = _near(to_pixels(middles), one, period)
            off = np.hypot(*(seen - one - share * (other - one)).T)
            error = np.maximum(error, np.where(np.isfinite(off), off, np.inf))
        bent = error > TOLERANCE_PX if depth + 1 < _DEEPEST else np.zeros(len(one), bool)
        found.append((one[~bent], other[~bent], kept[~bent], at[~bent]))
        done += len(one)
        if not bent.any():
            break
        if done + 2 * bent.sum() > _MOST_EDGES:
            raise RasterError(f"The polygons of {path} bend into more than {_MOST_EDGES} edges on the raster's pixels: "
                              "simplify them, or give them in the raster's CRS.")
        starts, ends = (np.concatenate(pair) for pair in ((starts[bent], middles[bent]), (middles[bent], ends[bent])))
        one, other = (np.concatenate(pair) for pair in ((one[bent], seen[bent]), (seen[bent], other[bent])))
        kept, at = np.tile(kept[bent], 2), np.concatenate([at[bent], at[bent] + 0.5 ** (depth + 1)])
    one, other, kept, at = (np.concatenate(parts) for parts in zip(*found))
    order = np.lexsort((at, kept))
    return one[order], other[order], kept[order]


def _near(points: np.ndarray, others: np.ndarray, period: float | None) -> np.ndarray:
    """Points whose columns are shifted to within half a turn of others'."""
    if not period:
        return points
    turns = np.round((points[:, 0] - others[:, 0]) / period)
    return np.stack([points[:, 0] - period * turns, points[:, 1]], 1)


def _connected(one: np.ndarray, other: np.ndarray, rings: np.ndarray, period: float, path: str
               ) -> tuple[np.ndarray, np.ndarray]:
    """Edges of rings, each brought by whole turns to where the one before ends.

    Raises:
        RasterError: for a ring that does not come back to its beginning: it goes round a pole.
    """
    begins = np.flatnonzero(np.diff(rings, prepend=-1))
    jumps = np.round((np.roll(other[:, 0], 1) - one[:, 0]) / period)
    jumps[begins] = 0
    turns = np.cumsum(jumps)
    turns -= np.repeat(turns[begins], np.diff(np.append(begins, len(rings))))
    one, other = (np.stack([points[:, 0] + period * turns, points[:, 1]], 1) for points in (one, other))
    last = np.append(begins[1:], len(rings)) - 1
    if len(rings) and (np.abs(other[last, 0] - one[begins, 0]) > period / 2).any():
        raise RasterError(f"A polygon of {path} goes round a pole, which is a line in the raster's CRS: give it in "
                          "longitude and latitude, with the pole's latitude as an edge.")
    return one, other


def _all_round(one: np.ndarray, other: np.ndarray, owners: np.ndarray, period: float, width: int
               ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Edges on every turn of the columns that the raster has a part of; each turn has polygons of its own."""
    if not len(one):
        return one, other, owners
    cols = np.concatenate([one[:, 0], other[:, 0]])
    turns = range(-math.floor(cols.max() / period), math.floor((width - cols.min()) / period) + 1)
    shifts = [np.array([k * period, 0]) for k in turns]
    one, other = (np.concatenate([points[:0], *(points + shift for shift in shifts)]) for points in (one, other))
    return one, other, np.concatenate([owners[:0], *(owners * len(turns) + k for k in range(len(turns)))])


def _edges(one: np.ndarray, other: np.ndarray, owners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Edges that are not level, the upper end first."""
    one, other = (np.round(points * _LATTICE) / _LATTICE for points in (one, other))
    down, sloping = (one[:, 1] < other[:, 1])[:, None], one[:, 1] != other[:, 1]
    edges = np.concatenate([np.where(down, one, other), np.where(down, other, one)], 1)[sloping]
    return np.ascontiguousarray(edges.T), owners[sloping]
