"""Laws of class numbers, colour tables and tags: they are kept, nothing is computed between two classes, and no network
takes them for measured values. What GDAL (rasterio, its MODE overviews) reads and makes is expected."""

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from geoi2i.core.errors import RasterError
from geoi2i.core.grid import Window
from geoi2i.core.models.matching import misfits
from geoi2i.core.output.overviews import halve
from geoi2i.core.raster.source import RasterSource
from geoi2i.core.run import Callbacks, Compute, translate_raster
from rasterio.enums import Resampling

sys.path.insert(0, str(Path(__file__).parent))
from pass_through import identity, reprojected, says

pytestmark = pytest.mark.slow

RPC = {"ERR_BIAS": "-1", "ERR_RAND": "-1", "LINE_OFF": "20", "SAMP_OFF": "20", "LAT_OFF": "45", "LONG_OFF": "15",
       "HEIGHT_OFF": "100", "LINE_SCALE": "20", "SAMP_SCALE": "20", "LAT_SCALE": "1", "LONG_SCALE": "1",
       "HEIGHT_SCALE": "100", "LINE_NUM_COEFF": " ".join("0" * 20), "LINE_DEN_COEFF": "1 " + " ".join("0" * 19),
       "SAMP_NUM_COEFF": " ".join("0" * 20), "SAMP_DEN_COEFF": "1 " + " ".join("0" * 19)}

NAMES = ("water", "", "forest & <heath>")


def classes(high=3, shape=(40, 50), dtype="uint8"):
    return np.random.default_rng(0).integers(0, high, shape).astype(dtype)


def ramp(count, opacity=255):
    return {k: (k % 256, 255 - k % 256, k * 7 % 256, opacity) for k in range(count)}


def write(path, pixels, colours=None, driver="GTiff", **profile):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(path, "w", driver=driver, count=1, height=pixels.shape[0], width=pixels.shape[1],
                           dtype=pixels.dtype, crs="EPSG:32633",
                           transform=rasterio.Affine(10, 0, 500_000, 0, -10, 5_000_000), **profile) as out:
            out.write(pixels, 1)
            if colours:
                out.write_colormap(1, colours)
    return str(path)


def named(path):
    """A raster with names of its classes and a table of attributes beside it, as QGIS and gdal_translate write them."""
    escaped = [name.replace("&", "&amp;").replace("<", "&lt;") for name in NAMES]
    names = "".join(f"<Category>{name}</Category>" for name in escaped)
    table = ('<GDALRasterAttributeTable><FieldDefn index="0"><Name>Value</Name><Type>0</Type><Usage>5</Usage>'
             '</FieldDefn><Row index="0"><F>2</F></Row></GDALRasterAttributeTable>')
    Path(f"{path}.aux.xml").write_text(f'<PAMDataset><PAMRasterBand band="1"><CategoryNames>{names}</CategoryNames>'
                                       f"{table}</PAMRasterBand></PAMDataset>")
    return path


TABLES = {
    "8 bits": lambda folder: write(folder / "in.tif", classes() * 100, ramp(256), photometric="palette"),
    "1 bit": lambda folder: write(folder / "in.tif", classes(2), ramp(2), photometric="palette", nbits=1),
    "4 bits": lambda folder: write(folder / "in.tif", classes(16), ramp(16), photometric="palette", nbits=4),
    "16 bits": lambda folder: write(folder / "in.tif", classes(900, dtype="uint16"), ramp(1000), photometric="palette"),
    "black and white": lambda folder: write(folder / "in.tif", classes(2), nbits=1),
    "white and black": lambda folder: write(folder / "in.tif", classes(2), nbits=1, photometric="miniswhite"),
    "nodata": lambda folder: write(folder / "in.tif", classes(), ramp(256), photometric="palette", nodata=2),
    "GIF": lambda folder: write(folder / "in.gif", classes(), ramp(256), driver="GIF"),
    "PNG with opacities": lambda folder: write(folder / "in.png", classes(), ramp(200, 77), driver="PNG"),
    "named": lambda folder: named(write(folder / "in.tif", classes())),
    "named colours": lambda folder: named(write(folder / "in.tif", classes(), ramp(256), photometric="palette")),
    "VRT": lambda folder: as_vrt(named(write(folder / "a.tif", classes(), ramp(256), photometric="palette")))}


def as_vrt(path):
    rasterio.shutil.copy(path, Path(path).with_name("in.vrt"), driver="VRT")
    return str(Path(path).with_name("in.vrt"))


@pytest.fixture(params=TABLES)
def any_table(request, tmp_path):
    return TABLES[request.param](tmp_path)


def test_identity_keeps_tables_names_and_bits(any_table):
    before, after = says(any_table), says(identity(any_table, Path(any_table).with_name("out.tif")))
    for found in (before, after):
        found["tags of all"] = {}  # such as PNG's, of its file
    assert after == before
    raster, result = RasterSource.open(any_table), RasterSource.open(str(Path(any_table).with_name("out.tif")))
    assert result.bands[0].categories == raster.bands[0].categories
    assert ("Value" in (result.bands[0].attributes or "")) == ("Value" in (raster.bands[0].attributes or ""))


def test_a_reprojection_takes_the_nearest_class_by_default_and_keeps_the_table(any_table):
    result = reprojected(any_table, None)
    found, given = says(result), says(any_table)
    assert {key: found[key] for key in ("tables", "colours", "white", "bits")} == {
        key: given[key] for key in ("tables", "colours", "white", "bits")}
    with rasterio.open(any_table) as before, rasterio.open(result) as after:
        shown = after.read(1)[after.dataset_mask() != 0]
        assert set(np.unique(shown)) <= set(np.unique(before.read(1)))


def test_another_kernel_on_classes_is_warned_of(tmp_path):
    told = []
    reprojected(TABLES["8 bits"](tmp_path), "bilinear", told=told)
    assert len(told) == 1 and "--resampling nearest" in told[0]
    told = []
    reprojected(write(tmp_path / "plain.tif", classes()), None, told=told)
    assert told == []


def test_names_of_classes_alone_make_classes(tmp_path):
    with rasterio.open(reprojected(named(write(tmp_path / "in.tif", classes() * 100)), None, scale=0.4)) as data:
        assert set(np.unique(data.read(1)[data.dataset_mask() != 0])) == {0, 100, 200}


def test_overviews_of_classes_hold_the_class_that_most_have(tmp_path):
    pixels = classes(3, (1200, 1100))
    source = write(tmp_path / "in.tif", pixels, ramp(256), photometric="palette", tiled=True)
    with rasterio.open(source, "r+") as data:
        data.build_overviews([2, 4], Resampling.mode)
    result = identity(source)
    counted = np.stack([sum(pixels[r::2, c::2] == k for r in (0, 1) for c in (0, 1)) for k in range(3)])
    with rasterio.open(result, overview_level=0) as ours, rasterio.open(source, overview_level=0) as gdals:
        found = ours.read(1)
        assert ours.colormap(1) == ramp(256)
        single = np.sort(counted, 0)[-1] > np.sort(counted, 0)[-2]
        assert single.mean() > 0.5 and np.array_equal(found[single], gdals.read(1)[single])
        assert np.array_equal(np.take_along_axis(counted, found[None].astype(int), 0)[0], counted.max(0))


def test_a_class_without_data_has_no_vote():
    pixels = np.array([[[0, 0, 5, 0], [0, 7, 0, 0], [9, 9, 1, 2], [1, 2, 1, 2]]], "uint8")
    found, _ = halve(pixels, None, 0, classes=(0,))
    assert found.tolist() == [[[7, 5], [9, 1]]]


def test_white_for_the_least_value_is_kept(tmp_path):
    source = write(tmp_path / "in.tif", classes(255), photometric="miniswhite")
    for result in (identity(source), reprojected(source, None), reprojected(source, "bilinear")):
        assert says(result)["white"] == "YES" and says(result)["tables"] == says(source)["tables"]
    assert says(identity(source), numbers=True)["pixels"] == says(source)["pixels"]


@pytest.mark.parametrize("kind", ["8 bits", "black and white", "named"])
def test_no_network_takes_classes_for_values(tmp_path, make_package, kind):
    source, package = TABLES[kind](tmp_path), make_package(bands=1, steps=1)
    with pytest.raises(RasterError, match=r"numbers of classes.*gdal_translate -expand rgb"):
        translate_raster(source, tmp_path / "o.tif", package, compute=Compute(device="cpu"))
    assert not (tmp_path / "o.tif").exists()
    assert any("classes" in why for why in misfits(RasterSource.open(source), package.manifest))


def test_a_table_of_a_further_band_is_said_to_be_lost(tmp_path):
    one = write(tmp_path / "one.tif", classes(), ramp(256), photometric="palette")
    band = ('<VRTRasterBand dataType="Byte" band="{}">{}<SimpleSource><SourceFilename relativeToVRT="1">one.tif'
            "</SourceFilename></SimpleSource></VRTRasterBand>")
    with rasterio.open(one) as data:
        entries = "".join('<Entry c1="{}" c2="{}" c3="{}" c4="{}"/>'.format(*c) for c in data.colormap(1).values())
    coloured = f"<ColorInterp>Palette</ColorInterp><ColorTable>{entries}</ColorTable>"
    (tmp_path / "in.vrt").write_text(
        '<VRTDataset rasterXSize="50" rasterYSize="40"><SRS>EPSG:32633</SRS><GeoTransform>0,1,0,0,0,-1</GeoTransform>'
        f"{band.format(1, '')}{band.format(2, coloured)}</VRTDataset>")
    told = []
    identity(str(tmp_path / "in.vrt"), callbacks=Callbacks(message=told.append))
    assert len(told) == 1 and "the colour table of band 2" in told[0]


# --- tags ------------------------------------------------------------------------------------------------------


@pytest.fixture
def tagged(make_raster):
    """A raster with tags of many domains."""
    source = make_raster(np.arange(1600, dtype="uint16").reshape(1, 40, 40), tags={"A": "1 < 2 & 'three'"})
    with rasterio.open(source, "r+") as data:
        data.update_tags(ns="RPC", **RPC)
        data.update_tags(ns="GEOLOCATION", X_BAND="1", X_DATASET="x.tif")
        data.update_tags(ns="ENVI", wavelength="{1, 2}", note='<a> & "b"')
        data.update_tags(ns="MINE", **{"a & b": "ünïcode"})
        data.update_tags(1, ns="OF_THE_BAND", FILTER="<CH4>")
    return source


def test_identity_keeps_tags_of_all_domains(tagged):
    result = identity(tagged)
    assert says(result) == says(tagged)


def test_xmp_is_kept_to_the_letter(tmp_path, make_raster):
    xmp = ('<?xpacket begin="" id="W5M0"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><a>1 &amp; 2</a></x:xmpmeta>'
           '<?xpacket end="w"?>')
    source = make_raster(np.ones((1, 9, 9), "uint8"))
    Path(f"{source}.aux.xml").write_text(
        f'<PAMDataset><Metadata domain="xml:XMP" format="xml">{xmp}</Metadata><Metadata domain="xml:OTHER" '
        'format="xml"><a b="&lt;">c</a></Metadata></PAMDataset>')
    for result in (identity(source), reprojected(source)):
        with rasterio.open(source) as before, rasterio.open(result) as after:
            for name in ("xml:XMP", "xml:OTHER"):
                assert after.tags(ns=name) == before.tags(ns=name) and len(after.tags(ns=name)[name]) > 10


def test_json_is_kept_and_what_is_no_xml_is_said(make_raster):
    source, told = make_raster(np.ones((1, 9, 9), "uint8")), []
    Path(f"{source}.aux.xml").write_text(
        '<PAMDataset><Metadata domain="json:ISIS3" format="json">{"a": "x=y &lt; 1"}</Metadata>'
        '<Metadata domain="xml:BAD" format="xml">plain</Metadata></PAMDataset>')
    with rasterio.open(identity(source, callbacks=Callbacks(message=told.append))) as after, \
            rasterio.open(source) as before:
        assert before.tags(ns="json:ISIS3") == after.tags(ns="json:ISIS3") != {}
    assert len(told) == 1 and "xml:BAD" in told[0] and "json:" not in told[0]


def test_an_rpc_moves_with_a_part_and_goes_with_another_grid(tagged):
    told = []
    with rasterio.open(tagged) as data:
        bounds = data.window_bounds(rasterio.windows.Window(7, 5, 20, 20))
    with rasterio.open(identity(tagged, bounds=bounds, callbacks=Callbacks(message=told.append))) as data:
        rpc = data.tags(ns="RPC")
        assert (float(rpc["LINE_OFF"]), float(rpc["SAMP_OFF"])) == (15, 13)
        assert "GEOLOCATION" not in data.tag_namespaces() and "GEOLOCATION" in told[0]
        assert RasterSource.open(tagged).grid.crop(Window(5, 7, 20, 20)).matches(RasterSource.open(data.name).grid)
    with rasterio.open(reprojected(tagged)) as data:
        assert {"RPC", "GEOLOCATION"}.isdisjoint(data.tag_namespaces())
        assert data.tags(ns="ENVI")["wavelength"] == "{1, 2}"


def test_pixels_that_are_points_stay_points(make_raster):
    for result in (identity, reprojected):
        source = make_raster(np.ones((1, 9, 9), "int16"), tags={"AREA_OR_POINT": "Point"})
        with rasterio.open(result(source)) as data:
            assert data.tags()["AREA_OR_POINT"] == "Point"
        assert RasterSource.open(result(source)).grid.transform == data.transform
