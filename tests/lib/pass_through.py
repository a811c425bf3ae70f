"""A raster translated by the identity, or moved by a part of a pixel, and all that GDAL reads of either."""

import warnings
from pathlib import Path

import rasterio
from geoi2i.core.grid import Grid
from geoi2i.core.models.package import identity_package
from geoi2i.core.raster.source import RasterSource
from geoi2i.core.reproject.warping import Warping
from geoi2i.core.run import Callbacks, Compute, reproject_raster, translate_raster

NOT_COMPARED = {"IMAGE_STRUCTURE", "DERIVED_SUBDATASETS", "LocationInfo"}
"""Domains that say how a file is stored."""


def identity(source, target=None, **more):
    target = target or Path(source).with_name("identity.tif")
    bands = len(RasterSource.open(source, more.get("bands")).bands)
    return str(translate_raster(source, target, identity_package(bands), compute=Compute(device="cpu"),
                                overwrite=True, resume=False, **more))


def reprojected(source, resampling="nearest", scale=1.0, told=None, **more):
    """On a grid that is shifted by a third of a pixel, and coarser or finer."""
    grid = RasterSource.open(source).grid
    moved = grid.transform @ rasterio.Affine.translation(0.3, 0.3) @ rasterio.Affine.scale(scale)
    target = Grid(grid.crs, moved, round(grid.height / scale), round(grid.width / scale))
    how = resampling and Warping(resampling)
    told = [] if told is None else told
    return str(reproject_raster(source, Path(source).with_name("moved.tif"), target, how, device="cpu", overwrite=True,
                                callbacks=Callbacks(message=told.append), **more))


def says(path, numbers=True):
    """All that GDAL reads of a raster, but how it is stored."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(path) as data:
            found = {"dtypes": data.dtypes, "nodata": repr(data.nodatavals), "flags": str(data.mask_flag_enums),
                     "colours": [c.name for c in data.colorinterp], "tables": [table(data, k) for k in data.indexes],
                     "names": data.descriptions, "units": data.units, "scales": data.scales, "offsets": data.offsets,
                     "white": data.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE"),
                     "bits": data.tags(1, ns="IMAGE_STRUCTURE").get("NBITS")}
            for k in range(data.count + 1):
                names = [name for name in data.tag_namespaces(k) if name not in NOT_COMPARED]
                tags = {name: data.tags(k, ns=name or None) for name in ("", *names)}
                tags[""] = {key: value for key, value in tags[""].items() if not key.startswith("GEOI2I_")}
                found[f"tags of {k or 'all'}"] = tags
            if numbers:
                found |= {"pixels": data.read().tobytes(), "masks": data.read_masks().tobytes()}
    return found


def table(data, band):
    try:
        return data.colormap(band)
    except ValueError:
        return None
