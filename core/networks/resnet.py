"""The time- and style-conditioned ResNet generator of UNSB, with its defects mended.

Differences from the public block (cyclomon/UNSB, `models/networks.py`), each of which matters:

- both convolutions of a residual block are alive (there, half of them never see a gradient);
- time and style enter after the normalisation, as a scale and a shift (before it they cancel);
- the normalisation runs over channels at each pixel, so a pixel does not depend on the window;
- it is not blind to level: the stem is not normalised, and a learned affine path runs from input
  to output beside the network, so offsets and gains of the input reach the output;
- pooling and upsampling share one pixel-centre convention, so the image is not shifted.
"""

import math
from itertools import pairwise
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn


class ResnetSizes(BaseModel):
    """What a manifest or a recipe says about the generator; the defaults are UNSB's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bands_in: Annotated[int, Field(ge=1, le=1024)]
    bands_out: Annotated[int, Field(ge=1, le=1024)]
    width: Annotated[int, Field(ge=4, le=512)] = 64
    """Channels after the stem; doubled at every level."""
    blocks: Annotated[int, Field(ge=0, le=64)] = 9
    levels: Annotated[int, Field(ge=0, le=4)] = 2
    """How many times the image is halved."""
    style: Annotated[int, Field(ge=0, le=1024)] = 256
    """Length of the style vector z; 0: the generator takes none."""
    embedding: Annotated[int, Field(ge=8, le=1024)] = 256


class ResnetGenerator(nn.Module):
    """`forward(image (N,C,H,W), time (N,), style (N,S) or None) -> (N,C',H,W)`, H and W multiples of 2**levels."""

    sizes_type = ResnetSizes

    def __init__(self, sizes: ResnetSizes):
        super().__init__()
        self.sizes = sizes
        width, deep = sizes.width, sizes.width * 2**sizes.levels
        self.condition = Condition(sizes.style, sizes.embedding)
        self.stem = conv(sizes.bands_in, width, 7)
        widths = [width * 2**i for i in range(sizes.levels + 1)]
        self.down = nn.ModuleList(Stage(a, b, sizes.embedding) for a, b in pairwise(widths))
        self.blocks = nn.ModuleList(Block(deep, sizes.embedding) for _ in range(sizes.blocks))
        self.up = nn.ModuleList(
            Stage(a, b, sizes.embedding) for a, b in pairwise(widths[::-1])
        )
        self.head = conv(width, sizes.bands_out, 7)
        self.level = nn.Conv2d(sizes.bands_in, sizes.bands_out, 1)
        start_as_identity(self.level)
        # A small head: training starts near the identity, which keeps the colours of the first steps.
        nn.init.xavier_normal_(self.head.weight, gain=0.02)
        nn.init.zeros_(self.head.bias)

    @property
    def stride(self) -> int:
        """Input sizes and window origins are multiples of this (pixels)."""
        return 2**self.sizes.levels

    @property
    def smallest_px(self) -> int:
        """Shortest side that every reflection finds enough pixels on, at full size and at the deepest level."""
        return max(4, 2 * self.stride)

    @property
    def channels(self) -> int:
        """Of the widest map of features at full size."""
        return max(self.sizes.width, self.sizes.bands_in, self.sizes.bands_out)

    @property
    def style_size(self) -> int:
        return self.sizes.style

    @property
    def radius_px(self) -> int:
        """Receptive radius: how far from a pixel its output can be changed (93 at UNSB's sizes)."""
        radius = 3 + 3
        for level in range(self.sizes.levels):
            radius += 2 * 2**level  # going down: a 3x3 convolution, then the 2x2 mean
            radius += 2 ** (level + 1) + 2**level  # going up: interpolation, then a convolution
        return radius + 2 * self.sizes.blocks * self.stride

    @property
    def tap_channels(self) -> tuple[int, ...]:
        """Channels of each map that `feature_maps` gives."""
        down = [self.sizes.width * 2**k for k in range(1, self.sizes.levels + 1)]
        return self.sizes.bands_in, *down, *(down[-1:] or [self.sizes.width]) * len(self._tapped)

    @property
    def _tapped(self) -> list[int]:
        """Numbers of the blocks that are tapped: the first and the fifth, or the last of fewer."""
        return sorted({0, min(4, self.sizes.blocks - 1)}) if self.sizes.blocks else []

    def feature_maps(self, image: Tensor, time: Tensor, style: Tensor | None) -> list[Tensor]:
        """What contrastive losses compare, from pixels to the deepest level: the image, each stage on the way down
        at its full size, and two blocks."""
        condition = self.condition(time, style)
        x, found = F.relu(self.stem(image)), [image]
        for stage in self.down:
            found.append(stage(x, condition))
            x = F.avg_pool2d(found[-1], 2)
        for k, block in enumerate(self.blocks[: max(self._tapped, default=-1) + 1]):
            x = block(x, condition)
            found += [x] if k in self._tapped else []
        return found

    def descend(self, image: Tensor, condition: Tensor) -> Tensor:
        """The map at the deepest level, behind all blocks."""
        x = F.relu(self.stem(image))
        for stage in self.down:
            x = F.avg_pool2d(stage(x, condition), 2)
        for block in self.blocks:
            x = block(x, condition)
        return x

    def image(self, image: Tensor, x: Tensor, condition: Tensor) -> Tensor:
        """The result, of the image that was shown and the deepest map that was made of it."""
        for stage in self.up:
            x = stage(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False), condition)
        return exact(self.level, image) + self.head(x).to(image.dtype)

    def forward(self, image: Tensor, time: Tensor, style: Tensor | None) -> Tensor:
        dtype = self.stem.weight.dtype  # may be narrower than the image's and the affine skip path's
        condition = self.condition(time, None if style is None else style.to(dtype))
        return self.image(image, self.descend(image.to(dtype), condition), condition)


class Condition(nn.Module):
    """Time (N,) and style z (N,S), where there is one, -> one embedding (N,E)."""

    def __init__(self, style: int, embedding: int, frequencies: int = 64):
        super().__init__()
        self.frequencies = frequencies
        self.time = nn.Sequential(
            nn.Linear(frequencies, embedding), nn.LeakyReLU(0.2), nn.Linear(embedding, embedding)
        )
        self.style = nn.Sequential(
            nn.Linear(style, embedding), nn.LeakyReLU(0.2), nn.Linear(embedding, embedding)
        ) if style else None

    def forward(self, time: Tensor, style: Tensor | None) -> Tensor:
        half = self.frequencies // 2
        index = torch.arange(half, device=time.device, dtype=torch.float32)
        angle = time.float()[:, None] * torch.exp(-math.log(1000.0) * index / half)
        embedded = self.time(torch.cat([angle.sin(), angle.cos()], 1).to(self.time[0].weight.dtype))
        if self.style is not None:
            unit = style * torch.rsqrt(style.square().mean(1, keepdim=True) + 1e-8)  # type: ignore[union-attr]
            embedded = embedded + self.style(unit)
        return F.leaky_relu(embedded, 0.2)


class ChannelNorm(nn.Module):
    """Zero mean and unit variance over the channels of each pixel; no statistics over space."""

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x.permute(0, 2, 3, 1), x.shape[1:2]).permute(0, 3, 1, 2)


class Modulate(nn.Module):
    """x -> x * (1 + scale) + shift, both read from the embedding."""

    def __init__(self, channels: int, embedding: int):
        super().__init__()
        self.affine = nn.Linear(embedding, 2 * channels)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.affine(condition)[:, :, None, None].chunk(2, 1)
        return torch.addcmul(shift, x, 1 + scale)


class Stage(nn.Module):
    """Convolution, norm, modulation, ReLU; the way down and the way up."""

    def __init__(self, channels_in: int, channels_out: int, embedding: int):
        super().__init__()
        self.conv = conv(channels_in, channels_out, 3)
        self.norm = ChannelNorm()
        self.modulate = Modulate(channels_out, embedding)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        return F.relu(self.modulate(self.norm(self.conv(x)), condition))


class Block(nn.Module):
    """Residual block; both convolutions are on the path from input to output."""

    def __init__(self, channels: int, embedding: int):
        super().__init__()
        self.first = Stage(channels, channels, embedding)
        self.second = conv(channels, channels, 3)
        self.norm = ChannelNorm()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        return x + self.norm(self.second(self.first(x, condition)))


def exact(level: nn.Module, image: Tensor) -> Tensor:
    """What the affine skip path makes of an image, in its own precision also where others are narrowed."""
    with torch.autocast(image.device.type, enabled=False):
        return level(image)


def start_as_identity(level: nn.Conv2d) -> None:
    """Output band k begins as one of the last input bands: the image, or the source concatenated to it."""
    nn.init.zeros_(level.weight)
    nn.init.zeros_(level.bias)
    with torch.no_grad():
        for k in range(min(level.out_channels, level.in_channels)):
            level.weight[k, level.in_channels - min(level.out_channels, level.in_channels) + k] = 1.0


def conv(channels_in: int, channels_out: int, kernel: int) -> nn.Conv2d:
    """A convolution that keeps the size; reflection only matters inside the discarded margin."""
    return nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2, padding_mode="reflect")
