"""Laws of what numbers mean: identity changes none and says all again, and a reprojection what it can.

Expected values are the arrays that were written, and what GDAL (rasterio) reads of input and output.
"""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from geoi2i.core.output.overviews import halve
from geoi2i.core.raster.source import RasterSource
from geoi2i.core.run import Callbacks
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.enums import MaskFlags

sys.path.insert(0, str(Path(__file__).parent))
from pass_through import identity, reprojected, says

pytestmark = pytest.mark.slow

INTEGERS = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")


def extremes(dtype, shape, generator):
    """Numbers from all over a dtype, its ends among them; of floats those too that are none."""
    if np.dtype(dtype).kind == "f":
        pixels = generator.normal(0, 1e6, shape).astype(dtype)
        flat = pixels.reshape(-1)
        flat[: min(3, flat.size)] = [np.finfo(dtype).max, np.nan, np.inf][: flat.size]
        return pixels
    info = np.iinfo(dtype)
    pixels = generator.integers(info.min, info.max, shape, dtype, endpoint=True)
    pixels.reshape(-1)[:2] = [info.min, info.max][: pixels.size]
    return pixels


COLOURS = {"gray": ["gray"], "rgb": ["red", "green", "blue"], "rgba": ["red", "green", "blue", "alpha"],
           "argb": ["alpha", "red", "green", "blue"], "gray alpha": ["gray", "alpha"],
           "five": ["red", "green", "blue", "undefined", "alpha"], "two alphas": ["gray", "alpha", "alpha"],
           "CMYK": ["cyan", "magenta", "yellow", "black"], "infrared": ["nir", "red", "swir"]}


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([*INTEGERS, "float32", "float64"]), st.sampled_from(["none", "low", "high", "nan", "zero"]),
       st.booleans(), st.sampled_from(sorted(COLOURS)), st.integers(0, 9))
def test_identity_changes_no_bit_and_says_all_again(make_raster, dtype, nodata, masked, colours, seed):
    generator = np.random.default_rng(seed)
    pixels = extremes(dtype, (len(COLOURS[colours]), 7, 9), generator)
    info, floating = (np.finfo, True) if np.dtype(dtype).kind == "f" else (np.iinfo, False)
    value = {"low": info(dtype).min, "high": info(dtype).max, "zero": 0, "nan": np.nan if floating else 1}.get(nodata)
    if value is not None:
        pixels[:, generator.random((7, 9)) < 0.3] = value
    pixels[:, 3, 3] = 5  # something to translate
    mask = np.where(generator.random((7, 9)) < 0.3, 0, 255).astype("uint8")
    mask[3, 3] = 255
    # rasterio writes nodata as a double, in which both ends of 64 bits are others
    wide = dtype in ("int64", "uint64") and nodata in ("low", "high")
    source = make_raster(pixels, mask=mask if masked else None, colours=COLOURS[colours],
                         nodata=None if wide or value is None else float(value))
    if wide:
        source = with_exact_nodata(source, value)
    assert says(identity(source)) == says(source)


def with_exact_nodata(source, value):
    """A copy of a raster whose nodata is a 64-bit integer."""
    with rasterio.MemoryFile(ext=".vrt") as memory:
        with rasterio.open(source) as data:
            rasterio.shutil.copy(data, memory.name, driver="VRT")
        text = bytes(memory.getbuffer()).decode()
    text = re.sub(r'(band="\d+"[^>]*>)', rf"\1<NoDataValue>{value}</NoDataValue>", text)
    copy = Path(source).with_name("exact.tif")
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.MemoryFile(text.encode(), ext=".vrt") as vrt:
        rasterio.shutil.copy(vrt.name, copy, driver="GTiff")
    return str(copy)


@pytest.mark.parametrize("dtype, value", [("uint64", 2**64 - 1), ("int64", -(2**63)), ("int64", 2**63 - 1),
                                          ("uint64", 2**53 + 1), ("int64", -1), ("uint64", 0)])
def test_nodata_of_64_bits_is_an_integer_all_the_way(make_raster, dtype, value):
    other = value - 2 if value > 2 else value + 2
    pixels = np.full((1, 40, 30), other, dtype)
    pixels[0, 5:9] = value
    source = with_exact_nodata(make_raster(pixels), value)
    raster = RasterSource.open(source)
    assert raster.bands[0].nodata == value and type(raster.bands[0].nodata) is int
    for result in (identity(source), reprojected(source), reprojected(source, "bilinear")):
        assert RasterSource.open(result).bands[0].nodata == value
        with rasterio.open(result) as data:
            shown = data.read_masks(1) != 0
            assert set(np.unique(data.read(1)[shown])) == {other} and (data.read(1)[~shown] == value).all()
            assert 0 < (~shown).sum() < 250


@pytest.mark.parametrize("dtype", [*INTEGERS, "float32", "float64"])
def test_the_nearest_pixel_is_taken_bit_for_bit(make_raster, dtype):
    pixels = extremes(dtype, (2, 12, 13), np.random.default_rng(0))
    source = make_raster(pixels)
    with rasterio.open(reprojected(source, scale=0.5)) as data:
        found, shown = data.read(), data.read_masks() != 0
    kept = np.isin(found.view(f"u{pixels.itemsize}"), pixels.view(f"u{pixels.itemsize}"))
    assert shown.any() and kept[shown & np.isfinite(found.astype("float64"))].all()
    assert np.array_equal(found[:, 0, 0], pixels[:, 0, 0], equal_nan=True)


@pytest.mark.parametrize("resampling", ["nearest", "bilinear", "cubic", "lanczos", "average"])
@pytest.mark.parametrize("dtype, value", [
    ("uint8", 100), ("int8", -100), ("uint16", 65535), ("int16", 100), ("uint32", 2**32 - 1), ("int32", 2**31 - 1),
    ("int64", 2**53 + 1), ("int64", -(2**63)), ("uint64", 2**64 - 1), ("float32", 100), ("float32", 0.1),
    ("float64", 100), ("float64", 1 / 3)])
@pytest.mark.parametrize("scale", [0.37, 3.1])
def test_what_is_constant_stays_so_at_borders_and_holes_too(make_raster, resampling, dtype, value, scale):
    pixels, mask = np.full((1, 41, 37), value, dtype), np.full((41, 37), 255, "uint8")
    mask[10:14, 20:23] = mask[30, 5] = 0
    with rasterio.open(reprojected(make_raster(pixels, mask=mask), resampling, scale)) as data:
        found = data.read(1)[data.read_masks(1) != 0]
    assert found.size and found.tobytes() == np.full(found.shape, value, dtype).tobytes()


def test_a_plateau_in_other_numbers_stays_level(make_raster):
    pixels = np.random.default_rng(0).normal(0, 1, (1, 60, 60)).astype("float64")
    pixels[0, 10:40, 10:40] = 1 / 3
    with rasterio.open(reprojected(make_raster(pixels), "cubic", 0.5)) as data:
        assert (data.read(1)[30:60, 30:60] == 1 / 3).all()


def test_values_between_large_integers_are_their_mean(make_raster):
    pixels = np.full((1, 20, 20), 2**60 + 1, "int64")
    pixels[:, :, 10:] += 10
    with rasterio.open(reprojected(make_raster(pixels), "bilinear", 0.5)) as data:
        found = data.read(1).astype(object) - 2**60
    inside = found[2:-4, 2:-4]
    assert set(inside.ravel()) > {1, 11} and inside.min() == 1 and inside.max() == 11 and (np.diff(inside) >= 0).all()


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_overviews_of_64_bit_integers_are_whole_means(dtype):
    info = np.iinfo(dtype)
    pixels = np.random.default_rng(0).integers(info.min, info.max, (1, 7, 9), dtype, endpoint=True)
    pixels[0, :2, :2], pixels[0, 2:4, :2] = info.max, info.min
    known = np.random.default_rng(1).random((1, 7, 9)) > 0.3
    known[0, :4, :2] = True
    found, _ = halve(pixels, known * np.uint8(255), None)
    wide = np.pad(pixels[0].astype(object), ((0, 1), (0, 1)), mode="edge")
    shown = np.pad(known[0], ((0, 1), (0, 1)), mode="edge")
    for (row, col), value in np.ndenumerate(found[0]):
        block = np.s_[2 * row : 2 * row + 2, 2 * col : 2 * col + 2]
        four = wide[block][shown[block]]
        assert value == (0 if not four.size else (2 * sum(four) + len(four)) // (2 * len(four)))


def test_two_alphas_and_a_mask_and_nodata_are_all_asked(make_raster):
    """A pixel has data where each of them says so; each is there again after a reprojection."""
    pixels = np.full((3, 12, 12), 9, "uint8")
    pixels[0, 0], pixels[1, 1], pixels[2, 2] = 7, 0, 0
    mask = np.full((12, 12), 255, "uint8")
    mask[3] = 0
    source = make_raster(pixels, mask=mask, nodata=7, colours=COLOURS["two alphas"])
    raster = RasterSource.open(source)
    assert raster.mask_kinds == ("nodata", "mask", "alpha") and raster.alphas == (2, 3)
    rows = next(raster.rows())
    assert (rows.mask[0] != 0).all(1).tolist() == [False] * 4 + [True] * 8
    with rasterio.open(reprojected(source)) as data:
        assert [c.name for c in data.colorinterp] == COLOURS["two alphas"] and data.nodata == 7
        assert (data.read(1)[:4] == 7).all() and (data.read(1)[4:11, :11] == 9).all()


def write_vrt(path, source, nodata, size=(16, 16), colours=("Gray",) * 9):
    """A VRT of bytes whose bands have each their own nodata value."""
    text = "".join(f'<VRTRasterBand dataType="Byte" band="{k + 1}">'
                   + ("" if value is None else f"<NoDataValue>{value}</NoDataValue>")
                   + f'<ColorInterp>{colours[k]}</ColorInterp><SimpleSource><SourceFilename relativeToVRT="1">{source}'
                     f"</SourceFilename><SourceBand>{k + 1}</SourceBand></SimpleSource></VRTRasterBand>"
                   for k, value in enumerate(nodata))
    path.write_text(f'<VRTDataset rasterXSize="{size[1]}" rasterYSize="{size[0]}"><SRS>EPSG:32633</SRS><GeoTransform>'
                    f"500000,10,0,5000000,0,-10</GeoTransform>{text}</VRTDataset>")
    return str(path)


def test_bands_with_marks_of_their_own_under_alpha(make_raster, tmp_path):
    """One nodata value is found for all, and what alpha hides keeps its number."""
    pixels = np.arange(3 * 30, dtype="uint8").reshape(3, 5, 6)
    pixels[2] = 255
    pixels[2, 4, 4] = 0
    make_raster(pixels, colours=["red", "green", "alpha"], name="parts.tif")
    source = write_vrt(tmp_path / "in.vrt", "parts.tif", (3, 40, None), (5, 6), ("Red", "Green", "Alpha"))
    with rasterio.open(identity(source)) as data:
        found, nodata = data.read(), data.nodata
    assert found[0, 0, 3] == found[1, 1, 4] == nodata and (found[:2] == nodata).sum() == 2
    assert np.array_equal(found[2], pixels[2]) and found[0, 4, 4] == pixels[0, 4, 4]


def test_no_valid_pixel_is_lost_where_every_number_is_taken(tmp_path, make_raster):
    """Two bands with a nodata value each, and all 256 numbers in use: a mask says where no band has data."""
    pixels = np.stack([np.arange(256, dtype="uint8").reshape(16, 16), np.arange(256, dtype="uint8").reshape(16, 16)])
    pixels[0, 15, 15], pixels[1, 15, 15], pixels[1, 0, 0] = 3, 40, 255
    make_raster(pixels, name="parts.tif")
    source = write_vrt(tmp_path / "in.vrt", "parts.tif", (3, 40))
    told = []
    for result in (identity(source, callbacks=Callbacks(message=told.append)), reprojected(source, told=told)):
        with rasterio.open(result) as data:
            assert data.nodata is None and MaskFlags.per_dataset in data.mask_flag_enums[0]
            shown = data.dataset_mask() != 0
            assert not shown[15, 15] and shown[0, 3] and shown[:15, :15].all() and data.read(2)[0, 3] == 3
    assert sum("one mask for all" in text for text in told) == 2


def test_nodata_that_no_pixel_can_have_hides_none(make_raster, tmp_path):
    """-9999 in bytes, a fraction, or a number beyond: none of them wraps around to a pixel's."""
    make_raster(np.arange(256, dtype="uint8").reshape(1, 16, 16), name="parts.tif")
    for value in ("-9999", "0.5", "256", "1e300"):
        mask = next(RasterSource.open(write_vrt(tmp_path / "in.vrt", "parts.tif", (value,))).rows()).mask
        assert mask is None or mask.all(), value

