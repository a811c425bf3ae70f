"""A time- and style-conditioned U-Net: the network of diffusions, flows and bridges.

The shape is that of SR3's (Saharia et al. 2021, arXiv:2104.07636): residual blocks at every level, and each level's map
handed across to the way up. It differs where rasters want it, as `resnet` does: the normalisation runs over channels at
each pixel and not over groups in space, so a pixel does not depend on the window; time and style enter after the
normalisation; a learned affine path carries the level from input to output.

With `attention` the deepest level looks at its whole window, and the result then depends on the window's size.
"""

from itertools import pairwise
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from .resnet import Block, ChannelNorm, Condition, Stage, conv, exact, start_as_identity

_MOST_WIDER = 8
_HEAD_CHANNELS = 32


class UNetSizes(BaseModel):
    """What a manifest or a recipe says about the U-Net; the defaults suit four-fold super-resolution on one GPU."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bands_in: Annotated[int, Field(ge=1, le=2048)]
    bands_out: Annotated[int, Field(ge=1, le=1024)]
    width: Annotated[int, Field(ge=4, le=512)] = 64
    """Channels at full size; doubled at every level, up to eight times as many."""
    blocks: Annotated[int, Field(ge=1, le=16)] = 2
    """Residual blocks at each level, on the way down and on the way up."""
    levels: Annotated[int, Field(ge=0, le=5)] = 3
    """How many times the image is halved."""
    attention: Annotated[int, Field(ge=0, le=1)] = 0
    """1: the deepest level attends over the whole window."""
    style: Annotated[int, Field(ge=0, le=1024)] = 0
    """Length of the style vector z; 0: the network takes none."""
    embedding: Annotated[int, Field(ge=8, le=1024)] = 256


class UNet(nn.Module):
    """`forward(image (N,C,H,W), time (N,), style (N,S) or None) -> (N,C',H,W)`, H and W multiples of 2**levels."""

    sizes_type = UNetSizes

    def __init__(self, sizes: UNetSizes):
        super().__init__()
        self.sizes = sizes
        e, count = sizes.embedding, sizes.blocks
        widths = [sizes.width * min(2**k, _MOST_WIDER) for k in range(sizes.levels + 1)]
        self.condition = Condition(sizes.style, e)
        self.stem = conv(sizes.bands_in, sizes.width, 3)
        self.down = nn.ModuleList(_blocks(width, e, count) for width in widths[:-1])
        self.deeper = nn.ModuleList(Stage(a, b, e) for a, b in pairwise(widths))
        self.middle = _blocks(widths[-1], e, count)
        self.attention = Attention(widths[-1]) if sizes.attention else None
        self.higher = nn.ModuleList(Stage(b, a, e) for a, b in pairwise(widths))
        self.merge = nn.ModuleList(Stage(2 * width, width, e) for width in widths[:-1])
        self.up = nn.ModuleList(_blocks(width, e, count) for width in widths[:-1])
        self.head = conv(sizes.width, sizes.bands_out, 3)
        self.level = nn.Conv2d(sizes.bands_in, sizes.bands_out, 1)
        start_as_identity(self.level)
        # A small head: training starts near what the affine skip path gives.
        nn.init.xavier_normal_(self.head.weight, gain=0.02)
        nn.init.zeros_(self.head.bias)

    @property
    def stride(self) -> int:
        """Input sizes and window origins are multiples of this (pixels)."""
        return 2**self.sizes.levels

    @property
    def smallest_px(self) -> int:
        """Shortest side on which every reflection finds enough pixels."""
        return max(4, 2 * self.stride)

    @property
    def channels(self) -> int:
        """Of the widest map of features at full size."""
        return max(2 * self.sizes.width, self.sizes.bands_in, self.sizes.bands_out)

    @property
    def style_size(self) -> int:
        return self.sizes.style

    @property
    def attends(self) -> bool:
        """Whether a pixel depends on the whole window."""
        return bool(self.sizes.attention)

    @property
    def radius_px(self) -> int:
        """Receptive radius, without attention: how far from a pixel its output can be changed."""
        radius = 2  # stem and head
        for level in range(self.sizes.levels):
            blocks = 2 * 2 * self.sizes.blocks * 2**level  # two convolutions each, down and up
            # Down: the 2x2 mean, and a convolution below; up: the interpolation, and two convolutions.
            radius += blocks + 2**level + 2 ** (level + 1) + 2 ** (level + 1) + 2 * 2**level
        return radius + 2 * self.sizes.blocks * self.stride

    def forward(self, image: Tensor, time: Tensor, style: Tensor | None) -> Tensor:
        dtype = self.stem.weight.dtype  # may be narrower than the image's and the affine skip path's
        condition = self.condition(time, None if style is None else style.to(dtype))
        x, across = self.stem(image.to(dtype)), []
        for blocks, deeper in zip(self.down, self.deeper):
            across.append(_through(blocks, x, condition))
            x = deeper(F.avg_pool2d(across[-1], 2), condition)
        x = _through(self.middle, x, condition)
        if self.attention is not None:
            x = self.attention(x)
        for k in reversed(range(self.sizes.levels)):
            x = self.higher[k](F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False), condition)
            x = self.merge[k](torch.cat([x, across.pop()], 1), condition)
            x = _through(self.up[k], x, condition)
        return exact(self.level, image) + self.head(x).to(image.dtype)


class Attention(nn.Module):
    """Self-attention over all pixels of a map, added to it; at the start it adds nothing."""

    def __init__(self, channels: int):
        super().__init__()
        self.heads = next(k for k in range(max(1, channels // _HEAD_CHANNELS), 0, -1) if channels % k == 0)
        self.norm = ChannelNorm()
        self.ask = nn.Conv2d(channels, 3 * channels, 1)
        self.give = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.give.weight)
        nn.init.zeros_(self.give.bias)

    def forward(self, x: Tensor) -> Tensor:
        shape = x.shape[0], self.heads, -1, x.shape[2] * x.shape[3]
        query, key, value = (part.reshape(shape).transpose(2, 3) for part in self.ask(self.norm(x)).chunk(3, 1))
        found = F.scaled_dot_product_attention(query, key, value)
        return x + self.give(found.transpose(2, 3).reshape(x.shape))


def _blocks(channels: int, embedding: int, count: int) -> nn.ModuleList:
    return nn.ModuleList(Block(channels, embedding) for _ in range(count))


def _through(blocks: nn.ModuleList, x: Tensor, condition: Tensor) -> Tensor:
    for block in blocks:
        x = block(x, condition)
    return x
