"""Parts of an opened raster: their pixels and where they have data."""

import functools
from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np
from rasterio import DatasetReader
from rasterio.windows import Window as RioWindow

from ..errors import RasterError
from ..nodata import as_stored
from .bands import Band
from .opening import DAMAGE
from .rows import Raster, Rows
from .unreadable import no_damage

_READ_BYTES, _HELD_BYTES = 2 << 20, 64 << 20
_LEAST_POWER = 1e-6  # below which a power counts as this much: -60 dB


class Stored(Raster, Protocol):
    """A raster as it lies in a file."""

    @property
    def alphas(self) -> tuple[int, ...]:
        """1-based positions of the alpha bands."""

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


def decode(raster: Stored, data: DatasetReader, part: RioWindow) -> Rows:
    """As `decode_part`, and raises what GDAL does."""
    return rows_of(raster, read_values(raster, data, part), int(part.row_off))


class Values(NamedTuple):
    """What a file stores of a part."""

    pixels: np.ndarray | None
    """(C,h,w); None where they are not asked for."""
    alpha: np.ndarray | None
    """(A,h,w), where there are alpha bands."""
    masks: np.ndarray | None
    """(1 or C,h,w), where there are mask bands."""


def pixels_tell(raster: Raster) -> bool:
    """Whether pixels themselves may say that they hold no data, by a nodata value or as NaN."""
    return "nodata" in raster.mask_kinds or np.dtype(raster.dtype).kind == "f"


def read_values(raster: Stored, data: DatasetReader, part: RioWindow, shape: tuple[int, int] | None = None,
                pixels: bool = True) -> Values:
    """Reads a part, and raises what GDAL does.

    Args:
        shape: height and width to which GDAL makes the part smaller; None: each pixel.
        pixels: whether the pixels are wanted, beside what says where they have data.
    """
    wanted, count = (raster.indexes, len(raster.indexes)) if pixels else ((), 0)
    bands = (*wanted, *raster.alphas)
    read = _read_bands(data, bands, part, raster.dtype, shape) if bands else None
    masks = None
    if "mask" in raster.mask_kinds:
        given = data.read_masks(_masked(raster, data), window=part, **({"out_shape": shape} if shape else {}))
        masks = given if given.ndim == 3 else given[None]
    return Values(read[:count] if read is not None and pixels else None,
                  read[count:] if read is not None and raster.alphas else None, masks)


def rows_of(raster: Stored, values: Values, row: int = 0) -> Rows:
    """The rows that values with pixels are."""
    mask_band = None if values.masks is None else values.masks.max(0, keepdims=True)
    return Rows(row, values.pixels, mask_of(raster, values),  # type: ignore[arg-type]
                alpha=values.alpha, mask_band=mask_band)


def mask_of(raster: Stored, values: Values) -> np.ndarray | None:
    """(1 or C,h,w), 0 where there is no data, else 255; None where every pixel is valid. Values need their pixels only
    where those tell."""
    pixels, alpha, masks = values.pixels, values.alpha, []
    if pixels is not None and "nodata" in raster.mask_kinds:
        masks.append(_nodata_mask(pixels, raster.bands))
    if values.masks is not None:
        masks.append(values.masks)
    if alpha is not None:
        masks.append(((alpha != 0) & (alpha == alpha)).all(0, keepdims=True) * np.uint8(255))
    if pixels is not None and pixels.dtype.kind == "f" and not (finite := np.isfinite(pixels)).all():
        masks.append(finite * np.uint8(255))
    return functools.reduce(np.minimum, masks) if masks else None


def _read_bands(data: DatasetReader, bands: tuple[int, ...], part: RioWindow, dtype: str,
                shape: tuple[int, int] | None) -> np.ndarray:
    """Stored values (C,h,w) of bands as one dtype; rasterio reads bands of several dtypes one by one only."""
    if len({data.dtypes[band - 1] for band in bands}) == 1:
        return data.read(bands, window=part, out_dtype=dtype, **({"out_shape": (len(bands), *shape)} if shape else {}))
    return np.stack([data.read(band, window=part, out_dtype=dtype, **({"out_shape": shape} if shape else {}))
                     for band in bands])


def _nodata_mask(pixels: np.ndarray, bands: tuple[Band, ...]) -> np.ndarray:
    """(C,h,w), 0 where a pixel is its band's nodata value."""
    mask = np.full(pixels.shape, 255, np.uint8)
    for k, band in enumerate(bands):
        if (nodata := as_stored(band.nodata, pixels.dtype)) is not None:
            np.multiply(pixels[k] != nodata, np.uint8(255), out=mask[k])
    return mask


def _masked(raster: Stored, data: DatasetReader) -> int | list[int]:
    """The bands whose mask bands are read: the first, whose mask is that of all, or each where each has its own."""
    return raster.indexes[0] if data.mask_flag_enums[raster.indexes[0] - 1] else list(raster.indexes)


def as_decibels(rows: Rows, bands: tuple[Band, ...]) -> Rows:
    """Rows of power, as they are stored in `bands`, as 10 log10 of it."""
    scale, offset = (np.array(v, "float32")[:, None, None] for v in zip(*((b.scale, b.offset) for b in bands)))
    power = np.maximum(rows.pixels.astype("float32") * scale + offset, _LEAST_POWER)
    return replace(rows, pixels=10 * np.log10(power))
