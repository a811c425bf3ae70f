"""Laws of reading back: what was written passes, and anything else about it is found."""

from dataclasses import replace

import numpy as np
import pytest
import rasterio
from geoi2i.core.errors import RasterError
from geoi2i.core.files import Folder
from geoi2i.core.grid import Grid
from geoi2i.core.output.execute import save_raster
from geoi2i.core.output.profile import OutputSpec
from geoi2i.core.output.readback import check_reads_back
from geoi2i.core.output.strips import Strip, Strips
from geoi2i.core.raster.bands import Band
from geoi2i.core.raster.rows import Rows
from geoi2i.core.raster.source import RasterSource
from pyproj import CRS, Transformer

GRID = Grid(CRS("EPSG:32631").to_wkt("WKT2_2019"), rasterio.Affine(10, 0, 500_000, 0, -10, 4_000_000), 700, 600)
ZONE_32 = CRS("EPSG:32632").to_wkt("WKT2_2019")
PIXELS = np.random.default_rng(0).integers(1, 255, (2, 700, 600)).astype("uint16")
HOLES = np.where(np.arange(700)[:, None] < 200, 0, 255).astype("uint8")[None].repeat(600, 2)


def spec(**facts):
    return OutputSpec(**({"grid": GRID, "bands": (Band("a"), Band("b")), "dtype": "uint16"} | facts))


def made(tmp_path, facts, pixels=PIXELS, mask=None):
    """An output, and strips that say what it should be."""
    path = save_raster(tmp_path / "o.tif", facts, [Rows(0, pixels, mask)], overwrite=True)
    (tmp_path / "parts").mkdir(exist_ok=True)
    strips = Strips(path, Folder.open(tmp_path / "parts"), facts, 1024)
    whole = Strip(0, 0, 700, 600, facts)
    whole.put(0, pixels, mask)
    strips.write(whole)
    strips.add_overviews()
    return path, strips


KINDS = {"plain": (spec(), PIXELS, None), "nodata": (spec(nodata=7), np.where(HOLES, PIXELS, 7).astype("uint16"), None),
         "mask": (spec(mask=True), PIXELS, HOLES),
         "alpha": (spec(bands=(Band("a"), Band("b"), Band(None, colour="alpha"))),
                   np.concatenate([PIXELS, HOLES.astype("uint16") * 257]), None),
         "NaN": (spec(dtype="float32", nodata=float("nan")), np.where(HOLES, PIXELS, np.nan).astype("float32"), None),
         "point": (spec(grid=replace(GRID, crs=None), tags={"AREA_OR_POINT": "Point"}), PIXELS, None)}


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_written_passes(tmp_path, kind):
    path, strips = made(tmp_path, *KINDS[kind])
    check_reads_back(strips, path)


@pytest.mark.parametrize("facts, words", [
    (spec(grid=replace(GRID, height=699)), "the size"), (spec(grid=replace(GRID, crs=ZONE_32)), "the CRS"),
    (spec(grid=replace(GRID, crs=None)), "the CRS"), (spec(bands=(Band("a"),)), "the number of bands"),
    (spec(dtype="int16"), "the data type"),
    (spec(grid=replace(GRID, transform=GRID.transform @ rasterio.Affine.translation(0.5, 0))), "the geotransform")])
def test_what_differs_is_named(tmp_path, facts, words):
    path, strips = made(tmp_path, spec())
    with pytest.raises(RasterError, match=rf"does not read back as it was written \(.*{words}.*--no-resume"):
        check_reads_back(replace(strips, spec=facts), path)


@pytest.mark.parametrize("kind", ["plain", "nodata", "NaN"])  # a mask of the file's own comes first
def test_a_mask_beside_it_that_hides_all_is_found(tmp_path, kind):
    path, strips = made(tmp_path, *KINDS[kind])
    shape = {"count": 1, "height": 700, "width": 600, "dtype": "uint8"}
    with rasterio.open(tmp_path / "o.tif.msk", "w", driver="GTiff", **shape) as out:
        out.write(np.zeros((1, 700, 600), "uint8"))
        out.update_tags(INTERNAL_MASK_FLAGS_1="2", INTERNAL_MASK_FLAGS_2="2")
        out.build_overviews([2], rasterio.enums.Resampling.nearest)
    with pytest.raises(RasterError, match="the valid pixels"):
        check_reads_back(strips, path)


def test_a_file_that_lost_its_end_is_found(tmp_path):
    path, strips = made(tmp_path, spec())
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(RasterError, match="does not read back"):
        check_reads_back(strips, path)


def test_a_crs_by_another_name_at_the_same_places_passes(tmp_path):
    path, strips = made(tmp_path, spec())
    other = rasterio.crs.CRS.from_epsg(32631).to_wkt().replace("WGS 84 / UTM zone 31N", "mine").replace(
        'AUTHORITY["EPSG","32631"]', 'AUTHORITY["MINE","1"]')
    check_reads_back(replace(strips, spec=spec(grid=replace(GRID, crs=other))), path)


ROTATED = ('GEOGCRS["rotated",BASEGEOGCRS["sphere",DATUM["sphere",ELLIPSOID["sphere",6370997,0]]],DERIVINGCONVERSION['
           '"turn",METHOD["Pole rotation (netCDF CF convention)"],PARAMETER["Grid north pole latitude (netCDF CF '
           'convention)",40,ANGLEUNIT["degree",0.0174532925199433]],PARAMETER["Grid north pole longitude (netCDF CF '
           'convention)",60,ANGLEUNIT["degree",0.0174532925199433]],PARAMETER["North pole grid longitude (netCDF CF '
           'convention)",0,ANGLEUNIT["degree",0.0174532925199433]]],CS[ellipsoidal,2],AXIS["latitude",north],AXIS['
           '"longitude",east],ANGLEUNIT["degree",0.0174532925199433]]')


@pytest.mark.parametrize("crs, keys_hold_it", [
    ("EPSG:32631", True), ("EPSG:3857", True), ("EPSG:9518", True), ("+proj=robin +lon_0=20", True), (ROTATED, False),
    ("+proj=ob_tran +o_proj=longlat +o_lon_p=0 +o_lat_p=36 +lon_0=-114", False), ("+proj=s2", False),
    ("+proj=healpix", False)])
def test_what_geotiff_keys_lose_stands_beside_the_output(tmp_path, crs, keys_hold_it):
    """The written file, with what is beside it, puts places where PROJ puts them."""
    size = 1e-3 if crs == "+proj=s2" else 0.1 if crs == ROTATED or "longlat" in crs else 1000.0
    system = CRS.from_user_input(f"{crs} +type=crs" if crs.startswith("+") else crs)
    grid = Grid(system.to_wkt("WKT2_2019"), rasterio.Affine(size, 0, size, 0, -size, size * 40), 30, 40)
    path = save_raster(tmp_path / "o.tif", spec(grid=grid, bands=(Band("a"),)), [Rows(0, PIXELS[:1, :30, :40], None)])
    assert (tmp_path / "o.tif.aux.xml").exists() is not keys_hold_it
    found = RasterSource.open(path).grid
    x, y = grid.transform * (np.array([0, 40, 3.5]), np.array([0, 30, 7.25]))
    expected, there = (np.array(Transformer.from_crs(wkt, system.geodetic_crs if system.is_projected else "EPSG:4326",
                                                     always_xy=True).transform(x, y)) for wkt in (system, found.crs))
    assert np.isfinite(expected).all() and np.abs(there - expected).max() < 1e-9


def test_a_crs_that_no_file_holds_is_refused_before_the_work(tmp_path):
    grid = Grid(CRS("+proj=isea +type=crs").to_wkt("WKT2_2019"), GRID.transform, 30, 40)

    def rows():
        raise AssertionError("nothing is to be read")
        yield

    with pytest.raises(RasterError, match=r"Neither a GeoTIFF nor an \.aux\.xml beside it holds the CRS"):
        save_raster(tmp_path / "o.tif", spec(grid=grid), rows())
    assert not list(tmp_path.iterdir())
