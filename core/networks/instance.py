"""Generators with instance normalisation, as the public checkpoints of CycleGAN, CUT and UNSB have them.

Instance normalisation subtracts from each map its mean over the window and divides by its deviation, so that windows
disagree and level is lost. Here the numbers come from outside: a call either measures them, or is given those of the
whole raster, and then a pixel depends on no window (see `core.norms`).

The block of UNSB's published code computes its first half and throws all of it away but a normalisation of its input
(cyclomon/UNSB, issue 29), so that time has no effect; weights that were trained so need it so (`legacy`).
"""

import math
from collections.abc import Callable, Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

_LEVELS = 2
Normalise = Callable[[Tensor], Tensor]
Moments = tuple[Tensor, Tensor]
"""Mean and reciprocal deviation of a map's channels, (1,C,1,1)."""


class InstanceSizes(BaseModel):
    """What a manifest says about such a generator; the defaults are CUT's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bands_in: Annotated[int, Field(ge=1, le=1024)]
    bands_out: Annotated[int, Field(ge=1, le=1024)]
    width: Annotated[int, Field(ge=4, le=512)] = 64
    """Channels after the stem; doubled at each of two levels."""
    blocks: Annotated[int, Field(ge=0, le=64)] = 9
    blurred: Annotated[int, Field(ge=0, le=1)] = 1
    """1: halving and doubling go through a fixed blur (CUT, UNSB); 0: through strided convolutions (CycleGAN)."""
    conditioned: Annotated[int, Field(ge=0, le=1)] = 0
    """1: blocks see time and style (UNSB)."""
    legacy: Annotated[int, Field(ge=0, le=1)] = 0
    """1: the first half of each block is only a normalisation of its input (UNSB as published)."""


class InstanceGenerator(nn.Module):
    """`forward(image (N,C,H,W), time (N,), style (N,S) or None, normalise) -> (N,C',H,W)` in [-1,1].

    H and W are multiples of 4. `normalise` is called once for each map, always in the same order; by default each
    image's own statistics are used.
    """

    sizes_type = InstanceSizes
    stride = 2**_LEVELS
    smallest_px = 16
    normalises_over_space = True

    def __init__(self, sizes: InstanceSizes):
        super().__init__()
        self.sizes = sizes
        width, deep = sizes.width, sizes.width * self.stride
        self.stem = _conv(sizes.bands_in, width, 7)
        step = 1 if sizes.blurred else 2
        self.down = nn.ModuleList(nn.Conv2d(width * 2**k, width * 2 ** (k + 1), 3, step, 1) for k in range(_LEVELS))
        self.blocks = nn.ModuleList(InstanceBlock(sizes) for _ in range(sizes.blocks))
        self.up = nn.ModuleList(
            nn.Conv2d(deep // 2**k, deep // 2 ** (k + 1), 3, padding=1) if sizes.blurred else
            nn.ConvTranspose2d(deep // 2**k, deep // 2 ** (k + 1), 3, 2, 1, 1) for k in range(_LEVELS))
        self.head = _conv(width, sizes.bands_out, 7)
        if sizes.conditioned:
            self.time = None if sizes.legacy else _layers(width, deep, deep)
            self.style = _layers(*(deep,) * 5)

    @property
    def channels(self) -> int:
        """Of the widest map of features at full size."""
        return max(self.sizes.width * (2 if self.sizes.blurred else 1), self.sizes.bands_in, self.sizes.bands_out)

    @property
    def style_size(self) -> int:
        return self.sizes.width * self.stride if self.sizes.conditioned else 0

    @property
    def radius_px(self) -> int:
        """How far from a pixel its output can be changed once statistics are given: 93 for CUT, 57 for legacy UNSB."""
        halving = sum((1 + self.sizes.blurred) * 2**k for k in range(_LEVELS))
        doubling = sum(2 ** (k + 1) + self.sizes.blurred * 2**k for k in range(_LEVELS))
        return 6 + halving + doubling + self.sizes.blocks * self.stride * (1 if self.sizes.legacy else 2)

    def forward(self, image: Tensor, time: Tensor, style: Tensor | None = None, normalise: Normalise | None = None
                ) -> Tensor:
        normalise = normalise or own
        condition = self._condition(time, style) if self.sizes.conditioned else None
        x = F.relu(normalise(self.stem(image.to(self.stem.weight.dtype))))
        for layer in self.down:
            x = F.relu(normalise(layer(x)))
            x = halve(x) if self.sizes.blurred else x
        for block in self.blocks:
            x = block(x, condition, normalise)
        for layer in self.up:
            x = F.relu(normalise(layer(double(x) if self.sizes.blurred else x)))
        return self.head(x).tanh().to(image.dtype)

    def _condition(self, time: Tensor, style: Tensor) -> tuple[Tensor | None, Tensor]:
        """Embedded time, where it matters, and style, (N,D) each."""
        dtype = self.stem.weight.dtype
        style = self.style((style * torch.rsqrt(style.square().mean(1, keepdim=True) + 1e-8)).to(dtype))
        if self.time is None:
            return None, style
        half = self.sizes.width // 2
        rates = torch.exp(torch.arange(half, device=time.device) * (-math.log(10_000) / max(1, half - 1)))
        angle = time.float()[:, None] * rates
        wave = F.pad(torch.cat([angle.sin(), angle.cos()], 1), (0, self.sizes.width % 2))
        return self.time(wave.to(dtype)), style


class InstanceBlock(nn.Module):
    """Residual block; with a condition, time shifts its input and style scales and shifts what was normalised."""

    def __init__(self, sizes: InstanceSizes):
        super().__init__()
        deep = sizes.width * 2**_LEVELS
        self.first = None if sizes.legacy else _conv(deep, deep, 3)
        self.second = _conv(deep, deep, 3)
        if sizes.conditioned:
            self.time = None if sizes.legacy else nn.Linear(deep, deep)
            self.style = nn.Linear(deep, 2 * deep)

    def forward(self, x: Tensor, condition: tuple[Tensor | None, Tensor] | None, normalise: Normalise) -> Tensor:
        made = x
        if self.first is not None:
            made = self.first(x if condition is None else x + self.time(condition[0])[:, :, None, None])  # type: ignore[misc]
        made = normalise(made)
        if condition is not None:
            gain, shift = self.style(condition[1])[:, :, None, None].chunk(2, 1)
            made = gain * made + shift
        return x + normalise(self.second(F.relu(made)))


def own(x: Tensor) -> Tensor:
    """Each map by its own mean and deviation over the window."""
    return F.instance_norm(x)


class Measuring:
    """Normalises by the statistics over all windows of a batch together, and keeps them.

    Args:
        counted: (N,1,h,w), how much each pixel of the windows counts.
    """

    def __init__(self, counted: Tensor):
        self.counted = counted
        self.found: list[Moments] = []

    def __call__(self, x: Tensor) -> Tensor:
        weight = F.adaptive_avg_pool2d(self.counted, x.shape[2:]).double()
        weight = weight / weight.sum()
        mean = (weight * x.double()).sum((0, 2, 3), keepdim=True)
        variance = (weight * (x.double() - mean).square()).sum((0, 2, 3), keepdim=True)
        self.found.append((mean.to(x), torch.rsqrt(variance + 1e-5).to(x)))
        return given(self.found[-1:])(x)


def given(moments: Sequence[Moments]) -> Normalise:
    """Normalises map after map by numbers that are there already."""
    waiting = iter(moments)

    def normalise(x: Tensor) -> Tensor:
        mean, rate = next(waiting)
        return (x - mean.to(x)) * rate.to(x)

    return normalise


def halve(x: Tensor) -> Tensor:
    """Blurs by [1 2 1]/4 along both axes, and keeps every other pixel."""
    return F.conv2d(F.pad(x, (1, 1, 1, 1), "reflect"), _kernel(x, (1, 2, 1)), stride=2, groups=x.shape[1])


def double(x: Tensor) -> Tensor:
    """Twice as many pixels, each of two neighbours' [1 3]/4 along both axes."""
    x = F.pad(x, (1, 1, 1, 1), "replicate")
    made = F.conv_transpose2d(x, 4 * _kernel(x, (1, 3, 3, 1)), stride=2, padding=2, groups=x.shape[1])
    return made[:, :, 1:-1, 1:-1]


def _kernel(x: Tensor, taps: tuple[int, ...]) -> Tensor:
    line = torch.tensor(taps, dtype=x.dtype, device=x.device)
    kernel = torch.outer(line, line)
    return (kernel / kernel.sum()).expand(x.shape[1], 1, -1, -1)


def _conv(channels_in: int, channels_out: int, kernel: int) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2, padding_mode="reflect")


def _layers(*widths: int) -> nn.Sequential:
    parts = [part for a, b in zip(widths, widths[1:]) for part in (nn.Linear(a, b), nn.LeakyReLU(0.2))]
    return nn.Sequential(*parts)
