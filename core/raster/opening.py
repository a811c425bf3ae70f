"""How rasters are opened: looked at first, with settings that keep GDAL in, and a sentence for each way to fail."""

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import rasterio
import rasterio.errors
from rasterio._err import CPLE_BaseError

from ..errors import RasterError
from .probe import check_opens
from .remote import gdal_path, remote_settings
from .security import Limits, Opening, check_opened, look_at

# Python pixel functions in a VRT would be code from the input file. The threads in which GDAL reads a VRT by itself
# do not know the settings of ours.
GDAL_SETTINGS = {"GDAL_VRT_ENABLE_PYTHON": "NO", "VRT_NUM_THREADS": "1", "GDAL_NUM_THREADS": "ALL_CPUS",
                 "GDAL_GEOREF_SOURCES": "PAM,INTERNAL,WORLDFILE", "GDAL_CACHEMAX": 8 << 20}  # bytes
DAMAGE = (rasterio.errors.RasterioError, rasterio.errors.CRSError, CPLE_BaseError, UnicodeDecodeError)
"""What rasterio raises over a file that is damaged on purpose or by accident, texts that are no UTF-8 included."""


@contextlib.contextmanager
def opened(path: str, limits: Limits) -> Iterator[rasterio.DatasetReader]:
    """A raster for as long as it is looked into, with GDAL's settings of this thread.

    Raises:
        RasterError: where it cannot be opened, or what is asked of it shows damage.
    """
    settings, opening = prepared(path, limits)
    with rasterio.Env(**settings), open_raster(path, opening, limits) as data:
        try:
            yield data
        except DAMAGE as error:
            raise _unreadable(path, error) from error


def prepared(path: str, limits: Limits) -> tuple[dict[str, Any], Opening]:
    """GDAL's settings for a raster, and how it may be opened."""
    opening = look_at(gdal_path(path), limits)
    settings = GDAL_SETTINGS | remote_settings(path) | opening.settings
    for name, drivers, file in opening.fragile:
        check_opens(name, drivers, file, settings)
    return settings, opening


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
        raise _unreadable(path, error) from error
    if data.count == 0:
        first = (data.subdatasets or ["-"])[0]
        raise RasterError(f"{path} has no bands of its own: it holds {len(data.subdatasets)} sub-datasets; name one, "
                          f"for example {first}.")
    return data


def _unreadable(path: str, error: Exception) -> RasterError:
    reason = "".join(c if c.isprintable() else "?" for c in str(error))  # may quote bytes of the file
    return RasterError(f"{path} is not a raster that GDAL can read, or not of a format that is safe to read, or it is "
                       f"damaged ({reason}): check the path, copy the file again, or convert it to GeoTIFF with "
                       "gdal_translate.")
