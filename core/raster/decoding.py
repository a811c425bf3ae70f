"""Parts of an opened raster: their pixels and where they have data."""

import math
from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np
from rasterio import DatasetReader
from rasterio.windows import Window as RioWindow

from ..errors import RasterError
from .bands import Band
from .opening import DAMAGE
from .rows import Raster, Rows
from .unreadable import no_damage

_READ_BYTES, _HELD_BYTES = 2 << 20, 64 << 20
_LEAST_POWER = 1e-6  # below which a power counts as this much: -60 dB


class Stored(Raster, Protocol):
    """A raster as it lies in a file."""

    @property
    def alpha(self) -> int | None:
        """1-based position of the alpha band."""

    @property
    def block_shape(self) -> tuple[int, int]: ...


class Reading(NamedTuple):
    """How a raster is read from top to bottom."""

    rows: int
    """Read at a time: whole rows of blocks, so that every block is decoded once."""
    held: int
    """How many such reads there may be ahead."""
    row_bytes: int


def reading_of(raster: Stored, width: int) -> Reading:
    """How rows of this width are read."""
    step = max(raster.block_shape[0], 1)
    row_bytes = width * len(raster.indexes) * np.dtype(raster.dtype).itemsize
    step *= max(1, min(1024 // step, _READ_BYTES // max(step * row_bytes, 1)))
    return Reading(step, min(4, max(2, _HELD_BYTES // (step * row_bytes))), row_bytes)


def decode_part(raster: Stored, data: DatasetReader, part: RioWindow) -> Rows:
    """The pixels of a part; `row` counts from the raster's first.

    Raises:
        RasterError: where the file is damaged there.
    """
    try:
        return decode(raster, data, part)
    except DAMAGE as error:
        last = int(part.row_off + part.height) - 1
        damaged = RasterError(f"{raster.path} cannot be read at rows {int(part.row_off)} to {last}: the file is "
                              "damaged or cut off. Copy or download it again.")
        raise no_damage(raster.path, error) or damaged from error


def decode(raster: Stored, data: DatasetReader, part: RioWindow, shape: tuple[int, int] | None = None) -> Rows:
    """As `decode_part`, and raises what GDAL does.

    Args:
        shape: height and width to which GDAL makes the part smaller; None: each pixel.
    """
    size = {"out_shape": (len(raster.indexes), *shape)} if shape else {}
    pixels = data.read(raster.indexes, window=part, out_dtype=raster.dtype, **size)
    return Rows(int(part.row_off), pixels, _mask(raster, data, pixels, part, shape))


def _mask(raster: Stored, data: DatasetReader, pixels: np.ndarray, part: RioWindow, shape: tuple[int, int] | None
          ) -> np.ndarray | None:
    """The validity (1 or C,h,w) of `pixels`; None where all are valid."""
    if raster.mask_kind == "alpha":
        mask = data.read([raster.alpha], window=part, **({"out_shape": (1, *shape)} if shape else {}))
    elif raster.mask_kind == "mask":
        mask = data.read_masks(raster.indexes[0], window=part, **({"out_shape": shape} if shape else {}))[None]
    elif raster.mask_kind == "nodata":
        mask = np.full(pixels.shape, 255, np.uint8)
        for k, band in enumerate(raster.bands):
            if band.nodata is not None and not math.isnan(band.nodata):
                mask[k][pixels[k] == np.asarray(band.nodata).astype(pixels.dtype)] = 0
    else:
        mask = None
    if pixels.dtype.kind == "f":
        finite = np.isfinite(pixels)
        if not finite.all():
            mask = finite * np.uint8(255) if mask is None else mask * finite
    return mask


def as_decibels(rows: Rows, bands: tuple[Band, ...]) -> Rows:
    """Rows of power, as they are stored in `bands`, as 10 log10 of it."""
    scale, offset = (np.array(v, "float32")[:, None, None] for v in zip(*((b.scale, b.offset) for b in bands)))
    power = np.maximum(rows.pixels.astype("float32") * scale + offset, _LEAST_POWER)
    return replace(rows, pixels=10 * np.log10(power))
