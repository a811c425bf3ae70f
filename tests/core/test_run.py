"""Laws of the product: the same pixels whatever the tiling, everything the raster says about itself, no debris."""

import os
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import torch
from affine import Affine
from geoi2i.core.errors import DeviceError, EmptyRasterError, Geoi2iError, RasterError
from geoi2i.core.inference import noise
from geoi2i.core.inference.steps import Step, StepTable, identity_table
from geoi2i.core.models.manifest import NetworkSpec
from geoi2i.core.models.package import ModelPackage, identity_package, save_package
from geoi2i.core.networks.instance import InstanceGenerator, InstanceSizes
from geoi2i.core.raster.source import RasterSource
from geoi2i.core.run import Callbacks, Compute, Options, plan_translation, translate_raster
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyproj import Transformer
from rasterio.enums import MaskFlags
from rasterio.windows import Window


def translate(source, model, name="out.tif", tile=None, overlap=None, batch=1, seed=0, samples=1, overwrite=False,
              **more):
    """The path of the translated raster; options by name. Random networks take numbers of any size."""
    options = Options(tile=tile, overlap=overlap, seed=seed, samples=samples)
    return str(translate_raster(str(source), Path(source).with_name(name), model, options,
                                compute=Compute(device="cpu", batch=batch, force=True), overwrite=overwrite,
                                **more))


def identity(source, name="out.tif", **options):
    return translate(source, identity_package(len(RasterSource.open(source).bands)), name, **options)


def read(path):
    with rasterio.open(path) as data:
        return data.read()


def valid(path):
    """What GDAL itself holds for valid, (bands,h,w); NaN counts as missing, and so does alpha 0.

    (GDAL's own masks follow an alpha band only in rasters of two or four bands.)
    """
    with rasterio.open(path) as data:
        alpha = [i for i in data.indexes if data.colorinterp[i - 1].name == "alpha"]
        kept = [i for i in data.indexes if i not in alpha]
        pixels = data.read(kept)
        mask = (data.read_masks(kept) != 0) & (np.isfinite(pixels) if pixels.dtype.kind == "f" else True)
        return mask & (data.read(alpha[0]) != 0) if alpha else mask


# --- the identity is exact -------------------------------------------------------------------------

SIDES = st.sampled_from([1, 2, 3, 7, 13, 31, 61, 97, 127]) | st.integers(1, 140)
DTYPES = ("uint8", "int8", "uint16", "int16", "float32")


@pytest.mark.slow
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(SIDES, SIDES, st.integers(1, 3), st.sampled_from(DTYPES), st.integers(1, 96), st.integers(0, 48),
       st.integers(1, 20), st.sampled_from(["none", "nodata", "nan", "mask", "alpha"]), st.integers(0, 9),
       st.booleans())
def test_identity_is_bit_for_bit(make_raster, height, width, bands, dtype, tile, overlap, batch, missing, seed,
                                 tiled):
    generator = np.random.default_rng(seed)
    info = np.iinfo(dtype) if dtype != "float32" else np.finfo("float32")
    pixels = (generator.integers(info.min, info.max, (bands, height, width), dtype, endpoint=True)
              if dtype != "float32" else generator.normal(0, 1e3, (bands, height, width)).astype("float32"))
    gone = generator.random((height, width)) < generator.choice([0, 0.1, 0.9])
    gone[0, 0] = False
    facts, pixels[:, 0, 0] = {"blockxsize": 64, "blockysize": 32, "tiled": True} if tiled else {}, 3
    if missing == "nodata":
        facts["nodata"] = float(generator.choice([info.min, info.max, 0]))
        pixels[:, gone] = facts["nodata"]
    elif missing == "nan" and dtype == "float32":
        pixels[:, gone] = np.nan
    elif missing == "mask":
        facts["mask"] = np.where(gone, 0, 255).astype("uint8")
    elif missing == "alpha" and dtype in ("uint8", "uint16"):
        facts["alpha"] = np.where(gone, 0, generator.integers(1, 255, (height, width))).astype(dtype)
    source = make_raster(pixels, **facts)
    result = identity(source, overwrite=True, tile=tile, overlap=min(overlap, tile // 2), batch=batch)
    mask = valid(source)
    assert np.array_equal(valid(result), mask)
    assert np.array_equal(read(result)[:bands][mask], pixels[mask])


@pytest.mark.slow
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(SIDES, SIDES, st.sampled_from(DTYPES), st.integers(1, 96), st.integers(0, 48), st.integers(1, 20),
       st.integers(0, 9))
def test_a_network_that_does_nothing_is_bit_for_bit(make_raster, make_network, make_package, tmp_path, height, width,
                                                    dtype, tile, overlap, batch, seed):
    """Windows, margins, filling and blending of equal values change no bit, on a lattice of 4 pixels."""
    if not (tmp_path / "nothing").exists():
        network = make_network(2)
        torch.nn.init.zeros_(network.head.weight)
        torch.nn.init.dirac_(network.level.weight)
        make_package("nothing", steps=2, bands=2, network=network, normalise_in={"kind": "none"},
                     normalise_out={"kind": "none"}, table=StepTable(steps=(Step(), Step(time=1))))
    generator, model = np.random.default_rng(seed), ModelPackage.load(tmp_path / "nothing")
    pixels = generator.integers(-100, 100, (2, height, width)).astype("float32") * 327.5
    pixels = pixels if dtype == "float32" else pixels.astype("int64").astype(dtype)
    gone = generator.random((height, width)) < generator.choice([0, 0.1, 0.9])
    gone[0, 0] = False
    source = make_raster(pixels, mask=np.where(gone, 0, 255).astype("uint8"))
    result = translate(source, model, overwrite=True, tile=tile, overlap=min(overlap, tile // 2), batch=batch)
    assert np.array_equal(read(result)[:, ~gone], pixels[:, ~gone])
    assert np.array_equal(valid(result), np.stack([~gone] * 2))


@pytest.mark.parametrize("dtype", ["float64", "int32", "uint32", "int64"])
def test_identity_of_wide_numbers_is_bit_for_bit(make_raster, dtype):
    generator = np.random.default_rng(0)
    pixels = generator.normal(0, 1e6, (2, 50, 40)).astype("float64")
    pixels[:, :, :5] = (0, 1, 16_777_216, 2**31 - 1, 2**31 - 256)
    pixels = np.abs(pixels).astype(dtype) if dtype[0] == "u" else pixels.astype(dtype)
    result = read(identity(make_raster(pixels), tile=16))
    assert result.dtype == np.dtype(dtype)
    assert result.tobytes() == pixels.tobytes()


def test_limits_of_wide_integers_do_not_wrap(make_raster):
    for dtype in ("int32", "uint32", "int64", "uint64"):
        info = np.iinfo(dtype)
        pixels = np.full((1, 20, 20), 7, dtype)
        pixels[0, 0, :2] = info.min, info.max
        result = read(identity(make_raster(pixels, name=f"{dtype}.tif"), name=f"{dtype}-out.tif"))
        assert (result[0, 0, 0], result[0, 0, 1]) == (info.min, info.max)


# --- everything the raster says about itself ---------------------------------------------------------


def test_identity_keeps_everything_the_raster_says(every_raster):
    result = identity(every_raster, tile=16, overlap=4)
    mask = valid(every_raster)
    with rasterio.open(every_raster) as a, rasterio.open(result) as b:
        assert b.crs == a.crs and b.transform == a.transform and b.shape == a.shape
        assert (b.crs is None) == (a.crs is None)
        assert b.crs is None or b.crs.to_wkt(version="WKT2_2019") == a.crs.to_wkt(version="WKT2_2019")
        assert b.dtypes == a.dtypes and b.colorinterp[-1] == a.colorinterp[-1]
        assert b.descriptions == a.descriptions and b.units == a.units
        assert b.scales == a.scales and b.offsets == a.offsets
        assert np.array_equal(b.read()[: len(mask)][mask], a.read()[: len(mask)][mask])
        assert np.array_equal(b.read()[len(mask) :], a.read()[len(mask) :]), "alpha"
        assert a.tags().items() <= b.tags().items()
        assert all(a.tags(i).items() <= b.tags(i).items() for i in a.indexes)
        if len(set(a.nodatavals)) == 1:
            assert repr(b.nodatavals) == repr(a.nodatavals)
        assert [MaskFlags.alpha in f for f in b.mask_flag_enums] == [MaskFlags.alpha in f for f in a.mask_flag_enums]
    assert np.array_equal(valid(result), mask)


def test_latitude_type_and_longitude_direction_survive(every_raster):
    before, after = RasterSource.open(every_raster).grid, RasterSource.open(identity(every_raster)).grid
    assert (after.latitude, after.longitude, after.body) == (before.latitude, before.longitude, before.body)
    assert after.matches(before) and after.pixel_size_m == before.pixel_size_m


@pytest.mark.parametrize("kind, latitude, longitude", [
    ("jupiter_graphic", "planetographic", "west"), ("jupiter_centric", "planetocentric", "east"),
    ("jupiter_custom", "planetographic", "west"), ("mars", "planetocentric", "east")])
def test_an_angular_convention_is_read_and_stays(make_raster, tmp_path, kind, latitude, longitude):
    result = identity(make_raster(kind))
    found = RasterSource.open(result).grid
    assert (found.latitude, found.longitude) == (latitude, longitude)
    assert ET.parse(result + ".aux.xml").find("SRS") is not None
    os.remove(result + ".aux.xml")  # a mail that lost the sidecar still has our tags
    found = RasterSource.open(result).grid
    assert (found.latitude, found.longitude) == (latitude, longitude)


def test_gdal_reads_a_planetographic_system_back_whole(make_raster):
    """Without the sidecar GDAL sees a plain geographic system: the codes are lost, and with them the latitude."""
    result = identity(make_raster("jupiter_graphic"))
    with rasterio.open(result) as data:
        text = data.crs.to_wkt(version="WKT2_2019")
    assert 'ID["IAU",59901' in text and 'AXIS["longitude",west' in text
    os.remove(result + ".aux.xml")
    with rasterio.open(result) as data:
        assert "west" not in data.crs.to_wkt(version="WKT2_2019")


@pytest.mark.parametrize("code", [30100, 30130, 49900, 49910, 49930, 49970, 59900, 59902, 59910, 59932])
def test_the_sidecar_orders_the_axes_as_that_of_gdal(make_raster, tmp_path, code):
    """GDAL writes a sidecar of its own beside a PNG."""
    result = identity(make_raster(np.zeros((1, 9, 9), "uint8"), crs=f"IAU_2015:{code}"))
    with rasterio.open(tmp_path / "its.png", "w", driver="PNG", count=1, height=9, width=9, dtype="uint8",
                       crs=f"IAU_2015:{code}", transform=Affine(1, 0, 0, 0, -1, 0)) as out:
        out.write(np.zeros((1, 9, 9), "uint8"))
    ours, its = (ET.parse(f"{path}.aux.xml").find("SRS").attrib for path in (result, tmp_path / "its.png"))
    assert ours["dataAxisToSRSAxisMapping"] == its["dataAxisToSRSAxisMapping"]


def test_the_sidecar_of_a_west_positive_system_says_that_columns_are_longitudes(make_raster):
    """GDAL 3.10 itself knows north-east only as swapped, and would write 1,2: columns as latitudes."""
    result = identity(make_raster("jupiter_graphic"))
    assert ET.parse(f"{result}.aux.xml").find("SRS").attrib["dataAxisToSRSAxisMapping"] == "2,1"


def test_output_on_earth_has_no_sidecar(make_raster, tmp_path):
    identity(make_raster("uint8"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.tif", "out.tif"]


def test_output_is_a_cloud_optimized_geotiff(make_raster):
    result = identity(make_raster(np.tile(np.arange(250, dtype="uint8"), (1, 1200, 5))))
    with rasterio.open(result) as data:
        assert data.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG" and data.block_shapes == [(512, 512)]
        assert data.compression.name == "zstd" and data.overviews(1)


def test_values_under_mixed_nodata_get_one_value_that_no_valid_pixel_has(make_raster):
    source = make_raster("band_nodata")
    result = identity(source)
    with rasterio.open(result) as data:
        (nodata,) = set(data.nodatavals)
        assert not (read(source)[valid(source)] == nodata).any()


@pytest.mark.parametrize("nodata", [-9999, 256, float("nan")])
def test_nodata_that_the_dtype_cannot_hold_hides_no_pixel(make_raster, tmp_path, nodata):
    """GDAL ignores such a value; gdal_translate -a_nodata -9999 on a byte image is common."""
    pixels = np.arange(3 * 256, dtype="uint8").reshape(3, 16, 16)
    source = _vrt(tmp_path, make_raster(pixels), "uint8", [nodata] * 3)
    assert valid(source).all()
    result = identity(source)
    assert valid(result).all() and np.array_equal(read(result), pixels)


def test_nodata_with_too_many_digits_for_float32_is_still_found(make_raster, tmp_path):
    """-3.40282346638529e+38, as some tools write it, rounds to a float64 beyond float32."""
    pixels = np.ones((1, 16, 16), "float32")
    pixels[0, 2:4] = np.finfo("float32").min
    source = _vrt(tmp_path, make_raster(pixels), "float32", ["-3.40282346638529e+38"])
    assert np.array_equal(valid(source), pixels == 1)
    result = identity(source)
    assert np.array_equal(valid(result), pixels == 1)


def _vrt(folder, source, dtype, nodata):
    """A VRT that gives a raster of 16 x 16 pixels other nodata values; GDAL checks no range there."""
    kind = {"uint8": "Byte", "float32": "Float32"}[dtype]
    bands = "".join(f'<VRTRasterBand dataType="{kind}" band="{k + 1}"><NoDataValue>{value}</NoDataValue>'
                    f"<SimpleSource><SourceFilename>{source}</SourceFilename><SourceBand>{k + 1}</SourceBand>"
                    "</SimpleSource></VRTRasterBand>" for k, value in enumerate(nodata))
    (folder / "in.vrt").write_text(f'<VRTDataset rasterXSize="16" rasterYSize="16">{bands}</VRTDataset>')
    return str(folder / "in.vrt")


def test_chosen_bands_keep_their_own_facts(make_raster):
    source = make_raster("described")
    result = identity(source, bands=(3, 1))
    with rasterio.open(source) as a, rasterio.open(result) as b:
        assert b.descriptions == (a.descriptions[2], a.descriptions[0])
        assert b.scales == (a.scales[2], a.scales[0]) and b.tags(1)["FILTER"] == "<CH4>"
        assert np.array_equal(b.read(), a.read([3, 1]))


def test_tags_say_how_the_result_came_about_and_hold_no_clock(make_raster, package):
    source = make_raster(np.zeros((3, 20, 20), "float32"))
    first, second = (translate(source, package, name, seed=3) for name in ("a.tif", "b.tif"))
    with rasterio.open(first) as a, rasterio.open(second) as b:
        assert a.tags() == b.tags()
        assert a.tags()["GEOI2I_SEED"] == "3" and a.tags()["GEOI2I_MODEL_SHA256"] == package.manifest.weights_sha256
    assert Path(first).read_bytes() == Path(second).read_bytes()


# --- the result does not depend on the tiling --------------------------------------------------------


@pytest.fixture
def floats(make_raster):
    """A smooth scene with texture, in [-1, 1]."""
    rows, cols = np.mgrid[:110, :90] / 30
    bands = [np.sin(rows + k) * np.cos(cols) * 0.6 for k in range(3)]
    texture = np.random.default_rng(0).normal(0, 0.1, (3, 110, 90))
    return make_raster((np.stack(bands) + texture).astype("float32"))


def by_hand(package, image, seed=0, sample=0):
    """The chain on one window with a reflected border, written out: the bridge of Kim et al. 2024."""
    network, steps = package.network(), package.manifest.table.steps
    margin, (height, width) = 32, image.shape[1:]
    x = image
    for i, step in enumerate(steps):
        shown = np.pad(x, ((0, 0), (margin, margin + -height % 4), (margin, margin + -width % 4)), mode="reflect")
        style = noise.vector((seed, sample, 2, i), 4)[None]
        with torch.inference_mode():
            x_hat = network(torch.from_numpy(shown)[None], torch.tensor([float(i)]), style)[0].numpy()
        x_hat = x_hat[:, margin : margin + height, margin : margin + width]
        eps = noise.field((seed, sample, 1, i), 3, 0, 0, height, width).numpy()
        x = step.keep * x + step.pull * x_hat + np.float32(step.noise) * eps
    return x


def test_result_is_the_chain_written_by_hand(floats, package):
    found, expected = read(translate(floats, package, tile=256, seed=4)), by_hand(package, read(floats), seed=4)
    assert np.abs(found - expected).max() <= 1e-4 * np.ptp(expected)


@pytest.mark.slow
@pytest.mark.parametrize("tile, overlap, batch", [(32, 0, 1), (32, 16, 7), (64, 8, 2), (256, 0, 1)])
def test_result_ignores_tile_size(floats, package, tile, overlap, batch):
    expected = by_hand(package, read(floats))
    found = read(translate(floats, package, tile=tile, overlap=overlap, batch=batch))
    assert expected.std() > 0.1, "the network does something"
    assert np.abs(found - expected).max() <= 1e-4 * np.ptp(expected)


@pytest.mark.slow
def test_result_ignores_tile_size_where_the_network_sees_the_source(floats, make_package, make_network):
    table = make_package("plain").manifest.table.model_copy(update={"concatenate_source": True})
    network = make_network(6)
    network.head = torch.nn.Conv2d(8, 3, 7, padding=3, padding_mode="reflect")
    network.level = torch.nn.Conv2d(6, 3, 1)
    network.sizes = network.sizes.model_copy(update={"bands_out": 3})
    package = make_package("sees", network=network, table=table, bands=3)
    one, tiled = (read(translate(floats, package, f"{tile}.tif", tile=tile)) for tile in (256, 32))
    assert np.abs(one - tiled).max() <= 1e-4 * np.ptp(one)


@pytest.mark.slow
def test_seed_changes_the_result_and_nothing_else_does(floats, package):
    first, again, other = (read(translate(floats, package, f"{k}.tif", seed=s)) for k, s in enumerate((1, 1, 2)))
    assert np.array_equal(first, again) and np.abs(first - other).mean() > 0.02


@pytest.mark.parametrize("rows, cols", [((40, 71), (33, 58)), ((0, 9), (0, 90)), ((109, 110), (89, 90))])
@pytest.mark.parametrize("steps, missing", [(1, False), (1, True), (2, False)])
def test_an_extent_is_a_crop_of_the_whole(floats, make_package, rows, cols, steps, missing):
    """Also where a gap, filled from bright pixels beyond it, lies across the edge of the network's context."""
    package = make_package(steps=steps)
    if missing:
        with rasterio.open(floats, "r+") as data:
            pixels = data.read()
            pixels[:, 2:9], pixels[:, 88:103], pixels[:, :, 76:89], pixels[:, 104:] = np.nan, np.nan, np.nan, 40
            data.write(pixels)
    with rasterio.open(floats) as data:
        window = Window(cols[0], rows[0], cols[1] - cols[0], rows[1] - rows[0])
        extent, transform = data.window_bounds(window), data.window_transform(window)
    whole = read(translate(floats, package, "whole.tif", tile=64))[:, rows[0] : rows[1], cols[0] : cols[1]]
    result = translate(floats, package, "part.tif", tile=32, bounds=extent)
    found = read(result)
    assert found.shape == whole.shape and np.array_equal(np.isnan(found), np.isnan(whole))
    assert np.nanmax(np.abs(found - whole), initial=0) <= 1e-4 * max(2, np.ptp(np.nan_to_num(whole)))
    with rasterio.open(result) as data:
        assert data.transform.almost_equals(transform, 1e-9)


@given(st.integers(0, 36), st.integers(0, 52), st.integers(1, 37), st.integers(1, 53), st.integers(1, 9))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_extent_along_pixel_edges_adds_no_pixel(make_raster, col, row, width, height, parts):
    """Whatever rounding made of edges in thirds or sevenths of a degree."""
    width, height, side = min(width, 37 - col), min(height, 53 - row), 1 / parts
    place = Affine(side, 0, -0.1, 0, -side, 49.7)
    (left, top), (right, bottom) = place * (col, row), place * (col + width, row + height)
    plan = plan_translation(make_raster(np.zeros((1, 53, 37), "uint8"), crs="EPSG:4326", transform=place),
                            identity_package(1), Options(), Compute(device="cpu"), bounds=(left, bottom, right, top))
    assert (plan.window.col, plan.window.row) == (col, row)
    assert (plan.window.width, plan.window.height) == (width, height)


def test_bounds_in_another_crs_cover_what_they_name(make_raster):
    """Corners that pyproj brings to degrees name at least the part between them, and two pixels more at most."""
    place = Affine(30, 0, 500_000, 0, -30, 4_500_000)
    source = make_raster(np.zeros((1, 90, 80), "uint8"), crs="EPSG:32631", transform=place)
    corners = [place * corner for corner in ((20, 30), (60, 30), (20, 70), (60, 70))]
    lon, lat = Transformer.from_crs("EPSG:32631", "EPSG:4326", always_xy=True).transform(*zip(*corners))
    plan = plan_translation(source, identity_package(1), Options(), Compute(device="cpu"),
                            bounds=(min(lon), min(lat), max(lon), max(lat)), bounds_crs="EPSG:4326")
    assert 18 <= plan.window.col <= 20 and 28 <= plan.window.row <= 30
    assert 60 <= plan.window.col + plan.window.width <= 62 and 70 <= plan.window.row + plan.window.height <= 72


@pytest.mark.parametrize("kind", ["rotated", "south_up", "uint8"])
def test_an_extent_lies_where_it_says(make_raster, kind):
    source = make_raster(kind)
    with rasterio.open(source) as data:
        (x, y), pixels = data.transform * (12.5, 20.5), data.read()
        result = identity(source, bounds=(x - 1, y - 1, x + 1, y + 1))
        with rasterio.open(result) as part:
            col, row = ~part.transform * (x, y)
            assert np.array_equal(part.read()[:, int(row), int(col)], pixels[:, 20, 12])
            assert part.width <= 2 and part.height <= 2


@pytest.mark.slow
def test_samples_are_averaged_and_their_spread_is_kept(floats, package, tmp_path):
    passes = np.stack([by_hand(package, read(floats), seed=6, sample=k) for k in range(3)])
    mean = read(translate(floats, package, samples=3, seed=6, tile=64, uncertainty=tmp_path / "std.tif"))
    np.testing.assert_allclose(mean, passes.mean(0), atol=2e-4)
    np.testing.assert_allclose(read(tmp_path / "std.tif"), passes.std(0, ddof=1), atol=3e-4)
    assert passes.std(0, ddof=1).mean() > 0.02


def test_spread_is_a_difference_of_stored_numbers(make_raster, make_package, tmp_path):
    """A band's offset belongs to its values, not to their spread."""
    pixels = np.random.default_rng(0).integers(100, 900, (3, 40, 40)).astype("uint16")
    package = make_package(minimum=-6.0, maximum=6.0)
    source = make_raster(pixels, scales=(0.01,) * 3, offsets=(-5.0,) * 3)
    translate(source, package, samples=4, uncertainty=tmp_path / "std.tif")
    with rasterio.open(tmp_path / "std.tif") as data:
        stored = data.read()
        physical = stored * data.scales[0] + data.offsets[0]
    assert (physical >= 0).all() and 0.01 < physical.mean() < 6


@pytest.mark.parametrize("kind", ["nodata", "nan", "mask", "alpha", "band_nodata", "nodata_nan"])
def test_pixels_without_data_stay_without_data_and_never_reach_the_network(make_raster, make_package, kind):
    """Where one band has no data no output band has; nothing valid is touched by a nodata number."""
    source = make_raster(kind)
    package = make_package(steps=1, minimum=-32768.0, maximum=32767.0)
    result = translate(source, package, tile=32)
    mask = valid(source).all(0)
    assert all(np.array_equal(band, mask) for band in valid(result))
    assert np.isfinite(read(result)[:3, mask]).all()


def test_the_number_that_marks_missing_pixels_does_not_matter(make_raster, package):
    pixels = np.random.default_rng(0).normal(0, 0.3, (3, 50, 60)).astype("float32")
    hole = np.zeros((50, 60), bool)
    hole[10:30, 20:25] = hole[40] = True
    results = []
    for k, nodata in enumerate((-9999.0, 1e30, float("nan"))):
        pixels[:, hole] = nodata
        results.append(read(translate(make_raster(pixels, f"{k}.tif", nodata=nodata), package, f"{k}-out.tif")))
    assert np.array_equal(results[0][:, ~hole], results[1][:, ~hole])
    assert np.array_equal(results[0][:, ~hole], results[2][:, ~hole])


def test_a_pixel_that_is_nan_under_alpha_or_mask_is_missing(make_raster, make_package):
    for k, facts in enumerate(({"alpha": np.ones((30, 30), "float32")}, {"mask": np.full((30, 30), 255, "uint8")})):
        pixels = np.random.default_rng(0).normal(0, 0.3, (3, 30, 30)).astype("float32")
        pixels[1, 12, 12] = np.nan
        result = translate(make_raster(pixels, f"{k}.tif", **facts), make_package(f"m{k}", steps=1), f"{k}-out.tif")
        assert (~valid(result)).any(0).sum() == 1 and not valid(result)[:, 12, 12].any()


def test_an_output_of_another_dtype_is_rounded_and_saturated(floats, make_package):
    """Physical values of the model's range, half to even, as numpy rounds them."""
    facts = {"steps": 1, "minimum": -1.0, "maximum": 1.0}
    reach = {"kind": "range", "minimum": (-100,) * 3, "maximum": (200,) * 3}
    exact = read(translate(floats, make_package("a", normalise_out=reach, **facts), "a.tif"))
    coded = read(translate(floats, make_package("b", normalise_out=reach, dtype="uint8", **facts), "b.tif"))
    assert exact.min() < 0 and coded.dtype == np.uint8
    assert np.array_equal(coded, np.clip(np.rint(exact), 0, 255))


def test_percentiles_are_those_of_the_raster(make_raster, make_package, make_network):
    """As numpy finds them in the stored numbers, scale and offset included."""
    network, pixels = make_network(), np.random.default_rng(0).integers(0, 3000, (3, 60, 50)).astype("uint16")
    torch.nn.init.zeros_(network.head.weight)
    torch.nn.init.dirac_(network.level.weight)
    package = make_package(steps=1, network=network, normalise_in={"kind": "percentile", "low": 10, "high": 80},
                           normalise_out={"kind": "none"}, dtype="float32")
    low, high = np.percentile(pixels * 0.1 - 5, (10, 80), axis=(1, 2))[:, :, None, None]
    found = read(translate(make_raster(pixels, scales=(0.1,) * 3, offsets=(-5,) * 3), package, tile=32))
    np.testing.assert_allclose(found, 2 * (pixels * 0.1 - 5 - low) / (high - low) - 1, atol=1e-5)


def test_a_nodata_value_beyond_the_output_dtype_still_marks_missing_pixels(make_raster, make_package):
    """ESRI's float64 nodata, -1.797e308, in a model that writes float32."""
    pixels = np.random.default_rng(0).normal(0, 0.3, (3, 30, 30))
    pixels[:, 4:9] = np.finfo("float64").min
    source = make_raster(pixels, nodata=np.finfo("float64").min)
    result = translate(source, make_package(steps=1, dtype="float32"))
    assert np.array_equal(valid(result), valid(source))


def test_few_valid_pixels_are_enough(make_raster, make_package):
    """A decimated read of 1024 rows misses them all."""
    pixels = np.zeros((1, 4096, 3), "uint8")
    pixels[0, 2050:2053, 1] = 7
    result = identity(make_raster(pixels, nodata=0))
    assert np.array_equal(read(result), pixels)


# --- refusals and debris ---------------------------------------------------------------------------


def truncated(driver):
    def make_truncated(folder, make):
        path = make(np.random.default_rng(0).integers(0, 255, (3, 600, 600), "uint8"))
        rasterio.shutil.copy(path, folder / "half.tif", driver=driver)
        os.truncate(folder / "half.tif", os.path.getsize(path) // 2)
        return str(folder / "half.tif")

    return make_truncated


def no_bands(folder, make):
    """A GeoPackage with two rasters in it has no bands of its own."""
    path, facts = str(folder / "in.gpkg"), {"crs": "EPSG:4326", "transform": Affine(1, 0, 0, 0, -1, 50)}
    for k in range(2):
        more = {"APPEND_SUBDATASET": "YES"} if k else {}
        with rasterio.open(path, "w", driver="GPKG", count=1, height=20, width=20, dtype="uint8",
                           RASTER_TABLE=f"t{k}", **facts, **more) as out:
            out.write(np.zeros((1, 20, 20), "uint8"))
    return path


def with_gcps(folder, make):
    path = str(folder / "in.tif")
    points = [rasterio.control.GroundControlPoint(r, c, 10 + c, 50 - r) for r in (0, 9) for c in (0, 9)]
    with rasterio.open(path, "w", driver="GTiff", count=3, height=10, width=10, dtype="uint8", gcps=points,
                       crs="EPSG:4326") as out:
        out.write(np.zeros((3, 10, 10), "uint8"))
    return path


def complex_integers(folder, make):
    """As in the SLC images of Sentinel-1."""
    path = str(folder / "in.tif")
    with rasterio.open(path, "w", driver="GTiff", count=3, height=9, width=9, dtype="complex_int16", crs="EPSG:32633",
                       transform=rasterio.Affine(10, 0, 5e5, 0, -10, 5e6)):
        pass
    return path


def text(content):
    return lambda folder, make: str(folder / "in.tif") if (folder / "in.tif").write_text(content) else None


REFUSED = {
    "missing": (lambda folder, make: str(folder / "none.tif"), "does not exist"),
    "folder": (lambda folder, make: str(folder), "is a folder"),
    "text": (text("not a raster\n"), "not a raster that GDAL can read"),
    "empty": (lambda folder, make: str(folder / "in.tif") if not (folder / "in.tif").write_bytes(b"") else None,
              "not a raster that GDAL can read"),
    "truncated": (truncated("COG"), "damaged or cut off"),
    "truncated before its directory": (truncated("GTiff"), "it is damaged|cut off"),
    "complex": (lambda folder, make: make(np.ones((3, 9, 9), "complex64")), "complex numbers"),
    "complex integers": (complex_integers, "complex numbers"),
    "zero bands": (no_bands, "no bands of its own.*GPKG:.*:t0"),
    "points": (with_gcps, "4 ground control points.*gdalwarp"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_input_is_refused_in_a_sentence_and_leaves_nothing(case, tmp_path, make_raster):
    make, sentence = REFUSED[case]
    source, target = make(tmp_path, make_raster), tmp_path / "result"
    target.mkdir()
    with pytest.raises(RasterError, match=sentence) as error:
        translate_raster(source, target / "out.tif", identity_package(3), Options(tile=64),
                         compute=Compute(device="cpu"))
    assert str(error.value).endswith(".") and "\n" not in str(error.value)
    assert list(target.iterdir()) == []


def spatial_package(folder, like):
    """A network with random weights that normalises by statistics over the raster."""
    torch.manual_seed(0)
    network = InstanceGenerator(InstanceSizes(bands_in=3, bands_out=3, width=4, blocks=1)).eval()
    spec = NetworkSpec(name="instance", sizes=dict(network.sizes))
    manifest = like.manifest.model_copy(update={"network": spec, "margin_px": network.radius_px,
                                                "multiple_of": network.stride, "weights_sha256": ""})
    return save_package(folder, manifest, network)


EMPTY = {
    "nodata": (np.zeros((3, 70, 90), "uint8"), {"nodata": 0}),
    "NaN": (np.full((3, 70, 90), np.nan, "float32"), {}),
    "masked": (np.ones((3, 70, 90), "uint8"), {"mask": np.zeros((70, 90), "uint8")}),
    "transparent": (np.ones((3, 70, 90), "uint8"), {"alpha": np.zeros((70, 90), "uint8")})}


@pytest.mark.parametrize("model", ["identity", "network", "of percentiles", "that normalises over space"])
@pytest.mark.parametrize("case", EMPTY)
def test_a_raster_without_a_valid_pixel_gives_one_and_a_remark(case, model, tmp_path, make_raster, make_package):
    """As for a tile at the edge: rasterio finds no valid pixel in the output either."""
    pixels, facts = EMPTY[case]
    models = {"identity": lambda: identity_package(3), "network": make_package,
              "of percentiles": lambda: make_package(normalise_in={"kind": "percentile", "low": 1, "high": 99}),
              "that normalises over space": lambda: spatial_package(tmp_path / "spatial", make_package(steps=1))}
    package, said = models[model](), []
    made = translate_raster(make_raster(pixels, **facts), tmp_path / "out.tif", package, Options(tile=64),
                            compute=Compute(device="cpu"), callbacks=Callbacks(message=said.append))
    with rasterio.open(made) as data:
        shown = (data.dataset_mask() != 0) & np.isfinite(data.read()).any(0)
        assert (data.height, data.width) == (70, 90) and not shown.any()
    assert any("has no valid pixel" in sentence for sentence in said)
    with pytest.raises(EmptyRasterError, match="leave --skip-empty out"):
        translate_raster(make_raster(pixels, **facts), tmp_path / "left out.tif", package, Options(tile=64),
                         compute=Compute(device="cpu"), skip_empty=True)
    assert not list(tmp_path.glob("left out*"))


def test_bands_of_several_dtypes_become_one_that_holds_both(tmp_path, make_raster):
    """A VRT of int16 beside uint16; GDAL reads each band by itself."""
    low, high = np.full((1, 9, 9), -7, "int16"), np.full((1, 9, 9), 40_000, "uint16")
    make_raster(low, name="low.tif"), make_raster(high, name="high.tif")
    bands = "".join(f'<VRTRasterBand dataType="{kind}" band="{k}"><SimpleSource><SourceFilename relativeToVRT="1">'
                    f"{name}</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"
                    for k, (kind, name) in enumerate((("Int16", "low.tif"), ("UInt16", "high.tif")), 1))
    with rasterio.open(tmp_path / "low.tif") as data:
        place = (f"<SRS>{data.crs.to_wkt()}</SRS><GeoTransform>{', '.join(map(str, data.transform.to_gdal()))}"
                 "</GeoTransform>")
    (tmp_path / "both.vrt").write_text(f'<VRTDataset rasterXSize="9" rasterYSize="9">{place}{bands}</VRTDataset>')
    made = translate_raster(str(tmp_path / "both.vrt"), tmp_path / "out.tif", identity_package(2),
                            compute=Compute(device="cpu"))
    with rasterio.open(made) as data:
        assert (data.read(1) == -7).all() and (data.read(2) == 40_000).all()
    assert (RasterSource.open(tmp_path / "both.vrt").decimated(4).pixels[1] == 40_000).all()


def test_a_band_of_numbers_is_read_beside_one_of_complex_integers(tmp_path, make_raster):
    complex_integers(tmp_path, None)
    make_raster(np.full((1, 9, 9), 7, "uint8"), name="real.tif", crs="EPSG:32633")
    bands = "".join(f'<VRTRasterBand dataType="{kind}" band="{k}"><SimpleSource><SourceFilename relativeToVRT="1">'
                    f"{name}</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"
                    for k, (kind, name) in enumerate((("CInt16", "in.tif"), ("Byte", "real.tif")), 1))
    (tmp_path / "both.vrt").write_text(f'<VRTDataset rasterXSize="9" rasterYSize="9">{bands}</VRTDataset>')
    raster = RasterSource.open(tmp_path / "both.vrt", (2,))
    assert raster.dtype == "uint8" and (raster.decimated(4).pixels == 7).all()
    with pytest.raises(RasterError, match="complex numbers"):
        RasterSource.open(tmp_path / "both.vrt")


@pytest.mark.parametrize("changes, sentence", [
    ({"bands": (4,)}, "has no band 4: choose from 1 to 3"), ({"bands": (0,)}, "has no band 0"),
    ({"bands": ()}, "No band .* is chosen"), ({"bounds": (0, 0, 1, 1)}, "do not touch"),
    ({"destination": "in.tif"}, "is the input itself"), ({"destination": "none/out.tif"}, "does not exist"),
    ({"destination": "there.tif"}, "exists already.*--overwrite"), ({"destination": "."}, "is a folder"),
    ({"uncertainty": "out.tif", "samples": 2}, "out.tif"), ({"uncertainty": "std.tif"}, "samples"),
    ({"tile": 0}, "--tile"), ({"tile": 8, "overlap": 5}, "--overlap 4"), ({"samples": 0}, "samples"),
])
def test_a_bad_wish_is_refused_in_a_sentence_and_leaves_nothing(make_raster, tmp_path, changes, sentence):
    source = make_raster("uint8")
    (tmp_path / "there.tif").write_text("mine")
    before = sorted(tmp_path.rglob("*")), Path(source).read_bytes()
    options = {k: changes.pop(k) for k in ("tile", "overlap", "samples") if k in changes}
    paths = {k: tmp_path / changes.pop(k) for k in ("destination", "uncertainty") if k in changes}
    with pytest.raises(Geoi2iError, match=sentence):
        translate_raster(source, **({"destination": tmp_path / "out.tif"} | paths), model=identity_package(3),
                         options=Options(**options), compute=Compute(device="cpu"), **changes)
    assert (sorted(tmp_path.rglob("*")), Path(source).read_bytes()) == before
    assert (tmp_path / "there.tif").read_text() == "mine"


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_the_input_is_not_overwritten_under_another_name(make_raster, tmp_path, link):
    source = make_raster("uint8")
    link(source, tmp_path / "other.tif")
    with pytest.raises(RasterError, match="is the input itself"):
        translate_raster(source, tmp_path / "other.tif", identity_package(3),
                         compute=Compute(device="cpu"), overwrite=True)


def test_overwriting_replaces_and_takes_the_old_sidecar_with_it(make_raster, tmp_path):
    planet = identity(make_raster("jupiter_graphic"))
    source = make_raster(np.full((1, 9, 9), 5, "uint8"), name="earth.tif")
    translate_raster(source, planet, identity_package(1), compute=Compute(device="cpu"), overwrite=True)
    assert (read(planet) == 5).all() and not os.path.exists(planet + ".aux.xml")
    with rasterio.open(planet) as data:
        assert data.crs.to_epsg() == 32631


@pytest.fixture
def small_disk(tmp_path, request):
    """A file system of so many kilobytes; mounting needs root, as the tests in CI have it."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={request.param}k", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("small_disk, kept", [(400, False), (770, False), (1200, True)], indirect=["small_disk"])
def test_a_full_disk_is_a_sentence_and_with_more_room_the_run_goes_on(make_raster, small_disk, kept):
    """Too small for 786 kB of pixels; for their strip; for its assembly, as large again."""
    source, told = make_raster(np.random.default_rng(0).integers(0, 256, (3, 512, 512), "uint8")), []

    def run():
        translate_raster(source, small_disk / "out.tif", identity_package(3), compute=Compute(device="cpu"),
                         callbacks=Callbacks(message=told.append))

    with pytest.raises(RasterError, match=r"the disk (is full|has)"):
        run()
    assert [p.name for p in small_disk.iterdir()] == ["out.tif.geoi2i-parts"] * kept
    assert [note[:26] for note in told] == ["1 finished strip is kept i"] * kept
    subprocess.run(["mount", "-o", "remount,size=4000k", str(small_disk)], check=True)
    run()
    assert np.array_equal(read(small_disk / "out.tif"), read(source))
    assert [p.name for p in small_disk.iterdir()] == ["out.tif"]


@pytest.mark.parametrize("small_disk", [2000], indirect=True)
def test_no_spread_is_left_where_the_mean_did_not_fit(make_raster, make_package, small_disk):
    """Another program fills the disk when the strips are done: the spread of nothing still fits, the mean does not."""
    asks_nobody = make_package(bands=1, table=identity_table(), normalise_in={"kind": "none"},
                               normalise_out={"kind": "none"})

    def fill(done, total):
        free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
        (small_disk / "other").write_bytes(bytes(free - 150_000))

    source = make_raster(np.random.default_rng(0).integers(0, 256, (1, 512, 512), "uint8"))
    with pytest.raises(RasterError, match="cannot be written: the disk is full"):
        translate_raster(source, small_disk / "out.tif", asks_nobody, Options(samples=2),
                         compute=Compute(device="cpu"),
                         uncertainty=small_disk / "std.tif", callbacks=Callbacks(fill))
    assert not (small_disk / "std.tif").exists() and not (small_disk / "out.tif").exists()
    (small_disk / "other").unlink()


@pytest.mark.parametrize("small_disk", [2000], indirect=True)
def test_a_folder_that_cannot_be_written_is_a_sentence(make_raster, small_disk):
    source = make_raster("uint8")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(RasterError, match="Nothing can be written"):
        translate_raster(source, small_disk / "out.tif", identity_package(3), compute=Compute(device="cpu"))


@pytest.mark.slow
@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_an_interruption_leaves_nothing(floats, package, tmp_path, error):
    before = sorted(tmp_path.iterdir())

    def stop(done, total):
        assert (tmp_path / "out.tif.geoi2i-parts").exists() and not (tmp_path / "out.tif").exists()
        if done > total // 2:
            raise error

    with pytest.raises(error):
        translate(floats, package, tile=32, samples=2, uncertainty=tmp_path / "std.tif", callbacks=Callbacks(stop))
    assert sorted(tmp_path.iterdir()) == before


def test_what_a_killed_run_left_does_not_disturb_the_next(make_raster, tmp_path):
    source, parts = make_raster("uint8"), tmp_path / "out.tif.geoi2i-parts"
    parts.mkdir()
    (parts / "lock").touch()
    (parts / ".0123456789abcdef.geoi2i-tmp").write_text("half")
    assert np.array_equal(read(identity(source)), read(source)) and not parts.exists()


def test_progress_counts_every_row_once(floats, package):
    seen = []
    translate(floats, package, tile=32, callbacks=Callbacks(lambda done, total: seen.append((done, total))))
    assert seen[-1] == (110, 110) and seen == sorted(set(seen))


# --- too little memory -------------------------------------------------------------------------------


@pytest.fixture
def small_memory(monkeypatch):
    """`small_memory(pixels)`: a device on which a batch of more pixels than this has no room."""
    from geoi2i.core.networks.resnet import ResnetGenerator

    forward = ResnetGenerator.forward

    def limit(pixels):
        def within(self, image, time, style):
            if image[:, 0].numel() > pixels:
                raise torch.OutOfMemoryError("Tried to allocate 20.00 GiB")
            return forward(self, image, time, style)

        monkeypatch.setattr(ResnetGenerator, "forward", within)

    return limit


def test_running_out_of_memory_halves_the_batch_then_the_tile(floats, make_package, small_memory, tmp_path):
    package, notes = make_package(steps=2, overlap_px=0), []
    expected = read(translate(floats, package, "expected.tif", tile=256))
    small_memory(100 * 100)  # one window of 32 pixels and its margins of 32 fits, of 64 does not
    found = read(translate(floats, package, tile=64, batch=4, callbacks=Callbacks(message=notes.append)))
    assert np.abs(found - expected).max() <= 1e-4 * np.ptp(expected)
    told = [note for note in notes if "ran out of memory" in note]
    assert [note.split("with ")[1] for note in told] == [
        "batch 2 and tile 64.", "batch 1 and tile 64.", "batch 1 and tile 32."]


def test_no_memory_at_all_is_a_sentence_and_leaves_nothing(floats, make_package, small_memory, tmp_path):
    package, before = make_package(steps=1), sorted(tmp_path.iterdir())
    small_memory(1)
    with pytest.raises(DeviceError, match="too little memory for one window of 32 pixels"):
        translate(floats, package, tile=64, batch=2)
    assert sorted(p for p in tmp_path.iterdir() if p.name != "tiny") == [p for p in before if p.name != "tiny"]


def test_another_error_of_the_network_is_not_taken_for_a_lack_of_memory(floats, make_package, monkeypatch):
    from geoi2i.core.networks.resnet import ResnetGenerator

    def broken(self, *_):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(ResnetGenerator, "forward", broken)
    package = identity_package(3)
    assert plan_translation(floats, package, Options(), Compute(device="cpu")).windows == (1, 1)
    monkeypatch.undo()
    package = make_package(steps=1)
    monkeypatch.setattr(ResnetGenerator, "forward", broken)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        translate(floats, package)


def test_a_raster_without_a_coordinate_system_is_translated_with_a_warning(make_raster, package):
    notes = []
    source = make_raster("nowhere")
    result = identity(source, callbacks=Callbacks(message=notes.append))
    assert any("no CRS" in note for note in notes)
    with rasterio.open(result) as data:
        assert data.crs is None and data.transform == Affine.identity()


def test_pixels_that_are_points_on_no_map_have_no_crs_before_and_after(make_raster, tmp_path):
    """GDAL makes one up for such a GeoTIFF."""
    from geoi2i.core.evaluation.quicklook import save_comparison

    source = make_raster(np.full((1, 20, 20), 9, "uint8"), crs=None, tags={"AREA_OR_POINT": "Point"})
    made = identity(source)
    assert RasterSource.open(source).grid.crs is None and RasterSource.open(made).grid.crs is None
    save_comparison(tmp_path / "p.png", RasterSource.open(source), RasterSource.open(made))
