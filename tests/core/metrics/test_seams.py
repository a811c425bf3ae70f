"""Planted window borders are found where they are, and natural pictures have none."""

import numpy as np
import pytest
from geoi2i.core.metrics.seams import CONTEXT_PX, RUN_PX, StepProfile
from skimage import data


def lattices(image, period=None, part=2 * RUN_PX, valid=None):
    """As the raster would be read, part by part."""
    image = np.atleast_3d(np.asarray(image, float).T).T
    height, width = image.shape[1:]
    valid = np.ones((height, width), bool) if valid is None else valid
    profile = StepProfile(height, width)
    for row in range(0, height, part):
        first, stop = max(0, row - CONTEXT_PX), min(height, row + part)
        rows = slice(first, min(height, stop + CONTEXT_PX - 1))
        profile.update(row, image[:, rows], valid[rows], slice(row - first, stop - first))
    return profile.lattices(period)


def tiled(image, period, strength, seed=0):
    """Each window with a level of its own."""
    levels = np.random.default_rng(seed).normal(0, strength, [-(-n // period) for n in image.shape])
    rows, cols = (np.arange(n) // period for n in image.shape)
    return image + levels[rows[:, None], cols]


@pytest.mark.parametrize("name", ["camera", "grass", "gravel", "moon", "brick", "text"])
def test_a_picture_without_windows_has_no_seams(name):
    for lattice in lattices(getattr(data, name)()).values():
        assert not lattice.found and lattice.chance > 1e-3


@pytest.mark.parametrize("period", [64, 100])
def test_faint_steps_between_windows_are_found_with_their_lattice(period):
    """Steps of about 4 grey levels in noise of 10."""
    noise = np.random.default_rng(1).normal(100, 10, (1024, 1200))
    found = lattices(tiled(noise, period, 3))
    for lattice in found.values():
        assert lattice.found and (lattice.period_px, lattice.first_px) == (period, 0) and lattice.ratio > 1.2
    assert lattices(noise)["rows"].chance > 1e-3


def test_knowing_the_step_of_the_windows_makes_it_surer():
    picture = tiled(data.moon().astype(float), 64, 1.5)
    assert lattices(picture, 64)["columns"].chance < lattices(picture)["columns"].chance


def test_the_profile_does_not_depend_on_the_parts():
    picture = tiled(data.camera().astype(float), 64, 4)[:500]
    assert lattices(picture, part=RUN_PX) == lattices(picture, part=512)


def test_what_has_no_data_makes_no_seams():
    picture = np.random.default_rng(2).normal(100, 10, (512, 512))
    valid = np.ones(picture.shape, bool)
    valid[:, ::64] = valid[::64] = False
    spoilt = np.where(valid, picture, -9999)
    assert not any(lattice and lattice.found for lattice in lattices(spoilt, valid=valid).values())


def test_a_small_or_constant_raster_has_no_lattice():
    assert lattices(np.zeros((300, 300))) == {"rows": None, "columns": None}
    assert lattices(np.random.default_rng(0).normal(size=(20, 9))) == {"rows": None, "columns": None}
