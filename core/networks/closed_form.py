"""Closed forms as networks: a linear filter with squares and means, monotone curves per band, gains and offsets that
change over a map.

Their weights are solved for by `geoi2i fit`, not trained. As networks they are tiled, saved, verified and resumed like
all others.
"""

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from .resnet import exact

Width = Annotated[int, Field(ge=0, le=127)]
Term = tuple[Literal["pixel", "product", "mean"], int, int, int]
"""One number that the result is a linear combination of: ("pixel", band, row, column) with the place in the
neighbourhood, ("product", band, other band, 0), ("mean", band, width, 0)."""


class LinearSizes(BaseModel):
    """What a manifest says about a `LinearFilter`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bands_in: Annotated[int, Field(ge=1, le=1024)]
    bands_out: Annotated[int, Field(ge=1, le=1024)]
    neighbourhood: Annotated[int, Field(ge=1, le=15)] = 1
    """Side of the square of pixels that are weighted, odd."""
    squares: Annotated[int, Field(ge=0, le=1)] = 0
    """1: squares and products of the bands of the centre pixel, too."""
    mean_1: Width = 0
    """Side of a square over which bands are averaged, odd; 0: none."""
    mean_2: Width = 0
    mean_3: Width = 0
    mean_4: Width = 0
    scale: Annotated[int, Field(ge=1, le=16)] = 1
    """Pixels of the result for each of the source along an axis. The network sees the source enlarged so many times,
    and has coefficients of its own for each of the scale x scale places in a source pixel."""

    @model_validator(mode="after")
    def _odd(self) -> "LinearSizes":
        for name in ("neighbourhood", "mean_1", "mean_2", "mean_3", "mean_4"):
            if (side := getattr(self, name)) and side % 2 == 0:
                raise ValueError(f"{name} must be odd (got {side})")
        return self

    @property
    def means(self) -> tuple[int, ...]:
        """Sides of the squares that are averaged over."""
        return tuple(side for side in (self.mean_1, self.mean_2, self.mean_3, self.mean_4) if side)

    @property
    def terms(self) -> tuple[Term, ...]:
        """What the result is a linear combination of, besides a constant, in the order of `LinearFilter.values`."""
        side, bands = self.neighbourhood, self.bands_in
        half = side // 2
        pixels = [("pixel", band, row - half, col - half) for band in range(bands)
                  for row in range(side) for col in range(side)]
        products = [("product", one, other, 0) for one in range(bands) for other in range(one, bands)]
        means = [("mean", band, width, 0) for width in self.means for band in range(bands)]
        return (*pixels, *(products if self.squares else ()), *means)


class LinearFilter(nn.Module):
    """`forward(image (N,C,H,W), time, style) -> (N,C',H,W)`, H and W multiples of `sizes.scale`; time and style are not
    used. Exact in float32 at every precision."""

    sizes_type = LinearSizes
    style_size, takes_time = 0, False

    def __init__(self, sizes: LinearSizes):
        super().__init__()
        self.sizes = sizes
        out, side = sizes.bands_out * sizes.scale**2, sizes.neighbourhood
        # Named as the affine skip path of other networks, which is never narrowed.
        self.level = nn.Conv2d(sizes.bands_in, out, side, padding=side // 2)
        rest = len(sizes.terms) - sizes.bands_in * side**2
        self.rest = nn.Parameter(torch.zeros(out, rest, 1, 1)) if rest else None

    @property
    def stride(self) -> int:
        """Input sizes and window origins are multiples of this (pixels)."""
        return self.sizes.scale

    @property
    def radius_px(self) -> int:
        """How far from a pixel its output can be changed."""
        reach = max(self.sizes.neighbourhood, *self.sizes.means, 1) // 2
        return self.sizes.scale * reach + self.sizes.scale - 1

    @property
    def smallest_px(self) -> int:
        return self.sizes.scale

    @property
    def channels(self) -> int:
        """Of the widest map of features at full size."""
        rest = 0 if self.rest is None else self.rest.shape[1]
        return max(self.sizes.bands_in, self.sizes.bands_out, -(-(self.level.out_channels + rest) // self.stride**2))

    def start_as_identity(self) -> None:
        """Output band k begins as one of the last input bands; see `resnet.start_as_identity`."""
        count, found = min(self.sizes.bands_in, self.sizes.bands_out), torch.zeros(
            self.level.out_channels, len(self.sizes.terms))
        centre = [k for k, term in enumerate(self.sizes.terms) if term[0] == "pixel" and term[2:] == (0, 0)]
        for k in range(count):
            place = slice(k * self.stride**2, (k + 1) * self.stride**2)
            found[place, centre[self.sizes.bands_in - count + k]] = 1.0
        self.load_solution(torch.zeros(self.level.out_channels), found)

    def load_solution(self, constant: Tensor, coefficients: Tensor) -> None:
        """Takes the solution of a least-squares problem.

        Args:
            constant: (C' * scale**2,), the place in a source pixel running fastest.
            coefficients: (C' * scale**2, terms) in the order of `sizes.terms`.
        """
        near = self.level.weight[0].numel()
        with torch.no_grad():
            self.level.bias.copy_(constant)
            self.level.weight.copy_(coefficients[:, :near].reshape(self.level.weight.shape))
            if self.rest is not None:
                self.rest.copy_(coefficients[:, near:, None, None])

    def forward(self, image: Tensor, time: Tensor, style: Tensor | None) -> Tensor:
        coarse = at_centres(image, self.sizes.scale)
        made = exact(self.level, coarse)
        if self.rest is not None:
            with torch.autocast(image.device.type, enabled=False):
                made = made + F.conv2d(_rest(coarse, self.sizes), self.rest.to(coarse.dtype))
        return F.pixel_shuffle(made, self.sizes.scale)


def at_centres(image: Tensor, scale: int) -> Tensor:
    """The source's pixels (N,C,H/k,W/k) from an image (N,C,H,W) that is the source enlarged k times.

    For an odd k the middle of a source pixel is the source's own number, since the kernels that enlarge interpolate.
    For an even k it is the mean of the four pixels around the middle.
    """
    if scale == 1:
        return image
    if scale % 2:
        return image[:, :, scale // 2::scale, scale // 2::scale]
    first = scale // 2 - 1
    return F.avg_pool2d(image[:, :, first:, first:], 2, scale)


def values(coarse: Tensor, sizes: LinearSizes) -> Tensor:
    """The terms (N,T,H,W) of `sizes` at every pixel of an image (N,C,H,W); outside of it everything counts as 0."""
    side = sizes.neighbourhood
    padded = F.pad(coarse, (side // 2,) * 4)
    height, width = coarse.shape[2:]
    near = torch.stack([padded[:, :, row : row + height, col : col + width] for row in range(side)
                        for col in range(side)], 2).flatten(1, 2)
    return torch.cat([near, _rest(coarse, sizes)], 1)


def _rest(coarse: Tensor, sizes: LinearSizes) -> Tensor:
    """Products and means, in the order of `sizes.terms`."""
    parts = [coarse[:, :0]]
    if sizes.squares:
        parts += [coarse[:, band : band + 1] * coarse[:, band:] for band in range(sizes.bands_in)]
    parts += [F.avg_pool2d(coarse, width, 1, width // 2) for width in sizes.means]
    return torch.cat(parts, 1)


class CurvesSizes(BaseModel):
    """What a manifest says about `Curves`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bands_in: Annotated[int, Field(ge=1, le=64)]
    bands_out: Annotated[int, Field(ge=1, le=64)]
    rounds: Annotated[int, Field(ge=1, le=256)] = 1
    """How many times colours are rotated and each axis is bent by a curve of its own."""
    knots: Annotated[int, Field(ge=2, le=65_536)] = 256
    """Of each curve."""

    @model_validator(mode="after")
    def _square(self) -> "CurvesSizes":
        if self.bands_in != self.bands_out:
            raise ValueError(f"bands_in and bands_out must be equal (got {self.bands_in} and {self.bands_out})")
        return self


class Curves(nn.Module):
    """Monotone piecewise linear curves along rotated axes of colour: `forward(image (N,C,H,W), time, style)`.

    Beyond its ends a curve goes on with slope 1.
    """

    sizes_type = CurvesSizes
    style_size, takes_time = 0, False
    radius_px, smallest_px, stride = 0, 1, 1

    def __init__(self, sizes: CurvesSizes):
        super().__init__()
        self.sizes = sizes
        bands, shape = sizes.bands_in, (sizes.rounds, sizes.bands_in, sizes.knots)
        # Named as the affine skip path of other networks, which is never narrowed.
        self.level = nn.ParameterDict({
            "rotation": nn.Parameter(torch.eye(bands).repeat(sizes.rounds, 1, 1)),
            "x": nn.Parameter(torch.linspace(-1, 1, sizes.knots).expand(shape).clone()),
            "y": nn.Parameter(torch.linspace(-1, 1, sizes.knots).expand(shape).clone())})

    @property
    def channels(self) -> int:
        return 4 * self.sizes.bands_in

    def forward(self, image: Tensor, time: Tensor, style: Tensor | None) -> Tensor:
        count, bands, height, width = image.shape
        colours = image.transpose(0, 1).reshape(bands, -1)
        for rotation, x, y in zip(*(self.level[name].to(image.dtype) for name in ("rotation", "x", "y"))):
            colours = rotation.T @ bend(rotation @ colours, x, y)
        return colours.reshape(bands, count, height, width).transpose(0, 1)


def bend(colours: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Numbers (C,n) along the curves through the knots `x`, `y` (C,K), of which `x` strictly increases."""
    left = (torch.searchsorted(x, colours.contiguous(), right=True) - 1).clamp(0, x.shape[1] - 2)
    x0, x1, y0, y1 = (each.gather(1, index) for each in (x, y) for index in (left, left + 1))
    share = (colours - x0) / (x1 - x0)
    inside = y0 + share.clamp(0, 1) * (y1 - y0)
    return inside + (colours - x0).clamp(max=0) + (colours - x1).clamp(min=0)


class LocalSizes(BaseModel):
    """What a manifest says about a `LocalLinear`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bands_in: Annotated[int, Field(ge=3, le=1026)]
    """With the two of the position."""
    bands_out: Annotated[int, Field(ge=1, le=1024)]
    rows: Annotated[int, Field(ge=2, le=1025)] = 2
    """Nodes from the top of the frame to its bottom."""
    cols: Annotated[int, Field(ge=2, le=1025)] = 2

    @model_validator(mode="after")
    def _placed(self) -> "LocalSizes":
        if self.bands_in != self.bands_out + 2:
            raise ValueError(f"bands_in must be bands_out and map_x and map_y (got {self.bands_in} and "
                             f"{self.bands_out})")
        return self


class LocalLinear(nn.Module):
    """A gain and an offset for each band, bilinear between the nodes of a coarse grid over a map.

    `forward(image (N,C+2,H,W), time, style) -> (N,C,H,W)`: the last two bands are map_x and map_y, of which the grid
    spans -1 to 1; beyond it the values at its border hold. Exact in float32 at every precision.
    """

    sizes_type = LocalSizes
    style_size, takes_time = 0, False
    radius_px, smallest_px, stride = 0, 1, 1

    def __init__(self, sizes: LocalSizes):
        super().__init__()
        self.sizes = sizes
        shape = sizes.bands_out, sizes.rows, sizes.cols
        # Named as the affine skip path of other networks, which is never narrowed.
        self.level = nn.ParameterDict({"gain": nn.Parameter(torch.ones(shape)),
                                       "offset": nn.Parameter(torch.zeros(shape))})

    @property
    def channels(self) -> int:
        return self.sizes.bands_in + 2 * self.sizes.bands_out

    def load_solution(self, gain: Tensor, offset: Tensor) -> None:
        """Takes gains and offsets (C,rows,cols) at the nodes."""
        with torch.no_grad():
            self.level["gain"].copy_(gain)
            self.level["offset"].copy_(offset)

    def forward(self, image: Tensor, time: Tensor, style: Tensor | None) -> Tensor:
        with torch.autocast(image.device.type, enabled=False):
            pixels, x, y = image[:, :-2], image[:, -2], image[:, -1]
            place = torch.stack([x, -y], 3)  # rows count from the top, map_y from the bottom
            nodes = torch.cat([self.level["gain"], self.level["offset"]]).to(image.dtype)
            here = F.grid_sample(nodes.expand(len(image), -1, -1, -1), place, "bilinear", "border", align_corners=True)
            gain, offset = here.chunk(2, 1)
            return torch.addcmul(offset, gain, pixels)
