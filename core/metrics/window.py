"""Measures that are means over sliding windows."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F

from .measure import Measure, Patch, Undefined


def ssim(peak: float) -> Measure:
    """Structural similarity (Wang et al. 2004): Gaussian windows of 11 pixels, sigma 1.5; mean over bands and windows.

    Windows that touch a pixel without data, or reach over the raster's border, do not count.

    Args:
        peak: largest value that the data can have, in its own units.
    """
    kernel = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    kernel = torch.from_numpy(kernel / kernel.sum())
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2

    def likeness(x, y, shift):
        mx, my, vx, vy, covariance = _moments(x, y, kernel)
        mx, my = mx + shift, my + shift
        return ((2 * mx * my + c1) * (2 * covariance + c2)) / ((mx * mx + my * my + c1) * (vx + vy + c2))

    def sums(patch):
        if min(patch.valid.shape) < 11:
            return {"count": 0, "similarity": 0.0}
        there = patch.moved(whole_windows(patch.valid, 11), (5, 5, 5, 5))
        mean = patch.moved(_over_bands(patch, likeness), (5, 5, 5, 5))[there]
        return {"count": mean.size, "similarity": mean.sum()}

    return Measure("SSIM", "", 1.0, sums, lambda t: t["similarity"] / t["count"], 5,
                   settings={"peak": peak, "window": "Gaussian 11, sigma 1.5"})


def _over_bands(patch: Patch, likeness: Callable) -> np.ndarray:
    """Mean over the bands of what a function finds in windows (h',w'); a band at a time, so that little is held.

    The function gets both images (h,w) and the level that was taken off them: variances of numbers far from zero
    would lose their digits.
    """
    total, valid = torch.zeros((), dtype=torch.float64), torch.from_numpy(patch.valid)
    for reference, prediction in zip(patch.reference, patch.prediction):
        shift = float(reference.sum(where=patch.valid) / max(np.count_nonzero(patch.valid), 1))
        x, y = (torch.where(valid, torch.from_numpy(image) - shift, 0.0) for image in (reference, prediction))
        total = total + likeness(x, y, shift)
    return (total / len(patch.reference)).numpy()


def _moments(x: torch.Tensor, y: torch.Tensor, kernel: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Means, variances and covariance of both images (h,w) in windows."""
    mx, my = _weighted(x, kernel), _weighted(y, kernel)
    return (mx, my, _weighted(x * x, kernel) - mx * mx, _weighted(y * y, kernel) - my * my,
            _weighted(x * y, kernel) - mx * my)


def _weighted(image: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """Weighted means (h',w') over all windows inside an image (h,w), separably.

    Moved images are added up: convolutions of float64 are several times slower on a CPU.
    """
    for axis in (0, 1):
        size = image.shape[axis] - len(kernel) + 1
        total = image.narrow(axis, 0, size) * kernel[0]
        for k, tap in enumerate(kernel.tolist()[1:], 1):
            total.add_(image.narrow(axis, k, size), alpha=tap)
        image = total
    return image


def whole_windows(valid: np.ndarray, side: int) -> np.ndarray:
    """Which windows (h',w') of `side` pixels have data in all of them."""
    height, width = (size - side + 1 for size in valid.shape)
    if valid.all():
        return np.ones((height, width), bool)
    holes = np.pad((~valid).cumsum(0, dtype=np.int64).cumsum(1), ((1, 0), (1, 0)))
    return holes[side:, side:] - holes[:-side, side:] - holes[side:, :-side] + holes[:-side, :-side] == 0


def scc_dlpan() -> Measure:
    """Spatial correlation of DLPan-Toolbox: the cosine between the Sobel magnitudes of both images, all bands at once.

    Not the `scc_local` of sewar and torchmetrics: on one pair they are 0.977 and 0.139. As in the toolbox the pixels
    at the raster's border do not count, and those beside them see zeros there.
    """
    def sums(patch):
        if min(patch.valid.shape) < 3:
            return {"count": 0, "xy": 0.0, "xx": 0.0, "yy": 0.0}
        patch = _with_border(patch, 2)
        there = patch.moved(whole_windows(patch.valid, 3), (1, 1, 1, 1))
        x, y = (patch.moved(sobel(image), (1, 1, 1, 1))[:, there] for image in (patch.reference, patch.prediction))
        return {"count": x.shape[1], "xy": (x * y).sum(), "xx": (x * x).sum(), "yy": (y * y).sum()}

    def score(total):
        if total["xx"] * total["yy"] == 0:
            raise Undefined("one image has no edges at all: use RMSE or the bias")
        return total["xy"] / math.sqrt(total["xx"] * total["yy"])

    return Measure("SCC (DLPan)", "", 1.0, sums, score, 2)


def _with_border(patch: Patch, halo: int) -> Patch:
    """The patch with zeros, as valid, in the raster's outermost pixels: on sides with less context than `halo`."""
    images, valid = [patch.reference.copy(), patch.prediction.copy()], patch.valid.copy()
    for axis, part in enumerate(patch.owned):
        for edge, is_border in ((0, part.start < halo), (-1, valid.shape[axis] - part.stop < halo)):
            if is_border:
                line = (edge,) if axis == 0 else (slice(None), edge)
                valid[line] = True
                for image in images:
                    image[:, *line] = 0
    return replace(patch, reference=images[0], prediction=images[1], valid=valid)


def sobel(image: np.ndarray) -> np.ndarray:
    """Strength of edges (...,h-2,w-2) of (...,h,w): the length of the Sobel gradient."""
    down = image[..., 2:, :] - image[..., :-2, :]
    down = down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:]
    right = image[..., 2:] - image[..., :-2]
    right = right[..., :-2, :] + 2 * right[..., 1:-1, :] + right[..., 2:, :]
    return np.sqrt(down * down + right * right)


def q(side: int = 32) -> Measure:
    """Universal quality index (Wang and Bovik 2002) over all windows of `side` pixels; mean over bands and windows.

    Where both windows are flat it compares their means, as the authors' code does.
    """
    box, reach = torch.full((side,), 1 / side, dtype=torch.float64), ((side - 1) // 2, side // 2) * 2

    def likeness(x, y, shift):
        mx, my, vx, vy, covariance = _moments(x, y, box)
        mx, my = mx + shift, my + shift
        spread, level = vx + vy, mx * mx + my * my
        flat = spread <= 1e-12 * level.clamp_min(1.0)
        found = torch.where(flat, 2 * mx * my, 4 * covariance * mx * my) / torch.where(
            flat, level, spread * level).where(level > 0, 1.0)
        return torch.where(level > 0, found, 1.0)

    def sums(patch):
        if min(patch.valid.shape) < side:
            return {"count": 0, "quality": 0.0}
        there = patch.moved(whole_windows(patch.valid, side), reach)
        mean = patch.moved(_over_bands(patch, likeness), reach)[there]
        return {"count": mean.size, "quality": mean.sum()}

    return Measure(f"Q{side}", "", 1.0, sums, lambda t: t["quality"] / t["count"], side // 2,
                   settings={"window": side})


def scc_local() -> Measure:
    """Spatial correlation as in sewar and torchmetrics: Laplacians correlated in windows of 8 x 8 pixels.

    The mean over all pixels and bands; a window without any edge counts as 0. Beyond the raster's border the image
    continues as it ends and its Laplacian is 0. Not the `scc_dlpan` of the pansharpening tables.
    """
    def mean(images):
        return torch.stack([_mean_of_8(F.pad(image, (4, 3, 4, 3))) for image in images])

    def sums(patch):
        x, y = (_laplacian(torch.from_numpy(image)) for image in (patch.reference, patch.prediction))
        mx, my, xx, yy = mean(x), mean(y), mean(x * x), mean(y * y)
        vx, vy = (xx - mx * mx).clamp_min(0), (yy - my * my).clamp_min(0)
        strength = (vx * vy).sqrt()
        # Round-off leaves something of windows without edges.
        seen = strength > 1e-12 * (xx * yy).sqrt()
        found = ((mean(x * y) - mx * my) / strength.where(seen, 1.0)).where(seen, 0.0).mean(0).numpy()
        there = whole_windows(np.pad(patch.valid, (5, 4), constant_values=True), 10)[patch.owned]
        return {"count": there.sum(), "correlation": found[patch.owned][there].sum()}

    return Measure("SCC (local)", "", 1.0, sums, lambda t: t["correlation"] / t["count"], 5,
                   settings={"window": 8})


def _laplacian(images: torch.Tensor) -> torch.Tensor:
    """9 times each pixel less the sum of the 3 x 3 around it (C,h,w); edges repeated."""
    wide = F.pad(images[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    rows = wide[:, :-2] + wide[:, 1:-1] + wide[:, 2:]
    return 9 * images - (rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:])


def _mean_of_8(image: torch.Tensor) -> torch.Tensor:
    """Means (h-7,w-7) over windows of 8 pixels, by doubling."""
    for axis in (0, 1):
        for step in (1, 2, 4):
            size = image.shape[axis] - step
            image = image.narrow(axis, 0, size) + image.narrow(axis, step, size)
    return image / 64
