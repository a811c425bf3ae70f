"""Folders for what lasts no longer than a run, which the next run removes where theirs was killed."""

import contextlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..locks import try_lock

_SWEEPS = os.name != "nt"  # which renames no lock that is held: those that are left over stay there
_PREFIX = "geoi2i-dask-"
_NAME = re.compile(re.escape(_PREFIX) + "[a-z0-9_]{8}")
_LOCK, _WORK = "lock", "work"


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A new folder that only this user may enter; it goes with the context, and what killed runs left goes before.

    Raises:
        OSError: where the system's temporary folder cannot be written.
    """
    _sweep(Path(tempfile.gettempdir()))
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    try:
        with _held(folder):
            work = folder / _WORK
            work.mkdir()
            yield work
    finally:
        _remove(folder)


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Holds the lock of a new folder, which the system gives back when this process ends, however it ends.

    The lock gets its name when it is held: one that nobody holds is one whose owner is gone.
    """
    if not _SWEEPS:
        yield
        return
    made = folder / "starting"
    lock = os.open(made, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        if try_lock(lock):
            made.rename(folder / _LOCK)
        yield
    finally:
        os.close(lock)


def _sweep(temporary: Path) -> None:
    """Removes our folders whose owner is gone, and nothing else."""
    if not _SWEEPS:
        return
    for folder in temporary.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # no lock, or a folder that somebody removed just now
            status = folder.lstat()
            if not (_NAME.fullmatch(folder.name) and stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()):
                continue
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
            try:
                if try_lock(lock):
                    _remove(folder)
            finally:
                os.close(lock)


def _remove(folder: Path) -> None:
    """The lock goes last: where the work cannot be removed now, a later run may try again."""
    shutil.rmtree(folder / _WORK, ignore_errors=True)
    if not (folder / _WORK).exists():
        shutil.rmtree(folder, ignore_errors=True)
