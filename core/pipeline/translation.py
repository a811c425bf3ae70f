"""The job of translating a raster: any of its rows, always with the same bits.

    RasterSource.rows() -> normalise -> fill -> stages -> denormalise -> the output's rows
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..device import choose_device, one_thread_each, worker_count
from ..errors import DeviceError
from ..files import Folder
from ..grid import Window
from ..inference.back_projection import Values, held
from ..inference.fill import RADIUS_PX, fill
from ..inference.instance_norm import Norms, frozen
from ..inference.stream import Part, RowBand
from ..output.execute import Output
from ..output.needs import Needs
from ..output.profile import OutputSpec
from ..output.strips import Strips
from ..raster.bands import keep_off_nodata, to_dtype
from ..raster.rows import Rows
from ..reproject.warped_raster import StreamedRaster, WarpedSource
from .estimates import chain_legs, estimate_needs, fingerprint, measure_norms
from .outputs import describe_confidence, describe_output, describe_uncertainty, stored
from .plan import MATCHING, Options, Plan
from .radiometry import to_device
from .segments import Left, Leg, Moments, leave


@dataclass(frozen=True)
class Translation:
    """A planned translation with its outputs."""

    plan: Plan
    options: Options
    destination: Path
    uncertainty: Path | None = None
    confidence: Path | None = None
    leg: Leg | None = None
    """The stretch of the chain that this job goes; None: all of it."""
    before: Left | None = None
    """What the leg before has left."""
    leaves: Left | None = None
    """What this one leaves for the next; None: its rows are the outputs'."""
    norms: tuple[Norms, ...] | None = None
    """For each pass of the leg, the statistics of a network that normalises over space; None: not measured yet, or
    not needed."""

    @cached_property
    def outputs(self) -> tuple[Output, ...]:
        spec = self._translated_spec
        if self.options.restore_grid:
            spec = replace(spec, grid=self.plan.raster.original.grid)
        others = (Output(path, describe(spec)) for path, describe in ((self.uncertainty, describe_uncertainty),
                                                                      (self.confidence, describe_confidence)) if path)
        return Output(self.destination, spec), *others

    @cached_property
    def _translated_spec(self) -> OutputSpec:
        return describe_output(self.plan.raster, self.plan.model.manifest, self.plan.window, self.options)

    @cached_property
    def facts(self) -> dict[str, Any]:
        return fingerprint(self.plan, self.options) | {"uncertainty": bool(self.uncertainty),
                                                       "confidence": bool(self.confidence)}

    @cached_property
    def needs(self) -> Needs:
        left = max([left.strips.spec.raw_bytes for left in self._lefts(None)], default=0)
        return estimate_needs(self.plan, self.options, tuple(output.spec for output in self.outputs), self.stretches,
                              left)

    @cached_property
    def stretches(self) -> tuple[Leg, ...]:
        """The legs that the chain is made in."""
        return chain_legs(self.plan, self.options)

    def legs(self, folder: Folder) -> tuple["Translation", ...]:
        jobs, before = [], None
        for leg, leaves in zip(self.stretches, [*self._lefts(folder), None]):
            norms = measure_norms(self.plan, self.options, leg)
            jobs.append(replace(self, leg=leg, before=before, leaves=leaves, norms=norms))
            before = leaves
        return tuple(jobs)

    def _lefts(self, folder: Folder | None) -> list[Left]:
        """What each leg but the last leaves."""
        manifest, grid = self.plan.model.manifest, self.plan.raster.grid.crop(self.plan.read)
        channels = len(manifest.bands_out) + bool(manifest.auxiliary)
        return [leave(folder, leg, grid, self.destination, manifest.table, channels, bool(self.uncertainty))
                for leg in self.stretches[:-1]]

    @property
    def _here(self) -> Leg:
        """The leg that this job goes."""
        return self.leg or Leg(range(len(self.plan.model.manifest.table.steps)), range(self.options.samples))

    @cached_property
    def _norms(self) -> tuple[Norms, ...] | None:
        return self.norms or measure_norms(self.plan, self.options, self._here)

    @property
    def strips(self) -> Strips | None:
        return self.leaves and self.leaves.strips

    @property
    def work(self) -> int:
        return self.leg.work if self.leg else 1

    def rows(self, part: Part, done: Callable[[float], None]) -> Iterator[tuple[Rows, ...]]:
        if self.leaves:
            for band, moments in self.passes(part, done):
                yield Rows(band.row, self.leaves.pack(moments, band).cpu().numpy(), None),
            return
        if not self.options.restore_grid:
            yield from self._translated(part, done)
            return
        wanted, given = self.outputs[0].spec, self._translated_spec
        kind = "alpha" if given.alpha else "mask" if given.mask else "nodata" if given.nodata is not None else "none"
        streamed = StreamedRaster(given.grid, given.bands, given.dtype, kind, iter(()))
        needed = WarpedSource(streamed, wanted.grid, MATCHING).rows_read(part)
        streamed = replace(streamed, stream=(rows for rows, in self._translated(needed, done)))
        for rows in WarpedSource(streamed, wanted.grid, MATCHING).rows(part=part):
            pixels = keep_off_nodata(rows.pixels, wanted.nodata)
            yield Rows(rows.row, *stored(pixels, rows.mask, replace(wanted, alpha_gain=1.0))),

    def smaller(self) -> "Translation":
        """Half the batch, then half the tile where the model allows it."""
        options, plan = self.options, self.plan
        if options.batch > 1:
            return replace(self, options=replace(options, batch=options.batch // 2))
        half = plan.tiling.tile // 2
        smallest = max(plan.tiling.multiple, 2 * plan.tiling.lattice_overlap, 32)
        if plan.tiling.fixed or half < smallest:
            raise DeviceError(f"The device has too little memory for one window of {plan.tiling.tile} pixels: free "
                              "some, or use --device cpu.")
        return replace(self, plan=replace(plan, tiling=replace(plan.tiling, tile=half)))

    def conclude(self, valid: int, undefined: int) -> str | None:
        return None

    def __str__(self) -> str:
        return f"batch {self.options.batch} and tile {self.plan.tiling.tile}"

    def _translated(self, part: Part, done: Callable[[float], None]) -> Iterator[tuple[Rows, ...]]:
        """Rows of the translation as they are stored, counted from its first; with their spread, where it is wanted."""
        specs = self._translated_spec, *(output.spec for output in self.outputs[1:])
        values = self._consistent(part, done) if self.options.consistent else self._values(part, done)
        for row, mask, each in values:
            mask = None if mask is None else mask.cpu().numpy()
            yield tuple(Rows(row, *stored(to_dtype(value, spec.dtype, spec.nodata), mask, spec))
                        for value, spec in zip(each, specs))

    def _values(self, part: Part, done: Callable[[float], None]) -> Iterator[Values]:
        """Rows of the translation, unrounded: stored numbers, with their spread where it is wanted."""
        top, left = self.plan.window.row - self.plan.read.row, self.plan.window.col - self.plan.read.col
        cols = slice(left, left + self.plan.window.width)
        for band, moments in self.passes((part[0] + top, part[1] + top), done):
            made, besides = moments.columns(cols).split(len(self._translated_spec.bands))
            values = *self.plan.radiometry.to_stored(made), besides.mean if self.confidence else None
            yield (band.row - top, None if band.mask is None else band.mask[:, :, cols],
                   [value for value in values if value is not None])

    def _consistent(self, part: Part, done: Callable[[float], None]) -> Iterator[Values]:
        """As `_values`, held to the input."""
        times, window, raster = self.plan.model.manifest.scale.numerator, self.plan.window, self.plan.raster.raster
        device, bands = choose_device(self.options.device), list(zip(raster.bands, self._translated_spec.bands))

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

    def passes(self, part: Part, done: Callable[[float], None]) -> Iterator[tuple[RowBand, Moments | None]]:
        """Rows of what is read after the steps of this leg: the last pass, and the moments of all that are whole."""
        leg = self._here
        whole = leg.steps.stop == len(self.plan.model.manifest.table.steps)
        before = self.before.reader(choose_device(self.options.device)) if leg.passes.start else None
        for passes in self._chains(leg, part, done):
            row, moments = passes[0].row, None
            if before:
                moments = self.before.moments(before(row, row + passes[0].height))
            for band in passes if whole else ():
                moments = moments.add(band.state) if moments else Moments.first(band.state, bool(self.uncertainty))
            yield passes[-1], moments

    def _chains(self, leg: Leg, part: Part, done: Callable[[float], None]) -> Iterator[list[RowBand]]:
        """Rows of what is read after the steps of a leg, for each of its passes, in the network's range."""
        plan, options = self.plan, self.options
        height, width = plan.read.height, plan.read.width
        device = choose_device(options.device)
        translator = plan.model.translator(device, options.precision, plan.tiling)
        norms = self._norms
        needed = translator.rows_read(height, width, options.batch, part, leg.steps)
        networked = plan.model.manifest.network is not None
        reach = RADIUS_PX if networked else 0
        needed = max(0, needed[0] - reach), min(height, needed[1] + reach)
        bands = read_normalised(plan, device, needed)
        if networked:
            bands = fill(bands, needed, plan.radiometry.fill.to(device))
        if leg.steps.start:
            before = self.before.reader(device)
            bands = (self.before.resume(band, before(band.row, band.row + band.height)) for band in bands)
        work = _Work(len(leg.passes) * translator.windows(height, width, options.batch, part, leg.steps), done)
        workers = worker_count(device)
        with ThreadPoolExecutor(workers, initializer=one_thread_each) as pool:
            chains = [translator.translate(copy, height, width, seed=options.seed, sample=sample,
                                           origin=(plan.read.row, plan.read.col), batch=options.batch,
                                           workers=pool if workers > 1 else None, part=part, windows_done=work.add,
                                           steps=leg.steps,
                                           networks=norms and [frozen(translator.network, each) for each in norms[k]])
                      for k, (sample, copy) in enumerate(zip(leg.passes, _shared(bands, len(leg.passes))))]
            for passes in zip(*chains):
                start, stop = max(passes[0].row, part[0]), min(passes[0].row + passes[0].height, part[1])
                if start < stop:
                    yield [band.rows(start, stop) for band in passes]
                    if not work.all:
                        done((stop - part[0]) / (part[1] - part[0]))


class _Work:
    """Counts windows."""

    def __init__(self, windows: int, done: Callable[[float], None]):
        self.all, self.made, self.done = windows, 0, done

    def add(self, windows: int) -> None:
        self.made += windows
        self.done(self.made / self.all)


def read_normalised(plan: Plan, device: torch.device, part: Part | None = None) -> Iterator[RowBand]:
    """The input's rows on the device, in the network's range, masked pixels still unfilled."""
    mixes = plan.model.manifest.network is not None
    for rows in plan.raster.rows(plan.read, part):
        pixels = plan.radiometry.from_stored(to_device(rows.pixels, device))
        mask = None
        if rows.mask is not None and not rows.mask.all():
            mask = to_device(rows.mask, device)
            # A network mixes bands: where one has no data, no output band has.
            mask = mask.amin(0, keepdim=True) if mixes else mask
        elif rows.mask is not None and plan.raster.mask_kind == "alpha":
            mask = to_device(rows.mask, device)
        yield RowBand(rows.row, pixels, mask=mask)


def _shared(bands: Iterator[RowBand], count: int) -> list[Iterator[RowBand]]:
    """`count` readers of one stream; a band is held until the last has read it (`itertools.tee` holds 57)."""
    waiting = [deque() for _ in range(count)]

    def more() -> bool:
        band = next(bands, None)
        for queue in waiting if band is not None else ():
            queue.append(band)
        return band is not None

    def reader(mine: deque) -> Iterator[RowBand]:
        while mine or more():
            yield mine.popleft()

    return [reader(mine) for mine in waiting]
