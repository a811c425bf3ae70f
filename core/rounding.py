"""From computed numbers to stored ones: rounded, inside the range of their type, and never the value for no data."""

import numpy as np
import torch
from torch import Tensor

from .nodata import keep_off_nodata


def to_dtype(values: Tensor, dtype: str, nodata: float | None) -> np.ndarray:
    """Float values (C,h,w) as stored numbers: half-even rounding, saturation, never equal to `nodata`.

    A valid value that would equal nodata moves one step towards zero, or up from zero.
    """
    return finished(rounded(values, dtype).cpu().numpy(), dtype, nodata)


def rounded(values: Tensor, dtype: str) -> Tensor:
    """What of `to_dtype` is done where the values are: small integers are, other types go on as they are."""
    target = np.dtype(dtype)
    if target.kind == "f" or target.itemsize > 2:
        return values
    info = np.iinfo(target)
    return values.round().clamp_(info.min, info.max).to(getattr(torch, dtype))


def finished(values: np.ndarray, dtype: str, nodata: float | None) -> np.ndarray:
    """The rest of `to_dtype`, in the machine's memory, of what `rounded` gave."""
    target = np.dtype(dtype)
    if target.kind == "f":
        return keep_off_nodata(values.astype(target), nodata)
    if target.itemsize > 2:  # float32 cannot hold the limits of 32-bit and wider integers
        info, exact = np.iinfo(target), np.rint(values.astype(np.float64))
        values = np.where(exact >= float(info.max), info.max,
                          np.clip(exact, float(info.min), np.nextafter(float(info.max), 0)).astype(target))
    return keep_off_nodata(values.astype(target, copy=False), nodata)


def converted(values: np.ndarray, dtype: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Stored numbers as GDAL converts them to another dtype: halves are rounded away from zero, what lies beyond its
    range is clipped; NaN becomes 0 in integers.

    Returns:
        The numbers, and where they were clipped, of the same shape; None where every number of the one dtype fits the
        other.
    """
    source, target = values.dtype, np.dtype(dtype)
    if np.can_cast(source, target):
        return values.astype(target, copy=False), None
    if target.kind == "f":  # what is finite stays so
        with np.errstate(over="ignore"):
            narrow = values.astype(target)
        beyond = np.isinf(narrow) & np.isfinite(values)
        return np.where(beyond, np.copysign(np.finfo(target).max, narrow), narrow), beyond
    info = np.iinfo(target)
    if source.kind != "f":
        ends = np.iinfo(source)
        low, high = (source.type(min(max(end, ends.min), ends.max)) for end in (info.min, info.max))
        return np.clip(values, low, high).astype(target), (values < low) | (values > high)
    whole = np.trunc(values)
    whole += np.trunc(2 * np.subtract(values, whole, where=np.isfinite(values), out=np.zeros_like(values)))
    top = source.type(info.max)  # of wide integers the next number above, which would wrap round
    below, above = whole < info.min, whole >= top if int(top) > info.max else whole > top
    stored = np.where(below | above | np.isnan(whole), 0, whole).astype(target)
    stored[below], stored[above] = info.min, info.max
    return stored, below | above
