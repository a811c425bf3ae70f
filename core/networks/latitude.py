"""Closed forms with a smooth trend in latitude: limb darkening, haze and season change colours from pole to pole."""

from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from .closed_form import Curves, CurvesSizes, LinearFilter, LinearSizes

Order = Annotated[int, Field(ge=1, le=8)]
"""Highest power of the sine of latitude."""


class LinearTrendSizes(LinearSizes):
    """Of a `LinearTrend`; `bands_in` counts the sine of latitude, which comes last."""

    order: Order = 2


class CurvesTrendSizes(BaseModel):
    """Of a `CurvesTrend`; `bands_in` counts the sine of latitude, which comes last."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bands_in: Annotated[int, Field(ge=2, le=65)]
    bands_out: Annotated[int, Field(ge=1, le=64)]
    rounds: Annotated[int, Field(ge=1, le=256)] = 1
    knots: Annotated[int, Field(ge=2, le=65_536)] = 256
    order: Order = 2

    @model_validator(mode="after")
    def _square(self) -> "CurvesTrendSizes":
        if self.bands_in != self.bands_out + 1:
            raise ValueError(f"bands_in must be bands_out and one for the latitude (got {self.bands_in} and "
                             f"{self.bands_out})")
        return self


class LinearTrend(nn.Module):
    """A linear filter plus a polynomial in the sine of latitude for each band.

    `forward(image (N,C+1,H,W), time, style) -> (N,C',H,W)`: the last band is the sine of latitude.
    """

    sizes_type: type[BaseModel] = LinearTrendSizes
    inner: tuple[type[nn.Module], type[BaseModel]] = LinearFilter, LinearSizes
    style_size, takes_time = 0, False

    def __init__(self, sizes):
        super().__init__()
        self.sizes = sizes
        kind, kind_sizes = self.inner
        # Named as the affine skip path of other networks, which is never narrowed.
        self.level = kind(kind_sizes(**sizes.model_dump(exclude={"order", "bands_in"}), bands_in=sizes.bands_in - 1))
        self.trend = nn.Parameter(torch.zeros(sizes.bands_out, sizes.order + 1))
        """(C',order + 1), of rising powers."""

    @property
    def stride(self) -> int:
        """Input sizes and window origins are multiples of this (pixels)."""
        return self.level.stride

    @property
    def radius_px(self) -> int:
        """How far from a pixel its output can be changed."""
        return self.level.radius_px

    @property
    def smallest_px(self) -> int:
        return self.level.smallest_px

    @property
    def channels(self) -> int:
        """Of the widest map of features at full size."""
        return self.level.channels + 1

    def forward(self, image: Tensor, time: Tensor, style: Tensor | None) -> Tensor:
        sine, trend = image[:, -1:], self.trend.to(image.dtype)
        total = torch.zeros_like(sine)
        for power in trend.T.flip(0):  # Horner's rule
            total = total * sine + power[:, None, None]
        return self.level(image[:, :-1], time, style) + total


class CurvesTrend(LinearTrend):
    """Monotone curves plus a polynomial in the sine of latitude for each band."""

    sizes_type = CurvesTrendSizes
    inner = Curves, CurvesSizes
