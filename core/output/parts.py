"""The folder of parts beside an output: what geoi2i puts there, level by level, and one walk over it.

    scene_hst.tif.geoi2i-parts/
        geoi2i                  the marker: what is in here was made by geoi2i
        lock                    held by the run at work
        3f0c92b1a47d/           strips, made with the fingerprint in
            journal.json        inputs, model, options
            published.json      what the output is when it is whole, written before it gets its name
            pass-0-8-step-0-5/  strips that one segment of the run leaves for the next

Such a folder may have come with the data. It is opened once and never through a link; one with anything in it that is
not of these names, or that belongs to somebody else, is refused, and nothing but these names is ever removed.
"""

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from ..errors import RasterError
from ..files import PARTS_SUFFIX, TEMPORARY, Folder, describe_kind
from ..locks import lock_folder
from . import older
from .strips import ASSEMBLED, FILES, RECORDS

LOCK, JOURNAL, PUBLISHED, SIDECAR = "lock", "journal.json", "published.json", f"{ASSEMBLED}.aux.xml"
RUN = re.compile("[0-9a-f]{12}")
"""Names of the folders of runs."""
_MARKER, _MARK = "geoi2i", b"parts of a raster, layout 2\n"
_STRIPS = re.compile(r"done-0-\d{8}\.json")
# Names of files and of folders on each level.
_LEVELS = (
    (re.compile(f"{_MARKER}|{LOCK}|{TEMPORARY.pattern}"), RUN),
    (re.compile("|".join([*map(re.escape, (JOURNAL, PUBLISHED, ASSEMBLED, SIDECAR)), FILES.pattern, RECORDS.pattern,
                          TEMPORARY.pattern])), re.compile(r"pass-\d+-\d+-step-\d+-\d+")),
    (re.compile(f"{FILES.pattern}|{RECORDS.pattern}|{TEMPORARY.pattern}"), re.compile(r"(?!)")))

Kind = Literal["file", "folder", "foreign"]


def walk(folder: Folder, level: int, owner: int | None = None) -> Iterator[tuple[Folder, str, Kind]]:
    """All that is inside: where it is, its name, and whether it is a file or a folder of ours or foreign, which are
    other names, links, and what belongs to somebody else. A folder comes after what is in it.

    Args:
        level: 0 for the folder of parts, 1 for that of a run in it, 2 for that of a segment in this.
        owner: to whom what is ours belongs; None: to anybody.
    """
    if owner is not None and folder.descriptor is not None and os.fstat(folder.descriptor).st_uid != owner:
        yield folder, "it belongs to another user", "foreign"
        return
    for name in folder.names():
        kind = _kind(folder, name, level, owner)
        if kind == "folder":
            yield from walk(folder.sub(name), level + 1, owner)
        if kind:
            yield folder, name, kind


def _kind(folder: Folder, name: str, level: int, owner: int | None = None) -> Kind | None:
    """What stands under a name; None where nothing does."""
    files, folders = _LEVELS[level]
    status = folder.status(name)
    if status is None:
        return None
    if stat.S_ISDIR(status.st_mode) and folders.fullmatch(name):
        return "folder"
    ours = stat.S_ISREG(status.st_mode) and files.fullmatch(name) and owner in (None, status.st_uid)
    return "file" if ours else "foreign"


def open_parts(beside: Folder, output: Path, discards_older: bool) -> tuple[Folder, int]:
    """Opens and locks the folder of parts of an output, which is made if need be.

    Args:
        beside: the output's folder.
        discards_older: whether what an older version left is removed; else it is refused.

    Returns:
        The folder, and the number of the lock.

    Raises:
        RasterError: where it is not ours, or another run has it.
        OSError: where it cannot be made.
    """
    path = output.with_name(output.name + PARTS_SUFFIX)
    while True:
        try:
            folder = beside.sub(path.name, make=True)
        except OSError as error:
            there = beside.status(path.name)
            if error.errno in (errno.ELOOP, errno.ENOTDIR) and there and not stat.S_ISDIR(there.st_mode):
                raise RasterError(f"{path} is {describe_kind(there.st_mode)} that geoi2i did not make: remove it, or "
                                  "name another output.") from error
            raise
        try:
            is_older = older.is_older(folder, beside.owner())
            if is_older and not discards_older:
                raise RasterError(f"{path} was started by an older version of geoi2i: --overwrite starts again.")
            if not is_older:
                check_ours(folder, beside.owner())
            lock = lock_folder(folder, LOCK)
        except FileNotFoundError:  # the run that ended just now removed the folder
            continue
        if lock is None:
            raise RasterError(f"{output} is being written by another run: wait for it, or name another output.")
        if folder.is_there():
            break
        os.close(lock)
    try:
        if is_older:
            older.discard(folder, beside.owner())
    except BaseException:
        os.close(lock)
        raise
    return folder, lock


def check_ours(folder: Folder, owner: int) -> None:
    """Raises RasterError where a folder of parts holds anything that geoi2i did not make.

    Args:
        owner: of what this process makes there.
    """
    names = folder.names()
    foreign = next((place.path / name for place, name, kind in walk(folder, 0, owner) if kind == "foreign"), None)
    marked = foreign is None
    if marked and _MARKER in names:
        with contextlib.suppress(OSError):
            marked = folder.read(_MARKER, 4096) == _MARK
    elif marked:  # a run may have been killed before it set the marker
        marked = not any(RUN.fullmatch(name) for name in names)
    if not marked:
        named = f" ({foreign.relative_to(folder.path).as_posix()[:80]!a})" if foreign else ""
        raise RasterError(f"{folder.path} holds what this version of geoi2i did not make{named}: remove it, or name "
                          "another output.")


def mark(folder: Folder) -> None:
    """Sets the marker in a folder of parts that has none."""
    if _MARKER not in folder.names():
        with folder.replacing(_MARKER) as file:
            file.write(_MARK)


def count_strips(folder: Folder, level: int) -> int:
    """How many strips of the output are whole, those that segments leave for the next included."""
    return sum(kind == "file" and bool(_STRIPS.fullmatch(name)) for _, name, kind in walk(folder, level))


def clear(folder: Folder, level: int, but: str | None = None) -> None:
    """Removes what is ours.

    Args:
        but: name of files to keep.
    """
    for place, name, kind in walk(folder, level):
        if kind == "file" and name != but:
            place.remove(name)
        elif kind == "folder":
            with contextlib.suppress(OSError):  # not empty: of others
                place.remove_folder(name)


def remove_segments(folder: Folder, but: set[str | None]) -> None:
    """Removes folders of segments, with all that geoi2i put there.

    Args:
        folder: of a run.
        but: names of those to keep.
    """
    for name in folder.names():
        if name not in but and _kind(folder, name, 1) == "folder":
            clear(folder.sub(name), 2)
            with contextlib.suppress(OSError):  # not empty: of others
                folder.remove_folder(name)
