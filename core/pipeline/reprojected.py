"""What a reprojected raster will be and what it will take, before a pixel of it is made."""

import numpy as np

from ..grid import Grid
from ..nodata import as_stored
from ..output.inherited import in_order, kept_domains, stored_alike
from ..output.needs import Needs, disk_bytes, writing_bytes
from ..output.profile import OutputSpec
from ..output.storage import LIKE_INPUT, Storage
from ..raster.reader import HELD_BYTES
from ..raster.rows import Raster
from ..reproject.resampled import resampled_mask_kinds, resampled_tags
from ..reproject.warping import TILE_PX, Warping


def describe_reprojection(raster: Raster, grid: Grid, how: Warping, storage: Storage = LIKE_INPUT) -> OutputSpec:
    """Everything about a raster on another grid but its pixels.

    Raises:
        RasterError: where the dtype cannot hold the nodata value that is asked for.
    """
    from ... import __version__

    command = f"geoi2i reproject --resampling {how.resampling} --tolerance {how.tolerance_px:g}{storage.command}"
    dtype = storage.of(raster.dtype)
    nodata, mask = storage.missing(raster, _mask_kinds(raster, grid, dtype), exact=dtype == raster.dtype)
    spec = OutputSpec(
        grid=grid, bands=in_order(raster, raster.bands, raster.alpha_bands), dtype=dtype, nodata=nodata, mask=mask,
        tags={**resampled_tags(raster), "GEOI2I_VERSION": __version__, "GEOI2I_COMMAND": command},
        domains=kept_domains(raster, resampled=True))
    return stored_alike(spec, raster, how.resampling == "nearest")


def _mask_kinds(raster: Raster, grid: Grid, dtype: str) -> tuple[str, ...]:
    """How the output says which pixels have no data: by a mask where no nodata value of the raster fits its dtype, for
    any other number may be a valid pixel's."""
    kinds = resampled_mask_kinds(raster, grid)
    if dtype == raster.dtype or np.dtype(dtype).kind == "f" or any(
            as_stored(band.nodata, dtype) is not None for band in raster.bands):
        return kinds
    return tuple(dict.fromkeys("mask" if kind == "nodata" else kind for kind in kinds))


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
