"""The job of translating a raster: any of its rows, always with the same bits.

    RasterSource.rows() -> normalise -> fill -> stages -> denormalise -> the output's rows
"""

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .bands import keep_off_nodata, to_dtype
from .delivery import Output
from .device import choose_device, one_thread_each, worker_count
from .errors import DeviceError
from .fill import RADIUS_PX, fill
from .needs import Needs, disk_bytes, writing_bytes
from .output import describe_output, describe_uncertainty, stored
from .plan import MATCHING, Options, Plan
from .raster import Rows, absolute
from .spec import OutputSpec
from .stream import Part, RowBand
from .warp import StreamedRaster, WarpedSource


@dataclass(frozen=True)
class Translation:
    """A planned translation with its outputs."""

    plan: Plan
    options: Options
    destination: Path
    uncertainty: Path | None = None

    @cached_property
    def outputs(self) -> tuple[Output, ...]:
        spec = self._translated_spec
        if self.options.restore_grid:
            spec = replace(spec, grid=self.plan.raster.raster.grid)
        spread = [Output(self.uncertainty, describe_uncertainty(spec))] if self.uncertainty else []
        return Output(self.destination, spec), *spread

    @cached_property
    def _translated_spec(self) -> OutputSpec:
        return describe_output(self.plan.raster, self.plan.model.manifest, self.plan.window, self.options)

    @cached_property
    def facts(self) -> dict[str, Any]:
        from .. import __version__

        plan, options, manifest = self.plan, self.options, self.plan.model.manifest
        original = plan.raster.raster if options.match_grid else plan.raster
        window = plan.window
        return {
            "input": absolute(original.path), "files": original.stamps(), "bands": original.indexes,
            "model": f"{manifest.name} {manifest.version}",
            "manifest": hashlib.sha256(manifest.model_dump_json().encode()).hexdigest()[:16],
            "weights": (manifest.weights_sha256 or "none")[:16],
            "rows": [window.row, window.height], "columns": [window.col, window.width],
            "matched grid": options.match_grid, "restored grid": options.restore_grid,
            "tile": plan.tiling.tile, "overlap": plan.tiling.overlap, "batch": options.batch,
            "precision": options.precision, "device": choose_device(options.device).type,
            "seed": options.seed, "samples": options.samples, "uncertainty": bool(self.uncertainty),
            "geoi2i": __version__, "torch": torch.__version__}

    @cached_property
    def needs(self) -> Needs:
        """Each stage holds a tile row with its margins (input, strip and pending rows); each worker holds the widest
        activations of one batch."""
        plan, options, manifest = self.plan, self.options, self.plan.model.manifest
        specs = tuple(output.spec for output in self.outputs)
        tiling, width = plan.tiling, plan.read.width
        down, across = tiling.spans(plan.read.height)[0].length, tiling.spans(width)[0].length
        channels = max(len(manifest.bands_in), len(manifest.bands_out))
        rows = (5 * down + 6 * tiling.lattice_margin) * len(manifest.table.steps) * options.samples
        depth = manifest.network.sizes.get("width", 64) if manifest.network else channels
        window = (max(down, across) + 2 * tiling.lattice_margin) ** 2
        workers = worker_count(choose_device(options.device))
        original = plan.raster.raster if options.match_grid else plan.raster
        reading = original.reading_bytes(width)
        return Needs(4 * channels * width * rows * (manifest.network is not None) + reading + writing_bytes(specs),
                     4 * window * depth * 6 * options.batch * workers,
                     *disk_bytes(specs, original.compressed()))

    def rows(self, part: Part, done: Callable[[float], None]) -> Iterator[tuple[Rows, ...]]:
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
        for band, states in self._bands(part, done):
            mask = None if band.mask is None else band.mask.cpu().numpy()
            values = self.plan.radiometry.to_stored(states)
            yield tuple(Rows(band.row, *stored(to_dtype(value, spec.dtype, spec.nodata), mask, spec))
                        for value, spec in zip(values, specs))

    def _bands(self, part: Part, done: Callable[[float], None]) -> Iterator[tuple[RowBand, list[Tensor]]]:
        """Rows of the window that is written and, for each pass, their state (C,h,W) in the network's range."""
        plan, options = self.plan, self.options
        height, width = plan.read.height, plan.read.width
        device = choose_device(options.device)
        translator = plan.model.translator(device, options.precision, plan.tiling)
        top = plan.window.row - plan.read.row
        inside = part[0] + top, part[1] + top
        needed = translator.rows_read(height, width, options.batch, inside)
        networked = plan.model.manifest.network is not None
        reach = RADIUS_PX if networked else 0
        needed = max(0, needed[0] - reach), min(height, needed[1] + reach)
        bands = read_normalised(plan, device, needed)
        if networked:
            bands = fill(bands, needed, plan.radiometry.fill.to(device))
        work = _Work(options.samples * translator.windows(height, width, options.batch, inside), done)
        workers = worker_count(device)
        with ThreadPoolExecutor(workers, initializer=one_thread_each) as pool:
            chains = [translator.translate(copy, height, width, seed=options.seed, sample=sample,
                                           origin=(plan.read.row, plan.read.col), batch=options.batch,
                                           workers=pool if workers > 1 else None, part=inside, windows_done=work.add)
                      for sample, copy in enumerate(_shared(bands, options.samples))]
            for passes in zip(*chains):
                cut = [_inside(band, plan, part) for band in passes]
                if cut[0] is not None:
                    yield cut[0], [band.state for band in cut]
                    if not work.all:
                        done((cut[0].row + cut[0].height - part[0]) / (part[1] - part[0]))


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
        pixels = plan.radiometry.from_stored(_to_device(rows.pixels, device))
        mask = None
        if rows.mask is not None and not rows.mask.all():
            mask = _to_device(rows.mask, device)
            # A network mixes bands: where one has no data, no output band has.
            mask = mask.amin(0, keepdim=True) if mixes else mask
        elif rows.mask is not None and plan.raster.mask_kind == "alpha":
            mask = _to_device(rows.mask, device)
        yield RowBand(rows.row, pixels, mask=mask)


def _to_device(array, device: torch.device) -> Tensor:
    if array.dtype.kind in "iu" and array.itemsize > 2:
        array = array.astype("float32")
    elif array.dtype == "uint16":  # few torch operations know it: half the bytes to a GPU, floats on a CPU
        return (torch.from_numpy(array).to(device).to(torch.int32) if device.type != "cpu"
                else torch.from_numpy(array.astype("float32")))
    return torch.from_numpy(array).to(device)


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


def _inside(band: RowBand, plan: Plan, part: Part) -> RowBand | None:
    """What of a row band is wanted, with rows counted from the output's first."""
    top, left = plan.window.row - plan.read.row, plan.window.col - plan.read.col
    start, stop = max(band.row, top + part[0]), min(band.row + band.height, top + part[1])
    if start >= stop:
        return None
    band = band.rows(start, stop)
    cols = slice(left, left + plan.window.width)
    mask = None if band.mask is None else band.mask[:, :, cols]
    return replace(band, row=start - top, state=band.state[:, :, cols], mask=mask)
