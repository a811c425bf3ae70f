"""The laws of the identity on real rasters of many kinds; `make test-data` with GEOI2I_DATA."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from geoi2i.core.errors import RasterError
from geoi2i.core.grid import Window, parse_crs
from geoi2i.core.models.package import identity_package
from geoi2i.core.raster.source import RasterSource
from geoi2i.core.reproject.coordinates import between
from geoi2i.core.reproject.target_grid import named_crs, target_grid
from geoi2i.core.reproject.warping import Warping
from geoi2i.core.run import Options, reproject_raster, translate_raster
from scipy.ndimage import binary_dilation

pytestmark = pytest.mark.data
ROOT = Path(os.environ.get("GEOI2I_DATA", Path(__file__).parents[3] / "shared" / "data"))
RASTERS = sorted(p for p in ROOT.rglob("*") if p.suffix.lower() in (".tif", ".tiff", ".jp2"))


def test_the_data_are_there():
    assert len(RASTERS) > 50, f"{ROOT} holds {len(RASTERS)} rasters: set GEOI2I_DATA to the data folder"


@pytest.mark.parametrize("path", RASTERS, ids=lambda p: p.name)
def test_identity_keeps_a_real_raster_whole(path, tmp_path):
    with rasterio.open(path) as data:
        placed_by_points = data.transform.is_identity and bool(data.gcps[0])
        empty = not data.dataset_mask().any()
    if placed_by_points or empty:
        with pytest.raises(RasterError, match=r"control points|nodata"):
            translate_raster(str(path), tmp_path / "o.tif", identity_package(1), Options())
        return
    count = len(RasterSource.open(path).bands)
    out = translate_raster(str(path), tmp_path / "o.tif", identity_package(count), Options(tile=200, overlap=24))
    with rasterio.open(path) as a, rasterio.open(out) as b:
        assert a.crs == b.crs and a.transform == b.transform and a.descriptions == b.descriptions
        assert a.scales == b.scales and a.offsets == b.offsets and a.units == b.units
        for band in range(1, count + 1):
            before, after = a.read(band), b.read(band)
            valid = a.read_masks(band) > 0
            if np.issubdtype(before.dtype, np.floating):
                valid &= np.isfinite(before)
            assert np.array_equal(before[valid], after[valid]), band
            assert np.array_equal(valid, (b.read_masks(band) > 0) & np.isfinite(after)), band


@pytest.mark.parametrize("resampling", ["nearest", "bilinear", "cubic"])
@pytest.mark.parametrize("path", RASTERS, ids=lambda p: p.name)
def test_reprojection_agrees_with_gdalwarp(path, tmp_path, resampling):
    """Onto an equal-area system around the raster's middle, on 400 x 400 pixels there; on Earth and on spheres."""
    with rasterio.open(path) as data:
        if data.crs is None or (data.transform.is_identity and data.gcps[0]):
            return
    plain = str(tmp_path / "plain.tif")
    rasterio.shutil.copy(path, plain, driver="GTiff")  # two builds of libjpeg decode JPEG differently
    raster = RasterSource.open(plain)
    source = raster.grid
    crs = parse_crs(source.crs)
    if source.body != "Earth" and crs.ellipsoid.inverse_flattening:
        return  # there GDAL does not tell the latitudes apart
    degrees = named_crs("+proj=longlat +datum=WGS84" if source.body == "Earth" else
                           f"+proj=longlat +R={crs.ellipsoid.semi_major_metre}")
    x, y = source.transform * (source.width / 2, source.height / 2)
    longitude, latitude = (float(v[0]) for v in between(source, degrees)(np.array([x]), np.array([y])))
    size = "+datum=WGS84" if source.body == "Earth" else f"+R={crs.ellipsoid.semi_major_metre}"
    system = named_crs(f"+proj=laea +lat_0={latitude} +lon_0={longitude} {size}")
    whole = target_grid(source, system)
    middle = Window(max(0, whole.height // 2 - 200), max(0, whole.width // 2 - 200), min(400, whole.height),
                    min(400, whole.width))
    grid = whole.crop(middle)
    t = grid.transform
    corners = [repr(float(v)) for v in (t.c, t.f + t.e * grid.height, t.c + t.a * grid.width, t.f)]
    hidden = [] if raster.alphas else ["-dstalpha"]
    subprocess.run(["gdalwarp", "-q", "-et", "0", "-wo", "XSCALE=1", "-wo", "YSCALE=1", "-wo", "UNIFIED_SRC_NODATA=NO",
                    *hidden, "-t_srs", grid.crs, "-te", *corners, "-ts", str(grid.width), str(grid.height), "-r",
                    resampling, plain, str(tmp_path / "wanted.tif")], check=True, capture_output=True)
    with rasterio.open(tmp_path / "wanted.tif") as data:
        count = len(raster.bands)
        wanted, there = data.read()[:count].astype(float), data.read(data.count) > 0
    if not there.any():
        with pytest.raises(RasterError, match="Nothing of"):
            reproject_raster(plain, tmp_path / "o.tif", grid)
        return
    output = reproject_raster(plain, tmp_path / "o.tif", grid, Warping(resampling, 0.001, antialias=False))
    with rasterio.open(output) as data:
        found, shown = data.read()[:count].astype(float), data.read_masks() != 0
    partial = ~(shown[:count] & np.isfinite(found)).all(0)
    shown = shown[:count].any(0)
    edge = binary_dilation(there, np.ones((3, 3))) & binary_dilation(~there, np.ones((3, 3)))
    assert (shown == there)[~edge].mean() > 0.999  # pixels that lack some bands count differently
    inside = shown & there & ~binary_dilation(~there | partial, np.ones((5, 5)))
    if not inside.any():
        return
    difference = np.abs(found - wanted)[:, inside]
    if resampling == "nearest":
        assert (difference == 0).mean() >= 0.9999
    else:
        span = np.ptp(wanted[:, inside])
        assert difference.mean() <= 1e-4 * span + 0.01 and difference.max() <= 5e-3 * span + 1
