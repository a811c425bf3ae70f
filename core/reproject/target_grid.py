"""The grid to reproject to: from a CRS, a resolution and bounds, or from another raster, as gdalwarp chooses."""

import difflib
import math
import re
from dataclasses import replace

import numpy as np
from affine import Affine
from pyproj import CRS
from pyproj.database import get_authorities, query_crs_info
from pyproj.exceptions import CRSError

from ..errors import RasterError
from ..grid import Grid, angular_convention, is_angular, parse_crs
from .coordinates import between, check_crs

Bounds = tuple[float, float, float, float]
"""xmin, ymin, xmax, ymax."""

_MOST_PX = 2**31 - 1
_EDGE_POINTS = 21


def named_crs(text: str) -> Grid:
    """A CRS by code (EPSG, ESRI, IAU_2015), WKT or PROJ string, as a grid without pixels.

    Raises:
        RasterError: for a CRS that PROJ does not know, with the nearest names.
    """
    try:
        wkt = CRS.from_user_input(text).to_wkt("WKT2_2019")
    except (CRSError, UnicodeError) as error:
        near = _nearest(text)
        hint = f"Did you mean {' or '.join(near)}?" if near else "Give a code such as EPSG:32631, WKT or a PROJ string."
        raise RasterError(f"{text!r} is not a CRS that PROJ knows. {hint}") from error
    return Grid(wkt, Affine.identity(), 0, 0, *angular_convention(wkt, {}))


def _nearest(text: str) -> list[str]:
    """Codes and names like a misspelt one."""
    code = re.fullmatch(r"\s*([A-Za-z_0-9]+)\s*:+\s*([A-Za-z0-9]+)\s*", text)
    if code:
        authorities = [a for a in get_authorities() if a not in ("PROJ", "OGC")]
        likely = difflib.get_close_matches(code[1].upper(), authorities, 2, 0.5)
        known = {(info.auth_name, info.code): info.name for info in query_crs_info()}
        exact = [f"{a}:{code[2]} ({known[a, code[2]]})" for a in likely if (a, code[2]) in known]
        if exact:
            return exact
        codes = [c for a, c in known if a in likely]
        return [f"{a}:{c} ({known[a, c]})" for c in difflib.get_close_matches(code[2], codes, 2, 0.6)
                for a in likely if (a, c) in known][:3]
    names = {info.name: f"{info.auth_name}:{info.code} ({info.name})" for info in query_crs_info()}
    return [names[name] for name in difflib.get_close_matches(text, names, 3, 0.5)]


def target_grid(source: Grid, target: Grid, resolution: tuple[float, float] | None = None,
                bounds: Bounds | None = None) -> Grid:
    """The pixels of a raster in another CRS: north up, all of it, about as many pixels along the diagonal.

    Args:
        target: the CRS; see `named_crs`.
        resolution: width and height of a pixel in the CRS's units.
        bounds: in the CRS's units.

    Raises:
        RasterError: for a resolution that is not positive, empty bounds, and a raster that does not fit into
            the CRS.
    """
    check_crs(source, target)
    if resolution is not None and not all(math.isfinite(r) and r > 0 for r in resolution):
        raise RasterError(f"--resolution must be positive (got {' x '.join(f'{r:g}' for r in resolution)}), in "
                          "the target CRS's units.")
    if bounds is not None and not (bounds[0] < bounds[2] and bounds[1] < bounds[3]):
        raise RasterError(f"The bounds {bounds} are empty: give xmin ymin xmax ymax.")
    whole = _bounds(source, target) if bounds is None or resolution is None else bounds
    xmin, ymin, xmax, ymax = bounds or whole
    if resolution is None:
        size = _pixel_size(source, target, whole)
        width, height = (max(1, int((b - a + size / 2) / size)) for a, b in ((xmin, xmax), (ymin, ymax)))
        across, down = ((xmax - xmin) / width, (ymax - ymin) / height) if bounds else (size, size)
    else:
        across, down = resolution
        width, height = (max(1, int((b - a + r / 2) / r)) for a, b, r in ((xmin, xmax, across), (ymin, ymax, down)))
    if max(width, height) > _MOST_PX:
        raise RasterError(f"Pixels of {across:g} x {down:g} would be {width:g} x {height:g} of them, and a GeoTIFF "
                          f"holds {_MOST_PX} across: choose coarser pixels or smaller bounds.")
    return replace(target, transform=Affine(across, 0, xmin, 0, -down, ymax), height=height, width=width)


def with_pixel_size(grid: Grid, pixel_size_m: float) -> Grid:
    """The same ground in pixels of another size, or of nearly that size, so that whole pixels cover it exactly.

    Raises:
        RasterError: where the ground size of the grid's pixels is unknown.
    """
    if not grid.pixel_size_m:
        raise RasterError("The raster has no CRS, so its pixel size is unknown: assign one first, for example with "
                          "gdal_edit -a_srs.")
    factor = grid.pixel_size_m / pixel_size_m
    height, width = (max(1, round(size * factor)) for size in (grid.height, grid.width))
    scale = Affine.scale(grid.width / width, grid.height / height)
    return replace(grid, transform=grid.transform @ scale, height=height, width=width)


def bounds_between(bounds: Bounds, given_in: Grid, target: Grid) -> Bounds:
    """Bounds in one CRS as the smallest ones around them in another."""
    xmin, ymin, xmax, ymax = bounds
    edge = np.linspace(0, 1, _EDGE_POINTS)
    x, y = (v.ravel() for v in np.meshgrid(xmin + edge * (xmax - xmin), ymin + edge * (ymax - ymin)))
    return _around(*between(given_in, target)(x, y), f"The bounds {bounds} do not fit into the target CRS.")


def _bounds(source: Grid, target: Grid) -> Bounds:
    """What a raster covers in another CRS."""
    edge = np.linspace(0, 1, _EDGE_POINTS)
    col, row = (v.ravel() for v in np.meshgrid(edge * source.width, edge * source.height))
    x, y = between(source, target)(*(source.transform * (col, row)))
    found = _around(x, y, "The raster does not fit into the target CRS: choose one that reaches it.")
    return _with_poles(found, source, target)


def _pixel_size(source: Grid, target: Grid, bounds: Bounds) -> float:
    """That which keeps the number of pixels along the raster's diagonal, as GDAL suggests it."""
    col, row = np.array([0.0, source.width, source.width, 0]), np.array([0.0, source.height, 0, source.height])
    x, y = between(source, target)(*(source.transform * (col, row)))
    diagonals = [math.hypot(x[k + 1] - x[k], y[k + 1] - y[k]) for k in (0, 2)]
    longest = next((d for d in diagonals if math.isfinite(d) and d > 0), math.dist(bounds[:2], bounds[2:]))
    return longest / math.hypot(source.width, source.height)


def _around(x, y, sentence: str) -> Bounds:
    known = np.isfinite(x) & np.isfinite(y)
    if not known.any():
        raise RasterError(sentence)
    return float(x[known].min()), float(y[known].min()), float(x[known].max()), float(y[known].max())


def _with_poles(bounds: Bounds, source: Grid, target: Grid) -> Bounds:
    """The whole turn, up to the pole, where a raster in a polar projection has a pole inside."""
    crs = parse_crs(target.crs)
    if crs is None or not is_angular(crs) or is_angular(parse_crs(source.crs)):
        return bounds
    unit = 1 / math.degrees(crs.axis_info[0].unit_conversion_factor)
    to_source, back = between(target, source), ~source.transform
    for pole in (90.0, -90.0):
        col, row = back * to_source(0.0, pole * unit)
        if 0 < col < source.width and 0 < row < source.height:
            bounds = (-180 * unit, min(bounds[1], pole * unit), 180 * unit, max(bounds[3], pole * unit))
    return bounds
