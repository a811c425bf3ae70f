"""A small residual CNN at full size: what least squares give, plus what a few convolutions find beyond it.

Nothing is normalised and nothing is halved, so that it can learn any filter of a neighbourhood, which an hourglass
without skips cannot. At a scale of k it works on the source's own pixels and gives k x k pixels for each.
"""

from typing import Annotated

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from .closed_form import LinearFilter, LinearSizes, at_centres
from .resnet import conv


class PlainSizes(LinearSizes):
    """What a manifest or a recipe says about the network: the terms of its linear path, and its convolutions."""

    width: Annotated[int, Field(ge=1, le=512)] = 32
    """Channels of each convolution."""
    convolutions: Annotated[int, Field(ge=2, le=64)] = 5
    """3 x 3, one after the other."""


class PlainNetwork(nn.Module):
    """`forward(image (N,C,H,W), time, style) -> (N,C',H,W)`, H and W multiples of `sizes.scale`; time and style are not
    used."""

    sizes_type = PlainSizes
    style_size, takes_time = 0, False

    def __init__(self, sizes: PlainSizes):
        super().__init__()
        self.sizes = sizes
        widths = [sizes.bands_in, *[sizes.width] * (sizes.convolutions - 1)]
        self.body = nn.ModuleList(conv(a, b, 3) for a, b in zip(widths, widths[1:]))
        self.head = conv(sizes.width, sizes.bands_out * sizes.scale**2, 3)
        # Named as the affine skip path of other networks, which is never narrowed.
        self.level = LinearFilter(LinearSizes(**sizes.model_dump(exclude={"width", "convolutions"})))
        self.level.start_as_identity()
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    @property
    def stride(self) -> int:
        """Input sizes and window origins are multiples of this (pixels)."""
        return self.sizes.scale

    @property
    def smallest_px(self) -> int:
        """Shortest side on which every reflection finds enough pixels."""
        return 2 * self.sizes.scale

    @property
    def channels(self) -> int:
        """Of the widest map of features at full size."""
        return max(self.level.channels, -(-2 * self.sizes.width // self.sizes.scale**2))

    @property
    def radius_px(self) -> int:
        """How far from a pixel its output can be changed."""
        return max(self.level.radius_px, self.sizes.scale * (self.sizes.convolutions + 1) - 1)

    def forward(self, image: Tensor, time: Tensor, style: Tensor | None) -> Tensor:
        x = at_centres(image, self.sizes.scale).to(self.head.weight.dtype)
        for convolution in self.body:
            x = F.relu(convolution(x))
        return self.level(image, time, style) + F.pixel_shuffle(self.head(x), self.sizes.scale).to(image.dtype)
