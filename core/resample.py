"""Values of an image between its pixels: GDAL's resampling kernels on tensors, safe beside missing pixels.

Weights are renormalised over the pixels that have data, so that neither nodata nor the border bleeds into
the result. Where the target is coarser than the source, kernels widen with the local scale, as GDAL's do.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_TAPS_AT_ONCE = 1 << 19
_NEAREST_EDGE = 1e-10  # GDAL's: a position on the edge of two pixels belongs to the later one
_WIDEN_FROM = 1 / 0.95  # GDAL's: up to here a kernel keeps its width


@dataclass(frozen=True)
class Kernel:
    """A separable kernel."""

    support: float
    """Half of its width in source pixels at scale 1."""
    weight: Callable[[Tensor, Tensor | float], Tensor]
    """Weight of a pixel whose centre is at a signed distance (source pixels), at a scale of at least 1."""
    whole: bool = False
    """Whether it becomes bilinear where one of its pixels is missing; else it is renormalised."""
    partition: bool = False
    """Whether its weights sum to one wherever it stands, at scale 1."""
    centre: bool = True
    """Whether the pixel that contains the position must have data."""


def _linear(distance: Tensor, scale) -> Tensor:
    return (1 - (distance / scale).abs()).clamp_min(0)


def _cubic(distance: Tensor, scale) -> Tensor:
    """Keys' cubic with a = -0.5."""
    x = (distance / scale).abs()
    inner = (1.5 * x - 2.5) * x * x + 1
    outer = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, inner, torch.where(x < 2, outer, 0.0))


def _cubic_taps(t: Tensor) -> Tensor:
    """The four weights (N,4) of the same kernel around a position t in [0,1) after the second pixel's centre."""
    square, cube = t * t, t * t * t
    return torch.stack([square - 0.5 * (cube + t), 1.5 * cube - 2.5 * square + 1, 2 * square - 1.5 * cube + 0.5 * t,
                        0.5 * (cube - square)], 1)


def _lanczos(distance: Tensor, scale) -> Tensor:
    x = distance / scale
    return torch.where(x.abs() < 3, torch.sinc(x) * torch.sinc(x / 3), 0.0)


def _coverage(distance: Tensor, scale) -> Tensor:
    """How much of a pixel lies under a target pixel of side `scale`."""
    return (torch.minimum(distance + 0.5, _half(distance, scale)) - torch.maximum(
        distance - 0.5, -_half(distance, scale))).clamp_min(0)


def _half(like: Tensor, scale) -> Tensor:
    return torch.as_tensor(scale, dtype=like.dtype, device=like.device) / 2


KERNELS = {
    "bilinear": Kernel(1, _linear, partition=True),
    "cubic": Kernel(2, _cubic, whole=True, partition=True),
    "lanczos": Kernel(3, _lanczos),
    "average": Kernel(0.5, _coverage, centre=False),
}
RESAMPLING = ("nearest", *KERNELS)


def resample(image: Tensor, col: Tensor, row: Tensor, kind: str = "bilinear", valid: Tensor | None = None,
             scale: tuple[Tensor | float, Tensor | float] = (1.0, 1.0)) -> tuple[Tensor, Tensor]:
    """Values of an image at positions, and which of them exist.

    Args:
        image: (C,h,w); any dtype for `nearest`, else floating. Differentiable in it.
        col, row: (H,W) positions in pixels from the corner of the first pixel; NaN: nowhere.
        kind: one of `RESAMPLING`.
        valid: (1,h,w) bool, where the image has data; None: everywhere.
        scale: source pixels per target pixel along columns and rows, each a number or (H,W).

    Returns:
        (C,H,W) of the image's dtype, 0 where there is nothing, and (1,H,W) bool.
    """
    height, width = image.shape[1:]
    shape, everywhere = col.shape, all(bool(v.min() >= 0) and bool(v.max() <= size)
                                       for v, size in ((col, width), (row, height)))  # false with any NaN
    if everywhere:
        inside = torch.ones(shape, dtype=torch.bool, device=col.device)
    else:
        inside = (col >= 0) & (col <= width) & (row >= 0) & (row <= height)
        col, row = torch.where(inside, col, 0.0), torch.where(inside, row, 0.0)
    if kind == "nearest":
        here = _containing(row, height), _containing(col, width)
        exists = inside[None] if valid is None else inside[None] & valid[:, *here]
        return image[:, *here].where(exists, 0), exists
    kernel = KERNELS[kind]
    scale = tuple(_usable(s, kernel) for s in scale)
    if kind == "bilinear" and valid is None and scale == (None, None):
        found = _grid_sample(image, col, row)
        return (found if everywhere else torch.where(inside, found, 0.0)), inside[None]
    flat = (None if s is None else s.expand(shape).reshape(-1).to(col) for s in scale)
    found, exists = _gather(image, col.reshape(-1) - 0.5, row.reshape(-1) - 0.5, kernel, valid, *flat)
    found, exists = found.T.reshape(-1, *shape), exists.view(1, *shape) & inside
    if kernel.centre and valid is not None:
        exists = exists & valid[:, _containing(row, height), _containing(col, width)]
    return (found if everywhere and valid is None else torch.where(exists, found, 0.0)), exists


def _containing(position: Tensor, size: int) -> Tensor:
    """Index of the pixel that contains a position."""
    return (position + _NEAREST_EDGE).floor().long().clamp_(0, size - 1)


def _usable(scale: Tensor | float, kernel: Kernel) -> Tensor | None:
    """The scale where it changes the kernel; None: one pixel."""
    scale = torch.as_tensor(scale)
    if kernel.support >= 1:
        scale = torch.where(scale > _WIDEN_FROM, scale, 1.0)
        return None if bool((scale == 1).all()) else scale
    return scale.clamp_min(1e-3)


def _grid_sample(image: Tensor, col: Tensor, row: Tensor) -> Tensor:
    """Bilinear where all has data: the one case that torch has, border included."""
    height, width = image.shape[1:]
    places = torch.stack([col * (2 / width) - 1, row * (2 / height) - 1], -1)
    return F.grid_sample(image[None], places[None].to(image), padding_mode="border", align_corners=False)[0]


def _gather(image: Tensor, x: Tensor, y: Tensor, kernel: Kernel, valid: Tensor | None, scale_x: Tensor | None,
            scale_y: Tensor | None) -> tuple[Tensor, Tensor]:
    """Weighted sums at centre positions x, y (N,): values (N,C), and whether any pixel had data (N,)."""
    channels, height, width = image.shape
    rows = image.permute(1, 2, 0)
    if valid is not None:
        shown = valid.permute(1, 2, 0).to(image)
        rows = torch.cat([rows.where(valid.permute(1, 2, 0), 0.0), shown], 2)
    rows = rows.reshape(height * width, -1).contiguous()
    has_data = rows[:, channels:].contiguous()
    reach_x, reach_y = _reach(kernel, scale_x), _reach(kernel, scale_y)
    at_once = max(1, _TAPS_AT_ONCE // (4 * reach_x * reach_y))
    values, exists = [], []
    for start in range(0, x.numel(), at_once):
        part = slice(start, start + at_once)
        here_x, here_y = (None if scale is None else scale[part] for scale in (scale_x, scale_y))
        columns, across, beyond_x = _taps(x[part], kernel, here_x, reach_x, width)
        lines, down, beyond_y = _taps(y[part], kernel, here_y, reach_y, height)
        at_border = bool((beyond_x | beyond_y).any())
        index = _product_index(lines, columns, width, at_border)
        weight = _product(down, across).to(image)
        sums = F.embedding_bag(index, rows, per_sample_weights=weight, mode="sum")
        plain = kernel.partition and valid is None and here_x is None and here_y is None
        if plain and not at_border:
            found, there = sums, torch.ones_like(beyond_x)
        else:
            total = weight.sum(1) if valid is None else sums[:, channels]
            there = total > 1e-6
            found = sums[:, :channels] / total.where(there, 1.0)[:, None]
        if kernel.whole and scale_x is None and scale_y is None:
            missing = beyond_x | beyond_y
            if valid is not None:
                missing = missing | (F.embedding_bag(index, has_data, mode="sum")[:, 0] < index.shape[1])
            if bool(missing.any()):
                simple = _gather(image, x[part][missing], y[part][missing], KERNELS["bilinear"], valid, None, None)
                found, there = (now.index_put((missing,), then) for now, then in zip((found, there), simple))
        values.append(found)
        exists.append(there)
    return torch.cat(values), torch.cat(exists)


def _product(down: Tensor, across: Tensor) -> Tensor:
    """(N,a) and (N,b) -> all products (N, a b), a column at a time: broadcasting over so short an axis is slow."""
    weight = down.new_empty(down.shape[0], down.shape[1], across.shape[1])
    for k in range(down.shape[1]):
        torch.mul(across, down[:, k : k + 1], out=weight[:, k])
    return weight.flatten(1)


def _product_index(lines: Tensor, columns: Tensor, width: int, at_border: bool) -> Tensor:
    """Places of all pixels of a window in the flat image, (N, a b) int32."""
    if at_border:
        return ((lines * width)[:, :, None] + columns[:, None, :]).flatten(1)
    steps_down, steps_across = (torch.arange(v.shape[1], dtype=torch.int32, device=v.device) for v in (lines, columns))
    steps = (steps_down * width)[:, None] + steps_across
    return (lines[:, :1] * width + columns[:, :1]) + steps.view(1, -1)


def _reach(kernel: Kernel, scale: Tensor | None) -> int:
    """How many pixels to either side can have a weight."""
    widest = 1.0 if scale is None else float(scale.max())
    return math.ceil(kernel.support * widest + (0.5 if kernel.support < 1 else 0))


def _taps(position: Tensor, kernel: Kernel, scale: Tensor | None, reach: int, size: int
          ) -> tuple[Tensor, Tensor, Tensor]:
    """Along one axis: indices and weights (N, 2 reach) of the pixels around, and whether (N,) some lie beyond."""
    first = position.floor()
    offset = torch.arange(1 - reach, reach + 1, device=position.device)
    index = first.to(torch.int32)[:, None] + offset.to(torch.int32)
    if kernel.weight is _cubic and scale is None:
        weight = _cubic_taps(position - first)
    else:
        weight = kernel.weight((first - position)[:, None] + offset, 1.0 if scale is None else scale[:, None])
    beyond = (index[:, 0] < 0) | (index[:, -1] >= size)
    if bool(beyond.any()):
        weight = weight.where((index >= 0) & (index < size), 0.0)
        index = index.clamp(0, size - 1)
    return index, weight, beyond
