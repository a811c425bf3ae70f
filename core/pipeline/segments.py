"""Legs, in which a chain goes over a raster whose rows it could not hold all at once.

    whole         pass 1..S, step 1..N      one segment: rows go through every step of every pass side by side
    many passes   pass 1..8, pass 9..16     each segment adds to the mean and the standard deviation of those before
    many steps    step 1..6, step 7..12     each segment takes up the state that the one before has left

Each pass and each step holds the rows that its windows reach over, and a part made alone needs further rows above and
below for every step. Where that grows out of hand, a segment makes all rows of a stretch of the chain and leaves them
on the disk, in strips, for the next. Rows are left as they are, so segments change no bit of the result.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ..files import Folder
from ..grid import Grid
from ..inference.steps import StepTable
from ..inference.stream import RowBand
from ..output.profile import OutputSpec
from ..output.strips import Strips, strip_rows
from ..raster.bands import Band

_CONTEXT_ROWS = 4096
"""Rows beyond a part that a segment may have to make for it: eight strips of the lowest."""


@dataclass(frozen=True)
class Segment:
    """A stretch of the chain."""

    steps: range
    passes: range

    @property
    def work(self) -> int:
        """Steps over the raster."""
        return len(self.steps) * len(self.passes)

    @property
    def name(self) -> str:
        """What its strips are kept under."""
        return f"pass-{self.passes.start}-{self.passes.stop}-step-{self.steps.start}-{self.steps.stop}"


def cut(steps: int, passes: int, height: int, step_rows: int, step_bytes: int, memory: int | None
        ) -> tuple[Segment, ...]:
    """The segments of a chain.

    Args:
        height: rows of the raster.
        step_rows: rows beyond a part that one step reads to make it.
        step_bytes: memory that one step of one pass holds.
        memory: bytes that are free; None where nobody knows.
    """
    at_once = max(1, _share(memory) // step_bytes) if memory and step_bytes else steps * passes
    deep = steps if height <= _CONTEXT_ROWS or not step_rows else max(1, _CONTEXT_ROWS // step_rows)
    if min(at_once, deep) >= steps:
        together = min(at_once // steps, passes)
        return tuple(Segment(range(steps), range(k, min(k + together, passes))) for k in range(0, passes, together))
    count = -(-steps // min(at_once, deep))
    edges = [steps * k // count for k in range(count + 1)]
    return tuple(Segment(range(*pair), range(k, k + 1)) for k in range(passes) for pair in zip(edges, edges[1:]))


def _share(memory: int) -> int:
    """A quarter of the memory at most, as a power of two: a resumed run mostly finds the same."""
    return 1 << max(memory // 4, 1).bit_length() - 1


@dataclass(frozen=True)
class Moments:
    """Mean and squared deviations of passes that are added one by one, in their order (Welford, 1962)."""

    count: int
    mean: Tensor
    """(C,h,w)."""
    squares: Tensor | None
    """(C,h,w), the sum of squared deviations from the mean; None where no standard deviation is wanted."""

    @staticmethod
    def first(state: Tensor, std: bool) -> "Moments":
        return Moments(1, state, torch.zeros_like(state) if std else None)

    def add(self, state: Tensor) -> "Moments":
        count, off = self.count + 1, state - self.mean
        mean = self.mean + off / count
        squares = None if self.squares is None else self.squares + off * (state - mean)
        return Moments(count, mean, squares)

    def split(self, bands: int) -> "tuple[Moments, Moments]":
        """Those of the first bands, and of the others."""
        parts = slice(bands), slice(bands, None)
        first, others = (Moments(self.count, *(t if t is None else t[part] for t in (self.mean, self.squares)))
                         for part in parts)
        return first, others

    def columns(self, cols: slice) -> "Moments":
        return Moments(self.count, *(t if t is None else t[:, :, cols] for t in (self.mean, self.squares)))


@dataclass(frozen=True)
class Spilled:
    """What a segment leaves for the next: channels of float strips."""

    strips: Strips
    channels: int
    """Of the state."""
    count: int
    """Passes in the mean; 0: there is none yet."""
    std: bool
    """Whether squared deviations go with the mean."""
    state: bool
    """Whether a pass is under way."""
    previous: bool
    """Whether its next step looks back at the last `x_hat`."""
    source: bool
    """Whether further steps see the source, which is read anew."""

    def pack(self, moments: Moments | None, band: RowBand) -> Tensor:
        """(K,h,W)."""
        kept = [moments.mean, moments.squares] if moments else []
        kept += [band.state if self.state else None, band.previous if self.previous else None]
        return torch.cat([each for each in kept if each is not None])

    def moments(self, rows: Tensor) -> Moments:
        """Those of packed rows (K,h,W)."""
        parts = rows.split(self.channels)
        return Moments(self.count, parts[0], parts[1] if self.std else None)

    def resume(self, band: RowBand, rows: Tensor) -> RowBand:
        """A band of the source as it was when the rows (K,h,W) were packed."""
        parts = rows.split(self.channels)
        state, previous = parts[-2:] if self.previous else (parts[-1], None)
        return replace(band, state=state, previous=previous, source=band.state if self.source else None)

    def reader(self, device: torch.device) -> Callable[[int, int], Tensor]:
        """Gives packed rows start..stop (K,h,W), from top to bottom, as they are asked for."""
        strip = None

        def rows(start: int, stop: int) -> Tensor:
            nonlocal strip
            pieces = []
            while start < stop:
                if strip is None or strip.index != start // self.strips.rows:
                    strip = self.strips.read(0, start // self.strips.rows)
                first = strip.index * self.strips.rows
                end = min(stop, first + strip.height)
                pieces.append(torch.from_numpy(strip.pixels[:, start - first : end - first]))
                start = end
            return torch.cat(pieces, 1).to(device)

        return rows


def spill(folder: Folder | None, segment: Segment, grid: Grid, destination: Path, table: StepTable, channels: int,
          std: bool) -> Spilled:
    """What a segment is to leave in a folder, for all rows of a grid; without one, to estimate what that takes."""
    under_way = segment.steps.stop < len(table.steps)
    count = segment.passes.start if under_way else segment.passes.stop
    previous = under_way and table.remembers(segment.steps.stop)
    kinds = (count > 0) * (1 + std) + under_way + previous
    spec = OutputSpec(grid, (Band(None),) * (channels * kinds), "float32")
    inner = folder and folder.sub(segment.name, make=True)
    strips = Strips(destination, inner, spec, strip_rows((spec,)), segment.name)  # type: ignore[arg-type]  # None: to estimate
    return Spilled(strips, channels, count, std, under_way, previous, table.uses_source)
