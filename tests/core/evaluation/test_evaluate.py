"""An evaluation says of rasters what measures say of arrays, names what it did, and goes on where one thing fails."""

import hashlib
import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from affine import Affine
from geoi2i.core.errors import RasterError
from geoi2i.core.evaluation.evaluate import EvaluationOptions, evaluate
from geoi2i.core.evaluation.results import save_csv, save_json, table
from geoi2i.core.metrics import measured, psnr, rmse, ssim
from geoi2i.core.metrics.catalogue import EXTRAS, METRICS, better, definition
from geoi2i.core.metrics.weights import WEIGHTS
from metric_inputs import sharpened
from scipy.ndimage import gaussian_filter

PLACE = Affine(10, 0, 500_000, 0, -10, 4_500_000)
RNG = np.random.default_rng(0)
TRUTH = np.clip(gaussian_filter(RNG.normal(size=(3, 256, 320)), (0, 2, 2)) * 300 + 120, 2, 250).astype("uint8")
GUESS = np.clip(TRUTH * 1.02 + RNG.normal(0, 5, TRUTH.shape), 0, 255).astype("uint8")


@pytest.fixture
def tif(make_raster):
    """`tif(pixels, name)`: the path of a raster on 10 m pixels."""
    return lambda pixels, name, **facts: make_raster(pixels, name, **{"transform": PLACE, **facts})


@pytest.fixture
def truth(tif):
    return tif(TRUTH, "truth.tif")


@pytest.fixture
def guess(tif):
    return tif(GUESS, "guess.tif")


def scores(evaluation, kind):
    return {r.metric: r.score for c, r in evaluation.rows() if c.kind == kind}


def only(*names, **facts):
    return EvaluationOptions(tuple(names), **facts)


def test_against_a_reference_every_usual_metric_has_its_value(guess, truth):
    evaluation = evaluate(guess, reference=truth)
    found = scores(evaluation, "reference")
    usual = {name for name, metric in METRICS.items() if metric.usual and metric.kind in ("paired", "sets")}
    assert set(found) == usual and all(np.isfinite(s.value) for s in found.values())
    for name, measure in (("psnr", psnr(255)), ("ssim", ssim(255)), ("rmse", rmse())):
        assert found[name].value == pytest.approx(measured(measure, TRUTH, GUESS), rel=1e-12)
    assert found["q2n"].name == "Q4" and found["psnr"].settings == {"peak": 255.0}
    (comparison,) = [c for c in evaluation.comparisons if c.kind == "reference"]
    assert [name for name, _ in comparison.bands] == ["red", "green", "blue"]
    assert comparison.bands[0][1].bias == pytest.approx((GUESS[0] - TRUTH[0].astype(float)).mean())


@pytest.mark.slow
def test_the_pansharpening_indices_are_the_toolboxs_piece_by_piece(tif, monkeypatch):
    """D_lambda, D_s, Khan's, QNR and HQNR of DLPan-Toolbox run in GNU Octave, in patches of 64 pixels."""
    from geoi2i.core.evaluation import compare as comparison

    monkeypatch.setattr(comparison, "_PATCH_PX", 64)
    fused, ms, pan = sharpened(4, 11)
    paths = (tif(fused.astype("uint16"), "f.tif"), tif(pan[None].astype("uint16"), "p.tif"),
             tif(ms.astype("uint16"), "m.tif", transform=PLACE @ Affine.scale(4)))
    found = scores(evaluate(paths[0], pan=paths[1], source=paths[2], options=only(sensor="QB")), "pan")
    expected = {"d_lambda": 0.0100937327933671, "d_s": 0.0180999599042346, "d_lambda_khan": 0.0436202721264637,
                "qnr": 0.971989003461242, "hqnr": 0.939069293145802}
    assert {k: s.value for k, s in found.items()} == pytest.approx(expected, abs=1e-12)
    alone = scores(evaluate(paths[0], pan=paths[1], source=paths[2], options=only("hqnr", sensor="QB")), "pan")
    assert alone["hqnr"].value == found["hqnr"].value and "d_lambda" not in alone


def test_a_sensor_of_other_bands_is_refused(tif):
    fused, ms, pan = sharpened(4, 13, 128)
    paths = (tif(fused.astype("uint16"), "f.tif"), tif(pan[None].astype("uint16"), "p.tif"),
             tif(ms.astype("uint16"), "m.tif", transform=PLACE @ Affine.scale(4)))
    found = evaluate(paths[0], pan=paths[1], source=paths[2], options=only(sensor="WV3"))
    assert "Sensor WV3 has 8 bands" in next(c.failure for c in found.comparisons if c.kind == "pan")


def test_a_pan_of_other_pixels_is_refused_and_the_source_still_compared(tif):
    fused, ms, pan = sharpened(4, 13, 128)
    path = tif(fused.astype("uint16"), "f.tif")
    coarse = tif(ms.astype("uint16"), "m.tif", transform=PLACE @ Affine.scale(4))
    odd = tif(pan[None, :-3].astype("uint16"), "p.tif")
    evaluation = evaluate(path, pan=odd, source=coarse)
    (failed,) = [c for c in evaluation.comparisons if c.failure]
    assert failed.kind == "pan" and "pixel by pixel" in failed.failure
    assert np.isfinite(scores(evaluation, "source")["ssim"].value)


def test_a_finer_prediction_is_averaged_over_its_sources_pixels(tif):
    """Means of 4 x 4 pixels are the source: no bias, slope 1; what interpolation cannot add lies above its Nyquist."""
    fine = np.clip(gaussian_filter(RNG.normal(size=(2, 512, 512)), (0, 1, 1)) * 300 + 1000, 0, 4000)
    coarse = fine.reshape(2, 128, 4, 128, 4).mean((2, 4))
    guess = tif(fine.astype("float32"), "g.tif")
    source = tif(coarse.astype("float32"), "s.tif", transform=PLACE @ Affine.scale(4))
    evaluation = evaluate(guess, source=source)
    (comparison,) = [c for c in evaluation.comparisons if c.kind == "source"]
    assert "over which the prediction was averaged" in comparison.statement
    for _, row in comparison.bands:
        assert row.bias == pytest.approx(0, abs=1e-3) and row.slope == pytest.approx(1, abs=1e-5)
    assert "mid_energy" not in scores(evaluation, "source")
    assert scores(evaluation, "source")["edge_displacement"].value == pytest.approx(0, abs=1e-4)
    own = scores(evaluation, "prediction")
    assert own["above_nyquist"].value > 0.4 > 0.05 > own["above_nyquist_of_cubic"].value
    assert own["above_nyquist"].settings["cycles per pixel"] == 0.125


@pytest.mark.slow
def test_targets_of_any_place_and_size_are_one_set(tif, guess):
    parts = [tif(TRUTH[:, :100], "a.tif"),
             tif(TRUTH[:, 100:, :200], "b.tif", transform=PLACE @ Affine.translation(9, 9)),
             tif(TRUTH[:, 100:, 200:], "c.tif", crs="EPSG:4326", transform=Affine(1e-4, 0, 5, 0, -1e-4, 40))]
    same = tif(TRUTH, "whole.tif")
    found, whole = (scores(evaluate(guess, targets=t), "targets") for t in (parts, [same]))
    for name in ("chi_square", "wasserstein_1", "jensen_shannon"):
        assert found[name].value == pytest.approx(whole[name].value, rel=1e-9)
        paired = scores(evaluate(guess, reference=same), "reference")[name].value
        assert whole[name].value == pytest.approx(paired, rel=1e-12)
    twice = scores(evaluate(guess, targets=[same, same]), "targets")
    assert all(twice[name].value == pytest.approx(whole[name].value, rel=1e-12) for name in whole)
    itself = scores(evaluate(guess, targets=[guess]), "targets")
    assert itself["chi_square"].value == 0 and itself["high_energy"].value == pytest.approx(1)


def test_standard_deviations_are_judged_by_the_errors(tif, truth):
    """Normal errors of 5 with a stated deviation of 5 are calibrated; half of it is not."""
    exact = TRUTH.astype("float32") + RNG.normal(0, 5, TRUTH.shape).astype("float32")
    path = tif(exact, "e.tif")
    good, bad = (scores(evaluate(path, reference=truth, uncertainty=tif(np.full_like(exact, s), f"{s}.tif")),
                        "reference") for s in (5.0, 2.5))
    assert good["ece"].value < 0.005 < 0.09 < bad["ece"].value
    assert good["nll"].value == pytest.approx(np.log(5 * np.sqrt(2 * np.pi)) + 0.5, abs=0.01)
    assert good["rmse"].value == pytest.approx(5, abs=0.05)


def test_bands_belong_together_by_name(tif):
    one = tif(GUESS, "p.tif", names=("red", "green", "blue"))
    two = tif(np.concatenate([TRUTH[::-1], TRUTH[:1]]), "r.tif", names=("blue", "green", "red", "nir"))
    said = []
    found = scores(evaluate(one, reference=two, options=only("rmse"), message=said.append), "reference")
    assert found["rmse"].value == pytest.approx(measured(rmse(), TRUTH, GUESS)) and "by name" in said[0]
    other = tif(TRUTH, "o.tif", names=("B4", "B3", "B2"))
    assert evaluate(one, reference=other, options=only("rmse"), message=said.append) and "in order" in said[-1]


def test_bands_that_cannot_be_told_apart_are_refused_until_chosen(tif, guess):
    four = tif(np.concatenate([TRUTH, TRUTH[:1]]), "r.tif", photometric="MINISBLACK")
    with pytest.raises(RasterError, match=r"4 bands and the prediction 3") as error:
        evaluate(guess, reference=four)
    assert "--reference-bands" in str(error.value)
    found = scores(evaluate(guess, reference=four, reference_bands=(1, 2, 3), options=only("rmse")), "reference")
    assert found["rmse"].value == pytest.approx(measured(rmse(), TRUTH, GUESS))


def test_a_source_of_other_bands_is_compared_by_its_mean(tif, guess):
    radar = tif((TRUTH[:1] / 10.0 - 20).astype("float32"), "sar.tif")
    evaluation = evaluate(guess, source=radar)
    found = scores(evaluation, "source")
    assert found["scc_dlpan"].value > 0.5 and found["scc_local"].settings["bands"] == "mean" and "ssim" not in found
    assert "of 3 and 1 bands, which differ, the means" in evaluation.comparisons[0].statement


@pytest.mark.slow
def test_a_metric_without_value_says_why_and_the_others_go_on(tif):
    """Decibels have no relative error; four bands without colours have no colour difference; weights are not here."""
    decibel = [image.astype("float32") / 10 - 30 for image in (GUESS, TRUTH)]
    paths = [tif(np.concatenate([image, image[:1]]), f"{k}.tif") for k, image in enumerate(decibel)]
    found = scores(evaluate(paths[0], reference=paths[1],
                            options=only("rmse", "ergas", "ciede2000", "lpips", "fid", "fsim")), "reference")
    assert {name for name, score in found.items() if np.isfinite(score.value)} == {"rmse", "fsim"}
    assert "decibel" in found["ergas"].note and "--rgb" in found["ciede2000"].note
    assert "colour" in found["lpips"].note or "--rgb" in found["lpips"].note
    chosen = scores(evaluate(paths[0], reference=paths[1], options=only("ciede2000", "lpips", rgb=(3, 2, 1))),
                    "reference")
    assert np.isfinite(chosen["ciede2000"].value) and chosen["ciede2000"].settings["bands"] == [3, 2, 1]
    assert "folder" in chosen["lpips"].note and "download" in chosen["lpips"].note


@pytest.mark.slow
def test_networks_and_parameters_come_from_a_folder_with_their_hash(tmp_path, guess, truth, monkeypatch):
    """Random weights, which only a test can pass off as published: their file's digits are changed to theirs."""
    names = {"lpips": "alexnet", "dists": "vgg16", "fid": "inception", "lpips_sat": "sentinel2-rgb"}
    folder = tmp_path / "weights"
    folder.mkdir()
    torch.manual_seed(0)
    for name in names.values():
        file = folder / WEIGHTS[name].files[0]
        torch.save(WEIGHTS[name].network().state_dict(), file)
        digits = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
        monkeypatch.setitem(WEIGHTS, name, replace(WEIGHTS[name], sha256=digits))
    live = Path(find_spec("basicsr").origin).parent / "metrics" / "niqe_pris_params.npz"
    (folder / live.name).write_bytes(live.read_bytes())
    evaluation = evaluate(guess, reference=truth, options=only(*names, "niqe", weights=folder))
    found = scores(evaluation, "reference") | scores(evaluation, "prediction")
    for name in (*names, "niqe"):
        # One tile of 256 pixels is no distribution.
        assert np.isfinite(found[name].value) or (name == "fid" and "fewer than two tiles" in found[name].note)
    for name in names:
        assert len(found[name].settings["sha256"]) == 64
    (folder / WEIGHTS["alexnet"].files[0]).write_bytes(b"altered")
    spoilt = scores(evaluate(guess, reference=truth, options=only("lpips", "rmse", weights=folder)), "reference")
    assert np.isnan(spoilt["lpips"].value) and "altered" in spoilt["lpips"].note and np.isfinite(spoilt["rmse"].value)


def test_maniqa_says_what_it_needs(guess):
    found = scores(evaluate(guess, options=only("maniqa")), "prediction")["maniqa"]
    assert np.isnan(found.value) and "ViT-B/8" in found.note and "entry point" in found.note


def test_constant_and_empty_rasters_have_sentences_and_no_numbers(tif, truth):
    flat = tif(np.full_like(TRUTH, 7), "flat.tif")
    found = scores(evaluate(truth, reference=flat), "reference")
    assert "no energy" in found["mid_energy"].note and np.isfinite(found["rmse"].value)
    empty = tif(np.zeros_like(TRUTH), "empty.tif", nodata=0)
    nothing = scores(evaluate(empty, reference=truth), "reference")
    assert all(np.isnan(s.value) and s.note and s.n_valid == 0 for s in nothing.values())
    assert nothing["rmse"].excluded == TRUTH[0].size


def test_the_range_is_stated_and_does_not_depend_on_the_prediction(tif):
    bright = np.full((3, 1, 320), 60_000, "uint16")
    wide = [np.concatenate([bright, TRUTH[:, 1:] * np.uint16(40)], 1), TRUTH * np.uint16(40)]
    paths = [tif(image, f"{k}.tif") for k, image in enumerate(wide)]
    one = evaluate(paths[0], reference=paths[1], options=only("psnr"))
    two = evaluate(tif(TRUTH.astype("uint16") * 50, "x.tif"), reference=paths[1], options=only("psnr"))
    assert (one.images.low, one.images.high) == (two.images.low, two.images.high) != (0, 65535)
    assert "99.9 percentile" in one.range_statement and "1.tif" in one.range_statement
    given = evaluate(paths[0], reference=paths[1], options=only("psnr", value_range=(0.0, 10_000.0)))
    assert scores(given, "reference")["psnr"].settings["peak"] == 10_000


@pytest.mark.parametrize("given, sentence", [
    ({}, "nothing to compare with"), ({"metrics": ("ssim",)}, "ssim has nothing to compare: give --reference"),
    ({"metrics": ("ssmi",)}, "did you mean 'ssim'"), ({"pan": "x"}, "--source"), ({"uncertainty": "x"}, "--reference"),
    ({"value_range": (5.0, 5.0)}, "is empty"), ({"rgb": (1, 2, 9)}, "three of the 3 bands"),
])
def test_what_makes_no_sense_is_refused(guess, truth, given, sentence):
    rasters = {key: given[key] for key in given if key in ("pan", "uncertainty")}
    rasters |= {"reference": truth} if "rgb" in given else {}
    with pytest.raises(RasterError, match="(?i)" + sentence):
        evaluate(guess, **rasters, options=EvaluationOptions(**{k: given[k] for k in given if k not in rasters}))


def test_json_is_valid_where_values_are_not(guess, truth, tmp_path):
    evaluation = evaluate(guess, reference=guess, targets=[truth], options=EvaluationOptions(seams=0))
    facts = json.loads(save_json([evaluation], tmp_path / "o.json").read_text())
    by_name = {s["metric"]: s for s in facts["comparisons"][0]["scores"]}
    assert by_name["psnr"]["value"] is None and "infinite" in by_name["psnr"]["note"]
    assert by_name["rmse"] == {"metric": "rmse", "name": "RMSE", "value": 0.0, "unit": "", "better": "lower",
                               "n_valid": 256 * 320, "excluded": 0, "settings": {}, "note": None}
    assert len(facts["comparisons"][1]["spectra"]["prediction"][0]) == 32
    lines = save_csv([evaluation], tmp_path / "o.csv").read_text().splitlines()
    assert lines[0].startswith("prediction,comparison,against,metric,value,unit")
    assert len(lines) == 1 + len(list(evaluation.rows()))
    assert "no value" not in table(evaluation) and "infinite" in table(evaluation)


def test_seams_of_a_tool_without_blending_are_found(tif):
    steps = RNG.normal(0, 4, (3, 8, 10))[:, np.arange(256) // 32][:, :, np.arange(320) // 32]
    seamed = tif(np.clip(TRUTH + steps, 0, 255).astype("uint8"), "s.tif")
    found = scores(evaluate(seamed, options=EvaluationOptions(seams=32)), "prediction")
    assert found["seams_rows"].settings["found"] and found["seams_columns"].settings["first_px"] == 0
    assert not scores(evaluate(tif(TRUTH, "t.tif"), options=EvaluationOptions(seams=32)),
                      "prediction")["seams_rows"].settings["found"]


def test_clipped_pixels_are_counted_but_not_nodata(tif, truth):
    pixels = TRUTH.copy()
    pixels[:, :64] = 255
    pixels[:, 64:128] = 0
    found = scores(evaluate(tif(pixels, "c.tif", nodata=0), reference=truth), "prediction")["clipped"]
    assert found.value == pytest.approx(1 / 3) and found.n_valid == 192 * 320
    assert found.settings["low"] == (1, 1, 1)


def test_every_metric_has_a_definition_and_a_direction():
    for name in (*METRICS, *EXTRAS):
        assert len(definition(name)) > 40 and "Args:" not in definition(name)
        assert better(name) in ("higher", "lower", "nearer to 0", "nearer to 1")
