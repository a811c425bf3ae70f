"""Which formats are read: by the endings of files, and by what their first bytes say of those that are not."""

import functools
import os
import re
import stat
from pathlib import Path

TIFF = (".tif", ".tiff", ".gtiff", ".gtif", ".btf", ".tf8")
READ = (*TIFF, ".asc", ".bil", ".bip", ".bmp", ".bsq", ".cub", ".dt0", ".dt1", ".dt2", ".fit", ".fits", ".flt", ".fts",
        ".gif", ".gpkg", ".grb", ".grb2", ".grib", ".grib2", ".h5", ".hdf5", ".he5", ".hgt", ".img", ".j2k", ".jp2",
        ".jpeg", ".jpg", ".nc", ".nc4", ".nsf", ".ntf", ".png", ".vic", ".vrt", ".webp")
"""Endings of the formats that are read."""
NOT_READ = {
    ".adf": "ArcInfo grids", ".avif": "AVIF", ".blx": "BLX", ".bt": "BT", ".dem": "USGS DEM", ".e00": "E00",
    ".ecw": "ECW", ".gen": "ADRG", ".gff": "GFF", ".gsb": "NTv2 grids", ".gtx": "GTX", ".gxf": "GXF", ".hdf": "HDF4",
    ".heic": "HEIF", ".jxl": "JPEG XL", ".kap": "BSB charts", ".kea": "KEA", ".lcp": "LCP", ".map": "PCRaster",
    ".mbtiles": "MBTiles", ".mrf": "MRF", ".pdf": "PDF", ".pix": "PCIDSK", ".rik": "RIK", ".rst": "Idrisi",
    ".rsw": "RMF", ".sdat": "SAGA", ".sid": "MrSID", ".ter": "Terragen", ".toc": "RPF", ".xyz": "XYZ", ".zarr": "Zarr"}
"""Endings of raster formats that are not read, with their names."""
_COMMON = (".bt", ".gen", ".map", ".pdf", ".rst", ".ter", ".toc", ".xyz")
"""Those of them that files other than rasters usually have."""
ARCHIVES = (".7z", ".gz", ".rar", ".tar", ".tgz", ".zip")
_SHARED = (".bin", ".dat", ".grd", ".lbl", ".raw", ".xml")
"""Endings of data of many formats, and of labels that describe it."""
_ARCHIVES = {b"PK\3\4": "zip", b"\x1f\x8b": "gzip", b"7z\xbc\xaf": "7z", b"Rar!": "rar"}
_COMPANIONS = (".aux", ".hdr", ".msk", ".ovr", ".prj", ".rrd", ".wld")
_APPLE_DOUBLE = b"\0\5\x16\7"
_FIRST_OF_ASCII_GRIDS = (b"ncols", b"nrows", b"xll", b"yll", b"cellsize", b"dx", b"dy", b"north:")
_OTHER = {b"\x0e\x03\x13\x01": "HDF4", b"msid": "MrSID", b"PCIDSK": "PCIDSK", b"DSAA": "a Surfer grid",
          b"DSBB": "a Surfer grid", b"DSRB": "a Surfer grid", b"%PDF": "PDF", b"AT&T": "DjVu", b"8BPS": "Photoshop",
          b"v/1\x01": "OpenEXR", b"DDS ": "DDS", b"<MRF_META": "MRF", b"<GDAL_W": "a web service",
          b"<WMS": "a web service", b"<WCS": "a web service", b"TERRAGEN": "Terragen", b"RSF1": "RMF", b"RMF1": "RMF",
          b"[general]": "an R raster"}
_FIRST_BYTES = 4096


@functools.cache
def _first_read() -> tuple[bytes, ...]:
    """First bytes of formats that are read, long enough not to stand in another file by chance."""
    from .security import LABELS, SINGLE  # only where files are looked into: names of formats cost nothing

    return (*(start for start, driver in SINGLE.items() if driver in ("GTiff", "JP2OpenJPEG")), *LABELS,
            b"<VRTDataset")


def first_bytes(path: str | os.PathLike) -> bytes:
    """The first bytes of a regular file; none of anything else, or where it cannot be opened."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return b""
        with open(path, "rb") as file:
            return file.read(_FIRST_BYTES)
    except (OSError, ValueError):
        return b""


def archive(head: bytes) -> str | None:
    """How GDAL names what reads an archive that begins so: zip, tar, gzip, 7z or rar; None where it is not one."""
    if head[257:262] == b"ustar":
        return "tar"
    return next((name for start, name in _ARCHIVES.items() if head.startswith(start)), None)


def foreign(head: bytes) -> str | None:
    """What a file that begins so is, where it is certainly not a raster that is read, as words behind "is"."""
    text = head.lstrip(b"\xef\xbb\xbf \r\n\t")[:64].lower()
    if head.startswith(_APPLE_DOUBLE):
        return "what macOS keeps beside a file (AppleDouble), without pixels"
    if head.startswith(b"version https://git-lfs"):
        return "the pointer of Git LFS to a file that was not downloaded"
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page, as servers send in place of a file"
    if head[4:12] in (b"ftypavif", b"ftypheic", b"ftypheix", b"ftypmif1"):
        return "HEIF or AVIF, a format that is not read here"
    name = next((name for start, name in _OTHER.items() if head.startswith(start)), None)
    return f"{name}, a format that is not read here" if name else None


def without_ending(name: str) -> str:
    """A name or path without the ending of its format; what else stands behind a full stop is part of the name."""
    stem, ending = os.path.splitext(name)
    return stem if ending.lower() in (*READ, *NOT_READ, *_SHARED) else name


def is_raster(path: Path) -> bool:
    """Whether a file in a folder is taken for a raster: by its ending or, where many formats share it, the content."""
    ending = path.suffix.lower()
    if ending == ".gpkg":
        from .security_sqlite import holds_tiles

        return holds_tiles(path)
    if ending == ".asc":
        return first_bytes(path).lstrip().lower().startswith(_FIRST_OF_ASCII_GRIDS)
    if ending in READ:
        return not _described(path)
    if ending in ("", ".dat", ".raw", ".bin"):
        return any(first_bytes(header).startswith(b"ENVI") for header in (path.with_suffix(".hdr"), f"{path}.hdr"))
    if ending in (".lbl", ".xml"):
        return _is_label(path)
    return False


def why_skipped(path: Path) -> str | None:
    """Why a file in a folder, which is not taken for a raster, may be one after all; None where it is none."""
    ending = path.suffix.lower()
    if ending in READ or ending in _COMPANIONS or path.name.lower().endswith((".aux.xml", ".lbl", ".hdr")):
        return None
    if ending in NOT_READ and ending not in _COMMON:
        return f"{NOT_READ[ending]} is not read"
    head = first_bytes(path)
    if kind := archive(head):
        return f"an archive: name what is in it with /vsi{kind}/" if ending in ARCHIVES else None
    if head.startswith(_first_read()):
        return "the ending is not of its format"
    return "not read" if (foreign(head) or "").endswith("is not read here") else None


def _described(path: Path) -> bool:
    """Whether a file holds the pixels of a raster that is named by its label."""
    return any(label != path and label.exists() and _is_label(label)
               for label in (path.with_suffix(end) for end in (".lbl", ".LBL", ".xml")))


def _is_label(path: Path) -> bool:
    """Whether a file describes pixels that stand in another: of PDS3, ISIS3 or PDS4."""
    head = first_bytes(path)
    return head.startswith((b"PDS_VERSION_ID", b"ODL_VERSION_ID", b"Object = IsisCube", b"CCSD3ZF")) \
        or bool(re.search(rb"<Product_Observational\b", head))
