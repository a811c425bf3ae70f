"""Laws of the domain gap: models of case I are those of case II, a shift of the sensor opens it, pairs close some."""

import json
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from geoi2i.core.errors import RecipeError
from geoi2i.core.evaluation.evaluate import EvaluationOptions
from geoi2i.core.grid import Grid
from geoi2i.core.metrics import rmse
from geoi2i.training.domain_gap import Degradation, Split, by_tile, domain_gap
from geoi2i.training.domain_gap_page import interval, page
from geoi2i.training.recipe import describe_bands, make_recipe

pytestmark = pytest.mark.slow


def write(path, pixels, size, **facts):
    with rasterio.open(path, "w", driver="GTiff", count=len(pixels), height=pixels.shape[1], width=pixels.shape[2],
                       dtype="float32", crs="EPSG:32633", transform=Affine(size, 0, 0, 0, -size, 0), **facts) as out:
        out.write(pixels.astype("float32"))
    return str(path)


@pytest.fixture
def scene(tmp_path):
    """A fine image, and one of a sensor with a wider spread, another gain and another offset."""
    rng = np.random.default_rng(0)
    fine = np.kron(rng.normal(100, 30, (2, 36, 16)), np.ones((4, 4))) + rng.normal(0, 2, (2, 144, 64))
    wide = torch.nn.functional.avg_pool2d(torch.from_numpy(fine)[None], 5, 1, 2, count_include_pad=False)[0].numpy()
    coarse = 0.7 * wide.reshape(2, 72, 2, 32, 2).mean((2, 4)) + 40
    return write(tmp_path / "coarse.tif", coarse, 20), write(tmp_path / "fine.tif", fine, 10)


@pytest.fixture
def recipe(scene):
    def make(method="pix2pix", lambda_gan=0, **data):
        content = {"name": method, "method": method, "data": {
            "source": {"paths": [scene[0]]}, "target": {"paths": [scene[1]]}, "window_px": 16, "batch": 4, "scale": 2,
            **data}, "network": {"name": "unet", "sizes": {"width": 8, "blocks": 1, "levels": 1, "embedding": 8}},
            "optimiser": {"lr": 2e-3, "ema": 0.9}, "budget": {"steps": 60, "preview_every": 60},
            "settings": {"lambda_gan": lambda_gan} if method == "pix2pix" else {"steps": 2, "indices": 20}}
        return describe_bands(make_recipe(content, {}, "test"))

    return make


def test_a_shift_of_the_sensor_opens_a_gap_that_pairs_close(recipe, tmp_path):
    cubic, linear, regression, flow = domain_gap([recipe(), recipe("flow")], tmp_path / "gap", seeds=2, tile_px=16,
                                                 device="cpu", report=lambda text: None)
    assert (cubic.trial, linear.trial, regression.trial, flow.trial) == ("cubic", "linear", "pix2pix", "flow")
    fitted = {case: rows["PSNR"].mean() for case, rows in linear.figures.items()}
    assert fitted["II"] < fitted["I"] - 3 and fitted["III"] > fitted["II"] + 2, "least squares have the gap, too"
    psnr = {case: rows["PSNR"].mean() for case, rows in regression.figures.items()}
    assert psnr["II"] < psnr["I"] - 3 and psnr["III"] > psnr["II"] + 2
    plain = {case: rows["PSNR"].mean() for case, rows in cubic.figures.items()}
    assert plain["II"] == plain["III"] and plain["III-h"] > plain["III"] + 2, "a line takes gain and offset away"
    assert psnr["I"] > plain["I"], "trained on what it is judged by, it is better than the kernel"
    # 72 rows: 46 train, 8 belong to neither, 18 are judged: 36 x 64 fine pixels are two rows of four tiles.
    assert all(rows["SSIM"].shape == (2, 8) for rows in flow.figures.values())
    for each in (regression, flow):
        assert each.models["I"] == each.models["II"] != each.models["III"]
        assert len(set(each.models.values())) == 3
    text = page([cubic, linear, regression, flow], "facts")
    assert "| pix2pix | gap, II - I | -" in text and "8 tiles" in text
    # What stands there is not trained again.
    again = domain_gap([recipe()], tmp_path / "gap", seeds=2, tile_px=16, device="cpu", report=pytest.fail)[2]
    assert np.array_equal(again.figures["III"]["PSNR"], regression.figures["III"]["PSNR"])
    with pytest.raises(RecipeError, match="holds a model of method pix2pix with other settings"):
        domain_gap([recipe(lambda_gan=1.0)], tmp_path / "gap", seeds=2, tile_px=16, device="cpu", report=pytest.fail)
    with pytest.raises(RecipeError, match="experiment with other data, budget or degradation"):
        domain_gap([recipe()], tmp_path / "gap", degradation=Degradation(2.0), tile_px=16, device="cpu")


def test_parts_share_no_row(recipe, tmp_path):
    assert Split(0.5, 4).rows(72) == {"north": (0, 36), "south": (40, 72)}
    # The south begins where a fine row does, of 2.5 to a coarse one.
    assert Split(0.5, 5).rows(72, Fraction(5, 2)) == {"north": (0, 36), "south": (42, 72)}


def test_degrading_keeps_means_and_is_that_of_its_model():
    fine, coarse = (Grid("EPSG:32633", Affine(s, 0, 0, 0, -s, 0), 720 // s, 720 // s) for s in (10, 30))
    from pyproj import CRS

    fine, coarse = (type(g)(CRS(g.crs).to_wkt(), g.transform, g.height, g.width) for g in (fine, coarse))
    flat = torch.full((1, 72, 72), 7.0)
    assert torch.allclose(Degradation(1.0, 0.0)(flat, fine, coarse, 3, 0), torch.full((1, 24, 24), 7.0), atol=1e-4)
    image = torch.rand(1, 72, 72)
    plain = Degradation(0.0, 0.0)(image, fine, coarse, 3, 0)
    assert torch.allclose(plain, torch.nn.functional.avg_pool2d(image, 3), atol=1e-5)
    # A point spreads as a Gaussian of the stated width does: half as high half a width away.
    point = torch.zeros(1, 72, 72)
    point[0, :, 36] = 1.0
    blurred = Degradation(2.0, 0.0)(point, fine, fine, 3, 0)[0, 36]
    assert blurred[36 + 3] / blurred[36] == pytest.approx(0.5, abs=0.01)
    noisy = Degradation(0.0, 0.5)(image, fine, coarse, 3, 0)
    assert (noisy - plain).std() == pytest.approx(0.5 * float(plain.std()), rel=0.1)


def test_tiles_and_intervals():
    wanted, made = np.random.default_rng(0).normal(size=(2, 1, 50, 33))
    found = by_tile(wanted, made, 16, [rmse()])
    assert len(found["RMSE"]) == 6
    assert found["RMSE"][0] == pytest.approx(np.sqrt(((wanted - made)[0, :16, :16] ** 2).mean()))
    mean, low, high = interval(np.random.default_rng(1).normal(1, 2, 400))
    assert low < mean < high and high - low == pytest.approx(2 * 1.96 * 2 / 20, rel=0.15)


@pytest.mark.parametrize("change, words", [
    ({"scale": 1}, r"and data.scale 1: name one of each and set data.scale"),
    ({"scale": 3}, r"do not divide those of the source by 3: give data.match_grid"),
    ({"window_px": 128}, "too small to be split: both parts must be 128 fine pixels high")])
def test_what_is_no_pair_of_one_scene_is_refused(recipe, tmp_path, change, words):
    with pytest.raises(RecipeError, match=words):
        domain_gap([recipe(**change)], tmp_path / "gap", device="cpu")
    assert not (tmp_path / "gap").exists(), "the folder is still anybody's"


@pytest.mark.parametrize("options, words", [
    ({"tile_px": 48}, "The south of .*fine.tif is 36 x 64 fine pixels, and tiles of 48 are judged there"),
    ({"degradation": Degradation(60.0)}, "A point spread function of 60 coarse pixels reaches over")])
def test_tiles_and_blurs_that_do_not_fit_are_refused(recipe, tmp_path, options, words):
    with pytest.raises(RecipeError, match=words):
        domain_gap([recipe()], tmp_path / "gap", device="cpu", report=pytest.fail, **{"tile_px": 16} | options)


def test_methods_have_names_of_their_own(recipe, tmp_path):
    with pytest.raises(RecipeError, match="here are pix2pix, pix2pix, besides cubic"):
        domain_gap([recipe(), recipe()], tmp_path / "gap", device="cpu")


@pytest.mark.parametrize("judging, words", [
    (EvaluationOptions(("fid",)), "fid does not compare an image with the true one"),
    (EvaluationOptions(("qnr",)), "qnr does not compare"),
    (EvaluationOptions(("lpips_sat",)), "lpips_sat cannot be computed \\(it is of red, green and blue")])
def test_a_metric_that_cannot_judge_is_refused_before_anything_is_trained(recipe, tmp_path, judging, words):
    with pytest.raises(RecipeError, match=words):
        domain_gap([recipe()], tmp_path / "gap", judging=judging, device="cpu", tile_px=16,
                   report=pytest.fail)


def test_the_command_writes_a_page(scene, tmp_path):
    command = [sys.executable, "-m", "geoi2i", "experiment", "domain-gap", "regression", "--source", scene[0],
               "--target", scene[1], "-o", str(tmp_path / "gap"), "--seeds", "1", "--steps", "2", "--judged-tile", "16",
               "--device", "cpu", "--metric", "psnr", "--metric", "mae"]
    small = {"data.scale": 2, "data.window_px": 16, "data.batch": 2, "network.sizes.width": 4,
             "network.sizes.levels": 1}
    for key, value in small.items():
        command += ["--set", f"{key}={value}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "| method | case | PSNR | MAE |" in (tmp_path / "gap" / "domain-gap.md").read_text()
    assert "| regression | III-h |" in (tmp_path / "gap" / "domain-gap.md").read_text()
    assert {each["method"] for each in json.loads((tmp_path / "gap" / "domain-gap.json").read_text())} == {
        "cubic", "linear", "regression"}
    done = subprocess.run([*command[:6], "--source", scene[0], "--target", scene[1], "-o", str(tmp_path / "x"), "--set",
                           "data.scale=9", "--steps", "1"], capture_output=True, text=True)
    assert done.returncode == 2 and "do not divide those of" in done.stderr and "Traceback" not in done.stderr
