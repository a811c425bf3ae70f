"""Statistics of a network's maps over a raster, measured once, for networks that normalise by statistics over space.

Windows that normalise by their own statistics never agree, whatever their overlap. Here all windows use the same: those
of the whole raster where it is small, else those of windows spread over it, which go through the network together, as
one batch, at full resolution, step by step of the sampler. What the raster's own statistics would be is then missed by
the chance of sampling alone.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..grid import Window
from ..networks.instance import Measuring, Moments, given
from . import noise
from .sampler import advance, predict, start
from .steps import StepTable
from .stream import reflect
from .translator import START, STEP, STYLE

_WINDOWS, _SIDE_PX, _MARGIN_PX = 32, 128, 32
_LEAST_FAR = 0.25
"""Share of the pixels with data that must lie far from the others to stand for all."""
_FULL, _DENSEST = 0.5, 16
"""Windows at least half of which has data are looked for, among up to so many times more."""

Norms = tuple[tuple[Moments, ...], ...]
"""For each step of the sampler, the moments of each map in the order in which the network normalises them."""


@dataclass(frozen=True)
class Sample:
    """Windows of a raster, with a margin that is not counted."""

    windows: tuple[Window, ...]
    margin_px: int
    share: float
    """Of the raster's pixels."""


def choose_windows(height: int, width: int, stride: int, valid: np.ndarray | None = None) -> Sample:
    """The whole raster where it is no larger than all windows together; else windows spread evenly, on the stride
    lattice, over what has data.

    Args:
        valid: where it has, (h,w) bool at any size; None: everywhere.
    """
    if height * width <= _WINDOWS * _SIDE_PX**2:
        return Sample((Window(0, 0, height, width),), 0, 1.0)
    tall, wide = (min(_SIDE_PX, length // stride * stride) or length for length in (height, width))
    share = 1.0 if valid is None else max(float(valid.mean()), 1 / _DENSEST)
    wanted = _WINDOWS / share
    down = min(max(1, round((wanted * height / width) ** 0.5)), height // tall)
    across = min(max(1, round(wanted / down)), width // wide)
    rows, cols = (_spread(size - side, count, stride)
                  for size, side, count in ((height, tall, down), (width, wide, across)))
    windows = [Window(int(row), int(col), tall, wide) for row in rows for col in cols]
    if valid is not None:
        found = np.array([_share(window, valid, height, width) for window in windows])
        windows = [windows[k] for k in np.flatnonzero(found >= min(_FULL, found.max()))]
    at = np.linspace(0, len(windows) - 1, min(_WINDOWS, len(windows))).round().astype(int)
    chosen = tuple(windows[k] for k in at)
    return Sample(chosen, _MARGIN_PX, len(chosen) * tall * wide / (height * width))


def _share(window: Window, valid: np.ndarray, height: int, width: int) -> float:
    """How much of a window has data."""
    (top, bottom), (left, right) = (
        (int(first * size / length), max(int(-(-(first + side) * size // length)), 1))
        for first, side, size, length in ((window.row, window.height, valid.shape[0], height),
                                          (window.col, window.width, valid.shape[1], width)))
    return float(valid[top:bottom, left:right].mean())


def _spread(room: int, count: int, stride: int) -> np.ndarray:
    """`count` places from 0 to `room`, on the lattice; one stands in the middle."""
    places = np.linspace(0, room, count) if count > 1 else np.array([room / 2])
    return (places // stride * stride).astype(int)


def measure(network: nn.Module, table: StepTable, sample: Sample, read: Callable[[Window], tuple[Tensor, Tensor]],
            size: tuple[int, int], *, seed: int, number: int, device: torch.device) -> Norms:
    """The statistics of every map at every step.

    Args:
        read: the source (C,h,w) of a window, in the network's range and without holes, and where these are not filled,
            (1,h,w): what is filled does not count.
        size: height and width of the raster.
        number: of the pass, whose noise and style are those of the translation.
    """
    batch, valid = (torch.stack(parts).to(device) for parts in zip(*(
        _with_margin(window, sample.margin_px, size, network.stride, read) for window in sample.windows)))
    counted = _within(valid, sample.margin_px)
    corners = [(window.row - sample.margin_px, window.col - sample.margin_px) for window in sample.windows]

    def eps(stream: int, step: int, bands: int) -> Tensor:
        key, (height, width) = (seed, number, stream, step), batch.shape[2:]
        return torch.stack([noise.field(key, bands, row, col, height, width, device) for row, col in corners])

    found, previous = [], None
    with torch.inference_mode():
        x = start(table, batch, eps(START, 0, table.state_bands(batch.shape[1], network.sizes.bands_out))
                  if table.noise_std else None)
        for index, step in enumerate(table.steps):
            styles, measuring = None, Measuring(counted)
            if network.style_size:
                styles = noise.vector((seed, number, STYLE, index), network.style_size, device).expand(len(x), -1)
            x_hat = predict(table, step, lambda *shown, how=measuring: network(*shown, normalise=how), x, batch, styles)
            found.append(tuple(measuring.found))
            drawn = eps(STEP, index, x_hat.shape[1]) if step.noise else None
            x, previous = advance(step, x, x_hat, previous, batch, drawn), x_hat
    return tuple(found)


def frozen(network: nn.Module, moments: tuple[Moments, ...]) -> Callable[..., Tensor]:
    """The network with the statistics of one step."""
    return lambda image, time, style: network(image, time, style, normalise=given(moments))


def _within(valid: Tensor, margin: int) -> Tensor:
    """How much each pixel (N,1,h,w) counts: not those of the margin, nor those without data; nor those near them, which
    see what was filled in, unless too few are left."""
    inner = torch.zeros_like(valid)
    inner[:, :, margin : valid.shape[2] - margin, margin : valid.shape[3] - margin] = 1
    far = -F.max_pool2d(-valid, 2 * _MARGIN_PX + 1, 1, _MARGIN_PX)
    found = [inner * far, inner * valid, inner]
    enough = [_LEAST_FAR * float(found[1].sum()), 1, 0]
    return next(each for each, least in zip(found, enough) if float(each.sum()) >= max(least, 1))


def _with_margin(window: Window, margin: int, size: tuple[int, int], stride: int,
                 read: Callable[[Window], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """The window's pixels and those around it, reflected at the raster's border and filled up to the stride lattice;
    and which have data."""
    spans = [(first - margin, first + -(-length // stride) * stride + margin)
             for first, length in ((window.row, window.height), (window.col, window.width))]
    index = [reflect(*span, length) for span, length in zip(spans, size)]
    (top, bottom), (left, right) = ((int(each.min()), int(each.max()) + 1) for each in index)
    rows, cols = torch.from_numpy(index[0] - top), torch.from_numpy(index[1] - left)
    pixels, valid = read(Window(top, left, bottom - top, right - left))
    return pixels[:, rows][:, :, cols], valid.to(pixels)[:, rows][:, :, cols]
