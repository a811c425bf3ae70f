"""The rasters that a folder or a pattern names."""

import glob
import os
from pathlib import Path

from ..errors import RasterError

SUFFIXES = (".img", ".jp2", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".vrt")
"""Of the files in a folder that are taken for rasters."""


def find_rasters(text: str) -> list[tuple[str, str]]:
    """Rasters that a name stands for, sorted, each with its path relative to the folder that it was found in.

    Args:
        text: a folder, which is searched with all that is in it; a glob pattern (`**` for folders of any depth); any
            other name, a GDAL path say, is returned as it is.

    Raises:
        RasterError: for a folder or a pattern without a raster.
    """
    if os.path.isdir(text):
        files = sorted(p for p in Path(text).rglob("*") if p.suffix.lower() in SUFFIXES)
        if not files:
            raise RasterError(f"The folder {text} holds no raster: name another ({', '.join(SUFFIXES)}).")
        return [(str(p), str(p.relative_to(text))) for p in files]
    if glob.has_magic(text) and not os.path.exists(text):
        found = sorted(glob.glob(text, recursive=True))
        if not found:
            raise RasterError(f"{text} matches no file: check the pattern.")
        root = os.path.dirname(text[: min(text.index(c) for c in "*?[" if c in text)])
        return [(p, os.path.relpath(p, root or ".")) for p in found if os.path.isfile(p)]
    return [(text, os.path.basename(text))]
