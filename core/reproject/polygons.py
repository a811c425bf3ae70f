"""Polygons of a vector file, which anybody may have written, in the CRS that they have.

GeoJSON is read here; GeoPackages, Shapefiles and FlatGeobuf files by pyogrio, where it is installed.
"""

import hashlib
import math
import os
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..documents import parse_json, read_text
from ..errors import RasterError, shorten
from ..grid import Grid, is_angular, parse_crs
from ..raster.security_sqlite import check_geopackage
from .target_grid import named_crs

_JSON_BYTES, _FILE_BYTES, _VERTICES = 64 << 20, 1 << 30, 1_000_000
_MOST_DEGREES = 720.0
_KINDS = "polygons and multipolygons are taken"
_NAME = re.compile(r"urn:ogc:def:crs:[\w.]+:[\w.]*:\w+|[A-Za-z]\w*:\w+")
"""CRSs by their code only: PROJ takes other texts for names of files."""


@dataclass(frozen=True, eq=False)
class Polygons:
    """The polygons of a file: rings of vertices. A point is inside a polygon where a line to it from afar crosses its
    rings an odd number of times (the even-odd rule, also for rings that cross themselves), and inside all where it is
    inside any."""

    path: str
    rings: tuple[np.ndarray, ...]
    """Each (n,2) of x and y, the first vertex not repeated."""
    owners: tuple[int, ...]
    """For each ring, the number of its polygon, from 0."""
    crs: Grid | None
    """Of the vertices, see `named_crs`; None: east longitude and latitude on the body of the raster that they are
    laid on, with its kind of latitude."""

    @property
    def count(self) -> int:
        """How many polygons there are."""
        return self.owners[-1] + 1

    @property
    def sha256(self) -> str:
        """Of all that a raster's pixels depend on; where the file stands is no part of it."""
        found = hashlib.sha256(repr((self.owners, [len(ring) for ring in self.rings], self.crs)).encode())
        for ring in self.rings:
            found.update(ring.astype("<f8").tobytes())
        return found.hexdigest()

    def crs_on(self, grid: Grid) -> Grid:
        """The CRS of the vertices where they are laid on a raster, as a grid without pixels.

        Raises:
            RasterError: where the raster has no CRS, so that nobody knows where it is, or shows another body.
        """
        crs = parse_crs(grid.crs)
        if crs is None:
            raise RasterError(f"The raster has no CRS, so the polygons of {self.path} have no place on it: assign one "
                              "first, for example with gdal_edit -a_srs.")
        base = crs if is_angular(crs) else crs.geodetic_crs
        if self.crs:
            found = self.crs
        elif grid.body == "Earth" or base is None:
            found = named_crs("OGC:CRS84")
        else:
            found = Grid(base.to_wkt("WKT2_2019"), grid.transform, 0, 0, grid.latitude, "east")
        if found.body != grid.body:
            raise RasterError(f"The polygons of {self.path} are on {found.body or 'no known body'}, and the raster "
                              f"shows {grid.body or 'no known body'}: give polygons in a CRS of the raster's body.")
        return found


def read_polygons(path: str | os.PathLike) -> Polygons:
    """Reads a GeoJSON, GeoPackage, Shapefile or FlatGeobuf file of polygons.

    The CRS of a GeoJSON is longitude and latitude (RFC 7946), or what its "crs" member names, as GeoJSON of 2008 has
    it. No code of the file runs, and it is read within limits: 64 MiB of GeoJSON or 1 GiB of another format, and a
    million vertices.

    Raises:
        RasterError: for a file that cannot be read, is too large, or holds no polygon or something else besides.
    """
    name = os.path.abspath(path)
    try:
        with open(name, "rb") if os.path.isfile(name) else _no_file(name) as file:
            head = file.read(64)
        if head.startswith(b"SQLite format 3\0"):
            check_geopackage(name, os.fspath(path))
        elif not head.startswith((b"\0\0\x27\x0a", b"fgb\x03")):
            if not head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{"):
                raise ValueError("it is not a GeoJSON, GeoPackage, Shapefile or FlatGeobuf file")
            return _collected(os.fspath(path), *_read_geojson(Path(name)))
        return _collected(os.fspath(path), *_read_with_pyogrio(name))
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise RasterError(f"{os.fspath(path)} cannot be taken as a cutline: {why}.",
                          remedy="Give polygons, as ogr2ogr cutline.geojson FILE LAYER writes them.") from error


def _no_file(name: str):
    raise ValueError("it is not a plain file" if os.path.lexists(name) else "it does not exist")


def _collected(path: str, polygons: Iterator[list[np.ndarray]], crs: Grid | None) -> Polygons:
    """Polygons that come one by one, each a list of rings."""
    rings, owners, vertices = [], [], 0
    for owner, found in enumerate(polygons):
        rings += found
        owners += [owner] * len(found)
        vertices += sum(map(len, found))
        if vertices > _VERTICES:
            raise ValueError(f"it has more than {_VERTICES} vertices; simplify it first")
    if not rings:
        raise ValueError("it holds no polygon")
    low, high = (getattr(np, name)([getattr(ring, name)(0) for ring in rings], 0) for name in ("min", "max"))
    if not (np.isfinite(low) & np.isfinite(high)).all():
        raise ValueError("it has a vertex that is not a number")
    if (crs is None or is_angular(parse_crs(crs.crs))) and not _are_degrees(low, high, crs):
        raise ValueError(f"its coordinates, {low[0]:g} to {high[0]:g} and {low[1]:g} to {high[1]:g}, are not "
                         "longitudes and latitudes" + ("" if crs else ", which GeoJSON without a \"crs\" holds"))
    return Polygons(path, tuple(rings), tuple(owners), crs)


def _are_degrees(low: np.ndarray, high: np.ndarray, crs: Grid | None) -> bool:
    known = parse_crs(crs.crs) if crs else None
    unit = math.degrees(known.axis_info[0].unit_conversion_factor) if known else 1.0
    x, y = (unit * max(abs(low[k]), abs(high[k])) for k in (0, 1))
    return x <= _MOST_DEGREES and y <= 90 * (1 + 1e-9)


def _read_geojson(path: Path) -> tuple[Iterator[list[np.ndarray]], Grid | None]:
    content = parse_json(read_text(path, _JSON_BYTES).removeprefix("\ufeff"))
    crs = content.get("crs")
    return _geojson_polygons(content), None if crs is None else _named(crs)


def _named(crs: Any) -> Grid:
    """What a "crs" member of 2008 names."""
    properties = crs.get("properties") if isinstance(crs, dict) and crs.get("type") == "name" else None
    name = properties.get("name") if isinstance(properties, dict) else None
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"its \"crs\", {shorten(repr(crs))}, does not name a CRS as EPSG:32631 or "
                         "urn:ogc:def:crs:EPSG::32631 does")
    return named_crs(name)


def _geojson_polygons(content: Any) -> Iterator[list[np.ndarray]]:
    waiting = [content]
    while waiting:
        item = waiting.pop()
        kind = item.get("type") if isinstance(item, dict) else None
        if kind == "Feature":
            waiting += [item["geometry"]] if item.get("geometry") is not None else []
        elif kind in _MEMBERS:
            members = item.get(_MEMBERS[kind])
            if not isinstance(members, list):
                raise ValueError(f"a {kind} of it has no list of {_MEMBERS[kind]}")
            if kind == "Polygon":
                yield from [[_ring(ring) for ring in members]] if members else []
            elif kind == "MultiPolygon":
                waiting += [{"type": "Polygon", "coordinates": part} for part in reversed(members)]
            else:
                waiting += reversed(members)
        else:
            raise ValueError(f"it holds {shorten(repr(kind or item))}, and {_KINDS}")


_MEMBERS = {"FeatureCollection": "features", "GeometryCollection": "geometries", "Polygon": "coordinates",
            "MultiPolygon": "coordinates"}


def _ring(positions: Any) -> np.ndarray:
    """(n,2), whatever stands behind x and y."""
    if not isinstance(positions, list) or not all(
            isinstance(p, list) and len(p) >= 2 and type(p[0]) in (int, float) and type(p[1]) in (int, float)
            for p in positions):
        raise ValueError("a ring of it is not a list of positions of two numbers")
    return _open(np.array([p[:2] for p in positions], float).reshape(-1, 2))


def _open(ring: np.ndarray) -> np.ndarray:
    """A ring without its first vertex at its end."""
    ring = ring[:-1] if len(ring) and (ring[0] == ring[-1]).all() else ring
    if len(ring) < 3:
        raise ValueError("a ring of it has fewer than three vertices")
    return ring


def _read_with_pyogrio(name: str) -> tuple[Iterator[list[np.ndarray]], Grid | None]:
    try:
        import pyogrio
    except ImportError as error:
        raise RasterError(f"{name} needs a further package to be read (pyogrio is missing): pip install "
                          "'geoi2i[vector]', or give GeoJSON.") from error
    import shapely

    stem = os.path.splitext(name)[0]
    size = sum(os.path.getsize(each) for each in {name, f"{stem}.shx", f"{stem}.dbf"} if os.path.isfile(each))
    if size > _FILE_BYTES:
        raise ValueError(f"it is longer than {_FILE_BYTES} bytes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is odd in the file and does not matter
            layers = [layer for layer, kind in pyogrio.list_layers(name) if kind is not None]
            if len(layers) != 1:
                raise ValueError(f"it has {len(layers)} layers with geometries, and one is taken "
                                 f"({shorten(', '.join(map(str, layers)))})" if layers else
                                 "it has no layer with geometries")
            about, _, geometries, _ = pyogrio.raw.read(name, layer=layers[0], columns=[], force_2d=True)
            shapes = shapely.from_wkb(geometries)
    except (RuntimeError, NameError, shapely.errors.ShapelyError) as error:  # NameError: a CRS that GDAL cannot write
        raise ValueError(f"it is damaged ({shorten(str(error))})") from error
    if not about["crs"]:
        raise ValueError("its CRS is unknown; assign one with ogr2ogr -a_srs")
    return _shapely_polygons([shape for shape in shapes if shape is not None]), named_crs(about["crs"])


def _shapely_polygons(shapes: list) -> Iterator[list[np.ndarray]]:
    import shapely

    waiting = shapes[::-1]
    while waiting:
        shape = waiting.pop()
        if shape.is_empty:
            continue
        if shape.geom_type == "Polygon":
            yield [_open(shapely.get_coordinates(ring)) for ring in shapely.get_rings(shape)]
        elif shape.geom_type in ("MultiPolygon", "GeometryCollection"):
            waiting += list(shape.geoms)[::-1]
        else:
            raise ValueError(f"it holds a {shape.geom_type}, and {_KINDS}")
