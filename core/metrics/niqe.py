"""Natural image quality: how far an image's local statistics are from those of pristine photographs.

NIQE (Mittal, Soundararajan and Bovik 2013) as LIVE's release computes it. The statistics of pristine photographs are
LIVE's and are not part of geoi2i: `load_niqe_parameters` reads them.
"""

import hashlib
import io
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F

from ..errors import ModelError
from .block import blocks
from .measure import Measure, Patch, Undefined

_REACH = 10
"""Pixels around a block that its values depend on: three at half the size, and what these are made of."""
_NOTHING = 1e-10  # above the round-off of what is 0 in exact arithmetic, below all that 8 bits can make
_LUMA = (0.298936021293775, 0.587043074451121, 0.114020904255103)  # MATLAB's rgb2gray
_GAUSSIAN = np.exp(-0.5 * (np.arange(-3, 4) / (7 / 6)) ** 2)
_GAUSSIAN /= _GAUSSIAN.sum()
_HALF = np.array([-3, -9, 29, 111, 111, 29, -9, -3]) / 256  # MATLAB's imresize by 0.5: cubic, antialiased


@dataclass(frozen=True)
class NiqeParameters:
    """The normal distribution of the features of pristine photographs."""

    mean: np.ndarray
    """(36,)."""
    covariance: np.ndarray
    """(36,36)."""
    sha256: str
    """Of the file."""


def load_niqe_parameters(path: Path | str) -> NiqeParameters:
    """Reads `niqe_pris_params.npz`, LIVE's parameters as BasicSR has them, without running anything in it."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}): name niqe_pris_params.npz of BasicSR.") from error
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            mean, covariance = (np.asarray(file[f"{key}_pris_param"], np.float64) for key in ("mu", "cov"))
        if mean.size != 36 or covariance.shape != (36, 36):
            raise ValueError(f"a mean of {mean.size} and a covariance of {covariance.shape}")
        if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
            raise ValueError("values that are not finite")
    except Exception as error:  # whatever numpy and zipfile find wrong
        raise ModelError(f"{path} does not hold the mean (36) and covariance (36 x 36) of NIQE ({error}): "
                         "name niqe_pris_params.npz of BasicSR.") from error
    return NiqeParameters(mean.ravel(), covariance, hashlib.sha256(content).hexdigest())


def niqe(parameters: NiqeParameters, low: float, high: float, block: int = 96) -> Measure:
    """NIQE of the prediction, a grey band or red, green and blue; the lower the better. The reference is not used.

    The image is rounded to 8 bits, as the pristine photographs are. Blocks stand side by side; those that have a pixel
    without data in them or within 10 pixels do not count, nor do those at the end that are not whole. LIVE cuts these
    off first, so here too an image ends where its whole blocks end. Blocks without any texture have no features.
    In flat windows other codes fit the signs of round-off (up to 5 % where 30 % are flat); here these are zeros.
    `totals["flat"] / totals["windows"]` says how many of the windows of 7 x 7 pixels are flat.

    Args:
        low, high: values that are black and white in 8 bits.
        block: side in pixels, even; LIVE's parameters are for 96.
    """
    def sums(patch):
        first, stop = patch.owned[0].start, patch.owned[0].stop
        # A row of blocks is a patch too: what is held stays small.
        rows = [replace(patch, owned=(slice(row, row + block), patch.owned[1]))
                for row in range(first, stop - block + 1, block)]
        parts = [(np.empty((0, 36)), np.empty(0)), *(_features(row, low, high, block) for row in rows)]
        found, flat = map(np.concatenate, zip(*parts))
        moved = found[np.isfinite(found).all(1)] - parameters.mean
        return {"count": len(found), "textured": len(moved), "features": moved.sum(0), "products": moved.T @ moved,
                "flat": flat.sum(), "windows": flat.size * block**2, "bands": len(found) * len(patch.prediction)}

    def score(total):
        n, bands = total["textured"], total["bands"] / total["count"]
        if bands not in (1, 3):
            raise Undefined(f"it looks at one band, or at red, green and blue, not at {bands:.0f}: choose bands")
        if n < 2:
            raise Undefined(f"{n:.0f} of {total['count']:.0f} blocks of {block} pixels have texture, and it needs two: "
                            "take a larger or less uniform image")
        away = total["features"] / n
        spread = (total["products"] - n * np.outer(away, away)) / (n - 1)
        inverse = np.linalg.pinv((parameters.covariance + spread) / 2, rcond=36 * np.finfo(float).eps)
        return np.sqrt(away @ inverse @ away)

    return Measure("NIQE", "", 0.0, sums, score, block, block,
                   {"block": block, "low": low, "high": high, "parameters": parameters.sha256})


def _features(patch: Patch, low: float, high: float, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Features (n,36) of the clean blocks in a row, not finite where nothing varies, and how many windows are flat."""
    cuts, starts = [], []
    for part, size in zip(patch.owned, patch.valid.shape):
        stop = part.stop - (part.stop - part.start) % side
        # The image continues where another block does; else it ends here.
        before, after = (_REACH if context >= side else 0 for context in (part.start, size - part.stop))
        cuts.append(slice(part.start - before, stop + after))
        starts.append(range(before, before + stop - part.start, side))
    (row,), (col, across) = starts[0], (starts[1].start, len(starts[1]))
    valid, image = patch.valid[*cuts], patch.prediction[:, *cuts]
    clean = np.array([valid[:, max(at - _REACH, 0) : at + side + _REACH].all() for at in starts[1]], bool)
    if not clean.any():
        return np.empty((0, 36)), np.empty(0)
    grey = sum(weight * band for weight, band in zip(_LUMA, image)) if len(image) == 3 else image[0]
    grey = np.floor((grey - low) * (255 / (high - low)) + 0.5).clip(0, 255)

    def cut(array):
        return blocks(array[None, row : row + side, col : col + across * side], side)[0, clean]

    normal, variance = _normalised(grey)
    found, flat = [_statistics(cut(normal), side)], (cut(variance) < 1e-6).sum(1)  # one grey level more makes 1e-4
    grey, row, col, side = _filtered(grey, _HALF, "symmetric", 2), row // 2, col // 2, side // 2
    found.append(_statistics(cut(_normalised(grey)[0]), side))
    return np.concatenate(found, 1), flat


def _normalised(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values in local standard deviations from the local mean, and the local variance, of an image (h,w)."""
    mean = _filtered(image, _GAUSSIAN, "edge")
    away, variance = image - mean, np.abs(_filtered(image**2, _GAUSSIAN, "edge") - mean**2)
    return np.where(np.abs(away) > _NOTHING, away / (np.sqrt(variance) + 1), 0.0), variance


def _filtered(image: np.ndarray, taps: np.ndarray, border: Literal["edge", "symmetric"], step: int = 1) -> np.ndarray:
    """An image (h,w) under a separable kernel, every `step` pixels; `border` is numpy's mode of padding."""
    wide, kernel = torch.from_numpy(np.pad(image, 3, mode=border))[None, None], torch.from_numpy(taps)
    wide = F.conv2d(wide, kernel[None, None, :, None], stride=(step, 1))
    return F.conv2d(wide, kernel[None, None, None, :], stride=(1, step))[0, 0].numpy()


def _statistics(parts: np.ndarray, side: int) -> np.ndarray:
    """The 18 features of normalised blocks (n, side * side): of their values, and of products of neighbours."""
    shape, _, left, right = _fitted(parts)
    found, square = [shape, (left + right) / 2], parts.reshape(-1, side, side)
    for shift in ((0, 1), (1, 0), (1, 1), (1, -1)):
        found += _fitted((square * np.roll(square, shift, (1, 2))).reshape(parts.shape))
    return np.stack(found, 1)


def _fitted(parts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Shape, mean, left and right width of the asymmetric generalised normal distribution (Lasmar et al. 2009)."""
    square = parts**2
    with np.errstate(divide="ignore", invalid="ignore"):
        left, right = (np.sqrt((square * side).sum(1) / side.sum(1)) for side in (parts < 0, parts > 0))
        skew = left / right
        ratio = np.abs(parts).mean(1) ** 2 / square.mean(1) * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    shapes, ratios, widths, means = _table()
    at = np.searchsorted((ratios[1:] + ratios[:-1]) / 2, ratio)
    left, right = left * widths[at], right * widths[at]
    return shapes[at], (right - left) * means[at], left, right


@lru_cache
def _table() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Shapes that are tried, and for each the ratio of moments, width over deviation, and mean over width."""
    shapes = np.arange(200, 10001) / 1000
    one, two, three = (torch.lgamma(torch.from_numpy(k / shapes)).numpy() for k in (1, 2, 3))
    return shapes, np.exp(2 * two - one - three), np.exp((one - three) / 2), np.exp(two - one)
