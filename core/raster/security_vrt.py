"""What the content of a raster file can do: lead to other files, or need much memory for one block."""

import contextlib
import html
import re
import struct
from collections.abc import Callable, Iterator
from typing import BinaryIO
from xml.etree import ElementTree

from ..errors import RasterError

BANDS = 65535
_TEXT_BYTES, _VRT_BYTES, _BLOCK_BYTES, _DIRECTORIES, _NESTED = 16 << 20, 64 << 20, 2 << 30, 4096, 64
_SIZES = {1: 1, 3: 2, 4: 4, 6: 1, 8: 2, 9: 4, 13: 4, 16: 8, 17: 8, 18: 8}  # of TIFF's field types, in bytes
_SUB_DIRECTORIES, _METADATA = 330, 42112

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


def check_metadata(text: bytes, label: str) -> None:
    """Refuses metadata that GDAL would follow: to a file for the overviews, whatever that is, or to a VRT in them."""
    if len(text) > _TEXT_BYTES:
        raise RasterError(f"{label} holds more than {_TEXT_BYTES >> 20} MB of metadata: make a copy with gdalwarp "
                          "-nomd.")
    if re.search(rb"(?i)<!(?:DOCTYPE|ENTITY)", text):
        raise RasterError(f"{label} declares a document type or entities in its metadata: make a copy with gdalwarp "
                          "-nomd.")
    if _names_overviews(text):
        raise RasterError(f"{label} names a file for its overviews in its metadata, and that could be any file: make a "
                          "copy with gdalwarp -nomd.")


def _names_overviews(text: bytes) -> bool:
    return "overview_file" in html.unescape(text.decode("latin-1")).lower()


def check_block(label: str, height: int, width: int, pixel_bytes: int) -> None:
    """Refuses a block whose decoding alone needs too much memory."""
    if min(height, width) < 1:
        raise RasterError(f"{label} has blocks of {width} x {height} pixels: the file is damaged. Copy it again.")
    if height * width * pixel_bytes > _BLOCK_BYTES:
        raise RasterError(
            f"{label} is stored in blocks of {width} x {height} pixels, and one takes "
            f"{height * width * pixel_bytes / 1e9:.1f} GB of memory: store it in tiles with "
            "gdal_translate -co TILED=YES.")


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
    odd = re.search(rb"<!(?!--).{,8}|<\?(?!xml\s).{,8}", text) or (_names_overviews(text) and [b"OVERVIEW_FILE"])
    if odd:
        raise RasterError(f"{label} holds {odd[0].decode('latin-1')!r}, which is not read from a VRT: make it again "
                          "with gdalbuildvrt or gdal_translate.")
    try:
        todo = [(ElementTree.fromstring(text.decode("utf-8-sig")), 1)]
    except (ElementTree.ParseError, ValueError) as error:
        raise RasterError(f"{label} is not a well-formed VRT ({error}): make it again with gdalbuildvrt.") from error
    plain: dict[tuple, str] = {}
    """Names in lower case of elements with nothing but plain facts: thousands of elements are of few kinds."""
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
            facts = {key.lower(): value for key, value in element.attrib.items()}
            if name != "mdi" or facts.get("key", "").lower() in ("x_dataset", "y_dataset"):
                yield element.text or "", facts.get("relativetovrt") == "1"
        if name == "metadata":  # may hold any XML
            todo += [(inner, depth + 1) for inner in element.iter() if inner.tag.lower() == "mdi"]
        elif len(element) and name not in _TABLES:
            todo += [(inner, depth + 1) for inner in element]


def _unusual(element: ElementTree.Element) -> str | None:
    """What an ordinary VRT does not hold, if this element is that."""
    name, text = element.tag.lower(), element.text or ""
    facts = {key.lower(): value.lower() for key, value in element.attrib.items()}
    if name in _TABLES:
        return None
    if name not in _ELEMENTS and not name.endswith("transformer"):
        return f"an element <{element.tag}>"
    if not _ATTRIBUTES.issuperset(facts) or len(facts) < len(element.attrib):
        return f"an unknown attribute of <{element.tag}>"
    if facts.get("subclass", "vrtdataset") not in _CLASSES:
        return "raw bands or another unusual class"
    if name == "pixelfunctionlanguage" and text.strip().lower() != "c":
        return "a pixel function in Python"
    if name == "ooi" and facts.get("key") != "overview_level":
        return "an opening option"
    if name == "argument" and re.search("dataset|filename", facts.get("name", "")):
        return "a processing step with a file of its own"
    if name in _FILE_ELEMENTS and (len(element) or facts.get("relativetovrt", "0") not in ("0", "1")):
        return f"a name of a file in an unusual <{element.tag}>"
    if name in _SYSTEM_ELEMENTS and not _SYSTEM.match(text):
        return "a coordinate system that is not written out"
    if name == "kernelfilteredsource" and not _has_kernel(element):
        return "a filter without a kernel of Size x Size or Size coefficients"
    return None


def _has_kernel(element: ElementTree.Element) -> bool:
    """Whether a filter has what GDAL takes for granted; without it, GDAL falls."""
    facts = {inner.tag.lower(): (inner.text or "").split() for kernel in element if kernel.tag.lower() == "kernel"
             for inner in kernel}
    size, count = facts.get("size", []), len(facts.get("coefs", []))
    if len(size) != 1 or not re.fullmatch(r"[1-9]\d?", size[0]):
        return False
    return int(size[0]) % 2 == 1 and count in (int(size[0]), int(size[0]) ** 2)


def check_tiff(file: BinaryIO, header: bytes, label: str) -> None:
    """What a TIFF says of its blocks and in its metadata: in every directory, as overviews have their own."""
    order, big = "little" if header.startswith(b"I") else "big", b"+" in header[:4]
    room, count = (8, 8) if big else (4, 2)
    entry = struct.Struct(("<" if order == "little" else ">") + ("HHQ8s" if big else "HHI4s"))

    def read(position: int, size: int) -> bytes:
        if position + size > len(header):
            if position >> 63:  # beyond any file
                raise OverflowError
            file.seek(position)
            return file.read(size)
        return header[position : position + size]

    def number(data: bytes) -> int:
        return int.from_bytes(data, order)

    def value(tag: int, default: int, index: int = 0) -> int:
        _, kind, many, field = tags.get(tag, (tag, 0, 0, b""))
        size = _SIZES.get(kind, 0)
        if index >= many or not size:
            return default
        data = field if size * many <= room else read(number(field), size * (index + 1))
        return number(data[size * index : size * (index + 1)])

    known: set[int] = set()
    todo = [number(header[8:16] if big else header[4:8])]
    with contextlib.suppress(struct.error, OverflowError, OSError):  # of a file that is cut off: GDAL says so
        while todo:
            here = todo.pop()
            if here in known or not here:
                continue
            known.add(here)
            if len(known) > _DIRECTORIES:
                raise RasterError(f"{label} holds more than {_DIRECTORIES} images: take out one with gdal_translate.")
            size = min(number(read(here, count)), 65535) * entry.size
            entries = read(here + count, size + room)
            tags = {each[0]: each for each in reversed(list(entry.iter_unpack(entries[:size])))}
            todo.append(number(entries[size:]))
            if _SUB_DIRECTORIES in tags:
                todo += [value(_SUB_DIRECTORIES, 0, k) for k in range(min(tags[_SUB_DIRECTORIES][2], _DIRECTORIES))]
            _check_directory(value, label)
            if _METADATA in tags:
                _, _, size, field = tags[_METADATA]
                check_metadata(read(number(field), min(size, _TEXT_BYTES + 1)), label)


def _check_directory(value: Callable[[int, int], int], label: str) -> None:
    """The blocks of one image in a TIFF; GDAL reads strips that are not compressed in parts."""
    width, height, bands, tile_width, tile_height = (
        value(256, 1), value(257, 1), value(277, 1), value(322, 0), value(323, 0))
    if max(width, tile_width) * max(height, tile_height) * bands * 16 <= _BLOCK_BYTES:
        return
    bits, compression, planes = value(258, 1), value(259, 1), value(284, 1)
    pixel = max(1, bits // 8) * (bands if planes == 1 else 1)
    if tile_width:
        check_block(label, tile_height, tile_width, pixel)
    elif compression != 1:
        check_block(label, min(height, value(278, height)), width, pixel)
