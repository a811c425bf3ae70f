"""Images of the reference values: integer arithmetic only, so that every machine makes the same ones."""

import numpy as np


def lcg(seed, n):
    """n 16-bit values: x <- (1664525 x + 1013904223) mod 2^32, the upper half of each."""
    found, x = np.empty(n, np.int64), seed
    for k in range(n):
        x = (1664525 * x + 1013904223) & 0xFFFFFFFF
        found[k] = x >> 16
    return found


def box(image, reach):
    """Floored means over (2 reach + 1)^2 pixels, edges repeated."""
    side = 2 * reach + 1
    wide = np.pad(image, reach, mode="edge")
    height, width = image.shape
    return sum(wide[i : i + height, j : j + width] for i in range(side) for j in range(side)) // side**2


def scene(height, width, bands, seed, most=2047):
    """Relief, blocks and fine noise, with a gain and an offset for each band: (h,w,C) in 1..most."""
    rows, cols = np.mgrid[:height, :width].astype(np.int64)
    relief = (box(box(lcg(seed, height * width).reshape(height, width), 3), 3) - 32768) * 3
    relief += ((rows // 9 * 7 + cols // 13 * 5) % 11) * 900
    found = np.empty((height, width, bands), np.int64)
    for b in range(bands):
        fine = lcg(seed + 1000 + b, height * width).reshape(height, width) % 61
        value = 300 + 70 * b + relief * (10 + 3 * ((b * 5) % 7)) // 256 + fine + ((rows * (b + 1) + cols * 2) % 97)
        found[..., b] = np.clip(value, 1, most)
    return found


def degraded(image, seed, most=2047):
    """Blurred by 3 x 3 pixels, with gain, offset and noise."""
    found = np.empty_like(image)
    for b in range(image.shape[2]):
        noise = lcg(seed + b, image[..., 0].size).reshape(image.shape[:2]) % 41 - 20
        found[..., b] = np.clip(box(image[..., b], 1) * (100 + b) // 100 + 3 * b + noise, 1, most)
    return found


SIZES = {"rr4": (128, 128, 4, 1), "rr8": (96, 96, 8, 2), "rr3pad": (70, 50, 3, 3), "rr1": (64, 64, 1, 4),
         "rr5pad": (100, 96, 5, 5)}


def pair(name):
    """Reference and prediction (C,h,w)."""
    height, width, bands, seed = SIZES[name]
    truth = scene(height, width, bands, seed)
    return truth.transpose(2, 0, 1), degraded(truth, seed + 100).transpose(2, 0, 1)


def sharpened(bands, seed, size=256, ratio=4):
    """Fused image (C,h,w), multispectral image (C,h/4,w/4) and panchromatic image (h,w)."""
    fine = scene(size, size, bands, seed)
    small = size // ratio
    coarse = fine.reshape(small, ratio, small, ratio, bands).sum((1, 3)) // ratio**2
    return degraded(fine, seed + 500).transpose(2, 0, 1), coarse.transpose(2, 0, 1), fine.sum(-1) // bands
