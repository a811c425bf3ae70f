"""Laws of windows: training shows a network the very numbers that translation shows it."""

import numpy as np
import pytest
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
