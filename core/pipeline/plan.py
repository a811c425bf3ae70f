"""What a run is asked to do, and what it is going to do, as records."""

import math
from dataclasses import dataclass
from typing import Literal

import torch

from ..device import choose_device
from ..errors import RasterError
from ..grid import Window
from ..inference.tiles import Tiling
from ..models.package import ModelPackage
from ..raster.bands import Statistics
from ..raster.limits import STANDARD, Limits
from ..raster.rows import Raster, Wanted
from ..reproject.warped_raster import WarpedSource
from ..reproject.warping import Warping
from .radiometry import Radiometry
from .segments import Segment

MATCHING = Warping("cubic")
"""How a raster is resampled to the model's pixels and back."""


@dataclass(frozen=True)
class Options:
    """What the pixels of a translation depend on, beside the input and the model; all of it is in the fingerprint."""

    tile: int | None = None
    """Longest window side in pixels, without margin; None: the model's."""
    overlap: int | None = None
    """Pixels that neighbouring windows share and blend; None: the model's."""
    precision: str = "auto"
    """Arithmetic of the network: one of `device.PRECISIONS`; auto is bf16 on a GPU that has it, else fp32. A plan holds
    which it is."""
    seed: int = 0
    samples: int = 1
    """Passes of a stochastic model, at least 1; the output is their mean."""
    steps: int | None = None
    """Steps of the sampler, of those that the model has; None: the model's choice."""
    match_grid: bool = False
    """Whether the input is resampled to the model's pixel size first, in the stream."""
    restore_grid: bool = False
    """Whether the result is resampled back to the input's pixels, in the stream."""
    back_project: bool = False
    """Whether a model that enlarges is held to the input: averages over its pixels are then its numbers."""
    to_db: bool = False
    """Whether the input is power, and is converted to decibels for a model that takes those."""
    input_scale: float | None = None
    """What physical values are multiplied by to be the model's; None: nothing."""
    input_range: tuple[float, float] | None = None
    """The physical values that are mapped to the ends of the model's ranges; None: no mapping."""
    norm_statistics: Literal["raster", "tile"] = "raster"
    """Whose statistics networks use that normalise over space: the raster's, or, for comparison, each window's own."""

    def __post_init__(self):
        if self.samples < 1:
            raise RasterError(f"--samples must be at least 1 (got {self.samples}).")
        if self.input_scale is not None and self.input_range is not None:
            raise RasterError("--input-scale and --input-range say the same in two ways: give one of them.")
        if self.input_scale is not None and not (self.input_scale and math.isfinite(self.input_scale)):
            raise RasterError(f"--input-scale must be a number other than 0 (got {self.input_scale:g}).")
        if self.input_range is not None and not self.input_range[0] < self.input_range[1]:
            raise RasterError("--input-range takes the lower value first: give for example 0,1.")
        if self.restore_grid and not self.match_grid:
            raise RasterError("--restore-grid needs --match-model-grid: give both or neither.")


@dataclass(frozen=True)
class Compute:
    """How a translation is computed: none of it changes pixels beyond rounding; what changes that is in the
    fingerprint."""

    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    batch: int | None = None
    """Windows that the network takes at a time, at least 1; None: one on a CPU, what fills a GPU. A plan holds how
    many."""
    compile: bool = False
    """Whether torch.compile makes the network faster, which takes a while before the first window."""
    limits: Limits = STANDARD
    """How far the input is trusted."""
    force: bool = False
    """Whether numbers are taken that are far from those that the model was trained on."""

    def __post_init__(self):
        if self.batch is not None and self.batch < 1:
            raise RasterError(f"--batch must be at least 1 (got {self.batch}).")


@dataclass(frozen=True)
class Plan:
    """What a run is asked to do, and what it is going to do, as records."""

    raster: Raster
    model: ModelPackage
    options: Options
    compute: Compute
    window: Window
    """The part of the input that is written."""
    read: Window
    """That part with the context it needs, on the stride lattice."""
    tiling: Tiling
    statistics: Statistics | None
    radiometry: Radiometry
    warnings: tuple[str, ...]
    wanted: Wanted | None = None
    """Which of the raster's pixels are of use in the result; None: all."""

    @property
    def windows(self) -> tuple[int, int]:
        """Windows down and across, for each step."""
        return len(self.tiling.spans(self.read.height)), len(self.tiling.spans(self.read.width))

    @property
    def copies(self) -> bool:
        """Whether the output has the very numbers of the input: a model without a network that changes none."""
        manifest = self.model.manifest
        return (manifest.network is None and manifest.codec is None and manifest.table.copies
                and manifest.normalise_in == manifest.normalise_out and manifest.dtype == "same"
                and self.raster.original.stored is None and (self.raster is self.raster.original or self.turned))

    @property
    def turned(self) -> bool:
        """Whether the raster is the original from another column on."""
        return isinstance(self.raster, WarpedSource) and self.raster.how.resampling == "nearest"

    @property
    def whole(self) -> Segment:
        """All steps of all passes."""
        return Segment(range(len(self.model.manifest.table.steps)), range(self.options.samples))

    @property
    def batch(self) -> int:
        """Windows at a time."""
        return self.compute.batch or 1

    @property
    def device(self) -> torch.device:
        """Where the network runs, on the machine that asks."""
        return choose_device(self.compute.device)
