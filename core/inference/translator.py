"""A model as a chain of stages: normalised row bands in, normalised row bands out.

    source -> begin -> step 1 .. N                          a network on pixels
    source -> encode -> begin -> step 1 .. N -> decode      one on the latents of an autoencoder
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial

import torch
from torch import Tensor, nn

from ..networks.latent import Autoencoder, confidence
from ..networks.latent_sizes import SEEN_BANDS
from ..raster.rows import Wanted
from . import noise
from .latent_padding import MaskPast, filled_up
from .sampler import Network, advance, predict, start
from .steps import Step, StepTable
from .stream import Part, RowBand, Stage, count_windows, rows_read, run_pointwise, run_stage, wanted_of_input
from .tiles import Tiling

# Streams of the position-keyed field, so that no two uses of one seed share numbers.
START, STEP, STYLE = 0, 1, 2


@dataclass(frozen=True)
class Link:
    """A stage of the chain, with the size of the rows that it takes."""

    stage: Stage
    windowed: bool
    height: int
    width: int

    def source_rows(self, part: Part, batch: int) -> Part:
        """Of its input, those that it needs to make a part of its output."""
        part = self._behind(part)
        return rows_read(self.stage.tiling, self.height, self.width, batch, part) if self.windowed else part

    def windows(self, part: Part, batch: int) -> int:
        """How many it predicts for a part of its output."""
        part = self._behind(part)
        return count_windows(self.stage.tiling, self.height, self.width, batch, part) if self.windowed else 0

    def run(self, bands: Iterator[RowBand], part: Part, batch: int, workers: ThreadPoolExecutor | None,
            windows_done: Callable[[int], None] | None, wanted: Wanted | None) -> Iterator[RowBand]:
        """The rows of a part of its output."""
        if not self.windowed:
            return run_pointwise(self.stage, bands)
        return run_stage(self.stage, bands, self.height, self.width, batch, workers, self._behind(part), windows_done,
                         wanted)

    def wanted_of_input(self, wanted: Wanted | None) -> Wanted | None:
        """What it needs of its input for what is wanted of its output."""
        if wanted is None or not self.windowed:
            return wanted
        return wanted_of_input(self.stage, self.height, self.width, wanted)

    def _behind(self, part: Part) -> Part:
        """The rows of its input behind a part of its output."""
        scale = self.stage.scale
        return int(part[0] / scale), min(self.height, -int(-part[1] / scale // 1))


@dataclass(frozen=True)
class Translator:
    """A network with its sampler, ready to run."""

    network: nn.Module | Network | None
    """None where the table never calls a network."""
    table: StepTable
    tiling: Tiling
    """Of pixels."""
    style_size: int = 0
    device: torch.device | str = "cpu"
    state_bands: int | None = None
    """Of the state at every step; None: those of the source."""
    autoencoder: Autoencoder | None = None
    """What turns the source into latents, on which the steps work, and the last state into pixels."""
    asked: int | None = None
    """The step whose network says something besides; it then follows the bands of the result."""

    def translate(self, bands: Iterator[RowBand], height: int, width: int, *, seed: int = 0, sample: int = 0,
                  origin: tuple[int, int] = (0, 0), batch: int = 1, workers: ThreadPoolExecutor | None = None,
                  part: Part | None = None, windows_done: Callable[[int], None] | None = None,
                  steps: range | None = None, networks: Sequence[Network] | None = None,
                  wanted: Wanted | None = None) -> Iterator[RowBand]:
        """The translated rows of a stream whose `state` is the normalised source (C,h,W).

        Args:
            origin: row and column of the stream's first pixel in the input file; noise is counted
                from the file's origin, so a part gives the same pixels as the whole.
            part: the rows to translate; by default all. `bands` then begin where `rows_read` says.
            windows_done: called with how many windows were predicted just now, of those that `windows` counts.
            steps: those to take, by default all. Without the first, `bands` hold what the step before has left,
                and the source.
            networks: what to call at each step; by default the same network.
            wanted: which pixels of the whole chain's result are of use; None: all. See `run_stage`.
        """
        links = self._links(height, width, steps, (seed, sample), origin, networks)
        masks = MaskPast()
        stream = bands
        if self.autoencoder:
            stream = filled_up(masks.taken(bands), height, width, self.autoencoder.spec.factor)
        to_the_end = self._links(height, width, range(steps.start if steps else 0, len(self.table.steps)))
        wants = _wants(to_the_end, wanted)
        for link, here, useful in zip(links, self._parts(links, batch, part or (0, height)), wants):
            stream = link.run(stream, here, batch, workers, windows_done, useful)
        return masks.given(stream, height, width) if self.autoencoder else stream

    def rows_read(self, height: int, width: int, batch: int, part: Part, steps: range) -> Part:
        """The rows of the source that `translate` reads for a part."""
        links = self._links(height, width, steps)
        first, stop = links[0].source_rows(self._parts(links, batch, part)[0], batch)
        return first, min(stop, height)

    def windows(self, height: int, width: int, batch: int, part: Part, steps: range) -> int:
        """How many windows `translate` predicts for a part, over all of the steps."""
        links = self._links(height, width, steps)
        return sum(link.windows(here, batch) for link, here in zip(links, self._parts(links, batch, part)))

    def _parts(self, links: list[Link], batch: int, part: Part) -> list[Part]:
        """The rows that each link has to make, first link first."""
        parts = [part]
        for link in reversed(links[1:]):
            parts.append(link.source_rows(parts[-1], batch))
        return parts[::-1]

    def _links(self, height: int, width: int, steps: range | None, key: tuple[int, int] = (0, 0),
               origin: tuple[int, int] = (0, 0), networks: Sequence[Network] | None = None) -> list[Link]:
        """The chain, from the source's first stage to the last."""
        count = len(self.table.steps)
        steps = steps or range(count)
        stages: list[tuple[Stage, bool]] = []
        inner = self.tiling
        if self.autoencoder:
            factor = self.autoencoder.spec.factor
            height, width = (-(-size // factor) * factor for size in (height, width))
            inner, origin = _coarser(self.tiling, factor), (origin[0] // factor, origin[1] // factor)
            stages.append((Stage(partial(_encoded, self.autoencoder), _put, self.tiling, Fraction(1, factor),
                                 self.autoencoder.spec.sizes.latents), True))
        if not steps.start:
            stages.append((Stage(lambda state, source: state, self._first(*key, origin), inner), False))
        for index in steps:
            network = networks[index] if networks else self.network
            stages.append((self._stage(index, *key, origin, network, inner), bool(self.table.steps[index].c_out)))
        if self.autoencoder:
            if self.asked is not None:
                stages.append((Stage(lambda state, source: state, _beside, inner), False))
            stages.append((Stage(partial(_decoded, self.autoencoder), _put, inner, Fraction(factor),
                                 SEEN_BANDS + (self.asked is not None)), True))
        links = []
        for stage, windowed in stages:
            links.append(Link(stage, windowed, height, width))
            height, width = int(height * stage.scale), int(width * stage.scale)
        return links

    def _first(self, seed: int, sample: int, origin: tuple[int, int]):
        def begin(band: RowBand, source: Tensor) -> RowBand:
            eps = None
            if self.table.noise_std:
                eps = _field((seed, sample, START, 0), band, self.state_bands or source.shape[0], origin)
            state = start(self.table, source, eps)
            return replace(band, state=state, source=source if self.table.uses_source else None)

        return begin

    def _stage(self, index: int, seed: int, sample: int, origin: tuple[int, int], network: Network | None,
               tiling: Tiling) -> Stage:
        step, remembers = self.table.steps[index], self.table.remembers(index + 1)
        style, asked = None, index == self.asked
        if self.style_size:
            style = noise.vector((seed, sample, STYLE, index), self.style_size, self.device)

        def predicted(state: Tensor, source: Tensor | None) -> Tensor:
            styles = None if style is None else style.expand(state.shape[0], -1)
            if network is None or not self.autoencoder:
                return predict(self.table, step, network, state, source, styles)
            x_hat, besides = self._predicted(step, network, state, source, styles)
            return torch.cat([x_hat, besides], 1) if asked else x_hat

        def updated(band: RowBand, x_hat: Tensor) -> RowBand:
            aux = band.aux
            if asked:
                x_hat, aux = x_hat[: self.state_bands], x_hat[self.state_bands :]
            eps = _field((seed, sample, STEP, index), band, x_hat.shape[0], origin) if step.noise else None
            state = advance(step, band.state, x_hat, band.previous, band.source, eps)
            return replace(band, state=state, previous=x_hat if remembers else None, aux=aux)

        channels = network.sizes.bands_out if asked else self.state_bands  # type: ignore[union-attr]
        return Stage(predicted, updated, tiling, channels=channels)

    def _predicted(self, step: Step, network: Network, state: Tensor, source: Tensor | None, styles: Tensor | None
                   ) -> tuple[Tensor, Tensor]:
        """x_hat, and what the network says besides."""
        said: list[Tensor] = []

        def main(image: Tensor, time: Tensor, style: Tensor | None) -> Tensor:
            out = network(image, time, style)
            said.append(out[:, self.state_bands :])
            return out[:, : self.state_bands]

        return predict(self.table, step, main, state, source, styles), said[0]


def _wants(links: list[Link], wanted: Wanted | None) -> list[Wanted | None]:
    """What is wanted of each link for what is wanted of the last."""
    wants = [wanted]
    for link in reversed(links[1:]):
        wants.append(link.wanted_of_input(wants[-1]))
    return wants[::-1]


def _encoded(autoencoder: Autoencoder, state: Tensor, source: Tensor | None) -> Tensor:
    return autoencoder.encode(autoencoder.mixed(state))


def _decoded(autoencoder: Autoencoder, state: Tensor, source: Tensor | None) -> Tensor:
    latents, besides = state.split([autoencoder.spec.sizes.latents, state.shape[1] - autoencoder.spec.sizes.latents], 1)
    pixels = autoencoder.decode(latents)
    return torch.cat([pixels, confidence(besides, autoencoder.spec.factor)], 1) if besides.shape[1] else pixels


def _put(band: RowBand, made: Tensor) -> RowBand:
    """What was made takes the place of everything."""
    return RowBand(band.row, made)


def _beside(band: RowBand, state: Tensor) -> RowBand:
    return RowBand(band.row, torch.cat([state, band.aux]))


def _coarser(tiling: Tiling, factor: int) -> Tiling:
    """The windows of latents that are those of pixels."""
    tile, overlap, margin, multiple = (-(-length // factor) for length in (
        tiling.tile, tiling.overlap, tiling.margin, tiling.multiple))
    return Tiling(tile, overlap, margin, multiple, tiling.fixed)


def _field(key: tuple[int, ...], band: RowBand, channels: int, origin: tuple[int, int]) -> Tensor:
    _, height, width = band.state.shape
    return noise.field(key, channels, origin[0] + band.row, origin[1], height, width, band.state.device)
