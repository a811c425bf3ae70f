"""The peers of `reproject.py`, each a process of its own: `_reproject_programs.py NAME JOB.json`."""

import json
import sys
from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil
from affine import Affine
from rasterio.warp import Resampling, reproject

COG = {"COMPRESS": "ZSTD", "LEVEL": "1", "PREDICTOR": "STANDARD", "BLOCKSIZE": "512", "BIGTIFF": "IF_SAFER",
       "NUM_THREADS": "ALL_CPUS", "OVERVIEW_RESAMPLING": "AVERAGE"}
PLACE = Affine(10, 0, 500_000, 0, -10, 5_300_000)


def scene(job: dict) -> None:
    """Four bands of smooth noise, uint16, deflate, tiles of 512, in UTM zone 32."""
    from _inference_programs import pink

    size = job["size"]
    rng = np.random.default_rng(0)
    fields = [pink(2048, rng) for _ in range(4)]
    with rasterio.open(job["scene"], "w", driver="GTiff", height=size, width=size, count=4, dtype="uint16",
                       crs="EPSG:32632", transform=PLACE, tiled=True, blockxsize=512, blockysize=512,
                       compress="deflate", predictor=2, num_threads="all_cpus") as out:
        times = -(-size // 2048)
        for k, field in enumerate(fields):
            band = np.tile(np.clip(field * 1200 + 4000, 1, 9500).astype("uint16"), (times, times))[:size, :size]
            out.write(band, k + 1)


def positions(job: dict) -> None:
    """A raster whose pixels hold their own column and row: what a program makes of it shows where it looked."""
    size = job["size"]
    rows, cols = np.mgrid[:size, :size].astype(np.float32) + np.float32(0.5)
    with rasterio.open(job["scene"], "w", driver="GTiff", height=size, width=size, count=2, dtype="float32",
                       crs="EPSG:32632", transform=PLACE, nodata=-9999, tiled=True) as out:
        out.write(np.stack([cols, rows]))


def like(job: dict) -> None:
    """An empty raster on the grid that gdalwarp would choose."""
    from geoi2i.core.raster.source import RasterSource
    from geoi2i.core.reproject.target_grid import named_crs, target_grid

    grid = target_grid(RasterSource.open(job["scene"]).grid, named_crs(job["crs"]))
    with rasterio.open(job["like"], "w", driver="GTiff", height=grid.height, width=grid.width, count=1, dtype="uint8",
                       crs=job["crs"], transform=grid.transform, sparse_ok=True, tiled=True):
        pass


def error(job: dict) -> dict[str, float]:
    """Largest and 99th percentile distance, in source pixels, of where a program looked from where PROJ points."""
    from pyproj import Transformer

    with rasterio.open(job["output"]) as data:
        found, valid = data.read(), data.dataset_mask() != 0
        col, row = np.meshgrid(np.arange(data.width) + 0.5, np.arange(data.height) + 0.5)
        x, y = data.transform * (col, row)
        x, y = Transformer.from_crs(data.crs.to_wkt(), "EPSG:32632", always_xy=True).transform(x, y)
        col, row = ~PLACE * (x, y)
    size = job["size"]
    inside = valid & (col > 1) & (col < size - 1) & (row > 1) & (row < size - 1)
    distance = np.hypot(found[0] - col, found[1] - row)[inside]
    return {"max": float(distance.max()), "p99": float(np.percentile(distance, 99))}


def target(job: dict) -> dict:
    with rasterio.open(job["like"]) as data:
        return {"height": data.height, "width": data.width, "crs": data.crs, "transform": data.transform}


def publish(job: dict, pixels: np.ndarray, grid: dict, nodata) -> None:
    """An array as a COG, as rasterio's users write it."""
    plain = f"{job['output']}.plain.tif"
    with rasterio.open(plain, "w", driver="GTiff", count=pixels.shape[0], dtype=pixels.dtype, nodata=nodata, tiled=True,
                       **grid) as out:
        out.write(pixels)
    rasterio.shutil.copy(plain, job["output"], driver="COG", **COG)
    Path(plain).unlink()


def rasterio_warp(job: dict) -> None:
    """rasterio.warp.reproject in memory, with all cores."""
    grid = target(job)
    with rasterio.Env(GDAL_NUM_THREADS="ALL_CPUS"), rasterio.open(job["scene"]) as data:
        pixels = np.zeros((data.count, grid["height"], grid["width"]), data.dtypes[0])
        reproject(rasterio.band(data, data.indexes), pixels, dst_transform=grid["transform"], dst_crs=grid["crs"],
                  resampling=Resampling[job["resampling"]], num_threads=2, dst_nodata=data.nodata,
                  XSCALE=1, YSCALE=1)
        publish(job, pixels, grid, data.nodata)


def odc_geo(job: dict) -> None:
    """odc-geo's xarray accessor in memory."""
    import odc.geo.xr  # noqa: F401
    import rioxarray
    from odc.geo.geobox import GeoBox

    grid = target(job)
    image = rioxarray.open_rasterio(job["scene"])
    box = GeoBox((grid["height"], grid["width"]), grid["transform"], grid["crs"])
    found = image.odc.reproject(box, resampling=job["resampling"])
    publish(job, found.values, grid, image.rio.nodata)


def rioxarray_warp(job: dict) -> None:
    """rioxarray's reproject in memory."""
    import rioxarray

    grid = target(job)
    image = rioxarray.open_rasterio(job["scene"])
    found = image.rio.reproject(grid["crs"], shape=(grid["height"], grid["width"]), transform=grid["transform"],
                                resampling=Resampling[job["resampling"]], num_threads=2)
    publish(job, found.values, grid, image.rio.nodata)


def copy_cog(job: dict) -> None:
    """GDAL's own copy of the scene to a COG: what decoding and coding cost."""
    with rasterio.Env(GDAL_NUM_THREADS="ALL_CPUS"):
        rasterio.shutil.copy(job["scene"], job["output"], driver="COG", **COG)


PROGRAMS = {f.__name__: f for f in (scene, positions, like, error, rasterio_warp, odc_geo, rioxarray_warp, copy_cog)}

if __name__ == "__main__":
    answer = PROGRAMS[sys.argv[1]](json.loads(Path(sys.argv[2]).read_text()))
    print(json.dumps(answer or {}))
