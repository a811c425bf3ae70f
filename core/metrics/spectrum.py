"""Energy of an image by spatial frequency."""

from collections.abc import Callable
from functools import lru_cache
from itertools import groupby
from operator import itemgetter

import numpy as np

from .measure import Measure, Patch, Undefined, patch_of

MID, HIGH = (1 / 8, 1 / 4), (1 / 4, 1 / 2)
"""Bands of spatial frequency in cycles per pixel, from and up to."""


@lru_cache(maxsize=8)
def power_spectra(side: int = 64) -> Callable[[Patch], dict]:
    """Sums of the measures below: power of both images' windows (C,side,side//2+1), as `np.fft.rfft2` lays it out.

    Windows of `side` pixels, half overlapping, without mean and under a Hann window; those with a hole do not
    count, because the step at its edge has energy at all frequencies.
    """
    along = np.hanning(side)
    taper = np.outer(along, along)
    step = side // 2

    def power(image, places):
        total = np.zeros((len(image), side, step + 1))
        for row, line in groupby(places, itemgetter(0)):  # a line at a time stays small
            windows = np.stack([image[:, row : row + side, col : col + side] for _, col in line])
            found = np.fft.rfft2((windows - windows.mean((2, 3), keepdims=True)) * taper)
            total += (found.real**2 + found.imag**2).sum(0)
        return total

    def sums(patch):
        height, width = patch.valid.shape
        rows, cols = patch.owned
        whole = patch.valid.all()
        places = [(row, col) for row in range(rows.start, min(rows.stop, height - side + 1), step)
                  for col in range(cols.start, min(cols.stop, width - side + 1), step)
                  if whole or patch.valid[row : row + side, col : col + side].all()]
        found = {"prediction": power(patch.prediction, places)}
        found["reference"] = found["prediction"] if patch.alone else power(patch.reference, places)
        return found | dict.fromkeys(("count", "prediction_count", "reference_count"), len(places))

    return sums


def energy_retention(name: str, band: tuple[float, float], spectra: Callable[[Patch], dict], side: int = 64) -> Measure:
    """Energy of the prediction in a band of spatial frequencies over the reference's; mean over the image bands.

    Args:
        band: lowest and highest frequency in cycles per pixel.
        spectra: `power_spectra(side)`; measures that share it compute spectra once.
    """
    def score(total):
        mine, theirs = (band_means(total[image] / total[f"{image}_count"], (band,))[:, 0]
                        for image in ("prediction", "reference"))
        if (theirs == 0).any():
            raise Undefined("the reference has no energy at these frequencies: use RMSE or the bias")
        return (mine / theirs).mean()

    return Measure(name, "", 1.0, spectra, score, side // 2, side // 2,
                   {"cycles per pixel": band, "window": f"Hann, {side} px, half overlapping"})


def above(frequency: float, spectra: Callable[[Patch], dict], side: int = 64) -> Measure:
    """Share of the prediction's energy above a spatial frequency along rows or columns, its source's Nyquist frequency.

    What lies there was not seen by the source: it is added detail. Mean over the bands.

    Args:
        frequency: in cycles per pixel of the prediction.
    """
    def score(total):
        power, (_, weight) = total["prediction"], _frequencies(side)
        place = np.maximum(np.abs(np.fft.fftfreq(side))[:, None], np.fft.rfftfreq(side))
        energy = (power * weight).sum((1, 2))
        if (energy == 0).any():
            raise Undefined("a band is constant: use the bias")
        return ((power * weight * (place > frequency)).sum((1, 2)) / energy).mean()

    return Measure("energy above the source's Nyquist", "", 0.0, spectra, score, side // 2, side // 2,
                   {"cycles per pixel": frequency, "window": f"Hann, {side} px, half overlapping"})


def band_means(spectrum: np.ndarray, bands: tuple[tuple[float, float], ...]) -> np.ndarray:
    """Mean power (C,bands) of spectra (C,n,n//2+1) in bands of frequency: from, up to (exclusive; cycles per pixel)."""
    frequency, weight = _frequencies(spectrum.shape[-2])
    rings = [weight * ((frequency >= low) & (frequency < high)) for low, high in bands]
    return np.stack([(spectrum * ring).sum((-2, -1)) / ring.sum() for ring in rings], -1)


def radial_means(spectrum: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies (n//2,) in cycles per pixel, without 0, and the mean power (C,n//2) on rings around them."""
    n = spectrum.shape[-2]
    frequency, weight = _frequencies(n)
    ring = np.rint(frequency * n).astype(int)
    of_all = np.bincount(ring.ravel(), weight.ravel())
    power = np.stack([np.bincount(ring.ravel(), (weight * one).ravel()) for one in spectrum])
    return np.arange(1, n // 2 + 1) / n, (power / of_all)[:, 1 : n // 2 + 1]


def _frequencies(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Radial frequency of each place of half a spectrum, and how often it stands in the whole."""
    frequency = np.hypot(np.fft.fftfreq(n)[:, None], np.fft.rfftfreq(n))
    weight = np.full(frequency.shape, 2.0)
    weight[:, 0] = weight[:, -1] = 1.0
    return frequency, weight


def band_power(image: np.ndarray, valid: np.ndarray, edges: tuple[float, ...], side: int = 64) -> np.ndarray:
    """Mean spectral power of a grey image (h,w) between neighbouring `edges` (cycles per pixel): (len(edges) - 1,).

    NaN where no window of `side` pixels is without a hole (`valid` (h,w)).
    """
    image = np.asarray(image)[None]
    total = power_spectra(side)(patch_of(image, image, valid))
    if not total["count"]:
        return np.full(len(edges) - 1, np.nan)
    return band_means(total["prediction"] / total["count"], tuple(zip(edges, edges[1:])))[0]


def radial_power(image: np.ndarray) -> np.ndarray:
    """Variance of a square grey image (n,n) by rings of spatial frequency.

    Returns:
        (n // 2 + 1,): entry k is the variance at k cycles over the image's side, round(hypot(ky, kx)) = k, the
        mean left out; together with what lies in the corners beyond the last ring they sum to the variance.
    """
    n = image.shape[0]
    spectrum = np.abs(np.fft.fft2(image - image.mean()) / image.size) ** 2
    cycles = np.fft.fftfreq(n, 1 / n)
    ring = np.rint(np.hypot(cycles[:, None], cycles)).astype(int)
    return np.bincount(ring.ravel(), spectrum.ravel())[: n // 2 + 1]
