"""What a raster says of itself beside its grid and its bands' names: tags of all domains, colour tables, class names,
and nodata values that no double holds."""

import contextlib
import json
import re
from typing import NamedTuple
from xml.etree import ElementTree  # nosec B405 # of what GDAL writes, without DOCTYPE

import rasterio
import rasterio.shutil
from rasterio import DatasetReader

from .bands import Colours, Domains

_MOST_BANDS, _MOST_BYTES = 4096, 32 << 20
_OF_THE_FILE = {"IMAGE_STRUCTURE", "DERIVED_SUBDATASETS", "SUBDATASETS", "COLOR_PROFILE", "LocationInfo"}
"""Domains that say how this file is made, not what it shows; GDAL makes the second and the third up."""
_NOT_IN_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Said(NamedTuple):
    """What GDAL says of a band, in its own words."""

    nodata: str | None = None
    categories: tuple[str, ...] = ()
    attributes: str | None = None
    """The raster attribute table, as XML."""


def read_domains(data: DatasetReader, band: int = 0) -> Domains:
    """The tags of a raster (band 0) or of a band, by domain; an xml: or json: domain is one text under its own name."""
    few = data.count <= _MOST_BANDS
    names = [name for name in data.tag_namespaces(band) if name not in _OF_THE_FILE] if few else ()
    found = {name: data.tags(band, ns=name or None) for name in ("", *names)}
    return found | {name: {name: _json(found[name])} for name in names if name.startswith("json:")}


def read_colours(data: DatasetReader, band: int) -> Colours:
    """The colour table of a band."""
    with contextlib.suppress(ValueError):  # it has none
        table = data.colormap(band)
        return tuple(table[k] for k in range(len(table)))
    return ()


def read_said(data: DatasetReader) -> tuple[Said, ...]:
    """What GDAL says of each band in its description of the raster as a VRT, which is all that it knows."""
    found = _description(data).findall("VRTRasterBand") if data.count <= _MOST_BANDS else []
    if len(found) != data.count:
        return (Said(),) * data.count
    return tuple(Said(band.findtext("NoDataValue"),
                      tuple(each.text or "" for each in band.findall("CategoryNames/Category")),
                      _text(band.find("GDALRasterAttributeTable"))) for band in found)


def _json(cut: dict[str, str]) -> str:
    """The text of a json: domain, which rasterio takes for a key and its value and cuts at the first colon; "" where
    that was another."""
    text = ": ".join(next(iter(cut.items()), ""))
    with contextlib.suppress(ValueError, RecursionError):
        json.loads(text)
        return text
    return ""


def _description(data: DatasetReader) -> ElementTree.Element:
    """A raster as a VRT; an element without content where that is no XML."""
    if data.driver == "VRT":  # a copy of which may open its sources
        text = data.tags(ns="xml:VRT").get("xml:VRT", "")[:_MOST_BYTES]
    else:
        with rasterio.MemoryFile(ext=".vrt") as memory:
            rasterio.shutil.copy(data, memory.name, driver="VRT")
            text = bytes(memory.getbuffer()[:_MOST_BYTES]).decode(errors="replace")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:  # which can grow without bounds
        return ElementTree.Element("VRTDataset")
    try:
        return ElementTree.fromstring(_NOT_IN_XML.sub("?", text))  # nosec B314 # as above
    except ElementTree.ParseError:
        return ElementTree.Element("VRTDataset")


def exact_nodata(value: float | None, said: str | None, dtype: str) -> int | float | None:
    """A nodata value as rasterio has it, or where it may be too wide for a double, as GDAL writes it."""
    if dtype in ("int64", "uint64") and said is not None:
        with contextlib.suppress(ValueError):
            return int(said)
    return value


def _text(element: ElementTree.Element | None) -> str | None:
    return None if element is None else ElementTree.tostring(element, encoding="unicode").strip()
