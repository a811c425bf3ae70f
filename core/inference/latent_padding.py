"""The ends of a chain that works on latents: a raster filled up to whole latents, and its mask brought past them."""

from collections import deque
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from .stream import RowBand, reflect


def filled_up(bands: Iterator[RowBand], height: int, width: int, factor: int) -> Iterator[RowBand]:
    """Rows of a raster with further ones, and further columns, reflected until both are multiples of `factor`."""
    columns = torch.from_numpy(reflect(0, -(-width // factor) * factor, width))
    further = -(-height // factor) * factor - height
    tail: Tensor | None = None
    for band in bands:
        state = band.state if columns.numel() == width else band.state[:, :, columns.to(band.state.device)]
        yield RowBand(band.row, state)
        if further:  # the last rows, of which enough are kept whatever the height of a band
            tail = state if tail is None else torch.cat([tail, state], 1)
            tail = tail[:, -min(tail.shape[1], 2 * factor) :].clone()
            if band.row + band.height == height:
                rows = reflect(height, height + further, height) - (height - tail.shape[1])
                yield RowBand(height, tail[:, torch.from_numpy(rows).to(tail.device)])


class MaskPast:
    """Takes the masks of rows that go into a chain, and gives them to rows that come out of it."""

    def __init__(self):
        self.waiting: deque[tuple[int, int, Tensor | None]] = deque()
        """First row, one past the last, mask."""

    def taken(self, bands: Iterator[RowBand]) -> Iterator[RowBand]:
        for band in bands:
            self.waiting.append((band.row, band.row + band.height, band.mask))
            yield replace(band, mask=None)

    def given(self, bands: Iterator[RowBand], height: int, width: int) -> Iterator[RowBand]:
        """The rows that come out, cut to the raster, with their masks."""
        for band in bands:
            stop = min(band.row + band.height, height)
            if stop > band.row:
                state = band.state[:, : stop - band.row, :width].contiguous()
                yield RowBand(band.row, state, mask=self._mask(band.row, stop, width))

    def _mask(self, start: int, stop: int, width: int) -> Tensor | None:
        while self.waiting[0][1] <= start:
            self.waiting.popleft()
        parts = [(max(0, start - first), min(stop, end) - first, mask) for first, end, mask in self.waiting
                 if first < stop]
        known = [mask for _, _, mask in parts if mask is not None]
        if not known:
            return None
        depth = max(mask.shape[0] for mask in known)
        return torch.cat([known[0].new_full((depth, end - first, width), 255) if mask is None
                          else mask[:, first:end].expand(depth, -1, -1) for first, end, mask in parts], 1)
