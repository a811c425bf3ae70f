"""Folders of parts that older versions left: recognised, so that they are refused with a reason or discarded.

    scene_hst.tif.geoi2i-parts/     by a version whose runs could resume
        lock
        3f0c92b1a47d/               the SHA-256 of the journal begins so
            journal.json, published.json, output.tif, output.aux.xml, template.vrt, template.tif
            strip-0-00000003.tif, mask-0-00000003.tif, done-0-00000003.json, .done-0-00000003.json.HOST-PID.tmp
            pass-0-8-step-0-5/      strips, masks, records

    scene_hst.tif.geoi2i-parts/     by one whose runs could not
        strip-0-00001024.tif, mask-0-00001024.tif, output.tif, output.aux.xml, template.vrt, ...

They had no marker, so that names alone do not tell whose such a folder is: journals must hash to the names of their
folders, and strips be TIFF files. Nothing of it is mixed with what this version makes.
"""

import contextlib
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator

from ..documents import decode, parse_json
from ..errors import RasterError
from ..files import Folder

_LOCK, _JOURNAL, _PUBLISHED, _MOST_BYTES = "lock", "journal.json", "published.json", 64 << 20
_STRIP, _RECORD = re.compile(r"(?:strip|mask)-(?:\d+-)?\d{8}\.tif"), r"done-\d+-\d{8}\.json"
_WHOLE = r"output\.tif|output\.aux\.xml|template\.vrt|template\.tif"
_TIFF = b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"
_NONE = re.compile(r"(?!)")


def _and_unfinished(names: str) -> re.Pattern:
    """Names, and those under which such files were written until they were whole."""
    return re.compile(rf"{names}|\.(?:{names})\.[^/]+-\d+\.tmp")


# Names of files and of folders on each level.
_RESUMABLE = (
    (re.compile(_LOCK), re.compile("[0-9a-f]{12}")),
    (_and_unfinished(rf"journal\.json|published\.json|{_WHOLE}|{_STRIP.pattern}|{_RECORD}"),
     re.compile(r"pass-\d+-\d+-step-\d+-\d+")),
    (_and_unfinished(f"{_STRIP.pattern}|{_RECORD}"), _NONE))
_FLAT = (
    (re.compile(rf"{_LOCK}|{_STRIP.pattern}|{_WHOLE}|output\.tif(?:\.msk)?\.ovr\.tmp|mosaic\.vrt|level-\d+\.vrt"),
     _NONE),)


def is_older(folder: Folder, owner: int) -> bool:
    """Whether a folder of parts was certainly made by an older version.

    Args:
        owner: user number of all that this user makes there.
    """
    return bool(_contents(folder, owner))


def discard(folder: Folder, owner: int) -> None:
    """Removes what an older version left, if the folder is one of its: all but the lock.

    Where this is interrupted, `is_older` still holds, or nothing is left.

    Raises:
        RasterError: where something cannot be removed.
    """
    try:
        for place, name, is_folder in _contents(folder, owner):
            if is_folder:
                place.remove_folder(name)
            elif name != _LOCK:
                place.remove(name)
    except OSError as error:
        raise RasterError(f"{folder.path} cannot be discarded ({error.strerror}): remove it.") from error


def _contents(folder: Folder, owner: int) -> list[tuple[Folder, str, bool]]:
    """All that an older version left there, as `_inside` gives it; nothing for any other folder."""
    for levels, is_proven in ((_RESUMABLE, _holds_runs), (_FLAT, _holds_strips)):
        with contextlib.suppress(OSError, ValueError):
            found = [*_inside(folder, levels, owner)]
            return found if is_proven(folder) else []
    return []


def _inside(folder: Folder, levels: tuple, owner: int) -> Iterator[tuple[Folder, str, bool]]:
    """Where each file and folder is, its name, and whether it is a folder; a folder stands after what is in it, and
    what proves whose it is after the rest.

    Raises:
        ValueError: for what older versions did not make: other names, links, what belongs to somebody else.
    """
    files, folders = levels[0]
    if folder.descriptor is not None and os.fstat(folder.descriptor).st_uid != owner:
        raise ValueError("the folder belongs to another user")
    for name in sorted(folder.names(), key=_proof):
        status = folder.status(name)
        if status is None:
            continue
        is_folder = stat.S_ISDIR(status.st_mode)
        if is_folder and folders.fullmatch(name):
            yield from _inside(folder.sub(name), levels[1:], owner)
        elif not (stat.S_ISREG(status.st_mode) and files.fullmatch(name) and status.st_uid == owner):
            raise ValueError(f"{name} was made by something else")
        yield folder, name, is_folder


def _proof(name: str) -> int:
    """The higher, the more a file of this name proves whose the folder is."""
    return {_JOURNAL: 3, _PUBLISHED: 2}.get(name, 1 if _STRIP.fullmatch(name) else 0)


def _holds_runs(folder: Folder) -> bool:
    """Whether there are folders, and each is one of a run."""
    names = [name for name in folder.names() if name != _LOCK]
    return bool(names) and all(_is_run(folder.sub(name), name) for name in names)


def _is_run(folder: Folder, key: str) -> bool:
    """Whether a folder is named after the journal in it; or has a record of an output that got its name, after which
    the journal went; or nothing whole yet."""
    if folder.status(_JOURNAL):
        record = _read_json(folder, _JOURNAL)
        return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:12] == key
    if folder.status(_PUBLISHED):
        record = _read_json(folder, _PUBLISHED)
        return isinstance(record, dict) and record.keys() == {"size", "time_ns", "sidecar"}
    return all(name.endswith(".tmp") for name in folder.names())


def _read_json(folder: Folder, name: str) -> object:
    return parse_json(decode(folder.read(name, _MOST_BYTES)))


def _holds_strips(folder: Folder) -> bool:
    """Whether there are strips, each of them a TIFF file or one without content yet."""
    strips = [name for name in folder.names() if _STRIP.fullmatch(name)]
    return bool(strips) and all(_is_strip(folder, name) for name in strips)


def _is_strip(folder: Folder, name: str) -> bool:
    with folder.open_file(name) as file:
        start = file.read(4)
    return not start or start in _TIFF
