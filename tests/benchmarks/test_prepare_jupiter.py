"""The two maps of Jupiter meet on one grid: latitudes are converted, longitudes wrap, resolution falls."""

import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from geoi2i.core.raster.source import RasterSource

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from prepare_jupiter import blur, prepare_source, prepare_target


def test_a_feature_of_the_hubble_map_lands_where_the_mosaics_have_it(tmp_path):
    graphic, centric = (rasterio.crs.CRS.from_authority("IAU_2015", code) for code in ("59901", "59902"))
    hubble = np.full((3, 450, 900), 100, np.uint8)
    row, col = round((90 + 22.6) / 0.4), 625  # a spot at 22.6 south, 250 degrees east
    hubble[:, row - 4 : row + 4, col - 4 : col + 4] = 250
    with rasterio.open(tmp_path / "hubble.tif", "w", driver="GTiff", count=3, height=450, width=900, dtype="uint8",
                       crs=graphic, transform=Affine(0.4, 0, 0, 0, -0.4, 90)) as out:
        out.write(hubble)
    with rasterio.open(tmp_path / "mosaic.tif", "w", driver="GTiff", count=3, height=720, width=1440, dtype="uint8",
                       crs=centric, transform=Affine(0.25, 0, -180, 0, -0.25, 90)) as out:
        out.write(np.full((3, 720, 1440), 2, np.uint8))
        out.write(np.full((3, 100, 100), 90, np.uint8), window=rasterio.windows.Window(0, 0, 100, 100))
    grid = prepare_source(tmp_path / "mosaic.tif", tmp_path / "source.tif")
    prepare_target(tmp_path / "hubble.tif", tmp_path / "target.tif", grid)
    with rasterio.open(tmp_path / "source.tif") as data:
        assert data.dataset_mask().astype(bool).sum() == 100 * 100, "a background of 2 is no data"
    with rasterio.open(tmp_path / "target.tif") as data, rasterio.open(tmp_path / "mosaic.tif") as mosaic:
        assert data.crs == mosaic.crs
        y, x = np.unravel_index(data.read(1).astype(int).argmax(), data.shape)
        lon, lat = data.xy(y, x)
    assert lat == pytest.approx(-20.0, abs=0.5) and lon == pytest.approx(250 - 360, abs=1.0)
    assert RasterSource.open(tmp_path / "target.tif").grid.latitude == "planetocentric"


def test_blur_keeps_the_mean_and_wraps_in_longitude():
    image = torch.zeros(1, 40, 80)
    image[:, 20, 0] = 1.0
    soft = blur(image, 2.0)
    assert soft.sum() == pytest.approx(1.0, abs=1e-5)
    assert soft[0, 20, 79] == pytest.approx(float(soft[0, 20, 1]), abs=1e-7)
