"""Laws of the output's layout: GDAL takes it for a COG, and it holds what the COG driver would write."""

import struct

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from geoi2i.core.grid import Grid
from geoi2i.core.output import cog
from geoi2i.core.output.execute import save_raster
from geoi2i.core.output.profile import OutputSpec
from geoi2i.core.raster.bands import Band
from geoi2i.core.raster.rows import Rows

RANDOM = np.random.default_rng(0)


def write(path, pixels, shown=None, alpha=False, **facts):
    """Publishes an array, in uneven pieces, as an output raster, whose last band may be alpha."""
    count, height, width = pixels.shape
    grid = Grid("EPSG:32631", rasterio.Affine(10, 0, 500000, 0, -10, 4000000), height, width)
    bands = tuple(Band(f"b{k}") for k in range(count - alpha)) + (Band(None, colour="alpha"),) * alpha
    spec = OutputSpec(grid, bands, str(pixels.dtype), **facts)
    parts = [slice(row, row + 77) for row in range(0, height, 77)]
    return save_raster(path, spec, [Rows(part.start, pixels[:, part], None if shown is None else shown[:, part])
                                    for part in parts])


def levels(path):
    """(pixels, GDAL's mask, tags that say how it is stored) of the full resolution and of each overview."""
    with rasterio.open(path) as data:
        count = len(data.overviews(1))
    for level in (None, *range(count)):
        with rasterio.open(path, **({} if level is None else {"overview_level": level})) as data:
            yield data.read(), data.dataset_mask(), data.tags(ns="IMAGE_STRUCTURE")


@pytest.mark.slow
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("dtype, masked, alpha", [("uint8", False, False), ("uint16", True, False),
                                                  ("float32", False, False), ("uint16", False, True)])
def test_it_holds_what_gdals_cog_driver_writes(tmp_path, monkeypatch, dtype, masked, alpha, big):
    if big:
        monkeypatch.setattr(cog, "_CLASSIC_BYTES", 0)
    pixels = RANDOM.integers(1, 255, (3, 1024, 2048)).astype(dtype)
    valid = np.ones((1, 1024, 2048), bool)
    valid[:, 100:612, 200:1400] = False
    mask = None
    if masked:
        mask = valid * np.uint8(255)
    elif alpha:
        pixels = np.concatenate([pixels, valid * np.uint16(65535)])
    found = write(tmp_path / "found.tif", pixels, mask, mask=masked, alpha=alpha)
    with open(found, "rb") as file:
        assert struct.unpack("<2sH", file.read(4)) == (b"II", 43 if big else 42)
    rasterio.shutil.copy(found, tmp_path / "again.tif", driver="COG", COMPRESS="ZSTD", OVERVIEWS="IGNORE_EXISTING",
                         OVERVIEW_RESAMPLING="AVERAGE", BLOCKSIZE="512", PREDICTOR="YES")
    ours, theirs = list(levels(found)), list(levels(tmp_path / "again.tif"))
    assert len(ours) == len(theirs) == 3
    for (a, valid_a, stored_a), (b, valid_b, stored_b) in zip(ours, theirs):
        both = valid_a & valid_b != 0
        np.testing.assert_allclose(a[:3, both], b[:3, both], rtol=1e-6)
        np.testing.assert_array_equal(valid_a, valid_b)
        assert stored_a == stored_b
    assert ours[0][2]["LAYOUT"] == "COG"
    np.testing.assert_array_equal(ours[0][0], pixels)


def test_tiles_lie_in_the_order_that_the_header_promises(tmp_path):
    """Smallest overview first, row by row; size before, last bytes behind, the mask's tile after the image's."""
    mask = np.where(RANDOM.random((1, 1100, 700)) < 0.5, 0, 255).astype("uint8")
    found = write(tmp_path / "o.tif", RANDOM.integers(0, 255, (2, 1100, 700), "uint8"), mask, mask=True)
    places, blob = [], found.read_bytes()
    position = struct.unpack("<I", blob[4:8])[0]
    while position:
        (count,) = struct.unpack("<H", blob[position : position + 2])
        entries = {tag: (kind, n, at) for tag, kind, n, at in
                   struct.iter_unpack("<HHII", blob[position + 2 : position + 2 + 12 * count])}
        assert list(entries) == sorted(entries)
        arrays = []
        for tag in (324, 325):
            kind, n, at = entries[tag]
            assert kind == 4
            arrays.append(struct.unpack(f"<{n}I", blob[at : at + 4 * n]) if n > 1 else (at,))
        places.append(list(zip(*arrays)))
        (position,) = struct.unpack("<I", blob[position + 2 + 12 * count : position + 6 + 12 * count])
    full, full_mask, *smaller = places
    assert [len(p) for p in places] == [6, 6, 2, 2, 1, 1]
    expected = [tile for image, its_mask in zip(smaller[::-1][1::2], smaller[::-1][::2])
                for pair in zip(image, its_mask) for tile in pair]
    expected += [tile for pair in zip(full, full_mask) for tile in pair]
    assert expected == sorted(expected) and expected[-1][0] + expected[-1][1] + 4 == len(blob)
    for offset, size in expected:
        assert struct.unpack("<I", blob[offset - 4 : offset])[0] == size
        assert blob[offset + size : offset + size + 4] == blob[offset + size - 4 : offset + size]


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (700, 1), (513, 512)])
def test_any_size_has_whole_tiles(tmp_path, shape):
    pixels = RANDOM.integers(0, 65535, (2, *shape)).astype("uint16")
    with rasterio.open(write(tmp_path / "o.tif", pixels)) as data:
        np.testing.assert_array_equal(data.read(), pixels)
        assert data.block_shapes == [(512, 512)] * 2
        assert bool(data.overviews(1)) == (max(shape) > 512)


def test_equal_rows_make_equal_files(tmp_path):
    pixels = RANDOM.integers(0, 255, (1, 600, 600), "uint8")
    assert write(tmp_path / "a.tif", pixels).read_bytes() == write(tmp_path / "b.tif", pixels).read_bytes()


@pytest.mark.parametrize("kept", [0, 1, 7, 8, 9, 60])
def test_a_file_that_was_cut_off_or_is_none_is_no_strip(tmp_path, kept):
    """As GDAL leaves it where the disk is full, at times without a word."""
    path = tmp_path / "x.tif"
    with rasterio.open(path, "w", driver="GTiff", count=1, height=1024, width=1024, dtype="uint8", tiled=True,
                       blockxsize=256, blockysize=256) as out:
        out.write(RANDOM.integers(0, 255, (1, 1024, 1024), "uint8"))
    with open(path, "rb") as file:
        assert len(cog.read_strip(file, path.read_bytes)[1].offsets) == 16
    path.write_bytes(path.read_bytes()[:kept] if kept != 9 else b"MM\0*\0\0\0\x08")
    with pytest.raises(OSError, match="was cut off"), open(path, "rb") as file:
        cog.read_strip(file, path.read_bytes)
