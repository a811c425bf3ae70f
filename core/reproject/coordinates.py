"""From the coordinates of one CRS to those of another: PROJ for the projections, our own care for other planets."""

import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError, ProjError

from ..errors import RasterError
from ..grid import Grid, is_angular, parse_crs

_FLAT = 1 / 150  # from this flattening on, PROJ's inverse projections are not exact

ToLonLat = Callable[[Any, Any], tuple[Any, Any]]
"""Of numbers, or of arrays of one shape."""


def check_crs(source: Grid, target: Grid) -> None:
    """Raises RasterError where one grid has no CRS or one that is not a map's, or they show different bodies."""
    for grid, which in ((source, "source"), (target, "target")):
        crs = parse_crs(grid.crs)
        if crs is None:
            raise RasterError(f"The {which} has no CRS, so it cannot be reprojected: assign one first, "
                              "for example with gdal_edit -a_srs.")
        check_map(crs, f"of the {which}")
    if source.body and target.body and source.body != target.body:
        raise RasterError(f"The source shows {source.body} and the target CRS is for {target.body}: choose a "
                          f"CRS of {source.body}.")


def check_map(crs: CRS, whose: str) -> None:
    """Raises RasterError for a CRS that does not place pixels on the ground: geocentric, vertical, local."""
    flat = horizontal(crs)
    if not (flat.is_projected or (is_angular(flat) and not flat.is_geocentric)):
        raise RasterError(f"The CRS {whose}, {crs.name}, is of the kind {crs.type_name!r}: name a geographic CRS "
                          "(longitude and latitude) or a projected one, for example EPSG:4326.")


def horizontal(crs: CRS) -> CRS:
    """What a CRS says of places on the ground: without heights, and without a way to another datum."""
    if crs.is_compound:
        crs = crs.sub_crs_list[0]
    if crs.is_bound:
        crs = crs.source_crs
    return crs if len(crs.axis_info) <= 2 or crs.is_geocentric else crs.to_2d()


def between(target: Grid, source: Grid) -> ToLonLat:
    """(x, y) of one CRS -> (x, y) of another; infinite where a projection does not reach."""
    if target.body == source.body == "Earth" or target.crs == source.crs:
        if target.crs == source.crs and (target.latitude, target.longitude) == (source.latitude, source.longitude):
            return lambda x, y: (x, y)
        if target.body == "Earth":
            return _transformer(_flat(target), _flat(source), always_xy=True).transform
    # Elsewhere PROJ trips over westward and planetocentric axes: it is asked for the projections only.
    from_target, target_latitude = _to_lonlat(target)
    to_source, source_latitude = _from_lonlat(source)
    turn = _latitude_change(target_latitude, source_latitude, target, source)

    def run(x, y):
        longitude, latitude = from_target(x, y)
        return to_source(longitude, turn(latitude))

    return run


def to_planetocentric(grid: Grid) -> ToLonLat:
    """(x, y) of a grid -> its body's east longitude and planetocentric latitude in degrees, counted from the prime
    meridian of its CRS; not finite where a projection does not reach."""
    to_lonlat, kind = _to_lonlat(grid)
    if kind is None and grid.body == "Earth":  # where nobody writes which it is
        kind = "planetographic"
    turn = _latitude_change(kind, "planetocentric", grid, grid)

    def run(x, y):
        with np.errstate(invalid="ignore"):
            longitude, latitude = to_lonlat(x, y)
            return longitude, turn(np.asarray(latitude))

    return run


def crs_of(grid: Grid) -> CRS:
    """The CRS of a grid that has one, as `check_crs` makes sure."""
    return parse_crs(grid.crs)


def _flat(grid: Grid) -> CRS:
    """The horizontal part of a CRS."""
    parsed = crs_of(grid)
    return parsed.sub_crs_list[0] if parsed.is_compound else parsed.to_2d()


def _transformer(source: CRS | dict, target: CRS | dict, **how) -> Transformer:
    try:
        return Transformer.from_crs(source, target, **how)
    except (ProjError, CRSError) as error:
        names = " to ".join(crs.name if isinstance(crs, CRS) else "its sphere" for crs in (source, target))
        raise RasterError(f"PROJ cannot get from {names} ({error}): choose another CRS, or correct the raster's with "
                          "gdal_edit -a_srs.") from error


def _to_lonlat(grid: Grid) -> tuple[ToLonLat, str | None]:
    """(x, y) -> east longitude and latitude in degrees, and which latitude that is."""
    crs = horizontal(crs_of(grid))
    if is_lonlat(crs):
        unit = math.degrees(crs.axis_info[0].unit_conversion_factor)
        sign = -1 if grid.longitude == "west" else 1
        return (lambda x, y: (sign * unit * x, unit * y)), grid.latitude
    convert, native, latitude = _projection(crs, grid)

    def run(x, y):
        return _lonlat(geographic(crs), *convert(*native(x, y), direction="INVERSE"))

    flattening = 1 / (crs.ellipsoid.inverse_flattening or math.inf)
    exact = flattening < _FLAT or is_angular(crs)  # a turned sphere is turned back exactly
    return (run if exact else _sharpened(run, grid)), latitude


def _sharpened(inverse: ToLonLat, grid: Grid) -> ToLonLat:
    """An inverse projection that agrees with its forward.

    PROJ's inverses are made for the Earth: on Jupiter the equal-area ones are off by 0.002 degrees, and the
    stereographic one gives up between 5 and 55 degrees of latitude. Its forwards are exact, so Newton's method
    closes the gap, from a sphere's inverse where there is none.
    """
    forward = _from_lonlat(grid)[0]
    crs = horizontal(crs_of(grid))
    radius = crs.ellipsoid.semi_major_metre
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a PROJ string loses names, which do not matter here
        plain = {key: value for key, value in crs.to_dict().items() if key not in ("a", "b", "rf", "ellps", "datum")}
    # The same axes and units as the projection: only the figure of the body differs.
    guess = _transformer({"proj": "longlat", "R": radius, "type": "crs"}, {**plain, "R": radius},
                         always_xy=True).transform
    precise, step = 1e-11 * radius, 1e-4

    def run(x, y):
        x, y = np.asarray(x, float), np.asarray(y, float)
        longitude, latitude = (np.array(values, float) for values in inverse(x, y))
        lost = ~(np.isfinite(longitude) & np.isfinite(latitude)) & np.isfinite(x) & np.isfinite(y)
        if lost.any():
            longitude[lost], latitude[lost] = guess(x[lost], y[lost], direction="INVERSE")
        with np.errstate(divide="ignore", invalid="ignore"):
            for _ in range(12):
                right, up = (wanted - found for wanted, found in zip((x, y), forward(longitude, latitude)))
                open_ = np.hypot(right, up) > precise
                if not open_.any():
                    return longitude, latitude
                right, up = right[open_], up[open_]
                lon, lat = longitude[open_], latitude[open_].clip(-90 + 2 * step, 90 - 2 * step)
                east, west, north, south = (forward(lon + a, lat + b) for a, b in (
                    (step, 0), (-step, 0), (0, step), (0, -step)))
                xx, yx = ((e - w) / (2 * step) for e, w in zip(east, west))
                xy, yy = ((n - s) / (2 * step) for n, s in zip(north, south))
                area = xx * yy - xy * yx
                longitude[open_] = lon + (yy * right - xy * up) / area
                latitude[open_] = (lat + (xx * up - yx * right) / area).clip(-90, 90)
        longitude[open_] = latitude[open_] = np.inf
        return longitude, latitude

    return run


def _from_lonlat(grid: Grid) -> tuple[ToLonLat, str | None]:
    """East longitude and latitude in degrees -> (x, y), and which latitude that must be."""
    crs = horizontal(crs_of(grid))
    if is_lonlat(crs):
        unit = math.degrees(crs.axis_info[0].unit_conversion_factor)
        sign = -1 if grid.longitude == "west" else 1
        return (lambda lon, lat: (sign * lon / unit, lat / unit)), grid.latitude
    convert, native, latitude = _projection(crs, grid)

    def run(longitude, latitude):
        return native(*convert(*_lonlat(geographic(crs), longitude, latitude, back=True), direction="FORWARD"))

    return run, latitude


def _projection(crs: CRS, grid: Grid):
    """PROJ's projection in the CRSs' own axes; the swap between those and (x, y); the latitude it takes."""
    base = geographic(crs)
    convert = _transformer(base, crs).transform
    directions = [axis.direction.lower() for axis in crs.axis_info[:2]]
    swapped = directions[0] in ("north", "south") and directions[1] in ("east", "west")
    native = (lambda x, y: (y, x)) if swapped else (lambda x, y: (x, y))
    if not base.is_geographic:
        return convert, native, "planetocentric"
    return convert, native, "planetographic" if base.ellipsoid.inverse_flattening else grid.latitude


def is_lonlat(crs: CRS) -> bool:
    """Whether coordinates are the body's own longitude and latitude, not those of a rotated pole."""
    return is_angular(crs) and not crs.is_derived


def geographic(crs: CRS) -> CRS:
    """The longitudes and latitudes from which a projected or rotated CRS is made."""
    return crs.source_crs if is_angular(crs) else crs.geodetic_crs


def _lonlat(base: CRS, first, second, back: bool = False):
    """The geodetic CRS's own axes -> (east longitude, latitude); `back`: the other way."""
    directions = [axis.direction.lower() for axis in base.axis_info[:2]]
    sign = -1 if "west" in directions else 1
    if directions[0] in ("east", "west"):
        return sign * first, second
    return (second, sign * first) if back else (sign * second, first)


def _latitude_change(have: str | None, wanted: str | None, target: Grid, source: Grid):
    """Planetographic <-> planetocentric on the body's ellipsoid: tan(graphic) = (a/b)^2 tan(centric)."""
    if have is None or wanted is None or have == wanted:
        return lambda latitude: latitude
    ellipsoids = [crs_of(grid).ellipsoid for grid in (target, source)]
    ratio = max((e.semi_major_metre / e.semi_minor_metre) ** 2 for e in ellipsoids)
    factor = ratio if wanted == "planetographic" else 1 / ratio

    def turn(latitude):
        angle = np.radians(latitude)
        return np.degrees(np.arctan2(factor * np.sin(angle), np.cos(angle)))

    return turn


class Turn(NamedTuple):
    """The longitudes of a CRS in which x is proportional to them: they come round."""

    middle: float
    """x of the central meridian."""
    width: float
    """From a meridian once round to itself, in the CRS's units."""


def turn_of(crs: CRS) -> Turn | None:
    """The turn of a geographic or cylindrical CRS; None for others."""
    crs = horizontal(crs)
    if is_angular(crs):
        return Turn(0.0, 360 / math.degrees(crs.axis_info[0].unit_conversion_factor))
    return _cylinder(crs)


def period_of(grid: Grid) -> float | None:
    """Columns after which the longitude comes round, for geographic and cylindrical CRSs on level rows."""
    crs = parse_crs(grid.crs)
    turn = crs and turn_of(crs)
    if not turn:
        return None
    col, row = ~grid.transform * (turn.width, 0)
    start_col, start_row = ~grid.transform * (0, 0)
    if abs(row - start_row) > 1e-6 * abs(col - start_col):
        return None
    period = abs(col - start_col)
    # A global raster meets itself at the seam; its pixel size is often given to a few digits only.
    return float(grid.width) if abs(period - grid.width) < 0.5 else period


def _cylinder(crs: CRS) -> Turn | None:
    try:
        values = {parameter.name: parameter.value for parameter in crs.coordinate_operation.params}
        middle = next((v for name, v in values.items() if name.startswith("Longitude of")), 0.0)
        convert, native, _ = _projection(crs, Grid(None, None, 0, 0))
        longitude = middle + np.array([-90.0, 0, 90, -90, 0, 90])
        latitude = np.array([0.0, 0, 0, 40, 40, 40])
        x, y = native(*convert(*_lonlat(crs.geodetic_crs, longitude, latitude, back=True), direction="FORWARD"))
        if not np.isfinite([x, y]).all():
            return None
    except (AttributeError, CRSError, ProjError, RasterError):
        return None
    half = x[2] - x[0]
    level = np.allclose([y[0], y[2], y[3], y[5]], [y[1], y[1], y[4], y[4]], rtol=0, atol=1e-9 * abs(half))
    steps = np.allclose([x[1] - x[0], x[2] - x[1], x[4] - x[3], x[5] - x[4]], half / 2, rtol=1e-9)
    return Turn(float(x[1]), 2 * float(abs(half))) if level and steps else None
