"""Where pixels are: CRS, affine transform, size, and the angular convention of a planet.

Convention: pixel (row, col) covers [col, col+1] x [row, row+1]; `transform * (col, row)` is its corner.
"""

import math
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np
from affine import Affine
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError, ProjError

from .errors import RasterError

LatitudeType = Literal["planetocentric", "planetographic"]
LongitudeDirection = Literal["east", "west"]

# Equatorial radii in metres (IAU WGCCRE 2015, rounded); a body is recognised within 0.5 %.
BODIES = {
    "Mercury": 2_440_530, "Venus": 6_051_800, "Earth": 6_378_137, "Moon": 1_737_400, "Mars": 3_396_190,
    "Jupiter": 71_492_000, "Io": 1_829_400, "Europa": 1_562_600, "Ganymede": 2_631_200,
    "Callisto": 2_410_300, "Saturn": 60_268_000, "Titan": 2_575_150, "Enceladus": 256_600,
    "Uranus": 25_559_000, "Neptune": 24_764_000, "Triton": 1_352_600, "Pluto": 1_188_300,
    "Ceres": 487_300,
}


@dataclass(frozen=True)
class Window:
    """A rectangle of pixels; may reach beyond the raster."""

    row: int
    col: int
    height: int
    width: int


@dataclass(frozen=True)
class Grid:
    """The pixel grid of a raster.

    `latitude` and `longitude` say what the angles of a geographic or planetary CRS mean; a GeoTIFF
    cannot hold them (planetocentric and planetographic codes read back as the same plain CRS), so
    they are carried here and written beside the raster.
    """

    crs: str | None
    """WKT2, or None where the raster has no CRS."""
    transform: Affine
    height: int
    width: int
    latitude: LatitudeType | None = None
    longitude: LongitudeDirection | None = None

    @property
    def body(self) -> str | None:
        """Name of the celestial body, from the ellipsoid's equatorial radius."""
        crs = parse_crs(self.crs)
        if crs is None or crs.ellipsoid is None:
            return None
        radius = crs.ellipsoid.semi_major_metre
        name, known = min(BODIES.items(), key=lambda item: abs(item[1] - radius))
        return name if abs(known - radius) <= 0.005 * known else crs.ellipsoid.name

    @property
    def pixel_size_m(self) -> float | None:
        """Ground size of a pixel in metres: the root of its area; degrees count along a meridian."""
        crs = parse_crs(self.crs)
        if crs is None:
            return None
        size = math.sqrt(abs(self.transform.determinant))
        factor = crs.axis_info[0].unit_conversion_factor if crs.axis_info else 1.0
        if is_angular(crs):
            factor *= crs.ellipsoid.semi_major_metre if crs.ellipsoid else 6_378_137.0
        return size * factor

    def crop(self, window: Window) -> "Grid":
        """The grid of a window of this one."""
        corner = self.transform * Affine.translation(window.col, window.row)
        return replace(self, transform=corner, height=window.height, width=window.width)

    def matches(self, other: "Grid", tolerance_px: float = 1e-3) -> bool:
        """Whether both grids put every pixel in the same place."""
        if (self.height, self.width) != (other.height, other.width):
            return False
        if parse_crs(self.crs) != parse_crs(other.crs):
            return False
        if (self.latitude or other.latitude) != (other.latitude or self.latitude):
            return False
        corners = [(0, 0), (self.width, 0), (0, self.height), (self.width, self.height)]
        back = ~self.transform * other.transform
        return all(math.dist(back * corner, corner) <= tolerance_px for corner in corners)

    def covers(self, other: "Grid", tolerance_px: float = 1e-6) -> bool:
        """Whether all pixels of another grid lie on this one's, as they do where its own are cut or a part is taken."""
        back = ~self.transform @ other.transform
        corners = [back * corner for corner in
                   ((0, 0), (other.width, 0), (0, other.height), (other.width, other.height))]
        return replace(other, transform=self.transform, height=self.height, width=self.width) == self and all(
            -tolerance_px <= col <= self.width + tolerance_px and -tolerance_px <= row <= self.height + tolerance_px
            for col, row in corners)

    def latitudes(self, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        """Latitude in degrees (of this grid's own type) at pixel positions."""
        crs = parse_crs(self.crs)
        x, y = self.transform * (np.asarray(cols, float), np.asarray(rows, float))
        if crs is None or is_angular(crs):
            return y
        return np.asarray(_to_geographic(self.crs).transform(x, y)[1])


@lru_cache(maxsize=64)
def parse_crs(text: str | None) -> CRS | None:
    """The CRS of a WKT string, or None."""
    if not text:
        return None
    try:
        return CRS.from_wkt(text)
    except CRSError:
        return None


def is_angular(crs: CRS) -> bool:
    """Whether coordinates are longitude and latitude; PROJ calls the planetocentric codes spherical, not geographic."""
    return crs.is_geographic or crs.type_name == "Geodetic CRS"


@lru_cache(maxsize=16)
def _to_geographic(text: str) -> Transformer:
    crs = CRS.from_wkt(text)
    try:
        return Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True)
    except ProjError as error:
        raise RasterError(f"PROJ cannot compute the CRS {crs.name} ({error}): correct it with gdal_edit -a_srs.") \
            from error


def angular_convention(
    crs: str | None, tags: dict[str, str]
) -> tuple[LatitudeType | None, LongitudeDirection | None]:
    """Latitude type and longitude direction, from our tags, the common tags, the axes or the name."""
    parsed = parse_crs(crs)
    axes = " ".join(axis.name for axis in parsed.axis_info) if parsed else ""
    latitude_hints = [tags.get("GEOI2I_LATITUDE", ""), tags.get("LATITUDE", ""), axes,
                      parsed.name if parsed else ""]
    longitude_hints = [tags.get("GEOI2I_LONGITUDE", ""), tags.get("LONGITUDE", "")]
    # Whole words: "geographic", "geocentric" and "Texas Centric" say nothing about the latitude.
    latitude = _first(latitude_hints, {r"(?<![a-z])(planet)?ocentric": "planetocentric",
                                       r"(?<![a-z])(planet)?ographic": "planetographic"})
    longitude = _first(longitude_hints, {"east": "east", "west": "west"})
    if longitude is None and parsed is not None:
        directions = [axis.direction.lower() for axis in parsed.axis_info]
        # A name alone proves no direction: a GeoTIFF turns west-positive codes into "east". A code does, which
        # `to_authority` would not find for IAU_2015, for it stands as "IAU", 2015.
        named = "id" in parsed.to_json_dict() or "west" in directions
        longitude = _first(directions, {"west": "west", "east": "east"}) if named else None
    return latitude, longitude


def _first(hints: list[str], meanings: dict[str, str]):
    for hint in hints:
        for word, meaning in meanings.items():
            if re.search(word, hint.lower()):
                return meaning
    return None


def distance(metres: float) -> str:
    """A distance as people write it: 312 km, 30 m, 25 cm."""
    limit, unit = next(((limit, unit) for limit, unit in ((1000, "km"), (1, "m"), (0.01, "cm")) if metres >= limit),
                       (0.001, "mm"))
    number = metres / limit
    return f"{number:.0f} {unit}" if number >= 100 else f"{number:.3g} {unit}"
