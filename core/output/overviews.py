"""Overview levels of a raster, made while its rows go by: each pixel is the mean of the valid ones of four, or of
classes the one that most of them have."""

import numpy as np

from ..nodata import Nodata, keep_off_nodata


def halve(pixels: np.ndarray, mask: np.ndarray | None, nodata: Nodata | None, alphas: tuple[int, ...] = (),
          classes: tuple[int, ...] = ()) -> tuple[np.ndarray, np.ndarray | None]:
    """The next overview level of some rows that start on an even row, as GDAL's AVERAGE and MODE resampling give it.

    Args:
        pixels: (C,h,W) of any real dtype; a last odd row or column stands for itself.
        mask: (1,h,W), 0 where there is no data; None where only `nodata`, NaN and alpha bands tell.
        nodata: value of pixels without data.
        alphas: which of the bands are alpha bands; a pixel has data where none is 0, and they are averaged.
        classes: which of the bands hold classes, of whose numbers there is no mean.

    Returns:
        (C, ceil(h/2), ceil(W/2)) of the same dtype, and the mask of the same size: valid where any of four is.
    """
    bands = [k for k in range(len(pixels)) if k not in alphas]
    values = pixels[bands] if alphas else pixels
    valid = None if mask is None else mask != 0
    for k in alphas:
        seen = pixels[k : k + 1] != 0
        valid = seen if valid is None else seen & valid
    if nodata is not None and nodata == nodata:
        known = values != nodata
        valid = known if valid is None else known & valid
    if pixels.dtype.kind == "f":
        known = np.isfinite(values)
        if not known.all():
            valid = known if valid is None else known & valid
    empty = nodata if nodata is not None else np.nan if pixels.dtype.kind == "f" else 0
    valid = None if valid is None or valid.all() else valid
    small = _mean(values, valid, nodata, empty)
    for k in classes:
        place = bands.index(k)
        known = None if valid is None else valid[place if len(valid) > 1 else 0]
        small[place] = _mode(values[place], known, empty)
    if alphas:
        whole = np.empty((len(pixels), *small.shape[1:]), small.dtype)
        whole[bands] = small
        for k in alphas:
            whole[k] = _mean(pixels[k : k + 1], None, None, 0)[0]
        small = whole
    return small, None if mask is None else _four(mask, np.maximum)


def _mode(values: np.ndarray, valid: np.ndarray | None, empty: Nodata) -> np.ndarray:
    """The value (h,W) that most of the valid pixels of each 2 x 2 block have, the first of those with as many."""
    four = _corners(values)
    shown = np.ones(four.shape, bool) if valid is None else _corners(valid)
    votes = np.stack([sum(shown[k] & shown[n] & (four[k] == four[n]) for n in range(4)) for k in range(4)])
    most = np.take_along_axis(four, votes.argmax(0)[None], 0)[0]
    return np.where(votes.any(0), most, np.asarray(empty).astype(values.dtype))


def _corners(values: np.ndarray) -> np.ndarray:
    """(4, h, W): the pixels of each 2 x 2 block; a last odd row or column is there twice."""
    whole = np.pad(values, [(0, size % 2) for size in values.shape], mode="edge")
    return np.stack([whole[down::2, across::2] for down in (0, 1) for across in (0, 1)])


def _mean(values: np.ndarray, valid: np.ndarray | None, nodata: Nodata | None, empty: Nodata) -> np.ndarray:
    if values.dtype.kind in "iu" and values.dtype.itemsize == 8:
        return _whole_mean(values, valid, nodata, empty)
    wide = np.float32 if values.dtype.itemsize <= 2 else np.float64
    if valid is None:
        return keep_off_nodata(_rounded(_four(values, np.add, wide) * wide(0.25), values.dtype), nodata)
    count = _four(valid, np.add, wide)
    total = _four(np.where(valid, values, values.dtype.type(0)), np.add, wide)
    total /= np.maximum(count, 1)
    small = keep_off_nodata(_rounded(total, values.dtype), nodata)
    np.copyto(small, empty, where=count == 0, casting="unsafe")
    return small


def _whole_mean(values: np.ndarray, valid: np.ndarray | None, nodata: Nodata | None, empty: Nodata) -> np.ndarray:
    """As `_mean`, of integers that no float holds, in integers that do not overflow: quotients and remainders apart."""
    kind = values.dtype.type
    if valid is None:
        valid = np.ones((1, *values.shape[1:]), bool)
    count = np.maximum(_four(valid, np.add, kind), kind(1))
    each = count.repeat(2, 1).repeat(2, 2)[:, : values.shape[1], : values.shape[2]]
    quotients, remainders = np.divmod(np.where(valid, values, kind(0)), each)
    rest = (kind(2) * _four(remainders, np.add) + count) // (kind(2) * count)
    small = keep_off_nodata(_four(quotients, np.add) + rest, nodata)
    small[np.broadcast_to(_four(valid, np.add, kind) == 0, small.shape)] = empty
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
