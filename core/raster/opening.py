"""How rasters are opened: inspected first, with settings that keep GDAL in, and a sentence for each way to fail."""

import contextlib
import os
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import rasterio
import rasterio.errors
from rasterio._err import CPLE_BaseError

from ..errors import RasterError
from .limits import Limits
from .probe import check_opens
from .remote import gdal_path, remote_settings
from .security import Opening, check_opened, inspect
from .sharing import shared
from .tiff import TiffFile
from .unreadable import unreadable

# Python pixel functions in a VRT would be code from the input file. The threads in which GDAL reads a VRT by itself
# do not know the settings of ours.
GDAL_SETTINGS = {"GDAL_VRT_ENABLE_PYTHON": "NO", "VRT_NUM_THREADS": "1", "GDAL_NUM_THREADS": "ALL_CPUS",
                 "GDAL_GEOREF_SOURCES": "PAM,INTERNAL,WORLDFILE", "GDAL_CACHEMAX": 8 << 20}  # bytes
_COMPRESSION = 259  # a tag of TIFF
DAMAGE = (rasterio.errors.RasterioError, rasterio.errors.CRSError, CPLE_BaseError, UnicodeDecodeError)
"""What rasterio raises over a file that is damaged on purpose or by accident, texts that are no UTF-8 included."""


class Handles:
    """A raster's file, inspected once for each state of it, and GDAL's open datasets of it.

    A thread has a dataset for itself while it reads; the next one that reads gets the same. Pickled, this is the path
    and the limits, and the file is inspected where it is read.
    """

    def __init__(self, path: str, limits: Limits):
        self.path, self.limits = path, limits
        self._lock = threading.Lock()
        self._idle: list[rasterio.DatasetReader] = []
        self._inspected: tuple[tuple | None, dict[str, Any], Opening] | None = None

    def __reduce__(self):
        return Handles, (self.path, self.limits)

    @contextlib.contextmanager
    def borrow(self) -> Iterator[rasterio.DatasetReader]:
        """A dataset for as long as it is looked into, with GDAL's settings of this thread.

        Raises:
            RasterError: where it cannot be opened, or what is asked of it shows damage.
        """
        settings, opening = self._prepared()
        with rasterio.Env(**settings):  # not for as long as it is open: they belong to a thread
            with self._lock:
                data = self._idle.pop() if self._idle else None
            data = data or open_raster(self.path, opening, self.limits)
            try:
                yield data
            except BaseException as error:
                data.close()  # after damage, or an answer that was cut off, it is opened anew
                if isinstance(error, DAMAGE):
                    raise unreadable(self.path, error, isinstance(error, rasterio.errors.CRSError)) from error
                raise
            with self._lock:
                self._idle.append(data)

    def _prepared(self) -> tuple[dict[str, Any], Opening]:
        """GDAL's settings, and how the file may be opened."""
        with self._lock:
            state = _state(self.path)
            if self._inspected is None or self._inspected[0] != state:
                self._idle.clear()  # of another file
                opening = inspect(gdal_path(self.path), self.limits)
                settings: dict[str, Any] = {**GDAL_SETTINGS, **remote_settings(self.path), **opening.settings,
                                            **_threads(self.path)}
                for name, drivers, file in opening.fragile:
                    check_opens(name, drivers, file, settings)
                self._inspected = state, settings, opening
            return self._inspected[1:]


def handles(path: str, limits: Limits) -> Handles:
    """The handles of a raster: those that are shared in this run, or new ones."""
    return shared((path, limits), Handles)


def _threads(path: str) -> dict[str, str]:
    """One thread for a TIFF that is not compressed: to hand its strips to several costs more than to copy them."""
    with contextlib.suppress(OSError, ValueError):
        if os.path.isfile(path):
            with open(path, "rb") as file:
                tiff = TiffFile(file)
                compression = tiff.directory(tiff.first)[0].get(_COMPRESSION)
                if compression is None or tiff.value(compression) == 1:
                    return {"GDAL_NUM_THREADS": "1"}
    return {}


def _state(path: str) -> tuple | None:
    """What changes when a file does; None for what is not on this disk."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def open_raster(path: str, opening: Opening, limits: Limits) -> rasterio.DatasetReader:
    """Opens for reading, with one sentence for each way this can fail."""
    try:
        with warnings.catch_warnings(), contextlib.ExitStack() as until_checked:
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            data = rasterio.DatasetReader(opening.name, driver=opening.drivers)
            until_checked.callback(data.close)
            check_opened(data, path, limits)
            for source, drivers in opening.sources:
                with rasterio.DatasetReader(source, driver=drivers) as other:
                    check_opened(other, source, limits)
            until_checked.pop_all()
    except DAMAGE as error:
        raise unreadable(path, error, isinstance(error, rasterio.errors.CRSError)) from error
    if data.count == 0:
        first = (data.subdatasets or ["-"])[0]
        raise RasterError(f"{path} has no bands of its own: it holds {len(data.subdatasets)} sub-datasets; name one, "
                          f"for example {first}.")
    return data
