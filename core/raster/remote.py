"""Rasters that are read over the network: how GDAL names them, and how it should ask for them."""

import os
import time
from collections.abc import Callable
from functools import wraps
from typing import TypeVar

from ..errors import RasterError

_T = TypeVar("_T")
_SCHEMES = {"http://": "/vsicurl/http://", "https://": "/vsicurl/https://", "ftp://": "/vsicurl/ftp://",
            "s3://": "/vsis3/", "gs://": "/vsigs/", "az://": "/vsiaz/", "adl://": "/vsiadls/"}
_PREFIXES = ("/vsicurl", "/vsis3", "/vsigs", "/vsiaz", "/vsiadls", "/vsioss", "/vsiswift", "/vsiwebhdfs", "/vsihdfs")
_ATTEMPTS = 3
_REFUSED = "response code: 4"
"""Words of GDAL where a server knows the request and will not answer it."""
_SETTINGS: dict[str, str | int | float] = {
    "GDAL_HTTP_MAX_RETRY": 5,  # of refused requests (429, 5xx), with growing pauses
    "GDAL_HTTP_RETRY_DELAY": 0.5,
    "GDAL_HTTP_CONNECTTIMEOUT": 15,
    "GDAL_HTTP_LOW_SPEED_TIME": 20,  # seconds below the limit, in bytes a second, are a stall
    "GDAL_HTTP_LOW_SPEED_LIMIT": 1000,
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "GDAL_HTTP_MULTIPLEX": "YES",
    # With several threads GDAL asks ahead in one that nobody hears: what is cut off there is silently decoded as
    # something else (seen in 3.10, one run of ten).
    "GDAL_NUM_THREADS": "1",
    "GDAL_INGESTED_BYTES_AT_OPEN": 32768,  # the header in one request
    "CPL_VSIL_CURL_CACHE_SIZE": 64 << 20,
}


def is_remote(path: str) -> bool:
    """Whether reading asks another machine."""
    return path.startswith((*_SCHEMES, *_PREFIXES))


def gdal_path(path: str) -> str:
    """A URL as GDAL's virtual path; any other path as it is."""
    for scheme, prefix in _SCHEMES.items():
        if path.startswith(scheme):
            return prefix + path[len(scheme):]
    return path


def remote_settings(path: str) -> dict[str, str | int | float]:
    """GDAL's settings for a path."""
    if not is_remote(path):
        return {}
    # What was cut off would else be taken for the content the next time, too.
    own = {"CPL_VSIL_CURL_NON_CACHED": gdal_path(path), "CPL_VSIL_CURL_ALLOWED_FILENAME": gdal_path(path)}
    # A local raster that is open in the main thread bars all threads from servers; for this one that is undone.
    for name, usual in (("GDAL_HTTP_PROXY", "http_proxy"), ("GDAL_HTTPS_PROXY", "https_proxy")):
        own[name] = os.environ.get(name) or os.environ.get(usual) or ""
    return _SETTINGS | own


def with_retries(read: Callable[..., _T]) -> Callable[..., _T]:
    """Repeats a function of a path, or of an object with one, whose answers were cut off or came too slowly.

    GDAL itself repeats requests that a server refused for the moment.
    """

    @wraps(read)
    def again(subject, *arguments, **options):
        path = subject if isinstance(subject, str) else subject.path
        for attempt in range(1, _ATTEMPTS if is_remote(path) else 1):
            try:
                return read(subject, *arguments, **options)
            except RasterError as error:
                if _REFUSED in str(error):
                    raise
                time.sleep(attempt)
        return read(subject, *arguments, **options)

    return again
