"""Reprojection agrees with gdalwarp -et 0 where GDAL is right, with closed forms everywhere, and is safe at edges."""

import math
import subprocess

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from geoi2i.core.errors import RasterError
from geoi2i.core.grid import Grid, Window
from geoi2i.core.pipeline.chained_raster import TranslatedRaster
from geoi2i.core.raster.reader import RasterWindows, StreamWindows
from geoi2i.core.raster.rows import Raster, Rows, SeekableRaster
from geoi2i.core.raster.source import RasterSource
from geoi2i.core.reproject import kernels
from geoi2i.core.reproject import warp as warping
from geoi2i.core.reproject.coordinates import between
from geoi2i.core.reproject.kernels import KERNELS, resample
from geoi2i.core.reproject.pixel_map import PixelMap
from geoi2i.core.reproject.target_grid import bounds_between, named_crs, target_grid, with_pixel_size
from geoi2i.core.reproject.warp import warp
from geoi2i.core.reproject.warped_raster import StreamedRaster, WarpedSource
from geoi2i.core.reproject.warping import RESAMPLING, Warping
from geoi2i.core.run import Callbacks, Compute, Options, reproject_raster, translate_raster
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Geod, Transformer
from rasterio.windows import Window as RioWindow
from scipy.ndimage import binary_dilation, gaussian_filter

UTM32 = Affine(10, 0, 500_000, 0, -10, 5_300_000)
EQC = "+proj=eqc +R=3396190 +units=m +no_defs"
POLAR = "+proj=stere +lat_0=90 +R=3396190 +units=m +no_defs"


def texture(height=300, width=280, bands=2, dtype="uint16", seed=0, sigma=2.0):
    """Smooth noise over most of the range, (bands, height, width)."""
    noise = np.random.default_rng(seed).normal(size=(bands, height, width))
    noise = np.stack([gaussian_filter(n, sigma, mode="wrap") for n in noise])
    unit = (noise - noise.min()) / np.ptp(noise)
    return (unit + 0.01).astype(dtype) if np.dtype(dtype).kind == "f" else (unit * 9000 + 500).astype(dtype)


def gdalwarp(source, target, grid, resampling, *options):
    """Runs the real gdalwarp onto a grid."""
    t = grid.transform
    corners = [t.c, t.f + t.e * grid.height, t.c + t.a * grid.width, t.f]
    subprocess.run(["gdalwarp", "-q", "-overwrite", "-et", "0", "-t_srs", grid.crs, "-te", *map(repr, corners), "-ts",
                    str(grid.width), str(grid.height), "-r", resampling, "-dstnodata", "nan"
                    if "float" in str(rasterio.open(source).dtypes[0]) else "0", *options, str(source), str(target)],
                   check=True, capture_output=True)
    return target


def read(path):
    """Pixels as float64 with NaN where there is no data."""
    with rasterio.open(path) as data:
        pixels, valid = data.read().astype(np.float64), data.read_masks() != 0
    return np.where(valid & np.isfinite(pixels), pixels, np.nan)


def compare(found, wanted, resampling, span, seam=False):
    """The agreement that is promised; the mask may differ by a pixel along its edge.

    Beside the seam of a raster that goes all the way round GDAL takes no pixels from the other side; we do.
    """
    assert found.shape == wanted.shape and np.isfinite(wanted).any()
    there, missing = np.isfinite(found).all(0), np.isnan(wanted).any(0)
    edge = binary_dilation(missing, np.ones((3, 3))) & binary_dilation(~missing, np.ones((3, 3)))
    assert np.array_equal(there[~edge], ~missing[~edge])
    inside = there & ~missing & ~binary_dilation(missing, np.ones((5, 5))) & ~np.asarray(seam)
    difference = np.abs(found - wanted)[:, inside]
    assert inside.any()
    if resampling == "nearest":
        assert (difference == 0).mean() >= 0.9999
    else:
        assert difference.mean() <= 1e-4 * span and difference.max() <= 5e-3 * span


def holed(pixels):
    pixels = pixels.copy()
    pixels[:, 100:130], pixels[:, :, 200] = 0, 0
    pixels[:, 20:26, 40:90] = 0
    return pixels


# name: what make_raster needs, target system, resolution
CASES = {
    "to the next UTM zone": (dict(crs="EPSG:32632", transform=UTM32), "EPSG:32633", None),
    "to web Mercator": (dict(crs="EPSG:32632", transform=UTM32), "EPSG:3857", None),
    "geographic to UTM": (dict(crs="EPSG:4326", transform=Affine(2e-4, 0, 9, 0, -1.4e-4, 47.8)), "EPSG:32632", None),
    "to another datum": (dict(crs="EPSG:23032", transform=UTM32), "EPSG:25832", None),
    "nodata": (dict(crs="EPSG:32632", transform=UTM32, nodata=0, pixels=holed(texture())), "EPSG:3857", None),
    "rotated": (dict(crs="EPSG:32632", transform=UTM32 @ Affine.rotation(30)), "EPSG:32633", None),
    "south up": (dict(crs="EPSG:32632", transform=Affine(10, 0, 500_000, 0, 10, 5_297_000)), "EPSG:3857", None),
    "over the pole": (dict(crs="EPSG:4326", transform=Affine(0.5, 0, -180, 0, -0.05, 90),
                           pixels=texture(300, 720)), "EPSG:3995", 8000.0),
    "over the dateline": (dict(crs="EPSG:32660", transform=Affine(400, 0, 600_000, 0, -400, 5_300_000)), "EPSG:3832",
                          None),
    "Mars to its pole": (dict(crs=EQC, transform=Affine(59_274.7, 0, -10_669_446, 0, -20_000, 5_334_723),
                              pixels=texture(300, 360)), POLAR, 20_000.0),
    "four times finer": (dict(crs="EPSG:32632", transform=UTM32, pixels=texture(90, 80)), "EPSG:3857", 3.7),
    "one pixel": (dict(crs="EPSG:32632", transform=UTM32, pixels=texture(1, 1, sigma=0)[:, :1] * 0 + 700), "EPSG:3857",
                  1.0),
}


@pytest.mark.slow
@pytest.mark.parametrize("resampling", ["nearest", "bilinear", "cubic", "lanczos"])
@pytest.mark.parametrize("case", CASES)
def test_it_agrees_with_gdalwarp(make_raster, tmp_path, case, resampling):
    facts, crs, resolution = CASES[case]
    facts = dict(facts)
    pixels = facts.pop("pixels", None)
    source = make_raster(texture() if pixels is None else pixels, **facts)
    grid = target_grid(RasterSource.open(source).grid, named_crs(crs), resolution and (resolution,) * 2)
    found = reproject_raster(source, tmp_path / "found.tif", grid, Warping(resampling, 0.001, antialias=False))
    wanted = gdalwarp(source, tmp_path / "wanted.tif", grid, resampling, "-wo", "XSCALE=1", "-wo", "YSCALE=1")
    pixel_map, seam = PixelMap(grid, RasterSource.open(source).grid), False
    if pixel_map.period:
        col, _ = pixel_map.positions(Window(0, 0, grid.height, grid.width))
        seam = np.abs((col + 4) % pixel_map.period - 4) < 4
    compare(read(found), read(wanted), resampling, 9000, seam)


@pytest.mark.slow
@pytest.mark.parametrize("resampling", ["bilinear", "cubic", "average"])
def test_ten_times_coarser_it_widens_its_kernel_as_gdal_does(make_raster, tmp_path, resampling):
    source = make_raster(texture(400, 400, sigma=4), crs="EPSG:32632", transform=UTM32)
    grid = target_grid(RasterSource.open(source).grid, named_crs("EPSG:32632"), (100.0, 100.0))
    found = reproject_raster(source, tmp_path / "found.tif", grid, Warping(resampling))
    wanted = gdalwarp(source, tmp_path / "wanted.tif", grid, resampling, "-wo", "XSCALE=0.1", "-wo", "YSCALE=0.1")
    compare(read(found), read(wanted), resampling, 9000)


def test_ten_times_coarser_lanczos_is_its_formula():
    """gdalwarp 3.6 is not: with XSCALE=0.1 it is off by half a percent of the range in the mean."""
    image = texture(400, 400, 1, "float64", sigma=4)
    source, target = (grid("EPSG:32632", UTM32 @ Affine.scale(s), 400 // s, 400 // s) for s in (1, 10))
    found, _ = warp(torch.from_numpy(image), source, target, Warping("lanczos"))
    x = (np.arange(400)[None] + 0.5 - 10 * (np.arange(40)[:, None] + 0.5)) / 10
    weights = np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)
    weights /= weights.sum(1, keepdims=True)
    np.testing.assert_allclose(found[0].numpy(), weights @ image[0] @ weights.T, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("resampling", ["bilinear", "cubic"])
def test_nan_does_not_bleed(make_raster, tmp_path, resampling):
    pixels = texture(dtype="float32")
    pixels[:, 50:60, 70:100] = np.nan
    source = make_raster(pixels, crs="EPSG:32632", transform=UTM32, nodata=float("nan"))
    grid = target_grid(RasterSource.open(source).grid, named_crs("EPSG:32633"))
    found = reproject_raster(source, tmp_path / "found.tif", grid, Warping(resampling, 0.001, antialias=False))
    wanted = gdalwarp(source, tmp_path / "wanted.tif", grid, resampling, "-wo", "XSCALE=1", "-wo", "YSCALE=1")
    compare(read(found), read(wanted), resampling, 1)


@pytest.mark.slow
@pytest.mark.parametrize("crs", ["EPSG:3857", "EPSG:32633", "EPSG:4326", "EPSG:3035", "ESRI:54030"])
def test_without_a_resolution_the_grid_is_gdalwarps(make_raster, tmp_path, crs):
    source = make_raster(texture(), crs="EPSG:32632", transform=UTM32)
    grid = target_grid(RasterSource.open(source).grid, named_crs(crs))
    subprocess.run(["gdalwarp", "-q", "-t_srs", crs, source, str(tmp_path / "g.tif")], check=True, capture_output=True)
    with rasterio.open(tmp_path / "g.tif") as data:
        assert data.shape == (grid.height, grid.width)
        assert all(math.isclose(a, b, rel_tol=1e-9) for a, b in zip(data.transform, grid.transform))


@pytest.mark.slow
@pytest.mark.parametrize("options", [["-tr", "37", "41"],
                                     ["-tr", "37", "41", "-te", "990000", "6050000", "1010000", "6080000"]])
def test_resolution_and_bounds_mean_what_they_mean_to_gdalwarp(make_raster, tmp_path, options):
    source = make_raster(texture(), crs="EPSG:32632", transform=UTM32)
    resolution = (37.0, 41.0) if "-tr" in options else None
    bounds = (990000.0, 6050000.0, 1010000.0, 6080000.0) if "-te" in options else None
    grid = target_grid(RasterSource.open(source).grid, named_crs("EPSG:3857"), resolution, bounds)
    subprocess.run(["gdalwarp", "-q", "-t_srs", "EPSG:3857", *options, source, str(tmp_path / "g.tif")], check=True,
                   capture_output=True)
    with rasterio.open(tmp_path / "g.tif") as data:
        assert data.shape == (grid.height, grid.width)
        assert all(math.isclose(a, b, rel_tol=1e-9) for a, b in zip(data.transform, grid.transform))


# --- where pixels come from --------------------------------------------------------------------------


def grid(crs, transform, height, width, latitude=None, longitude=None):
    system = named_crs(crs)
    return Grid(system.crs, transform, height, width, latitude or system.latitude, longitude or system.longitude)


PAIRS = {
    "UTM": (grid("EPSG:32633", Affine(10, 0, 50_000, 0, -10, 5_317_000), 900, 900),
            grid("EPSG:32632", UTM32, 900, 900)),
    "polar": (grid("EPSG:3995", Affine(9000, 0, -4e6, 0, -9000, 4e6), 889, 889),
              grid("EPSG:4326", Affine(0.1, 0, -180, 0, -0.1, 90), 1800, 3600)),
    "dateline": (grid("EPSG:3832", Affine(5000, 0, 1_000_000, 0, -5000, 5e6), 900, 1200),
                 grid("EPSG:4326", Affine(0.1, 0, -180, 0, -0.1, 90), 1800, 3600)),
    "world": (grid("ESRI:54030", Affine(40_000, 0, -17.2e6, 0, -40_000, 8.7e6), 435, 860),
              grid("EPSG:4326", Affine(0.1, 0, -180, 0, -0.1, 90), 1800, 3600)),
}


@pytest.mark.slow
@pytest.mark.parametrize("tolerance", [0.05, 0.01, 0.001])
@pytest.mark.parametrize("pair", PAIRS)
def test_positions_keep_their_tolerance(pair, tolerance):
    """Against PROJ itself at every pixel."""
    target, source = PAIRS[pair]
    pixel_map = PixelMap(target, source)
    col, row = np.meshgrid(np.arange(target.width) + 0.5, np.arange(target.height) + 0.5)
    u, v = (values.reshape(col.shape) for values in pixel_map.exact(col.ravel(), row.ravel()))
    for top in range(0, target.height, 300):
        for left in range(0, target.width, 300):
            part = Window(top, left, min(300, target.height - top), min(300, target.width - left))
            here = slice(top, top + part.height), slice(left, left + part.width)
            col, row = pixel_map.positions(part, tolerance)
            assert np.array_equal(np.isfinite(col), np.isfinite(u[here]))
            apart = col - u[here]
            if pixel_map.period:
                apart -= pixel_map.period * np.round(apart / pixel_map.period)
            assert np.nanmax(np.abs(apart)) <= tolerance and np.nanmax(np.abs(row - v[here])) <= tolerance


def test_the_great_red_spot_changes_its_latitude_with_the_system():
    """Planetographic -22.6 is planetocentric -20.0 on Jupiter (radii 71492 and 66854 km)."""
    graphic, centric = named_crs("IAU_2015:59901"), named_crs("IAU_2015:59902")
    assert (graphic.latitude, graphic.longitude) == ("planetographic", "west")
    assert (centric.latitude, centric.longitude) == ("planetocentric", "east")
    x, y = between(graphic, centric)(np.array([95.0]), np.array([-22.6]))
    expected = math.degrees(math.atan(math.tan(math.radians(-22.6)) * (66854 / 71492) ** 2))
    assert x[0] == pytest.approx(-95) and y[0] == pytest.approx(expected) and y[0] == pytest.approx(-20.0, abs=0.03)
    back = between(centric, graphic)(x, y)
    assert np.allclose([v[0] for v in back], (95.0, -22.6))


@pytest.mark.parametrize("projected, x_sign", [("IAU_2015:59911", -1), ("IAU_2015:59912", 1)])
def test_a_map_of_jupiter_in_metres_tells_latitudes_and_directions_apart(projected, x_sign):
    """Equirectangular: x = a * longitude; both systems share their northings, westings count the other way."""
    centric = named_crs("IAU_2015:59902")
    x, y = between(centric, named_crs(projected))(np.array([10.0]), np.array([-20.0]))
    assert x[0] == pytest.approx(x_sign * 71_492_000 * math.radians(10))
    graphic = math.degrees(math.atan(math.tan(math.radians(-20)) * (71492 / 66854) ** 2))
    plain = Transformer.from_pipeline("+proj=pipeline +step +proj=unitconvert +xy_in=deg +xy_out=rad +step +proj=eqc "
                                      "+a=71492000 +b=66854000")
    assert y[0] == pytest.approx(plain.transform(10, graphic)[1])
    assert [v[0] for v in between(named_crs(projected), centric)(x, y)] == pytest.approx([10, -20])


@pytest.mark.parametrize("pole", [1, -1])
def test_a_polar_map_of_jupiter_reaches_beyond_its_middle_latitudes(pole):
    """Snyder 1987, eq. 15-9 and 21-33; PROJ's own inverse gives up between 5 and 55 degrees on so flat a body."""
    a, b = 71_492_000, 66_854_000
    e = math.sqrt(1 - (b / a) ** 2)
    latitude = np.array([-10.0, 5, 20, 35, 50, 70, 89])
    phi = np.radians(latitude)
    t = np.tan(np.pi / 4 - phi / 2) * ((1 + e * np.sin(phi)) / (1 - e * np.sin(phi))) ** (e / 2)
    rho = 2 * a * t / math.sqrt((1 + e) ** (1 + e) * (1 - e) ** (1 - e))
    longitude = np.radians(40)
    x, y = rho * np.sin(longitude), -pole * rho * np.cos(longitude)
    polar = named_crs(f"+proj=stere +lat_0={90 * pole} +a={a} +b={b} +no_defs +type=crs")
    graphic = named_crs(f"+proj=longlat +a={a} +b={b} +no_defs +type=crs")
    lon, lat = between(polar, graphic)(x, y)
    np.testing.assert_allclose(lat, pole * latitude, atol=1e-7)
    np.testing.assert_allclose(lon, 40, atol=1e-7)


def test_tags_of_a_file_that_lost_its_system_still_tell_the_latitude(make_raster, tmp_path):
    """A GeoTIFF without its sidecar has a plain geographic system: the same shift as between the codes."""
    place = Affine(0.25, 0, -30, 0, -0.25, 0)
    pixels = np.repeat(np.arange(120, dtype="float32")[None, :, None], 100, 2)
    source = make_raster(pixels, crs="+proj=longlat +a=71492000 +b=66854000 +no_defs", transform=place,
                         tags={"LATITUDE": "planetocentric", "LONGITUDE": "east positive"})
    system = named_crs("IAU_2015:59901")
    target = Grid(system.crs, Affine(-0.25, 0, 30, 0, -0.25, 0), 120, 100, system.latitude, system.longitude)
    found = reproject_raster(source, tmp_path / "o.tif", target, Warping("bilinear"))
    with rasterio.open(found) as data:
        rows = data.read(1)[:, 50]
        assert data.tags()["GEOI2I_LATITUDE"] == "planetographic" and data.tags()["GEOI2I_LONGITUDE"] == "west"
    graphic = -(np.arange(120) + 0.5) * 0.25
    centric = np.degrees(np.arctan(np.tan(np.radians(graphic)) * (66854 / 71492) ** 2))
    inside = np.isfinite(rows) & (centric > -29.5) & (centric < -0.2)
    np.testing.assert_allclose(rows[inside], (-centric / 0.25 - 0.5)[inside], atol=1e-3)


def test_known_points_land_where_the_literature_has_them():
    """EPSG guidance note 7-2: worked examples of projections; and a geodesic of a nautical mile."""
    cases = [("EPSG:4326", "EPSG:3857", (-100.33333333, 24.38178692), (-11169055.58, 2800000.00)),
             ("EPSG:4277", "EPSG:27700", (0.5, 50.5), (577274.99, 69740.50)),
             ("EPSG:4326", "EPSG:3832", (150.0, 0.0), (0.0, 0.0))]
    for one, other, point, expected in cases:
        found = between(named_crs(one), named_crs(other))(*(np.array([v]) for v in point))
        assert [v[0] for v in found] == pytest.approx(expected, abs=0.02)
    east, north = between(named_crs("EPSG:4326"), named_crs("EPSG:32632"))(np.array([9.0, 9.0]),
                                                                                 np.array([45.0, 45 + 1 / 60]))
    length = Geod(ellps="WGS84").inv(9, 45, 9, 45 + 1 / 60)[2]
    assert north[1] - north[0] == pytest.approx(0.9996 * length, rel=1e-6) and np.allclose(east, 500_000)


def test_other_bodies_are_refused_and_named():
    mars = grid("IAU_2015:49900", Affine(1, 0, 0, 0, -1, 10), 10, 10)
    with pytest.raises(RasterError, match=r"shows Jupiter.*is for Mars"):
        PixelMap(mars, grid("IAU_2015:59900", Affine(1, 0, 0, 0, -1, 10), 10, 10))


def test_a_crs_that_proj_cannot_compute_is_refused_in_a_sentence():
    """As comes of a GRIB file: a polar projection by a name that PROJ does not know, with numbers that make none."""
    odd = ('PROJCRS["odd",BASEGEOGCRS["sphere",DATUM["sphere",ELLIPSOID["sphere",6371229,0]]],CONVERSION["odd",METHOD['
           '"Polar_Stereographic"],PARAMETER["latitude_of_origin",60],PARAMETER["central_meridian",249],PARAMETER['
           '"scale_factor",90]],CS[Cartesian,2],AXIS["x",south],AXIS["y",south],LENGTHUNIT["metre",1]]')
    with pytest.raises(RasterError, match=r"PROJ cannot get from .* choose another CRS"):
        target_grid(Grid(odd, Affine(1e4, 0, -4.5e6, 0, -1e4, 9e5), 20, 20), named_crs("EPSG:4326"))
    with pytest.raises(RasterError, match="PROJ cannot get from"):
        PixelMap(grid("EPSG:32632", UTM32, 9, 9), Grid(odd, UTM32, 9, 9))


def test_a_grid_without_a_system_is_refused():
    with pytest.raises(RasterError, match="The source has no CRS"):
        PixelMap(grid("EPSG:4326", Affine.identity(), 1, 1), Grid(None, Affine.identity(), 1, 1))


# --- kernels -----------------------------------------------------------------------------------------


def test_every_kernel_but_the_nearest_pixel_has_its_weights():
    assert RESAMPLING == ("nearest", *KERNELS)


@pytest.mark.parametrize("kind", RESAMPLING)
def test_a_constant_stays_a_constant_under_every_kernel(kind):
    image = torch.full((2, 20, 30), 0.7, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    col, row = (torch.rand(40, 50, generator=generator, dtype=torch.float64) * size for size in (30, 20))
    for valid in (None, torch.rand(1, 20, 30, generator=generator) > 0.3):
        for scale in (1.0, 3.7):
            found, exists = resample(image, col, row, kind, valid, (scale, scale))
            assert exists.any() and torch.allclose(found[:, exists[0]], torch.tensor(0.7, dtype=torch.float64))


@pytest.mark.parametrize("kind", ["bilinear", "cubic"])
def test_a_plane_stays_a_plane_under_affine_maps(kind):
    rows, cols = np.mgrid[:60, :70] + 0.5
    plane = torch.from_numpy(2.0 + 0.3 * cols - 0.2 * rows)[None]
    source = grid("EPSG:32632", UTM32, 60, 70)
    place = UTM32 @ Affine.translation(20, 15) @ Affine.rotation(25) @ Affine.scale(0.7, 0.9)
    target = grid("EPSG:32632", place, 30, 30)
    found, exists = warp(plane, source, target, Warping(kind))
    cols, rows = ~source.transform * (target.transform * (np.arange(30)[None] + 0.5, np.arange(30)[:, None] + 0.5))
    inside = exists[0].numpy() & (cols > 1.5) & (cols < 68.5) & (rows > 1.5) & (rows < 58.5)
    assert inside.sum() > 300
    np.testing.assert_allclose(found[0].numpy()[inside], (2.0 + 0.3 * cols - 0.2 * rows)[inside], atol=1e-6)


def test_the_weights_of_the_kernels_sum_to_one_over_all_pixels():
    x = torch.linspace(-0.5, 0.5, 11, dtype=torch.float64)
    taps = torch.arange(-8, 9, dtype=torch.float64)
    for name in ("bilinear", "cubic", "average"):
        assert torch.allclose(KERNELS[name].weight(taps - x[:, None], 1.0).sum(1), torch.ones(11, dtype=torch.float64))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bilinear", "cubic", "lanczos", "average"])
def test_it_is_differentiable_in_the_pixels(kind):
    image = torch.rand(1, 6, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    source = grid("EPSG:32632", UTM32, 6, 7)
    target = grid("EPSG:32632", UTM32 @ Affine.translation(0.7, 0.4) @ Affine.rotation(9), 4, 4)
    valid = torch.ones(1, 6, 7, dtype=torch.bool)
    valid[0, 2, 2] = False
    for holes in (None, valid):
        assert torch.autograd.gradcheck(lambda x, v=holes: warp(x, source, target, Warping(kind), v)[0], image)


@pytest.mark.parametrize("kind", RESAMPLING)
def test_what_is_missing_never_shows(kind):
    """Whatever stands where there is no data, the result is the same."""
    image = torch.from_numpy(texture(60, 60, dtype="float32"))
    valid = torch.rand(1, 60, 60, generator=torch.Generator().manual_seed(1)) > 0.1
    source = grid("EPSG:32632", UTM32, 60, 60)
    target = grid("EPSG:32633", Affine(9, 0, 51_000, 0, -9, 5_317_400), 50, 50)
    results = [warp(torch.where(valid, image, wild), source, target, Warping(kind), valid) for wild in (0.0, 1e20)]
    assert results[0][1].any() and all(torch.equal(a, b) for a, b in zip(*results))


def test_there_and_back_loses_only_what_the_kernel_loses():
    image = torch.from_numpy(texture(200, 200, dtype="float64", sigma=6))
    source = grid("EPSG:32632", UTM32, 200, 200)
    there = target_grid(source, named_crs("EPSG:32633"), (5.0, 5.0))
    once, valid = warp(image, source, there, Warping("cubic"))
    back, exists = warp(once, there, source, Warping("cubic"), valid)
    inside = torch.zeros_like(exists)
    inside[:, 5:-5, 5:-5] = True
    assert bool(exists[inside].all()) and float((back - image).abs()[:, inside[0]].max()) < 2e-3


def test_a_map_that_goes_round_is_interpolated_across_its_seam():
    """GDAL leaves a step there."""
    turn = np.cos(np.radians(np.arange(-179.5, 180))) * 100
    world = grid("EPSG:4326", Affine(1, 0, -180, 0, -1, 90), 180, 360)
    target = grid("EPSG:4326", Affine(0.25, 0, 178, 0, -0.25, 1), 8, 16)
    for how in ("bilinear", "cubic", "lanczos"):
        found, exists = warp(torch.from_numpy(turn)[None, None].expand(1, 180, 360).contiguous(), world, target,
                             Warping(how))
        longitude = 178 + 0.25 * (np.arange(16) + 0.5)
        assert bool(exists.all())
        np.testing.assert_allclose(found[0, 4].numpy(), 100 * np.cos(np.radians(longitude)), atol=0.02)


# --- files -------------------------------------------------------------------------------------------


def test_windows_in_any_order_are_those_of_the_file(make_raster):
    source = make_raster(texture(700, 900), crs="EPSG:32632", transform=UTM32, nodata=600, tiled=True, blockxsize=128,
                         blockysize=64)
    with RasterWindows(RasterSource.open(source), held_bytes=1) as windows, rasterio.open(source) as data:
        for row, col, height, width in ((600, 800, 100, 100), (0, 0, 700, 900), (511, 511, 2, 2), (3, 880, 1, 20)):
            found = windows.read(Window(row, col, height, width))
            wanted = data.read(window=RioWindow(col, row, width, height))
            assert np.array_equal(found.pixels, wanted) and np.array_equal(found.mask != 0, wanted != 600)


@pytest.mark.parametrize("kind", RESAMPLING)
def test_a_file_is_warped_as_its_tensor_is(make_raster, tmp_path, kind):
    pixels = texture(dtype="float32")
    source = make_raster(pixels, crs="EPSG:32632", transform=UTM32)
    raster = RasterSource.open(source)
    target = target_grid(raster.grid, named_crs("EPSG:32633"), (13.0, 13.0))
    found = read(reproject_raster(source, tmp_path / "o.tif", target, Warping(kind)))
    image, exists = warp(torch.from_numpy(pixels), raster.grid, target, Warping(kind))
    np.testing.assert_allclose(found, np.where(exists.numpy(), image.numpy(), np.nan), atol=1e-6)


def test_everything_but_the_pixels_stays(every_raster, tmp_path):
    """Names, units, scales, tags, dtype, colours; moved by nothing, the pixels stay too."""
    raster = RasterSource.open(every_raster)
    if raster.grid.crs is None:
        with pytest.raises(RasterError, match="no CRS"):
            reproject_raster(every_raster, tmp_path / "o.tif", raster.grid)
        return
    found = reproject_raster(every_raster, tmp_path / "o.tif", raster.grid, Warping("nearest"))
    again = RasterSource.open(str(found))
    assert again.grid.matches(raster.grid) and again.dtype == raster.dtype
    assert (again.grid.latitude, again.grid.longitude) == (raster.grid.latitude, raster.grid.longitude)
    for old, new in zip(raster.bands, again.bands, strict=True):
        assert (old.name, old.unit, old.scale, old.offset) == (new.name, new.unit, new.scale, new.offset)
    before, after = (r.read(Window(0, 0, r.grid.height, r.grid.width)) for r in (raster, again))
    masks = [np.ones((1, 1, 1)) if rows.mask is None else rows.mask for rows in (before, after)]
    shown = [np.broadcast_to(mask != 0, before.pixels.shape) for mask in masks]
    assert np.array_equal(*shown)
    assert np.array_equal(before.pixels[shown[0]], after.pixels[shown[1]])


@pytest.mark.slow
@given(st.integers(1, 90), st.integers(1, 90), st.sampled_from(["EPSG:32631", "EPSG:4326", "EPSG:3035", "EPSG:3857"]),
       st.sampled_from(RESAMPLING), st.integers(0, 9), st.floats(0.2, 5))
def test_values_stay_within_those_around_them_and_the_footprint_is_covered(height, width, crs, kind, seed, factor):
    source = grid("EPSG:32632", UTM32, height, width)
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(1, height, width, generator=generator)
    valid = torch.rand(1, height, width, generator=generator) > 0.2
    plain = target_grid(source, named_crs(crs))
    size = plain.transform.a * factor
    target = target_grid(source, named_crs(crs), (size, size))
    found, exists = warp(image, source, target, Warping(kind), valid)
    known = found[exists]
    if not known.numel():
        return
    # Of Lanczos at most 0.75 in 2.5 is negative, also where lobes find no data.
    slack = {"cubic": 0.3, "lanczos": 0.75}.get(kind, 1e-5)
    assert float(known.min()) >= -slack and float(known.max()) <= 1 + slack
    u, v = PixelMap(target, source).positions(Window(0, 0, target.height, target.width))
    beyond = (u < -1) | (u > width + 1) | (v < -1) | (v > height + 1)
    assert not bool(exists[0].numpy()[beyond].any())


@pytest.mark.parametrize("kind", RESAMPLING)
@pytest.mark.parametrize("there, crs, place", [
    ("EPSG:32632", "EPSG:4326", UTM32), ("EPSG:4326", "EPSG:3413", Affine(0.9, 0, -180, 0, -0.45, 89)),
    ("EPSG:4326", "EPSG:3857", Affine(0.9, 0, 10, 0, -0.45, 80))])
def test_positions_made_on_a_device_show_the_same(monkeypatch, kind, there, crs, place):
    """What a GPU does, on a CPU: tensors of positions, larger tiles, larger pieces of work."""
    source = Grid(named_crs(there).crs, place, 300, 400)
    target = target_grid(source, named_crs(crs))
    image = torch.from_numpy(texture(300, 400).astype("float32")) / 65535
    valid = torch.ones(1, 300, 400, dtype=torch.bool)
    valid[:, 40:60, 100:140] = False
    wanted, known = warp(image, source, target, Warping(kind, 1e-3), valid)
    monkeypatch.setattr(warping, "TILE_PX", 2048)
    monkeypatch.setattr(kernels, "_AT_ONCE", kernels._AT_ONCE_ON_GPU)
    monkeypatch.setattr(warping, "_positions", lambda pixel_map, *rest: pixel_map.positions_on(
        torch.device("cpu"), *rest[:-1]))
    found, there = warp(image, source, target, Warping(kind, 1e-3), valid)
    # A position that differs in its last digits may fall on the other side of an edge.
    both, off = known & there, (known != there).sum()
    assert off <= 1e-4 * known.numel()
    error = ((found - wanted).abs() * both).amax(0)
    assert float(error.quantile(0.999)) < 2e-3 and (kind == "nearest" or float(error.max()) < 0.05)


def test_rows_do_not_depend_on_the_part_that_is_asked_for(make_raster):
    raster = RasterSource.open(make_raster(texture(), crs="EPSG:32632", transform=UTM32))
    warped = WarpedSource(raster, target_grid(raster.grid, named_crs("EPSG:32633")), Warping("cubic"))
    whole = np.concatenate([rows.pixels for rows in warped.rows()], 1)
    part = np.concatenate([rows.pixels for rows in warped.rows(Window(37, 51, 200, 111))], 1)
    assert np.abs(part.astype(int) - whole[:, 37:237, 51:162].astype(int)).max() <= 1


@pytest.mark.parametrize("text, hint", [
    ("EPGS:32631", "EPSG:32631"), ("EPSG:326311", "EPSG:32631"), ("WGS 84 / UTM zone 31", "WGS 84 / UTM zone 31N"),
    ("nonsense", "such as EPSG")])
def test_a_misspelt_system_is_answered_with_the_nearest(text, hint):
    with pytest.raises(RasterError, match="not a CRS that PROJ knows") as error:
        named_crs(text)
    assert hint in str(error.value)


def test_bounds_in_another_system_cover_what_they_meant():
    system = named_crs("EPSG:32632")
    xmin, ymin, xmax, ymax = bounds_between((9.0, 47.0, 9.1, 47.1), named_crs("EPSG:4326"), system)
    x, y = between(named_crs("EPSG:4326"), system)(np.array([9.0, 9.1, 9.0, 9.1]), np.array([47.0, 47, 47.1, 47.1]))
    assert xmin <= x.min() and xmax >= x.max() and ymin <= y.min() and ymax >= y.max()
    assert xmax - xmin < 8000 and ymax - ymin < 12000


@pytest.mark.parametrize("resolution, bounds, sentence", [
    ((0.0, 10.0), None, "--resolution must be positive"), ((-1.0, -1.0), None, "--resolution must be positive"),
    (None, (5.0, 0.0, 1.0, 9.0), "are empty")])
def test_a_grid_that_cannot_be_is_refused(resolution, bounds, sentence):
    with pytest.raises(RasterError, match=sentence):
        target_grid(grid("EPSG:32632", UTM32, 9, 9), named_crs("EPSG:3857"), resolution, bounds)


def test_a_target_elsewhere_is_refused_and_nothing_is_left(make_raster, tmp_path):
    source = make_raster(texture(), crs="EPSG:32632", transform=UTM32)
    elsewhere = grid("EPSG:32632", UTM32 @ Affine.translation(10_000, 0), 50, 50)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(RasterError, match=r"Nothing of .* lies on the target grid"):
        reproject_raster(source, tmp_path / "o.tif", elsewhere)
    assert sorted(tmp_path.iterdir()) == before


def test_pixels_beyond_the_projection_are_counted_and_said(make_raster, tmp_path):
    source = make_raster(texture(90, 180), crs="EPSG:4326", transform=Affine(2, 0, -180, 0, -2, 90))
    target = grid("+proj=ortho +lat_0=40 +lon_0=10", Affine(70_000, 0, -7e6, 0, -70_000, 7e6), 200, 200)
    said = []
    found = read(reproject_raster(source, tmp_path / "o.tif", target, callbacks=Callbacks(message=said.append)))
    x, y = np.meshgrid(*([-7e6 + 70_000 * (np.arange(200) + 0.5)] * 2))
    outside = np.hypot(x, y) > 6.39e6
    assert np.isnan(found[0][outside]).all() and "does not reach" in said[0]
    assert abs(int(said[0].split()[0]) - outside.sum()) < 0.01 * 200 * 200


# --- in the stream of a translation ------------------------------------------------------------------


@pytest.mark.slow
def test_a_stream_is_warped_as_its_file_is(make_raster):
    """Coarser and finer, wide and narrow: rows that tiles still need are held."""
    for width, factor in ((900, 0.4), (90, 1.7), (700, 3.1)):
        raster = RasterSource.open(make_raster(texture(1300, width), crs="EPSG:32632", transform=UTM32))
        place = UTM32 @ Affine.scale(1 / factor)
        target = grid("EPSG:32632", place, round(1300 * factor), round(width * factor))
        streamed = StreamedRaster(raster.grid, raster.bands, raster.dtype, raster.mask_kinds, raster.rows())
        whole, parts = ([rows for rows in WarpedSource(source, target, Warping("cubic")).rows()]
                        for source in (raster, streamed))
        for a, b in zip(whole, parts, strict=True):
            assert a.row == b.row and np.array_equal(a.pixels, b.pixels) and np.array_equal(a.mask, b.mask)


@pytest.mark.parametrize("player, role", [(RasterSource, SeekableRaster), (WarpedSource, SeekableRaster),
                                          (TranslatedRaster, Raster)])
def test_what_is_read_as_a_raster_has_all_that_a_raster_has(player, role):
    wanted = {name for part in role.__mro__ for name in (*getattr(part, "__annotations__", ()), *vars(part))}
    missing = wanted - {*dir(player), *player.__annotations__}
    assert "rows" in wanted and {name for name in missing if not name.startswith("_")} == set()


def test_a_stream_asked_for_rows_that_have_gone_says_so():
    rows = (Rows(row, np.zeros((1, 10, 4), "uint8"), None) for row in range(0, 100, 10))
    with StreamWindows(rows, 20) as windows:
        windows.read(Window(70, 0, 5, 4))
        assert windows.read(Window(60, 0, 5, 4)).pixels.shape == (1, 5, 4)
        with pytest.raises(RuntimeError, match="has left the stream"):
            windows.read(Window(10, 0, 5, 4))


@pytest.mark.slow
def test_matching_the_models_grid_is_warping_before_and_after(make_raster, make_package, make_network, tmp_path):
    """The same pixels as with files between, but for rounding to the input's dtype."""
    pixels = texture(240, 320, 3, "float32")
    source = make_raster(pixels, crs="EPSG:32632", transform=UTM32)
    package = make_package(steps=2, network=make_network(), pixel_size_m=25.0, pixel_size_factor=1.5)
    said = []
    found = translate_raster(source, tmp_path / "one.tif", package, Options(match_grid=True),
                             compute=Compute(device="cpu"),
                             callbacks=Callbacks(message=said.append))
    assert not [text for text in said if "may not suit" in text]
    matched = with_pixel_size(RasterSource.open(source).grid, 25.0)
    assert (matched.height, matched.width) == (96, 128) and matched.pixel_size_m == pytest.approx(25.0)
    between_files = reproject_raster(source, tmp_path / "before.tif", matched, Warping("cubic"))
    wanted = translate_raster(str(between_files), tmp_path / "two.tif", package, compute=Compute(device="cpu"))
    np.testing.assert_allclose(read(found), read(wanted), atol=1e-5)
    back = translate_raster(source, tmp_path / "three.tif", package,
                            Options(match_grid=True, restore_grid=True), compute=Compute(device="cpu"))
    wanted = reproject_raster(str(wanted), tmp_path / "after.tif", RasterSource.open(source).grid, Warping("cubic"))
    with rasterio.open(back) as data, rasterio.open(source) as original:
        assert data.transform == original.transform and data.shape == original.shape
    np.testing.assert_allclose(read(back), read(wanted), atol=1e-5)


def test_matching_needs_a_size_to_match(make_raster, make_package, tmp_path):
    source = make_raster(texture(40, 40, 3, "float32"), crs="EPSG:32632", transform=UTM32)
    with pytest.raises(RasterError, match="does not state a pixel size"):
        translate_raster(source, tmp_path / "o.tif", make_package(), Options(match_grid=True))
    with pytest.raises(RasterError, match="--restore-grid needs --match-model-grid"):
        Options(restore_grid=True)
    assert not (tmp_path / "o.tif").exists()


@pytest.mark.parametrize("code", ["IAU_2015:59900", "IAU_2015:59901", "IAU_2015:59902", "IAU_2015:59912",
                                  "IAU_2015:59932", "IAU_2015:59962", "IAU_2015:49902", "IAU_2015:30100"])
def test_every_kind_of_planetary_crs_can_be_written_and_is_read_as_it_was_asked_for(make_raster, tmp_path, code):
    """Also those whose kind of latitude GDAL does not know: spherical, planetographic, planetocentric."""
    target = named_crs(code)
    body = {"5": "IAU_2015:59902", "4": "IAU_2015:49902", "3": "IAU_2015:30100"}[code.split(":")[1][0]]
    source = make_raster(texture(40, 80, 1, "float32"), crs=body, transform=rasterio.Affine(0.5, 0, 10, 0, -0.5, 30))
    grid = target_grid(RasterSource.open(source).grid, target)
    made = RasterSource.open(reproject_raster(source, tmp_path / "o.tif", grid))
    assert (made.grid.latitude, made.grid.longitude, made.grid.body) == (grid.latitude, grid.longitude, grid.body)
    corner = grid.transform * (grid.width / 2, grid.height / 2)
    assert between(made.grid, grid)(*corner) == pytest.approx(corner, rel=1e-9)
