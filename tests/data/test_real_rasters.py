"""The laws of the identity on real rasters of many kinds; `make test-data` with GEOI2I_DATA."""

import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
from geoi2i.core.errors import RasterError
from geoi2i.core.package import identity_package
from geoi2i.core.raster import RasterSource
from geoi2i.core.run import Options, translate_raster

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
