"""What a raster holds as a whole, from one decimated read."""

import numpy as np

from ..errors import EmptyRasterError
from .bands import Band, Statistics
from .rows import Rows, SeekableRaster


@np.errstate(over="ignore", invalid="ignore")  # of numbers that mean nothing, 1e300 say
def gather_statistics(raster: SeekableRaster, percentiles: tuple[float, ...] = (),
                      ranges: tuple[tuple[float, float], ...] = ()) -> Statistics:
    """Per-band statistics in physical units of the valid pixels of one decimated read.

    Args:
        percentiles: those that are wanted, 0 to 100.
        ranges: a lowest and a highest value for each band, where the shares outside are wanted.

    A band whose valid pixels that read misses is searched whole; one without any has NaN.

    Raises:
        EmptyRasterError: if no band has a valid pixel.
    """
    sample = raster.decimated()
    values = [_valid_values(sample, k) for k in range(len(raster.bands))]
    missed = [k for k, found in enumerate(values) if not found.size]
    if missed:
        parts: dict[int, list[np.ndarray]] = {k: [values[k]] for k in missed}
        for rows in raster.rows():
            for k in missed:
                parts[k].append(_valid_values(rows, k)[:100_000])
        values = [np.concatenate(parts[k]) if k in parts else found for k, found in enumerate(values)]
    if not any(found.size for found in values):
        raise EmptyRasterError(f"{raster.path} has no valid pixel in the chosen bands: all of it is nodata or "
                               "masked. Choose other bands with --bands.")
    columns, outside = [], []
    for k, (found, band) in enumerate(zip(values, raster.bands)):
        physical = _physical(found, band) if found.size else np.array([np.nan])
        outside += [float(np.mean((physical < low) | (physical > high))) for low, high in ranges[k : k + 1]]
        columns.append((physical.mean(), physical.std(), *_percentiles(found, band, percentiles)))
    mean, std, *ranks = (tuple(float(v) for v in column) for column in zip(*columns))
    return Statistics(mean, std, dict(zip(percentiles, ranks)), sample.pixels.shape[1:], tuple(outside))


def _valid_values(rows: Rows, band: int) -> np.ndarray:
    """The valid stored values of one band."""
    values = rows.pixels[band]
    return values.ravel() if rows.mask is None else values[rows.mask[band if rows.mask.shape[0] > 1 else 0] != 0]


def _physical(stored: np.ndarray, band: Band) -> np.ndarray:
    values = stored.astype(np.float64)
    return values if (band.scale, band.offset) == (1, 0) else values * band.scale + band.offset


def _percentiles(stored: np.ndarray, band: Band, wanted: tuple[float, ...]) -> list[float]:
    """As `numpy.percentile` has them of physical values, of values that are sorted as they are stored: those of fewer
    bytes sort sooner."""
    if not wanted:
        return []
    if not stored.size:
        return [np.nan] * len(wanted)
    ranked = np.sort(stored, kind="stable" if stored.dtype.itemsize < 4 else None)  # those are sorted by their digits
    ranked = ranked[::-1] if band.scale < 0 else ranked
    found = []
    for place in (len(ranked) - 1) * (np.array(wanted) / 100):
        first = int(np.floor(place))
        low, high = _physical(ranked[[first, min(first + 1, len(ranked) - 1)]], band)
        share = place - first
        # From the nearer of both, as NumPy does.
        found.append(low + (high - low) * share if share < 0.5 else high - (high - low) * (1 - share))
    return found
