"""Laws of the pixel grid: whose planet, how large a pixel, which latitude."""

import numpy as np
import pytest
from affine import Affine
from geoi2i.core.grid import Grid, Window, angular_convention
from pyproj import CRS


def wkt(code):
    return CRS.from_user_input(code).to_wkt("WKT2_2019")


NORTH_UP = Affine(30, 0, 500_000, 0, -30, 4_500_000)


def grid(code, transform=NORTH_UP, **facts):
    return Grid(code and wkt(code), transform, 100, 200, **facts)


@pytest.mark.parametrize("code, body", [
    ("EPSG:4326", "Earth"), ("EPSG:32631", "Earth"), ("IAU_2015:30100", "Moon"), ("IAU_2015:49900", "Mars"),
    ("IAU_2015:49910", "Mars"), ("IAU_2015:59901", "Jupiter"), ("IAU_2015:69900", "Saturn"),
    ("+proj=longlat +a=71398000 +b=66770000", "Jupiter"), ("+proj=longlat +R=5000", "unknown"), (None, None)])
def test_a_body_is_known_by_its_radius(code, body):
    assert grid(code).body == body


@pytest.mark.parametrize("code, size, metres", [
    ("EPSG:32631", 30, 30), ("EPSG:2263", 100, 30.48006096),  # New York in US feet: 1200/3937 m
    ("EPSG:4326", 1, 111_319.49),  # a degree of the equatorial radius, 6,378,137 m
    ("IAU_2015:49900", 1, 59_274.70), ("IAU_2015:59902", 0.1, 124_777.1), (None, 30, None)])
def test_pixel_size_is_in_metres(code, size, metres):
    found = grid(code, Affine(size, 0, 0, 0, -size, 0)).pixel_size_m
    assert found == pytest.approx(metres, rel=1e-6) if metres else found is None


def test_pixel_size_is_the_root_of_the_area():
    sheared = Affine(30, 0, 0, 0, -30, 0) @ Affine.rotation(33) @ Affine.scale(2, 0.5)
    assert grid("EPSG:32631", sheared).pixel_size_m == pytest.approx(30)


def test_a_crop_keeps_every_pixel_in_place():
    whole = grid("EPSG:32631", Affine(30, 4, 500_000, 3, -30, 4_500_000), latitude="planetographic")
    part = whole.crop(Window(10, 20, 30, 40))
    assert (part.height, part.width, part.latitude) == (30, 40, "planetographic")
    assert part.transform * (1.5, 2.5) == pytest.approx(whole.transform * (21.5, 12.5), abs=1e-6)


def test_grids_match_where_pixels_do():
    one = grid("EPSG:32631")
    assert one.matches(grid("EPSG:32631", Affine(30, 0, 500_000.02, 0, -30, 4_500_000)))
    assert not one.matches(grid("EPSG:32631", Affine(30, 0, 500_000.2, 0, -30, 4_500_000)))
    assert not one.matches(grid("EPSG:32632"))
    assert not grid("EPSG:4326", latitude="planetographic").matches(grid("EPSG:4326", latitude="planetocentric"))


@pytest.mark.parametrize("code, tags, expected", [
    ("IAU_2015:59901", {}, ("planetographic", "west")), ("IAU_2015:59902", {}, ("planetocentric", "east")),
    ("IAU_2015:49900", {}, ("planetocentric", "east")), ("EPSG:4326", {}, (None, "east")),
    ("EPSG:3083", {}, (None, "east")), ("EPSG:4978", {}, (None, None)), (None, {}, (None, None)),
    ("+proj=longlat +R=71492000", {}, (None, None)),
    ("+proj=longlat +R=71492000", {"LATITUDE": "Planetocentric", "LONGITUDE": "positive WEST"},
     ("planetocentric", "west")),
    ("IAU_2015:49900", {"GEOI2I_LATITUDE": "planetographic", "GEOI2I_LONGITUDE": "west"},
     ("planetographic", "west"))])
def test_angular_convention(code, tags, expected):
    """Texas Centric (EPSG:3083), geographic and geocentric systems say nothing about the type of latitude."""
    assert angular_convention(code and wkt(code), tags) == expected


def test_latitudes_of_a_projected_grid_are_those_of_its_projection():
    """UTM zone 31, 500 km east: the central meridian; the equator is at northing 0."""
    utm = grid("EPSG:32631", Affine(10, 0, 500_000, 0, -10, 0))
    found = utm.latitudes(np.array([0, 50, 100]), np.array([0, 0, 0]))
    assert found[0] == pytest.approx(0, abs=1e-9) and found[2] == pytest.approx(-1000 / 110_574.4 / 0.9996, rel=1e-3)
    for code in ("EPSG:4326", "IAU_2015:59901", "IAU_2015:59902"):
        degrees = grid(code, Affine(0.5, 0, 10, 0, -0.5, 40))
        assert degrees.latitudes(np.array([0, 3]), np.array([5, 9])).tolist() == [40, 38.5]
