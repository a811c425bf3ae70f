"""The number that stands for no data, kept apart from valid ones."""

import math

import numpy as np

Nodata = int | float
"""An integer where a double might not hold it."""


def as_stored(nodata: Nodata | None, dtype: np.dtype | str) -> np.generic | None:
    """A nodata value as pixels of a dtype hold it; None where no pixel can equal it: out of range, a fraction among
    integers, or NaN."""
    kind = np.dtype(dtype)
    if nodata is None or math.isnan(nodata):
        return None
    if kind.kind == "f":
        with np.errstate(over="ignore"):
            return kind.type(nodata)
    if math.isinf(nodata) or int(nodata) != nodata or not np.iinfo(kind).min <= int(nodata) <= np.iinfo(kind).max:
        return None
    return kind.type(int(nodata))


def keep_off_nodata(valid: np.ndarray, nodata: Nodata | None) -> np.ndarray:
    """Moves, in place, every value that equals `nodata` one step towards zero, or up from zero."""
    kind, stored = valid.dtype, as_stored(nodata, valid.dtype)
    if nodata is None or stored is None or not np.isfinite(stored):
        return valid
    if kind.kind == "f":
        valid[valid == stored] = np.nextafter(stored, kind.type(0 if nodata else 1))
    else:
        valid[valid == stored] = int(nodata) - 1 if nodata > 0 else int(nodata) + 1
    return valid
