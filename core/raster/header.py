"""What the header of an opened raster says of it, refused where it makes no raster that can be used."""

import math

import numpy as np
from affine import Affine
from rasterio import DatasetReader
from rasterio.enums import ColorInterp, MaskFlags

from ..errors import RasterError
from ..grid import Grid, angular_convention
from .bands import Band
from .metadata import exact_nodata, read_colours, read_domains, read_said
from .rows import numpy_dtype

_FARTHEST = 1e15


def choose_indexes(path: str, data: DatasetReader, wanted: tuple[int, ...] | None
                   ) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """1-based positions of the bands to read: those that are wanted, by default all but alpha; and of the alpha bands
    beside them.

    Raises:
        RasterError: where a band is missing, or none is chosen.
    """
    alphas = [i for i, colour in zip(data.indexes, data.colorinterp) if colour == ColorInterp.alpha]
    if wanted is None:
        wanted = tuple(i for i in data.indexes if i not in alphas)
    if not wanted:
        raise RasterError(f"No band of {path} is chosen: name at least one of 1 to {data.count} with --bands.")
    wrong = [i for i in wanted if not 1 <= i <= data.count]
    if wrong:
        raise RasterError(f"{path} has no band {wrong[0]}: choose from 1 to {data.count} with --bands.")
    return tuple(wanted), tuple(i for i in alphas if i not in wanted)


def common_dtype(path: str, data: DatasetReader, indexes: tuple[int, ...]) -> str:
    """The dtype that holds the values of all chosen bands.

    Raises:
        RasterError: for complex numbers.
    """
    every = data.dtypes
    dtypes = {every[i - 1] for i in indexes}
    if any(numpy_dtype(name).kind == "c" for name in dtypes):
        raise RasterError(f"{path} holds complex numbers ({', '.join(sorted(dtypes))}): convert it to amplitude or "
                          "decibel first, for example with gdal_translate DERIVED_SUBDATASET:AMPLITUDE:FILE.")
    return str(np.result_type(*dtypes))


def read_grid(path: str, data: DatasetReader) -> Grid:
    """The CRS and the pixels.

    Raises:
        RasterError: for a raster that is placed in another way than by a grid, or whose grid has no pixels.
    """
    crs = data.crs.to_wkt(version="WKT2_2019") if data.crs else None
    if crs and crs.startswith('ENGCRS["unnamed"'):  # what GDAL makes up for pixels that are points on no map
        crs = None
    transform, tags = data.transform, data.tags()
    if transform.is_identity and data.gcps[0]:
        raise RasterError(f"{path} is placed by {len(data.gcps[0])} ground control points and has no map grid: "
                          "rectify it first, for example with gdalwarp -t_srs.")
    if transform.is_identity and data.rpcs:
        raise RasterError(f"{path} is placed by a rational polynomial (RPC) and has no map grid: "
                          "orthorectify it first, for example with gdalwarp -rpc.")
    _check_place(path, transform)
    return Grid(crs, transform, data.height, data.width, *angular_convention(crs, tags))


def _check_place(path: str, transform: Affine) -> None:
    """Raises RasterError where pixels have no place, or places have no pixel."""
    numbers = transform.to_gdal()
    largest = max(abs(number) for number in numbers)
    if not all(map(math.isfinite, numbers)) or largest >= _FARTHEST or abs(transform.determinant) < _FARTHEST**-2:
        raise RasterError(f"{path} has a geotransform without an inverse or out of range "
                          f"({', '.join(f'{n:g}' for n in numbers)}): set another, for example with gdal_edit -a_ullr.")


def read_bands(path: str, data: DatasetReader, indexes: tuple[int, ...]) -> tuple[Band, ...]:
    """The chosen bands.

    Raises:
        RasterError: where scale and offset of one give no values.
    """
    # Each of these asks for every band: once, as a file may claim 65535.
    properties = list(zip(data.descriptions, data.units, data.scales, data.offsets, data.nodatavals,
                     (colour.name for colour in data.colorinterp)))
    scales = {k: properties[k - 1][2:4] for k in indexes}
    said, dtypes = read_said(data), data.dtypes
    bad = next((k for k, (scale, offset) in scales.items() if not (scale and math.isfinite(scale + offset))), 0)
    if bad:
        raise RasterError(f"Band {bad} of {path} has a scale of {scales[bad][0]:g} and an offset of "
                          f"{scales[bad][1]:g}, which give no finite values: set others with gdal_edit -scale -offset.")
    bands = []
    for i in indexes:
        name, unit, scale, offset, nodata, colour = properties[i - 1]
        given, colours = said[i - 1], read_colours(data, i) if colour == "palette" else ()
        bands.append(Band(name, unit, scale, offset, exact_nodata(nodata, given.nodata, dtypes[i - 1]), colour,
                          colours, given.categories, given.attributes, read_domains(data, i)))
    return tuple(bands)


def mask_kinds(data: DatasetReader, indexes: tuple[int, ...], bands: tuple[Band, ...], alphas: tuple[int, ...]
               ) -> tuple[str, ...]:
    """How the raster says where it has data: any of "nodata", "mask" and "alpha"; a pixel has data where all say so."""
    flags = data.mask_flag_enums[indexes[0] - 1]
    # GDAL's own mask follows an alpha band only in rasters of two or four bands; we do in all.
    found = {"nodata": any(band.nodata is not None for band in bands),
             "mask": not flags or (MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags),
             "alpha": bool(alphas)}
    return tuple(kind for kind, there in found.items() if there)
