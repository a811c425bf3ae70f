"""Pixelwise and windowed similarity of two images, over valid pixels only."""

import numpy as np
import torch
import torch.nn.functional as F


def psnr(a: np.ndarray, b: np.ndarray, valid: np.ndarray, peak: float) -> float:
    """Peak signal-to-noise ratio in dB of (C,h,w) images over `valid` (h,w) pixels of all bands."""
    difference = (a.astype(np.float64) - b.astype(np.float64))[:, valid]
    error = np.mean(difference**2)
    return float("inf") if error == 0 else float(10 * np.log10(peak**2 / error))


def ssim(a: np.ndarray, b: np.ndarray, valid: np.ndarray, peak: float) -> float:
    """Structural similarity (Wang et al. 2004): Gaussian 11x11, sigma 1.5, mean over bands and pixels.

    Only pixels whose whole window is valid count; (C,h,w) images, `valid` (h,w).
    """
    kernel = torch.exp(-0.5 * (torch.arange(-5, 6, dtype=torch.float64) / 1.5) ** 2)
    kernel = kernel / kernel.sum()

    def mean(x: torch.Tensor) -> torch.Tensor:
        x = F.conv2d(x[:, None], kernel[None, None, :, None])
        return F.conv2d(x, kernel[None, None, None, :])[:, 0]

    x, y = (torch.from_numpy(np.where(valid, image, 0).astype(np.float64)) for image in (a, b))
    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    score = ((2 * mx * my + c1) * (2 * cov + c2)) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    hole = torch.from_numpy(~valid).double()[None, None]
    inside = F.max_pool2d(hole, 11, 1)[0, 0] == 0
    if not inside.any():
        return float("nan")
    return float(score[:, inside].mean())
