"""The job of reprojecting a raster: any of its rows, always with the same bits."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..device import choose_device, worker_count
from ..errors import DeviceError, RasterError
from ..files import Folder
from ..inference.stream import Part
from ..nodata import keep_off_nodata
from ..output.execute import Output
from ..output.needs import Needs
from ..output.storage import LIKE_INPUT, Storage
from ..raster.bands import Band
from ..raster.rows import Rows, Wanted
from ..raster.source import absolute
from ..reproject.heights import Heights
from ..reproject.warped_raster import WarpedSource
from .outputs import as_dtype, stored
from .reprojected import describe_reprojection, estimate_reprojection


@dataclass(frozen=True)
class Reprojection:
    """A raster seen on another grid, with its output."""

    warped: WarpedSource
    destination: Path
    heights: Heights | None = None
    """How its heights become those of the grid's vertical CRS; None: they stay."""
    storage: Storage = LIKE_INPUT
    strips, work = None, 1

    @cached_property
    def outputs(self) -> tuple[Output, ...]:
        warped = self.warped
        return Output(self.destination, describe_reprojection(warped.raster, warped.grid, warped.how, self.storage)),

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        from ... import __version__

        raster, grid, how = self.warped.raster, self.warped.grid, self.warped.how
        return {
            "input": absolute(raster.path), "files": raster.stamps(), "bands": raster.indexes,
            "CRS": grid.crs, "transform": grid.transform.to_gdal(), "height": grid.height, "width": grid.width,
            "latitude": grid.latitude, "longitude": grid.longitude,
            "resampling": how.resampling, "tolerance": how.tolerance_px, "antialias": how.antialias,
            **({"heights": self.heights.bands} if self.heights else {}),
            **self.storage.fingerprint,
            "device": choose_device(self.warped.device).type, "geoi2i": __version__, "torch": torch.__version__}

    @cached_property
    def needs(self) -> Needs:
        return estimate_reprojection(self.warped.raster, self.outputs[0].spec,
                                     worker_count(torch.device(self.warped.device)))

    def rows(self, part: Part, done: Callable[[float], None]) -> Iterator[tuple[Rows, ...]]:
        spec = self.outputs[0].spec
        for rows in self.warped.rows(part=part):
            if self.heights:
                rows = _converted(rows, self.heights, self.warped.bands)
            rows = as_dtype(rows, self.warped.raster.dtype, spec.dtype)
            keep_off_nodata(rows.pixels, spec.nodata)
            yield stored(rows, spec),
            done(min(1.0, (rows.row + rows.height - part[0]) / (part[1] - part[0])))

    def split(self, folder: Folder) -> tuple["Reprojection"]:
        return self,

    def only(self, wanted: Wanted) -> "Reprojection":
        """The same job for whoever takes only some pixels of its output: tiles that have none are not read."""
        return replace(self, warped=replace(self.warped, wanted=wanted))

    def smaller(self) -> "Reprojection":
        raise DeviceError("The device has too little memory for a tile: free some, or use --device cpu.")

    def conclude(self, valid: int, undefined: int) -> str | None:
        grid = self.warped.grid
        if not valid and not self.warped.pixel_map.meet():
            raise RasterError(f"Nothing of {self.warped.path} lies on the target grid: check the CRS and the bounds, "
                              "or leave such rasters out with --skip-empty.")
        if not valid:
            return f"{self.warped.path} has no valid pixel on the target grid, so the output has none."
        if undefined:
            return (f"{undefined} of {grid.height * grid.width} pixels lie where the projection does not reach; they "
                    "have no data.")
        return None


def _converted(rows: Rows, heights: Heights, bands: tuple[Band, ...]) -> Rows:
    """Rows whose heights are those of the target's vertical CRS; without data where that does not reach."""
    pixels = heights.convert(rows.pixels, rows.row, bands)
    known = np.isfinite(pixels)
    return replace(rows, pixels=np.nan_to_num(pixels), mask=known.astype(np.uint8) if rows.mask is None else rows.mask *
                   known)
