"""Stages over row bands: a stage maps a stream of row bands to a stream, holding back only its context.

One stage takes windows of its input with real context around them, lets a function predict each, blends
the overlaps, and updates the state once per pixel. A chain of stages is a chain of generators: pulling
rows out of the last one pulls rows through all of them, so memory does not depend on the height.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from ..grid import Window
from ..raster.rows import Wanted
from ..staging import upload
from .blend import join_columns, join_rows, ramp
from .tiles import Span, Tiling

Part = tuple[int, int]
"""First row and one past the last."""


@dataclass(frozen=True)
class RowBand:
    """Some rows of the stream, full width, on the compute device."""

    row: int
    state: Tensor
    """(C,h,W) float32, in the network's range."""
    source: Tensor | None = None
    """(C,h,W), the source image that later steps still need; None where none does."""
    previous: Tensor | None = None
    """(C,h,W), the last step's `x_hat`."""
    aux: Tensor | None = None
    """(A,h,W), what a network said besides, at the step that is asked."""
    mask: Tensor | None = None
    """(1 or C,h,W), 0 where there is no data, and behind it what goes along with it, such as alpha bands; None where
    every pixel is valid."""

    @property
    def height(self) -> int:
        return self.state.shape[1]

    def rows(self, start: int, stop: int) -> "RowBand":
        """Rows start..stop (raster rows) of this band."""
        part = slice(start - self.row, stop - self.row)
        return RowBand(start, *(None if t is None else t[:, part] for t in self._tensors()))

    def _tensors(self) -> tuple[Tensor | None, ...]:
        return self.state, self.source, self.previous, self.aux, self.mask


Predict = Callable[[Tensor, Tensor | None], Tensor]
"""Windows of the state (N,C,h,w) and of the source -> the prediction of the same windows, scaled."""

Update = Callable[[RowBand, Tensor], RowBand]
"""Rows that are final and their blended prediction (C,h,W) -> the rows that leave the stage."""


def concatenate(bands: list[RowBand]) -> RowBand:
    """Consecutive bands as one."""
    if len(bands) == 1:
        return bands[0]
    columns = zip(*(band._tensors() for band in bands))
    masks = [band.mask for band in bands]
    state, source, previous, aux = (None if column[0] is None else torch.cat(column, 1)
                                    for column in list(columns)[:-1])
    return RowBand(bands[0].row, state, source, previous, aux, _join_masks(masks, bands))


def _join_masks(masks: list[Tensor | None], bands: list[RowBand]) -> Tensor | None:
    if all(mask is None for mask in masks):
        return None
    depth = max(mask.shape[0] for mask in masks if mask is not None)
    known = next(mask for mask in masks if mask is not None)
    full = [known.new_full((depth, band.height, band.state.shape[2]), 255) if mask is None
            else mask.expand(depth, -1, -1) for mask, band in zip(masks, bands)]
    return torch.cat(full, 1)


class RowBuffer:
    """Rows of a stream that are still needed; pulls more when asked, forgets on demand."""

    def __init__(self, bands: Iterator[RowBand]):
        self.bands = bands
        self.held: RowBand | None = None

    def upto(self, stop: int) -> RowBand:
        """The held rows, pulled until row `stop` (exclusive) is there."""
        parts = [] if self.held is None else [self.held]
        reached = parts[0].row + parts[0].height if parts else 0
        while reached < stop:
            band = next(self.bands)
            parts.append(band)
            reached = band.row + band.height
        self.held = whole = concatenate(parts)
        return whole

    def forget(self, before: int) -> None:
        if self.held is not None and before > self.held.row:
            # A copy: a slice would keep the memory of the rows it no longer shows.
            kept = self.held.rows(before, self.held.row + self.held.height)
            self.held = RowBand(kept.row, *(None if t is None else t.clone() for t in kept._tensors()))


@dataclass(frozen=True)
class Stage:
    """What one stage does to every window and to every row."""

    predict: Predict
    update: Update
    tiling: Tiling
    scale: Fraction = Fraction(1)
    """Output pixels per input pixel along one axis."""
    channels: int | None = None
    """Of a prediction; None: as many as the state has."""

    def made(self, row: Span, col: Span) -> Window:
        """What a window makes of the output."""
        edges = [int(edge * self.scale) for edge in (row.start, row.stop, col.start, col.stop)]
        return Window(edges[0], edges[2], edges[1] - edges[0], edges[3] - edges[2])


def run_stage(stage: Stage, bands: Iterator[RowBand], height: int, width: int, batch: int = 1,
              workers: ThreadPoolExecutor | None = None, part: Part | None = None,
              windows_done: Callable[[int], None] | None = None, wanted: Wanted | None = None) -> Iterator[RowBand]:
    """Applies a stage to a stream of `height` rows of `width` columns.

    Windows of a tile row (of several, where one row does not fill the batch) are predicted in batches,
    by `workers` side by side if given; results are joined in window order, so that neither the workers
    nor the batch change the result beyond the network's own rounding.

    Args:
        part: the rows of the input's grid to cover; by default all. `bands` then begin where
            `rows_read` says or before. The same windows in the same batches as for all rows make
            these rows, so on a CPU their bits are the same.
        windows_done: called with how many windows were predicted just now, or passed over.
        wanted: which of the output's pixels are of use; None: all. A batch is predicted if one of its windows makes any
            of them, and those pixels have the same bits as without it; zeros stand for the predictions of others.
    """
    tiling, part = stage.tiling, part or (0, height)
    rows, cols = tiling.spans(height), tiling.spans(width)
    following = [span.start for span in rows[1:]] + [height]
    needs = [_needed(span, tiling.lattice_margin, height) for span in rows]
    # Reflection at the bottom makes late windows reach back up, hence the minimum over all that follow.
    still_needed = np.minimum.accumulate([first for first, _ in needs][::-1])[::-1]
    buffer, joiner = RowBuffer(bands), _Joiner(stage, cols, width)
    for group in _tile_rows(tiling, rows, len(cols), batch, part):
        held = buffer.upto(max(needs[k][1] for k in group))
        spans = [rows[k] for k in group]
        strips = _predict(stage, held, spans, cols, height, width, batch, workers, joiner, windows_done, wanted)
        for k, strip in zip(group, strips):
            final = joiner.finish(strip, rows[k], following[k], height)
            if following[k] > part[0]:
                yield stage.update(_scaled(held.rows(rows[k].start, following[k]), stage.scale), final)
        if group[-1] + 1 < len(rows):
            buffer.forget(int(still_needed[group[-1] + 1]))


def rows_read(tiling: Tiling, height: int, width: int, batch: int, part: Part) -> Part:
    """The rows of its input that a stage reads to cover `part` of the same grid as it would cover the whole."""
    rows = tiling.spans(height)
    needs = [_needed(rows[k], tiling.lattice_margin, height)
             for group in _tile_rows(tiling, rows, len(tiling.spans(width)), batch, part) for k in group]
    return min(first for first, _ in needs), max(stop for _, stop in needs)


def wanted_of_input(stage: Stage, height: int, width: int, wanted: Wanted) -> Wanted:
    """Which pixels of its input, of `height` rows of `width` columns, a stage needs for those that are wanted of its
    output: all that the windows see which make any of them."""
    rows, cols = stage.tiling.spans(height), stage.tiling.spans(width)
    reach = [np.array([_needed(span, stage.tiling.lattice_margin, size) for span in spans])
             for spans, size in ((rows, height), (cols, width))]
    makes_any = cache(lambda row, col: wanted(stage.made(rows[row], cols[col])))

    def needed(window: Window) -> bool:
        down, across = (np.flatnonzero((seen[:, 0] < start + size) & (seen[:, 1] > start)) for seen, start, size in (
            (reach[0], window.row, window.height), (reach[1], window.col, window.width)))
        return any(makes_any(row, col) for row in down for col in across)

    return needed


def count_windows(tiling: Tiling, height: int, width: int, batch: int, part: Part) -> int:
    """How many windows a stage predicts to cover `part`."""
    across = len(tiling.spans(width))
    return sum(len(group) for group in _tile_rows(tiling, tiling.spans(height), across, batch, part)) * across


def _tile_rows(tiling: Tiling, rows: list[Span], across: int, batch: int, part: Part) -> list[range]:
    """The tile rows behind `part`, in the groups that share batches, which are counted from the first of all."""
    starts = [span.start for span in rows]
    size = max(1, batch // across)
    # The head of a tile row is blended with the tail of the one above it.
    first = max(0, bisect_right(starts, part[0]) - 1 - (tiling.lattice_overlap > 0))
    stop = bisect_left(starts, part[1])
    return [range(k, min(k + size, len(rows))) for k in range(first // size * size, stop, size)]


def run_pointwise(stage: Stage, bands: Iterator[RowBand]) -> Iterator[RowBand]:
    """Applies a stage whose prediction of a pixel depends on that pixel alone: no windows are needed."""
    for band in bands:
        source = None if band.source is None else band.source[None]
        yield stage.update(band, stage.predict(band.state[None], source)[0])


class _Joiner:
    """Joins the predictions of windows into rows: columns within a tile row, then tile rows."""

    def __init__(self, stage: Stage, cols: list[Span], width: int):
        self.scale, self.cols, self.width = stage.scale, cols, int(width * stage.scale)
        self.overlap = int(stage.tiling.lattice_overlap * stage.scale)
        self.pending: Tensor | None = None
        self.weight: Tensor | None = None

    def begin(self) -> None:
        self.strip, self.joined, self.index = None, 0, 0

    def add(self, window: Tensor) -> None:
        """The next window of the tile row, left to right."""
        if self.weight is None:
            self.weight = ramp(self.overlap, window.device)
        if self.strip is None:
            self.strip = window.new_empty(window.shape[0], window.shape[1], self.width)
        col = int(self.cols[self.index].start * self.scale)
        self.joined = join_columns(self.strip, window, col, self.joined, self.weight)
        self.index += 1

    def finish(self, strip: Tensor, span: Span, following: int, height: int) -> Tensor:
        """Rows span.start..following of the prediction; the rest waits for the next tile row."""
        strip = join_rows(self.pending, strip, self.weight)
        final = int((following - span.start) * self.scale)
        end = int((span.stop - span.start) * self.scale)
        self.pending = strip[:, final:end].clone() if following < height else None
        return strip[:, :final]


def _predict(stage, held, group, cols, height, width, batch, workers, joiner, windows_done, wanted
             ) -> Iterator[Tensor]:
    """The predicted strips of a group of tile rows, one after the other."""
    margin = stage.tiling.lattice_margin
    left, right = cols[0].start - margin, cols[-1].start + cols[-1].length + margin
    columns = reflect(left, right, width)
    strips = [_context(held, span, margin, height, columns) for span in group]
    places = [(k, span) for k in range(len(group)) for span in cols]

    def work(part: list[tuple[int, Span]], useful: bool) -> Tensor:
        if not useful:
            shape = (int(span.length * stage.scale) for span in (group[0], cols[0]))
            channels = stage.channels or held.state.shape[0]
            return held.state.new_zeros(()).expand(len(part), channels, *shape)
        with torch.inference_mode():
            windows = [_window(strips[k], span, margin) for k, span in part]
            state = torch.stack([w[0] for w in windows])
            source = None if windows[0][1] is None else torch.stack([w[1] for w in windows])
            out = stage.predict(state, source)
            edge = int(margin * stage.scale)
            return out[:, :, edge : out.shape[2] - edge, edge : out.shape[3] - edge]

    parts = list(_grouped(places, batch))
    useful = [wanted is None or any(wanted(stage.made(group[k], span)) for k, span in part) for part in parts]
    results = workers.map(work, parts, useful) if workers else map(work, parts, useful)
    joiner.begin()
    for part, result in zip(parts, results):
        if windows_done:
            windows_done(len(part))
        for (_, span), window in zip(part, result):
            joiner.add(window)
            if span is cols[-1]:
                yield joiner.strip
                joiner.begin()


def reflect(start: int, stop: int, size: int) -> np.ndarray:
    """Indices into [0, size) for positions start..stop, mirrored at the border without repeating it."""
    period = max(2 * (size - 1), 1)
    index = np.abs(np.arange(start, stop)) % period
    return np.where(index >= size, period - index, index)


def _context(held: RowBand, span: Span, margin: int, height: int, columns: np.ndarray):
    """State and source of one tile row with its margins, reflected at the raster's border."""
    rows = reflect(span.start - margin, span.start + span.length + margin, height) - held.row
    return tuple(None if t is None else _take(_take(t, rows, 1), columns, 2) for t in (held.state, held.source))


def _take(tensor: Tensor, index: np.ndarray, axis: int) -> Tensor:
    """Rows or columns by index; what is consecutive is copied as one piece, or not at all where all of it is."""
    edges = [0, *(np.flatnonzero(np.diff(index) != 1) + 1), index.size]
    start, stop = max(zip(edges, edges[1:]), key=lambda run: run[1] - run[0])
    inner = tensor.narrow(axis, int(index[start]), int(stop - start))
    outer = [tensor.index_select(axis, upload(part, tensor.device)) if part.size else None
             for part in (index[:start], index[stop:])]
    parts = [part for part in (outer[0], inner, outer[1]) if part is not None]
    return parts[0] if len(parts) == 1 else torch.cat(parts, axis)


def _window(strips, span: Span, margin: int):
    part = slice(span.start, span.start + span.length + 2 * margin)
    return tuple(None if t is None else t[:, :, part] for t in strips)


def _needed(span: Span, margin: int, height: int) -> tuple[int, int]:
    """First and one past the last raster row that a tile row reads, after reflection."""
    index = reflect(span.start - margin, span.start + span.length + margin, height)
    return int(min(index.min(), span.start)), int(max(index.max() + 1, span.stop))


def _scaled(band: RowBand, scale: Fraction) -> RowBand:
    """The band's place and mask on the output's grid; state and source stay behind where it differs."""
    if scale == 1:
        return band
    mask = band.mask
    if mask is not None:
        for axis in (1, 2):
            size = int(mask.shape[axis] * scale)
            index = ((torch.arange(size, device=mask.device) + 0.5) / float(scale)).long()
            mask = mask.index_select(axis, index)
    return RowBand(int(band.row * scale), band.state, mask=mask)


def _grouped(items, size: int):
    iterator = iter(items)
    while group := list(islice(iterator, size)):
        yield group
