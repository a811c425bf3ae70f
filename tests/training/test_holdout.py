"""What is held out is never trained on, lies a window away from it, and is the same ground on both sides."""

import json

import numpy as np
import pytest
import rasterio
from affine import Affine
from geoi2i.core.errors import RecipeError
from geoi2i.core.grid import Window
from geoi2i.core.raster.source import RasterSource
from geoi2i.training.data import open_domains
from geoi2i.training.holdout import Part, split
from geoi2i.training.recipe import describe_bands, make_recipe

PLACE, SIDE = Affine(30, 0, 500_000, 0, -30, 4_500_000), 16


def write(path, height=200, width=180, place=PLACE, seed=0):
    pixels = np.random.default_rng(seed).integers(1, 255, (2, height, width), dtype=np.uint8)
    with rasterio.open(path, "w", driver="GTiff", count=2, height=height, width=width, dtype="uint8",
                       crs="EPSG:32631", transform=place) as out:
        out.write(pixels)
    return str(path)


def domains(sources, targets, validation, method="pix2pix", **data):
    content = {"name": "a", "method": method, "data": {
        "source": {"paths": sources}, "target": {"paths": targets}, "window_px": SIDE, "validation": validation,
        **data},
        "network": {"sizes": {"width": 4, "blocks": 1, "embedding": 8}}}
    return open_domains(describe_bands(make_recipe(content, {}, "test")))


def polygons(folder):
    x, y = PLACE * (100, 40)
    ring = [[x, y], [x + 2000, y - 300], [x + 1500, y - 3000], [x, y]]
    path = folder / "areas.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "crs": {"type": "name", "properties": {
        "name": "EPSG:32631"}}, "features": [{"type": "Feature", "properties": {}, "geometry": {
            "type": "Polygon", "coordinates": [ring]}}]}))
    return str(path)


def covered(candidates, shape, side=SIDE, raster=0):
    """Pixels (h,w) that any window has."""
    mask = np.zeros(shape, bool)
    for which, row, col in zip(candidates.raster, candidates.row, candidates.col):
        if which == raster:
            mask[row : row + side, col : col + side] = True
    return mask


@pytest.mark.parametrize("kind", ["share", "blocks", "polygons"])
@pytest.mark.parametrize("method", ["pix2pix", "cut"])
def test_no_window_of_training_is_nearer_than_a_window_to_one_that_is_held_out(tmp_path, kind, method):
    validation = {"share": 0.3, "blocks": "blocks", "polygons": polygons(tmp_path)}[kind]
    found = domains([write(tmp_path / "a.tif")], [write(tmp_path / "b.tif", seed=1)], validation, method, min_valid=1.0)
    for side in ("source", "target"):
        train, held = (covered(getattr(each, side).candidates, (200, 180)) for each in (found, found.held_out))
        assert train.any() and held.any()
        rows, cols = np.nonzero(held)
        for row, col in zip(rows, cols):
            near = train[max(0, row - SIDE) : row + SIDE + 1, max(0, col - SIDE) : col + SIDE + 1]
            assert not near.any()


def test_a_share_of_few_rasters_is_their_last_rows_and_of_many_whole_rasters(tmp_path):
    one = domains([write(tmp_path / "a.tif")], [write(tmp_path / "b.tif")], 0.25, min_valid=1.0)
    assert one.held_out.source.candidates.row.min() >= 150 > 150 - SIDE >= one.source.candidates.row.max() + SIDE
    ours, theirs = ([write(tmp_path / f"{side}{k}.tif", 40, 40) for k in range(10)] for side in "xy")
    many = domains(ours, theirs, 0.2)
    assert set(many.held_out.source.candidates.raster) == {4, 9}
    assert set(many.source.candidates.raster) == set(range(10)) - {4, 9}


def test_rasters_are_held_out_by_name(tmp_path):
    paths = [write(tmp_path / f"{name}.tif") for name in "abc"]
    found = domains(paths, [write(tmp_path / f"{name}_t.tif") for name in "abc"], [paths[1]])
    assert set(found.held_out.source.candidates.raster) == {1} and set(found.source.candidates.raster) == {0, 2}


def test_pairs_are_held_out_together_where_one_side_begins_elsewhere(tmp_path):
    target = write(tmp_path / "b.tif", 230, 190, PLACE @ Affine.translation(-7, -20))
    found = domains([write(tmp_path / "a.tif")], [target], "blocks", min_valid=1.0).held_out
    one, other = found.source.candidates, found.target.candidates
    assert len(one.row) and (other.row - one.row == 20).all() and (other.col - one.col == 7).all()


@pytest.mark.parametrize("gap", [None, 5])
def test_a_part_masks_alike_however_it_is_read(tmp_path, gap):
    raster = RasterSource.open(write(tmp_path / "a.tif", 60, 50), None)

    def area(window):
        rows, cols = (np.arange(first, first + count) for first, count in
                      ((window.row, window.height), (window.col, window.width)))
        return (rows[:, None] > 40) & (cols < 20)

    part = Part(raster, area, gap)
    whole = part.read(Window(0, 0, 60, 50)).mask[0]
    wanted = area(Window(0, 0, 60, 50))
    if gap is not None:
        rows, cols = np.nonzero(wanted)
        wanted = np.array([[np.minimum.reduce(np.maximum(abs(rows - row), abs(cols - col))) > gap for col in range(50)]
                           for row in range(60)])
    assert ((whole != 0) == wanted).all()
    assert (np.concatenate([rows.mask for rows in part.rows()], 1)[0] == whole).all()
    assert (part.decimated(1024).mask[0] == whole).all()
    with part.windows(60) as windows:
        assert (windows.read(Window(30, 10, 25, 30)).mask[0] == whole[30:55, 10:40]).all()


@pytest.mark.parametrize("validation, message", [
    (0.05, "data.validation = 0.05 holds nothing out that can be judged on"),
    ("other.tif", "not one of the source rasters"), ("none/*.tif", "where no raster is found"),
    ("far.geojson", "meet no raster")])
def test_what_holds_nothing_out_is_refused(tmp_path, validation, message):
    if validation == "far.geojson":
        validation = str(tmp_path / validation)
        (tmp_path / "far.geojson").write_text(json.dumps({"type": "Polygon", "coordinates": [
            [[100, 10], [101, 10], [101, 11], [100, 10]]]}))
    if validation == "other.tif":
        validation = write(tmp_path / validation)
    with pytest.raises(RecipeError, match=message):
        domains([write(tmp_path / "a.tif")], [write(tmp_path / "b.tif")], validation)


def test_what_leaves_nothing_to_train_on_is_refused(tmp_path):
    path = write(tmp_path / "a.tif")
    with pytest.raises(RecipeError, match="leaves nothing to train on"):
        domains([path], [write(tmp_path / "b.tif")], path)


def test_parts_of_both_sides_add_up_to_the_whole_without_a_gap(tmp_path):
    raster = RasterSource.open(write(tmp_path / "a.tif", 90, 70), None)
    train, held = split([raster], [raster], "blocks", 8, 0, paired=True)
    masks = [side[0].read(Window(0, 0, 90, 70)).mask != 0 for part in (train, held) for side in part]
    assert (masks[0] ^ masks[2]).all() and (masks[1] ^ masks[3]).all() and masks[2].any()
