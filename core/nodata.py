"""The number that stands for no data, kept apart from valid ones."""

import numpy as np


def keep_off_nodata(valid: np.ndarray, nodata: float | None) -> np.ndarray:
    """Moves, in place, every value that equals `nodata` one step towards zero, or up from zero."""
    kind = valid.dtype
    if nodata is None or not np.isfinite(nodata):
        return valid
    if kind.kind == "f":
        stored = kind.type(nodata)
        valid[valid == stored] = np.nextafter(stored, kind.type(0 if nodata else 1))
    elif np.iinfo(kind).min <= nodata <= np.iinfo(kind).max and float(nodata).is_integer():
        stored = kind.type(nodata)
        valid[valid == stored] = stored - 1 if nodata > 0 else stored + 1
    return valid
