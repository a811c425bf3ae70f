"""Which coordinates of pixels a model sees behind the bands of its raster, as its manifest says it."""

from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from ..documents import check_visible

CoordinateName = Literal["map_x", "map_y", "latitude", "sin_latitude", "cos_latitude", "sin_longitude",
                         "cos_longitude"]
"""What a coordinate band holds, each from about -1 to 1, as networks take their input:

    map_x, map_y     the position in a `Frame`: -1 at its left and lower edge, 1 at the right and the upper one
    latitude         in right angles: -1 at the south pole, 1 at the north pole
    sin_..., cos_... of latitude and east longitude

Latitudes are planetocentric, longitudes count from the prime meridian of the raster's CRS."""
ON_A_MAP = ("map_x", "map_y")
Finite = Annotated[float, Field(ge=-1e12, le=1e12)]


def _check_crs(wkt: str) -> str:
    from ..grid import parse_crs  # imports PROJ, without which most manifests are read

    if parse_crs(wkt) is None:
        raise ValueError("it is not the WKT of a CRS")
    return check_visible(wkt)


class Frame(BaseModel):
    """A rectangle on a map, in which positions are counted from -1 to 1."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    crs: Annotated[str, Field(max_length=1 << 16), AfterValidator(_check_crs)] | None
    """WKT2; None where the rasters that it is of have no CRS."""
    latitude: Literal["planetocentric", "planetographic"] | None = None
    """What latitudes and longitudes mean where the CRS is geographic; see `Grid`."""
    longitude: Literal["east", "west"] | None = None
    left: Finite
    bottom: Finite
    right: Finite
    top: Finite

    @model_validator(mode="after")
    def _ordered(self) -> "Frame":
        if not (self.left < self.right and self.bottom < self.top):
            raise ValueError("left must be less than right and bottom less than top")
        return self


class Coordinates(BaseModel):
    """The coordinate bands that a model sees behind those of its raster, in their order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    names: Annotated[tuple[CoordinateName, ...], Field(min_length=1, max_length=len(get_args(CoordinateName)))]
    frame: Frame | None = None
    """In which map_x and map_y are counted."""

    @model_validator(mode="after")
    def _complete(self) -> "Coordinates":
        if len(set(self.names)) < len(self.names):
            raise ValueError("names must each be given once")
        if any(name in ON_A_MAP for name in self.names) != (self.frame is not None):
            raise ValueError("a frame goes with map_x and map_y, and they with a frame")
        return self
