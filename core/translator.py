"""A model as a chain of stages: normalised row bands in, normalised row bands out."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from . import noise
from .sampler import StepTable, advance, predict, start
from .stream import RowBand, Stage, run_pointwise, run_stage
from .tiles import Tiling

# Streams of the position-keyed field, so that no two uses of one seed share numbers.
_START, _STEP, _STYLE = 0, 1, 2


@dataclass(frozen=True)
class Translator:
    """A network with its sampler, ready to run."""

    network: nn.Module | None
    """None where the table never calls a network."""
    table: StepTable
    tiling: Tiling
    style_size: int = 0
    device: torch.device | str = "cpu"

    @property
    def context_px(self) -> int:
        """How far from a pixel its result can reach, over the whole chain, on the stride lattice."""
        return len(self.table.steps) * self.tiling.lattice_margin

    def translate(self, bands: Iterator[RowBand], height: int, width: int, *, seed: int = 0, sample: int = 0,
                  origin: tuple[int, int] = (0, 0), batch: int = 1,
                  workers: ThreadPoolExecutor | None = None) -> Iterator[RowBand]:
        """The translated rows of a stream whose `state` is the normalised source (C,h,W).

        Args:
            origin: row and column of the stream's first pixel in the input file; noise is counted
                from the file's origin, so an extent gives the same pixels as the whole.
        """
        stream = map(self._first(seed, sample, origin), bands)
        for index in range(len(self.table.steps)):
            stage = self._stage(index, seed, sample, origin)
            if self.table.steps[index].c_out:
                stream = run_stage(stage, stream, height, width, batch, workers)
            else:
                stream = run_pointwise(stage, stream)
        return stream

    def _first(self, seed: int, sample: int, origin: tuple[int, int]):
        keeps_source = self.table.concatenate_source or any(
            step.in_source or step.c_source or step.source for step in self.table.steps)

        def begin(band: RowBand) -> RowBand:
            eps = None
            if self.table.noise_std:
                eps = _field((seed, sample, _START, 0), band, band.state, origin)
            state = start(self.table, band.state, eps)
            return replace(band, state=state, source=band.state if keeps_source else None)

        return begin

    def _stage(self, index: int, seed: int, sample: int, origin: tuple[int, int]) -> Stage:
        step = self.table.steps[index]
        remembers = index + 1 < len(self.table.steps) and self.table.steps[index + 1].memory
        style = None
        if self.style_size:
            style = noise.vector((seed, sample, _STYLE, index), self.style_size, self.device)

        def predicted(state: Tensor, source: Tensor | None) -> Tensor:
            styles = None if style is None else style.expand(state.shape[0], -1)
            return predict(self.table, step, self.network, state, source, styles)

        def updated(band: RowBand, x_hat: Tensor) -> RowBand:
            eps = _field((seed, sample, _STEP, index), band, x_hat, origin) if step.noise else None
            state = advance(step, band.state, x_hat, band.previous, band.source, eps)
            return replace(band, state=state, previous=x_hat if remembers else None)

        return Stage(predicted, updated, self.tiling)


def _field(key: tuple[int, ...], band: RowBand, like: Tensor, origin: tuple[int, int]) -> Tensor:
    channels, height, width = like.shape
    return noise.field(key, channels, origin[0] + band.row, origin[1], height, width, like.device)
