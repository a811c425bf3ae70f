"""What an output raster says about itself, and the texts that tell GDAL: a VRT without pixels, an `.aux.xml`."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr  # nosec B406 # writing only

import numpy as np

from ..grid import Grid, is_angular, parse_crs
from ..nodata import Nodata
from ..raster.bands import Band, Domains
from .metadata import COLOUR_NAMES, RPC_DOMAIN, auxiliary_band, tiff_holds_colours, vrt_colours, vrt_metadata

BLOCK = 512
"""Tile size of the output, in pixels."""


@dataclass(frozen=True)
class OutputSpec:
    """What the output raster is, apart from its pixels."""

    grid: Grid
    bands: tuple[Band, ...]
    """In the order of the file, alpha bands included."""
    dtype: str
    nodata: Nodata | None = None
    mask: bool = False
    """Whether a mask band is written."""
    tags: dict[str, str] = field(default_factory=dict)
    domains: Domains = field(default_factory=dict)
    """Tags of other domains."""
    bits: int | None = None
    """Bits of a sample, where these are fewer than the dtype's."""
    minimum_is_white: bool = False

    @property
    def alphas(self) -> tuple[int, ...]:
        """Positions, from 0, of the alpha bands."""
        return tuple(k for k, band in enumerate(self.bands) if band.colour == "alpha")

    @property
    def values(self) -> tuple[int, ...]:
        """Positions, from 0, of the other bands."""
        return tuple(k for k, band in enumerate(self.bands) if band.colour != "alpha")

    def at(self, places: tuple[int, ...]) -> tuple[Band, ...]:
        """The bands at some positions."""
        return tuple(self.bands[k] for k in places)

    @property
    def mask_kinds(self) -> tuple[str, ...]:
        """How it says which pixels are valid, in the words of `Raster.mask_kinds`."""
        kinds = {"nodata": self.nodata is not None, "mask": self.mask, "alpha": bool(self.alphas)}
        return tuple(kind for kind, there in kinds.items() if there)

    @property
    def colours(self) -> int | None:
        """How many colours the TIFF holds; None: it has no colour table."""
        holds = tiff_holds_colours(self.bands, self.dtype) or self.minimum_is_white
        return 1 << (self.bits or 8 * np.dtype(self.dtype).itemsize) if holds else None

    @property
    def raw_bytes(self) -> int:
        """Size of the pixels uncompressed."""
        return self.grid.height * self.grid.width * len(self.bands) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Output:
    """A raster that a job makes."""

    path: Path
    spec: OutputSpec


def template(spec: OutputSpec) -> str:
    """A VRT of one empty block that says everything but the size and the pixels."""
    grid = spec.grid
    head = [f'<VRTDataset rasterXSize="{BLOCK}" rasterYSize="{BLOCK}">']
    if grid.crs:
        head.append(f'<SRS dataAxisToSRSAxisMapping="{_axis_mapping(grid)}">{escape(grid.crs)}</SRS>')
    if not grid.transform.is_identity:
        head.append(f"<GeoTransform>{', '.join(repr(float(v)) for v in grid.transform.to_gdal())}</GeoTransform>")
    head.append(vrt_metadata({**spec.tags, **_grid_tags(grid)}))
    head.append(vrt_metadata(spec.domains.get(RPC_DOMAIN, {}), RPC_DOMAIN))
    body = []
    for k, band in enumerate(spec.bands):
        elements = [vrt_metadata(band.domains.get("", {}))]
        if band.name:
            elements.append(f"<Description>{escape(band.name)}</Description>")
        if band.unit:
            elements.append(f"<UnitType>{escape(band.unit)}</UnitType>")
        if spec.nodata is not None:
            elements.append(f"<NoDataValue>{_number(spec.nodata)}</NoDataValue>")
        if (band.scale, band.offset) != (1.0, 0.0):
            elements.append(f"<Offset>{band.offset!r}</Offset><Scale>{band.scale!r}</Scale>")
        elements.append(f"<ColorInterp>{_colour(band, spec)}</ColorInterp>")
        if not k and tiff_holds_colours(spec.bands, spec.dtype) and not _plain(spec):
            elements.append(vrt_colours(band))
        body.append(_vrt_band(spec.dtype, k + 1, "".join(elements)))
    return "\n".join([*head, *body, "</VRTDataset>"])


def _vrt_band(dtype: str, number: int, elements: str) -> str:
    return f'<VRTRasterBand dataType="{_GDAL_TYPES[dtype]}" band="{number}">{elements}</VRTRasterBand>'


_GDAL_TYPES = {"uint8": "Byte", "int8": "Int8", "uint16": "UInt16", "int16": "Int16", "uint32": "UInt32",
               "int32": "Int32", "uint64": "UInt64", "int64": "Int64", "float32": "Float32",
               "float64": "Float64"}


def _plain(spec: OutputSpec) -> bool:
    """Whether the TIFF's table of colours goes without saying: one bit, or white for the least value."""
    return spec.minimum_is_white or (spec.bits == 1 and spec.bands[0].colours == ((0, 0, 0, 255), (255,) * 4))


def _colour(band: Band, spec: OutputSpec) -> str:
    colour = (band.colour or "").lower()
    if colour == "palette" and (_plain(spec) or not tiff_holds_colours(spec.bands, spec.dtype)):
        colour = ""  # which the `.aux.xml` says, or GDAL of itself
    return COLOUR_NAMES.get(colour, "Gray" if len(spec.bands) == 1 else "Undefined")


def _number(value: Nodata) -> str:
    if isinstance(value, int):
        return repr(value)
    return "nan" if math.isnan(value) else repr(int(value)) if value.is_integer() else repr(value)


def _axis_mapping(grid: Grid) -> str:
    """Which CRS axis the columns and the rows follow: latitude-first CRSs are swapped."""
    crs = parse_crs(grid.crs)
    directions = [axis.direction.lower() for axis in crs.axis_info] if crs else []
    north_first = crs is not None and is_angular(crs) and directions[:1] in (["north"], ["south"])
    return "2,1" if north_first or (directions[:2] == ["north", "east"]) else "1,2"


def _grid_tags(grid: Grid) -> dict[str, str]:
    """The angular convention and, for other planets, the full CRS, as tags."""
    tags: dict[str, str] = {}
    if grid.latitude:
        tags["GEOI2I_LATITUDE"] = grid.latitude
    if grid.longitude:
        tags["GEOI2I_LONGITUDE"] = grid.longitude
    if grid.crs and grid.body not in (None, "Earth"):
        tags["GEOI2I_CRS_WKT2"] = grid.crs
    return tags


def auxiliary(spec: OutputSpec, with_crs: bool) -> str | None:
    """The `.aux.xml` that keeps what a GeoTIFF cannot: names of classes, colours that are not opaque and, where it is
    wanted, the CRS; GDAL reads it first."""
    grid, parts = spec.grid, []
    if with_crs:
        # GDAL looks for this tag in the GeoTIFF only where it also looks for the CRS there.
        kept = {k: v for k, v in spec.tags.items() if k == "AREA_OR_POINT"}
        items = "".join(f'<MDI key="{k}">{escape(v)}</MDI>' for k, v in kept.items())
        parts.append(f'  <SRS dataAxisToSRSAxisMapping="{_axis_mapping(grid)}">'
                     f"{escape(grid.crs or '')}</SRS>\n  <Metadata>{items}</Metadata>\n")
    parts += [f'  <Metadata domain={quoteattr(name)} format="json">{escape(tags[name])}</Metadata>\n'
              for name, tags in spec.domains.items() if name.startswith("json:") and tags[name]]
    parts += [auxiliary_band(band, k + 1, spec.colours if not k else None, spec.nodata)
              for k, band in enumerate(spec.bands)]
    return f"<PAMDataset>\n{''.join(parts)}</PAMDataset>\n" if any(parts) else None
