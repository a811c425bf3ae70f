"""What a run is asked to do, and what it is going to do, as records."""

from dataclasses import dataclass
from typing import Literal

from ..errors import RasterError
from ..grid import Window
from ..inference.tiles import Tiling
from ..models.package import ModelPackage
from ..raster.bands import Statistics
from ..raster.security import STANDARD, Limits
from ..raster.source import RasterSource
from ..reproject.warp import Warping
from ..reproject.warped_raster import WarpedSource
from .radiometry import Radiometry

MATCHING = Warping("cubic")
"""How a raster is brought to the model's pixels and back."""


@dataclass(frozen=True)
class Options:
    """How to run; none of it but `seed` and `samples` changes the result beyond rounding."""

    tile: int | None = None
    """Longest window side in pixels, without margin; None: the model's."""
    overlap: int | None = None
    batch: int = 1
    device: str = "auto"
    precision: str = "fp32"
    seed: int = 0
    samples: int = 1
    steps: int | None = None
    """Steps of the sampler, of those that the model has; None: the model's choice."""
    overwrite: bool = False
    match_grid: bool = False
    """Whether the input is brought to the model's pixel size first, in the stream."""
    restore_grid: bool = False
    """Whether the result is brought back to the input's pixels, in the stream."""
    consistent: bool = False
    """Whether a model that enlarges is held to the input: averages over its pixels are then its numbers."""
    limits: Limits = STANDARD
    """How far the input is trusted."""
    decibels: bool = False
    """Whether the input is power, and is brought to decibels for a model that takes those."""
    norm_statistics: Literal["raster", "tile"] = "raster"
    """Whose statistics networks use that normalise over space: the raster's, or, for comparison, each window's own."""

    def __post_init__(self):
        if self.samples < 1 or self.batch < 1:
            raise RasterError(f"{self.samples} samples in batches of {self.batch} windows are no run: use --samples "
                              "and --batch of at least 1.")
        if self.restore_grid and not self.match_grid:
            raise RasterError("There is no grid to restore: --restore-grid goes with --match-model-grid.")


@dataclass(frozen=True)
class Plan:
    """What a run is asked to do, and what it is going to do, as records."""

    raster: RasterSource | WarpedSource
    model: ModelPackage
    window: Window
    """The part of the input that is written."""
    read: Window
    """That part with the context it needs, on the stride lattice."""
    tiling: Tiling
    statistics: Statistics | None
    radiometry: Radiometry
    warnings: tuple[str, ...]

    @property
    def windows(self) -> tuple[int, int]:
        """Windows down and across, for each step."""
        return len(self.tiling.spans(self.read.height)), len(self.tiling.spans(self.read.width))
