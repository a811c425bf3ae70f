"""The rolling weighted mean of overlapping windows.

Windows form a product grid, so the weighted mean is taken one axis at a time: windows of a tile row are
joined left to right, tile rows top to bottom, each by linear interpolation across the overlap with a
raised-cosine weight. Interpolating (instead of summing and dividing) gives back equal values exactly,
needs no weight raster, and holds only the overlap.
"""

import math

import torch
from torch import Tensor


def ramp(overlap: int, device: torch.device | str = "cpu") -> Tensor:
    """Weight (overlap,) of the later window across the overlap, from near 0 to near 1."""
    position = (torch.arange(overlap, dtype=torch.float64) + 0.5) / max(overlap, 1)
    return (torch.sin(0.5 * math.pi * position) ** 2).float().to(device)


def join_columns(strip: Tensor, window: Tensor, col: int, joined: int, weight: Tensor) -> int:
    """Puts `window` (C,h,w) at column `col` of `strip` (C,h,W), blending what is already `joined`.

    Returns the column up to which the strip is now filled.
    """
    stop = min(col + window.shape[2], strip.shape[2])
    overlap = max(joined - col, 0)
    if overlap:
        old = strip[:, :, col:joined]
        torch.lerp(old, window[:, :, :overlap], weight[:overlap], out=old)
    strip[:, :, joined:stop] = window[:, :, overlap : stop - col]
    return stop


def join_rows(pending: Tensor | None, strip: Tensor, weight: Tensor) -> Tensor:
    """`strip` (C,h,W) with its first rows blended with the `pending` last rows of the strip above."""
    if pending is not None and pending.shape[1]:
        rows = min(pending.shape[1], strip.shape[1])
        head = strip[:, :rows]
        torch.lerp(pending[:, :rows], head, weight[:rows, None], out=head)
    return strip
