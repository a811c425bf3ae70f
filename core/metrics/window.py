"""Measures that are means over sliding windows."""

import math
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

    def sums(patch):
        # Variances of numbers far from zero would lose their digits: both images are moved by one constant.
        if min(patch.valid.shape) < 11:
            return {"count": 0, "similarity": 0.0}
        shift = _level(patch)
        x, y = (torch.where(torch.from_numpy(patch.valid), torch.from_numpy(image) - shift, 0.0)
                for image in (patch.reference, patch.prediction))
        mx, my = _weighted(x, kernel), _weighted(y, kernel)
        vx, vy = _weighted(x * x, kernel) - mx * mx, _weighted(y * y, kernel) - my * my
        covariance = _weighted(x * y, kernel) - mx * my
        mx, my = mx + shift, my + shift
        found = ((2 * mx * my + c1) * (2 * covariance + c2)) / ((mx * mx + my * my + c1) * (vx + vy + c2))
        mean = patch.moved(found.mean(0).numpy(), (5, 5, 5, 5))[patch.moved(_whole(patch, 11), (5, 5, 5, 5))]
        return {"count": mean.size, "similarity": mean.sum()}

    return Measure("SSIM", "", 1.0, sums, lambda t: t["similarity"] / t["count"], 5,
                   settings={"peak": peak, "window": "Gaussian 11, sigma 1.5"})


def _level(patch: Patch) -> torch.Tensor:
    """Mean of the reference (C,1,1)."""
    return torch.from_numpy(patch.reference[:, patch.valid].sum(1) / max(patch.valid.sum(), 1))[:, None, None]


def _weighted(images: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """Weighted means (C,h',w') over all windows inside images (C,h,w), separably."""
    images = F.conv2d(images[:, None], kernel[None, None, :, None])
    return F.conv2d(images, kernel[None, None, None, :])[:, 0]


def _whole(patch: Patch, side: int) -> np.ndarray:
    """Which windows (h',w') of `side` pixels have data in all of them."""
    holes = torch.from_numpy(~patch.valid).double()[None, None]
    return (F.max_pool2d(holes, side, 1)[0, 0] == 0).numpy()


def scc_dlpan() -> Measure:
    """Spatial correlation of DLPan-Toolbox: the cosine between the Sobel magnitudes of both images, all bands at once.

    Not the `scc_local` of sewar and torchmetrics: on one pair they are 0.977 and 0.139. As in the toolbox the pixels
    at the raster's border do not count, and those beside them see zeros there.
    """
    def sums(patch):
        if min(patch.valid.shape) < 3:
            return {"count": 0, "xy": 0.0, "xx": 0.0, "yy": 0.0}
        patch = _with_border(patch, 2)
        there = patch.moved(_whole(patch, 3), (1, 1, 1, 1))
        x, y = (patch.moved(_sobel(image), (1, 1, 1, 1))[:, there] for image in (patch.reference, patch.prediction))
        return {"count": x.shape[1], "xy": (x * y).sum(), "xx": (x * x).sum(), "yy": (y * y).sum()}

    def score(total):
        if total["xx"] * total["yy"] == 0:
            raise Undefined("one image has no edges at all: look at RMSE or the bias")
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


def _sobel(image: np.ndarray) -> np.ndarray:
    smooth, slope = torch.tensor([1.0, 2, 1]).double(), torch.tensor([1.0, 0, -1]).double()
    x = torch.from_numpy(image)[:, None]
    down = F.conv2d(F.conv2d(x, slope[None, None, :, None]), smooth[None, None, None, :])
    across = F.conv2d(F.conv2d(x, smooth[None, None, :, None]), slope[None, None, None, :])
    return torch.hypot(down, across)[:, 0].numpy()


def q(side: int = 32) -> Measure:
    """Universal quality index (Wang and Bovik 2002) over all windows of `side` pixels; mean over bands and windows.

    Where both windows are flat it compares their means, as the authors' code does.
    """
    def sums(patch):
        reach = ((side - 1) // 2, side // 2) * 2
        if min(patch.valid.shape) < side:
            return {"count": 0, "quality": 0.0}
        shift = _level(patch)
        x, y = (torch.where(torch.from_numpy(patch.valid), torch.from_numpy(image) - shift, 0.0)
                for image in (patch.reference, patch.prediction))
        box = torch.full((side,), 1 / side, dtype=torch.float64)
        mx, my = _weighted(x, box), _weighted(y, box)
        vx, vy = _weighted(x * x, box) - mx * mx, _weighted(y * y, box) - my * my
        covariance = _weighted(x * y, box) - mx * my
        mx, my = mx + shift, my + shift
        spread, level = vx + vy, mx * mx + my * my
        flat = spread <= 1e-12 * level.clamp_min(1.0)
        found = torch.where(flat, 2 * mx * my, 4 * covariance * mx * my) / torch.where(
            flat, level, spread * level).where(level > 0, 1.0)
        found = torch.where(level > 0, found, 1.0)
        mean = patch.moved(found.mean(0).numpy(), reach)[patch.moved(_whole(patch, side), reach)]
        return {"count": mean.size, "quality": mean.sum()}

    return Measure(f"Q{side}", "", 1.0, sums, lambda t: t["quality"] / t["count"], side // 2,
                   settings={"window": side})


def scc_local() -> Measure:
    """Spatial correlation as in sewar and torchmetrics: Laplacians correlated in windows of 8 x 8 pixels.

    The mean over all pixels and bands; a window without any edge counts as 0. Beyond the raster's border the image
    goes on as it ends and its Laplacian is 0. Not the `scc_dlpan` of the pansharpening tables.
    """
    laplacian = -torch.ones(1, 1, 3, 3).double()
    laplacian[..., 1, 1] = 8

    def mean(x):
        return F.avg_pool2d(F.pad(x, (4, 3, 4, 3)), 8, 1)

    def sums(patch):
        x, y = (F.conv2d(F.pad(torch.from_numpy(image)[:, None], (1, 1, 1, 1), mode="replicate"), laplacian)
                for image in (patch.reference, patch.prediction))
        mx, my = mean(x), mean(y)
        vx, vy = (mean(x * x) - mx * mx).clamp_min(0), (mean(y * y) - my * my).clamp_min(0)
        strength = (vx * vy).sqrt()
        # Round-off leaves something of windows without edges.
        seen = strength > 1e-12 * (mean(x * x) * mean(y * y)).sqrt()
        found = ((mean(x * y) - mx * my) / strength.where(seen, 1.0)).where(seen, 0.0)[:, 0].mean(0).numpy()
        holes = torch.from_numpy(~patch.valid).double()[None, None]
        there = (F.max_pool2d(F.pad(holes, (5, 4, 5, 4)), 10, 1)[0, 0] == 0).numpy()[patch.owned]
        return {"count": there.sum(), "correlation": found[patch.owned][there].sum()}

    return Measure("SCC (local)", "", 1.0, sums, lambda t: t["correlation"] / t["count"], 5,
                   settings={"window": 8})
