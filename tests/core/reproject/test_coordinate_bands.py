"""Laws of coordinate bands: PROJ's places, the same for every cut, and nothing where there is no place."""

import math
from dataclasses import replace

import numpy as np
import pytest
import rasterio.warp
from affine import Affine
from geoi2i.core.errors import RasterError
from geoi2i.core.grid import Grid, Window
from geoi2i.core.reproject.coordinate_bands import coordinates_on, frame_around, share_outside
from geoi2i.core.reproject.frame import Coordinates, Frame
from geoi2i.core.reproject.target_grid import named_crs
from pydantic import ValidationError
from pyproj import CRS

FRAME = Frame(crs=named_crs("EPSG:32631").crs, longitude="east", left=500_000, bottom=4_400_000, right=512_000,
              top=4_430_000)
ON_MAP = Coordinates(names=("map_x", "map_y"), frame=FRAME)
WHOLE = Window(0, 0, 40, 50)


def grid(crs, transform, size=(40, 50), **facts):
    named = named_crs(crs) if crs else Grid(None, transform, *size)
    return replace(named, transform=transform, height=size[0], width=size[1], **facts)


def around(crs, left, top, pixel, size=(40, 50)):
    return grid(crs, Affine(pixel, 0, left, 0, -pixel, top), size)


def test_the_frame_s_edges_are_minus_one_and_one():
    fitting = grid("EPSG:32631", Affine(240, 0, 500_000, 0, -750, 4_430_000))
    x, y = coordinates_on(fitting, ON_MAP)(WHOLE)
    assert np.allclose(x, (np.arange(50) + 0.5) / 25 - 1) and np.allclose(y.T, 1 - (np.arange(40) + 0.5) / 20)
    assert share_outside(fitting, ON_MAP) == 0
    assert share_outside(around("EPSG:32631", 506_000, 4_430_000, 240), ON_MAP) == pytest.approx(0.5, abs=0.02)
    assert frame_around([fitting]) == FRAME


@pytest.mark.parametrize("crs, left, top, pixel", [
    ("EPSG:4326", 3.0, 40.0, 0.003), ("EPSG:3857", 334_000, 4_860_000, 300), ("EPSG:32630", 1_010_000, 4_440_000, 300)])
def test_places_in_another_crs_are_gdal_s(crs, left, top, pixel):
    other = around(crs, left, top, pixel)
    cols, rows = np.meshgrid(np.arange(50) + 0.5, np.arange(40) + 0.5)
    xs, ys = rasterio.warp.transform(crs, "EPSG:32631", *(v.ravel() for v in other.transform * (cols, rows)))
    x, y = coordinates_on(other, ON_MAP)(WHOLE)
    assert np.allclose(x.ravel(), (np.array(xs) - 506_000) / 6_000, atol=1e-5)
    assert np.allclose(y.ravel(), (np.array(ys) - 4_415_000) / 15_000, atol=1e-5)


def test_latitudes_of_the_earth_are_planetocentric_in_every_crs():
    names = "latitude", "sin_latitude", "cos_latitude", "sin_longitude", "cos_longitude"
    utm = around("EPSG:32631", 500_000, 4_430_000, 300)
    cols, rows = np.meshgrid(np.arange(50) + 0.5, np.arange(40) + 0.5)
    lon, lat = (np.radians(v).reshape(40, 50) for v in rasterio.warp.transform(
        "EPSG:32631", "EPSG:4326", *(v.ravel() for v in utm.transform * (cols, rows))))
    flattening = 1 / CRS("EPSG:4326").ellipsoid.inverse_flattening
    centric = np.arctan((1 - flattening) ** 2 * np.tan(lat))
    wanted = centric / (np.pi / 2), np.sin(centric), np.cos(centric), np.sin(lon), np.cos(lon)
    assert np.allclose(coordinates_on(utm, Coordinates(names=names))(WHOLE), wanted, atol=1e-6)
    flat = around("EPSG:4326", 3.0, 40.0, 0.01)
    degrees = np.radians(40 - 0.01 * (np.arange(40) + 0.5))
    found, = coordinates_on(flat, Coordinates(names=("sin_latitude",)))(WHOLE)
    assert np.allclose(found[:, 0], np.sin(np.arctan((1 - flattening) ** 2 * np.tan(degrees))), atol=1e-6)


@pytest.mark.parametrize("kind, centric", [("planetographic", -20.0), ("planetocentric", -22.6)])
def test_the_great_red_spot_has_its_planetocentric_latitude(kind, centric):
    """-22.6 degrees graphic are -20.0 centric on Jupiter."""
    spot = grid("IAU_2015:59901", Affine(0.1, 0, 0, 0, -0.1, -22.55), (1, 1), latitude=kind, longitude="west")
    latitude, sine = coordinates_on(spot, Coordinates(names=("latitude", "sin_longitude")))(Window(0, 0, 1, 1))
    assert latitude.item() * 90 == pytest.approx(centric, abs=0.05)
    assert sine.item() == pytest.approx(-math.sin(math.radians(0.05)), abs=1e-6)


@pytest.mark.parametrize("coordinates", [ON_MAP, Coordinates(names=("sin_latitude", "cos_longitude"))])
def test_a_pixel_has_the_same_bits_in_every_window(coordinates, monkeypatch):
    positions = coordinates_on(around("EPSG:32631", 498_000, 4_432_000, 300), coordinates)
    whole = positions(WHOLE)
    monkeypatch.setattr("geoi2i.core.reproject.coordinate_bands._CHUNK_PX", 130)
    assert np.array_equal(whole, positions(WHOLE))
    assert np.array_equal(whole[:, 7:20, 11:40], positions(Window(7, 11, 13, 29)))
    assert positions(Window(-3, -2, 50, 60)).shape == (2, 50, 60) and whole.dtype == np.float32


def test_longitudes_count_from_anywhere():
    frame = Frame(crs=named_crs("EPSG:4326").crs, left=170, bottom=-20, right=190, top=0)
    asked = Coordinates(names=("map_x", "map_y"), frame=frame)
    there = Window(0, 0, 10, 20)
    one, two = (coordinates_on(around("EPSG:4326", left, 0, 0.5, (10, 20)), asked)(there) for left in (-180, 180))
    assert np.array_equal(one, two) and np.allclose(one[0, 0], 0.05 * np.arange(20) + 0.025, atol=1e-6)


def test_there_is_no_place_where_a_projection_does_not_reach():
    disc = around("+proj=ortho +lat_0=0 +lon_0=0 +type=crs", -8e6, 8e6, 16e6 / 40, (40, 40))
    for coordinates in (ON_MAP, Coordinates(names=("cos_latitude",))):
        assert (coordinates_on(disc, coordinates)(Window(0, 0, 1, 1)) == 0).all()


def test_rasters_without_a_crs_have_positions_but_no_latitudes():
    nowhere = grid(None, Affine(2, 0, 0, 0, -3, 120))
    frame = frame_around([nowhere])
    x, y = coordinates_on(nowhere, Coordinates(names=("map_x", "map_y"), frame=frame))(WHOLE)
    assert x[0, 0] == pytest.approx(-0.98) and y[0, 0] == pytest.approx(0.975)
    for coordinates in (ON_MAP, Coordinates(names=("latitude",))):
        with pytest.raises(RasterError, match="no CRS"):
            coordinates_on(nowhere, coordinates)
    with pytest.raises(RasterError, match="choose another model"):
        coordinates_on(around("IAU_2015:59902", 0, 0, 0.1), ON_MAP)


@pytest.mark.parametrize("content", [
    {"names": ()}, {"names": ("map_x",)}, {"names": ("latitude", "latitude")}, {"names": ("height",)},
    {"names": ("latitude",), "frame": FRAME}, {"names": ("map_x",), "frame": {**FRAME.model_dump(), "right": 0}},
    {"names": ("map_x",), "frame": {**FRAME.model_dump(), "crs": "EPSG:32631 or so"}}])
def test_coordinates_that_mean_nothing_are_refused(content):
    with pytest.raises(ValidationError):
        Coordinates(**content)
