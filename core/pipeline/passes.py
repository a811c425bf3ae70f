"""The sampler's passes over a planned raster, in the network's range: any rows, always with the same bits.

    plan.raster.rows() -> normalise -> fill -> coordinates behind -> stages, for each pass -> their moments
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ..device import compiled, one_thread_each, whole_fp32, worker_count
from ..grid import Window
from ..inference.fill import RADIUS_PX, fill, fill_window
from ..inference.instance_norm import Norms, choose_windows, frozen, measure
from ..inference.stream import Part, RowBand
from ..raster.rows import Raster, Wanted
from ..reproject.coordinate_bands import coordinates_on
from .plan import Plan
from .radiometry import to_device
from .segments import Moments, Segment, Spilled


@dataclass(frozen=True)
class SegmentInput:
    """Steps and passes that are made in one go over the raster, and what they start from."""

    segment: Segment
    before: Spilled | None = None
    """What the segment before has left on the disk."""
    norms: tuple[Norms, ...] | None = None
    """For each pass, the statistics of a network that normalises over space; None: it needs none."""


def whole_input(plan: Plan) -> SegmentInput:
    """All steps of all passes in one go."""
    return SegmentInput(plan.whole, norms=measure_norms(plan, plan.whole))


def run_passes(plan: Plan, given: SegmentInput, part: Part, done: Callable[[float], None], std: bool = False
               ) -> Iterator[tuple[RowBand, Moments | None]]:
    """Rows of what is read after the steps of a segment: the last pass, and the moments of all passes that are whole.

    Args:
        part: the rows of `plan.read` that are wanted.
        done: called with the share of the work that is done, 0 to 1.
        std: whether the moments hold squared deviations too.
    """
    whole = given.segment.steps.stop == plan.whole.steps.stop
    spilled = given.before if given.segment.passes.start else None
    before = spilled.reader(plan.device) if spilled else None
    with whole_fp32():
        for passes in _chains(plan, given, part, done):
            row, moments = passes[0].row, None
            if spilled and before:
                moments = spilled.moments(before(row, row + passes[0].height))
            for band in passes if whole else ():
                moments = moments.add(band.state) if moments else Moments.first(band.state, std)
            yield passes[-1], moments


def _chains(plan: Plan, given: SegmentInput, part: Part, done: Callable[[float], None]) -> Iterator[list[RowBand]]:
    """Rows of what is read after the steps of a segment, for each of its passes."""
    options, segment, device, batch = plan.options, given.segment, plan.device, plan.batch
    height, width = plan.read.height, plan.read.width
    translator = plan.model.translator(device, options.precision, plan.tiling)
    networked = plan.model.manifest.network is not None
    if networked and plan.compute.compile:
        translator = replace(translator, network=compiled(translator.network))
    reach = RADIUS_PX if networked else 0
    needed = translator.rows_read(height, width, batch, part, segment.steps)
    needed = max(0, needed[0] - reach), min(height, needed[1] + reach)
    bands = read_normalised(plan, needed)
    if networked:
        bands = with_coordinates(plan, fill(bands, needed, plan.radiometry.fill.to(device)))
    if segment.steps.start and (spilled := given.before):
        before = spilled.reader(device)
        bands = (spilled.resume(band, before(band.row, band.row + band.height)) for band in bands)
    work = _Work(len(segment.passes) * translator.windows(height, width, batch, part, segment.steps), done)
    workers = worker_count(device)
    wanted = partial(_moved, plan.wanted, plan.read.row, plan.read.col) if plan.wanted else None
    norms = [[frozen(translator.network, each) for each in norm] for norm in given.norms] if given.norms else None
    with ThreadPoolExecutor(workers, initializer=one_thread_each) as pool:
        chains = [translator.translate(copy, height, width, seed=options.seed, sample=sample,
                                       origin=(plan.read.row, plan.read.col), batch=batch,
                                       workers=pool if workers > 1 else None, part=part, windows_done=work.add,
                                       steps=segment.steps, networks=norms[k] if norms else None, wanted=wanted)
                  for k, (sample, copy) in enumerate(zip(segment.passes, _shared(bands, len(segment.passes))))]
        for passes in zip(*chains):
            start, stop = max(passes[0].row, part[0]), min(passes[0].row + passes[0].height, part[1])
            if start < stop:
                yield [band.rows(start, stop) for band in passes]
                if not work.all:
                    done((stop - part[0]) / (part[1] - part[0]))


def read_normalised(plan: Plan, part: Part | None = None) -> Iterator[RowBand]:
    """The input's rows on the device, in the network's range, masked pixels still unfilled."""
    mixes = plan.model.manifest.network is not None
    for rows in plan.raster.rows(plan.read, part):
        pixels = plan.radiometry.from_stored(to_device(rows.pixels, plan.device))
        mask = None
        if rows.alpha is not None or (rows.mask is not None and not rows.mask.all()):
            known = np.full((1, *rows.pixels.shape[1:]), 255, np.uint8) if rows.mask is None else rows.mask
            # A network mixes bands: where one has no data, no output band has.
            mask = to_device(known.min(0, keepdims=True) if mixes else known, plan.device)
            if rows.alpha is not None:
                alpha = to_device(rows.alpha, plan.device)
                mask = torch.cat([mask.to(alpha.dtype), alpha])
        yield RowBand(rows.row, pixels, mask=mask)


def with_coordinates(plan: Plan, bands: Iterator[RowBand]) -> Iterator[RowBand]:
    """Rows of what is read with the coordinates of their pixels behind them, where the model sees those."""
    positions = _positions(plan)
    for band in bands:
        place = Window(plan.read.row + band.row, plan.read.col, band.height, plan.read.width)
        yield replace(band, state=positions(band.state, place))


def _positions(plan: Plan) -> Callable[[Tensor, Window], Tensor]:
    """Puts coordinates behind the pixels (C,h,w) of a window of the raster."""
    asked = plan.model.manifest.coordinates
    if asked is None:
        return lambda pixels, window: pixels
    positions = coordinates_on(plan.raster.grid, asked)
    return lambda pixels, window: torch.cat([pixels, to_device(positions(window), plan.device)])


def validity(both: np.ndarray | None, raster: Raster) -> tuple[np.ndarray | None, np.ndarray | None]:
    """What `read_normalised` made a mask of, after the passes: the mask (1 or C,h,w), 0 where there is no data, and the
    alpha bands (A,h,w); None where there are none."""
    if both is None:
        return None, None
    count = len(raster.alpha_bands)
    known = (both[: len(both) - count] != 0) * np.uint8(255)
    return known, both[len(both) - count :].astype(raster.dtype) if count else None


def measure_norms(plan: Plan, segment: Segment) -> tuple[Norms, ...] | None:
    """The statistics for each pass of a segment, where the network wants them."""
    manifest, device = plan.model.manifest, plan.device
    if not plan.model.normalises_over_space or plan.options.norm_statistics == "tile":
        return None
    network = plan.model.translator(device, plan.options.precision, plan.tiling).network
    size = plan.raster.grid.height, plan.raster.grid.width  # of all, so that a part has the pixels of the whole
    positions = _positions(plan)

    def source(window: Window) -> tuple[Tensor, Tensor]:
        rows = plan.raster.read(window)
        pixels = plan.radiometry.from_stored(to_device(rows.pixels, device))
        if rows.mask is None or rows.mask.all():
            return positions(pixels, window), torch.ones_like(pixels[:1])
        valid = to_device(rows.mask, device).amin(0, keepdim=True) != 0
        return positions(fill_window(pixels, valid, plan.radiometry.fill.to(device)), window), valid

    small = plan.raster.original.decimated().mask if plan.raster.mask_kinds else None
    valid = None if small is None or not small.any() else (small != 0).all(0)
    sample = choose_windows(*size, manifest.multiple_of, valid)
    with whole_fp32():
        return tuple(measure(network, manifest.table, sample, source, size, seed=plan.options.seed, number=number,
                             device=device) for number in segment.passes)


def _moved(wanted: Wanted, row: int, col: int, window: Window) -> bool:
    """What is wanted of a window that counts from a row and a column."""
    return wanted(Window(window.row + row, window.col + col, window.height, window.width))


class _Work:
    """Counts windows."""

    def __init__(self, windows: int, done: Callable[[float], None]):
        self.all, self.made, self.done = windows, 0, done

    def add(self, windows: int) -> None:
        self.made += windows
        self.done(self.made / self.all)


def _shared(bands: Iterator[RowBand], count: int) -> list[Iterator[RowBand]]:
    """`count` readers of one stream; a band is held until the last has read it (`itertools.tee` holds 57)."""
    waiting: list[deque[RowBand]] = [deque() for _ in range(count)]

    def more() -> bool:
        band = next(bands, None)
        if band is None:
            return False
        for queue in waiting:
            queue.append(band)
        return True

    def reader(mine: deque) -> Iterator[RowBand]:
        while mine or more():
            yield mine.popleft()

    return [reader(mine) for mine in waiting]
