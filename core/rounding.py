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
