"""Rasters that are read over the network: how GDAL names them, and how it should ask for them."""

_SCHEMES = {"http://": "/vsicurl/http://", "https://": "/vsicurl/https://", "ftp://": "/vsicurl/ftp://",
            "s3://": "/vsis3/", "gs://": "/vsigs/", "az://": "/vsiaz/", "adl://": "/vsiadls/"}
_PREFIXES = ("/vsicurl", "/vsis3", "/vsigs", "/vsiaz", "/vsiadls", "/vsioss", "/vsiswift", "/vsiwebhdfs", "/vsihdfs")
ATTEMPTS = 3
"""How often a piece is asked for whose answers were cut off or came too slowly; GDAL repeats what a server refused."""
_SETTINGS = {
    "GDAL_HTTP_MAX_RETRY": 5,  # of refused requests (429, 5xx), with growing pauses
    "GDAL_HTTP_RETRY_DELAY": 0.5,
    "GDAL_HTTP_CONNECTTIMEOUT": 15,
    "GDAL_HTTP_LOW_SPEED_TIME": 20,  # seconds below the limit, in bytes a second, are a stall
    "GDAL_HTTP_LOW_SPEED_LIMIT": 1000,
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "GDAL_HTTP_MULTIPLEX": "YES",
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


def remote_settings(path: str, attempt: int = 0) -> dict[str, str | int | float]:
    """GDAL's settings for a path; what a failed attempt has left in GDAL's cache is not used again."""
    if not is_remote(path):
        return {}
    return _SETTINGS | ({"CPL_VSIL_CURL_NON_CACHED": gdal_path(path)} if attempt else {})
