"""Reads an output through GDAL before it gets its name: does it say what was written?"""

import math
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from pyproj.exceptions import ProjError
from rasterio.crs import CRS

from ..errors import RasterError
from ..grid import Grid, angular_convention
from ..raster.bands import Band
from ..raster.opening import DAMAGE, GDAL_SETTINGS
from ..reproject.coordinates import between
from .profile import OutputSpec, auxiliary, template
from .strips import Strip, Strips, quiet

_APART_PX = 0.01
"""How far a corner may lie from where the CRS puts it."""


def sidecar(spec: OutputSpec) -> str | None:
    """The `.aux.xml` that goes beside an output so that it is read as it was written; None where the GeoTIFF says all.

    Raises:
        RasterError: for a CRS that is lost in both.
    """
    return auxiliary(spec, _crs_beside(spec.grid, spec.tags.get("AREA_OR_POINT")))


@lru_cache(maxsize=64)
def _crs_beside(grid: Grid, area_or_point: str | None) -> bool:
    """Whether a CRS has to stand in an `.aux.xml`, as GeoTIFF keys lose it; they always do those of other planets.

    Args:
        area_or_point: what the pixels are, where that is said.
    """
    if not grid.crs:
        return False
    tags = {"AREA_OR_POINT": area_or_point} if area_or_point else {}
    spec = OutputSpec(grid, (Band(None),), "uint8", tags=tags)
    described_by = template(spec).encode()
    with quiet(), rasterio.Env(**GDAL_SETTINGS), rasterio.MemoryFile(described_by, ext=".vrt") as described, \
            rasterio.MemoryFile() as small, rasterio.MemoryFile(filename="a.tif") as alone:
        rasterio.shutil.copy(described.name, small.name, driver="GTiff")
        alone.write(small.read())  # without what GDAL has put beside it
        if grid.body in (None, "Earth") and _keeps_crs(alone, grid):
            return False
        text, folder = auxiliary(spec, with_crs=True) or "", Path(alone.name).parent.name
        with rasterio.MemoryFile(text.encode(), dirname=folder, filename="a.tif.aux.xml"):
            if _keeps_crs(alone, grid):
                return True
    raise RasterError(f"Neither a GeoTIFF nor an .aux.xml beside it holds the CRS {grid.crs[:60]}: choose "
                      "another.")


def _keeps_crs(file: rasterio.MemoryFile, grid: Grid) -> bool:
    try:
        with rasterio.open(file.name) as data:
            return _same_crs(data.crs, data.tags(), grid)
    except DAMAGE:
        return False


def check_reads_back(strips: Strips, path: Path) -> None:
    """Compares an assembled output with what it was assembled from.

    Args:
        path: the file, with the `.aux.xml` that goes with it beside it.

    Raises:
        RasterError: where GDAL finds another size, data type, CRS, geotransform or other valid pixels.
    """
    spec = strips.spec
    try:
        with quiet(), rasterio.Env(**GDAL_SETTINGS), rasterio.open(path, driver="GTiff") as data:
            wrong = _differences(data, spec)
            data.read(window=((spec.grid.height - 1, spec.grid.height), (spec.grid.width - 1, spec.grid.width)))
        level = len(strips.sizes) - 1
        with quiet(), rasterio.Env(**GDAL_SETTINGS), \
                rasterio.open(path, driver="GTiff", **({"overview_level": level - 1} if level else {})) as data:
            if not wrong and not _same_validity(data, strips.read(level, 0), spec):
                wrong = ["the valid pixels"]
    except DAMAGE as error:
        wrong = [str(error)]
    if wrong:
        raise RasterError(f"{strips.path} does not read back as it was written ({', '.join(wrong)}), so it gets no "
                          "name: run again with --no-resume; if that does not help, report it.")


def _differences(data: rasterio.DatasetReader, spec: OutputSpec) -> list[str]:
    grid = spec.grid
    pairs = {"the size": ((data.height, data.width), (grid.height, grid.width)),
             "the number of bands": (data.count, len(spec.bands)),
             "the data type": (set(data.dtypes), {spec.dtype}),
             "the geotransform": (data.transform.almost_equals(grid.transform, 1e-9 * _scale(grid)), True)}
    wrong = [name for name, (found, expected) in pairs.items() if found != expected]
    return wrong if _same_crs(data.crs, data.tags(), grid) else [*wrong, "the CRS"]


def _scale(grid: Grid) -> float:
    return max(1.0, *map(abs, grid.transform.to_gdal()))


def _same_crs(found: CRS | None, tags: dict[str, str], grid: Grid) -> bool:
    """Whether a CRS is the grid's, by name or by where it puts places of the grid that it reaches; on other planets
    GDAL's has no kind of latitude, which is then among the tags."""
    if not grid.crs:  # GDAL calls it so where the pixels are points
        return not found or found.to_wkt().startswith('LOCAL_CS["unnamed"')
    if not found:
        return False
    if found == CRS.from_user_input(grid.crs):
        return True
    parts = np.linspace(0, 1, 5)
    places = np.array([grid.transform * (x * grid.width, y * grid.height) for x in parts for y in parts]).T
    wkt = found.to_wkt(version="WKT2_2019")
    try:
        there = between(replace(grid, crs=wkt, **_convention(wkt, tags)), grid)(*places)
    except (ProjError, RasterError):
        return False
    known = np.isfinite(there).all(0)
    apart = np.hypot(*(np.array(~grid.transform * there) - np.array(~grid.transform * places)))
    return bool(known.any() and (apart[known] < _APART_PX).all())


def _convention(wkt: str, tags: dict[str, str]) -> dict[str, Any]:
    latitude, longitude = angular_convention(wkt, tags)
    return {"latitude": latitude, "longitude": longitude}


def _same_validity(data: rasterio.DatasetReader, strip: Strip, spec: OutputSpec) -> bool:
    """Whether GDAL takes the same pixels of the coarsest overview for valid."""
    if any(not np.array_equal(data.read(k + 1), strip.pixels[k], equal_nan=True) for k in spec.alphas):
        return False
    if strip.mask is not None:
        return bool(((data.read_masks(1) != 0) == (strip.mask[0] != 0)).all())
    if spec.nodata is None:
        return bool(spec.alphas) or bool((data.read_masks(1) != 0).all())
    first = spec.values[0]
    pixels, found = strip.pixels[first], data.read_masks(first + 1) != 0
    empty = np.isnan(pixels) if math.isnan(spec.nodata) else pixels == np.asarray(spec.nodata).astype(pixels.dtype)
    return bool((found != empty).all())
