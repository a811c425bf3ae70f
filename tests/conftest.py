"""Rasters of every kind a user may have, written with rasterio alone, and a tiny model with random weights."""

import os
import re
import subprocess
import warnings
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import pytest
import rasterio
import rasterio.errors
import torch
from affine import Affine
from geoi2i.core.errors import Cancelled, Geoi2iError
from geoi2i.core.inference.steps import schrodinger_bridge_table
from geoi2i.core.models.manifest import BandSpec, Manifest, NetworkSpec
from geoi2i.core.models.package import save_package
from geoi2i.core.networks.resnet import ResnetGenerator, ResnetSizes
from hypothesis import settings
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from wording import complaints

settings.register_profile("geoi2i", deadline=None, database=None, derandomize=True)
settings.load_profile("geoi2i")


@pytest.fixture(autouse=True)
def messages_are_well_worded(monkeypatch):
    """Holds every error text that a test reaches to `wording`, here and in the commands that it starts."""
    texts = set()

    def remember(error, *arguments, **more):
        make(error, *arguments, **more)
        if not isinstance(error, Cancelled):
            texts.add(str(error))

    def run(*arguments, **more):
        done = start(*arguments, **more)
        if isinstance(done.stderr, str) and "\nTry '" not in done.stderr:  # which is click's own remedy
            texts.update(re.findall(r"^Error: (.+)\Z", done.stderr.strip(), re.M | re.S))
        return done

    make, start = Geoi2iError.__init__, subprocess.run
    monkeypatch.setattr(Geoi2iError, "__init__", remember)
    monkeypatch.setattr(subprocess, "run", run)
    yield
    wrong = {text: found for text in sorted(texts) if (found := complaints(text))}
    assert not wrong, "\n".join(f"{', '.join(found)}: {text}" for text, found in wrong.items())


QUICK_S = 4.0
"""Processor time that a test of `make quick` may take, its processes included; most take a hundredth of it."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Where slow tests are left out, one that is slow and does not say so fails."""
    before = sum(os.times()[:4])
    result = yield
    spent = sum(os.times()[:4]) - before
    if "not slow" in item.config.option.markexpr and spent > QUICK_S:
        pytest.fail(f"{spent:.1f} s of processor time are more than {QUICK_S:g}: mark it slow, or make it faster")
    return result


UTM = "EPSG:32631"
NORTH_UP = Affine(30, 0, 500_000, 0, -30, 4_500_000)
DEGREES = Affine(0.25, 0, -30, 0, -0.25, 20)
JUPITER_CUSTOM = (
    'GEOGCRS["Jupiter as our camera sees it",DATUM["Jupiter (1 bar)",ELLIPSOID["Jupiter",71492000,15.41440276,'
    'LENGTHUNIT["metre",1]]],PRIMEM["Reference Meridian",0,ANGLEUNIT["degree",0.0174532925199433]],'
    'CS[ellipsoidal,2],AXIS["planetographic latitude",north,ORDER[1],ANGLEUNIT["degree",0.0174532925199433]],'
    'AXIS["longitude",west,ORDER[2],ANGLEUNIT["degree",0.0174532925199433]]]'
)


def picture(dtype="uint8", bands=3, height=53, width=37, seed=0):
    """(bands, height, width) over the whole range of an integer dtype, or a few units wide."""
    generator = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return generator.normal(0.5, 2, (bands, height, width)).astype(dtype)
    info = np.iinfo(dtype)
    return generator.integers(info.min, info.max, (bands, height, width), dtype=dtype, endpoint=True)


def write(path, pixels, mask=None, alpha=None, names=(), units=None, scales=None, offsets=None, tags=None,
          colours=None, band_tags=(), crs=UTM, transform=NORTH_UP, **profile):
    """A GeoTIFF with the given facts; returns its path as text.

    A system of another planet goes into a sidecar too: a GeoTIFF forgets its code and its directions.
    """
    if alpha is not None:
        pixels = np.concatenate([pixels, alpha[None].astype(pixels.dtype)])
    count, height, width = pixels.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(
                path, "w", driver="GTiff", count=count, height=height, width=width, dtype=str(pixels.dtype),
                crs=crs, transform=transform, **profile) as out:
            if alpha is not None:
                out.colorinterp = [*([ColorInterp.undefined] * (count - 1)), ColorInterp.alpha]
            elif colours:
                out.colorinterp = [ColorInterp[c] for c in colours]
            out.write(pixels)
            if mask is not None:
                out.write_mask(mask)
            for k, name in enumerate(names):
                out.set_band_description(k + 1, name)
            for k, facts in enumerate(band_tags):
                out.update_tags(k + 1, **facts)
            for attribute, values in (("units", units), ("scales", scales), ("offsets", offsets)):
                if values:
                    setattr(out, attribute, values)
            out.update_tags(**(tags or {}))
    if str(crs).startswith(("IAU", "GEOGCRS")):
        text = escape(CRS.from_user_input(crs).to_wkt(version="WKT2_2019"))
        axes = "1,2" if "PROJCRS" in text else "2,1"
        Path(f"{path}.aux.xml").write_text(
            f'<PAMDataset><SRS dataAxisToSRSAxisMapping="{axes}">{text}</SRS></PAMDataset>')
    return str(path)


def write_vrt(path, source, dtype, nodata, size):
    """A VRT over `source` whose bands have each their own nodata value: a GeoTIFF has only one."""
    height, width = size
    kind = {"uint8": "Byte", "int16": "Int16", "float32": "Float32"}[dtype]
    bands = "".join(
        f'<VRTRasterBand dataType="{kind}" band="{k + 1}">'
        + ("" if value is None else f"<NoDataValue>{value}</NoDataValue>")
        + f'<SimpleSource><SourceFilename relativeToVRT="1">{Path(source).name}</SourceFilename>'
          f"<SourceBand>{k + 1}</SourceBand></SimpleSource></VRTRasterBand>"
        for k, value in enumerate(nodata))
    with rasterio.open(source) as data:
        place = f"<SRS>{data.crs.to_wkt()}</SRS><GeoTransform>{', '.join(map(str, data.transform.to_gdal()))}" \
                "</GeoTransform>"
    Path(path).write_text(f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}">{place}{bands}</VRTDataset>')
    return str(path)


def holes(height, width, seed=1):
    """A mask with a block, a whole row and scattered pixels without data."""
    mask = np.random.default_rng(seed).random((height, width)) > 0.05
    mask[5:15, 8:20] = mask[30] = False
    return mask


def _with_nodata(folder, dtype, nodata, **facts):
    pixels = picture(dtype)
    pixels[:, ~holes(*pixels.shape[1:])] = nodata
    return write(folder / "in.tif", pixels, nodata=nodata, **facts)


def _with_nan(folder):
    pixels = picture("float32")
    pixels[1, ~holes(*pixels.shape[1:])] = np.nan
    return write(folder / "in.tif", pixels)


def _with_band_nodata(folder):
    pixels = picture("int16")
    pixels[:, 1, :4] = -9999, 0, -32768, 32767  # each band holds the marks of the others
    for k, value in enumerate((-9999, 0)):
        pixels[k, ~holes(*pixels.shape[1:], seed=k)] = value
    source = write(folder / "parts.tif", pixels)
    return write_vrt(folder / "in.vrt", source, "int16", (-9999, 0, None), pixels.shape[1:])



_HIDDEN = np.where(holes(53, 37), 255, 0).astype(np.uint8)
_SHEER = np.where(holes(53, 37), picture("uint8", 1)[0] | 1, 0).astype(np.uint8)

KINDS = {
    "uint8": lambda folder: write(folder / "in.tif", picture("uint8")),
    "uint16": lambda folder: write(folder / "in.tif", picture("uint16")),
    "int16": lambda folder: write(folder / "in.tif", picture("int16")),
    "float32": lambda folder: write(folder / "in.tif", picture("float32")),
    "nodata": lambda folder: _with_nodata(folder, "int16", -9999),
    "nodata_float": lambda folder: _with_nodata(folder, "float32", -3.4028234663852886e38),
    "nodata_fraction": lambda folder: _with_nodata(folder, "float32", -1.5),
    "nodata_nan": lambda folder: _with_nodata(folder, "float32", float("nan")),
    "nan": _with_nan,
    "mask": lambda folder: write(folder / "in.tif", picture(), mask=_HIDDEN),
    "alpha": lambda folder: write(folder / "in.tif", picture(), alpha=_SHEER),
    "alpha16": lambda folder: write(folder / "in.tif", picture("uint16"), alpha=_SHEER.astype("uint16") * 257),
    "alpha_of_5": lambda folder: write(folder / "in.tif", picture(bands=4), alpha=_SHEER),
    "alpha_float": lambda folder: write(folder / "in.tif", picture("float32"), alpha=_SHEER / np.float32(255)),
    "band_nodata": _with_band_nodata,
    "described": lambda folder: write(
        folder / "in.tif", picture("uint16"), names=("red < 'edge'", "green & blue", "méthane 889 nm"),
        units=("W/m²/sr/µm", "W/m²/sr/µm", "1"), scales=(0.01, 0.02, 1e-4), offsets=(-5.0, 0.0, 0.1),
        colours=("red", "green", "blue"), tags={"SENSOR": 'a "camera"', "NOTE": "two\nlines"},
        band_tags=({"WAVELENGTH": "889"}, {}, {"FILTER": "<CH4>"})),
    "point": lambda folder: write(folder / "in.tif", picture(), tags={"AREA_OR_POINT": "Point"}),
    "rotated": lambda folder: write(
        folder / "in.tif", picture(), transform=NORTH_UP @ Affine.rotation(30) @ Affine.shear(5)),
    "south_up": lambda folder: write(
        folder / "in.tif", picture(), transform=Affine(30, 0, 500_000, 0, 30, 4_400_000)),
    "wgs84": lambda folder: write(folder / "in.tif", picture(), crs="EPSG:4326", transform=DEGREES),
    "mars_point": lambda folder: write(folder / "in.tif", picture(), crs="IAU_2015:49900", transform=DEGREES,
                                       tags={"AREA_OR_POINT": "Point", "NOTE": "stays"}),
    "mars": lambda folder: write(folder / "in.tif", picture(), crs="IAU_2015:49900", transform=DEGREES),
    "mars_projected": lambda folder: write(folder / "in.tif", picture(), crs="IAU_2015:49910"),
    "jupiter_graphic": lambda folder: write(folder / "in.tif", picture(), crs="IAU_2015:59901", transform=DEGREES),
    "jupiter_centric": lambda folder: write(folder / "in.tif", picture(), crs="IAU_2015:59902", transform=DEGREES),
    "jupiter_custom": lambda folder: write(folder / "in.tif", picture(), crs=JUPITER_CUSTOM, transform=DEGREES),
    "nowhere": lambda folder: write(folder / "in.tif", picture(), crs=None, transform=Affine.identity()),
}


@pytest.fixture(params=KINDS)
def every_raster(request, tmp_path):
    """The path of a raster of every kind, one after the other."""
    return KINDS[request.param](tmp_path)


@pytest.fixture
def make_raster(tmp_path):
    """`make_raster(kind)`, or `make_raster(pixels, name=..., **facts)`: the path of a new raster."""

    def make(what, name="in.tif", **facts):
        return KINDS[what](tmp_path) if isinstance(what, str) else write(tmp_path / name, what, **facts)

    return make


def tiny_network(bands=3, levels=2, seed=0):
    """A generator with random weights, strong enough that noise, time, style and position all matter."""
    torch.manual_seed(seed)
    network = ResnetGenerator(ResnetSizes(bands_in=bands, bands_out=bands, width=8, blocks=1, levels=levels,
                                          style=4, embedding=16))
    torch.nn.init.normal_(network.head.weight, std=0.04)
    torch.nn.init.normal_(network.level.weight, std=0.4)
    return network.eval().requires_grad_(False)


def tiny_package(folder, steps=5, bands=3, minimum=-1.0, maximum=1.0, network=None, **facts):
    """A saved package of the tiny network in a chain of `steps` noisy steps."""
    network = network or tiny_network(bands)
    specs = tuple(BandSpec(name=f"band {k}", minimum=minimum, maximum=maximum) for k in range(bands))
    reach = {"kind": "range", "minimum": (minimum,) * bands, "maximum": (maximum,) * bands}
    manifest = Manifest(**{
        "name": "tiny", "title": "Random weights", "licence": "CC0-1.0", "bands_in": specs, "bands_out": specs,
        "network": NetworkSpec(name="resnet", sizes=dict(network.sizes)),
        "table": schrodinger_bridge_table(steps, tau=0.1), "normalise_in": reach, "normalise_out": reach,
        "margin_px": network.radius_px, "multiple_of": network.stride, "tile_px": 64, "overlap_px": 8} | facts)
    return save_package(folder, manifest, network)


@pytest.fixture
def package(tmp_path):
    """The tiny package, saved and loaded; its range is [-1, 1]."""
    return tiny_package(tmp_path / "tiny")


@pytest.fixture
def make_package(tmp_path):
    """`make_package(steps=1, bands=3, ...)`: another tiny package."""
    return lambda name="tiny", **facts: tiny_package(tmp_path / name, **facts)


@pytest.fixture
def make_network():
    return tiny_network
