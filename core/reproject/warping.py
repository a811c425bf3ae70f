"""How a raster is reprojected."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import RasterError
from ..raster.bands import Band

RESAMPLING = ("nearest", "bilinear", "cubic", "lanczos", "average")
TILE_PX = 512
"""Side of the tiles of the target that are made side by side."""


def usual_resampling(bands: Sequence[Band]) -> str:
    """The method for bands where none is named: between two classes there is nothing."""
    return "nearest" if any(band.classes for band in bands) else "bilinear"


@dataclass(frozen=True)
class Warping:
    """How to reproject."""

    resampling: str = "bilinear"
    tolerance_px: float = 0.05
    """Largest error of a position, in source pixels."""
    antialias: bool = True
    """Whether kernels widen where the target is coarser than the source."""

    def __post_init__(self):
        if self.resampling not in RESAMPLING:
            raise RasterError(f"{self.resampling!r} is not a resampling method: choose from {', '.join(RESAMPLING)}.")
        if not self.tolerance_px > 0:
            raise RasterError(f"A tolerance of {self.tolerance_px} pixels cannot be kept: give more than 0.")
