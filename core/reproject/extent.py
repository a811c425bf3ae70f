"""What a raster covers in another CRS, and how large its pixels are there.

Where the raster meets no seam of that CRS, both are as gdalwarp suggests them. Where it does, longitudes run on over
the seam: a raster that goes round covers the whole turn, as one does that begins at the seam; another covers what lies
around its own centre. What a projection throws to infinity is cut at its area of use.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from affine import Affine
from pyproj import CRS

from ..errors import RasterError
from ..grid import Grid, angular_convention, is_angular, parse_crs
from .coordinates import Turn, between, crs_of, geographic, horizontal, is_lonlat, period_of, turn_of
from .view import Bounds, Cuts, View, bounds_around, pixels

_POINTS, _MANY_POINTS = 21, 181
"""Along an edge: as many as gdalwarp looks at, and where a seam is met."""
_LARGEST = 2.0
"""Circumferences of the body that no side of a map is as long as, unless the projection throws a pole to infinity."""
_CLOSER, _HAIR_PX = 5, 1e-6


def covered(source: Grid, target: Grid, within: Bounds | None = None) -> tuple[Bounds, float]:
    """The bounds of a raster in another CRS, and the side of its pixels there.

    Args:
        target: the CRS; see `named_crs`.
        within: what is wanted of it, in the target's units: where pixels differ endlessly in size, those here count.

    Raises:
        RasterError: where the raster does not fit into the CRS.
    """
    crs = horizontal(parse_crs(target.crs))
    turn = turn_of(crs)
    view = View(source, between(source, target), between(target, source), turn)
    x, y = view.places(*view.mesh(_POINTS))
    plain = bounds_around(x, y)
    endless, lost = not _is_sane(plain, crs), turn is not None and not is_angular(crs) and np.isnan(y).any()
    if endless or (lost and crs.area_of_use is not None):
        return _used(view, target, crs, within)
    poles = _poles_inside(source, target, crs)
    if poles and turn:  # every longitude is there
        size = view.chord(plain)
        if goes_round(source):
            plain, size = _all_round(view)
        whole = _whole_turn(turn, [plain[1], plain[3], *(y for _, y in poles)])
        return (whole, size) if _is_sane(whole, crs) else _used(view, target, crs, within)
    cuts = Cuts.of(view, x, y)
    round_ = goes_round(source)
    beyond = [(x, y) for x, y in poles if math.isfinite(x + y)
              and not (plain[0] <= x <= plain[2] and plain[1] <= y <= plain[3])]
    if not (cuts or beyond or (round_ and _closes(x, y))):
        return plain, view.chord(plain)
    if turn:
        return _round_turn(view, turn, y) if round_ else _unwrapped(view, turn, x)
    if (period := period_of(source)) and round_ and cuts.along_meridian(period):
        view = replace(view, source=_begun(source, period, cuts))
        bounds = bounds_around(*view.places(*view.mesh(_MANY_POINTS)))
        return bounds, view.chord(bounds)
    bounds, size = _all_round(view)
    return bounds_around(*np.array([bounds[:2], bounds[2:], *beyond]).T), size


def goes_round(grid: Grid) -> bool:
    """Whether a raster meets itself at its seam."""
    period = period_of(grid)
    return period is not None and grid.width >= period - 0.5


def facing(grid: Grid, bounds: Bounds) -> Grid:
    """The same pixels, so counted that bounds in the grid's CRS lie among them as far as they can: by whole turns of
    the longitude, or, for a raster that goes round and has its seam in the bounds, from another column on."""
    period = period_of(grid)
    turn = turn_of(crs_of(grid)) if period is not None else None
    if period is None or turn is None:
        return grid
    cols = [(~grid.transform * (x, bounds[1]))[0] for x in bounds[::2]]
    left, right = min(cols) + _HAIR_PX, max(cols) - _HAIR_PX
    if left >= 0 and right <= grid.width:
        return grid
    if goes_round(grid):
        turns, begin = divmod(math.floor(left), period)
        begin = begin if left - turns * period >= 0 and right - turns * period > grid.width else 0
    else:
        turns, begin = round(((left + right) - grid.width) / 2 / period), 0
    shift = Affine.translation(math.copysign(turn.width, grid.transform.a) * turns, 0)
    return replace(grid, transform=shift @ grid.transform @ Affine.translation(begin, 0))


def _is_sane(bounds: Bounds, crs: CRS) -> bool:
    """Whether bounds are not larger than a map of the whole body can be."""
    if is_angular(crs) or crs.ellipsoid is None:
        return True
    around = 2 * math.pi * crs.ellipsoid.semi_major_metre / crs.axis_info[0].unit_conversion_factor
    return max(bounds[2] - bounds[0], bounds[3] - bounds[1]) <= _LARGEST * around


def _whole_turn(turn: Turn, y: np.ndarray | list[float]) -> Bounds:
    return turn.middle - turn.width / 2, float(np.min(y)), turn.middle + turn.width / 2, float(np.max(y))


def _all_round(view: View) -> tuple[Bounds, float]:
    """Of a raster that a seam cuts anyhow, or whose ends meet without one: as far as any of it is."""
    many = view.mesh(_MANY_POINTS)
    x, y = _reached(view, *many)
    sides = view.places(*Cuts.of(view, x, y).sides())
    found = [sides, *_extremes(view, many, (x, y))]
    bounds = bounds_around(*(np.concatenate([values.ravel() for values in column]) for column in zip((x, y), *found)))
    return bounds, view.scale(*many, bounds)


def _reached(view: View, col: np.ndarray, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places of pixel positions; NaN also for those that some projections make up near the ends of their reach."""
    x, y = view.places(col, row)
    back_col, back_row = pixels(view.source, view.backward, x, y)
    right = back_col - col
    if period := period_of(view.source):
        right -= period * np.round(right / period)
    there = np.hypot(right, back_row - row) < 0.5
    return np.where(there, x, np.nan), np.where(there, y, np.nan)


def _extremes(view: View, mesh: tuple[np.ndarray, np.ndarray], places: tuple[np.ndarray, np.ndarray]
              ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """More places around the outermost ones of a mesh, ever closer: opposite its middle a projection tears a point."""
    near = np.linspace(-1, 1, _POINTS)
    for axis, sign in itertools.product((0, 1), (-1, 1)):
        (col, row), found = mesh, places
        across, down = view.source.width / _MANY_POINTS, view.source.height / _MANY_POINTS
        for _ in range(_CLOSER):
            if not np.isfinite(found[axis]).any():
                break
            at = np.nanargmax(sign * found[axis])
            col, row = np.meshgrid((col.flat[at] + near * across).clip(0, view.source.width),
                                   (row.flat[at] + near * down).clip(0, view.source.height))
            found = _reached(view, col, row)
            yield found
            across, down = across / _CLOSER, down / _CLOSER


def _round_turn(view: View, turn: Turn, y: np.ndarray) -> tuple[Bounds, float]:
    """Of a raster that goes round, in a CRS that does."""
    source = view.source
    if not np.ptp(y, axis=1).max() < 1e-6 * turn.width:  # around another pole, or beyond what the projection reaches
        bounds, size = _all_round(view)
        return _whole_turn(turn, [bounds[1], bounds[3]]), size
    across = turn.width * source.width / (period_of(source) or source.width)
    return _whole_turn(turn, y), math.hypot(across, y[-1, 0] - y[0, 0]) / math.hypot(source.width, source.height)


def _unwrapped(view: View, turn: Turn, x: np.ndarray) -> tuple[Bounds, float]:
    """Of a raster over the seam of a CRS that goes round: around its own centre."""
    middle, _ = view.places(np.array([view.source.width / 2]), np.array([view.source.height / 2]))
    view = replace(view, middle=float(middle[0]) if np.isfinite(middle[0]) else float(np.nanmedian(x)))
    x, y = view.places(*view.mesh(_MANY_POINTS))
    bounds = bounds_around(x, y)
    size = view.chord(bounds)
    if bounds[2] - bounds[0] > turn.width - size:
        bounds = _whole_turn(turn, [bounds[1], bounds[3]])
    return bounds, size


def _poles_inside(source: Grid, target: Grid, crs: CRS) -> list[tuple[float, float]]:
    """The places, perhaps infinite, of the poles that a raster has in its midst; in longitudes they are an edge."""
    if is_lonlat(horizontal(parse_crs(source.crs))) and not (is_angular(crs) and crs.is_derived):
        return []
    globe = target if is_angular(crs) else _globe(crs)
    unit = 1 / math.degrees(horizontal(parse_crs(globe.crs)).axis_info[0].unit_conversion_factor)
    to_source, to_target = between(globe, source), between(globe, target)
    found, period = [], period_of(source)
    for pole in (90.0, -90.0):
        col, row = ~source.transform * to_source(0.0, pole * unit)
        col -= period * math.floor(col / period) if period and math.isfinite(col) else 0
        if 0 < col < source.width and 0 < row < source.height:
            place = (0.0, pole * unit) if globe is target else to_target(0.0, pole * unit)
            found.append(place)
    return found


def _globe(crs: CRS) -> Grid:
    """The longitudes and latitudes that a CRS is made from, as a grid without pixels."""
    wkt = geographic(crs).to_wkt("WKT2_2019")
    return Grid(wkt, Affine.identity(), 0, 0, *angular_convention(wkt, {}))


def _closes(x: np.ndarray, y: np.ndarray) -> bool:
    """Whether the ends of most rows of places meet."""
    gap, step = np.hypot(x[:, -1] - x[:, 0], y[:, -1] - y[:, 0]), np.hypot(np.diff(x, axis=1), np.diff(y, axis=1))
    known = np.isfinite(gap) & np.isfinite(step).all(1)
    return bool(known.any()) and bool((gap[known] <= step[known].max(1)).mean() > 0.5)


def _begun(source: Grid, period: float, cuts: Cuts) -> Grid:
    """A raster that goes round, as it is where it begins at the cut; a hair narrower than once round."""
    begin = float(cuts.after[0][0]) % period
    start = min((begin, begin - period), key=lambda col: abs((source.transform * (col + period / 2, 0))[0]))
    # PROJ knows no longitudes beyond 573 degrees.
    return replace(source, transform=source.transform @ Affine.translation(start + _HAIR_PX, 0) @ Affine.scale(
        (period - 2 * _HAIR_PX) / source.width, 1))


# --- areas of use ------------------------------------------------------------------------------------


def _used(view: View, target: Grid, crs: CRS, within: Bounds | None) -> tuple[Bounds, float]:
    """What lies in the CRS's area of use, or in what is wanted.

    Raises:
        RasterError: where PROJ knows no such area, or it is elsewhere.
    """
    if within is not None:
        edge = np.linspace(0, 1, _MANY_POINTS)
        x, y = np.meshgrid(within[0] + edge * (within[2] - within[0]), within[1] + edge * (within[3] - within[1]))
        return within, view.scale(*_inside(view.source, target, x, y), within)
    area = crs.area_of_use
    if area is None or target.body != "Earth":
        raise RasterError(f"{crs.name} throws part of the raster to infinity: say which part is wanted with --bounds.")
    west, south, east, north = area.bounds
    east += 360 * (east <= west)
    lonlat = Grid(CRS("EPSG:4326").to_wkt("WKT2_2019"), Affine.identity(), 0, 0)
    lon, lat = np.meshgrid(np.linspace(west, east, 2 * _MANY_POINTS - 1), np.linspace(south, north, _MANY_POINTS))
    col, row = _inside(view.source, lonlat, lon, lat)
    many = [values.ravel() for values in view.mesh(_MANY_POINTS)]
    lon, lat = (np.where(np.isfinite(v), v, np.nan)
                for v in between(view.source, lonlat)(*(view.source.transform * many)))
    here = (lat >= south) & (lat <= north) & ((lon - west) % 360 <= east - west)
    if view.turn and east - west < 360:
        centre = between(lonlat, target)((west + east) / 2, (south + north) / 2)[0]
        view = replace(view, middle=float(centre) if math.isfinite(centre) else None)
    col, row = np.append(col, many[0][here]), np.append(row, many[1][here])
    if not col.size:
        raise RasterError(f"{crs.name} throws part of the raster to infinity, and nothing of it lies where that CRS is "
                          f"used ({west:g} to {east:g} degrees east, {south:g} to {north:g} north): choose another "
                          "CRS, or say what is wanted with --bounds.")
    bounds = bounds_around(*view.places(col, row))
    return bounds, view.scale(col, row, bounds)


def _inside(source: Grid, given_in: Grid, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Those of some places that lie on a raster, as its pixel positions."""
    col, row = pixels(source, between(given_in, source), x.ravel(), y.ravel())
    if period := period_of(source):
        col = col - period * np.floor(col / period)
    inside = (col >= 0) & (col <= source.width) & (row >= 0) & (row <= source.height)
    return col[inside], row[inside]
