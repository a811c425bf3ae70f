"""The journal of a run: what was begun, with what, and how far it came; kept in the folder of parts."""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

from ..documents import decode, parse_json
from ..errors import RasterError, why_refused
from ..files import PARTS_SUFFIX, Folder, stamp
from .checks import check_name, remove_sidecars, stands_alone
from .parts import JOURNAL, PUBLISHED, RUN, SIDECAR, clear, count_strips, mark, open_parts
from .strips import ASSEMBLED

_JOURNAL_BYTES = 64 << 20


class Journal:
    """What a run has done so far for one output; use as a context manager, which locks it.

    Leaving the context removes the folder if the run is `finished`, if it has nothing worth keeping, or if it
    is not to be resumed.
    """

    def __init__(self, path: Path, fingerprint: dict, resume: bool, overwrite: bool = False):
        self.path, self.resume, self.overwrite = path, resume, overwrite
        self.fingerprint = json.loads(json.dumps(fingerprint))
        self.parts = path.with_name(path.name + PARTS_SUFFIX)
        self.key = hashlib.sha256(json.dumps(self.fingerprint, sort_keys=True).encode()).hexdigest()[:12]
        self.finished = False

    def __enter__(self) -> "Journal":
        try:
            self.beside = Folder.open(self.path.parent, follow=True)
            self._opened, self._lock = open_parts(self.beside, self.path, self.overwrite)
        except OSError as error:
            raise RasterError(f"Nothing can be written in {self.path.parent}, as {why_refused(error)}.") from error
        try:
            self._begin()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_) -> None:
        if self.finished:  # what says so goes last: a crash between must not look like a run that was begun
            clear(self.folder, 1, but=PUBLISHED)
        kept = self.kept()
        if not kept:
            self._remove()
        os.close(self._lock)  # the next run may have a folder of this name by now
        if not kept and os.name == "nt":  # which removes no file that is open
            self._remove()
        self.beside.close()

    def kept(self) -> int:
        """How many strips stay for the next run if this one ends now."""
        return 0 if self.finished or not self.resume else count_strips(self._opened, 0)

    def published(self) -> bool:
        """Whether the output is whole and has its name, or now has got it.

        Raises:
            RasterError: where something else has come to stand there since.
        """
        try:
            found = _read_json(self.folder, PUBLISHED)
            made, sidecar, replaces = (found["size"], found["time_ns"]), found["sidecar"], found["replaces"]
        except (OSError, ValueError, KeyError):
            return False
        if stamp(self.folder.status(ASSEMBLED)) == made:
            named = sidecar and self.folder.status(SIDECAR) is None  # and has its place beside the output by now
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
            with self.folder.replacing(SIDECAR) as file:
                file.write(sidecar.encode())
        check(self.folder.path / ASSEMBLED)
        size, time_ns = stamp(self.folder.status(ASSEMBLED))  # type: ignore[misc]  # it was read just now
        replaces = self.beside.status(self.path.name) is not None
        record = {"size": size, "time_ns": time_ns, "sidecar": bool(sidecar), "replaces": replaces}
        with self.folder.replacing(PUBLISHED) as file:
            file.write(json.dumps(record).encode())
        self._give_name(bool(sidecar), replaces)

    def _give_name(self, sidecar: bool, replaces: bool) -> None:
        beside = f"{self.path.name}.aux.xml"
        if replaces:
            remove_sidecars(self.path, but=beside if sidecar else None)
        if sidecar and self.folder.status(SIDECAR):
            self.folder.move(SIDECAR, self.beside, beside)
        self.folder.move(ASSEMBLED, self.beside, self.path.name)

    def _begin(self) -> None:
        mark(self._opened)
        for name in self._opened.names():
            if not RUN.fullmatch(name) or (name == self.key and self.resume):
                continue
            folder = self._opened.sub(name)
            if self.resume and count_strips(folder, 1):
                differences = _differences(folder, self.fingerprint)
                raise RasterError(f"{self.parts} holds part of a run that differs:", differences, "Give --no-resume "
                                  "to discard it, or run with the settings that it began with.")
            clear(folder, 1)
            self._opened.remove_folder(name)
        self.folder = self._opened.sub(self.key, make=True)
        if self.folder.status(JOURNAL) is None:
            with self.folder.replacing(JOURNAL) as file:
                file.write(json.dumps(self.fingerprint, indent=1).encode())

    def _remove(self) -> None:
        """Removes the folder, all but what others may have put there meanwhile."""
        with contextlib.suppress(OSError):
            clear(self._opened, 0)
            self.beside.remove_folder(self.parts.name)


def _read_json(folder: Folder, name: str) -> dict:
    """A file of ours that may be damaged.

    Raises:
        OSError, ValueError: with what is wrong.
    """
    content = parse_json(decode(folder.read(name, _JOURNAL_BYTES)))
    if not isinstance(content, dict):
        raise ValueError("it is not a JSON object")
    return content


def _differences(folder: Folder, fingerprint: dict) -> list[str]:
    """What was and is, for all that changed."""
    try:
        before = _read_json(folder, JOURNAL)
    except (OSError, ValueError):
        return ["its journal cannot be read"]
    return _changes(before, fingerprint)


def _changes(before: dict, now: dict) -> list[str]:
    """What was and is, for all that changed; of several files, for each."""
    found = []
    for key in {**before, **now}:
        was, is_ = before.get(key), now.get(key)
        if was != is_:
            if isinstance(was, dict) and isinstance(is_, dict):
                found += _changes(was, is_)
            else:
                found.append(f"{os.path.basename(key)} was {_short(was)} and is {_short(is_)}")
    return found


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."
