"""Measures of pansharpened images that need no reference: QNR (Alparone et al. 2008) and HQNR (Aiazzi et al. 2014).

They relate the fused image to what it was made of: the multispectral image resampled to its grid by
`interpolate_23tap` (EXP), the panchromatic image (PAN), and the latter without its fine detail (`low_pass`).
As DLPan-Toolbox computes them; other codes differ by more than methods do (Arienzo et al. 2022).
"""

import numpy as np
import torch

from .block import owned_blocks, q2n
from .measure import Measure
from .window import whole_windows

GAINS = {  # of the sensors' transfer functions at the Nyquist frequency of the multispectral image
    "QB": (0.34, 0.32, 0.30, 0.22), "IKONOS": (0.26, 0.28, 0.29, 0.28), "GeoEye1": (0.23,) * 4, "WV4": (0.23,) * 4,
    "WV2": (*(0.35,) * 7, 0.27), "WV3": (0.325, 0.355, 0.360, 0.350, 0.365, 0.360, 0.335, 0.315)}
_TAPS_23 = 2 * np.array([0.5, 0.305334091185, 0, -0.072698593239, 0, 0.021809577942, 0, -0.005192756653, 0,
                         0.000807762146, 0, -0.000060081482])
_MTF_SIDE = 41


def d_lambda(block: int = 32) -> Measure:
    """Spectral distortion of QNR: how the likeness of each two bands differs between EXP and the fused image.

    The reference is EXP (C,h,w), the prediction the fused image (C,h,w).
    """
    def sums(patch):
        valid, exp, fused = owned_blocks(patch, block)
        pairs = [(i, j) for i in range(len(exp)) for j in range(i + 1, len(exp))]
        return {"count": valid.sum(), "exp": np.array([_uqi(exp[i], exp[j]).sum() for i, j in pairs]),
                "fused": np.array([_uqi(fused[i], fused[j]).sum() for i, j in pairs])}

    return Measure("D_lambda", "", 0.0, sums, lambda t: np.abs(t["fused"] - t["exp"]).mean() / t["count"],
                   block, block, {"block": block})


def d_s(block: int = 32) -> Measure:
    """Spatial distortion of QNR: how the likeness to PAN differs between fine and coarse scale.

    The reference is EXP and behind it PAN and its `low_pass` (C+2,h,w), the prediction the fused image (C,h,w).
    """
    def sums(patch):
        valid, (*exp, pan, coarse), fused = owned_blocks(patch, block)
        return {"count": valid.sum(), "fine": np.array([_uqi(band, pan).sum() for band in fused]),
                "coarse": np.array([_uqi(band, coarse).sum() for band in exp])}

    return Measure("D_s", "", 0.0, sums, lambda t: np.abs(t["fine"] - t["coarse"]).mean() / t["count"],
                   block, block, {"block": block})


def d_lambda_khan(sensor: str | None = None, ratio: int = 4, block: int = 32) -> Measure:
    """Spectral distortion of HQNR (Khan et al. 2009): 1 - Q2n of EXP and the fused image seen with the sensor's blur.

    Not decimated, and rounded to 16-bit counts, as in the toolbox. The reference is EXP, the prediction the fused
    image, each (C,h,w).

    Args:
        sensor: one of `GAINS`; None: a gain of 0.3 in all bands.
    """
    inner, reach = q2n(block, rounded=True), _MTF_SIDE // 2

    def sums(patch):
        gains = GAINS[sensor] if sensor else (0.3,) * len(patch.prediction)
        blurred = np.stack([_filtered(band, mtf_kernel(gain, ratio)) for band, gain in zip(patch.prediction, gains)])
        clear = whole_windows(np.pad(patch.valid, reach, constant_values=True), _MTF_SIDE)
        return inner.sums(type(patch)(patch.reference, blurred, clear, patch.owned))

    return Measure("D_lambda (Khan)", "", 0.0, sums, lambda t: 1 - inner.score(t), reach + block, block,
                   {"sensor": sensor or "gain 0.3", "ratio": ratio, "block": block, "decimated": False})


def qnr(spectral: float, spatial: float) -> float:
    """Quality without reference from two distortions; with `d_lambda_khan` as the first it is HQNR."""
    return (1 - spectral) * (1 - spatial)


def _uqi(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Universal quality index of blocks (B,n), with unbiased variances."""
    mx, my = x.mean(-1), y.mean(-1)
    covariance = ((x - mx[:, None]) * (y - my[:, None])).sum(-1) / (x.shape[-1] - 1)
    spread, level = x.var(-1, ddof=1) + y.var(-1, ddof=1), mx**2 + my**2
    with np.errstate(divide="ignore", invalid="ignore"):
        found = 4 * covariance * mx * my / spread / level
    return np.where(spread * level > 0, found, np.where(mx == my, 1.0, 0.0))


def low_pass(pan: np.ndarray, ratio: int = 4) -> np.ndarray:
    """PAN (h,w) at the multispectral image's resolution, on its own grid."""
    return interpolate_23tap(imresize(pan, 1 / ratio), ratio)


def interpolate_23tap(image: np.ndarray, ratio: int) -> np.ndarray:
    """(...,h,w) -> (...,h*ratio,w*ratio) by a half-band filter of 23 taps (Aiazzi et al. 2002), borders circular.

    Args:
        ratio: a power of two.
    """
    if ratio < 1 or ratio & (ratio - 1):
        raise ValueError(f"a ratio must be a power of two (got {ratio})")
    taps = np.concatenate([_TAPS_23[:0:-1], _TAPS_23])
    start = 1  # the first doubling puts samples on odd places
    while ratio > 1:
        wide = np.zeros((*image.shape[:-2], 2 * image.shape[-2], 2 * image.shape[-1]))
        wide[..., start::2, start::2] = image
        for axis in (-2, -1):
            wide = sum(tap * np.roll(wide, k - 11, axis) for k, tap in enumerate(taps) if tap)
        image, start, ratio = wide, 0, ratio // 2
    return image


def imresize(image: np.ndarray, scale: float) -> np.ndarray:
    """MATLAB's imresize of (...,h,w) for scales below one: cubic (a = -0.5), widened, borders mirrored."""
    for axis in (-2, -1):
        image = np.moveaxis(np.moveaxis(image, axis, -1) @ _shrinking(image.shape[axis], scale).T, -1, axis)
    return image


def _shrinking(size: int, scale: float) -> np.ndarray:
    """Weights (smaller, size) along one axis."""
    count, width = int(np.ceil(size * scale)), 4 / scale
    centre = (np.arange(count) + 0.5) / scale - 0.5
    index = np.floor(centre - width / 2)[:, None] + np.arange(int(np.ceil(width)) + 3)
    x = np.abs(scale * (centre[:, None] - index))
    weight = np.where(x <= 1, 1.5 * x**3 - 2.5 * x**2 + 1, np.where(x <= 2, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2, 0))
    weight /= weight.sum(1, keepdims=True)
    mirrored = index.astype(int) % (2 * size)
    mirrored = np.where(mirrored < size, mirrored, 2 * size - 1 - mirrored)
    matrix = np.zeros((count, size))
    np.add.at(matrix, (np.arange(count)[:, None], mirrored), weight)
    return matrix


def mtf_kernel(gain: float, ratio: int) -> np.ndarray:
    """Blur of a sensor (41,41): Gaussian in frequency with `gain` at the coarse Nyquist, in a round Kaiser window.

    By Huang's method, as MATLAB's fwind1; it is not normalised: the sum is 0.999.
    """
    place = np.arange(_MTF_SIDE) - _MTF_SIDE // 2
    variance = ((_MTF_SIDE - 1) / (2 * ratio)) ** 2 / (-2 * np.log(gain))
    response = np.exp(-(place[:, None] ** 2 + place**2) / (2 * variance))
    kernel = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(response))).real
    radius = np.hypot(place[:, None], place) / (_MTF_SIDE // 2)
    window = np.interp(radius, place / (_MTF_SIDE // 2), np.kaiser(_MTF_SIDE, 0.5))
    return kernel * np.where(radius > 1, 0, window)


def _filtered(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """An image (h,w) under a symmetric kernel, edges repeated; by its spectrum, for the kernel is not separable."""
    reach = kernel.shape[0] // 2
    wide = np.pad(image, reach, mode="edge")
    shape = [-(-size // 64) * 64 for size in wide.shape]  # lengths that transform fast
    spectra = (torch.fft.rfft2(torch.from_numpy(part), shape) for part in (wide, kernel))
    found = torch.fft.irfft2(next(spectra) * next(spectra), shape)
    return found[2 * reach : wide.shape[0], 2 * reach : wide.shape[1]].numpy()
