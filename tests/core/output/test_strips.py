"""Laws of durability: any rows can be made alone, with the same bits, and what is there once is not made twice."""

import json
from dataclasses import fields, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import rasterio
from geoi2i.core.grid import Grid
from geoi2i.core.models.package import identity_package
from geoi2i.core.pipeline.reprojection import Reprojection
from geoi2i.core.pipeline.translation import Translation
from geoi2i.core.raster.limits import Limits
from geoi2i.core.raster.source import RasterSource
from geoi2i.core.reproject.warped_raster import WarpedSource
from geoi2i.core.reproject.warping import Warping
from geoi2i.core.run import Compute, Options, plan_translation
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


def holes(height, width):
    mask = np.random.default_rng(1).random((height, width)) > 0.05
    mask[height // 4 : height // 3, : width // 2] = mask[height // 2] = False
    return mask


def rows_of(job, part):
    """Pixels and masks of every output's rows `part`, and the shares of work that were told."""
    shares, outputs = [], []
    found = list(job.rows(part, shares.append))
    for pieces in zip(*found):
        assert [p.row for p in pieces] == np.cumsum([pieces[0].row, *(p.pixels.shape[1] for p in pieces)])[:-1].tolist()
        cut = slice(part[0] - pieces[0].row, part[1] - pieces[0].row)
        masks = [np.full((1, *p.pixels.shape[1:]), 255, np.uint8) if p.mask is None else p.mask for p in pieces]
        outputs.append((np.concatenate([p.pixels for p in pieces], 1)[:, cut], np.concatenate(masks, 1)[:, cut]))
    assert shares == sorted(shares) and shares[-1] == pytest.approx(1)
    return outputs


def same(one, two):
    return all(a.tobytes() == b.tobytes() for mine, yours in zip(one, two) for a, b in zip(mine, yours))


@pytest.fixture
def packages(make_package):
    """The tiny model of so many steps."""
    return lru_cache(lambda steps: make_package(f"steps-{steps}", steps=steps))


@pytest.mark.slow
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(40, 300), st.integers(20, 90), st.sampled_from([24, 32, 64, 200]), st.sampled_from([0, 4, 12]),
       st.sampled_from([1, 2, 5, 16]), st.sampled_from([1, 3]), st.booleans(), st.data())
def test_rows_made_alone_have_the_bits_of_the_whole(make_raster, packages, height, width, tile, overlap, batch,
                                                    steps, missing, data):
    pixels = np.random.default_rng(0).normal(0.5, 2, (3, height, width)).astype("float32")
    if missing:
        pixels[:, ~holes(height, width)] = np.nan
    package = packages(steps)
    options = Options(tile=tile, overlap=overlap, samples=2)
    plan = plan_translation(make_raster(pixels), package, options, Compute(device="cpu", batch=batch))
    job = Translation(plan, Path("o.tif"), Path("std.tif"))
    whole = rows_of(job, (0, height))
    start = data.draw(st.integers(0, height - 1))
    stop = data.draw(st.integers(start + 1, height))
    part = rows_of(job, (start, stop))
    assert same(part, [(p[:, start:stop], m[:, start:stop]) for p, m in whole])


@pytest.mark.parametrize("start, stop", [(0, 7), (3, 120), (90, 170), (169, 170)])
def test_rows_of_an_extent_on_a_matched_grid_made_alone_have_the_bits_of_the_whole(make_raster, make_package, start,
                                                                                  stop):
    source = make_raster(np.random.default_rng(0).normal(0.5, 2, (3, 170, 80)).astype("float32"))
    package = make_package(steps=2, pixel_size_m=40)
    options = Options(tile=32, match_grid=True, restore_grid=True)
    job = Translation(plan_translation(source, package, options, Compute(device="cpu")), Path("o.tif"))
    (pixels, mask), = rows_of(job, (0, 170))
    assert same(rows_of(job, (start, stop)), [(pixels[:, start:stop], mask[:, start:stop])])


@pytest.mark.parametrize("resampling", ["nearest", "cubic"])
@pytest.mark.parametrize("start, stop", [(0, 700), (600, 1300), (1299, 1300)])
def test_reprojected_rows_made_alone_have_the_bits_of_the_whole(make_raster, resampling, start, stop):
    source = RasterSource.open(make_raster(np.random.default_rng(0).integers(0, 9999, (2, 900, 300), "uint16")))
    target = Grid(source.grid.crs, source.grid.transform @ rasterio.Affine.rotation(10) @ rasterio.Affine.scale(0.7),
                  1300, 400)
    job = Reprojection(WarpedSource(source, target, Warping(resampling)), Path("o.tif"))
    (pixels, mask), = rows_of(job, (0, 1300))
    assert same(rows_of(job, (start, stop)), [(pixels[:, start:stop], mask[:, start:stop])])


CPU = Compute(device="cpu")
CHANGES = {"tile": 32, "overlap": 4, "precision": "bf16", "seed": 1, "samples": 2, "match_grid": True,
           "restore_grid": True, "back_project": True, "to_db": True, "input_scale": 2.0,
           "input_range": (0.0, 1.0), "norm_statistics": "tile"}


def test_the_fingerprint_is_json_and_names_all_that_pixels_depend_on(make_raster, make_package):
    source = make_raster("float32")
    assert {*CHANGES, "steps"} == {field.name for field in fields(Options)}  # steps: a model's own table

    def facts(package=None, compute=CPU, **chosen):
        planned = {name: chosen.pop(name) for name in ("tile", "overlap") if name in chosen}
        plan = plan_translation(source, package or identity_package(3), Options(**planned), compute)
        with_grid = {"match_grid": True} if "restore_grid" in chosen else {}
        plan = replace(plan, options=replace(plan.options, **with_grid, **chosen))
        return json.loads(json.dumps(Translation(plan, Path("o.tif")).fingerprint))

    plain = facts()
    assert facts() == plain
    for name, value in CHANGES.items():
        assert facts(**{name: value}) != plain, name
    one, two = (make_package(name, steps=steps) for steps, name in enumerate(("one", "two"), 1))
    assert facts(package=one) != plain and facts(package=one)["steps"] != facts(package=two)["steps"]
    assert facts(compute=Compute(device="cpu", batch=2)) != plain  # which changes the last bits
    assert facts(compute=Compute(device="cpu", limits=Limits(allow_remote=True))) == plain
    with rasterio.open(source, "r+") as data:
        data.write(data.read(1) + 1, 1)
    assert facts() != plain
