"""Tags, colour tables and class names of an output, in the forms in which GDAL finds them again.

A GeoTIFF holds one colour table, of opaque colours, and tags of all domains; its `.aux.xml` holds the rest.
"""

import re
from collections.abc import Iterator, Mapping
from xml.etree import ElementTree  # nosec B405 # of texts without DOCTYPE, see well_formed
from xml.sax.saxutils import escape, quoteattr  # nosec B406 # writing only

from ..raster.bands import Band, Domains, Tags
from ..raster.tiff import Tag

XMP, GDAL_METADATA = 700, 42112
RPC_DOMAIN, XMP_DOMAIN = "RPC", "xml:XMP"
COLOUR_NAMES = {
    "red": "Red", "green": "Green", "blue": "Blue", "alpha": "Alpha", "gray": "Gray", "grey": "Gray",
    "palette": "Palette", "hue": "Hue", "saturation": "Saturation", "lightness": "Lightness", "cyan": "Cyan",
    "magenta": "Magenta", "yellow": "Yellow", "black": "Black", "y": "YCbCr_Y", "cb": "YCbCr_Cb", "cr": "YCbCr_Cr",
    "pan": "Pan", "coastal": "Coastal", "rededge": "RedEdge", "nir": "NIR", "swir": "SWIR", "mwir": "MWIR",
    "lwir": "LWIR", "tir": "TIR", "other_ir": "OtherIR", "sar_ka": "SAR_Ka", "sar_k": "SAR_K", "sar_ku": "SAR_Ku",
    "sar_x": "SAR_X", "sar_c": "SAR_C", "sar_s": "SAR_S", "sar_l": "SAR_L", "sar_p": "SAR_P"}
"""What GDAL calls colour interpretations, by rasterio's names in lower case."""
_ASCII, _BYTE = 2, 1
_OPAQUE = 255


def vrt_metadata(tags: Tags, domain: str = "") -> str:
    """Tags of one domain as a VRT and an `.aux.xml` have them."""
    skip = {"AREA_OR_POINT"} if tags.get("AREA_OR_POINT") == "Area" and not domain else set()
    items = "".join(f"<MDI key={quoteattr(k)}>{escape(str(v))}</MDI>" for k, v in tags.items()
                    if k not in skip and not k.startswith("STATISTICS_"))
    named = f" domain={quoteattr(domain)}" if domain else ""
    return f"<Metadata{named}>{items}</Metadata>" if items else ""


def with_domains(tags: dict[int, Tag], domains: Domains, bands: tuple[Band, ...]) -> dict[int, Tag]:
    """The tags of a TIFF that GDAL made of a template, with what its template cannot hold: further domains, and tags
    without a text."""
    found = dict(tags)
    if xmp := domains.get(XMP_DOMAIN, {}).get(XMP_DOMAIN):
        data = xmp.encode()
        found[XMP] = Tag(_BYTE, len(data), data)
    items = [*_items(domains), *(item for k, band in enumerate(bands) for item in _items(band.domains, k))]
    if items:
        before = tags[GDAL_METADATA].data.rstrip(b"\0").decode() if GDAL_METADATA in tags else (
            "<GDALMetadata>\n</GDALMetadata>\n")
        whole = before.replace("</GDALMetadata>", "".join(f"  {item}\n" for item in items) + "</GDALMetadata>")
        data = whole.encode() + b"\0"
        found[GDAL_METADATA] = Tag(_ASCII, len(data), data)
    return found


def _items(domains: Domains, band: int | None = None) -> Iterator[str]:
    """Tags as GDAL keeps them in a TIFF, texts escaped twice."""
    sample = "" if band is None else f' sample="{band}"'
    for domain, tags in domains.items():
        if not domain:
            yield from (f"<Item name={quoteattr(k)}{sample}></Item>" for k, v in tags.items() if v == "")
        elif domain.startswith("xml:") and domain != XMP_DOMAIN:
            if not well_formed(tags.get(domain, "")):
                continue
            text = escape(escape(tags[domain]))
            yield f'<Item name="doc"{sample} domain={quoteattr(domain)}>{text}</Item>'
        elif domain not in (RPC_DOMAIN, XMP_DOMAIN) and not domain.startswith("json:"):
            yield from (f"<Item name={quoteattr(k)}{sample} domain={quoteattr(domain)}>{escape(escape(v))}</Item>"
                        for k, v in tags.items())


def tiff_holds_colours(bands: tuple[Band, ...], dtype: str) -> bool:
    """Whether a colour table can stand in the TIFF: that of the only band beside an alpha band, of 8 or 16 bits."""
    return bool(bands[0].colours) and dtype in ("uint8", "uint16") and (
        len(bands) == 1 or (len(bands) == 2 and bands[1].colour == "alpha"))


def vrt_colours(band: Band) -> str:
    """The colour table of a band as a VRT and an `.aux.xml` have it."""
    entries = "".join('<Entry c1="{}" c2="{}" c3="{}" c4="{}"/>'.format(*colour) for colour in band.colours)
    return f"<ColorTable>{entries}</ColorTable>" if entries else ""


def auxiliary_band(band: Band, number: int, in_tiff: int | None, nodata: float | None) -> str:
    """What the `.aux.xml` says of a band; "" where the TIFF says all.

    Args:
        in_tiff: how many colours the TIFF holds of the band; None: no table of it.
    """
    said = []
    if band.colours and band.colours != _read_back(band, in_tiff, nodata):
        said += ["<ColorInterp>Palette</ColorInterp>"] if in_tiff is None else []
        said.append(vrt_colours(band))
    if band.categories:
        names = "".join(f"<Category>{escape(name)}</Category>" for name in band.categories)
        said.append(f"<CategoryNames>{names}</CategoryNames>")
    said += [band.attributes] if band.attributes else []
    return f'  <PAMRasterBand band="{number}">{"".join(said)}</PAMRasterBand>\n' if said else ""


def _read_back(band: Band, in_tiff: int | None, nodata: float | None) -> tuple[tuple[int, int, int, int], ...]:
    """The colour table that GDAL reads from a TIFF: as long as there are values, opaque but for nodata."""
    if in_tiff is None:
        return ()
    table = [*((r, g, b, _OPAQUE) for r, g, b, _ in band.colours), *[(0, 0, 0, _OPAQUE)] * in_tiff][:in_tiff]
    if nodata is not None and 0 <= nodata < in_tiff and nodata == int(nodata):
        table[int(nodata)] = (*table[int(nodata)][:3], 0)
    return tuple(table)


def well_formed(text: str) -> bool:
    """Whether a text is XML, without a document type, which can grow without bounds."""
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        return False
    try:
        ElementTree.fromstring(re.sub(r"<\?.*?\?>", "", text, flags=re.DOTALL).strip())  # nosec B314 # as above
    except ElementTree.ParseError:
        return False
    return True


def shifted(rpc: Tags, row: int, col: int) -> Mapping[str, str]:
    """The coefficients of an RPC for a part of the raster that begins at a row and a column."""
    moved = {"LINE_OFF": row, "SAMP_OFF": col}
    return {k: f"{float(v) - moved[k]:.17g}" if moved.get(k) else v for k, v in rpc.items()}
