"""What a reprojected raster will be and what it will take, before a pixel of it is made."""

import numpy as np

from ..grid import Grid
from ..output.inherited import in_order, kept_domains, stored_alike
from ..output.needs import Needs, disk_bytes, writing_bytes
from ..output.profile import OutputSpec, choose_nodata
from ..raster.reader import HELD_BYTES
from ..raster.rows import Raster
from ..reproject.resampled import resampled_mask_kinds, resampled_tags
from ..reproject.warping import TILE_PX, Warping


def describe_reprojection(raster: Raster, grid: Grid, how: Warping) -> OutputSpec:
    """Everything about a raster on another grid but its pixels."""
    from ... import __version__

    kinds = resampled_mask_kinds(raster, grid)
    command = f"geoi2i reproject --resampling {how.resampling} --tolerance {how.tolerance_px:g}"
    nodata = choose_nodata(raster, raster.dtype, exact=True) if "nodata" in kinds else None
    spec = OutputSpec(
        grid=grid, bands=in_order(raster, raster.bands, raster.alpha_bands), dtype=raster.dtype, nodata=nodata,
        mask="mask" in kinds or ("nodata" in kinds and nodata is None),
        tags={**resampled_tags(raster), "GEOI2I_VERSION": __version__, "GEOI2I_COMMAND": command},
        domains=kept_domains(raster, resampled=True))
    return stored_alike(spec, raster, how.resampling == "nearest")


def estimate_reprojection(raster: Raster, spec: OutputSpec, workers: int) -> Needs:
    """Blocks of the original that are held, tiles side by side with their positions, a row of tiles.

    Args:
        spec: of the output.
        workers: tiles made side by side.
    """
    depth = len(raster.indexes) + 1
    row_bytes = spec.grid.width * depth * np.dtype(raster.dtype).itemsize
    tiles = 2 * workers * TILE_PX**2 * (4 * 8 + 3 * 4 * depth)
    return Needs(2 * TILE_PX * row_bytes + writing_bytes((spec,)), HELD_BYTES + tiles,
                 *disk_bytes((spec,), raster.compressed()))
