"""From computed numbers to stored ones: rounded, inside the range of their type, and never the value for no data."""

import numpy as np
import torch
from torch import Tensor

from .nodata import keep_off_nodata


def to_dtype(values: Tensor, dtype: str, nodata: float | None) -> np.ndarray:
    """Float values (C,h,w) as stored numbers: half-even rounding, saturation, never equal to `nodata`.

    A valid value that would equal nodata moves one step towards zero, or up from zero.
    """
    target = np.dtype(dtype)
    if target.kind == "f":
        out = values.cpu().numpy().astype(target)
        return keep_off_nodata(out, nodata)
    info = np.iinfo(target)
    if target.itemsize <= 2:
        whole = values.round().clamp_(info.min, info.max).to(getattr(torch, dtype))
        out = whole.cpu().numpy()
    else:  # float32 cannot hold the limits of 32-bit and wider integers
        exact = np.rint(values.cpu().numpy().astype(np.float64))
        out = np.where(exact >= float(info.max), info.max,
                       np.clip(exact, float(info.min), np.nextafter(float(info.max), 0)).astype(target))
    return keep_off_nodata(out.astype(target, copy=False), nodata)
