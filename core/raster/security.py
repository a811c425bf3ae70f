"""What may be opened: a raster from anybody, and every file it leads to, is inspected before GDAL reads it."""

import contextlib
import os
import re
import stat
from dataclasses import dataclass
from typing import BinaryIO

from ..errors import RasterError, why_refused
from ..memory import check_memory
from .limits import Limits
from .rows import numpy_dtype
from .security_hdf5 import check_hdf5
from .security_sqlite import check_geopackage
from .security_tiff import BANDS, check_block, check_metadata, check_tiff
from .security_vrt import vrt_names

_HEADER, _PAM_BYTES = 4096, 32 << 20
_ROWS_HELD = 3  # rows of blocks: in use, waiting and being read
_DEPTH, _FILES, _READS = 16, 100_000, 10_000_000

SINGLE = {
    b"II*\0": "GTiff", b"MM\0*": "GTiff", b"II+\0": "GTiff", b"MM\0+": "GTiff", b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG", b"\0\0\0\x0cjP  \r\n\x87\n": "JP2OpenJPEG", b"\xff\x4f\xff\x51": "JP2OpenJPEG",
    b"GIF8": "GIF", b"BM": "BMP", b"RIFF": "WEBP"}
"""Formats that are one file and name no other, by their first bytes."""
_SINGLE_DRIVERS = sorted(set(SINGLE.values()))
_HDF5, _SQLITE = b"\x89HDF\r\n\x1a\n", b"SQLite format 3\0"
_CONTAINERS = {_HDF5: ["netCDF", "HDF5", "HDF5Image"], b"CDF": ["netCDF"], _SQLITE: ["GPKG"]}
_SUBDATASETS = {"netcdf": "netCDF", "hdf5": "HDF5Image", "gpkg": "GPKG"}
# Formats that can name other files, so that GDAL must say which before a pixel is read.
_DETACHED = ["ISIS3", "ISIS2", "PDS", "PDS4", "VICAR", "HFA", "ENVI", "EHdr", "NITF", "AAIGrid", "GRASSASCIIGrid",
             "SRTMHGT", "DTED", "GRIB", "FITS"]
LABELS = (_HDF5, b"CDF", b"Object = IsisCube", b"PDS_VERSION_ID", b"ODL_VERSION_ID", b"CCSD3ZF", b"NJPL1I00",
           b"LBLSIZE=", b"EHFA_HEADER_TAG", b"NITF0", b"NSIF0", b"ncols", b"NCOLS", b"UHL1", b"GRIB", b"SIMPLE  =")
"""First bytes by which GDAL, left to choose, takes a file for one of these formats and nothing else."""
# First bytes, and words near the start, of formats that name other files and that GDAL may take a data file for.
_NAMING = (_HDF5, b"Object = IsisCube", b"PDS_VERSION_ID", b"ODL_VERSION_ID", b"PCIDSK", b"DatasetHeader",
           b"OziExplorer", b"Format version", b"[General]")
_MARKUP = re.compile(rb"<(?:\?xml|!DOCTYPE|VRTData|GDAL|WM[ST]|WCS|wmts:|Capabil|Services|TileMap|MRF_|product|xfdu:"
                     rb"|n1:Level|Table_of|\w*(?i:dimap))")
_VIRTUAL = re.compile(r"/vsi|[A-Za-z][\w+.-]+:")
_SERVER = re.compile(r"(?i)(?:https?|ftp|s3|gs|az|oss|swift)://|/vsi(?:curl|s3|gs|az|adls|oss|swift|webhdfs|hdfs)")
_SUBDATASET = re.compile(rf'(?i)({"|".join(_SUBDATASETS)}):(?:"([^"]+)"|([^":]+)):.')
_CONTROL = re.compile(r"[\0-\x1f\x7f<]")
# A second lock: no driver of GDAL reaches a server, whatever a file names and this look has missed.
_OFFLINE = {"CPL_VSIL_CURL_ALLOWED_FILENAME": "none", "GDAL_HTTP_PROXY": "127.0.0.1:0",
            "GDAL_HTTPS_PROXY": "127.0.0.1:0"}


@dataclass(frozen=True)
class Opening:
    """How GDAL may open a raster that was inspected."""

    name: str
    drivers: list[str]
    settings: dict[str, str]
    sources: list[tuple[str, list[str]]]
    """Files that a VRT names, with their drivers: they too must be opened and pass `check_opened`."""
    fragile: list[tuple[str, list[str], str]]
    """What to open in another process first, with its drivers and the file that it is in."""


def inspect(path: str, limits: Limits) -> Opening:
    """Looks at a raster and at every file that GDAL would read with it.

    Raises:
        RasterError: before anything is read, if a file could lead GDAL to a server or to a file that is not a raster.
    """
    if _CONTROL.search(path) and not path.isprintable() and _stands(path):
        raise RasterError(f"{path!a} has a line break or another control character in its name: rename the file.")
    if _CONTROL.search(path) and not (path.isprintable() and _stands(path)):
        raise RasterError(f"{path[:60]!r} is not a path: write a VRT to a file and name that.")
    if any("\ud800" <= c <= "\udfff" for c in path):
        raise RasterError(f"{path!a} is a name that is not UTF-8, which GDAL cannot take: rename the file.")
    try:
        return _looked_at(path, _Look(limits))
    except OSError as error:
        raise RasterError(f"{error.filename or path} cannot be read, as {why_refused(error)}.") from error


def _stands(path: str) -> bool:
    """Whether something stands under a path."""
    with contextlib.suppress(ValueError):  # of a zero byte
        return os.path.lexists(path)
    return False


def _looked_at(path: str, look: "_Look") -> Opening:
    if os.path.lexists(path) or not _VIRTUAL.match(path):
        # Absolute, so that no name starts with what GDAL takes for more than a name.
        name = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
        drivers = look.file(name, path)
    elif inner := _SUBDATASET.match(path):
        name, driver, file = path, _SUBDATASETS[inner[1].lower()], inner[2] or inner[3]
        drivers = [driver] if driver in look.file(os.path.abspath(file), file) else []
        if not drivers:
            raise RasterError(f"{path} names {file}, which is not of that format: name the file alone.")
        look.beside = True  # GDAL reads what is beside the file of a sub-dataset, whatever is set
        look.fragile = [(name, drivers, file)] * bool(look.fragile)
    else:
        # What is inside an archive or on a server cannot be inspected: no format that names other files.
        name, drivers, look.remote = path, _SINGLE_DRIVERS, bool(_SERVER.search(path))
    if look.beside and look.old:
        raise RasterError(f"{look.old} would be read with {path}, and such a file can name any other: "
                          "move or rename it.")
    settings = {"GDAL_DISABLE_READDIR_ON_OPEN": "TRUE" if look.beside else "EMPTY_DIR"}
    return Opening(name, drivers, settings if look.remote else settings | _OFFLINE, look.sources, look.fragile)


def check_opened(data, path: str, limits: Limits) -> None:
    """Checks what only GDAL can say of an opened raster (a rasterio dataset), before a pixel is read."""
    if any(key.upper() == "OVERVIEW_FILE" for key in data.tags(ns="OVERVIEWS")):
        raise RasterError(f"{path} names a file for its overviews: make a copy with gdalwarp -nomd.")
    if data.driver in _DETACHED:
        _check_companions(path, data.name, data.files)
    pixels = data.height * data.width
    if pixels > limits.max_pixels:
        raise RasterError(f"{path} has {data.width} x {data.height} pixels, more than {limits.max_pixels}: cut out a "
                          f"part with gdal_translate -srcwin, or allow it with --max-pixels {pixels}.")
    if data.count > BANDS:
        raise RasterError(f"{path} has {data.count} bands, more than {BANDS}: pick some with gdal_translate -b.")
    # GDAL goes round and round over this of a damaged JPEG 2000.
    structure = data.tags(ns="IMAGE_STRUCTURE") if data.driver == "GTiff" else {}
    together = data.count if structure.get("INTERLEAVE") == "PIXEL" else 1
    for (height, width), dtype in set(zip(data.block_shapes, data.dtypes)):
        each = numpy_dtype(dtype).itemsize
        check_block(path, height, width, together * each)
        check_memory(_ROWS_HELD * height * data.width * each, path, f"rows of its {width} x {height} blocks",
                     "cut out a part with gdal_translate -srcwin, or store it in small tiles with -co TILED=YES")


def _check_companions(path: str, name: str, files: list[str]) -> None:
    """A raster in several files: they must stand together, so that none of them is somebody else's."""
    folder, own = os.path.split(os.path.realpath(name))
    stem = os.path.splitext(own)[0].lower()
    for file in files:
        there, other = os.path.split(os.path.realpath(file))
        if there != folder or not f"{other.lower()}.".startswith(f"{stem}."):
            raise RasterError(f"{path} has its data in {file}: a data file must stand in the same folder and have the "
                              "same name but for the ending. Rename both, or convert it with gdal_translate.")
        if other in (own, f"{own}.aux.xml"):
            continue
        with _regular(file, file) as data:
            header = data.read(_HEADER)
        if header.startswith(_NAMING) or _MARKUP.search(header.partition(b"\0")[0]):
            raise RasterError(f"{path} has its data in {file}, which can itself name other files: convert it to "
                              "GeoTIFF with gdal_translate.")
        if header.startswith(tuple(SINGLE)):
            _Look(Limits()).file(file, file)


class _Look:
    """One inspection of a raster and of what it leads to; each file is inspected once."""

    def __init__(self, limits: Limits):
        self.limits = limits
        self.reads: dict[str, int] = {}
        """How many files one read of a file leads to."""
        self.sources: list[tuple[str, list[str]]] = []
        self.fragile: list[tuple[str, list[str], str]] = []
        self.remote = self.beside = False
        self.old: str | None = None
        self._folders: dict[str, set[str]] = {}

    def file(self, path: str, label: str, depth: int = 0) -> list[str]:
        """Looks at a file, and returns the drivers that may open it; `label` says what it is to the user."""
        with _regular(path, label) as file:
            header = file.read(_HEADER)
            kind = next((driver for start, driver in SINGLE.items() if header.startswith(start)), None)
            text = header.partition(b"\0")[0]
            self._sidecars(path, depth)
            if kind is None and b"<VRTDataset" in text[:1024]:
                file.seek(0)
                self._vrt(file, path, label, depth)
                return ["VRT"]
            if kind == "GTiff":
                check_tiff(file, label)
            elif header.startswith(_HDF5):
                check_hdf5(file, header, label)
            elif header.startswith(_SQLITE):
                check_geopackage(path, label)
        # GDAL chooses the driver of what a VRT names, and some look for words in the text before the first zero.
        wordy = len(text) > 64 or any(word in text for word in LABELS) if kind else not header.startswith(LABELS)
        if depth and (wordy or _MARKUP.search(text)):
            raise RasterError(f"{label} is not a raster of a format that a VRT may name here: "
                              "convert it to GeoTIFF with gdal_translate.")
        drivers = [kind] if kind else next((names for start, names in _CONTAINERS.items() if header.startswith(start)),
                                           _DETACHED)
        if header.startswith((_HDF5, b"CDF")):
            self.fragile.append((path, drivers, path))
        self.beside |= drivers is _DETACHED
        if depth and kind in (None, "JP2OpenJPEG"):
            self.sources.append((path, drivers))
        return drivers

    def _sidecars(self, path: str, depth: int) -> None:
        """Looks at the files beside a raster that GDAL reads with it."""
        # The thousands of files in one folder that a VRT may name are not asked for one by one.
        maybe = self._beside(path) if depth else None

        def there(name: str) -> bool:
            return (maybe is None or name.lower() in maybe) and os.path.lexists(name)

        stem, ending = os.path.splitext(path)
        for name in (f"{path}.ovr", f"{path}.OVR", f"{path}.msk", f"{path}.MSK"):
            if there(name):
                self.beside, label = True, f"{name}, which would be read with the raster,"
                with _regular(name, label) as file:
                    if SINGLE.get(file.read(4)) != "GTiff":
                        raise RasterError(f"{label} is not a TIFF: delete it, or make it again with gdaladdo.")
                self.file(name, name)
        if there(f"{path}.aux.xml"):
            self.beside = True
            name = f"{path}.aux.xml"
            with _regular(name, name) as file:
                check_metadata(file.read(_PAM_BYTES), f"{name}, which would be read with the raster,")
        places = [".wld", f"{ending}w", f"{ending[:2]}{ending[-1:]}w", "_rpc.txt", ".rpb"]
        for name in (f"{stem}{end}" for place in places for end in (place, place.upper())):
            if there(name):
                self.beside = True
                _regular(name, name).close()
        for name in (f"{stem}.aux", f"{stem}.AUX", f"{path}.aux", f"{path}.AUX"):
            if there(name):
                self.old = name

    def _beside(self, path: str) -> set[str]:
        """The paths of the files in the same folder, in lower case."""
        folder = path.removesuffix(os.path.basename(path))
        if folder not in self._folders:
            self._folders[folder] = {f"{folder}{name}".lower() for name in os.listdir(folder)}
        return self._folders[folder]

    def _vrt(self, file: BinaryIO, path: str, label: str, depth: int) -> None:
        """Looks at a VRT and at every file it names."""
        if depth > _DEPTH:
            raise RasterError(f"{label} is the VRT of a VRT, more than {_DEPTH} deep: convert it to GeoTIFF with "
                              "gdal_translate.")
        folder = os.path.dirname(os.path.realpath(path) if os.path.islink(path) else path)
        self.reads[path] = 0
        for name, relative in vrt_names(file, label):
            there = os.path.join(folder, name) if relative else os.path.abspath(name)
            if there not in self.reads:
                self._named(name, there, path if depth else label, depth)
            self.reads[path] += max(1, self.reads[there])
        if self.reads[path] > _READS:
            raise RasterError(f"{label} leads to {self.reads[path]} reads of files: convert a part of it to GeoTIFF "
                              "with gdal_translate.")

    def _named(self, name: str, path: str, vrt: str, depth: int) -> None:
        """Looks at a file that a VRT names."""
        self.reads[path] = 1
        shown = name if len(name) < 100 else f"{name[:100]}..."
        if _VIRTUAL.match(name) and _SERVER.search(name):
            if not self.limits.allow_remote:
                raise RasterError(f"{vrt} names {shown!r}, which is on a server: download it first, or allow servers "
                                  "with --allow-remote.")
            self.remote = True
            return
        windows = os.name == "nt" and re.match(r"[A-Za-z]:[\\/]", name)
        if (name != name.strip() or not name or _CONTROL.search(name) or "://" in name
                or name.startswith(("/vsi", "//", "\\")) or (not windows and re.match(r"[A-Za-z][\w.+-]*:", name))):
            raise RasterError(f"{vrt} names {shown!r}, which is not the path of a file: convert that to GeoTIFF with "
                              "gdal_translate and name the result.")
        if len(self.reads) > _FILES:
            raise RasterError(f"{vrt} names more than {_FILES} files: convert parts of it to GeoTIFF with "
                              "gdal_translate.")
        if not self.limits.covers(path):
            raise RasterError(f"{vrt} names {shown!r}, which is outside of the folder that is worked on: allow it with "
                              "--only-below and a folder that holds both.")
        self.file(path, f"{shown}, which {vrt} names,", depth + 1)


def _regular(path: str, label: str) -> BinaryIO:
    """Opens a file that is neither a folder nor a device, with a sentence for each way this can fail."""
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise RasterError(f"{label} is a folder, not a raster: name the file.")
        if not stat.S_ISREG(mode):
            raise RasterError(f"{label} is a device or a pipe, not a file: write what it holds to a file first.")
        return open(path, "rb")
    except FileNotFoundError:
        raise RasterError(f"{label} does not exist: check the path.") from None
    except OSError as error:
        raise RasterError(f"{label} cannot be opened, as {why_refused(error)}.") from error
