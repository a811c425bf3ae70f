"""The journal of a run: the folder beside an output that says what was begun, with what, and how far it came.

    scene_hst.tif.geoi2i-parts/
        lock                    held by the run at work
        3f0c92b1a47d/           strips made with the facts in
            journal.json        inputs, model, options
            published.json      what the output is when it is whole, written before it gets its name
            pass-0-8-step-0-5/  strips that one leg of the run leaves for the next
"""

import contextlib
import hashlib
import json
import os
import shutil
from pathlib import Path

from .errors import RasterError
from .files import locked, replacing
from .strips import ASSEMBLED

PARTS_SUFFIX = ".geoi2i-parts"
_JOURNAL, _PUBLISHED, _STRIPS = "journal.json", "published.json", "done-0-*.json"


class Journal:
    """What a run has done so far for one output; use as a context manager, which locks it.

    Leaving the context removes the folder if the run is `finished`, if it has nothing worth keeping, or if it
    is not to be resumed.
    """

    def __init__(self, path: Path, facts: dict, resume: bool):
        self.path, self.facts, self.resume = path, json.loads(json.dumps(facts)), resume
        self.parts = path.with_name(path.name + PARTS_SUFFIX)
        self.digest = hashlib.sha256(json.dumps(self.facts, sort_keys=True).encode()).hexdigest()[:12]
        self.folder = self.parts / self.digest
        self.finished = False

    def __enter__(self) -> "Journal":
        try:
            self._lock = locked(self.parts)
        except OSError as error:
            raise RasterError(f"Nothing can be written in {self.path.parent} ({error.strerror}): "
                              "choose another output folder.") from error
        if self._lock is None:
            raise RasterError(f"{self.path} is being written by another run: wait for it, or name another output.")
        try:
            self._begin()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_) -> None:
        if self.finished:  # what says so goes last: a fall between must not look like a run that was begun
            for path in self.folder.glob("*"):
                if path.is_dir():
                    shutil.rmtree(path)
                elif path.name != _PUBLISHED:
                    path.unlink()
        kept = self.kept()
        if not kept:
            shutil.rmtree(self.parts, ignore_errors=True)
        os.close(self._lock)  # the next run may have a folder of this name by now
        if not kept and os.name == "nt":  # which removes no file that is open
            shutil.rmtree(self.parts, ignore_errors=True)

    def kept(self) -> int:
        """How many strips stay for the next run if this one ends now."""
        return 0 if self.finished or not self.resume else len(list(self.parts.rglob(_STRIPS)))

    def published(self) -> bool:
        """Whether the output is whole and has its name, or now has got it."""
        try:
            found = json.loads((self.folder / _PUBLISHED).read_text(encoding="utf-8"))
            stamp, sidecar = (found["size"], found["time_ns"]), found["sidecar"]
        except (OSError, ValueError, KeyError, TypeError):
            return False
        if _stamp(self.folder / ASSEMBLED) == stamp:
            self._give_name(sidecar)
        return _stamp(self.path) == stamp

    def publish(self, sidecar: str | None) -> None:
        """Gives the assembled file its name, and beside it what GDAL reads there.

        `published` completes what a fall left half-way.
        """
        size, time_ns = _stamp(self.folder / ASSEMBLED)
        with replacing(self.folder / _PUBLISHED) as part:
            part.write_text(json.dumps({"size": size, "time_ns": time_ns, "sidecar": sidecar}), encoding="utf-8")
        self._give_name(sidecar)

    def _give_name(self, sidecar: str | None) -> None:
        beside = Path(f"{self.path}.aux.xml")
        if sidecar:
            described = self.folder / "output.aux.xml"
            described.write_text(sidecar, encoding="utf-8")
            os.replace(described, beside)
        else:
            beside.unlink(missing_ok=True)
        os.replace(self.folder / ASSEMBLED, self.path)

    def _begin(self) -> None:
        others = [folder for folder in self.parts.iterdir() if folder.is_dir() and folder != self.folder]
        for folder in others:
            if self.resume and any(folder.rglob(_STRIPS)):
                raise RasterError(f"{self.parts} holds part of a run that differs: {_differences(folder, self.facts)}. "
                                  "Give --no-resume to discard it, or run with what it began with.")
            shutil.rmtree(folder)
        if not self.resume:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(exist_ok=True)
        if not (self.folder / _JOURNAL).exists():
            with replacing(self.folder / _JOURNAL) as part:
                part.write_text(json.dumps(self.facts, indent=1))


class Memory:
    """The outputs that a batch has finished, so that it can be taken up again: one line of JSON for each."""

    def __init__(self, path: Path):
        self.path, self._done = path, {}
        with contextlib.suppress(OSError):
            for line in path.read_text(encoding="utf-8").splitlines():
                with contextlib.suppress(ValueError, KeyError, TypeError):  # the last one may be cut off
                    entry = json.loads(line)
                    self._done[entry["output"]] = entry["run"], entry["size"], entry["time_ns"]

    def knows(self, path: Path, digest: str) -> bool:
        """Whether this very run wrote the file that stands there."""
        return self._done.get(str(path.absolute())) == (digest, *(_stamp(path) or ()))

    def add(self, path: Path, digest: str) -> None:
        size, time_ns = _stamp(path)
        entry = {"output": str(path.absolute()), "run": digest, "size": size, "time_ns": time_ns}
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._done[entry["output"]] = digest, size, time_ns

    def forget(self) -> None:
        self.path.unlink(missing_ok=True)


def _stamp(path: Path) -> tuple[int, int] | None:
    """Size and time of change of a file, which a renaming leaves as they are."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _differences(folder: Path, facts: dict) -> str:
    """What was and is, for every fact that changed."""
    try:
        before = json.loads((folder / _JOURNAL).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        before = None
    if not isinstance(before, dict):
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
