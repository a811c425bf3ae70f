"""Locks between processes, which the system gives back when a process ends, however it ends."""

import os

from .files import Folder


def lock_folder(folder: Folder, name: str) -> int | None:
    """Locks a folder by a file in it; None where another process has it.

    On a file system without locks every process gets it. Closing the number gives the lock back.

    Raises:
        OSError: where the file cannot be made.
    """
    while True:
        with folder.open_file(name, os.O_RDWR | os.O_CREAT) as file:
            lock = os.dup(file.fileno())
        if try_lock(lock) is False:
            os.close(lock)
            return None
        there = folder.status(name)
        if there and os.path.samestat(os.fstat(lock), there):
            return lock
        os.close(lock)  # whoever held it has removed the file


def try_lock(file: int) -> bool | None:
    """Locks an open file: whether this process has it now, or None on a file system without locks."""
    try:
        import fcntl
    except ImportError:
        import msvcrt

        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            return False
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
