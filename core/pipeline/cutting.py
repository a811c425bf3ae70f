"""A job cut out along polygons: pixels of its outputs whose centre is outside hold no data, and are not made."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import groupby, pairwise
from typing import Any, Protocol

import numpy as np

from ..files import Folder
from ..grid import Window
from ..inference.stream import Part
from ..output.execute import Job, Output
from ..output.needs import Needs
from ..output.profile import BLOCK, OutputSpec
from ..output.strips import Strips
from ..raster.rows import Rows, Wanted
from ..reproject.cutline import Cutline
from ..reproject.polygons import Polygons
from ..reproject.resampled import mask_kind_of
from .outputs import empty_value


class CutableJob(Job, Protocol):
    """A job that can leave out what nobody takes."""

    def only(self, wanted: Wanted) -> Job:
        """The same job for whoever takes only some pixels of its outputs."""


@dataclass(frozen=True)
class CutOut:
    """A job whose outputs are cut out along polygons. Make one with `cut_out`."""

    job: Job
    cutline: Cutline
    """On the pixels of the outputs."""
    sha256: str
    """Of the polygons."""

    @cached_property
    def outputs(self) -> tuple[Output, ...]:
        return tuple(replace(output, spec=_with_mask(output.spec, self.sha256)) for output in self.job.outputs)

    @property
    def fingerprint(self) -> dict[str, Any]:
        return self.job.fingerprint | {"cutline": self.sha256[:16]}

    @property
    def needs(self) -> Needs | None:
        return self.job.needs

    @property
    def strips(self) -> Strips | None:
        return self.job.strips

    @property
    def work(self) -> int:
        return self.job.work

    def split(self, folder: Folder) -> tuple[Job, ...]:
        *segments, last = self.job.split(folder)
        return *segments, replace(self, job=last)

    def rows(self, part: Part, done: Callable[[float], None]) -> Iterator[tuple[Rows, ...]]:
        for (first, stop), touched in self._runs_of_blocks(part):
            before, share = ((row - part[0]) / (part[1] - part[0]) for row in (first, stop))
            if touched:
                made = self.job.rows((first, stop), partial(_share_done, done, before, share))
                for rows in made:
                    top, end = max(rows[0].row, first), min(rows[0].row + rows[0].height, stop)
                    if top < end:
                        yield self._cut(tuple(each.cut(top, end - top) for each in rows))
            else:
                for top, end in pairwise([*range(first, stop, BLOCK), stop]):
                    yield self._cut(tuple(_nothing(output.spec, top, end - top) for output in self.outputs))
                done(share)

    def _runs_of_blocks(self, part: Part) -> Iterator[tuple[Part, bool]]:
        """Rows that follow on each other, of which blocks have a pixel inside or have none."""
        width = self.outputs[0].spec.grid.width
        edges = [part[0], *range((part[0] // BLOCK + 1) * BLOCK, part[1], BLOCK), part[1]]
        blocks = ((first, stop, self.cutline.touches(Window(first, 0, stop - first, width)))
                  for first, stop in pairwise(edges))
        for touched, found in groupby(blocks, lambda block: block[2]):
            together = list(found)
            yield (together[0][0], together[-1][1]), touched

    def _cut(self, outputs: tuple[Rows, ...]) -> tuple[Rows, ...]:
        """Rows of every output, with nothing outside."""
        first = outputs[0]
        outside = ~self.cutline.inside(Window(first.row, 0, first.height, first.pixels.shape[2]))
        if not outside.any():
            return outputs
        return tuple(_emptied(rows, output.spec, outside) for rows, output in zip(outputs, self.outputs))

    def smaller(self) -> "CutOut":
        return replace(self, job=self.job.smaller())

    def conclude(self, valid: int, undefined: int) -> str | None:
        note = self.job.conclude(valid, undefined)
        return note if valid else "No pixel inside the cutline has data."

    def __str__(self) -> str:
        return str(self.job)


def cut_out(job: CutableJob, polygons: Polygons | None) -> Job:
    """The job with its outputs cut out along polygons, of which pixels inside keep their bits; None: the job itself.

    Raises:
        RasterError: see `Cutline.on`.
    """
    if polygons is None:
        return job
    cutline = Cutline.on(polygons, job.outputs[0].spec.grid)
    return CutOut(job.only(cutline.touches), cutline, polygons.sha256)


def _share_done(done: Callable[[float], None], first: float, stop: float, share: float) -> None:
    """Tells how much of all is done when a share is of what lies between two."""
    done(first + (stop - first) * share)


def _with_mask(spec: OutputSpec, sha256: str) -> OutputSpec:
    """A spec that can say which pixels have no data, and what it was cut out along."""
    if not spec.mask_kinds:
        spec = (replace(spec, mask=True) if mask_kind_of(spec.dtype) == "mask"
                else replace(spec, nodata=float("nan")))
    return replace(spec, tags={**spec.tags, "GEOI2I_CUTLINE_SHA256": sha256})


def _nothing(spec: OutputSpec, row: int, height: int) -> Rows:
    return Rows(row, np.zeros((len(spec.bands), height, spec.grid.width), spec.dtype), None)


def _emptied(rows: Rows, spec: OutputSpec, outside: np.ndarray) -> Rows:
    """Rows (C,h,W) without what is outside (h,W)."""
    pixels = np.where(outside, np.array(empty_value(spec), spec.dtype), rows.pixels)
    for k in spec.alphas:
        pixels[k][outside] = 0
    known = np.uint8(255) if rows.mask is None else rows.mask
    return replace(rows, pixels=pixels, mask=np.where(outside, np.uint8(0), known).reshape(-1, *outside.shape),
                   mask_band=None if rows.mask_band is None else np.where(outside, np.uint8(0), rows.mask_band))
