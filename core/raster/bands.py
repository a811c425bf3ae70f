"""What the numbers of a raster mean: names, units, scale and offset, and what is known of the raster as a whole."""

from collections.abc import Mapping
from dataclasses import dataclass, field

Tags = Mapping[str, str]
Domains = Mapping[str, Tags]
"""Tags by their domain, as GDAL names it; "" is the one that most tags are in."""
Colours = tuple[tuple[int, int, int, int], ...]
"""Red, green, blue and opacity, 0 to 255, of the values 0, 1, 2, ..."""


@dataclass(frozen=True)
class Band:
    """One band of a raster as stored: physical value = stored * scale + offset."""

    name: str | None
    unit: str | None = None
    scale: float = 1.0
    offset: float = 0.0
    nodata: int | float | None = None
    """An int where a double might not hold it: for 64-bit integers."""
    colour: str | None = None
    """Colour interpretation as GDAL names it, e.g. red, grey, undefined, palette, alpha."""
    colours: Colours = ()
    """The colour table."""
    categories: tuple[str, ...] = ()
    """Names of the values 0, 1, 2, ..."""
    attributes: str | None = None
    """GDAL's raster attribute table, as XML."""
    domains: Domains = field(default_factory=dict)

    @property
    def classes(self) -> bool:
        """Whether its numbers name classes or colours, so that there is nothing between two of them."""
        return self.colour == "palette" or bool(self.categories) or (
            self.domains.get("", {}).get("LAYER_TYPE", "").lower() == "thematic")


@dataclass(frozen=True)
class Statistics:
    """What is known of a raster as a whole, per band, in physical units; from one decimated read."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    percentiles: dict[float, tuple[float, ...]]
    """The percentiles that were asked for."""
    size: tuple[int, int]
    """Height and width of the decimated read; 0 of a raster without a valid pixel."""
    outside: tuple[float, ...] = ()
    """The shares of pixels outside the ranges that were asked for."""

    @classmethod
    def of_nothing(cls, bands: int, percentiles: tuple[float, ...]) -> "Statistics":
        """Of a raster without a valid pixel: any numbers do, as no pixel is shown."""
        return cls((0.0,) * bands, (1.0,) * bands, {q: (q / 100,) * bands for q in percentiles}, (0, 0))
