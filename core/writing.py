"""Files under a path that somebody named: they appear whole or not at all, and what cannot be written is a sentence."""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from .errors import RasterError
from .files import Folder, describe_kind


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write to; afterwards it is on the disk under the path, in place of a regular file, or nothing is.

    Raises:
        RasterError: where it cannot be written.
    """
    with _writing(path), Folder.open(path.parent, follow=True).replacing(path.name) as file:
        yield file


def write_whole(path: Path, content: str | bytes) -> Path:
    """Writes a file at once, as UTF-8; its folder is made.

    Raises:
        RasterError: if the disk or the folder refuses.
    """
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)
    return path


def appending(path: Path) -> BinaryIO:
    """A file to write at the end of; what is under its path must be a regular file or nothing.

    Raises:
        RasterError: where it cannot be opened.
    """
    with _writing(path):
        return Folder.open(path.parent, follow=True).open_file(path.name, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    check_regular(path)
    try:
        yield
    except OSError as error:
        raise RasterError(f"{path} cannot be written ({error.strerror or error}): make room, or choose another "
                          "folder.") from error


def check_regular(path: Path) -> None:
    """Refuses to write where something else than a regular file stands.

    Raises:
        RasterError: for a link, a folder, a device, a pipe or a socket.
    """
    with contextlib.suppress(OSError):
        mode = os.lstat(path).st_mode
        if not stat.S_ISREG(mode):
            remedy = f"name a file, for example {path / 'output.tif'}" if stat.S_ISDIR(mode) else \
                "name the file that it leads to" if stat.S_ISLNK(mode) else "name a file"
            raise RasterError(f"{path} is {describe_kind(mode)}: {remedy}.")
