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
from geoi2i.training.windows import WindowSampler, valid_fractions


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


@pytest.mark.parametrize("height, width, side", [(90, 120, 16), (97, 131, 33), (5000, 70, 40), (60, 60, 60)])
@pytest.mark.parametrize("holes", ["none", "nodata", "mask", "all"])
def test_the_fractions_of_windows_are_means_over_them(make_raster, height, width, side, holes):
    """By the simplest loop, over the pixels that GDAL shows of a raster that is too large."""
    generator = np.random.default_rng(0)
    pixels, empty = generator.integers(1, 250, (2, height, width), "uint8"), generator.random((2, height, width)) < 0.3
    pixels[empty if holes == "nodata" else empty & (holes == "all")] = 0
    mask = np.where(empty[0], 0, 255).astype("uint8") if holes == "mask" else None
    if holes == "all":
        pixels[:] = 0
    path = make_raster(pixels, mask=mask, nodata=0 if holes in ("nodata", "all") else None)
    factor = max(1, height / 4096)
    with rasterio.open(path) as data:
        small = round(height / factor), round(width / factor)
        valid = (data.read_masks(out_shape=(2, *small)) != 0).all(0)
    rows, cols = generator.integers(0, height - side + 1, 50), generator.integers(0, width - side + 1, 50)
    down, across = (size / whole for size, whole in zip(small, (height, width)))
    wanted = [valid[round(row * down) : round((row + side) * down), round(col * across) : round((col + side) * across)]
              .mean() for row, col in zip(rows, cols)]
    assert valid_fractions(RasterSource.open(path), rows, cols, side).tolist() == wanted
