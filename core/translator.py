"""A model as a chain of stages: normalised row bands in, normalised row bands out."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from . import noise
from .sampler import Network, StepTable, advance, predict, start
from .stream import Part, RowBand, Stage, count_windows, rows_read, run_pointwise, run_stage
from .tiles import Tiling

# Streams of the position-keyed field, so that no two uses of one seed share numbers.
START, STEP, STYLE = 0, 1, 2


@dataclass(frozen=True)
class Translator:
    """A network with its sampler, ready to run."""

    network: nn.Module | None
    """None where the table never calls a network."""
    table: StepTable
    tiling: Tiling
    style_size: int = 0
    device: torch.device | str = "cpu"
    state_bands: int | None = None
    """Of the first state; None: those of the source."""

    def translate(self, bands: Iterator[RowBand], height: int, width: int, *, seed: int = 0, sample: int = 0,
                  origin: tuple[int, int] = (0, 0), batch: int = 1, workers: ThreadPoolExecutor | None = None,
                  part: Part | None = None, windows_done: Callable[[int], None] | None = None,
                  steps: range | None = None, networks: Sequence[Network] | None = None) -> Iterator[RowBand]:
        """The translated rows of a stream whose `state` is the normalised source (C,h,W).

        Args:
            origin: row and column of the stream's first pixel in the input file; noise is counted
                from the file's origin, so an extent gives the same pixels as the whole.
            part: the rows to translate; by default all. `bands` then begin where `rows_read` says.
            windows_done: called with how many windows were predicted just now, of those that `windows` counts.
            steps: those to take, by default all. Without the first, `bands` hold what the step before has left,
                and the source.
            networks: what to call at each step; by default the same network.
        """
        steps = steps or range(len(self.table.steps))
        *parts, _ = self._parts(height, width, batch, part or (0, height), steps)
        stream = bands if steps.start else map(self._first(seed, sample, origin), bands)
        for index, here in zip(steps, parts):
            stage = self._stage(index, seed, sample, origin, networks[index] if networks else self.network)
            if self.table.steps[index].c_out:
                stream = run_stage(stage, stream, height, width, batch, workers, here, windows_done)
            else:
                stream = run_pointwise(stage, stream)
        return stream

    def rows_read(self, height: int, width: int, batch: int, part: Part, steps: range) -> Part:
        """The rows of the source that `translate` reads for a part."""
        return self._parts(height, width, batch, part, steps)[-1]

    def windows(self, height: int, width: int, batch: int, part: Part, steps: range) -> int:
        """How many windows `translate` predicts for a part, over all of the steps."""
        parts = self._parts(height, width, batch, part, steps)
        return sum(count_windows(self.tiling, height, width, batch, here)
                   for k, here in zip(steps, parts) if self.table.steps[k].c_out)

    def _parts(self, height: int, width: int, batch: int, part: Part, steps: range) -> list[Part]:
        """The rows that each stage has to make, first stage first; at the end those that the first one reads."""
        parts = [part]
        for k in reversed(steps):
            networked = self.table.steps[k].c_out
            parts.append(rows_read(self.tiling, height, width, batch, parts[-1]) if networked else parts[-1])
        return [*parts[-2::-1], parts[-1]]

    def _first(self, seed: int, sample: int, origin: tuple[int, int]):
        def begin(band: RowBand) -> RowBand:
            eps = None
            if self.table.noise_std:
                eps = _field((seed, sample, START, 0), band, self.state_bands or band.state.shape[0], origin)
            state = start(self.table, band.state, eps)
            return replace(band, state=state, source=band.state if self.table.uses_source else None)

        return begin

    def _stage(self, index: int, seed: int, sample: int, origin: tuple[int, int], network: Network | None) -> Stage:
        step, remembers = self.table.steps[index], self.table.remembers(index + 1)
        style = None
        if self.style_size:
            style = noise.vector((seed, sample, STYLE, index), self.style_size, self.device)

        def predicted(state: Tensor, source: Tensor | None) -> Tensor:
            styles = None if style is None else style.expand(state.shape[0], -1)
            return predict(self.table, step, network, state, source, styles)

        def updated(band: RowBand, x_hat: Tensor) -> RowBand:
            eps = _field((seed, sample, STEP, index), band, x_hat.shape[0], origin) if step.noise else None
            state = advance(step, band.state, x_hat, band.previous, band.source, eps)
            return replace(band, state=state, previous=x_hat if remembers else None)

        return Stage(predicted, updated, self.tiling)


def _field(key: tuple[int, ...], band: RowBand, channels: int, origin: tuple[int, int]) -> Tensor:
    _, height, width = band.state.shape
    return noise.field(key, channels, origin[0] + band.row, origin[1], height, width, band.state.device)
