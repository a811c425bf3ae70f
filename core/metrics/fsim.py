"""Feature similarity: how alike two images are in phase congruency and gradient (Zhang et al. 2011).

As the authors' FeatureSIM.m computes it, its constants included. Phase congruency is Kovesi's, by log-Gabor filters
over the whole tile, so the value depends on the tile.
"""

import math
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .measure import Measure, Undefined
from .tile import tile_mean

_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]], dtype=torch.float64)
_SCHARR = torch.tensor([[3, 0, -3], [10, 0, -10], [3, 0, -3]], dtype=torch.float64) / 16
_SCALES = _ORIENTATIONS = 4
_LIKE_PHASE, _LIKE_GRADIENT, _LIKE_CHROMA, _CHROMA_POWER = 0.85, 160, 200, 0.03


def fsim(low: float, high: float, chromatic: bool = False, tile: int = 512) -> Measure:
    """FSIM, or FSIMc with the colours' likeness: the mean over tiles.

    Three bands are red, green and blue, of which FSIM sees the luminance; of any other number it is the mean over
    bands. Tiles that hold a pixel without data do not count; two tiles without any feature score 1. The authors'
    code shrinks a tile to a shorter side of about 256 pixels first: what is finer does not count.

    Args:
        low, high: values that stand for the 0 and the 255 which the method's constants are made for.
        chromatic: FSIMc; 3 bands only.
        tile: side in pixels.
    """
    def value(reference, prediction):
        if chromatic and len(reference) != 3:
            return math.nan
        one, other = (torch.from_numpy((image - low) * (255 / (high - low))) for image in (reference, prediction))
        if len(one) == 3:
            one, other = (torch.tensordot(_YIQ, image, 1) for image in (one, other))
            return _similarity(one if chromatic else one[:1], other if chromatic else other[:1])
        return sum(_similarity(a[None], b[None]) for a, b in zip(one, other)) / len(one)

    def score(total):
        if math.isnan(total["value"]):
            raise Undefined("it needs red, green and blue: choose 3 bands, or FSIM")
        return measure.score(total)

    measure = tile_mean("FSIMc" if chromatic else "FSIM", "", 1.0, value, tile, settings={"low": low, "high": high})
    return replace(measure, score=score)


def _similarity(one: Tensor, other: Tensor) -> float:
    """FSIM of luminances (1,h,w); FSIMc of luminance and the two chrominances (3,h,w)."""
    one, other = _shrunk(one), _shrunk(other)
    phases = _phase_congruency(one[0]), _phase_congruency(other[0])
    found = _alike(*phases, _LIKE_PHASE) * _alike(_gradient(one[0]), _gradient(other[0]), _LIKE_GRADIENT)
    if len(one) == 3:
        colour = _alike(one[1:], other[1:], _LIKE_CHROMA).prod(0)
        # The real part of the power of what may be negative.
        power = colour.abs() ** _CHROMA_POWER
        found = found * torch.where(colour < 0, math.cos(math.pi * _CHROMA_POWER) * power, power)
    weight = torch.maximum(*phases)
    return float((found * weight).sum() / weight.sum()) if weight.any() else 1.0


def _alike(one: Tensor, other: Tensor, constant: float) -> Tensor:
    return (2 * one * other + constant) / (one**2 + other**2 + constant)


def _shrunk(images: Tensor) -> Tensor:
    """Means of squares of pixels, as many as make the shorter side about 256; MATLAB's conv2 'same', zeros outside."""
    side = max(1, math.floor(min(images.shape[-2:]) / 256 + 0.5))
    before, after = side - 1 - side // 2, side // 2
    return F.avg_pool2d(F.pad(images, (before, after, before, after)), side, side)


def _gradient(image: Tensor) -> Tensor:
    kernels = torch.stack([_SCHARR, _SCHARR.T])[:, None]
    return torch.hypot(*F.conv2d(image[None, None], kernels, padding=1)[0])


def _phase_congruency(image: Tensor) -> Tensor:
    """Phase congruency (h,w) over all orientations, in [0, 1]: how far the phases of all scales agree."""
    if image.max() == image.min():
        return torch.zeros_like(image)  # else round-off over round-off
    filters, noise = _filters(*image.shape)
    spectrum, energy, amplitude = torch.fft.fft2(image), 0.0, 0.0
    for bank, noise_gain in zip(filters, noise):
        response = torch.fft.ifft2(spectrum * bank)
        total = response.sum(0)
        along = response * (total / (total.abs() + 1e-4)).conj()
        size = response.abs()
        threshold = noise_gain * math.sqrt(np.median(size[0].numpy() ** 2))
        energy = energy + ((along.real - along.imag.abs()).sum(0) - threshold).clamp_min(0)
        amplitude = amplitude + size.sum(0)
    return torch.where(amplitude > 0, energy / amplitude, 0.0)


@lru_cache(maxsize=4)
def _filters(height: int, width: int) -> tuple[Tensor, list[float]]:
    """Log-Gabor filters (orientations, scales, h, w) in frequency, and the noise threshold of each orientation.

    The threshold is in root medians of the energy at the finest scale: there all is taken for noise with Rayleigh
    distribution; two standard deviations above its mean energy over all scales count, by the authors' factor 1 / 1.7.
    """
    # An odd side is divided by one less, as in Kovesi's code.
    y, x = (torch.fft.fftfreq(size, dtype=torch.float64) * (size / (size - size % 2)) for size in (height, width))
    radius, angle = torch.hypot(y[:, None], x), torch.atan2(-y[:, None], x)
    low_pass = 1 / (1 + (radius / 0.45) ** 30)
    radius[0, 0] = 1
    radial = torch.stack([torch.exp(-torch.log(radius * 6 * 2**s) ** 2 / (2 * math.log(0.55) ** 2)) * low_pass
                          for s in range(_SCALES)])
    radial[:, 0, 0] = 0
    spread = math.pi / _ORIENTATIONS / 1.2
    filters, noise = [], []
    for towards in (o * math.pi / _ORIENTATIONS for o in range(_ORIENTATIONS)):
        away = torch.atan2(torch.sin(angle - towards), torch.cos(angle - towards))
        bank = radial * torch.exp(-(away**2) / (2 * spread**2))
        passed = height * width * (torch.fft.ifft2(bank.sum(0)).real ** 2).sum() / (bank[0] ** 2).sum()
        tau = math.sqrt(passed / math.log(2))
        noise.append(tau * (math.sqrt(math.pi / 2) + 2 * math.sqrt(2 - math.pi / 2)) / 1.7)
        filters.append(bank)
    return torch.stack(filters), noise
