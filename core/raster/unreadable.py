"""Why GDAL could not open a raster, in a sentence: what the file is, what the server, the memory or PROJ said."""

import os
import re
import zipfile

from ..errors import DeviceError, Geoi2iError, RasterError, shorten, why_refused
from .formats import NOT_READ, READ, archive, first_bytes, foreign
from .remote import is_remote
from .security import LABELS, SINGLE

_MEMORY = re.compile(r"(?i)cannot allocate|out of memory|not enough memory|unable to allocate|malloc")
_UNREACHABLE = re.compile(r"(?i)(could ?n.t|could not|failed to) (resolve|connect)|connection (was )?(refused|reset|"
                          r"timed)|timed out|timeout|unreachable|response code: 0|SSL|CURL error")
_ANSWERS = {"401": "wants a login", "403": "does not permit it", "404": "has no such file", "410": "has no such file",
            "429": "gets too many requests"}
_LOGIN = re.compile(r"(?i)credential|AWS_|AZURE_|GS_|access.?key|signature")
_FIRST_ZIPPED = 10_000
_READABLE = (*SINGLE, *LABELS, b"<VRT", b"SQLite")


def unreadable(path: str, error: Exception, about_crs: bool = False) -> Geoi2iError:
    """Why a raster could not be opened.

    Args:
        error: what rasterio raised.
        about_crs: whether it says so of the CRS.
    """
    if found := no_damage(path, error):
        return found
    reason = _reason(error)
    if about_crs:
        return RasterError(f"{path} has a CRS that PROJ cannot hold ({reason}): set another with gdal_edit.py -a_srs.")
    if first_bytes(path).startswith(_READABLE):
        return RasterError(f"{path} is not a raster that GDAL can read: it is damaged or cut off ({reason}). Copy or "
                           "download it again.")
    return RasterError(f"{path} is not a raster that GDAL can read, or not of a format that is safe to read "
                       f"({reason}): check the path, or convert it to GeoTIFF with gdal_translate.")


def no_damage(path: str, error: Exception) -> Geoi2iError | None:
    """Why a raster could not be read, where it is not damaged: a server, an archive, the system, its format or the
    memory is the reason; None for all else."""
    said = " ".join(str(each) for each in (error, error.__cause__) if each)
    look = _at_the_server if is_remote(path) else _inside if path.startswith("/vsi") else _on_the_disk
    if found := look(path, said):
        return found
    if _MEMORY.search(said):
        return DeviceError(f"{path} cannot be read, as the memory does not suffice ({_reason(error)}): close other "
                           "programs, or cut out a part with gdal_translate -srcwin.")
    return None


def _reason(error: Exception) -> str:
    return shorten("".join(c if c.isprintable() else "?" for c in str(error)))  # may quote bytes of the file


def _at_the_server(path: str, said: str) -> RasterError | None:
    if code := re.search(r"response code(?: on [^:]*)?: ?([1-5]\d\d)|HTTP error code ?: ?([1-5]\d\d)", said):
        number = code[1] or code[2]
        what = _ANSWERS.get(number, "failed" if number.startswith("5") else "refused")
        return RasterError(f"{path} cannot be read: the server {what} (response code: {number}). Check the address and "
                           "your rights, or try again later.")
    if _LOGIN.search(said):
        return RasterError(f"{path} cannot be read, as its server wants a login: set GDAL's variables for it (for S3 "
                           "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_NO_SIGN_REQUEST=YES).")
    if _UNREACHABLE.search(said):
        return RasterError(f"{path} cannot be read, as the server cannot be reached: check the address and the "
                           "network, or try again later.")
    return None


def _inside(path: str, said: str) -> RasterError | None:
    """What is wrong with the archive that a path leads into."""
    kind, _, rest = path.removeprefix("/vsi").partition("/")
    file = _existing(rest.strip("{}") if rest.startswith("{") else rest)
    if file is None:
        return RasterError(f"{path} leads into an archive that does not exist: check the path.")
    if kind == "zip" and os.path.isfile(file):
        inner = os.path.relpath(rest, file)
        names = _zipped(file)
        if names is None:
            return RasterError(f"{path} leads into a file that is not a zip archive, or is damaged: download it again.")
        if inner not in names:
            return RasterError(f"{path} names nothing in the archive: name a file of it{_for_example(file, names)}.")
    return None


def _existing(path: str) -> str | None:
    """The file on this disk with which a path begins."""
    while path and path != os.path.dirname(path):
        if os.path.isfile(path):
            return path
        path = os.path.dirname(path)
    return None


def _on_the_disk(path: str, said: str) -> RasterError | None:
    """What the system or the first bytes say of a file."""
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        return RasterError(f"{path} cannot be opened, as {why_refused(error)}.") if os.path.lexists(path) else None
    except ValueError:
        return None
    if not os.path.getsize(path):
        return RasterError(f"{path} is not a raster that GDAL can read: it is empty. Copy or download it again.")
    head = first_bytes(path)
    named = NOT_READ.get(os.path.splitext(path)[1].lower())
    if kind := archive(head):
        if kind == "gzip" and not path.lower().endswith((".tar.gz", ".tgz")):
            return RasterError(f"{path} is compressed: name what is in it, /vsigzip/{path}, or unpack it with gunzip.")
        kind, names = ("tar", None) if kind == "gzip" else (kind, _zipped(path) if kind == "zip" else None)
        example = _for_example(path, names or [], kind) or f", /vsi{kind}/{path}/ and its name there"
        return RasterError(f"{path} is an archive: name a raster in it{example}.")
    if what := foreign(head):
        return RasterError(f"{path} is {what}: convert it to GeoTIFF with gdal_translate." if "format" in what
                           else f"{path} is {what}: name or download the raster itself.")
    if named and not head.startswith(_READABLE):
        return RasterError(f"{path} is {named}, a format that is not read here: convert it to GeoTIFF with "
                           "gdal_translate.")
    return None


def _zipped(path: str) -> list[str] | None:
    """The names in a zip archive; None where it is none."""
    try:
        with zipfile.ZipFile(path) as file:
            return file.namelist()[:_FIRST_ZIPPED]
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return None


def _for_example(archive_path: str, names: list[str], kind: str = "zip") -> str:
    """The first raster in an archive, as GDAL names it."""
    first = next((name for name in names if os.path.splitext(name)[1].lower() in READ
                  and not any(part.startswith((".", "__MACOSX")) for part in name.split("/"))), None)
    return f", for example /vsi{kind}/{archive_path}/{first}" if first else ""
