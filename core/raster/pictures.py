"""Pictures for people, as PNG or JPEG."""

import os
import warnings
from pathlib import Path

import numpy as np
import rasterio
import rasterio.errors
import rasterio.io

from ..writing import write_whole


def write_png(path: str | os.PathLike, rgb: np.ndarray) -> None:
    """An RGB picture (3,h,w) uint8 as a PNG file."""
    write_whole(Path(path), encode_picture(rgb, "PNG"))


def encode_picture(rgb: np.ndarray, driver: str) -> bytes:
    """An RGB picture (3,h,w) uint8 as the bytes of a PNG or JPEG file."""
    options = {"quality": 88} if driver == "JPEG" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.io.MemoryFile() as memory:
            with memory.open(driver=driver, count=3, height=rgb.shape[1], width=rgb.shape[2], dtype="uint8",
                             **options) as out:
                out.write(rgb)
            return bytes(memory.getbuffer())
