"""Laws of dtype and nodata values that are asked for: numbers are gdalwarp's, none is lost, and 64 bits stay exact.

Expected values are gdalwarp's on the same grid, exact arithmetic, and the arrays that were written.
"""

import subprocess
from fractions import Fraction
from math import floor

import numpy as np
import pytest
import rasterio
from affine import Affine
from geoi2i.core.errors import RasterError
from geoi2i.core.grid import Grid
from geoi2i.core.output.storage import DTYPES, Storage, read_nodata
from geoi2i.core.raster.source import RasterSource
from geoi2i.core.reproject.polygons import read_polygons
from geoi2i.core.reproject.warping import Warping
from geoi2i.core.rounding import converted
from geoi2i.core.run import Callbacks, reproject_raster
from hypothesis import given
from hypothesis import strategies as st
from rasterio.enums import ColorInterp, MaskFlags
from scipy.ndimage import binary_erosion

UTM = Affine(10, 0, 500_000, 0, -10, 5_300_000)
GDAL_TYPES = {"uint8": "Byte", "uint16": "UInt16", "int16": "Int16", "uint32": "UInt32", "int32": "Int32",
              "float32": "Float32", "float64": "Float64"}
HEIGHT, WIDTH = 90, 110
INTEGERS = [dtype for dtype in DTYPES if "int" in dtype]


def numbers(dtype, low=-400, high=70_000):
    """(1,h,w) halves, quarters and whole numbers of a dtype, beyond most others."""
    found = np.random.default_rng(3).integers(4 * low, 4 * high, (1, HEIGHT, WIDTH)) / 4
    found[0, :9, :9] = np.arange(81).reshape(9, 9) / 2 - 20
    found[0, 20:30] = np.arange(WIDTH) * 2.5  # many within a byte
    if np.dtype(dtype).kind != "f":
        found = np.clip(found, np.iinfo(dtype).min, np.iinfo(dtype).max)
    return found.astype(dtype)


def moved(path):
    """A grid that reaches beyond the raster, its pixels between the raster's."""
    grid = RasterSource.open(str(path)).grid
    return Grid(grid.crs, grid.transform @ Affine.translation(-3.7, 4.3) @ Affine.scale(1.3), HEIGHT, WIDTH)


def reprojected(source, tmp_path, resampling="nearest", told=None, **asked):
    cutline = asked.pop("cutline", None)
    callbacks = Callbacks(message=[].append if told is None else told.append)
    return reproject_raster(source, tmp_path / "found.tif", moved(source), Warping(resampling, 0.001), device="cpu",
                            storage=Storage(**asked), cutline=cutline, callbacks=callbacks)


def gdalwarp(source, tmp_path, resampling, *options):
    grid = moved(source)
    t = grid.transform
    corners = [t.c, t.f + t.e * grid.height, t.c + t.a * grid.width, t.f]
    subprocess.run(["gdalwarp", "-q", "-overwrite", "-et", "0", "-te", *map(repr, corners), "-ts", str(WIDTH),
                    str(HEIGHT), "-r", resampling, *options, str(source), str(tmp_path / "wanted.tif")], check=True,
                   capture_output=True)
    return read(tmp_path / "wanted.tif")


def read(path):
    with rasterio.open(path) as data:
        return data.read()


@pytest.mark.slow
@pytest.mark.parametrize("source_dtype", ["float64", "int16", "uint16", "uint8", "int32"])
@pytest.mark.parametrize("dtype, nodata", [("uint8", "255"), ("uint8", "0"), ("uint16", "65535"), ("uint16", "0"),
                                           ("int16", "-32768"), ("uint32", "4294967295"), ("int32", "-99999"),
                                           ("float32", "-9999"), ("float32", "nan"), ("float64", "-1.5e300")])
def test_nearest_pixels_are_gdalwarps(make_raster, tmp_path, source_dtype, dtype, nodata):
    """Halves are rounded and ends clipped as there; only a valid pixel that would be nodata moves by one."""
    source = make_raster(numbers(source_dtype), crs="EPSG:32632", transform=UTM)
    found = reprojected(source, tmp_path, dtype=dtype, nodata=read_nodata(nodata))
    wanted = gdalwarp(source, tmp_path, "near", "-ot", GDAL_TYPES[dtype], "-dstnodata", nodata)
    valid = gdalwarp(source, tmp_path, "near", "-dstalpha")[1:] != 0
    taken = valid & (wanted == float(nodata))  # a valid pixel, which gdalwarp would lose here
    wanted[taken] = wanted[taken] - 1 if float(nodata) > 0 else wanted[taken] + 1
    pixels = read(found)
    assert pixels.dtype == dtype and np.isfinite(np.where(pixels == pixels, pixels, 0)).all()
    np.testing.assert_array_equal(pixels, wanted)
    with rasterio.open(found) as data:
        assert data.nodatavals == pytest.approx((float(nodata),), nan_ok=True)
        np.testing.assert_array_equal(data.dataset_mask() != 0, valid[0])
    assert 0 < (~valid).sum() < HEIGHT * WIDTH / 2


@pytest.mark.slow
@pytest.mark.parametrize("resampling", ["bilinear", "cubic"])
def test_a_wider_type_keeps_the_fractions_that_a_kernel_makes(make_raster, tmp_path, resampling):
    pixels = np.random.default_rng(0).integers(0, 255, (1, HEIGHT, WIDTH), "uint8")
    source = make_raster(pixels, crs="EPSG:32632", transform=UTM)
    found = read(reproject_raster(source, tmp_path / "found.tif", moved(source), Warping(resampling, 0.001, False),
                                  storage=Storage("float32"), device="cpu"))
    wanted = gdalwarp(source, tmp_path, resampling, "-ot", "Float32", "-dstnodata", "nan", "-wo", "XSCALE=1", "-wo",
                      "YSCALE=1")
    inside = binary_erosion(np.isfinite(found[0]) & np.isfinite(wanted[0]), iterations=3)
    assert (found[0, inside] % 1 != 0).mean() > 0.9 and inside.mean() > 0.4
    np.testing.assert_allclose(found[0, inside], wanted[0, inside], atol=0.02)


@given(st.sampled_from(DTYPES), st.lists(st.one_of(
    st.floats(allow_nan=False), st.integers(-600, 600).map(lambda n: n / 2),
    st.sampled_from([*(float(2**k + d) for k in (7, 8, 15, 16, 31, 32, 63, 64) for d in (-1, 0, 1)), -0.5, 0.5])),
    min_size=1))
def test_a_number_is_rounded_half_away_from_zero_and_clipped(dtype, values):
    found, clipped = converted(np.array(values), dtype)
    if np.dtype(dtype).kind == "f":
        assert np.isfinite(found[np.isfinite(values)]).all()
        return
    info = np.iinfo(dtype)
    for value, stored, beyond in zip(values, found, clipped):
        if np.isinf(value):
            expected = info.max + 1 if value > 0 else info.min - 1
        else:
            expected = floor(abs(Fraction(value)) + Fraction(1, 2)) * (1 if value > 0 else -1)
        assert int(stored) == min(max(expected, info.min), info.max)
        assert beyond == (not info.min <= expected <= info.max)


@given(st.sampled_from(INTEGERS), st.sampled_from(INTEGERS), st.data())
def test_whole_numbers_are_clipped_exactly(dtype, target, data):
    ends, info = np.iinfo(dtype), np.iinfo(target)
    values = data.draw(st.lists(st.integers(int(ends.min), int(ends.max)), min_size=1))
    found, clipped = converted(np.array(values, dtype), target)
    assert [int(value) for value in found] == [min(max(value, info.min), info.max) for value in values]
    beyond = [not info.min <= value <= info.max for value in values]
    assert beyond == ([False] * len(values) if clipped is None else clipped.tolist())


@pytest.mark.parametrize("source, dtype, nodata", [
    ("int64", "int64", -(2**63)), ("int64", "int64", 2**63 - 1), ("uint64", "uint64", 2**64 - 1),
    ("uint64", "int64", -(2**63)), ("int64", "uint64", 2**64 - 1), ("uint64", "uint64", 2**53 + 1)])
def test_64_bit_integers_stay_exact_to_both_ends(make_raster, tmp_path, source, dtype, nodata):
    """Neighbours of the nodata value that no double tells from it included."""
    ends, info = np.iinfo(source), np.iinfo(dtype)
    both = [max(ends.min, info.min), min(ends.max, info.max)]
    near = [min(max(nodata + d, both[0]), both[1]) for d in (-2, -1, 1, 2)]
    values = [v for v in [*both, *near, 2**53 + 1, 5] if v != nodata]
    pixels = np.resize(np.array(values, source), (1, HEIGHT, WIDTH))
    path = make_raster(pixels, crs="EPSG:32632", transform=UTM)
    found = reprojected(path, tmp_path, dtype=dtype, nodata=read_nodata(str(nodata)))
    made = read(found)
    assert made.dtype == dtype and {int(v) for v in np.unique(made)} == {*values, nodata}
    told = subprocess.run(["gdalinfo", str(found)], check=True, capture_output=True, text=True).stdout
    assert f"NoData Value={nodata}\n" in told


def test_a_valid_pixel_that_is_the_new_nodata_value_moves_one_step(make_raster, tmp_path):
    pixels = np.resize(np.arange(256, dtype="uint8"), (1, HEIGHT, WIDTH))
    pixels[0, 40:50, 40:50] = 7
    source = make_raster(pixels, crs="EPSG:32632", transform=UTM, nodata=7)
    with rasterio.open(reprojected(source, tmp_path)) as data:
        before, valid = data.read(), data.dataset_mask()
    for nodata, instead in ((255, 254), (0, 1), (100, 99)):
        with rasterio.open(reprojected(source, tmp_path / str(nodata) if not (tmp_path / str(nodata)).mkdir() else None,
                                       nodata=nodata)) as data:
            assert data.nodata == nodata and np.array_equal(data.dataset_mask(), valid)
            expected = np.where(valid == 0, nodata, np.where(before == nodata, instead, before))
            np.testing.assert_array_equal(data.read(), expected)


@pytest.mark.parametrize("dtype, facts", [("uint8", {"nodata": 9}), ("float32", {"nodata": -9999}), ("float32", {}),
                                          ("int64", {"nodata": 2**60 + 1})])
def test_none_writes_a_mask_instead_of_a_nodata_value(make_raster, tmp_path, dtype, facts):
    source = make_raster(numbers(dtype), crs="EPSG:32632", transform=UTM, **facts)
    told = []
    with rasterio.open(reprojected(source, tmp_path, nodata="none", told=told)) as data:
        made, shown = data.read(), data.dataset_mask() != 0
        assert data.nodata is None and data.mask_flag_enums[0] == [MaskFlags.per_dataset] and told == []
    with rasterio.open(reproject_raster(source, tmp_path / "plain.tif", moved(source), Warping("nearest", 0.001),
                                        device="cpu")) as data:
        np.testing.assert_array_equal(shown, data.dataset_mask() != 0)
        np.testing.assert_array_equal(made[:, shown], data.read()[:, shown])


def test_the_share_of_clipped_pixels_is_told_and_is_that_inside_a_cutline(make_raster, tmp_path):
    pixels = np.full((2, HEIGHT, WIDTH), 10, "int16")
    pixels[0, :, 60:] = 300
    pixels[1, :20] = -1
    source = make_raster(pixels, crs="EPSG:32632", transform=UTM, nodata=-999)
    with rasterio.open(reprojected(source, tmp_path)) as data:
        beyond, valid = np.isin(data.read(), (300, -1)).any(0), data.dataset_mask() != 0
    (tmp_path / "found.tif").unlink()
    told = []
    reprojected(source, tmp_path, dtype="uint8", told=told)
    share, told_of_it = beyond.sum() / valid.sum(), [text for text in told if "were clipped" in text]
    assert told_of_it[0].startswith(f"{beyond.sum()} of {valid.sum()} valid pixels ({100 * share:.3g} %) had values "
                                    "beyond uint8 and")
    (tmp_path / "found.tif").unlink()
    left, top = UTM * (10, 80)
    right, bottom = UTM * (50, 30)
    (tmp_path / "cut.geojson").write_text(
        '{"type": "Polygon", "crs": {"type": "name", "properties": {"name": "EPSG:32632"}}, "coordinates": '
        f"[[[{left}, {top}], [{right}, {top}], [{right}, {bottom}], [{left}, {bottom}], [{left}, {top}]]]}}")
    told.clear()
    reprojected(source, tmp_path, dtype="uint8", told=told, cutline=read_polygons(str(tmp_path / "cut.geojson")))
    assert told and not any("were clipped" in text for text in told)  # where nothing is beyond a byte


def test_alpha_stays_opaque_in_another_type(make_raster, tmp_path):
    """Full is 65535 in uint16, and 255 in bytes and floats, as GDAL has it."""
    pixels = np.full((2, HEIGHT, WIDTH), 40, "uint16")
    pixels[1], pixels[1, 30:60] = 65535, 0
    source = make_raster(pixels, crs="EPSG:32632", transform=UTM)
    with rasterio.open(source, "r+") as data:
        data.colorinterp = [ColorInterp.gray, ColorInterp.alpha]
    for dtype in ("uint8", "float32"):
        made = read(reprojected(source, tmp_path, dtype=dtype))
        assert {*np.unique(made[1])} == {0, 255} and (made[0][made[1] != 0] == 40).all()
        (tmp_path / "found.tif").unlink()


def test_a_nodata_value_that_the_new_type_lacks_becomes_a_mask(make_raster, tmp_path):
    """So that no valid 0 has to move."""
    pixels = numbers("float32", 0, 200)
    pixels[0, 30:40, 30:60], pixels[0, 50:60] = -9999, 0
    source = make_raster(pixels, crs="EPSG:32632", transform=UTM, nodata=-9999)
    with rasterio.open(reprojected(source, tmp_path, dtype="uint8")) as data:
        assert data.nodata is None and data.mask_flag_enums[0] == [MaskFlags.per_dataset]
        made, shown = data.read(1), data.dataset_mask() != 0
    wanted = gdalwarp(source, tmp_path, "near", "-ot", "Float32", "-dstnodata", "-9999")[0]
    np.testing.assert_array_equal(shown, wanted != -9999)
    np.testing.assert_array_equal(made[shown], np.floor(wanted[shown] + 0.5).clip(0, 255))


@pytest.mark.parametrize("dtype, text", [
    ("uint8", "256"), ("uint8", "-1"), ("uint8", "0.5"), ("uint8", "nan"), ("int8", "128"), ("int16", "-32769"),
    ("uint32", "4294967296"), ("int64", str(2**63)), ("int64", str(-(2**63) - 1)), ("uint64", str(2**64)),
    ("uint64", "inf"), ("float32", "1e39"), ("float32", "-3.5e38")])
def test_a_nodata_value_that_a_type_cannot_hold_is_refused(dtype, text):
    with pytest.raises(RasterError, match=f"does not fit {dtype}: give .*, or none"):
        Storage(dtype, read_nodata(text))
    with pytest.raises(RasterError, match=f"does not fit {dtype}"):
        Storage(None, read_nodata(text)).nodata_of(dtype)


@pytest.mark.parametrize("text, number", [
    ("-9999", -9999), ("18446744073709551615", 2**64 - 1), ("9007199254740993.0", 2**53 + 1), ("1e3", 1000),
    ("0.1", 0.1), ("None", "none"), ("inf", float("inf"))])
def test_a_nodata_value_is_read_exactly(text, number):
    assert read_nodata(text) == number and type(read_nodata(text)) is type(number)
    assert np.isnan(read_nodata("nan"))


@pytest.mark.parametrize("text", ["", "white", "1,5", "0x10", "1e400", "snan"])
def test_what_is_not_a_number_is_refused(text):
    with pytest.raises(RasterError, match="--nodata"):
        read_nodata(text)


@pytest.mark.parametrize("dtype", ["Byte", "complex64", "float16", ""])
def test_a_type_that_is_not_written_is_refused(dtype):
    with pytest.raises(RasterError, match="choose from uint8, int8"):
        Storage(dtype)
