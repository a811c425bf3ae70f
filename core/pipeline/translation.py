"""The job of translating a raster: any of its rows, always with the same bits.

    passes -> denormalise -> back-projection and the input's grid, where they are wanted -> the output's rows
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import DeviceError
from ..files import Folder
from ..grid import Window
from ..inference.back_projection import Values, held
from ..inference.stream import Part
from ..nodata import keep_off_nodata
from ..output.execute import Output
from ..output.needs import Needs
from ..output.profile import OutputSpec
from ..output.strips import Strips
from ..raster.rows import Rows
from ..reproject.warped_raster import StreamedRaster, WarpedSource
from ..rounding import to_dtype
from .estimates import estimate_needs, fingerprint, plan_segments
from .outputs import alpha_as, copied, describe_confidence, describe_output, describe_uncertainty, stored
from .passes import SegmentInput, measure_norms, run_passes, validity, whole_input
from .plan import MATCHING, Plan
from .radiometry import to_device
from .segments import Segment, Spilled, spill


@dataclass(frozen=True)
class Translation:
    """A planned translation with its outputs."""

    plan: Plan
    destination: Path
    uncertainty: Path | None = None
    confidence: Path | None = None
    input: SegmentInput | None = None
    """What this job makes of the passes; None: all of them."""
    spills: Spilled | None = None
    """What it leaves for the next segment; None: its rows are the outputs'."""

    @cached_property
    def outputs(self) -> tuple[Output, ...]:
        spec = self._translated_spec
        if self.plan.options.restore_grid:
            spec = replace(spec, grid=self.plan.raster.original.grid)
        others = (Output(path, describe(spec)) for path, describe in ((self.uncertainty, describe_uncertainty),
                                                                      (self.confidence, describe_confidence)) if path)
        return Output(self.destination, spec), *others

    @cached_property
    def _translated_spec(self) -> OutputSpec:
        return describe_output(self.plan)

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        return fingerprint(self.plan) | {"uncertainty": bool(self.uncertainty), "confidence": bool(self.confidence)}

    @cached_property
    def needs(self) -> Needs:
        left = max([left.strips.spec.raw_bytes for left in self._spilled(None)], default=0)
        return estimate_needs(self.plan, tuple(output.spec for output in self.outputs), self.segments, left)

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        """The segments that the chain is made in."""
        return plan_segments(self.plan)

    def split(self, folder: Folder) -> tuple["Translation", ...]:
        jobs, before = [], None
        for segment, spills in zip(self.segments, [*self._spilled(folder), None]):
            given = SegmentInput(segment, before, measure_norms(self.plan, segment))
            jobs.append(replace(self, input=given, spills=spills))
            before = spills
        return tuple(jobs)

    def _spilled(self, folder: Folder | None) -> list[Spilled]:
        """What each segment but the last leaves."""
        manifest, grid = self.plan.model.manifest, self.plan.raster.grid.crop(self.plan.read)
        channels = len(manifest.bands_out) + bool(manifest.auxiliary)
        return [spill(folder, segment, grid, self.destination, manifest.table, channels, bool(self.uncertainty))
                for segment in self.segments[:-1]]

    @cached_property
    def _input(self) -> SegmentInput:
        return self.input or whole_input(self.plan)

    @property
    def strips(self) -> Strips | None:
        return self.spills and self.spills.strips

    @property
    def work(self) -> int:
        return self.input.segment.work if self.input else 1

    def rows(self, part: Part, done: Callable[[float], None]) -> Iterator[tuple[Rows, ...]]:
        if self.spills:
            for band, moments in run_passes(self.plan, self._input, part, done, bool(self.uncertainty)):
                yield Rows(band.row, self.spills.pack(moments, band).cpu().numpy(), None),
        elif self.plan.copies:
            for rows in self.plan.raster.rows(self.plan.window, part):
                yield copied(rows, self.plan.raster, self.outputs[0].spec),
                done((rows.row + rows.height - part[0]) / (part[1] - part[0]))
        elif self.plan.options.restore_grid:
            yield from self._restored(part, done)
        else:
            for made in self._translated(part, done):
                yield tuple(stored(rows, output.spec) for rows, output in zip(made, self.outputs))

    def _restored(self, part: Part, done: Callable[[float], None]) -> Iterator[tuple[Rows, ...]]:
        """Rows of the translation, brought back to the input's pixels."""
        wanted, given = self.outputs[0].spec, self._translated_spec
        bands, alphas = (tuple(given.bands[k] for k in places) for places in (given.values, given.alphas))
        streamed = StreamedRaster(given.grid, bands, given.dtype, given.mask_kinds, iter(()), alphas)
        needed = WarpedSource(streamed, wanted.grid, MATCHING).rows_read(part)
        streamed = replace(streamed, stream=(rows for rows, in self._translated(needed, done)))
        for rows in WarpedSource(streamed, wanted.grid, MATCHING).rows(part=part):
            keep_off_nodata(rows.pixels, wanted.nodata)
            yield stored(rows, wanted),

    def _translated(self, part: Part, done: Callable[[float], None]) -> Iterator[tuple[Rows, ...]]:
        """Rows of the translation in the outputs' dtypes, counted from its first; with their standard deviation where
        it is wanted."""
        specs = self._translated_spec, *(output.spec for output in self.outputs[1:])
        values = self._held(part, done) if self.plan.options.back_project else self._values(part, done)
        for row, mask, each in values:
            mask, alpha = validity(mask, self.plan.raster)
            alpha = alpha_as(alpha, self.plan.raster.dtype, specs[0].dtype)
            yield tuple(Rows(row, to_dtype(value, spec.dtype, spec.nodata), mask, alpha=alpha)
                        for value, spec in zip(each, specs))

    def _values(self, part: Part, done: Callable[[float], None]) -> Iterator[Values]:
        """Rows of the translation, unrounded: stored numbers, with their standard deviation where it is wanted."""
        top, left = self.plan.window.row - self.plan.read.row, self.plan.window.col - self.plan.read.col
        cols = slice(left, left + self.plan.window.width)
        part = part[0] + top, part[1] + top
        for band, moments in run_passes(self.plan, self._input, part, done, bool(self.uncertainty)):
            made, besides = moments.columns(cols).split(len(self._translated_spec.values))
            values = *self.plan.radiometry.to_stored(made), besides.mean if self.confidence else None
            yield (band.row - top, None if band.mask is None else band.mask[:, :, cols],
                   [value for value in values if value is not None])

    def _held(self, part: Part, done: Callable[[float], None]) -> Iterator[Values]:
        """As `_values`, held to the input."""
        times, window, raster = self.plan.model.manifest.scale.numerator, self.plan.window, self.plan.raster.raster
        spec = self._translated_spec
        device, bands = self.plan.device, list(zip(raster.bands, (spec.bands[k] for k in spec.values)))

        def averages(start: int, stop: int) -> tuple[Tensor, Tensor]:
            rows = raster.read(Window(window.row // times + start, window.col // times, stop - start,
                                      window.width // times))
            pixels = to_device(rows.pixels, device).float()
            wanted = [(pixels[k] * ours.scale + ours.offset - theirs.offset) / theirs.scale
                      for k, (ours, theirs) in enumerate(bands)]
            known = np.ones((1, 1, 1), bool) if rows.mask is None else rows.mask != 0
            return torch.stack(wanted), torch.from_numpy(known).to(device)

        whole = part[0] // times * times, min(-(-part[1] // times) * times, window.height)
        return held(self._values(whole, done), part, times, averages)

    def smaller(self) -> "Translation":
        """Half the batch, then half the tile where the model allows it."""
        plan = self.plan
        if plan.compute.batch > 1:
            compute = replace(plan.compute, batch=plan.compute.batch // 2)
            return replace(self, plan=replace(plan, compute=compute))
        half = plan.tiling.tile // 2
        smallest = max(plan.tiling.multiple, 2 * plan.tiling.lattice_overlap, 32)
        if plan.tiling.fixed or half < smallest:
            raise DeviceError(f"The device has too little memory for one window of {plan.tiling.tile} pixels: free "
                              "some, or use --device cpu.")
        return replace(self, plan=replace(plan, tiling=replace(plan.tiling, tile=half)))

    def conclude(self, valid: int, undefined: int) -> str | None:
        return None

    def __str__(self) -> str:
        return f"batch {self.plan.compute.batch} and tile {self.plan.tiling.tile}"
