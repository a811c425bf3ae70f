"""The job of translating a raster: any of its rows, always with the same bits.

    passes -> denormalise -> back-projection and the input's grid, where they are wanted -> the output's rows
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from affine import Affine
from torch import Tensor

from ..errors import DeviceError
from ..files import Folder
from ..grid import Grid, Window
from ..inference.back_projection import Values, held
from ..inference.stream import Part
from ..nodata import keep_off_nodata
from ..output.execute import Output
from ..output.needs import Needs
from ..output.profile import OutputSpec
from ..output.strips import Strips
from ..raster.rows import Raster, Rows, Wanted
from ..reproject.warped_raster import StreamedRaster, WarpedSource
from ..rounding import finished, rounded
from ..staging import asked_late, download
from .estimates import estimate_needs, fingerprint, plan_segments
from .outputs import alpha_as, copied, describe_confidence, describe_output, describe_uncertainty, stored
from .passes import SegmentInput, measure_norms, run_passes, validity, whole_input
from .plan import MATCHING, Plan
from .radiometry import to_device
from .segments import Segment, Spilled, spill

_RESTORED_PX = 4  # that the kernel of `MATCHING` reaches, at most
_ROUNDING_PX = 1e-6


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
    wanted: Wanted | None = None
    """Which pixels of the outputs are of use; None: all."""

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
        return self.spills.strips if self.spills else None

    @property
    def work(self) -> int:
        return self.input.segment.work if self.input else 1

    def rows(self, part: Part, done: Callable[[float], None]) -> Iterator[tuple[Rows, ...]]:
        if self.spills:
            for band, moments in run_passes(self.plan, self._input, part, done, bool(self.uncertainty)):
                yield Rows(band.row, self.spills.pack(moments, band).cpu().numpy(), None),
        elif self.plan.copies:
            yield from _unchanged(self.plan, self.outputs[0].spec, part, done)
        elif self.plan.options.restore_grid:
            yield from self._restored(part, done)
        else:
            for made in self._translated(part, done):
                yield tuple(stored(rows, output.spec) for rows, output in zip(made, self.outputs))

    def _restored(self, part: Part, done: Callable[[float], None]) -> Iterator[tuple[Rows, ...]]:
        """Rows of the translation, resampled back to the input's pixels."""
        wanted, given = self.outputs[0].spec, self._translated_spec
        streamed = _streamed(given)
        needed = WarpedSource(streamed, wanted.grid, MATCHING).rows_read(part)  # type: ignore[arg-type]
        streamed = replace(streamed, stream=(rows for rows, in self._translated(needed, done)))
        for rows in WarpedSource(streamed, wanted.grid, MATCHING, wanted=self.wanted).rows(part=part):  # type: ignore[arg-type]
            keep_off_nodata(rows.pixels, wanted.nodata)
            yield stored(rows, wanted),

    def _translated(self, part: Part, done: Callable[[float], None]) -> Iterator[tuple[Rows, ...]]:
        """Rows of the translation in the outputs' dtypes, counted from its first; with their standard deviation where
        it is wanted."""
        specs = self._translated_spec, *(output.spec for output in self.outputs[1:])
        values = self._held(part, done) if self.plan.options.back_project else self._values(part, done)
        begun = (_coming(self.plan.raster, specs, *rows) for rows in values)
        # On a GPU the next rows are under way when these are asked for.
        yield from asked_late(begun, int(self.plan.device.type == "cuda"))

    def _values(self, part: Part, done: Callable[[float], None]) -> Iterator[Values]:
        """Rows of the translation, unrounded: stored numbers, with their standard deviation where it is wanted."""
        top, left = self.plan.window.row - self.plan.read.row, self.plan.window.col - self.plan.read.col
        cols = slice(left, left + self.plan.window.width)
        part = part[0] + top, part[1] + top
        for band, moments in run_passes(self.plan, self._input, part, done, bool(self.uncertainty)):
            made, besides = moments.columns(cols).split(len(self._translated_spec.values))  # type: ignore[union-attr]
            values = *self.plan.radiometry.to_stored(made), besides.mean if self.confidence else None
            yield (band.row - top, None if band.mask is None else band.mask[:, :, cols],
                   [value for value in values if value is not None])

    def _held(self, part: Part, done: Callable[[float], None]) -> Iterator[Values]:
        """As `_values`, held to the input."""
        times, window, raster = self.plan.model.manifest.scale.numerator, self.plan.window, self.plan.raster.raster  # type: ignore[attr-defined]
        device, bands = self.plan.device, self._translated_spec.at(self._translated_spec.values)

        def averages(start: int, stop: int) -> tuple[Tensor, Tensor]:
            rows = raster.read(Window(window.row // times + start, window.col // times, stop - start,
                                      window.width // times))
            pixels = to_device(rows.pixels, device).float()
            wanted = [(pixels[k] * ours.scale + ours.offset - theirs.offset) / theirs.scale
                      for k, (ours, theirs) in enumerate(zip(raster.bands, bands))]
            known = np.ones((1, 1, 1), bool) if rows.mask is None else rows.mask != 0
            return torch.stack(wanted), torch.from_numpy(known).to(device)

        whole = part[0] // times * times, min(-(-part[1] // times) * times, window.height)
        return held(self._values(whole, done), part, times, averages)

    def only(self, wanted: Wanted) -> "Translation":
        """The same job for whoever takes only some pixels of its outputs: windows that make none are not computed."""
        needed = _needed_by(self.plan, self.outputs[0].spec.grid, wanted)
        return replace(self, plan=replace(self.plan, wanted=needed), wanted=wanted)

    def smaller(self) -> "Translation":
        """Half the batch, then half the tile where the model allows it."""
        plan = self.plan
        if plan.batch > 1:
            compute = replace(plan.compute, batch=plan.batch // 2)
            return replace(self, plan=replace(plan, compute=compute))
        half = plan.tiling.tile // 2
        smallest = max(plan.tiling.multiple, 2 * plan.tiling.lattice_overlap, 32)
        if plan.tiling.fixed or half < smallest:
            raise DeviceError(f"The device has too little memory for one window of {plan.tiling.tile} pixels: free "
                              "some, or use --device cpu.")
        return replace(self, plan=replace(plan, tiling=replace(plan.tiling, tile=half)))

    def conclude(self, valid: int, undefined: int) -> str | None:
        return None if valid else f"{self.plan.raster.path} has no valid pixel there, so the output has none either."

    def __str__(self) -> str:
        return f"batch {self.plan.compute.batch} and tile {self.plan.tiling.tile}"


def _unchanged(plan: Plan, spec: OutputSpec, part: Part, done: Callable[[float], None]) -> Iterator[tuple[Rows]]:
    """Rows of the input as they are written where nothing is computed."""
    for rows in plan.raster.rows(plan.window, part):
        yield stored(rows, spec) if plan.turned else copied(rows, plan.raster, spec),
        done(min(1.0, (rows.row + rows.height - part[0]) / (part[1] - part[0])))


def _streamed(spec: OutputSpec) -> StreamedRaster:
    """An output as a raster whose rows are yet to come."""
    return StreamedRaster(spec.grid, spec.at(spec.values), spec.dtype, spec.mask_kinds, iter(()), spec.at(spec.alphas))


def _needed_by(plan: Plan, outputs: Grid, wanted: Wanted) -> Wanted:
    """What is of use of a plan's raster for what is wanted of its outputs."""
    block = plan.model.manifest.scale.numerator if plan.options.back_project else 0
    reach = _RESTORED_PX if plan.options.restore_grid else block
    return partial(_needed, wanted, ~outputs.transform @ plan.raster.grid.transform, reach)


def _needed(wanted: Wanted, to_output: Affine, reach: int, window: Window) -> bool:
    """Whether a window of the raster has anything to do with wanted pixels of the output.

    Args:
        to_output: from the raster's pixels to the output's, on level rows.
        reach: pixels of either, whichever are wider, from which one of the output is made.
    """
    corners = [to_output * (window.col - reach, window.row - reach),
               to_output * (window.col + window.width + reach, window.row + window.height + reach)]
    (left, right), (top, bottom) = (sorted(values) for values in zip(*corners))
    left, top = (math.floor(value + _ROUNDING_PX) - reach for value in (left, top))
    right, bottom = (math.ceil(value - _ROUNDING_PX) + reach for value in (right, bottom))
    return wanted(Window(top, left, bottom - top, right - left))


def _coming(raster: Raster, specs: tuple[OutputSpec, ...], row: int, mask: Tensor | None, values: list[Tensor]
            ) -> Callable[[], tuple[Rows, ...]]:
    """Begins to bring numbers (C,h,W) and their mask from the device; what is returned gives the rows of each output.
    """
    shown = None if mask is None else download(mask)
    numbers = [download(rounded(value, spec.dtype)) for value, spec in zip(values, specs)]

    def rows() -> tuple[Rows, ...]:
        known, alpha = validity(shown and shown(), raster)
        alpha = alpha_as(alpha, raster.dtype, specs[0].dtype)
        return tuple(Rows(row, finished(number(), spec.dtype, spec.nodata), known, alpha=alpha)
                     for number, spec in zip(numbers, specs))

    return rows
