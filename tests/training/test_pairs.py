"""Laws of pairs: both windows show the same area, flipped alike, and what is no pair is refused in a sentence."""

from fractions import Fraction

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from geoi2i.core.errors import RecipeError
from geoi2i.core.raster.source import RasterSource
from geoi2i.core.reproject.warped_raster import finer
from geoi2i.training.augmentation import augmentation
from geoi2i.training.data import open_domains
from geoi2i.training.pairs import pair
from geoi2i.training.recipe import describe_bands, make_recipe
from geoi2i.training.windows import WindowSampler


def write(path, pixels, left=0.0, top=0.0, size=30.0, crs="EPSG:32633", nodata=None):
    with rasterio.open(path, "w", driver="GTiff", count=1, height=pixels.shape[0], width=pixels.shape[1],
                       dtype="float32", crs=crs, nodata=nodata, transform=Affine(size, 0, left, 0, -size, top)) as out:
        out.write(pixels.astype("float32"), 1)
    return str(path)


def places(height, width, size=30.0, left=0.0, top=0.0):
    """A raster whose values tell where each pixel is: 1000 x column + row, in units of 30 m, at its centre."""
    col, row = (left + size * (np.arange(width) + 0.5)) / 30, (-top + size * (np.arange(height) + 0.5)) / 30
    return 1000 * col[None, :] + row[:, None]


def paired(source, target, side=16, scale=Fraction(1), min_valid=0.9):
    rasters = [RasterSource.open(path) for path in (source, target)]
    if scale != 1:
        rasters[0] = finer(rasters[0], scale)
    sides = [WindowSampler([raster], None, side, 0.0, ()) for raster in rasters]
    pair(*sides, min_valid)
    return sides


@pytest.mark.parametrize("scale, left, top, height, width", [
    (1, 0, 0, 90, 70), (1, 300, -240, 60, 50), (1, -90, 150, 120, 100), (3, 300, -240, 150, 180),
    (3, -90, 150, 300, 300), (Fraction(5, 2), 0, 0, 200, 200), (Fraction(5, 2), 60, -120, 150, 150)])
def test_windows_of_a_pair_show_the_same_ground(tmp_path, scale, left, top, height, width):
    size = 30 / float(scale)
    source = write(tmp_path / "a.tif", places(90, 70))
    target = write(tmp_path / "b.tif", places(height, width, size, left, top), left, top, size)
    ours, theirs = paired(source, target, scale=Fraction(scale))
    picks = ours.pick(40, torch.Generator().manual_seed(0))
    one, two = ours.windows(picks), theirs.windows(picks)
    assert len(set(picks)) > 3
    # A plane is what cubic kernels keep, but at the border, where they reach out.
    assert (one - two)[:, :, 5:-5, 5:-5].abs().max() < 0.1  # of 1000 a pixel


def test_windows_are_valid_in_both(tmp_path):
    pixels = places(90, 70)
    holed, other = pixels.copy(), pixels.copy()
    holed[:30], other[60:] = -1, -1
    ours, theirs = paired(write(tmp_path / "a.tif", holed, nodata=-1), write(tmp_path / "b.tif", other, nodata=-1),
                          side=8, min_valid=1.0)
    picks = ours.pick(60, torch.Generator().manual_seed(0))
    assert min(ours.windows(picks).min(), theirs.windows(picks).min()) > 0


@pytest.mark.parametrize("facts, words", [
    ({"left": 7.0}, r"are 0.23 of a pixel apart: give data.match_grid = true"),
    ({"size": 10.0}, r"data.scale makes of the source is 3 x 3 pixels of the target .*b.tif: change data.scale"),
    ({"crs": "EPSG:32634"}, r"different CRSs: give data.match_grid = true"),
    ({"left": 30_000.0}, r"No window of 16 pixels has enough valid pixels in both .*check that they overlap"),
    ({"nodata": 5.0}, r"No window of 16 pixels")])
def test_what_is_no_pair_is_refused(tmp_path, facts, words):
    pixels = np.full((90, 70), 5.0) if "nodata" in facts else places(90, 70)
    source, target = write(tmp_path / "a.tif", places(90, 70)), write(tmp_path / "b.tif", pixels, **facts)
    with pytest.raises(RecipeError, match=words):
        paired(source, target) if "nodata" not in facts else paired(source, target, min_valid=0.5)


@pytest.fixture
def recipe(tmp_path):
    write(tmp_path / "a.tif", places(90, 70))
    write(tmp_path / "b.tif", places(280, 220, 10, 7, -4), 7, -4, 10)

    def make(method="pix2pix", **data):
        content = {"name": "pair", "method": method, "data": {
            "source": {"paths": [str(tmp_path / "a.tif")]}, "target": {"paths": [str(tmp_path / "b.tif")]},
            "window_px": 16, "batch": 8, **data}}
        return describe_bands(make_recipe(content, {}, "test"))

    return make


def test_targets_are_seen_on_the_pixels_of_their_sources(recipe):
    made = recipe(match_grid=True)
    domains = open_domains(made)
    assert domains.target.rasters[0].grid.matches(domains.source.rasters[0].grid)
    picks = domains.source.pick(20, torch.Generator().manual_seed(0))
    pixels = [sampler.windows(picks) for sampler in (domains.source, domains.target)]
    low, high = (np.array([getattr(b, key) for b in (made.bands.source[0], made.bands.target[0])])
                 for key in ("minimum", "maximum"))
    one, two = ((each + 1) / 2 * (high[k] - low[k]) + low[k] for k, each in enumerate(pixels))
    assert (one - two).abs().max() < 1.0  # of 1000 a pixel


def test_a_pair_is_flipped_alike(recipe):
    made = recipe(match_grid=True)
    domains = open_domains(made)
    flip, turned = augmentation(made, domains.paired), 0
    for step in range(4):
        torch.manual_seed(step)
        batch = domains.batch(made, step)
        assert set(batch) == {"source", "target"}
        same = {"source": batch["source"], "target": batch["source"].clone()}
        found = flip(same)
        assert torch.equal(found["source"], found["target"])
        turned += not torch.equal(found["source"], same["source"])
    assert turned


def test_scales_that_make_no_sense_are_refused(recipe):
    for scale in ("1/2", 17, "nine"):
        with pytest.raises(RecipeError, match=r"data\.scale"):
            recipe(scale=scale)


def test_different_numbers_of_rasters_are_no_pairs(recipe, tmp_path):
    write(tmp_path / "c.tif", places(90, 70))
    made = recipe()
    more = made.data.model_copy(update={"source": made.data.source.model_copy(
        update={"paths": (*made.data.source.paths, str(tmp_path / "c.tif"))})})
    with pytest.raises(RecipeError, match="2 source and 1 target rasters do not pair up"):
        open_domains(made.model_copy(update={"data": more}))


def test_targets_of_other_ground_are_named(recipe, tmp_path):
    write(tmp_path / "b.tif", places(90, 70), 90_000.0)
    with pytest.raises(RecipeError, match=r"b.tif does not overlap its source"):
        open_domains(recipe(match_grid=True))
