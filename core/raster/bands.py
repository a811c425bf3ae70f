"""What the numbers of a raster mean: names, units, scale and offset, and the way to the network's range."""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

Value = Annotated[float, Field(ge=-1e30, le=1e30)]
"""A physical value; so far inside float32 that differences stay finite."""


@dataclass(frozen=True)
class Band:
    """One band of a raster as stored: physical value = stored * scale + offset."""

    name: str | None
    unit: str | None = None
    scale: float = 1.0
    offset: float = 0.0
    nodata: float | None = None
    colour: str | None = None
    """Colour interpretation as GDAL names it, e.g. red, grey, undefined."""


@dataclass(frozen=True)
class Statistics:
    """What is known of a raster as a whole, per band, in physical units; from one decimated read."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    percentiles: dict[float, tuple[float, ...]]
    """The percentiles that were asked for."""
    size: tuple[int, int]
    """Height and width of the decimated read."""


class BandAffine:
    """Per-band affine map: normalised = physical * gain + bias. Exactly invertible up to rounding."""

    def __init__(self, gain, bias):
        self.gain = torch.as_tensor(gain, dtype=torch.float64)
        self.bias = torch.as_tensor(bias, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        """Physical (C,h,w) -> normalised."""
        return torch.addcmul(self._like(self.bias, x), x, self._like(self.gain, x))

    def inverse(self, y: Tensor) -> Tensor:
        """Normalised (C,h,w) -> physical."""
        return torch.addcmul(self._like(-self.bias / self.gain, y), y, self._like(1 / self.gain, y))

    @staticmethod
    def _like(values: Tensor, x: Tensor) -> Tensor:
        return values.to(x)[:, None, None]


class _Normaliser(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    def percentiles(self) -> tuple[float, ...]:
        """Those of the raster that `resolve` needs."""
        return ()


class NoNormaliser(_Normaliser):
    """Stored numbers go to the network as they are; scale and offset stay tags."""

    kind: Literal["none"] = "none"

    def resolve(self, statistics: Statistics | None) -> BandAffine | None:
        return None


class RangeNormaliser(_Normaliser):
    """[minimum, maximum] -> [-1, 1], per band, the same for every raster: keeps photometry."""

    kind: Literal["range"] = "range"
    minimum: Annotated[tuple[Value, ...], Field(min_length=1)]
    maximum: Annotated[tuple[Value, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _pairs(self) -> "RangeNormaliser":
        if len(self.minimum) != len(self.maximum) or any(a > b for a, b in zip(self.minimum, self.maximum)):
            raise ValueError("minimum and maximum must be of one length, and no minimum above its maximum")
        return self

    def resolve(self, statistics: Statistics | None) -> BandAffine:
        return _from_range(np.asarray(self.minimum), np.asarray(self.maximum))


class MeanStdNormaliser(_Normaliser):
    """(x - mean) / std, per band."""

    kind: Literal["mean_std"] = "mean_std"
    mean: Annotated[tuple[Value, ...], Field(min_length=1)]
    std: Annotated[tuple[Annotated[float, Field(ge=1e-30, le=1e30)], ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _pairs(self) -> "MeanStdNormaliser":
        if len(self.mean) != len(self.std):
            raise ValueError("mean and std must be of one length")
        return self

    def resolve(self, statistics: Statistics | None) -> BandAffine:
        std = np.asarray(self.std, dtype=np.float64)
        return BandAffine(1 / std, -np.asarray(self.mean) / std)


class PercentileNormaliser(_Normaliser):
    """The raster's own low and high percentile -> [-1, 1]; gathered once before the first window."""

    kind: Literal["percentile"] = "percentile"
    low: Annotated[float, Field(ge=0, lt=100)] = 2.0
    high: Annotated[float, Field(gt=0, le=100)] = 98.0

    @model_validator(mode="after")
    def _ordered(self) -> "PercentileNormaliser":
        if self.low >= self.high:
            raise ValueError("low must be below high")
        return self

    @property
    def percentiles(self) -> tuple[float, ...]:
        return self.low, self.high

    def resolve(self, statistics: Statistics | None) -> BandAffine:
        return _from_range(*(np.asarray(statistics.percentiles[q]) for q in (self.low, self.high)))


Normaliser = Annotated[
    NoNormaliser | RangeNormaliser | MeanStdNormaliser | PercentileNormaliser, Field(discriminator="kind")
]


def _from_range(minimum: np.ndarray, maximum: np.ndarray) -> BandAffine:
    span = np.where(maximum > minimum, maximum - minimum, 1.0)
    return BandAffine(2 / span, -1 - 2 * minimum / span)


def to_dtype(values: Tensor, dtype: str, nodata: float | None) -> np.ndarray:
    """Float values (C,h,w) as stored numbers: half-even rounding, saturation, never equal to `nodata`.

    A valid value that would equal nodata moves one step towards zero, or up from zero.
    """
    target = np.dtype(dtype)
    if target.kind == "f":
        out = values.cpu().numpy().astype(target)
        return keep_off_nodata(out, nodata)
    info = np.iinfo(target)
    if target.itemsize <= 2:
        whole = values.round().clamp_(info.min, info.max).to(getattr(torch, dtype))
        out = whole.cpu().numpy()
    else:  # float32 cannot hold the limits of 32-bit and wider integers
        exact = np.rint(values.cpu().numpy().astype(np.float64))
        out = np.where(exact >= float(info.max), info.max,
                       np.clip(exact, float(info.min), np.nextafter(float(info.max), 0)).astype(target))
    return keep_off_nodata(out.astype(target, copy=False), nodata)


def keep_off_nodata(valid: np.ndarray, nodata: float | None) -> np.ndarray:
    """Moves, in place, every value that equals `nodata` one step towards zero, or up from zero."""
    kind = valid.dtype
    if nodata is None or not np.isfinite(nodata):
        return valid
    if kind.kind == "f":
        stored = kind.type(nodata)
        valid[valid == stored] = np.nextafter(stored, kind.type(0 if nodata else 1))
    elif np.iinfo(kind).min <= nodata <= np.iinfo(kind).max and float(nodata).is_integer():
        stored = kind.type(nodata)
        valid[valid == stored] = stored - 1 if nodata > 0 else stored + 1
    return valid
