"""The way from a raster's physical values to the network's range, as a manifest or a recipe describes it."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..raster.bands import Statistics

Value = Annotated[float, Field(ge=-1e30, le=1e30)]
"""A physical value; so far inside float32 that differences stay finite."""


@dataclass(frozen=True)
class BandAffine:
    """Per-band affine map: normalised = physical * gain + bias, as float64."""

    gain: tuple[float, ...]
    bias: tuple[float, ...]


@dataclass(frozen=True)
class BandMix:
    """Affine map across bands: normalised[k] = sum of matrix[k][j] * physical[j], + bias[k]."""

    gain: tuple[tuple[float, ...], ...]
    """(C',C)."""
    bias: tuple[float, ...]


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
        return _from_ranges(self.minimum, self.maximum)


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
        return BandAffine(tuple(1 / std for std in self.std),
                          tuple(-mean / std for mean, std in zip(self.mean, self.std)))


class MatrixNormaliser(_Normaliser):
    """matrix @ x + bias over the bands of a pixel, the same for every raster; for what goes in only.

    A training whose start is a closed form across bands, optimal transport say, puts it here.
    """

    kind: Literal["matrix"] = "matrix"
    matrix: Annotated[tuple[Annotated[tuple[Value, ...], Field(min_length=1, max_length=64)], ...],
                      Field(min_length=1, max_length=64)]
    bias: Annotated[tuple[Value, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _square(self) -> "MatrixNormaliser":
        if {len(row) for row in self.matrix} != {len(self.matrix)} or len(self.bias) != len(self.matrix):
            raise ValueError("matrix must be square, with as many rows as bias has values")
        return self

    def resolve(self, statistics: Statistics | None) -> BandMix:
        return BandMix(self.matrix, self.bias)


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
        return _from_ranges(*(statistics.percentiles[q] for q in (self.low, self.high)))  # type: ignore[union-attr]


Normaliser = Annotated[
    NoNormaliser | RangeNormaliser | MeanStdNormaliser | PercentileNormaliser | MatrixNormaliser,
    Field(discriminator="kind")
]
OutwardNormaliser = Annotated[
    NoNormaliser | RangeNormaliser | MeanStdNormaliser | PercentileNormaliser, Field(discriminator="kind")
]


def _from_ranges(minimum: tuple[float, ...], maximum: tuple[float, ...]) -> BandAffine:
    spans = [high - low if high > low else 1.0 for low, high in zip(minimum, maximum)]
    return BandAffine(tuple(2 / span for span in spans),
                      tuple(-1 - 2 * low / span for low, span in zip(minimum, spans)))
