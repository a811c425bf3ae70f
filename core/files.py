"""Files that are there whole or not at all, and folders that one process has for itself."""

import contextlib
import os
import socket
import zlib
from collections.abc import Iterator
from pathlib import Path

_LOCK = "lock"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name to write to; afterwards that file is on the disk under the path's own name, or nothing is."""
    part = path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}.tmp")
    try:
        yield part
        with open(part, "rb+") as written:
            os.fsync(written.fileno())
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
    with contextlib.suppress(OSError):  # some systems have no way to do this to a folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def forget_unfinished(folder: Path) -> None:
    """Removes what `replacing` left where the process was killed; nobody else may be writing there."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def checksum(path: Path) -> int:
    """CRC-32 of a file."""
    value = 0
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            value = zlib.crc32(piece, value)
    return value


def locked(folder: Path) -> int | None:
    """The lock of a folder, which is made if need be; None where another process has it.

    The system gives it back when the process ends, however it ends; `unlock` does before.
    """
    while True:
        folder.mkdir(exist_ok=True)
        try:
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT)
        except FileNotFoundError:  # the run that ended just now removed the folder
            continue
        if not _try_lock(lock):
            os.close(lock)
            return None
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(lock), os.stat(folder / _LOCK)):
                return lock
        os.close(lock)


def unlock(folder: Path, lock: int) -> None:
    """Gives the lock of a folder back."""
    with contextlib.suppress(OSError):  # gone with the folder; or of a system that keeps a file that is open
        (folder / _LOCK).unlink()
    os.close(lock)


def _try_lock(file: int) -> bool:
    try:
        import fcntl
    except ImportError:
        import msvcrt

        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True
