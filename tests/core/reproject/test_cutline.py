"""Laws of cutlines: pixels inside keep their bits, those outside hold no data, what is outside is not computed."""

import json
import pickle
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from geoi2i.core.errors import RasterError
from geoi2i.core.evaluation.evaluate import EvaluationOptions, evaluate
from geoi2i.core.grid import Grid, Window
from geoi2i.core.inference import translator
from geoi2i.core.inference.steps import Step, StepTable
from geoi2i.core.models.package import identity_package
from geoi2i.core.pipeline import estimates
from geoi2i.core.pipeline.cutting import CutOut, cut_out
from geoi2i.core.pipeline.translation import Translation
from geoi2i.core.raster.source import RasterSource
from geoi2i.core.reproject import warped_raster
from geoi2i.core.reproject.cutline import TOLERANCE_PX, Cutline
from geoi2i.core.reproject.polygons import read_polygons
from geoi2i.core.reproject.target_grid import named_crs
from geoi2i.core.reproject.warping import Warping
from geoi2i.core.run import Compute, Options, plan_translation, reproject_raster, translate_raster
from pyproj import Transformer
from rasterio.features import geometry_mask

pytestmark = pytest.mark.slow

NORTH_UP = Affine(30, 0, 500_000, 0, -30, 4_500_000)
CPU = Compute(device="cpu")


def placed(crs, transform, height, width, **convention):
    return replace(named_crs(crs), transform=transform, height=height, width=width, **convention)


@pytest.fixture
def cutline(tmp_path):
    """`cutline(geometry, crs=..., name=...)`: polygons, by way of a GeoJSON file."""

    def write(geometry, crs=None, name="cut.geojson"):
        if isinstance(geometry, list):
            geometry = {"type": "Polygon", "coordinates": [geometry]}
        content = {"type": "Feature", "properties": {"name": "a field"}, "geometry": geometry}
        if crs:
            content["crs"] = {"type": "name", "properties": {"name": crs}}
        (tmp_path / name).write_text(json.dumps(content))
        return read_polygons(tmp_path / name)

    return write


def closed(points):
    points = np.asarray(points, float)
    return np.concatenate([points, points[:1]]).tolist()


def star(generator, count, centre, radius):
    """A polygon of any shape that does not cross itself."""
    angle = np.sort(generator.uniform(0, 2 * np.pi, count))
    reach = radius * generator.uniform(0.3, 1, count)
    return closed(np.stack([centre[0] + reach * np.cos(angle), centre[1] + reach * np.sin(angle)], 1))


def whole(grid):
    return Window(0, 0, grid.height, grid.width)


def inside(polygons, grid):
    return Cutline.on(polygons, grid).inside(whole(grid))


# --- which pixels are inside -----------------------------------------------------------------------

UTM = placed("EPSG:32631", NORTH_UP, 120, 150)


@pytest.mark.parametrize("seed", range(12))
def test_pixels_are_those_that_gdal_fills(cutline, seed):
    """Several polygons that overlap, with holes and with rings that cross themselves."""
    generator = np.random.default_rng(seed)
    shell = star(generator, 9, (502_200, 4_498_200), 1900)
    hole = (np.array(shell) * 0.4 + 0.6 * np.array([502_200, 4_498_200])).tolist()
    crossed = closed(generator.uniform((500_000, 4_496_400), (504_500, 4_500_000), (7, 2)))
    parts = [[shell, hole], [crossed], [star(generator, 5, (503_500, 4_497_000), 900)]]
    wanted = ~geometry_mask([{"type": "Polygon", "coordinates": part} for part in parts], (120, 150), NORTH_UP)
    shapes = [{"type": "MultiPolygon", "coordinates": parts[:2]}, {"type": "Polygon", "coordinates": parts[2]}]
    polygons = cutline({"type": "GeometryCollection", "geometries": shapes}, "EPSG:32631")
    assert wanted.any() and np.array_equal(inside(polygons, UTM), wanted) and polygons.count == 3
    laid = Cutline.on(polygons, UTM)
    for window in (Window(0, 0, 1, 150), Window(33, 70, 40, 31), Window(-5, -9, 200, 300), Window(119, 149, 1, 1)):
        part = np.zeros((window.height, window.width), bool)
        rows, cols = np.mgrid[window.row : window.row + window.height, window.col : window.col + window.width]
        there = (rows >= 0) & (rows < 120) & (cols >= 0) & (cols < 150)
        part[there] = wanted[rows[there], cols[there]]
        found = laid.inside(window)
        assert np.array_equal(found[there], part[there])
        assert laid.touches(window) == found.any()


def test_a_ring_that_crosses_itself_is_what_make_valid_makes_of_it(cutline):
    bow = [[500_311, 4_499_702], [504_007, 4_497_013], [504_001, 4_499_533], [500_329, 4_497_317]]
    repaired = shapely.make_valid(shapely.Polygon(bow))
    assert np.array_equal(inside(cutline(closed(bow), "EPSG:32631"), UTM),
                          ~geometry_mask([repaired], (120, 150), NORTH_UP))


def test_borders_through_the_middles_of_pixels_part_them(cutline):
    """Polygons that share a border share no pixel and leave none out."""
    x, y = (500_015 + 30 * np.arange(5) * 7, 4_499_985 - 30 * np.arange(5) * 9)
    seen = np.zeros((120, 150), int)
    for k in range(4):
        for m in range(4):
            box = [[x[k], y[m]], [x[k + 1], y[m]], [x[k + 1], y[m + 1]], [x[k], y[m + 1]]]
            seen += inside(cutline(closed(box), "EPSG:32631"), UTM)
    assert seen.max() == 1 and seen.sum() == 28 * 36


@pytest.mark.parametrize("crs, transform, reach", [
    ("EPSG:32631", Affine(30, 0, 500_000, 0, -30, 4_500_000), 0.03),
    ("EPSG:3035", Affine(2000, 0, 3_000_000, 0, -2000, 4_000_000), 3),
    ("EPSG:3031", Affine(20_000, 0, -1_200_000, 0, -20_000, 1_500_000), 40),
    ("EPSG:3857", Affine(5000, 0, 0, 0, -5000, 6_000_000), 12),
    ("EPSG:32631", NORTH_UP @ Affine.rotation(30), 0.03),
])
def test_edges_keep_to_their_curves(cutline, crs, transform, reach):
    """Edges are straight in longitude and latitude: a hundred thousand points of each, in the raster's pixels."""
    grid, generator = placed(crs, transform, 120, 150), np.random.default_rng(3)
    there = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform
    middle = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(*(transform * (75, 60)))
    for _ in range(4):
        ring = np.array(star(generator, 6, middle, reach)).clip((-720, -89.9), (720, 89.9))
        polygons = cutline(ring.tolist())
        laid = Cutline.on(polygons, grid)
        edges = shapely.linestrings(laid.edges.T.reshape(-1, 2, 2))
        share = np.linspace(0, 1, 100_000)[:, None]
        points = np.concatenate([a + (b - a) * share for a, b in zip(ring, ring[1:])])
        col, row = ~transform * there(*points.T)
        near = (col > -1) & (col < 151) & (row > -1) & (row < 121)
        if near.any():
            _, distance = shapely.STRtree(edges).query_nearest(
                shapely.points(col[near][::20], row[near][::20]), return_distance=True, all_matches=False)
            assert distance.max() < 2 * TOLERANCE_PX
        dense = shapely.Polygon(np.stack([col, row], 1))
        rows, cols = np.nonzero(~geometry_mask([dense], (120, 150), Affine.identity()) != laid.inside(whole(grid)))
        if len(rows):
            assert shapely.distance(dense.exterior, shapely.points(cols + 0.5, rows + 0.5)).max() < 2 * TOLERANCE_PX


@pytest.mark.parametrize("lonlat", [False, True])
def test_it_cuts_as_gdalwarp_does(make_raster, cutline, tmp_path, lonlat):
    ring = [[500_400, 4_499_900], [503_900, 4_499_300], [502_000, 4_498_100], [503_300, 4_496_800],
            [500_700, 4_497_100]]
    if lonlat:
        ring = np.stack(Transformer.from_crs(32631, 4326, always_xy=True).transform(*np.transpose(ring)), 1).tolist()
    source = make_raster(np.full((1, 120, 150), 7, "uint8"))
    polygons = cutline(closed(ring), None if lonlat else "EPSG:32631")
    subprocess.run(["gdalwarp", "-q", "-cutline", tmp_path / "cut.geojson", "-dstnodata", "0", source,
                    tmp_path / "gdal.tif"], check=True, capture_output=True)
    made = translate_raster(source, tmp_path / "o.tif", identity_package(1), compute=CPU, cutline=polygons)
    with rasterio.open(tmp_path / "gdal.tif") as theirs, rasterio.open(made) as ours:
        assert np.array_equal(ours.dataset_mask() != 0, theirs.read(1) == 7)
        assert np.array_equal(ours.read(), theirs.read()) and 3000 < (theirs.read(1) == 7).sum() < 9000


# --- other planets, and where longitudes come round -------------------------------------------------

BOX = [[-10, -30], [25, -30], [25, 10], [-10, 10]]


@pytest.mark.parametrize("first", [-180, 0, -40, 345])
def test_longitudes_are_the_same_however_they_are_named(cutline, first):
    grid = placed("EPSG:4326", Affine(1, 0, first, 0, -1, 40), 80, 360)
    found = inside(cutline(closed(BOX)), grid)
    row, col = np.mgrid[:80, :360]
    lon, lat = (first + col + 0.5 + 180) % 360 - 180, 39.5 - row
    assert np.array_equal(found, (lon > -10) & (lon < 25) & (lat > -30) & (lat < 10))


def test_polygons_go_on_across_the_antimeridian(cutline):
    """RFC 7946 wants them cut there; those that are not are the same."""
    grid = placed("EPSG:32601", Affine(1000, 0, 200_000, 0, -1000, 1_000_000), 200, 300)
    one = cutline(closed([[179, 5], [181, 5], [181, 8], [179, 8]]))
    two = cutline({"type": "MultiPolygon", "coordinates": [[closed([[179, 5], [180, 5], [180, 8], [179, 8]])],
                                                           [closed([[-180, 5], [-179, 5], [-179, 8], [-180, 8]])]]})
    lon, lat = Transformer.from_crs(32601, 4326, always_xy=True).transform(
        *(grid.transform * tuple(np.mgrid[:200, :300][::-1] + 0.5)))
    wanted = (lon % 360 > 179) & (lon % 360 < 181) & (lat > 5) & (lat < 8)
    assert np.array_equal(inside(one, grid), wanted) and np.array_equal(inside(two, grid), wanted)
    # And the other way: a polygon in metres across the edge of a map of the world.
    world = placed("EPSG:4326", Affine(0.5, 0, -180, 0, -0.5, 90), 360, 720)
    metres = closed([[0, 600_000], [800_000, 600_000], [800_000, 1_200_000], [0, 1_200_000]])
    found = inside(cutline(metres, "EPSG:32601"), world)
    x, y = Transformer.from_crs(4326, 32601, always_xy=True).transform(
        *(world.transform * tuple(np.mgrid[:360, :720][::-1] + 0.5)))
    lon = np.abs(np.mgrid[:360, :720][1] - 360)  # half degrees from the other side of the world
    wanted = (x > 0) & (x < 800_000) & (y > 600_000) & (y < 1_200_000) & (lon > 300)
    assert np.array_equal(found, wanted) and wanted[:, 0].any() and wanted[:, -1].any()


def test_a_cap_in_longitude_and_latitude_is_a_disc_around_the_pole(cutline):
    polar = placed("EPSG:3413", Affine(20_000, 0, -2_000_000, 0, -20_000, 2_000_000), 200, 200)
    cap = cutline(closed([[-180, 80], [180, 80], [180, 90], [-180, 90]]))
    _, lat = Transformer.from_crs(3413, 4326, always_xy=True).transform(
        *(polar.transform * tuple(np.mgrid[:200, :200][::-1] + 0.5)))
    found = inside(cap, polar)
    differs = found != (lat > 80)
    assert found.sum() > 5000 and np.abs(lat[differs] - 80).max(initial=0) < 0.02  # of 0.18 degrees that a pixel has
    ring = [[1e6 * np.cos(a), 1e6 * np.sin(a)] for a in np.linspace(0, 2 * np.pi, 50)[:-1]]
    with pytest.raises(RasterError, match="goes round a pole"):
        Cutline.on(cutline(closed(ring), "EPSG:3413"), placed("EPSG:4326", Affine(1, 0, -180, 0, -1, 90), 180, 360))


def test_polygons_that_reach_where_a_projection_does_not_are_taken_near_the_raster(cutline):
    """The whole world has no place in a transverse Mercator; near the raster all of it is inside."""
    world = cutline(closed([[-180, -90], [180, -90], [180, 90], [-180, 90]]))
    assert inside(world, UTM).all()


@pytest.mark.parametrize("crs, sign", [("IAU_2015:59901", -1), ("IAU_2015:59902", 1)])
def test_a_planet_s_geojson_counts_eastward_with_the_raster_s_latitudes(make_raster, cutline, crs, sign):
    grid = RasterSource.open(make_raster(np.zeros((1, 80, 100), "uint8"), crs=crs,
                                         transform=Affine(1, 0, -50, 0, -1, 40))).grid
    assert (grid.longitude == "west") == (sign < 0)
    row, col = np.mgrid[:80, :100]
    lon, lat = sign * (-49.5 + col), 39.5 - row
    assert np.array_equal(inside(cutline(closed(BOX)), grid), (lon > -10) & (lon < 25) & (lat > -30) & (lat < 10))


def test_latitudes_of_another_kind_are_converted(make_raster, cutline):
    """tan(graphic) = (a / b)^2 tan(centric), Jupiter with a flattening of 1 / 15.41440276."""
    grid = RasterSource.open(make_raster(np.zeros((1, 800, 20), "uint8"), crs="IAU_2015:59902",
                                         transform=Affine(1, 0, 0, 0, -0.1, 40))).grid
    found = inside(cutline(closed([[-15, -30], [-5, -30], [-5, 20], [-15, 20]]), "IAU_2015:59901"), grid)
    ratio = (1 - 1 / 15.41440276) ** 2
    ends = [np.degrees(np.arctan(ratio * np.tan(np.radians(lat)))) for lat in (-30, 20)]
    lat = 39.95 - 0.1 * np.arange(800)
    # East of the file's degrees: 59901 counts westward, and what stands in a file of it is taken as it stands there.
    rows = np.flatnonzero(found.any(1))
    assert np.array_equal(rows, np.flatnonzero((lat > ends[0]) & (lat < ends[1])))


def test_polygons_of_another_body_are_refused(make_raster, cutline):
    grid = RasterSource.open(make_raster("mars")).grid
    with pytest.raises(RasterError, match="are on Earth, and the raster shows Mars"):
        Cutline.on(cutline(closed(BOX), "EPSG:4326"), grid)
    with pytest.raises(RasterError, match=r"Vertical CRS.: name a geographic CRS"):
        Cutline.on(cutline(closed(BOX), "EPSG:5773"), UTM)  # heights
    with pytest.raises(RasterError, match="has no CRS"):
        Cutline.on(cutline(closed(BOX)), Grid(None, Affine.identity(), 5, 5))


# --- what a translation becomes ---------------------------------------------------------------------

FIELD = [[501_000, 4_499_400], [504_500, 4_498_600], [503_000, 4_497_000], [501_900, 4_498_300]]


def scene(bands=3, height=200, width=260, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (bands, height, width)).astype("float32")


def translate(source, output, model, cutline=None, compute=CPU, **options):
    more = {name: options.pop(name) for name in ("uncertainty", "bounds", "executor", "resume") if name in options}
    return translate_raster(source, output, model, Options(**options), compute=compute, cutline=cutline, overwrite=True,
                            **more)


def read(path):
    with rasterio.open(path) as data:
        return data.read(), data.dataset_mask() != 0


def same_inside(one, two, polygons):
    """That the second is the first, cut out along polygons."""
    (pixels, valid), (cut, left) = read(one), read(two)
    found = inside(polygons, RasterSource.open(one).grid)
    assert np.array_equal(left, valid & found) and left.any() and not left.all()
    assert np.array_equal(cut[:, left], pixels[:, left])


def test_every_raster_is_cut_out(every_raster, cutline, tmp_path):
    """The middle of rasters of every kind: bits inside, no data outside, all else as it was."""
    raster = RasterSource.open(every_raster)
    if raster.grid.crs is None:
        return
    corners = closed([raster.grid.transform * corner for corner in ((8.2, 9.7), (30.1, 12.3), (20.7, 44.9))])
    crs = raster.grid.crs
    polygons = replace(cutline(closed([[0, 0], [1, 0], [1, 1]])), rings=(np.array(corners[:-1]),), crs=raster.grid)
    for name, cut in (("whole", None), ("cut", polygons)):
        translate(every_raster, tmp_path / f"{name}.tif", identity_package(len(raster.bands)), cut)
    with rasterio.open(tmp_path / "whole.tif") as one, rasterio.open(tmp_path / "cut.tif") as two:
        within = inside(polygons, raster.grid)
        assert (one.dtypes, one.count, one.transform, one.descriptions) == (two.dtypes, two.count, two.transform,
                                                                            two.descriptions) and crs
        assert np.array_equal(one.read()[:, within], two.read()[:, within], equal_nan=True)
        alpha = two.read(two.count) if two.colorinterp[-1].name == "alpha" else two.dataset_mask()
        before = one.read(one.count) if one.colorinterp[-1].name == "alpha" else one.dataset_mask()
        assert within.any() and not alpha[~within].any() and np.array_equal(alpha[within], before[within])


@pytest.mark.parametrize("options", [
    {}, {"tile": 32, "overlap": 8}, {"tile": 32, "samples": 2}, {"compute": Compute(device="cpu", batch=5)},
    {"bounds": (501_500, 4_496_800, 504_000, 4_499_000)}], ids=str)
def test_pixels_inside_keep_their_bits(make_raster, make_package, cutline, tmp_path, options):
    model, source, polygons = make_package(steps=3), make_raster(scene()), cutline(closed(FIELD), "EPSG:32631")
    stds = [{"uncertainty": tmp_path / f"{k}-std.tif"} if "samples" in options else {} for k in range(2)]
    one = translate(source, tmp_path / "one.tif", model, **options, **stds[0])
    two = translate(source, tmp_path / "two.tif", model, polygons, **options, **stds[1])
    same_inside(one, two, polygons)
    if stds[0]:
        same_inside(stds[0]["uncertainty"], stds[1]["uncertainty"], polygons)


@pytest.mark.parametrize("resampling", [None, "nearest", "bilinear"])
def test_all_that_says_where_data_is_says_so(make_raster, cutline, tmp_path, resampling):
    """A nodata value, a mask band and alpha bands together, of 64-bit integers."""
    first = 2**60 + np.arange(3 * 200 * 260).reshape(3, 200, 260)
    first[:, :3], first[1:] = -7, 2**40
    source = make_raster(first, mask=np.where(np.arange(200 * 260).reshape(200, 260) % 7, 255, 0).astype("uint8"),
                         nodata=-7, colours=["gray", "alpha", "alpha"])
    polygons, grid = cutline(closed(FIELD), "EPSG:32631"), RasterSource.open(source).grid
    found = []
    for name, cut in (("whole", None), ("cut", polygons)):
        path = tmp_path / f"{name}.tif"
        if resampling:
            reproject_raster(source, path, grid, Warping(resampling), cutline=cut, device="cpu")
        else:
            translate(source, path, identity_package(1), cut)
        with rasterio.open(path) as data:
            assert data.nodata == -7 and [c.name for c in data.colorinterp] == ["gray", "alpha", "alpha"]
            found.append((data.read(), data.read_masks(1)))
    within = inside(polygons, grid)
    (pixels, mask), (cut, left) = found
    assert np.array_equal(cut[:, within], pixels[:, within]) and np.array_equal(left[within], mask[within])
    assert (cut[0, ~within] == -7).all() and not cut[1:, ~within].any() and not left[~within].any()
    assert np.array_equal(pixels[0, 3:, 4:], first[0, 3:, 4:]) or resampling


@pytest.mark.parametrize("options", [{"scale": "3"}, {"scale": "2", "back_project": True},
                                     {"pixel_size_m": 20.0, "match_grid": True},
                                     {"pixel_size_m": 20.0, "match_grid": True, "restore_grid": True},
                                     {"pixel_size_m": 75.0, "match_grid": True, "restore_grid": True}], ids=str)
def test_so_they_do_on_other_pixels(make_raster, make_package, cutline, tmp_path, options):
    facts = {name: options.pop(name) for name in ("scale", "pixel_size_m") if name in options}
    model, source = make_package(steps=2, **facts), make_raster(scene(height=110, width=150))
    polygons = cutline(closed(FIELD), "EPSG:32631")
    one = translate(source, tmp_path / "one.tif", model, **options)
    same_inside(one, translate(source, tmp_path / "two.tif", model, polygons, **options), polygons)


def test_segments_and_strips_made_alone_change_nothing(make_raster, make_package, cutline, monkeypatch, tmp_path):
    """Steps that are spilled to disk, and strips in any order from a job that has been to another process and back."""
    table = StepTable(steps=(Step(time=0, keep=0.4, pull=0.5, source=0.1, noise=0.05), Step(time=1, keep=0.3, pull=0.7),
                             Step(time=2, keep=0.2, pull=0.8, memory=0.1), Step(time=3)))
    model, source = make_package(table=table), make_raster(scene(height=1400, width=70))
    polygons = cutline(closed([[500_500, 4_482_000], [501_700, 4_480_500], [501_000, 4_471_000], [500_600, 4_475_000]]),
                       "EPSG:32631")
    one = translate(source, tmp_path / "one.tif", model)

    def elsewhere(job, outputs, runs, callbacks):
        from geoi2i.core.output.execute import make_strips

        for index in reversed([k for run in runs for k in run]):
            make_strips(pickle.loads(pickle.dumps(job)), outputs, range(index, index + 1), callbacks)

    two = translate(source, tmp_path / "two.tif", model, polygons)
    same_inside(one, two, polygons)
    three = translate(source, tmp_path / "three.tif", model, polygons, executor=elsewhere)
    assert three.read_bytes() == two.read_bytes()
    cut = estimates.cut
    monkeypatch.setattr(estimates, "cut", lambda steps, passes, height, rows, size, memory: cut(
        steps, passes, 10**6, 2100, size, memory))
    job = cut_out(Translation(plan_translation(source, model, Options(), CPU), tmp_path / "x.tif"), polygons)
    assert isinstance(job, CutOut) and len(job.job.segments) == 4
    assert translate(source, tmp_path / "four.tif", model, polygons).read_bytes() == two.read_bytes()


def counted(monkeypatch):
    """The shapes that networks are called with."""
    seen, predict = [], translator.predict

    def watched(table, step, network, x, source, style=None):
        seen.append(tuple(x.shape))
        return predict(table, step, network, x, source, style)

    monkeypatch.setattr(translator, "predict", watched)
    return seen


def test_windows_that_make_no_pixel_inside_are_not_computed(make_raster, make_package, cutline, monkeypatch, tmp_path):
    model, source = make_package(steps=1, overlap_px=0), make_raster(scene(height=1536, width=256))
    seen = counted(monkeypatch)
    translate(source, tmp_path / "one.tif", model, tile=64)
    assert len(seen) == 24 * 4
    del seen[:]
    # One in a corner of a window of the second strip, one that meets two windows below.
    boxes = [[[500_000 + 30 * x0, 4_500_000 - 30 * y0], [500_000 + 30 * x1, 4_500_000 - 30 * y0],
              [500_000 + 30 * x1, 4_500_000 - 30 * y1], [500_000 + 30 * x0, 4_500_000 - 30 * y1]]
             for x0, y0, x1, y1 in ((100, 600, 128, 640), (60, 710, 68, 720))]
    polygons = cutline({"type": "MultiPolygon", "coordinates": [[closed(box)] for box in boxes]}, "EPSG:32631")
    translate(source, tmp_path / "two.tif", model, polygons, tile=64)
    assert len(seen) == 1 + 2
    same_inside(tmp_path / "one.tif", tmp_path / "two.tif", polygons)


def test_earlier_steps_make_what_later_windows_see(make_raster, make_package, cutline, monkeypatch, tmp_path):
    """Of four steps the last makes one window; the others one ring of windows more for each step behind them."""
    model, source = make_package(steps=4, overlap_px=0), make_raster(scene(height=64 * 9, width=64 * 9))
    assert model.manifest.margin_px <= 64
    polygons = cutline(closed([[500_000 + 30 * 300, 4_500_000 - 30 * 300], [500_000 + 30 * 310, 4_500_000 - 30 * 300],
                               [500_000 + 30 * 310, 4_500_000 - 30 * 310]]), "EPSG:32631")
    seen = counted(monkeypatch)
    translate(source, tmp_path / "two.tif", model, polygons, tile=64)
    assert len(seen) == 1 + 9 + 25 + 49


def test_another_cutline_is_another_run_and_the_same_in_another_file_is_not(make_raster, cutline, tmp_path):
    source = make_raster(scene())
    plan = plan_translation(source, identity_package(3), Options(), CPU)

    def key(polygons):
        return cut_out(Translation(plan, tmp_path / "o.tif"), polygons).fingerprint

    one = key(cutline(closed(FIELD), "EPSG:32631"))
    assert key(cutline(closed(FIELD), "EPSG:32631", "other.json")) == one
    moved = cutline(closed([*FIELD[:-1], [501_901, 4_498_300]]), "EPSG:32631")
    assert key(moved) != one and key(cutline(closed(FIELD), "EPSG:32632", "x.json").__class__(
        "", moved.rings, moved.owners, moved.crs)) == key(moved)
    assert "cutline" not in key(None)


# --- reprojecting ------------------------------------------------------------------------------------

def test_a_reprojection_is_cut_on_its_own_pixels(make_raster, cutline, monkeypatch, tmp_path):
    source = make_raster((scene(height=1100, width=1200) * 1000 + 2000).astype("uint16"))
    target = placed("EPSG:32632", Affine(30, 0, -10_000, 0, -30, 4_540_000), 1600, 1700)
    corners = np.array([[3.1, 40.55], [3.25, 40.55], [3.25, 40.62], [3.1, 40.6]])
    polygons, tiles, warp_window = cutline(closed(corners)), [], warped_raster.warp_window

    def watched(pixel_map, window, *more):
        tiles.append(window)
        return warp_window(pixel_map, window, *more)

    monkeypatch.setattr(warped_raster, "warp_window", watched)
    one = reproject_raster(source, tmp_path / "one.tif", target, Warping("cubic"), device="cpu")
    assert len(tiles) == 4 * 4
    del tiles[:]
    two = reproject_raster(source, tmp_path / "two.tif", target, Warping("cubic"), device="cpu", cutline=polygons)
    laid = Cutline.on(polygons, target)
    assert all(map(laid.touches, tiles)) and 0 < len(tiles) < 8
    same_inside(one, two, polygons)
    share = np.linspace(0, 1, 50_000)[:, None]
    points = np.concatenate([a + (b - a) * share for a, b in zip(corners, np.roll(corners, -1, 0))])
    x, y = Transformer.from_crs(4326, 32632, always_xy=True).transform(*points.T)
    dense = shapely.Polygon(np.stack(~target.transform * (x, y), 1))
    wanted = ~geometry_mask([dense], (1600, 1700), Affine.identity())
    rows, cols = np.nonzero(laid.inside(whole(target)) != wanted)
    assert shapely.distance(dense.exterior, shapely.points(cols + 0.5, rows + 0.5)).max(initial=0) < 2 * TOLERANCE_PX
    assert wanted.sum() > 10_000


# --- evaluating --------------------------------------------------------------------------------------

def test_what_is_outside_does_not_count(make_raster, cutline, tmp_path):
    one, two = scene(seed=1), scene(seed=2)
    polygons = cutline(closed(FIELD), "EPSG:32631")
    source = make_raster(one, name="one.tif")
    within = inside(polygons, RasterSource.open(source).grid)
    found = evaluate(source, reference=make_raster(two, name="two.tif"), cutline=polygons,
                     options=EvaluationOptions(("rmse", "bias")))
    scores = {result.metric: result.score for result in found.comparisons[0].results}
    off = (one.astype(float) - two)[:, within]
    assert scores["rmse"].value == pytest.approx(np.sqrt((off**2).mean()), rel=1e-9)
    assert scores["rmse"].n_valid == within.sum() and "inside the polygons of" in found.comparisons[0].statement
    # As rasters that have no data there.
    holed = [make_raster(np.where(within, image, np.nan).astype("float32"), name=f"{k}.tif")
             for k, image in enumerate((one, two))]
    options = EvaluationOptions(("psnr", "ssim", "rmse", "sam"), value_range=(-1, 1))
    results = [evaluate(a, reference=b, options=options, cutline=cut).comparisons[0].results for a, b, cut in (
        (holed[0], holed[1], None), (source, str(tmp_path / "two.tif"), polygons))]
    assert [r.score.value for r in results[0]] == [r.score.value for r in results[1]]
    with pytest.raises(RasterError, match="No pixel's centre is inside"):
        evaluate(source, reference=str(tmp_path / "two.tif"), cutline=cutline(closed(BOX)))


# --- files -------------------------------------------------------------------------------------------

def test_geopackages_and_shapefiles_are_read_as_geojson_is(cutline, tmp_path):
    polygons = cutline(closed(FIELD), "urn:ogc:def:crs:EPSG::32631")
    for name in ("cut.gpkg", "cut.shp", "cut.fgb"):
        subprocess.run(["ogr2ogr", tmp_path / name, tmp_path / "cut.geojson"], check=True, capture_output=True)
        found = read_polygons(tmp_path / name)
        assert np.array_equal(inside(found, UTM), inside(polygons, UTM)) and found.count == 1, name
    subprocess.run(["ogr2ogr", "-append", tmp_path / "cut.gpkg", tmp_path / "cut.geojson", "-nln", "other"], check=True,
                   capture_output=True)
    with pytest.raises(RasterError, match=r"has 2 layers with geometries, and one is taken \(cut, other\)"):
        read_polygons(tmp_path / "cut.gpkg")
    (tmp_path / "cut.fgb").write_bytes((tmp_path / "cut.fgb").read_bytes()[:200])
    with pytest.raises(RasterError, match=r"is damaged|has no layer with geometries"):
        read_polygons(tmp_path / "cut.fgb")
    (tmp_path / "cut.prj").unlink()
    with pytest.raises(RasterError, match="its CRS is unknown"):
        read_polygons(tmp_path / "cut.shp")


def test_without_pyogrio_they_are_refused_and_geojson_is_not(cutline, monkeypatch, tmp_path):
    polygons = cutline(closed(FIELD), "EPSG:32631")
    subprocess.run(["ogr2ogr", tmp_path / "cut.shp", tmp_path / "cut.geojson"], check=True, capture_output=True)
    monkeypatch.setitem(sys.modules, "pyogrio", None)
    with pytest.raises(RasterError, match=r"pyogrio is missing.*geoi2i\[vector\]"):
        read_polygons(tmp_path / "cut.shp")
    assert read_polygons(tmp_path / "cut.geojson").sha256 == polygons.sha256


def test_a_geopackage_that_computes_what_it_holds_is_refused(cutline, tmp_path):
    import sqlite3

    cutline(closed(FIELD), "EPSG:32631")
    subprocess.run(["ogr2ogr", tmp_path / "cut.gpkg", tmp_path / "cut.geojson"], check=True, capture_output=True)
    with sqlite3.connect(tmp_path / "cut.gpkg") as database:
        database.execute("CREATE VIEW elsewhere AS SELECT * FROM cut")
    with pytest.raises(RasterError, match="holds a view"):
        read_polygons(tmp_path / "cut.gpkg")


SQUARE = [[0, 0], [1, 0], [1, 1], [0, 0]]


@pytest.mark.parametrize("content, words", [
    ('{"type": "Point", "coordinates": [0, 0]}', "it holds 'Point', and polygons and multipolygons are taken"),
    ('{"type": "Feature", "geometry": {"type": "LineString", "coordinates": [[0, 0], [1, 1]]}}', "'LineString'"),
    ('{"type": "FeatureCollection", "features": []}', "it holds no polygon"),
    ('{"type": "Feature", "geometry": null}', "it holds no polygon"),
    ('{"type": "FeatureCollection", "features": 3}', "has no list of features"),
    ('{"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}', "fewer than three vertices"),
    ('{"type": "Polygon", "coordinates": [[[0, 0], [1, "x"], [1, 1]]]}', "not a list of positions"),
    ('{"type": "Polygon", "coordinates": [[[0, 0], [1, NaN], [1, 1]]]}', "not a number"),
    ('{"type": "Polygon", "coordinates": [[[5e5, 5e6], [6e5, 5e6], [6e5, 6e6]]]}', "not longitudes and latitudes"),
    ('{"type": "Polygon", "coordinates": %s, "crs": {"type": "link", "properties": {"href": "http://x"}}}'
     % [SQUARE], "does not name a CRS"),
    ('{"type": "Polygon", "coordinates": %s, "crs": {"type": "name", "properties": {"name": "+init=/etc/passwd:1"}}}'
     % [SQUARE], "does not name a CRS"),
    ('{"type": "Polygon", "coordinates": %s, "crs": {"type": "name", "properties": {"name": "EPSG:999999"}}}'
     % [SQUARE], "is not a CRS that PROJ knows"),
    ('{"type": "Polygon"', "cannot be taken as a cutline"),
    ("[1, 2]", "is not a GeoJSON, GeoPackage, Shapefile or FlatGeobuf file"),
    ("<OGRVRTDataSource/>", "is not a GeoJSON, GeoPackage, Shapefile or FlatGeobuf file"),
    ('{"a": ' * 3000 + "1" + "}" * 3000, "nested deeper"),
    ("", "is not a GeoJSON"),
])
def test_what_holds_no_polygons_is_refused_with_a_sentence(tmp_path, content, words):
    (tmp_path / "cut.json").write_text(content)
    with pytest.raises(RasterError, match=words):
        read_polygons(tmp_path / "cut.json")


def test_files_are_read_within_limits(tmp_path, monkeypatch):
    from geoi2i.core.reproject import polygons

    with pytest.raises(RasterError, match="it does not exist"):
        read_polygons(tmp_path / "nothing.geojson")
    with pytest.raises(RasterError, match="it is not a plain file"):
        read_polygons(tmp_path)
    (tmp_path / "cut.json").write_text(json.dumps({"type": "Polygon", "coordinates": [SQUARE * 30]}))
    monkeypatch.setattr(polygons, "_VERTICES", 100)
    with pytest.raises(RasterError, match="more than 100 vertices; simplify"):
        read_polygons(tmp_path / "cut.json")
    monkeypatch.setattr(polygons, "_JSON_BYTES", 500)
    with pytest.raises(RasterError, match="longer than 500 bytes"):
        read_polygons(tmp_path / "cut.json")


# --- the command line --------------------------------------------------------------------------------

def geoi2i(*arguments):
    return subprocess.run([sys.executable, "-m", "geoi2i", *map(str, arguments)], capture_output=True, text=True)


@pytest.mark.slow
def test_commands_take_a_cutline(make_raster, cutline, tmp_path):
    """Of a batch, a raster that the polygons do not meet fails with a sentence, and the other is made."""
    there, away = make_raster(scene(), name="there.tif"), make_raster(
        scene(), name="away.tif", transform=Affine(30, 0, 700_000, 0, -30, 4_500_000))
    polygons, file = cutline(closed(FIELD), "EPSG:32631"), tmp_path / "cut.geojson"
    run = geoi2i("run", "-i", there, away, "-m", "identity", "-o", tmp_path / "out", "--cutline", file)
    assert run.returncode == 3 and "No pixel's centre is inside the polygons" in run.stderr, run.stderr
    assert not (tmp_path / "out" / "away.tif").exists()
    made = tmp_path / "out" / "there.tif"
    within = inside(polygons, RasterSource.open(there).grid)
    assert np.array_equal(read(made)[1], within)
    dry = geoi2i("run", "-i", there, "-m", "identity", "--cutline", file, "--dry-run")
    assert f"cutline  {file}: 1 polygon, with pixels in 1 of 1 blocks" in dry.stdout, dry.stderr
    dry = geoi2i("reproject", "-i", there, "--crs", "EPSG:32632", "--cutline", file, "--dry-run")
    assert "1 polygon, with pixels in" in dry.stdout, dry.stderr
    run = geoi2i("reproject", "-i", there, "--like", there, "-o", tmp_path / "r.tif", "--cutline", file)
    assert run.returncode == 0 and np.array_equal(read(tmp_path / "r.tif")[1], within), run.stderr
    run = geoi2i("evaluate", "-p", made, "-r", there, "--cutline", file, "--metric", "rmse", "--json",
                 tmp_path / "e.json")
    assert run.returncode == 0, run.stderr
    assert json.loads((tmp_path / "e.json").read_text())["comparisons"][0]["scores"][0]["value"] == 0
    run = geoi2i("run", "-i", there, "-m", "identity", "-o", tmp_path / "x.tif", "--cutline", tmp_path / "none.json")
    assert run.returncode == 2 and "it does not exist" in run.stderr and "Traceback" not in run.stderr
    assert not (tmp_path / "x.tif").exists()
