"""The journal of a run: the folder beside an output that says what was begun, with what, and how far it came.

    scene_hst.tif.geoi2i-parts/
        geoi2i                  the marker: what is in here was made by geoi2i
        lock                    held by the run at work
        3f0c92b1a47d/           strips made with the facts in
            journal.json        inputs, model, options
            published.json      what the output is when it is whole, written before it gets its name
            pass-0-8-step-0-5/  strips that one leg of the run leaves for the next

Such a folder may have come with the data. It is opened once and never through a link; one with anything in it that is
not of these names, or that belongs to somebody else, is refused, and nothing but these names is ever removed.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import RasterError
from ..files import TEMPORARY, Folder, describe_kind, stamp
from ..locks import lock_folder
from ..validation import decode, parse_json
from .checks import check_name, remove_sidecars, stands_alone
from .strips import ASSEMBLED, FILES, RECORDS

PARTS_SUFFIX = ".geoi2i-parts"
_MARKER, _MARK, _LOCK = "geoi2i", b"parts of a raster, layout 2\n", "lock"
_JOURNAL, _PUBLISHED, _SIDECAR = "journal.json", "published.json", f"{ASSEMBLED}.aux.xml"
_JOURNAL_BYTES = 64 << 20
# Names of files and of folders on each level.
_LEVELS = (
    (re.compile(f"{_MARKER}|{_LOCK}|{TEMPORARY.pattern}"), re.compile("[0-9a-f]{12}")),
    (re.compile("|".join([*map(re.escape, (_JOURNAL, _PUBLISHED, ASSEMBLED, _SIDECAR)), FILES.pattern, RECORDS.pattern,
                          TEMPORARY.pattern])), re.compile(r"pass-\d+-\d+-step-\d+-\d+")),
    (re.compile(f"{FILES.pattern}|{RECORDS.pattern}|{TEMPORARY.pattern}"), re.compile(r"(?!)")))


_STRIPS = re.compile(r"done-0-\d{8}\.json")


class Journal:
    """What a run has done so far for one output; use as a context manager, which locks it.

    Leaving the context removes the folder if the run is `finished`, if it has nothing worth keeping, or if it
    is not to be resumed.
    """

    def __init__(self, path: Path, facts: dict, resume: bool):
        self.path, self.facts, self.resume = path, json.loads(json.dumps(facts)), resume
        self.parts = path.with_name(path.name + PARTS_SUFFIX)
        self.digest = hashlib.sha256(json.dumps(self.facts, sort_keys=True).encode()).hexdigest()[:12]
        self.finished = False

    def __enter__(self) -> "Journal":
        try:
            self.beside = Folder.open(self.path.parent, follow=True)
            self._lock = self._open()
        except OSError as error:
            raise RasterError(f"Nothing can be written in {self.path.parent} ({error.strerror}): "
                              "choose another output folder.") from error
        try:
            self._begin()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_) -> None:
        if self.finished:  # what says so goes last: a crash between must not look like a run that was begun
            _clear(self.folder, 1, {_PUBLISHED})
        kept = self.kept()
        if not kept:
            self._remove()
        os.close(self._lock)  # the next run may have a folder of this name by now
        if not kept and os.name == "nt":  # which removes no file that is open
            self._remove()
        self.beside.close()

    def kept(self) -> int:
        """How many strips stay for the next run if this one ends now."""
        return 0 if self.finished or not self.resume else sum(
            bool(_STRIPS.fullmatch(name.rpartition("/")[2])) for name in _own(self._opened, 0))

    def published(self) -> bool:
        """Whether the output is whole and has its name, or now has got it.

        Raises:
            RasterError: where something else has come to stand there since.
        """
        try:
            found = _read_json(self.folder, _PUBLISHED)
            made, sidecar, replaces = (found["size"], found["time_ns"]), found["sidecar"], found["replaces"]
        except (OSError, ValueError, KeyError):
            return False
        if stamp(self.folder.status(ASSEMBLED)) == made:
            named = sidecar and self.folder.status(_SIDECAR) is None  # and has its place beside the output by now
            check_name(self.path, bool(replaces), f"{self.path.name}.aux.xml" if named else None)
            self._give_name(bool(sidecar), bool(replaces))
        return stamp(self.beside.status(self.path.name)) == made and stands_alone(self.path)

    def publish(self, sidecar: str | None, overwrite: bool, check: Callable[[Path], None]) -> None:
        """Gives the assembled file its name, and beside it what GDAL reads there.

        `published` completes what a crash left half-way.

        Args:
            check: reads the file as it will be; raises RasterError where it is not right.

        Raises:
            RasterError: also where by now something stands there that must not be replaced.
        """
        check_name(self.path, overwrite)
        if sidecar:
            with self.folder.replacing(_SIDECAR) as file:
                file.write(sidecar.encode())
        check(self.folder.path / ASSEMBLED)
        size, time_ns = stamp(self.folder.status(ASSEMBLED))
        replaces = self.beside.status(self.path.name) is not None
        facts = {"size": size, "time_ns": time_ns, "sidecar": bool(sidecar), "replaces": replaces}
        with self.folder.replacing(_PUBLISHED) as file:
            file.write(json.dumps(facts).encode())
        self._give_name(bool(sidecar), replaces)

    def _give_name(self, sidecar: bool, replaces: bool) -> None:
        beside = f"{self.path.name}.aux.xml"
        if replaces:
            remove_sidecars(self.path, but=beside if sidecar else None)
        if sidecar and self.folder.status(_SIDECAR):
            self.folder.move(_SIDECAR, self.beside, beside)
        self.folder.move(ASSEMBLED, self.beside, self.path.name)

    def _open(self) -> int:
        """Opens and locks the folder, which is made if need be; the number of the lock.

        Raises:
            RasterError: where it is not ours, or another run has it.
        """
        while True:
            try:
                self._opened = self.beside.sub(self.parts.name, make=True)
            except OSError as error:
                there = self.beside.status(self.parts.name)
                if error.errno in (errno.ELOOP, errno.ENOTDIR) and there and not stat.S_ISDIR(there.st_mode):
                    raise RasterError(f"{self.parts} is {describe_kind(there.st_mode)} that geoi2i did not make: "
                                      "remove it, or name another output.") from error
                raise
            try:
                self._check_ours()
                lock = lock_folder(self._opened, _LOCK)
            except FileNotFoundError:  # the run that ended just now removed the folder
                continue
            if lock is None:
                raise RasterError(f"{self.path} is being written by another run: wait for it, or name another output.")
            if self._opened.is_there():
                return lock
            os.close(lock)

    def _check_ours(self) -> None:
        """Raises RasterError where the folder holds anything that geoi2i did not make."""
        names = self._opened.names()
        foreign = next(_foreign(self._opened, 0, self.beside.owner()), None)
        marked = foreign is None
        if marked and _MARKER in names:
            with contextlib.suppress(OSError):
                marked = self._opened.read(_MARKER, 4096) == _MARK
        elif marked:  # a run may have been killed before it set the marker
            marked = not any(_LEVELS[0][1].fullmatch(name) for name in names)
        if not marked:
            raise RasterError(f"{self.parts} holds what this version of geoi2i did not make"
                              f"{f' ({foreign[:80]!a})' if foreign else ''}: remove it, or name another output.")

    def _begin(self) -> None:
        if _MARKER not in self._opened.names():
            with self._opened.replacing(_MARKER) as file:
                file.write(_MARK)
        for name in self._opened.names():
            if not _LEVELS[0][1].fullmatch(name) or (name == self.digest and self.resume):
                continue
            folder = self._opened.sub(name)
            if self.resume and any(_STRIPS.fullmatch(each.rpartition("/")[2]) for each in _own(folder, 1)):
                raise RasterError(f"{self.parts} holds part of a run that differs: {_differences(folder, self.facts)}. "
                                  "Give --no-resume to discard it, or run with what it began with.")
            _clear(folder, 1)
            self._opened.remove_folder(name)
        self.folder = self._opened.sub(self.digest, make=True)
        if self.folder.status(_JOURNAL) is None:
            with self.folder.replacing(_JOURNAL) as file:
                file.write(json.dumps(self.facts, indent=1).encode())

    def _remove(self) -> None:
        """Removes the folder, all but what others may have put there meanwhile."""
        with contextlib.suppress(OSError):
            _clear(self._opened, 0)
            self.beside.remove_folder(self.parts.name)


def remove_own(folder: Folder, but: set[str] = frozenset()) -> None:
    """Removes folders of legs, with all that geoi2i put there.

    Args:
        folder: of a run.
        but: names of those to keep.
    """
    for name in folder.names():
        status = folder.status(name)
        if status and stat.S_ISDIR(status.st_mode) and _LEVELS[1][1].fullmatch(name) and name not in but:
            _clear(folder.sub(name), 2)
            with contextlib.suppress(OSError):  # not empty: of others
                folder.remove_folder(name)


def _foreign(folder: Folder, level: int, owner: int) -> Iterator[str]:
    """Paths inside that geoi2i did not make: other names, links, files and folders of somebody else."""
    files, folders = _LEVELS[level]
    if folder.descriptor is not None and os.fstat(folder.descriptor).st_uid != owner:
        yield "it belongs to another user"
        return
    for name in folder.names():
        status = folder.status(name)
        if status is None:
            continue
        if stat.S_ISDIR(status.st_mode) and folders.fullmatch(name):
            yield from (f"{name}/{inner}" for inner in _foreign(folder.sub(name), level + 1, owner))
        elif not (stat.S_ISREG(status.st_mode) and files.fullmatch(name) and status.st_uid == owner):
            yield name


def _own(folder: Folder, level: int) -> Iterator[str]:
    """Paths of the files inside that have names of ours."""
    files, folders = _LEVELS[level]
    for name in folder.names():
        status = folder.status(name)
        if status and stat.S_ISREG(status.st_mode) and files.fullmatch(name):
            yield name
        elif status and stat.S_ISDIR(status.st_mode) and folders.fullmatch(name):
            yield from (f"{name}/{inner}" for inner in _own(folder.sub(name), level + 1))


def _clear(folder: Folder, level: int, but: set[str] = frozenset()) -> None:
    """Removes what has names of ours."""
    files, folders = _LEVELS[level]
    for name in folder.names():
        status = folder.status(name)
        if status and stat.S_ISDIR(status.st_mode) and folders.fullmatch(name):
            _clear(folder.sub(name), level + 1)
            with contextlib.suppress(OSError):  # not empty: of others
                folder.remove_folder(name)
        elif status and stat.S_ISREG(status.st_mode) and files.fullmatch(name) and name not in but:
            folder.remove(name)


def _read_json(folder: Folder, name: str) -> dict:
    """A file of ours that may be damaged.

    Raises:
        OSError, ValueError: with what is wrong.
    """
    content = parse_json(decode(folder.read(name, _JOURNAL_BYTES)))
    if not isinstance(content, dict):
        raise ValueError("it is not a JSON object")
    return content


def _differences(folder: Folder, facts: dict) -> str:
    """What was and is, for every fact that changed."""
    try:
        before = _read_json(folder, _JOURNAL)
    except (OSError, ValueError):
        return "its journal cannot be read"
    return "; ".join(_changes(before, facts))


def _changes(before: dict, now: dict) -> list[str]:
    """What was and is, for every fact that changed; of several files, for each."""
    found = []
    for key in {**before, **now}:
        was, is_ = before.get(key), now.get(key)
        if was != is_:
            both = isinstance(was, dict) and isinstance(is_, dict)
            found += _changes(was, is_) if both else [f"{os.path.basename(key)} was {_short(was)} and is {_short(is_)}"]
    return found


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."
