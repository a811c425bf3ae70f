"""The outputs that a batch has completed, kept beside them, so that the batch can be resumed."""

import contextlib
import errno
import json
import os
import stat
import threading
from pathlib import Path
from typing import BinaryIO

from ..documents import decode, parse_json
from ..errors import RasterError
from ..files import Folder, stamp
from .checks import stands_alone

_MOST_BYTES = 64 << 20


class CompletedOutputs:
    """The outputs that a batch has finished, so that it can be resumed: one line of JSON for each.

    Raises:
        RasterError: where the file is not one of these.
    """

    def __init__(self, path: Path):
        self.path, self._lock = path, threading.Lock()
        self._file: BinaryIO | None = None
        self._done: dict[str, tuple] = {}
        self.folder = Folder.open(path.parent, follow=True)
        status = self.folder.status(path.name)
        if status is None:
            return
        foreign = RasterError(f"{path} was not written by this version of geoi2i: remove it.")
        if not stat.S_ISREG(status.st_mode) or status.st_uid != self.folder.owner():
            raise foreign
        try:
            first, *lines = self.folder.read(path.name, _MOST_BYTES).split(b"\n")
        except OSError as error:
            raise foreign from error
        if first != _FIRST:
            raise foreign
        for line in lines:
            with contextlib.suppress(ValueError, KeyError, TypeError):  # the last one may be cut off
                entry = parse_json(decode(line))
                self._done[entry["output"]] = entry["run"], entry["size"], entry["time_ns"]

    def knows(self, path: Path, key: str) -> bool:
        """Whether this very run wrote the file that stands there, and GDAL reads it as it was written."""
        return stands_alone(path) and self._done.get(str(path.absolute())) == (key, *(stamp(_status(path)) or ()))

    def add(self, path: Path, key: str) -> None:
        """Notes a finished output, on the disk when this returns."""
        output = str(path.absolute())
        with self._lock:  # several outputs of a batch may be under way
            self._done[output] = key, *(stamp(_status(path)) or ())
            if self._file is None:
                self._file = self._open()
            self._file.write(self._line(output) + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())

    def _open(self) -> BinaryIO:
        """The file, to write at its end; a new one begins with what it is.

        Raises:
            OSError: where by now something else stands there, a link to another file say.
        """
        file = self.folder.open_file(self.path.name, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        status = os.fstat(file.fileno())
        if status.st_nlink > 1 or status.st_uid != self.folder.owner():
            file.close()
            raise OSError(errno.EEXIST, "a file of another name or of somebody else stands there", str(self.path))
        if not status.st_size:
            file.write(_FIRST + b"\n")
        return file

    def forget(self) -> None:
        """Removes the file."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if self.folder.status(self.path.name):
            self.folder.remove(self.path.name)

    def _line(self, output: str) -> bytes:
        run, size, time_ns = self._done[output]
        return json.dumps({"output": output, "run": run, "size": size, "time_ns": time_ns}).encode()


_FIRST = b'{"geoi2i": "finished outputs of a batch"}'


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None
