"""Laws of the decimated read: the pixels are those that GDAL picks, and no block is decoded twice."""

import numpy as np
import psutil
import pytest
import rasterio
from affine import Affine
from geoi2i.core.raster import decimated
from geoi2i.core.raster.decimated import decode, small_shape
from geoi2i.core.raster.source import RasterSource
from hypothesis import given
from hypothesis import strategies as st


@given(st.integers(1, 5000), st.integers(1, 1100))
def test_picks_are_those_of_gdal(size, longest):
    """A line of GDAL's own numbers, made small by GDAL."""
    with rasterio.MemoryFile() as file:
        with file.open(driver="GTiff", height=1, width=size, count=1, dtype="int32",
                       transform=Affine.scale(10)) as out:
            out.write(np.arange(size, dtype="int32")[None, None])
        with file.open() as data:
            count = min(size, longest)
            assert decimated.nearest(size, count).tolist() == data.read(1, out_shape=(1, count))[0].tolist()


LAYOUTS = {
    "tiles, by pixel": {"tiled": True, "blockxsize": 64, "blockysize": 48, "interleave": "pixel", "compress": "zstd"},
    "tiles, by band": {"tiled": True, "blockxsize": 32, "blockysize": 64, "interleave": "band", "compress": "deflate"},
    "small tiles": {"tiled": True, "blockxsize": 16, "blockysize": 16, "interleave": "pixel"},
    "strips": {"blockysize": 1, "interleave": "pixel"},
    "strips of some rows": {"blockysize": 7, "interleave": "band", "compress": "lzw"},
    "one strip": {"blockysize": 311, "interleave": "pixel", "compress": "lzw"}}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("holes", ["", "nodata", "nan", "mask", "alpha"])
@pytest.mark.parametrize("read_bytes", [1, decimated._READ_BYTES])
def test_a_decimated_read_is_that_of_gdal(make_raster, monkeypatch, layout, holes, read_bytes):
    monkeypatch.setattr(decimated, "_READ_BYTES", read_bytes)
    monkeypatch.setattr(decimated, "_ROW_BYTES", read_bytes)
    generator, dtype = np.random.default_rng(0), "float32" if holes == "nan" else "int16"
    pixels, empty = generator.integers(1, 999, (3, 311, 405)).astype(dtype), generator.random((3, 311, 405)) < 0.3
    if holes in ("nodata", "nan"):
        pixels[empty] = -9 if holes == "nodata" else np.nan
    one = np.where(empty[0], 0, 255).astype("uint8")
    path = make_raster(pixels, mask=one if holes == "mask" else None, alpha=one if holes == "alpha" else None,
                       nodata=-9 if holes == "nodata" else None, **LAYOUTS[layout])
    raster = RasterSource.open(path)
    for longest in (1, 7, 22, 100, 290, 404, 1024):
        found, shape = raster.decimated(longest), small_shape(raster.grid, longest)
        with rasterio.open(path) as data:
            assert np.array_equal(found.pixels, data.read((1, 2, 3), out_shape=(3, *shape)), equal_nan=holes == "nan")
            if not holes:
                assert found.mask is None
                continue
            if holes == "alpha":
                wanted = data.read(4, out_shape=shape) != 0
            elif holes == "nan":
                wanted = ~np.isnan(data.read(out_shape=(3, *shape)))
            else:
                wanted = data.read_masks((1, 2, 3), out_shape=(3, *shape)) != 0
        mask = np.broadcast_to(True if found.mask is None else found.mask != 0, found.pixels.shape)
        assert np.array_equal(mask, np.broadcast_to(wanted, mask.shape))


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Noise of 25 MB a layout, which nothing compresses and GDAL's cache does not hold."""
    pixels = np.random.default_rng(0).integers(0, 65535, (3, 2048, 2048), "uint16")
    folder, paths = tmp_path_factory.mktemp("large"), {}
    for name, profile in {"tiles, by pixel": {"tiled": True, "interleave": "pixel"}, "strips": {"interleave": "pixel"},
                          "tiles, by band": {"tiled": True, "interleave": "band"}}.items():
        blocks = {"blockxsize": 256, "blockysize": 256} if "tiled" in profile else {}
        paths[name] = folder / f"{name}.tif"
        with rasterio.open(paths[name], "w", driver="GTiff", height=2048, width=2048, count=3, dtype="uint16",
                           compress="zstd", zstd_level=1, crs="EPSG:32631", transform=Affine.scale(10), **profile,
                           **blocks) as out:
            out.write(pixels)
    return paths


SWEEPS = {"rows": lambda raster: list(raster.rows()), "statistics": lambda raster: raster.statistics((2, 98)),
          "decimated": lambda raster: raster.decimated(), "little decimated": lambda raster: raster.decimated(1900)}


@pytest.mark.parametrize("layout", ["tiles, by pixel", "tiles, by band", "strips"])
@pytest.mark.parametrize("sweep", SWEEPS)
def test_a_sweep_decodes_no_block_twice(large, layout, sweep):
    """Told by the bytes that the process has read: those of the file, once, and of its header."""
    raster = RasterSource.open(large[layout])
    before = psutil.Process().io_counters().read_chars
    SWEEPS[sweep](raster)
    read = psutil.Process().io_counters().read_chars - before
    assert read <= large[layout].stat().st_size * 1.02


def test_strips_between_those_that_are_needed_are_not_read(large):
    raster = RasterSource.open(large["strips"])
    before = psutil.Process().io_counters().read_chars
    raster.decimated(100)
    read = psutil.Process().io_counters().read_chars - before
    assert read <= large["strips"].stat().st_size / 5


def test_reads_in_columns_are_narrow(large, monkeypatch):
    """Where a row of blocks is too much, some columns of them are read at a time, and each block once."""
    monkeypatch.setattr(decimated, "_ROW_BYTES", 1 << 20)
    raster, seen = RasterSource.open(large["tiles, by pixel"]), []
    monkeypatch.setattr(decimated, "decode", lambda raster, data, part, **more: (
        seen.append(part), decode(raster, data, part, **more))[1])
    found = raster.decimated(300)
    assert max(part.width for part in seen) == 512 and sum(part.width * part.height for part in seen) == 2048**2
    assert len({(part.row_off, part.col_off) for part in seen}) == len(seen)
    with rasterio.open(large["tiles, by pixel"]) as data:
        assert np.array_equal(found.pixels, data.read(out_shape=(3, 300, 300)))

