"""Laws of creation options: GDAL finds tiles coded as asked, the pixels are the same, and the file is still a COG."""

import itertools
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from geoi2i.core.errors import RasterError
from geoi2i.core.output import execute
from geoi2i.core.output.creation import ALLOWED, STANDARD, CreationOptions

sys.path.insert(0, str(Path(__file__).parent))
from pass_through import identity, reprojected, says

PREDICTOR = 317


def parse(*given):
    return CreationOptions.parse(given)


def tag(path, number):
    """One short value of the first directory of a classic TIFF; None where it has no such tag."""
    blob = path.read_bytes()
    (at,) = struct.unpack("<I", blob[4:8])
    (count,) = struct.unpack("<H", blob[at : at + 2])
    entries = {n: value for n, _, _, value in struct.iter_unpack("<HHIH2x", blob[at + 2 : at + 2 + 12 * count])}
    return entries.get(number)


@pytest.fixture
def scene(make_raster):
    def make(dtype="uint16", masked=True, **facts):
        pixels = np.random.default_rng(0).integers(0, 200, (2, 700, 1100)).astype(dtype)
        mask = np.full((700, 1100), 255, "uint8")
        mask[100:500, 300:] = 0
        return make_raster(pixels, **({"mask": mask} if masked else {}), **facts)

    return make


@pytest.mark.slow
@pytest.mark.parametrize("compress, block", itertools.product(ALLOWED["COMPRESS"], ALLOWED["BLOCKSIZE"]))
def test_gdal_finds_what_was_asked_for_and_the_same_pixels(scene, tmp_path, compress, block):
    source = scene()
    plain, found = identity(source), Path(identity(source, tmp_path / "found.tif", creation=parse(
        f"compress={compress}", f"BLOCKXSIZE={block}", f"BLOCKYSIZE={block}", "TILED=yes")))
    assert says(found) == says(plain)
    size, levels = (700, 1100), 0
    with rasterio.open(found) as data:
        stored = data.tags(ns="IMAGE_STRUCTURE")
        assert stored.get("COMPRESSION", "NONE") == compress and stored["LAYOUT"] == "COG"
        assert set(data.block_shapes) == {(int(block),) * 2}
        levels = len(data.overviews(1))
    for level in range(levels):
        size = tuple(-(-side // 2) for side in size)
        with rasterio.open(found, overview_level=level) as data:
            assert data.shape == size and data.block_shapes[0] == (int(block),) * 2
            assert data.read().any() and 0 < (data.dataset_mask() == 0).mean() < 0.5
    assert max(size) <= int(block) < 2 * max(size)  # as the COG driver has it


@pytest.mark.parametrize("dtype, given, predictor", [
    ("uint8", (), 2), ("float32", (), 3), ("float32", ("PREDICTOR=2",), 2), ("float64", ("PREDICTOR=3",), 3),
    ("int32", ("PREDICTOR=1",), None), ("uint16", ("COMPRESS=LZW",), 2), ("uint16", ("COMPRESS=PACKBITS",), None),
    ("int16", ("COMPRESS=DEFLATE", "PREDICTOR=2", "ZLEVEL=9"), 2)])
def test_the_predictor_is_the_one_that_was_asked_for_or_suits_the_type(scene, tmp_path, dtype, given, predictor):
    found = Path(identity(scene(dtype, masked=False), tmp_path / "o.tif", creation=parse(*given)))
    assert (tag(found, PREDICTOR) or 1) == (predictor or 1)


def test_a_higher_level_makes_a_smaller_file(make_raster, tmp_path):
    words = np.random.default_rng(0).integers(0, 255, (40, 100), "uint8")
    source = make_raster(words[np.random.default_rng(1).integers(0, 40, (1, 600, 6))].reshape(1, 600, 600))
    for method, name, low, high in (("DEFLATE", "ZLEVEL", 1, 9), ("ZSTD", "ZSTD_LEVEL", 1, 19)):
        sizes = [Path(identity(source, tmp_path / f"{level}.tif", creation=parse(
            f"COMPRESS={method}", f"{name}={level}"))).stat().st_size for level in (low, high)]
        assert sizes[1] < 0.99 * sizes[0]


@pytest.mark.parametrize("given, version", [("YES", 43), ("IF_NEEDED", 42), ("IF_SAFER", 42)])
def test_a_bigtiff_is_written_where_it_is_asked_for(scene, tmp_path, given, version):
    source = scene()
    found = Path(identity(source, tmp_path / "o.tif", creation=parse(f"BIGTIFF={given}")))
    assert struct.unpack("<2sH", found.read_bytes()[:4]) == (b"II", version) and says(found) == says(identity(source))
    assert parse("BIGTIFF=IF_SAFER").asks_for_big(3 << 30) and not parse("BIGTIFF=IF_NEEDED").asks_for_big(3 << 30)


def test_what_is_done_anyway_changes_nothing(scene, tmp_path):
    source = scene()
    given = parse("COMPRESS=ZSTD", "blocksize=512", "BIGTIFF=IF_NEEDED", "TILED=YES", "INTERLEAVE=pixel",
                  "NUM_THREADS=ALL_CPUS")
    assert given == STANDARD and given.fingerprint == {}
    assert Path(identity(source, tmp_path / "o.tif", creation=given)).read_bytes() == Path(
        identity(source)).read_bytes()


def test_a_run_resumes_with_its_own_options_only(scene, monkeypatch):
    """Strips coded in two ways do not make one file."""
    source, deflate = scene(), parse("COMPRESS=DEFLATE")

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(execute.Strips, "assemble", stop)
        with pytest.raises(KeyboardInterrupt):
            reprojected(source, creation=deflate)
    with pytest.raises(RasterError, match="differs"):
        reprojected(source)
    told = []
    reprojected(source, creation=deflate, told=told)
    assert any("made before" in text for text in told)


@pytest.mark.parametrize("given, sentence", [
    (["NBITS=4"], "COMPRESS, PREDICTOR, ZLEVEL"), (["COMPRESS"], "give NAME=VALUE"), ([""], "give NAME=VALUE"),
    (["COMPRESS=JPEG"], "COMPRESS takes NONE, PACKBITS, LZW, DEFLATE, ZSTD"), (["ZLEVEL=10"], "ZLEVEL takes 1 to 9"),
    (["BLOCKSIZE=1024"], "BLOCKSIZE takes 128, 256, 512"), (["BIGTIFF=NO"], "BIGTIFF takes IF_NEEDED"),
    (["TILED=NO"], "TILED takes YES"), (["ZLEVEL=9"], "ZLEVEL goes with COMPRESS=DEFLATE"),
    (["COMPRESS=LZW", "ZSTD_LEVEL=3"], "goes with COMPRESS=ZSTD"), (["COMPRESS=NONE", "PREDICTOR=2"], "goes with"),
    (["BLOCKXSIZE=256"], "square"), (["BLOCKXSIZE=256", "BLOCKYSIZE=128"], "square"),
    (["BLOCKSIZE=128", "BLOCKXSIZE=256", "BLOCKYSIZE=256"], "square")])
def test_what_cannot_be_written_so_is_refused(given, sentence):
    with pytest.raises(RasterError, match=sentence):
        parse(*given)


def test_a_predictor_that_does_not_suit_the_output_is_refused_before_the_work(scene, tmp_path, make_raster):
    with pytest.raises(RasterError, match="PREDICTOR=3 is for floating point, and the output is uint16"):
        identity(scene(), tmp_path / "o.tif", creation=parse("PREDICTOR=3"))
    with pytest.raises(RasterError, match="4 bits"):
        parse("PREDICTOR=2").check("uint8", 4)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("o.tif")] == []
