"""Values of an image between its pixels: GDAL's resampling kernels on tensors, safe beside missing pixels.

Weights are renormalised over the pixels that have data, so that neither nodata nor the border bleeds into
the result. Where the target is coarser than the source, kernels widen with the local scale, as GDAL's do.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_AT_ONCE = 1 << 19  # numbers in a piece of work: near the core, and few enough pieces for a shared interpreter
_AT_ONCE_ON_GPU = 1 << 25  # starting a piece takes a GPU longer than small ones do
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
    """Whether it becomes bilinear where one of its pixels is missing, as GDAL's does; else it is renormalised."""
    steady: float = math.inf
    """The sizes of its weights may come to so many times their sum where pixels are missing, else it becomes bilinear:
    lobes that the missing ones leave alone would overshoot."""
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
    """The four weights (4,N) of the same kernel around a position t in [0,1) after the second pixel's centre."""
    square, cube = t * t, t * t * t
    return torch.stack([square - 0.5 * (cube + t), 1.5 * cube - 2.5 * square + 1, 2 * square - 1.5 * cube + 0.5 * t,
                        0.5 * (cube - square)])


def _lanczos(distance: Tensor, scale) -> Tensor:
    x = distance / scale
    return torch.where(x.abs() < 3, torch.sinc(x) * torch.sinc(x / 3), 0.0)


def _coverage(distance: Tensor, scale) -> Tensor:
    """How much of a pixel lies under a target pixel of side `scale`."""
    return (torch.minimum(distance + 0.5, _half(distance, scale)) - torch.maximum(
        distance - 0.5, -_half(distance, scale))).clamp_min(0)


def _half(like: Tensor, scale) -> Tensor:
    return torch.as_tensor(scale, dtype=like.dtype, device=like.device) / 2


KERNELS = {  # with "nearest", those of `warping.RESAMPLING`
    "bilinear": Kernel(1, _linear, partition=True),
    "cubic": Kernel(2, _cubic, whole=True, partition=True),
    "lanczos": Kernel(3, _lanczos, steady=2.5),
    "average": Kernel(0.5, _coverage, centre=False),
}


def resample(image: Tensor, col: Tensor, row: Tensor, kind: str = "bilinear", valid: Tensor | None = None,
             scale: tuple[Tensor | float, Tensor | float] = (1.0, 1.0), level: bool = True) -> tuple[Tensor, Tensor]:
    """Values of an image at positions, and which of them exist.

    Args:
        image: (C,h,w); any dtype for `nearest`, else floating. Differentiable in it.
        col, row: (H,W) positions in pixels from the corner of the first pixel; NaN: nowhere.
        kind: one of `warping.RESAMPLING`.
        valid: (1,h,w) bool, where the image has data; None: everywhere.
        scale: source pixels per target pixel along columns and rows, each a number or (H,W).
        level: whether a value stays exactly as it is where all pixels under the kernel have it; else to rounding.

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
    usable = tuple(_usable(s, kernel) for s in scale)
    if kind == "bilinear" and valid is None and usable == (None, None):
        found = _grid_sample(image, col, row)
        found = _with_levels(found, image, col, row, valid, 1, 1) if level else found
        return (found if everywhere else torch.where(inside, found, 0.0)), inside[None]
    flat = [None if s is None else s.expand(shape).reshape(-1).to(col) for s in usable]
    found, exists = _gather(image, col.reshape(-1) - 0.5, row.reshape(-1) - 0.5, kernel, valid, *flat)
    found, exists = found.view(-1, *shape), exists.view(1, *shape) & inside
    if level:
        found = _with_levels(found, image, col, row, valid, *(_reach(kernel, s) for s in flat))
    if kernel.centre and valid is not None:
        exists = exists & valid[:, _containing(row, height), _containing(col, width)]
    return (found if everywhere and valid is None else torch.where(exists, found, 0.0)), exists


def _with_levels(found: Tensor, image: Tensor, col: Tensor, row: Tensor, valid: Tensor | None, reach_x: int,
                 reach_y: int) -> Tensor:
    """Values found at positions, but where all pixels under a kernel that have data are equal, their value: weights
    sum to one only to rounding."""

    def under(values: Tensor, nothing: float, combine: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Of the pixels with data under each kernel."""
        values = values if valid is None else values.where(valid, nothing)
        values = F.pad(values, (reach_x, reach_x, reach_y, reach_y), value=nothing)
        return _combined(_combined(values, 2 * reach_x, 2, combine), 2 * reach_y, 1, combine)

    high = under(image, -math.inf, torch.maximum)
    equal = high == under(image, math.inf, torch.minimum)
    if not bool(equal.any()):
        return found
    below, right = ((position - 0.5).floor().long() + 1 for position in (row, col))
    places = (below * high.shape[2] + right).flatten()
    level = equal.flatten(1).index_select(1, places).view(found.shape)
    return high.flatten(1).index_select(1, places).view(found.shape).where(level, found) if bool(level.any()) else found


def _combined(values: Tensor, count: int, axis: int, combine: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Each value with the `count - 1` that follow it along an axis; those are twice as many in each round."""
    held = 1
    while held < count:
        step = min(held, count - held)
        size = values.shape[axis] - step
        values = combine(values.narrow(axis, 0, size), values.narrow(axis, step, size))
        held += step
    return values


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
    """Weighted sums at centre positions x, y (N,): values (C,N), and whether any pixel had data (N,)."""
    channels, height, width = image.shape
    reach_x, reach_y = _reach(kernel, scale_x), _reach(kernel, scale_y)
    left, top = x.floor(), y.floor()
    with_holes = valid is not None or not (
        bool(left.min() >= reach_x - 1) and bool(left.max() < width - reach_x)
        and bool(top.min() >= reach_y - 1) and bool(top.max() < height - reach_y))
    if with_holes:  # what lies beyond the border is as without data
        shown = torch.ones_like(image[:1]) if valid is None else valid.to(image)
        image = torch.cat([image if valid is None else image.where(valid, 0.0), shown])
    image = F.pad(image, (reach_x, reach_x, reach_y, reach_y))
    stride = image.shape[2]
    # Element i holds the pixels i, i + 1, ... of one row with all their channels: one read fetches a row of taps.
    runs = image.permute(1, 2, 0).contiguous().flatten(0, 1).unfold(0, 2 * reach_x, 1).transpose(1, 2)
    first = (top + 1).long() * stride + (left + 1).long()
    at_once = max(1, (_AT_ONCE if image.device.type == "cpu" else _AT_ONCE_ON_GPU) // (runs.shape[1] * runs.shape[2]))
    values, exists, lacking = [], [], []
    for start in range(0, x.numel(), at_once):
        part = slice(start, start + at_once)
        across = _weights(x[part] - left[part], kernel, None if scale_x is None else scale_x[part], reach_x).to(image)
        down = _weights(y[part] - top[part], kernel, None if scale_y is None else scale_y[part], reach_y).to(image)
        sums = _weighted(runs, first[part], stride, across, down)
        if with_holes:
            total = sums[channels]
            if kernel.steady < math.inf:
                sizes = _weighted(runs[..., channels:], first[part], stride, across.abs(), down.abs())[0]
                lacking.append(sizes > kernel.steady * total)
        elif kernel.partition and scale_x is None and scale_y is None:
            total = None
        else:
            total = across.sum(0) * down.sum(0)
        there = torch.ones_like(first[part], dtype=torch.bool) if total is None else total > 1e-6
        values.append(sums if total is None else sums[:channels] / total.where(there, 1.0))
        exists.append(there)
    found, there = torch.cat(values, 1), torch.cat(exists)
    if with_holes and kernel.whole and scale_x is None and scale_y is None:
        holes = F.max_pool2d(1 - image[None, channels:], (2 * reach_y, 2 * reach_x), stride=1)[0, 0]
        lacking.append(holes[(top + 1).long(), (left + 1).long()] > 0)
    if lacking and bool((poor := torch.cat(lacking)).any()):
        simple = _gather(image[:channels, reach_y:-reach_y, reach_x:-reach_x], x[poor], y[poor], KERNELS["bilinear"],
                         valid, *(None if scale is None else scale[poor] for scale in (scale_x, scale_y)))
        found = found.index_put((torch.arange(channels, device=x.device)[:, None], poor.nonzero().T), simple[0])
        there = there.index_put((poor,), simple[1])
    return found, there


def _weighted(runs: Tensor, first: Tensor, stride: int, across: Tensor, down: Tensor) -> Tensor:
    """Sums (D,n) over windows of pixels.

    Args:
        runs: (L,a,D), all runs of `a` pixels that follow one another.
        first: (n,) index of each window's first pixel.
        stride: from one row to the next.
        across, down: weights (a,n) and (b,n).
    """
    rows: Any = None
    for k, weight in enumerate(down):
        line = runs.index_select(0, first + k * stride).flatten(1)
        rows = line * weight[:, None] if rows is None else rows.addcmul_(line, weight[:, None])
    # Transposed, the short axis is outside, and every operation goes along a long one.
    return (rows.T.contiguous().view(*runs.shape[1:], -1) * across[:, None]).sum(0)


def _reach(kernel: Kernel, scale: Tensor | None) -> int:
    """How many pixels to either side can have a weight."""
    widest = 1.0 if scale is None else float(scale.max())
    return math.ceil(kernel.support * widest + (0.5 if kernel.support < 1 else 0))


def _weights(offset: Tensor, kernel: Kernel, scale: Tensor | None, reach: int) -> Tensor:
    """Along one axis: weights (2 reach, n) of the pixels around positions that lie `offset` after a centre."""
    if kernel.weight is _cubic and scale is None:
        return _cubic_taps(offset)
    taps = torch.arange(1 - reach, reach + 1, device=offset.device, dtype=offset.dtype)
    return kernel.weight(taps[:, None] - offset, 1.0 if scale is None else scale)
