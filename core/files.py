"""Folders that are opened once and never through a link, and the files in them, which appear whole or not at all.

A name may have been put there by anybody who can write in the folder, or have come with the data. Nothing here follows
a link that stands under a name, waits for a pipe or writes into a device.
"""

import contextlib
import errno
import os
import re
import secrets
import stat
import weakref
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

PARTS_SUFFIX = ".geoi2i-parts"
"""Behind the name of an output, the folder in which it is made."""
TEMPORARY = re.compile(r"\.[0-9a-f]{16}\.geoi2i-tmp")
"""Names under which files and folders of ours are written until they are whole."""
_RELATIVE = os.open in os.supports_dir_fd  # on Windows names are joined to paths instead
_PLAIN = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | \
    getattr(os, "O_BINARY", 0)


class Folder:
    """An open folder: names count from it, whatever stands under its path later. Pickled, it is its path."""

    def __init__(self, path: Path, descriptor: int | None):
        self.path, self.descriptor = path, descriptor
        self._inner: weakref.WeakSet[Folder] = weakref.WeakSet()
        self._close = weakref.finalize(self, os.close, descriptor) if descriptor is not None else lambda: None

    def __reduce__(self):
        return Folder.open, (self.path,)

    @classmethod
    def open(cls, path: Path, follow: bool = False) -> "Folder":
        """Opens a folder.

        Args:
            follow: whether the path may be a link to a folder.

        Raises:
            OSError: where there is no such folder.
        """
        return cls(path, _open_folder(path, None, follow))

    def sub(self, name: str, make: bool = False) -> "Folder":
        """Opens a folder inside, which must not be a link; makes it where `make` is set and it is not there.

        Raises:
            OSError: where there is no such folder, or something else under its name.
        """
        if make:
            with contextlib.suppress(FileExistsError):
                os.mkdir(self._at(name), dir_fd=self.descriptor)
        inner = Folder(self.path / name, _open_folder(self._at(name), self.descriptor, False))
        self._inner.add(inner)
        return inner

    def close(self) -> None:
        """Closes the folder and those that were opened from it."""
        for inner in self._inner:
            inner.close()
        self._close()

    def names(self) -> list[str]:
        """What is inside, sorted."""
        return sorted(os.listdir(self.path if self.descriptor is None else self.descriptor))

    def status(self, name: str) -> os.stat_result | None:
        """What stands under a name, a link as a link; None where nothing does."""
        try:
            return os.stat(self._at(name), dir_fd=self.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def open_file(self, name: str, flags: int = os.O_RDONLY) -> BinaryIO:
        """Opens a regular file.

        Raises:
            OSError: where there is none, or a link, a pipe or a device under its name.
        """
        descriptor = os.open(self._at(name), flags | _PLAIN, 0o666, dir_fd=self.descriptor)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "it is not a regular file", name)
        return os.fdopen(descriptor, "ab" if flags & os.O_APPEND else "rb+" if flags & os.O_RDWR else "rb")

    def read(self, name: str, most_bytes: int) -> bytes:
        """The content of a regular file.

        Raises:
            OSError: as `open_file`, and for a longer file.
        """
        with self.open_file(name) as file:
            size = os.fstat(file.fileno()).st_size
            if size > most_bytes:
                raise OSError(errno.EFBIG, f"it is longer than {most_bytes} bytes", name)
            return file.read(size)

    @contextlib.contextmanager
    def replacing(self, name: str) -> Iterator[BinaryIO]:
        """A file to write to; afterwards it is on the disk under `name`, in place of a regular file, or nothing is.

        Raises:
            OSError: where it cannot be written.
        """
        temporary = temporary_name()
        try:
            with self.open_file(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            self.move(temporary, self, name)
        except BaseException:
            with contextlib.suppress(OSError):
                self.remove(temporary)
            raise

    def move(self, name: str, target: "Folder", new_name: str) -> None:
        """Renames a file into another folder on the same disk, in place of a regular file or of nothing.

        Raises:
            OSError: where anything else stands there.
        """
        there = target.status(new_name)
        if there and not stat.S_ISREG(there.st_mode):
            raise OSError(errno.EEXIST, f"{describe_kind(there.st_mode)} stands there", new_name)
        os.replace(self._at(name), target._at(new_name), src_dir_fd=self.descriptor, dst_dir_fd=target.descriptor)
        target.sync()

    def remove(self, name: str) -> None:
        """Removes a file, or the link that stands under its name."""
        os.unlink(self._at(name), dir_fd=self.descriptor)

    def remove_folder(self, name: str) -> None:
        """Removes an empty folder.

        Raises:
            OSError: where it is not empty.
        """
        os.rmdir(self._at(name), dir_fd=self.descriptor)

    def sync(self) -> None:
        """Brings changed names to the disk, where the system can."""
        if self.descriptor is not None:
            with contextlib.suppress(OSError):
                os.fsync(self.descriptor)

    def owner(self) -> int:
        """Who new files here belong to: on some network disks not the user who makes them."""
        if not hasattr(os, "geteuid"):
            return 0  # as every file on Windows
        if self.descriptor is not None and os.fstat(self.descriptor).st_uid == os.geteuid():
            return os.geteuid()
        temporary = temporary_name()
        with self.open_file(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL) as file:
            self.remove(temporary)
            return os.fstat(file.fileno()).st_uid

    def is_there(self) -> bool:
        """Whether the folder, which no link leads to, still stands under its path."""
        if self.descriptor is None:
            return self.path.is_dir()
        try:
            return os.path.samestat(os.fstat(self.descriptor), os.lstat(self.path))
        except FileNotFoundError:
            return False

    def _at(self, name: str) -> str:
        return name if self.descriptor is not None else os.path.join(self.path, name)


def _open_folder(path: str | Path, at: int | None, follow: bool) -> int | None:
    if _RELATIVE:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
        return os.open(path, flags, dir_fd=at)
    if not os.path.isdir(path) or (os.path.islink(path) and not follow):
        raise NotADirectoryError(errno.ENOTDIR, "it is not a folder", str(path))
    return None


def describe_kind(mode: int) -> str:
    """What a file is that is not a regular one, in words."""
    kinds = {stat.S_IFLNK: "a link", stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket",
             stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
    return kinds.get(stat.S_IFMT(mode), "not a regular file")


def stamp(status: os.stat_result | None) -> tuple[int, int] | None:
    """Size and time of change of a file, which a renaming leaves as they are."""
    return status and (status.st_size, status.st_mtime_ns)


def temporary_name() -> str:
    """A name that nobody can guess; `TEMPORARY` knows it again."""
    return f".{secrets.token_hex(8)}.geoi2i-tmp"


def remove_unfinished(folder: Folder) -> None:
    """Removes files and folders with temporary names of ours, which a process that was killed has left; nobody else may
    be writing there."""
    for name in filter(TEMPORARY.fullmatch, folder.names()):
        status = folder.status(name)
        if status and stat.S_ISREG(status.st_mode):
            folder.remove(name)
        elif status and stat.S_ISDIR(status.st_mode):
            inner = folder.sub(name)
            for each in inner.names():
                if (status := inner.status(each)) and stat.S_ISREG(status.st_mode):
                    inner.remove(each)
            with contextlib.suppress(OSError):  # not empty: of others
                folder.remove_folder(name)


def checksum(file: BinaryIO) -> int:
    """CRC-32 of a file from where it stands."""
    value = 0
    while piece := file.read(1 << 20):
        value = zlib.crc32(piece, value)
    return value
