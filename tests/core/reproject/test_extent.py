"""Laws of the seam: where longitudes begin changes neither the grid that is chosen nor a pixel."""

import math
import subprocess

import numpy as np
import pytest
import rasterio
from affine import Affine
from geoi2i.core.errors import RasterError
from geoi2i.core.evaluation.compare import on_one_grid
from geoi2i.core.grid import Grid, Window
from geoi2i.core.models.package import identity_package
from geoi2i.core.raster.source import RasterSource
from geoi2i.core.reproject.coordinates import between, period_of
from geoi2i.core.reproject.pixel_map import PixelMap
from geoi2i.core.reproject.target_grid import bounds_between, crossing, named_crs, target_grid, with_pixel_size
from geoi2i.core.reproject.warped_raster import WarpedSource, turned
from geoi2i.core.reproject.warping import RESAMPLING, Warping
from geoi2i.core.run import Compute, Options, plan_translation, reproject_raster, translate_raster
from hypothesis import assume, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.slow

COLUMNS = np.tile(np.arange(360, dtype="int16"), (10, 1))[None]


def grid(crs, transform, height, width):
    system = named_crs(crs)
    return Grid(system.crs, transform, height, width, system.latitude, system.longitude)


def world(start, pixel=1.0, top=5.0, height=10, crs="EPSG:4326"):
    """A raster that goes round from a longitude on."""
    return grid(crs, Affine(pixel, 0, start, 0, -pixel, top), height, round(360 / pixel))


def bounds(g):
    return np.array([g.transform.c, g.transform.f + g.transform.e * g.height,
                     g.transform.c + g.transform.a * g.width, g.transform.f])


def gdalwarp_grid(source, crs, path):
    subprocess.run(["gdalwarp", "-q", "-overwrite", "-t_srs", crs, source, str(path)], check=True, capture_output=True)
    with rasterio.open(path) as data:
        return data.shape, np.array(data.bounds)


# --- the default grid --------------------------------------------------------------------------------


@pytest.mark.parametrize("crs, cut", [("EPSG:4087", -180), ("EPSG:3857", -180), ("EPSG:3832", -30 + 1e-9),
                                      ("EPSG:6933", -180), ("ESRI:54030", -180), ("ESRI:54009", -180)])
@pytest.mark.parametrize("start", [0, -180.5, 77])
def test_a_raster_that_goes_round_gets_the_grid_that_gdalwarp_gives_one_that_begins_at_the_cut(
        make_raster, tmp_path, crs, cut, start):
    begun = make_raster(COLUMNS, crs="EPSG:4326", transform=Affine(1, 0, cut, 0, -1, 5))
    shape, expected = gdalwarp_grid(begun, crs, tmp_path / "g.tif")
    found = target_grid(world(start), named_crs(crs))
    assert abs(found.width - shape[1]) <= 1 + 0.01 * shape[1] and abs(found.height - shape[0]) <= 1
    assert np.abs(bounds(found) - expected).max() <= 1.1 * found.transform.a


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:4087", "EPSG:3857"])
def test_over_the_dateline_the_grid_is_that_of_the_same_raster_half_a_turn_further(make_raster, tmp_path, crs):
    """UTM zones 1 and 31 have the same easting and northing half a turn apart."""
    place = Affine(1000, 0, 130_000, 0, -1000, 8_100_000)
    there = make_raster(COLUMNS[:, :10, :80].repeat(8, 1), crs="EPSG:32731", transform=place)
    shape, expected = gdalwarp_grid(there, crs, tmp_path / "g.tif")
    found = target_grid(grid("EPSG:32701", place, 80, 80), named_crs(crs))
    half = 180 if crs == "EPSG:4326" else math.pi * 6_378_137
    assert np.abs(np.subtract((found.height, found.width), shape)).max() <= 1
    assert np.abs(bounds(found) - expected - [half, 0, half, 0]).max() <= 1.1 * found.transform.a


def test_other_bodies_have_seams_too():
    jupiter = ('GEOGCS["Jupiter",DATUM["Jupiter",SPHEROID["Jupiter",71492000,15.4144027598103]],PRIMEM["Reference",0],'
               'UNIT["degree",0.0174532925199433]]')
    found = target_grid(world(0, top=10, height=20, crs=jupiter), named_crs("IAU_2015:59911"))
    half = math.pi * 71_492_000
    assert (found.height, found.width) == (20, 360)
    assert bounds(found)[[0, 2]] == pytest.approx([-half, half], rel=1e-9)


SPHERES = {"Earth": "+datum=WGS84", "Mars": "+R=3396190", "Jupiter": "+a=71492000 +b=66854000"}
FAMILIES = ["+proj=longlat", "+proj=eqc", "+proj=merc", "+proj=cea", "+proj=sinu", "+proj=moll", "+proj=robin",
            "+proj=eqearth", "+proj=laea +lat_0=90", "+proj=ob_tran +o_proj=longlat +o_lon_p=0 +o_lat_p=40"]


@st.composite
def over_seams(draw):
    """A raster that goes round from anywhere, or lies over the cut of a CRS of its body."""
    body, family, middle = draw(st.sampled_from(list(SPHERES))), draw(st.sampled_from(FAMILIES)), draw(
        st.integers(-179, 180))
    middle *= family != "+proj=longlat"
    target = named_crs(f"{family} +lon_0={middle} {SPHERES[body]} +type=crs")
    round_ = draw(st.booleans())
    pixel = 360 / draw(st.sampled_from([36, 72, 180, 360])) if round_ else draw(st.sampled_from([0.05, 0.5, 2.0]))
    width = round(360 / pixel) if round_ else draw(st.integers(2, 60))
    start = draw(st.floats(-360, 0)) if round_ else (
        middle + 180 - 360 * (middle > 0) - draw(st.floats(0.1, 0.9)) * width * pixel)
    top = draw(st.floats(-40, 60))
    height = draw(st.integers(1, max(1, min(40, int((top + 70) / pixel)))))
    return grid(f"+proj=longlat {SPHERES[body]} +type=crs", Affine(pixel, 0, start, 0, -pixel, top), height,
                width), target


def outside(source, target):
    """By how many of the target's pixels centres of the source's lie beside it, longitudes taken round."""
    back = PixelMap(source, target)
    col, row = np.meshgrid(np.arange(source.width) + 0.5, np.arange(source.height) + 0.5)
    u, v = back.exact(col.ravel(), row.ravel())
    u, v = u[np.isfinite(u)], v[np.isfinite(u)]
    if back.period:
        u = u - back.period * np.floor((u - (target.width - back.period) / 2) / back.period)
    return max(0, -u.min(), u.max() - target.width, -v.min(), v.max() - target.height)


@pytest.mark.slow
@settings(max_examples=150)
@given(over_seams())
def test_every_pixel_that_is_near_a_seam_lies_on_the_default_grid(pair):
    """But for half a pixel, to which the size is rounded."""
    source, target = pair
    assert outside(source, target_grid(source, target)) <= 0.6


@pytest.mark.slow
@settings(max_examples=100)
@given(over_seams(), st.integers(0, 359))
def test_where_a_raster_begins_that_goes_round_does_not_change_its_grid(pair, columns):
    source, target = pair
    assume(period_of(source) == source.width)
    shift = columns % source.width - source.width * (source.transform.c > -180)
    other = Grid(source.crs, source.transform @ Affine.translation(shift, 0), source.height, source.width,
                 source.latitude, source.longitude)
    one, two = (target_grid(g, target) for g in (source, other))
    assert abs(one.width - two.width) <= 1 + 0.01 * one.width and abs(one.height - two.height) <= 1 + 0.01 * one.height


# --- bounds ------------------------------------------------------------------------------------------


def test_bounds_with_more_west_than_east_cross_the_dateline():
    """RFC 7946, section 5.2."""
    lonlat = named_crs("EPSG:4326")
    assert crossing((179, -18, -179, -17), lonlat) == (179, -18, 181, -17)
    utm = grid("EPSG:32701", Affine(1000, 0, 130_000, 0, -1000, 8_100_000), 80, 80)
    found = target_grid(utm, lonlat, None, (179, -18, -179, -17))
    assert bounds(found) == pytest.approx([179, -18, 181, -17]) and found.transform.a == pytest.approx(0.0092, rel=0.01)
    x = bounds_between((179, -18, -179, -17), lonlat, named_crs("EPSG:3857"))[::2]
    assert np.degrees(np.array(x) / 6_378_137) == pytest.approx([179, 181])


@pytest.mark.parametrize("crs", ["EPSG:32701", "EPSG:3857"])
def test_bounds_in_metres_that_are_the_wrong_way_round_are_refused(crs):
    with pytest.raises(RasterError, match="are empty: give xmin ymin xmax ymax"):
        crossing((500_000, 0, 400_000, 9), named_crs(crs))


# --- no sane extent ----------------------------------------------------------------------------------


@pytest.mark.parametrize("crs, area", [("EPSG:3413", (-180, 60, 180, 90)), ("EPSG:3031", (-180, -90, 180, -60)),
                                       ("EPSG:3857", (-180, -85.06, 180, 85.06)),
                                       ("EPSG:2154", (-9.86, 41.15, 10.38, 51.56))])
@pytest.mark.parametrize("pixel", [10.0, 0.5])
def test_what_a_projection_throws_to_infinity_is_cut_at_its_area_of_use(crs, area, pixel):
    """The areas are those of the EPSG registry."""
    source = world(-180, pixel, 90, round(180 / pixel))
    found = target_grid(source, named_crs(crs))
    west, south, east, north = area
    lon, lat = np.meshgrid(np.linspace(west, east, 721), np.linspace(south, north, 181))
    x, y = between(named_crs("EPSG:4326"), found)(lon, lat)
    known = np.isfinite(x) & np.isfinite(y)
    expected = np.array([x[known].min(), y[known].min(), x[known].max(), y[known].max()])
    assert np.abs(bounds(found) - expected).max() <= 1.01 * max(found.transform.a, found.transform.a)
    assert 0.05 <= found.transform.a / (pixel * 111_000) <= 2


def test_what_goes_to_infinity_where_no_area_is_known_needs_bounds():
    polar = named_crs("+proj=stere +lat_0=90 +R=6371000 +type=crs")
    source = world(-180, 10.0, 90, 18)
    with pytest.raises(RasterError, match="--bounds"):
        target_grid(source, polar)
    found = target_grid(source, polar, None, (-3e6, -3e6, 3e6, 3e6))
    assert 5 <= found.width <= 20 and bounds(found) == pytest.approx([-3e6, -3e6, 3e6, 3e6])


@pytest.mark.parametrize("crs", ["EPSG:4978", "EPSG:5703", 'LOCAL_CS["site",UNIT["metre",1]]'])
def test_a_crs_that_makes_no_map_is_refused_with_what_is_allowed(crs):
    with pytest.raises(RasterError, match=r"name a geographic CRS .* or a projected one"):
        named_crs(crs)


# --- pixels ------------------------------------------------------------------------------------------


@pytest.fixture
def maps(make_raster):
    """One map of the world twice: from 0 and from -180 degrees on."""
    pixels = np.random.default_rng(0).integers(0, 9000, (2, 60, 360)).astype("uint16")
    return [make_raster(np.roll(pixels, roll, 2), name=f"{start}.tif", crs="EPSG:4326",
                        transform=Affine(1, 0, start, 0, -1, 30)) for start, roll in ((0, 0), (-180, 180))]


@pytest.mark.parametrize("resampling", RESAMPLING)
@pytest.mark.parametrize("crs", ["EPSG:4087", "EPSG:3832", "ESRI:54030", "EPSG:3995"])
def test_where_a_map_of_the_world_begins_does_not_change_a_pixel(maps, tmp_path, crs, resampling):
    target = target_grid(RasterSource.open(maps[0]).grid, named_crs(crs), (150_000.0, 150_000.0))
    one, two = (rasterio.open(reproject_raster(path, tmp_path / f"seen {k}.tif", target, Warping(resampling)))
                for k, path in enumerate(maps))
    assert (one.read_masks(1) != 0).mean() > 0.5
    assert np.array_equal(one.read_masks(), two.read_masks())
    assert np.abs(one.read().astype(int) - two.read()).max() <= 1


def test_every_column_comes_out_once(make_raster, tmp_path):
    source = make_raster(COLUMNS, crs="EPSG:4326", transform=Affine(1, 0, 0, 0, -1, 5))
    grid_ = target_grid(RasterSource.open(source).grid, named_crs("EPSG:4087"))
    with rasterio.open(reproject_raster(source, tmp_path / "o.tif", grid_, Warping("nearest"))) as data:
        assert np.array_equal(data.read(1), np.roll(COLUMNS[0], 180, 1)) and (data.read_masks(1) != 0).all()


def test_a_map_between_the_ends_of_its_seam_is_found_from_both_sides(make_raster, tmp_path):
    """179 to 181 degrees, seen in CRSs that call it 179 to -179."""
    source = make_raster(np.arange(1, 1601, dtype="uint16").reshape(1, 40, 40), crs="EPSG:4326",
                         transform=Affine(0.05, 0, 179, 0, -0.05, -17))
    for start in (179, -181):
        seen = grid("EPSG:4326", Affine(0.05, 0, start, 0, -0.05, -17), 40, 40)
        path = reproject_raster(source, tmp_path / f"{start}.tif", seen, Warping("bilinear"))
        with rasterio.open(path) as data, rasterio.open(source) as original:
            assert np.array_equal(data.read(), original.read()) and (data.read_masks(1) != 0).all()
    mercator = target_grid(RasterSource.open(source).grid, named_crs("EPSG:3857"))
    with rasterio.open(reproject_raster(source, tmp_path / "m.tif", mercator, Warping("nearest"))) as data:
        assert (data.read_masks(1) != 0).mean() > 0.95 and len(np.unique(data.read())) > 1400


@pytest.mark.parametrize("wanted, first", [((-20, -5, -10, 5), 340), ((-10, -5, 10, 5), 350), ((350, -5, 370, 5), 350),
                                           ((-180, -5, 180, 5), 180), ((10, -5, 20, 5), 10)])
def test_bounds_take_the_pixels_that_they_name_however_longitudes_count(make_raster, package, wanted, first):
    pixels = np.repeat(COLUMNS, 3, 0).astype("float32") / 360
    source = make_raster(pixels, crs="EPSG:4326", transform=Affine(1, 0, 0, 0, -1, 5))
    plan = plan_translation(source, package, Options(), Compute(device="cpu"), bounds=wanted)
    rows = plan.raster.read(plan.window)
    count = wanted[2] - wanted[0]
    assert np.array_equal(rows.pixels[0, 0], pixels[0, 0][(first + np.arange(count)) % 360])
    assert rows.mask is None or rows.mask.all()
    assert plan.raster.grid.crop(plan.window).transform.c == pytest.approx(wanted[0])
    assert plan.raster.mask_kinds == RasterSource.open(source).mask_kinds


@pytest.mark.parametrize("nodata", [None, -(2**63)])
def test_the_identity_changes_no_number_across_the_seam(make_raster, tmp_path, nodata):
    pixels = np.random.default_rng(2).integers(-(2**63), 2**63 - 1, (2, 40, 90))
    pixels[:, 7] = -(2**63)
    source = make_raster(pixels, crs="EPSG:4326", transform=Affine(4, 0, 0, 0, -4, 80), nodata=nodata)
    path = translate_raster(source, tmp_path / "o.tif", identity_package(2), compute=Compute(device="cpu"),
                            bounds=(-20, -80, 20, 80))
    with rasterio.open(path) as data, rasterio.open(source) as whole:
        assert np.array_equal(data.read(), np.roll(pixels, 5, 2)[:, :, :10]) and data.nodatavals == whole.nodatavals
        assert np.array_equal(data.read_masks(), np.roll(whole.read_masks(), 5, 2)[:, :, :10])


def test_a_translation_across_the_seam_is_that_of_the_map_begun_elsewhere(make_raster, package, tmp_path):
    rng = np.random.default_rng(1)
    pixels = rng.uniform(-1, 1, (3, 40, 90)).astype("float32")
    one = make_raster(pixels, crs="EPSG:4326", transform=Affine(4, 0, 0, 0, -4, 80))
    other = make_raster(np.roll(pixels, 5, 2), name="o.tif", crs="EPSG:4326", transform=Affine(4, 0, -20, 0, -4, 80))
    found = translate_raster(one, tmp_path / "1.tif", package, compute=Compute(device="cpu"), bounds=(-20, -80, 20, 80))
    wanted = translate_raster(other, tmp_path / "2.tif", package, compute=Compute(device="cpu"),
                              bounds=(-20, -80, 20, 80))
    with rasterio.open(found) as a, rasterio.open(wanted) as b:
        assert np.array_equal(a.read(), b.read()) and a.transform == b.transform and a.width == 10


@pytest.mark.parametrize("size_m", [222_639, 55_660])
def test_matching_a_pixel_size_goes_across_the_seam(maps, size_m):
    one, two = (RasterSource.open(path) for path in maps)
    seen = [WarpedSource(raster, with_pixel_size(raster.grid, size_m), Warping("cubic")) for raster in (one, two)]
    first, second = (raster.read(Window(0, 0, raster.grid.height, raster.grid.width)).pixels.astype(int)
                     for raster in seen)
    assert np.abs(np.roll(first, first.shape[2] // 2, 2) - second).max() <= 1


def test_maps_a_turn_apart_are_compared_pixel_by_pixel(maps, make_raster):
    one, two = (RasterSource.open(path) for path in maps)
    for prediction, reference in ((one, two), (two, one)):
        pair = on_one_grid(prediction, reference)
        left, right = (raster.read(window).pixels for raster, window in zip((pair.prediction, pair.reference),
                                                                           pair.windows))
        assert left.shape == (2, 60, 360) and np.array_equal(left, right)
    part = RasterSource.open(make_raster(one.read(Window(0, 300, 60, 60)).pixels, name="p.tif", crs="EPSG:4326",
                                         transform=Affine(1, 0, -60, 0, -1, 30)))
    pair = on_one_grid(part, one)
    assert np.array_equal(*(raster.read(window).pixels for raster, window in zip((pair.prediction, pair.reference),
                                                                                pair.windows)))


def test_a_raster_on_whose_columns_bounds_lie_is_left_alone(maps):
    raster = RasterSource.open(maps[0])
    assert turned(raster, (10, 0, 20, 10)) is raster
