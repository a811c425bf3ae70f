"""Opening a file in another process first, where the library that reads it may crash over damage."""

import os
import subprocess  # nosec B404 # programs are started from lists, no shell
import sys
from functools import lru_cache

from ..errors import RasterError

_SECONDS = 8
# Memory that was not set holds no zeros by chance there, so that what reads it crashes there and not here.
_ENVIRONMENT = {"MALLOC_PERTURB_": "165"}
_PROGRAM = """
import sys
import rasterio
from rasterio.windows import Window
try:
    with rasterio.Env(), rasterio.DatasetReader(sys.argv[1], driver=sys.argv[2:]) as data:
        data.tags(), data.block_shapes, data.subdatasets
        if data.count:
            data.read(1, window=Window(0, 0, 1, 1))
            data.read(data.count, window=Window(data.width - 1, data.height - 1, 1, 1))
except Exception:
    pass  # which the process that asked meets too, and says
"""


def check_opens(name: str, drivers: list[str], file: str, settings: dict[str, str | int | float]) -> None:
    """Opens a raster in another process, once for each state of its file.

    Args:
        name: what GDAL opens.
        file: the file that it is in.
        settings: GDAL's.

    Raises:
        RasterError: where that process crashes or does not end.
    """
    status = os.stat(file)
    why = _crash(name, tuple(drivers), (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns),
                 tuple((key, str(value)) for key, value in settings.items()))
    if why:
        raise RasterError(f"{file} {why}, so it is damaged: copy it again.")


@lru_cache(maxsize=1024)
def _crash(name: str, drivers: tuple[str, ...], state: tuple[int, ...], settings: tuple[tuple[str, str], ...]
           ) -> str | None:
    """What the file does to the library that reads it; None where nothing."""
    paths = os.pathsep.join(path for path in sys.path if os.path.isabs(path))
    try:
        done = subprocess.run([sys.executable, "-P", "-c", _PROGRAM, name, *drivers],  # nosec B603 # a program of ours
                              stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=_SECONDS,
                              env=os.environ | dict(settings) | _ENVIRONMENT | {"PYTHONPATH": paths})
    except subprocess.TimeoutExpired:
        return f"keeps the library that reads it busy for more than {_SECONDS} s"
    return "crashes the library that reads it" if done.returncode else None
