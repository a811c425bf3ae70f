"""Where an output goes: what cannot be written, or must not be overwritten."""

import contextlib
import os
import stat
from pathlib import Path

from ..errors import RasterError, shorten, why_refused
from ..files import PARTS_SUFFIX
from ..raster.formats import ARCHIVES, NOT_READ, READ, TIFF
from ..writing import check_regular

_LONGEST_NAME = 255
"""Bytes of a file's name on the disks of today, where a disk does not say."""


def check_output(path: Path, overwrite: bool, makes_folder: bool = False) -> None:
    """Raises RasterError where the output cannot or must not be written; touches nothing.

    Args:
        makes_folder: whether its folder will be made, where it is missing.
    """
    check_place(path, makes_folder)
    check_name(path, overwrite)


def check_place(path: Path, makes_folder: bool = False) -> None:
    """Raises RasterError where the output cannot be written."""
    check_length(path)
    check_regular(path)
    folder = path.parent
    try:
        if makes_folder:
            folder = next(parent for parent in path.absolute().parents if parent.exists())
        is_there, is_folder = folder.exists(), folder.is_dir()
    except OSError as error:
        raise RasterError(f"The output folder {shorten(str(folder))} cannot be used, as {why_refused(error)}.") \
            from error
    if not is_folder:
        missing = "is not a folder" if is_there else "does not exist"
        raise RasterError(f"The output folder {folder} {missing}: create it, or choose another.")
    if not os.access(folder, os.W_OK):
        raise RasterError(f"Nothing can be written in {folder} (read-only): choose another output folder.")


def check_format(path: Path) -> None:
    """Raises RasterError where an output's name says that it is of another format than GeoTIFF."""
    ending = path.suffix.lower()
    if ending not in TIFF and ending in (*READ, *NOT_READ, *ARCHIVES):
        raise RasterError(f"{path} has the ending of another format, and a GeoTIFF is written: name the output "
                          f"{path.stem}{TIFF[0]}, and convert it with gdal_translate.")


def check_length(path: Path) -> None:
    """Raises RasterError where an output's name, or that of the folder of its parts, is longer than a disk can hold."""
    longest = _LONGEST_NAME - len(PARTS_SUFFIX)
    if (length := len(os.fsencode(path.name))) > longest:
        raise RasterError(f"The name of the output {shorten(path.name)} has {length} bytes, more than the {longest} "
                          "that there is room for: name a shorter --output.")


def check_name(path: Path, overwrite: bool, own: str | None = None) -> None:
    """Raises RasterError where the output must not be written: something stands there, or files that GDAL would read
    along with it are left from another raster.

    Args:
        own: name of such a file that belongs to the output.
    """
    check_regular(path)
    exists = path.exists()
    if exists and not overwrite:
        raise RasterError(f"{path} exists already: give --overwrite to replace it, or name another output.")
    for name in sidecars(path):
        if name == own:
            continue
        regular = stat.S_ISREG(os.lstat(path.with_name(name)).st_mode)
        if not (exists and regular):
            raise RasterError(f"{path.with_name(name)} would be read along with the output: remove it, or name another "
                              "output.")


def sidecars(path: Path) -> list[str]:
    """Names of the files beside a raster that GDAL would read along with it.

    They are listed, not asked for one by one: GDAL looks for some of them in any mix of letter case.
    """
    name, stem, ending = path.name.lower(), path.stem.lower(), path.suffix.lower()
    read = {f"{name}.msk", f"{name}.ovr", f"{name}.aux.xml", f"{name}.aux", f"{stem}.aux", f"{stem}.wld",
            f"{stem}{ending}w", f"{stem}{ending[:2]}{ending[-1:]}w", f"{stem}_rpc.txt", f"{stem}.rpb"} - {name}
    with contextlib.suppress(FileNotFoundError):
        return sorted(there for there in os.listdir(path.parent) if there.lower() in read)
    return []


def stands_alone(path: Path) -> bool:
    """Whether nothing beside a finished output changes how GDAL reads it, but what programs keep in an `.aux.xml`."""
    return not set(sidecars(path)) - {f"{path.name}.aux.xml"}


def remove_sidecars(path: Path, but: str | None = None) -> None:
    """Removes the files that were read along with a raster that is being replaced, all but the one named."""
    for name in sidecars(path):
        if name != but:
            path.with_name(name).unlink(missing_ok=True)


def same_file(a: str | os.PathLike, b: str | os.PathLike) -> bool:
    """Whether both paths name one existing file."""
    try:
        return os.path.samefile(a, b)
    except OSError:
        return False
