"""Whether the numbers of a raster are of the kind that a model was trained on."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from ..errors import RasterError
from ..models.manifest import BandSpec, Manifest
from ..raster.bands import Band, Statistics
from ..raster.rows import Raster

PERCENTILES = 2.0, 98.0
_FAINT, _FEW = 0.01, 0.1
"""Shares of a model's range: numbers that reach no further are too small, and so are integers that cannot."""
_FAR = 3.0
"""Times the range of a model that numbers may lie beyond it, as snow does of one of fields; another unit is further."""
_DIGITS = 24
"""Bits that float32 holds."""


@dataclass(frozen=True)
class Found:
    """The numbers of a band beside those of the model's."""

    spec: BandSpec
    low: float
    high: float
    """The 2nd and the 98th percentile."""
    outside: float
    """The share of the pixels that lie outside the model's range."""

    @property
    def far(self) -> bool:
        """Whether they are of another kind, so that the model's result would mean nothing."""
        span = _FAR * (self.spec.maximum - self.spec.minimum)
        return self.high > self.spec.maximum + span or self.low < self.spec.minimum - span

    def __str__(self) -> str:
        spec = self.spec
        unit = f" {spec.unit}" if spec.unit else ""
        return (f"{spec.name} has {self.low:.4g} to {self.high:.4g} (96 % of its pixels), the model takes "
                f"{spec.minimum:.4g} to {spec.maximum:.4g}{unit}")


def adjusted(bands: tuple[Band, ...], manifest: Manifest, scale: float | None,
             bounds: tuple[float, float] | None) -> tuple[Band, ...]:
    """Bands whose physical values are the model's.

    Args:
        scale: what the values are multiplied by.
        bounds: the values that are mapped to the ends of each band's range in the model; None: by `scale` alone.
    """
    changed = []
    for band, spec in zip(bands, manifest.bands_in):
        gain, bias = scale or 1.0, 0.0
        if bounds:
            gain = (spec.maximum - spec.minimum) / (bounds[1] - bounds[0])
            bias = spec.minimum - gain * bounds[0]
        changed.append(replace(band, scale=band.scale * gain, offset=band.offset * gain + bias, unit=spec.unit or None))
    return tuple(changed)


def wants_percentiles(raster: Raster, manifest: Manifest) -> bool:
    """Whether it takes a look at the pixels to tell that they are of the model's kind."""
    kind = manifest.normalise_in.kind
    return manifest.network is not None and (kind in ("mean_std", "matrix") or (
        kind == "range" and not _fits_by_dtype(raster, manifest)))


def check_ranges(raster: Raster, manifest: Manifest, statistics: Statistics | None, force: bool) -> Iterator[str]:
    """What to warn of in the numbers of a raster that goes to a network.

    Args:
        statistics: with `PERCENTILES`, and with the shares outside the model's ranges; None: they need no look.
        force: whether to warn of what would be refused.

    Raises:
        RasterError: where they are far from those that the model was trained on.
    """
    for band, spec in zip(raster.bands, manifest.bands_in):
        if band.unit and spec.unit and band.unit.casefold() != spec.unit.casefold():
            yield f"{raster.path} has {spec.name} in {band.unit}, and model {manifest.name} takes {spec.unit}."
            break
    if statistics is None or not statistics.outside:
        return
    columns = zip(manifest.bands_in, *(statistics.percentiles[q] for q in PERCENTILES), statistics.outside)
    every = [Found(*column) for column in columns]
    found = [each for each in every if each.spec.maximum > each.spec.minimum and each.low == each.low]
    far = [each for each, band in zip(every, raster.bands)
           if each in found and (each.far or _too_small(each, band, raster.dtype))]
    if far and not force:
        raise RasterError(
            f"The numbers of {raster.path} are not those that model {manifest.name} was trained on:",
            [str(each) for each in far],
            "Bring them there with --input-scale or --input-range, or take them as they are with --force.")
    worst = far[0] if far else max(found, key=lambda each: each.outside, default=None)
    if worst and (far or worst.low < worst.spec.minimum or worst.high > worst.spec.maximum):
        yield (f"{100 * worst.outside:.2g} % of the pixels of {raster.path} lie outside the range of model "
               f"{manifest.name}: {worst}.")


def has_more_digits(raster: Raster) -> bool:
    """Whether a raster's numbers need more digits than float32 holds, by one decimated read."""
    dtype = np.dtype(raster.original.dtype)
    if dtype.itemsize < 4 or dtype == np.float32:
        return False
    sample = raster.original.decimated()
    pixels = sample.pixels[np.broadcast_to(True if sample.mask is None else sample.mask != 0, sample.pixels.shape)]
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return bool((pixels.astype(np.float32).astype(dtype) != pixels).any())
    size = np.where(pixels < 0, 0 - pixels.astype(np.uint64), pixels.astype(np.uint64))
    lowest = np.maximum(size & (~size + np.uint64(1)), np.uint64(1))
    return bool((size // lowest >> np.uint64(_DIGITS)).any())


def _limits(band: Band, dtype: str) -> tuple[float, float] | None:
    """The values that a band of integers can have."""
    if np.dtype(dtype).kind == "f":
        return None
    ends = [end * band.scale + band.offset for end in (np.iinfo(dtype).min, np.iinfo(dtype).max)]
    return min(ends), max(ends)


def _fits_by_dtype(raster: Raster, manifest: Manifest) -> bool:
    """Whether nothing that the raster can hold lies outside the model's ranges, which it can fill: nothing is read."""
    limits = [_limits(band, raster.dtype) for band in raster.bands]
    return all(limit and spec.minimum <= limit[0] and limit[1] <= spec.maximum
               and limit[1] - limit[0] >= _FEW * (spec.maximum - spec.minimum)
               for limit, spec in zip(limits, manifest.bands_in))


def _too_small(found: Found, band: Band, dtype: str) -> bool:
    """Whether values stay so near to one end of the model's range, zero say, that their unit must be another."""
    span = found.spec.maximum - found.spec.minimum
    limit = _limits(band, dtype)
    if limit:
        return limit[1] - limit[0] < _FEW * span
    reached, full = (max(map(abs, ends)) for ends in ((found.low, found.high),
                                                      (found.spec.minimum, found.spec.maximum)))
    return found.high > found.low and reached < _FAINT * full
