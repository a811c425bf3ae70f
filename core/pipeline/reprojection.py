"""The job of reprojecting a raster: any of its rows, always with the same bits."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..device import choose_device, worker_count
from ..errors import DeviceError, RasterError
from ..files import Folder
from ..inference.stream import Part
from ..output.execute import Output
from ..output.needs import Needs, disk_bytes, writing_bytes
from ..raster.bands import keep_off_nodata
from ..raster.reader import HELD_BYTES
from ..raster.rows import Rows
from ..raster.source import absolute
from ..reproject.warp import TILE_PX
from ..reproject.warped_raster import WarpedSource
from .outputs import describe_reprojection, stored


@dataclass(frozen=True)
class Reprojection:
    """A raster seen on another grid, with its output."""

    warped: WarpedSource
    destination: Path
    strips, work = None, 1

    @cached_property
    def outputs(self) -> tuple[Output, ...]:
        return Output(self.destination, describe_reprojection(self.warped)),

    @cached_property
    def facts(self) -> dict[str, Any]:
        from ... import __version__

        raster, grid, how = self.warped.raster, self.warped.grid, self.warped.how
        return {
            "input": absolute(raster.path), "files": raster.stamps(), "bands": raster.indexes,
            "system": grid.crs, "transform": grid.transform.to_gdal(), "height": grid.height, "width": grid.width,
            "latitude": grid.latitude, "longitude": grid.longitude,
            "resampling": how.resampling, "tolerance": how.tolerance_px, "widen": how.widen,
            "device": choose_device(self.warped.device).type, "geoi2i": __version__, "torch": torch.__version__}

    @cached_property
    def needs(self) -> Needs:
        """Blocks of the original that are held, tiles side by side with their positions, a row of tiles."""
        warped, specs = self.warped, (self.outputs[0].spec,)
        depth = len(warped.raster.indexes) + 1
        row_bytes = warped.grid.width * depth * np.dtype(warped.dtype).itemsize
        tiles = 2 * worker_count(torch.device(warped.device)) * TILE_PX**2 * (4 * 8 + 3 * 4 * depth)
        return Needs(2 * TILE_PX * row_bytes + writing_bytes(specs), HELD_BYTES + tiles,
                     *disk_bytes(specs, warped.raster.compressed()))

    def rows(self, part: Part, done: Callable[[float], None]) -> Iterator[tuple[Rows, ...]]:
        spec = self.outputs[0].spec
        for rows in self.warped.rows(part=part):
            pixels = keep_off_nodata(rows.pixels, spec.nodata)
            yield Rows(rows.row, *stored(pixels, rows.mask, spec), rows.undefined),
            done(min(1.0, (rows.row + pixels.shape[1] - part[0]) / (part[1] - part[0])))

    def legs(self, folder: Folder) -> tuple["Reprojection"]:
        return self,

    def smaller(self) -> "Reprojection":
        raise DeviceError("The device has too little memory for a tile: free some, or use --device cpu.")

    def conclude(self, valid: int, undefined: int) -> str | None:
        grid = self.warped.grid
        if not valid:
            raise RasterError(f"Nothing of {self.warped.path} lies on the target grid, or all of it is nodata: check "
                              "the system and the bounds.")
        if undefined:
            return (f"{undefined} of {grid.height * grid.width} pixels lie where the projection does not reach; they "
                    "have no data.")
        return None
