"""What the numbers of a raster mean: names, units, scale and offset, and what is known of the raster as a whole."""

from dataclasses import dataclass

import numpy as np


def numpy_dtype(name: str) -> np.dtype:
    """The dtype that holds the values of a GDAL type of this name: NumPy has no complex numbers of integers."""
    return np.dtype("complex64" if name == "complex_int16" else "complex128" if name == "complex_int32" else name)


@dataclass(frozen=True)
class Band:
    """One band of a raster as stored: physical value = stored * scale + offset."""

    name: str | None
    unit: str | None = None
    scale: float = 1.0
    offset: float = 0.0
    nodata: float | None = None
    colour: str | None = None
    """Colour interpretation as GDAL names it, e.g. red, grey, undefined."""


@dataclass(frozen=True)
class Statistics:
    """What is known of a raster as a whole, per band, in physical units; from one decimated read."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    percentiles: dict[float, tuple[float, ...]]
    """The percentiles that were asked for."""
    size: tuple[int, int]
    """Height and width of the decimated read; 0 of a raster without a valid pixel."""

    @classmethod
    def of_nothing(cls, bands: int, percentiles: tuple[float, ...]) -> "Statistics":
        """Of a raster without a valid pixel: any numbers do, as no pixel is shown."""
        return cls((0.0,) * bands, (1.0,) * bands, {q: (q / 100,) * bands for q in percentiles}, (0, 0))
