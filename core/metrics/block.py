"""Measures that are means over blocks which stand on a lattice from the raster's first pixel.

Patches for them are cut on that lattice: each owns whole blocks, all but those at the raster's last rows and columns.
"""

from functools import lru_cache

import numpy as np

from .measure import Measure, Patch

_EPS = np.finfo(np.float64).eps


def q2n(block: int = 32, rounded: bool = False) -> Measure:
    """Q2n (Garzelli and Nencini 2009): UQI of hypercomplex numbers, one component a band; Q4 for 4 bands, Q8 for 8.

    As DLPan-Toolbox computes it: blocks side by side, statistics normalised by the reference's, bands filled up with
    zeros to a power of two, blocks at the end filled up by reflection. The reference comes first: it is not symmetric.
    Blocks that hold a pixel without data do not count. An inverted contrast scores nearly 1: look at SAM or ERGAS too.

    Args:
        rounded: whether values are rounded to 16-bit counts first, as the toolbox does; not for data in [0, 1].
    """
    def sums(patch):
        valid, reference, prediction = owned_blocks(patch, block)
        if rounded:
            reference, prediction = (np.floor(image.clip(0, 65535) + 0.5) for image in (reference, prediction))
        if not valid.any():
            return {"count": 0, "quality": 0.0}
        return {"count": valid.sum(), "quality": _hypercomplex_quality(reference, prediction).sum()}

    return Measure(f"Q2n, blocks of {block}", "", 1.0, sums, lambda t: t["quality"] / t["count"], block, block,
                   {"block": block, "rounded": rounded})


def owned_blocks(patch: Patch, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which of a patch's blocks (n,) have no hole, and of these reference and prediction (C, blocks, side * side).

    What lacks at the raster's end is reflected, which can reach into the blocks before: `side` pixels of context.
    """
    sizes = [part.stop - part.start for part in patch.owned]
    padding = [(0, -size % side) for size in sizes]
    whole = tuple(slice(part.start, part.stop + more) for part, (_, more) in zip(patch.owned, padding))

    def cut(image):
        return blocks(np.pad(image, ((0, 0), *padding), mode="symmetric")[:, *whole], side)

    valid = cut(patch.valid[None])[0].all(-1)
    return valid, cut(patch.reference)[:, valid], cut(patch.prediction)[:, valid]


def blocks(image: np.ndarray, side: int) -> np.ndarray:
    """(C,h,w) -> (C, blocks, side * side); what lacks at the end is reflected, edge pixel included."""
    channels, height, width = image.shape
    image = np.pad(image, ((0, 0), (0, -height % side), (0, -width % side)), mode="symmetric")
    down, across = image.shape[1] // side, image.shape[2] // side
    parts = image.reshape(channels, down, side, across, side).transpose(0, 1, 3, 2, 4)
    return parts.reshape(channels, down * across, side * side)


def _hypercomplex_quality(reference: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Modulus of the quality of blocks (C, blocks, n), eq. 14 of the paper."""
    bands, _, n = reference.shape
    full = 1 << (bands - 1).bit_length()
    x, y = (np.concatenate([image, np.zeros((full - bands, *image.shape[1:]))]) for image in (reference, prediction))
    level, spread = x.mean(-1), x.std(-1, ddof=1)
    spread = np.where(spread == 0, _EPS, spread)[..., None]
    y = np.where(level[..., None] == 0, y, (y - level[..., None]) / spread) + 1
    x = (x - level[..., None]) / spread + 1
    y[1:] *= -1  # the conjugate
    mean_x, mean_y = x.mean(-1), y.mean(-1)
    x, y = x - mean_x[..., None], y - mean_y[..., None]
    size_x, size_y = np.linalg.norm(mean_x, axis=0), np.linalg.norm(mean_y, axis=0)
    closeness = 2 * size_x * size_y / (size_x**2 + size_y**2)
    variance = ((x**2).sum((0, 2)) + (y**2).sum((0, 2))) / (n - 1)
    covariance = x.transpose(1, 0, 2) @ y.transpose(1, 2, 0) / (n - 1)
    modulus = np.linalg.norm(np.einsum("bij,ijk->bk", covariance, _products(full)), axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        quality = closeness * 2 * modulus / variance
    return np.where(variance == 0, closeness, quality)


@lru_cache(maxsize=8)
def _products(size: int) -> np.ndarray:
    """Products of the units of hypercomplex numbers: unit i times unit j is sum_k table[i, j, k] unit k."""
    units = np.eye(size)
    return np.array([[_multiply(a, b) for b in units] for a in units])


def _multiply(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The Cayley-Dickson product in the order that the toolbox takes."""
    if x.size == 1:
        return x * y
    (a, b), (c, d) = np.split(x, 2), np.split(y, 2)
    return np.concatenate([_multiply(a, c) - _multiply(_conjugate(d), b),
                           _multiply(_conjugate(a), _conjugate(d)) + _multiply(c, _conjugate(b))])


def _conjugate(x: np.ndarray) -> np.ndarray:
    return np.concatenate([x[:1], -x[1:]])
