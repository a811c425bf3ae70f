"""Laws of windows: training shows a network the very numbers that translation shows it."""

import numpy as np
import pytest
import rasterio
import torch
from geoi2i.core.grid import Window
from geoi2i.core.inference.fill import fill_window
from geoi2i.core.pipeline.plan import Compute, Options
from geoi2i.core.pipeline.planning import plan_translation
from geoi2i.core.raster.source import RasterSource
from geoi2i.training import windows
from geoi2i.training.windows import WindowSampler


@pytest.mark.parametrize("dtype, scales, offsets", [("uint8", None, None), ("uint16", (0.01,) * 3, (-5.0, 0.0, 7.0)),
                                                    ("float32", (2.0,) * 3, (0.5,) * 3)])
@pytest.mark.parametrize("holes", [False, True])
def test_training_and_translation_show_the_same_numbers(make_raster, make_package, dtype, scales, offsets, holes):
    generator = np.random.default_rng(0)
    mask = np.where(generator.random((80, 70)) < 0.1 * holes, 0, 255).astype("uint8")
    path = make_raster(generator.integers(1, 250, (3, 80, 70)).astype(dtype), mask=mask, scales=scales, offsets=offsets)
    package = make_package(minimum=0.0, maximum=3.0)
    plan = plan_translation(path, package, Options(), Compute(device="cpu", force=True))
    sampler = WindowSampler([RasterSource.open(path)], package.manifest.normalise_in, 32, 0.1, ())
    for pick in (0, len(sampler.candidates.row) // 2):
        row, col = int(sampler.candidates.row[pick]), int(sampler.candidates.col[pick])
        rows = plan.raster.read(Window(row, col, 32, 32))
        shown = plan.radiometry.from_stored(torch.from_numpy(rows.pixels.astype("float32")))
        if rows.mask is not None and not rows.mask.all():
            valid = torch.from_numpy(rows.mask != 0).all(0, keepdim=True)
            shown = fill_window(shown, valid, plan.radiometry.fill)
        assert torch.equal(sampler.windows(np.array([pick]))[0], shown)


def test_a_huge_raster_offers_no_more_places_than_a_table_holds(make_raster, monkeypatch):
    raster = RasterSource.open(make_raster(np.full((1, 400, 400), 9, "uint8")))
    counts = []
    for most in (1 << 22, 1000, 50):
        monkeypatch.setattr(windows, "_MOST_PLACES", most)
        counts.append(len(WindowSampler([raster], None, 16, 0.5, ()).candidates.row))
    assert counts[0] == 193**2 and counts[1] <= 1100 and counts[2] <= 64 and counts[2] > 20


@pytest.mark.parametrize("look", [4096, 150])
@pytest.mark.parametrize("kind", ["nodata", "mask", "NaN", "none"])
def test_windows_are_weighted_by_their_valid_share(make_raster, monkeypatch, look, kind):
    """The means of booleans, window by window, and no other windows than those."""
    monkeypatch.setattr(windows, "_LOOK_PX", look)
    generator = np.random.default_rng(0)
    valid = generator.random((700, 411)) > 0.3
    valid[100:400, 30:200] = kind == "none"
    valid |= kind == "none"
    pixels = generator.integers(1, 250, (2, 700, 411)).astype("float32" if kind == "NaN" else "uint8")
    if kind in ("nodata", "NaN"):
        pixels[1, ~valid] = np.nan if kind == "NaN" else 0
    path = make_raster(pixels, nodata=0 if kind == "nodata" else None,
                       mask=(valid * 255).astype("uint8") if kind == "mask" else None)
    raster, side = RasterSource.open(path), 64
    rows, cols, found = windows._places(raster, side)
    height, width = raster.decimated(look).pixels.shape[1:]
    with rasterio.open(path) as data:
        small = np.stack([data.read(k, out_shape=(height, width)) for k in (1, 2)])
        shown = {"nodata": small != 0, "NaN": np.isfinite(small), "none": small == small,
                 "mask": data.read_masks([1], out_shape=(1, height, width)) != 0}[kind].all(0)
    at = [np.rint(v).astype(int) for v in (rows * height / 700, (rows + side) * height / 700,
                                           cols * width / 411, (cols + side) * width / 411)]
    means = [shown[top:bottom, left:right].mean() for top, bottom, left, right in zip(*at)]
    assert np.array_equal(found, means) and len(found) > 1000
    kept = WindowSampler([raster], None, side, 0.5, ()).candidates
    chosen = np.array(means) >= 0.5
    assert np.array_equal(kept.row, rows[chosen]) and np.array_equal(kept.col, cols[chosen])
