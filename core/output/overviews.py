"""Overview levels of a raster, made while its rows go by: each pixel is the mean of the valid ones of four."""

import numpy as np

from ..nodata import keep_off_nodata


def halve(pixels: np.ndarray, mask: np.ndarray | None, nodata: float | None, blend_mask: bool = False
          ) -> tuple[np.ndarray, np.ndarray | None]:
    """The next overview level of some rows that start on an even row, as GDAL's AVERAGE resampling gives it.

    Args:
        pixels: (C,h,W) of any real dtype; a last odd row or column stands for itself.
        mask: (1,h,W), 0 where there is no data; None where only `nodata` and NaN tell.
        nodata: value of pixels without data.
        blend_mask: whether the mask is an alpha band, whose values are averaged; else a pixel is valid
            where any of its four is.

    Returns:
        (C, ceil(h/2), ceil(W/2)) of the same dtype, and the mask of the same size.
    """
    valid = None if mask is None else mask != 0
    if nodata is not None and nodata == nodata:
        known = pixels != nodata
        valid = known if valid is None else known & valid
    if pixels.dtype.kind == "f":
        known = np.isfinite(pixels)
        if not known.all():
            valid = known if valid is None else known & valid
    empty = nodata if nodata is not None else np.nan if pixels.dtype.kind == "f" else 0
    small = _mean(pixels, None if valid is None or valid.all() else valid, nodata, empty)
    if mask is None:
        return small, None
    return small, _mean(mask, None, None, 0) if blend_mask else _four(mask, np.maximum)


def _mean(values: np.ndarray, valid: np.ndarray | None, nodata: float | None, empty: float) -> np.ndarray:
    wide = np.float32 if values.dtype.itemsize <= 2 else np.float64
    if valid is None:
        return keep_off_nodata(_rounded(_four(values, np.add, wide) * wide(0.25), values.dtype), nodata)
    count = _four(valid, np.add, wide)
    total = _four(np.where(valid, values, values.dtype.type(0)), np.add, wide)
    total /= np.maximum(count, 1)
    small = keep_off_nodata(_rounded(total, values.dtype), nodata)
    np.copyto(small, empty, where=count == 0, casting="unsafe")
    return small


def _rounded(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Halves go up, as GDAL has it."""
    return values.astype(dtype) if dtype.kind == "f" else np.floor(values + 0.5, out=values).astype(dtype)


def _four(values: np.ndarray, combine: np.ufunc, dtype: type | None = None) -> np.ndarray:
    """Combines each 2 x 2 block; a last odd row or column is taken twice."""
    for axis in (1, 2):
        first, second = (values[:, k::2] if axis == 1 else values[:, :, k::2] for k in (0, 1))
        if first.shape != second.shape:
            second = np.concatenate([second, first[:, -1:] if axis == 1 else first[:, :, -1:]], axis)
        values = combine(first, second, dtype=dtype or values.dtype)
    return values
