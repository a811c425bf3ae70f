"""What a raster holds as a whole, from one decimated read."""

import numpy as np

from ..errors import EmptyRasterError
from .bands import Statistics
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
        for rows in raster.rows():
            for k in missed:
                values[k] = np.append(values[k], _valid_values(rows, k)[:100_000])
    if not any(found.size for found in values):
        raise EmptyRasterError(f"{raster.path} has no valid pixel in the chosen bands: all of it is nodata or "
                               "masked. Choose other bands with --bands.")
    columns, outside = [], []
    for k, (found, band) in enumerate(zip(values, raster.bands)):
        physical = found * band.scale + band.offset if found.size else np.array([np.nan])
        outside += [float(np.mean((physical < low) | (physical > high))) for low, high in ranges[k : k + 1]]
        columns.append((physical.mean(), physical.std(), *(np.percentile(physical, q) for q in percentiles)))
    mean, std, *ranks = (tuple(float(v) for v in column) for column in zip(*columns))
    return Statistics(mean, std, dict(zip(percentiles, ranks)), sample.pixels.shape[1:], tuple(outside))


def _valid_values(rows: Rows, band: int) -> np.ndarray:
    """The valid stored values of one band, as float64."""
    values = rows.pixels[band].astype(np.float64)
    return values.ravel() if rows.mask is None else values[rows.mask[band if rows.mask.shape[0] > 1 else 0] != 0]
