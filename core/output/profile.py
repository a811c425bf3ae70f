"""What an output raster says about itself, and the texts that tell GDAL: a VRT without pixels, an `.aux.xml`."""

import math
from dataclasses import dataclass, field
from xml.sax.saxutils import escape, quoteattr  # nosec B406 # writing only

import numpy as np

from ..grid import Grid, is_angular, parse_crs
from ..raster.bands import Band
from ..raster.rows import Raster

BLOCK = 512
"""Tile size of the output, in pixels."""


@dataclass(frozen=True)
class OutputSpec:
    """What the output raster is, apart from its pixels."""

    grid: Grid
    bands: tuple[Band, ...]
    dtype: str
    nodata: float | None = None
    mask: bool = False
    """Whether a mask band is written (for sources whose mask is not a nodata value)."""
    alpha: bool = False
    """Whether the mask is an alpha band, of the output's dtype."""
    alpha_gain: float = 1.0
    """From the source's alpha values to the output's."""
    tags: dict[str, str] = field(default_factory=dict)
    band_tags: tuple[dict[str, str], ...] = ()

    @property
    def mask_kind(self) -> str:
        """How it says which pixels are valid, in the words of `Raster.mask_kind`."""
        return "alpha" if self.alpha else "mask" if self.mask else "nodata" if self.nodata is not None else "none"

    @property
    def raw_bytes(self) -> int:
        """Size of the pixels uncompressed."""
        return self.grid.height * self.grid.width * len(self.bands) * np.dtype(self.dtype).itemsize


def choose_nodata(raster: Raster, mask_kind: str, dtype: str, exact: bool) -> float | None:
    """The output's one nodata value, where its source has any.

    Args:
        mask_kind: of the output.
        exact: whether the output holds the source's own numbers, none of which may become nodata.
    """
    if mask_kind != "nodata":
        return None
    kind = np.dtype(dtype)
    values = list(dict.fromkeys(b.nodata for b in raster.bands if b.nodata is not None))
    if kind.kind == "f":
        declared = [b.nodata for b in raster.bands]
        if not values:
            return float("nan")
        holds = abs(values[0]) <= float(np.finfo(kind).max)
        return values[0] if holds and len(set(map(repr, declared))) == 1 else float("nan")
    info = np.iinfo(kind)
    fitting = [int(v) for v in values if v == v and float(v).is_integer() and info.min <= v <= info.max]
    same_everywhere = len({repr(b.nodata) for b in raster.bands}) == 1
    if fitting and (same_everywhere or not exact):
        return fitting[0]
    return _unused_value(raster, [*fitting, info.min, info.max]) if exact else info.min


def _unused_value(raster: Raster, preferred: list[int]) -> int:
    """A value that no valid pixel of any band has: one pass over the raster, for mixed nodata only."""
    info = np.iinfo(raster.dtype)
    candidates = list(dict.fromkeys([*preferred, *range(info.min, min(info.max, info.min + 65535) + 1)]))
    free = np.array(candidates)
    for rows in raster.rows():
        mask = np.broadcast_to(rows.mask != 0, rows.pixels.shape) if rows.mask is not None else ...
        free = free[~np.isin(free, rows.pixels[mask])]
    return int(free[0]) if free.size else preferred[0]


def template(spec: OutputSpec) -> str:
    """A VRT of one empty block that says everything but the size and the pixels."""
    grid = spec.grid
    head = [f'<VRTDataset rasterXSize="{BLOCK}" rasterYSize="{BLOCK}">']
    if grid.crs:
        head.append(f'<SRS dataAxisToSRSAxisMapping="{_axis_mapping(grid)}">{escape(grid.crs)}</SRS>')
    if not grid.transform.is_identity:
        head.append(f"<GeoTransform>{', '.join(repr(float(v)) for v in grid.transform.to_gdal())}</GeoTransform>")
    head.append(_metadata({**spec.tags, **_grid_tags(grid)}))
    body = []
    for k, band in enumerate(spec.bands):
        tags = spec.band_tags[k] if spec.band_tags else {}
        elements = [_metadata(tags)]
        if band.name:
            elements.append(f"<Description>{escape(band.name)}</Description>")
        if band.unit:
            elements.append(f"<UnitType>{escape(band.unit)}</UnitType>")
        if spec.nodata is not None:
            elements.append(f"<NoDataValue>{_number(spec.nodata)}</NoDataValue>")
        if (band.scale, band.offset) != (1.0, 0.0):
            elements.append(f"<Offset>{band.offset!r}</Offset><Scale>{band.scale!r}</Scale>")
        elements.append(f"<ColorInterp>{_colour(band, k, len(spec.bands))}</ColorInterp>")
        body.append(_vrt_band(spec.dtype, k + 1, "".join(elements)))
    if spec.alpha:
        body.append(_vrt_band(spec.dtype, len(spec.bands) + 1, "<ColorInterp>Alpha</ColorInterp>"))
    return "\n".join([*head, *body, "</VRTDataset>"])


def _vrt_band(dtype: str, number: int, elements: str) -> str:
    return f'<VRTRasterBand dataType="{_GDAL_TYPES[dtype]}" band="{number}">{elements}</VRTRasterBand>'


_GDAL_TYPES = {"uint8": "Byte", "int8": "Int8", "uint16": "UInt16", "int16": "Int16", "uint32": "UInt32",
               "int32": "Int32", "uint64": "UInt64", "int64": "Int64", "float32": "Float32",
               "float64": "Float64"}


def _metadata(tags: dict[str, str]) -> str:
    skip = {"AREA_OR_POINT"} if tags.get("AREA_OR_POINT") == "Area" else set()
    items = "".join(f"<MDI key={quoteattr(k)}>{escape(str(v))}</MDI>" for k, v in tags.items()
                    if k not in skip and not k.startswith("STATISTICS_"))
    return f"<Metadata>{items}</Metadata>" if items else ""


def _colour(band: Band, k: int, count: int) -> str:
    names = {"red": "Red", "green": "Green", "blue": "Blue", "gray": "Gray", "grey": "Gray", "nir": "NIR",
             "pan": "Pan", "coastal": "Coastal", "rededge": "RedEdge", "yellow": "Yellow", "swir": "SWIR"}
    return names.get((band.colour or "").lower(), "Gray" if count == 1 else "Undefined")


def _number(value: float) -> str:
    return "nan" if math.isnan(value) else repr(int(value)) if float(value).is_integer() else repr(value)


def _axis_mapping(grid: Grid) -> str:
    """Which CRS axis the columns and the rows follow: latitude-first CRSs are swapped."""
    crs = parse_crs(grid.crs)
    directions = [axis.direction.lower() for axis in crs.axis_info] if crs else []
    north_first = crs is not None and is_angular(crs) and directions[:1] in (["north"], ["south"])
    return "2,1" if north_first or (directions[:2] == ["north", "east"]) else "1,2"


def _grid_tags(grid: Grid) -> dict[str, str]:
    """The angular convention and, for other planets, the full CRS, as tags."""
    tags = {}
    if grid.latitude:
        tags["GEOI2I_LATITUDE"] = grid.latitude
    if grid.longitude:
        tags["GEOI2I_LONGITUDE"] = grid.longitude
    if grid.crs and grid.body not in (None, "Earth"):
        tags["GEOI2I_CRS_WKT2"] = grid.crs
    return tags


def auxiliary(spec: OutputSpec) -> str | None:
    """The `.aux.xml` that keeps a planetary CRS whole where GeoTIFF keys cannot; GDAL reads it first."""
    grid = spec.grid
    if not grid.crs or grid.body in (None, "Earth"):
        return None
    # GDAL looks for this tag in the GeoTIFF only where it also looks for the CRS there.
    kept = {k: v for k, v in spec.tags.items() if k == "AREA_OR_POINT"}
    items = "".join(f'<MDI key="{k}">{escape(v)}</MDI>' for k, v in kept.items())
    return (f'<PAMDataset>\n  <SRS dataAxisToSRSAxisMapping="{_axis_mapping(grid)}">'
            f"{escape(grid.crs)}</SRS>\n  <Metadata>{items}</Metadata>\n</PAMDataset>\n")
