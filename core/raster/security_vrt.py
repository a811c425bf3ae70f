"""Which files a VRT names, and the refusal of what does more than an ordinary one."""

import re
from collections.abc import Iterator
from typing import BinaryIO
from xml.etree import ElementTree  # nosec B405 # of files without DOCTYPE, of bounded size

from ..errors import RasterError
from .security_tiff import BANDS, names_overviews

_VRT_BYTES, _NESTED = 64 << 20, 64

# All that an ordinary VRT holds, in lower case as GDAL minds no case; GDAL takes an attribute for an element too.
_FILE_ELEMENTS = {"sourcefilename", "sourcedataset", "dempath"}
_SYSTEM_ELEMENTS = {"sourcesrs", "targetsrs", "demsrs"}
_TELLING = {*_FILE_ELEMENTS, *_SYSTEM_ELEMENTS, "ooi", "argument", "pixelfunctionlanguage", "kernelfilteredsource"}
"""Elements whose content, not only their name, says what they do."""
_ELEMENTS = _FILE_ELEMENTS | _SYSTEM_ELEMENTS | set("""
    vrtdataset srs geotransform metadata mdi maskband vrtrasterband description unittype nodatavalue hidenodatavalue
    offset scale colorinterp overview overviewlist simplesource complexsource averagedsource kernelfilteredsource
    nodatafrommasksource sourceband sourceproperties srcrect dstrect openoptions ooi nodata usemaskband scaleoffset
    scaleratio exponent srcmin srcmax dstmin dstmax clamp lut colortablecomponent maskvaluethreshold remappedvalue
    kernel size coefs pixelfunctiontype pixelfunctionlanguage sourcetransfertype bufferradius
    skipnoncontributingsources blockxsize blockysize srcovrlevel gdalwarpoptions warpmemorylimit resamplealg
    workingdatatype option options bandlist bandmapping srcnodatareal srcnodataimag dstnodatareal dstnodataimag
    srcalphaband dstalphaband cutline cutlineblenddist transformer maxerror maxerrorforward maxerrorreverse
    srcgeotransform srcinvgeotransform dstgeotransform dstinvgeotransform order reversed refine minimumgcps tolerance
    srcapproxerrorinpixel heightoffset heightscale pixerrthreshold deminterpolation demmissingvalue xfactor yfactor
    demapplyvdatumshift pansharpeningoptions algorithm algorithmoptions weights resampling numthreads bitdepth
    panchroband spectralband spatialextentadjustment input processingsteps step argument outputbands""".split())
_ATTRIBUTES = set("""
    rasterxsize rasterysize subclass datatype band blockxsize blockysize resampling relativetovrt shared xoff yoff
    xsize ysize name key domain format dstband src dst normalized dataaxistosrsaxismapping coordinateepoch""".split())
_TABLES = {"colortable", "categorynames", "histograms", "gdalrasterattributetable", "gcplist",
           "pixelfunctionarguments"}
_CLASSES = {f"vrt{kind}{thing}" for kind in ("", "sourced", "derived", "warped", "pansharpened", "processed")
            for thing in ("dataset", "rasterband")}
# WKT, an authority's code, PROJJSON or a PROJ string without files: GDAL takes any other text for a file or an address.
_SYSTEM = re.compile(r"\s*(?:[A-Z][A-Z0-9_]*\s*\[|[A-Za-z0-9]+:[A-Za-z0-9]+\s*$|\{|\+[^/\\]*$|$)")


def vrt_names(file: BinaryIO, label: str) -> Iterator[tuple[str, bool]]:
    """The files that a VRT names, each with whether the name counts from the VRT's folder.

    Raises:
        RasterError: if there is anything in the VRT that does more than it says.
    """
    text = file.read(_VRT_BYTES + 1)
    if len(text) > _VRT_BYTES:
        raise RasterError(f"{label} is larger than {_VRT_BYTES >> 20} MB: make a VRT for each part of it.")
    if text.lower().count(b"<vrtrasterband") > 2 * BANDS:  # each may have a mask
        raise RasterError(f"{label} has more than {BANDS} bands: pick some with gdal_translate -b.")
    # Comments aside, what starts with <! or <? could be read differently by GDAL's parser and ours.
    odd = re.search(rb"<!(?!--).{,8}|<\?(?!xml\s).{,8}", text) or (names_overviews(text) and [b"OVERVIEW_FILE"])
    if odd:
        raise RasterError(f"{label} holds {odd[0].decode('latin-1')!r}, which is not read from a VRT: make it again "
                          "with gdalbuildvrt or gdal_translate.")
    try:
        todo = [(ElementTree.fromstring(text.decode("utf-8-sig")), 1)]  # nosec B314 # as above
    except (ElementTree.ParseError, ValueError) as error:
        raise RasterError(f"{label} is not a well-formed VRT ({error}): make it again with gdalbuildvrt.") from error
    plain: dict[tuple, str] = {}
    """Names in lower case of elements with nothing but plain attributes: thousands of elements are of few kinds."""
    while todo:
        element, depth = todo.pop()
        kind = (element.tag, *element.attrib)
        name = plain.get(kind)
        if name is None or depth > _NESTED:
            wrong = _unusual(element) if depth <= _NESTED else f"elements nested more than {_NESTED} deep"
            if wrong:
                raise RasterError(f"{label} holds {wrong}, which is not read from a VRT: convert it to GeoTIFF with "
                                  "gdal_translate, if you trust it.")
            name = element.tag.lower()
            if name not in _TELLING and "subclass" not in map(str.lower, element.attrib):
                plain[kind] = name
        if name in _FILE_ELEMENTS or name == "mdi":
            attributes = {key.lower(): value for key, value in element.attrib.items()}
            if name != "mdi" or attributes.get("key", "").lower() in ("x_dataset", "y_dataset"):
                yield element.text or "", attributes.get("relativetovrt") == "1"
        if name == "metadata":  # may hold any XML
            todo += [(inner, depth + 1) for inner in element.iter() if inner.tag.lower() == "mdi"]
        elif len(element) and name not in _TABLES:
            todo += [(inner, depth + 1) for inner in element]


def _unusual(element: ElementTree.Element) -> str | None:
    """What an ordinary VRT does not hold, if this element is that."""
    name, text = element.tag.lower(), element.text or ""
    attributes = {key.lower(): value.lower() for key, value in element.attrib.items()}
    if name in _TABLES:
        return None
    if name not in _ELEMENTS and not name.endswith("transformer"):
        return f"an element <{element.tag}>"
    if not _ATTRIBUTES.issuperset(attributes) or len(attributes) < len(element.attrib):
        return f"an unknown attribute of <{element.tag}>"
    if attributes.get("subclass", "vrtdataset") not in _CLASSES:
        return "raw bands or another unusual class"
    if name == "pixelfunctionlanguage" and text.strip().lower() != "c":
        return "a pixel function in Python"
    if name == "ooi" and attributes.get("key") != "overview_level":
        return "an opening option"
    if name == "argument" and re.search("dataset|filename", attributes.get("name", "")):
        return "a processing step with a file of its own"
    if name in _FILE_ELEMENTS and (len(element) or attributes.get("relativetovrt", "0") not in ("0", "1")):
        return f"a name of a file in an unusual <{element.tag}>"
    if name in _SYSTEM_ELEMENTS and not _SYSTEM.match(text):
        return "a CRS that is not written out"
    if name == "kernelfilteredsource" and not _has_kernel(element):
        return "a filter without a kernel of Size x Size or Size coefficients"
    return None


def _has_kernel(element: ElementTree.Element) -> bool:
    """Whether a filter has what GDAL takes for granted; without it, GDAL falls."""
    attributes = {inner.tag.lower(): (inner.text or "").split() for kernel in element if kernel.tag.lower() == "kernel"
             for inner in kernel}
    size, count = attributes.get("size", []), len(attributes.get("coefs", []))
    if len(size) != 1 or not re.fullmatch(r"[1-9]\d?", size[0]):
        return False
    return int(size[0]) % 2 == 1 and count in (int(size[0]), int(size[0]) ** 2)
