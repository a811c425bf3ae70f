"""A model whose input is what another makes: the first's rows are the second's raster, without a file between."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from ..grid import Grid, Window
from ..raster.bands import Band, Statistics
from ..raster.rows import RasterFile, Rows
from .estimates import streaming_bytes
from .passes import SegmentInput, run_passes, validity, whole_input
from .plan import Plan
from .radiometry import output_bands


@dataclass(frozen=True)
class TranslatedRaster:
    """A raster as a model translates it, in physical units and unrounded; read like a `RasterSource`, row by row.

    Whatever passes the next model makes, this one makes one, so their standard deviation is not that of both.
    """

    plan: Plan
    indexes: tuple[int, ...]
    """1-based bands of the translation, in the order of the next model."""

    dtype = "float32"

    @property
    def path(self) -> str:
        return self.original.path

    @property
    def original(self) -> RasterFile:
        """The raster on the disk that all begins with."""
        return self.plan.raster.original

    @property
    def grid(self) -> Grid:
        return self.plan.raster.grid

    @cached_property
    def bands(self) -> tuple[Band, ...]:
        manifest = self.plan.model.manifest
        made = [replace(band, name=spec.name, colour=spec.colour)
                for band, spec in zip(output_bands(self.plan.raster, manifest), manifest.bands_out)]
        return tuple(made[k - 1] for k in self.indexes)

    @property
    def mask_kinds(self) -> tuple[str, ...]:
        return self.plan.raster.mask_kinds

    @property
    def alpha_bands(self) -> tuple[Band, ...]:
        return self.plan.raster.alpha_bands

    @property
    def tags(self) -> dict[str, str]:
        return self.plan.raster.tags

    @cached_property
    def _input(self) -> SegmentInput:
        return whole_input(self.plan)

    def stamps(self) -> dict[str, Any]:
        return self.original.stamps()

    def compressed(self) -> float:
        return self.original.compressed()

    def reading_bytes(self, width: int) -> int:
        return streaming_bytes(self.plan, (self.plan.whole,))

    def rows_at_once(self, width: int) -> int:
        return min(self.grid.height, self.plan.tiling.tile)

    def statistics(self, percentiles: tuple[float, ...] = (), ranges: tuple[tuple[float, float], ...] = ()
                   ) -> Statistics:
        """The middles of the ranges that the model says: nothing is translated to find out."""
        specs = self.plan.model.manifest.bands_out
        chosen = [specs[k - 1] for k in self.indexes]
        return Statistics(tuple((s.minimum + s.maximum) / 2 for s in chosen),
                          tuple((s.maximum - s.minimum) / 4 for s in chosen), {}, (0, 0))

    def rows(self, window: Window | None = None, part: tuple[int, int] | None = None) -> Iterator[Rows]:
        """As `RasterSource.rows`: rows of a window, counted from its first."""
        window = window or Window(0, 0, self.grid.height, self.grid.width)
        first, stop = (window.row + row for row in part or (0, window.height))
        cols = slice(window.col, window.col + window.width)
        picks = [k - 1 for k in self.indexes]
        for band, moments in run_passes(self.plan, self._input, (first, stop), lambda share: None):
            made, _ = moments.columns(cols).split(len(self.plan.model.manifest.bands_out))  # type: ignore[union-attr]
            values, _ = self.plan.radiometry.to_stored(made)
            mask, alpha = validity(None if band.mask is None else band.mask[:, :, cols].cpu().numpy(),
                                   self.plan.raster)
            yield Rows(band.row - window.row, values[picks].cpu().numpy(), mask, alpha=alpha)

    def read(self, window: Window) -> Rows:
        """One window, as `RasterSource.read`."""
        return Rows.concatenate(list(self.rows(window)))
